//! Copies of trees that hold more than files and folders, and copies that break off: on real machines, in both directions.

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};
use vmint_tests::bytes::noise;
use vmint_tests::call::binary;
use vmint_tests::fixture::Tarball;
use vmint_tests::fixture::names;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Outcome, patient, until};

fn machine() -> Home {
    let home = Home::new();
    home.start("box");
    home
}

/// A machine with a disk, whose file system holds what a file system may hold.
fn machine_with_a_disk() -> Home {
    let home = Home::with(Seed::Image);
    let tar = Tarball::busybox(&home)
        .folder("srv", 0o755)
        .write(&home, "root.tar");
    let words = ["image", "import", "disk"].map(OsStr::new);
    let rest = ["--size", "64M"].map(OsStr::new);
    home.call(words.into_iter().chain([tar.as_os_str()]).chain(rest))
        .run()
        .ok();
    home.ok("create box --image disk --memory 128M --start");
    home
}

fn cp(home: &Home, source: impl AsRef<OsStr>, target: impl AsRef<OsStr>) -> Outcome {
    let words = [OsStr::new("cp"), source.as_ref(), target.as_ref()];
    home.call(words).run()
}

/// A copy with pipes of ours.
fn piped(home: &Home, source: &str, target: &str) -> Child {
    Command::new(binary())
        .args(["cp", source, target])
        .envs(home.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn takes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

const SPARSE: u64 = 48 << 20;

#[test]
fn holes_stay_holes_in_both_directions_and_in_tar_streams() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let source = at("holes");
    let file = fs::File::create(&source).unwrap();
    file.set_len(SPARSE).unwrap();
    file.write_all_at(b"in the middle", 20 << 20).unwrap();
    file.write_all_at(&noise(100_000), 30 << 20).unwrap();
    let content = fs::read(&source).unwrap();
    let small = "test $(($(stat -c %b FILE) * $(stat -c %B FILE))) -lt 2000000 && stat -c %s FILE";
    let in_guest = |path: &str| home.sh("box", &small.replace("FILE", path));
    cp(&home, &source, "box:/tmp/holes").ok();
    assert_eq!(in_guest("/tmp/holes"), SPARSE.to_string());
    cp(&home, "box:/tmp/holes", at("back")).ok();
    assert!(fs::read(at("back")).unwrap() == content);
    assert!(takes(&at("back")) < 2_000_000);
    // A stream of the machine's, read by GNU tar; and its own streams, in each of its formats, into the machine.
    let stream = home.call(["cp", "box:/tmp/holes", "-"]).run().ok().stdout;
    assert!(stream.len() < 1_000_000, "{} bytes", stream.len());
    fs::write(at("stream.tar"), &stream).unwrap();
    fs::create_dir(at("unpacked")).unwrap();
    let tar = |words: &[&str]| {
        let done = Command::new("tar")
            .current_dir(dir.path())
            .args(words)
            .output()
            .unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
    };
    tar(&["xf", "stream.tar", "-C", "unpacked"]);
    assert!(fs::read(at("unpacked/holes")).unwrap() == content);
    assert!(takes(&at("unpacked/holes")) < 2_000_000);
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let words = [&["cSf", "in.tar"][..], format, &["holes"]].concat();
        tar(&words);
        assert!(takes(&at("in.tar")) < 2_000_000, "{format:?}");
        home.sh("box", "rm -rf /tmp/in");
        let bytes = fs::read(at("in.tar")).unwrap();
        home.call(["cp", "-", "box:/tmp/in"])
            .input(bytes)
            .run()
            .ok();
        assert_eq!(in_guest("/tmp/in/holes"), SPARSE.to_string(), "{format:?}");
        let same = home.sh("box", "cmp /tmp/in/holes /tmp/holes && echo same");
        assert_eq!(same, "same", "{format:?}");
    }
}

