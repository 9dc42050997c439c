//! The layer of capabilities: none, and no way back to them.
//!
//! For root a program that is executed gets all capabilities of the bounding set, whatever its caller had, unless it runs under
//! `no_new_privs`. So that set is emptied, too, as far as it can be. Without root there is nothing to drop.

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const VERSION: u32 = 0x2008_0522;
/// There are 41 today; the kernel says where they end.
const AT_MOST: libc::c_ulong = 64;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What a process of root may keep, by its number in linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// `CAP_DAC_READ_SEARCH`: to read files of other users.
    Read = 2,
    /// `CAP_KILL`: to signal processes of other users.
    Signal = 5,
    /// `CAP_SETGID`: to take on other groups.
    SetGroup = 6,
    /// `CAP_SETUID`: to become another user.
    SetUser = 7,
    /// `CAP_NET_BIND_SERVICE`: to bind ports below 1024.
    LowPorts = 10,
    /// `CAP_SYS_PTRACE`: to look into processes of other users.
    Trace = 19,
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep(u32);

impl Keep {
    fn keeps(self, capability: libc::c_ulong) -> bool {
        capability < 32 && self.0 & (1 << capability) != 0
    }
}

impl FromIterator<Capability> for Keep {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |set, one| set | 1 << one as u8))
    }
}

/// Drops all capabilities of the calling thread but these, for good. It must be under `no_new_privs`. Async-signal-safe.
pub(crate) fn drop_all(keep: Keep) -> io::Result<()> {
    // SAFETY: these calls take numbers only.
    unsafe {
        // Kernels before 4.3 do not know it, and have none to clear.
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        for capability in 0..AT_MOST {
            if libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) < 0 {
                break;
            }
            if keep.keeps(capability) {
                continue;
            }
            // Refused to those who are not privileged. They have none to lose; what holds in the end is looked at below.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
    }
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [Sets::default(); 2];
    // SAFETY: version 3 has a header and two sets, which outlive the call; the kernel writes the latter.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // After `no_new_privs` a program gets no capability that its caller has not; not even root's, whose bounding set a caller
    // without `CAP_SETPCAP` could not empty (`cap_bprm_creds_from_file` of the kernel's security/commoncap.c).
    let kept = sets[0].permitted & keep.0;
    let sets = [
        Sets {
            effective: kept,
            permitted: kept,
            inheritable: 0,
        },
        Sets::default(),
    ];
    // SAFETY: as above, and the kernel reads them.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
