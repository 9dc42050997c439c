//! Tars that come from a guest and rest on this host: written under a temporary name, and under their own only when whole.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use tempfile::NamedTempFile;
use thiserror::Error;
use tokio::sync::mpsc::{Receiver, Sender};

/// How the temporary names begin. No other file of a store begins so.
pub(crate) const TEMPORARY: &str = ".incoming-";

/// Pieces that are read and handed over.
const PIECE: usize = 128 << 10;

/// A tar that is coming in. Dropped, nothing is left of it.
#[derive(Debug)]
pub struct Draft {
    file: NamedTempFile,
    size: u64,
    limit: u64,
    digest: Sha256,
}

/// Why a tar was not taken in.
#[derive(Debug, Error)]
pub enum DraftError {
    /// The host's disk failed.
    #[error("cannot keep what the machine sends")]
    Write(#[from] io::Error),
    /// It is too large.
    #[error("it is larger than {} MiB, which is as much as may be kept", limit >> 20)]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// What to do when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It stays, and the new one is an error.
    Refuse,
    /// It is replaced.
    Replace,
}

impl Draft {
    pub(crate) fn new(folder: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::Builder::new()
                .prefix(TEMPORARY)
                .tempfile_in(folder)?,
            size: 0,
            limit,
            digest: Sha256::new(),
        })
    }

    /// Takes in all that comes, until the channel closes. Whether that was all, only the sender knows: ask it before the
    /// draft is kept.
    pub async fn fill(mut self, mut tar: Receiver<Bytes>) -> Result<Self, DraftError> {
        let taken = tokio::task::spawn_blocking(move || {
            while let Some(piece) = tar.blocking_recv() {
                self.size += piece.len() as u64;
                if self.size > self.limit {
                    return Err(DraftError::TooLarge { limit: self.limit });
                }
                self.digest.update(&piece);
                self.file.write_all(&piece)?;
            }
            Ok(self)
        });
        match taken.await {
            Ok(result) => result,
            // The task is never aborted: it has panicked, and so do we.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its SHA-256 so far, in hexadecimal digits.
    pub fn digest(&self) -> String {
        hex(&self.digest.clone().finalize())
    }

    /// Gives it its name. An error of kind `AlreadyExists` says that the name is taken.
    pub(crate) fn keep(self, path: &Path, taken: Taken) -> io::Result<()> {
        let kept = match taken {
            Taken::Refuse => self.file.persist_noclobber(path),
            Taken::Replace => self.file.persist(path),
        };
        kept.map(drop).map_err(|error| error.error)
    }
}

/// Writes a small file, whole or not at all.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Reads a small file; longer ones are an error.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    let mut content = Vec::new();
    std::fs::File::open(path)?
        .take(MOST + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > MOST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// Hands a tar over piece by piece. An error goes to the taker, too, who must not take the beginning for all.
pub(crate) async fn send(
    mut file: std::fs::File,
    tar: Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let sent = tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    piece.truncate(read);
                    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
                    tar.blocking_send(Ok(piece.into())).map_err(gone)?;
                }
                Err(error) => {
                    // Nobody is left to be told when this fails.
                    let _ = tar.blocking_send(Err(error.kind().into()));
                    return Err(error);
                }
            }
        }
    });
    match sent.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use bytes::Bytes;
    use tokio::sync::mpsc::{Receiver, channel};

    /// A channel that holds some bytes and is closed.
    pub fn sent(bytes: &[u8]) -> Receiver<Bytes> {
        let pieces: Vec<_> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
        let (sender, receiver) = channel(pieces.len() + 1);
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        receiver
    }

    /// All that comes from a channel.
    pub async fn received(mut from: Receiver<std::io::Result<Bytes>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = from.recv().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    }
}
