//! How a machine starts: what admission has places for.

use std::fmt;
use std::str::FromStr;

/// How a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boot {
    /// From its kernel.
    Cold,
    /// From a template or a snapshot.
    Fork,
}

impl Boot {
    /// As in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Fork => "fork",
        }
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no kind of boot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of boot")]
pub struct InvalidBoot(String);

impl FromStr for Boot {
    type Err = InvalidBoot;

    fn from_str(s: &str) -> Result<Self, InvalidBoot> {
        match s {
            "cold" => Ok(Self::Cold),
            "fork" => Ok(Self::Fork),
            _ => Err(InvalidBoot(s.chars().take(40).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_read_as_it_is_written_and_nothing_else_is() {
        for boot in [Boot::Cold, Boot::Fork] {
            assert_eq!(boot.to_string().parse(), Ok(boot));
        }
        for bad in ["", "Cold", "warm", "fork "] {
            assert!(bad.parse::<Boot>().is_err(), "{bad}");
        }
    }
}
