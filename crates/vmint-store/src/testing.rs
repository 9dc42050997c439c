//! How tests of locks and of processes keep out of each other's way.
//!
//! A process that is being spawned has its parent's descriptors, and with them its parent's locks, until the kernel has
//! closed those that are to be closed on exec: some microseconds after `spawn` has returned, for the parent of a vfork
//! goes on as soon as the child has memory of its own. So a test that wants a lock to be free at once, and a test that
//! spawns, take turns, and a spawn is over when the child has its new name, which it gets after the closing.

use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Until it is dropped, no other test's child is half spawned.
pub(crate) struct Turn {
    _guard: MutexGuard<'static, ()>,
}

impl Turn {
    pub(crate) fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Self {
            _guard: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Starts a child, and waits until it executes its program.
    #[expect(clippy::unused_self, reason = "to be called in one's turn alone")]
    pub(crate) fn spawn(&self, command: &mut Command) -> Child {
        let child = command.spawn().unwrap();
        let before = std::fs::read("/proc/thread-self/comm").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::fs::read(format!("/proc/{}/comm", child.id())).unwrap() == before {
            assert!(Instant::now() < deadline, "{command:?} was not executed");
            std::thread::yield_now();
        }
        child
    }
}
