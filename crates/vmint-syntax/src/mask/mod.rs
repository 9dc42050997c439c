//! Secrets, hidden in whatever is shown.
//!
//! What is hidden, for each secret:
//!
//! - the value without white space around it, whatever its length. White space alone is no secret;
//! - each line of a value of several lines, from [`MIN_DERIVED`] bytes on. Shorter ones (a lone `}` of a JSON key file)
//!   would turn whole logs into stars; inside of the whole value they are hidden all the same;
//! - of the value and its lines, from [`MIN_DERIVED`] bytes on, the forms in which tools print them: quoted, escaped for
//!   JSON, XML, URLs and shells, and as base64 and hex, wherever they stand in a longer encoded text, and also when
//!   that text is wrapped over several lines.
//!
//! Each of these is hidden as it is written and as a person sees it: characters that a terminal obeys and those that have no look
//! may stand between those of the secret, and in the secret itself. What is hidden includes them, and a sequence is hidden whole
//! or not at all; [`sight`](crate::sight) knows what is seen.
//!
//! Matches that overlap or touch become one `***`. A line break inside of a match stays, so that a text has as many
//! lines masked as unmasked.

mod cursor;
mod forms;
mod masked;
mod stream;

pub use masked::{Masked, MaskedBytes, Part};
pub use stream::Masker;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::{Anchored, MatchKind, StartKind, dfa, nfa::contiguous};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What stands in place of a secret.
pub const STARS: &str = "***";

/// Lines of a secret, and encodings of it, are hidden from this many bytes on.
pub const MIN_DERIVED: usize = 5;

/// How many secrets are hidden at most. GitHub allows 100 each of an organisation, a repository and an environment.
pub const MAX_SECRETS: usize = 2000;

/// How many bytes all forms of all secrets may take. A secret takes about twelve times its size; GitHub's longest (48
/// KB) fits. The tables take about thirty times this, for as long as the job runs.
pub const MAX_BYTES: usize = 2 << 20;

/// Secrets that are added later are kept in a table of their own until there are this many, so that adding them one by
/// one does not build the large table each time.
const RECENT: usize = 64;

/// Beyond this many bytes of patterns, a table is built that is slower by half but takes a fiftieth of the memory.
const FAST_BYTES: usize = 16 << 10;

/// A secret that cannot be hidden. Its output must not be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// There are too many.
    #[error("more than {MAX_SECRETS} secrets to mask; mask fewer, longer values")]
    TooMany,
    /// They are too large.
    #[error(
        "the secrets to mask and their encodings take more than {MAX_BYTES} bytes; mask fewer or shorter values"
    )]
    TooLarge,
}

/// The secrets of a job. Cheap to clone; a clone does not learn of what is added later.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    secrets: Arc<HashSet<String>>,
    forms: Arc<HashSet<forms::Form>>,
    recent: Arc<Vec<forms::Form>>,
    recent_secrets: usize,
    bytes: usize,
    /// What of them is built, by how text is read: settled and recent tables for each.
    tables: Vec<Table>,
    generation: u64,
}

impl Masks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it hides, in no order.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(String::as_str)
    }

    /// Hides this too, from now on. White space alone is ignored, and so is what is known already.
    pub fn add(&mut self, secret: &str) -> Result<(), MaskError> {
        let secret = secret.trim();
        if secret.is_empty() || self.secrets.contains(secret) {
            return Ok(());
        }
        if self.secrets.len() >= MAX_SECRETS {
            return Err(MaskError::TooMany);
        }
        // Even the making of the forms is bounded: each is at least as long as the secret.
        if self.bytes + secret.len() > MAX_BYTES {
            return Err(MaskError::TooLarge);
        }
        let mut new = forms::of(secret);
        for seen in crate::sight::seen(secret) {
            let seen = seen.trim();
            // A secret whose characters are hardly seen would turn whole logs into stars.
            if seen.len() >= MIN_DERIVED {
                new.extend(forms::of(seen));
            }
        }
        new.retain(|form| !self.forms.contains(form));
        new.sort_unstable();
        new.dedup();
        let size: usize = new.iter().map(|form| form.bytes.len()).sum();
        if self.bytes + size > MAX_BYTES {
            return Err(MaskError::TooLarge);
        }
        self.bytes += size;
        Arc::make_mut(&mut self.secrets).insert(secret.to_owned());
        if new.is_empty() {
            return Ok(());
        }
        self.generation += 1;
        Arc::make_mut(&mut self.forms).extend(new.iter().cloned());
        Arc::make_mut(&mut self.recent).extend(new);
        self.recent_secrets += 1;
        self.tables.retain(|table| table.age == Age::Settled);
        if self.recent_secrets >= RECENT {
            self.settle();
        } else {
            let recent = Arc::clone(&self.recent);
            self.build(Age::Recent, &recent.iter().collect::<Vec<_>>());
        }
        Ok(())
    }

    /// The text without secrets.
    pub fn mask(&self, text: &str) -> Masked {
        Masked::by_masks(self.hide(text).into_owned())
    }

    /// Whether there is a secret in the text.
    pub fn finds_in(&self, text: &str) -> bool {
        matches!(self.hide(text), Cow::Owned(_))
    }

    fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masker = Masker::new();
        let mut masked = masker.push(self, text.as_bytes());
        masked.extend(masker.finish());
        if masked == text.as_bytes() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    fn settle(&mut self) {
        self.tables.clear();
        self.recent = Arc::default();
        self.recent_secrets = 0;
        let all = Arc::clone(&self.forms);
        self.build(Age::Settled, &all.iter().collect::<Vec<_>>());
    }

    fn build(&mut self, age: Age, forms: &[&forms::Form]) {
        for reading in [Reading::Plain, Reading::Unwrapped] {
            let patterns: Vec<&[u8]> = forms
                .iter()
                .filter(|form| form.reading == reading)
                .map(|form| &*form.bytes)
                .collect();
            if !patterns.is_empty() {
                self.tables.push(Table::new(age, reading, &patterns));
            }
        }
    }
}

