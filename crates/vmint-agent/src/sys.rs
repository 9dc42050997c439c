//! The few system calls that need `unsafe`, each behind a function that does not.

use rustix::io::{Errno, Result};
use std::ffi::{CStr, c_char, c_int};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, Ordering};

/// `argv[0]` as the kernel laid it out, for [`rename_process`].
static ARGV0: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

/// The last error of the C library as an [`Errno`].
pub fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Turns a C library's `-1` into an error.
pub fn check(result: c_int) -> Result<c_int> {
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(result)
    }
}

/// Blocks all signals. The agent takes those that it wants from a descriptor; what it starts unblocks them.
pub fn block_signals() {
    // SAFETY: both calls only write to and read from `set`, which lives on this stack.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Lets all signals through again. Async-signal-safe.
pub fn unblock_signals() {
    // SAFETY: as in `block_signals`.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// A non-blocking descriptor that is readable when one of these signals has come.
pub fn signals(wanted: impl IntoIterator<Item = c_int>) -> Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before it is read; the descriptor that signalfd returns is nobody
    // else's.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in wanted {
            libc::sigaddset(&raw mut set, signal);
        }
        let fd = check(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Sends `signal` to a process, or with a negative `pid` to a group. Signal numbers are the caller's, so an invalid one
/// is an error and not a panic.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes two numbers and touches no memory.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The process that called; the child has this id.
    Parent(i32),
    /// The new process.
    Child,
}

/// Duplicates this process.
pub fn fork() -> Result<Forked> {
    // SAFETY: the agent has one thread, so the child's memory is in a consistent state and any function may be called.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// Ends this process at once: no destructors, no buffers.
pub fn exit(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Replaces this process by a program, with all signals let through. Returns only on failure.
pub fn exec(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> Errno {
    let pointers = |list: &[&CStr]| -> Vec<*const c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    unblock_signals();
    // SAFETY: both arrays end in a null pointer and, like the strings that they point to, outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Remembers where the kernel put `argv[0]`.
///
/// # Safety
/// `argv` is the vector that `main` was called with.
pub unsafe fn remember_argv(argc: c_int, argv: *mut *mut c_char) {
    if argc > 0 && !argv.is_null() {
        // SAFETY: `argv` has `argc` > 0 elements.
        ARGV0.store(unsafe { *argv }, Ordering::Relaxed);
    }
}

/// Makes `argv[0]` begin with `@`, which spares a process when systemd kills everything at shutdown (systemd's “root
/// storage daemons” convention), and gives it a name for `ps`.
pub fn rename_process(name: &CStr) {
    let argv0 = ARGV0.load(Ordering::Relaxed);
    if !argv0.is_null() {
        // SAFETY: `argv0` is the string that the kernel placed on this process's stack, writable for its whole life;
        // its first byte is replaced only when the string is not empty, so it stays terminated.
        unsafe {
            if *argv0 != 0 {
                *argv0 = b'@' as c_char;
            }
        }
    }
    // SAFETY: PR_SET_NAME copies at most 16 bytes of the terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Gives the kernel's generator `seed` as entropy that counts, and makes it reseed itself from it at once, so that two
/// forks of one template stop producing the same numbers.
pub fn reseed(random: BorrowedFd<'_>, seed: &[u8]) -> Result<()> {
    const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
    const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
    // struct rand_pool_info: entropy in bits, size in bytes, the bytes.
    let size = i32::try_from(seed.len()).map_err(|_| Errno::INVAL)?;
    let mut info = Vec::with_capacity(8 + seed.len());
    info.extend_from_slice(&size.saturating_mul(8).to_ne_bytes());
    info.extend_from_slice(&size.to_ne_bytes());
    info.extend_from_slice(seed);
    // SAFETY: the kernel reads 8 bytes and then as many as the second of the two numbers says, which is what follows.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, info.as_ptr()) })?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) }).map(drop)
}

/// Opens the other end of a pseudo-terminal without a path, so without a race and whatever `/dev/pts` is mounted.
pub fn terminal_peer(controller: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as its argument and returns a new descriptor.
    unsafe {
        let fd = check(libc::ioctl(
            controller.as_raw_fd(),
            libc::TIOCGPTPEER,
            flags,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Opens a file for reading and returns its content, at most `limit` bytes of it.
pub fn read_file(path: &str, limit: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut out = Vec::new();
    File::open(path)?.take(limit as u64).read_to_end(&mut out)?;
    Ok(out)
}

/// Makes sure that descriptors 0 to 2 are taken, so that no pipe of a command gets one of their numbers: the kernel opens
/// none of them when there is no console.
pub fn open_standard_files() {
    for fd in 0..=2 {
        // SAFETY: numbers only.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 {
            continue;
        }
        for path in [c"/dev/console", c"/dev/null"] {
            // The lowest free number is the one that was found free.
            // SAFETY: a terminated string; the descriptor is meant to stay open.
            if unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NOCTTY) } >= 0 {
                break;
            }
        }
    }
}

/// Lets the kernel make up for `behind_ns` gradually.
pub fn slew_clock(behind_ns: i64) -> Result<()> {
    let delta = libc::timeval {
        tv_sec: behind_ns / 1_000_000_000,
        tv_usec: behind_ns % 1_000_000_000 / 1000,
    };
    // SAFETY: `delta` lives through the call, and a null pointer asks for no old value.
    if unsafe { libc::adjtime(&raw const delta, std::ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}
