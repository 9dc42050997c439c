//! Small files into a machine and out of it, as tar streams.

use super::wire::Wire;
use bytes::Bytes;
use std::io::Read;
use tokio::sync::mpsc;
use vmint_model::{ErrorKind, Fault};
use vmint_protocol::archive::{EntryKind, Parser, Reader};

/// Files that are put into a machine at once.
pub struct Parcel(tar::Builder<Vec<u8>>);

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Scripts and files may hold secrets.
        write!(f, "Parcel({} bytes)", self.0.get_ref().len())
    }
}

impl Default for Parcel {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Parcel {
    /// Adds a file, under a relative path, with these permissions.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_mtime(vmint_model::now_ms() as u64 / 1000);
        header.set_size(content.len() as u64);
        let added = self.0.append_data(&mut header, path, content);
        added.expect("a tar in memory takes any relative path");
    }

    /// Adds a folder, under a relative path, with these permissions.
    pub fn folder(&mut self, path: &str, mode: u32) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_mtime(vmint_model::now_ms() as u64 / 1000);
        header.set_size(0);
        let added = self.0.append_data(&mut header, path, &[][..]);
        added.expect("a tar in memory takes any relative path");
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let added = self.0.append_link(&mut header, path, target);
        added.expect("a tar in memory takes any relative path");
    }

    /// Unpacks it in a folder of the machine.
    pub(super) async fn put(self, wire: &Wire<'_>, folder: &str) -> Result<(), Fault> {
        let bytes = self.0.into_inner().expect("a tar in memory");
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(bytes.into())).expect("it has room");
        drop(sender);
        wire.put(folder, receiver).await
    }
}

/// A file of a machine that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its path below what was fetched.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Fetches the regular files of a folder, or a file, all in all no more than `limit` bytes. What does not exist has none.
pub(super) async fn fetch(
    wire: &Wire<'_>,
    path: &str,
    limit: usize,
) -> Result<Vec<Fetched>, Fault> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(16);
    let gather = async {
        let mut bytes = Vec::new();
        while let Some(piece) = receiver.recv().await {
            if bytes.len() + piece.len() > limit {
                return None;
            }
            bytes.extend_from_slice(&piece);
        }
        Some(bytes)
    };
    let get = async {
        // Moved in, so that it is dropped when all was sent.
        wire.get(path, sender).await
    };
    let (bytes, got) = futures_util::future::join(gather, get).await;
    let Some(bytes) = bytes else {
        let message = format!("{path} of the machine holds more than {limit} bytes");
        return Err(Fault::new(ErrorKind::Guest, message));
    };
    match got {
        Ok(()) => {}
        Err(fault) if fault.kind == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    }
    unpack(&bytes, limit).map_err(|e| {
        Fault::from_error(ErrorKind::Guest, &e)
            .context(format!("cannot read {path} of the machine"))
    })
}

/// The files of an archive, in memory. They are no more than the archive itself, or with holes no more than `limit`: what a
/// header promises is not believed.
fn unpack(bytes: &[u8], limit: usize) -> std::io::Result<Vec<Fetched>> {
    let mut files = Vec::new();
    let mut archive = Reader::with_parser(bytes, Parser::default().taking_holes());
    let mut left = limit as u64;
    while let Some(entry) = archive.next_entry()? {
        if entry.kind != EntryKind::File {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path);
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        let mut content = Vec::new();
        let mut some = archive.content().take(left + 1);
        some.read_to_end(&mut content)?;
        left = left.checked_sub(content.len() as u64).ok_or_else(|| {
            let message = format!("{path} and the files before it hold more than {limit} bytes");
            std::io::Error::new(std::io::ErrorKind::InvalidData, message)
        })?;
        files.push(Fetched { path, content });
    }
    Ok(files)
}
