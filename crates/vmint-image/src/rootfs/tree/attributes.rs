//! What a folder cannot hold of a file.

use std::collections::BTreeMap;

/// What the folder cannot hold of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The permissions, with set-id and sticky bits.
    pub(crate) mode: u32,
    /// When its content was last changed, in seconds since 1970. Absent where nobody has said: then it is the newest time that
    /// the tree has been told, for a fresh file from the year 1970 is refused by some programs, and the host's clock would
    /// make every import another image.
    pub(crate) mtime: Option<i64>,
    /// What it really is, if the file in the folder only keeps its place.
    pub(crate) special: Option<Special>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// A file that is not kept as such on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

impl Attributes {
    pub(crate) fn root(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}
