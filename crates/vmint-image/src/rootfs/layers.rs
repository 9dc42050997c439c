//! Whatever layers there are: the same ones are the same disk, to the byte, and one that can be read.

use super::ext4;
use super::tree::Tree;
use super::unpack::{Budget, Whiteouts, unpack};
use crate::command::Program;
use crate::digest::Digest;
use crate::progress::Silent;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tar::EntryType;
use vmint_model::Confine;

/// One entry of a layer.
#[derive(Clone, Debug)]
struct Entry {
    path: &'static str,
    kind: EntryType,
    /// Of a link; otherwise the content.
    target: &'static str,
    mode: u32,
    uid: u64,
    mtime: u64,
}

type Layer = Vec<Entry>;

fn archive(layer: &Layer) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in layer {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.uid);
        header.set_gid(entry.uid);
        header.set_mtime(entry.mtime);
        header.set_device_major(1).unwrap();
        header.set_device_minor(7).unwrap();
        let mut content = Vec::new();
        match entry.kind {
            EntryType::Symlink | EntryType::Link => {
                let link = entry.target.as_bytes();
                header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
            }
            // With a hole, and with a part of a block.
            EntryType::Regular => {
                content = vec![0; 70_000 * (entry.uid as usize % 3)];
                content.extend(entry.target.as_bytes());
            }
            _ => {}
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The disk of these layers, as far as they can be unpacked, made in this folder.
fn disk(dir: &Path, layers: &[Layer]) -> PathBuf {
    let mut tree = Tree::create(&dir.join("root")).unwrap();
    for layer in layers {
        // An entry that cannot be is an error, and what came before it is there.
        let _ = unpack(
            &archive(layer)[..],
            &mut tree,
            Whiteouts::Apply,
            &mut Budget::new(1 << 30),
        );
    }
    let disk = dir.join("disk");
    ext4::make(&tree, &disk, 16 << 20, Confine::Best, &Silent).unwrap();
    disk
}

fn any_layer() -> impl Strategy<Value = Layer> {
    let path = prop::sample::select(vec![
        "a",
        "a/b",
        "a/b/c",
        "d",
        "d/e",
        "l",
        "l/x",
        "z/y/x",
        ".wh.a",
        ".wh.d",
        "a/.wh.b",
        "d/.wh..wh..opq",
        "a/../f",
        ".",
        "lost+found/x",
    ]);
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
    ]);
    let target = prop::sample::select(vec![
        "a",
        "d",
        "a/b",
        "/d/e",
        "l",
        "a link whose text is longer than the sixty bytes that an inode holds",
    ]);
    let entry = (
        path,
        kind,
        target,
        0..0o10000u32,
        0..70_000u64,
        0..6_000_000_000u64,
    )
        .prop_map(|(path, kind, target, mode, uid, mtime)| Entry {
            path,
            kind,
            target,
            mode,
            uid,
            mtime,
        });
    prop::collection::vec(entry, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// On another file system of the host, too, which numbers and orders its files in another way.
    #[test]
    fn any_list_of_layers_is_one_disk_whenever_and_wherever_it_is_made(layers in prop::collection::vec(any_layer(), 1..4)) {
        let here = tempfile::tempdir().unwrap();
        let there = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let first = disk(here.path(), &layers);
        Program::new("e2fsck").args(["-f", "-n"]).arg(&first).output().unwrap();
        let second = disk(there.path(), &layers);
        prop_assert_eq!(Digest::of_sparse_file(&first).unwrap(), Digest::of_sparse_file(&second).unwrap());
    }
}

/// The seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs()
}

/// No time of the host is in it: a time that it has now or has had since would be found as four bytes.
#[test]
fn a_disk_holds_no_time_of_its_making() {
    let dir = tempfile::tempdir().unwrap();
    let entry = |path, kind, target| Entry {
        path,
        kind,
        target,
        mode: 0o755,
        uid: 0,
        mtime: 1000,
    };
    let layers = [
        vec![
            entry("a/b", EntryType::Regular, "x"),
            entry("l", EntryType::Symlink, "a"),
            entry("null", EntryType::Char, ""),
        ],
        vec![
            entry("d/.wh.x", EntryType::Regular, ""),
            entry("d/e/f", EntryType::Regular, "y"),
        ],
    ];
    let began = now();
    let bytes = std::fs::read(disk(dir.path(), &layers)).unwrap();
    let times = began..=now();
    assert!(
        times.clone().count() < 600,
        "as many numbers as would be found by chance"
    );
    for (at, word) in bytes.chunks_exact(4).enumerate() {
        let word = u64::from(u32::from_le_bytes(word.try_into().unwrap()));
        assert!(
            !times.contains(&word),
            "a time of now at byte {:#x}",
            at * 4
        );
    }
}
