//! The unpacker: a machine that is fed bytes and makes files.

use crate::attributes::times;
use crate::error::UnpackError;
use crate::folder::{CHANGE, Identity, NAMED, Target, WALK};
use crate::links::Made;
use crate::options::{Options, Root, Specials, Symlinks};
use crate::shown;
use crate::unpacked::Unpacked;
use rustix::fs::{AtFlags, FileType, Mode, Timestamps};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use vmint_protocol::archive::{Entry, EntryKind, Item, Parser, relative};
use vmint_tree::{Draft, Drafts, Xattrs};

/// Bytes read at once.
const PIECE: usize = 128 << 10;

/// Unpacks what a stream holds below a folder. Reads the stream to its end.
pub fn unpack(
    mut tar: impl Read,
    folder: OwnedFd,
    options: Options,
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker::new(folder, options);
    let mut piece = vec![0; PIECE];
    loop {
        match tar.read(&mut piece) {
            Ok(0) => return unpacker.finish(),
            Ok(n) => unpacker.push(&piece[..n])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(UnpackError::Read(e)),
        }
    }
}

/// Unpacks an archive below one folder, as its bytes arrive. After an error it must not be used again.
#[derive(Debug)]
pub struct Unpacker {
    parser: Parser,
    target: Target,
    pub(crate) options: Options,
    /// The first top-level name, when it is renamed; empty for an archive of `./…`.
    top: Option<Vec<u8>>,
    /// The folder that was used last: most entries have the same one as the entry before.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// The file that is being written.
    file: Option<File>,
    /// Folders that were made and may still be filled, outermost first. Each is in the one before.
    open: Vec<Open>,
    /// The path of the last of them; those of the others are its beginnings.
    deepest: Vec<u8>,
    made: Made,
    drafts: Drafts,
    pub(crate) unpacked: Unpacked,
}

/// A file that is being written, and its entry. It has its name when it is whole.
#[derive(Debug)]
struct File {
    draft: Draft,
    path: Vec<u8>,
    entry: Entry,
}

/// A folder that was made and gets its owner, mode and times once nothing more is put into it.
#[derive(Debug)]
struct Open {
    /// Length of its path.
    len: usize,
    identity: Identity,
    owner: (u32, u32),
    mode: Mode,
    times: Timestamps,
}

impl Unpacker {
    /// Unpacks below this folder.
    pub fn new(folder: OwnedFd, options: Options) -> Self {
        let parser = Parser::default().taking_holes();
        let parser = match options.xattrs {
            Xattrs::Keep => parser.keeping_xattrs(),
            Xattrs::Drop => parser,
        };
        Self {
            parser,
            target: Target::new(folder),
            options,
            top: None,
            parent: None,
            file: None,
            open: Vec::new(),
            deepest: Vec::new(),
            made: Made::default(),
            drafts: Drafts::default(),
            unpacked: Unpacked::default(),
        }
    }

