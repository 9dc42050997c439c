//! Lengths of time as people write them: `1h30m`, `90s`, `2d`.

use std::fmt;

/// Units, the longest first, in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Why a text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is nothing to read.
    Empty,
    /// A character that is neither a digit nor a unit, and where it stands.
    Unexpected(char, usize),
    /// A number without a unit at the end, or a unit without a number.
    Incomplete(usize),
    /// More seconds than fit.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing to read"),
            Self::Unexpected(c, at) => write!(f, "unexpected {c:?} at {at}"),
            Self::Incomplete(at) => write!(f, "a number and a unit belong together, at {at}"),
            Self::TooLong => f.write_str("too long"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads a length of time, in seconds.
pub fn parse(text: &str) -> Result<u64, Error> {
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for (at, c) in text.char_indices() {
        if let Some(digit) = c.to_digit(10) {
            let tens = number.unwrap_or(0).checked_mul(10).ok_or(Error::TooLong)?;
            number = Some(tens.checked_add(u64::from(digit)).ok_or(Error::TooLong)?);
            continue;
        }
        let (_, seconds) = UNITS
            .iter()
            .find(|(unit, _)| *unit == c)
            .ok_or(Error::Unexpected(c, at))?;
        let count = number.take().ok_or(Error::Incomplete(at))?;
        let part = count.checked_mul(*seconds).ok_or(Error::TooLong)?;
        total = total.checked_add(part).ok_or(Error::TooLong)?;
    }
    match number {
        Some(_) => Err(Error::Incomplete(text.len())),
        None if text.is_empty() => Err(Error::Empty),
        None => Ok(total),
    }
}

/// Writes seconds in as few units as possible.
pub fn format(mut seconds: u64) -> String {
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in UNITS {
        if seconds >= length {
            text += &format!("{}{unit}", seconds / length);
            seconds %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_added_up() {
        assert_eq!(parse("1h30m"), Ok(5_400));
        assert_eq!(parse("2d1s"), Ok(172_801));
        assert_eq!(parse("0s"), Ok(0));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused_with_its_place() {
        assert_eq!(parse(""), Err(Error::Empty));
        assert_eq!(parse("1x"), Err(Error::Unexpected('x', 1)));
        assert_eq!(parse("1h30"), Err(Error::Incomplete(4)));
        assert_eq!(parse("hm"), Err(Error::Incomplete(0)));
        assert_eq!(parse("99999999999999999999s"), Err(Error::TooLong));
        assert_eq!(parse("18446744073709551615d"), Err(Error::TooLong));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for seconds in (0..200_000).step_by(997) {
            assert_eq!(parse(&format(seconds)), Ok(seconds));
        }
    }
}
