//! Messages of DNS (RFC 1035), as far as a resolver of a few names needs them: addresses, and the aliases that lead to them.
//!
//! A guest is answered by a message that is made here; no byte of a name server's answer is handed on. Aliases are left out of
//! it: the addresses stand under the name that was asked for.

use std::collections::HashMap;
use std::net::IpAddr;
use vmint_model::HostName;

/// What a guest without EDNS takes by UDP.
const SMALL: usize = 512;
/// What vmint takes and gives by UDP at most (DNS flag day 2020): no fragments.
pub const BY_UDP: usize = 1232;
/// Aliases that are followed from one name.
const MOST_ALIASES: usize = 16;
/// Addresses of one name; others are dropped.
pub const MOST_ADDRESSES: usize = 256;
/// Records of one answer that are looked at. None is shorter than 11 bytes.
const MOST_RECORDS: usize = 4096;

const HEADER: usize = 12;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const IN: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Something else. An allowed name has none of it.
    Other(u16),
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => A,
            Self::Aaaa => AAAA,
            Self::Other(number) => number,
        }
    }
}

/// How a question is answered, besides with addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Here are they, if there are any.
    Ok = 0,
    /// It cannot be read.
    Format = 1,
    /// No name server answered.
    ServerFailure = 2,
    /// The name does not exist.
    NoSuchName = 3,
    /// It is no question.
    NotImplemented = 4,
    /// The name is not allowed.
    Refused = 5,
}

/// A guest's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    id: u16,
    /// Flags that are given back: recursion desired.
    recursion: bool,
    /// The question's section as it came: its letters' case is given back, too.
    section: Vec<u8>,
    /// How much the guest takes by UDP; absent without EDNS.
    edns: Option<u16>,
    /// The name, as text that need not print.
    pub shown: String,
    /// The name, if it is one that a host can have.
    pub name: Option<HostName>,
    /// What is asked for.
    pub kind: Kind,
}

/// A message that is no question to be answered by addresses; what to send back, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoQuestion(pub Option<Vec<u8>>);

impl Question {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// With an answer that says so, if there is an id to answer to.
    pub fn read(message: &[u8]) -> Result<Self, NoQuestion> {
        let Some((id, flags)) = word(message, 0).zip(word(message, 2)) else {
            return Err(NoQuestion(None));
        };
        if flags & 0x8000 != 0 {
            // An answer: to answer it could go on for ever.
            return Err(NoQuestion(None));
        }
        let no = |code| NoQuestion(Some(bare(id, flags, code)));
        if flags & 0x7800 != 0 {
            return Err(no(Code::NotImplemented));
        }
        let format = || no(Code::Format);
        if word(message, 4) != Some(1) || word(message, 6) != Some(0) {
            return Err(format());
        }
        let (labels, end) = read_name(message, HEADER).ok_or_else(format)?;
        let (kind, class) = word(message, end)
            .zip(word(message, end + 2))
            .ok_or_else(format)?;
        let section = message.get(HEADER..end + 4).ok_or_else(format)?;
        if section.iter().take(end - HEADER).any(|b| b & 0xc0 == 0xc0) && !is_plain(section) {
            return Err(format());
        }
        if class != IN {
            return Err(no(Code::NotImplemented));
        }
        let shown = text(&labels);
        Ok(Self {
            id,
            recursion: flags & 0x100 != 0,
            section: section.to_vec(),
            edns: edns(message, end + 4),
            name: HostName::read(&shown).ok(),
            shown,
            kind: match kind {
                A => Kind::A,
                AAAA => Kind::Aaaa,
                other => Kind::Other(other),
            },
        })
    }

    /// What the guest takes by UDP.
    pub fn room(&self) -> usize {
        usize::from(self.edns.unwrap_or(0)).clamp(SMALL, BY_UDP)
    }