/// A file is sent with the length that it has when it is opened.
#[test]
fn a_file_that_grows_is_copied_and_what_comes_after_it_arrives() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    home.sh(
        "box",
        "mkdir /tmp/d; echo 0 > /tmp/d/log; echo after > /tmp/d/z",
    );
    let script = "while [ ! -e /tmp/stop ] && echo 12345678901234567890; do :; done >> /tmp/d/log";
    let grows = home.call(["exec", "box", "--", "sh", "-c", script]).start();
    until(Duration::from_secs(30), "the log grows", || {
        home.sh("box", "stat -c %s /tmp/d/log") != "2"
    });
    for round in 0..4 {
        let to = dir.path().join(round.to_string());
        cp(&home, "box:/tmp/d", &to).ok();
        assert_eq!(fs::read(to.join("z")).unwrap(), b"after\n", "{round}");
        assert!(fs::metadata(to.join("log")).unwrap().len() >= 2);
    }
    home.sh("box", "touch /tmp/stop");
    grows.finish().ok();
    home.sh("box", "rm -r /tmp/d");
    // And on the host.
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("log"), "0").unwrap();
    fs::write(source.join("z"), "after").unwrap();
    let (log, stop) = (
        source.join("log"),
        std::sync::atomic::AtomicBool::new(false),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(&log).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(&[b'x'; 1000]).unwrap();
                // No more than fits the guest's memory.
                if file.metadata().unwrap().len() > 16 << 20 {
                    file.set_len(1000).unwrap();
                }
            }
        });
        // Shortened at times, too: then that is told, and all else is there.
        for round in 0..4 {
            let copied = cp(&home, &source, format!("box:/tmp/{round}"));
            let after = home.sh("box", &format!("cat /tmp/{round}/z; rm -r /tmp/{round}"));
            assert_eq!(after, "after", "{copied}");
            if copied.code != Some(0) {
                assert!(copied.error().contains("became shorter"), "{copied}");
                assert!(copied.error().contains("/source/log"), "{copied}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// While the reader of a stream waits, the packer stands in the middle of the file: it is shortened there and then.
#[test]
fn a_file_that_is_shortened_is_named_and_what_comes_after_it_arrives() {
    let home = Home::new();
    home.ok("create box --image tiny --memory 256M --start");
    home.sh(
        "box",
        "mkdir /tmp/d; dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\0' x > /tmp/d/cut; echo after > /tmp/d/z",
    );
    let mut copy = piped(&home, "box:/tmp/d", "-");
    let mut stream = copy.stdout.take().unwrap();
    let mut archive = vec![0; 1 << 20];
    stream.read_exact(&mut archive).unwrap();
    home.sh("box", ": > /tmp/d/cut");
    stream.read_to_end(&mut archive).unwrap();
    let ended = copy.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("/tmp/d/cut") && said.contains("became shorter"),
        "{said}"
    );
    let mut read = tar::Archive::new(&archive[..]);
    let mut found = Vec::new();
    for entry in read.entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        found.push((path, entry.size()));
    }
    let expected = [("d/", 0), ("d/cut", 100 << 20), ("d/z", 6)];
    assert_eq!(found, expected.map(|(path, size)| (path.to_owned(), size)));
}

#[test]
fn pipes_are_pipes_sockets_are_told_once_and_so_are_devices_on_the_way_out() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let pipe = source.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o640)).unwrap();
    for name in ["s1", "s2"] {
        drop(std::os::unix::net::UnixListener::bind(source.join(name)).unwrap());
    }
    fs::write(source.join("z"), "after").unwrap();
    let copied = cp(&home, &source, "box:/tmp/in").ok();
    let said = copied.error();
    assert!(said.contains("left out: 2 sockets (first: `"), "{copied}");
    assert_eq!(said.matches("left out").count(), 1, "{copied}");
    assert_eq!(
        home.sh("box", "cd /tmp/in; ls; stat -c '%F %a' pipe; cat z"),
        "pipe\nz\nfifo 640\nafter"
    );
    // The same out, with devices, and what the kernel makes up.
    home.sh(
        "box",
        "cd /tmp/in; mknod null c 1 3; mknod disk b 8 0; mkdir proc; mount -t proc proc proc",
    );
    let copied = cp(&home, "box:/tmp/in", dir.path().join("out")).ok();
    let said = copied.error();
    assert!(
        said.contains("left out: 2 device files, 1 file system of the kernel (first: "),
        "{copied}"
    );
    let out = dir.path().join("out");
    assert_eq!(names(&out), ["pipe", "proc", "z"]);
    assert_eq!(names(&out.join("proc")), [""; 0]);
    let meta = fs::symlink_metadata(out.join("pipe")).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.mode() & 0o7777, 0o640);
    // A stream has the devices.
    let stream = home.call(["cp", "box:/tmp/in", "-"]).run().ok();
    let mut read = tar::Archive::new(&stream.stdout[..]);
    let kinds = read
        .entries()
        .unwrap()
        .map(|e| e.unwrap().header().entry_type());
    assert!(kinds.into_iter().any(|kind| kind == tar::EntryType::Char));
    assert!(
        stream.error().contains("1 file system of the kernel"),
        "{stream}"
    );
}

