//! The network interface, configured by the old ioctls: a handful of calls, no library.

use crate::sys::check;
use crate::{console, link_local};
use rustix::io::{Errno, Result};
use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use vmint_protocol::NetworkConfig;

/// `ARPHRD_ETHER`, as in `/sys/class/net/*/type` and in `ifreq`.
const ETHERNET: u16 = 1;

fn socket() -> Result<OwnedFd> {
    // SAFETY: the descriptor is new.
    unsafe {
        let fd = check(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: an ifreq is plain numbers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(name.bytes())
    {
        *to = from as c_char;
    }
    request
}

fn inet(address: [u8; 4]) -> libc::sockaddr {
    // SAFETY: a sockaddr is plain numbers, for which zero is valid.
    let mut out: libc::sockaddr = unsafe { std::mem::zeroed() };
    out.sa_family = libc::AF_INET as libc::sa_family_t;
    // sockaddr_in: two bytes of port, then the address.
    for (to, from) in out.sa_data[2..6].iter_mut().zip(address) {
        *to = from as c_char;
    }
    out
}

fn call(socket: &OwnedFd, what: libc::Ioctl, request: &mut libc::ifreq) -> Result<()> {
    // SAFETY: every SIOC[GS]IF call reads and writes one ifreq at most.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) }).map(drop)
}

/// Sets or clears `IFF_UP`.
fn set_up(socket: &OwnedFd, name: &str, up: Link) -> Result<()> {
    let mut r = request(name);
    call(socket, libc::SIOCGIFFLAGS, &mut r)?;
    // SAFETY: SIOCGIFFLAGS has filled this member in.
    let flags = unsafe { r.ifr_ifru.ifru_flags };
    let bit = libc::IFF_UP as i16;
    r.ifr_ifru.ifru_flags = if up == Link::Up {
        flags | bit
    } else {
        flags & !bit
    };
    call(socket, libc::SIOCSIFFLAGS, &mut r)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

/// Brings `lo` up; the kernel gives it its address.
pub fn raise_loopback() {
    if let Err(e) = socket().and_then(|s| set_up(&s, "lo", Link::Up)) {
        console::say(&format!("cannot bring the loopback interface up: {e}"));
    }
}

/// The first ethernet interface that has a device behind it.
fn interface() -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .ok()?
        .flatten()
        .filter(|entry| {
            let kind = std::fs::read_to_string(entry.path().join("type")).unwrap_or_default();
            entry.path().join("device").exists() && kind.trim() == ETHERNET.to_string()
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.into_iter().next()
}

/// Gives the interface its addresses. On a fork the template's are there already and give way; gives those that the machine's
/// connections may have, then.
pub fn configure(config: &NetworkConfig) -> io::Result<Vec<[u8; 4]>> {
    let name = interface()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no ethernet interface"))?;
    let socket = socket()?;
    let before = address(&socket, &name);
    if set_hardware_address(&socket, &name, config.mac)? == Changed::Yes
        && let Err(e) = link_local::renew(&name, config.mac)
    {
        console::say(&format!("cannot renew the IPv6 address of {name}: {e}"));
    }
    let mut r = request(&name);
    r.ifr_ifru.ifru_addr = inet(config.address);
    call(&socket, libc::SIOCSIFADDR, &mut r)?;
    r.ifr_ifru.ifru_netmask = inet(netmask(config.prefix));
    call(&socket, libc::SIOCSIFNETMASK, &mut r)?;
    set_up(&socket, &name, Link::Up)?;
    set_default_route(&socket, &name, config.gateway)?;
    // On a first boot there has been no address, and so no connection.
    Ok(before.map_or(Vec::new(), |before| vec![before, config.address]))
}

/// The interface's first IPv4 address, if it has one.
fn address(socket: &OwnedFd, name: &str) -> Option<[u8; 4]> {
    let mut r = request(name);
    call(socket, libc::SIOCGIFADDR, &mut r).ok()?;
    // SAFETY: SIOCGIFADDR has filled this member in.
    let data = unsafe { r.ifr_ifru.ifru_addr.sa_data };
    Some([data[2], data[3], data[4], data[5]].map(|b| b as u8))
}

fn netmask(prefix: u8) -> [u8; 4] {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0)
        .to_be_bytes()
}

fn set_hardware_address(socket: &OwnedFd, name: &str, mac: [u8; 6]) -> Result<Changed> {
    let mut r = request(name);
    call(socket, libc::SIOCGIFHWADDR, &mut r)?;
    // SAFETY: SIOCGIFHWADDR has filled this member in.
    let mut address = unsafe { r.ifr_ifru.ifru_hwaddr };
    let wanted = mac.map(|b| b as c_char);
    if address.sa_data[..6] == wanted {
        return Ok(Changed::No);
    }
    address.sa_family = ETHERNET;
    address.sa_data[..6].copy_from_slice(&wanted);
    r.ifr_ifru.ifru_hwaddr = address;
    match call(socket, libc::SIOCSIFHWADDR, &mut r) {
        // Not every driver changes it on an interface that is up.
        Err(Errno::BUSY) => {
            set_up(socket, name, Link::Down)?;
            call(socket, libc::SIOCSIFHWADDR, &mut r)?;
        }
        other => other?,
    }
    Ok(Changed::Yes)
}

fn set_default_route(socket: &OwnedFd, name: &str, gateway: [u8; 4]) -> Result<()> {
    let mut device: Vec<c_char> = name.bytes().map(|b| b as c_char).chain([0]).collect();
    // SAFETY: an rtentry is plain numbers and a pointer, for which zero is valid.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = inet([0; 4]);
    route.rt_genmask = inet([0; 4]);
    route.rt_dev = device.as_mut_ptr();
    route.rt_flags = libc::RTF_UP;
    // The template's, whatever gateway it has. A bound, should somebody put them back.
    for _ in 0..8 {
        // SAFETY: the kernel reads one rtentry and the device's terminated name, which both outlive the call.
        if check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCDELRT, &raw const route) })
            .is_err()
        {
            break;
        }
    }
    route.rt_gateway = inet(gateway);
    route.rt_flags |= libc::RTF_GATEWAY;
    // SAFETY: as above.
    match check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) }) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// IPv4 addresses of all interfaces but loopback.
