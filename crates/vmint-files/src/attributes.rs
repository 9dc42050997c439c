//! Owner, mode, times and extended attributes of what was unpacked: what a guest may say of a file of this host.
//!
//! Of the mode nine bits, of the extended attributes those that are notes (`user.*`) or say who may use this file. What gives
//! a program powers (set-id bits, file capabilities), or decides about files that others will make (default access
//! lists), is dropped and counted.

use crate::error::UnpackError;
use crate::options::Owners;
use crate::shown;
use crate::unpacker::Unpacker;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vmint_protocol::archive::Entry;
use vmint_tree::xattrs::{self, Meaning};

/// The permission bits that a guest may set.
const PERMISSIONS: u32 = 0o777;

impl Unpacker {
    /// The permissions of an entry. What else it has set is dropped.
    pub(crate) fn mode(&mut self, entry: &Entry) -> Mode {
        if entry.mode & !PERMISSIONS != 0 {
            self.unpacked.skipped.bits += 1;
            self.skipped(&entry.path);
        }
        Mode::from_raw_mode(entry.mode & PERMISSIONS)
    }

    /// All that a file has beside its content.
    pub(crate) fn file_attributes(
        &mut self,
        file: BorrowedFd<'_>,
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let failed = UnpackError::io("complete", path);
        self.own(file, (entry.uid, entry.gid), path)?;
        rustix::fs::fchmod(file, self.mode(entry)).map_err(&failed)?;
        self.set_xattrs(file, entry);
        rustix::fs::futimens(file, &times(entry)).map_err(failed)
    }

    /// What a named pipe has. It was made a moment ago, under a name that somebody else may have given to another file.
    pub(crate) fn pipe_attributes(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let failed = UnpackError::io("complete", path);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pipe = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(&failed)?;
        if !is_ours(&pipe, FileType::Fifo).map_err(failed)? {
            return Err(UnpackError::Replaced { path: shown(path) });
        }
        self.file_attributes(pipe.as_fd(), path, entry)
    }

    /// What a symbolic link has. Where it leads is of no concern.
    pub(crate) fn link_attributes(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let failed = UnpackError::io("complete", path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(&failed)?;
        if !is_ours(&link, FileType::Symlink).map_err(&failed)? {
            return Err(UnpackError::Replaced { path: shown(path) });
        }
        if self.options.owners == Owners::Kept {
            let (uid, gid) = ids((entry.uid, entry.gid));
            let owned = rustix::fs::chownat(&link, c"", uid, gid, AtFlags::EMPTY_PATH);
            self.owned(owned, path)?;
        }
        match rustix::fs::utimensat(&link, c"", &times(entry), AtFlags::EMPTY_PATH) {
            // Before Linux 5.8 there is no safe way.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Gives what is open to its owner, if owners are kept.
    pub(crate) fn own(
        &mut self,
        file: BorrowedFd<'_>,
        owner: (u32, u32),
        path: &[u8],
    ) -> Result<(), UnpackError> {
        if self.options.owners == Owners::Mine {
            return Ok(());
        }
        let (uid, gid) = ids(owner);
        let owned = rustix::fs::fchown(file, uid, gid);
        self.owned(owned, path)
    }

    fn owned(&mut self, result: Result<(), Errno>, path: &[u8]) -> Result<(), UnpackError> {
        match result {
            Ok(()) => Ok(()),
            // An owner who does not exist in this user namespace, or a file system without owners.
            Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => {
                self.unpacked.skipped.owners += 1;
                self.skipped(path);
                Ok(())
            }
            Err(errno) => Err(UnpackError::io("give an owner to", path)(errno)),
        }
    }

    /// Sets the extended attributes that a guest may set. Whether one of them is an access list.
    pub(crate) fn set_xattrs(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> bool {
        let mut has_list = false;
        for (name, value) in &entry.xattrs {
            let skipped = &mut self.unpacked.skipped;
            match xattrs::meaning(name) {
                Meaning::Foreign => continue,
                Meaning::Power => skipped.capabilities += 1,
                Meaning::DefaultAccess => skipped.xattrs += 1,
                meaning @ (Meaning::Note | Meaning::Access) => {
                    if xattrs::set(file, name, value).is_ok() {
                        has_list |= meaning == Meaning::Access;
                        continue;
                    }
                    skipped.xattrs += 1;
                }
            }
            self.skipped(&entry.path);
        }
        has_list
    }

    /// Keeps the name of what is left out, if it is the first.
    fn skipped(&mut self, path: &[u8]) {
        let first = &mut self.unpacked.skipped.first;
        first.get_or_insert_with(|| shown(path));
    }
}

/// Whether this is what was just made, and not a name of something that was there.
fn is_ours(file: &OwnedFd, kind: FileType) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == kind && stat.st_nlink == 1)
}

/// All ones mean “leave it”.
fn ids((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    (
        (uid != u32::MAX).then(|| Uid::from_raw(uid)),
        (gid != u32::MAX).then(|| Gid::from_raw(gid)),
    )
}

pub(crate) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nsec.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