#[test]
fn a_copy_takes_the_place_of_no_device() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
    fs::write(&file, "x").unwrap();
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for (source, target) in [
        (file.as_os_str(), OsStr::new("box:/dev/null")),
        (OsStr::new("box:/etc/passwd"), pipe.as_os_str()),
    ] {
        let refused = cp(&home, source, target).exits(2);
        assert!(
            refused
                .error()
                .contains("is a device, a named pipe or a socket"),
            "{refused}"
        );
    }
    assert_eq!(
        home.sh("box", "stat -c %F /dev/null"),
        "character special file"
    );
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

/// `cap_net_raw=ep`, as the kernel keeps it.
const NET_RAW: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn links_times_owners_and_attributes_go_in_and_come_out() {
    let home = machine_with_a_disk();
    let is_root = rustix::process::geteuid().is_root();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("a"), "shared").unwrap();
    fs::hard_link(source.join("a"), source.join("sub/twin")).unwrap();
    fs::write(source.join("tool"), "x").unwrap();
    symlink("a", source.join("link")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        let path = source.join(name);
        rustix::fs::setxattr(&path, attribute, value, XattrFlags::empty()).unwrap();
    };
    set("a", "user.note", b"kept \0=");
    set("sub", "user.folder", b"too");
    if is_root {
        for (name, owner) in [("a", 1234), ("sub", 77), ("link", 88)] {
            std::os::unix::fs::lchown(source.join(name), Some(owner), Some(owner + 1)).unwrap();
        }
        // A change of owner takes it away.
        set("tool", "security.capability", &NET_RAW);
    }
    let long_ago = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["a", "sub", "tool"] {
        let file = fs::File::open(source.join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let copied = cp(&home, &source, "box:/srv/in").ok();
    assert_eq!(copied.error(), "", "{copied}");
    let stat = |path: &str| {
        home.sh(
            "box",
            &format!("busybox stat -c '%h %u:%g %Y' /srv/in/{path}"),
        )
    };
    let owner = |uid: u32| {
        let me = rustix::process::geteuid().as_raw();
        if is_root {
            format!("{uid}:{}", uid + 1)
        } else {
            format!("{me}:{}", rustix::process::getegid())
        }
    };
    assert_eq!(stat("a"), format!("2 {} 1000000000", owner(1234)));
    assert_eq!(stat("sub"), format!("2 {} 1000000000", owner(77)));
    // What the guest's file system has, its own packer says.
    let stream = home.call(["cp", "box:/srv/in", "-"]).run().ok().stdout;
    let has = |text: &[u8]| stream.windows(text.len()).any(|window| window == text);
    assert!(has(b"SCHILY.xattr.user.note=kept \0=\n"));
    if is_root {
        assert!(has(&[
            b"SCHILY.xattr.security.capability=",
            &NET_RAW[..],
            b"\n"
        ]
        .concat()));
    }
    let out = dir.path().join("out");
    let copied = cp(&home, "box:/srv/in", &out).ok();
    let inode = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("sub/twin"));
    assert_eq!(xattr(&out.join("a"), "user.note").unwrap(), b"kept \0=");
    assert_eq!(xattr(&out.join("sub"), "user.folder").unwrap(), b"too");
    for name in ["a", "sub", "tool", "link"] {
        let (was, is) = (
            fs::symlink_metadata(source.join(name)).unwrap(),
            fs::symlink_metadata(out.join(name)).unwrap(),
        );
        assert_eq!((is.uid(), is.gid()), (was.uid(), was.gid()), "{name}");
        assert_eq!(is.modified().unwrap(), was.modified().unwrap(), "{name}");
    }
    // Powers are not a guest's to give.
    assert_eq!(xattr(&out.join("tool"), "security.capability"), None);
    if is_root {
        let said = copied.error();
        assert!(
            said.contains("left out: 1 file capability (first: `in/tool`"),
            "{copied}"
        );
    }
    // The content of a folder makes a new one as the folder is.
    let fresh = dir.path().join("fresh");
    cp(&home, "box:/srv/in/sub/.", &fresh).ok();
    let made = fs::metadata(&fresh).unwrap();
    assert_eq!(made.modified().unwrap(), long_ago);
    assert_eq!(made.uid(), fs::metadata(source.join("sub")).unwrap().uid());
    // Without attributes.
    for (from, to) in [
        (source.to_str().unwrap(), "box:/srv/plain"),
        ("box:/srv/in", dir.path().join("plain").to_str().unwrap()),
    ] {
        let copied = home.call(["cp", "--no-xattrs", from, to]).run().ok();
        assert_eq!(copied.error(), "", "{copied}");
    }
    assert_eq!(xattr(&dir.path().join("plain/a"), "user.note"), None);
    let stream = home.call(["cp", "box:/srv/plain", "-"]).run().ok().stdout;
    assert!(!stream.windows(6).any(|window| window == b"SCHILY"));
    home.call(["cp", "--no-xattrs", "box:/srv/in", "-"])
        .run()
        .exits(2);
}

