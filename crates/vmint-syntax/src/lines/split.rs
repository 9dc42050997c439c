//! Bytes to lines.

use crate::commands::Commands;
use crate::log::MAX_LINE;

/// How long a line may be that could be a command. Longer ones are text.
pub const MAX_COMMAND: usize = 1 << 20;

/// A piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line, without its end. The last one of a stream may have had none.
    Line(&'a [u8]),
    /// A part of a line that is too long; more of it follows. It may end inside of a character.
    Part(&'a [u8]),
    /// The last part of such a line, without its end.
    Last(&'a [u8]),
}

/// Splits a stream in lines. A line ends with `\n`, `\r\n` or `\r`, as for GitHub's runner: each state of a progress bar is a
/// line. Holds at most [`MAX_COMMAND`] bytes.
#[derive(Debug, Default)]
pub struct Splitter {
    line: Vec<u8>,
    length: Length,
    /// The last byte was `\r`: the line was given out, and a `\n` that follows belongs to it.
    returned: bool,
}

/// What is known of how long the line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Usual,
    /// Too long for text, but it may be a command.
    Command,
    /// Parts of it were given out.
    Parts,
}

impl Splitter {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece of the stream, and hands over the lines that it ends.
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        if self.returned && !bytes.is_empty() {
            self.returned = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            self.end_line(&bytes[..end], &mut take);
            let (returned, rest) = (bytes[end] == b'\r', &bytes[end + 1..]);
            self.returned = returned && rest.is_empty();
            bytes = match rest.strip_prefix(b"\n") {
                Some(rest) if returned => rest,
                _ => rest,
            };
        }
        self.more(bytes, &mut take);
    }

    /// The end of the stream: hands over a last line that has no end.
    pub fn finish(&mut self, mut take: impl FnMut(Piece<'_>)) {
        if !self.line.is_empty() || self.length != Length::Usual {
            self.end_line(&[], &mut take);
        }
        self.returned = false;
    }

    fn end_line(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        // The usual case: no copy.
        if self.line.is_empty() && self.length == Length::Usual && rest.len() <= MAX_LINE {
            take(Piece::Line(rest));
            return;
        }
        self.more(rest, take);
        match self.length {
            Length::Parts => take(Piece::Last(&self.line)),
            Length::Usual | Length::Command => take(Piece::Line(&self.line)),
        }
        self.length = Length::Usual;
        self.line.clear();
        self.line.shrink_to(MAX_LINE);
    }

    /// Adds what belongs to the line, and gives out what is too much.
    fn more(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        loop {
            let limit = match self.length {
                Length::Command => MAX_COMMAND,
                Length::Usual | Length::Parts => MAX_LINE,
            };
            let (now, later) = bytes.split_at(bytes.len().min(limit - self.line.len()));
            self.line.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            bytes = later;
            if self.length == Length::Usual && Commands::may_be_command(&self.line) {
                self.length = Length::Command;
            } else {
                self.length = Length::Parts;
                for part in self.line.chunks(MAX_LINE) {
                    take(Piece::Part(part));
                }
                self.line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut out, mut part) = (Splitter::new(), Vec::new(), Vec::new());
        let mut take = |piece: Piece| match piece {
            Piece::Line(line) => out.push(String::from_utf8_lossy(line).into_owned()),
            Piece::Part(bytes) => part.extend_from_slice(bytes),
            Piece::Last(bytes) => {
                part.extend_from_slice(bytes);
                out.push(format!("{} bytes", part.len()));
                part.clear();
            }
        };
        for piece in pieces {
            splitter.push(piece, &mut take);
        }
        splitter.finish(&mut take);
        out
    }

    #[test]
    fn every_end_of_a_line_ends_one() {
        assert_eq!(
            split(&[b"a\nb\r\nc\rd\n\n\r\ne"]),
            ["a", "b", "c", "d", "", "", "e"]
        );
        assert_eq!(split(&[b"a\r", b"\nb\r", b"c", b"\n"]), ["a", "b", "c"]);
        assert_eq!(split(&[b"a\r", b"", b"\n"]), ["a"]);
        assert!(split(&[b""]).is_empty());
    }

    #[test]
    fn a_stream_without_lines_takes_no_memory() {
        let (mut splitter, mut parts, mut longest) = (Splitter::new(), 0, 0);
        let megabyte = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            splitter.push(&megabyte, |piece| match piece {
                Piece::Part(part) => {
                    parts += part.len();
                    longest = longest.max(part.len());
                }
                other => panic!("{other:?}"),
            });
            assert!(splitter.line.capacity() <= 2 * MAX_LINE);
        }
        assert!(longest <= MAX_LINE && parts > 99 << 20);
    }

    #[test]
    fn long_lines_are_parts_but_long_commands_are_lines() {
        let (text, long) = ("x".repeat(MAX_LINE + 1), "y".repeat(MAX_COMMAND));
        let command = format!("  ::add-mask::{text}");
        let lines = split(&[text.as_bytes(), b"\n", command.as_bytes(), b"\nend"]);
        assert_eq!(
            lines,
            [&*format!("{} bytes", MAX_LINE + 1), &command, "end"]
        );
        let command = format!("::add-mask::{long}\nend");
        assert_eq!(
            split(&[command.as_bytes()]),
            [&*format!("{} bytes", MAX_COMMAND + 12), "end"]
        );
        let exact = "z".repeat(MAX_LINE);
        assert_eq!(
            split(&[exact.as_bytes(), b"\n", exact.as_bytes()]),
            [&*exact, &*exact]
        );
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_bytes_are_split(text in "[a\r\n]{0,30}", at in prop::collection::vec(0usize..30, 0..4)) {
            let mut at: Vec<usize> = at.into_iter().map(|at| at.min(text.len())).collect();
            at.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for at in at {
                pieces.push(&text.as_bytes()[from..at]);
                from = at;
            }
            pieces.push(&text.as_bytes()[from..]);
            prop_assert_eq!(split(&pieces), split(&[text.as_bytes()]));
        }
    }
}
