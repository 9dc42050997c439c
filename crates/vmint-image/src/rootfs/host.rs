//! Folders and files of the host, by descriptors: what a [`tree`](super::tree) is made with.

use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// To open a folder, and nothing that only leads to one.
pub(super) const OPEN_DIR: OFlags = OFlags::DIRECTORY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// Without `/` and `.` at the start, and `/` at the end.
pub(super) fn trim(mut path: &[u8]) -> &[u8] {
    loop {
        path = match path {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] | [rest @ .., b'/'] => rest,
            [b'.'] => b"",
            path => return path,
        }
    }
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

pub(super) fn names(dir: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in sys::Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes an entry and what is below it, but nothing whose inode is to be kept, and no folder that keeps something. Each inode
/// that has lost its last name is told to `gone`.
pub(super) fn remove_at(
    dir: &OwnedFd,
    name: &OsStr,
    keep: &dyn Fn(u64) -> bool,
    gone: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let stat = match sys::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        if !keep(stat.st_ino) {
            sys::unlinkat(dir, name, AtFlags::empty())?;
            if stat.st_nlink == 1 {
                gone(stat.st_ino);
            }
        }
        return Ok(());
    }
    let below = sys::openat(dir, name, OPEN_DIR | OFlags::RDONLY, Mode::empty())?;
    for name in names(&below)? {
        remove_at(&below, &name, keep, gone)?;
    }
    if keep(stat.st_ino) {
        return Ok(());
    }
    match sys::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(()) => {
            gone(stat.st_ino);
            Ok(())
        }
    }
}

/// What [`copy_sparse`] has written.
pub(super) struct Copied {
    /// The file's length.
    pub(super) size: u64,
    /// Bytes that are no holes.
    pub(super) data: u64,
}

/// Copies to the end. Blocks of zeros become holes.
pub(super) fn copy_sparse(content: &mut dyn Read, file: &mut File) -> io::Result<Copied> {
    let (mut buffer, mut size, mut data) = (vec![0; 1 << 16], 0u64, 0u64);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match content.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if filled == buffer.len() && buffer.iter().all(|&b| b == 0) {
            file.seek(SeekFrom::Current(filled as i64))?;
        } else {
            file.write_all(&buffer[..filled])?;
            data += filled as u64;
        }
        size += filled as u64;
        if filled < buffer.len() {
            file.set_len(size)?;
            return Ok(Copied { size, data });
        }
    }
}
