//! An image in the making: all of it is there, and none of it can be found yet.

use super::image::{self, BootDisk, BootFiles, Image, mtime_ns};
use super::{ImageStore, SCHEMA, StoreError, Workspace, write_manifest};
use crate::arch::Arch;
use crate::digest::Digest;
use crate::fsx::OnFile;
use crate::kernel::{Kernel, KernelError};
use crate::lock::Lock;
use crate::manifest::{Defaults, DiskInfo, InitKind, KernelRef, Manifest};
use crate::recipe::ImageName;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a build gives.
#[derive(Debug)]
pub enum Built {
    /// This recipe has been built already.
    Existing(Image),
    /// To be finished by [`Draft::commit`].
    Draft(Draft),
}

/// An image in the making. Dropped, it is gone. While it exists, others who build the same wait for it.
#[derive(Debug)]
pub struct Draft {
    store: ImageStore,
    name: ImageName,
    manifest: Manifest,
    recipe: Option<Digest>,
    run: Vec<String>,
    // The folder goes before the lock that keeps others waiting.
    workspace: Workspace,
    _work: Lock,
}

/// What a draft is made of.
pub(crate) struct NewDraft<'a> {
    pub(crate) name: ImageName,
    pub(crate) kernel: &'a Kernel,
    pub(crate) busybox: Digest,
    /// Of the file system in the workspace's [`DISK`]; absent for an image that lives in memory.
    pub(crate) file_system: Option<&'static str>,
    pub(crate) init: InitKind,
    pub(crate) defaults: Defaults,
    pub(crate) origin: String,
    pub(crate) recipe: Option<Digest>,
    pub(crate) run: Vec<String>,
}

/// The disk's file in an image's folder.
pub(crate) const DISK: &str = "disk.raw";

/// The folder in a workspace that becomes the image's.
pub(crate) const CONTENT: &str = "image";

impl Draft {
    pub(crate) fn new(
        store: &ImageStore,
        workspace: Workspace,
        work: Lock,
        new: NewDraft<'_>,
    ) -> Result<Self, StoreError> {
        let mut draft = Self {
            store: store.clone(),
            name: new.name.clone(),
            manifest: Manifest {
                schema: SCHEMA,
                digest: Digest::of(b""),
                name: new.name.to_string(),
                architecture: Arch::HOST,
                kernel: KernelRef {
                    digest: new.kernel.digest(),
                    version: new.kernel.manifest().version.clone(),
                },
                busybox: new.busybox,
                disk: None,
                init: new.init,
                defaults: new.defaults,
                origin: new.origin,
                created_at_ms: SystemTime::UNIX_EPOCH
                    .elapsed()
                    .map_or(0, |d| d.as_millis() as i64),
            },
            recipe: new.recipe,
            run: new.run,
            workspace,
            _work: work,
        };
        if let Some(file_system) = new.file_system {
            let path = draft.content().join(DISK);
            draft.manifest.disk = Some(DiskInfo {
                file: DISK.to_owned(),
                size: fs::metadata(&path).on("read", &path)?.len(),
                // Known at the end: until then the disk may change.
                digest: Digest::of(b""),
                mtime_ns: 0,
                file_system: file_system.to_owned(),
            });
        }
        Ok(draft)
    }

    fn content(&self) -> PathBuf {
        self.workspace.path().join(CONTENT)
    }

    /// The name it will have.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// Commands that must have run in the booted draft, in this order, before it is committed.
    pub fn commands(&self) -> &[String] {
        &self.run
    }

    /// What a hypervisor needs to boot it. Its disk may be written.
    pub fn boot_files(&self) -> Result<BootFiles, KernelError> {
        let disk = self.manifest.disk.as_ref().map(|disk| BootDisk {
            path: self.content().join(&disk.file),
            size: disk.size,
            digest: None,
            file_system: disk.file_system.clone(),
        });
        image::boot_files(&self.store, &self.manifest, disk)
    }

    /// A folder for what the caller needs while it finishes the draft; deleted with it.
    pub fn scratch(&self) -> &Path {
        self.workspace.path()
    }

    /// Makes it an image that can be found. Nothing may have its disk open any more.
    pub fn commit(mut self) -> Result<Image, StoreError> {
        if let Some(disk) = &mut self.manifest.disk {
            let path = self.workspace.path().join(CONTENT).join(&disk.file);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .on("open", &path)?;
            file.sync_all().on("write to disk", &path)?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o400))
                .on("make read-only", &path)?;
            disk.size = file.metadata().on("read", &path)?.len();
            disk.digest = Digest::of_sparse_file(&path).on("read", &path)?;
            disk.mtime_ns = mtime_ns(&path)?;
        }
        self.manifest.digest = self.manifest.content_digest();
        let content = self.content();
        write_manifest(&content.join("manifest.json"), &self.manifest)?;
        let digest = self.manifest.digest;
        // What is there already is kept if it is whole: machines may be using its disk.
        let whole = self.store.image_dir(digest).is_dir()
            && Image::open(&self.store, self.name.clone(), digest).is_ok();
        if !whole {
            self.store.adopt(&content, &self.store.root, digest)?;
        }
        let _step = self.store.step_lock()?;
        self.store.write_ref(&self.name, digest, self.recipe)?;
        Image::open(&self.store, self.name.clone(), digest)
    }
}