/// The guest's memory file system holds no attributes of users: Linux has them there from 6.6.
#[test]
fn attributes_that_the_target_cannot_hold_are_told() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    rustix::fs::setxattr(&file, "user.note", b"lost", XattrFlags::empty()).unwrap();
    let copied = cp(&home, &file, "box:/tmp/file").ok();
    let kept = home.call(["cp", "box:/tmp/file", "-"]).run().ok().stdout;
    let is_kept = kept.windows(9).any(|window| window == b"user.note");
    let is_told = copied
        .error()
        .contains("left out: 1 extended attribute (first: `file`)");
    assert!(is_kept != is_told, "kept: {is_kept}; {copied}");
}

#[test]
fn set_id_bits_go_in_with_their_owner_and_do_not_come_out() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool");
    fs::write(&tool, "x").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
    cp(&home, &tool, "box:/tmp/tool").ok();
    let me = rustix::process::geteuid().as_raw();
    assert_eq!(
        home.sh("box", "stat -c '%a %u' /tmp/tool"),
        format!("4755 {me}")
    );
    let copied = cp(&home, "box:/tmp/tool", dir.path().join("out")).ok();
    let out = fs::metadata(dir.path().join("out")).unwrap();
    assert_eq!(out.mode() & 0o7777, 0o755);
    assert!(
        copied.error().contains("1 set-id or sticky bit"),
        "{copied}"
    );
}

#[test]
fn what_is_no_tar_stream_is_told_and_odd_ones_are_taken() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    let shell = |script: &str| {
        let mut sh = Command::new("sh");
        let done = sh
            .args(["-c", script])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{script}: {done:?}");
        done.stdout
    };
    for (program, what) in [("gzip", "gzip"), ("xz", "xz"), ("bzip2", "bzip2")] {
        let stream = shell(&format!("tar c file | {program}"));
        let refused = home
            .call(["cp", "-", "box:/tmp/z"])
            .input(stream)
            .run()
            .exits(2);
        let said = refused.error();
        assert!(
            said.contains(&format!("{what} file, and not a tar stream")),
            "{refused}"
        );
        assert!(said.contains(&format!("{what} -dc")), "{refused}");
    }
    // One block of zeros at the end; a label in front.
    for script in [
        "tar c -b1 file | head -c 1536",
        "tar c -V label --format=gnu file",
    ] {
        home.sh("box", "rm -rf /tmp/in");
        let stream = shell(script);
        home.call(["cp", "-", "box:/tmp/in"])
            .input(stream)
            .run()
            .ok();
        assert_eq!(
            home.sh("box", "ls /tmp/in; cat /tmp/in/file"),
            "file\ncontent",
            "{script}"
        );
    }
    // Files of the kernel have no length.
    let out = dir.path().join("cpuinfo");
    cp(&home, "box:/proc/cpuinfo", &out).ok();
    assert!(fs::read_to_string(&out).unwrap().contains("processor"));
    cp(&home, "/proc/version", "box:/tmp/version").ok();
    assert_eq!(
        home.sh("box", "cat /tmp/version"),
        fs::read_to_string("/proc/version").unwrap().trim_end()
    );
}

#[test]
fn a_tree_deeper_than_a_path_may_be_goes_in_and_comes_out() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let script = "n=$(printf '%0200d' 0); mkdir deep; cd -P deep; \
        for i in $(seq 30); do mkdir $n; cd -P $n; done; echo here > f";
    let made = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir.path())
        .status();
    assert!(made.unwrap().success());
    cp(&home, dir.path().join("deep"), "box:/tmp/deep").ok();
    cp(&home, "box:/tmp/deep", dir.path().join("back")).ok();
    let script = "cd back; while cd -P 0* 2>/dev/null; do :; done; cat f";
    let found = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir.path())
        .output();
    assert_eq!(found.unwrap().stdout, b"here\n");
    // Its path is too long for a library that removes by paths.
    let removed = Command::new("rm").arg("-rf").arg(dir.path()).status();
    assert!(removed.unwrap().success());
}

