//! What the image has: found out once when a session is set up, and used in place of the `setup-*` actions, which would
//! download it.
//!
//! [`Tool::of`] knows the actions, [`version`] what versions they take, [`probe`] how a machine is asked.

mod answer;
pub mod probe;
pub mod version;

pub use answer::{Answer, Ready};

use crate::equipment::Equipment;
use version::{Version, Wanted};

/// An action that makes a tool ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tool {
    /// `actions/setup-python`.
    pub action: &'static str,
    /// `Python`.
    pub name: &'static str,
    /// What the image must have for it.
    pub brings: Equipment,
    /// The programs that are looked for; the first that is there is asked for its version.
    pub programs: &'static [&'static str],
    /// What the action brings besides, one of several programs each, with the package that has it in Debian and Ubuntu.
    pub companions: &'static [(&'static [&'static str], &'static str)],
    /// The arguments with which it prints its version, on either stream.
    pub arguments: &'static [&'static str],
    /// What provides it in Debian and Ubuntu.
    packages: &'static str,
    /// The inputs that the action wants.
    pub required: &'static [&'static str],
    /// The inputs that it may be given.
    pub optional: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// All of them: what the check knows and what is done come from here.
pub static TOOLS: [Tool; 11] = [
    Tool {
        action: "actions/setup-python",
        name: "Python",
        brings: Equipment::Python,
        programs: &["python", "python3"],
        companions: &[(&["pip", "pip3"], "python3-pip")],
        arguments: &["--version"],
        packages: "python3 python3-pip python3-venv",
        required: &[],
        optional: &[
            "python-version",
            "python-version-file",
            "cache",
            "architecture",
            "check-latest",
            "token",
            "cache-dependency-path",
            "update-environment",
            "allow-prereleases",
            "freethreaded",
            "pip-version",
            "pip-install",
        ],
        kind: Kind::Python,
    },
    Tool {
        action: "actions/setup-node",
        name: "Node.js",
        brings: Equipment::Node,
        programs: &["node"],
        companions: &[(&["npm"], "npm")],
        arguments: &["--version"],
        packages: "nodejs npm",
        required: &[],
        optional: &[
            "always-auth",
            "node-version",
            "node-version-file",
            "architecture",
            "check-latest",
            "registry-url",
            "scope",
            "token",
            "cache",
            "package-manager-cache",
            "cache-dependency-path",
            "mirror",
            "mirror-token",
        ],
        kind: Kind::Node,
    },
    Tool {
        action: "actions/setup-go",
        name: "Go",
        brings: Equipment::Go,
        programs: &["go"],
        companions: &[],
        arguments: &["version"],
        packages: "golang-go",
        required: &[],
        optional: &[
            "go-version",
            "go-version-file",
            "check-latest",
            "token",
            "cache",
            "cache-dependency-path",
            "architecture",
        ],
        kind: Kind::Go,
    },
    Tool {
        action: "actions/setup-java",
        name: "Java",
        brings: Equipment::Java,
        programs: &["java"],
        companions: &[(&["javac"], "default-jdk-headless")],
        arguments: &["-version"],
        packages: "default-jdk-headless",
        required: &["distribution"],
        optional: &[
            "java-version",
            "java-version-file",
            "java-package",
            "architecture",
            "jdkFile",
            "check-latest",
            "server-id",
            "server-username",
            "server-password",
            "settings-path",
            "overwrite-settings",
            "gpg-private-key",
            "gpg-passphrase",
            "cache",
            "cache-dependency-path",
            "job-status",
            "token",
            "mvn-toolchain-id",
            "mvn-toolchain-vendor",
        ],
        kind: Kind::Java,
    },
    Tool {
        action: "ruby/setup-ruby",
        name: "Ruby",
        brings: Equipment::Ruby,
        programs: &["ruby"],
        companions: &[(&["bundle", "bundler"], "bundler")],
        arguments: &["--version"],
        packages: "ruby ruby-dev bundler",
        required: &[],
        optional: &[
            "ruby-version",
            "rubygems",
            "bundler",
            "bundler-cache",
            "working-directory",
            "cache-version",
            "self-hosted",
            "windows-toolchain",
            "token",
        ],
        kind: Kind::Ruby,
    },
    Tool {
        action: "dtolnay/rust-toolchain",
        name: "Rust",
        brings: Equipment::Rust,
        programs: &["rustc"],
        companions: &[(&["cargo"], "cargo")],
        arguments: &["--version"],
        packages: "rustc cargo",
        required: &[],
        optional: &["toolchain", "targets", "target", "components"],
        kind: Kind::RustByRef,
    },
    Tool {
        action: "actions-rust-lang/setup-rust-toolchain",
        name: "Rust",
        brings: Equipment::Rust,
        programs: &["rustc"],
        companions: &[(&["cargo"], "cargo")],
        arguments: &["--version"],
        packages: "rustc cargo",
        required: &[],
        optional: &[
            "toolchain",
            "target",
            "components",
            "cache",
            "cache-directories",
            "cache-workspaces",
            "cache-on-failure",
            "cache-key",
            "cache-shared-key",
            "cache-bin",
            "cache-provider",
            "cache-all-crates",
            "cache-save-if",
            "matcher",
            "rustflags",
            "override",
            "rust-src-dir",
        ],
        kind: Kind::Rust,
    },
    Tool {
        action: "astral-sh/setup-uv",
        name: "uv",
        brings: Equipment::Uv,
        programs: &["uv"],
        companions: &[],
        arguments: &["--version"],
        packages: "",
        required: &[],
        optional: &[
            "version",
            "version-file",
            "python-version",
            "activate-environment",
            "working-directory",
            "checksum",
            "server-url",
            "github-token",
            "enable-cache",
            "restore-cache",
            "save-cache",
            "cache-dependency-glob",
            "cache-suffix",
            "cache-local-path",
            "prune-cache",
            "cache-python",
            "ignore-nothing-to-cache",
            "ignore-empty-workdir",
            "tool-dir",
            "tool-bin-dir",
            "manifest-file",
            "add-problem-matchers",
            "resolution-strategy",
            "venv-path",
            "quiet",
        ],
        kind: Kind::Uv,
    },
    Tool {
        action: "pnpm/action-setup",
        name: "pnpm",
        brings: Equipment::Pnpm,
        programs: &["pnpm"],
        companions: &[],
        arguments: &["--version"],
        packages: "",
        required: &[],
        optional: &[
            "version",
            "dest",
            "run_install",
            "cache",
            "cache_dependency_path",
            "package_json_file",
            "standalone",
        ],
        kind: Kind::Pnpm,
    },
    Tool {
        action: "oven-sh/setup-bun",
        name: "Bun",
        brings: Equipment::Bun,
        programs: &["bun"],
        companions: &[],
        arguments: &["--version"],
        packages: "",
        required: &[],
        optional: &[
            "bun-version",
            "bun-version-file",
            "bun-download-url",
            "registries",
            "registry-url",
            "scope",
            "no-cache",
            "token",
        ],
        kind: Kind::Bun,
    },
    Tool {
        action: "denoland/setup-deno",
        name: "Deno",
        brings: Equipment::Deno,
        programs: &["deno"],
        companions: &[],
        arguments: &["--version"],
        packages: "",
        required: &[],
        optional: &[
            "deno-version",
            "deno-version-file",
            "deno-binary-name",
            "cache",
            "cache-hash",
        ],
        kind: Kind::Deno,
    },
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
