//! The log of a step: one line of text after the other, each with its time, in the form in which GitHub's own raw logs are.
//!
//! ```text
//! 2026-11-20T15:35:12.123Z ##[group]Run cargo test
//! 2026-11-20T15:35:12.124Z ##[endgroup]
//! 2026-11-20T15:35:14.901Z test result: ok
//! 2026-11-20T15:35:14.950Z ##[error]Process completed with exit code 101
//! ```

use crate::mask::Masked;

/// A line. Its text has no line break, and is at most [`MAX_LINE`] bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since 1970 in UTC.
    pub at_ms: i64,
    /// What kind of line.
    pub kind: Kind,
    /// Its text.
    pub text: Masked,
}

/// Longer lines are continued on the next.
pub const MAX_LINE: usize = 64 << 10;

/// What kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What the step wrote.
    Text,
    /// The title of a group, which lasts until its end or the next group.
    Group,
    /// The end of a group.
    EndGroup,
    /// A command that vmint executes on the step's behalf.
    Command,
    /// `::debug::`.
    Debug,
    /// `::error::`, or why the step failed.
    Error,
    /// `::warning::`.
    Warning,
    /// `::notice::`.
    Notice,
}

const MARKS: [(Kind, &str); 7] = [
    (Kind::Group, "##[group]"),
    (Kind::EndGroup, "##[endgroup]"),
    (Kind::Command, "##[command]"),
    (Kind::Debug, "##[debug]"),
    (Kind::Error, "##[error]"),
    (Kind::Warning, "##[warning]"),
    (Kind::Notice, "##[notice]"),
];

impl Line {
    /// A line of this moment.
    pub fn new(at_ms: i64, kind: Kind, text: impl Into<Masked>) -> Self {
        Self {
            at_ms,
            kind,
            text: text.into(),
        }
    }

    /// As it stands in the log, without the line break.
    pub fn encode(&self) -> String {
        let mark = MARKS.iter().find(|(kind, _)| *kind == self.kind);
        let mark = mark.map_or("", |(_, mark)| mark);
        format!("{} {mark}{}", rfc3339(self.at_ms), self.text)
    }

    /// The reverse of [`encode`](Self::encode); what is not of that form is text of the time 0.
    pub fn decode(line: &str) -> Self {
        let Some((at_ms, rest)) = line
            .split_once(' ')
            .and_then(|(time, rest)| Some((parse_rfc3339(time)?, rest)))
        else {
            return Self::new(0, Kind::Text, Masked::read_back(line));
        };
        let marked = MARKS
            .iter()
            .find_map(|(kind, mark)| Some((*kind, rest.strip_prefix(mark)?)));
        let (kind, text) = marked.unwrap_or((Kind::Text, rest));
        Self::new(at_ms, kind, Masked::read_back(text))
    }
}

/// `2026-11-20T15:35:12.123Z`.
pub fn rfc3339(at_ms: i64) -> String {
    let (days, ms) = (at_ms.div_euclid(86_400_000), at_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00.000Z";
    let fits = |(b, shape): (&u8, &u8)| match shape {
        b'0' => b.is_ascii_digit(),
        _ => b == shape,
    };
    if bytes.len() != shape.len() || !bytes.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(days * 86_400_000 + seconds * 1000 + number(20, 23)?)
}

/// Year, month and day of a day counted from 1970, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01: leap days come last, and 400 years have 146,097 days.
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_its_encoding() {
        for kind in MARKS.map(|(kind, _)| kind).into_iter().chain([Kind::Text]) {
            let line = Line::new(1_795_188_912_123, kind, "cargo test ##[x] ");
            assert_eq!(Line::decode(&line.encode()), line);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // From `date -u -d @SECONDS +%FT%T`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_188_912, "2026-11-20T15:35:12.000Z"),
            (-1, "1969-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1000), text);
            assert_eq!(parse_rfc3339(text), Some(seconds * 1000));
        }
    }

    #[test]
    fn what_is_no_line_of_a_log_is_text() {
        let line = Line::decode("99999-01-01 hello");
        assert_eq!((line.at_ms, line.kind), (0, Kind::Text));
        assert_eq!(line.text, "99999-01-01 hello");
    }
}
