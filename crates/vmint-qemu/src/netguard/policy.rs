//! Which destination a machine may reach: a pure object that answers allow or deny, with the reason.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is spoken to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// A UDP datagram, or a UDP socket's peer.
    Udp,
    /// An echo request through an unprivileged ICMP socket.
    Icmp,
}

/// The policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be connected or sent to, at exactly this address.
    Allow(SocketAddr),
    /// To be refused.
    Deny(Reason),
}

/// Why a destination is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// 0.0.0.0/8, `::` and the rest of `::/96`: the kernel takes the first two for the host itself.
    Unspecified,
    /// 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// 224.0.0.0/4, `ff00::/8`, or so by the host's routes.
    Multicast,
    /// 255.255.255.255, or a network's broadcast address by the host's routes.
    Broadcast,
    /// A cloud's metadata service outside the link-local range: it hands out the host's credentials.
    Metadata,
    /// One of the host's own addresses.
    OwnAddress,
    /// The host has no route there.
    NoRoute,
    /// The host's routes could not be read.
    Unknown,
    /// The machine's allow list does not lead there.
    Unlisted,
}

impl Reason {
    /// The error that the caller of the system call gets. libslirp answers a TCP guest with a reset for `ECONNREFUSED`
    /// and with an ICMP “unreachable” for anything else, so that nothing in the guest waits for a time-out.
    pub fn errno(self, protocol: Protocol) -> rustix::io::Errno {
        match (self, protocol) {
            (Self::NoRoute, _) => rustix::io::Errno::NETUNREACH,
            (_, Protocol::Tcp) => rustix::io::Errno::CONNREFUSED,
            (_, Protocol::Udp | Protocol::Icmp) => rustix::io::Errno::ACCESS,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Loopback => "the host's loopback",
            Self::Unspecified => "the unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
            Self::Metadata => "a cloud's metadata service",
            Self::OwnAddress => "an address of the host",
            Self::NoRoute => "no route from the host",
            Self::Unlisted => "not on the machine's allow list",
            Self::Unknown => "the host's routes could not be read",
        })
    }
}

/// Where the host's routes lead to from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the host itself.
    Own,
    /// To all on a network.
    Broadcast,
    /// To a group.
    Multicast,
    /// Out.
    Outside,
    /// Nowhere.
    Nowhere,
}

/// What the policy asks the host.
pub trait Host {
    /// Where packets to `ip` would go, now.
    fn reach(&mut self, ip: IpAddr) -> io::Result<Reach>;

    /// The configured name servers, now. The port says nothing; an IPv6 scope of 0 stands for any.
    fn name_servers(&mut self) -> Vec<SocketAddr>;
}

/// What a machine with user-mode networking may reach: the host's name servers on port 53, and whatever lies outside
/// the host, its neighbours on private networks included. Never the host.
#[derive(Debug)]
pub struct Policy<H> {
    host: H,
}

/// Where DNS is spoken.
const DNS_PORT: u16 = 53;

/// Metadata services at addresses that are not link-local: Azure, Alibaba, Oracle; AWS and Google over IPv6.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl<H: Host> Policy<H> {
    /// A policy for machines on `host`.
    pub fn new(host: H) -> Self {
        Self { host }
    }

    /// Whether `destination` may be reached over `protocol`.
    pub fn decide(&mut self, destination: SocketAddr, protocol: Protocol) -> Verdict {
        if self.is_name_service(destination, protocol) {
            return Verdict::Allow(destination);
        }
        let ip = destination.ip().to_canonical();
        match self.refusal(ip) {
            Some(reason) => Verdict::Deny(reason),
            None => Verdict::Allow(destination),
        }
    }

    /// Name servers go first: they may be at any address, loopback (a local resolver) and link-local (a cloud's)
    /// included.
    pub(super) fn is_name_service(&mut self, destination: SocketAddr, protocol: Protocol) -> bool {
        destination.port() == DNS_PORT
            && protocol != Protocol::Icmp
            && self.host.name_servers().into_iter().any(|server| {
                server.ip().to_canonical() == destination.ip().to_canonical()
                    && scopes_agree(server, destination)
            })
    }

    fn refusal(&mut self, ip: IpAddr) -> Option<Reason> {
        if let Some(reason) = by_range(ip) {
            return Some(reason);
        }
        // A translator or a tunnel may be on this very host: the address inside counts as well. That there is no
        // route to it is no reason, since the packet would not go there directly.
        if let IpAddr::V6(v6) = ip
            && let Some(inner) = embedded(v6).map(IpAddr::V4)
            && let Some(reason) = by_range(inner).or_else(|| self.by_route(inner))
            && reason != Reason::NoRoute
        {
            return Some(reason);
        }
        self.by_route(ip)
    }

    fn by_route(&mut self, ip: IpAddr) -> Option<Reason> {
        match self.host.reach(ip) {
            Ok(Reach::Outside) => None,
            Ok(Reach::Own) => Some(Reason::OwnAddress),
            Ok(Reach::Broadcast) => Some(Reason::Broadcast),
            Ok(Reach::Multicast) => Some(Reason::Multicast),
            Ok(Reach::Nowhere) => Some(Reason::NoRoute),
            Err(error) => {
                tracing::warn!(%ip, %error, "cannot ask for the route; refusing");
                Some(Reason::Unknown)
            }
        }
    }
}

