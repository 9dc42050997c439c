//! Trees in temporary folders.

use super::*;

fn tree() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::create(&dir.path().join("root")).unwrap();
    (dir, tree)
}

fn put(tree: &mut Tree, path: &str) -> io::Result<u64> {
    tree.file(Path::new(path), Attributes::root(0o644), &mut &b"x"[..])
}

#[test]
fn links_lead_where_they_would_in_the_guest() {
    let (dir, mut tree) = tree();
    tree.directory(Path::new("usr/lib"), None).unwrap();
    tree.symlink(
        Path::new("lib"),
        OsStr::new("/usr/lib"),
        Attributes::root(0o777),
    )
    .unwrap();
    put(&mut tree, "lib/a").unwrap();
    assert!(dir.path().join("root/usr/lib/a").is_file());
    assert!(tree.exists("/lib/a"));
}

#[test]
fn nothing_is_written_outside() {
    let (dir, mut tree) = tree();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let text = outside.to_str().unwrap();
    tree.symlink(Path::new("out"), outside.as_os_str(), Attributes::default())
        .unwrap();
    tree.symlink(
        Path::new("up"),
        OsStr::new("../../.."),
        Attributes::default(),
    )
    .unwrap();
    for path in [
        "../a",
        "/../../a",
        "x/../../../a",
        "out/a",
        "up/a",
        "up/../b",
        &format!("up/{text}/a"),
    ] {
        // Written inside, or refused: both are well.
        let _ = put(&mut tree, path);
    }
    let _ = tree.hard_link(
        Path::new("passwd"),
        Path::new("../../../../../../etc/passwd"),
    );
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(!dir.path().join("root/passwd").exists());
    assert!(put(&mut tree, "..").is_err() && put(&mut tree, "/").is_err());
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let (dir, mut tree) = tree();
    put(&mut tree, "victim").unwrap();
    tree.symlink(
        Path::new("link"),
        OsStr::new("victim"),
        Attributes::default(),
    )
    .unwrap();
    tree.file(Path::new("link"), Attributes::root(0o600), &mut &b"new"[..])
        .unwrap();
    assert_eq!(std::fs::read(dir.path().join("root/victim")).unwrap(), b"x");
    assert_eq!(std::fs::read(dir.path().join("root/link")).unwrap(), b"new");
}

#[test]
fn a_white_out_hides_lower_layers_only() {
    let (_dir, mut tree) = tree();
    for path in ["d/low", "d/sub/low", "e/low", "f"] {
        put(&mut tree, path).unwrap();
    }
    tree.next_layer();
    put(&mut tree, "d/high").unwrap();
    put(&mut tree, "d/sub/high").unwrap();
    tree.white_out_content(Path::new("d")).unwrap();
    tree.white_out(Path::new("e")).unwrap();
    tree.white_out(Path::new("f")).unwrap();
    tree.white_out(Path::new("never/was")).unwrap();
    for (path, there) in [
        ("d/low", false),
        ("d/sub/low", false),
        ("d/high", true),
        ("d/sub/high", true),
        ("e", false),
        ("f", false),
        ("never", false),
    ] {
        assert_eq!(tree.exists(path), there, "{path}");
    }
}

#[test]
fn a_long_run_of_zeros_is_a_hole() {
    use std::os::unix::fs::MetadataExt;
    let (dir, mut tree) = tree();
    let mut content = io::repeat(0).take(64 << 20).chain(&b"end"[..]);
    let size = tree
        .file(Path::new("big"), Attributes::root(0o644), &mut content)
        .unwrap();
    let meta = std::fs::metadata(dir.path().join("root/big")).unwrap();
    assert_eq!((size, meta.len()), ((64 << 20) + 3, (64 << 20) + 3));
    assert!(meta.blocks() < 1024);
    // The last part of it, and the root.
    assert!(tree.content_size() <= 2 * (1 << 16));
}

