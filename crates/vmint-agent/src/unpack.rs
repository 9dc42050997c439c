//! Unpacking a tar stream as it arrives: each piece goes from the port's read buffer straight into its file.
//!
//! *Nothing is written outside the target folder.* Names that are absolute or contain `..` are refused. Folders on the
//! way are opened with `openat2(RESOLVE_IN_ROOT)`: the kernel resolves every link in them, be it the image's own
//! (`/lib` → `usr/lib`, with the target `/`) or one that the archive has just made, as if the target were the root. The
//! last component of a name is never followed: it is created with `O_EXCL`, and what was there before is unlinked; a folder
//! that was there stays, with its owner, mode and times.

use crate::exec::{self, failure, os, text};
use crate::spawn::Ids;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result as OsResult};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use vmint_protocol::archive::{Entry, EntryKind, Item, Parser, relative};
use vmint_protocol::{Credit, ErrorCode, GuestError, Sent, TarIn};

/// A path for a folder only.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A tar stream on its way in.
#[derive(Debug)]
pub struct Unpack {
    parser: Parser,
    target: OwnedFd,
    /// Whether it was made for this archive: a folder that was there keeps its owner, mode and times.
    target_is_new: bool,
    owner: Option<Ids>,
    /// The folder that was used last: most entries have the same one as the entry before.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// The file that is being written.
    file: Option<(OwnedFd, Entry)>,
    /// Folders whose times are set once nothing more is put into them, outermost first.
    open_folders: Vec<(Vec<u8>, Timestamps)>,
    credit: Credit,
    sent: Sent,
}

impl Unpack {
    /// Makes the target folder, if need be.
    pub fn start(spec: &TarIn) -> Result<Self, GuestError> {
        let owner = match &spec.user {
            Some(name) => Some(exec::user(Some(name))?.ids),
            None => None,
        };
        let path = std::path::Path::new(OsStr::from_bytes(&spec.path));
        let shown = text(&spec.path);
        if !path.is_absolute() {
            return Err(failure(
                ErrorCode::Invalid,
                format_args!("unpack to {shown:?}, which is no absolute path"),
            ));
        }
        let target_is_new = !path.exists();
        std::fs::create_dir_all(path).map_err(|e| {
            let error = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            os(&format!("create the folder {shown:?}"), error)
        })?;
        let target = rustix::fs::open(path, FOLDER, Mode::empty());
        Ok(Self {
            parser: Parser::default(),
            target: target.map_err(|e| os(&format!("open the folder {shown:?}"), e))?,
            target_is_new,
            owner,
            parent: None,
            file: None,
            open_folders: Vec::new(),
            credit: Credit::default(),
            sent: Sent::default(),
        })
    }

