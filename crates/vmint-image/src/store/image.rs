//! A finished image.

use super::{ImageStore, StoreError, check_size, read_manifest};
use crate::digest::Digest;
use crate::fsx::{FileError, OnFile};
use crate::initramfs::{self, Initramfs};
use crate::kernel::{Kernel, KernelError};
use crate::manifest::{DiskInfo, InitKind, Manifest};
use crate::recipe::ImageName;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A finished image.
#[derive(Clone, Debug)]
pub struct Image {
    store: ImageStore,
    name: ImageName,
    manifest: Manifest,
}

/// What a hypervisor needs to boot an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: PathBuf,
    /// Of the kernel's file.
    pub kernel_digest: Digest,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Of what the initramfs was made of, agent included.
    pub initramfs_digest: Digest,
    /// The disk; absent when the initramfs is the root. Never to be written: it is an overlay's base.
    pub disk: Option<BootDisk>,
    /// What runs as PID 1.
    pub init: InitKind,
}

/// A disk to boot from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootDisk {
    /// The file: raw, a file system without partitions.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// See [`Digest::of_sparse_file`]; absent for a draft, whose disk may still change.
    pub digest: Option<Digest>,
    /// Of the file system.
    pub file_system: String,
}

impl Image {
    pub(super) fn open(
        store: &ImageStore,
        name: ImageName,
        digest: Digest,
    ) -> Result<Self, StoreError> {
        let dir = store.image_dir(digest);
        let path = dir.join("manifest.json");
        let manifest: Manifest = read_manifest(&path)?;
        if manifest.digest != digest || manifest.content_digest() != digest {
            return Err(StoreError::Damaged {
                path,
                what: "its content does not have its digest",
            });
        }
        let image = Self {
            store: store.clone(),
            name,
            manifest,
        };
        if let Some(disk) = &image.manifest.disk {
            image.check_disk(disk)?;
        }
        store.kernel(image.manifest.kernel.digest)?;
        Ok(image)
    }

    /// A disk that was touched since is read and compared. If it is what it was (the home was copied, say), its time is
    /// put right, so that it is not read again.
    fn check_disk(&self, disk: &DiskInfo) -> Result<(), StoreError> {
        let path = self.disk_path(disk);
        check_size(&path, disk.size)?;
        if mtime_ns(&path)? == disk.mtime_ns {
            return Ok(());
        }
        tracing::info!(path = %path.display(), "the disk's time has changed; comparing its content");
        self.compare_disk(disk)?;
        let file = fs::File::open(&path).on("open", &path)?;
        let time = std::time::UNIX_EPOCH
            + std::time::Duration::from_nanos(disk.mtime_ns.try_into().unwrap_or(0));
        Ok(file.set_modified(time).on("set the time of", &path)?)
    }

    fn compare_disk(&self, disk: &DiskInfo) -> Result<(), StoreError> {
        let path = self.disk_path(disk);
        if Digest::of_sparse_file(&path).on("read", &path)? == disk.digest {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                path,
                what: "its content is not what was stored",
            })
        }
    }

    fn disk_path(&self, disk: &DiskInfo) -> PathBuf {
        self.store.image_dir(self.manifest.digest).join(&disk.file)
    }

    /// The name it was found under.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its kernel.
    pub fn kernel(&self) -> Result<Kernel, StoreError> {
        self.store.kernel(self.manifest.kernel.digest)
    }

    /// What it takes on disk in bytes, without what images share.
    pub fn size_on_disk(&self) -> u64 {
        let disk = self
            .manifest
            .disk
            .as_ref()
            .and_then(|disk| fs::metadata(self.disk_path(disk)).ok());
        disk.map_or(0, |meta| meta.blocks() * 512)
    }

    /// What a hypervisor needs. Makes the initramfs, a matter of milliseconds, if this vmint has not made it before.
    pub fn boot_files(&self) -> Result<BootFiles, KernelError> {
        let disk = self.manifest.disk.as_ref().map(|disk| BootDisk {
            path: self.disk_path(disk),
            size: disk.size,
            digest: Some(disk.digest),
            file_system: disk.file_system.clone(),
        });
        boot_files(&self.store, &self.manifest, disk)
    }

    /// Reads everything that the image consists of and compares it with the digests.
    pub fn verify(&self) -> Result<(), KernelError> {
        if let Some(disk) = &self.manifest.disk {
            self.compare_disk(disk)?;
        }
        let (kernel, busybox) = (self.kernel()?, self.store.busybox(self.manifest.busybox)?);
        kernel.verify()?;
        busybox.program()?;
        let files = self.boot_files()?;
        let initramfs = Initramfs {
            path: files.initramfs,
            digest: files.initramfs_digest,
        };
        if !initramfs::is_intact(&initramfs, &kernel, &busybox)? {
            // Nothing is lost: it is made again when next needed.
            crate::fsx::remove(&initramfs.path)?;
            self.boot_files()?;
        }
        Ok(())
    }
}

pub(super) fn boot_files(
    store: &ImageStore,
    manifest: &Manifest,
    disk: Option<BootDisk>,
) -> Result<BootFiles, KernelError> {
    let (kernel, busybox) = (
        store.kernel(manifest.kernel.digest)?,
        store.busybox(manifest.busybox)?,
    );
    let initramfs = initramfs::obtain(&store.initramfs_cache(), &kernel, &busybox)?;
    Ok(BootFiles {
        kernel: kernel.vmlinuz(),
        kernel_digest: kernel.manifest().vmlinuz_digest,
        initramfs: initramfs.path,
        initramfs_digest: initramfs.digest,
        disk,
        init: manifest.init,
    })
}

pub(super) fn mtime_ns(path: &Path) -> Result<i64, FileError> {
    let meta = fs::metadata(path).on("read", path)?;
    Ok(meta.mtime() * 1_000_000_000 + meta.mtime_nsec())
}
