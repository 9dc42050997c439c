//! Any tree, copied into a guest and out again, is the same tree: packed by the host, unpacked by the agent, packed by the
//! agent, unpacked by the host; and read by the same rules at each step.

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vmint_agent::unpack::Unpack;
use vmint_files::{Options, Owners, Root, Unpacked, Unpacker};
use vmint_protocol::{Partly, TarIn};
use vmint_tree::{As, Packed, Reason, Writing, Xattrs, pack, xattrs};

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// As the host packs.
fn host_packs(path: &Path, named: As<'_>) -> (Vec<u8>, Packed) {
    let mut archive = Vec::new();
    let mut sink = Writing::new(&mut archive);
    let packed = pack(&bytes(path), named, Xattrs::Keep, &mut sink).unwrap();
    (archive, packed)
}

/// As the agent's child packs.
fn guest_packs(path: &[u8]) -> (Vec<u8>, Packed) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let path = path.to_vec();
    let packer = std::thread::spawn(move || vmint_agent::tarball::pack(&path, write).unwrap());
    let mut archive = Vec::new();
    fs::File::from(read).read_to_end(&mut archive).unwrap();
    (archive, packer.join().unwrap())
}

/// Owners are left alone unless the tests run as root.
fn guest_unpacks(archive: &[u8], target: &Path, piece: usize) -> Partly {
    let me = format!(
        "{}:{}",
        rustix::process::geteuid(),
        rustix::process::getegid()
    );
    let mut unpack = Unpack::start(&TarIn {
        path: bytes(target),
        user: (!is_root()).then_some(me),
    })
    .unwrap();
    for piece in archive.chunks(piece) {
        unpack.push(piece).unwrap();
    }
    unpack.finish().unwrap()
}

fn host_unpacks(archive: &[u8], target: &Path, piece: usize) -> Unpacked {
    fs::create_dir_all(target).unwrap();
    let owners = if is_root() {
        Owners::Kept
    } else {
        Owners::Mine
    };
    let options = Options {
        owners,
        root: Root::New,
        ..Options::default()
    };
    let mut unpacker = Unpacker::new(fs::File::open(target).unwrap().into(), options);
    for piece in archive.chunks(piece) {
        unpacker.push(piece).unwrap();
    }
    unpacker.finish().unwrap()
}

/// There and back.
fn round(from: &Path, to: &Path, piece: usize) -> (Partly, Unpacked) {
    let guest = to.with_extension("guest");
    let (archive, packed) = host_packs(from, As::Content);
    assert_eq!(packed.trouble, None);
    let unpacked = guest_unpacks(&archive, &guest, piece);
    assert_eq!(unpacked.sent, packed.sent);
    let (back, again) = guest_packs(&[&bytes(&guest)[..], b"/."].concat());
    assert_eq!((again.sent, again.trouble), (packed.sent, None));
    // Nothing of the tree is another in the guest: neither is its archive.
    assert!(archive == back, "the guest packs it in another way");
    (unpacked, host_unpacks(&back, to, piece))
}

/// All there is to know of a tree, but for what two file systems cannot have alike.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            rest.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "folder".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_fifo() {
            "pipe".to_owned()
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap();
            let sum = content.iter().enumerate();
            let sum = sum.fold(0u64, |sum, (at, b)| {
                sum.wrapping_mul(31).wrapping_add(u64::from(*b) + at as u64)
            });
            let first: &mut PathBuf = inodes.entry(meta.ino()).or_insert(name.clone());
            // The folders are gone through in one order, whatever the tree.
            *first = first.clone().min(name.clone());
            format!("{} bytes of {sum}, {} names", content.len(), meta.nlink())
        } else {
            format!("{kind:?}")
        };
        let xattrs = if kind.is_file() || kind.is_dir() {
            let file = fs::File::open(&path).unwrap();
            format!("{:?}", xattrs::get(file.as_fd()))
        } else {
            String::new()
        };
        let mode = meta.mode() & 0o777;
        let owner = (meta.uid(), meta.gid());
        let time = (meta.mtime(), meta.mtime_nsec());
        found.insert(name, format!("{what} {mode:o} {owner:?} {time:?} {xattrs}"));
    }
    found
}

/// What of a tree takes place on the disk, in bytes.
fn takes(root: &Path) -> u64 {
    let meta = fs::symlink_metadata(root).unwrap();
    if meta.is_dir() {
        let entries = fs::read_dir(root).unwrap();
        entries.map(|entry| takes(&entry.unwrap().path())).sum()
    } else {
        meta.blocks() * 512
    }
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Holes(Vec<(u32, u16)>, u32),
    Folder,
    Link(String),
    Pipe,
    /// Another name of a file before.
    Twin(usize),
}

