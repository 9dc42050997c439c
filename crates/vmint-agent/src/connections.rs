//! Connections that a machine took along into a fork or out of a snapshot, and that nobody has any more.
//!
//! Their other ends were in the hypervisor that was left. A program that waits for an answer would wait for ever, for nothing
//! comes, not even a refusal. So they are reset, as they would be by a host that had been started anew: by `SOCK_DESTROY` of sock_diag(7),
//! for which the kernel needs `inet_diag` and `tcp_diag`. Connections within the guest, over its loopback or to its own containers, have both
//! ends in it and stay.

use crate::sys::check;
use rustix::io::{Errno, Result};
use std::os::fd::{FromRawFd, OwnedFd};

/// `struct nlmsghdr`, `struct inet_diag_req_v2`, `struct inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
const MESSAGE: usize = 72;
/// `struct inet_diag_sockid` in both, and in it the addresses.
const ID: std::ops::Range<usize> = 4..52;
const ID_IN_REQUEST: usize = HEADER + 8;

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAG_DUMP: u16 = 0x300;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

/// All states but those that have no other end: `TIME_WAIT`, `CLOSE`, `LISTEN`.
const STATES: u32 = !(1 << 6 | 1 << 7 | 1 << 10) & 0x1fff;
/// How many are reset at once at most. A guest with more of them keeps the rest.
const MOST: usize = 1 << 16;

/// A connection: the family of its socket, and what names that to the kernel. One that is made later, between the same ends, has another
/// cookie in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    family: u8,
    id: [u8; 48],
}

/// The TCP connections that leave the machine from one of these addresses. They are looked up before anybody is told that the machine is
/// ready: what is made from then on has its other end.
pub fn of(from: &[[u8; 4]]) -> Result<Vec<Connection>> {
    if from.is_empty() || !are_sockets() {
        return Ok(Vec::new());
    }
    let socket = diagnosis()?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        list(&socket, family as u8, &mut |family, id| {
            if let (true, true, Ok(id)) =
                (found.len() < MOST, leaves(family, id, from), id.try_into())
            {
                found.push(Connection { family, id });
            }
        })?;
    }
    Ok(found)
}