    /// An answer of at most `room` bytes. What does not fit is left out, and that is said: the guest asks again by TCP.
    pub fn answer(&self, code: Code, addresses: &[IpAddr], ttl: u32, room: usize) -> Vec<u8> {
        let tail = if self.edns.is_some() { 11 } else { 0 };
        let mut out = vec![0; HEADER];
        out.extend(&self.section);
        let mut count: u16 = 0;
        let mut cut = false;
        for ip in addresses {
            let (kind, bytes) = match ip {
                IpAddr::V4(v4) => (A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
            };
            if out.len() + 12 + bytes.len() + tail > room {
                cut = true;
                break;
            }
            // The name is the question's.
            out.extend([0xc0, HEADER as u8]);
            for number in [kind, IN] {
                out.extend(number.to_be_bytes());
            }
            out.extend(ttl.to_be_bytes());
            out.extend((bytes.len() as u16).to_be_bytes());
            out.extend(bytes);
            count += 1;
        }
        if self.edns.is_some() {
            out.push(0);
            out.extend(OPT.to_be_bytes());
            out.extend((BY_UDP as u16).to_be_bytes());
            out.extend([0; 6]);
        }
        let flags = 0x8080 | u16::from(self.recursion) << 8 | u16::from(cut) << 9 | code as u16;
        let more = u16::from(self.edns.is_some());
        for (at, number) in [self.id, flags, 1, count, 0, more].into_iter().enumerate() {
            out[at * 2..at * 2 + 2].copy_from_slice(&number.to_be_bytes());
        }
        out
    }
}

/// A section whose name is written out: no pointer to what comes after it in a message that it is taken from.
fn is_plain(section: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&length) = section.get(at) {
        match length {
            0 => return at + 5 == section.len(),
            1..=63 => at += 1 + usize::from(length),
            _ => return false,
        }
    }
    false
}

/// An answer without anything.
fn bare(id: u16, flags: u16, code: Code) -> Vec<u8> {
    let flags = 0x8080 | flags & 0x7900 | code as u16;
    let mut out = vec![0; HEADER];
    out[..2].copy_from_slice(&id.to_be_bytes());
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out
}

/// The size in the EDNS record behind a question, if there is one.
fn edns(message: &[u8], mut at: usize) -> Option<u16> {
    if word(message, 8) != Some(0) {
        return None;
    }
    for _ in 0..word(message, 10)?.min(4) {
        let (_, end) = read_name(message, at)?;
        if word(message, end) == Some(OPT) {
            return word(message, end + 2);
        }
        at = end + 10 + usize::from(word(message, end + 8)?);
    }
    None
}

/// A question to a name server.
pub fn query(id: u16, name: &HostName, kind: Kind) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + 300);
    for number in [id, 0x100, 1, 0, 0, 1] {
        out.extend(number.to_be_bytes());
    }
    for label in name.as_str().split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    for number in [kind.number(), IN] {
        out.extend(number.to_be_bytes());
    }
    // EDNS, with the size that this side takes.
    out.push(0);
    for number in [OPT, BY_UDP as u16, 0, 0, 0] {
        out.extend(number.to_be_bytes());
    }
    out
}

/// What a name server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of the name, at the end of its aliases; their shortest time to live.
    Addresses {
        /// None, when the name has none of this kind.
        addresses: Vec<IpAddr>,
        /// In seconds.
        ttl: u32,
    },
    /// There is no such name.
    NoSuchName,
    /// It is longer than a datagram; to be asked for by TCP.
    Truncated,
    /// The name server does not answer this question.
    Failed {
        /// The code that it gave.
        code: u8,
    },
}

/// A message that is not the answer to this question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAnswer {
    /// Another id, another name or no answer at all: somebody else's, or a forgery.
    #[error("an answer to another question")]
    Foreign,
    /// It breaks off, or leads in circles.
    #[error("an answer that cannot be read")]
    Malformed,
}