#[derive(Clone, Debug)]
struct Leaf {
    folders: Vec<String>,
    name: String,
    node: Node,
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    xattrs: Vec<(String, Vec<u8>)>,
}

fn name() -> impl Strategy<Value = String> {
    // Few, so that they meet; odd ones, and one that is too long for a header.
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c d", ".x", "ü\n\u{1}", "-", "..a"]).prop_map(String::from),
        1 => "[a-zA-Z \\\\'\"%=]{1,120}",
    ]
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let node = prop_oneof![
        4 => vec(any::<u8>(), 0..5000).prop_map(Node::File),
        1 => (90_000usize..200_000).prop_map(|n| Node::File(vec![b'l'; n])),
        2 => (vec((0u32..1 << 20, 1u16..9000), 0..5), 0u32..1 << 20)
            .prop_map(|(pieces, rest)| Node::Holes(pieces, rest)),
        2 => Just(Node::Folder),
        2 => "[a-z./]{1,150}".prop_map(Node::Link),
        1 => Just(Node::Pipe),
        2 => any::<usize>().prop_map(Node::Twin),
    ];
    (
        (vec(name(), 0..4), name()),
        node,
        0u32..0o1000,
        (0u32..5000, 0u32..5000),
        (-1000i64..1 << 33, 0i64..1_000_000_000),
        vec(("[a-z=%]{1,20}", vec(any::<u8>(), 0..60)), 0..3),
    )
        .prop_map(|((folders, name), node, mode, owner, time, xattrs)| Leaf {
            folders,
            name,
            node,
            // Those who test without being root must be able to read it.
            mode: mode | 0o400 | if is_root() { 0 } else { 0o700 },
            owner,
            time,
            xattrs,
        })
}

/// Makes the tree, as far as its names can be had.
fn plant(root: &Path, leaves: &[Leaf]) {
    fs::create_dir_all(root).unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Leaf)> = Vec::new();
    for leaf in leaves {
        let mut folder = root.to_owned();
        folder.extend(&leaf.folders);
        if fs::create_dir_all(&folder).is_err() {
            continue;
        }
        let path = folder.join(&leaf.name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match &leaf.node {
            Node::File(content) => fs::write(&path, content).unwrap(),
            Node::Holes(pieces, rest) => {
                let file = fs::File::create(&path).unwrap();
                let mut at = 0;
                for (hole, len) in pieces {
                    at += u64::from(*hole);
                    file.write_all_at(&vec![b'h'; usize::from(*len)], at)
                        .unwrap();
                    at += u64::from(*len);
                }
                file.set_len(at + u64::from(*rest)).unwrap();
            }
            Node::Folder => fs::create_dir(&path).unwrap(),
            Node::Link(text) => symlink(text, &path).unwrap(),
            Node::Pipe => {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
            }
            Node::Twin(of) => {
                if !files.is_empty() {
                    fs::hard_link(&files[of % files.len()], &path).unwrap();
                }
                continue;
            }
        }
        if matches!(leaf.node, Node::File(_) | Node::Holes(..)) {
            files.push(path.clone());
        }
        made.push((path, leaf));
    }
    // Inner ones first: what is made in a folder changes its time.
    made.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
    for (path, leaf) in made {
        dress(&path, leaf);
    }
}

fn dress(path: &Path, leaf: &Leaf) {
    let is_link = matches!(leaf.node, Node::Link(_));
    if is_root() {
        std::os::unix::fs::lchown(path, Some(leaf.owner.0), Some(leaf.owner.1)).unwrap();
    }
    if !is_link {
        fs::set_permissions(path, fs::Permissions::from_mode(leaf.mode)).unwrap();
    }
    if !matches!(leaf.node, Node::Link(_) | Node::Pipe) {
        for (name, value) in &leaf.xattrs {
            let set =
                rustix::fs::setxattr(path, format!("user.{name}"), value, XattrFlags::empty());
            // Not on every file system.
            let _ = set;
        }
    }
    let time = Timespec {
        tv_sec: leaf.time.0,
        tv_nsec: leaf.time.1,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let itself = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, itself).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_copied_in_and_out_is_the_same_tree(
        leaves in vec(leaf(), 0..25),
        piece in prop::sample::select(vec![511usize, 4096, 100_000, 1 << 20]),
    ) {
        let home = TempDir::new().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        plant(&from, &leaves);
        let (inside, outside) = round(&from, &to, piece);
        prop_assert!(inside.left_out.is_empty(), "{:?}", inside.left_out);
        prop_assert!(outside.skipped.is_empty(), "{}", outside.skipped);
        prop_assert_eq!(describe(&to), describe(&from));
        // Holes are holes, give or take a block for each piece.
        prop_assert!(takes(&to) <= takes(&from) + 16384 * leaves.len() as u64);
    }
}

