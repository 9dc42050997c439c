//! What is asked of PID 1: to turn the machine off, or to reboot it.
//!
//! Where the agent is the init for good, it keeps the contract that programs in the guest know, whichever init they were written for:
//!
//! | | off | reboot |
//! |---|---|---|
//! | busybox, `poweroff`, `halt`, `reboot` | `SIGUSR2`, `SIGUSR1` | `SIGTERM` |
//! | sysvinit and systemd's `telinit`, `shutdown`, `poweroff`, by `/run/initctl` | runlevel 0 | runlevel 6 |
//! | systemd(1) | `SIGRTMIN+3`, `+4`, `+13`, `+14` | `SIGRTMIN+5`, `+15` |
//! | a power supply, LXC | `SIGPWR` | |
//! | Ctrl-Alt-Del | | `SIGINT` |
//!
//! To halt is to turn off: a machine that stands still would be the host's to end. Whoever may signal PID 1 or write to the FIFO is
//! root.

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is turned off.
    PowerOff,
    /// It is reset, and boots again if the host lets it.
    Reboot,
}

/// All signals that mean one.
pub fn signals() -> impl Iterator<Item = i32> {
    (1..=libc::SIGRTMAX()).filter(|signal| of_signal(*signal).is_some())
}

/// What a signal asks for.
pub fn of_signal(signal: i32) -> Option<End> {
    match signal {
        libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGPWR => return Some(End::PowerOff),
        libc::SIGTERM | libc::SIGINT => return Some(End::Reboot),
        _ => {}
    }
    match signal - libc::SIGRTMIN() {
        3 | 4 | 13 | 14 => Some(End::PowerOff),
        5 | 15 => Some(End::Reboot),
        _ => None,
    }
}

/// `struct init_request` of sysvinit's `initreq.h`: four numbers, and bytes that do not matter here.
const REQUEST: usize = 384;
const MAGIC: u32 = 0x0309_1969;
const SET_RUNLEVEL: u32 = 1;

fn of_request(request: &[u8; REQUEST]) -> Option<End> {
    let number = |at: usize| {
        let bytes = request[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes)
    };
    if number(0) != MAGIC || number(4) != SET_RUNLEVEL {
        return None;
    }
    match u8::try_from(number(8)) {
        Ok(b'0') => Some(End::PowerOff),
        Ok(b'6') => Some(End::Reboot),
        _ => None,
    }
}

/// `/run/initctl`.
#[derive(Debug)]
pub struct Requests(OwnedFd);

impl Requests {
    /// Makes the FIFO.
    pub fn listen() -> Result<Self> {
        const PATH: &str = "/run/initctl";
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::mkfifoat(rustix::fs::CWD, PATH, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        // For writing as well: a FIFO whose last writer has gone would be readable for ever.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self(rustix::fs::open(PATH, flags, Mode::empty())?))
    }

    /// Reads what was written; the last word counts.
    pub fn read(&self) -> Option<End> {
        let mut asked = None;
        let mut request = [0; REQUEST];
        // Writes of this size are whole. What has another size is nobody's request.
        while let Ok(length) = rustix::io::read(&self.0, &mut request) {
            if length == REQUEST {
                asked = of_request(&request).or(asked);
            } else if length == 0 {
                break;
            }
        }
        asked
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(magic: u32, command: u32, runlevel: u32) -> [u8; REQUEST] {
        let mut request = [0; REQUEST];
        for (at, number) in [(0, magic), (4, command), (8, runlevel)] {
            request[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        request
    }

    #[test]
    fn a_request_is_read_as_sysvinit_writes_it() {
        let of = |magic, command, level: u8| of_request(&request(magic, command, level.into()));
        assert_eq!(of(MAGIC, 1, b'0'), Some(End::PowerOff));
        assert_eq!(of(MAGIC, 1, b'6'), Some(End::Reboot));
        // Another runlevel, a variable, garbage.
        for (magic, command, level) in [(MAGIC, 1, b'2'), (MAGIC, 6, b'0'), (7, 1, b'0')] {
            assert_eq!(of(magic, command, level), None);
        }
        assert_eq!(of_request(&request(MAGIC, 1, 0x130)), None);
    }

    #[test]
    fn every_init_s_signals_are_known_and_children_are_not_among_them() {
        let all: Vec<_> = signals().collect();
        for signal in [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGPWR,
            libc::SIGRTMIN() + 4,
        ] {
            assert!(all.contains(&signal), "{signal}");
        }
        for signal in [libc::SIGCHLD, libc::SIGHUP, libc::SIGRTMIN() + 6] {
            assert!(!all.contains(&signal), "{signal}");
        }
    }
}
