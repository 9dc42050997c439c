//! Text of a guest, printable.

/// Most characters of a name that are shown.
const MOST: usize = 200;

/// A guest's name as a message may show it: control characters and everything else that does not print are escaped, and
/// what is very long is shortened.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MOST {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(shown("größe 'x' \"y\"".as_bytes()), "größe 'x' \"y\"");
        assert_eq!(
            shown(b"\x1b]0;t\x07\r\n\x9b\xc2\x9b"),
            r"\u{1b}]0;t\u{7}\r\n�\u{9b}"
        );
        assert_eq!(shown("a\u{202e}b".as_bytes()), r"a\u{202e}b");
        assert_eq!(shown(&[b'x'; 5000]).chars().count(), MOST + 1);
    }
}