/// Two inodes that follow each other under one number, here or on another file system of this host.
fn reused(old: &str, new: impl Fn(&mut Tree, &str)) -> (tempfile::TempDir, Tree, u64) {
    use std::os::unix::fs::MetadataExt;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let homes = [
        std::env::temp_dir(),
        here.join("../../target"),
        "/dev/shm".into(),
    ];
    for home in &homes {
        let Ok(dir) = tempfile::tempdir_in(home) else {
            continue;
        };
        for turn in 0..50 {
            let mut tree = Tree::create(&dir.path().join(turn.to_string())).unwrap();
            let inode = |tree: &Tree, path: &str| {
                std::fs::symlink_metadata(tree.path().join(path)).map(|m| m.ino())
            };
            // A neighbour, so that the folder itself is not the last number.
            tree.directory(Path::new("opt"), None).unwrap();
            let app = Attributes {
                uid: 1000,
                mtime: Some(7),
                ..Attributes::root(0o600)
            };
            let character = Special::Character { major: 1, minor: 3 };
            tree.special(Path::new(old), character, app).unwrap();
            let number = inode(&tree, old).unwrap();
            tree.next_layer();
            tree.white_out(Path::new(old)).unwrap();
            new(&mut tree, old);
            if inode(&tree, old).unwrap() == number {
                return (dir, tree, number);
            }
        }
    }
    panic!("no file system of {homes:?} gives a number out again");
}

#[test]
fn what_was_known_of_a_file_goes_with_it_though_its_number_comes_again() {
    // A folder that no layer has an entry for.
    let (_dir, tree, number) = reused("opt/thing", |tree, path| {
        tree.file(
            &Path::new(path).join("below"),
            Attributes::root(0o644),
            &mut &b"x"[..],
        )
        .unwrap();
    });
    let folder = tree.attributes_of(number).unwrap();
    assert_eq!((folder.uid, folder.mode, folder.special), (0, 0o755, None));
    assert_eq!(folder.mtime, Some(7), "the newest time that was told");

    let (_dir, tree, number) = reused("opt/thing", |tree, path| {
        tree.symlink(Path::new(path), OsStr::new("x"), Attributes::root(0o777))
            .unwrap();
    });
    assert_eq!(tree.attributes_of(number).unwrap().special, None);
}

#[test]
fn a_name_that_is_removed_takes_nothing_from_the_other_names_of_its_file() {
    use std::os::unix::fs::MetadataExt;
    let (dir, mut tree) = tree();
    let app = Attributes {
        uid: 1000,
        ..Attributes::root(0o4755)
    };
    tree.file(Path::new("one"), app, &mut &b"x"[..]).unwrap();
    tree.hard_link(Path::new("two"), Path::new("one")).unwrap();
    let number = std::fs::metadata(dir.path().join("root/one"))
        .unwrap()
        .ino();
    tree.remove(Path::new("one")).unwrap();
    assert_eq!(tree.attributes_of(number).unwrap().uid, 1000);
    tree.remove(Path::new("two")).unwrap();
    assert_eq!(tree.attributes_of(number), None);
}

#[test]
fn a_folder_is_made_where_links_lead_and_never_in_their_place() {
    let (dir, mut tree) = tree();
    let link = |tree: &mut Tree, path: &str, target: &str| {
        tree.symlink(Path::new(path), OsStr::new(target), Attributes::root(0o777))
            .unwrap();
    };
    link(&mut tree, "app", "/data/current/app");
    link(&mut tree, "data", "srv/../mnt");
    link(&mut tree, "loop", "loop");
    link(&mut tree, "up", "../../../../outside");
    put(&mut tree, "file").unwrap();
    tree.directory_behind_links("/app/work").unwrap();
    tree.directory_behind_links("up/x").unwrap();
    tree.directory_behind_links("/file").unwrap();
    tree.directory_behind_links("/").unwrap();
    let root = dir.path().join("root");
    assert!(root.join("mnt/current/app/work").is_dir());
    assert!(root.join("app").is_symlink() && root.join("outside/x").is_dir());
    assert!(root.join("file").is_file());
    assert!(tree.directory_behind_links("loop/x").is_err());
    assert!(tree.directory_behind_links("file/x").is_err());
}