/// Resets these. Gives how many.
pub fn reset(connections: &[Connection]) -> Result<usize> {
    if connections.is_empty() {
        return Ok(0);
    }
    let socket = diagnosis()?;
    let mut count = 0;
    for Connection { family, id } in connections {
        let flags = FLAG_REQUEST | FLAG_ACK;
        send(&socket, DESTROY, flags, *family, id)?;
        match answer(&socket)? {
            Ok(()) => count += 1,
            // It has just ended by itself.
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

/// Whether there are TCP sockets at all. Most machines that are forked have none, and to ask sock_diag costs an emulated guest 20 ms the
/// first time.
fn are_sockets() -> bool {
    ["/proc/net/sockstat", "/proc/net/sockstat6"]
        .iter()
        .any(|file| {
            std::fs::read_to_string(file)
                .map_or(*file == "/proc/net/sockstat", |text| uses_tcp(&text))
        })
}

/// Whether this text of `/proc/net/sockstat` counts TCP sockets.
fn uses_tcp(sockstat: &str) -> bool {
    let mut lines = sockstat.lines().filter(|line| line.starts_with("TCP"));
    lines.any(|line| line.split(' ').nth(2).is_none_or(|count| count != "0"))
}

fn diagnosis() -> Result<OwnedFd> {
    // SAFETY: the descriptor is new.
    unsafe {
        let fd = check(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_INET_DIAG,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn request(kind: u16, flags: u16, family: u8, id: &[u8]) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = libc::IPPROTO_TCP as u8;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&STATES.to_ne_bytes());
    bytes[ID_IN_REQUEST..ID_IN_REQUEST + id.len()].copy_from_slice(id);
    bytes
}

fn send(socket: &OwnedFd, kind: u16, flags: u16, family: u8, id: &[u8]) -> Result<()> {
    // The kernel takes it whole or not at all.
    rustix::io::write(socket, &request(kind, flags, family, id)).map(drop)
}

/// Tells each socket of a family to `found`.
fn list(socket: &OwnedFd, family: u8, found: &mut dyn FnMut(u8, &[u8])) -> Result<()> {
    send(socket, BY_FAMILY, FLAG_REQUEST | FLAG_DUMP, family, &[])?;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = rustix::io::read(socket, &mut buffer[..])?;
        for (kind, content) in messages(&buffer[..length]) {
            match kind {
                // A family may be missing, in a kernel without IPv6.
                TYPE_DONE | TYPE_ERROR => return Ok(()),
                BY_FAMILY if content.len() >= MESSAGE => found(content[0], &content[ID]),
                _ => {}
            }
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// The kernel's answer to one request.
fn answer(socket: &OwnedFd) -> Result<Result<()>> {
    let mut buffer = [0; 1024];
    let length = rustix::io::read(socket, &mut buffer)?;
    let error = messages(&buffer[..length])
        .find(|(kind, content)| *kind == TYPE_ERROR && content.len() >= 4)
        .map_or(0, |(_, content)| {
            i32::from_ne_bytes([content[0], content[1], content[2], content[3]])
        });
    Ok(match error {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(-error)),
    })
}

/// The messages in what was received: their types and contents.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let content = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// Whether a connection has its other end outside: it goes from one of the machine's addresses to none of them.
fn leaves(family: u8, id: &[u8], from: &[[u8; 4]]) -> bool {
    let [Some(source), Some(target)] = [4, 20].map(|at| ipv4(family, &id[at..at + 16])) else {
        return false;
    };
    from.contains(&source) && !from.contains(&target) && target[0] != 127
}

/// The IPv4 address in an address of a sockid; a socket of IPv6 may speak IPv4, too.
fn ipv4(family: u8, address: &[u8]) -> Option<[u8; 4]> {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    if i32::from(family) == libc::AF_INET {
        address[..4].try_into().ok()
    } else {
        address.strip_prefix(&MAPPED)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn id(family: i32, source: [u8; 4], target: [u8; 4]) -> [u8; 48] {
        let mut id = [0; 48];
        for (at, address) in [(4, source), (20, target)] {
            if family == libc::AF_INET {
                id[at..at + 4].copy_from_slice(&address);
            } else {
                id[at + 10..at + 12].fill(0xff);
                id[at + 12..at + 16].copy_from_slice(&address);
            }
        }
        id
    }

    #[test]
    fn what_leaves_the_machine_is_told_from_what_stays_in_it() {
        let own = [[10, 0, 2, 15], [10, 0, 2, 16]];
        for family in [libc::AF_INET, libc::AF_INET6] {
            let leaves = |a, b| leaves(family as u8, &id(family, a, b), &own);
            assert!(leaves(own[0], [10, 0, 2, 2]) && leaves(own[1], [1, 1, 1, 1]));
            assert!(!leaves(own[0], own[0]) && !leaves(own[0], own[1]));
            assert!(!leaves([127, 0, 0, 1], [127, 0, 0, 1]));
            assert!(!leaves([172, 17, 0, 1], [172, 17, 0, 2]), "a container's");
        }
        let ipv6 = [0xfe; 48];
        assert!(!super::leaves(libc::AF_INET6 as u8, &ipv6, &own));
    }

    #[test]
    fn a_machine_without_sockets_is_told_by_their_number() {
        let none =
            "sockets: used 9\nTCP: inuse 0 orphan 0 tw 3 alloc 0 mem 0\nUDP: inuse 2 mem 0\n";
        assert!(!uses_tcp(none) && !uses_tcp("TCP6: inuse 0\n") && !uses_tcp(""));
        assert!(uses_tcp(&none.replace("TCP: inuse 0", "TCP: inuse 12")));
        assert!(uses_tcp("TCP6: inuse 1\n") && uses_tcp("TCP:\n"));
    }

    #[test]
    fn messages_end_where_they_say_and_garbage_is_none() {
        let one = request(7, 0, 1, &[]);
        let found: Vec<_> = messages(&one)
            .map(|(kind, content)| (kind, content.len()))
            .collect();
        assert_eq!(found, [(7, 56)]);
        for bad in [&one[..10], &one[..40], &[0; 64], &[0xff; 64]] {
            assert_eq!(messages(bad).take(9).count(), 0, "{bad:?}");
        }
    }

    /// On this host, among its loopback addresses.
    #[test]
    fn connections_are_listed_and_those_of_other_addresses_left_alone() {
        let listener = TcpListener::bind("127.77.0.2:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let mut all = 0;
        let listed = diagnosis().and_then(|socket| {
            list(&socket, libc::AF_INET as u8, &mut |_, id| {
                let local = client.local_addr().unwrap().port().to_be_bytes();
                all += usize::from(id[..2] == local);
            })
        });
        assert_eq!(
            (listed, all),
            (Ok(()), 1),
            "the one that was just made is listed"
        );
        // From an address that nothing has: nothing is touched.
        assert_eq!(of(&[[127, 88, 0, 1]]), Ok(Vec::new()));
        assert_eq!(reset(&[]), Ok(0));
        client.set_nonblocking(true).unwrap();
        let kind = client.read(&mut [0]).unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::WouldBlock, "it goes on");
    }
}
