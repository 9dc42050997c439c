//! What workflows ask of an image, and what is known of what it has.

/// What is known of what an image has, before it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// It has none of the tools that workflows ask for.
    Bare,
    /// Packages, of which some bring these tools; whether the others bring more is not known.
    Packages(Vec<Equipment>),
}

/// What workflows ask of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Equipment {
    /// Node.js.
    Node,
    /// Python.
    Python,
    /// Go.
    Go,
    /// Java.
    Java,
    /// Ruby.
    Ruby,
    /// Rust.
    Rust,
    /// docker or podman.
    ContainerEngine,
    /// uv.
    Uv,
    /// pnpm.
    Pnpm,
    /// Bun.
    Bun,
    /// Deno.
    Deno,
}

impl Equipment {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Node,
        Self::Python,
        Self::Go,
        Self::Java,
        Self::Ruby,
        Self::Rust,
        Self::ContainerEngine,
        Self::Uv,
        Self::Pnpm,
        Self::Bun,
        Self::Deno,
    ];

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "Node.js",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Java => "Java",
            Self::Ruby => "Ruby",
            Self::Rust => "Rust",
            Self::ContainerEngine => "a container engine",
            Self::Uv => "uv",
            Self::Pnpm => "pnpm",
            Self::Bun => "Bun",
            Self::Deno => "Deno",
        }
    }

    /// Its programs; one of them will do.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Node => &["node"],
            Self::Python => &["python", "python3"],
            Self::Go => &["go"],
            Self::Java => &["java"],
            Self::Ruby => &["ruby"],
            Self::Rust => &["rustc", "rustup"],
            Self::ContainerEngine => &["docker", "podman"],
            Self::Uv => &["uv"],
            Self::Pnpm => &["pnpm"],
            Self::Bun => &["bun"],
            Self::Deno => &["deno"],
        }
    }

    /// What to do for an image that lacks it.
    pub fn hint(self) -> String {
        let packages = match self {
            Self::Node => "\"nodejs\"",
            Self::Python => "\"python3\"",
            Self::Go => "\"golang-go\"",
            Self::Java => "\"default-jdk-headless\"",
            Self::Ruby => "\"ruby\"",
            Self::Rust => "\"rustc\" and \"cargo\"",
            Self::ContainerEngine => {
                "\"podman\", \"crun\", \"netavark\", \"aardvark-dns\" and \"iptables\""
            }
            Self::Uv | Self::Pnpm | Self::Bun | Self::Deno => {
                let name = self.as_str();
                return format!(
                    "install {name} with a command in `run` of the image in vmint.toml"
                );
            }
        };
        format!("add {packages} to the packages of the image in vmint.toml")
    }

    /// Whether a package of Debian or Ubuntu is meant to bring it.
    pub fn is_brought_by(self, package: &str) -> bool {
        let begins: &[&str] = match self {
            Self::Node => &["nodejs", "npm", "node-", "yarnpkg"],
            // Hundreds of others need it.
            Self::Python => &[""],
            Self::Go => &["golang"],
            Self::Java => &["default-j", "openjdk", "maven", "gradle", "ant"],
            Self::Ruby => &["ruby", "bundler"],
            Self::Rust => &["rustc", "cargo", "rustup"],
            Self::ContainerEngine => &["podman", "docker"],
            Self::Uv | Self::Pnpm | Self::Bun | Self::Deno => &[],
        };
        begins.iter().any(|begin| package.starts_with(begin))
    }
}
