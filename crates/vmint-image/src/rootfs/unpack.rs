//! Archives into a tree.

use super::tree::{Attributes, Special, Tree};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vmint_protocol::archive::{Entry, EntryKind, Parser, Reader};

/// Most bytes of extended attributes. Debian's packages have some dozen, of 20 bytes each.
const XATTRS: u64 = 64 << 20;

/// What an archive may come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bytes of file content left.
    pub(crate) bytes: u64,
    /// Entries left.
    pub(crate) entries: u64,
    /// Bytes of extended attributes left.
    xattrs: u64,
    given: u64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            entries: 8_000_000,
            xattrs: XATTRS,
            given: bytes,
        }
    }
}

/// What an archive's names mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` the whole folder.
    Apply,
    /// They are names like others.
    Keep,
}

/// An archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive cannot be read.
    #[error("the archive is damaged")]
    Archive(#[source] io::Error),
    /// An entry cannot be made.
    #[error("cannot unpack {}", path.display())]
    Entry {
        /// Its path in the archive.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More than is allowed.
    #[error("the archive holds more than {limit} bytes, or too many files")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

impl UnpackError {
    pub(crate) fn is_no_space(&self) -> bool {
        match self {
            Self::Archive(e) | Self::Entry { source: e, .. } => {
                matches!(
                    e.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            Self::TooLarge { .. } => false,
        }
    }
}

/// Unpacks a tar stream over what the tree holds. Reads it to its very end.
///
/// The protocol's parser takes it apart: the crate `tar` gathers a long name or pax records of any size in memory.
pub(crate) fn unpack(
    stream: impl Read,
    tree: &mut Tree,
    whiteouts: Whiteouts,
    budget: &mut Budget,
) -> Result<(), UnpackError> {
    tree.next_layer();
    let mut archive =
        Reader::with_parser(stream, Parser::default().keeping_xattrs().taking_holes());
    while let Some(entry) = archive.next_entry().map_err(UnpackError::Archive)? {
        let path = PathBuf::from(OsStr::from_bytes(&entry.path));
        let too_large = UnpackError::TooLarge {
            limit: budget.given,
        };
        if budget.entries == 0 {
            return Err(too_large);
        }
        budget.entries -= 1;
        let content = &mut archive.content();
        match unpack_entry(entry, content, &path, tree, whiteouts, budget) {
            Ok(size) if size > budget.bytes => return Err(too_large),
            Ok(size) => budget.bytes -= size,
            Err(source) => return Err(UnpackError::Entry { path, source }),
        }
    }
    // What follows the archive's end belongs to a blob's digest.
    archive.drain().map_err(UnpackError::Archive)
}

/// Unpacks one entry; gives the bytes of its content, of which no more than one above what is left are written.
fn unpack_entry(
    entry: Entry,
    content: &mut impl Read,
    path: &Path,
    tree: &mut Tree,
    whiteouts: Whiteouts,
    budget: &mut Budget,
) -> io::Result<u64> {
    if whiteouts == Whiteouts::Apply
        && let Some(hidden) = path
            .file_name()
            .and_then(|name| name.as_bytes().strip_prefix(b".wh."))
    {
        let parent = path.parent().unwrap_or(Path::new(""));
        match hidden {
            b".wh..opq" => tree.white_out_content(parent)?,
            // Other names of this kind are notes of the storage driver that made the layer.
            hidden if hidden.starts_with(b".wh.") => {}
            hidden => tree.white_out(&parent.join(OsStr::from_bytes(hidden)))?,
        }
        return Ok(0);
    }
    let mut attributes = Attributes {
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode,
        mtime: Some(entry.mtime),
        ..Attributes::default()
    };
    let (major, minor) = entry.device;
    let special = match entry.kind {
        EntryKind::File => {
            attributes.xattrs = xattrs(entry.xattrs, budget)?;
            let limit = budget.bytes.saturating_add(1);
            return tree.file(path, attributes, &mut content.take(limit));
        }
        EntryKind::Directory => {
            attributes.xattrs = xattrs(entry.xattrs, budget)?;
            tree.directory(path, Some(attributes))?;
            return Ok(0);
        }
        EntryKind::Symlink | EntryKind::HardLink if entry.link.is_empty() => {
            let missing = "a link without a target";
            return Err(io::Error::new(io::ErrorKind::InvalidData, missing));
        }
        EntryKind::Symlink => {
            tree.symlink(path, OsStr::from_bytes(&entry.link), attributes)?;
            return Ok(0);
        }
        EntryKind::HardLink => {
            tree.hard_link(path, Path::new(OsStr::from_bytes(&entry.link)))?;
            return Ok(0);
        }
        EntryKind::CharDevice => Special::Character { major, minor },
        EntryKind::BlockDevice => Special::Block { major, minor },
        EntryKind::Fifo => Special::Fifo,
    };
    tree.special(path, special, attributes)?;
    Ok(0)
}

/// The extended attributes that go into an image. They are held in memory until the disk is made, so all of them together
/// have a budget.
pub(super) fn xattrs(
    records: Vec<(Vec<u8>, Vec<u8>)>,
    budget: &mut Budget,
) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    for (name, value) in records {
        let Ok(name) = String::from_utf8(name) else {
            continue;
        };
        if name != "security.capability" && !name.starts_with("user.") {
            continue;
        }
        budget.xattrs = budget
            .xattrs
            .checked_sub((name.len() + value.len()) as u64)
            .ok_or_else(|| {
                let message = format!("extended attributes come to more than {XATTRS} bytes");
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
        xattrs.insert(name, value);
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tar::EntryType;

    /// An archive of entries whose names are written as they are, however evil.
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_uid(1234);
            header.set_gid(70000);
            header.set_mtime(1_000_000_000);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let content = if link { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::create(&dir.path().join("root")).unwrap();
        (dir, tree)
    }

    #[test]
    fn layers_hide_and_replace_what_is_below() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let (dir, mut tree) = tree();
        let mut budget = Budget::new(1 << 20);
        let lower = [
            ("etc/", Directory, ""),
            ("etc/gone", Regular, "1"),
            ("etc/kept", Regular, "2"),
            ("var/cache/old", Regular, "3"),
            ("thing", Directory, ""),
            ("thing/inside", Regular, "4"),
            ("bin", Symlink, "usr/bin"),
            ("usr/bin/tool", Regular, "5"),
            ("tool2", Link, "bin/tool"),
        ];
        unpack(
            &archive(&lower)[..],
            &mut tree,
            Whiteouts::Apply,
            &mut budget,
        )
        .unwrap();
        let upper = [
            ("etc/.wh.gone", Regular, ""),
            ("var/cache/new", Regular, "6"),
            ("var/cache/.wh..wh..opq", Regular, ""),
            ("thing", Regular, "now a file"),
            (".wh..wh.plnk", Directory, ""),
            ("bin/more", Regular, "7"),
        ];
        unpack(
            &archive(&upper)[..],
            &mut tree,
            Whiteouts::Apply,
            &mut budget,
        )
        .unwrap();
        let root = dir.path().join("root");
        let text = |path: &str| {
            std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| format!("{path}: {e}"))
        };
        assert!(!root.join("etc/gone").exists() && !root.join("var/cache/old").exists());
        assert_eq!(
            (text("etc/kept"), text("var/cache/new"), text("thing")),
            ("2".into(), "6".into(), "now a file".into())
        );
        assert_eq!(
            (text("tool2"), text("usr/bin/more")),
            ("5".into(), "7".into())
        );
        assert!(
            tree.list("")
                .unwrap()
                .iter()
                .all(|name| !name.as_bytes().starts_with(b".wh."))
        );
    }

    #[test]
    fn owners_and_modes_are_kept_beside_and_not_on_the_host() {
        use std::os::unix::fs::MetadataExt;
        let (dir, mut tree) = tree();
        let bytes = archive(&[
            ("su", EntryType::Regular, "x"),
            ("null", EntryType::Char, ""),
        ]);
        unpack(
            &bytes[..],
            &mut tree,
            Whiteouts::Keep,
            &mut Budget::new(100),
        )
        .unwrap();
        for (name, special) in [
            ("su", None),
            ("null", Some(Special::Character { major: 1, minor: 3 })),
        ] {
            let meta = std::fs::symlink_metadata(dir.path().join("root").join(name)).unwrap();
            assert!(meta.is_file() && meta.mode() & 0o7777 == 0o600, "{name}");
            let attributes = tree.attributes_of(meta.ino()).unwrap();
            assert_eq!(
                (attributes.uid, attributes.gid, attributes.mode),
                (1234, 70000, 0o4755)
            );
            assert_eq!(attributes.special, special);
            assert_eq!(attributes.mtime, Some(1_000_000_000));
        }
    }

    #[test]
    fn more_than_allowed_is_an_error_before_it_is_written() {
        let (dir, mut tree) = tree();
        let bytes = archive(&[
            ("a", EntryType::Regular, "12345"),
            ("b", EntryType::Regular, "1234567890"),
        ]);
        let error =
            unpack(&bytes[..], &mut tree, Whiteouts::Keep, &mut Budget::new(8)).unwrap_err();
        assert!(
            matches!(error, UnpackError::TooLarge { limit: 8 }),
            "{error}"
        );
        assert!(std::fs::metadata(dir.path().join("root/b")).unwrap().len() <= 4);
    }

    #[test]
    fn garbage_and_cut_archives_are_errors() {
        let whole = archive(&[("a", EntryType::Regular, &"x".repeat(5000))]);
        for bad in [&whole[..700], &[b'x'; 2000][..]] {
            let (_dir, mut tree) = tree();
            assert!(unpack(bad, &mut tree, Whiteouts::Keep, &mut Budget::new(1 << 20)).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Entries of evil names in any order: links up and away, files through them, hard links, whiteouts. Nothing
        /// beside the root is made, changed or removed.
        #[test]
        fn no_archive_reaches_outside(entries in prop::collection::vec((
            prop::sample::select(vec!["a", "a/b", "../x", "/x", "a/../../x", "l", "l/x", "l/../x", "m/x", ".wh.a", "l/.wh.precious",
                "../.wh.precious", "l/.wh..wh..opq", "..", ".", "l/precious", "m/l/precious", "./../precious"]),
            prop::sample::select(vec![EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Char]),
            prop::sample::select(vec!["..", "../..", "/", "/..", "l", "a", "../precious", "/tmp", "m/../.."]),
        ), 1..12)) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("precious"), "precious").unwrap();
            let mut tree = Tree::create(&dir.path().join("root")).unwrap();
            let _ = unpack(&archive(&entries)[..], &mut tree, Whiteouts::Apply, &mut Budget::new(1 << 20));
            prop_assert_eq!(std::fs::read_to_string(dir.path().join("precious")).unwrap(), "precious");
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        }
    }
}
