//! Socket addresses as they lie in a process's memory.

use rustix::io::Errno;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// `sizeof(struct sockaddr_storage)`: the kernel refuses more.
pub(super) const MAX_LENGTH: usize = 128;

/// Where a system call wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Inet(SocketAddr),
    /// `AF_UNSPEC`: for connect, to forget the peer.
    Unspecified,
    /// Another family.
    Other(u16),
}

/// Reads a `struct sockaddr`. Addresses that are too short are refused as the kernel does.
pub(super) fn parse(bytes: &[u8]) -> Result<Destination, Errno> {
    let family = u16::from_ne_bytes(take(bytes, 0)?);
    match i32::from(family) {
        libc::AF_INET if bytes.len() >= 16 => {
            let port = u16::from_be_bytes(take(bytes, 2)?);
            let ip = Ipv4Addr::from(take::<4>(bytes, 4)?);
            Ok(Destination::Inet(SocketAddrV4::new(ip, port).into()))
        }
        // An old form ends before the scope.
        libc::AF_INET6 if bytes.len() >= 24 => {
            let port = u16::from_be_bytes(take(bytes, 2)?);
            let flow = u32::from_ne_bytes(take(bytes, 4)?);
            let ip = Ipv6Addr::from(take::<16>(bytes, 8)?);
            let scope = take(bytes, 24).map_or(0, u32::from_ne_bytes);
            Ok(Destination::Inet(
                SocketAddrV6::new(ip, port, flow, scope).into(),
            ))
        }
        libc::AF_INET | libc::AF_INET6 => Err(Errno::INVAL),
        libc::AF_UNSPEC => Ok(Destination::Unspecified),
        _ => Ok(Destination::Other(family)),
    }
}

/// Writes a `struct sockaddr_in` or `sockaddr_in6`.
pub(super) fn write(address: SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(v4) => {
            let mut out = (libc::AF_INET as u16).to_ne_bytes().to_vec();
            out.extend(v4.port().to_be_bytes());
            out.extend(v4.ip().octets());
            out.extend([0; 8]);
            out
        }
        SocketAddr::V6(v6) => {
            let mut out = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
            out.extend(v6.port().to_be_bytes());
            out.extend(v6.flowinfo().to_ne_bytes());
            out.extend(v6.ip().octets());
            out.extend(v6.scope_id().to_ne_bytes());
            out
        }
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Errno> {
    bytes
        .get(at..at + N)
        .and_then(|part| part.try_into().ok())
        .ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> Vec<u8> {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend(443u16.to_be_bytes());
        bytes.extend([93, 184, 216, 34]);
        bytes.extend([0; 8]);
        bytes
    }

    fn v6() -> Vec<u8> {
        let mut bytes = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        bytes.extend(443u16.to_be_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend(3u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(
            parse(&v4()),
            Ok(Destination::Inet("93.184.216.34:443".parse().unwrap()))
        );
        assert_eq!(
            parse(&v6()),
            Ok(Destination::Inet("[fe80::1%3]:443".parse().unwrap()))
        );
        assert_eq!(
            parse(&v6()[..24]),
            Ok(Destination::Inet("[fe80::1]:443".parse().unwrap()))
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        for address in ["93.184.216.34:53", "[2001:db8::1]:53", "[fe80::1%3]:53"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(parse(&write(address)), Ok(Destination::Inet(address)));
        }
        assert_eq!(write("1.2.3.4:5".parse().unwrap()).len(), 16);
    }

    #[test]
    fn short_addresses_are_refused() {
        for length in 0..16 {
            assert_eq!(parse(&v4()[..length]), Err(Errno::INVAL), "{length}");
        }
        for length in 0..24 {
            assert_eq!(parse(&v6()[..length]), Err(Errno::INVAL), "{length}");
        }
    }

    #[test]
    fn longer_addresses_are_read_by_their_beginning() {
        let mut long = v4();
        long.resize(MAX_LENGTH, 0xff);
        assert_eq!(
            parse(&long),
            Ok(Destination::Inet("93.184.216.34:443".parse().unwrap()))
        );
    }

    #[test]
    fn other_families_are_told_apart() {
        assert_eq!(parse(&[0, 0]), Ok(Destination::Unspecified));
        assert_eq!(
            parse(&(libc::AF_UNIX as u16).to_ne_bytes()),
            Ok(Destination::Other(1))
        );
    }
}