/// Stops the agent's child that packs, once there is one, and says so.
const STOP_THE_PACKER: &str = r"
read name < /proc/1/comm
echo lurking
while :; do
  read children < /proc/1/task/1/children
  for child in $children; do
    { read comm < /proc/$child/comm; } 2>/dev/null || continue
    [ $comm = $name ] && kill -STOP $child && echo stopped && exit
  done
done
";

#[test]
fn the_end_of_a_machine_is_the_error_of_its_copies_and_leaves_no_half_file() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    for end in ["rm --force box", "restore box before"] {
        home.ok("create box --image tiny --memory 256M --start");
        home.sh("box", "head -c 60000000 /dev/zero | tr '\\0' x > /tmp/big");
        home.ok("snapshot create box before");
        let _ = fs::remove_dir_all(&target);
        fs::create_dir(&target).unwrap();
        fs::write(target.join("big"), "old").unwrap();
        let mut lurks = home
            .call(["exec", "box", "--", "sh", "-c", STOP_THE_PACKER])
            .start();
        lurks.says("lurking");
        let out = home
            .call(["cp", "box:/tmp/big", target.to_str().unwrap()])
            .start();
        lurks.says("stopped");
        // And one in, in the middle of its file.
        let mut entry = tar::Header::new_ustar();
        entry.set_path("half").unwrap();
        entry.set_size(1 << 30);
        entry.set_mode(0o644);
        entry.set_cksum();
        let mut inward = piped(&home, "-", "box:/tmp/in");
        let mut stdin = inward.stdin.take().unwrap();
        stdin.write_all(entry.as_bytes()).unwrap();
        stdin.write_all(&vec![b'x'; 300_000]).unwrap();
        until(
            patient(Duration::from_secs(20)),
            "the copy in has begun",
            || home.sh("box", "ls -d /tmp/in 2>/dev/null; true") == "/tmp/in",
        );
        assert_eq!(home.sh("box", "ls /tmp/in"), "", "a half file has its name");
        home.ok(end);
        let copied = out.finish();
        assert_eq!(copied.code, Some(1), "{end}: {copied}");
        let said = copied.error();
        assert!(said.contains("machine box was"), "{end}: {copied}");
        assert!(!said.contains("cannot write"), "{end}: {copied}");
        assert_eq!(names(&target), ["big"], "{end}: {copied}");
        assert_eq!(fs::read(target.join("big")).unwrap(), b"old", "{end}");
        let ended = inward.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("machine box was"), "{end}: {said}");
        drop(stdin);
        lurks.finish();
        home.vmint("rm --force box");
        home.vmint("snapshot rm before");
    }
}

/// Whoever copies may be killed, too.
#[test]
fn a_copy_that_is_killed_leaves_no_half_file_on_either_side() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    home.sh(
        "box",
        "head -c 3000000 /dev/zero | tr '\\0' x > /tmp/big; mkdir /tmp/in; echo old > /tmp/in/half",
    );
    let mut lurks = home
        .call(["exec", "box", "--", "sh", "-c", STOP_THE_PACKER])
        .start();
    lurks.says("lurking");
    let out = home
        .call(["cp", "box:/tmp/big", target.to_str().unwrap()])
        .start();
    lurks.says("stopped");
    out.signal(rustix::process::Signal::KILL);
    drop(out);
    assert_eq!(names(&target), [""; 0]);
    let mut entry = tar::Header::new_ustar();
    entry.set_path("half").unwrap();
    entry.set_size(1 << 30);
    entry.set_mode(0o644);
    entry.set_cksum();
    let mut inward = piped(&home, "-", "box:/tmp/in");
    let mut stdin = inward.stdin.take().unwrap();
    stdin.write_all(entry.as_bytes()).unwrap();
    stdin.write_all(&vec![b'x'; 300_000]).unwrap();
    let used = || -> u64 {
        home.sh("box", "df -k /tmp | tail -1 | tr -s ' ' | cut -d' ' -f3")
            .parse()
            .unwrap()
    };
    let before = 3_000_000 / 1024 + 250;
    until(
        patient(Duration::from_secs(20)),
        "its content arrives",
        || used() > before,
    );
    inward.kill().unwrap();
    inward.wait().unwrap();
    until(
        patient(Duration::from_secs(20)),
        "the guest gives its content up",
        || used() < before,
    );
    assert_eq!(
        home.sh("box", "ls -A /tmp/in; cat /tmp/in/half"),
        "half\nold"
    );
    lurks.finish();
}
