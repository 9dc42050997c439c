//! Unpacking a tar stream as it arrives: each piece goes from the port's read buffer straight into its file.
//!
//! *Nothing is written outside the target folder.* Names that are absolute or contain `..` are refused. Folders on the
//! way are opened with `openat2(RESOLVE_IN_ROOT)`: the kernel resolves every link in them, be it the image's own
//! (`/lib` → `usr/lib`, with the target `/`) or one that the archive has just made, as if the target were the root. The
//! last component of a name is never followed: it is created with `O_EXCL`, and what was there before is replaced; a folder
//! that was there stays, with its owner, mode and times. A file gets its name when it is whole ([`writing`](crate::writing)).

use crate::exec::{self, failure, os, text};
use crate::spawn::Ids;
use crate::writing::Writing;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result as OsResult};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use vmint_protocol::archive::{Entry, EntryKind, Item, Parser, relative};
use vmint_protocol::{Credit, ErrorCode, GuestError, LeftOut, Partly, TarIn};
use vmint_tree::xattrs::{self, Meaning};
use vmint_tree::{Drafts, deep, link};

/// A path for a folder only.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

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
    file: Option<(Entry, Writing)>,
    drafts: Drafts,
    /// Folders whose times are set once nothing more is put into them, outermost first.
    open_folders: Vec<(Vec<u8>, Timestamps)>,
    credit: Credit,
    done: Partly,
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
                format_args!("unpack to {shown:?}, which is not an absolute path"),
            ));
        }
        let target_is_new = !path.exists();
        std::fs::create_dir_all(path).map_err(|e| {
            let error = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            os(&format!("create the folder {shown:?}"), error)
        })?;
        let target = rustix::fs::open(path, FOLDER, Mode::empty());
        Ok(Self {
            parser: Parser::default().keeping_xattrs().taking_holes(),
            target: target.map_err(|e| os(&format!("open the folder {shown:?}"), e))?,
            target_is_new,
            owner,
            parent: None,
            file: None,
            drafts: Drafts::default(),
            open_folders: Vec::new(),
            credit: Credit::default(),
            done: Partly::default(),
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
                Some(Item::Data(data)) => {
                    self.content(|writing, at, drafts, size| writing.data(at, drafts, data, size))?;
                }
                Some(Item::Hole(len)) => {
                    self.content(|writing, at, drafts, _| writing.hole(at, drafts, len))?;
                }
                Some(Item::Done) => self.complete()?,
                Some(Item::End) => self.close_folders(0)?,
            }
        }
    }

    /// The host has sent everything.
    pub fn finish(&mut self) -> Result<Partly, GuestError> {
        self.parser
            .finish()
            .map_err(|e| failure(ErrorCode::Invalid, format_args!("unpack the archive: {e}")))?;
        self.close_folders(0)?;
        Ok(std::mem::take(&mut self.done))
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
        let parent = self.parent(parent).map_err(wrap)?;
        let result = match entry.kind {
            EntryKind::Directory => self.folder(&parent.1, name, joined, &entry),
            // It is made when its content is here.
            EntryKind::File => Ok(()),
            _ => self.other(&parent.1, name, &entry),
        };
        self.parent = Some(parent);
        result.map_err(|e| match e {
            // Only a hard link's target can be refused here.
            Errno::XDEV if entry.kind == EntryKind::HardLink && relative(&entry.link).is_none() => {
                escapes(&entry.link)
            }
            e => wrap(e),
        })?;
        self.done.sent.entries += u64::from(entry.kind != EntryKind::Directory);
        if entry.kind == EntryKind::File {
            self.done.sent.bytes += entry.size;
            let writing = Writing::of(name);
            self.file = Some((entry, writing));
        }
        Ok(())
    }

    /// The folder of these components below the target, made with its parents if it is not there. Taken out of the cache.
    fn parent(&mut self, parts: &[&[u8]]) -> OsResult<(Vec<u8>, OwnedFd)> {
        let path = parts.join(&b'/');
        if let Some(cached) = self.parent.take_if(|(cached, _)| *cached == path) {
            return Ok(cached);
        }
        match self.resolve(&path, FOLDER) {
            Ok(folder) => return Ok((path, folder)),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
        // Step by step, and not by calling itself: an archive may name thousands of folders.
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut folder = rustix::io::dup(&self.target)?;
        let mut end = 0;
        for part in parts {
            end += part.len();
            let open = |at: &OwnedFd| deep::open(at.as_fd(), part, FOLDER, beneath);
            folder = match open(&folder) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&folder, *part, Mode::from_raw_mode(0o755)) {
                        // A link that leads nowhere is in the way; opening it will say so.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                    self.own(&folder, part)?;
                    open(&folder)?
                }
                // A link, as the image has them: within the target.
                Err(Errno::LOOP | Errno::NOTDIR) => self.resolve(&path[..end], FOLDER)?,
                other => other?,
            };
            end += 1;
        }
        Ok((path, folder))
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> OsResult<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        deep::open(self.target.as_fd(), path, flags, how)
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

    /// The mode that an entry gets: set-id bits stay behind with an owner that does.
    fn mode(&mut self, entry: &Entry) -> Mode {
        let mut mode = entry.mode;
        if let Some(ids) = &self.owner {
            if ids.uid != entry.uid {
                mode &= !SET_USER_ID;
            }
            if ids.gid != entry.gid && entry.kind != EntryKind::Directory {
                mode &= !SET_GROUP_ID;
            }
        }
        if mode != entry.mode {
            self.done.left_out.powers += 1;
            self.left_out(entry);
        }
        Mode::from_raw_mode(mode)
    }

    fn left_out(&mut self, entry: &Entry) {
        let first = &mut self.done.left_out.first;
        if first.is_empty() {
            first.extend_from_slice(&entry.path[..entry.path.len().min(LeftOut::MOST)]);
        }
    }

    /// Owner, mode, extended attributes and times of what is open.
    fn attributes(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> OsResult<()> {
        let (user, group) = self.ids(entry);
        let mode = self.mode(entry);
        // In this order: a change of owner takes set-user-id and capabilities away, one of the mode an access list, and
        // any change the time.
        rustix::fs::fchown(file, user, group)?;
        rustix::fs::fchmod(file, mode)?;
        for (name, value) in &entry.xattrs {
            match xattrs::meaning(name) {
                Meaning::Foreign => continue,
                Meaning::Power if self.owner.is_some() => self.done.left_out.powers += 1,
                _ if xattrs::set(file, name, value).is_ok() => continue,
                _ => self.done.left_out.xattrs += 1,
            }
            self.left_out(entry);
        }
        rustix::fs::futimens(file, &times(entry))
    }

    fn folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        entry: &Entry,
    ) -> OsResult<()> {
        // Also one that is there and stays as it is.
        self.done.sent.entries += 1;
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
        let fd = self.resolve(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        self.attributes(fd.as_fd(), entry)?;
        self.open_folders.push((path, times(entry)));
        Ok(())
    }

    /// Everything but a folder and a file.
    fn other(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> OsResult<()> {
        match self.create(parent, name, entry) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                self.create(parent, name, entry)?;
            }
            other => other?,
        }
        if entry.kind == EntryKind::HardLink {
            // It has what its file has.
            return Ok(());
        }
        let (user, group) = self.ids(entry);
        rustix::fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.kind != EntryKind::Symlink {
            let mode = self.mode(entry);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn create(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> OsResult<()> {
        let special = |kind, device| {
            rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        match entry.kind {
            EntryKind::HardLink => {
                let Some(parts) = relative(&entry.link) else {
                    return Err(Errno::XDEV);
                };
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let old = self.resolve(&parts.join(&b'/'), flags)?;
                link(old.as_fd(), parent.as_fd(), name)
            }
            EntryKind::Symlink => rustix::fs::symlinkat(&entry.link[..], parent, name),
            EntryKind::CharDevice => special(FileType::CharacterDevice, device),
            EntryKind::BlockDevice => special(FileType::BlockDevice, device),
            EntryKind::Fifo => special(FileType::Fifo, 0),
            EntryKind::Directory | EntryKind::File => Ok(()),
        }
    }

    /// Hands a part of the content of a file, if the entry is one, on to be written.
    fn content(
        &mut self,
        write: impl FnOnce(&mut Writing, BorrowedFd<'_>, &mut Drafts, u64) -> OsResult<()>,
    ) -> Result<(), GuestError> {
        let (Some((entry, writing)), Some((_, parent))) = (&mut self.file, &self.parent) else {
            return Ok(());
        };
        let written = write(writing, parent.as_fd(), &mut self.drafts, entry.size);
        written.map_err(|e| os(&format!("write {:?}", text(&entry.path)), e))
    }

    /// The entry's content is complete.
    fn complete(&mut self) -> Result<(), GuestError> {
        self.content(|writing, at, drafts, _| writing.begin(at, drafts))?;
        let Some((entry, writing)) = self.file.take() else {
            return Ok(());
        };
        let Some((path, parent)) = self.parent.take() else {
            return Ok(());
        };
        let ended = writing.end().and_then(|ended| {
            self.attributes(ended.file(), &entry)?;
            ended.place(parent.as_fd())
        });
        self.parent = Some((path, parent));
        ended.map_err(|e| os(&format!("complete {:?}", text(&entry.path)), e))
    }

    /// Sets the times of all folders but the outermost `keep`.
    fn close_folders(&mut self, keep: usize) -> Result<(), GuestError> {
        for (path, times) in self.open_folders.drain(keep..).rev().collect::<Vec<_>>() {
            self.resolve(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
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
