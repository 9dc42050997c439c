//! Text of others, made fit to be shown.
//!
//! File names, host names, log lines, image labels and error messages come from guests, archives and other people's files.
//! A terminal obeys some characters instead of showing them, and others make text read otherwise than it is. Here
//! they become escapes that a reader can see: `\x1b`, `\u{202e}`. Everything that vmint says passes one of these functions:
//!
//! * [`printable`]: text that belongs on one line, a name for instance; line breaks and tabs are escaped, too.
//! * [`printable_lines`]: text of several lines; line breaks and tabs stay.
//! * [`printable_bytes`]: bytes that should be UTF-8; what is not becomes `\xff`.
//!
//! Escaping is for eyes: a backslash stays as it is, so the result cannot be read back. Text without such characters is
//! borrowed, and to escape twice is to escape once.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text for one line: every character that is not shown as itself is escaped.
///
/// ```
/// # use vmint_text::printable;
/// assert_eq!(printable("a\x1b[31mb\n"), r"a\x1b[31mb\n");
/// assert_eq!(printable("grün\u{202e}"), r"grün\u{202e}");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unprintable)
}

/// Text of several lines: line breaks and tabs stay, everything else is as with [`printable`]. A carriage return before a
/// line break belongs to it and goes; any other one would let a line be overwritten, and is escaped.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let commands = |c| !matches!(c, '\n' | '\t') && is_unprintable(c);
    if text.contains("\r\n") {
        return Cow::Owned(escape(&text.replace("\r\n", "\n"), commands).into_owned());
    }
    escape(text, commands)
}

/// Bytes for one line, as [`printable`]; a byte that belongs to no character becomes `\xff`.
pub fn printable_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return printable(text);
    }
    let mut shown = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    Cow::Owned(shown)
}

/// Whether a character commands a terminal, breaks a line, or turns or hides what stands around it.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || (is_ignorable(c) && !is_joined_or_varied(c))
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Characters that are not seen but that honest text needs: they join letters and emoji, or choose how one looks.
fn is_joined_or_varied(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether a character has no look of its own: Unicode's `Default_Ignorable_Code_Point`, and the anchors of annotations.
/// Two texts that differ by these alone look the same.
pub fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn escape(text: &str, commands: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&commands) else {
        return Cow::Borrowed(text);
    };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for c in text[first..].chars() {
        if !commands(c) {
            shown.push(c);
            continue;
        }
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Writing to a string cannot fail.
            c if c.is_ascii() => drop(write!(shown, "\\x{:02x}", u32::from(c))),
            c => drop(write!(shown, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_commands_a_terminal_is_seen_instead() {
        assert_eq!(printable("\x1b]0;title\x07"), r"\x1b]0;title\x07");
        assert_eq!(
            printable("a\tb\r\nc\u{9b}31m\x7f"),
            r"a\tb\r\nc\u{9b}31m\x7f"
        );
        assert_eq!(
            printable("exe\u{202e}txt.\u{2028}\u{feff}"),
            r"exe\u{202e}txt.\u{2028}\u{feff}"
        );
        assert_eq!(printable_bytes(b"\xffa\x1b\xe2\x80"), r"\xffa\x1b\xe2\x80");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\tb\r\nc\rd\n\x1b"), "a\tb\nc\\rd\n\\x1b");
    }

    #[test]
    fn honest_text_is_borrowed() {
        for text in ["", "grün", "日本語", "👩‍💻", "a\\x1b", "می‌خواهم", "❤\u{fe0f}"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(_)), "{text}");
        }
        assert!(matches!(printable_lines("a\n\tb"), Cow::Borrowed(_)));
        assert!(matches!(printable_bytes("ü".as_bytes()), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left_and_twice_is_once(text in "(\\PC|\\p{Cc}|\\p{Cf}|[\u{2028}\u{2029}]){0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let once = printable(&text).into_owned();
            prop_assert!(!once.contains(is_unprintable), "{once:?}");
            prop_assert_eq!(printable(&once), &*once);
            let lines = printable_lines(&text);
            prop_assert!(!lines.contains(|c| is_unprintable(c) && c != '\n' && c != '\t'));
            let bytes = printable_bytes(&bytes).into_owned();
            prop_assert!(!bytes.contains(is_unprintable), "{bytes:?}");
        }
    }
}
