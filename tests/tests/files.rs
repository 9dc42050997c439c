//! Files into and out of machines.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use vmint_tests::Home;
use vmint_tests::bytes::{hex, noise};

const SOON: Duration = Duration::from_secs(10);

fn machine() -> Home {
    let home = Home::new();
    home.start("box");
    home
}

#[test]
fn run_copies_in_before_and_out_after_also_when_the_command_failed() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("in put"), dir.path().join("out"));
    fs::write(&source, "from the host").unwrap();
    let (into, out) = (
        format!("{}:/tmp/x y", source.display()),
        format!("/tmp/result:{}", target.display()),
    );
    let words = [
        "run",
        "--memory",
        "128M",
        "--copy-in",
        &into,
        "--copy-out",
        &out,
        "--",
        "sh",
        "-c",
        "tr a-z A-Z < '/tmp/x y' > /tmp/result; exit 9",
    ];
    home.call(words).run().exits(9);
    assert_eq!(fs::read_to_string(&target).unwrap(), "FROM THE HOST");
    // What is not there is vmint's failure to say, not the command's success.
    let words = [
        "run",
        "--memory",
        "128M",
        "--copy-out",
        "/no/such/file:/tmp/never",
        "--",
        "true",
    ];
    home.call(words).run().exits(125);
    home.empties(SOON);
}

/// A folder with all that a folder may hold.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("with blank/deep/er")).unwrap();
    fs::write(root.join("with blank/deep/er/file"), noise(3 << 20)).unwrap();
    fs::write(root.join("none"), "").unwrap();
    fs::write(root.join("new\nline \u{4e16} 'quoted' \"too\""), "odd").unwrap();
    fs::write(root.join("tool"), "#!/bin/sh\necho tool\n").unwrap();
    for (name, mode) in [("tool", 0o755), ("none", 0o600), ("empty", 0o711)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("tool", root.join("link")).unwrap();
    symlink("/no/where", root.join("dangling")).unwrap();
    fs::hard_link(root.join("tool"), root.join("twin")).unwrap();
}

