//! The disk that `VMINT_HOME` is on.

use super::check::Check;
use super::files::OTHER_HOME;
use rustix::fs::{statfs, statvfs};
use std::path::Path;
use vmint_model::ByteSize;

/// The path, or the nearest folder above it that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"))
}

/// What kind of file system something is on, as far as that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Memory,
    Network,
    /// Anything can be behind it.
    Fuse,
}

/// Reads a magic number of statfs(2).
fn kind(magic: u64) -> (Kind, &'static str) {
    match magic & 0xffff_ffff {
        0x0102_1994 => (Kind::Memory, "tmpfs"),
        0x8584_58f6 => (Kind::Memory, "ramfs"),
        0x6969 => (Kind::Network, "NFS"),
        0xff53_4d42 | 0x517b | 0xfe53_4d42 => (Kind::Network, "SMB"),
        0x0102_1997 => (Kind::Network, "9p"),
        0x00c3_6400 => (Kind::Network, "Ceph"),
        0x5346_414f | 0x6b41_4653 => (Kind::Network, "AFS"),
        0x0bd0_0bd0 => (Kind::Network, "Lustre"),
        0x6573_5546 => (Kind::Fuse, "FUSE"),
        0xef53 => (Kind::Disk, "ext4"),
        0x5846_5342 => (Kind::Disk, "XFS"),
        0x9123_683e => (Kind::Disk, "Btrfs"),
        0x2fc1_2fc1 => (Kind::Disk, "ZFS"),
        0x794c_7630 => (Kind::Disk, "overlayfs"),
        0xf2f5_2010 => (Kind::Disk, "F2FS"),
        0xca45_1a4e => (Kind::Disk, "bcachefs"),
        _ => (Kind::Disk, "a local file system"),
    }
}

pub(super) fn file_system(root: &Path) -> Check {
    const NAME: &str = "file-system";
    match statfs(existing(root)) {
        Ok(found) => judge_file_system(kind(found.f_type as u64)),
        Err(e) => Check::warning(
            NAME,
            format!("not known: {}: {e}", root.display()),
            OTHER_HOME,
        ),
    }
}

fn judge_file_system((kind, name): (Kind, &str)) -> Check {
    const NAME: &str = "file-system";
    match kind {
        Kind::Disk => Check::ok(NAME, name),
        Kind::Memory => Check::warning(
            NAME,
            format!(
                "VMINT_HOME is in memory ({name}): images, templates and disks take it from the machines"
            ),
            OTHER_HOME,
        ),
        Kind::Network | Kind::Fuse => Check::warning(
            NAME,
            format!(
                "VMINT_HOME is on {name}: file locks and the database may not be reliable there, and forks are slow"
            ),
            OTHER_HOME,
        ),
    }
}

/// With less nothing but a few tiny machines will fit.
const TOO_LITTLE_SPACE: ByteSize = ByteSize::mib(256);
/// With less a Debian image may not fit.
const LITTLE_SPACE: ByteSize = ByteSize::mib(2048);
/// Fewer files than that left, of a file system that counts them.
const FEW_FILES: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free: u64,
    total: u64,
    /// Files that can still be made; absent where they are not counted.
    files: Option<u64>,
}

pub(super) fn disk_space(root: &Path) -> Check {
    const NAME: &str = "disk-space";
    match statvfs(existing(root)) {
        Ok(found) => judge_space(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            files: (found.f_files > 0).then_some(found.f_favail),
        }),
        Err(e) => Check::warning(
            NAME,
            format!("not known: {}: {e}", root.display()),
            OTHER_HOME,
        ),
    }
}

fn judge_space(space: Space) -> Check {
    const NAME: &str = "disk-space";
    const REMEDY: &str = "free some: vmint gc, vmint image prune, vmint template prune; or set VMINT_HOME to a folder on another disk";
    let summary = format!("{} of {} free", ByteSize(space.free), ByteSize(space.total));
    if space.free < TOO_LITTLE_SPACE.0 {
        return Check::failure(NAME, summary, REMEDY);
    }
    if let Some(files) = space.files.filter(|files| *files < FEW_FILES) {
        return Check::warning(
            NAME,
            format!("{summary}, but for {files} files only (inodes)"),
            REMEDY,
        );
    }
    if space.free < LITTLE_SPACE.0 {
        return Check::warning(NAME, summary, REMEDY);
    }
    Check::ok(NAME, summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn memory_and_networks_are_no_disks() {
        for (magic, expected) in [
            (0x0102_1994, Kind::Memory),
            (0x6969, Kind::Network),
            // Some kernels' statfs extends the sign.
            (0xffff_ffff_ff53_4d42, Kind::Network),
            (0x6573_5546, Kind::Fuse),
            (0xef53, Kind::Disk),
            (0x9123_683e, Kind::Disk),
            (0, Kind::Disk),
        ] {
            assert_eq!(kind(magic).0, expected, "{magic:#x}");
            let status = if expected == Kind::Disk {
                Status::Ok
            } else {
                Status::Warning
            };
            assert_eq!(judge_file_system(kind(magic)).status, status);
        }
    }

    #[test]
    fn little_space_is_a_warning_and_too_little_a_failure() {
        let judge = |mib: u64, files| {
            judge_space(Space {
                free: mib << 20,
                total: 1 << 40,
                files,
            })
            .status
        };
        assert_eq!(judge(2048, None), Status::Ok);
        assert_eq!(judge(2047, None), Status::Warning);
        assert_eq!(judge(256, Some(1_000_000)), Status::Warning);
        assert_eq!(judge(255, None), Status::Failure);
        assert_eq!(judge(99_999, Some(999)), Status::Warning);
        assert_eq!(judge(99_999, Some(1000)), Status::Ok);
    }

    #[test]
    fn what_does_not_exist_yet_is_where_its_folder_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(&dir.path().join("a/b")), dir.path());
        assert_eq!(existing(Path::new("relative/not/there")), Path::new("/"));
    }
}