impl Answer {
    /// Reads the answer to [`query`].
    pub fn read(message: &[u8], id: u16, name: &HostName, kind: Kind) -> Result<Self, NotAnAnswer> {
        let flags = word(message, 2).ok_or(NotAnAnswer::Foreign)?;
        if word(message, 0) != Some(id) || flags & 0x8000 == 0 || word(message, 4) != Some(1) {
            return Err(NotAnAnswer::Foreign);
        }
        let (asked, end) = read_name(message, HEADER).ok_or(NotAnAnswer::Foreign)?;
        if !is_name(&asked, name)
            || word(message, end) != Some(kind.number())
            || word(message, end + 2) != Some(IN)
        {
            return Err(NotAnAnswer::Foreign);
        }
        if flags & 0x200 != 0 {
            return Ok(Self::Truncated);
        }
        match (flags & 0xf) as u8 {
            0 => Self::records(message, end + 4, asked, kind).ok_or(NotAnAnswer::Malformed),
            3 => Ok(Self::NoSuchName),
            code => Ok(Self::Failed { code }),
        }
    }

    /// The addresses that the chain of aliases from `asked` ends with; nothing that stands beside it.
    fn records(message: &[u8], mut at: usize, asked: Vec<u8>, kind: Kind) -> Option<Self> {
        let count = usize::from(word(message, 6)?);
        let mut aliases: HashMap<Vec<u8>, (Vec<u8>, u32)> = HashMap::new();
        let mut addresses: Vec<(Vec<u8>, IpAddr, u32)> = Vec::new();
        for _ in 0..count.min(MOST_RECORDS) {
            let (owner, end) = read_name(message, at)?;
            let (this, class) = word(message, end).zip(word(message, end + 2))?;
            let ttl = u32::from(word(message, end + 4)?) << 16 | u32::from(word(message, end + 6)?);
            // RFC 2181: a number with its highest bit set is none.
            let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
            let length = usize::from(word(message, end + 8)?);
            let data = message.get(end + 10..end + 10 + length)?;
            at = end + 10 + length;
            if class != IN {
                continue;
            }
            match (this, kind) {
                (A, Kind::A) => {
                    let four: [u8; 4] = data.try_into().ok()?;
                    addresses.push((owner, four.into(), ttl));
                }
                (AAAA, Kind::Aaaa) => {
                    let sixteen: [u8; 16] = data.try_into().ok()?;
                    addresses.push((owner, sixteen.into(), ttl));
                }
                (CNAME, _) => {
                    let (target, stop) = read_name(message, end + 10)?;
                    if stop != at {
                        return None;
                    }
                    aliases.entry(owner).or_insert((target, ttl));
                }
                _ => {}
            }
        }
        let (mut name, mut shortest) = (asked, u32::MAX);
        for _ in 0..MOST_ALIASES {
            let Some((target, ttl)) = aliases.remove(&name) else {
                break;
            };
            shortest = shortest.min(ttl);
            name = target;
        }
        let mut found = Vec::new();
        for (owner, ip, ttl) in addresses {
            if owner == name && found.len() < MOST_ADDRESSES && !found.contains(&ip) {
                shortest = shortest.min(ttl);
                found.push(ip);
            }
        }
        Some(Self::Addresses {
            addresses: found,
            ttl: if shortest == u32::MAX { 0 } else { shortest },
        })
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let two = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// A name at `at`, its labels with their lengths before them and in lower case, and where the message goes on. A pointer leads
/// back only, so this ends; a name is at most 255 bytes.
fn read_name(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut at, mut end, mut before) = (Vec::new(), at, None, at);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at..=at + usize::from(length))?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                if name.len() > 254 {
                    return None;
                }
                at += label.len();
            }
            0xc0.. => {
                let to = usize::from(word(message, at)? & 0x3fff);
                if to >= before {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, before) = (to, to);
            }
            _ => return None,
        }
    }
}

fn is_name(labels: &[u8], name: &HostName) -> bool {
    text(labels) == name.as_str()
}

/// Labels as text. A dot within a label would read as two: it becomes a character that no name has.
fn text(labels: &[u8]) -> String {
    let (mut out, mut rest) = (Vec::new(), labels);
    while let Some((&length, after)) = rest.split_first() {
        let (label, next) = after.split_at(usize::from(length).min(after.len()));
        if !out.is_empty() {
            out.push(b'.');
        }
        out.extend(label.iter().map(|&b| if b == b'.' { b'\\' } else { b }));
        rest = next;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
