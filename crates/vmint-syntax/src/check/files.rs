//! The files that a check looks at: whoever has some says what they are.

use std::io;
use std::path::Path;

/// Files of the repository, and of copies of others.
pub trait Files: Send + Sync {
    /// What is at a path; nothing, if it is none of these.
    fn kind(&self, path: &Path) -> Option<Kind>;

    /// The content of a file; of a longer one than [`MAX_BYTES`](crate::yaml::MAX_BYTES) one byte more than that suffices.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// Where there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn kind(&self, _: &Path) -> Option<Kind> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}
