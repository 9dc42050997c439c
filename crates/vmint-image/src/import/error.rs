//! Why an import failed.

use super::source::InvalidSource;
use crate::arch::Arch;
use crate::digest::Digest;
use crate::fsx::FileError;
use crate::kernel::KernelError;
use crate::lock::LockError;
use crate::rootfs::ext4::DiskError;
use crate::rootfs::unpack::UnpackError;
use crate::store::StoreError;
use std::path::PathBuf;
use vmint_model::{ErrorKind, Explained};

/// A root file system could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A string that names no source.
    #[error(transparent)]
    Source(#[from] InvalidSource),
    /// A folder where an archive is needed.
    #[error("{} is a folder", path.display())]
    IsFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or an archive that holds no image.
    #[error("{source_name} holds no image: {reason}")]
    NotAnImage {
        /// As the user named it.
        source_name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Several images, and no tag to choose by; or no image of the tag.
    #[error("{source_name} has {}", tags_text(wanted.as_deref(), tags))]
    NoSuchTag {
        /// As the user named it.
        source_name: String,
        /// The tag that was asked for.
        wanted: Option<String>,
        /// Those there are.
        tags: Vec<String>,
    },
    /// Programs for another processor.
    #[error(
        "wrong architecture: {source_name} is for {found}, and this host runs {}",
        Arch::HOST
    )]
    WrongArchitecture {
        /// As the user named it.
        source_name: String,
        /// What it is for.
        found: String,
    },
    /// A part of the image is not what its digest says.
    #[error("{what} is damaged: it has the digest {found} and not {expected}")]
    WrongDigest {
        /// Which part.
        what: String,
        /// As the image says.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// A registry did not give the image.
    #[error("cannot pull {reference}")]
    Registry {
        /// The image's reference.
        reference: String,
        /// What it comes down to.
        kind: ErrorKind,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Registries are a part of vmint that this build lacks.
    #[error("cannot pull {reference}: this build of vmint lacks the feature `registry`")]
    NoRegistry {
        /// The image's reference.
        reference: String,
    },
    /// The registry's client could not be started.
    #[error("cannot start the registry's client: {reason}")]
    Client {
        /// Why not.
        reason: String,
    },
    /// The archive could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The kernel, or busybox, could not be had.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

fn tags_text(wanted: Option<&str>, tags: &[String]) -> String {
    let list = if tags.is_empty() {
        "none with a tag".to_owned()
    } else {
        tags.join(", ")
    };
    match wanted {
        Some(wanted) => format!("no image {wanted:?}; those there are: {list}"),
        None => format!("more than one image: {list}"),
    }
}

impl Explained for ImportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Source(_) | Self::IsFolder { .. } => ErrorKind::Usage,
            Self::NotAnImage { .. } | Self::WrongArchitecture { .. } | Self::WrongDigest { .. } => {
                ErrorKind::Image
            }
            Self::NoSuchTag { .. } => ErrorKind::NotFound,
            Self::Registry { kind, .. } => *kind,
            Self::Client { .. } | Self::NoRegistry { .. } => ErrorKind::Host,
            Self::Unpack(e) if e.is_no_space() => ErrorKind::NoSpace,
            Self::Unpack(UnpackError::TooLarge { .. }) => ErrorKind::Refused,
            Self::Unpack(_) => ErrorKind::Image,
            Self::Disk(e) => e.kind(),
            Self::Kernel(e) => e.kind(),
            Self::Store(e) => e.kind(),
            Self::File(e) => e.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::IsFolder { path } => Some(format!("import an OCI layout as oci:{}, or make a tar of a root file system", path.display())),
            Self::NotAnImage { .. } => Some("a tar of a root file system is imported by its path, an OCI or docker archive as oci-archive:FILE, an OCI layout as oci:DIR".to_owned()),
            Self::NoSuchTag { .. } => Some("put the tag behind it, as in oci:DIR:TAG".to_owned()),
            Self::WrongArchitecture { .. } => Some(format!("take the image for linux/{}", Arch::HOST.debian())),
            Self::NoRegistry { reference } => Some(format!("run `vmint image import NAME docker://{reference}`; a program that uses the crate `vmint` can enable the feature")),
            Self::Registry { .. } if self.kind() == ErrorKind::NotFound => Some("look for typing errors in the name; images that need a login cannot be pulled".to_owned()),
            Self::Registry { .. } => Some("check the network and the registry; images that need a login cannot be pulled: save them and import them as oci-archive:FILE".to_owned()),
            Self::Disk(e) => e.hint(),
            Self::Kernel(e) => e.hint(),
            Self::Store(e) => e.hint(),
            Self::File(e) => e.hint(),
            Self::Unpack(e) if e.is_no_space() => Some("free some disk space, or set VMINT_HOME to a larger disk".to_owned()),
            Self::Source(_) | Self::WrongDigest { .. } | Self::Client { .. } | Self::Unpack(_) => None,
        }
    }
}

impl From<LockError> for ImportError {
    fn from(error: LockError) -> Self {
        Self::Store(error.into())
    }
}
