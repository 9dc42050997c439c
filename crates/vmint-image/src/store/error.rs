//! Why the store could not be used.

use super::SCHEMA;
use crate::fsx::FileError;
use crate::lock::LockError;
use crate::recipe::InvalidImageName;
use std::path::PathBuf;
use vmint_model::{ErrorKind, Explained};

/// The store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A string that cannot be an image's name.
    #[error(transparent)]
    Name(#[from] InvalidImageName),
    /// There is no image of this name.
    #[error("there is no image {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A file of the store is not what it was.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        what: &'static str,
    },
    /// A manifest cannot be read.
    #[error("{} is damaged", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest of a later version.
    #[error("{} was written by a newer vmint (form {found}, this one knows {SCHEMA})", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// Another process does the same work, and does not finish.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Explained for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) => ErrorKind::Usage,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } | Self::Unreadable { .. } | Self::TooNew { .. } => {
                ErrorKind::Corrupt
            }
            Self::Lock(LockError::TimedOut { .. }) => ErrorKind::TimedOut,
            Self::Lock(LockError::File(e)) | Self::File(e) => e.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Name(_) => None,
            Self::NotFound { .. } => Some("`vmint image ls` lists those there are; tiny, debian:12 and debian:13 are built on first use".to_owned()),
            Self::Damaged { path, .. } | Self::Unreadable { path, .. } => {
                let name = path.parent().unwrap_or(path).display();
                Some(format!("remove the image with `vmint image rm` and build it again, or delete {name}"))
            }
            Self::TooNew { .. } => Some("use the newer vmint, or another VMINT_HOME".to_owned()),
            Self::Lock(LockError::TimedOut { .. }) => Some("look for a vmint process that hangs".to_owned()),
            Self::Lock(LockError::File(e)) | Self::File(e) => e.hint(),
        }
    }
}
