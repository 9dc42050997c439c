//! Text of a guest, short and printable.

use vmint_model::printable_bytes;

/// Most characters of a name that are shown.
const MOST: usize = 200;

/// A guest's name as a message may show it: [`printable_bytes`], and what is very long is shortened.
pub fn shown(name: &[u8]) -> String {
    let text = printable_bytes(name);
    let mut rest = text.chars();
    let mut shown: String = rest.by_ref().take(MOST).collect();
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_shortened_and_nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(shown("größe 'x' \"y\"".as_bytes()), "größe 'x' \"y\"");
        assert_eq!(shown(b"\x1b]0;t\r\n\x9b"), r"\x1b]0;t\r\n\x9b");
        assert_eq!(shown(&[b'x'; 5000]).chars().count(), MOST + 1);
        assert_eq!(shown(&[b'x'; MOST]).chars().count(), MOST);
    }
}
