//! Masking of bytes that come in pieces.

use super::{Engine, Kind, Masks, Reading, STARS, Table};
use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use std::collections::VecDeque;
use std::ops::Range;

/// A line is taken to go on in the next one, as wrapped encoded text does, when so many characters of base64 stand at its
/// end. Other lines end so, too, but seldom; these are held back until more is written.
const WRAPPED: usize = 16;

/// So much indentation is skipped at most where encoded text is wrapped.
const INDENT: usize = 64;

/// Masks a stream of bytes. What it gives is the same however the bytes are split. It holds back only what could be the
/// beginning of a secret, so no more than the longest of them and the line breaks in it.
#[derive(Debug, Default)]
pub struct Masker {
    /// What is not yet given out, and where it stands in the stream.
    held: Vec<u8>,
    offset: usize,
    /// Which of `held`, at stream positions, is secret: apart from each other, in order.
    secret: VecDeque<Range<usize>>,
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
        let from = self.held.len();
        self.held.extend_from_slice(bytes);
        self.search(from);
        let end = self.offset + self.held.len();
        let safe = self.cursors.iter_mut().map(|cursor| cursor.safe(end));
        let safe = safe.min().unwrap_or(end);
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
        self.release(self.offset + self.held.len(), out);
        self.stars = false;
        for cursor in &mut self.cursors {
            cursor.reset();
        }
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    fn reload(&mut self, masks: &Masks) {
        self.generation = masks.generation;
        self.cursors = masks.tables.iter().map(Cursor::new).collect();
        self.search(0);
    }

    /// Reads `held` from an index on.
    fn search(&mut self, from: usize) {
        let (bytes, start) = (&self.held[from..], self.offset + from);
        let mut found = Vec::new();
        for cursor in &mut self.cursors {
            cursor.read(bytes, start, &mut found);
        }
        if found.is_empty() {
            return;
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
        self.held.drain(..until - self.offset);
        self.offset = until;
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

/// How far a table has read.
#[derive(Debug)]
struct Cursor {
    table: Table,
    state: StateID,
    unwrap: Unwrap,
}

impl Cursor {
    fn new(table: &Table) -> Self {
        Self {
            state: table.engine.start,
            table: table.clone(),
            unwrap: Unwrap::default(),
        }
    }

    fn reset(&mut self) {
        self.state = self.table.engine.start;
        self.unwrap = Unwrap::default();
    }

    /// From where on a secret may have begun, when all was read up to `end`.
    fn safe(&mut self, end: usize) -> usize {
        let depth = self.table.engine.depth(self.state);
        match self.table.reading {
            Reading::Plain => end - depth,
            Reading::Unwrapped if depth == 0 => end,
            Reading::Unwrapped => {
                self.unwrap.forget(depth);
                self.unwrap.position(depth)
            }
        }
    }

    fn read(&mut self, bytes: &[u8], start: usize, found: &mut Vec<Range<usize>>) {
        let engine = &*self.table.engine;
        let mut found = Found {
            first: found.len(),
            ranges: found,
        };
        let (state, unwrap) = (&mut self.state, &mut self.unwrap);
        match (&engine.automaton, self.table.reading) {
            (Kind::Fast(with), Reading::Plain) => plain(with, state, bytes, start, &mut found),
            (Kind::Small(with), Reading::Plain) => plain(with, state, bytes, start, &mut found),
            (Kind::Fast(with), Reading::Unwrapped) => {
                unwrapped(with, engine, state, unwrap, bytes, start, &mut found);
            }
            (Kind::Small(with), Reading::Unwrapped) => {
                unwrapped(with, engine, state, unwrap, bytes, start, &mut found);
            }
        }
    }
}

/// What one table has found, in the order of the ends.
struct Found<'a> {
    ranges: &'a mut Vec<Range<usize>>,
    first: usize,
}

impl Found<'_> {
    fn add(&mut self, mut range: Range<usize>) {
        while self.ranges.len() > self.first {
            match self.ranges.last() {
                Some(last) if last.end >= range.start => range.start = range.start.min(last.start),
                _ => break,
            }
            self.ranges.pop();
        }
        self.ranges.push(range);
    }
}

/// The longest pattern that ends in a state that is a match. Those that end at the same place are listed by length.
fn longest(automaton: &impl Automaton, state: StateID) -> usize {
    automaton.pattern_len(automaton.match_pattern(state, 0))
}

fn plain(
    automaton: &impl Automaton,
    state: &mut StateID,
    bytes: &[u8],
    start: usize,
    found: &mut Found,
) {
    let mut current = *state;
    for (index, byte) in bytes.iter().enumerate() {
        current = automaton.next_state(Anchored::No, current, *byte);
        if automaton.is_match(current) {
            let end = start + index + 1;
            found.add(end - longest(automaton, current)..end);
        }
    }
    *state = current;
}

fn unwrapped(
    automaton: &impl Automaton,
    engine: &Engine,
    state: &mut StateID,
    unwrap: &mut Unwrap,
    bytes: &[u8],
    start: usize,
    found: &mut Found,
) {
    let mut current = *state;
    for (index, byte) in bytes.iter().enumerate() {
        if ENCODED[usize::from(*byte)] {
            unwrap.count(start + index);
            current = automaton.next_state(Anchored::No, current, *byte);
            if automaton.is_match(current) {
                let first = unwrap.position(longest(automaton, current));
                found.add(first..start + index + 1);
            }
        } else if !unwrap.skips(*byte) {
            unwrap.end_run();
            current = engine.start;
        }
    }
    *state = current;
}

/// Characters of base64, of both alphabets, and with them of hex.
const ENCODED: [bool; 256] = {
    let mut encoded = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let char = byte as u8;
        encoded[byte] =
            char.is_ascii_alphanumeric() || matches!(char, b'+' | b'/' | b'-' | b'_' | b'=');
        byte += 1;
    }
    encoded
};

