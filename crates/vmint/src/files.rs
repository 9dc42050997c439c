//! Files in and out of machines, as tar streams.
//!
//! What comes out of a guest is not trusted: [`vmint_files`] unpacks it, and nothing outside the folder that was named is
//! touched.

use crate::Vmint;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWriteExt};
use vmint_files::{Options, UnpackError, Unpacked, Unpacker};
use vmint_model::{ErrorKind, Fault};
use vmint_protocol::{Channel, ErrorCode, FromGuest, Reply, Request, Sent, TarIn, TarOut};
use vmint_runner::session::Credits;
use vmint_runner::{Fed, StreamEvent};

/// Bytes that wait between the thread that packs and the connection. The pipe between them is a `duplex`: of a
/// `simplex`, a dropped half does not tell the other.
const PIPE: usize = 1 << 20;
/// Pieces that wait for the thread that unpacks. A piece is at most a frame, and the connection's window bounds them all.
const PIECES: usize = 16;

impl Vmint {
    /// Unpacks a tar stream in a folder of a machine, made if need be.
    pub async fn unpack_into(
        &self,
        machine: &str,
        folder: &[u8],
        user: Option<String>,
        tar: impl AsyncRead + Unpin,
    ) -> Result<Sent, Fault> {
        let (record, _) = self.reach(machine)?;
        let request = Request::TarIn(TarIn {
            path: folder.to_vec(),
            user,
        });
        let mut stream = self.open_stream(&record, request).await?;
        let message = match stream
            .feed(tar)
            .await
            .map_err(|e| self.session_fault(&record, e))?
        {
            Fed::All => stream
                .outcome()
                .await
                .map_err(|e| self.guest_fault(&record, e))?,
            Fed::Ended(message) => message,
            Fed::Unreadable(e) => {
                return Err(Fault::from_error(ErrorKind::Host, &*e)
                    .context("cannot read what is to be copied"));
            }
        };
        match message {
            FromGuest::Reply(Reply::Unpacked(sent)) => Ok(sent),
            FromGuest::Failed(e) => {
                Err(self.guest_fault(&record, vmint_runner::SessionError::Guest(e)))
            }
            other => Err(Fault::new(
                ErrorKind::Internal,
                format!("unexpected answer {other:?}"),
            )),
        }
    }

    /// Packs a file or folder of a machine, and hands the tar stream to `sink` piece by piece.
    pub async fn pack_from<F, Fut>(
        &self,
        machine: &str,
        path: &[u8],
        mut sink: F,
    ) -> Result<Sent, Fault>
    where
        F: FnMut(bytes::Bytes) -> Fut,
        Fut: Future<Output = io::Result<()>>,
    {
        let (record, _) = self.reach(machine)?;
        let mut stream = self
            .open_stream(
                &record,
                Request::TarOut(TarOut {
                    path: path.to_vec(),
                }),
            )
            .await?;
        let mut credits = Credits::default();
        loop {
            match stream
                .next()
                .await
                .map_err(|e| self.session_fault(&record, e))?
            {
                StreamEvent::Data(Channel::Output, bytes) => {
                    let n = bytes.len();
                    sink(bytes).await.map_err(|e| {
                        Fault::from_error(ErrorKind::Host, &e)
                            .context("cannot write what is copied")
                    })?;
                    if let Some(grant) = credits.consumed(Channel::Output, n) {
                        stream.grant(Channel::Output, grant);
                    }
                }
                StreamEvent::Message(FromGuest::Reply(Reply::Packed(sent))) => return Ok(sent),
                StreamEvent::Message(FromGuest::Failed(e)) => {
                    return Err(self.guest_fault(&record, vmint_runner::SessionError::Guest(e)));
                }
                _ => {}
            }
        }
    }

