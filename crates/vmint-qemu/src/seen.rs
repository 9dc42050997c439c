//! What is known of a frozen file since it was last read: the time of its last change, which nobody can put back.
//!
//! A file's time of modification can be set by whoever may write it, and a fork's QEMU has its template's memory open for
//! writing. Its time of *change* (`ctime`) is the kernel's alone. But every link that is made or removed changes that too,
//! and forks come and go by links. So beside each frozen file `NAME` lies `NAME.seen`, which holds the `ctime` up to which
//! the content is known, and is itself linked wherever the file is: all who share the file share what is known of it, and
//! it goes with the last of them. It is locked while it is read or changed.
//!
//! * Who links or removes the file looks before and after. If what was there before was known, so is what is there after.
//! * Who finds a `ctime` that nobody has noted reads the whole file, and notes it if the content is what it shall be. That
//!   is also what happens after a removal that nobody noted, by a crash or by hand: a second of reading, once.
//!
//! What this does not see is a write between that looking before and after, some microseconds; and, before Linux 6.13,
//! whose times are as coarse as its clock tick, one in the same tick as a link. `vmint template verify` reads everything.

use rustix::fs::{FlockOperation, OFlags, Stat, flock, fstat};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long is waited for another process that reads the file.
const PATIENCE: Duration = Duration::from_secs(20);
/// Length of a note: a number of nanoseconds, padded.
const NOTE: usize = 24;

/// The note of one file, locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Seen {
    note: File,
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.seen"))
}

/// The time of a file's last change, in nanoseconds.
pub(crate) fn changed_ns(stat: &Stat) -> i128 {
    i128::from(stat.st_ctime) * 1_000_000_000 + stat.st_ctime_nsec as i128
}

impl Seen {
    /// Locks the note of file `name` in `folder`. `None` if there is none, or it cannot be had in time.
    pub(crate) fn lock(folder: &Path, name: &str) -> Option<Self> {
        let note = File::options()
            .read(true)
            .write(true)
            .open(path(folder, name))
            .ok()?;
        Self::locked(note)
    }

    /// The same, made if need be.
    pub(crate) fn lock_or_make(folder: &Path, name: &str) -> Option<Self> {
        let note = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path(folder, name))
            .ok()?;
        Self::locked(note)
    }

    fn locked(note: File) -> Option<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            match flock(&note, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(Self { note }),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return None,
            }
        }
    }

    /// Whether the content is known as of this change.
    pub(crate) fn knows(&self, changed_ns: i128) -> bool {
        let mut bytes = [0; NOTE];
        let read = self.note.read_exact_at(&mut bytes, 0);
        read.is_ok() && bytes == Self::encode(changed_ns)
    }

    /// Notes that it is. Without the note the file is read once more, so a failure is none.
    pub(crate) fn note(&self, changed_ns: i128) {
        if let Err(e) = self.note.write_all_at(&Self::encode(changed_ns), 0) {
            tracing::debug!("a frozen file will be read again: {e}");
        }
    }

    fn encode(changed_ns: i128) -> [u8; NOTE] {
        let mut bytes = [b'\n'; NOTE];
        let text = format!("{changed_ns:>23}");
        bytes[..text.len().min(NOTE)].copy_from_slice(&text.as_bytes()[..text.len().min(NOTE)]);
        bytes
    }
}

/// Links file `name` of one folder into another, with its note.
pub(crate) fn link(from: &Path, to: &Path, name: &str) -> io::Result<()> {
    let seen = Seen::lock(from, name);
    let known = known(seen.as_ref(), from, name);
    std::fs::hard_link(from.join(name), to.join(name))?;
    let Some(seen) = &seen else {
        return Ok(());
    };
    std::fs::hard_link(path(from, name), path(to, name))?;
    if let Some(file) = known {
        seen.note(changed_ns(&fstat(&file)?));
    }
    Ok(())
}

/// Changes something of file `name` that is not its content.
pub(crate) fn change(
    folder: &Path,
    name: &str,
    change: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let seen = Seen::lock(folder, name);
    let known = known(seen.as_ref(), folder, name);
    change()?;
    if let (Some(seen), Some(file)) = (&seen, known) {
        seen.note(changed_ns(&fstat(&file)?));
    }
    Ok(())
}

/// Removes file `name` of a folder. The note stays, for it goes with the folder.
pub(crate) fn unlink(folder: &Path, name: &str) -> io::Result<()> {
    let seen = Seen::lock(folder, name);
    let known = known(seen.as_ref(), folder, name);
    match std::fs::remove_file(folder.join(name)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    if let (Some(seen), Some(file)) = (&seen, known) {
        seen.note(changed_ns(&fstat(&file)?));
    }
    Ok(())
}

/// The file, if its content is known as it is.
fn known(seen: Option<&Seen>, folder: &Path, name: &str) -> Option<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder.join(name), flags, rustix::fs::Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    seen?.knows(changed_ns(&stat)).then_some(file)
}