pub fn addresses() -> Vec<[u8; 4]> {
    const MANY: usize = 64;
    let Ok(socket) = socket() else {
        return Vec::new();
    };
    let mut requests: Vec<libc::ifreq> = (0..MANY).map(|_| request("")).collect();
    let mut conf = libc::ifconf {
        ifc_len: (MANY * size_of::<libc::ifreq>()) as i32,
        ifc_ifcu: libc::__c_anonymous_ifc_ifcu {
            ifcu_req: requests.as_mut_ptr(),
        },
    };
    // SAFETY: the kernel writes at most ifc_len bytes to the array, which has that size, and sets ifc_len to what it
    // wrote.
    if check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFCONF, &raw mut conf) }).is_err()
    {
        return Vec::new();
    }
    let count = conf.ifc_len as usize / size_of::<libc::ifreq>();
    requests[..count.min(MANY)]
        .iter()
        .map(|r| {
            // SAFETY: SIOCGIFCONF has filled this member in.
            let data = unsafe { r.ifr_ifru.ifru_addr.sa_data };
            [data[2], data[3], data[4], data[5]].map(|b| b as u8)
        })
        .filter(|a| a[0] != 127)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_makes_a_netmask() {
        assert_eq!(netmask(24), [255, 255, 255, 0]);
        assert_eq!(netmask(0), [0; 4]);
        assert_eq!(netmask(32), [255; 4]);
        assert_eq!(netmask(99), [255; 4]);
    }

    #[test]
    fn loopback_is_no_address_of_the_machine() {
        assert!(addresses().iter().all(|a| a[0] != 127));
    }
}
