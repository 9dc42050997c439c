//! Escape sequences of terminals in a guest's output: colours are kept, all else is dropped or made visible.
//!
//! A guest must be able to colour its text, and must not be able to move the cursor, set a title, or answer for the
//! terminal. So [`pieces`] knows one sequence, SGR (`ESC [ … m`), and swallows the others whole; where one ends is [`sight`]'s
//! rule, which the mask follows, too.

use crate::sight::{self, visible};
use std::fmt::Write as _;

/// How text looks. Colours are the 16 that themes define; others become the nearest of these, which stays readable on
/// light and on dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colour of the text, 0 to 15.
    pub foreground: Option<u8>,
    /// Colour behind it, 0 to 15.
    pub background: Option<u8>,
    /// A set of the attributes in this module.
    attributes: u8,
}

/// Attributes of a [`Style`]: the bit, the SGR code, the class in the page.
const ATTRIBUTES: [(u8, u16, &str); 6] = [
    (1, 1, "bold"),
    (2, 2, "dim"),
    (4, 3, "italic"),
    (8, 4, "underline"),
    (16, 7, "inverse"),
    (32, 9, "strike"),
];

impl Style {
    /// Nothing special.
    pub const PLAIN: Self = Self {
        foreground: None,
        background: None,
        attributes: 0,
    };

    /// The classes in the page, separated by spaces; empty when plain.
    pub fn classes(self) -> String {
        let mut classes = String::new();
        if let Some(colour) = self.foreground {
            let _ = write!(classes, "f{colour} ");
        }
        if let Some(colour) = self.background {
            let _ = write!(classes, "b{colour} ");
        }
        for (bit, _, class) in ATTRIBUTES {
            if self.attributes & bit != 0 {
                let _ = write!(classes, "{class} ");
            }
        }
        classes.truncate(classes.trim_end().len());
        classes
    }

    /// The sequence that makes a plain terminal show text so; empty when plain.
    pub fn sequence(self) -> String {
        let mut codes = Vec::new();
        for (bit, code, _) in ATTRIBUTES {
            if self.attributes & bit != 0 {
                codes.push(code);
            }
        }
        let coloured = |colour: u8, dark: u16, bright: u16| match colour {
            0..8 => dark + u16::from(colour),
            _ => bright + u16::from(colour) - 8,
        };
        codes.extend(self.foreground.map(|colour| coloured(colour, 30, 90)));
        codes.extend(self.background.map(|colour| coloured(colour, 40, 100)));
        if codes.is_empty() {
            return String::new();
        }
        let codes: Vec<_> = codes.iter().map(u16::to_string).collect();
        format!("\x1b[{}m", codes.join(";"))
    }

    fn set(&mut self, code: u16) {
        if let Some((bit, ..)) = ATTRIBUTES.iter().find(|(_, on, _)| *on == code) {
            self.attributes |= bit;
        }
    }

    fn clear(&mut self, bits: u8) {
        self.attributes &= !bits;
    }

    /// Obeys the parameters of an SGR sequence.
    fn obey(&mut self, parameters: &str) {
        // A colon separates what belongs together, a semicolon what often does: `38:5:1`, `38;5;1`.
        let mut codes = parameters
            .split([';', ':'])
            .map(|code| match code {
                "" => Some(0),
                code => code.parse::<u16>().ok(),
            })
            .take(64);
        while let Some(code) = codes.next() {
            match code {
                Some(0) => *self = Self::PLAIN,
                Some(22) => self.clear(1 | 2),
                Some(23) => self.clear(4),
                Some(24) => self.clear(8),
                Some(27) => self.clear(16),
                Some(29) => self.clear(32),
                Some(code @ 30..=37) => self.foreground = Some((code - 30) as u8),
                Some(code @ 90..=97) => self.foreground = Some((code - 82) as u8),
                Some(39) => self.foreground = None,
                Some(code @ 40..=47) => self.background = Some((code - 40) as u8),
                Some(code @ 100..=107) => self.background = Some((code - 92) as u8),
                Some(49) => self.background = None,
                Some(which @ (38 | 48)) => {
                    let colour = extended(&mut codes);
                    if which == 38 {
                        self.foreground = colour.or(self.foreground);
                    } else {
                        self.background = colour.or(self.background);
                    }
                }
                Some(code) => self.set(code),
                None => {}
            }
        }
    }
}

/// The colour after `38` or `48`.
fn extended(codes: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    let mut byte = || codes.next().flatten().and_then(|c| u8::try_from(c).ok());
    match byte()? {
        5 => Some(match byte()? {
            colour @ 0..16 => colour,
            cube @ 16..232 => {
                let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
                let cube = cube - 16;
                nearest([level(cube / 36), level(cube / 6 % 6), level(cube % 6)])
            }
            grey => nearest([8 + 10 * (grey - 232); 3]),
        }),
        2 => Some(nearest([byte()?, byte()?, byte()?])),
        _ => None,
    }
}