#[test]
fn a_tree_deeper_than_a_path_may_be_is_copied_in_and_out() {
    let home = TempDir::new().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    fs::create_dir(&from).unwrap();
    let name = "d".repeat(200);
    let open = |at: &OwnedFd, name: &str| {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty()).unwrap()
    };
    let put = |at: &OwnedFd, name: &str, text: &[u8]| {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(at, name, flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, text).unwrap();
    };
    // 150 folders of 200 letters: 30,150 bytes, and more of them than are open at once.
    let mut at: OwnedFd = fs::File::open(&from).unwrap().into();
    for depth in 0..150 {
        rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
        // After the folder, so that the walk must find its way back.
        put(&at, "z", format!("{depth}").as_bytes());
        at = open(&at, &name);
    }
    put(&at, "deepest", b"here");
    let (_, outside) = round(&from, &to, 1 << 20);
    assert!(outside.skipped.is_empty(), "{}", outside.skipped);
    let mut at: OwnedFd = fs::File::open(&to).unwrap().into();
    let get = |at: &OwnedFd, name: &str| {
        let file = rustix::fs::openat(at, name, OFlags::RDONLY, Mode::empty()).unwrap();
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        text
    };
    for depth in 0..150 {
        assert_eq!(get(&at, "z"), depth.to_string());
        at = open(&at, &name);
    }
    assert_eq!(get(&at, "deepest"), "here");
    // What is deeper than a name in an archive is told, and all else is packed.
    let mut end: OwnedFd = rustix::io::dup(&at).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&end, &*name, Mode::RWXU).unwrap();
        end = open(&end, &name);
    }
    let (_, packed) = host_packs(&to, As::Content);
    let trouble = packed.trouble.expect("a name of over 32 KiB");
    assert_eq!(trouble.first.reason, Reason::TooDeep);
    // A folder is removed by its path, which is too long.
    for path in [&from, &to, &to.with_extension("guest")] {
        let done = std::process::Command::new("rm")
            .arg("-rf")
            .arg(path)
            .status();
        assert!(done.unwrap().success());
    }
}

#[test]
fn sockets_and_what_cannot_be_read_are_told_and_the_rest_is_packed() {
    let home = TempDir::new().unwrap();
    let from = home.path().join("from");
    fs::create_dir(&from).unwrap();
    for name in ["s1", "s2"] {
        drop(std::os::unix::net::UnixListener::bind(from.join(name)).unwrap());
    }
    fs::write(from.join("z"), "after them").unwrap();
    let (archive, packed) = host_packs(&from, As::Named(b"it"));
    assert_eq!((packed.left_out.sockets, packed.sent.entries), (2, 2));
    assert_eq!(packed.left_out.first, bytes(&from.join("s1")));
    let to = home.path().join("to");
    host_unpacks(&archive, &to, 1000);
    assert_eq!(fs::read(to.join("it/z")).unwrap(), b"after them");
    if !is_root() {
        fs::write(from.join("a"), "").unwrap();
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o0)).unwrap();
        let (_, packed) = host_packs(&from, As::Content);
        assert_eq!(packed.trouble.unwrap().first.path, bytes(&from.join("a")));
    }
    let missing = home.path().join("missing");
    let mut sink = Writing::new(std::io::sink());
    let error = pack(&bytes(&missing), As::Content, Xattrs::Keep, &mut sink).unwrap_err();
    assert_eq!(error.reason, Reason::Os(rustix::io::Errno::NOENT));
}

/// Files of `/proc` have no length, those of `/sys` a wrong one.
#[test]
fn files_that_the_kernel_makes_up_are_read_to_their_end() {
    let home = TempDir::new().unwrap();
    for path in [
        "/proc/self/status",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        let path = Path::new(path);
        let Ok(expected) = fs::read(path) else {
            continue;
        };
        for (name, archive) in [
            ("host", host_packs(path, As::Named(b"f")).0),
            ("guest", guest_packs(&bytes(path)).0),
        ] {
            let to = home.path().join(name);
            let _ = fs::remove_dir_all(&to);
            host_unpacks(&archive, &to, 777);
            let file = fs::read_dir(&to).unwrap().next().unwrap().unwrap().path();
            let found = fs::read(file).unwrap();
            // The status changes from one reading to the next; its first line does not.
            let line = |text: &[u8]| text.split(|b| *b == b'\n').next().unwrap().to_vec();
            if name == "host" {
                assert_eq!(line(&found), line(&expected), "{path:?}");
            }
            assert!(found.len() > 5, "{path:?}");
        }
    }
}
