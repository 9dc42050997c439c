//! How a person sees a line: which of its characters are shown, and which are obeyed by a terminal or have no look.
//!
//! [`sequence`] is the one rule for escape sequences. The reports and the command line drop or translate them by it, and
//! the mask looks through them by it, so that nothing is shown which the mask has not seen. A sequence ends with its line at
//! the latest, and is at most [`LONGEST`] bytes long; so a line can be read piece by piece in bounded memory.

use std::borrow::Cow;
use std::ops::Range;
use vmint_text::printable::is_ignorable;

/// The longest sequence, in bytes. What begins a longer one is dropped alone, and the rest is text.
pub const LONGEST: usize = 4096;

/// A sequence at the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence<'a> {
    /// In bytes.
    pub len: usize,
    /// The parameters of `ESC [ … m`, which colours text.
    pub colour: Option<&'a str>,
    /// Whether it ends as it should, whatever follows.
    pub end: End,
}

/// How a sequence ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// It was broken off: what follows decides where it ends.
    Broken,
}

/// The sequence that a line begins with, if it begins with one.
pub fn sequence(line: &str) -> Option<Sequence<'_>> {
    let mut chars = line.chars();
    let first = chars.next()?;
    let introduced = match first {
        '\x1b' => chars.next(),
        '\u{9b}' => Some('['),
        '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => Some(']'),
        _ => return None,
    };
    let rest = chars.as_str();
    let begun = line.len() - rest.len();
    let of = |len, colour, end| {
        let len = begun + len;
        Some(Sequence { len, colour, end })
    };
    match introduced {
        None => of(0, None, End::Broken),
        Some('[') => match control_sequence(rest) {
            Some((len, colour, end)) => of(len, colour, end),
            None => of(0, None, End::Broken),
        },
        Some(']' | 'P' | 'X' | '^' | '_') => match control_string(rest) {
            Some((len, end)) => of(len, None, end),
            None => of(0, None, End::Broken),
        },
        // Two characters, or three when the second is an intermediate: `ESC ( B`.
        Some(' '..='/') => match chars.next() {
            Some(last) => of(last.len_utf8(), None, End::Whole),
            None => of(0, None, End::Broken),
        },
        Some(_) => of(0, None, End::Whole),
    }
}

/// One that is not well-formed ends where it is not; one without an end is none.
fn control_sequence(text: &str) -> Option<(usize, Option<&str>, End)> {
    let end = text.find(|c| !(' '..='?').contains(&c))?;
    if end > LONGEST {
        return None;
    }
    let last = text[end..].chars().next()?;
    if !('@'..='~').contains(&last) {
        return Some((end, None, End::Broken));
    }
    let plain = text[..end]
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b';' || b == b':');
    let colour = (last == 'm' && plain).then_some(&text[..end]);
    Some((end + 1, colour, End::Whole))
}

/// A title, a link or another string for the terminal ends with its terminator, or with the line.
fn control_string(text: &str) -> Option<(usize, End)> {
    let within = |(at, _): &(usize, char)| *at <= LONGEST;
    let mut near = text.char_indices().take_while(within);
    let end = near.find(|(_, c)| matches!(c, '\x07' | '\u{9c}' | '\x1b'));
    match end {
        Some((at, '\x1b')) if text[at + 1..].starts_with('\\') => Some((at + 2, End::Whole)),
        Some((at, '\x1b')) => Some((at + 1, End::Broken)),
        Some((at, c)) => Some((at + c.len_utf8(), End::Whole)),
        None if text.len() <= LONGEST => Some((text.len(), End::Broken)),
        None => None,
    }
}

/// The last place up to `limit` bytes at which a line can be broken without cutting a character or a sequence.
pub fn cut(line: &str, limit: usize) -> usize {
    if line.len() <= limit {
        return line.len();
    }
    let mut at = 0;
    let last = loop {
        let plain = line[at..].find(introduces).unwrap_or(line.len() - at);
        if at + plain > limit {
            break line.floor_char_boundary(limit);
        }
        at += plain;
        let len = sequence(&line[at..]).map_or(0, |sequence| sequence.len);
        if len == 0 || at + len > limit {
            break at;
        }
        at += len;
    };
    if last == 0 {
        // A sequence is shorter than any limit that is asked for; whatever happens, something is taken.
        return line.floor_char_boundary(limit).max(1);
    }
    last
}

