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

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// The most entries that a list can have.
pub const MOST_ENTRIES: usize = 256;
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
    fn is_below(&self, parent: &Self) -> bool {
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

/// A range of addresses; one address is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    first: IpAddr,
    prefix: u8,
}

impl Range {
    /// `10.1.0.0/16`, or an address alone.
    fn read(text: &str) -> Option<Result<Self, AllowFault>> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().ok()?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(str::parse::<u8>) {
            None => width,
            Some(Ok(prefix)) if prefix <= width => prefix,
            Some(_) => return Some(Err(AllowFault::Prefix { width })),
        };
        let range = Self {
            first: masked(ip, prefix),
            prefix,
        };
        if prefix == 0 {
            return Some(Err(AllowFault::Everything));
        }
        if range.first != ip {
            return Some(Err(AllowFault::HostBits { range }));
        }
        Some(Ok(range))
    }

    /// Whether `ip` is one of these; IPv4 in IPv6 is IPv4.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && masked(ip, self.prefix) == self.first
    }
}

/// With all bits behind the first `prefix` cleared.
fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        if self.prefix == width {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

/// Whose ports an entry allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Whose {
    /// A name.
    Name(HostName),
    /// Every name below it.
    Below(HostName),
    /// Addresses.
    Range(Range),
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Entry {
    whose: Whose,
    /// 80 and 443 when absent.
    port: Option<u16>,
}

impl Entry {
    fn has_port(&self, port: u16) -> bool {
        match self.port {
            Some(only) => only == port,
            None => matches!(port, HTTP | HTTPS),
        }
    }

    fn is_of(&self, name: &HostName) -> bool {
        match &self.whose {
            Whose::Name(own) => own == name,
            Whose::Below(parent) => name.is_below(parent),
            Whose::Range(_) => false,
        }
    }

    fn read(text: &str) -> Result<Self, AllowFault> {
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
    #[error("is a URL; write the host name alone")]
    Url,
    /// `example.com/path`
    #[error("has a path; write the host name alone")]
    Path,
    /// A blank.
    #[error("has a space; separate entries by commas alone")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> AllowList {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn name(text: &str) -> HostName {
        HostName::read(text).expect(text)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_list_is_written_in_one_way() {
        for (given, shown) in [
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            (
                "b.example,a.example,b.example,B.example.",
                "a.example,b.example",
            ),
            (
                "*.Example.com,example.com:443",
                "example.com:443,*.example.com",
            ),
            ("192.0.2.7,10.1.0.0/16", "10.1.0.0/16,192.0.2.7"),
            ("10.1.0.0/16:22", "10.1.0.0/16:22"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:22", "[2001:db8::1]:22"),
            ("[2001:db8::/32]:22", "[2001:db8::/32]:22"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost:8080", "localhost:8080"),
            ("_dmarc.example.com", "_dmarc.example.com"),
        ] {
            assert_eq!(list(given).to_string(), shown, "{given}");
            assert_eq!(list(shown), list(given), "{given}");
        }
    }

    #[test]
    fn a_bad_entry_is_named_with_what_is_wrong() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = format!("{}example.com", "abcdefg.".repeat(32));
        for (given, what) in [
            ("", "names nothing"),
            (",", "extra comma"),
            ("example.com,", "extra comma"),
            ("a.example,,b.example", "extra comma"),
            ("*", "use `nat`"),
            ("0.0.0.0/0", "use `nat`"),
            ("::/0", "use `nat`"),
            ("*.com", "two labels"),
            ("*.", "is empty"),
            ("a.*.example", "within a label"),
            ("*example.com", "within a label"),
            ("https://example.com", "is a URL"),
            ("example.com/path", "has a path"),
            (" example.com", "has a space"),
            ("a.example, b.example", "has a space"),
            ("a.example\n", "has a space"),
            ("example..com", "two dots"),
            (".example.com", "two dots"),
            ("example.com..", "two dots"),
            ("bücher.example", "xn--"),
            ("exa\u{202e}mple.com", "xn--"),
            ("ex!mple.com", "character"),
            ("-a.example", "character"),
            ("a-.example", "character"),
            (long.as_str(), "63 characters"),
            (longer.as_str(), "253 characters"),
            ("example.com:", "port"),
            ("example.com:0", "port"),
            ("example.com:65536", "port"),
            ("example.com:+80", "port"),
            ("example.com:http", "port"),
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.0.0.0/33", "1 to 32"),
            ("2001:db8::/129", "1 to 128"),
            ("[10.1.2.3]:22", "IPv6"),
            ("[2001:db8::1", "IPv6"),
            ("[2001:db8::1]22", "IPv6"),
            ("10.0.2", "neither an address nor a domain name"),
            ("127.1", "neither an address nor a domain name"),
            ("1.2.3.4.5", "neither an address nor a domain name"),
            ("0x7f000001", "neither an address nor a domain name"),
        ] {
            let error = given.parse::<AllowList>().expect_err(given).to_string();
            assert!(error.contains(what), "{given}: {error}");
            assert!(!error.contains(crate::printable::is_unprintable), "{error}");
        }
        let many: Vec<String> = (0..=MOST_ENTRIES)
            .map(|n| format!("h{n}.example"))
            .collect();
        let error = many.join(",").parse::<AllowList>().unwrap_err().to_string();
        assert!(error.contains("at most 256"), "{error}");
        assert_eq!(list(&many[1..].join(",")).len(), MOST_ENTRIES);
    }

    #[test]
    fn a_wildcard_is_every_name_below_and_not_the_name_itself() {
        let list = list("*.example.com,example.org");
        for yes in ["a.example.com", "a.b.example.com", "example.org"] {
            assert!(list.has_name(&name(yes)), "{yes}");
        }
        for no in [
            "example.com",
            "notexample.com",
            "a.example.org",
            "com",
            "example.com.evil.example",
        ] {
            assert!(!list.has_name(&name(no)), "{no}");
        }
    }

    #[test]
    fn without_a_port_an_entry_allows_http_and_tls_by_name() {
        let list = list("example.com,db.example.com:5432,tls.example.com:443");
        let look = |host: &str, port| list.name_on_port(&name(host), port);
        assert_eq!(look("example.com", 80), Some(Look::Name));
        assert_eq!(look("example.com", 443), Some(Look::Name));
        assert_eq!(look("example.com", 22), None);
        assert_eq!(look("db.example.com", 5432), Some(Look::Address));
        assert_eq!(look("db.example.com", 443), None);
        assert_eq!(look("tls.example.com", 443), Some(Look::Name));
        assert_eq!(look("tls.example.com", 80), None);
        assert!(list.has_name(&name("db.example.com")));
    }

    #[test]
    fn addresses_are_allowed_by_themselves_and_in_either_form() {
        let list = list("192.0.2.7,10.1.0.0/16:22,2001:db8::/32");
        assert!(list.address_on_port(ip("192.0.2.7"), 443));
        assert!(list.address_on_port(ip("::ffff:192.0.2.7"), 80));
        assert!(!list.address_on_port(ip("192.0.2.7"), 22));
        assert!(!list.address_on_port(ip("192.0.2.8"), 443));
        assert!(list.address_on_port(ip("10.1.255.255"), 22));
        assert!(!list.address_on_port(ip("10.2.0.0"), 22));
        assert!(list.address_on_port(ip("2001:db8:ffff::1"), 443));
        assert!(!list.address_on_port(ip("2001:db9::1"), 443));
        assert!(list.names_address(ip("10.1.2.3")) && !list.names_address(ip("10.2.2.3")));
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_a_list_that_reads_back_or_an_error_that_can_be_shown(
            text in "(\\PC{0,20}|[a-c*.:/,\\[\\]0-9-]{0,40})",
        ) {
            match text.parse::<AllowList>() {
                Ok(list) => prop_assert_eq!(list.to_string().parse(), Ok(list)),
                Err(e) => prop_assert!(!e.to_string().contains(crate::printable::is_unprintable)),
            }
        }

        #[test]
        fn a_range_holds_what_begins_as_it_does(bits: u32, prefix in 1u8..=32, other: u32) {
            let range = Range { first: masked(Ipv4Addr::from_bits(bits).into(), prefix), prefix };
            let same = (bits ^ other).leading_zeros() >= u32::from(prefix);
            prop_assert_eq!(range.holds(Ipv4Addr::from_bits(other).into()), same);
        }
    }
}
