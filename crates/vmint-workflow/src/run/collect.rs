//! Files of a machine that patterns name, taken out of it as one tar.

use super::found::{self, Listed, Mount};
use super::instance::Trouble;
use super::wire::Wire;
use bytes::Bytes;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use tokio::sync::{mpsc, oneshot};
use vmint_model::{ErrorKind, Fault};
use vmint_protocol::archive::{Entry, EntryKind, Reader};

/// Pieces that wait between the machine, the thread that picks, and whoever takes the tar.
const WAITING: usize = 8;
/// About how large a piece is, in bytes.
const PIECE: usize = 128 << 10;

/// What becomes of links in what is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// They are files and folders, and of files with several names each is one of its own: as in the archives of artifacts.
    Followed,
    /// They stay links, as in a tar.
    Kept,
}

impl Wire<'_> {
    /// Packs files and folders that were [listed](super::guest_files::list), with their paths relative to `base`. The tar goes
    /// to `pieces`, which is closed when all was sent.
    pub(super) async fn collect(
        &self,
        mounts: &[Mount],
        listed: &[Listed],
        base: &str,
        links: Links,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<(), Trouble> {
        let mounts = found::used(mounts, listed);
        let picker = Picker {
            wanted: listed.iter().map(|file| file.path.clone()).collect(),
            base: base.trim_end_matches('/').to_owned(),
            links,
            sent: HashSet::new(),
            again: Vec::new(),
        };
        let (sender, receiver) = mpsc::channel::<Packed>(WAITING);
        let pick = tokio::task::spawn_blocking(move || picker.pick(receiver, pieces));
        let fetch = async {
            for mount in mounts {
                self.fetch(mount, &sender).await?;
            }
            let (ask, answer) = oneshot::channel();
            if sender.send(Packed::Ask(ask)).await.is_ok()
                && let Ok(again) = answer.await
            {
                for mount in again {
                    self.fetch(mount, &sender).await?;
                }
            }
            drop(sender);
            Ok::<_, Fault>(())
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

    /// Fetches what really lies at a mount.
    async fn fetch(&self, mount: Mount, sender: &mpsc::Sender<Packed>) -> Result<(), Fault> {
        let path = if mount.is_folder {
            format!("{}/.", mount.real.trim_end_matches('/'))
        } else {
            mount.real.clone()
        };
        let (tar, mut packed) = mpsc::channel(WAITING);
        let forward = async {
            // Whoever picks has gone: why, it says itself.
            let mut open = sender.send(Packed::Begin(mount)).await.is_ok();
            while let Some(piece) = packed.recv().await {
                open = open && sender.send(Packed::Piece(piece)).await.is_ok();
            }
        };
        let get = self.get(&path, tar);
        let (got, ()) = futures_util::future::join(get, forward).await;
        match got {
            // Nothing is there any more.
            Err(fault) if fault.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// What comes out of a machine.
enum Packed {
    /// A tar begins, of this.
    Begin(Mount),
    /// A piece of it.
    Piece(Bytes),
    /// All was sent: which files are to be sent again, each by itself, for their content?
    Ask(oneshot::Sender<Vec<Mount>>),
}

/// Copies what is wanted from the tars that come to the one that goes.
struct Picker {
    wanted: HashSet<String>,
    base: String,
    links: Links,
    /// Files that went on with their content.
    sent: HashSet<String>,
    /// Other names of files, which came without content.
    again: Vec<Mount>,
}

impl Picker {
    fn pick(
        mut self,
        mut tars: mpsc::Receiver<Packed>,
        pieces: mpsc::Sender<Bytes>,
    ) -> io::Result<()> {
        let mut builder = tar::Builder::new(Outlet {
            pieces,
            waiting: Vec::with_capacity(PIECE),
        });
        let mut next = tars.blocking_recv();
        while let Some(packed) = next.take() {
            let mount = match packed {
                Packed::Begin(mount) => mount,
                Packed::Ask(answer) => {
                    // Who asks is gone when the run ends in haste.
                    let _ = answer.send(std::mem::take(&mut self.again));
                    next = tars.blocking_recv();
                    continue;
                }
                Packed::Piece(_) => {
                    next = tars.blocking_recv();
                    continue;
                }
            };
            let mut inlet = Inlet {
                tars: &mut tars,
                piece: Bytes::new(),
                after: None,
            };
            let mut archive = Reader::new(&mut inlet);
            while let Some(entry) = archive.next_entry()? {
                self.entry(&mount, &entry, &mut archive, &mut builder)?;
            }
            // What is behind the end of the archive is of no interest.
            archive.drain()?;
            next = inlet.after.take();
        }
        builder.finish()?;
        builder.get_mut().flush()
    }

    fn entry<R: Read, W: Write>(
        &mut self,
        mount: &Mount,
        entry: &Entry,
        archive: &mut Reader<R>,
        builder: &mut tar::Builder<W>,
    ) -> io::Result<()> {
        let full = at(mount, &mount.path, &entry.path);
        if !self.wanted.contains(&full) {
            return Ok(());
        }
        let Some(relative) = self.relative(&full) else {
            return Ok(());
        };
        let Some(mut header) = header(entry) else {
            return Ok(());
        };
        match (entry.kind, self.links) {
            // What it leads to comes by itself.
            (EntryKind::Symlink, Links::Followed) => {}
            (EntryKind::Symlink, Links::Kept) => {
                let target = OsStr::from_bytes(&entry.link);
                builder.append_link(&mut header, relative, target)?;
            }
            (EntryKind::HardLink, links) => {
                let first = at(mount, &mount.path, &entry.link);
                match self.relative(&first) {
                    Some(target) if links == Links::Kept && self.sent.contains(&first) => {
                        builder.append_link(&mut header, relative, target)?;
                    }
                    _ => self.again.push(Mount {
                        real: at(mount, &mount.real, &entry.path),
                        path: full,
                        is_folder: false,
                    }),
                }
            }
            _ => {
                builder.append_data(&mut header, relative, archive.content())?;
                if entry.kind == EntryKind::File {
                    self.sent.insert(full);
                }
            }
        }
        Ok(())
    }

    /// A path below `base`.
    fn relative<'p>(&self, full: &'p str) -> Option<&'p str> {
        let relative = full.strip_prefix(&self.base)?;
        let relative = relative.strip_prefix('/')?;
        (!relative.is_empty()).then_some(relative)
    }
}

/// Where an entry of a mount's tar belongs, below this path.
fn at(mount: &Mount, path: &str, entry: &[u8]) -> String {
    let entry = String::from_utf8_lossy(entry);
    let below = entry.strip_prefix("./").unwrap_or(&entry);
    let below = below.trim_matches('/');
    if !mount.is_folder || below.is_empty() || below == "." {
        return path.to_owned();
    }
    format!("{}/{below}", path.trim_end_matches('/'))
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
        let gone = |_| io::Error::other("the receiver of the files is gone");
        self.pieces.blocking_send(piece.into()).map_err(gone)
    }
}
