//! The layer of capabilities: none, and no way back to them.
//!
//! For root a program that is executed gets all capabilities of the bounding set, whatever its caller had. So that set is
//! emptied, too. Without root there is nothing to drop.

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

/// What root may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    Nothing,
    /// To bind ports below 1024.
    LowPorts,
}

/// `CAP_NET_BIND_SERVICE` of linux/capability.h.
const NET_BIND_SERVICE: libc::c_ulong = 10;

impl Keep {
    fn keeps(self, capability: libc::c_ulong) -> bool {
        self == Self::LowPorts && capability == NET_BIND_SERVICE
    }
}

/// Drops all capabilities of the calling thread for good. Async-signal-safe.
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
    // After `no_new_privs` the program gets no capability that its caller has not.
    let kept = match keep {
        Keep::Nothing => 0,
        Keep::LowPorts => sets[0].permitted & (1 << NET_BIND_SERVICE),
    };
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
    // A root with a bounding set would have its capabilities again after the exec.
    // SAFETY: these calls take numbers only, or nothing.
    let comes_back = unsafe {
        libc::geteuid() == 0
            && (0..AT_MOST)
                .any(|c| !keep.keeps(c) && libc::prctl(libc::PR_CAPBSET_READ, c, 0, 0, 0) == 1)
    };
    if comes_back {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}
