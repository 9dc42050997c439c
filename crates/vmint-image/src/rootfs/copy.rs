//! Files of the host into an image, as root's: packed by [`vmint_tree`], as all copies are, and taken into the tree.
//!
//! Set-id bits stay with an owner who is not root, for in the image the file would be root's. Sockets and what the kernel makes
//! up stay behind.

use super::tree::{Attributes, Special, Tree};
use super::unpack::{Budget, xattrs};
use crate::fsx::{FileError, OnFile};
use crate::progress::Progress;
use crate::recipe::CopyIn;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vmint_protocol::LeftOut;
use vmint_protocol::archive::{Entry, EntryKind, Parser, Reader};
use vmint_tree::{As, PackError, Packed, Reason, Writing, Xattrs, pack};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// Puts the host's files in, as root's. What is left out is told as a line of output.
pub(crate) fn copy_in(
    tree: &mut Tree,
    copies: &[CopyIn],
    progress: &dyn Progress,
) -> Result<(), FileError> {
    let mut budget = Budget::new(u64::MAX);
    for copy in copies {
        let left_out = copy_one(tree, &copy.source, &copy.path_in_image(), &mut budget)?;
        if !left_out.is_empty() {
            let first = vmint_model::printable_bytes(&left_out.first);
            let LeftOut {
                sockets,
                mounts,
                powers,
                xattrs,
                ..
            } = left_out;
            progress.output(&format!(
                "left out of the copy: {sockets} sockets, {mounts} file systems of the kernel, set-id bits of {powers} files, \
                 {xattrs} extended attributes (first: `{first}`)"
            ));
        }
    }
    Ok(())
}

fn copy_one(
    tree: &mut Tree,
    source: &Path,
    target: &Path,
    budget: &mut Budget,
) -> Result<LeftOut, FileError> {
    let (reader, writer) = io::pipe().on("copy", source)?;
    let path = source.as_os_str().as_bytes();
    let (packed, taken) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut sink = Writing::new(io::BufWriter::with_capacity(64 << 10, writer));
            // One name, in the place of which the target's is put.
            pack(path, As::Named(b"_"), Xattrs::Keep, &mut sink)
        });
        let mut powers = LeftOut::default();
        let taken = take(
            tree,
            std::os::fd::OwnedFd::from(reader).into(),
            target,
            budget,
            &mut powers,
        );
        let packed = packing.join().expect("packing does not panic");
        (packed, taken.map(|()| powers))
    });
    match (packed, taken) {
        // When the tree cannot take it, the packer only sees that nobody reads any more.
        (Err(error), Err(_)) if error.what != "send" => Err(unreadable(&error)),
        (_, Err((path, source))) => Err(FileError {
            action: "copy",
            path,
            source,
        }),
        (Err(error), Ok(_)) => Err(unreadable(&error)),
        (
            Ok(Packed {
                trouble: Some(trouble),
                ..
            }),
            Ok(_),
        ) => Err(unreadable(&trouble.first)),
        (Ok(Packed { mut left_out, .. }), Ok(powers)) => {
            left_out.powers += powers.powers;
            if left_out.first.is_empty() {
                left_out.first = powers.first;
            }
            Ok(left_out)
        }
    }
}

fn unreadable(error: &PackError) -> FileError {
    let source = match error.reason {
        Reason::Os(errno) => errno.into(),
        other => io::Error::other(other.to_string()),
    };
    FileError {
        action: "copy",
        path: PathBuf::from(OsStr::from_bytes(&error.path)),
        source,
    }
}

/// Takes an archive of this host's, whose names all begin with one component, into the tree as `target`.
fn take(
    tree: &mut Tree,
    stream: File,
    target: &Path,
    budget: &mut Budget,
    powers: &mut LeftOut,
) -> Result<(), (PathBuf, io::Error)> {
    let parser = Parser::default().keeping_xattrs().taking_holes();
    let mut archive = Reader::with_parser(stream, parser);
    while let Some(entry) = archive.next_entry().map_err(|e| (target.to_owned(), e))? {
        let path = placed(&entry.path, target);
        let taken = take_one(tree, entry, &mut archive, target, &path, budget, powers);
        taken.map_err(|e| (path, e))?;
    }
    Ok(())
}

/// Where in the image an archive's name goes.
fn placed(name: &[u8], target: &Path) -> PathBuf {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    match name.iter().position(|&b| b == b'/') {
        Some(at) => target.join(OsStr::from_bytes(&name[at + 1..])),
        None => target.to_owned(),
    }
}

