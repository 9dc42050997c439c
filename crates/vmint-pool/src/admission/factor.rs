//! A factor that is exact.

use std::fmt;
use std::str::FromStr;

/// A positive factor in thousandths, so that it is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(pub(super) u32);

impl Factor {
    /// 1.
    pub const ONE: Self = Self(1000);
    /// The largest: 100.
    pub const MOST: Self = Self(100_000);

    /// So much of `bytes`.
    pub fn of(self, bytes: u64) -> u64 {
        let product = u128::from(bytes) * u128::from(self.0) / 1000;
        u64::try_from(product).unwrap_or(u64::MAX)
    }

    /// As a number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// A string that is no factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be a number from 0.001 to 100, such as 1.5")]
pub struct InvalidFactor;

impl FromStr for Factor {
    type Err = InvalidFactor;

    fn from_str(s: &str) -> Result<Self, InvalidFactor> {
        let value: f64 = s.parse().map_err(|_| InvalidFactor)?;
        let thousandths = (value * 1000.0).round();
        // Not a number is in no range.
        if (1.0..=f64::from(Self::MOST.0)).contains(&thousandths) {
            Ok(Self(thousandths as u32))
        } else {
            Err(InvalidFactor)
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_f64().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_read_exactly_and_shown_as_written() {
        for text in ["0.001", "0.02", "1", "1.5", "100"] {
            assert_eq!(text.parse::<Factor>().unwrap().to_string(), text);
        }
        assert_eq!("0.02".parse::<Factor>().unwrap().of(1000), 20);
        assert_eq!(Factor::MOST.of(u64::MAX), u64::MAX);
        for bad in ["", "0", "-1", "NaN", "inf", "101", "0.0001", "1,5", "x"] {
            assert_eq!(bad.parse::<Factor>(), Err(InvalidFactor), "{bad}");
        }
    }
}
