//! Files of a machine that patterns name, taken out of it as one tar.

use super::guest_files::Listed;
use super::instance::{Instance, Trouble};
use bytes::Bytes;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use tokio::sync::mpsc;
use vmint_model::{ErrorKind, Fault};
use vmint_protocol::archive::{Entry, EntryKind, Reader};

/// Pieces that wait between the machine, the thread that picks, and whoever takes the tar.
const WAITING: usize = 8;
/// About how large a piece is, in bytes.
const PIECE: usize = 128 << 10;

impl Instance<'_> {
    /// Packs files and folders that were [listed](super::guest_files::list), found below these roots, with their paths
    /// relative to `base`. The tar goes to `pieces`, which is closed when all was sent.
    pub(super) async fn collect(
        &self,
        roots: &[String],
        listed: &[Listed],
        base: &str,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<(), Trouble> {
        let wanted: HashSet<String> = listed.iter().map(|file| file.path.clone()).collect();
        let (sender, receiver) = mpsc::channel::<Packed>(WAITING);
        let base = base.trim_end_matches('/').to_owned();
        let pick = tokio::task::spawn_blocking(move || pick(receiver, &wanted, &base, pieces));
        let fetch = async {
            for root in roots {
                let parent = root
                    .rsplit_once('/')
                    .map_or("", |(parent, _)| parent)
                    .to_owned();
                let (tar, mut packed) = mpsc::channel(WAITING);
                let forward = async {
                    // Whoever picks has gone: why, it says itself.
                    let mut open = sender.send(Packed::Begin(parent)).await.is_ok();
                    while let Some(piece) = packed.recv().await {
                        open = open && sender.send(Packed::Piece(piece)).await.is_ok();
                    }
                };
                let get = self.session.guest().get(root, tar);
                let (got, ()) = futures_util::future::join(get, forward).await;
                match got {
                    Ok(()) => {}
                    // Nothing is there to be matched.
                    Err(fault) if fault.kind == ErrorKind::NotFound => {}
                    Err(fault) => return Err(fault),
                }
            }
            drop(sender);
            Ok(())
        };
        let (picked, fetched) = futures_util::future::join(pick, fetch).await;
        fetched?;
        match picked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let fault = Fault::from_error(ErrorKind::Host, &error);
                Err(fault.context("cannot take files out of the machine").into())
            }
            // It is never aborted: it has panicked, and so do we.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// What comes out of a machine.
enum Packed {
    /// A tar begins, of something in this folder.
    Begin(String),
    /// A piece of it.
    Piece(Bytes),
}

/// Copies what is wanted from the tars that come to the one that goes.
fn pick(
    mut tars: mpsc::Receiver<Packed>,
    wanted: &HashSet<String>,
    base: &str,
    pieces: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut builder = tar::Builder::new(Outlet {
        pieces,
        waiting: Vec::with_capacity(PIECE),
    });
    let mut next = tars.blocking_recv();
    while let Some(packed) = next.take() {
        let Packed::Begin(parent) = packed else {
            next = tars.blocking_recv();
            continue;
        };
        let mut inlet = Inlet {
            tars: &mut tars,
            piece: Bytes::new(),
            after: None,
        };
        let mut archive = Reader::new(&mut inlet);
        while let Some(entry) = archive.next_entry()? {
            let path = String::from_utf8_lossy(&entry.path);
            let full = format!("{parent}/{}", path.trim_end_matches('/'));
            let relative = full
                .strip_prefix(base)
                .map(|path| path.trim_start_matches('/'));
            let Some(relative) = relative.filter(|path| !path.is_empty()) else {
                continue;
            };
            if !wanted.contains(&full) {
                continue;
            }
            let Some(mut header) = header(&entry) else {
                continue;
            };
            match entry.kind {
                EntryKind::Symlink | EntryKind::HardLink => {
                    let target = OsStr::from_bytes(&entry.link);
                    builder.append_link(&mut header, relative, target)?;
                }
                _ => builder.append_data(&mut header, relative, archive.content())?,
            }
        }
        // What is behind the end of the archive is of no interest.
        archive.drain()?;
        next = inlet.after.take();
    }
    builder.finish()?;
    builder.get_mut().flush()
}

/// The header of an entry that goes on. `None` for what is neither file, folder nor link: nobody takes it.
fn header(entry: &Entry) -> Option<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(match entry.kind {
        EntryKind::File => tar::EntryType::Regular,
        EntryKind::Directory => tar::EntryType::Directory,
        EntryKind::Symlink => tar::EntryType::Symlink,
        EntryKind::HardLink => tar::EntryType::Link,
        EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => return None,
    });
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(u64::try_from(entry.mtime).unwrap_or(0));
    header.set_size(entry.size);
    Some(header)
}

/// One tar after the other, from a channel.
struct Inlet<'a> {
    tars: &'a mut mpsc::Receiver<Packed>,
    piece: Bytes,
    /// What began after this tar.
    after: Option<Packed>,
}

impl Read for Inlet<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && self.after.is_none() {
            match self.tars.blocking_recv() {
                Some(Packed::Piece(piece)) => self.piece = piece,
                Some(begin) => self.after = Some(begin),
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.piece.len());
        buffer[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// The tar that goes, into a channel.
struct Outlet {
    pieces: mpsc::Sender<Bytes>,
    waiting: Vec<u8>,
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::other("nobody takes the files any more");
        self.pieces.blocking_send(piece.into()).map_err(gone)
    }
}
