//! What the image has: found out once when a session is set up, and used in place of the `setup-*` actions, which would
//! download it.
//!
//! [`Tool::of`] knows the actions, [`version`] what versions they take, [`probe`] how a machine is asked.

mod answer;
pub mod probe;
pub mod version;

pub use answer::{Answer, Ready};

use version::{Version, Wanted};

/// An action that makes a tool ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// `actions/setup-python`.
    pub action: &'static str,
    /// `Python`.
    pub name: &'static str,
    /// The programs that are looked for; the first that is there is asked for its version.
    pub programs: &'static [&'static str],
    /// The arguments with which it prints its version, on either stream.
    pub arguments: &'static [&'static str],
    /// What provides it in Debian and Ubuntu.
    packages: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Python,
    Node,
    Go,
    Java,
    Ruby,
    /// The version stands behind the `@`.
    RustByRef,
    Rust,
    Uv,
    Pnpm,
    Bun,
    Deno,
}

const fn tool(
    kind: Kind,
    action: &'static str,
    name: &'static str,
    programs: &'static [&'static str],
    packages: &'static str,
) -> Tool {
    let arguments: &[&str] = match kind {
        Kind::Go => &["version"],
        Kind::Java => &["-version"],
        _ => &["--version"],
    };
    Tool {
        action,
        name,
        programs,
        arguments,
        packages,
        kind,
    }
}

/// All of them.
pub const TOOLS: [Tool; 11] = [
    tool(
        Kind::Python,
        "actions/setup-python",
        "Python",
        &["python", "python3"],
        "python3 python3-pip python3-venv",
    ),
    tool(
        Kind::Node,
        "actions/setup-node",
        "Node.js",
        &["node"],
        "nodejs npm",
    ),
    tool(Kind::Go, "actions/setup-go", "Go", &["go"], "golang-go"),
    tool(
        Kind::Java,
        "actions/setup-java",
        "Java",
        &["java"],
        "default-jdk-headless",
    ),
    tool(
        Kind::Ruby,
        "ruby/setup-ruby",
        "Ruby",
        &["ruby"],
        "ruby ruby-dev bundler",
    ),
    tool(
        Kind::RustByRef,
        "dtolnay/rust-toolchain",
        "Rust",
        &["rustc"],
        "rustc cargo",
    ),
    tool(
        Kind::Rust,
        "actions-rust-lang/setup-rust-toolchain",
        "Rust",
        &["rustc"],
        "rustc cargo",
    ),
    tool(Kind::Uv, "astral-sh/setup-uv", "uv", &["uv"], ""),
    tool(Kind::Pnpm, "pnpm/action-setup", "pnpm", &["pnpm"], ""),
    tool(Kind::Bun, "oven-sh/setup-bun", "Bun", &["bun"], ""),
    tool(Kind::Deno, "denoland/setup-deno", "Deno", &["deno"], ""),
];

/// Where the wanted version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Any will do.
    Any,
    /// Here.
    Given(String),
    /// In a file of the workspace: [`Tool::in_file`] reads it.
    File(String),
}

