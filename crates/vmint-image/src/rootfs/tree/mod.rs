//! A root file system in a folder that belongs to this user, whoever that is.
//!
//! The folder has names, contents and links. Owners, modes, times, devices and extended attributes are kept beside it: a plain
//! user cannot set them all, and a set-user-id program or a device of a guest has no business on the host's disk. The same
//! holds when this user is root: there is one way, and it is the tested one.
//!
//! What is kept belongs to an inode, which all names of a file share, and is found by the inode's number. The host gives a
//! number out again as soon as nothing has it, so what is kept goes with the last name ([`Tree::forget`]), and whatever is made is
//! written down as new.
//!
//! The host's own times are in nothing that a tree says: two trees that were made by the same calls are equal, whenever that was.
//!
//! Nothing that is done through a tree leaves its folder: every path is resolved by the kernel with the folder as its
//! root (`openat2`, `RESOLVE_IN_ROOT`), symlinks included, and the last component is never followed.
//!
//! * `attributes`: what is kept beside the folder.
//! * `read`: what is in a tree; `remove`: what goes from it.

mod attributes;
mod read;
mod remove;
#[cfg(test)]
mod tests;

pub(crate) use attributes::{Attributes, Special};

use super::host::{Copied, OPEN_DIR, copy_sparse, invalid, names, trim};
use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What a block of the disk holds; a folder has one at least.
const BLOCK: u64 = 4096;

/// How many links one path may lead through, as for the kernel.
const LINKS: usize = 40;

/// A root file system in the making.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    nodes: HashMap<u64, Node>,
    /// Inodes that were made since [`next_layer`](Self::next_layer).
    layer: HashSet<u64>,
    /// The newest time that was told.
    newest: i64,
}

/// What is known of an inode.
#[derive(Debug)]
struct Node {
    attributes: Attributes,
    /// Bytes of its content that are no holes.
    data: u64,
}

/// Where a path leads: the folder that has the entry, and the entry's name.
struct Place {
    dir: OwnedFd,
    name: OsString,
}

impl Tree {
    /// An empty tree in a new folder.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().create(path)?;
        sys::chmod(path, Mode::RWXU)?;
        let root = sys::open(path, OPEN_DIR | OFlags::RDONLY, Mode::empty())?;
        let mut tree = Self {
            path: path.to_owned(),
            root,
            nodes: HashMap::new(),
            layer: HashSet::new(),
            newest: 0,
        };
        tree.remember(sys::fstat(&tree.root)?.st_ino, Attributes::root(0o755), 0);
        Ok(tree)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of a file, but for its time.
    #[cfg(test)]
    pub(crate) fn timeless(&self, path: &str) -> Attributes {
        use std::os::unix::fs::MetadataExt;
        let inode = std::fs::symlink_metadata(self.path().join(path))
            .unwrap()
            .ino();
        Attributes {
            mtime: None,
            ..self.attributes_of(inode).unwrap().clone()
        }
    }

    /// What is kept beside the folder for the file with this inode number.
    pub(crate) fn attributes_of(&self, inode: u64) -> Option<&Attributes> {
        self.nodes.get(&inode).map(|node| &node.attributes)
    }

    /// The newest time that the tree was told, in seconds since 1970.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    /// Bytes of all files, folders and links, in blocks as the disk will have them. As this tree has counted them: what the host's
    /// file system takes for them differs from one to the next, and the size of a disk is part of its image.
    pub(crate) fn content_size(&self) -> u64 {
        let blocks = |node: &Node| node.data.next_multiple_of(BLOCK);
        self.nodes.values().map(blocks).sum()
    }

    /// From here on everything that is there belongs to a lower layer.
    pub(crate) fn next_layer(&mut self) {
        self.layer.clear();
    }

    fn open_beneath(&self, path: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() {
            OsStr::new(".")
        } else {
            path
        };
        sys::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    }