/// As [`cut`], of bytes, of which so many must have come that the last sequence is whole or too long.
pub fn part(line: &[u8], limit: usize) -> usize {
    let (text, places) = decode(line);
    let Some(places) = places else {
        return cut(&text, limit);
    };
    let limit = places.partition_point(|place| *place < limit);
    let limit = text.floor_char_boundary(limit);
    place_end(Some(&places), line.len(), cut(&text, limit)).max(1)
}

fn introduces(c: char) -> bool {
    matches!(
        c,
        '\x1b' | '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}'..='\u{9f}'
    )
}

/// Whether a character has no look of its own.
fn is_unseen(c: char) -> bool {
    // A replacement character stands for bytes that are no text; XML cannot hold what Unicode has no character for.
    let is_dropped =
        matches!(u32::from(c) & 0xffff, 0xfffe | 0xffff) || ('\u{fdd0}'..='\u{fdef}').contains(&c);
    (c.is_control() && c != '\t' && c != '\n') || c == '\u{fffd}' || is_dropped || is_ignorable(c)
}

/// Whether all characters of a line are seen as they stand there.
pub fn is_plain(line: &[u8]) -> bool {
    if line
        .iter()
        .all(|b| matches!(b, b'\t' | b'\n' | b' '..=b'~'))
    {
        return true;
    }
    std::str::from_utf8(line).is_ok_and(|line| !line.contains(is_unseen))
}

/// A line as one kind of reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is seen.
    pub bytes: Vec<u8>,
    /// Where each of these bytes stands in the line.
    pub at: Vec<usize>,
}

impl Seen {
    fn add(&mut self, text: &str, at: usize) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.at.extend(at..at + text.len());
    }
}

/// A line, looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// By a terminal, which obeys sequences, goes back and writes over what is there.
    pub obeyed: Seen,
    /// By what drops sequences, and drops or shows control characters without going back.
    pub stripped: Seen,
    /// By what drops or shows all control characters, one by one, those that begin a sequence, too.
    pub bare: Seen,
    /// Where the sequences are.
    pub sequences: Vec<(Range<usize>, End)>,
}

impl Look {
    /// All kinds of readers.
    pub fn views(&self) -> [&Seen; 3] {
        [&self.obeyed, &self.stripped, &self.bare]
    }
}

/// Looks at a line with or without its end.
pub fn look(line: &[u8]) -> Look {
    look_at_part(line, line.len())
}

/// Looks at the first `len` bytes of a line; what follows them decides where their last sequence ends.
pub fn look_at_part(line: &[u8], len: usize) -> Look {
    let mut look = Look::default();
    let (text, places) = decode(line);
    let place = |at: usize| places.as_ref().map_or(at, |places| places[at]);
    // What the terminal has in each column: the character and where it stands.
    let (mut cells, mut column): (Vec<(&str, usize)>, usize) = (Vec::new(), 0);
    let mut sequences_until = 0;
    let mut end = None;
    for (at, c) in text.char_indices() {
        if place(at) >= len {
            break;
        }
        let own = &text[at..at + c.len_utf8()];
        let seen = !is_unseen(c);
        if seen {
            look.bare.add(own, place(at));
        }
        if at < sequences_until {
            continue;
        }
        if let Some(sequence) = sequence(text[at..].trim_end_matches('\n')) {
            sequences_until = at + sequence.len;
            let until = place_end(places.as_deref(), line.len(), sequences_until);
            look.sequences.push((place(at)..until, sequence.end));
            continue;
        }
        match c {
            '\n' => {
                look.stripped.add(own, place(at));
                end = Some((own, place(at)));
            }
            '\r' => column = 0,
            '\u{8}' => column = column.saturating_sub(1),
            _ if !seen => {}
            _ => {
                look.stripped.add(own, place(at));
                match cells.get_mut(column) {
                    Some(cell) => *cell = (own, place(at)),
                    None => cells.push((own, place(at))),
                }
                column += 1;
            }
        }
    }
    for (text, at) in cells.into_iter().chain(end) {
        look.obeyed.add(text, at);
    }
    look
}

fn place_end(places: Option<&[usize]>, len: usize, at: usize) -> usize {
    places.map_or(at, |places| places.get(at).copied().unwrap_or(len))
}