impl Tool {
    /// The tool of `owner/name` of a `uses`, whatever its case.
    pub fn of(action: &str) -> Option<&'static Self> {
        TOOLS
            .iter()
            .find(|tool| tool.action.eq_ignore_ascii_case(action))
    }

    /// Which version is wanted, from what stands behind the `@` and from the inputs as they were given.
    pub fn source(&self, reference: &str, input: impl Fn(&str) -> Option<String>) -> Source {
        let input = |name| {
            input(name)
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let (version, file) = match self.kind {
            Kind::Python => ("python-version", "python-version-file"),
            Kind::Node => ("node-version", "node-version-file"),
            Kind::Go => ("go-version", "go-version-file"),
            Kind::Java => ("java-version", "java-version-file"),
            Kind::Ruby => ("ruby-version", ""),
            Kind::RustByRef | Kind::Rust => ("toolchain", ""),
            Kind::Uv => ("version", "version-file"),
            Kind::Pnpm => ("version", ""),
            Kind::Bun => ("bun-version", "bun-version-file"),
            Kind::Deno => ("deno-version", "deno-version-file"),
        };
        let given = input(version);
        if let (Kind::RustByRef, None, false) = (self.kind, &given, is_branch_or_hash(reference)) {
            return Source::Given(reference.to_owned());
        }
        match (given, input(file)) {
            (Some(given), _) if self.kind == Kind::Ruby && given == "default" => {
                Source::File(".ruby-version".into())
            }
            (Some(given), _) => Source::Given(given),
            (None, Some(file)) => Source::File(file),
            (None, None) => Source::Any,
        }
    }

    /// The wanted version from the text of a file: `.python-version`, `.nvmrc`, `.tool-versions`, `go.mod`, `package.json`.
    /// `None` when the file does not say, or is of a kind that is not read here.
    pub fn in_file(&self, path: &str, text: &str) -> Option<String> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let mut lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim());
        let version = match file {
            "go.mod" | "go.work" => {
                let lines: Vec<&str> = text
                    .lines()
                    .map(|line| line.split("//").next().unwrap_or("").trim())
                    .collect();
                let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key));
                // The toolchain is exact, the other the least.
                value("toolchain go").or(value("go "))?.trim()
            }
            ".tool-versions" => {
                let names: &[&str] = match self.kind {
                    Kind::Python => &["python"],
                    Kind::Node => &["nodejs", "node"],
                    Kind::Go => &["golang", "go"],
                    Kind::Java => &["java"],
                    Kind::Ruby => &["ruby"],
                    Kind::RustByRef | Kind::Rust => &["rust"],
                    Kind::Uv => &["uv"],
                    Kind::Pnpm => &["pnpm"],
                    Kind::Bun => &["bun"],
                    Kind::Deno => &["deno"],
                };
                lines.find_map(|line| {
                    let (name, version) = line.split_once(char::is_whitespace)?;
                    names
                        .contains(&name)
                        .then(|| version.split_whitespace().next())?
                })?
            }
            "package.json" => {
                let json: serde_json::Value = serde_json::from_str(text).ok()?;
                let engine = match self.kind {
                    Kind::Node => "node",
                    Kind::Bun => "bun",
                    _ => return None,
                };
                return json["volta"][engine]
                    .as_str()
                    .or(json["engines"][engine].as_str())
                    .map(str::to_owned);
            }
            "pyproject.toml" | "uv.toml" | "uv.lock" | "Pipfile" | "rust-toolchain.toml" => {
                return None;
            }
            _ => lines.find(|line| !line.is_empty())?,
        };
        Some(version.to_owned()).filter(|version| !version.is_empty())
    }

    /// What the wanted version is.
    pub fn wanted(&self, text: &str) -> Wanted {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        let stripped = match self.kind {
            Kind::Node => lower.strip_prefix('v').unwrap_or(&lower),
            Kind::Go => lower.strip_prefix("go").unwrap_or(&lower),
            Kind::Ruby => lower.strip_prefix("ruby-").unwrap_or(&lower),
            Kind::Python => lower.strip_prefix("cpython-").unwrap_or(&lower),
            Kind::Java => lower
                .rsplit_once('-')
                .map_or(&*lower, |(start, end)| match start {
                    // `temurin-21.0.2+13` of .tool-versions.
                    name if !name.starts_with(|char: char| char.is_ascii_digit()) => end,
                    _ => &lower,
                }),
            _ => &lower,
        };
        match (self.kind, stripped) {
            (_, "latest" | "*" | "x") => Wanted::Any,
            (Kind::Node, "node" | "current") => Wanted::Any,
            (Kind::Node, "lts/*" | "lts") => Wanted::EvenMajor,
            (Kind::Node, name) if name.starts_with("lts/") => version::node_codename(name),
            (Kind::Go, "stable" | "oldstable") | (Kind::Ruby, "ruby") => Wanted::Any,
            (Kind::RustByRef | Kind::Rust, "stable") => Wanted::Any,
            (Kind::RustByRef | Kind::Rust, channel @ ("beta" | "nightly")) => {
                Wanted::Channel(channel.to_owned())
            }
            (_, range) => version::range(range),
        }
    }

    /// The version in what the program printed.
    pub fn version(&self, output: &str) -> Option<Version> {
        if self.kind == Kind::Java {
            return java(output);
        }
        let mut words = output
            .lines()
            .take(20)
            .flat_map(|line| line.split([' ', '\t', '"', '(', ',']));
        words.find_map(|word| {
            let word = word
                .strip_prefix("go")
                .or(word.strip_prefix('v'))
                .unwrap_or(word);
            Version::parse(word)
        })
    }
}

/// `openjdk version "17.0.9" 2023-10-17`. A first release is but `21`, and up to 8 they were called `1.8.0_392`.
fn java(output: &str) -> Option<Version> {
    let text = output.split('"').nth(1)?;
    let end = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    let (major, rest) = text.split_at(end);
    let version = if rest.starts_with('.') {
        Version::parse(text)?
    } else {
        Version::parse(&format!("{major}.0{rest}"))?
    };
    Some(match version.major {
        1 => Version {
            major: version.minor,
            minor: version.patch,
            patch: 0,
            ..version
        },
        _ => version,
    })
}

/// Of `dtolnay/rust-toolchain@…`: what names no toolchain.
fn is_branch_or_hash(reference: &str) -> bool {
    let hash = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    hash || matches!(reference, "" | "master" | "main" | "v1")
}

#[cfg(test)]
mod tests;
