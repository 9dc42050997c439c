//! Starting a program: the fast path of every exec.
//!
//! `clone(CLONE_VM | CLONE_VFORK)` shares the agent's memory with the child until it executes the program: no page
//! table is copied, and whatever goes wrong on the child's side is simply written to the agent's memory.

use crate::sys;
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

/// Enough for the child's few calls; `execve` itself runs on the kernel's stack.
const STACK: usize = 64 << 10;

/// Who a program runs as. Absent in a [`Launch`] when it is the agent's own root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Everything that a program is started with.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Files to try, in this order.
    pub candidates: &'a [CString],
    /// Arguments.
    pub argv: &'a [CString],
    /// Environment, `NAME=VALUE`.
    pub env: &'a [CString],
    /// Working directory.
    pub cwd: &'a CStr,
    /// Where to go when `cwd` does not exist, if anywhere.
    pub fallback_cwd: Option<&'a CStr>,
    /// Standard input, output and error. None of them may itself be a descriptor below 3.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Whether standard input is a terminal that the program shall control.
    pub terminal: Terminal,
    /// Who it runs as.
    pub ids: Option<&'a Ids>,
    /// Text for `/proc/self/oom_score_adj`, where the agent's own must not be inherited.
    pub oom_score: Option<&'a CStr>,
}

/// Whether a program gets a controlling terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Its standard input is one.
    Controlling,
    /// It has none.
    None,
}

/// Why a program could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnError {
    /// No candidate exists.
    NotFound,
    /// A candidate exists and cannot be executed.
    NotExecutable(Errno),
    /// The working directory cannot be entered.
    Directory(Errno),
    /// Anything else.
    Other(&'static str, Errno),
}

/// How far the child came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Session,
    Stdio,
    Identity,
    Directory,
    NotFound,
    NotExecutable,
}

/// What the child reads and writes, in the memory that it shares with the agent.
struct Plan<'a> {
    launch: &'a Launch<'a>,
    candidates: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    stage: AtomicU8,
    errno: AtomicI32,
}

/// A stack for children, used by one at a time.
#[derive(Debug)]
pub struct Spawner {
    stack: Vec<u128>,
}

impl Default for Spawner {
    fn default() -> Self {
        Self {
            stack: vec![0; STACK / size_of::<u128>()],
        }
    }
}

