//! What an honest archive becomes.

mod common;

use common::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use vmint_files::{Options, Specials, Symlinks, UnpackError};

fn renamed(name: &str) -> Options {
    Options {
        rename: Some(name.into()),
        ..Options::default()
    }
}

#[test]
fn files_folders_and_links_arrive_with_modes_and_times() {
    let place = place();
    let bytes = archive(&[
        ("t/", DIR, 0o555, ""),
        ("t/a", FILE, 0o640, "content"),
        ("t/deep/er/", DIR, 0o711, ""),
        ("t/deep/er/b", FILE, 0o400, ""),
        ("t/twin", HARD, 0o640, "t/a"),
        ("t/link", SYM, 0o777, "/no/where"),
    ]);
    let unpacked = unpack_to(&place.target, &bytes, Options::default()).unwrap();
    assert_eq!((unpacked.entries, unpacked.bytes), (6, 7));
    assert!(unpacked.skipped.is_empty());
    let meta = |path: &str| fs::symlink_metadata(place.target.join(path)).unwrap();
    for (path, mode) in [
        ("t", 0o555),
        ("t/a", 0o640),
        ("t/deep/er", 0o711),
        ("t/deep/er/b", 0o400),
    ] {
        let meta = meta(path);
        assert_eq!(
            (meta.mode() & 0o7777, meta.mtime()),
            (mode, 0o7_000_000_000),
            "{path}"
        );
    }
    assert_eq!(meta("t/twin").ino(), meta("t/a").ino());
    assert_eq!(fs::read(place.target.join("t/a")).unwrap(), b"content");
    let link = fs::read_link(place.target.join("t/link")).unwrap();
    assert_eq!(link.to_str(), Some("/no/where"));
}

#[test]
fn a_folder_that_exists_keeps_its_mode_and_what_is_in_it() {
    let place = place();
    let folder = place.target.join("t");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("mine"), "mine").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    let bytes = archive(&[("t/", DIR, 0o777, ""), ("t/new", FILE, 0o644, "new")]);
    unpack_to(&place.target, &bytes, Options::default()).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::read(folder.join("mine")).unwrap(), b"mine");
    assert_eq!(fs::read(folder.join("new")).unwrap(), b"new");
    // Neither takes the other's place.
    for bytes in [
        archive(&[("t", FILE, 0o644, "")]),
        archive(&[("t", SYM, 0o644, "x")]),
        archive(&[("t/mine/", DIR, 0o755, "")]),
        archive(&[("t/mine/x", FILE, 0o644, "")]),
    ] {
        let error = unpack_to(&place.target, &bytes, Options::default()).unwrap_err();
        assert!(matches!(error, UnpackError::InTheWay { .. }), "{error}");
    }
    assert_eq!(fs::read(folder.join("mine")).unwrap(), b"mine");
}

#[test]
fn the_top_level_entry_is_renamed_and_two_of_them_are_refused() {
    let place = place();
    let bytes = archive(&[
        ("t/", DIR, 0o755, ""),
        ("t/a", FILE, 0o644, "a"),
        ("t/twin", HARD, 0o644, "t/a"),
    ]);
    unpack_to(&place.target, &bytes, renamed("new")).unwrap();
    assert_eq!(fs::read(place.target.join("new/twin")).unwrap(), b"a");
    assert!(!place.target.join("t").exists());
    // One file alone.
    let bytes = archive(&[("t", FILE, 0o644, "file")]);
    unpack_to(&place.target, &bytes, renamed("file")).unwrap();
    assert_eq!(fs::read(place.target.join("file")).unwrap(), b"file");
    // The content of a folder, named by a dot.
    let bytes = archive(&[
        ("./", DIR, 0o755, ""),
        ("./a", FILE, 0o644, "a"),
        ("./b", FILE, 0o644, "b"),
    ]);
    unpack_to(&place.target, &bytes, renamed("dot")).unwrap();
    assert_eq!(fs::read(place.target.join("dot/a")).unwrap(), b"a");
    assert_eq!(fs::read(place.target.join("dot/b")).unwrap(), b"b");
    // The second would take the first one's place.
    let bytes = archive(&[("a", FILE, 0o644, "a"), ("b", FILE, 0o644, "b")]);
    let error = unpack_to(&place.target, &bytes, renamed("one")).unwrap_err();
    assert_eq!(error.to_string(), "`a` and `b` cannot both become `one`");
    assert_eq!(fs::read(place.target.join("one")).unwrap(), b"a");
}

