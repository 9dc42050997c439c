//! How far a table has read, of the bytes as they are and as people see them.

use super::{Engine, Kind, Reading, Table};
use crate::sight::Seen;
use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use std::collections::VecDeque;
use std::ops::Range;

/// A line is taken to go on in the next one, as wrapped encoded text does, when so many characters of base64 stand at its
/// end. Other lines end so, too, but seldom; these are held back until more is written.
const WRAPPED: usize = 16;

/// So much indentation is skipped at most where encoded text is wrapped.
const INDENT: usize = 64;

/// A secret that is seen has at most so many bytes in it that are not. It bounds what is held back.
const UNSEEN: usize = 64 << 10;

/// A table, read over the bytes as they are.
#[derive(Debug)]
pub(super) struct Cursor {
    table: Table,
    raw: Reader,
    /// The same bytes as readers see them, by kinds of readers.
    views: [View; 3],
}

/// A table, read over what is seen. As long as all is seen, it would read what the raw one reads, and sleeps.
#[derive(Debug, Default)]
struct View {
    awake: Option<Reader>,
}

impl Cursor {
    pub(super) fn new(table: &Table) -> Self {
        Self {
            raw: Reader::new(Of::Raw, &table.engine),
            table: table.clone(),
            views: Default::default(),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(&self.table);
    }

    /// From where on a secret may have begun, when all was read up to `end`.
    pub(super) fn safe(&mut self, end: usize) -> usize {
        let table = &self.table;
        let views = self.views.iter_mut().filter_map(|v| v.awake.as_mut());
        let views = views.map(|reader| reader.safe(table, end)).min();
        self.raw.safe(table, end).min(views.unwrap_or(end))
    }

    /// Reads bytes that are seen as they are; `start` is the place of the first.
    pub(super) fn read(&mut self, bytes: &[u8], start: usize, found: &mut Vec<Range<usize>>) {
        let places = Places::From(start);
        for view in &mut self.views {
            if let Some(reader) = &mut view.awake {
                reader.read(&self.table, bytes, &places, found);
            }
        }
        self.raw.read(&self.table, bytes, &places, found);
        self.settle(start + bytes.len());
    }

    /// Reads bytes that are seen otherwise than they are.
    pub(super) fn read_seen(
        &mut self,
        bytes: &[u8],
        start: usize,
        seen: [&Seen; 3],
        found: &mut Vec<Range<usize>>,
    ) {
        for (view, seen) in self.views.iter_mut().zip(seen) {
            let reader = view
                .awake
                .get_or_insert_with(|| self.raw.woken(&self.table, start));
            let places = Places::Of(start, &seen.at);
            reader.read(&self.table, &seen.bytes, &places, found);
        }
        let places = Places::From(start);
        self.raw.read(&self.table, bytes, &places, found);
        self.settle(start + bytes.len());
    }

    /// Lets views sleep that are where the raw reader is, and forgets beginnings that are spread too far.
    fn settle(&mut self, end: usize) {
        for view in &mut self.views {
            let Some(reader) = &mut view.awake else {
                continue;
            };
            let depth = self.table.engine.depth(reader.state);
            if end - reader.safe(&self.table, end) > UNSEEN + 8 * depth {
                *reader = Reader::new(Of::View, &self.table.engine);
            }
            if reader.is_with(&self.raw, &self.table) {
                view.awake = None;
            }
        }
    }
}

/// Where bytes stand in the stream.
enum Places<'a> {
    /// One after the other from here.
    From(usize),
    /// At these places behind the first.
    Of(usize, &'a [usize]),
}

impl Places<'_> {
    fn of(&self, index: usize) -> usize {
        match self {
            Self::From(start) => start + index,
            Self::Of(start, places) => start + places[index],
        }
    }
}

/// What a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// All bytes.
    Raw,
    /// Those that are seen.
    View,
}

/// Where an automaton is.
#[derive(Clone, Debug)]
struct Reader {
    of: Of,
    state: StateID,
    /// Where the bytes stand that may begin a secret, the last one last; of a view alone.
    trail: VecDeque<usize>,
    unwrap: Unwrap,
}

impl Reader {
    fn new(of: Of, engine: &Engine) -> Self {
        Self {
            of,
            state: engine.start,
            trail: VecDeque::new(),
            unwrap: Unwrap::default(),
        }
    }

    /// The raw reader as a view that has read the same up to `end`.
    fn woken(&self, table: &Table, end: usize) -> Self {
        let mut reader = Self {
            of: Of::View,
            ..self.clone()
        };
        let depth = table.engine.depth(self.state);
        if table.reading == Reading::Plain {
            reader.trail = (end - depth..end).collect();
        }
        reader
    }

