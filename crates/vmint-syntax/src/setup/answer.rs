//! Whether what the image has will do for an action.

use super::probe::Program;
use super::version::Version;
use super::{Kind, Tool};

/// What is said of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The image has it.
    Satisfied(Ready),
    /// The image has another version.
    WrongVersion {
        /// Which it has.
        found: String,
        /// What the workflow wants.
        wanted: String,
        /// What to do.
        help: String,
    },
    /// The image does not have it.
    Missing {
        /// What to do.
        help: String,
    },
}

/// What an action that is satisfied leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Its outputs.
    pub outputs: Vec<(String, String)>,
    /// Variables for later steps.
    pub env: Vec<(String, String)>,
    /// Programs that later steps know under another name: the name, and the program's path. They belong in a folder of
    /// `PATH`. Images have `python3`, where the action gives `python`.
    pub links: Vec<(String, String)>,
}

impl Tool {
    /// What is said when the program is there or not, and printed this as its version. `wanted` is absent when any version
    /// will do.
    pub fn answer(&self, program: Option<&Program>, output: &str, wanted: Option<&str>) -> Answer {
        let Some(program) = program else {
            return Answer::Missing {
                help: self.help(wanted),
            };
        };
        let Some(version) = self.version(output) else {
            let help = format!(
                "`{} {}` prints no version; repair {} in the image",
                program.path,
                self.arguments.join(" "),
                self.name
            );
            return Answer::Missing { help };
        };
        if let Some(wanted) = wanted.filter(|wanted| !self.takes_any(wanted, &version)) {
            return Answer::WrongVersion {
                found: version.to_string(),
                wanted: wanted.to_owned(),
                help: self.help(Some(wanted)),
            };
        }
        Answer::Satisfied(self.ready(program, &version))
    }

    /// Actions take several versions, one a line; the last is the one in use, and one that is there will do.
    fn takes_any(&self, wanted: &str, version: &Version) -> bool {
        let mut lines = wanted.lines().filter(|line| !line.trim().is_empty());
        lines.any(|line| self.wanted(line).takes(version))
    }

    fn help(&self, wanted: Option<&str>) -> String {
        let name = self.name;
        let version = wanted
            .map(|wanted| format!(" {}", wanted.trim().replace('\n', " or ")))
            .unwrap_or_default();
        match self.packages {
            "" => format!(
                "install {name}{version} in the image: with a command in `run` of its recipe in vmint.toml"
            ),
            packages if wanted.is_none() => {
                format!("add {packages} to `packages` of the image's recipe in vmint.toml")
            }
            packages => format!(
                "put {name}{version} into the image: add {packages} to `packages` of its recipe in vmint.toml if they are of this version, else install it with a command in `run`"
            ),
        }
    }

    fn ready(&self, program: &Program, version: &Version) -> Ready {
        let mut ready = Ready::default();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = version.to_string();
        let prefix = |path: &str| {
            let folder = path.rsplit_once("/bin/").map(|(folder, _)| folder);
            folder.map(|folder| if folder.is_empty() { "/" } else { folder }.to_owned())
        };
        let cache_hit = pair("cache-hit", "false");
        match self.kind {
            Kind::Python => {
                ready.outputs = vec![
                    pair("python-version", &text),
                    pair("python-path", &program.path),
                    cache_hit,
                ];
                if let Some(prefix) = prefix(&program.path) {
                    for name in ["pythonLocation", "Python_ROOT_DIR", "Python3_ROOT_DIR"] {
                        ready.env.push(pair(name, &prefix));
                    }
                }
                if program.name == "python3" {
                    ready.links = vec![pair("python", &program.path)];
                }
            }
            Kind::Node => {
                ready.outputs = vec![pair("node-version", &format!("v{text}")), cache_hit];
            }
            Kind::Go => ready.outputs = vec![pair("go-version", &text), cache_hit],
            Kind::Java => {
                ready.outputs = vec![
                    pair("distribution", "image"),
                    pair("version", &text),
                    cache_hit,
                ];
                if let Some(prefix) = prefix(&program.real) {
                    ready.outputs.push(pair("path", &prefix));
                    ready.env.push(pair("JAVA_HOME", &prefix));
                }
            }
            Kind::Ruby => ready
                .outputs
                .extend(prefix(&program.real).map(|prefix| pair("ruby-prefix", &prefix))),
            Kind::RustByRef => {
                ready.outputs = vec![pair("cachekey", &text), pair("name", &text)];
                ready.env = vec![
                    pair("CARGO_INCREMENTAL", "0"),
                    pair("CARGO_TERM_COLOR", "always"),
                ];
            }
            Kind::Rust => {
                ready.outputs = vec![pair("rustc-version", &text), pair("cachekey", &text)];
                ready.env = vec![
                    pair("CARGO_INCREMENTAL", "0"),
                    pair("CARGO_TERM_COLOR", "always"),
                    pair("RUSTFLAGS", "-D warnings"),
                ];
            }
            Kind::Uv => {
                ready.outputs = vec![
                    pair("uv-version", &text),
                    pair("uv-path", &program.path),
                    cache_hit,
                ];
            }
            Kind::Bun => {
                ready.outputs = vec![
                    pair("bun-version", &text),
                    pair("bun-path", &program.path),
                    cache_hit,
                ];
            }
            Kind::Deno => ready.outputs = vec![pair("deno-version", &text), cache_hit],
            Kind::Pnpm => ready
                .outputs
                .extend(prefix(&program.path).map(|p| pair("bin_dest", &format!("{p}/bin")))),
        }
        ready
    }
}
