//! A folder that is used by many and removed by one: a template, a snapshot.
//!
//! Who uses it takes links of all that is in it into a folder of his own, or has a runner do so, and needs the folder no more. Until
//! then he [shares](InUse::share) it, and whoever wants to remove it must [have it alone](InUse::alone_until). The lock is flock(2)'s
//! on the folder itself: it leaves no file behind, and goes with the process that has it.
//!
//! A folder is known by what its path leads to: one that was removed, or put in the place of another, while somebody waited for it,
//! is another one.

use crate::lock::LockError;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A folder that is not removed as long as this lives, or that nobody else uses.
#[derive(Debug)]
pub struct InUse {
    _folder: OwnedFd,
}

impl InUse {
    /// Uses the folder; `None` if there is none, or it is about to go: who removes it is waited for until `deadline`.
    pub fn share(path: &Path, deadline: Instant) -> Result<Option<Self>, LockError> {
        Self::lock(path, FlockOperation::NonBlockingLockShared, deadline)
    }

    /// Has the folder alone; `None` if there is none. Those who use it are waited for until `deadline`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`]: it is still in use.
    pub fn alone_until(path: &Path, deadline: Instant) -> Result<Option<Self>, LockError> {
        Self::lock(path, FlockOperation::NonBlockingLockExclusive, deadline)
    }

    fn lock(
        path: &Path,
        how: FlockOperation,
        deadline: Instant,
    ) -> Result<Option<Self>, LockError> {
        let failed = |e: Errno| LockError::Host {
            path: path.to_owned(),
            source: e.into(),
        };
        let begin = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let folder = match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(e) => return Err(failed(e)),
            };
            match flock(&folder, how) {
                Ok(()) if is_current(&folder, path) => {
                    return Ok(Some(Self { _folder: folder }));
                }
                // It went while it was waited for; there may be another one.
                Ok(()) => continue,
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(failed(e)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LockError::TimedOut {
                    path: path.to_owned(),
                    waited: begin.elapsed(),
                });
            }
            sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

fn is_current(folder: &OwnedFd, path: &Path) -> bool {
    let (Ok(mine), Ok(there)) = (fstat(folder), stat(path)) else {
        return false;
    };
    (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn many_use_a_folder_and_nobody_has_it_alone_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (
            InUse::share(dir.path(), soon()).unwrap().unwrap(),
            InUse::share(dir.path(), soon()).unwrap().unwrap(),
        );
        for user in [Some(first), Some(second)] {
            let alone = InUse::alone_until(dir.path(), soon());
            assert!(
                matches!(alone, Err(LockError::TimedOut { .. })),
                "{alone:?}"
            );
            drop(user);
        }
        let alone = InUse::alone_until(dir.path(), soon()).unwrap().unwrap();
        assert!(InUse::share(dir.path(), soon()).is_err());
        drop(alone);
        assert!(
            InUse::share(&dir.path().join("none"), soon())
                .unwrap()
                .is_none()
        );
    }

    /// Ends the others, also when whoever has it panics.
    struct Done<'a>(&'a AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Of those who use a folder and those who remove it and make another one in its place nobody sees a folder that goes.
    #[test]
    fn what_is_used_is_there_until_it_is_not_used_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, seen) = (dir.path().join("it"), AtomicU32::new(0));
        let make = || {
            let new = dir
                .path()
                .join(format!("new-{:?}", std::thread::current().id()));
            std::fs::create_dir(&new).unwrap();
            std::fs::write(new.join("file"), "").unwrap();
            if std::fs::rename(&new, &folder).is_err() {
                std::fs::remove_dir_all(&new).unwrap();
            }
        };
        make();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut used = 0;
                    while used < 100 && !done.load(Ordering::Relaxed) {
                        let Some(_user) = InUse::share(&folder, later()).unwrap() else {
                            continue;
                        };
                        for _ in 0..20 {
                            assert!(folder.join("file").exists());
                        }
                        used += 1;
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                let _done = Done(&done);
                // Until somebody has used it: on a busy host it may be away whenever they look.
                let mut rounds = 0;
                while rounds < 300 || seen.load(Ordering::Relaxed) == 0 {
                    rounds += 1;
                    if let Some(_alone) = InUse::alone_until(&folder, later()).unwrap() {
                        std::fs::remove_dir_all(&folder).unwrap();
                    }
                    make();
                }
            });
        });
        assert!(seen.into_inner() > 0);
    }
}