    /// Takes the next bytes of the archive.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        while let Some(item) = self.parser.next(&mut bytes).map_err(UnpackError::Archive)? {
            match item {
                Item::Entry(entry) => self.begin(*entry)?,
                Item::Data(data) => {
                    let len = data.len() as u64;
                    self.content(len, |draft| draft.write(data))?;
                }
                Item::Hole(len) => self.content(len, |draft| draft.hole(len))?,
                Item::Done => self.complete()?,
                Item::End => self.close(0)?,
            }
        }
        Ok(())
    }

    /// All of the archive was pushed.
    pub fn finish(mut self) -> Result<Unpacked, UnpackError> {
        self.parser.finish().map_err(UnpackError::Archive)?;
        self.close(0)?;
        Ok(self.unpacked)
    }

    fn begin(&mut self, entry: Entry) -> Result<(), UnpackError> {
        let Some(path) = self.place(&entry.path)? else {
            // The target itself, which is there: only a folder can be that.
            return match entry.kind {
                EntryKind::Directory => self.root(&entry),
                _ => Err(escapes(&entry.path)),
            };
        };
        let around = |open: &&Open| open.len == 0 || contains(&self.deepest[..open.len], &path);
        self.close(self.open.iter().take_while(around).count())?;
        let (folder, name) = split(&path);
        match entry.kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => return self.skip(&entry),
            EntryKind::Fifo if self.options.specials == Specials::Refuse => {
                return self.skip(&entry);
            }
            EntryKind::Symlink if !self.may_link(&entry) => {
                return Err(UnpackError::LinkElsewhere {
                    path: shown(&entry.path),
                });
            }
            _ => {}
        }
        let parent = self.folder(folder)?;
        let result = match entry.kind {
            EntryKind::Directory => {
                // It is the next one's parent, rather.
                self.make_folder(&parent.1, name, &path, &entry)
            }
            EntryKind::File => self.make_file(&parent.1, &path, entry),
            EntryKind::HardLink => self.hard_link(&parent.1, name, &path, &entry),
            EntryKind::Fifo => replace(&path, &parent.1, name, || {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(&parent.1, name, FileType::Fifo, mode, 0)
            })
            .and_then(|()| self.pipe_attributes(&parent.1, name, &path, &entry)),
            _ => replace(&path, &parent.1, name, || {
                rustix::fs::symlinkat(&entry.link[..], &parent.1, name)
            })
            .and_then(|()| self.link_attributes(&parent.1, name, &path, &entry)),
        };
        self.parent.get_or_insert(parent);
        self.unpacked.entries += 1;
        result
    }

    /// Where an entry goes, below the target: its components, the first renamed, joined. `None` for the target itself.
    fn place(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>, UnpackError> {
        let mut parts = relative(name).ok_or_else(|| escapes(name))?;
        if let Some(new) = &self.options.rename {
            let top = parts.first().copied().unwrap_or_default();
            let first = self.top.get_or_insert_with(|| top.to_vec());
            if first.is_empty() {
                // Of an archive of `./…` that is the folder itself.
                parts.insert(0, new);
            } else if first == top {
                parts[0] = new;
            } else {
                return Err(UnpackError::ManyNames {
                    first: shown(first),
                    second: shown(name),
                    name: shown(new),
                });
            }
        }
        Ok((!parts.is_empty()).then(|| parts.join(&b'/')))
    }

    /// The folder with this path, made with its parents where it is missing; kept open for the next entry.
    fn folder(&mut self, path: &[u8]) -> Result<(Vec<u8>, OwnedFd), UnpackError> {
        if let Some(parent) = self.parent.take_if(|(known, _)| known == path) {
            return Ok(parent);
        }
        self.parent = None;
        let fd = match self.target.open(path, WALK) {
            // No entry describes it.
            Err(Errno::NOENT) if !path.is_empty() => self.make_all(path)?,
            other => other.map_err(|errno| self.not_a_folder(path, errno))?,
        };
        Ok((path.to_vec(), fd))
    }

    /// Makes what is missing of a path's folders. Step by step, and not by calling itself: an archive may name thousands.
    fn make_all(&self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        let failed = |errno| self.not_a_folder(path, errno);
        let mut folder = self.target.open(b"", WALK).map_err(failed)?;
        let mut end = 0;
        for part in path.split(|&b| b == b'/') {
            end += part.len();
            let path = &path[..end];
            let failed = |errno| self.not_a_folder(path, errno);
            let open = |at: &OwnedFd| rustix::fs::openat(at, part, WALK, Mode::empty());
            folder = match open(&folder) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                        // Something is in the way after all; opening it says what.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(UnpackError::io("make the folder", path)(errno)),
                    }
                    open(&folder).map_err(failed)?
                }
                other => other.map_err(failed)?,
            };
            end += 1;
        }
        Ok(folder)
    }

    /// Why a folder cannot be opened.
    fn not_a_folder(&self, path: &[u8], errno: Errno) -> UnpackError {
        let is_link = || {
            let found = self.target.open(path, NAMED).and_then(rustix::fs::fstat);
            found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        };
        let path_shown = shown(path);
        match errno {
            Errno::LOOP => UnpackError::ThroughLink { path: path_shown },
            Errno::NOTDIR if is_link() => UnpackError::ThroughLink { path: path_shown },
            Errno::NOTDIR => UnpackError::InTheWay {
                path: path_shown,
                found: "a file",
            },
            errno => UnpackError::io("open the folder", path)(errno),
        }
    }

    fn make_folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let failed = UnpackError::io("make the folder", path);
        let made = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed(errno)),
        };
        let flags = if made { CHANGE } else { WALK };
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty());
        let fd = fd.map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => UnpackError::InTheWay {
                path: shown(path),
                found: "something that is not a folder",
            },
            errno => failed(errno),
        })?;
        if made {
            self.keep_open(&fd, path, entry)?;
        }
        self.parent = Some((path.to_vec(), fd));
        Ok(())
    }

    /// The entry of the target itself, which is there. It gets what an entry says if it was made for this archive.
    fn root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        self.close(0)?;
        if self.options.root == Root::New {
            let fd = self.target.open(b"", CHANGE);
            let fd = fd.map_err(UnpackError::io("open the folder", b"."))?;
            self.keep_open(&fd, b"", entry)?;
            self.unpacked.entries += 1;
        }
        Ok(())
    }

    /// Keeps a folder that was made, and what it will get.
    fn keep_open(&mut self, fd: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let failed = UnpackError::io("make the folder", path);
        if self.set_xattrs(fd.as_fd(), entry) {
            // An access list is a mode, too; until the folder is filled it is ours.
            rustix::fs::fchmod(fd, Mode::RWXU).map_err(&failed)?;
        }
        let open = Open {
            len: path.len(),
            identity: Identity::of(fd).map_err(failed)?,
            owner: (entry.uid, entry.gid),
            mode: self.mode(entry),
            times: times(entry),
        };
        self.open.push(open);
        self.deepest.clear();
        self.deepest.extend_from_slice(path);
        Ok(())
    }

    fn make_file(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        entry: Entry,
    ) -> Result<(), UnpackError> {
        let draft = self.drafts.begin(parent.as_fd());
        let draft = draft.map_err(UnpackError::io("make", path))?;
        let remembered = self.made.remember(draft.file());
        remembered.map_err(UnpackError::io("read", path))?;
        self.file = Some(File {
            draft,
            path: path.to_vec(),
            entry,
        });
        Ok(())
    }

    fn hard_link(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let foreign = || UnpackError::ForeignLink {
            path: shown(&entry.path),
            link: shown(&entry.link),
        };
        let link = match self.place(&entry.link) {
            Ok(Some(link)) => link,
            Ok(None) | Err(UnpackError::ManyNames { .. }) => return Err(foreign()),
            Err(error) => return Err(error),
        };
        let file = match self.target.open(&link, NAMED) {
            Ok(file) => file,
            Err(Errno::NOSYS) => return Err(UnpackError::Kernel),
            Err(_) => return Err(foreign()),
        };
        let ours = self.made.contains(&file);
        if !ours.map_err(UnpackError::io("read", &link))? {
            return Err(foreign());
        }
        if link == path {
            // Itself: it is there, and must not be lost.
            return Ok(());
        }
        // By descriptor: what was looked at is what is linked.
        replace(path, parent, name, || {
            vmint_tree::link(file.as_fd(), parent.as_fd(), name)
        })
    }

    fn may_link(&self, entry: &Entry) -> bool {
        match self.options.symlinks {
            Symlinks::All => true,
            Symlinks::Descending => relative(&entry.link).is_some_and(|parts| !parts.is_empty()),
        }
    }

    fn skip(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let skipped = &mut self.unpacked.skipped;
        match (self.options.specials, entry.kind) {
            (Specials::Refuse, _) => {
                let path = shown(&entry.path);
                return Err(UnpackError::Special { path });
            }
            (Specials::PipesAlone, _) => skipped.devices += 1,
        }
        skipped.first.get_or_insert_with(|| shown(&entry.path));
        Ok(())
    }

    /// Hands a part of the content, of so many bytes, on to be written.
    fn content(
        &mut self,
        len: u64,
        write: impl FnOnce(&mut Draft) -> Result<(), Errno>,
    ) -> Result<(), UnpackError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        write(&mut file.draft).map_err(UnpackError::io("write", &file.path))?;
        self.unpacked.bytes = self.unpacked.bytes.saturating_add(len);
        Ok(())
    }

    /// The entry's content is complete.
    fn complete(&mut self) -> Result<(), UnpackError> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let failed = UnpackError::io("complete", &file.path);
        file.draft.complete().map_err(&failed)?;
        self.file_attributes(file.draft.file(), &file.path, &file.entry)?;
        let (folder, name) = split(&file.path);
        let parent = self.folder(folder)?;
        let placed = file.draft.place(parent.1.as_fd(), name);
        self.parent = Some(parent);
        placed.map_err(|errno| match errno {
            Errno::ISDIR => UnpackError::InTheWay {
                path: shown(&file.path),
                found: "a folder",
            },
            errno => failed(errno),
        })
    }

    /// Gives all open folders but the outermost `keep` their modes and times. Inner ones first, so that an outer one can
    /// still be entered.
    fn close(&mut self, keep: usize) -> Result<(), UnpackError> {
        while self.open.len() > keep
            && let Some(open) = self.open.pop()
        {
            let path = &self.deepest[..open.len];
            // Whoever else may write here may have put another folder, or a link, in its place.
            let replaced = |errno| match errno {
                Errno::NOENT | Errno::LOOP | Errno::NOTDIR => {
                    UnpackError::Replaced { path: shown(path) }
                }
                errno => UnpackError::io("complete the folder", path)(errno),
            };
            let fd = self.target.open(path, CHANGE).map_err(replaced)?;
            if Identity::of(&fd).map_err(replaced)? != open.identity {
                return Err(UnpackError::Replaced { path: shown(path) });
            }
            let failed = UnpackError::io("complete the folder", path);
            let path = path.to_vec();
            self.own(fd.as_fd(), open.owner, &path)?;
            rustix::fs::fchmod(&fd, open.mode)
                .and_then(|()| rustix::fs::futimens(&fd, &open.times))
                .map_err(failed)?;
        }
        let len = self.open.last().map_or(0, |open| open.len);
        self.deepest.truncate(len);
        Ok(())
    }
}

/// Makes something with a name that is free, or becomes free by unlinking what is there.
fn replace<T>(
    path: &[u8],
    parent: &OwnedFd,
    name: &[u8],
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, UnpackError> {
    let failed = UnpackError::io("make", path);
    match make() {
        Err(Errno::EXIST) => {
            match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                // Another process was faster.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => {
                    return Err(UnpackError::InTheWay {
                        path: shown(path),
                        found: "a folder",
                    });
                }
                Err(errno) => return Err(UnpackError::io("replace", path)(errno)),
            }
            make().map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// A path's folder and its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Whether `path` is below the folder `dir`.
fn contains(dir: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn escapes(path: &[u8]) -> UnpackError {
    UnpackError::Escapes { path: shown(path) }
}
