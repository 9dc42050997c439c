//! Folders and files of the host, by descriptors: what a [`tree`](super::tree) is made with.

use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
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

/// Removes an entry and what is below it, but nothing whose inode is to be kept, and no folder that keeps something.
pub(super) fn remove_at(dir: &OwnedFd, name: &OsStr, keep: &dyn Fn(u64) -> bool) -> io::Result<()> {
    let stat = match sys::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return if keep(stat.st_ino) {
            Ok(())
        } else {
            Ok(sys::unlinkat(dir, name, AtFlags::empty())?)
        };
    }
    let below = sys::openat(dir, name, OPEN_DIR | OFlags::RDONLY, Mode::empty())?;
    for name in names(&below)? {
        remove_at(&below, &name, keep)?;
    }
    if keep(stat.st_ino) {
        return Ok(());
    }
    match sys::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Ok(()),
        result => Ok(result?),
    }
}

pub(super) fn set_mtime(file: &File, seconds: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: seconds.min(i64::MAX as u64) as i64,
        tv_nsec: 0,
    };
    Ok(sys::futimens(
        file,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )?)
}

pub(super) fn copy_sparse(content: &mut dyn Read, file: &mut File) -> io::Result<u64> {
    let (mut buffer, mut size) = (vec![0; 1 << 16], 0u64);
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
        }
        size += filled as u64;
        if filled < buffer.len() {
            file.set_len(size)?;
            return Ok(size);
        }
    }
}
