//! Writing a tar archive to a pipe: pax where ustar's fields are too small, file content by `splice`.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result as OsResult};
use rustix::pipe::{SpliceFlags, splice};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use vmint_protocol::Sent;

const BLOCK: usize = 512;
/// Folders below each other; each costs a descriptor and some stack.
const MAX_DEPTH: usize = 512;

/// What could not be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackError {
    /// What was tried, as a verb.
    pub what: &'static str,
    /// With which file.
    pub path: Vec<u8>,
    /// Why it failed.
    pub errno: Errno,
}

/// Packs `path` and what is below it. The archive's first entry is named by the path's last component; a path that ends
/// in `/.` (or is `/`) names the content of a folder, relative to it.
pub fn pack(path: &[u8], pipe: OwnedFd) -> Result<Sent, PackError> {
    // More in the pipe is fewer turns between two processes. Refused under a limit; then it stays small.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20);
    let mut archive = Archive {
        pipe,
        sent: Sent::default(),
        path: path.to_vec(),
    };
    let trimmed = path.strip_suffix(b"/.").unwrap_or(path);
    let trimmed = match trimmed.iter().rposition(|&b| b != b'/') {
        Some(last) => &trimmed[..=last],
        None => b"/",
    };
    let content_only = path.ends_with(b"/.") || trimmed == b"/";
    if content_only {
        // With the dot a link that is named is followed: its content was asked for.
        archive.folder(rustix::fs::CWD, &[trimmed, b"/."].concat(), b"", 0)?;
    } else {
        let name = trimmed.rsplit(|&b| b == b'/').next().unwrap_or_default();
        archive.entry(rustix::fs::CWD, trimmed, name, 0)?;
    }
    archive.write(&[0; 2 * BLOCK])?;
    Ok(archive.sent)
}

/// The header alone of what `path` leads to, links followed, under its real path.
pub fn look(path: &[u8], pipe: OwnedFd) -> Result<Sent, PackError> {
    let mut archive = Archive {
        pipe,
        sent: Sent::default(),
        path: path.to_vec(),
    };
    let real = std::fs::canonicalize(OsStr::from_bytes(path))
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        .map_err(archive.error("look at"))?;
    let stat = rustix::fs::stat(&real).map_err(archive.error("look at"))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => b'5',
        FileType::CharacterDevice => b'3',
        FileType::BlockDevice => b'4',
        FileType::RegularFile => b'0',
        // For whoever asks, a socket is as little a file as a named pipe.
        _ => b'6',
    };
    archive.header(real.as_os_str().as_bytes(), &stat, kind, 0, b"")?;
    archive.write(&[0; 2 * BLOCK])?;
    Ok(archive.sent)
}

/// The archive under way.
#[derive(Debug)]
struct Archive {
    pipe: OwnedFd,
    sent: Sent,
    /// The file that is being packed, for errors.
    path: Vec<u8>,
}

impl Archive {
    fn error(&self, what: &'static str) -> impl Fn(Errno) -> PackError + use<> {
        let path = self.path.clone();
        move |errno| PackError {
            what,
            path: path.clone(),
            errno,
        }
    }

    /// Packs `path`, seen from `dir`, under `name`.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        let path_os = OsStr::from_bytes(path);
        let stat = match rustix::fs::statat(dir, path_os, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away while its folder was being read; tar would not fail for that either.
            Err(Errno::NOENT) if depth > 0 => return Ok(()),
            other => other.map_err(self.error("read"))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                // It may be a fifo by now: one without a writer would never be opened.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = rustix::fs::openat(dir, path_os, flags, Mode::empty())
                    .map_err(self.error("open"))?;
                // The size of what was opened, should it be another file by now.
                let stat = rustix::fs::fstat(&file).map_err(self.error("read"))?;
                let size = stat.st_size as u64;
                self.header(name, &stat, b'0', size, b"")?;
                self.content(&file, size)
            }
            FileType::Directory => {
                let mut named = name.to_vec();
                named.push(b'/');
                self.header(&named, &stat, b'5', 0, b"")?;
                self.folder(dir, path, name, depth)
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(dir, path_os, Vec::new())
                    .map_err(self.error("read the link"))?;
                self.header(name, &stat, b'2', 0, link.as_bytes())
            }
            FileType::CharacterDevice => self.header(name, &stat, b'3', 0, b""),
            FileType::BlockDevice => self.header(name, &stat, b'4', 0, b""),
            FileType::Fifo => self.header(name, &stat, b'6', 0, b""),
            // A socket without its server is nothing; tar leaves them out too.
            _ => Ok(()),
        }
    }

    fn folder(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        depth: usize,
    ) -> Result<(), PackError> {
        if depth >= MAX_DEPTH {
            return Err(self.error("go deeper than 512 folders into")(
                Errno::NAMETOOLONG,
            ));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, OsStr::from_bytes(path), flags, Mode::empty())
            .map_err(self.error("open"))?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(self.error("read"))? {
            let entry = entry.map_err(self.error("read"))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        // The same tree gives the same archive.
        names.sort_unstable();
        for child in names {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&child);
            let named = if name.is_empty() {
                child.clone()
            } else {
                [name, b"/", &child].concat()
            };
            self.entry(fd.as_fd(), &child, &named, depth + 1)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn header(
        &mut self,
        name: &[u8],
        stat: &Stat,
        kind: u8,
        size: u64,
        link: &[u8],
    ) -> Result<(), PackError> {
        let bytes = header(name, stat, kind, size, link);
        self.sent.entries += 1;
        self.sent.bytes += size;
        self.write(&bytes)
    }

    /// Sends exactly `size` bytes of a file. One that has shrunk since is filled up with zeros.
    fn content(&mut self, file: &OwnedFd, size: u64) -> Result<(), PackError> {
        let mut left = size;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 20);
            let moved = match splice(file, None, &self.pipe, None, n, SpliceFlags::MOVE) {
                // Some file systems, and /proc, have files that cannot be spliced.
                Err(Errno::INVAL) => self.copy(file, n),
                Err(Errno::INTR) => continue,
                other => other,
            };
            match moved.map_err(self.error("read"))? {
                0 => break,
                moved => left -= moved as u64,
            }
        }
        let zeros = [0; 8 * BLOCK];
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        left += padding;
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            self.write(&zeros[..n as usize])?;
            left -= n;
        }
        Ok(())
    }

    fn copy(&mut self, file: &OwnedFd, n: usize) -> OsResult<usize> {
        let mut buffer = [0; 4096];
        let n = n.min(buffer.len());
        let read = rustix::io::read(file, &mut buffer[..n])?;
        write_all(&self.pipe, &buffer[..read])?;
        Ok(read)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        write_all(&self.pipe, bytes).map_err(self.error("send"))
    }
}

