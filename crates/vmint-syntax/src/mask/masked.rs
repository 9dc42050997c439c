//! Text that may be shown and written down.
//!
//! A run has texts of two kinds, and they are two types:
//!
//! * A [`String`] is raw: what users, files, steps and guests have put into it, secrets included. Processes get it, files of a machine,
//!   and other jobs.
//! * A [`Masked`] text holds no secret that was known when it was made. Logs, records, notes, annotations, traces and reports take nothing
//!   else, so a text that nobody has masked does not compile where it would be seen.
//!
//! A masked text comes from one of these, and from nothing else:
//!
//! 1. [`Masks::mask`](super::Masks::mask), and a [`Masker`] for what comes in pieces;
//! 2. a literal of the program;
//! 3. masked text: a piece of one, or [several behind each other](Masked::join), with literals and numbers between them;
//! 4. a record or a log that is read back, which was masked before it was written.
//!
//! Two texts without a secret may have one together, where the end of the first and the beginning of the second make it. So what
//! quotes several texts of a user is put together first and masked then; [`Masked::join`] is for where no masks are at hand.

use super::{Masker, Masks};
use serde::{Deserialize, Serialize};
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::{Deref, Range};

/// A text without secrets. It reads as any other one; how it is made, the module says.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masked(Cow<'static, str>);

impl Masked {
    /// What masks have made of a text.
    pub(super) fn by_masks(text: String) -> Self {
        Self(Cow::Owned(text))
    }

    /// What stands in a log, which was masked before it was written.
    pub(crate) fn read_back(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }

    /// Masked texts behind each other, with literals and numbers between them.
    pub fn join<'a>(parts: impl IntoIterator<Item = Part<'a>>) -> Self {
        let mut text = String::new();
        for part in parts {
            text.push_str(&part.0);
        }
        Self(Cow::Owned(text))
    }

    /// The piece of it at these bytes.
    ///
    /// # Panics
    /// Where a string would.
    #[must_use]
    pub fn piece(&self, at: Range<usize>) -> Self {
        Self(Cow::Owned(self.0[at].to_owned()))
    }

    /// The pieces between these characters.
    pub fn split(&self, at: char) -> impl Iterator<Item = Self> {
        self.0.split(at).map(Self::read_back)
    }

    /// Leaves out all from this byte on.
    ///
    /// # Panics
    /// Where a string would.
    pub fn truncate(&mut self, at: usize) {
        if at < self.0.len() {
            self.0.to_mut().truncate(at);
        }
    }

    /// It, as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Masked {
    /// A literal of the program.
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<&Masked> for Masked {
    fn from(text: &Masked) -> Self {
        text.clone()
    }
}

impl Deref for Masked {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Masked {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Masked {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl PartialEq<str> for Masked {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Masked {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<String> for Masked {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<Masked> for str {
    fn eq(&self, other: &Masked) -> bool {
        *other == *self
    }
}

impl PartialEq<Masked> for &str {
    fn eq(&self, other: &Masked) -> bool {
        *other == **self
    }
}

impl PartialEq<Masked> for String {
    fn eq(&self, other: &Masked) -> bool {
        *other == **self
    }
}

/// A part of a text that is [put together](Masked::join): masked text, a literal or a number.
#[derive(Clone, Debug)]
pub struct Part<'a>(Cow<'a, str>);

impl<'a> From<&'a Masked> for Part<'a> {
    fn from(text: &'a Masked) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<&'static str> for Part<'_> {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<u32> for Part<'_> {
    fn from(number: u32) -> Self {
        Self(Cow::Owned(number.to_string()))
    }
}

/// Bytes without secrets, as a [`Masker`] gives them: text that comes in pieces.
#[derive(Debug, Default)]
pub struct MaskedBytes(Vec<u8>);

impl MaskedBytes {
    /// Adds what of these bytes and of those before them can be shown by now.
    pub fn push(&mut self, masker: &mut Masker, masks: &Masks, bytes: &[u8]) {
        masker.push_to(masks, bytes, &mut self.0);
    }

    /// Adds what was held back, at the end of the text.
    pub fn finish(&mut self, masker: &mut Masker) {
        masker.finish_to(&mut self.0);
    }

    /// The text at these bytes.
    ///
    /// # Panics
    /// Where a slice would.
    pub fn text(&self, at: Range<usize>) -> Masked {
        Masked::by_masks(String::from_utf8_lossy(&self.0[at]).into_owned())
    }

    /// How much memory it takes, in bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Forgets this many bytes of the beginning.
    pub fn forget(&mut self, count: usize) {
        self.0.drain(..count);
    }
}

impl Deref for MaskedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(secrets: &[&str]) -> Masks {
        let mut masks = Masks::new();
        for secret in secrets {
            masks.add(secret).unwrap();
        }
        masks
    }

    #[test]
    fn a_masked_text_reads_as_any_other_and_has_no_secret() {
        let text = masks(&["hunter2"]).mask("a hunter2 b");
        assert_eq!(text, "a *** b");
        assert_eq!(format!("{text:>9}|{text:?}"), "  a *** b|\"a *** b\"");
        assert_eq!(text.len(), 7);
        assert_eq!(Masked::from("literal"), "literal");
    }

    #[test]
    fn masked_text_is_put_together_and_cut_without_masks() {
        let text = masks(&["hunter2"]).mask("hunter2\nb");
        let lines: Vec<Masked> = text.split('\n').collect();
        assert_eq!(lines, ["***", "b"]);
        let joined = Masked::join([(&lines[0]).into(), " #".into(), 2.into()]);
        assert_eq!(joined, "*** #2");
        assert_eq!(joined.piece(4..6), "#2");
        let mut short = joined.clone();
        short.truncate(3);
        short.truncate(9);
        assert_eq!(short, "***");
    }

    #[test]
    fn a_masked_text_is_written_as_text_and_read_back_as_it_was() {
        let text = masks(&["hunter2"]).mask("is hunter2");
        let json = serde_json::to_string(&text).unwrap();
        assert_eq!(json, "\"is ***\"");
        assert_eq!(serde_json::from_str::<Masked>(&json).unwrap(), text);
    }

    #[test]
    fn bytes_that_come_in_pieces_are_masked_across_them() {
        let masks = masks(&["hunter2"]);
        let (mut masker, mut bytes) = (Masker::new(), MaskedBytes::default());
        bytes.push(&mut masker, &masks, b"a hun");
        bytes.push(&mut masker, &masks, b"ter2 b\xff");
        bytes.finish(&mut masker);
        assert_eq!(bytes.text(0..bytes.len()), "a *** b\u{fffd}");
        bytes.forget(6);
        assert_eq!(*bytes, *b"b\xff");
    }
}
