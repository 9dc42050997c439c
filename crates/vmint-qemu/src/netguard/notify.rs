//! The kernel's notifications of stopped system calls, typed (seccomp_unotify(2)).

use super::filter::{Control, ONE_DESCRIPTOR};
use rustix::io::Errno;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The receiving end of the notifications of one filtered process and its descendants.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// Room for one notification, as large as this kernel makes it; u64 for its alignment.
    notification: Vec<u64>,
    /// Room for one answer, likewise.
    answer: Vec<u64>,
}

/// One stopped system call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    pub id: u64,
    /// The thread; 0 when it is outside this process's PID namespace.
    pub thread: i32,
    pub call: i64,
    pub args: [u64; 6],
}

impl Listener {
    /// Receives what [`install`](super::install) sent to the other end of `sock`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the other end was closed without sending.
    pub fn receive(sock: impl AsFd) -> io::Result<Self> {
        Self::new(receive_descriptor(sock.as_fd())?)
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        let sizes = notification_sizes()?;
        let words =
            |kernel: u16, known: usize| usize::from(kernel).max(known).div_ceil(size_of::<u64>());
        let listener = Self {
            notification: vec![0; words(sizes.seccomp_notif, size_of::<libc::seccomp_notif>())],
            answer: vec![
                0;
                words(
                    sizes.seccomp_notif_resp,
                    size_of::<libc::seccomp_notif_resp>()
                )
            ],
            fd,
        };
        listener.wake_synchronously();
        Ok(listener)
    }

    /// Caller and supervisor take turns on one core instead of waking each other across two: a refused datagram takes
    /// 11 µs instead of 52 (`examples/netguard_probe.rs`). A hint, known from Linux 6.6 and refused before.
    fn wake_synchronously(&self) {
        const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: libc::c_ulong = 1;
        // SAFETY: the argument of this ioctl is a number.
        unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
            );
        }
    }

    /// The next notification; `None` when the call was given up in the meantime (its process was killed).
    pub(super) fn next(&mut self) -> io::Result<Option<Notification>> {
        self.notification.fill(0);
        let room = self.notification.as_mut_ptr().cast::<libc::seccomp_notif>();
        // SAFETY: `room` points to zeroed bytes, as many as the kernel says it writes, aligned for the struct.
        if unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, room) } != 0 {
            return match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                    Ok(None)
                }
                error => Err(error),
            };
        }
        // SAFETY: the kernel filled it, all of its fields are integers, and the room is at least its size.
        let seen = unsafe { room.read() };
        Ok(Some(Notification {
            id: seen.id,
            thread: seen.pid as i32,
            call: i64::from(seen.data.nr),
            args: seen.data.args,
        }))
    }

    /// Whether the call is still waiting for its answer, and so its thread is still the one that made it.
    pub(super) fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one u64, which outlives the call.
        unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const id,
            ) == 0
        }
    }

    /// Lets the stopped call return a copy of a descriptor, closed on exec. `Ok(false)` when nobody waits for it any more.
    pub(super) fn answer_with(&mut self, id: u64, fd: BorrowedFd<'_>) -> io::Result<bool> {
        // Copy and answer in one step, from Linux 5.14: no copy is left behind when the caller dies between the two.
        let copied = match self.copy(id, fd, libc::SECCOMP_ADDFD_FLAG_SEND as u32) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let number = self.copy(id, fd, 0);
                number.and_then(|number| self.answer(id, Ok(number)))
            }
            Err(error) => Err(error),
        };
        match copied {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other,
        }
    }

    /// Puts a copy of a descriptor in the place of the caller's `number`, and lets the stopped call return 0. `Ok(false)` when
    /// nobody waits for it any more.
    pub(super) fn replace(&mut self, id: u64, number: i32, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let copy = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: fd.as_raw_fd() as u32,
            newfd: number as u32,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        match self.add(&copy) {
            Ok(_) => self.answer(id, Ok(0)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a copy of a descriptor into the caller; returns its number there.
    fn copy(&self, id: u64, fd: BorrowedFd<'_>, flags: u32) -> io::Result<u64> {
        let copy = libc::seccomp_notif_addfd {
            id,
            flags,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        self.add(&copy)
    }

    fn add(&self, copy: &libc::seccomp_notif_addfd) -> io::Result<u64> {
        // SAFETY: the kernel reads the struct, which outlives the call.
        let number = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ADDFD,
                std::ptr::from_ref(copy),
            )
        };
        u64::try_from(number).map_err(|_| io::Error::last_os_error())
    }

    /// Lets the stopped call go on, as if it had not been stopped. What it does then has not been checked by anybody.
    pub(super) fn go_on(&mut self, id: u64) -> io::Result<bool> {
        self.send(libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        })
    }

    /// Lets the stopped call return `result`. `Ok(false)` when nobody waits for it any more.
    pub(super) fn answer(&mut self, id: u64, result: Result<u64, Errno>) -> io::Result<bool> {
        let (val, error) = match result {
            Ok(val) => (val as i64, 0),
            Err(errno) => (0, -errno.raw_os_error()),
        };
        self.send(libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags: 0,
        })
    }

    fn send(&mut self, answer: libc::seccomp_notif_resp) -> io::Result<bool> {
        self.answer.fill(0);
        let room = self.answer.as_mut_ptr().cast::<libc::seccomp_notif_resp>();
        // SAFETY: `room` is as large as the kernel says it reads, zeroed, aligned for the struct, and ours alone.
        let sent = unsafe {
            room.write(answer);
            libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, room)
        };
        if sent == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            error => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn notification_sizes() -> io::Result<libc::seccomp_notif_sizes> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    // SAFETY: the kernel writes the struct, which outlives the call.
    let got = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            &raw mut sizes,
        )
    };
    if got == 0 {
        Ok(sizes)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn receive_descriptor(sock: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0u8; 1];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: a msghdr of zeros is one without address, data and control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE computes; it is 24, within the 64 bytes of `control`. Room for one descriptor alone: more
    // would be dropped by the kernel.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(ONE_DESCRIPTOR) } as _;
    let received = loop {
        // SAFETY: `message` and all it points to outlive the call.
        let received =
            unsafe { libc::recvmsg(sock.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match received {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            received => break received,
        }
    };
    if received == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the child ended before it sent its seccomp listener",
        ));
    }
    // SAFETY: the kernel filled in `message`; CMSG_FIRSTHDR gives a header within `control` or null, and a header of
    // SCM_RIGHTS with the length for one descriptor has one behind it, which is open and ours alone.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as u64 == u64::from(libc::CMSG_LEN(ONE_DESCRIPTOR))
        {
            return Ok(OwnedFd::from_raw_fd(
                libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned(),
            ));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "a message without the seccomp listener",
    ))
}
