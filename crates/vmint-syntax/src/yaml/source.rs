//! Finds the place of a piece of a scalar in the file: an expression is found by its offset in the text, but shown where
//! it stands, behind quotes, escapes, folds and indentation.

use super::build::decode;
use crate::diagnostic::Spot;

/// Where the lines of a text begin. YAML ends them with `\n`, `\r\n` and `\r`.
pub(super) fn lines(text: &str) -> impl Iterator<Item = usize> {
    let bytes = text.as_bytes();
    let breaks = memchr::memchr2_iter(b'\n', b'\r', bytes);
    let ends = breaks.filter(|at| bytes[*at] == b'\n' || bytes.get(at + 1) != Some(&b'\n'));
    std::iter::once(0).chain(ends.map(|at| at + 1))
}

/// The text of a file, and where its lines begin.
#[derive(Debug)]
pub struct Source<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Of a file; what is not text has one empty line.
    pub fn new(bytes: &'a [u8]) -> Self {
        let text = decode(bytes).unwrap_or("");
        let lines = lines(text).collect();
        Self { text, lines }
    }

    /// The place of byte `offset` of a scalar's value that begins at `spot`. Where value and file cannot be matched, the
    /// scalar's own place.
    pub fn locate(&self, spot: Spot, value: &str, offset: usize) -> Spot {
        let Some(start) = self.offset_of(spot) else {
            return spot;
        };
        let Some(before) = value.get(..offset.min(value.len())) else {
            return spot;
        };
        // The marks of expressions survive all styles as they are, so that only what is behind the last one must be matched
        // character by character.
        const MARK: &str = "${{";
        let marks = before.matches(MARK).count();
        let (from, rest) = match before.rfind(MARK) {
            None => (start, before),
            Some(at) => {
                let mut found = self.text[start..].match_indices(MARK);
                match found.nth(marks - 1) {
                    Some((found, _)) => (start + found + MARK.len(), &before[at + MARK.len()..]),
                    None => return spot,
                }
            }
        };
        let next = value[before.len()..].chars().next();
        match self.follow(from, rest, next) {
            Some(at) => self.spot_of(at),
            None => spot,
        }
    }

    /// The offset in the file behind `value`, which begins at `from`.
    fn follow(&self, from: usize, value: &str, next: Option<char>) -> Option<usize> {
        let mut at = from;
        for c in value.chars().chain(next) {
            at = self.skip_to(at, c)?;
            at += self.text[at..].chars().next()?.len_utf8();
        }
        // One step back: to the beginning of the last character.
        match next {
            Some(_) => self.text[..at].char_indices().next_back().map(|(at, _)| at),
            None => Some(at),
        }
    }

    /// The offset of the next `wanted`, over what YAML does not count as content: quotes, escapes, line breaks and
    /// indentation. A break that was folded stands for a space, and an escaped one for itself.
    fn skip_to(&self, from: usize, wanted: char) -> Option<usize> {
        let rest = self.text.get(from..)?;
        for (at, c) in rest.char_indices() {
            match c {
                _ if c == wanted => return Some(from + at),
                '\n' | '\r' if matches!(wanted, ' ' | '\n') => return Some(from + at),
                '\n' | '\r' | ' ' | '\t' | '\'' | '"' | '\\' => {}
                // An escape such as `\n` or `\x41`.
                _ if at > 0 && rest.as_bytes()[at - 1] == b'\\' => return Some(from + at),
                _ => return None,
            }
        }
        None
    }

    fn offset_of(&self, spot: Spot) -> Option<usize> {
        let line = *self.lines.get(spot.line as usize - 1)?;
        let mut column = self.text[line..].char_indices();
        column
            .nth(spot.column as usize - 1)
            .map(|(at, _)| line + at)
    }

    fn spot_of(&self, offset: usize) -> Spot {
        let line = self.lines.partition_point(|start| *start <= offset) - 1;
        let column = self.text[self.lines[line]..offset].chars().count();
        Spot {
            line: line as u32 + 1,
            column: column as u32 + 1,
        }
    }
}
