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

use super::host::{Copied, OPEN_DIR, copy_sparse, invalid, names, remove_at, trim};
use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
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

/// What the folder cannot hold of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The permissions, with set-id and sticky bits.
    pub(crate) mode: u32,
    /// When its content was last changed, in seconds since 1970. Absent where nobody has said: then it is the newest time that
    /// the tree has been told, for a fresh file from the year 1970 is refused by some programs, and the host's clock would
    /// make every import another image.
    pub(crate) mtime: Option<i64>,
    /// What it really is, if the file in the folder only keeps its place.
    pub(crate) special: Option<Special>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// A file that is not kept as such on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

impl Attributes {
    pub(crate) fn root(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

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

    /// Removes an entry and what is below it, but nothing that `keep` names, and no folder that keeps something. What was known of
    /// an inode goes with its last name.
    fn forget(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        keep: impl Fn(&HashSet<u64>, u64) -> bool,
    ) -> io::Result<()> {
        let Self { nodes, layer, .. } = self;
        let mut gone = Vec::new();
        let removed = remove_at(dir, name, &|inode| keep(layer, inode), &mut |inode| {
            gone.push(inode);
        });
        for inode in gone {
            nodes.remove(&inode);
            layer.remove(&inode);
        }
        removed
    }

    /// Removes what is there.
    fn clear(&mut self, place: &Place) -> io::Result<()> {
        self.forget(&place.dir, &place.name, |_, _| false)
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

    /// Removes a file, or a folder with everything in it, if it is there.
    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.exists_itself(path)
            && let Some(place) = self.place(path)?
        {
            self.clear(&place)?;
        }
        Ok(())
    }

    /// Hides what lower layers have under this path; what this layer has stays.
    pub(crate) fn white_out(&mut self, path: &Path) -> io::Result<()> {
        if self.exists_itself(path)
            && let Some(place) = self.place(path)?
        {
            self.forget(&place.dir, &place.name, |layer, inode| {
                layer.contains(&inode)
            })?;
        }
        Ok(())
    }

    /// Hides what lower layers have in this folder.
    pub(crate) fn white_out_content(&mut self, path: &Path) -> io::Result<()> {
        let path = trim(path.as_os_str().as_bytes());
        match self.open_beneath(OsStr::from_bytes(path), OFlags::DIRECTORY | OFlags::RDONLY) {
            Ok(dir) => {
                for name in names(&dir)? {
                    self.forget(&dir, &name, |layer, inode| layer.contains(&inode))?;
                }
                Ok(())
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens a file to read it, following links within the tree.
    pub(crate) fn open(&self, path: &str) -> io::Result<File> {
        Ok(File::from(self.open_beneath(
            OsStr::new(path.trim_start_matches('/')),
            OFlags::RDONLY | OFlags::NONBLOCK,
        )?))
    }

    /// Reads a text file; an absent one is empty.
    pub(crate) fn read_text(&self, path: &str) -> io::Result<String> {
        match self.open(path) {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                Ok(text)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(e),
        }
    }

    /// Whether something is there, behind links.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.open_beneath(OsStr::new(path.trim_start_matches('/')), OFlags::PATH)
            .is_ok()
    }

    fn exists_itself(&self, path: &Path) -> bool {
        let path = OsStr::from_bytes(trim(path.as_os_str().as_bytes()));
        self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW)
            .is_ok()
    }

    fn is_dir(&self, path: &Path) -> bool {
        let path = OsStr::from_bytes(trim(path.as_os_str().as_bytes()));
        self.open_beneath(path, OFlags::PATH | OFlags::DIRECTORY)
            .is_ok()
    }

    /// The names in a folder, links followed; none if there is no such folder.
    pub(crate) fn list(&self, path: &str) -> io::Result<Vec<OsString>> {
        match self.open_beneath(
            OsStr::new(path.trim_start_matches('/')),
            OFlags::DIRECTORY | OFlags::RDONLY,
        ) {
            Ok(dir) => Ok(names(&dir)?),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::create(&dir.path().join("root")).unwrap();
        (dir, tree)
    }

    fn put(tree: &mut Tree, path: &str) -> io::Result<u64> {
        tree.file(Path::new(path), Attributes::root(0o644), &mut &b"x"[..])
    }

    #[test]
    fn links_lead_where_they_would_in_the_guest() {
        let (dir, mut tree) = tree();
        tree.directory(Path::new("usr/lib"), None).unwrap();
        tree.symlink(
            Path::new("lib"),
            OsStr::new("/usr/lib"),
            Attributes::root(0o777),
        )
        .unwrap();
        put(&mut tree, "lib/a").unwrap();
        assert!(dir.path().join("root/usr/lib/a").is_file());
        assert!(tree.exists("/lib/a"));
    }

    #[test]
    fn nothing_is_written_outside() {
        let (dir, mut tree) = tree();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let text = outside.to_str().unwrap();
        tree.symlink(Path::new("out"), outside.as_os_str(), Attributes::default())
            .unwrap();
        tree.symlink(
            Path::new("up"),
            OsStr::new("../../.."),
            Attributes::default(),
        )
        .unwrap();
        for path in [
            "../a",
            "/../../a",
            "x/../../../a",
            "out/a",
            "up/a",
            "up/../b",
            &format!("up/{text}/a"),
        ] {
            // Written inside, or refused: both are well.
            let _ = put(&mut tree, path);
        }
        let _ = tree.hard_link(
            Path::new("passwd"),
            Path::new("../../../../../../etc/passwd"),
        );
        assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(!dir.path().join("root/passwd").exists());
        assert!(put(&mut tree, "..").is_err() && put(&mut tree, "/").is_err());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let (dir, mut tree) = tree();
        put(&mut tree, "victim").unwrap();
        tree.symlink(
            Path::new("link"),
            OsStr::new("victim"),
            Attributes::default(),
        )
        .unwrap();
        tree.file(Path::new("link"), Attributes::root(0o600), &mut &b"new"[..])
            .unwrap();
        assert_eq!(std::fs::read(dir.path().join("root/victim")).unwrap(), b"x");
        assert_eq!(std::fs::read(dir.path().join("root/link")).unwrap(), b"new");
    }

    #[test]
    fn a_white_out_hides_lower_layers_only() {
        let (_dir, mut tree) = tree();
        for path in ["d/low", "d/sub/low", "e/low", "f"] {
            put(&mut tree, path).unwrap();
        }
        tree.next_layer();
        put(&mut tree, "d/high").unwrap();
        put(&mut tree, "d/sub/high").unwrap();
        tree.white_out_content(Path::new("d")).unwrap();
        tree.white_out(Path::new("e")).unwrap();
        tree.white_out(Path::new("f")).unwrap();
        tree.white_out(Path::new("never/was")).unwrap();
        for (path, there) in [
            ("d/low", false),
            ("d/sub/low", false),
            ("d/high", true),
            ("d/sub/high", true),
            ("e", false),
            ("f", false),
            ("never", false),
        ] {
            assert_eq!(tree.exists(path), there, "{path}");
        }
    }

    #[test]
    fn a_long_run_of_zeros_is_a_hole() {
        use std::os::unix::fs::MetadataExt;
        let (dir, mut tree) = tree();
        let mut content = io::repeat(0).take(64 << 20).chain(&b"end"[..]);
        let size = tree
            .file(Path::new("big"), Attributes::root(0o644), &mut content)
            .unwrap();
        let meta = std::fs::metadata(dir.path().join("root/big")).unwrap();
        assert_eq!((size, meta.len()), ((64 << 20) + 3, (64 << 20) + 3));
        assert!(meta.blocks() < 1024);
        // The last part of it, and the root.
        assert!(tree.content_size() <= 2 * (1 << 16));
    }

    /// Two inodes that follow each other under one number, here or on another file system of this host.
    fn reused(old: &str, new: impl Fn(&mut Tree, &str)) -> (tempfile::TempDir, Tree, u64) {
        use std::os::unix::fs::MetadataExt;
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let homes = [
            std::env::temp_dir(),
            here.join("../../target"),
            "/dev/shm".into(),
        ];
        for home in &homes {
            let Ok(dir) = tempfile::tempdir_in(home) else {
                continue;
            };
            for turn in 0..50 {
                let mut tree = Tree::create(&dir.path().join(turn.to_string())).unwrap();
                let inode = |tree: &Tree, path: &str| {
                    std::fs::symlink_metadata(tree.path().join(path)).map(|m| m.ino())
                };
                // A neighbour, so that the folder itself is not the last number.
                tree.directory(Path::new("opt"), None).unwrap();
                let app = Attributes {
                    uid: 1000,
                    mtime: Some(7),
                    ..Attributes::root(0o600)
                };
                let character = Special::Character { major: 1, minor: 3 };
                tree.special(Path::new(old), character, app).unwrap();
                let number = inode(&tree, old).unwrap();
                tree.next_layer();
                tree.white_out(Path::new(old)).unwrap();
                new(&mut tree, old);
                if inode(&tree, old).unwrap() == number {
                    return (dir, tree, number);
                }
            }
        }
        panic!("no file system of {homes:?} gives a number out again");
    }

    #[test]
    fn what_was_known_of_a_file_goes_with_it_though_its_number_comes_again() {
        // A folder that no layer has an entry for.
        let (_dir, tree, number) = reused("opt/thing", |tree, path| {
            tree.file(
                &Path::new(path).join("below"),
                Attributes::root(0o644),
                &mut &b"x"[..],
            )
            .unwrap();
        });
        let folder = tree.attributes_of(number).unwrap();
        assert_eq!((folder.uid, folder.mode, folder.special), (0, 0o755, None));
        assert_eq!(folder.mtime, Some(7), "the newest time that was told");

        let (_dir, tree, number) = reused("opt/thing", |tree, path| {
            tree.symlink(Path::new(path), OsStr::new("x"), Attributes::root(0o777))
                .unwrap();
        });
        assert_eq!(tree.attributes_of(number).unwrap().special, None);
    }

    #[test]
    fn a_name_that_is_removed_takes_nothing_from_the_other_names_of_its_file() {
        use std::os::unix::fs::MetadataExt;
        let (dir, mut tree) = tree();
        let app = Attributes {
            uid: 1000,
            ..Attributes::root(0o4755)
        };
        tree.file(Path::new("one"), app, &mut &b"x"[..]).unwrap();
        tree.hard_link(Path::new("two"), Path::new("one")).unwrap();
        let number = std::fs::metadata(dir.path().join("root/one"))
            .unwrap()
            .ino();
        tree.remove(Path::new("one")).unwrap();
        assert_eq!(tree.attributes_of(number).unwrap().uid, 1000);
        tree.remove(Path::new("two")).unwrap();
        assert_eq!(tree.attributes_of(number), None);
    }

    #[test]
    fn a_folder_is_made_where_links_lead_and_never_in_their_place() {
        let (dir, mut tree) = tree();
        let link = |tree: &mut Tree, path: &str, target: &str| {
            tree.symlink(Path::new(path), OsStr::new(target), Attributes::root(0o777))
                .unwrap();
        };
        link(&mut tree, "app", "/data/current/app");
        link(&mut tree, "data", "srv/../mnt");
        link(&mut tree, "loop", "loop");
        link(&mut tree, "up", "../../../../outside");
        put(&mut tree, "file").unwrap();
        tree.directory_behind_links("/app/work").unwrap();
        tree.directory_behind_links("up/x").unwrap();
        tree.directory_behind_links("/file").unwrap();
        tree.directory_behind_links("/").unwrap();
        let root = dir.path().join("root");
        assert!(root.join("mnt/current/app/work").is_dir());
        assert!(root.join("app").is_symlink() && root.join("outside/x").is_dir());
        assert!(root.join("file").is_file());
        assert!(tree.directory_behind_links("loop/x").is_err());
        assert!(tree.directory_behind_links("file/x").is_err());
    }
}
