//! What is taken for an archive and is none: known by its first bytes.

use super::ArchiveError;

/// What begins so.
const KNOWN: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "a gzip file", "decompress it first: gzip -dc"),
    (
        b"\x28\xb5\x2f\xfd",
        "a zstd file",
        "decompress it first: zstd -dc",
    ),
    (b"\xfd7zXZ\0", "an xz file", "decompress it first: xz -dc"),
    (b"BZh", "a bzip2 file", "decompress it first: bzip2 -dc"),
    (
        b"\x04\x22\x4d\x18",
        "an lz4 file",
        "decompress it first: lz4 -dc",
    ),
    (b"LZIP", "an lzip file", "decompress it first: lzip -dc"),
    (
        b"\x1f\x9d",
        "a file of compress",
        "decompress it first: gzip -dc",
    ),
    (b"PK\x03\x04", "a zip file", "unpack it first: unzip"),
    (b"PK\x05\x06", "an empty zip file", "unpack it first: unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file", "unpack it first: 7z x"),
    (b"070701", "a cpio archive", "unpack it first: cpio -id"),
    (b"070707", "a cpio archive", "unpack it first: cpio -id"),
    (b"!<arch>\n", "an ar archive", "unpack it first: ar x"),
];

/// What these first bytes of a stream, which are no header, belong to.
pub(super) fn recognised(bytes: &[u8]) -> Option<ArchiveError> {
    let foreign = |what, remedy| ArchiveError::Foreign { what, remedy };
    if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = bytes {
        // A skippable frame, with which pzstd and zstd:chunked begin.
        return Some(foreign("a zstd file", "decompress it first: zstd -dc"));
    }
    let (_, what, remedy) = KNOWN.iter().find(|(magic, ..)| bytes.starts_with(magic))?;
    Some(foreign(what, remedy))
}
