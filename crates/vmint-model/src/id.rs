//! Names, machine ids, generations.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name as a user gives it: 1–63 of `a-z 0-9 -`, starting with a letter. Also a legal host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A string that is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a name: 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending in '-'"
)]
pub struct InvalidName {
    /// What was given, cut to a length that can be shown.
    pub name: String,
}

impl Name {
    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=63).contains(&s.len())
            && s.bytes().all(legal)
            && s.as_bytes()[0].is_ascii_lowercase()
            && !s.ends_with('-')
        {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidName {
                name: s.chars().take(80).collect(),
            })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A home's id: 8 hexadecimal digits. The folder of its sockets is named after it, and with that every runner's command
/// line; so it tells a home from its copies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HomeId(String);

/// A string that is not a [`HomeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a home's id: 8 hexadecimal digits")]
pub struct InvalidHomeId(String);

impl HomeId {
    /// A new id.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        Self(format!("{:08x}", u32::from_be_bytes(bytes)))
    }

    /// The id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HomeId {
    type Err = InvalidHomeId;

    fn from_str(s: &str) -> Result<Self, InvalidHomeId> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if s.len() == 8 && s.bytes().all(is_digit) {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidHomeId(s.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for HomeId {
    type Error = InvalidHomeId;

    fn try_from(s: String) -> Result<Self, InvalidHomeId> {
        s.parse()
    }
}

impl From<HomeId> for String {
    fn from(id: HomeId) -> Self {
        id.0
    }
}

impl fmt::Display for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A workflow run's id: 8 random hexadecimal digits behind an `r`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// A new id.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        Self(format!("r{:08x}", u32::from_be_bytes(bytes)))
    }

    /// The id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match s.strip_prefix('r') {
            Some(hex) if hex.len() == 8 && hex.bytes().all(is_digit) => Ok(Self(s.to_owned())),
            _ => Err(InvalidName {
                name: s.chars().take(80).collect(),
            }),
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A machine's id: 12 random hexadecimal digits behind an `m`. Never used again, unlike a name; itself a legal name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

impl MachineId {
    /// A new id.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        Self::from_bits(u64::from_be_bytes(bytes))
    }

    /// The id with the last 48 of these bits; for simulations, which must be the same each time.
    pub fn from_bits(bits: u64) -> Self {
        Self(format!("m{:012x}", bits & 0xffff_ffff_ffff))
    }

    /// The id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MachineId {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        match s.strip_prefix('m') {
            Some(hex)
                if hex.len() == 12
                    && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Self(s.to_owned()))
            }
            _ => Err(InvalidName {
                name: s.chars().take(80).collect(),
            }),
        }
    }
}

impl TryFrom<String> for MachineId {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Raised by every reset and restore. A handle names a machine and a generation, and is refused by a later one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_is_what_the_contract_says(s in ".{0,70}") {
            let legal = s.len() <= 63
                && s.starts_with(|c: char| c.is_ascii_lowercase())
                && !s.ends_with('-')
                && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            prop_assert_eq!(s.parse::<Name>().is_ok(), legal);
        }
    }

    #[test]
    fn names_at_the_limits() {
        assert!("a".repeat(63).parse::<Name>().is_ok());
        assert!("a".repeat(64).parse::<Name>().is_err());
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a b", "ä", "a\n"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_a_legal_name_and_reads_back() {
        let id = MachineId::random();
        assert_eq!(id.as_str().parse::<MachineId>().unwrap(), id);
        assert!(id.as_str().parse::<Name>().is_ok());
        assert_ne!(MachineId::random(), id);
    }
}
