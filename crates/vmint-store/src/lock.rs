//! A lock file. The lock is [flock(2)]'s: it belongs to the open file, not to a process, so it can be handed to another
//! process by inheritance, without a moment in which it is free, and the kernel drops it when the last process that has
//! the file open ends, however it ends.
//!
//! To hand a lock to a child without unsafe code, give it as the child's standard input:
//! `Command::stdin(Stdio::from(lock.into_fd()))`; the child takes it with
//! `FileLock::from_fd(io::stdin().as_fd().try_clone_to_owned()?, path)` and puts `/dev/null` in its place. All
//! descriptors here are closed on exec, so no process gets a lock by accident.
//!
//! [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, stat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmint_model::{ErrorKind, Explained};

/// How long [`FileLock::try_acquire`] goes on while only probes are in its way; a probe takes microseconds.
const PROBES_PATIENCE: Duration = Duration::from_millis(200);

/// A file that this process has locked. Dropped, it is free again, unless another process has the same open file.
#[derive(Debug)]
pub struct FileLock {
    file: OwnedFd,
    path: PathBuf,
}

/// A lock file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file cannot be opened or locked at all.
    #[error("cannot lock {}", path.display())]
    Host {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process held it until the deadline.
    #[error("{} is still locked by another process after {} ms", path.display(), waited.as_millis())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A descriptor given as a lock is not one, or not of this file.
    #[error("the descriptor given does not hold the lock {}", path.display())]
    NotHeld {
        /// The lock file.
        path: PathBuf,
    },
}

impl Explained for LockError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Host { source, .. } if is_full(source) => ErrorKind::NoSpace,
            Self::Host { .. } => ErrorKind::Host,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::NotHeld { .. } => ErrorKind::Internal,
        }
    }
}

