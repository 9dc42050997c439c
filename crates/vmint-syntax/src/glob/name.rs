//! Patterns of one name: `*`, `?`, classes, and characters.

/// A pattern of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    One,
    Many,
    Class {
        others: Others,
        ranges: Vec<(char, char)>,
    },
}

/// Whether a class stands for the characters that it lists, or for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Listed,
    Unlisted,
}

impl Name {
    /// That of one name, in which no character is special.
    pub(super) fn exactly(name: &str) -> Self {
        Self(name.chars().map(Part::Char).collect())
    }

    /// Reads the pattern of one name. A `[` without `]` is an ordinary character.
    pub fn parse(pattern: &str) -> Self {
        let chars: Vec<char> = pattern.chars().collect();
        let mut parts = Vec::with_capacity(chars.len());
        let mut at = 0;
        // Where the last `]` is: without one, a `[` need not look for it again and again.
        let last = chars.iter().rposition(|c| *c == ']').unwrap_or(0);
        while let Some(&c) = chars.get(at) {
            at += 1;
            match c {
                '*' if parts.last() == Some(&Part::Many) => {}
                '*' => parts.push(Part::Many),
                '?' => parts.push(Part::One),
                '\\' if at < chars.len() => {
                    parts.push(Part::Char(chars[at]));
                    at += 1;
                }
                '[' if at < last => match class(&chars[at..]) {
                    Some((class, length)) => {
                        parts.push(class);
                        at += length;
                    }
                    None => parts.push(Part::Char('[')),
                },
                c => parts.push(Part::Char(c)),
            }
        }
        Self(parts)
    }

    /// The only name that matches, if there is only one.
    pub(super) fn literal(&self) -> Option<String> {
        let literal = |part: &Part| match part {
            Part::Char(c) => Some(*c),
            Part::Class {
                others: Others::Listed,
                ranges,
            } => match ranges[..] {
                [(from, to)] if from == to => Some(from),
                _ => None,
            },
            Part::One | Part::Many | Part::Class { .. } => None,
        };
        self.0.iter().map(literal).collect()
    }

    /// Whether all of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        // Where to go on when what follows the last `*` did not match: one character later. An earlier `*` need not be
        // tried again.
        let chars: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        let mut again: Option<(usize, usize)> = None;
        while at < chars.len() {
            match self.0.get(part) {
                Some(Part::Many) => {
                    again = Some((part + 1, at));
                    part += 1;
                }
                Some(own) if own.has(chars[at]) => {
                    part += 1;
                    at += 1;
                }
                _ => match &mut again {
                    Some((behind, from)) => {
                        *from += 1;
                        (part, at) = (*behind, *from);
                    }
                    None => return false,
                },
            }
        }
        self.0[part..].iter().all(|part| *part == Part::Many)
    }
}

impl Part {
    fn has(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => true,
            Self::Many => false,
            Self::Class { others, ranges } => {
                let listed = ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
                listed == (*others == Others::Listed)
            }
        }
    }
}

/// A class behind its `[`, and how many characters it takes with its `]`.
fn class(rest: &[char]) -> Option<(Part, usize)> {
    let mut at = 0;
    let others = match rest.first()? {
        '!' | '^' => {
            at += 1;
            Others::Unlisted
        }
        _ => Others::Listed,
    };
    let mut ranges = Vec::new();
    loop {
        let mut c = *rest.get(at)?;
        // A `]` at the beginning is one of the characters.
        if c == ']' && !ranges.is_empty() {
            return Some((Part::Class { others, ranges }, at + 1));
        }
        if c == '\\' {
            at += 1;
            c = *rest.get(at)?;
        }
        match (rest.get(at + 1), rest.get(at + 2)) {
            (Some('-'), Some(&to)) if to != ']' => {
                ranges.push((c, to));
                at += 3;
            }
            _ => {
                ranges.push((c, c));
                at += 1;
            }
        }
    }
}