/// A run of encoded text: where its bytes stand, those apart that are skipped where it is wrapped.
#[derive(Debug, Default)]
struct Unwrap {
    /// How many bytes the run has.
    run: usize,
    /// From this number on, the bytes of the run stand at this position and behind it.
    pieces: VecDeque<(usize, usize)>,
    /// What of a line break was skipped since the last byte of the run.
    skipped: Skipped,
}

#[derive(Debug, Default)]
enum Skipped {
    #[default]
    Nothing,
    Return,
    Break {
        indent: usize,
    },
}

impl Unwrap {
    fn count(&mut self, position: usize) {
        if self.run == 0 || !matches!(self.skipped, Skipped::Nothing) {
            self.pieces.push_back((self.run, position));
            self.skipped = Skipped::Nothing;
        }
        self.run += 1;
    }

    fn skips(&mut self, byte: u8) -> bool {
        self.skipped = match (byte, &self.skipped) {
            (b'\r', Skipped::Nothing) if self.run >= WRAPPED => Skipped::Return,
            (b'\n', Skipped::Nothing | Skipped::Return) if self.run >= WRAPPED => {
                Skipped::Break { indent: 0 }
            }
            (b' ' | b'\t', Skipped::Break { indent }) if *indent < INDENT => {
                Skipped::Break { indent: indent + 1 }
            }
            _ => return false,
        };
        true
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            self.run = 0;
            self.pieces.clear();
            self.skipped = Skipped::Nothing;
        }
    }

    /// Where the byte stands that was counted `back` bytes ago; 1 is the last one.
    fn position(&self, back: usize) -> usize {
        let wanted = self.run - back;
        let next = self.pieces.partition_point(|(first, _)| *first <= wanted);
        // The first piece begins with the run's first byte, or with what `forget` was told is asked for at most.
        let (first, position) = self.pieces[next - 1];
        position + (wanted - first)
    }

    /// Forgets what lies more than `back` bytes behind, so that a run without end takes no memory.
    fn forget(&mut self, back: usize) {
        let wanted = self.run - back;
        while self.pieces.len() > 1 && self.pieces[1].0 <= wanted {
            self.pieces.pop_front();
        }
    }
}
