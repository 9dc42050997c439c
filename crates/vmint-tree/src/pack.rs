//! A tree into an archive.

use crate::kernel::Kernels;
use crate::links::Links;
use crate::sink::{Broken, Sink, read};
use crate::walk::{self, Walk};
use crate::{Xattrs, holes, xattrs};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vmint_protocol::archive::{self, END, Entry, EntryKind, Segment};
use vmint_protocol::{LeftOut, Sent};

/// A file without a length is read into memory up to this.
const UNSIZED: usize = 8 << 20;
/// Bytes passed at once.
const PIECE: u64 = 1 << 20;
const ZEROS: [u8; 4096] = [0; 4096];

/// What the archive calls what is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As<'a> {
    /// By this name: a file, or a folder with what is in it.
    Named(&'a [u8]),
    /// A folder as `./`, and what is in it by its own names.
    Content,
}

/// What was packed: everything that can be, and the archive's end.
#[derive(Debug, Default)]
pub struct Packed {
    /// How much it is.
    pub sent: Sent,
    /// What stays behind.
    pub left_out: LeftOut,
    /// What could not be read, or not whole. The archive has zeros in the place of what is missing of a file.
    pub trouble: Option<Trouble>,
}

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The first.
    pub first: PackError,
    /// How many came after it.
    pub others: u64,
}

/// `open "/a": permission denied; and 2 more; everything else was sent`.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.others > 0 {
            write!(f, "; and {} more", self.others)?;
        }
        f.write_str("; everything else was sent")
    }
}

/// What could not be packed. To be read after “cannot”.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackError {
    /// What was tried, as a verb.
    pub what: &'static str,
    /// With which file.
    pub path: Vec<u8>,
    /// Why it failed.
    pub reason: Reason,
}

/// Why something could not be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The kernel said no.
    Os(Errno),
    /// A file ended before the length that it had.
    Shrunk,
    /// A file without a length does not end.
    Endless,
    /// A folder is elsewhere now.
    Moved,
    /// A name is longer than an archive may have.
    TooDeep,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => write!(f, "{errno}"),
            Self::Shrunk => f.write_str("it became shorter while it was copied"),
            Self::Endless => write!(f, "it has no length, and more than {UNSIZED} bytes"),
            Self::Moved => f.write_str("it was moved while it was copied"),
            Self::TooDeep => write!(f, "its path is over {} bytes", archive::MAX_NAME),
        }
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.path);
        write!(f, "{} {path:?}: {}", self.what, self.reason)
    }
}

/// Packs `path` and what is below it. A path that ends in a slash is followed, should it be a link.
///
/// An error is one of the tree's root, or of the sink, and leaves an archive without an end. All else is told in the end.
pub fn pack(
    path: &[u8],
    named: As<'_>,
    xattrs: Xattrs,
    sink: &mut impl Sink,
) -> Result<Packed, PackError> {
    let mut packer = Packer {
        sink,
        xattrs,
        path: path.to_vec(),
        name: Vec::new(),
        packed: Packed::default(),
        walk: Walk::default(),
        links: Links::default(),
        kernels: Kernels::default(),
        header: Vec::new(),
        root_is_made_up: false,
    };
    packer.all(named).map_err(|failed| match failed {
        Failed::File(error) => error,
        Failed::Sink(errno) => PackError {
            what: "send",
            path: packer.path.clone(),
            reason: Reason::Os(errno),
        },
    })?;
    Ok(packer.packed)
}

/// An entry without content, as its status describes it.
pub fn entry_of(path: &[u8], kind: EntryKind, stat: &Stat) -> Entry {
    let device = match kind {
        EntryKind::CharDevice | EntryKind::BlockDevice => (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ),
        _ => (0, 0),
    };
    Entry {
        path: path.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        mtime_nsec: stat.st_mtime_nsec as u32,
        device,
        ..Entry::default()
    }
}

/// Why it does not go on.
enum Failed {
    /// With this file; the others may be fine.
    File(PackError),
    /// Nobody takes the archive any more.
    Sink(Errno),
}

