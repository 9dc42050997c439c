//! Reading another process's memory, and duplicating its sockets.
//!
//! Both need what ptrace(2) calls attach access: the same user, and with Yama's `ptrace_scope` 1 (Ubuntu's default) to
//! be its ancestor. The runner is QEMU's parent.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Copies `into.len()` bytes from `address` in the process of `thread`.
pub(super) fn read_memory(thread: i32, address: u64, into: &mut [u8]) -> Result<(), Errno> {
    if into.is_empty() {
        return Ok(());
    }
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: into.len(),
    };
    // SAFETY: `local` is all of `into`, which is writable and outlives the call; `remote` is an address in the other
    // process, which the kernel checks there.
    let read =
        unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(read) {
        Ok(read) if read == into.len() => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(last_errno()),
    }
}

/// The memory of a process, to be written to.
pub(super) enum Memory {
    /// Opened: it stays that process's, whoever gets its number later.
    Opened(fs::File),
    /// By its number. A runner inside its fence may open nothing in `/proc` to write, and Landlock lets it reach into the
    /// processes that it has started and no others; so a number that was given anew is another one of these, at worst.
    Numbered(i32),
}

impl Memory {
    /// That of `thread`. It is that very thread's only when the notification is still waiting afterwards.
    pub(super) fn open(thread: i32) -> Result<Self, Errno> {
        let file = fs::File::options()
            .write(true)
            .open(format!("/proc/{thread}/mem"));
        match file {
            Ok(file) => Ok(Self::Opened(file)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(Self::Numbered(thread))
            }
            Err(e) => Err(e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)),
        }
    }

    /// Copies `bytes` to `address`.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Opened(file) => file.write_all_at(bytes, address),
            Self::Numbered(thread) => crate::memory::write(*thread, address, bytes),
        }
        .map_err(|_| Errno::FAULT)
    }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error)
}

/// The process whose sockets were asked for last: QEMU's main thread, as a rule.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    last: Option<(Pid, OwnedFd)>,
}

impl Sockets {
    /// A duplicate of descriptor `fd` of the process of `thread`. It is of that very thread only when the notification
    /// is still waiting afterwards.
    pub(super) fn duplicate(&mut self, thread: i32, fd: i32) -> Result<OwnedFd, Errno> {
        let thread = Pid::from_raw(thread).ok_or(Errno::SRCH)?;
        // A leader's number is not used again while its process is there, and a process descriptor says when it is
        // not: ESRCH. So the one from the last time is right or fails.
        if let Some((leader, process)) = &self.last
            && *leader == thread
        {
            match pidfd_getfd(process, fd, PidfdGetfdFlags::empty()) {
                Err(Errno::SRCH) => self.last = None,
                result => return result,
            }
        }
        let leader = leader_of(thread)?;
        let process = pidfd_open(leader, PidfdFlags::empty())?;
        let duplicate = pidfd_getfd(&process, fd, PidfdGetfdFlags::empty());
        if leader == thread {
            self.last = Some((leader, process));
        }
        duplicate
    }
}

/// `pidfd_open` takes the leader of a thread group only (until 6.9 there was no other way).
fn leader_of(thread: Pid) -> Result<Pid, Errno> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).map_err(|_| Errno::SRCH)?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))
        .and_then(|number| number.trim().parse().ok())
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_thread() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }

    #[test]
    fn memory_is_copied_and_a_bad_address_is_a_fault() {
        let there = *b"destination";
        let mut here = [0; 11];
        read_memory(own_thread(), there.as_ptr() as u64, &mut here).unwrap();
        assert_eq!(here, there);
        assert_eq!(read_memory(own_thread(), 8, &mut here), Err(Errno::FAULT));
        let mut there = there;
        let memory = Memory::open(own_thread()).unwrap();
        memory.write(there.as_mut_ptr() as u64, b"DEST").unwrap();
        assert_eq!(&there, b"DESTination");
        assert_eq!(memory.write(8, b"x"), Err(Errno::FAULT));
        let memory = Memory::Numbered(own_thread());
        memory.write(there.as_mut_ptr() as u64, b"dest").unwrap();
        assert_eq!(&there, b"destination");
        assert_eq!(memory.write(8, b"x"), Err(Errno::FAULT));
    }

    #[test]
    fn a_descriptor_is_duplicated_from_a_thread_that_is_not_the_leader() {
        use std::os::fd::AsRawFd;
        let file = fs::File::open("/proc/self/stat").unwrap();
        let mut sockets = Sockets::default();
        // Tests run in threads of their own.
        let thread = own_thread();
        let copy = sockets.duplicate(thread, file.as_raw_fd()).unwrap();
        assert_eq!(
            rustix::fs::fstat(&copy).unwrap().st_ino,
            rustix::fs::fstat(&file).unwrap().st_ino
        );
        assert_eq!(sockets.duplicate(thread, 1 << 20).unwrap_err(), Errno::BADF);
    }

    #[test]
    fn the_leader_is_found_from_any_thread() {
        let leader = rustix::process::getpid();
        let thread = Pid::from_raw(own_thread()).unwrap();
        assert_eq!(leader_of(thread), Ok(leader));
        assert_eq!(leader_of(leader), Ok(leader));
    }
}
