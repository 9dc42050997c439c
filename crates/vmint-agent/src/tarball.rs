//! An archive into a pipe: [`vmint_tree`] packs, and large files go from the page cache into the pipe by `splice`, without
//! passing through memory. What is small is gathered, since under emulation each call of the kernel has its cost.

use rustix::io::{Errno, Result as OsResult};
use rustix::pipe::{SpliceFlags, splice};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use vmint_protocol::archive::{self, END, EntryKind};
use vmint_protocol::{LeftOut, Sent};
use vmint_tree::{As, Broken, PackError, Packed, Reason, Sink, Xattrs, entry_of, write_all};

/// Bytes that are gathered.
const GATHERED: usize = 64 << 10;
/// A file of more is spliced.
const SMALL: usize = 32 << 10;

/// Packs `path` and what is below it. The archive's first entry is named by the path's last component; a path that ends
/// in `/.` (or is `/`) names the content of a folder, relative to it.
pub fn pack(path: &[u8], pipe: OwnedFd) -> Result<Packed, PackError> {
    // More in the pipe is fewer turns between two processes. Refused under a limit; then it stays small.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20);
    let mut sink = Gathering::new(pipe);
    let trimmed = path.strip_suffix(b"/.").unwrap_or(path);
    let trimmed = match trimmed.iter().rposition(|&b| b != b'/') {
        Some(last) => &trimmed[..=last],
        None => b"/",
    };
    let named = if path.ends_with(b"/.") || trimmed == b"/" {
        As::Content
    } else {
        As::Named(trimmed.rsplit(|&b| b == b'/').next().unwrap_or_default())
    };
    vmint_tree::pack(trimmed, named, Xattrs::Keep, &mut sink)
}

/// The header alone of what `path` leads to, links followed, under its real path.
pub fn look(path: &[u8], pipe: OwnedFd) -> Result<Packed, PackError> {
    use rustix::fs::FileType;
    let error = |errno| PackError {
        what: "look at",
        path: path.to_vec(),
        reason: Reason::Os(errno),
    };
    let real = std::fs::canonicalize(OsStr::from_bytes(path))
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        .map_err(error)?;
    let stat = rustix::fs::stat(&real).map_err(error)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::RegularFile => EntryKind::File,
        // For whoever asks, a socket is as little a file as a named pipe.
        _ => EntryKind::Fifo,
    };
    let mut bytes = Vec::new();
    archive::header(
        &entry_of(real.as_os_str().as_bytes(), kind, &stat),
        &mut bytes,
    );
    bytes.extend_from_slice(&END);
    write_all(pipe.as_fd(), &bytes).map_err(error)?;
    Ok(Packed {
        sent: Sent {
            entries: 1,
            bytes: 0,
        },
        left_out: LeftOut::default(),
        trouble: None,
    })
}

/// A pipe, and what is to be written to it.
#[derive(Debug)]
struct Gathering {
    pipe: OwnedFd,
    gathered: Vec<u8>,
}

impl Gathering {
    fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe,
            gathered: Vec::with_capacity(GATHERED),
        }
    }
}

impl Sink for Gathering {
    fn write(&mut self, bytes: &[u8]) -> OsResult<()> {
        if self.gathered.len() + bytes.len() > GATHERED {
            self.flush()?;
        }
        if bytes.len() > GATHERED {
            return write_all(self.pipe.as_fd(), bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn pass(&mut self, file: BorrowedFd<'_>, n: usize) -> Result<usize, Broken> {
        if n > SMALL {
            self.flush().map_err(Broken::Send)?;
            match splice(file, None, &self.pipe, None, n, SpliceFlags::MOVE) {
                // Some file systems have files that cannot be spliced.
                Err(Errno::INVAL | Errno::INTR) => {}
                // A pipe that is full and does not wait, or that nobody reads.
                Err(errno @ (Errno::AGAIN | Errno::PIPE)) => return Err(Broken::Send(errno)),
                other => return other.map_err(Broken::Read),
            }
        }
        let n = n.min(SMALL);
        if self.gathered.len() + n > GATHERED {
            self.flush().map_err(Broken::Send)?;
        }
        let before = self.gathered.len();
        self.gathered.resize(before + n, 0);
        let read = rustix::io::read(file, &mut self.gathered[before..]);
        self.gathered.truncate(before + read.unwrap_or(0));
        match read {
            Err(Errno::INTR) => self.pass(file, n),
            other => other.map_err(Broken::Read),
        }
    }

    fn flush(&mut self) -> OsResult<()> {
        write_all(self.pipe.as_fd(), &self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}
