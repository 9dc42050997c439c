//! A tree into a disk.

use super::inode;
use super::tree::Tree;
use crate::command::{CommandError, Program};
use crate::digest::Digest;
use crate::fsx::{FileError, OnFile};
use crate::progress::Progress;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vmint_model::Confine;

/// The type, as `mount` knows it.
pub(crate) const FILE_SYSTEM: &str = "ext4";

/// Named, so that nothing depends on what the host's mke2fs.conf says; without checksums of metadata (see
/// [`inode`]), which would also cost an emulated guest time on every read.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize";

/// A disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The content does not fit.
    #[error("{content} bytes of files do not fit on a disk of {size}")]
    TooSmall {
        /// Bytes of the files.
        content: u64,
        /// The disk's size in bytes.
        size: u64,
    },
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What mke2fs reads of its host.
const CONFIGURATION: &str = "/etc/mke2fs.conf";

/// Makes `disk`, a sparse file of `size` bytes with an ext4 file system that holds the tree.
pub(crate) fn make(
    tree: &Tree,
    disk: &Path,
    size: u64,
    confine: Confine,
    progress: &dyn Progress,
) -> Result<(), DiskError> {
    progress.stage("making the disk");
    let content = tree.content_size();
    if content > size {
        return Err(DiskError::TooSmall { content, size });
    }
    let file = File::create_new(disk).on("create", disk)?;
    file.set_len(size).on("set the size of", disk)?;
    drop(file);
    // Two disks of one size and content are to be one image: no random ids, and no times (see [`inode`]). mke2fs itself takes
    // the files in the order of their names.
    let id = uuid(&Digest::of(b"vmint root file system"));
    // The tables are written now. Left to the guest's kernel, every fork would write them to its overlay.
    let extended = format!("hash_seed={id},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0");
    let made = Program::new("mke2fs")
        .fenced(confine, |rules| {
            rules.read(CONFIGURATION).read(tree.path()).own(disk)
        })?
        .args([
            "-q",
            "-F",
            "-t",
            FILE_SYSTEM,
            "-O",
            FEATURES,
            "-I",
            "256",
            "-b",
            "4096",
            "-m",
            "0",
            "-L",
            "vmint-root",
        ])
        .args(["-U", &id, "-E", &extended, "-d"])
        .arg(tree.path())
        .arg(disk)
        .output();
    if let Err(e) = made {
        if let CommandError::Failed { stderr, .. } = &e
            && (stderr.contains("Could not allocate") || stderr.contains("too small"))
        {
            return Err(DiskError::TooSmall { content, size });
        }
        return Err(e.into());
    }
    set_xattrs(tree, disk, confine)?;
    // Last: debugfs notes when it was there.
    Ok(inode::apply(disk, tree).on("set the owners and times in", disk)?)
}

/// The first half of a digest in the form of a UUID.
fn uuid(digest: &Digest) -> String {
    let hex = digest.hex();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    )
}

/// Extended attributes are few (capabilities of programs such as ping), and their form in an inode is intricate:
/// debugfs writes them.
fn set_xattrs(tree: &Tree, disk: &Path, confine: Confine) -> Result<(), DiskError> {
    let mut found = Vec::new();
    find_xattrs(tree, Path::new(""), &mut found).on("read", tree.path())?;
    if found.is_empty() {
        return Ok(());
    }
    found.sort_unstable();
    let scratch = tempfile::tempdir_in(tree.path().parent().expect("a tree is in a workspace"))
        .on("create a folder beside", tree.path())?;
    let mut script = String::new();
    for (i, (path, name, value)) in found.iter().enumerate() {
        let Some(path) = path.to_str().filter(|p| !p.contains(['"', '\n'])) else {
            tracing::warn!(path = %path.display(), "its extended attribute {name} is left out: debugfs cannot write its name");
            continue;
        };
        let file = scratch.path().join(i.to_string());
        fs::write(&file, value).on("write", &file)?;
        writeln!(script, "ea_set -f {i} \"/{path}\" {name}").expect("writing to a string");
    }
    let file = scratch.path().join("script");
    fs::write(&file, script).on("write", &file)?;
    Program::new("debugfs")
        .fenced(confine, |rules| rules.read(scratch.path()).own(disk))?
        .dir(scratch.path())
        .args(["-w", "-f", "script"])
        .arg(disk)
        .output()?;
    Ok(())
}