    /// Finds where a path leads, making missing folders. `None` for the root itself. A path with `..` is resolved like
    /// any other, and never leaves the root.
    fn place(&mut self, path: &Path) -> io::Result<Option<Place>> {
        let path = Path::new(OsStr::from_bytes(trim(path.as_os_str().as_bytes())));
        let Some(name) = path.file_name() else {
            // Empty, or ending in `..`: nothing that an entry can be made as.
            return if path.as_os_str().is_empty() {
                Ok(None)
            } else {
                Err(invalid("a path that ends in “..”"))
            };
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = match self.open_beneath(parent.as_os_str(), OFlags::DIRECTORY | OFlags::RDONLY) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.directory(parent, None)?;
                self.open_beneath(parent.as_os_str(), OFlags::DIRECTORY | OFlags::RDONLY)?
            }
            Err(e) => return Err(e.into()),
        };
        Ok(Some(Place {
            dir,
            name: name.to_owned(),
        }))
    }

    /// Makes a folder; keeps one that is there. `None` leaves the attributes of one that is there alone.
    pub(crate) fn directory(
        &mut self,
        path: &Path,
        attributes: Option<Attributes>,
    ) -> io::Result<()> {
        let (inode, is_new) = match self.place(path)? {
            None => (sys::fstat(&self.root)?.st_ino, false),
            Some(place) => {
                let is_new = match sys::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                        false
                    }
                    // A link to a folder serves as one when nobody asks for a folder of this very name.
                    Ok(stat)
                        if attributes.is_none()
                            && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
                            && self.is_dir(path) =>
                    {
                        return Ok(());
                    }
                    Ok(_) => {
                        self.clear(&place)?;
                        true
                    }
                    Err(Errno::NOENT) => true,
                    Err(e) => return Err(e.into()),
                };
                if is_new {
                    sys::mkdirat(&place.dir, &place.name, Mode::RWXU)?;
                }
                let stat = sys::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
                (stat.st_ino, is_new)
            }
        };
        match attributes {
            Some(attributes) => self.remember(inode, attributes, BLOCK),
            None if is_new => self.remember(inode, Attributes::root(0o755), BLOCK),
            None => drop(self.layer.insert(inode)),
        }
        Ok(())
    }

    /// Makes a folder where this path leads, links followed, whether what they name is there or not; leaves alone what is
    /// there already, of whatever kind.
    pub(crate) fn directory_behind_links(&mut self, path: &str) -> io::Result<()> {
        if self.exists(path) {
            return Ok(());
        }
        let (mut at, mut links) = (PathBuf::new(), 0);
        let mut left: Vec<OsString> = Vec::new();
        let push = |left: &mut Vec<OsString>, path: &Path| {
            let parts = path.components().rev();
            left.extend(parts.map(|part| part.as_os_str().to_owned()));
        };
        push(&mut left, Path::new(path));
        while let Some(part) = left.pop() {
            match Path::new(&part).components().next() {
                Some(Component::Normal(name)) => at.push(name),
                Some(Component::ParentDir) => drop(at.pop()),
                Some(Component::RootDir) => at.clear(),
                _ => {}
            }
            match self.open_beneath(at.as_os_str(), OFlags::PATH | OFlags::NOFOLLOW) {
                Err(Errno::NOENT) => self.directory(&at, None)?,
                Err(e) => return Err(e.into()),
                Ok(there) => match FileType::from_raw_mode(sys::fstat(&there)?.st_mode) {
                    FileType::Directory => {}
                    FileType::Symlink if links < LINKS => {
                        links += 1;
                        let target = sys::readlinkat(&there, "", Vec::new())?;
                        at.pop();
                        push(&mut left, Path::new(OsStr::from_bytes(target.to_bytes())));
                    }
                    FileType::Symlink => return Err(Errno::LOOP.into()),
                    _ => return Err(Errno::NOTDIR.into()),
                },
            }
        }
        Ok(())
    }

    /// Writes down what was made, or what an entry says of a folder that is there.
    fn remember(&mut self, inode: u64, mut attributes: Attributes, data: u64) {
        self.newest = self.newest.max(attributes.mtime.unwrap_or(0));
        attributes.mtime.get_or_insert(self.newest);
        self.nodes.insert(inode, Node { attributes, data });
        self.layer.insert(inode);
    }

    fn place_for_new(&mut self, path: &Path) -> io::Result<Place> {
        let place = self
            .place(path)?
            .ok_or_else(|| invalid("the root can only be a folder"))?;
        self.clear(&place)?;
        Ok(place)
    }

    /// Makes a file with this content, in the place of whatever was there; gives its length. Blocks of zeros become
    /// holes.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        attributes: Attributes,
        content: &mut dyn Read,
    ) -> io::Result<u64> {
        let place = self.place_for_new(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(sys::openat(
            &place.dir,
            &place.name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?);
        let inode = sys::fstat(&file)?.st_ino;
        // First: a file that is cut short is there, and somebody's.
        self.remember(inode, attributes, 0);
        let Copied { size, data } = copy_sparse(content, &mut file)?;
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.data = data;
        }
        Ok(size)
    }

    /// Makes a symbolic link with this text.
    pub(crate) fn symlink(
        &mut self,
        path: &Path,
        target: &OsStr,
        attributes: Attributes,
    ) -> io::Result<()> {
        let place = self.place_for_new(path)?;
        sys::symlinkat(target, &place.dir, &place.name)?;
        let inode = sys::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
        // A short one is in its inode.
        let data = if target.len() < 60 { 0 } else { BLOCK };
        self.remember(inode, attributes, data);
        Ok(())
    }

    /// Makes another name for a file that is there.
    pub(crate) fn hard_link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let target = self
            .place(target)?
            .ok_or_else(|| invalid("a hard link to the root"))?;
        let stat = sys::statat(&target.dir, &target.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(invalid("a hard link to a folder"));
        }
        let place = self
            .place(path)?
            .ok_or_else(|| invalid("a hard link as the root"))?;
        match sys::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            // To itself: nothing to do, and the file must not be lost.
            Ok(old) if old.st_ino == stat.st_ino => return Ok(()),
            Ok(_) => self.clear(&place)?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        sys::linkat(
            &target.dir,
            &target.name,
            &place.dir,
            &place.name,
            AtFlags::empty(),
        )?;
        self.layer.insert(stat.st_ino);
        Ok(())
    }

    /// Makes an empty file that stands for a device or a FIFO.
    pub(crate) fn special(
        &mut self,
        path: &Path,
        special: Special,
        attributes: Attributes,
    ) -> io::Result<()> {
        self.file(
            path,
            Attributes {
                special: Some(special),
                ..attributes
            },
            &mut io::empty(),
        )
        .map(drop)
    }

    /// Gives everything below a folder to root, with ordinary permissions.
    pub(crate) fn give_to_root(&mut self, path: &str) -> io::Result<()> {
        fn walk(dir: &OwnedFd, found: &mut Vec<(u64, u32)>) -> Result<(), Errno> {
            for name in names(dir)? {
                let stat = sys::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                found.push((stat.st_ino, if folder { 0o755 } else { 0o644 }));
                if folder {
                    walk(
                        &sys::openat(dir, &name, OPEN_DIR | OFlags::RDONLY, Mode::empty())?,
                        found,
                    )?;
                }
            }
            Ok(())
        }
        let dir = match self.open_beneath(
            OsStr::new(path.trim_start_matches('/')),
            OFlags::DIRECTORY | OFlags::RDONLY,
        ) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        let mut found = Vec::new();
        walk(&dir, &mut found)?;
        for (inode, mode) in found {
            if let Some(node) = self.nodes.get_mut(&inode) {
                node.attributes = Attributes {
                    mtime: node.attributes.mtime,
                    ..Attributes::root(mode)
                };
            }
        }
        Ok(())
    }
}
