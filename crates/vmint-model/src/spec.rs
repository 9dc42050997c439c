//! What a machine is asked to be.

use crate::allow::{AllowList, InvalidAllowList};
use crate::{ByteSize, Limits, Name};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

/// What a machine can reach. Written `none`, `nat`, or `allow:` and a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum NetMode {
    /// No network interface at all.
    #[default]
    None,
    /// Outward through the host, which itself cannot be reached.
    Nat,
    /// As with `nat`, and of that only what the list names.
    Allow(AllowList),
}

/// A machine's network as its guest sees it: what a frozen machine and its forks have in common, whatever they may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// No interface.
    #[default]
    None,
    /// One interface, user-mode networking.
    Nat,
}

impl Link {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nat => "nat",
        }
    }
}

impl NetMode {
    /// What of it the guest's hardware has.
    pub fn link(&self) -> Link {
        match self {
            Self::None => Link::None,
            Self::Nat | Self::Allow(_) => Link::Nat,
        }
    }

    /// The list, if there is one.
    pub fn allowed(&self) -> Option<&AllowList> {
        match self {
            Self::Allow(list) => Some(list),
            Self::None | Self::Nat => None,
        }
    }
}

impl fmt::Display for NetMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Nat => f.pad("nat"),
            Self::Allow(list) => f.pad(&format!("{ALLOW}{list}")),
        }
    }
}

const ALLOW: &str = "allow:";

impl FromStr for NetMode {
    type Err = InvalidNetMode;

    fn from_str(s: &str) -> Result<Self, InvalidNetMode> {
        match s {
            "none" => Ok(Self::None),
            "nat" => Ok(Self::Nat),
            _ => match s.strip_prefix(ALLOW) {
                Some(list) => Ok(Self::Allow(list.parse()?)),
                None => Err(InvalidNetMode::Unknown(
                    crate::printable(&s.chars().take(80).collect::<String>()).into_owned(),
                )),
            },
        }
    }
}

/// A text that is not a [`NetMode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetMode {
    /// Neither of the three.
    #[error("`{0}` is not a network: write none, nat or allow:DOMAIN[,DOMAIN…]")]
    Unknown(String),
    /// The list is wrong.
    #[error(transparent)]
    List(#[from] InvalidAllowList),
}

impl Serialize for NetMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NetMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
    /// A boot from the disk of this snapshot, whose memory is left where it is.
    Disk(Name),
}

impl Origin {
    /// The snapshot, if it is one's.
    pub fn snapshot(&self) -> Option<&Name> {
        match self {
            Self::Snapshot(name) | Self::Disk(name) => Some(name),
            Self::Template | Self::Cold => None,
        }
    }
}

/// Whether what a guest asks its disk to keep is kept by the host's. Written `writeback` or `unsafe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    /// What the guest has flushed (`fsync`) is on the host's disk, and outlives a crash of the host.
    Writeback,
    /// The host writes when it likes. Quick; a crash of the host, though not of vmint or QEMU, may leave a disk that cannot be used.
    Unsafe,
}

impl DiskCache {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writeback => "writeback",
            Self::Unsafe => "unsafe",
        }
    }
}

impl fmt::Display for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DiskCache {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "writeback" => Ok(Self::Writeback),
            "unsafe" => Ok(Self::Unsafe),
            _ => Err(format!("{s:?} is not a disk cache: writeback or unsafe")),
        }
    }
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
    /// Published ports; only with a network.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// What it may take of its host.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Where it starts.
    pub origin: Origin,
    /// What its disk keeps; by whether the machine stays when absent, see [`MachineRecord::disk_cache`](crate::MachineRecord::disk_cache).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_cache: Option<DiskCache>,
    /// What commands get unless they say otherwise.
    #[serde(default)]
    pub defaults: ExecDefaults,
}

/// The least memory that a machine can be given.
pub const LEAST_MEMORY: ByteSize = ByteSize::mib(64);
/// The most memory that a machine can be given. More is a slip of the unit.
pub const MOST_MEMORY: ByteSize = ByteSize::mib(1 << 20);
/// The most processors that a machine can be given.
pub const MOST_CPUS: u32 = 64;

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

/// Refuses memory that no machine can have; says why.
pub fn check_memory(memory: ByteSize) -> Result<(), String> {
    if !(LEAST_MEMORY..=MOST_MEMORY).contains(&memory) {
        return Err(format!(
            "memory must be between {LEAST_MEMORY} and {MOST_MEMORY}, not {memory}"
        ));
    }
    if !memory.0.is_multiple_of(2 << 20) {
        return Err(format!(
            "memory must be a multiple of 2 MiB, not {} bytes",
            memory.0
        ));
    }
    Ok(())
}

/// Refuses a number of processors that no machine can have; says why.
pub fn check_cpus(cpus: u32) -> Result<(), String> {
    if (1..=MOST_CPUS).contains(&cpus) {
        return Ok(());
    }
    Err(format!(
        "the number of processors must be between 1 and {MOST_CPUS}, not {cpus}"
    ))
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
    fn a_network_is_stored_as_it_is_written_and_older_records_still_read() {
        for text in ["none", "nat", "allow:example.com,*.example.org"] {
            let stored = format!("{text:?}");
            let net: NetMode = serde_json::from_str(&stored).unwrap();
            assert_eq!(serde_json::to_string(&net).unwrap(), stored);
            assert_eq!(net.link() == Link::None, text == "none");
        }
        for (wrong, what) in [
            ("bridge", "not a network"),
            ("NAT", "not a network"),
            ("allow", "not a network"),
            ("allow:", "names nothing"),
            ("allow:*", "use `nat`"),
        ] {
            let error = wrong.parse::<NetMode>().unwrap_err().to_string();
            assert!(error.contains(what), "{wrong}: {error}");
        }
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
