//! The host's side of a copy: what is there, and files packed on a thread of their own.

use super::place::{self, There};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tokio::io::AsyncWriteExt;
use vmint_model::{ErrorKind, Fault, printable_bytes};
use vmint_tree::{As, PackError, Packed, Trouble, Writing, Xattrs};

/// Bytes that are gathered before they are handed to the connection.
const GATHERED: usize = 256 << 10;

/// What is at a path of this host, links followed.
pub(super) fn look(path: &Path) -> Result<There, Fault> {
    let look = |e| fault(e, format!("cannot look at {}", path.display()));
    let path = Path::new(OsStr::from_bytes(place::trimmed(
        path.as_os_str().as_bytes(),
    )));
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(There::Folder),
        Ok(meta) if !meta.is_file() => Ok(There::Special),
        Ok(_) => {
            let real = std::fs::canonicalize(path).map_err(look)?;
            Ok(There::File(real.into_os_string().into_encoded_bytes()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if path.is_symlink() {
                let message = format!("{} is a link that leads nowhere", path.display());
                return Err(Fault::new(ErrorKind::Usage, message));
            }
            Ok(There::Nothing)
        }
        Err(e) => Err(look(e)),
    }
}

/// Packs what is at a path under `name`, or its content without one, into a connection.
pub(super) fn pack(
    source: &Path,
    name: Option<&[u8]>,
    xattrs: Xattrs,
    writer: impl tokio::io::AsyncWrite + Unpin,
) -> Result<Packed, NotPacked> {
    let writer = Blocking {
        inner: writer,
        handle: tokio::runtime::Handle::current(),
    };
    let mut sink = Writing::new(io::BufWriter::with_capacity(GATHERED, writer));
    let named = name.map_or(As::Content, As::Named);
    let packed = vmint_tree::pack(source.as_os_str().as_bytes(), named, xattrs, &mut sink);
    packed.map_err(|error| match sink.error {
        Some(_) => NotPacked::Unwanted,
        None => NotPacked::Unreadable(error),
    })
}

/// Why packing ended early.
#[derive(Debug)]
pub(super) enum NotPacked {
    /// Nobody takes it any more, and knows why.
    Unwanted,
    /// What was to be packed cannot be read.
    Unreadable(PackError),
}

/// A file that could not be packed.
pub(super) fn unreadable(error: &PackError) -> Fault {
    let path = printable_bytes(&error.path);
    let message = format!("cannot {} `{path}`: {}", error.what, error.reason);
    Fault::new(ErrorKind::Host, message)
}

/// Files that could not be packed, while all the others were.
pub(super) fn troubled(trouble: &Trouble) -> Fault {
    let fault = unreadable(&trouble.first);
    let message = match trouble.others {
        0 => fault.message,
        others => format!("{}; and {others} more like it", fault.message),
    };
    Fault::new(ErrorKind::Host, message).hint("everything else was copied")
}

pub(super) fn fault(e: io::Error, context: String) -> Fault {
    Fault::from_error(ErrorKind::Host, &e).context(context)
}

/// A connection's end as blocking I/O, for the thread that packs.
struct Blocking<T> {
    inner: T,
    handle: tokio::runtime::Handle,
}

impl<T: tokio::io::AsyncWrite + Unpin> Write for Blocking<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.handle.block_on(self.inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.handle.block_on(self.inner.flush())
    }
}
