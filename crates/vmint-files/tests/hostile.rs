//! Archives as an attacker would write them, and another process that works against the unpacker. Whatever happens,
//! nothing outside the target folder changes.

mod common;

use common::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use vmint_files::{Options, Specials, Symlinks, UnpackError, Unpacker};

/// No file that a guest must not make, and none with more than permissions.
fn check_harmless(root: &Path) {
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        assert!(
            kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_fifo(),
            "{}: {kind:?}",
            path.display()
        );
        if !kind.is_symlink() {
            assert_eq!(meta.mode() & 0o7000, 0, "{}", path.display());
        }
        if kind.is_dir() {
            rest.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
}

/// What the user has in the target folder already.
#[derive(Clone, Copy, Debug)]
enum There {
    Nothing,
    LinkToFolder,
    LinkToFile,
    HardLink,
    Folder,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// `OUT` stands for the folder outside, by its absolute path.
    #[test]
    fn no_archive_reaches_outside_of_its_target(
        entries in prop::collection::vec((
            prop::sample::select(vec![
                "a", "A", "a/b", "a/b/c", "l", "l/x", "l/file", "l/folder/file", "L/x", "top/l", "top/l/key", "top/a/b",
                "../outside/key", "../outside/new", "../x", "..", ".", "./", "/", "a/../../outside/key", "a/..", "a//./b/",
                "OUT/key", "OUT/new", "OUT/folder", "there", "there/key", "there/new", "top/there/key",
            ]),
            prop::sample::select(vec![FILE, HARD, SYM, DIR, CHAR, FIFO, b'4', b'7', b'S']),
            prop::sample::select(vec![0o644, 0o777, 0o6777, 0o1777, 0o4755, 0o7000, 0]),
            prop::sample::select(vec![
                "OUT/key", "OUT/folder", "OUT", "../outside/key", "../outside", "../outside/folder", "a", "a/b", "l", "l/key",
                "l/file", "there", "there/key", ".", "..", "/", "/etc/passwd", "top/a/b", "top/l/key", "a/../../outside/key",
            ]),
        ), 1..14),
        there in prop::sample::select(vec![There::Nothing, There::LinkToFolder, There::LinkToFile, There::HardLink, There::Folder]),
        rename in prop::sample::select(vec![None, Some("there"), Some("new")]),
        symlinks in prop::sample::select(vec![Symlinks::All, Symlinks::Descending]),
        piece in 1usize..3000,
    ) {
        let place = place();
        let there_path = place.target.join("there");
        match there {
            There::Nothing => {}
            There::LinkToFolder => symlink(&place.outside, &there_path).unwrap(),
            There::LinkToFile => symlink(place.outside.join("key"), &there_path).unwrap(),
            There::HardLink => fs::hard_link(place.outside.join("key"), &there_path).unwrap(),
            There::Folder => fs::create_dir(&there_path).unwrap(),
        }
        let out = place.outside.to_str().unwrap();
        let bytes: Vec<u8> = entries.iter().flat_map(|(name, kind, mode, rest)| {
            entry(name.replace("OUT", out).as_bytes(), *kind, *mode, rest.replace("OUT", out).as_bytes())
        }).chain([0; 1024]).collect();
        let before = know(&place.outside);
        let options = Options { rename: rename.map(Into::into), symlinks, specials: Specials::PipesAlone, ..Options::default() };
        let mut unpacker = Unpacker::new(open(&place.target), options);
        let _ = bytes.chunks(piece).try_for_each(|piece| unpacker.push(piece));
        let hard = matches!(there, There::HardLink) && !there_path.exists_as_link(&place);
        if hard {
            // The user's own second name may be unlinked, which is a change of the link count and nothing else.
            prop_assert_eq!(fs::read(place.outside.join("key")).unwrap(), b"secret");
            prop_assert_eq!(fs::metadata(place.outside.join("key")).unwrap().mode() & 0o7777, 0o644);
        } else {
            prop_assert_eq!(know(&place.outside), before);
        }
        let mut names: Vec<_> = fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["outside", "target"]);
        check_harmless(&place.target);
    }
}

trait StillLinked {
    fn exists_as_link(&self, place: &Place) -> bool;
}

impl StillLinked for std::path::PathBuf {
    fn exists_as_link(&self, place: &Place) -> bool {
        let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| meta.ino());
        inode(self) == inode(&place.outside.join("key"))
    }
}

#[test]
fn a_hard_link_to_a_file_of_the_host_is_refused() {
    let place = place();
    fs::write(place.target.join("own"), "the user's").unwrap();
    let before = know(&place.outside);
    let key = place.outside.join("key");
    for link in [
        key.to_str().unwrap(),
        "../outside/key",
        "out/l/key",
        "own",
        "out",
    ] {
        let bytes = archive(&[
            ("out/", DIR, 0o755, ""),
            ("out/l", SYM, 0o777, place.outside.to_str().unwrap()),
            ("out/stolen", HARD, 0o644, link),
        ]);
        let error = unpack_to(&place.target, &bytes, Options::default()).unwrap_err();
        assert!(
            matches!(
                error,
                UnpackError::ForeignLink { .. } | UnpackError::Escapes { .. }
            ),
            "{link}: {error}"
        );
        assert!(!place.target.join("out/stolen").exists());
    }
    assert_eq!(know(&place.outside), before);
}

