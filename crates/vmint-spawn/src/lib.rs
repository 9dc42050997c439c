//! The one home of a rule: a program that vmint starts gets its three standard streams, the descriptors that are meant
//! for it, and nothing else that happens to be open in this process.
//!
//! A descriptor without `FD_CLOEXEC` passes from whoever called vmint through every child: a shell's lock
//! (`9>lock`) would be held as long as a machine lives, a pipe (`3>&1 | cat`) would never end, and a hypervisor that was
//! taken over would have them too. So [`command`] makes commands that mark everything from descriptor 3 on, in the child,
//! between fork and exec. What is meant is put into place after that, by a `pre_exec` of the caller's: hooks run in the
//! order in which they were registered.
//!
//! `clippy.toml` forbids `Command::new` elsewhere. Programs that vmint *becomes* for its user (`vmint with`) are not
//! started by it: like `env` and `flock`, it hands them all that it was given.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// A command that inherits nothing but its standard streams. For tokio: `tokio::process::Command::from`.
#[expect(clippy::disallowed_methods, reason = "this is the home of the rule")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // SAFETY: `close_all_on_exec` makes only system calls that are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(close_all_on_exec) };
    command
}

/// What a program, and each that it starts, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest file that it may write, in bytes. What writes more is killed by `SIGXFSZ`.
    pub file: u64,
    /// Its address space, in bytes.
    pub memory: u64,
}

/// Has a command run within bounds.
pub fn bound(command: &mut Command, bounds: Bounds) {
    let limit = |resource, most: u64| {
        let limit = libc::rlimit {
            rlim_cur: most as libc::rlim_t,
            rlim_max: most as libc::rlim_t,
        };
        // SAFETY: the structure is initialised and outlives the call.
        if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // A caller's own limit is lower and cannot be raised: then that holds.
        match error.raw_os_error() {
            Some(libc::EPERM) => Ok(()),
            _ => Err(error),
        }
    };
    // SAFETY: the closure makes two system calls that are async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            limit(libc::RLIMIT_FSIZE, bounds.file)?;
            limit(libc::RLIMIT_AS, bounds.memory)
        });
    }
}

/// Keeps a process that runs from now on from leaving a core: the memory of a guest, or of a runner that passes its
/// bytes on, is no file that lies around on its host.
///
/// The limit is 1 byte, not 0: Linux ignores the limit when it pipes a core to a program, except for this one value,
/// with which it dumps nothing (`fs/coredump.c`); and a file of 1 byte is shorter than any core, so none is written.
///
/// Async-signal-safe.
pub fn forbid_cores() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1,
    };
    // SAFETY: the structure is initialised and outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A caller whose own limit is 0 cannot raise it; then no core is written to a file, and that must do.
    match error.raw_os_error() {
        Some(libc::EPERM) => Ok(()),
        _ => Err(error),
    }
}

/// Marks every descriptor from [`FIRST`] on to be closed when a program is executed.
fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if marked == 0 {
        return Ok(());
    }
    // Linux before 5.11, or a container's filter that does not know the call.
    mark_each()
}

/// The same, one by one, by the list in `/proc`. Without an allocation, for it runs between fork and exec.
fn mark_each() -> io::Result<()> {
    // SAFETY: the path is a C string; the descriptor is used and closed below.
    let folder = unsafe {
        libc::open(
            c"/proc/self/fd".as_ptr(),
            libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    };
    if folder < 0 {
        return Err(io::Error::last_os_error());
    }
    let outcome = mark_listed(folder);
    // SAFETY: opened above and closed nowhere else.
    unsafe { libc::close(folder) };
    outcome
}

/// `struct linux_dirent64` up to its name: inode, offset, length of the record, type.
const NAME: usize = 8 + 8 + 2 + 1;

fn mark_listed(folder: RawFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    loop {
        // SAFETY: the kernel writes at most the buffer's length, and says how much it wrote.
        let n = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                folder,
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        let n = match n {
            0 => return Ok(()),
            n if n < 0 => return Err(io::Error::last_os_error()),
            n => n as usize,
        };
        // SAFETY: the first `n` bytes were written by the kernel.
        let mut records = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), n) };
        while records.len() > NAME {
            let length = usize::from(u16::from_ne_bytes([records[16], records[17]]));
            if length <= NAME || length > records.len() {
                break;
            }
            if let Some(fd) = number(&records[NAME..length])
                && fd >= FIRST
            {
                // SAFETY: the call takes numbers. A descriptor that is gone is an error that does not matter.
                unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            records = &records[length..];
        }
    }
}

/// A decimal number that ends with a NUL; `.` and `..` are none.
fn number(name: &[u8]) -> Option<RawFd> {
    let mut value: RawFd = 0;
    let mut digits = 0;
    for byte in name.iter().take_while(|byte| **byte != 0) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(RawFd::from(digit))?;
        digits += 1;
    }
    (digits > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::process::Stdio;

    /// A descriptor that every child would inherit, beyond those that a shell uses for itself.
    fn leaky() -> OwnedFd {
        let file = File::open("/dev/null").unwrap();
        // SAFETY: takes numbers.
        let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 50) };
        assert!(fd >= 50);
        // SAFETY: it was just made, and is nobody else's.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// The descriptors that a shell finds open in itself; the one by which it lists them is another's.
    fn open_in(mut command: Command) -> Vec<RawFd> {
        let output = command
            .args(["-c", "for f in /proc/$$/fd/*; do echo ${f##*/}; done"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn a_child_gets_its_standard_streams_alone() {
        let leak = leaky();
        let fd = leak.as_raw_fd();
        #[expect(clippy::disallowed_methods, reason = "to show what would leak")]
        let inherited = open_in(Command::new("/bin/sh"));
        assert!(inherited.contains(&fd), "{inherited:?} without {fd}");
        let open = open_in(command("/bin/sh"));
        assert!(open.starts_with(&[0, 1, 2]), "{open:?}");
        assert!(!open.contains(&fd), "{open:?} with {fd}");
    }

    #[test]
    fn where_the_kernel_has_no_call_for_it_each_one_is_marked() {
        let many: Vec<OwnedFd> = (0..300).map(|_| leaky()).collect();
        let mut child = open_in_with_fallback();
        child.retain(|fd| many.iter().any(|file| file.as_raw_fd() == *fd));
        assert!(child.is_empty(), "{child:?}");
    }

    fn open_in_with_fallback() -> Vec<RawFd> {
        #[expect(clippy::disallowed_methods, reason = "with the other hook")]
        let mut command = Command::new("/bin/sh");
        // SAFETY: as in `command`.
        unsafe { command.pre_exec(mark_each) };
        open_in(command)
    }

    #[test]
    fn names_that_are_no_numbers_are_no_descriptors() {
        for (name, expected) in [
            (&b"12\0\0"[..], Some(12)),
            (b".\0", None),
            (b"..\0", None),
            (b"\0", None),
            (b"99999999999\0", None),
        ] {
            assert_eq!(number(name), expected, "{name:?}");
        }
    }
}