/// As [`String::from_utf8_lossy`], with where each byte of the text comes from, unless that is where it stands.
fn decode(line: &[u8]) -> (Cow<'_, str>, Option<Vec<usize>>) {
    if let Ok(text) = std::str::from_utf8(line) {
        return (Cow::Borrowed(text), None);
    }
    let (mut text, mut places, mut at) = (String::new(), Vec::new(), 0);
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        places.extend(at..at + chunk.valid().len());
        at += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
            places.extend([at; 3]);
            at += chunk.invalid().len();
        }
    }
    (Cow::Owned(text), Some(places))
}

/// Texts that a person would take for this one: without what is not seen. Empty if all of it is seen.
pub fn seen(text: &str) -> Vec<String> {
    if is_plain(text.as_bytes()) {
        return Vec::new();
    }
    let mut texts = [const { Vec::new() }; 3];
    for line in text.split_inclusive('\n') {
        let look = look(line.as_bytes());
        for (text, seen) in texts.iter_mut().zip(look.views()) {
            text.extend_from_slice(&seen.bytes);
        }
    }
    texts
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .to_vec()
}

/// What stands for a character that a page or a terminal would obey rather than show. Controls get a picture of
/// themselves; those that turn the direction of text make code read otherwise than it is.
pub fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{fff9}'..='\u{fffb}' => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both(line: &[u8]) -> (String, String) {
        let look = look(line);
        let text = |seen: Seen| String::from_utf8(seen.bytes).unwrap();
        (text(look.obeyed), text(look.bare))
    }

    #[test]
    fn a_terminal_obeys_what_others_show() {
        let seen = |obeyed: &str, bare: &str| (obeyed.to_owned(), bare.to_owned());
        assert_eq!(both(b"a\x1b[31mb\x1b]0;t\x07c"), seen("abc", "a[31mb]0;tc"));
        assert_eq!(
            both(b"s\x08sX\x08ecr\x7fet\n"),
            seen("secret\n", "ssXecret\n")
        );
        assert_eq!(both(b"xyz\rab"), seen("abz", "xyzab"));
        assert_eq!(both("a\u{200b}b\u{9b}1mc".as_bytes()), seen("abc", "ab1mc"));
        assert_eq!(both(b"a\xffb\xe2\x80c"), seen("abc", "abc"));
        assert_eq!(both(b"a\x1b]0;\xffx\n"), seen("a\n", "a]0;x\n"));
        assert_eq!(both(b"a\x1b[3"), seen("a3", "a[3"));
    }

    #[test]
    fn each_byte_that_is_seen_is_where_it_is_said_to_be() {
        let line = b"\xffa\x1b[31m\xc3\xa9b\xe2\x80\x1b]x\x07c\xffd\n";
        let look = look(line);
        for seen in look.views() {
            for (byte, at) in seen.bytes.iter().zip(&seen.at) {
                assert_eq!(*byte, line[*at]);
            }
        }
        assert_eq!(look.sequences, [(2..7, End::Whole), (12..16, End::Whole)]);
    }

    #[test]
    fn a_sequence_without_end_is_bounded() {
        let long = format!("\x1b]{}\x07x", "y".repeat(2 * LONGEST));
        assert_eq!(
            sequence(&long).map(|s| (s.len, s.end)),
            Some((2, End::Broken))
        );
        let long = format!("\x1b[{}m", "1".repeat(2 * LONGEST));
        assert_eq!(
            sequence(&long).map(|s| (s.len, s.end)),
            Some((2, End::Broken))
        );
    }

    proptest! {
        #[test]
        fn lines_are_cut_between_characters_and_sequences(line in "([a-zé\u{9b}]|\x1b\\[[0-9]{0,5}m|\x1b\\]x{0,9}\x07|\x1b){0,40}", limit in 16usize..40) {
            let at = cut(&line, limit);
            prop_assert!(line.is_char_boundary(at) && at <= limit.max(line.len()) && (at > 0 || line.is_empty()));
            let inside = look(line.as_bytes()).sequences.into_iter().find(|(range, _)| range.start < at && at < range.end);
            prop_assert!(inside.is_none_or(|(range, _)| range.len() > limit), "cut at {at} of {line:?}");
        }
    }
}
