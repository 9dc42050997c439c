//! The layer of files, ports and signals: a Landlock rule set.
//!
//! Landlock is asked for by its system call: `/sys/kernel/security` need not be mounted for it to work.

use crate::rules::{Access, Network, Rules};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The newest version of the interface whose rights we know and have tried.
pub const NEWEST: u32 = 7;
const CREATE_RULESET_VERSION: u32 = 1;

/// In the environment: a version of Landlock that this kernel shall be taken to have at most. How a test has an older kernel.
pub const AT_MOST: &str = "VMINT_LANDLOCK";

/// The version of this kernel's Landlock, as far as it is known here; 0 when there is none.
pub fn version() -> u32 {
    let at_most = std::env::var(AT_MOST)
        .ok()
        .and_then(|text| text.parse().ok());
    of_kernel().min(at_most.unwrap_or(NEWEST))
}

fn of_kernel() -> u32 {
    // SAFETY: without attributes and with this flag the call only answers a number.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}

fn abi(version: u32) -> ABI {
    match version {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    }
}

/// A rule set for this version of the interface, which the kernel must have.
pub(crate) fn rule_set(rules: &Rules, version: u32) -> Result<Option<OwnedFd>, RulesetError> {
    let abi = abi(version);
    if version == 0 {
        return Ok(None);
    }
    let mut set = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    if version >= 4 {
        set = match rules.network {
            Network::None => set.handle_access(AccessNet::from_all(abi))?,
            Network::Inet { .. } => set.handle_access(AccessNet::BindTcp)?,
        };
    }
    if version >= 6 {
        set = set.scope(Scope::from_all(abi))?;
    }
    let mut set = set.create()?;
    for (path, access) in &rules.paths {
        // A path that is not there cannot be opened by anybody.
        let Ok(fd) = PathFd::new(path) else { continue };
        set = set.add_rule(PathBeneath::new(fd, rights(path, *access, abi)))?;
    }
    if let (Network::Inet { bind, .. }, true) = (&rules.network, version >= 4) {
        for port in bind {
            set = set.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
    }
    Ok(set.into())
}

/// Rights on a path. A file takes only those that files can have.
fn rights(path: &Path, access: Access, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let own =
        read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let wanted = match access {
        Access::Read => read,
        Access::Run => read | AccessFs::Execute,
        Access::Write => read | AccessFs::WriteFile | AccessFs::IoctlDev,
        Access::Own => own,
        Access::Manage => own | AccessFs::MakeDir | AccessFs::RemoveDir | AccessFs::Refer,
        Access::RemoveFiles => AccessFs::RemoveFile.into(),
        Access::RemoveFolders => AccessFs::RemoveDir.into(),
    };
    let known = wanted & AccessFs::from_all(abi);
    if path.is_dir() {
        known
    } else {
        known & AccessFs::from_file(abi)
    }
}

/// Puts the calling thread, and all that it starts, under a rule set. Async-signal-safe.
pub(crate) fn restrict(set: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, set.as_raw_fd(), 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
