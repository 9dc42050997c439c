//! What the policy asks the host, asked live: its routes by netlink, its name servers by `/etc/resolv.conf`.
//!
//! “Is this an address of the host?” is put to the kernel as the question that a connect would put: where does the
//! route lead? That covers what a list of interface addresses does not (whole local prefixes, a network's broadcast
//! address), is never out of date, and costs the same whatever the number of addresses. There is no cache: an answer
//! takes a few microseconds.

use super::policy::{Host, Reach};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// This host: the network namespace of the calling thread, and a `resolv.conf`.
#[derive(Debug)]
pub struct LiveHost {
    resolv_conf: PathBuf,
    routes: Option<Routes>,
}

impl LiveHost {
    /// This host, with the name servers of `/etc/resolv.conf`.
    pub fn new() -> Self {
        Self::with_resolv_conf("/etc/resolv.conf")
    }

    /// This host, with the name servers of another file.
    pub fn with_resolv_conf(path: impl Into<PathBuf>) -> Self {
        Self {
            resolv_conf: path.into(),
            routes: None,
        }
    }

    fn routes(&mut self) -> io::Result<&mut Routes> {
        if self.routes.is_none() {
            self.routes = Some(Routes::open()?);
        }
        self.routes
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Default for LiveHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for LiveHost {
    fn reach(&mut self, ip: IpAddr) -> io::Result<Reach> {
        let answer = self.routes()?.reach(ip);
        if answer.is_err() {
            // Whatever is left in its queue must not be taken for the next answer.
            self.routes = None;
        }
        answer
    }

    fn name_servers(&mut self) -> Vec<SocketAddr> {
        match read_bounded(&self.resolv_conf) {
            Ok(text) => name_servers(&text),
            Err(error) => {
                tracing::debug!(path = %self.resolv_conf.display(), %error, "no name servers");
                Vec::new()
            }
        }
    }
}

/// No sensible file is larger, and it is read at each DNS request.
const MAX_RESOLV_CONF: u64 = 64 * 1024;

fn read_bounded(path: &std::path::Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_RESOLV_CONF)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name servers in the text of a `resolv.conf`, on port 53. Lines that do not name one are passed over, as the
/// C library and libslirp do.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next())
                .flatten()
        })
        .filter_map(name_server)
        .collect()
}

fn name_server(word: &str) -> Option<SocketAddr> {
    let (ip, scope) = match word.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (word, None),
    };
    match (ip.parse().ok()?, scope) {
        (ip, None) => Some(SocketAddr::new(ip, 53)),
        (IpAddr::V6(ip), Some(scope)) => Some(scoped(ip, scope)?.into()),
        (IpAddr::V4(_), Some(_)) => None,
    }
}

/// An unknown interface makes no server: without its scope the address would stand for any link.
fn scoped(ip: Ipv6Addr, scope: &str) -> Option<SocketAddrV6> {
    let index = match scope.parse() {
        Ok(index) => index,
        Err(_) => interface_index(scope)?,
    };
    (index != 0).then(|| SocketAddrV6::new(ip, 53, 0, index))
}

fn interface_index(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: `name` is a C string that outlives the call, which keeps no pointer to it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// A netlink socket for route look-ups (rtnetlink(7), `RTM_GETROUTE`).
#[derive(Debug)]
struct Routes {
    socket: OwnedFd,
    sequence: u32,
}

/// Lengths of `struct nlmsghdr` and `struct rtmsg`.
const HEADER: usize = 16;
const ROUTE: usize = 12;

impl Routes {
    fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    fn reach(&mut self, ip: IpAddr) -> io::Result<Reach> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(
            &self.socket,
            &request(ip, self.sequence),
            SendFlags::empty(),
        )?;
        // The kernel has answered by the time `send` returns. An answer that is not there is an error, not a wait.
        let mut reply = [0u8; 1024];
        let (length, _) = rustix::net::recv(&self.socket, &mut reply[..], RecvFlags::DONTWAIT)?;
        parse_reply(reply.get(..length).unwrap_or(&reply), self.sequence)
    }
}