#[test]
fn what_a_guest_must_not_make_here_is_left_out_and_counted() {
    let place = place();
    let bytes = archive(&[
        ("sh", FILE, 0o4755, "id"),
        ("null", CHAR, 0o666, ""),
        ("disk", b'4', 0o666, ""),
        ("pipe", FIFO, 0o666, ""),
        ("t/", DIR, 0o1777, ""),
    ]);
    let unpacked = unpack_to(&place.target, &bytes, Options::default()).unwrap();
    assert_eq!(unpacked.entries, 3);
    assert_eq!(
        unpacked.skipped.to_string(),
        "left out: 2 device files, 2 set-id or sticky bits (first: `sh`)"
    );
    let pipe = fs::symlink_metadata(place.target.join("pipe")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.file_type()));
    assert_eq!(
        (pipe.mode() & 0o7777, pipe.mtime()),
        (0o666, 0o7_000_000_000)
    );
    let mode = |name| fs::metadata(place.target.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("sh"), mode("t")), (0o755, 0o777));
    assert_eq!(fs::read_dir(&place.target).unwrap().count(), 3);
    let strict = Options {
        specials: Specials::Refuse,
        symlinks: Symlinks::Descending,
        ..Options::default()
    };
    for (kind, link) in [
        (CHAR, ""),
        (FIFO, ""),
        (SYM, "/etc"),
        (SYM, "../x"),
        (SYM, "a/../.."),
    ] {
        let error = unpack_to(
            &place.target,
            &archive(&[("x", kind, 0o644, link)]),
            strict.clone(),
        )
        .unwrap_err();
        assert!(error.is_archives_fault(), "{error}");
        assert!(fs::symlink_metadata(place.target.join("x")).is_err());
    }
    unpack_to(
        &place.target,
        &archive(&[("x", SYM, 0o777, "t/below")]),
        strict,
    )
    .unwrap();
}

#[test]
fn an_archive_that_is_none_or_cut_is_an_error() {
    let place = place();
    let whole = archive(&[("a", FILE, 0o644, "content")]);
    for bad in [&whole[..600], &whole[..1024], &[b'x'; 2000][..], b""] {
        let error = unpack_to(&place.target, bad, Options::default()).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error}");
    }
}

#[test]
fn names_in_messages_are_printable() {
    let place = place();
    let name = "../\u{1b}]0;title\u{7}\u{1b}[31mred";
    let error = unpack_to(
        &place.target,
        &archive(&[(name, FILE, 0o644, "")]),
        Options::default(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r"the path `../\x1b]0;title\x07\x1b[31mred` leaves the target folder"
    );
}

/// The filter is the thread's own, and the thread ends with the test.
#[test]
fn a_kernel_without_openat2_is_an_error_that_says_so() {
    let place = place();
    std::thread::spawn(move || {
        deny_openat2();
        let bytes = archive(&[("a", FILE, 0o644, "content")]);
        let error = unpack_to(&place.target, &bytes, Options::default()).unwrap_err();
        assert!(matches!(error, UnpackError::Kernel), "{error}");
        assert_eq!(fs::read_dir(&place.target).unwrap().count(), 0);
    })
    .join()
    .unwrap();
}

/// From here on `openat2` does not exist for this thread.
fn deny_openat2() {
    let op = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // The number of the call is the first field of `seccomp_data`.
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_openat2 as u32,
        ),
        op(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls take plain numbers, and a pointer to a program that lives until they have returned; the kernel
    // copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program
            ),
            0
        );
    }
}
