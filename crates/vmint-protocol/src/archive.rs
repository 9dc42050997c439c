//! Tar streams: one dialect, written and taken apart by host and guest alike; no I/O and bounded memory.
//!
//! ```text
//! Entry ──header()────────────▶ ustar, with pax records in front where ustar's fields are too small:
//!        sparse_header()         path, linkpath, size, mtime, uid, gid, SCHILY.xattr.*, GNU.sparse.* (format 1.0)
//!
//! bytes ──Parser::next()──────▶ Entry, Data and Hole pieces of its content, Done; End
//! ```
//!
//! The [`Parser`] reads more than is written: GNU's long names and its older sparse formats, volume labels, base-256
//! numbers, archives that end with one block of zeros. It takes bytes as they come, in pieces of any size, and hands file
//! content on without copying it. Nothing is trusted: sizes, checksums, maps and names are checked, [`relative`] tells
//! whether a name stays below its target, and what one entry may say about itself is bounded ([`MAX_NAME`], [`MAX_PAX`],
//! [`MAX_EXTENSIONS`], [`MAX_SEGMENTS`]). [`Reader`] is the same for those who have a stream to read from.

mod foreign;
mod number;
mod parser;
mod pax;
mod reader;
mod sparse;
mod write;

pub use parser::Parser;
pub use reader::{Content, Reader};
pub use sparse::{MAX_SEGMENTS, Segment, stored};
pub use write::{END, header, padding, sparse_header};

/// Length of a block.
const BLOCK: usize = 512;
/// Longest name or link target. Linux allows 4095 bytes for a path in one call; by descriptors a tree may be deeper.
pub const MAX_NAME: usize = (32 << 10) - 1;
/// Largest set of pax records of one entry; they are gathered in memory. Extended attributes come to 64 KiB each.
pub const MAX_PAX: u64 = 1 << 20;
/// Largest sum of all extension headers of one entry, their own blocks included. Without it an
/// archive of nothing but such headers would be gathered for ever.
pub const MAX_EXTENSIONS: u64 = MAX_PAX + 2 * (MAX_NAME as u64 + 1) + 16 * BLOCK as u64;
/// Largest size of an entry. What cannot be a file's size on Linux is a mistake.
const MAX_SIZE: u64 = i64::MAX as u64;

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with content.
    #[default]
    File,
    /// Another name of an entry before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name as the archive has it: it may be absolute or contain `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, set-user-id and the like included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The file's size: bytes of content that follow, and of holes.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_nsec: u32,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, name and value, when the parser [keeps](Parser::keeping_xattrs) them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the [`Parser`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An entry begins; its content follows.
    Entry(Box<Entry>),
    /// Some bytes of its content, at least one.
    Data(&'a [u8]),
    /// So many zeros of its content, at least one, that take no place on a disk. Only from a parser that
    /// [takes](Parser::taking_holes) them.
    Hole(u64),
    /// All of the entry's content was seen. Comes for every entry.
    Done,
    /// The archive's end. What follows it is padding and is ignored. An archive with a single block of zeros at its end has
    /// none.
    End,
}

/// Bytes that are no archive, or one that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A header's checksum is wrong: these bytes are no header.
    #[error("a header's checksum is wrong; this is not a tar archive, or it is damaged")]
    Checksum,
    /// It is something else, that is known.
    #[error("this is {what}, and not a tar stream; {remedy}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// How it becomes a tar stream.
        remedy: &'static str,
    },
    /// A field that should be a number is none, or out of range.
    #[error("the field {0} is not a valid number")]
    Number(&'static str),
    /// Pax records are malformed.
    #[error("malformed pax records")]
    Pax,
    /// The map of a file with holes is malformed.
    #[error("the map of a sparse file is malformed")]
    Sparse,
    /// A name, or a set of pax records, is too long.
    #[error("{what} of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A sparse file in more pieces than are taken.
    #[error("a sparse file of more than {MAX_SEGMENTS} pieces")]
    Pieces,
    /// A kind of entry that cannot be unpacked.
    #[error("entries of type {:?}{} are not supported", char::from(*.0), note(*.0))]
    Kind(u8),
    /// An entry without a name.
    #[error("an entry has no name")]
    NoName,
    /// The stream ended before the archive did.
    #[error("the archive is cut short")]
    CutShort,
}

impl From<ArchiveError> for std::io::Error {
    fn from(error: ArchiveError) -> Self {
        let kind = match error {
            ArchiveError::CutShort => std::io::ErrorKind::UnexpectedEof,
            _ => std::io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

fn note(kind: u8) -> &'static str {
    match kind {
        b'S' => " (sparse files, as GNU tar writes them with --sparse)",
        b'M' => " (the rest of a file of another volume)",
        b'D' => " (folders of an incremental archive)",
        _ => "",
    }
}

/// Splits a name into components below its target: empty and `.` components are dropped. `None` if it is absolute or
/// has a `..`, so that it could name something outside. An empty result names the target itself.
pub fn relative(path: &[u8]) -> Option<Vec<&[u8]>> {
    if path.first() == Some(&b'/') {
        return None;
    }
    let parts: Vec<&[u8]> = path
        .split(|&b| b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .collect();
    (!parts.contains(&b"..".as_slice())).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leaves_its_target_has_no_components() {
        assert_eq!(relative(b"./a//b/./c/"), Some(vec![&b"a"[..], b"b", b"c"]));
        assert_eq!(relative(b"./"), Some(vec![]));
        assert_eq!(relative(b"a..b/..."), Some(vec![&b"a..b"[..], b"..."]));
        assert_eq!(relative(b"/etc/passwd"), None);
        assert_eq!(relative(b"a/../../b"), None);
        assert_eq!(relative(b".."), None);
    }
}
