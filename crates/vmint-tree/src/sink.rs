//! Where an archive goes.

use rustix::io::Errno;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

/// Bytes that are read at once where no better way is known.
const PIECE: usize = 64 << 10;

/// Takes an archive.
pub trait Sink {
    /// Takes bytes, all of them.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno>;

    /// Takes at most `n` bytes of a file, from its position; says how many. None at the file's end.
    fn pass(&mut self, file: BorrowedFd<'_>, n: usize) -> Result<usize, Broken> {
        let mut piece = vec![0; n.min(PIECE)];
        let n = read(file, &mut piece).map_err(Broken::Read)?;
        self.write(&piece[..n]).map_err(Broken::Send)?;
        Ok(n)
    }

    /// Hands on what it may have kept.
    fn flush(&mut self) -> Result<(), Errno>;
}

/// Which of the two sides of a [`pass`](Sink::pass) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The file.
    Read(Errno),
    /// The sink.
    Send(Errno),
}

/// A writer as a sink. It keeps the writer's own error, which says more than a number.
#[derive(Debug)]
pub struct Writing<W> {
    writer: W,
    /// Why the writer failed.
    pub error: Option<io::Error>,
    piece: Vec<u8>,
}

impl<W: Write> Writing<W> {
    /// Writes there.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            error: None,
            piece: vec![0; PIECE],
        }
    }

    fn told(&mut self, result: io::Result<()>) -> Result<(), Errno> {
        result.map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::PIPE);
            self.error = Some(error);
            errno
        })
    }
}

impl<W: Write> Sink for Writing<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let written = self.writer.write_all(bytes);
        self.told(written)
    }

    fn pass(&mut self, file: BorrowedFd<'_>, n: usize) -> Result<usize, Broken> {
        let n = n.min(self.piece.len());
        let n = read(file, &mut self.piece[..n]).map_err(Broken::Read)?;
        let written = self.writer.write_all(&self.piece[..n]);
        self.told(written).map_err(Broken::Send)?;
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        let flushed = self.writer.flush();
        self.told(flushed)
    }
}

/// Reads once, from the file's position.
pub(crate) fn read(file: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::read(file, &mut *buffer) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
