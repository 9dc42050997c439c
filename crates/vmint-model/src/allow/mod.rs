//! The list of what a guest may reach: `allow:example.com,*.example.org,db.example.net:5432,192.0.2.7,10.1.0.0/16`.
//!
//! | entry | what it allows |
//! |---|---|
//! | `example.com` | ports 80 and 443 of this name; HTTP by `Host`, TLS by SNI |
//! | `*.example.com` | the same for every name below it, not for itself |
//! | `example.com:443` | this one port; 80 and 443 are checked by name as above |
//! | `db.example.com:5432` | another port, checked by the address alone |
//! | `192.0.2.7`, `10.1.0.0/16`, `2001:db8::/32` | ports 80 and 443 of these addresses, by whatever name |
//! | `192.0.2.7:22`, `10.1.0.0/16:22`, `[2001:db8::1]:22` | this one port of these addresses |
//!
//! A private address that a name resolves to is allowed only if an entry names it, or a range that it is in.
//!
//! A list is sorted, holds no entry twice, and is written in one way: its text is a machine's network as it is stored, compared
//! and shown.

mod entry;
mod fault;
mod name;
mod range;
#[cfg(test)]
mod tests;

pub use fault::{AllowFault, InvalidAllowList};
pub use name::{HostName, NameFault};
pub use range::Range;

use entry::{Entry, Whose};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// The most entries that a list can have.
pub const MOST_ENTRIES: usize = 256;

/// Plain HTTP's port.
pub const HTTP: u16 = 80;
/// The port of HTTP over TLS.
pub const HTTPS: u16 = 443;

/// How a connection that is allowed is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It must show a name of the list: the ports 80 and 443.
    Name,
    /// By its address alone.
    Address,
}

/// What a guest may reach. Never empty.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AllowList(Arc<[Entry]>);

impl AllowList {
    /// How many entries there are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a name may be asked for.
    pub fn has_name(&self, name: &HostName) -> bool {
        self.0.iter().any(|entry| entry.is_of(name))
    }

    /// How a connection to a port of this name is looked at; `None` when it is not allowed.
    pub fn name_on_port(&self, name: &HostName, port: u16) -> Option<Look> {
        let allowed = |entry: &Entry| entry.is_of(name) && entry.has_port(port);
        let look = match port {
            HTTP | HTTPS => Look::Name,
            _ => Look::Address,
        };
        self.0.iter().any(allowed).then_some(look)
    }

    /// Whether a port of this address is allowed, whatever name it was found by.
    pub fn address_on_port(&self, ip: IpAddr, port: u16) -> bool {
        let allowed = |entry: &Entry| matches!(entry.whose, Whose::Range(range) if range.holds(ip));
        self.0
            .iter()
            .any(|entry| allowed(entry) && entry.has_port(port))
    }

    /// Whether this address is named, or in a range that is.
    pub fn names_address(&self, ip: IpAddr) -> bool {
        let named = |entry: &Entry| matches!(entry.whose, Whose::Range(range) if range.holds(ip));
        self.0.iter().any(named)
    }
}

impl FromStr for AllowList {
    type Err = InvalidAllowList;

    fn from_str(text: &str) -> Result<Self, InvalidAllowList> {
        let fail = |entry: &str, fault: AllowFault| InvalidAllowList {
            entry: crate::printable(&entry.chars().take(80).collect::<String>()).into_owned(),
            fault,
        };
        if text.is_empty() {
            return Err(fail(text, AllowFault::Empty));
        }
        let mut entries = Vec::new();
        for entry in text.split(',') {
            if entries.len() == MOST_ENTRIES {
                return Err(fail(entry, AllowFault::Many));
            }
            entries.push(Entry::read(entry).map_err(|fault| fail(entry, fault))?);
        }
        entries.sort();
        entries.dedup();
        Ok(Self(entries.into()))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, entry) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{entry}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AllowList({self})")
    }
}
