//! A thread that moves what a hypervisor says from pipes into logs.
//!
//! *Why pipes.* QEMU's own file backend writes without end, past every quota. A pipe takes single bytes, which is what a
//! serial line gives, without a buffer for each (a socket holds 278 of them), and its reader can let them come together.
//! *Why a thread.* A slow disk must not hold up the task that serves the machine; and where it does hold up this thread,
//! the guest's console waits, but neither QEMU nor the guest's processors do: the writing ends do not block.

use super::Log;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long bytes may come together before they are written: a wake-up for each byte of a console would cost more than
/// the byte. A pipe holds what a serial line gives in this time many times over.
pub(super) const GATHER: Duration = Duration::from_millis(5);
/// A log that others link as well.
pub type Kept = Arc<Mutex<Log>>;

/// The logs' thread, as its owner sees it.
#[derive(Debug, Clone)]
pub struct Keeper(watch::Receiver<()>);

/// A pipe into a log: its reading and its writing end, neither of which blocks.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// Fills each log from its pipe until all who could write to the pipes are gone.
pub fn keep(pipes: Vec<(OwnedFd, Kept)>) -> io::Result<Keeper> {
    let (done, keeper) = watch::channel(());
    std::thread::Builder::new()
        .name("logs".into())
        .stack_size(128 << 10)
        .spawn(move || {
            run(pipes);
            drop(done);
        })?;
    Ok(Keeper(keeper))
}

impl Keeper {
    /// Returns when everything that was said is in the logs. To be called when its sayer is dead. Can be cancelled.
    pub async fn done(&self) {
        let mut keeper = self.0.clone();
        // The sender is dropped, and never sends.
        let _ = tokio::time::timeout(Duration::from_secs(2), keeper.changed()).await;
    }
}

fn run(mut pipes: Vec<(OwnedFd, Kept)>) {
    let mut buffer = vec![0; 32 << 10];
    while !pipes.is_empty() {
        let mut fds: Vec<_> = pipes
            .iter()
            .map(|(pipe, _)| PollFd::new(pipe, PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return tracing::error!("logs are not kept any more: {e}"),
        }
        let hung_up = fds.iter().any(|f| f.revents().contains(PollFlags::HUP));
        pipes.retain(|(pipe, log)| move_some(pipe, log, &mut buffer));
        if !hung_up {
            std::thread::sleep(GATHER);
        }
    }
}

/// Moves what is in the pipe; whether more can come.
fn move_some(pipe: impl AsFd, log: &Kept, buffer: &mut [u8]) -> bool {
    // Bounded, so that one that never ends does not keep the other waiting.
    for _ in 0..8 {
        match rustix::io::read(&pipe, &mut *buffer) {
            Ok(0) => return false,
            Ok(n) => {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.append(&buffer[..n]);
                if n < buffer.len() {
                    return true;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn all_that_was_said_is_in_the_logs_when_its_sayer_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.log"), folder.path().join("b.log"));
        let log = |path| Arc::new(Mutex::new(Log::open(path, 1 << 20).unwrap()));
        let ((read_a, write_a), (read_b, write_b)) = (pipe().unwrap(), pipe().unwrap());
        let keeper = keep(vec![(read_a, log(&a)), (read_b, log(&b))]).unwrap();
        let mut said = std::fs::File::from(write_a);
        for _ in 0..1000 {
            said.write_all(b"x").unwrap();
        }
        drop((said, write_b));
        keeper.done().await;
        // A second time too.
        keeper.done().await;
        assert_eq!(std::fs::read(a).unwrap(), vec![b'x'; 1000]);
        assert!(std::fs::read(b).unwrap().is_empty());
    }
}