    /// Copies a file or folder of this host into a machine. As with `cp -a`: into `target` if that is a folder or ends
    /// in a slash, else under that name.
    pub async fn copy_in(&self, source: &Path, machine: &str, target: &str) -> Result<Sent, Fault> {
        let meta = std::fs::symlink_metadata(source)
            .map_err(|e| host_fault(e, format!("cannot read {}", source.display())))?;
        let into_folder = target.ends_with('/') || self.is_folder(machine, target).await?;
        let base = source.file_name().map(PathBuf::from);
        let content_only = meta.is_dir() && source.to_string_lossy().ends_with("/.");
        let (folder, name) = match (into_folder, base) {
            _ if content_only => (target.to_owned(), PathBuf::from(".")),
            (true, Some(name)) => (target.to_owned(), name),
            (true, None) => (target.to_owned(), PathBuf::from(".")),
            (false, _) => {
                let target = Path::new(target);
                let name = target.file_name().ok_or_else(|| {
                    Fault::new(
                        ErrorKind::Usage,
                        format!("{} names no file in the machine", target.display()),
                    )
                })?;
                let parent = target
                    .parent()
                    .filter(|p| !p.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                (parent.to_string_lossy().into_owned(), PathBuf::from(name))
            }
        };
        let (reader, writer) = tokio::io::duplex(PIPE);
        let source = source.to_owned();
        let packed = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(256 << 10, tokio_util_io(writer));
            pack(&source, &name, &mut out)?;
            out.flush()
        });
        let sent = self
            .unpack_into(machine, folder.as_bytes(), None, reader)
            .await;
        let packed = packed.await.expect("packing does not panic");
        match (sent, packed) {
            // When the guest fails, packing fails too, by a broken pipe: the guest's word counts.
            (Err(fault), _) => Err(fault),
            (Ok(_), Err(e)) => Err(host_fault(e, "cannot read what is to be copied".into())),
            (Ok(sent), Ok(())) => Ok(sent),
        }
    }

    /// Copies a file or folder of a machine to this host, by the same rules. Devices, named pipes and set-id bits stay
    /// behind: [`Unpacked::skipped`] says what.
    pub async fn copy_out(
        &self,
        machine: &str,
        source: &str,
        target: &Path,
    ) -> Result<Unpacked, Fault> {
        let into_folder = target.is_dir() || target.to_string_lossy().ends_with('/');
        let (folder, rename) = if into_folder {
            (target.to_owned(), None)
        } else {
            let parent = target
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            (parent.to_owned(), target.file_name().map(PathBuf::from))
        };
        if !folder.is_dir() {
            let message = format!("{} is no folder of this host", folder.display());
            return Err(Fault::new(ErrorKind::NotFound, message));
        }
        let options = Options {
            rename: rename.map(|name| name.into_os_string().into_encoded_bytes()),
            ..Options::default()
        };
        // Where it goes is the user's choice, links and all; from here on it is this folder and no path.
        let opened = std::fs::File::open(&folder)
            .map_err(|e| host_fault(e, format!("cannot open {}", folder.display())))?;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(PIECES);
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut unpacker = Unpacker::new(opened.into(), options);
            while let Some(bytes) = receiver.blocking_recv() {
                unpacker.push(&bytes)?;
            }
            unpacker.finish()
        });
        let sent = self
            .pack_from(machine, source.as_bytes(), |bytes| {
                let sender = sender.clone();
                async move {
                    let gone = |_| io::ErrorKind::BrokenPipe.into();
                    sender.send(bytes).await.map_err(gone)
                }
            })
            .await;
        drop(sender);
        let unpacked = unpacked.await.expect("unpacking does not panic");
        match (sent, unpacked) {
            (Ok(_), Ok(unpacked)) => Ok(unpacked),
            (Err(fault), Ok(_)) => Err(fault),
            // What the guest says of its own failure counts: an archive that it broke off is cut short.
            (Err(fault), Err(_))
                if fault.kind == ErrorKind::Guest || fault.kind == ErrorKind::NotFound =>
            {
                Err(fault)
            }
            // Else the first cause: when unpacking fails, the connection is told by a broken pipe.
            (_, Err(e)) => Err(unpack_fault(&e, target)),
        }
    }

    async fn is_folder(&self, machine: &str, path: &str) -> Result<bool, Fault> {
        // Asking for its content without reading it: the first entry tells, and the stream is dropped.
        let first = Arc::new(Mutex::new(None));
        let seen = first.clone();
        let asked = self
            .pack_from(machine, path.as_bytes(), |bytes| {
                let seen = seen.clone();
                async move {
                    let mut seen = seen.lock().expect("nobody panics with the lock");
                    let is_folder = bytes.get(156) == Some(&b'5');
                    seen.get_or_insert(is_folder);
                    Err(io::ErrorKind::Interrupted.into())
                }
            })
            .await;
        let known = *first.lock().expect("nobody panics with the lock");
        match (known, asked) {
            (Some(is_folder), _) => Ok(is_folder),
            (None, Err(fault)) if fault.kind == ErrorKind::NotFound => Ok(false),
            (None, Err(fault)) => Err(fault),
            (None, Ok(_)) => Ok(false),
        }
    }

    fn guest_fault(
        &self,
        record: &vmint_model::MachineRecord,
        e: vmint_runner::SessionError,
    ) -> Fault {
        let kind = match &e {
            vmint_runner::SessionError::Guest(g) => match g.code {
                ErrorCode::NotFound => Some(ErrorKind::NotFound),
                ErrorCode::PathEscapes | ErrorCode::Invalid => Some(ErrorKind::Usage),
                _ => Some(ErrorKind::Guest),
            },
            _ => None,
        };
        let fault = self.session_fault(record, e);
        match kind {
            Some(kind) => Fault { kind, ..fault },
            None => fault,
        }
    }
}

/// Whose fault it is that an archive was not unpacked.
fn unpack_fault(e: &UnpackError, target: &Path) -> Fault {
    let (kind, context) = if e.is_archives_fault() {
        (ErrorKind::Guest, "cannot accept what the machine sent for")
    } else {
        (ErrorKind::Host, "cannot write")
    };
    Fault::from_error(kind, e).context(format!("{context} {}", target.display()))
}

fn host_fault(e: io::Error, context: String) -> Fault {
    Fault::from_error(ErrorKind::Host, &e).context(context)
}

/// A pipe's end as blocking I/O, for the thread that packs.
fn tokio_util_io<T>(inner: T) -> Blocking<T> {
    Blocking {
        inner,
        handle: tokio::runtime::Handle::current(),
    }
}

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

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {}
}

/// Packs `source` under the name `name`, links kept as links.
fn pack(source: &Path, name: &Path, out: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    let meta = std::fs::symlink_metadata(source)?;
    if meta.is_dir() {
        builder.append_dir_all(name, source)?;
    } else {
        builder.append_path_with_name(source, name)?;
    }
    builder.into_inner()?.flush()
}
