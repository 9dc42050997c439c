//! What a root file system is, found by looking into it.

use super::error::ImportError;
use super::source::ImportSource;
use crate::arch::{Arch, elf_machine_name};
use crate::manifest::{Defaults, InitKind};
use crate::rootfs::tree::{Attributes, Tree};
use std::io::{self, Read};
use std::path::Path;

/// Programs that nearly every root file system has one of.
const PROGRAMS: [&str; 9] = [
    "/sbin/init",
    "/lib/systemd/systemd",
    "/bin/sh",
    "/bin/bash",
    "/bin/busybox",
    "/usr/bin/env",
    "/bin/ls",
    "/lib/ld-linux.so.2",
    "/usr/bin/python3",
];

fn start_of(tree: &Tree, path: &str) -> Option<Vec<u8>> {
    let file = tree.open(path).ok()?;
    let mut start = Vec::with_capacity(20);
    file.metadata().ok()?.is_file().then_some(())?;
    file.take(20).read_to_end(&mut start).ok()?;
    Some(start)
}

/// Refuses programs for another processor. A root file system without any known program passes: there may be none.
pub(super) fn check_architecture(
    tree: &Tree,
    defaults: &Defaults,
    source: &ImportSource,
) -> Result<(), ImportError> {
    let first = defaults
        .entrypoint
        .iter()
        .chain(&defaults.cmd)
        .take(1)
        .map(String::as_str);
    let found = PROGRAMS
        .into_iter()
        .chain(first)
        .find_map(|path| Arch::of_elf(&start_of(tree, path)?));
    let name = match found {
        None | Some(Ok(Arch::HOST)) => return Ok(()),
        Some(Ok(other)) => other.to_string(),
        Some(Err(machine)) => elf_machine_name(machine),
    };
    Err(ImportError::WrongArchitecture {
        source_name: source.to_string(),
        found: name,
    })
}

/// An archive of an image, imported as if it were one of a root file system, would make a disk of blobs.
pub(super) fn refuse_an_archive_of_an_image(
    tree: &Tree,
    source: &ImportSource,
) -> Result<(), ImportError> {
    let not = |reason: &str| {
        Err(ImportError::NotAnImage {
            source_name: source.to_string(),
            reason: reason.to_owned(),
        })
    };
    let names = tree.list("").unwrap_or_default();
    if names.is_empty() {
        return not("it is empty");
    }
    let root = ["bin", "sbin", "usr", "etc", "lib"]
        .iter()
        .any(|dir| tree.exists(dir));
    if !root && (tree.exists("oci-layout") || tree.exists("manifest.json")) {
        return not("it is an archive of an image, not of a root file system");
    }
    Ok(())
}

/// What should run as PID 1. Images made for containers often hold an init that was never set up: busybox counts only
/// with scripts to run.
pub(super) fn init_of(tree: &Tree) -> InitKind {
    let systemd = ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"]
        .iter()
        .any(|path| tree.exists(path));
    if !tree.exists("/sbin/init") {
        return InitKind::Agent;
    }
    if systemd {
        return InitKind::Systemd;
    }
    let busybox = is_busybox(tree);
    let scripts = tree.exists("/etc/init.d/rcS") || tree.exists("/sbin/openrc");
    if busybox && !scripts {
        InitKind::Agent
    } else {
        InitKind::Other
    }
}

/// Whether `/sbin/init` is busybox under another name.
fn is_busybox(tree: &Tree) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &str| Some(tree.open(path).ok()?.metadata().ok()?.ino());
    inode("/sbin/init").is_some_and(|init| inode("/bin/busybox") == Some(init))
}

/// Folders that the agent mounts on; an image of one static program has none.
pub(super) fn add_mount_points(tree: &mut Tree) -> io::Result<()> {
    for (path, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
    ] {
        if !tree.exists(path) {
            tree.directory(Path::new(path), Some(Attributes::root(mode)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::create(&dir.path().join("root")).unwrap();
        (dir, tree)
    }

    fn put(tree: &mut Tree, path: &str) {
        tree.file(Path::new(path), Attributes::root(0o755), &mut &b"x"[..])
            .unwrap();
    }

    fn link(tree: &mut Tree, path: &str, target: &str) {
        tree.symlink(Path::new(path), OsStr::new(target), Attributes::default())
            .unwrap();
    }

    #[test]
    fn inits_are_told_apart() {
        let (_dir, mut none) = tree();
        put(&mut none, "bin/sh");
        assert_eq!(init_of(&none), InitKind::Agent);

        let (_dir, mut systemd) = tree();
        put(&mut systemd, "usr/lib/systemd/systemd");
        assert_eq!(
            init_of(&systemd),
            InitKind::Agent,
            "systemd without a link to it is a library's left-over"
        );
        link(&mut systemd, "sbin/init", "/lib/systemd/systemd");
        link(&mut systemd, "lib", "usr/lib");
        assert_eq!(init_of(&systemd), InitKind::Systemd);

        let (_dir, mut alpine) = tree();
        put(&mut alpine, "bin/busybox");
        link(&mut alpine, "sbin/init", "/bin/busybox");
        assert_eq!(init_of(&alpine), InitKind::Agent);
        put(&mut alpine, "sbin/openrc");
        assert_eq!(init_of(&alpine), InitKind::Other);

        let (_dir, mut other) = tree();
        put(&mut other, "sbin/init");
        assert_eq!(init_of(&other), InitKind::Other);
    }
}
