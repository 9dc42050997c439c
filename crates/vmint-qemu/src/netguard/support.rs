//! Whether the guard works on this host, found by trying it.
//!
//! Containers, Yama and old kernels each take away another part of it, so a process is put under the filter and one of
//! its calls is judged. That takes about a millisecond.

use super::filter::{Program, Watch, install};
use super::notify::Listener;
use super::policy::{Host, Policy, Reach};
use rustix::event::Timespec;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// Why user-mode networking cannot be guarded here. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// Linux 5.9 is needed: before that the end of a filtered process is not seen.
    #[error("guarding user-mode networking needs Linux 5.9 or later, and this is {release}")]
    Kernel {
        /// As `uname -r` says.
        release: String,
    },
    /// The filter could not be installed.
    #[error(
        "the kernel refuses a supervised seccomp filter; if this is a container, its manager supervises system calls \
         itself or forbids seccomp: turn that off"
    )]
    Filter(#[source] io::Error),
    /// The filter works, but a child's calls cannot be looked into.
    #[error(
        "the host forbids a parent to look into its child (pidfd_getfd, process_vm_readv); in a container add the \
         capability SYS_PTRACE, elsewhere set kernel.yama.ptrace_scope to 0 or 1"
    )]
    Inspection,
    /// The trial itself failed.
    #[error("failed to try the network guard")]
    Trial(#[source] io::Error),
}

/// Whether calls can be watched here, as far as can be known without starting a process: from a kernel that is recent, and
/// a process that no container's manager watches already. Where that cannot be told, the guard is tried, once.
pub fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let filters = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"));
        match filters.map(str::trim) {
            Some("0") => is_recent(&rustix::system::uname().release().to_string_lossy()),
            _ => support().is_ok(),
        }
    })
}

/// Tries the guard on this host.
///
/// # Errors
///
/// Why `--net nat` cannot be offered here.
pub fn support() -> Result<(), Unsupported> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    if !is_recent(&release) {
        return Err(Unsupported::Kernel { release });
    }
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| Unsupported::Trial(errno.into()))?;
    let mut program = Program::new(Watch::NETWORK);
    // SAFETY: the child calls only what is async-signal-safe (`trial`), and ends with _exit.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(Unsupported::Trial(io::Error::last_os_error())),
        0 => {
            let code = trial(&theirs, &mut program);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        child => child,
    };
    drop(theirs);
    let seen = Listener::receive(ours).and_then(|listener| {
        listener.serve_once(
            Policy::new(NothingNear),
            Timespec {
                tv_sec: 5,
                tv_nsec: 0,
            },
        )
    });
    let code = reap(child).map_err(Unsupported::Trial)?;
    match (seen, code) {
        (Ok(stats), 0) if stats.denied == 1 => Ok(()),
        (Ok(_), _) => Err(Unsupported::Inspection),
        (Err(_), errno) if errno > 0 => {
            Err(Unsupported::Filter(io::Error::from_raw_os_error(errno)))
        }
        (Err(error), _) => Err(Unsupported::Trial(error)),
    }
}

/// The child's part: under the filter, a call that is to be denied. Exits with 0, or the error that `install` met.
fn trial(sock: &OwnedFd, program: &mut Program) -> i32 {
    // SAFETY: after fork, in a process with one thread; `sock` is open.
    if let Err(error) = unsafe { install(sock.as_raw_fd(), program) } {
        return error.raw_os_error().unwrap_or(libc::EIO);
    }
    // SAFETY: no pointers but to `address`, a complete sockaddr_in that outlives the call.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as _;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        address.sin_port = 9u16.to_be();
        libc::connect(
            socket,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as _,
        );
    }
    0
}

/// The policy's host for the trial, which needs none.
struct NothingNear;

impl Host for NothingNear {
    fn reach(&mut self, _: IpAddr) -> io::Result<Reach> {
        Ok(Reach::Nowhere)
    }

    fn name_servers(&mut self) -> Vec<SocketAddr> {
        Vec::new()
    }
}

fn reap(child: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        -1
    })
}

fn is_recent(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_5_9_are_recent() {
        for release in ["5.9.0", "5.10.0-30-amd64", "6.1.0", "6.12", "10.0"] {
            assert!(is_recent(release), "{release}");
        }
        for release in ["5.8.18", "4.19.0-27-amd64", "3.10", "", "x"] {
            assert!(!is_recent(release), "{release}");
        }
    }

    #[test]
    fn the_guard_works_here() {
        support().expect("this host guards user-mode networking");
    }
}