fn request(ip: IpAddr, sequence: u32) -> Vec<u8> {
    let (family, address) = match ip {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let total = HEADER + ROUTE + 4 + address.len();
    let mut out = Vec::with_capacity(total);
    out.extend((total as u32).to_ne_bytes());
    out.extend(libc::RTM_GETROUTE.to_ne_bytes());
    out.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    let mut route = [0u8; ROUTE];
    route[0] = family as u8;
    route[1] = (address.len() * 8) as u8;
    out.extend(route);
    out.extend((4 + address.len() as u16).to_ne_bytes());
    out.extend(libc::RTA_DST.to_ne_bytes());
    out.extend(address);
    out
}

fn parse_reply(reply: &[u8], sequence: u32) -> io::Result<Reach> {
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a netlink message that is no answer",
        )
    };
    let word = |at: usize| {
        reply
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_ne_bytes)
    };
    let kind = reply
        .get(4..6)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes);
    if word(8) != Some(sequence) {
        return Err(malformed());
    }
    match kind.ok_or_else(malformed)? {
        kind if i32::from(kind) == libc::NLMSG_ERROR => {
            match -(word(HEADER).ok_or_else(malformed)? as i32) {
                // What a look-up says of unreachable, prohibited and blackhole routes, and of no route at all.
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL => {
                    Ok(Reach::Nowhere)
                }
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
        libc::RTM_NEWROUTE => {
            reach_of(*reply.get(HEADER + 7).ok_or_else(malformed)?).ok_or_else(malformed)
        }
        _ => Err(malformed()),
    }
}

/// The meaning of `rtm_type`.
fn reach_of(kind: u8) -> Option<Reach> {
    match kind {
        libc::RTN_UNICAST => Some(Reach::Outside),
        // An anycast address is one of this host's, as a member of its subnet's routers.
        libc::RTN_LOCAL | libc::RTN_ANYCAST => Some(Reach::Own),
        libc::RTN_BROADCAST => Some(Reach::Broadcast),
        libc::RTN_MULTICAST => Some(Reach::Multicast),
        libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT => Some(Reach::Nowhere),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        name_servers(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_are_read_in_order_and_other_lines_passed_over() {
        let text = "# nameserver 1.1.1.1\n; x\nsearch example.org\nnameserver 127.0.0.53\n\tnameserver\t9.9.9.9 # x\n\
                    options edns0\nnameserver 2620:fe::fe\n";
        assert_eq!(
            servers(text),
            ["127.0.0.53:53", "9.9.9.9:53", "[2620:fe::fe]:53"]
        );
    }

    #[test]
    fn what_is_no_address_makes_no_server() {
        for text in [
            "nameserver",
            "nameserver ",
            "nameserver localhost",
            "nameserver 1.2.3",
            "nameserver 1.2.3.4:53",
        ] {
            assert_eq!(servers(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(
            servers("nameservers 9.9.9.9\nNAMESERVER 9.9.9.9"),
            Vec::<String>::new()
        );
        assert_eq!(servers("nameserver 9.9.9.9%lo"), Vec::<String>::new());
    }

    #[test]
    fn the_scope_of_a_link_local_server_is_kept_and_an_unknown_one_makes_no_server() {
        assert_eq!(servers("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
        assert_eq!(servers("nameserver fe80::1%7"), ["[fe80::1%7]:53"]);
        assert_eq!(
            servers("nameserver fe80::1%nosuch0\nnameserver fe80::1%0"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_missing_resolv_conf_means_no_name_servers() {
        assert_eq!(
            LiveHost::with_resolv_conf("/nonexistent/resolv.conf").name_servers(),
            []
        );
    }

    #[test]
    fn the_kernel_says_that_loopback_is_the_host() {
        let mut host = LiveHost::new();
        for ip in ["127.0.0.1", "127.1.2.3"] {
            assert_eq!(host.reach(ip.parse().unwrap()).unwrap(), Reach::Own, "{ip}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let mut reply = vec![0u8; HEADER + ROUTE];
        reply[4..6].copy_from_slice(&libc::RTM_NEWROUTE.to_ne_bytes());
        reply[8..12].copy_from_slice(&7u32.to_ne_bytes());
        reply[HEADER + 7] = libc::RTN_UNICAST;
        assert_eq!(parse_reply(&reply, 7).unwrap(), Reach::Outside);
        assert!(parse_reply(&reply, 8).is_err());
        reply[HEADER + 7] = 200;
        assert!(parse_reply(&reply, 7).is_err(), "an unknown kind of route");
        for length in 0..reply.len() {
            assert!(
                parse_reply(&reply[..length], 7).is_err() || length > HEADER + 7,
                "cut to {length}"
            );
        }
    }
}
