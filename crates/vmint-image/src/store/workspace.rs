//! Folders for work in progress, and how what is finished in them gets to its place.

use super::{ImageStore, StoreError};
use crate::digest::Digest;
use crate::fsx::{self, FileError, OnFile};
use crate::lock::Lock;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder for work in progress; deleted on drop.
#[derive(Debug)]
pub(crate) struct Workspace {
    // Before the lock: as long as the folder is there, the lock is held.
    dir: tempfile::TempDir,
    _lock: Lock,
}

impl Workspace {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl ImageStore {
    /// A folder for work in progress. Who finds it without its lock held may delete it.
    pub(crate) fn temp_dir(&self) -> Result<Workspace, StoreError> {
        let _step = self.step_lock()?;
        let dir = tempfile::Builder::new()
            .prefix(".tmp-")
            .tempdir_in(&self.root)
            .on("create a folder in", &self.root)?;
        let lock_path = dir.path().join("lock");
        let lock = Lock::try_take(&lock_path)?;
        let lock = lock.ok_or(StoreError::Damaged {
            path: lock_path,
            what: "somebody else holds a new lock",
        })?;
        Ok(Workspace { dir, _lock: lock })
    }

    /// Deletes a temporary folder unless its builder lives.
    /// Whether nobody works any more on a temporary folder.
    pub(super) fn is_abandoned(&self, path: &Path) -> Result<bool, StoreError> {
        let _step = self.step_lock()?;
        Ok(path.is_dir() && Lock::try_take(&path.join("lock"))?.is_some())
    }

    pub(super) fn clear_abandoned(&self, path: &Path) -> Result<bool, StoreError> {
        let _step = self.step_lock()?;
        if !path.is_dir() {
            return Ok(false);
        }
        let Some(_lock) = Lock::try_take(&path.join("lock"))? else {
            return Ok(false);
        };
        tracing::info!(path = %path.display(), "deleting what an interrupted build left");
        fsx::remove(path)?;
        Ok(true)
    }

    /// Moves a finished folder to where its digest says, unless an equal one is there already.
    pub(crate) fn adopt(
        &self,
        dir: &Path,
        parent: &Path,
        digest: Digest,
    ) -> Result<PathBuf, StoreError> {
        fsx::create_private_dir(parent)?;
        let target = parent.join(digest.file_name());
        sync_tree(dir)?;
        let _step = self.step_lock()?;
        if target.is_dir() {
            // An equal one, or one that was damaged since. Exchanged in one step, for others may be reading it.
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, dir, rustix::fs::CWD, &target, flags)
                .on("replace", &target)?;
        } else {
            fs::rename(dir, &target).on("rename a temporary folder to", &target)?;
        }
        fsx::sync(parent)?;
        Ok(target)
    }
}

/// Writes every file and folder below a folder to the disk.
fn sync_tree(dir: &Path) -> Result<(), FileError> {
    // One call for the file system beats thousands for its files.
    let file = fs::File::open(dir).on("open", dir)?;
    rustix::fs::syncfs(&file).on("write to disk", dir)
}