/// How a text is read when it is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Reading {
    /// As it is.
    Plain,
    /// As if encoded text that is wrapped at the ends of lines were not.
    Unwrapped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Settled,
    Recent,
}

/// An automaton that is in one state for each beginning of a pattern: it tells the longest pattern that ends here, and
/// how much of the end of the text may still become one.
#[derive(Clone, Debug)]
struct Table {
    age: Age,
    reading: Reading,
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    automaton: Kind,
    start: StateID,
    /// How much of the end of a text may become a pattern yet, by the state that the text has led to.
    depths: HashMap<StateID, usize>,
}

#[derive(Debug)]
enum Kind {
    Fast(dfa::DFA),
    Small(contiguous::NFA),
}

impl Table {
    fn new(age: Age, reading: Reading, patterns: &[&[u8]]) -> Self {
        let engine = Arc::new(Engine::new(patterns));
        Self {
            age,
            reading,
            engine,
        }
    }
}

impl Engine {
    fn new(patterns: &[&[u8]]) -> Self {
        const FITS: &str = "patterns of MAX_BYTES in all are within the automaton's limits";
        let size: usize = patterns.iter().map(|pattern| pattern.len()).sum();
        let automaton = if size <= FAST_BYTES {
            let mut builder = dfa::DFA::builder();
            builder
                .match_kind(MatchKind::Standard)
                .start_kind(StartKind::Unanchored)
                .prefilter(false);
            Kind::Fast(builder.build(patterns).expect(FITS))
        } else {
            let mut builder = contiguous::NFA::builder();
            builder.match_kind(MatchKind::Standard).prefilter(false);
            Kind::Small(builder.build(patterns).expect(FITS))
        };
        let (start, depths) = match &automaton {
            Kind::Fast(automaton) => depths(automaton, patterns),
            Kind::Small(automaton) => depths(automaton, patterns),
        };
        Self {
            automaton,
            start,
            depths,
        }
    }

    fn depth(&self, state: StateID) -> usize {
        self.depths.get(&state).copied().unwrap_or(0)
    }
}

fn depths(automaton: &impl Automaton, patterns: &[&[u8]]) -> (StateID, HashMap<StateID, usize>) {
    let start = automaton
        .start_state(Anchored::No)
        .expect("it was built for unanchored searches");
    let after = |state, byte: &u8| automaton.next_state(Anchored::No, state, *byte);
    let mut depths = HashMap::new();
    for pattern in patterns {
        let mut state = start;
        for (index, byte) in pattern[..pattern.len() - 1].iter().enumerate() {
            state = after(state, byte);
            depths.insert(state, index + 1);
        }
    }
    // A whole pattern that is not the beginning of another one need not be waited for, but a part of its end may be such
    // a beginning. That part is shorter, so its depth is known when its turn has come before.
    let mut whole = patterns.to_vec();
    whole.sort_unstable_by_key(|pattern| pattern.len());
    for pattern in whole {
        let state = pattern.iter().fold(start, after);
        if !depths.contains_key(&state) {
            let rest = pattern[1..].iter().fold(start, after);
            let depth = depths.get(&rest).copied().unwrap_or(0);
            depths.insert(state, depth);
        }
    }
    (start, depths)
}

#[cfg(test)]
mod tests;