fn write_all(pipe: &OwnedFd, mut bytes: &[u8]) -> OsResult<()> {
    while !bytes.is_empty() {
        match rustix::io::write(pipe, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A header, with one of pax records in front of it where its fields are too small.
fn header(name: &[u8], stat: &Stat, kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if name.len() > 100 {
        record(&mut records, "path", name);
    }
    if link.len() > 100 {
        record(&mut records, "linkpath", link);
    }
    let (mtime, nanos) = (stat.st_mtime, stat.st_mtime_nsec);
    if nanos != 0 || !(0..1 << 33).contains(&mtime) {
        record(
            &mut records,
            "mtime",
            pax_time(mtime, nanos as u32).as_bytes(),
        );
    }
    for (key, value, limit) in [
        ("size", size, 1 << 33),
        ("uid", stat.st_uid.into(), 1 << 21),
        ("gid", stat.st_gid.into(), 1 << 21),
    ] {
        if value >= limit {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    let mut out = Vec::with_capacity(3 * BLOCK);
    if !records.is_empty() {
        out.extend_from_slice(&block(b"PaxHeader", b'x', records.len() as u64, b"", stat));
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(&block(name, kind, size, link, stat));
    out
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn pax_time(seconds: i64, nanos: u32) -> String {
    if seconds < 0 && nanos > 0 {
        // The fraction counts from the whole towards zero: half a second before 1970 is -0.5.
        let whole = i128::from(seconds) + 1;
        let sign = if whole == 0 { "-" } else { "" };
        return format!("{sign}{whole}.{:09}", 1_000_000_000 - nanos);
    }
    format!("{seconds}.{nanos:09}")
}

/// One ustar block. What does not fit a field is cut off there; a pax record has it whole.
fn block(name: &[u8], kind: u8, size: u64, link: &[u8], stat: &Stat) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let octal = |value: u64, digits: u32| -> Vec<u8> {
        let value = if value < 1 << (3 * digits) { value } else { 0 };
        format!("{value:0width$o}", width = digits as usize).into_bytes()
    };
    put(0, &name[..name.len().min(100)]);
    put(100, &octal((stat.st_mode & 0o7777).into(), 7));
    put(108, &octal(stat.st_uid.into(), 7));
    put(116, &octal(stat.st_gid.into(), 7));
    put(124, &octal(size, 11));
    put(136, &octal(u64::try_from(stat.st_mtime).unwrap_or(0), 11));
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    if matches!(kind, b'3' | b'4') {
        put(329, &octal(rustix::fs::major(stat.st_rdev).into(), 7));
        put(337, &octal(rustix::fs::minor(stat.st_rdev).into(), 7));
    }
    let sum: u64 = out.iter().map(|b| u64::from(*b)).sum();
    out[148..154].copy_from_slice(&octal(sum, 6));
    out[154] = 0;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let mut out = Vec::new();
        record(&mut out, "path", &[b'a'; 90]);
        assert!(out.starts_with(b"99 path=") && out.len() == 99);
        out.clear();
        record(&mut out, "path", &[b'a'; 92]);
        assert!(out.starts_with(b"102 path=") && out.len() == 102);
    }

    #[test]
    fn times_before_1970_count_towards_zero() {
        assert_eq!(pax_time(5, 1), "5.000000001");
        assert_eq!(pax_time(-1, 750_000_000), "-0.250000000");
        assert_eq!(pax_time(-2, 500_000_000), "-1.500000000");
    }
}