/// Every path under `root` with its mode and what it holds.
fn describe(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let shown = path.strip_prefix(root).unwrap().to_owned();
            let content = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                folders.push(path.clone());
                format!("folder {:o}", meta.permissions().mode() & 0o7777)
            } else {
                format!(
                    "file {:o} {}",
                    meta.permissions().mode() & 0o7777,
                    hex(&fs::read(&path).unwrap())
                )
            };
            found.push(format!("{} {content}", shown.display()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_folder_goes_into_a_machine_and_comes_back_the_same() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    fill(&source);
    home.call(["cp", source.to_str().unwrap(), "box:/tmp/folder"])
        .run()
        .ok();
    assert_eq!(home.sh("box", "/tmp/folder/tool; cat /tmp/folder/link | head -1; stat -c %a /tmp/folder/none; readlink /tmp/folder/dangling"), "tool\n#!/bin/sh\n600\n/no/where");
    home.call(["cp", "box:/tmp/folder", back.to_str().unwrap()])
        .run()
        .ok();
    assert_eq!(describe(&back), describe(&source));
    // Into a folder that is there, under its own name, as with cp.
    fs::create_dir(dir.path().join("there")).unwrap();
    home.call([
        "cp",
        "box:/tmp/folder/tool",
        dir.path().join("there").to_str().unwrap(),
    ])
    .run()
    .ok();
    assert_eq!(
        fs::read(dir.path().join("there/tool")).unwrap(),
        fs::read(source.join("tool")).unwrap()
    );
    let missing = home
        .call([
            "cp",
            "--format",
            "json",
            "box:/no/such/file",
            back.to_str().unwrap(),
        ])
        .run();
    let message = missing.fault(3, "not_found");
    assert!(message.contains("/no/such/file"), "{message}");
}

#[test]
fn tar_streams_go_in_and_come_out() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fill(&source);
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", &source).unwrap();
    home.sh("box", "mkdir -p /tmp/into");
    home.call(["cp", "-", "box:/tmp/into"])
        .input(builder.into_inner().unwrap())
        .run()
        .ok();
    assert_eq!(
        home.sh(
            "box",
            "/tmp/into/tool; cat '/tmp/into/new\nline \u{4e16} '\\''quoted'\\'' \"too\"'"
        ),
        "tool\nodd"
    );
    let out = home.call(["cp", "box:/tmp/into", "-"]).run().ok();
    let mut archive = tar::Archive::new(&out.stdout[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    for name in ["tool", "link", "dangling", "file", "empty"] {
        assert!(
            names
                .iter()
                .any(|n| n.trim_end_matches('/').ends_with(name)),
            "{name}: {names:?}"
        );
    }
}

/// One entry, its name written past the checks of the library.
fn hostile(name: &str, link: Option<(tar::EntryType, &str)>, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_size(if link.is_some() {
        0
    } else {
        content.len() as u64
    });
    if let Some((kind, target)) = link {
        header.set_entry_type(kind);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    if link.is_none() {
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

#[test]
fn an_archive_cannot_leave_its_target_folder_in_the_guest() {
    let home = machine();
    home.sh("box", "mkdir -p /tmp/target /tmp/outside");
    let symlink = tar::EntryType::Symlink;
    let archives = [
        hostile("../outside/escaped", None, b"x"),
        hostile("/tmp/outside/escaped", None, b"x"),
        hostile("a/../../outside/escaped", None, b"x"),
        [
            hostile("door", Some((symlink, "/tmp/outside")), b""),
            hostile("door/escaped", None, b"x"),
        ]
        .concat(),
        [
            hostile("up", Some((symlink, "..")), b""),
            hostile("up/outside/escaped", None, b"x"),
        ]
        .concat(),
        [
            hostile(
                "escaped",
                Some((tar::EntryType::Link, "../../etc/passwd")),
                b"",
            ),
            hostile("escaped", None, b"x"),
        ]
        .concat(),
    ];
    for archive in archives {
        let out = home
            .call(["cp", "-", "box:/tmp/target"])
            .input([archive, end()].concat())
            .run();
        // Refused, or put inside the target: never outside, and never a false success.
        let left = home.sh(
            "box",
            "ls -A /tmp/outside; ls -A /tmp/ | grep -c escaped; ls -A / | grep -c escaped; true",
        );
        assert_eq!(left, "0\n0", "{out}");
        home.sh(
            "box",
            "grep -q root /etc/passwd && rm -rf /tmp/target && mkdir -p /tmp/target",
        );
    }
    home.vmint("exec box -- true").ok();
}

/// The guest is a program that nobody has read: what it sends when it is asked for a file may be anything. Its own tree
/// is as hostile as a tree can be without another agent.
#[test]
fn a_guests_links_cannot_lead_files_out_of_the_target_folder_on_the_host() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
    fs::create_dir_all(&target).unwrap();
    fs::create_dir_all(&outside).unwrap();
    home.sh(
        "box",
        &format!(
            "mkdir -p /tmp/t && cd /tmp/t && ln -s {} door && echo x > file",
            outside.display()
        ),
    );
    home.call(["cp", "box:/tmp/t", target.to_str().unwrap()])
        .run()
        .ok();
    // Now the target holds a link that leads out, and the guest a folder in its place.
    home.sh(
        "box",
        "cd /tmp/t && rm door && mkdir door && echo escaped > door/escaped",
    );
    let again = home
        .call(["cp", "box:/tmp/t", target.to_str().unwrap()])
        .run();
    assert_eq!(describe(&outside), [] as [String; 0], "{again}");
}

/// Stands between the command and the runner, and says something else than the guest: `lie` for each `truth`.
fn lie_in_between(socket: &Path, truth: &'static [u8], lie: &'static [u8]) -> Arc<AtomicUsize> {
    let lies = Arc::new(AtomicUsize::new(0));
    let real = socket.with_extension("real");
    fs::rename(socket, &real).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    let told = lies.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut runner) = (client.unwrap(), UnixStream::connect(&real).unwrap());
            let (mut asks, mut to_runner) =
                (client.try_clone().unwrap(), runner.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut asks, &mut to_runner);
                let _ = to_runner.shutdown(std::net::Shutdown::Write);
            });
            let mut buffer = vec![0; 1 << 20];
            while let Ok(n) = runner.read(&mut buffer) {
                let bytes = &mut buffer[..n];
                while let Some(at) = bytes.windows(truth.len()).position(|w| w == truth) {
                    bytes[at..at + lie.len()].copy_from_slice(lie);
                    told.fetch_add(1, Ordering::SeqCst);
                }
                if n == 0 || client.write_all(bytes).is_err() {
                    break;
                }
            }
        }
    });
    lies
}

/// A guest whose agent is not ours may send any archive when it is asked for a folder. The names are made of the same
/// letters, so that the archive's checksums are right.
#[test]
fn a_guest_that_sends_names_outside_the_target_folder_is_refused() {
    let home = machine();
    let dir = tempfile::tempdir().unwrap();
    let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
    fs::create_dir_all(&target).unwrap();
    fs::create_dir_all(&outside).unwrap();
    home.sh(
        "box",
        "mkdir -p /tmp/outside/.f && echo x > /tmp/outside/.f/.g",
    );
    let socket = home.sockets().remove(0);
    let lies = lie_in_between(&socket, b"outside/.f/.g", b"../outside/fg");
    for to in [target.clone(), target.join("new")] {
        let told = lies.load(Ordering::SeqCst);
        let words = ["cp", "box:/tmp/outside", to.to_str().unwrap()];
        let copied = home.call(words).run().exits(1);
        assert!(
            lies.load(Ordering::SeqCst) > told,
            "the name was never on the wire: {copied}"
        );
        assert!(
            copied.error().contains("leaves the target folder"),
            "{copied}"
        );
        assert_eq!(describe(&outside), [] as [String; 0], "{copied}");
    }
    fs::rename(socket.with_extension("real"), &socket).unwrap();
    assert_eq!(home.sh("box", "echo up"), "up");
}
