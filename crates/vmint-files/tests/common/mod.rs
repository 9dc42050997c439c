//! Archives as a hostile guest writes them, and a tree that must not change.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vmint_files::{Options, UnpackError, Unpacked, unpack};

pub const FILE: u8 = b'0';
pub const HARD: u8 = b'1';
pub const SYM: u8 = b'2';
pub const CHAR: u8 = b'3';
pub const DIR: u8 = b'5';
pub const FIFO: u8 = b'6';

/// A header with these fields as they are, however wrong.
pub fn header(name: &[u8], kind: u8, mode: u32, link: &[u8], size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"07000000000\0");
    block[156] = kind;
    block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// An entry, with a long name and a long link target where the header has no room.
pub fn entry(name: &[u8], kind: u8, mode: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut long = |kind, text: &[u8]| {
        if text.len() > 100 {
            bytes.extend(header(b"long", kind, 0, b"", text.len() as u64 + 1));
            bytes.extend(padded([text, b"\0"].concat()));
        }
    };
    long(b'L', name);
    let (link, content) = match kind {
        HARD | SYM => (rest, &b""[..]),
        FILE => (&b""[..], rest),
        _ => (&b""[..], &b""[..]),
    };
    long(b'K', link);
    bytes.extend(header(name, kind, mode, link, content.len() as u64));
    bytes.extend(padded(content.to_vec()));
    bytes
}

pub fn archive(entries: &[(&str, u8, u32, &str)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(name, kind, mode, rest)| entry(name.as_bytes(), *kind, *mode, rest.as_bytes()))
        .collect();
    bytes.extend([0; 1024]);
    bytes
}

pub fn open(folder: &Path) -> OwnedFd {
    fs::File::open(folder).unwrap().into()
}

pub fn unpack_to(folder: &Path, bytes: &[u8], options: Options) -> Result<Unpacked, UnpackError> {
    unpack(bytes, open(folder), options)
}

/// All that can be known of a tree: a change of any kind shows in the change times.
#[derive(Debug, PartialEq, Eq)]
pub struct Known(BTreeMap<PathBuf, (String, Vec<u8>)>);

pub fn know(root: &Path) -> Known {
    let mut known = BTreeMap::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if meta.is_dir() {
            rest.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if meta.is_symlink() {
            content = fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes();
        } else if meta.is_file() {
            content = fs::read(&path).unwrap();
        }
        let facts = format!(
            "{:o} inode {} links {} of {}:{} m {}.{} c {}.{}",
            meta.mode(),
            meta.ino(),
            meta.nlink(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        known.insert(path, (facts, content));
    }
    Known(known)
}

/// A folder with a target, and outside of it what a guest would like to reach.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub target: PathBuf,
    pub outside: PathBuf,
}

pub fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
    fs::create_dir(&target).unwrap();
    fs::create_dir_all(outside.join("folder")).unwrap();
    fs::write(outside.join("key"), "secret").unwrap();
    fs::write(outside.join("folder/file"), "precious").unwrap();
    std::os::unix::fs::symlink("key", outside.join("link")).unwrap();
    Place {
        dir,
        target,
        outside,
    }
}