#[test]
fn a_folder_that_was_a_link_before_gets_no_mode() {
    let place = place();
    let before = know(&place.outside);
    let out = place.outside.to_str().unwrap();
    let key = place.outside.join("key");
    let bytes = archive(&[
        ("out/l", SYM, 0o777, out),
        ("out/l", DIR, 0o6777, ""),
        ("out/l", SYM, 0o777, key.to_str().unwrap()),
    ]);
    let error = unpack_to(&place.target, &bytes, Options::default()).unwrap_err();
    assert!(matches!(error, UnpackError::InTheWay { .. }), "{error}");
    // And a folder that becomes a link before its end.
    let bytes = archive(&[("d/", DIR, 0o6777, ""), ("d", SYM, 0o777, out)]);
    let error = unpack_to(&place.target, &bytes, Options::default()).unwrap_err();
    assert!(matches!(error, UnpackError::InTheWay { .. }), "{error}");
    assert_eq!(know(&place.outside), before);
    check_harmless(&place.target);
}

#[test]
fn a_file_is_replaced_and_never_written_through() {
    let place = place();
    let key = place.outside.join("key");
    symlink(&key, place.target.join("link")).unwrap();
    fs::hard_link(&key, place.target.join("hard")).unwrap();
    let bytes = archive(&[("link", FILE, 0o600, "new"), ("hard", FILE, 0o600, "new")]);
    unpack_to(&place.target, &bytes, Options::default()).unwrap();
    for name in ["link", "hard"] {
        let path = place.target.join(name);
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(path).unwrap(), b"new");
    }
    assert_eq!(fs::read(&key).unwrap(), b"secret");
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o644);
}

/// Steps of another process between two entries, each at the worst moment.
#[test]
fn what_another_process_swaps_is_neither_followed_nor_changed() {
    let place = place();
    let before = know(&place.outside);
    let (target, outside) = (&place.target, &place.outside);
    let swap = |name: &str| {
        fs::rename(target.join(name), target.join(format!("{name}.old"))).unwrap();
        symlink(outside, target.join(name)).unwrap();
    };
    // A folder becomes a link before it gets its mode.
    let mut unpacker = Unpacker::new(open(target), Options::default());
    unpacker.push(&entry(b"one/", DIR, 0o777, b"")).unwrap();
    swap("one");
    let error = unpacker
        .push(&entry(b"other", FILE, 0o644, b""))
        .unwrap_err();
    assert!(matches!(error, UnpackError::Replaced { .. }), "{error}");
    // It becomes another folder.
    let mut unpacker = Unpacker::new(open(target), Options::default());
    unpacker.push(&entry(b"two/", DIR, 0o777, b"")).unwrap();
    fs::rename(target.join("two"), target.join("two.old")).unwrap();
    fs::create_dir(target.join("two")).unwrap();
    fs::set_permissions(target.join("two"), fs::Permissions::from_mode(0o700)).unwrap();
    let error = unpacker
        .push(&entry(b"other", FILE, 0o644, b""))
        .unwrap_err();
    assert!(matches!(error, UnpackError::Replaced { .. }), "{error}");
    let mode = fs::metadata(target.join("two")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    // A folder on the way becomes a link.
    let mut unpacker = Unpacker::new(open(target), Options::default());
    unpacker
        .push(&entry(b"three/a/b", FILE, 0o777, b""))
        .unwrap();
    swap("three");
    let error = unpacker
        .push(&entry(b"three/folder/file", FILE, 0o777, b"x"))
        .unwrap_err();
    assert!(matches!(error, UnpackError::ThroughLink { .. }), "{error}");
    // A file that a hard link names becomes another.
    let mut unpacker = Unpacker::new(open(target), Options::default());
    unpacker
        .push(&entry(b"four", FILE, 0o644, b"four"))
        .unwrap();
    fs::write(target.join("of another"), "of another").unwrap();
    fs::rename(target.join("of another"), target.join("four")).unwrap();
    let error = unpacker
        .push(&entry(b"five", HARD, 0o644, b"four"))
        .unwrap_err();
    assert!(matches!(error, UnpackError::ForeignLink { .. }), "{error}");
    assert_eq!(know(outside), before);
}

/// As the one above, at all moments: a thread swaps folders for links without a pause while archives are unpacked.
#[test]
fn a_process_that_swaps_folders_for_links_all_the_time_wins_nothing() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let place = place();
    let before = know(&place.outside);
    for (name, link) in [("a", "swap-a"), ("a/b", "swap-b")] {
        fs::create_dir(place.target.join(name)).unwrap();
        symlink(&place.outside, place.target.join(link)).unwrap();
    }
    let stop = AtomicBool::new(false);
    let target = &place.target;
    let mut results = [0u32; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in [("a", "swap-a"), ("a/b", "swap-b")] {
                    // `a/b` is sometimes looked for in the folder outside, where it is not.
                    let (one, other) = (target.join(one), target.join(other));
                    let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                }
            }
        });
        let bytes = archive(&[
            ("a/", DIR, 0o6777, ""),
            ("a/key", FILE, 0o666, "from the guest"),
            ("a/b/", DIR, 0o6777, ""),
            ("a/b/file", FILE, 0o666, "from the guest"),
            ("a/b/again", HARD, 0o666, "a/key"),
            ("a/folder/file", FILE, 0o666, "from the guest"),
            ("a/new/file", FILE, 0o666, "from the guest"),
        ]);
        for _ in 0..3000 {
            let unpacked = unpack_to(target, &bytes, Options::default());
            results[usize::from(unpacked.is_err())] += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(know(&place.outside), before, "{results:?}");
    assert!(results[1] > 0, "no swap was ever in the way: {results:?}");
}
