//! Tar streams through the agent's own code, on this host: what was packed is what is unpacked, and nothing leaves its
//! target.

use rustix::pipe::{PipeFlags, pipe_with};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;
use vmint_agent::tarball::pack;
use vmint_agent::unpack::Unpack;
use vmint_protocol::{ErrorCode, GuestError, Sent, TarIn};
use vmint_tree::Packed;

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

/// Packs `path` as the agent's child would.
fn packed(path: &[u8]) -> (Vec<u8>, Packed) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let path = path.to_vec();
    let packer = std::thread::spawn(move || pack(&path, write).unwrap());
    let mut archive = Vec::new();
    fs::File::from(read).read_to_end(&mut archive).unwrap();
    (archive, packer.join().unwrap())
}

/// Unpacks in pieces of `piece` bytes. Owners are left alone unless the tests run as root.
fn unpack(archive: &[u8], target: &Path, piece: usize) -> Result<Sent, GuestError> {
    let user = format!(
        "{}:{}",
        rustix::process::geteuid(),
        rustix::process::getegid()
    );
    let mut unpack = Unpack::start(&TarIn {
        path: bytes(target),
        user: Some(user),
    })?;
    for piece in archive.chunks(piece) {
        unpack.push(piece)?;
    }
    unpack.finish().map(|partly| partly.sent)
}

/// An archive of entries: name, type, link, content.
fn archive(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        // Written by hand: the builder refuses the names that matter here.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Symlink;
const HARD: tar::EntryType = tar::EntryType::Link;
const DIR: tar::EntryType = tar::EntryType::Directory;

#[test]
fn a_tree_survives_the_way_there_and_back() {
    let home = TempDir::new().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    let long = from.join("n".repeat(120)).join("m".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("file ö\n"), vec![7; 1_500_000]).unwrap();
    fs::write(from.join("empty"), "").unwrap();
    fs::write(from.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("../nowhere/".repeat(20), from.join("link")).unwrap();
    let (archive, all) = packed(&[&bytes(&from)[..], b"/."].concat());
    let sent = all.sent;
    assert_eq!((all.trouble, all.left_out.is_empty()), (None, true));
    assert_eq!(
        sent,
        Sent {
            // With the folder itself.
            entries: 7,
            bytes: 1_500_010
        }
    );
    assert_eq!(unpack(&archive, &to, 777).unwrap(), sent);

    let file = to
        .join("n".repeat(120))
        .join("m".repeat(200))
        .join("file ö\n");
    assert_eq!(fs::read(&file).unwrap(), vec![7; 1_500_000]);
    assert_eq!(
        fs::read_link(to.join("link")).unwrap(),
        fs::read_link(from.join("link")).unwrap()
    );
    for name in ["run", "empty", "link", &"n".repeat(120)] {
        let (a, b) = (
            from.join(name).symlink_metadata().unwrap(),
            to.join(name).symlink_metadata().unwrap(),
        );
        assert_eq!(
            (a.mode(), a.mtime(), a.mtime_nsec()),
            (b.mode(), b.mtime(), b.mtime_nsec()),
            "{name}"
        );
    }
    // The same again over what is there.
    assert_eq!(unpack(&archive, &to, 1 << 20).unwrap(), sent);
}

#[test]
fn the_tar_crate_reads_what_the_agent_packs() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a".repeat(150)), "x").unwrap();
    let (archive, _) = packed(&bytes(&folder));
    let mut read = tar::Archive::new(&archive[..]);
    let names: Vec<_> = read
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(
        names,
        [
            Path::new("folder/").to_owned(),
            Path::new("folder").join("a".repeat(150))
        ]
    );
}

#[test]
fn names_that_leave_the_target_are_refused() {
    let home = TempDir::new().unwrap();
    let target = home.path().join("target");
    for entry in [
        ("../out", FILE, "", b"x".as_slice()),
        ("/out", FILE, "", b"x"),
        ("a/../../out", FILE, "", b"x"),
        ("hard", HARD, "../secret", b""),
        ("hard", HARD, "/etc/passwd", b""),
        ("..", DIR, "", b""),
    ] {
        fs::write(home.path().join("secret"), "s").unwrap();
        let error = unpack(&archive(&[entry]), &target, 512).unwrap_err();
        assert_eq!(error.code, ErrorCode::PathEscapes, "{entry:?}: {error:?}");
    }
    assert!(!home.path().join("out").exists());
}

#[test]
fn links_lead_nowhere_but_into_the_target() {
    let home = TempDir::new().unwrap();
    let target = home.path().join("target");
    fs::create_dir(home.path().join("outside")).unwrap();
    let outside = home.path().join("outside");
    let outside = outside.to_str().unwrap();
    // Seen from within the target these are /…/outside, /outside and /: folders that do not exist there, or itself.
    for link in [outside, "../outside", "/"] {
        let result = unpack(
            &archive(&[("l", LINK, link, b""), ("l/file", FILE, "", b"x")]),
            &target,
            512,
        );
        assert_eq!(
            fs::read_dir(outside).unwrap().count(),
            0,
            "{link}: {result:?}"
        );
    }
    assert_eq!(fs::read(target.join("file")).unwrap(), b"x");
    // A file is never written through a link of its own name.
    let through = archive(&[("f", LINK, "file", b""), ("f", FILE, "", b"new")]);
    unpack(&through, &target, 512).unwrap();
    assert_eq!(fs::read(target.join("f")).unwrap(), b"new");
    assert_eq!(fs::read(target.join("file")).unwrap(), b"x");
}

#[test]
fn a_link_to_a_folder_that_the_image_has_stays_one() {
    let home = TempDir::new().unwrap();
    let target = home.path().join("target");
    fs::create_dir_all(target.join("usr/lib")).unwrap();
    symlink("usr/lib", target.join("lib")).unwrap();
    unpack(
        &archive(&[("lib/", DIR, "", b""), ("lib/x", FILE, "", b"x")]),
        &target,
        512,
    )
    .unwrap();
    assert!(target.join("lib").symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read(target.join("usr/lib/x")).unwrap(), b"x");
}

#[test]
fn what_is_no_archive_is_refused_and_so_is_half_of_one() {
    let home = TempDir::new().unwrap();
    let whole = archive(&[("f", FILE, "", b"x")]);
    for broken in [&[7; 2000][..], &whole[..600], &whole[..1024], b""] {
        assert_eq!(
            unpack(broken, home.path(), 512).unwrap_err().code,
            ErrorCode::Invalid
        );
    }
}
