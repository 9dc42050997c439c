//! A child that never outlives its parent, with descriptors passed by number.
//!
//! `PR_SET_PDEATHSIG` fires when the parent *thread* ends. So all children are started by one thread that never does.

use rustix::process::{Pid, PidfdFlags, Signal};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// A descriptor and the number that it shall have in the child.
#[derive(Debug)]
pub struct Pass {
    /// Ours.
    pub fd: OwnedFd,
    /// The child's.
    pub number: RawFd,
}

/// What runs in the child between fork and exec; must be async-signal-safe.
pub type BeforeExec = Box<dyn FnMut() -> io::Result<()> + Send + Sync>;

/// A running child. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    pidfd: AsyncFd<OwnedFd>,
    status: Option<ExitStatus>,
}

type Job = (
    Command,
    Vec<Pass>,
    Option<BeforeExec>,
    oneshot::Sender<io::Result<std::process::Child>>,
);

/// Starts `command`, one of [`vmint_spawn::command`], passing `fds` and nothing else but the standard streams that it
/// names. The child gets `SIGKILL` when this process ends, in whatever way, and leaves no core.
pub async fn spawn(
    command: Command,
    fds: Vec<Pass>,
    before_exec: Option<BeforeExec>,
) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::Builder::new()
            .name("spawner".into())
            .stack_size(256 << 10)
            .spawn(move || {
                // The sender is static, so this loop never ends.
                for (command, fds, before_exec, reply) in jobs {
                    // A reply that nobody awaits drops the child.
                    if let Err(Ok(mut child)) = reply.send(start(command, fds, before_exec)) {
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                }
            })
            .expect("a thread can be started");
        sender
    });
    let (reply, answer) = oneshot::channel();
    spawner
        .send((command, fds, before_exec, reply))
        .expect("the spawner never ends");
    let inner = answer.await.expect("the spawner always answers")?;
    let pid = Pid::from_child(&inner);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // SAFETY: the descriptor is owned by the `AsyncFd` and stays open and the same until it is dropped.
    let pidfd = unsafe { AsyncFd::register(pidfd) }.map_err(|e| e.into_parts().1)?;
    Ok(Child {
        inner,
        pidfd,
        status: None,
    })
}

/// In a child, between fork and exec: it gets `SIGKILL` when the thread that forked it ends. Async-signal-safe.
pub(crate) fn end_with(parent: u32) -> io::Result<()> {
    // SAFETY: these calls take numbers only.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the call above took hold.
        if libc::getppid() as u32 != parent {
            libc::_exit(1);
        }
    }
    Ok(())
}

/// In a child, between fork and exec: it may have as many open files as the host lets it, for each connection to a published port is
/// one. Async-signal-safe.
fn raise_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes to, and then reads, the struct, which outlives the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn start(
    mut command: Command,
    fds: Vec<Pass>,
    mut before_exec: Option<BeforeExec>,
) -> io::Result<std::process::Child> {
    let parent = std::process::id();
    let moves: Vec<(RawFd, RawFd)> = fds.iter().map(|p| (p.fd.as_raw_fd(), p.number)).collect();
    let mut parked = vec![0; moves.len()];
    let above = moves.iter().map(|(_, to)| to + 1).fold(64, i32::max);
    // SAFETY: the closure runs in the forked child and makes only async-signal-safe system calls; it allocates nothing
    // (`parked` was allocated above and is only written).
    unsafe {
        command.pre_exec(move || {
            end_with(parent)?;
            vmint_spawn::forbid_cores()?;
            raise_descriptors()?;
            // First out of the way, so that no descriptor is overwritten before it was moved.
            for (slot, (from, _)) in parked.iter_mut().zip(&moves) {
                *slot = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, above);
                if *slot < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for (slot, (_, to)) in parked.iter().zip(&moves) {
                if libc::dup2(*slot, *to) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            before_exec.as_mut().map_or(Ok(()), |f| f())
        });
    }
    let child = command.spawn();
    drop(fds);
    child
}

impl Child {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Waits for the child to end. Can be called again, and be cancelled.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if self.status.is_none() {
            let _readable = self.pidfd.readable().await?;
            self.status = Some(self.inner.wait()?);
        }
        Ok(self.status.expect("set above"))
    }

    /// Sends `SIGKILL`.
    pub fn kill(&self) {
        // An error means that it has ended.
        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
            let _ = self.inner.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::process::Stdio;

    #[tokio::test]
    async fn descriptors_arrive_under_their_numbers_even_when_those_are_crossed() {
        let (mut first, theirs) = UnixStream::pair().unwrap();
        let (mut second, theirs2) = UnixStream::pair().unwrap();
        // Each shall have the number that the other one has here.
        let (a, b) = (theirs2.as_raw_fd(), theirs.as_raw_fd());
        let mut command = vmint_spawn::command("/bin/bash");
        command
            .args(["-c", &format!("echo first >&{a}; echo second >&{b}")])
            .stdin(Stdio::null());
        let fds = vec![
            Pass {
                fd: theirs.into(),
                number: a,
            },
            Pass {
                fd: theirs2.into(),
                number: b,
            },
        ];
        let mut child = spawn(command, fds, None).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        drop(child);
        let (mut a, mut b) = (String::new(), String::new());
        first.read_to_string(&mut a).unwrap();
        second.read_to_string(&mut b).unwrap();
        assert_eq!((a.as_str(), b.as_str()), ("first\n", "second\n"));
    }

    #[tokio::test]
    async fn a_dropped_child_is_dead_and_reaped() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let child = spawn(command, Vec::new(), None).await.unwrap();
        let pid = child.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
