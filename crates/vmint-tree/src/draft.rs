//! A file under its way: it has no name, or a hidden one, until it is whole. So what breaks off leaves no half file, and
//! what was there before stays there until then.

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Attempts to find a name that is free. Each is a number of 64 bits that nobody can know.
const ATTEMPTS: u32 = 16;

/// Makes drafts.
#[derive(Debug, Default)]
pub struct Drafts {
    way: Way,
}

/// How drafts are made here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// Without a name, which not every file system can.
    #[default]
    Nameless,
    /// With a hidden name.
    Named,
}

/// A file that is being written. Dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    file: OwnedFd,
    /// Where it has a name until then.
    named: Option<(OwnedFd, Vec<u8>)>,
    /// Bytes so far, of holes too.
    at: u64,
    /// Whether the last of them are a hole, which does not make a file longer by itself.
    ends_in_hole: bool,
}

impl Drafts {
    /// An empty file for a folder, of mode 0600.
    pub fn begin(&mut self, folder: BorrowedFd<'_>) -> Result<Draft, Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        if self.way == Way::Nameless {
            let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
            match rustix::fs::openat(folder, c".", flags, mode) {
                Ok(file) => return Ok(Draft::new(file, None)),
                // Whatever it is: the other way says why, should it be more than this.
                Err(_) => self.way = Way::Named,
            }
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, name) = fresh(|name| rustix::fs::openat(folder, name, flags, mode))?;
        // For when it is dropped; made before anything can fail.
        match rustix::io::fcntl_dupfd_cloexec(folder, 0) {
            Ok(folder) => Ok(Draft::new(file, Some((folder, name)))),
            Err(errno) => {
                let _ = rustix::fs::unlinkat(folder, &name[..], AtFlags::empty());
                Err(errno)
            }
        }
    }
}

impl Draft {
    fn new(file: OwnedFd, named: Option<(OwnedFd, Vec<u8>)>) -> Self {
        Self {
            file,
            named,
            at: 0,
            ends_in_hole: false,
        }
    }

    /// The file, whose attributes are set when it has its content.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Appends content.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        write_all(self.file.as_fd(), bytes)?;
        self.at += bytes.len() as u64;
        self.ends_in_hole = false;
        Ok(())
    }

    /// Appends zeros that take no place.
    pub fn hole(&mut self, len: u64) -> Result<(), Errno> {
        self.at = self.at.checked_add(len).ok_or(Errno::FBIG)?;
        rustix::fs::seek(&self.file, SeekFrom::Start(self.at))?;
        self.ends_in_hole = true;
        Ok(())
    }

    /// All of its content was appended.
    pub fn complete(&mut self) -> Result<(), Errno> {
        if std::mem::take(&mut self.ends_in_hole) {
            rustix::fs::ftruncate(&self.file, self.at)?;
        }
        Ok(())
    }

    /// Gives it its name in the folder that it was begun for. A file or link of that name is replaced in one step; a folder is
    /// not ([`Errno::ISDIR`]).
    pub fn place(mut self, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        if let Some((own, draft)) = &self.named {
            rustix::fs::renameat(own, &draft[..], folder, name)?;
            self.named = None;
            return Ok(());
        }
        match link(self.file.as_fd(), folder, name) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
        let ((), draft) = fresh(|draft| link(self.file.as_fd(), folder, draft))?;
        rustix::fs::renameat(folder, &draft[..], folder, name).inspect_err(|_| {
            let _ = rustix::fs::unlinkat(folder, &draft[..], AtFlags::empty());
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some((folder, name)) = self.named.take() {
            let _ = rustix::fs::unlinkat(&folder, &name[..], AtFlags::empty());
        }
    }
}

/// Writes all of it.
pub fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives what is open another name, and nothing that may have come to have its name. For the first way a plain user needs
/// a newer kernel, for the second `/proc`.
pub fn link(file: BorrowedFd<'_>, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(file, c"", folder, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM | Errno::ACCESS) => {
            let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
            let follow = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(rustix::fs::CWD, opened, folder, name, follow)
        }
        other => other,
    }
}

/// Makes something with a hidden name that nobody has.
fn fresh<T>(make: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, Vec<u8>), Errno> {
    let key = RandomState::new();
    let mut attempt = 0;
    loop {
        let name = format!(".vmint-{:016x}.part", key.hash_one(attempt)).into_bytes();
        match make(&name) {
            Ok(made) => return Ok((made, name)),
            Err(Errno::EXIST) if attempt < ATTEMPTS => attempt += 1,
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn folder(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_draft_takes_its_place_when_it_is_whole_and_leaves_nothing_else() {
        for way in [Way::Nameless, Way::Named] {
            let dir = tempfile::tempdir().unwrap();
            let (path, at) = (dir.path(), folder(dir.path()));
            fs::write(path.join("old"), "old").unwrap();
            fs::create_dir(path.join("folder")).unwrap();
            symlink("old", path.join("link")).unwrap();
            let mut drafts = Drafts { way };
            let mut draft = |text: &[u8]| {
                let mut draft = drafts.begin(at.as_fd()).unwrap();
                draft.write(text).unwrap();
                draft
            };
            drop(draft(b"half"));
            assert_eq!(names(path), ["folder", "link", "old"], "{way:?}");
            draft(b"new").place(at.as_fd(), b"new").unwrap();
            let whole = draft(b"newer");
            assert_eq!(fs::read(path.join("old")).unwrap(), b"old", "{way:?}");
            whole.place(at.as_fd(), b"old").unwrap();
            draft(b"no link").place(at.as_fd(), b"link").unwrap();
            let refused = draft(b"x").place(at.as_fd(), b"folder");
            assert_eq!(refused, Err(Errno::ISDIR), "{way:?}");
            assert_eq!(names(path), ["folder", "link", "new", "old"], "{way:?}");
            assert_eq!(fs::read(path.join("old")).unwrap(), b"newer");
            assert_eq!(fs::read(path.join("new")).unwrap(), b"new");
            let link = fs::symlink_metadata(path.join("link")).unwrap();
            assert!(link.is_file());
        }
    }

    #[test]
    fn holes_take_no_place_and_make_a_file_longer() {
        let dir = tempfile::tempdir().unwrap();
        let at = folder(dir.path());
        let mut draft = Drafts::default().begin(at.as_fd()).unwrap();
        draft.hole(8 << 20).unwrap();
        draft.write(b"end").unwrap();
        draft.hole(8 << 20).unwrap();
        draft.complete().unwrap();
        draft.place(at.as_fd(), b"f").unwrap();
        let content = fs::read(dir.path().join("f")).unwrap();
        assert_eq!(content.len(), (16 << 20) + 3);
        assert_eq!(&content[8 << 20..(8 << 20) + 4], b"end\0");
        let meta = fs::metadata(dir.path().join("f")).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&meta) < 2048);
        let mut endless = Drafts::default().begin(at.as_fd()).unwrap();
        endless
            .hole(1 << 62)
            .and_then(|()| endless.complete())
            .unwrap_err();
    }
}
