//! How a process is fenced in: what is asked for, and what of it this host's kernel can hold. `vmint-confine` builds the fence.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How strictly a fence is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confine {
    /// As much as this kernel can.
    #[default]
    Best,
    /// All of files, sockets, signals and system calls; an error where the kernel cannot.
    Require,
    /// No fence.
    Off,
}

/// What holds of a fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Version of the kernel's Landlock interface; 0 when there is none.
    pub landlock: u32,
    /// Files and folders outside the rules cannot be opened.
    pub files: bool,
    /// The file that forks share their memory from is open for reading alone.
    pub memory: bool,
    /// Only the rules' TCP ports can be bound.
    pub ports: bool,
    /// Devices that were not opened before take no commands (`ioctl`).
    pub devices: bool,
    /// Processes outside cannot be signalled. By Landlock from version 6, else by the list of calls.
    pub signals: bool,
    /// The list of denied system calls is in force.
    pub calls: bool,
    /// There are no capabilities left; to root, for a published port below 1024, the one to bind it.
    pub no_capabilities: bool,
}

impl Confinement {
    /// No fence at all.
    pub const OFF: Self = Self {
        landlock: 0,
        files: false,
        memory: false,
        ports: false,
        devices: false,
        signals: false,
        calls: false,
        no_capabilities: false,
    };

    /// In two words, for a table.
    pub fn brief(&self) -> String {
        match (*self == Self::OFF, self.landlock) {
            (true, _) => "off".to_owned(),
            (false, 0) => "no Landlock".to_owned(),
            (false, version) => format!("Landlock {version}"),
        }
    }

    /// The first part that [`Confine::Require`] asks for and that is missing.
    pub fn missing(&self) -> Option<&'static str> {
        [
            (self.files, "files (Landlock, from Linux 5.13)"),
            (self.signals, "signals"),
            (self.calls, "system calls (seccomp)"),
            (self.no_capabilities, "capabilities"),
        ]
        .into_iter()
        .find_map(|(holds, name)| (!holds).then_some(name))
    }

    /// The same of a runner. Signals are not among them: it must be able to kill its hypervisor, and before version 6 of Landlock
    /// nothing tells that one from other processes.
    pub fn missing_of_runner(&self) -> Option<&'static str> {
        [
            (
                self.files,
                "the runner's files (Landlock 2, from Linux 5.19, and a /proc without hidepid)",
            ),
            (self.calls, "system calls (seccomp)"),
            (self.no_capabilities, "capabilities"),
        ]
        .into_iter()
        .find_map(|(holds, name)| (!holds).then_some(name))
    }
}

impl Confine {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Confine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Confine {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "best" => Ok(Self::Best),
            "require" => Ok(Self::Require),
            "off" => Ok(Self::Off),
            _ => Err(format!("{s:?} is not a confinement: best, require or off")),
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF {
            return f.write_str("off");
        }
        let parts = [
            (self.files, "files"),
            (self.memory, "shared memory"),
            (self.ports, "ports"),
            (self.devices, "devices"),
            (self.signals, "signals"),
            (self.calls, "system calls"),
            (self.no_capabilities, "capabilities"),
        ];
        let held: Vec<&str> = parts.iter().filter(|p| p.0).map(|p| p.1).collect();
        f.write_str(&held.join(", "))?;
        match self.landlock {
            0 => f.write_str(" (no Landlock)"),
            version => write!(f, " (Landlock {version})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_says_what_holds_and_what_is_missing() {
        assert_eq!(Confinement::OFF.to_string(), "off");
        assert_eq!(Confinement::OFF.brief(), "off");
        let old = Confinement {
            calls: true,
            signals: true,
            no_capabilities: true,
            ..Confinement::OFF
        };
        assert_eq!(
            old.to_string(),
            "signals, system calls, capabilities (no Landlock)"
        );
        assert_eq!(old.missing(), Some("files (Landlock, from Linux 5.13)"));
        let whole = Confinement {
            landlock: 6,
            files: true,
            ports: true,
            devices: true,
            ..old
        };
        assert_eq!(
            whole.to_string(),
            "files, ports, devices, signals, system calls, capabilities (Landlock 6)"
        );
        assert_eq!(whole.missing(), None);
        assert_eq!(whole.brief(), "Landlock 6");
        assert_eq!(old.brief(), "no Landlock");
        assert!(old.missing_of_runner().unwrap().contains("Landlock 2"));
    }
}
