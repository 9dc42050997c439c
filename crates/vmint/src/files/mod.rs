//! Files in and out of machines, as tar streams.
//!
//! What comes out of a guest is not trusted: [`vmint_files`] unpacks it, and nothing outside the folder that was named is
//! touched.

mod look;
mod place;

use self::look::Answer;
use self::place::{Misplaced, Place, Subject, There, place};
use crate::Vmint;
use crate::exec::COMING_UP;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWriteExt};
use vmint_files::{Options, UnpackError, Unpacked, Unpacker};
use vmint_model::{ErrorKind, Fault};
use vmint_protocol::{Channel, ErrorCode, Extent, FromGuest, Reply, Request, Sent, TarIn, TarOut};
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
        let request = Request::TarIn(TarIn {
            path: folder.to_vec(),
            user,
        });
        let (record, mut stream) = self
            .stream_to(machine, COMING_UP, |_| Ok(request.clone()))
            .await?;
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
        sink: F,
    ) -> Result<Sent, Fault>
    where
        F: FnMut(bytes::Bytes) -> Fut,
        Fut: Future<Output = io::Result<()>>,
    {
        self.take_out(machine, path, Extent::Whole, sink).await
    }

    async fn take_out<F, Fut>(
        &self,
        machine: &str,
        path: &[u8],
        extent: Extent,
        mut sink: F,
    ) -> Result<Sent, Fault>
    where
        F: FnMut(bytes::Bytes) -> Fut,
        Fut: Future<Output = io::Result<()>>,
    {
        let request = Request::TarOut(TarOut {
            path: path.to_vec(),
            extent,
        });
        let (record, mut stream) = self
            .stream_to(machine, COMING_UP, |_| Ok(request.clone()))
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

    /// What is at a path of a machine, links followed.
    async fn look_at(&self, machine: &str, path: &str) -> Result<There, Fault> {
        let mut answer = Answer::default();
        let path_meant = place::trimmed(path.as_bytes());
        let found = self
            .take_out(machine, path_meant, Extent::Header, |bytes| {
                std::future::ready(answer.take(&bytes))
            })
            .await;
        match found {
            Err(fault) if fault.kind == ErrorKind::NotFound => return Ok(There::Nothing),
            Err(fault) if !answer.is_too_long() => return Err(fault),
            _ => {}
        }
        answer.read().map_err(|e| {
            let message = format!("the machine does not say what {path:?} is: {e}");
            Fault::new(ErrorKind::Guest, message)
        })
    }

    /// Copies a file or folder of this host into a machine, by the rules of `docker cp`: into `target` if that is a folder,
    /// else in its place. A folder that is there keeps its owner and mode.
    pub async fn copy_in(&self, source: &Path, machine: &str, target: &str) -> Result<Sent, Fault> {
        let path = source.as_os_str().as_bytes();
        let is_followed = path.ends_with(b"/") || path.ends_with(b"/.");
        let meta = if is_followed {
            std::fs::metadata(source)
        } else {
            std::fs::symlink_metadata(source)
        };
        let meta = meta.map_err(|e| host_fault(e, format!("cannot read {}", source.display())))?;
        // As with `docker cp`, paths of a machine begin at its root.
        let target = &format!("/{}", target.trim_start_matches('/'));
        let there = self.look_at(machine, target).await?;
        let subject = Subject::of(path, meta.is_dir());
        let place = place(&subject, target.as_bytes(), &there);
        let (folder, name) =
            match place.map_err(|e| misplaced(&format!("{machine}:{target}"), e))? {
                Place::Named { folder, name } => (folder, name),
                Place::Content { folder } => (folder, b".".to_vec()),
            };
        let (reader, writer) = tokio::io::duplex(PIPE);
        let source = source.to_owned();
        let packed = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(256 << 10, tokio_util_io(writer));
            pack(&source, Path::new(OsStr::from_bytes(&name)), &mut out)?;
            out.flush()
        });
        let sent = self.unpack_into(machine, &folder, None, reader).await;
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
        let there = on_host(target)?;
        let wanted = target.as_os_str().as_bytes();
        // Only where a slash names a folder that is not there it matters what is copied.
        let is_folder = match there {
            There::Nothing if wanted.ends_with(b"/") => {
                self.look_at(machine, source).await? == There::Folder
            }
            _ => false,
        };
        let subject = Subject::of(source.as_bytes(), is_folder);
        let place = place(&subject, wanted, &there);
        let (folder, rename) = match place.map_err(|e| misplaced(&target.display(), e))? {
            Place::Content { folder } => (folder, None),
            Place::Named { folder, name } => (folder, Some(name)),
        };
        let folder = Path::new(OsStr::from_bytes(&folder));
        if there == There::Nothing && folder == target {
            std::fs::create_dir(folder)
                .map_err(|e| host_fault(e, format!("cannot make {}", folder.display())))?;
        }
        if !folder.is_dir() {
            let message = format!("{} is no folder of this host", folder.display());
            return Err(Fault::new(ErrorKind::NotFound, message));
        }
        let options = Options {
            rename,
            ..Options::default()
        };
        // Where it goes is the user's choice, links and all; from here on it is this folder and no path.
        let opened = std::fs::File::open(folder)
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

/// What is at a path of this host, links followed.
fn on_host(path: &Path) -> Result<There, Fault> {
    let look = |e| host_fault(e, format!("cannot look at {}", path.display()));
    let path = Path::new(OsStr::from_bytes(place::trimmed(
        path.as_os_str().as_bytes(),
    )));
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(There::Folder),
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

fn misplaced(target: &dyn std::fmt::Display, e: Misplaced) -> Fault {
    Fault::new(ErrorKind::Usage, format!("{target} {e}"))
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
    // A file with holes arrives whole: what GNU tar writes for it is not read by every tar, nor by the guest.
    builder.sparse(false);
    let meta = std::fs::symlink_metadata(source)?;
    if meta.is_dir() {
        builder.append_dir_all(name, source)?;
    } else {
        builder.append_path_with_name(source, name)?;
    }
    builder.into_inner()?.flush()
}