/// Whether the disk, or the user's share of it, is full.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl FileLock {
    /// Locks the file, which is made if it does not exist; `None` if another open file has the lock.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, LockError> {
        Self::attempt(path).map_err(|e| host(path, e))
    }

    /// Locks the file, waiting for it until the deadline. The wait asks again and again, at first after 1 ms, at last
    /// every 50 ms: flock has no time limit of its own, and a thread or a signal to break it off would cost more than
    /// it saves where waits are rare.
    pub fn acquire_until(path: &Path, deadline: Instant) -> Result<Self, LockError> {
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LockError::TimedOut {
                    path: path.to_owned(),
                    waited: begin.elapsed(),
                });
            }
            sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Whether some process has the file locked. Takes nothing, and is in nobody's way. A file that does not exist is
    /// not locked, even if somebody has locked it before it was deleted.
    pub fn is_held(path: &Path) -> Result<bool, LockError> {
        let probe = || match open(path, OFlags::empty()) {
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => Ok(false),
                Err(Errno::WOULDBLOCK) => Ok(true),
                Err(e) => Err(e),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(e),
        };
        retry_interrupted(probe).map_err(|e| host(path, e))
    }

    /// The open file, still locked, to be handed to another process. Closed on exec unless it is made a standard
    /// stream of a child.
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }

    /// Takes over a lock that another process made and handed down. Refuses a descriptor that does not hold the lock
    /// at `path`: one that is another file, or whose lock another process has.
    pub fn from_fd(file: OwnedFd, path: &Path) -> Result<Self, LockError> {
        let lock = Self {
            file,
            path: path.to_owned(),
        };
        // To lock again what one has locked changes nothing.
        let locked =
            retry_interrupted(|| flock(&lock.file, FlockOperation::NonBlockingLockExclusive));
        match locked {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::NotHeld {
                    path: path.to_owned(),
                });
            }
            Err(e) => return Err(host(path, e)),
        }
        fcntl_setfd(&lock.file, FdFlags::CLOEXEC).map_err(|e| host(path, e))?;
        if lock.is_current().map_err(|e| host(path, e))? {
            Ok(lock)
        } else {
            Err(LockError::NotHeld {
                path: path.to_owned(),
            })
        }
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still names the file that is locked. If not, it was deleted, with its folder perhaps, and the
    /// lock protects nothing any more.
    pub fn is_current(&self) -> Result<bool, Errno> {
        let mine = fstat(&self.file)?;
        match retry_interrupted(|| stat(&self.path)) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn attempt(path: &Path) -> Result<Option<Self>, Errno> {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(20);
        loop {
            let file = retry_interrupted(|| open(path, OFlags::CREATE))?;
            match retry_interrupted(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {
                    let lock = Self {
                        file,
                        path: path.to_owned(),
                    };
                    // Deleted between the opening and the locking: what is locked is not what the next one will lock.
                    if lock.is_current()? {
                        return Ok(Some(lock));
                    }
                    continue;
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(e) => return Err(e),
            }
            // Held, or only being probed? A shared lock is refused by a holder alone.
            match retry_interrupted(|| flock(&file, FlockOperation::NonBlockingLockShared)) {
                Ok(()) if begin.elapsed() < PROBES_PATIENCE => drop(file),
                Ok(()) | Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e),
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | extra;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
}

fn host(path: &Path, e: Errno) -> LockError {
    LockError::Host {
        path: path.to_owned(),
        source: e.into(),
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    rustix::io::retry_on_intr(&mut call)
}

/// Removes a folder, be it gone already. Whoever asks for the lock of a folder that is being removed makes the lock's
/// file anew in it; so what was emptied may not be empty, and is emptied again.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    for _ in 0..100 {
        match std::fs::remove_dir_all(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => return other,
        }
    }
    std::fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Turn;
    use std::process::{Command, Stdio};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    /// A folder of the test's own, and its turn.
    type Place = (tempfile::TempDir, Turn);

    fn place() -> (Place, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        ((dir, Turn::take()), path)
    }

    #[test]
    fn one_at_a_time() {
        let (_dir, path) = place();
        assert!(!FileLock::is_held(&path).unwrap(), "no file, no lock");
        let lock = FileLock::try_acquire(&path).unwrap().expect("it is free");
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        assert!(FileLock::is_held(&path).unwrap());
        drop(lock);
        assert!(!FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_handed_to_another_process_is_held_exactly_until_that_ends() {
        let ((_dir, turn), path) = place();
        let lock = FileLock::try_acquire(&path).unwrap().unwrap();
        let mut child = turn.spawn(
            Command::new("sleep")
                .arg("1000")
                .stdin(Stdio::from(lock.into_fd())),
        );
        let held = FileLock::is_held(&path).unwrap();
        let refused = FileLock::try_acquire(&path).unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            held && refused,
            "this process has it no more, the child has"
        );
        assert!(!FileLock::is_held(&path).unwrap());
    }

    #[test]
    fn no_child_gets_a_lock_by_accident() {
        let ((_dir, turn), path) = place();
        let lock = FileLock::try_acquire(&path).unwrap().unwrap();
        let taken_over = FileLock::from_fd(lock.into_fd(), &path).unwrap();
        let mut child = turn.spawn(Command::new("sleep").arg("1000"));
        drop(taken_over);
        let held = FileLock::is_held(&path).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!held);
    }

    #[test]
    fn a_descriptor_that_is_not_this_lock_is_refused() {
        let ((dir, _turn), path) = place();
        let other = FileLock::try_acquire(&dir.path().join("other")).unwrap();
        let _lock = FileLock::try_acquire(&path).unwrap().unwrap();
        let unlocked = OwnedFd::from(std::fs::File::open(&path).unwrap());
        for fd in [other.unwrap().into_fd(), unlocked] {
            let error = FileLock::from_fd(fd, &path).unwrap_err();
            assert!(matches!(error, LockError::NotHeld { .. }), "{error:?}");
        }
    }

    #[test]
    fn the_wait_ends_with_the_holder_or_at_the_deadline() {
        let (_dir, path) = place();
        let lock = FileLock::try_acquire(&path).unwrap().unwrap();
        let error =
            FileLock::acquire_until(&path, Instant::now() + Duration::from_millis(60)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(
            error.to_string().contains("lock is still locked"),
            "{error}"
        );

        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                FileLock::acquire_until(&path, Instant::now() + Duration::from_secs(30)).map(drop)
            });
            drop(lock);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_lock_on_a_deleted_file_is_not_taken_for_the_lock() {
        let (_dir, path) = place();
        let old = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(old.is_current().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!old.is_current().unwrap());
        assert!(!FileLock::is_held(&path).unwrap());
        let new = FileLock::try_acquire(&path).unwrap().expect("a new file");
        assert!(!old.is_current().unwrap() && new.is_current().unwrap());
    }

    #[test]
    fn nobody_holds_it_twice_while_it_is_deleted_again_and_again() {
        let (_dir, path) = place();
        let (inside, barrier) = (AtomicU32::new(0), Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..200 {
                        let deadline = Instant::now() + Duration::from_secs(30);
                        let lock = FileLock::acquire_until(&path, deadline).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        // Whoever has the lock may delete the file; the others must notice.
                        std::fs::remove_file(&path).unwrap();
                        drop(lock);
                    }
                });
            }
        });
    }

    #[test]
    fn probes_are_not_taken_for_holders() {
        let (_dir, path) = place();
        drop(FileLock::try_acquire(&path).unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        FileLock::is_held(&path).unwrap();
                    }
                });
            }
            let free = (0..500)
                .filter(|_| FileLock::try_acquire(&path).unwrap().is_some())
                .count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(free, 500);
        });
    }

    #[test]
    fn a_lock_in_no_folder_is_an_error_that_names_the_path() {
        let ((dir, _turn), _) = place();
        let error = FileLock::try_acquire(&dir.path().join("no/lock")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains("no/lock"), "{error}");
    }

    #[test]
    fn a_folder_is_removed_while_others_ask_for_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        drop(FileLock::try_acquire(&dir.path().join("machine/lock")));
                    }
                });
            }
            let removed: io::Result<()> = (0..200).try_for_each(|_| {
                std::fs::create_dir(dir.path().join("machine"))?;
                remove_folder(&dir.path().join("machine"))
            });
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            removed.unwrap();
        });
    }
}
