//! The link-local address of IPv6. The kernel makes one from the hardware address when an interface comes up, and keeps it when that
//! changes later; so all forks would have their template's.

use crate::sys::check;
use rustix::io::{Errno, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct in6_ifreq` of linux/ipv6.h.
#[repr(C)]
struct Request {
    address: [u8; 16],
    prefix: u32,
    interface: i32,
}

/// Bits of the network in a link-local address.
const PREFIX: u32 = 64;
/// `IPV6_ADDR_LINKLOCAL`, as in `/proc/net/if_inet6`.
const LINK: u8 = 0x20;
/// A guest has a handful of addresses.
const LISTING: usize = 64 << 10;

/// Gives an interface that is up the link-local address of this hardware address instead of what it has. Other addresses stay.
/// Nothing is done where there is none: IPv6 is off, or somebody wants it so.
pub fn renew(interface: &str, mac: [u8; 6]) -> Result<()> {
    let listing = crate::sys::read_file("/proc/net/if_inet6", LISTING).unwrap_or_default();
    let old: Vec<_> = parse(&listing, interface).collect();
    let new = of(mac);
    if old.is_empty() {
        return Ok(());
    }
    // SAFETY: the descriptor is new.
    let socket = unsafe {
        let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET6, flags, 0))?)
    };
    let call = |what: libc::Ioctl, address, interface| {
        let request = Request {
            address,
            prefix: PREFIX,
            interface,
        };
        // SAFETY: both calls read one in6_ifreq, which outlives them.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const request) }).map(drop)
    };
    let index = old[0].1;
    // The new one first: without any the kernel turns IPv6 off on the interface.
    match call(libc::SIOCSIFADDR, new, index) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    for (address, index) in old {
        if address != new {
            call(libc::SIOCDIFADDR, address, index)?;
        }
    }
    Ok(())
}

/// RFC 4291, appendix A.
fn of(mac: [u8; 6]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..11].copy_from_slice(&mac[..3]);
    address[8] ^= 2;
    address[11..13].copy_from_slice(&[0xff, 0xfe]);
    address[13..].copy_from_slice(&mac[3..]);
    address
}

/// The link-local addresses of an interface, and its number.
fn parse(listing: &[u8], interface: &str) -> impl Iterator<Item = ([u8; 16], i32)> {
    let text = std::str::from_utf8(listing).unwrap_or_default();
    text.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let index = i32::from_str_radix(words.next()?, 16).ok()?;
        let _prefix = words.next()?;
        let scope = u8::from_str_radix(words.next()?, 16).ok()?;
        let _flags = words.next()?;
        (words.next()? == interface && scope == LINK).then_some((address.to_be_bytes(), index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_follows_from_the_hardware_s() {
        let text = std::net::Ipv6Addr::from(of([0x52, 0x54, 0, 0x12, 0x34, 0x56])).to_string();
        assert_eq!(text, "fe80::5054:ff:fe12:3456");
    }

    #[test]
    fn of_the_kernel_s_list_the_interface_s_own_are_taken() {
        let listing = b"00000000000000000000000000000001 01 80 10 80       lo\n\
            fe80000000000000505400fffe123456 02 40 20 80     eth0\n\
            fec0000000000000505400fffe123456 02 40 40 80     eth0\n\
            fe80000000000000505400fffe123457 03 40 20 80     eth00\n\
            garbage\n";
        let found: Vec<_> = parse(listing, "eth0").collect();
        assert_eq!(found, [(of([0x52, 0x54, 0, 0x12, 0x34, 0x56]), 2)]);
        assert_eq!(parse(b"\xff", "eth0").count(), 0);
    }
}
