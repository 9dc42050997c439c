//! What is in a tree: opened, read and listed as a guest would find it.

use super::Tree;
use crate::rootfs::host::{names, trim};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Tree {
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

    pub(super) fn exists_itself(&self, path: &Path) -> bool {
        let path = OsStr::from_bytes(trim(path.as_os_str().as_bytes()));
        self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW)
            .is_ok()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
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
}
