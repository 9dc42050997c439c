//! What goes from a tree: files, folders, and what a layer hides of those below it.

use super::{Place, Tree};
use crate::rootfs::host::{names, remove_at, trim};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

impl Tree {
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

    /// Removes an entry and what is below it, but nothing that `keep` names, and no folder that keeps something. What was known of
    /// an inode goes with its last name.
    pub(super) fn forget(
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
    pub(super) fn clear(&mut self, place: &Place) -> io::Result<()> {
        self.forget(&place.dir, &place.name, |_, _| false)
    }
}