    /// Whether a view finds from here on what the raw reader finds.
    fn is_with(&self, raw: &Self, table: &Table) -> bool {
        let depth = table.engine.depth(self.state);
        depth == 0 && self.state == raw.state && self.unwrap.is_with(&raw.unwrap)
    }

    fn safe(&mut self, table: &Table, end: usize) -> usize {
        let depth = table.engine.depth(self.state);
        match table.reading {
            Reading::Plain if self.of == Of::Raw => end - depth,
            Reading::Plain => self.trail.iter().min().copied().unwrap_or(end),
            Reading::Unwrapped if depth == 0 => end,
            Reading::Unwrapped => {
                self.unwrap.forget(depth);
                self.unwrap.position(depth)
            }
        }
    }

    fn read(
        &mut self,
        table: &Table,
        bytes: &[u8],
        places: &Places<'_>,
        found: &mut Vec<Range<usize>>,
    ) {
        match &table.engine.automaton {
            Kind::Fast(with) => self.read_with(with, table, bytes, places, found),
            Kind::Small(with) => self.read_with(with, table, bytes, places, found),
        }
    }

    fn read_with(
        &mut self,
        with: &impl Automaton,
        table: &Table,
        bytes: &[u8],
        places: &Places<'_>,
        found: &mut Vec<Range<usize>>,
    ) {
        let mut found = Found {
            first: found.len(),
            ranges: found,
        };
        match (table.reading, places) {
            (Reading::Unwrapped, _) => self.unwrapped(with, table, bytes, places, &mut found),
            (Reading::Plain, Places::From(start)) if self.of == Of::Raw => {
                plain(with, &mut self.state, bytes, *start, &mut found);
            }
            (Reading::Plain, _) => self.trailed(with, table, bytes, places, &mut found),
        }
    }

    /// As [`plain`], of bytes that do not stand one after the other.
    fn trailed(
        &mut self,
        automaton: &impl Automaton,
        table: &Table,
        bytes: &[u8],
        places: &Places<'_>,
        found: &mut Found<'_>,
    ) {
        for (index, byte) in bytes.iter().enumerate() {
            self.state = automaton.next_state(Anchored::No, self.state, *byte);
            self.trail.push_back(places.of(index));
            if automaton.is_match(self.state) {
                let length = longest(automaton, self.state);
                let places = self.trail.iter().rev().take(length);
                let (first, last) = places.fold((usize::MAX, 0), |(first, last), place| {
                    (first.min(*place), last.max(*place))
                });
                found.add(first..last + 1);
            }
            // The trail is cut now and then.
            if self.trail.len() > 1 << 16 {
                self.cut_trail(table);
            }
        }
        self.cut_trail(table);
    }

    fn cut_trail(&mut self, table: &Table) {
        let depth = table.engine.depth(self.state);
        self.trail.drain(..self.trail.len().saturating_sub(depth));
    }

    fn unwrapped(
        &mut self,
        automaton: &impl Automaton,
        table: &Table,
        bytes: &[u8],
        places: &Places<'_>,
        found: &mut Found<'_>,
    ) {
        let mut current = self.state;
        for (index, byte) in bytes.iter().enumerate() {
            if ENCODED[usize::from(*byte)] {
                let place = places.of(index);
                self.unwrap.count(place);
                current = automaton.next_state(Anchored::No, current, *byte);
                if automaton.is_match(current) {
                    let first = self.unwrap.position(longest(automaton, current));
                    found.add(first.min(place)..first.max(place) + 1);
                }
            } else if !self.unwrap.skips(*byte) {
                self.unwrap.end_run();
                current = table.engine.start;
            }
        }
        self.state = current;
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
                Some(last) if last.end >= range.start && last.start <= range.end => {
                    range = range.start.min(last.start)..range.end.max(last.end);
                }
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
#[derive(Clone, Debug, Default)]
struct Unwrap {
    /// How many bytes the run has.
    run: usize,
    /// From this number on, the bytes of the run stand at this position and behind it.
    pieces: VecDeque<(usize, usize)>,
    /// What of a line break was skipped since the last byte of the run.
    skipped: Skipped,
    /// Where the last byte stands.
    last: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        if self.run == 0 || position != self.last + 1 {
            self.pieces.push_back((self.run, position));
        }
        self.skipped = Skipped::Nothing;
        self.last = position;
        self.run += 1;
    }

    /// Whether both take what follows as a part of a run, or not.
    fn is_with(&self, other: &Self) -> bool {
        self.skipped == other.skipped && self.run.min(WRAPPED) == other.run.min(WRAPPED)
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