impl Spawner {
    /// Starts a program in a session of its own and returns its process id, which is also that of its group and its
    /// session.
    pub fn spawn(&mut self, launch: &Launch<'_>) -> Result<i32, SpawnError> {
        let pointers = |list: &[CString]| -> Vec<*const c_char> {
            list.iter()
                .map(|s| s.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        let plan = Plan {
            launch,
            candidates: pointers(launch.candidates),
            argv: pointers(launch.argv),
            env: pointers(launch.env),
            stage: AtomicU8::new(u8::MAX),
            errno: AtomicI32::new(0),
        };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child runs `child` on a stack of its own (it grows down from the end of the vector, which is
        // aligned to 16 bytes) while this thread, the only one, is suspended until the child has executed a program or
        // ended; so `plan` and the stack outlive the child's use of them, and nothing is accessed from two sides at
        // once. All signals are blocked, so no handler can run in the child on shared memory.
        let pid = sys::check(unsafe {
            let top = self.stack.as_mut_ptr().add(self.stack.len());
            libc::clone(
                child,
                top.cast(),
                flags,
                (&raw const plan).cast_mut().cast(),
            )
        })
        .map_err(|e| SpawnError::Other("create a process", e))?;
        let stage = plan.stage.load(Ordering::Relaxed);
        if stage == u8::MAX {
            return Ok(pid);
        }
        // It has ended already, without having executed anything.
        // SAFETY: a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        let errno = Errno::from_raw_os_error(plan.errno.load(Ordering::Relaxed));
        Err(if stage == Stage::Session as u8 {
            SpawnError::Other("start a session", errno)
        } else if stage == Stage::Stdio as u8 {
            SpawnError::Other("connect standard input and output", errno)
        } else if stage == Stage::Identity as u8 {
            SpawnError::Other("become the user", errno)
        } else if stage == Stage::Directory as u8 {
            SpawnError::Directory(errno)
        } else if stage == Stage::NotFound as u8 {
            SpawnError::NotFound
        } else {
            SpawnError::NotExecutable(errno)
        })
    }
}

/// The child's side. Runs in the agent's memory: it allocates nothing and returns only by `_exit`.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a Plan that outlives this function.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    let (stage, errno) = plan.run();
    plan.errno.store(errno.raw_os_error(), Ordering::Relaxed);
    plan.stage.store(stage as u8, Ordering::Relaxed);
    sys::exit(127)
}

impl Plan<'_> {
    /// Does everything up to the program; returns what failed.
    fn run(&self) -> (Stage, Errno) {
        let launch = self.launch;
        // SAFETY: no arguments; like every call below, on numbers, and on terminated strings and arrays that live in the
        // suspended parent.
        if let Err(e) = sys::check(unsafe { libc::setsid() }) {
            return (Stage::Session, e);
        }
        for (target, fd) in (0..).zip(&launch.stdio) {
            // SAFETY: see above.
            if let Err(e) = sys::check(unsafe { libc::dup2(fd.as_raw_fd(), target) }) {
                return (Stage::Stdio, e);
            }
        }
        if launch.terminal == Terminal::Controlling {
            // SAFETY: see above.
            if let Err(e) = sys::check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }) {
                return (Stage::Session, e);
            }
        }
        if let Some(score) = launch.oom_score {
            write_oom_score(score);
        }
        if let Some(ids) = launch.ids
            && let Err(e) = become_user(ids)
        {
            return (Stage::Identity, e);
        }
        // SAFETY: see above.
        let enter = |dir: &CStr| sys::check(unsafe { libc::chdir(dir.as_ptr()) });
        if let Err(e) = enter(launch.cwd)
            && launch.fallback_cwd.is_none_or(|dir| enter(dir).is_err())
        {
            return (Stage::Directory, e);
        }
        sys::unblock_signals();
        self.execute()
    }

    /// Tries the candidates.
    fn execute(&self) -> (Stage, Errno) {
        let mut refused = None;
        for &path in self.candidates.iter().take_while(|p| !p.is_null()) {
            // A failing access() is a path lookup; a failing execve() has set up a new address space before it looks.
            // SAFETY: `path` is a terminated string.
            match sys::check(unsafe { libc::access(path, libc::X_OK) }) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => {
                    refused.get_or_insert(e);
                    continue;
                }
                Ok(_) => {}
            }
            // SAFETY: both arrays end in a null pointer.
            unsafe { libc::execve(path, self.argv.as_ptr(), self.env.as_ptr()) };
            let error = sys::last_errno();
            if error != Errno::ACCESS {
                return (Stage::NotExecutable, error);
            }
            refused.get_or_insert(error);
        }
        match refused {
            Some(e) => (Stage::NotExecutable, e),
            None => (Stage::NotFound, Errno::NOENT),
        }
    }
}

/// The C library's wrappers would tell all threads; raw calls change this process alone.
fn become_user(ids: &Ids) -> rustix::io::Result<()> {
    let call = |result: libc::c_long| {
        if result < 0 {
            Err(sys::last_errno())
        } else {
            Ok(())
        }
    };
    // SAFETY: the array has as many elements as is said.
    call(unsafe { libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()) })?;
    // SAFETY: numbers only.
    call(unsafe { libc::syscall(libc::SYS_setresgid, ids.gid, ids.gid, ids.gid) })?;
    // SAFETY: numbers only.
    call(unsafe { libc::syscall(libc::SYS_setresuid, ids.uid, ids.uid, ids.uid) })
}

/// A failure leaves the agent's score: worse for the guest under memory pressure, no reason not to run the command.
fn write_oom_score(score: &CStr) {
    // SAFETY: terminated strings; the descriptor is closed again.
    unsafe {
        let fd = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if fd >= 0 {
            libc::write(fd, score.as_ptr().cast(), score.count_bytes());
            libc::close(fd);
        }
    }
}