type Found = (PathBuf, String, Vec<u8>);

fn find_xattrs(tree: &Tree, path: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(tree.path().join(path))? {
        let entry = entry?;
        let (path, meta) = (path.join(entry.file_name()), entry.metadata()?);
        for (name, value) in tree
            .attributes_of(meta.ino())
            .into_iter()
            .flat_map(|a| &a.xattrs)
        {
            found.push((path.clone(), name.clone(), value.clone()));
        }
        if meta.is_dir() {
            find_xattrs(tree, &path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::rootfs::tree::{Attributes, Special};
    use std::ffi::OsStr;

    fn debugfs(disk: &Path, request: &str) -> String {
        let output = Program::new("debugfs")
            .args(["-R", request])
            .arg(disk)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output).into_owned()
    }

    #[test]
    fn owners_modes_devices_and_names_are_as_asked_and_fsck_is_content() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::create(&dir.path().join("root")).unwrap();
        let attributes = |uid, gid, mode| Attributes {
            uid,
            gid,
            mode,
            mtime: Some(77),
            ..Attributes::default()
        };
        let file = |tree: &mut Tree, path: &str, a| {
            tree.file(Path::new(path), a, &mut &b"content"[..]).unwrap()
        };
        file(&mut tree, "bin/su", attributes(0, 0, 0o4755));
        file(&mut tree, "mine", attributes(1000, 100_000, 0o640));
        tree.hard_link(Path::new("also mine"), Path::new("mine"))
            .unwrap();
        file(
            &mut tree,
            "bad \"name\"\nand 'more' ä",
            attributes(5, 6, 0o604),
        );
        tree.symlink(
            Path::new("link"),
            OsStr::new("mine"),
            attributes(7, 8, 0o777),
        )
        .unwrap();
        tree.special(
            Path::new("dev/null"),
            Special::Character { major: 1, minor: 3 },
            attributes(0, 0, 0o666),
        )
        .unwrap();
        tree.special(
            Path::new("dev/big"),
            Special::Block {
                major: 259,
                minor: 70_000,
            },
            attributes(0, 6, 0o660),
        )
        .unwrap();
        tree.special(
            Path::new("dev/fifo"),
            Special::Fifo,
            attributes(0, 0, 0o600),
        )
        .unwrap();
        tree.directory(Path::new("tmp"), Some(attributes(0, 0, 0o1777)))
            .unwrap();
        // Enough entries for a folder of several blocks.
        for i in 0..700 {
            file(
                &mut tree,
                &format!("many/a file with a longer name {i}"),
                attributes(i, 0, 0o600),
            );
        }
        let mut capable = attributes(0, 0, 0o755);
        capable.xattrs.insert(
            "security.capability".into(),
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        );
        file(&mut tree, "bin/ping", capable);

        let disk = dir.path().join("disk");
        make(&tree, &disk, 64 << 20, Confine::Require, &Silent).unwrap();
        Program::new("e2fsck")
            .args(["-f", "-n"])
            .arg(&disk)
            .output()
            .unwrap();
        for (path, expected) in [
            (
                "bin/su",
                &[
                    "Mode:  04755",
                    "User:     0",
                    "Group:     0",
                    "Type: regular",
                ][..],
            ),
            (
                "mine",
                &["Mode:  0640", "User:  1000", "Group: 100000", "Links: 2"],
            ),
            ("link", &["Type: symlink", "User:     7", "Group:     8"]),
            (
                "dev/null",
                &[
                    "Type: character special",
                    "Mode:  0666",
                    "major/minor number: 01:03",
                ],
            ),
            ("dev/big", &["Type: block special", "(hex 103:11170)"]),
            ("dev/fifo", &["Type: FIFO", "Mode:  0600"]),
            ("tmp", &["Type: directory", "Mode:  01777"]),
            (
                "many/a file with a longer name 699",
                &["User:   699", "Mode:  0600"],
            ),
            ("/", &["Type: directory", "Mode:  0755", "User:     0"]),
        ] {
            let stat = debugfs(&disk, &format!("stat \"{path}\""));
            for part in expected {
                assert!(stat.contains(part), "{path}: no {part:?} in {stat}");
            }
        }
        assert!(debugfs(&disk, "ea_list /bin/ping").contains("security.capability (20)"));
        assert_eq!(debugfs(&disk, "cat /mine"), "content");
        // The listing prints the strange name with its owner, though no request could name it.
        let listing = debugfs(&disk, "ls -l /");
        let strange = listing.lines().find(|line| line.contains("bad")).unwrap();
        assert!(
            strange.contains("100604 (1)") && strange.contains("5      6"),
            "{strange}"
        );

        // The same again is the same disk, though a second has passed.
        let second = || {
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .as_secs()
        };
        let began = second();
        while second() == began {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let again = dir.path().join("again");
        make(&tree, &again, 64 << 20, Confine::Require, &Silent).unwrap();
        assert_eq!(
            Digest::of_sparse_file(&again).unwrap(),
            Digest::of_sparse_file(&disk).unwrap()
        );
        assert_eq!(fs::metadata(&again).unwrap().len(), 64 << 20);
        assert!(fs::metadata(&again).unwrap().blocks() * 512 < 16 << 20);
    }

    #[test]
    fn times_are_the_tree_s_in_files_folders_links_and_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::create(&dir.path().join("root")).unwrap();
        let at = |mtime| Attributes {
            mtime: Some(mtime),
            ..Attributes::root(0o755)
        };
        tree.file(Path::new("sub/file"), at(1000), &mut &b"x"[..])
            .unwrap();
        tree.symlink(Path::new("link"), OsStr::new("sub"), at(2000))
            .unwrap();
        tree.file(Path::new("late"), at(5_000_000_000), &mut &b"x"[..])
            .unwrap();
        tree.directory(Path::new("folder"), Some(at(-3))).unwrap();
        tree.directory(Path::new("implied"), None).unwrap();
        let disk = dir.path().join("disk");
        make(&tree, &disk, 64 << 20, Confine::Require, &Silent).unwrap();
        for (path, time) in [
            ("/sub/file", "0x000003e8:00000000"),
            ("/link", "0x000007d0:00000000"),
            ("/late", "0x2a05f200:00000001"),
            ("/folder", "0xfffffffd:00000000"),
            // As the newest thing in it.
            ("/implied", "0x2a05f200:00000001"),
            ("<8>", "0x2a05f200:00000001"),
        ] {
            let stat = debugfs(&disk, &format!("stat {path}"));
            for field in ["ctime", "atime", "mtime", "crtime"] {
                let line = stat
                    .lines()
                    .find(|line| line.trim().starts_with(field))
                    .unwrap_or_else(|| panic!("{path} has no {field}: {stat}"));
                assert!(line.contains(time), "{path}: {time} in {line}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::create(&dir.path().join("root")).unwrap();
        let mut content = io::Read::take(io::repeat(b'x'), 20 << 20);
        tree.file(Path::new("large"), Attributes::root(0o644), &mut content)
            .unwrap();
        for size in [16u64 << 20, 21 << 20] {
            let error = make(
                &tree,
                &dir.path().join(size.to_string()),
                size,
                Confine::Best,
                &Silent,
            )
            .unwrap_err();
            assert!(
                matches!(error, DiskError::TooSmall { size: s, .. } if s == size),
                "{error}"
            );
        }
    }
}