/// The nearest of the 16 colours, by hue first: a pastel is a colour, not a grey.
fn nearest([red, green, blue]: [u8; 3]) -> u8 {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most - least < 40 {
        return match most {
            0..48 => 0,
            48..136 => 8,
            136..208 => 7,
            _ => 15,
        };
    }
    let middle = least + (most - least) / 2;
    let hue = u8::from(red > middle) | u8::from(green > middle) << 1 | u8::from(blue > middle) << 2;
    if most > 208 { hue + 8 } else { hue }
}

/// Cuts a line into pieces of one look, and calls `each` with their text and style. No piece holds a character that
/// would command a terminal. `style` is that of the line's beginning, and afterwards of its end.
pub fn pieces(line: &str, style: &mut Style, mut each: impl FnMut(&str, Style)) {
    let mut piece = String::new();
    let mut rest = line.strip_suffix('\r').unwrap_or(line);
    while let Some(c) = rest.chars().next() {
        let Some(sequence) = sight::sequence(rest) else {
            piece.push(visible(c));
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[sequence.len..];
        if let Some(parameters) = sequence.colour {
            let before = *style;
            style.obey(parameters);
            if *style != before && !piece.is_empty() {
                each(&piece, before);
                piece.clear();
            }
        }
    }
    if !piece.is_empty() {
        each(&piece, *style);
    }
}

/// A line without colours and without anything that would command a terminal.
pub fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    pieces(line, &mut Style::default(), |piece, _| text.push_str(piece));
    text
}

/// A line with its colours and without anything else that would command a terminal. Ends in the terminal's own look.
pub fn coloured(line: &str, style: &mut Style) -> String {
    let mut text = String::with_capacity(line.len());
    pieces(line, style, |piece, style| {
        let sequence = style.sequence();
        text.push_str(&sequence);
        text.push_str(piece);
        if !sequence.is_empty() {
            text.push_str("\x1b[0m");
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(line: &str) -> String {
        let mut out = String::new();
        pieces(line, &mut Style::default(), |text, style| {
            let _ = write!(out, "{}({text})", style.classes());
        });
        out
    }

    #[test]
    fn colours_and_attributes_are_told() {
        assert_eq!(shown("a\x1b[1;31mb\x1b[0mc"), "(a)f1 bold(b)(c)");
        assert_eq!(shown("\x1b[92;44mok\x1b[39mno"), "f10 b4(ok)b4(no)");
        assert_eq!(
            shown("\x1b[4;9mx\x1b[24my\x1b[mz"),
            "underline strike(x)strike(y)(z)"
        );
    }

    #[test]
    fn colours_beyond_16_become_the_nearest() {
        assert_eq!(shown("\x1b[38;5;196mx"), "f9(x)");
        assert_eq!(shown("\x1b[38:2:0:100:0mx"), "f2(x)");
        assert_eq!(shown("\x1b[48;2;250;250;250mx"), "b15(x)");
        assert_eq!(shown("\x1b[38;5;240mx\x1b[38;5mz"), "f8(xz)");
    }

    #[test]
    fn what_is_no_colour_is_swallowed_whole() {
        assert_eq!(shown("a\x1b[2J\x1b[10;10Hb"), "(ab)");
        assert_eq!(shown("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c"), "(abc)");
        assert_eq!(shown("a\x1bP1$q\x1b\\b\x1b(Bc\x1bcd"), "(abcd)");
        assert_eq!(shown("a\u{9b}31mb\u{9d}0;x\u{9c}c"), "(a)f1(bc)");
        assert_eq!(shown("\x1b[?25lx\x1b[>4;1my"), "(xy)");
    }

    #[test]
    fn what_is_cut_off_harms_nothing() {
        assert_eq!(shown("a\x1b"), "(a)");
        assert_eq!(shown("a\x1b[31"), "(a31)");
        assert_eq!(shown("a\x1b]0;endless"), "(a)");
        assert_eq!(shown("50%\r100%\r"), "(50%␍100%)");
        assert_eq!(shown("\x1b[9999999999;1mx"), "bold(x)");
    }

    #[test]
    fn a_colour_lasts_beyond_its_line_and_each_line_ends_plain() {
        let mut style = Style::default();
        assert_eq!(coloured("\x1b[31mred", &mut style), "\x1b[31mred\x1b[0m");
        assert_eq!(coloured("still", &mut style), "\x1b[31mstill\x1b[0m");
        assert_eq!(coloured("\x1b[0mplain", &mut style), "plain");
    }

    proptest! {
        #[test]
        fn nothing_but_colours_reaches_a_terminal(line in "(\\PC|[\\x00-\\x1f\\x7f-\\u{9f}]|\x1b\\[[0-9;:?]{0,6}[@-~]){0,60}") {
            let text = plain(&line);
            prop_assert!(text.chars().all(|c| c == '\t' || c == '\n' || !c.is_control()), "{text:?}");
            let mut rest = &*coloured(&line, &mut Style::default());
            while let Some(at) = rest.find('\x1b') {
                rest = &rest[at + 1..];
                let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == '['));
                prop_assert_eq!(end.map(|end| &rest[end..=end]), Some("m"));
            }
        }
    }
}
