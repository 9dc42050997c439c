//! Names as DNS has them.

use std::fmt;

/// The longest name that DNS can carry, as text.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A DNS name: lower case, no dot at its end, letters, digits, `-` and `_`, the last label no number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

impl HostName {
    /// Reads a name as a guest or a person writes it: in any case, with or without the dot of the root.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be read after the name.
    pub fn read(text: &str) -> Result<Self, NameFault> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if !text.is_ascii() {
            return Err(NameFault::Unicode);
        }
        if text.len() > LONGEST_NAME {
            return Err(NameFault::Long);
        }
        for label in text.split('.') {
            if label.is_empty() {
                return Err(NameFault::EmptyLabel);
            }
            if label.len() > LONGEST_LABEL {
                return Err(NameFault::LongLabel);
            }
            let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !label.bytes().all(legal) || label.starts_with('-') || label.ends_with('-') {
                return Err(NameFault::Character);
            }
        }
        // `10.0.2`, `1`, `0x7f.1`: what the C library takes for an address is no name.
        let last = text.rsplit('.').next().unwrap_or(text);
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(NameFault::Number);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is below `parent`, and not `parent` itself.
    pub(super) fn is_below(&self, parent: &Self) -> bool {
        let rest = self.0.strip_suffix(parent.as_str());
        rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing.
    #[error("is empty")]
    Empty,
    /// `a..b`.
    #[error("has two dots in a row, or one at its start")]
    EmptyLabel,
    /// More than 253 characters.
    #[error("is longer than {LONGEST_NAME} characters")]
    Long,
    /// More than 63 characters between two dots.
    #[error("has more than {LONGEST_LABEL} characters between two dots")]
    LongLabel,
    /// A letter that DNS does not have.
    #[error("has letters outside of ASCII: write it as DNS does, `xn--…`")]
    Unicode,
    /// Something that is not a letter, a digit, `-` or `_`.
    #[error("has a character that a domain name does not have")]
    Character,
    /// It ends like an address.
    #[error("is neither an address nor a domain name")]
    Number,
}
