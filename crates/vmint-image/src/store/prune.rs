//! Deleting what nothing refers to.

use super::{ImageStore, StoreError, read_manifest};
use crate::FileError;
use crate::digest::Digest;
use crate::fsx::{self, OnFile};
use crate::initramfs;
use crate::lock::Lock;
use crate::manifest::Manifest;
use crate::recipe::ImageName;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a prune deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images that had no name.
    pub images: Vec<Digest>,
    /// Kernels that no image has.
    pub kernels: Vec<Digest>,
    /// Folders that killed builders left.
    pub abandoned: usize,
    /// Bytes given back, everything together.
    pub freed: u64,
}

impl ImageStore {
    /// Deletes images that no name means and that are not in `keep` (what templates, snapshots and machines still
    /// need), then kernels and all else that no image needs. While somebody builds, everything that the build may
    /// need stays.
    pub fn prune(&self, keep: &BTreeSet<Digest>) -> Result<Pruned, StoreError> {
        self.pruned(keep, fsx::remove, |path| self.clear_abandoned(path))
    }

    /// What [`prune`](Self::prune) would delete now.
    pub fn prunable(&self, keep: &BTreeSet<Digest>) -> Result<Pruned, StoreError> {
        self.pruned(keep, |_| Ok(()), |path| self.is_abandoned(path))
    }

    fn pruned(
        &self,
        keep: &BTreeSet<Digest>,
        remove: impl Fn(&Path) -> Result<(), FileError>,
        clear: impl Fn(&Path) -> Result<bool, StoreError>,
    ) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for name in fsx::names(&self.root)?
            .iter()
            .filter(|name| name.starts_with(".tmp-"))
        {
            let path = self.root.join(name);
            let size = size_on_disk(&path);
            if clear(&path)? {
                pruned.abandoned += 1;
                pruned.freed += size;
            }
        }
        let _step = self.step_lock()?;
        let mut needed = keep.clone();
        for name in fsx::names(&self.refs())?
            .iter()
            .filter_map(|file| ImageName::from_file_name(file))
        {
            // A damaged name's file means nothing; it is the user's to remove, and keeps nothing alive.
            if let Ok(Some(its)) = self.read_ref(&name) {
                needed.insert(its.digest);
            }
        }
        let (mut kernels, mut busyboxes, mut archives) =
            (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for digest in fsx::names(&self.root)?
            .iter()
            .filter_map(|name| Digest::from_file_name(name))
        {
            let dir = self.image_dir(digest);
            if needed.contains(&digest) {
                if let Ok(manifest) = read_manifest::<Manifest>(&dir.join("manifest.json")) {
                    archives.push(initramfs::identity(
                        manifest.kernel.digest,
                        manifest.busybox,
                    ));
                    kernels.insert(manifest.kernel.digest);
                    busyboxes.insert(manifest.busybox);
                }
            } else {
                pruned.freed += size_on_disk(&dir);
                remove(&dir)?;
                pruned.images.push(digest);
            }
        }
        if self.somebody_builds()? {
            return Ok(pruned);
        }
        for (parent, used, gone) in [
            (self.kernels(), &kernels, Some(&mut pruned.kernels)),
            (self.busyboxes(), &busyboxes, None),
        ] {
            let mut removed = Vec::new();
            for digest in fsx::names(&parent)?
                .iter()
                .filter_map(|name| Digest::from_file_name(name))
            {
                if !used.contains(&digest) {
                    let dir = parent.join(digest.file_name());
                    pruned.freed += size_on_disk(&dir);
                    remove(&dir)?;
                    removed.push(digest);
                }
            }
            if let Some(gone) = gone {
                *gone = removed;
            }
        }
        pruned.freed += initramfs::prune(&self.initramfs_cache(), &archives, remove)?;
        Ok(pruned)
    }

    /// Whether work is in progress: somebody holds the lock of a temporary folder.
    fn somebody_builds(&self) -> Result<bool, StoreError> {
        for name in fsx::names(&self.root)?
            .iter()
            .filter(|name| name.starts_with(".tmp-"))
        {
            let lock = self.root.join(name).join("lock");
            if lock.exists() && Lock::try_take(&lock)?.is_none() {
                return Ok(true);
            }
        }
        let locks = self.root.join("locks");
        for name in fsx::names(&locks)? {
            if Lock::try_take(&locks.join(name))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a folder takes on disk in bytes; what cannot be read counts nothing.
fn size_on_disk(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let below = fs::read_dir(path)
        .on("list", path)
        .into_iter()
        .flatten()
        .flatten();
    own + below.map(|entry| size_on_disk(&entry.path())).sum::<u64>()
}