/// What can be told from the address alone.
fn by_range(ip: IpAddr) -> Option<Reason> {
    if METADATA.contains(&ip) {
        return Some(Reason::Metadata);
    }
    match ip {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(Reason::Unspecified),
        IpAddr::V4(v4) if v4.is_loopback() => Some(Reason::Loopback),
        IpAddr::V4(v4) if v4.is_link_local() => Some(Reason::LinkLocal),
        IpAddr::V4(v4) if v4.is_multicast() => Some(Reason::Multicast),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(Reason::Broadcast),
        IpAddr::V6(v6) if v6.is_loopback() => Some(Reason::Loopback),
        IpAddr::V6(v6) if v6.segments()[..6] == [0; 6] => Some(Reason::Unspecified),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Reason::LinkLocal),
        IpAddr::V6(v6) if v6.is_multicast() => Some(Reason::Multicast),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The IPv4 address inside a NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) address.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let ([0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..]) = ip.segments() else {
        return None;
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// `fe80::1%eth0` is another server than `fe80::1%eth1`.
fn scopes_agree(server: SocketAddr, destination: SocketAddr) -> bool {
    match (server, destination) {
        (SocketAddr::V6(server), SocketAddr::V6(destination)) => {
            server.scope_id() == 0 || server.scope_id() == destination.scope_id()
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A host on 192.168.7.0/24 with one address there, a default route, and the given name servers.
    #[derive(Default)]
    struct Fake {
        servers: Vec<SocketAddr>,
        routes: HashMap<IpAddr, Reach>,
        routes_unreadable: bool,
    }

    impl Host for Fake {
        fn reach(&mut self, ip: IpAddr) -> io::Result<Reach> {
            if self.routes_unreadable {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            Ok(self.routes.get(&ip).copied().unwrap_or(Reach::Outside))
        }

        fn name_servers(&mut self) -> Vec<SocketAddr> {
            self.servers.clone()
        }
    }

    fn host() -> Fake {
        let routes = [
            ("192.168.7.2", Reach::Own),
            ("192.168.7.255", Reach::Broadcast),
            ("2001:db8::2", Reach::Own),
            ("10.99.0.1", Reach::Nowhere),
            ("2001:db8:dead::1", Reach::Nowhere),
        ];
        Fake {
            routes: routes
                .into_iter()
                .map(|(ip, reach)| (ip.parse().unwrap(), reach))
                .collect(),
            ..Fake::default()
        }
    }

    fn with_servers(servers: &[&str]) -> Policy<Fake> {
        Policy::new(Fake {
            servers: servers.iter().map(|s| s.parse().unwrap()).collect(),
            ..host()
        })
    }

    fn decide(policy: &mut Policy<Fake>, destination: &str, protocol: Protocol) -> Verdict {
        policy.decide(destination.parse().expect(destination), protocol)
    }

    #[track_caller]
    fn denied(destination: &str, reason: Reason) {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            assert_eq!(
                decide(&mut with_servers(&[]), destination, protocol),
                Verdict::Deny(reason),
                "{destination} over {protocol:?}"
            );
        }
    }

    #[track_caller]
    fn allowed(destination: &str) {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            assert_eq!(
                decide(&mut with_servers(&[]), destination, protocol),
                Verdict::Allow(destination.parse().unwrap()),
                "{destination} over {protocol:?}"
            );
        }
    }

    #[test]
    fn the_whole_of_loopback_is_denied() {
        for ip in [
            "127.0.0.1:22",
            "127.0.0.53:53",
            "127.255.255.254:1",
            "[::1]:22",
        ] {
            denied(ip, Reason::Loopback);
        }
    }

    #[test]
    fn addresses_just_outside_loopback_are_not_loopback() {
        allowed("126.255.255.255:1");
        allowed("128.0.0.1:1");
    }

    #[test]
    fn the_unspecified_address_is_the_host_and_denied() {
        for ip in ["0.0.0.0:22", "0.1.2.3:22", "[::]:22"] {
            denied(ip, Reason::Unspecified);
        }
        allowed("1.0.0.1:22");
    }

    #[test]
    fn ipv4_compatible_addresses_are_denied() {
        denied("[::7f00:1]:22", Reason::Unspecified);
        denied("[::2]:22", Reason::Unspecified);
    }

    #[test]
    fn every_refusal_holds_for_the_ipv4_mapped_form_too() {
        denied("[::ffff:127.0.0.1]:22", Reason::Loopback);
        denied("[::ffff:0.0.0.0]:22", Reason::Unspecified);
        denied("[::ffff:169.254.169.254]:80", Reason::LinkLocal);
        denied("[::ffff:192.168.7.2]:22", Reason::OwnAddress);
        denied("[::ffff:192.168.7.255]:22", Reason::Broadcast);
        denied("[::ffff:224.0.0.1]:22", Reason::Multicast);
        denied("[::ffff:255.255.255.255]:22", Reason::Broadcast);
        denied("[::ffff:168.63.129.16]:80", Reason::Metadata);
    }

    #[test]
    fn an_allowed_ipv4_mapped_address_stays_in_the_form_its_socket_needs() {
        allowed("[::ffff:93.184.216.34]:80");
    }

    #[test]
    fn the_hosts_own_addresses_are_denied_whatever_the_port() {
        for ip in [
            "192.168.7.2:1",
            "192.168.7.2:53",
            "192.168.7.2:65535",
            "[2001:db8::2]:443",
        ] {
            denied(ip, Reason::OwnAddress);
        }
    }

    #[test]
    fn link_local_is_denied() {
        for ip in [
            "169.254.169.254:80",
            "169.254.0.1:80",
            "[fe80::1]:80",
            "[febf::1]:80",
            "[fe80::1%2]:80",
        ] {
            denied(ip, Reason::LinkLocal);
        }
        allowed("169.253.255.255:80");
        allowed("[fec0::1]:80");
    }

    #[test]
    fn metadata_services_outside_the_link_local_range_are_denied() {
        for ip in [
            "168.63.129.16:80",
            "100.100.100.200:80",
            "192.0.0.192:80",
            "[fd00:ec2::254]:80",
            "[fd20:ce::254]:80",
        ] {
            denied(ip, Reason::Metadata);
        }
    }

    #[test]
    fn multicast_and_broadcast_are_denied() {
        for ip in [
            "224.0.0.251:5353",
            "239.255.255.250:1900",
            "[ff02::fb]:5353",
        ] {
            denied(ip, Reason::Multicast);
        }
        for ip in ["255.255.255.255:67", "192.168.7.255:67"] {
            denied(ip, Reason::Broadcast);
        }
    }

    #[test]
    fn addresses_that_hide_a_denied_ipv4_address_are_denied() {
        denied("[64:ff9b::127.0.0.1]:22", Reason::Loopback);
        denied("[64:ff9b::169.254.169.254]:80", Reason::LinkLocal);
        denied("[64:ff9b::192.168.7.2]:22", Reason::OwnAddress);
        denied("[2002:7f00:1::1]:22", Reason::Loopback);
        denied("[2002:c0a8:702::1]:22", Reason::OwnAddress);
        denied("[2002:a9fe:a9fe::]:80", Reason::LinkLocal);
    }

    #[test]
    fn addresses_that_hide_a_public_ipv4_address_are_allowed_without_a_route_to_it() {
        allowed("[64:ff9b::93.184.216.34]:80");
        allowed("[2002:5db8:d822::1]:80");
        allowed("[64:ff9b::10.99.0.1]:80");
    }

    #[test]
    fn public_and_private_neighbours_are_allowed() {
        for ip in [
            "93.184.216.34:443",
            "192.168.7.3:22",
            "10.1.2.3:5432",
            "172.17.0.2:80",
            "100.64.0.1:80",
        ] {
            allowed(ip);
        }
        for ip in [
            "[2606:4700::1111]:443",
            "[fd12:3456::1]:443",
            "[2001:db8::3]:443",
        ] {
            allowed(ip);
        }
    }

    #[test]
    fn no_route_is_its_own_reason() {
        denied("10.99.0.1:80", Reason::NoRoute);
        denied("[2001:db8:dead::1]:80", Reason::NoRoute);
    }

    #[test]
    fn unreadable_routes_deny_everything_but_the_name_server() {
        let mut policy = Policy::new(Fake {
            servers: vec!["9.9.9.9:53".parse().unwrap()],
            routes_unreadable: true,
            ..Fake::default()
        });
        assert_eq!(
            decide(&mut policy, "93.184.216.34:443", Protocol::Tcp),
            Verdict::Deny(Reason::Unknown)
        );
        assert_eq!(
            decide(&mut policy, "9.9.9.9:53", Protocol::Udp),
            Verdict::Allow("9.9.9.9:53".parse().unwrap())
        );
    }

    #[test]
    fn a_name_server_is_allowed_on_port_53_over_udp_and_tcp_wherever_it_is() {
        for server in [
            "127.0.0.53:53",
            "192.168.7.2:53",
            "169.254.169.254:53",
            "168.63.129.16:53",
            "[::1]:53",
        ] {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                assert_eq!(
                    decide(&mut with_servers(&[server]), server, protocol),
                    Verdict::Allow(server.parse().unwrap()),
                    "{server} over {protocol:?}"
                );
            }
        }
    }

    #[test]
    fn a_name_server_is_allowed_in_its_ipv4_mapped_form() {
        let mapped = "[::ffff:127.0.0.53]:53";
        assert_eq!(
            decide(&mut with_servers(&["127.0.0.53:53"]), mapped, Protocol::Udp),
            Verdict::Allow(mapped.parse().unwrap())
        );
    }

    #[test]
    fn a_name_server_is_allowed_on_no_other_port_and_no_other_protocol() {
        let mut policy = with_servers(&["127.0.0.53:53"]);
        for port in [22, 52, 54, 80, 853, 5353] {
            let destination = format!("127.0.0.53:{port}");
            assert_eq!(
                decide(&mut policy, &destination, Protocol::Tcp),
                Verdict::Deny(Reason::Loopback),
                "{port}"
            );
        }
        assert_eq!(
            decide(&mut policy, "127.0.0.53:53", Protocol::Icmp),
            Verdict::Deny(Reason::Loopback)
        );
    }

    #[test]
    fn a_name_server_opens_port_53_on_no_neighbouring_address() {
        let mut policy = with_servers(&["127.0.0.53:53"]);
        for ip in ["127.0.0.1:53", "127.0.0.54:53", "[::1]:53"] {
            assert_eq!(
                decide(&mut policy, ip, Protocol::Udp),
                Verdict::Deny(Reason::Loopback),
                "{ip}"
            );
        }
    }

    #[test]
    fn a_link_local_name_server_is_allowed_on_its_own_link_only() {
        let mut policy = with_servers(&["[fe80::53%2]:53"]);
        let right = "[fe80::53%2]:53";
        assert_eq!(
            decide(&mut policy, right, Protocol::Udp),
            Verdict::Allow(right.parse().unwrap())
        );
        assert_eq!(
            decide(&mut policy, "[fe80::53%3]:53", Protocol::Udp),
            Verdict::Deny(Reason::LinkLocal)
        );
        assert_eq!(
            decide(&mut policy, "[fe80::53]:53", Protocol::Udp),
            Verdict::Deny(Reason::LinkLocal)
        );
    }

    #[test]
    fn a_name_server_without_a_scope_is_allowed_on_any_link() {
        let mut policy = with_servers(&["[fe80::53]:53"]);
        let scoped = "[fe80::53%3]:53";
        assert_eq!(
            decide(&mut policy, scoped, Protocol::Udp),
            Verdict::Allow(scoped.parse().unwrap())
        );
    }

    #[test]
    fn a_name_server_that_is_removed_is_allowed_no_more() {
        let mut policy = with_servers(&["127.0.0.53:53"]);
        assert!(matches!(
            decide(&mut policy, "127.0.0.53:53", Protocol::Udp),
            Verdict::Allow(_)
        ));
        policy.host.servers.clear();
        assert_eq!(
            decide(&mut policy, "127.0.0.53:53", Protocol::Udp),
            Verdict::Deny(Reason::Loopback)
        );
    }

    #[test]
    fn an_address_that_the_host_takes_on_is_denied_from_then_on() {
        let mut policy = with_servers(&[]);
        assert!(matches!(
            decide(&mut policy, "192.168.7.9:80", Protocol::Tcp),
            Verdict::Allow(_)
        ));
        policy
            .host
            .routes
            .insert("192.168.7.9".parse().unwrap(), Reach::Own);
        assert_eq!(
            decide(&mut policy, "192.168.7.9:80", Protocol::Tcp),
            Verdict::Deny(Reason::OwnAddress)
        );
    }

    #[test]
    fn a_refused_tcp_connect_fails_at_once_in_the_guest_and_a_datagram_as_unreachable() {
        use rustix::io::Errno;
        assert_eq!(Reason::Loopback.errno(Protocol::Tcp), Errno::CONNREFUSED);
        assert_eq!(Reason::OwnAddress.errno(Protocol::Udp), Errno::ACCESS);
        assert_eq!(Reason::LinkLocal.errno(Protocol::Icmp), Errno::ACCESS);
        assert_eq!(Reason::NoRoute.errno(Protocol::Tcp), Errno::NETUNREACH);
    }
}
