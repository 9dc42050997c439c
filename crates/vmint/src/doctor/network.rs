//! What a guest's network can and cannot, beyond its guard.

use super::check::Check;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use std::fs;

/// Who may make an ICMP socket without a privilege: the first and the last group.
const GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";

/// Whether guests can ping. QEMU makes the guest's echo requests its own, by a socket that the kernel gives to some groups alone.
pub(super) fn ping() -> Check {
    let made = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::ICMP),
    );
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    judge_ping(made.map(drop), &groups)
}

pub(super) fn judge_ping(made: Result<(), Errno>, groups: &str) -> Check {
    const NAME: &str = "ping";
    let groups: Vec<_> = groups.split_whitespace().collect();
    match made {
        Ok(()) => Check::ok(NAME, "guests with a network can ping"),
        Err(Errno::ACCESS) => Check::warning(
            NAME,
            format!(
                "guests cannot ping: net.ipv4.ping_group_range is \"{}\", without a group of this user",
                groups.join(" ")
            ),
            "TCP and UDP work. For ping, as root: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"",
        ),
        Err(e) => Check::warning(
            NAME,
            format!("guests cannot ping: the host makes no ICMP sockets ({e})"),
            "TCP and UDP work",
        ),
    }
}
