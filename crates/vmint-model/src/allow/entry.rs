//! One entry of a list: whose ports it allows, and which.

use super::{AllowFault, HTTP, HTTPS, HostName, Range};
use std::fmt;

/// Whose ports an entry allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Whose {
    /// A name.
    Name(HostName),
    /// Every name below it.
    Below(HostName),
    /// Addresses.
    Range(Range),
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) whose: Whose,
    /// 80 and 443 when absent.
    port: Option<u16>,
}

impl Entry {
    pub(super) fn has_port(&self, port: u16) -> bool {
        match self.port {
            Some(only) => only == port,
            None => matches!(port, HTTP | HTTPS),
        }
    }

    pub(super) fn is_of(&self, name: &HostName) -> bool {
        match &self.whose {
            Whose::Name(own) => own == name,
            Whose::Below(parent) => name.is_below(parent),
            Whose::Range(_) => false,
        }
    }

    pub(super) fn read(text: &str) -> Result<Self, AllowFault> {
        if text.is_empty() {
            return Err(AllowFault::EmptyEntry);
        }
        if text.contains("://") {
            return Err(AllowFault::Url);
        }
        if text.contains(char::is_whitespace) {
            return Err(AllowFault::Space);
        }
        // `[2001:db8::1]:443`, or an IPv6 address or range without a port.
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or(AllowFault::Bracket)?;
            let port = match after {
                "" => None,
                after => Some(port(after.strip_prefix(':').ok_or(AllowFault::Bracket)?)?),
            };
            let range = Range::read(inside).ok_or(AllowFault::Bracket)??;
            return if range.first.is_ipv6() {
                Ok(Self {
                    whose: Whose::Range(range),
                    port,
                })
            } else {
                Err(AllowFault::Bracket)
            };
        }
        // More than one colon is an IPv6 address; one is in front of a port.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, number)) if !host.contains(':') => (host, Some(port(number)?)),
            _ => (text, None),
        };
        if let Some(range) = Range::read(host) {
            return Ok(Self {
                whose: Whose::Range(range?),
                port,
            });
        }
        if host.contains('/') {
            return Err(AllowFault::Path);
        }
        let whose = match host.strip_prefix("*.") {
            Some(parent) => {
                let parent = HostName::read(parent)?;
                if !parent.as_str().contains('.') {
                    return Err(AllowFault::WideWildcard);
                }
                Whose::Below(parent)
            }
            None if host == "*" => return Err(AllowFault::Everything),
            None if host.contains('*') => return Err(AllowFault::Wildcard),
            None => Whose::Name(HostName::read(host)?),
        };
        Ok(Self { whose, port })
    }
}

fn port(text: &str) -> Result<u16, AllowFault> {
    match text.parse() {
        Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(AllowFault::Port),
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.whose, self.port) {
            (Whose::Name(name), _) => write!(f, "{name}")?,
            (Whose::Below(name), _) => write!(f, "*.{name}")?,
            (Whose::Range(range), Some(_)) if range.first.is_ipv6() => write!(f, "[{range}]")?,
            (Whose::Range(range), _) => write!(f, "{range}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
