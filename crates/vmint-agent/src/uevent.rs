//! Waiting for devices: by the kernel's announcements, not by looking again and again.

use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The kernel's announcements of devices that come and change.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the descriptor is new; the address is a valid sockaddr_nl that lives until bind returns.
        unsafe {
            let fd = sys::check(libc::socket(
                libc::AF_NETLINK,
                kind,
                libc::NETLINK_KOBJECT_UEVENT,
            ))?;
            let fd = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
            address.nl_groups = 1;
            let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            sys::check(libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                length,
            ))?;
            Ok(Self(fd))
        }
    }

    /// Calls `ready` now and after every announcement, until it gives something or the time is up.
    pub fn wait_until<T>(
        &self,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut scratch = [0; 4096];
        loop {
            if let Some(found) = ready() {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            // An error is a missed announcement; the next look or the deadline makes up for it.
            let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout));
            // ENOBUFS says that announcements were lost, so that there is all the more reason to look.
            while matches!(
                rustix::io::read(&self.0, &mut scratch),
                Ok(_) | Err(Errno::NOBUFS)
            ) {}
        }
    }
}
