//! Locks between processes: `flock` on files that are never deleted while somebody may wait for them.

use crate::fsx::{FileError, OnFile};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lock held; released on drop and by the kernel when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else held it all the time.
    #[error("another process still holds {} after {} s", path.display(), waited.as_secs())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
}

impl Lock {
    fn open(path: &Path) -> Result<File, FileError> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .on("open the lock", path)
    }

    /// Takes the lock, unless somebody else has it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, FileError> {
        let file = Self::open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).on("lock", path),
        }
    }

    /// Takes the lock, waiting for it until the deadline. `waiting` is called once if there is a wait.
    ///
    /// The lock is tried anew every 50 ms, because `flock` has no form with a deadline; who waits here waits for
    /// seconds of work.
    pub(crate) fn take(
        path: &Path,
        patience: Duration,
        waiting: impl FnOnce(),
    ) -> Result<Self, LockError> {
        if let Some(lock) = Self::try_take(path)? {
            return Ok(lock);
        }
        waiting();
        let start = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            if start.elapsed() > patience {
                return Err(LockError::TimedOut {
                    path: path.to_owned(),
                    waited: start.elapsed(),
                });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(e) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(path = %self.path.display(), "cannot unlock: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_take(&path).unwrap().expect("nobody has it");
        assert!(Lock::try_take(&path).unwrap().is_none());
        let error = Lock::take(&path, Duration::ZERO, || ()).unwrap_err();
        assert!(matches!(error, LockError::TimedOut { .. }), "{error}");
        let (told, hears) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                Lock::take(&path, Duration::from_secs(20), move || {
                    told.send(()).unwrap();
                })
                .map(|_| ())
            }
        });
        hears.recv().unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    }
}
