//! `ports` of a service.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A port, or as many as stand in a range, that can be reached from the machine: `[IP:][HOST:]CONTAINER[/PROTOCOL]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Of the machine: on this address; on all when absent.
    pub address: Option<IpAddr>,
    /// Of the machine: at these ports; at free ones when absent.
    pub host: Option<RangeInclusive<u16>>,
    /// Of the container.
    pub container: RangeInclusive<u16>,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// How a port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, which goes without saying.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Not a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It cannot be understood.
    #[error(
        "`{0}` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP"
    )]
    Malformed(String),
    /// As many on one side as on the other.
    #[error("`{0}` has two ranges of different lengths")]
    Lengths(String),
}

impl Publish {
    /// As docker's `--publish` understands it.
    pub fn parse(text: &str) -> Result<Self, PublishError> {
        let malformed = || PublishError::Malformed(text.chars().take(100).collect());
        let (ports, protocol) = match text.trim().split_once('/') {
            None => (text.trim(), Protocol::Tcp),
            Some((ports, protocol)) => (ports, Protocol::parse(protocol).ok_or_else(malformed)?),
        };
        let (rest, container) = match ports.rsplit_once(':') {
            None => (None, ports),
            Some((rest, container)) => (Some(rest), container),
        };
        let container = range(container).ok_or_else(malformed)?;
        let (address, host) = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
            None => (None, None),
            Some((address, host)) => {
                let address = match address.trim_matches(['[', ']']) {
                    "" => None,
                    address => Some(address.parse().map_err(|_| malformed())?),
                };
                let host = match host {
                    "" => None,
                    host => Some(range(host).ok_or_else(malformed)?),
                };
                (address, host)
            }
        };
        if let Some(host) = &host {
            // A range of the host's for one port of the container: any that is free.
            if container.len() != 1 && host.len() != container.len() {
                return Err(PublishError::Lengths(text.trim().to_owned()));
            }
        }
        Ok(Self {
            address,
            host,
            container,
            protocol,
        })
    }
}

/// `80` or `8000-8010`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| {
        let is_plain = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_plain)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}

impl Protocol {
    fn parse(text: &str) -> Option<Self> {
        match &*text.to_ascii_lowercase() {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// As the argument of `--publish`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        if let Some(host) = &self.host {
            write_range(f, host)?;
        }
        if self.host.is_some() || self.address.is_some() {
            f.write_str(":")?;
        }
        write_range(f, &self.container)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
            Protocol::Sctp => f.write_str("/sctp"),
        }
    }
}

fn write_range(f: &mut fmt::Formatter<'_>, range: &RangeInclusive<u16>) -> fmt::Result {
    write!(f, "{}", range.start())?;
    if range.start() != range.end() {
        write!(f, "-{}", range.end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_written_as_docker_takes_them() {
        for (text, argument) in [
            ("6379", "6379"),
            ("6379/tcp", "6379"),
            (" 5432:5432 ", "5432:5432"),
            ("5353:53/UDP", "5353:53/udp"),
            ("127.0.0.1:80:8080", "127.0.0.1:80:8080"),
            ("127.0.0.1::80", "127.0.0.1::80"),
            ("[::1]:80:80", "[::1]:80:80"),
            ("8000-8010:9000-9010", "8000-8010:9000-9010"),
            ("8000-8010:80", "8000-8010:80"),
            ("3000-3001", "3000-3001"),
        ] {
            let publish = Publish::parse(text).map(|publish| publish.to_string());
            assert_eq!(publish.as_deref(), Ok(argument), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "", "x", "70000", "80/x", "-1", "+80", "a:1:2", "9-8", "1:2:3", "--rm",
        ] {
            assert!(
                matches!(Publish::parse(text), Err(PublishError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!(
            Publish::parse("1-2:1-3"),
            Err(PublishError::Lengths(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_a_port_that_stays_itself_or_is_refused(text in "[0-9:./\\-\\[\\]tcpud]{0,30}|\\PC{0,30}") {
            if let Ok(publish) = Publish::parse(&text) {
                prop_assert_eq!(Publish::parse(&publish.to_string()), Ok(publish));
            }
        }
    }
}
