//! Versions, and ranges of them as npm writes them, which the setup actions use.

use std::fmt;

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second; 0 when there is none.
    pub minor: u64,
    /// The third; 0 when there is none.
    pub patch: u64,
    /// What makes it a preview: `rc1`, `nightly`.
    pub preview: Option<String>,
}

impl Version {
    /// From `3.11.4`, `1.22`, `3.13.0rc1`, `1.80.0-nightly`, `17.0.9+9`, `1.8.0_392`. One number alone is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbers, rest) = numbers(text)?;
        if numbers.len() < 2 {
            return None;
        }
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
        // Behind + and _ stands a build.
        let preview = rest.strip_prefix('-').unwrap_or(rest).trim_end();
        let preview = preview.split(['+', '_']).next().unwrap_or_default();
        let preview =
            Some(preview).filter(|text| text.starts_with(|char: char| char.is_ascii_alphabetic()));
        Some(Self {
            major: number(0),
            minor: number(1),
            patch: number(2),
            preview: preview.map(str::to_owned),
        })
    }

    fn numbers(&self) -> [u64; 3] {
        [self.major, self.minor, self.patch]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        match &self.preview {
            Some(preview) => write!(f, "-{preview}"),
            None => Ok(()),
        }
    }
}

/// The numbers at the beginning, up to four of them, and what follows.
fn numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let (mut numbers, mut rest) = (Vec::new(), text);
    loop {
        let end = rest
            .find(|char: char| !char.is_ascii_digit())
            .unwrap_or(rest.len());
        numbers.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
        match rest.strip_prefix('.') {
            Some(more)
                if more.starts_with(|char: char| char.is_ascii_digit()) && numbers.len() < 4 =>
            {
                rest = more;
            }
            _ => return Some((numbers, rest)),
        }
    }
}

/// What versions will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any that is no preview.
    Any,
    /// Node's long-term versions are those of even numbers.
    EvenMajor,
    /// Previews of this name: `nightly`.
    Channel(String),
    /// One of these ranges.
    OneOf(Vec<Range>),
    /// Nothing that is known here: `pypy3.10`, `head`.
    Unknown,
}

/// From a version on, to before another, but for previews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: [u64; 3],
    before: [u64; 3],
}

const END: [u64; 3] = [u64::MAX; 3];

impl Wanted {
    /// Whether this version will do.
    pub fn takes(&self, version: &Version) -> bool {
        let stable = version.preview.is_none();
        match self {
            Self::Any => stable,
            Self::EvenMajor => stable && version.major.is_multiple_of(2),
            Self::Channel(name) => version
                .preview
                .as_ref()
                .is_some_and(|preview| preview.starts_with(name.as_str())),
            Self::OneOf(ranges) => {
                let within =
                    |range: &Range| (range.from..range.before).contains(&version.numbers());
                stable && ranges.iter().any(within)
            }
            Self::Unknown => false,
        }
    }
}

/// Node's long-term versions by name.
pub fn node_codename(name: &str) -> Wanted {
    const NAMES: [(&str, u64); 10] = [
        ("lts/boron", 6),
        ("lts/carbon", 8),
        ("lts/dubnium", 10),
        ("lts/erbium", 12),
        ("lts/fermium", 14),
        ("lts/gallium", 16),
        ("lts/hydrogen", 18),
        ("lts/iron", 20),
        ("lts/jod", 22),
        ("lts/krypton", 24),
    ];
    let major = NAMES.iter().find(|(known, _)| *known == name);
    match major {
        Some((_, major)) => Wanted::OneOf(vec![Range {
            from: [*major, 0, 0],
            before: [major + 1, 0, 0],
        }]),
        None => Wanted::Unknown,
    }
}

/// Reads a range: `3.11`, `3.x`, `>=3.9 <3.13`, `^20.1`, `~1.22`, `18 || 20`, `1.2 - 1.4`.
pub fn range(text: &str) -> Wanted {
    let ranges: Option<Vec<Range>> = text.split("||").map(|part| all_of(part.trim())).collect();
    ranges.map_or(Wanted::Unknown, Wanted::OneOf)
}

fn all_of(text: &str) -> Option<Range> {
    if let Some((from, to)) = text.split_once(" - ") {
        return Some(Range {
            from: partial(from)?.from,
            before: partial(to)?.before,
        });
    }
    let mut range = Range {
        from: [0; 3],
        before: END,
    };
    // Python's commas, and spaces behind operators.
    let text = text.replace(',', " ");
    let mut words = text.split_whitespace();
    let mut any = false;
    while let Some(word) = words.next() {
        let version = word.trim_start_matches(['<', '>', '=', '^', '~', 'v']);
        let operator = word[..word.len() - version.len()].trim_end_matches('v');
        let version = if version.is_empty() {
            words.next()?
        } else {
            version
        };
        let one = compared(operator, version)?;
        range.from = range.from.max(one.from);
        range.before = range.before.min(one.before);
        any = true;
    }
    any.then_some(range)
}

fn compared(operator: &str, version: &str) -> Option<Range> {
    let partial = partial(version)?;
    let [major, minor, patch] = partial.from;
    Some(match operator {
        "" | "=" | "==" => partial,
        ">=" => Range {
            before: END,
            ..partial
        },
        ">" => Range {
            from: partial.before,
            before: END,
        },
        "<" => Range {
            from: [0; 3],
            before: partial.from,
        },
        "<=" => Range {
            from: [0; 3],
            ..partial
        },
        // The part that is given stays, down to the second number.
        "~" | "~>" | "~=" => Range {
            before: partial.before.max([major, minor.saturating_add(1), 0]),
            ..partial
        },
        "^" => {
            let before = match (major, minor) {
                (0, 0) => [0, 0, patch.saturating_add(1)],
                (0, _) => [0, minor.saturating_add(1), 0],
                _ => [major.saturating_add(1), 0, 0],
            };
            Range {
                before: partial.before.max(before),
                ..partial
            }
        }
        _ => return None,
    })
}

/// `3`, `3.11`, `3.11.x`, `3.*`, `*`: all versions that begin so.
fn partial(text: &str) -> Option<Range> {
    let mut given = Vec::new();
    let text = text.trim();
    for part in text.split('+').next()?.split('.') {
        if matches!(part, "x" | "X" | "*") {
            break;
        }
        given.push(part.parse::<u64>().ok()?);
    }
    let number = |index: usize| given.get(index).copied().unwrap_or(0);
    let from = [number(0), number(1), number(2)];
    let before = match given.len() {
        0 => END,
        1 => [from[0].checked_add(1)?, 0, 0],
        2 => [from[0], from[1].checked_add(1)?, 0],
        _ => [from[0], from[1], from[2].checked_add(1)?],
    };
    Some(Range { from, before })
}
