//! What can be wrong with a list.

use super::{MOST_ENTRIES, NameFault, Range};

/// A text that is not a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot allow `{entry}`: it {fault}")]
pub struct InvalidAllowList {
    /// The entry, printable, cut to a length that can be shown.
    pub entry: String,
    /// What is wrong with it.
    pub fault: AllowFault,
}

/// What is wrong with an entry. To be read after “it”.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowFault {
    /// `allow:`
    #[error("names nothing; write `allow:example.com,*.example.org`")]
    Empty,
    /// Two commas in a row.
    #[error("is empty; remove the extra comma")]
    EmptyEntry,
    /// More than there may be.
    #[error("is number {}, and a list has at most {MOST_ENTRIES} entries", MOST_ENTRIES + 1)]
    Many,
    /// `https://…`
    #[error("is a URL; write only the host name")]
    Url,
    /// `example.com/path`
    #[error("has a path; write only the host name")]
    Path,
    /// A blank.
    #[error("has a space; separate entries with commas only")]
    Space,
    /// `*`, `0.0.0.0/0`
    #[error("allows everything; use `nat` for that")]
    Everything,
    /// `*.com`
    #[error("is too wide; a wildcard needs two labels, as in `*.example.com`")]
    WideWildcard,
    /// `a*.example.com`
    #[error("has a wildcard within a label; write `*.example.com`")]
    Wildcard,
    /// Not 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// Brackets around something else.
    #[error("needs an IPv6 address between the brackets, as in `[2001:db8::1]:443`")]
    Bracket,
    /// A prefix that is too long or not a number.
    #[error("has a prefix that is not a number from 1 to {width}")]
    Prefix {
        /// The most it can be.
        width: u8,
    },
    /// `10.1.2.3/16`
    #[error("has bits behind its prefix; write `{range}`")]
    HostBits {
        /// What was meant.
        range: Range,
    },
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameFault),
}
