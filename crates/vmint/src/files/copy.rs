//! Files and folders copied between host and machine, each under its name.

use super::local::{self, NotPacked};
use super::place::{Misplaced, Place, Subject, There, place};
use crate::Vmint;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vmint_files::{Options, Owners, Root, UnpackError, Unpacked, Unpacker};
use vmint_model::{ErrorKind, Fault};
use vmint_tree::Xattrs;

/// Bytes that wait between the thread that packs and the connection. The pipe between them is a `duplex`: of a
/// `simplex`, a dropped half does not tell the other.
const PIPE: usize = 1 << 20;
/// Pieces that wait for the thread that unpacks. A piece is at most a frame, and the connection's window bounds them all.
const PIECES: usize = 16;

/// What a copy takes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Whether extended attributes, access lists and file capabilities go along.
    pub xattrs: Xattrs,
}

/// When unpacking failed.
enum Failed {
    /// With a piece of the archive.
    Within(UnpackError),
    /// After the last piece, for which a stream that broke off is reason enough.
    AtTheEnd(UnpackError),
}

impl Vmint {
    /// Copies a file or folder of this host into a machine, by the rules of `docker cp`: into `target` if that is a folder,
    /// else in its place. A folder that is there keeps its owner and mode. Sockets stay behind:
    /// [`Unpacked::skipped`] says what did.
    pub async fn copy_in(
        &self,
        source: &Path,
        machine: &str,
        target: &str,
    ) -> Result<Unpacked, Fault> {
        self.copy_in_with(source, machine, target, CopyOptions::default())
            .await
    }

    /// The same, with options.
    pub async fn copy_in_with(
        &self,
        source: &Path,
        machine: &str,
        target: &str,
        options: CopyOptions,
    ) -> Result<Unpacked, Fault> {
        let path = source.as_os_str().as_bytes();
        let is_followed = path.ends_with(b"/") || path.ends_with(b"/.");
        let meta = if is_followed {
            std::fs::metadata(source)
        } else {
            std::fs::symlink_metadata(source)
        };
        let meta =
            meta.map_err(|e| local::fault(e, format!("cannot read {}", source.display())))?;
        // As with `docker cp`, paths of a machine begin at its root.
        let target = &format!("/{}", target.trim_start_matches('/'));
        let there = self.look_at(machine, target).await?;
        let subject = Subject::of(path, meta.is_dir());
        let place = place(&subject, target.as_bytes(), &there);
        let (folder, name) =
            match place.map_err(|e| misplaced(&format!("{machine}:{target}"), e))? {
                Place::Named { folder, name } => (folder, Some(name)),
                Place::Content { folder } => (folder, None),
            };
        let (reader, writer) = tokio::io::duplex(PIPE);
        let source = source.to_owned();
        let packed = tokio::task::spawn_blocking(move || {
            local::pack(&source, name.as_deref(), options.xattrs, writer)
        });
        let unpacked = self.unpack_into(machine, &folder, None, reader).await;
        let packed = packed.await.expect("packing does not panic");
        match (unpacked, packed) {
            // The first cause: to the guest an archive that cannot be read any more is one that is cut short.
            (_, Err(NotPacked::Unreadable(error))) => Err(local::unreadable(&error)),
            (Err(fault), _) => Err(fault),
            (Ok(_), Err(NotPacked::Unwanted)) => Err(Fault::new(
                ErrorKind::Internal,
                "the machine says that it has all of an archive that was not sent",
            )),
            (Ok(mut unpacked), Ok(packed)) => {
                if let Some(trouble) = packed.trouble {
                    return Err(local::troubled(&trouble));
                }
                unpacked.skipped.add(&packed.left_out);
                Ok(unpacked)
            }
        }
    }

    /// Copies a file or folder of a machine to this host, by the same rules. For root, files belong to whom they belong to
    /// in the machine; for others to the user. Devices, set-id bits and file capabilities stay behind:
    /// [`Unpacked::skipped`] says what did.
    pub async fn copy_out(
        &self,
        machine: &str,
        source: &str,
        target: &Path,
    ) -> Result<Unpacked, Fault> {
        self.copy_out_with(machine, source, target, CopyOptions::default())
            .await
    }

    /// The same, with options.
    pub async fn copy_out_with(
        &self,
        machine: &str,
        source: &str,
        target: &Path,
        options: CopyOptions,
    ) -> Result<Unpacked, Fault> {
        let there = local::look(target)?;
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
        let mut root = Root::Old;
        if there == There::Nothing && folder == target {
            std::fs::create_dir(folder)
                .map_err(|e| local::fault(e, format!("cannot make {}", folder.display())))?;
            root = Root::New;
        }
        if !folder.is_dir() {
            let message = format!("{} is not a folder on this host", folder.display());
            return Err(Fault::new(ErrorKind::NotFound, message));
        }
        let options = Options {
            rename,
            root,
            xattrs: options.xattrs,
            owners: if rustix::process::geteuid().is_root() {
                Owners::Kept
            } else {
                Owners::Mine
            },
            ..Options::default()
        };
        // Where it goes is the user's choice, links and all; from here on it is this folder and no path.
        let opened = std::fs::File::open(folder)
            .map_err(|e| local::fault(e, format!("cannot open {}", folder.display())))?;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(PIECES);
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut unpacker = Unpacker::new(opened.into(), options);
            while let Some(bytes) = receiver.blocking_recv() {
                unpacker.push(&bytes).map_err(Failed::Within)?;
            }
            unpacker.finish().map_err(Failed::AtTheEnd)
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
            (Ok(sent), Ok(mut unpacked)) => {
                unpacked.skipped.absorb(sent.skipped);
                Ok(unpacked)
            }
            // The first cause: when unpacking fails, the connection is told by a broken pipe.
            (_, Err(Failed::Within(e))) | (Ok(_), Err(Failed::AtTheEnd(e))) => {
                Err(unpack_fault(&e, target))
            }
            // And an archive that the guest, or its end, broke off is cut short.
            (Err(fault), _) => Err(fault),
        }
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
