//! An archive read from a stream, entry by entry: for those who pull instead of being pushed to.

use super::{ArchiveError, Entry, Item, Parser};
use std::io::{self, Read};

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// Reads an archive. It holds one buffer and what the [`Parser`] holds, whatever comes.
///
/// An archive that ends between two entries, without its two blocks of zeros, is taken for a whole one, as `tar` does:
/// whether a stream was cut, its source knows.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    parser: Parser,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be parsed.
    unread: std::ops::Range<usize>,
    /// Content of an entry is under way.
    in_content: bool,
    /// Zeros of a hole that are to come.
    hole: u64,
}

impl<R: Read> Reader<R> {
    /// Reads entries without their extended attributes.
    pub fn new(source: R) -> Self {
        Self::with_parser(source, Parser::default())
    }

    /// Reads with a parser of the caller's choice, which must be new.
    pub fn with_parser(source: R, parser: Parser) -> Self {
        Self {
            source,
            parser,
            buffer: vec![0; BUFFER].into(),
            unread: 0..0,
            in_content: false,
            hole: 0,
        }
    }

    /// The next entry; what was not read of the one before is skipped. `None` at the archive's end.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        self.hole = 0;
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let item = self.parser.next(&mut input);
            self.unread.start = self.unread.end - input.len();
            match item? {
                Some(Item::Entry(entry)) => {
                    self.in_content = true;
                    return Ok(Some(*entry));
                }
                Some(Item::Data(_) | Item::Hole(_)) => {}
                Some(Item::Done) => self.in_content = false,
                Some(Item::End) => return Ok(None),
                None => {
                    if !self.fill()? {
                        return if self.parser.is_between_entries() {
                            Ok(None)
                        } else {
                            Err(ArchiveError::CutShort.into())
                        };
                    }
                }
            }
        }
    }

    /// The content of the entry that came last. Holes are zeros, of a parser that takes them; a hole may be longer than
    /// any memory.
    pub fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// Reads what follows the archive, to the stream's end.
    pub fn drain(&mut self) -> io::Result<()> {
        self.unread = 0..0;
        while self.fill()? {}
        Ok(())
    }

    /// Reads more; `false` at the stream's end.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(n) => {
                    self.unread = 0..n;
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// The content of an entry of a [`Reader`].
#[derive(Debug)]
pub struct Content<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.0;
        while reader.in_content && !out.is_empty() {
            if reader.hole > 0 {
                let n = out
                    .len()
                    .min(usize::try_from(reader.hole).unwrap_or(usize::MAX));
                out[..n].fill(0);
                reader.hole -= n as u64;
                return Ok(n);
            }
            let unread = &reader.buffer[reader.unread.clone()];
            // No more than fits: the parser hands on what it is given.
            let mut input = &unread[..unread.len().min(out.len())];
            let given = input.len();
            let item = reader.parser.next(&mut input);
            reader.unread.start += given - input.len();
            match item? {
                Some(Item::Data(bytes)) => {
                    out[..bytes.len()].copy_from_slice(bytes);
                    return Ok(bytes.len());
                }
                Some(Item::Hole(len)) => reader.hole = len,
                Some(Item::Done) => reader.in_content = false,
                Some(Item::Entry(_) | Item::End) => unreachable!("content ends before these"),
                None => {
                    if !reader.fill()? {
                        return Err(ArchiveError::CutShort.into());
                    }
                }
            }
        }
        Ok(0)
    }
}
