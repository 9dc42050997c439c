//! The folders between a tree's root and where its walk is. A tree may be deeper than a process may have files open, so that
//! outer folders are closed and found again by `..`, and known by what the kernel says of them.

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Folders that are open at most.
const OPEN: usize = 64;
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A name in a folder, and what it is, if the file system tells.
pub(crate) type Name = (Vec<u8>, FileType);

#[derive(Debug)]
struct Level {
    names: std::vec::IntoIter<Name>,
    folder: Option<Rc<OwnedFd>>,
    identity: (u64, u64),
}

/// The folders under way, outermost first.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    levels: Vec<Level>,
    /// How many of the outermost are closed.
    closed: usize,
}

/// Opens a folder, and no link to one.
pub(crate) fn open(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, name, FOLDER, Mode::empty())
}

impl Walk {
    /// How deep it is.
    pub(crate) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Goes into a folder that was opened.
    pub(crate) fn enter(&mut self, folder: OwnedFd, stat: &Stat) -> Result<(), Errno> {
        let names = names(&folder)?.into_iter();
        self.levels.push(Level {
            names,
            folder: Some(Rc::new(folder)),
            identity: (stat.st_dev, stat.st_ino),
        });
        if self.levels.len() - self.closed > OPEN {
            self.levels[self.closed].folder = None;
            self.closed += 1;
        }
        Ok(())
    }

    /// The next name of the innermost folder.
    pub(crate) fn next(&mut self) -> Option<Name> {
        self.levels.last_mut()?.names.next()
    }

    /// The innermost folder.
    pub(crate) fn folder(&self) -> Option<Rc<OwnedFd>> {
        self.levels.last()?.folder.clone()
    }

    /// Goes back into the folder around the innermost. An error if it was moved elsewhere meanwhile.
    pub(crate) fn leave(&mut self) -> Result<(), Errno> {
        let left = self.levels.pop();
        let Some(around) = self.levels.last_mut() else {
            return Ok(());
        };
        if around.folder.is_none() {
            let left = left.and_then(|level| level.folder).ok_or(Errno::STALE)?;
            let folder = open(left.as_fd(), b"..")?;
            let stat = rustix::fs::fstat(&folder)?;
            if (stat.st_dev, stat.st_ino) != around.identity {
                return Err(Errno::STALE);
            }
            around.folder = Some(Rc::new(folder));
            self.closed -= 1;
        }
        Ok(())
    }
}

/// The names in a folder, sorted: the same tree gives the same archive.
fn names(folder: &OwnedFd) -> Result<Vec<Name>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}
