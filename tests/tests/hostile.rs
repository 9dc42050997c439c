//! A guest whose root is hostile: it stops the agent's child that packs files for the host, and writes an archive of its
//! own into the pipe. Whatever that holds, nothing of the host outside the target folder changes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use vmint_tests::{Home, Outcome};

/// Waits for the child, stops it, and speaks in its place. The files that it packs are empty: each is one block, so that
/// the archive put in begins where an entry would. The last line is what the child reports when all went well.
const ATTACK: &str = r"
read name < /proc/1/comm
echo lurking
while :; do
  read children < /proc/1/task/1/children
  for child in $children; do
    { read comm < /proc/$child/comm; } 2>/dev/null || continue
    [ $comm = $name ] && kill -STOP $child && break 2
  done
done
set -- $(ls -l /proc/$child/fd | grep '^l-wx.*pipe:' | sed 's/.* \([0-9]*\) -> .*/\1/' | sort -n | tail -2)
cat /tmp/evil > /proc/$child/fd/$1
printf '\000\001\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000' > /proc/$child/fd/$2
kill -KILL $child
";

/// What a guest would like to reach, and the folder that it may fill.
struct Host {
    dir: tempfile::TempDir,
    outside: PathBuf,
    target: PathBuf,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (outside, target) = (dir.path().join("outside"), dir.path().join("target"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(outside.join("key"), "secret").unwrap();
        fs::set_permissions(outside.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            dir,
            outside,
            target,
        }
    }

    /// A change of any kind shows in the change times.
    fn outside(&self) -> Vec<String> {
        let facts = |path: &Path| {
            let meta = fs::symlink_metadata(path).unwrap();
            let (mode, links) = (meta.mode(), meta.nlink());
            let (seconds, nanoseconds) = (meta.ctime(), meta.ctime_nsec());
            format!(
                "{}: {mode:o} {links} {seconds}.{nanoseconds}",
                path.display()
            )
        };
        let mut all = vec![facts(&self.outside)];
        let entries = fs::read_dir(&self.outside).unwrap();
        all.extend(entries.map(|entry| facts(&entry.unwrap().path())));
        all
    }

    /// Copies a folder out of `box` while the guest puts `evil` in its place.
    fn copy(&self, home: &Home, evil: &[u8]) -> Outcome {
        let file = self.dir.path().join("evil");
        fs::write(&file, evil).unwrap();
        home.call(["cp", file.to_str().unwrap(), "box:/tmp/evil"])
            .run()
            .ok();
        let mut attack = home.call(["exec", "box", "--", "sh", "-c", ATTACK]).start();
        attack.says("lurking");
        let copied = home
            .call(["cp", "box:/tmp/out", self.target.to_str().unwrap()])
            .run();
        attack.finish().ok();
        copied
    }
}

fn machine() -> Home {
    let home = Home::new();
    home.start("box");
    home.sh(
        "box",
        "mkdir /tmp/out && cd /tmp/out && i=0; while [ $i -lt 4000 ]; do : > $i; i=$((i+1)); done",
    );
    home
}

/// One entry without content, or with a block of it.
fn entry(name: &str, kind: u8, mode: u32, rest: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    let content = if kind == b'0' { rest } else { "" };
    if content.is_empty() {
        header.as_mut_bytes()[157..157 + rest.len()].copy_from_slice(rest.as_bytes());
    }
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content.bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn a_guest_that_writes_its_own_archive_changes_nothing_outside_the_target() {
    let home = machine();
    let host = Host::new();
    let before = host.outside();
    let (outside, key) = (host.outside.to_str().unwrap(), host.outside.join("key"));
    let key = key.to_str().unwrap();
    // Each with a part of the message by which it is refused.
    for (evil, message) in [
        (
            archive(&[entry("out/stolen", b'1', 0o644, key)]),
            "leaves the target folder",
        ),
        (
            archive(&[
                entry("out/l", b'2', 0o777, outside),
                entry("out/stolen", b'1', 0o644, "out/l/key"),
            ]),
            "not a file of this archive",
        ),
        (
            archive(&[
                entry("out/m", b'2', 0o777, outside),
                entry("out/m", b'5', 0o6777, ""),
                entry("out/m", b'2', 0o777, key),
            ]),
            "not a folder",
        ),
        (
            archive(&[
                entry("out/n", b'2', 0o777, outside),
                entry("out/n/key", b'0', 0o644, "overwritten"),
            ]),
            "symbolic link",
        ),
        (
            archive(&[entry("../outside/new", b'0', 0o644, "x")]),
            "leaves the target folder",
        ),
    ] {
        let copied = host.copy(&home, &evil).exits(1);
        assert!(copied.error().contains(message), "{copied}");
        assert_eq!(host.outside(), before, "{copied}");
        assert!(!host.target.join("out/stolen").exists(), "{copied}");
    }
    // The machine is none the worse.
    assert_eq!(home.sh("box", "echo up"), "up");
}

#[test]
fn a_guest_makes_no_set_id_program_and_no_device_on_its_host() {
    let home = machine();
    let host = Host::new();
    let evil = archive(&[
        entry("out/sh", b'0', 0o6755, "#!/bin/sh\n"),
        entry("out/null", b'3', 0o666, ""),
        entry("out/pipe", b'6', 0o666, ""),
    ]);
    let copied = host.copy(&home, &evil).ok();
    let program = fs::metadata(host.target.join("out/sh")).unwrap();
    assert_eq!(program.mode() & 0o7777, 0o755, "{copied}");
    let made = |name| fs::symlink_metadata(host.target.join("out").join(name));
    assert!(made("null").is_err());
    // A named pipe is nothing that a program of the host's would run, or a disk that it would read.
    assert!(made("pipe").is_ok_and(|meta| meta.file_type().is_fifo()));
    let said = copied.error();
    assert!(
        said.contains("left out: 1 device file, 1 set-id or sticky bit"),
        "{copied}"
    );
}

#[test]
fn a_name_of_gigabytes_ends_the_copy_and_escape_sequences_do_not_reach_the_terminal() {
    let home = machine();
    let host = Host::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(6 << 30);
    header.set_cksum();
    let mut evil = header.as_bytes().to_vec();
    evil.resize(1 << 20, 0);
    let copied = host.copy(&home, &evil).exits(1);
    assert!(copied.error().contains("over the limit"), "{copied}");
    let name = "../\u{1b}]0;title\u{7}\u{1b}[31mred";
    let copied = host
        .copy(&home, &archive(&[entry(name, b'0', 0o644, "x")]))
        .exits(1);
    let said = copied.error();
    assert!(said.contains(r"\x1b]0;title\x07"), "{copied}");
    assert!(
        !said.contains('\u{1b}') && !said.contains('\u{7}'),
        "{copied}"
    );
}

/// The honest way through the same code: what the host has is kept.
#[test]
fn a_folder_that_exists_keeps_its_mode_and_a_link_in_it_is_not_followed() {
    let home = machine();
    let host = Host::new();
    home.sh(
        "box",
        "mkdir /tmp/t && cd /tmp/t && chmod 777 . && echo guest > key && mkdir d && echo x > d/new",
    );
    let folder = host.target.join("t");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    symlink(host.outside.join("key"), folder.join("key")).unwrap();
    let before = host.outside();
    home.call(["cp", "box:/tmp/t", host.target.to_str().unwrap()])
        .run()
        .ok();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::read_to_string(folder.join("key")).unwrap(), "guest\n");
    // Two files for one name are two files, and not one of them.
    let new = host.target.join("new");
    home.call(["cp", "box:/tmp/t/.", new.to_str().unwrap()])
        .run()
        .ok();
    assert_eq!(fs::read_to_string(new.join("key")).unwrap(), "guest\n");
    assert_eq!(fs::read_to_string(new.join("d/new")).unwrap(), "x\n");
    assert_eq!(host.outside(), before);
}