fn take_one(
    tree: &mut Tree,
    entry: Entry,
    archive: &mut Reader<File>,
    target: &Path,
    path: &Path,
    budget: &mut Budget,
    powers: &mut LeftOut,
) -> io::Result<()> {
    let mut mode = entry.mode;
    if entry.uid != 0 {
        mode &= !SET_USER_ID;
    }
    if entry.gid != 0 && entry.kind != EntryKind::Directory {
        mode &= !SET_GROUP_ID;
    }
    if mode != entry.mode {
        powers.powers += 1;
        if powers.first.is_empty() {
            powers.first.clone_from(&entry.path);
        }
    }
    let mut attributes = Attributes {
        mtime: Some(entry.mtime),
        ..Attributes::root(mode)
    };
    let (major, minor) = entry.device;
    let special = match entry.kind {
        EntryKind::Directory => {
            // A folder that the image has keeps its owner and mode: `--copy etc:/etc` must not change /etc.
            let exists = tree.exists(&path.to_string_lossy());
            attributes.xattrs = xattrs(entry.xattrs, budget)?;
            return tree.directory(path, (!exists).then_some(attributes));
        }
        EntryKind::File => {
            attributes.xattrs = xattrs(entry.xattrs, budget)?;
            let mut content = archive.content();
            return tree.file(path, attributes, &mut content).map(drop);
        }
        EntryKind::Symlink => {
            return tree.symlink(path, OsStr::from_bytes(&entry.link), attributes);
        }
        EntryKind::HardLink => return tree.hard_link(path, &placed(&entry.link, target)),
        EntryKind::CharDevice => Special::Character { major, minor },
        EntryKind::BlockDevice => Special::Block { major, minor },
        EntryKind::Fifo => Special::Fifo,
    };
    tree.special(path, special, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

    #[test]
    fn a_copy_belongs_to_root_and_keeps_permissions_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::create(&dir.path().join("root")).unwrap();
        let source = dir.path().join("a \"strange\" ñame");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/tool"), "x").unwrap();
        fs::set_permissions(source.join("sub/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/nowhere", source.join("link")).unwrap();
        tree.directory(
            Path::new("opt"),
            Some(Attributes {
                uid: 3,
                ..Attributes::root(0o700)
            }),
        )
        .unwrap();
        copy_in(
            &mut tree,
            &[CopyIn {
                source: source.clone(),
                target: "/opt".into(),
            }],
            &Silent,
        )
        .unwrap();
        assert_eq!(tree.timeless("opt/sub/tool"), Attributes::root(0o755));
        assert_eq!(
            fs::read_link(tree.path().join("opt/link")).unwrap(),
            Path::new("/nowhere")
        );
        assert_eq!(tree.timeless("opt").uid, 3);
        let missing = CopyIn {
            source: dir.path().join("missing"),
            target: "/x".into(),
        };
        assert!(
            copy_in(&mut tree, &[missing], &Silent)
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
    }

    /// Tells what is left out.
    #[derive(Default)]
    struct Told(std::sync::Mutex<Vec<String>>);

    impl Progress for Told {
        fn output(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_taken_as_it_is_or_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::create(&dir.path().join("root")).unwrap();
        let source = dir.path().join("source");
        let at = |name: &str| source.join(name);
        fs::create_dir_all(&source).unwrap();
        fs::write(at("a"), "shared").unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        let holes = File::create(at("holes")).unwrap();
        holes.set_len(64 << 20).unwrap();
        holes.write_at(b"x", 32 << 20).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o640),
            0,
        )
        .unwrap();
        fs::set_permissions(at("pipe"), fs::Permissions::from_mode(0o640)).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        fs::write(at("tool"), "x").unwrap();
        fs::set_permissions(at("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
        let is_root = fs::metadata(at("tool")).unwrap().uid() == 0;
        if is_root {
            std::os::unix::fs::chown(at("tool"), Some(1234), Some(1234)).unwrap();
            fs::set_permissions(at("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
        }
        let set = rustix::fs::setxattr(
            at("a"),
            "user.note",
            b"kept",
            rustix::fs::XattrFlags::empty(),
        );
        let told = Told::default();
        let copy = CopyIn {
            source: source.clone(),
            target: "/opt/".into(),
        };
        copy_in(&mut tree, &[copy], &told).unwrap();
        let made = |name: &str| tree.path().join("opt/source").join(name);
        let inode = |name: &str| fs::metadata(made(name)).unwrap().ino();
        assert_eq!(inode("a"), inode("b"), "a hard link is two files");
        if set.is_ok() {
            let xattrs = tree.timeless("opt/source/b").xattrs;
            assert_eq!(xattrs.get("user.note").map(|v| &v[..]), Some(&b"kept"[..]));
        }
        assert!(fs::metadata(made("holes")).unwrap().blocks() < 1024);
        let pipe = tree.timeless("opt/source/pipe");
        assert_eq!((pipe.special, pipe.mode), (Some(Special::Fifo), 0o640));
        assert!(!made("socket").exists());
        assert_eq!(tree.timeless("opt/source/tool").mode, 0o755);
        let told = told.0.lock().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("1 sockets") && told[0].contains("set-id bits of 1 files"),
            "{told:?}"
        );
    }
}
