//! One command that makes the folders of a session and says what the machine is and has.
//!
//! ```text
//! vmint-probe 1
//! boot_id=0b9f…
//! user=ci
//! program=git\t/usr/bin/git\t/usr/bin/git
//! vmint-probe end
//! ```

use std::collections::HashMap;

/// The script, for any POSIX shell, busybox's too. It takes what it needs from its environment, so nothing is ever put in
/// its text: [`FOLDERS`] and [`PROGRAMS`], one a line, and [`OWNER`]. It exits with 3 when a folder cannot be made.
pub const SCRIPT: &str = include_str!("probe.sh");

/// The variable of the folders that are made, with those above them.
pub const FOLDERS: &str = "VMINT_FOLDERS";

/// The variable of the programs that are looked for.
pub const PROGRAMS: &str = "VMINT_PROGRAMS";

/// The variable of who shall own the folders, when root runs the script for somebody else; `user` or `user:group`.
pub const OWNER: &str = "VMINT_OWNER";

/// How much of what the script prints is read.
pub const MAX_OUTPUT: usize = 256 << 10;

/// The environment of the script.
pub fn environment(
    folders: &[&str],
    programs: &[&str],
    owner: Option<&str>,
) -> Vec<(String, String)> {
    let mut env = vec![
        (FOLDERS.to_owned(), folders.join("\n")),
        (PROGRAMS.to_owned(), programs.join("\n")),
    ];
    env.extend(owner.map(|owner| (OWNER.to_owned(), owner.to_owned())));
    env
}

/// What a machine is and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The kernel's `boot_id`.
    pub boot_id: String,
    /// Who ran the script.
    pub user: String,
    /// Its number.
    pub uid: u32,
    /// Its home.
    pub home: String,
    /// `PATH`.
    pub path: String,
    /// As `uname -m` says: `x86_64`.
    pub machine: String,
    /// As `uname -s` says: `Linux`.
    pub system: String,
    /// `ID` of os-release: `debian`; empty when the image does not say.
    pub distribution: String,
    /// `VERSION_ID` of os-release: `12`; empty when the image does not say.
    pub release: String,
    programs: HashMap<String, Program>,
}

/// A program that is in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What was looked for.
    pub name: String,
    /// Where it was found in `PATH`.
    pub path: String,
    /// That, with links followed.
    pub real: String,
}

/// What the script printed is not of its form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It began with something else.
    #[error("the machine's first answer is not what was asked for; it begins with `{0}`")]
    Begin(String),
    /// Its last line is missing.
    #[error("the machine's first answer breaks off; its last line is `{0}`")]
    Broken(String),
    /// Something is missing.
    #[error("the machine does not say its {0}")]
    Missing(&'static str),
    /// It is too much.
    #[error("the machine's first answer is larger than {MAX_OUTPUT} bytes")]
    TooLarge,
}

impl Inventory {
    /// From what the script printed. What the image's own start-up files printed before it is passed over.
    pub fn parse(output: &[u8]) -> Result<Self, ProbeError> {
        if output.len() > MAX_OUTPUT {
            return Err(ProbeError::TooLarge);
        }
        let text = String::from_utf8_lossy(output);
        let shown = |line: &str| line.chars().take(100).collect::<String>();
        let mut lines = text.lines();
        if !lines.any(|line| line == "vmint-probe 1") {
            return Err(ProbeError::Begin(shown(
                text.lines().next().unwrap_or_default(),
            )));
        }
        let mut inventory = Self::default();
        let (mut uid, mut last) = (None, "");
        for line in lines {
            last = line;
            if line == "vmint-probe end" {
                inventory.uid = uid.ok_or(ProbeError::Missing("user"))?;
                return inventory.checked();
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let slot = match key {
                "boot_id" => &mut inventory.boot_id,
                "user" => &mut inventory.user,
                "home" => &mut inventory.home,
                "path" => &mut inventory.path,
                "machine" => &mut inventory.machine,
                "system" => &mut inventory.system,
                "distribution" => &mut inventory.distribution,
                "release" => &mut inventory.release,
                "uid" => {
                    uid = value.parse().ok();
                    continue;
                }
                "program" => {
                    inventory.add(value);
                    continue;
                }
                _ => continue,
            };
            value.clone_into(slot);
        }
        Err(ProbeError::Broken(shown(last)))
    }

    fn checked(self) -> Result<Self, ProbeError> {
        let needed = [
            (&self.boot_id, "boot_id"),
            (&self.user, "user"),
            (&self.home, "home"),
            (&self.machine, "machine"),
        ];
        match needed.iter().find(|(value, _)| value.is_empty()) {
            Some((_, name)) => Err(ProbeError::Missing(name)),
            None => Ok(self),
        }
    }

    fn add(&mut self, value: &str) {
        let mut parts = value.split('\t');
        // A relative folder in PATH means another one in each step.
        if let (Some(name), Some(path), Some(real), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && path.starts_with('/')
        {
            let program = Program {
                name: name.to_owned(),
                path: path.to_owned(),
                real: if real.starts_with('/') { real } else { path }.to_owned(),
            };
            self.programs.insert(name.to_owned(), program);
        }
    }

    /// A program, if it is there.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.get(name)
    }

    /// The first of these that is there.
    pub fn first(&self, names: &[&str]) -> Option<&Program> {
        names.iter().find_map(|name| self.program(name))
    }

    /// `runner.arch`: `X64`, `ARM64`, `X86`, `ARM`; others as the kernel calls them.
    pub fn runner_arch(&self) -> &str {
        match &*self.machine {
            "x86_64" | "amd64" => "X64",
            "aarch64" | "arm64" => "ARM64",
            "i386" | "i486" | "i586" | "i686" => "X86",
            machine if machine.starts_with("arm") => "ARM",
            machine => machine,
        }
    }
}
