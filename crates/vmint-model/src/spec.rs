//! What a machine is asked to be.

use crate::{ByteSize, Name};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::str::FromStr;
use std::sync::LazyLock;

/// What executes the guest's instructions. Shown wherever a time or a machine is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor, by Linux's KVM.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl Accelerator {
    /// As stored, shown, and given to QEMU.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// How much longer things may take here than under KVM on a processor of its own. Where this host is a virtual machine
    /// itself, each exit of the guest's is several of the host's.
    pub fn patience(self) -> u32 {
        static NESTED: LazyLock<bool> = LazyLock::new(|| is_virtual(&begin_of("/proc/cpuinfo")));
        match self {
            Self::Kvm if !*NESTED => 1,
            Self::Kvm | Self::Tcg => 6,
        }
    }
}

/// Whether a processor, as `/proc/cpuinfo` tells of it, is a hypervisor's: CPUID says so, in leaf 1, and Linux shows it.
fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.is_some_and(|(_, flags)| flags.split_ascii_whitespace().any(|f| f == "hypervisor"))
}

/// The first processor is there; a host may have hundreds. What cannot be read is empty.
fn begin_of(path: &str) -> String {
    let mut bytes = Vec::new();
    let file = File::open(path).map(|file| file.take(16 << 10));
    let _ = file.and_then(|mut file| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Accelerator {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(format!("{s:?} is not an accelerator: kvm or tcg")),
        }
    }
}

/// What a machine can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetMode {
    /// No network interface at all.
    #[default]
    None,
    /// Outward through the host, which itself cannot be reached.
    Nat,
}

impl NetMode {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nat => "nat",
        }
    }
}

impl fmt::Display for NetMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for NetMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "none" => Ok(Self::None),
            "nat" => Ok(Self::Nat),
            _ => Err(format!("{s:?} is not a network: none or nat")),
        }
    }
}

/// A TCP port of the guest, opened on the host's loopback. Written `HOST:GUEST`; host port 0 lets the host choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// Port on 127.0.0.1.
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.guest)
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let fail = || {
            format!(
                "{s:?} is not HOST:GUEST with two port numbers (HOST may be 0 for any free port)"
            )
        };
        let (host, guest) = s.split_once(':').ok_or_else(fail)?;
        let publish = Self {
            host: host.parse().map_err(|_| fail())?,
            guest: guest.parse().map_err(|_| fail())?,
        };
        if publish.guest == 0 {
            Err(fail())
        } else {
            Ok(publish)
        }
    }
}

/// Where a machine's first moment comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A fork of the image's template.
    Template,
    /// A boot of the image.
    Cold,
    /// A fork of this snapshot.
    Snapshot(Name),
}

/// What a machine is asked to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The image's name, such as `tiny` or `debian:12`.
    pub image: String,
    /// Guest memory.
    pub memory: ByteSize,
    /// Virtual processors.
    pub cpus: u32,
    /// Network.
    #[serde(default)]
    pub net: NetMode,
    /// Published ports; only with [`NetMode::Nat`].
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// Where it starts.
    pub origin: Origin,
    /// What commands get unless they say otherwise.
    #[serde(default)]
    pub defaults: ExecDefaults,
}

/// What an image's commands get unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecDefaults {
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment as `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The command when none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_of_a_hypervisor_says_so_in_its_flags() {
        let of = |flags: &str| {
            format!("processor\t: 0\nmodel name\t: hypervisor\nflags\t\t: {flags}\n\n")
        };
        assert!(is_virtual(&of("fpu svm hypervisor lahf_lm")));
        assert!(!is_virtual(&of("fpu svm hypervisors lahf_lm")));
        assert!(!is_virtual(&of("")) && !is_virtual(""));
    }

    #[test]
    fn ports_read_as_host_then_guest() {
        assert_eq!(
            "8080:80".parse(),
            Ok(Publish {
                host: 8080,
                guest: 80
            })
        );
        assert_eq!("0:22".parse(), Ok(Publish { host: 0, guest: 22 }));
        for bad in [
            "", "80", "80:", ":80", "80:0", "70000:1", "a:b", "1:2:3", "-1:2",
        ] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }
}
