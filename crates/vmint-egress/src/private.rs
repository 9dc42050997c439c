//! Addresses that a name may not lead to by itself: whoever answers for a name could point it at a neighbour of the host
//! (DNS rebinding). The list may name them.

use std::net::{IpAddr, Ipv6Addr};

/// Whether an address is of a private network: RFC 1918, the ranges of carriers and of benchmarks, unique local addresses. For
/// IPv4 in IPv6, the address inside counts.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                // 100.64.0.0/10, 198.18.0.0/15, 192.0.0.0/24, 240.0.0.0/4
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18)
                || v4.octets()[..3] == [192, 0, 0]
                || a >= 240
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            // fc00::/7, and fec0::/10 of old
            first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfec0
                || inside(v6).is_some_and(is_private)
        }
    }
}

/// The IPv4 address in a NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) address.
fn inside(v6: Ipv6Addr) -> Option<IpAddr> {
    let o = v6.octets();
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(IpAddr::from([o[12], o[13], o[14], o[15]])),
        [0x2002, ..] => Some(IpAddr::from([o[2], o[3], o[4], o[5]])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_are_told_from_public_ones_at_their_edges() {
        for private in [
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.19.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "fc00::1",
            "fdff::1",
            "fec0::3",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "198.17.0.1",
            "198.20.0.1",
            "192.0.2.1",
            "93.184.216.34",
            "2001:db8::1",
            "fe00::1",
            "::ffff:93.184.216.34",
            "64:ff9b::93.184.216.34",
            "2002:5db8:d822::1",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}
