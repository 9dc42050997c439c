//! A kernel in the store.

use super::modules::ModulesError;
use super::obtain::digest_of;
use crate::apt::PackageError;
use crate::arch::Arch;
use crate::digest::Digest;
use crate::fsx::FileError;
use crate::store::{self, StoreError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use vmint_model::{ErrorKind, Explained};

/// Where a guest's kernel comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelSource {
    /// The store's default; if it has none yet, that of `vmint-tiny`, else the distribution's cloud kernel.
    #[default]
    Distribution,
    /// A file as the bootloader gets it (bzImage, or Image on ARM).
    File {
        /// The kernel.
        kernel: PathBuf,
        /// What `/lib/modules/VERSION` holds; needed unless all drivers are built in.
        modules: Option<PathBuf>,
    },
}

/// A kernel in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    dir: PathBuf,
    manifest: KernelManifest,
}

/// What is known of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelManifest {
    /// Of this file's form.
    pub schema: u32,
    /// Of kernel and modules together.
    pub digest: Digest,
    /// What it is compiled for.
    pub architecture: Arch,
    /// As `uname -r` will say.
    pub version: String,
    /// The package or the file that it was.
    pub origin: String,
    /// Of `vmlinuz`.
    pub vmlinuz_digest: Digest,
    /// Bytes of `vmlinuz`.
    pub vmlinuz_size: u64,
    /// How many modules there are.
    pub modules: usize,
}

/// A kernel could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No package of a known name can be found.
    #[error("no kernel package found: apt has none of {}", .0.join(", "))]
    NoPackage(Vec<String>),
    /// The package could not be fetched or unpacked.
    #[error("cannot fetch the kernel package")]
    Package(#[from] PackageError),
    /// The modules could not be used.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// A file that is no kernel.
    #[error("{} is not a kernel for {}: {reason}", path.display(), Arch::HOST)]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// Why it cannot be one.
        reason: &'static str,
    },
    /// What came with vmint cannot be used.
    #[error("vmint-tiny, which is installed beside vmint, is damaged")]
    Kit(#[source] Box<KernelError>),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explained for KernelError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPackage(_) | Self::Package(PackageError::Unknown(_)) => ErrorKind::Host,
            Self::Package(e) => e.kind(),
            Self::Modules(ModulesError::Missing { .. }) => ErrorKind::Image,
            Self::Modules(ModulesError::File(e)) | Self::File(e) => e.kind(),
            Self::NotAKernel { .. } => ErrorKind::Usage,
            Self::Kit(_) => ErrorKind::Image,
            Self::Store(e) => e.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoPackage(_) => {
                Some("run `apt-get update` as root if the package lists are empty, or give a kernel with --kernel".to_owned())
            }
            Self::Package(e) => e.hint(),
            Self::Modules(ModulesError::Missing { .. }) => Some("give the folder /lib/modules/VERSION of this very kernel".to_owned()),
            Self::Modules(ModulesError::File(e)) | Self::File(e) => e.hint(),
            Self::NotAKernel { .. } => Some("give a bzImage such as /boot/vmlinuz-VERSION".to_owned()),
            Self::Kit(_) => Some("install vmint-tiny again".to_owned()),
            Self::Store(e) => e.hint(),
        }
    }
}

impl Kernel {
    /// Opens a kernel of the store; checks that it is complete.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let path = dir.join("manifest.json");
        let manifest: KernelManifest = store::read_manifest(&path)?;
        let kernel = Self { dir, manifest };
        store::check_size(&kernel.vmlinuz(), kernel.manifest.vmlinuz_size)?;
        Ok(kernel)
    }

    /// The kernel's file.
    pub fn vmlinuz(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// What `/lib/modules/VERSION` holds.
    pub fn modules_dir(&self) -> PathBuf {
        self.dir.join("modules")
    }

    /// What is known of it.
    pub fn manifest(&self) -> &KernelManifest {
        &self.manifest
    }

    /// Its digest, modules included.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }

    /// Reads everything and compares it with the digest.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        let found = digest_of(&self.dir)?;
        if found == self.manifest.digest {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                path: self.dir.clone(),
                what: "its content is not what was stored",
            })
        }
    }
}