/// A folder that was packed, to be entered.
type Folder = Option<(OwnedFd, Stat)>;

struct Packer<'s, S> {
    sink: &'s mut S,
    xattrs: Xattrs,
    /// The file that is being packed, for errors.
    path: Vec<u8>,
    /// Its name in the archive.
    name: Vec<u8>,
    packed: Packed,
    walk: Walk,
    links: Links,
    kernels: Kernels,
    /// A header in the making.
    header: Vec<u8>,
    /// Whether the root is of a file system that the kernel makes up.
    root_is_made_up: bool,
}

impl<S: Sink> Packer<'_, S> {
    fn all(&mut self, named: As<'_>) -> Result<(), Failed> {
        let path = self.path.clone();
        let root = match named {
            As::Named(name) => {
                self.name = name.to_vec();
                let stat = rustix::fs::statat(CWD, &path[..], AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(|e| self.os("read", e))?;
                self.one(CWD, &path, FileType::from_raw_mode(stat.st_mode))?
            }
            // With the dot a link that is named is followed: its content was asked for.
            As::Content => self.folder(CWD, &[&path[..], b"/."].concat())?,
        };
        if let Some((folder, stat)) = root {
            self.root_is_made_up = self.is_kernels(&stat, &folder)?;
            let entered = self.walk.enter(folder, &stat);
            entered.map_err(|e| self.os("read", e))?;
            self.below()?;
        }
        self.sink.write(&END).map_err(Failed::Sink)?;
        self.sink.flush().map_err(Failed::Sink)
    }

    /// Packs what is below the root.
    fn below(&mut self) -> Result<(), Failed> {
        // Where the paths of the folders around end.
        let mut ends = Vec::new();
        while self.walk.depth() > 0 {
            let Some((child, kind)) = self.walk.next() else {
                if self.walk.leave().is_err() {
                    return Err(Failed::File(self.file("leave", Reason::Moved)));
                }
                if let Some((path, name)) = ends.pop() {
                    self.path.truncate(path);
                    self.name.truncate(name);
                }
                continue;
            };
            let end = (self.path.len(), self.name.len());
            if !self.path.ends_with(b"/") {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&child);
            if !self.name.is_empty() {
                self.name.push(b'/');
            }
            self.name.extend_from_slice(&child);
            match self.child(&child, kind) {
                Ok(true) => {
                    ends.push(end);
                    continue;
                }
                Ok(false) => {}
                Err(Failed::File(error)) => self.told(error),
                Err(failed) => return Err(failed),
            }
            self.path.truncate(end.0);
            self.name.truncate(end.1);
        }
        Ok(())
    }

    /// Packs a name of the innermost folder. Whether it is a folder that was entered.
    fn child(&mut self, child: &[u8], kind: FileType) -> Result<bool, Failed> {
        if self.name.len() >= archive::MAX_NAME {
            return Err(Failed::File(self.file("pack", Reason::TooDeep)));
        }
        let Some(at) = self.walk.folder() else {
            return Err(Failed::File(self.file("leave", Reason::Moved)));
        };
        let found = self.one(at.as_fd(), child, kind)?;
        let Some((folder, stat)) = found else {
            return Ok(false);
        };
        if !self.root_is_made_up && self.is_kernels(&stat, &folder)? {
            self.packed.left_out.mounts += 1;
            self.left_out();
            return Ok(false);
        }
        let entered = self.walk.enter(folder, &stat);
        entered.map_err(|e| self.os("read", e))?;
        Ok(true)
    }

    /// Packs a name of a folder. What went away meanwhile is no error, but for the root.
    fn one(&mut self, at: BorrowedFd<'_>, child: &[u8], kind: FileType) -> Result<Folder, Failed> {
        match kind {
            FileType::RegularFile => {
                // It may be a fifo by now: one without a writer would never be opened.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                match rustix::fs::openat(at, child, flags, Mode::empty()) {
                    Ok(file) => self.opened(&file).map(|()| None),
                    Err(Errno::LOOP | Errno::NXIO) => self.other(at, child),
                    Err(errno) => self.gone("open", errno),
                }
            }
            FileType::Directory => self.folder(at, child),
            _ => self.other(at, child),
        }
    }

    fn gone(&self, what: &'static str, errno: Errno) -> Result<Folder, Failed> {
        match errno {
            Errno::NOENT if self.walk.depth() > 0 => Ok(None),
            errno => Err(self.os(what, errno)),
        }
    }

    fn folder(&mut self, at: BorrowedFd<'_>, child: &[u8]) -> Result<Folder, Failed> {
        let folder = match walk::open(at, child) {
            Ok(folder) => folder,
            Err(Errno::LOOP | Errno::NOTDIR) if self.walk.depth() > 0 => {
                return self.other(at, child);
            }
            Err(errno) => return self.gone("open", errno),
        };
        let stat = rustix::fs::fstat(&folder).map_err(|e| self.os("read", e))?;
        let name = if self.name.is_empty() {
            b"./"
        } else {
            &self.name[..]
        };
        let mut entry = entry_of(name, EntryKind::Directory, &stat);
        self.xattrs(folder.as_fd(), &mut entry);
        self.send(&entry)?;
        Ok(Some((folder, stat)))
    }

    /// What is neither an ordinary file nor a folder, or was said to be one and is none.
    fn other(&mut self, at: BorrowedFd<'_>, child: &[u8]) -> Result<Folder, Failed> {
        let stat = match rustix::fs::statat(at, child, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return self.gone("read", errno),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let link = match rustix::fs::readlinkat(at, child, Vec::new()) {
                    Ok(link) => link.into_bytes(),
                    Err(errno) => return self.gone("read the link", errno),
                };
                let mut entry = entry_of(&self.name, EntryKind::Symlink, &stat);
                entry.link = link;
                return self.send(&entry).map(|()| None);
            }
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            // A file system that does not say in its folders what is what.
            FileType::RegularFile => return self.one(at, child, FileType::RegularFile),
            FileType::Directory => return self.folder(at, child),
            // A socket without its server is nothing.
            _ => {
                self.packed.left_out.sockets += 1;
                self.left_out();
                return Ok(None);
            }
        };
        let entry = entry_of(&self.name, kind, &stat);
        self.send(&entry).map(|()| None)
    }

    /// Packs a file that is open.
    fn opened(&mut self, file: &OwnedFd) -> Result<(), Failed> {
        // Of what was opened, should it be another file by now.
        let stat = rustix::fs::fstat(file).map_err(|e| self.os("read", e))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Fifo => EntryKind::Fifo,
            _ => return Err(Failed::File(self.file("read", Reason::Moved))),
        };
        let mut entry = entry_of(&self.name, kind, &stat);
        if kind != EntryKind::File {
            return self.send(&entry);
        }
        let known = self.links.known(file.as_fd(), &stat, &self.name);
        if let Some(first) = known.map_err(|e| self.os("read", e))? {
            entry.kind = EntryKind::HardLink;
            entry.link = first;
            return self.send(&entry);
        }
        self.xattrs(file.as_fd(), &mut entry);
        if stat.st_size == 0 || self.is_kernels(&stat, file)? {
            return self.unsized_file(file, entry);
        }
        entry.size = stat.st_size as u64;
        let pieces = holes::pieces(file.as_fd(), &stat).map_err(|e| self.os("read", e))?;
        match pieces {
            None => {
                self.send(&entry)?;
                self.content(file, entry.size)?;
                self.fill(archive::padding(entry.size) as u64)
            }
            Some(pieces) => self.pieces(file, &entry, &pieces),
        }
    }

    /// A file with holes.
    fn pieces(&mut self, file: &OwnedFd, entry: &Entry, pieces: &[Segment]) -> Result<(), Failed> {
        self.header.clear();
        archive::sparse_header(entry, pieces, &mut self.header);
        self.count(entry);
        self.sink.write(&self.header).map_err(Failed::Sink)?;
        for piece in pieces {
            let at = rustix::fs::SeekFrom::Start(piece.offset);
            match rustix::fs::seek(file, at) {
                Ok(_) => self.content(file, piece.len)?,
                Err(errno) => {
                    let error = self.file("read", Reason::Os(errno));
                    self.told(error);
                    self.fill(piece.len)?;
                }
            }
        }
        self.fill(archive::padding(archive::stored(pieces)) as u64)
    }

    /// A file whose length is not told, as most of the kernel's own are, and all that are empty.
    fn unsized_file(&mut self, file: &OwnedFd, mut entry: Entry) -> Result<(), Failed> {
        let mut content = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match read(file.as_fd(), &mut piece) {
                Ok(0) => break,
                Ok(n) if content.len() + n <= UNSIZED => content.extend_from_slice(&piece[..n]),
                Ok(_) => return Err(Failed::File(self.file("read", Reason::Endless))),
                Err(errno) => return Err(self.os("read", errno)),
            }
        }
        entry.size = content.len() as u64;
        self.send(&entry)?;
        self.sink.write(&content).map_err(Failed::Sink)?;
        self.fill(archive::padding(entry.size) as u64)
    }

    /// Sends exactly `size` bytes of a file. What it has no more is zeros, and told.
    fn content(&mut self, file: &OwnedFd, size: u64) -> Result<(), Failed> {
        let mut left = size;
        while left > 0 {
            let n = left.min(PIECE) as usize;
            let reason = match self.sink.pass(file.as_fd(), n) {
                Ok(0) => Reason::Shrunk,
                Ok(n) => {
                    left -= n as u64;
                    continue;
                }
                Err(Broken::Read(errno)) => Reason::Os(errno),
                Err(Broken::Send(errno)) => return Err(Failed::Sink(errno)),
            };
            let error = self.file("read", reason);
            self.told(error);
            return self.fill(left);
        }
        Ok(())
    }

    /// Sends zeros.
    fn fill(&mut self, mut left: u64) -> Result<(), Failed> {
        while left > 0 {
            let n = left.min(ZEROS.len() as u64);
            self.sink
                .write(&ZEROS[..n as usize])
                .map_err(Failed::Sink)?;
            left -= n;
        }
        Ok(())
    }

    fn send(&mut self, entry: &Entry) -> Result<(), Failed> {
        self.header.clear();
        archive::header(entry, &mut self.header);
        self.count(entry);
        self.sink.write(&self.header).map_err(Failed::Sink)
    }

    fn count(&mut self, entry: &Entry) {
        self.packed.sent.entries += 1;
        self.packed.sent.bytes += entry.size;
    }

    fn xattrs(&mut self, file: BorrowedFd<'_>, entry: &mut Entry) {
        if self.xattrs == Xattrs::Drop {
            return;
        }
        let found = xattrs::get(file);
        entry.xattrs = found.all;
        if found.lost > 0 {
            self.packed.left_out.xattrs += found.lost;
            self.left_out();
        }
    }

    fn is_kernels(&mut self, stat: &Stat, file: &OwnedFd) -> Result<bool, Failed> {
        let made = self.kernels.makes(stat.st_dev, file);
        made.map_err(|e| self.os("read", e))
    }

    /// Keeps the name of what is left out, if it is the first.
    fn left_out(&mut self) {
        let first = &mut self.packed.left_out.first;
        if first.is_empty() {
            let shown = self.path.len().min(LeftOut::MOST);
            first.extend_from_slice(&self.path[..shown]);
        }
    }

    fn told(&mut self, error: PackError) {
        match &mut self.packed.trouble {
            Some(trouble) => trouble.others += 1,
            none => {
                *none = Some(Trouble {
                    first: error,
                    others: 0,
                });
            }
        }
    }

    fn file(&self, what: &'static str, reason: Reason) -> PackError {
        PackError {
            what,
            path: self.path.clone(),
            reason,
        }
    }

    fn os(&self, what: &'static str, errno: Errno) -> Failed {
        Failed::File(self.file(what, Reason::Os(errno)))
    }
}
