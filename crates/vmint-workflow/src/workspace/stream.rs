//! A tar that is handed over piece by piece.

use super::WorkspaceError;
use bytes::{Bytes, BytesMut};
use std::io;
use std::path::Path;
use tokio::sync::mpsc::Sender;

/// Where the pieces of a tar go.
pub type Pieces = Sender<io::Result<Bytes>>;

/// Pieces are about this long: with the channel's bound, this bounds the memory.
pub(super) const PIECE: usize = 128 << 10;

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files and symbolic links.
    pub files: u64,
    /// Their content.
    pub bytes: u64,
    /// Files that changed while they were read: cut at the size that they had, or filled up to it with zeros.
    pub unsteady: u64,
    /// What was left out: sockets, pipes and devices, and files that vanished.
    pub left_out: u64,
}

/// The writing end, for a thread that may block.
pub(super) struct Outlet {
    pieces: Pieces,
    waiting: BytesMut,
}

impl Outlet {
    pub fn new(pieces: Pieces) -> Self {
        let waiting = BytesMut::with_capacity(PIECE);
        Self { pieces, waiting }
    }
}

impl io::Write for Outlet {
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
        let piece = self.waiting.split().freeze();
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.pieces.blocking_send(Ok(piece)).map_err(gone)
    }
}

/// Hands the end of a failed packing over, so that what was sent is not taken for all.
pub(super) async fn close<T>(
    pieces: &Pieces,
    root: &Path,
    result: Result<T, WorkspaceError>,
) -> Result<T, WorkspaceError> {
    if let Err(error) = &result {
        let error = io::Error::other(error.to_string());
        // Nobody is left to be told when this fails, too.
        let _ = pieces.send(Err(error)).await;
        if pieces.is_closed() {
            return Err(WorkspaceError::Gone {
                root: root.to_owned(),
            });
        }
    }
    result
}
