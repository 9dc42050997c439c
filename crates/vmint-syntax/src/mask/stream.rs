//! Masking of bytes that come in pieces.

use super::cursor::Cursor;
use super::{Masks, STARS};
use crate::sight::{self, End};
use std::collections::VecDeque;
use std::ops::Range;

/// A line that is longer is looked at in parts.
const PART: usize = 64 << 10;

/// What must have come of a line behind a part: it decides where the part's last sequence ends.
const AHEAD: usize = sight::LONGEST + 16;

/// Masks a stream of bytes. What it gives is the same however the bytes are split. It holds back the line that is not
/// whole yet, as what follows decides how it is seen, and what could be the beginning of a secret: no more than the
/// longest of them, the line breaks in it, and a bounded number of bytes that are not seen.
#[derive(Debug, Default)]
pub struct Masker {
    /// What is not yet given out, and where it stands in the stream.
    held: Vec<u8>,
    offset: usize,
    /// How much of `held` was looked at.
    looked: usize,
    /// Which of `held`, at stream positions, is secret: apart from each other, in order.
    secret: VecDeque<Range<usize>>,
    /// Which of `held` are sequences: they are hidden whole, or not at all.
    sequences: VecDeque<Range<usize>>,
    /// Whether the last byte that was given out was secret, and its stars are there.
    stars: bool,
    generation: u64,
    cursors: Vec<Cursor>,
}

impl Masker {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece of the stream, and gives what can be shown by now. The masks may have grown since the last piece;
    /// what was given out already stays as it was.
    pub fn push(&mut self, masks: &Masks, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + STARS.len());
        self.push_to(masks, bytes, &mut out);
        out
    }

    /// As [`push`](Self::push), and adds to what is there.
    pub fn push_to(&mut self, masks: &Masks, bytes: &[u8], out: &mut Vec<u8>) {
        if masks.generation != self.generation {
            self.reload(masks);
        }
        if self.cursors.is_empty() {
            self.offset += bytes.len();
            out.extend_from_slice(bytes);
            return;
        }
        self.held.extend_from_slice(bytes);
        while let Some(part) = self.next_part() {
            self.look(part);
        }
        let mut safe = self.offset + self.looked;
        for cursor in &mut self.cursors {
            safe = safe.min(cursor.safe(self.offset + self.looked));
        }
        self.release(safe, out);
    }

    /// The end of the stream: gives what was held back. The masker is then as new.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.finish_to(&mut out);
        out
    }

    /// As [`finish`](Self::finish), and adds to what is there.
    pub fn finish_to(&mut self, out: &mut Vec<u8>) {
        self.look_at_rest();
        self.release(self.offset + self.held.len(), out);
        self.stars = false;
        for cursor in &mut self.cursors {
            cursor.reset();
        }
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn reload(&mut self, masks: &Masks) {
        self.generation = masks.generation;
        self.cursors = masks.tables.iter().map(Cursor::new).collect();
        self.looked = 0;
    }

    fn look_at_rest(&mut self) {
        if self.cursors.is_empty() {
            return;
        }
        while let Some(part) = self.next_part() {
            self.look(part);
        }
        if self.looked < self.held.len() {
            self.look(self.held.len() - self.looked);
        }
    }

    /// How much can be looked at next: lines that are seen as they are, one that is not, or a part of a long one.
    fn next_part(&self) -> Option<usize> {
        let rest = &self.held[self.looked..];
        let odd = rest
            .iter()
            .position(|b| !matches!(b, b'\t' | b'\n' | b' '..=b'~'));
        let plain = &rest[..odd.unwrap_or(rest.len())];
        if let Some(end) = memchr::memrchr(b'\n', plain) {
            return Some(end + 1);
        }
        let near = &rest[..rest.len().min(PART + AHEAD)];
        if let Some(end) = memchr::memchr(b'\n', near) {
            return Some(end + 1);
        }
        (near.len() == PART + AHEAD).then(|| sight::part(near, PART))
    }

    /// Looks at so much of what is held.
    fn look(&mut self, len: usize) {
        let from = self.looked;
        let (bytes, start) = (&self.held[from..from + len], self.offset + from);
        self.looked += len;
        let mut found = Vec::new();
        if sight::is_plain(bytes) {
            for cursor in &mut self.cursors {
                cursor.read(bytes, start, &mut found);
            }
        } else {
            let ahead = &self.held[from..self.held.len().min(from + len + AHEAD)];
            let line = memchr::memchr(b'\n', ahead).map_or(ahead, |end| &ahead[..=end]);
            let look = sight::look_at_part(line, len);
            for cursor in &mut self.cursors {
                cursor.read_seen(bytes, start, look.views(), &mut found);
            }
            let moved = |range: &Range<usize>| start + range.start..start + range.end;
            if !found.is_empty() {
                // Where a sequence ends that is broken off depends on what follows, and that is not the same any more.
                let broken = look.sequences.iter().filter(|(_, end)| *end == End::Broken);
                found.extend(broken.map(|(range, _)| moved(range)));
            }
            let sequences = look.sequences.iter().map(|(range, _)| moved(range));
            self.sequences.extend(sequences);
        }
        if !found.is_empty() {
            self.hide(found);
        }
    }

    fn hide(&mut self, mut found: Vec<Range<usize>>) {
        for range in &mut found {
            // What is left of a sequence would swallow or show what follows.
            let at = self.sequences.partition_point(|s| s.end <= range.start);
            if let Some(first) = self.sequences.get(at).filter(|s| s.start < range.end) {
                range.start = range.start.min(first.start);
            }
            let behind = self.sequences.partition_point(|s| s.start < range.end);
            if let Some(last) = behind.checked_sub(1).and_then(|at| self.sequences.get(at))
                && last.end > range.start
            {
                range.end = range.end.max(last.end);
            }
        }
        found.extend(self.secret.drain(..));
        found.sort_unstable_by_key(|range| range.start);
        for range in found {
            match self.secret.back_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => self.secret.push_back(range),
            }
        }
    }

    fn release(&mut self, until: usize, out: &mut Vec<u8>) {
        let mut until = until;
        let inside = self.sequences.partition_point(|s| s.end <= until);
        if let Some(sequence) = self.sequences.get(inside) {
            until = until.min(sequence.start.max(self.offset));
        }
        let mut at = self.offset;
        while at < until {
            let (secret, end) = match self.secret.front() {
                Some(range) if range.start <= at => (true, range.end.min(until)),
                Some(range) => (false, range.start.min(until)),
                None => (false, until),
            };
            let piece = &self.held[at - self.offset..end - self.offset];
            if secret {
                hide(piece, &mut self.stars, out);
            } else {
                out.extend_from_slice(piece);
                self.stars = false;
            }
            at = end;
            if self.secret.front().is_some_and(|range| range.end <= at) {
                self.secret.pop_front();
            }
        }
        let given = until - self.offset;
        self.held.drain(..given);
        self.looked = self.looked.saturating_sub(given);
        self.offset = until;
        while self.sequences.front().is_some_and(|s| s.end <= until) {
            self.sequences.pop_front();
        }
    }
}

/// Stars for each line of a piece of a secret; `stars` says whether those of its first line stand there already.
fn hide(piece: &[u8], stars: &mut bool, out: &mut Vec<u8>) {
    for byte in piece {
        match byte {
            b'\n' => {
                out.push(b'\n');
                *stars = false;
            }
            b'\r' => out.push(b'\r'),
            _ if !*stars => {
                out.extend_from_slice(STARS.as_bytes());
                *stars = true;
            }
            _ => {}
        }
    }
}
