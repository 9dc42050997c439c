//! Indentation where it means nothing: in brackets and in quotes.
//!
//! The parser holds every line of a list in brackets, and of a text in quotes, to the indentation of the mapping around it, as
//! YAML's specification has it. libyaml and all that are made after it do not, and people close a bracket in its key's column. So
//! a line that is refused for that is indented further and the text is read again: blanks at the beginning of a line within
//! brackets or quotes change nothing. Places are told as they are in the file.

use super::source::lines;
use saphyr_parser::ScanError;
use std::collections::HashMap;

/// How much is read again at the most, in bytes: each line that is mended costs the length of the file.
const MOST: usize = 16 << 20;
/// The parser's words for a line that stands too far to the left.
const IN_BRACKETS: [&str; 2] = [
    "invalid indentation",
    "invalid indentation in flow construct",
];
const IN_QUOTES: &str = "invalid indentation in quoted scalar";

/// A text with some lines indented further.
pub(super) struct Lenient {
    text: String,
    /// By how many blanks, by line from 1.
    added: HashMap<usize, usize>,
    /// How many lines of a quoted text were mended, by where it begins.
    mended: HashMap<usize, usize>,
    read: usize,
}

impl Lenient {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            added: HashMap::new(),
            mended: HashMap::new(),
            read: 0,
        }
    }

    /// The text as it is to be read now.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The column of the file at which something in the text stands; both from 0.
    pub(super) fn column(&self, line: usize, column: usize) -> usize {
        let added = self.added.get(&line).copied().unwrap_or(0);
        column.saturating_sub(added)
    }

    /// Mends what the parser has refused. Says no when there is nothing to be mended.
    pub(super) fn mend(&mut self, error: &ScanError) -> bool {
        self.read += self.text.len();
        if self.read > MOST {
            return false;
        }
        let marker = error.marker();
        let line = match error.info() {
            info if IN_BRACKETS.contains(&info) => marker.line(),
            // The place is that of the opening quote.
            IN_QUOTES => {
                let mended = self.mended.entry(marker.index()).or_insert(0);
                *mended += 1;
                marker.line() + *mended
            }
            _ => return false,
        };
        if self.added.contains_key(&line) {
            return false;
        }
        let starts: Vec<usize> = lines(&self.text).collect();
        let Some(&start) = line.checked_sub(1).and_then(|at| starts.get(at)) else {
            return false;
        };
        // What is around it is indented by no more than some line before.
        let before = &starts[..line - 1];
        let blanks = |&start: &usize| {
            let rest = self.text[start..].bytes();
            rest.take_while(|byte| matches!(byte, b' ' | b'-' | b'?'))
                .count()
        };
        let enough = before.iter().map(blanks).max().unwrap_or(0) + 2;
        self.added.insert(line, enough);
        self.text.insert_str(start, &" ".repeat(enough));
        true
    }
}