    /// Takes bytes from the host. Returns a grant to send.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<u32>, GuestError> {
        let count = bytes.len();
        if !self.credit.received(count) {
            return Err(failure(
                ErrorCode::Invalid,
                "take more input than it has granted",
            ));
        }
        loop {
            // An archive that is none says why.
            let item = self.parser.next(&mut bytes);
            let item = item.map_err(|e| {
                failure(ErrorCode::Invalid, format_args!("unpack the archive: {e}"))
            })?;
            match item {
                None => return Ok(self.credit.consumed(count)),
                Some(Item::Entry(entry)) => self.begin(*entry)?,
                Some(Item::Data(data)) => self.write(data)?,
                Some(Item::Done) => self.complete()?,
                Some(Item::End) => self.close_folders(0)?,
            }
        }
    }

    /// The host has sent everything.
    pub fn finish(&mut self) -> Result<Sent, GuestError> {
        match self.parser.finish() {
            Ok(()) => Ok(self.sent),
            Err(e) => Err(failure(
                ErrorCode::Invalid,
                format_args!("unpack the archive: {e}"),
            )),
        }
    }

    fn begin(&mut self, entry: Entry) -> Result<(), GuestError> {
        let Some(parts) = relative(&entry.path) else {
            return Err(escapes(&entry.path));
        };
        let joined = parts.join(&b'/');
        self.close_folders(
            self.open_folders
                .iter()
                .take_while(|(dir, _)| contains(dir, &joined))
                .count(),
        )?;
        let wrap = |e: Errno| os(&format!("unpack {:?}", text(&entry.path)), e);
        let Some((name, parent)) = parts.split_last() else {
            // The target itself: only a folder can be that.
            if entry.kind != EntryKind::Directory {
                return Err(escapes(&entry.path));
            }
            let target = rustix::io::dup(&self.target).map_err(wrap)?;
            return self.folder(&target, b".", joined, &entry).map_err(wrap);
        };
        let parent = self.parent(&parent.join(&b'/')).map_err(wrap)?;
        let result = if entry.kind == EntryKind::Directory {
            self.folder(&parent.1, name, joined, &entry)
        } else {
            self.other(&parent.1, name, &entry)
        };
        self.parent = Some(parent);
        result.map_err(|e| match e {
            // Only a hard link's target can be refused here.
            Errno::XDEV if entry.kind == EntryKind::HardLink && relative(&entry.link).is_none() => {
                escapes(&entry.link)
            }
            e => wrap(e),
        })?;
        self.sent.entries += u64::from(entry.kind != EntryKind::Directory);
        if entry.kind != EntryKind::File {
            return Ok(());
        }
        if let Some((_, pending)) = &mut self.file {
            *pending = entry;
        }
        Ok(())
    }

    /// The folder `path` below the target, made with its parents if it is not there. Taken out of the cache.
    fn parent(&mut self, path: &[u8]) -> OsResult<(Vec<u8>, OwnedFd)> {
        if let Some(cached) = self.parent.take_if(|(cached, _)| cached == path) {
            return Ok(cached);
        }
        if path.is_empty() {
            return Ok((Vec::new(), rustix::io::dup(&self.target)?));
        }
        let fd = match self.resolve(path, FOLDER) {
            Err(Errno::NOENT) => {
                let (above, name) = match path.iter().rposition(|&b| b == b'/') {
                    Some(at) => (&path[..at], &path[at + 1..]),
                    None => (&b""[..], path),
                };
                let above = self.parent(above)?;
                match rustix::fs::mkdirat(&above.1, name, Mode::from_raw_mode(0o755)) {
                    // A link that leads nowhere is in the way; opening it will say so.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                self.own(&above.1, name)?;
                self.resolve(path, FOLDER)?
            }
            other => other?,
        };
        Ok((path.to_vec(), fd))
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> OsResult<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.target, path, flags, Mode::empty(), how) {
                // A rename elsewhere raced with the look-up; the kernel asks to try again.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// Gives a folder that no entry describes to the owner that was asked for.
    fn own(&self, parent: &OwnedFd, name: &[u8]) -> OsResult<()> {
        match &self.owner {
            Some(ids) => rustix::fs::chownat(
                parent,
                name,
                uid(ids.uid),
                gid(ids.gid),
                AtFlags::SYMLINK_NOFOLLOW,
            ),
            None => Ok(()),
        }
    }

    fn ids(&self, entry: &Entry) -> (Option<Uid>, Option<Gid>) {
        let (u, g) = self
            .owner
            .as_ref()
            .map_or((entry.uid, entry.gid), |ids| (ids.uid, ids.gid));
        (uid(u), gid(g))
    }

    fn folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        entry: &Entry,
    ) -> OsResult<()> {
        // Also one that is there and stays as it is.
        self.sent.entries += 1;
        if name == b"." && !self.target_is_new {
            return Ok(());
        }
        if name != b"." {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                // What is a folder stays one, with its owner, its mode, and what is in it; a link to a folder stays a link.
                Err(Errno::EXIST) if self.resolve(&path, FOLDER).is_ok() => return Ok(()),
                Err(Errno::EXIST) => {
                    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
                }
                Err(e) => return Err(e),
            }
        }
        let path_or_dot: &[u8] = if path.is_empty() { b"." } else { &path };
        let fd = self.resolve(
            path_or_dot,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        )?;
        let (user, group) = self.ids(entry);
        rustix::fs::fchown(&fd, user, group)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode))?;
        self.open_folders.push((path, times(entry)));
        Ok(())
    }

    /// Everything but a folder.
    fn other(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> OsResult<()> {
        match self.create(parent, name, entry) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                self.create(parent, name, entry)?;
            }
            other => other?,
        }
        if matches!(entry.kind, EntryKind::File | EntryKind::HardLink) {
            // A file gets the rest when it is complete; a link has what its file has.
            return Ok(());
        }
        let (user, group) = self.ids(entry);
        rustix::fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.kind != EntryKind::Symlink {
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn create(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> OsResult<()> {
        let special = |kind, device| {
            rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        match entry.kind {
            EntryKind::File => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
                self.file = Some((fd, entry.clone()));
                Ok(())
            }
            EntryKind::HardLink => {
                let Some(parts) = relative(&entry.link) else {
                    return Err(Errno::XDEV);
                };
                let old = self.resolve(
                    &parts.join(&b'/'),
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                )?;
                rustix::fs::linkat(&old, c"", parent, name, AtFlags::EMPTY_PATH)
            }
            EntryKind::Symlink => rustix::fs::symlinkat(&entry.link[..], parent, name),
            EntryKind::CharDevice => special(FileType::CharacterDevice, device),
            EntryKind::BlockDevice => special(FileType::BlockDevice, device),
            EntryKind::Fifo => special(FileType::Fifo, 0),
            EntryKind::Directory => Ok(()),
        }
    }

    fn write(&mut self, mut data: &[u8]) -> Result<(), GuestError> {
        let Some((fd, entry)) = &self.file else {
            return Ok(());
        };
        self.sent.bytes += data.len() as u64;
        while !data.is_empty() {
            match rustix::io::write(fd, data) {
                Ok(n) => data = &data[n..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(os(&format!("write {:?}", text(&entry.path)), e)),
            }
        }
        Ok(())
    }

    /// The entry's content is complete.
    fn complete(&mut self) -> Result<(), GuestError> {
        let Some((fd, entry)) = self.file.take() else {
            return Ok(());
        };
        let (user, group) = self.ids(&entry);
        // In this order: a change of owner takes set-user-id away, and any change the time.
        rustix::fs::fchown(&fd, user, group)
            .and_then(|()| rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode)))
            .and_then(|()| rustix::fs::futimens(&fd, &times(&entry)))
            .map_err(|e| os(&format!("complete {:?}", text(&entry.path)), e))
    }

    /// Sets the times of all folders but the outermost `keep`.
    fn close_folders(&mut self, keep: usize) -> Result<(), GuestError> {
        for (path, times) in self.open_folders.drain(keep..).rev().collect::<Vec<_>>() {
            let dot: &[u8] = if path.is_empty() { b"." } else { &path };
            self.resolve(dot, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
                .and_then(|fd| rustix::fs::futimens(fd.as_fd(), &times))
                .map_err(|e| os(&format!("complete {:?}", text(&path)), e))?;
        }
        Ok(())
    }
}

fn uid(id: u32) -> Option<Uid> {
    // All ones means “leave it”.
    (id != u32::MAX).then(|| Uid::from_raw(id))
}

fn gid(id: u32) -> Option<Gid> {
    (id != u32::MAX).then(|| Gid::from_raw(id))
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nsec.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Whether `path` is below the folder `dir`, or is it.
fn contains(dir: &[u8], path: &[u8]) -> bool {
    dir.is_empty()
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn escapes(path: &[u8]) -> GuestError {
    failure(
        ErrorCode::PathEscapes,
        format_args!(
            "unpack {:?}, which leads out of the target folder",
            text(path)
        ),
    )
}
