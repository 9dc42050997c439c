//! The virtio-serial port: finding it, reading it in batches, and what waits to be written to it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use vmint_protocol::{PORT_NAME, PREAMBLE_LEN};

/// What the kernel's driver hands out in one `read()`: it never joins two of the host's buffers, and each is a page.
/// So every read starts where a host's write may have started, and a [`Hello`](vmint_protocol::Hello) can only be there.
pub const READ: usize = 4096;
/// Reads that one system call does.
const BATCH: usize = 32;
/// How much may be queued before the agent stops taking requests.
const CONGESTED: usize = 1 << 20;

/// The port.
#[derive(Debug)]
pub struct Port {
    fd: OwnedFd,
    /// Whether a read may bring something.
    pub readable: bool,
    /// Whether a write may take something.
    pub writable: bool,
    /// Whether the kernel says that no host is connected.
    pub hung_up: bool,
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The device node of the port that is named [`PORT_NAME`].
pub fn find() -> Option<PathBuf> {
    std::fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
            let node = PathBuf::from("/dev").join(entry.file_name());
            (name.trim_end() == PORT_NAME && node.exists()).then_some(node)
        })
}

impl Port {
    /// Opens the port. Non-blocking above all: a blocking write would spin in the driver until the host has read it.
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open(path, flags, Mode::empty()).map(Self::new)
    }

    /// A port that is open already.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: true,
            writable: true,
            hung_up: false,
        }
    }

    /// Whether no host is connected right now.
    pub fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let polled = poll(&mut fds, Some(&Timespec::default()));
        polled.is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Writes, or says with `None` that nothing can be written now.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        match rustix::io::write(&self.fd, bytes) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(None)
            }
            Err(Errno::INTR) => Ok(Some(0)),
            Err(e) => Err(e),
        }
    }
}

/// What was read from the port. The start of a `Hello` whose rest has not arrived is kept in front of the next read.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    held: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; PREAMBLE_LEN + BATCH * READ],
            held: 0,
        }
    }
}

impl Inbox {
    /// Reads what there is, up to 128 KiB, in one system call; each [`READ`] bytes are a `read()` of their own for the
    /// driver. Returns where the bytes are; an empty range when there are none.
    pub fn fill(&mut self, port: &mut Port) -> Result<std::ops::Range<usize>> {
        let start = PREAMBLE_LEN - self.held;
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, chunk) in slices
            .iter_mut()
            .zip(self.bytes[PREAMBLE_LEN..].chunks_mut(READ))
        {
            *slice = IoSliceMut::new(chunk);
        }
        match rustix::io::readv(&port.fd, &mut slices) {
            Ok(0) | Err(Errno::AGAIN) => {
                port.readable = false;
                Ok(0..0)
            }
            Ok(n) => {
                self.held = 0;
                Ok(start..PREAMBLE_LEN + n)
            }
            Err(Errno::INTR) => Ok(0..0),
            Err(e) => Err(e),
        }
    }

    /// The bytes at `range`.
    pub fn get(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Where reads of the driver began within a filled `range`, the first being its start.
    pub fn read_starts(range: &std::ops::Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let end = range.end;
        std::iter::once(range.start).chain(
            (1..)
                .map(|i| PREAMBLE_LEN + i * READ)
                .take_while(move |&at| at < end),
        )
    }

    /// Keeps the bytes from `start` to `end`, fewer than a preamble, for the next [`fill`](Self::fill).
    pub fn hold(&mut self, start: usize, end: usize) {
        self.held = end - start;
        self.bytes.copy_within(start..end, PREAMBLE_LEN - self.held);
    }

    /// Whether bytes are held.
    pub fn is_holding(&self) -> bool {
        self.held > 0
    }

    /// Gives the held bytes up: no rest came, so they were no `Hello`.
    pub fn release(&mut self) -> std::ops::Range<usize> {
        let held = std::mem::take(&mut self.held);
        PREAMBLE_LEN - held..PREAMBLE_LEN
    }
}

/// Bytes that a data frame's header has promised and that go from a descriptor straight into the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// The source: a unit and the index of its channel.
    pub source: (u64, usize),
    /// How much is still to be sent.
    pub left: usize,
}

/// What waits to be written: bytes, then perhaps promised ones, then bytes.
#[derive(Debug, Default)]
pub struct Outbox {
    before: Vec<u8>,
    written: usize,
    promise: Option<Promise>,
    after: Vec<u8>,
}

impl Outbox {
    /// Where frames are appended: behind everything that is under way.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.promise.is_some() {
            &mut self.after
        } else {
            &mut self.before
        }
    }

    /// Bytes queued, without promised ones.
    pub fn len(&self) -> usize {
        self.before.len() - self.written + self.after.len()
    }

    /// Whether nothing at all waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.promise.is_none()
    }

    /// Whether so much waits that nothing should be taken in that asks for more.
    pub fn is_congested(&self) -> bool {
        self.len() > CONGESTED
    }

    /// Forgets everything: a new session has begun.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The promise that is under way.
    pub fn promise(&self) -> Option<Promise> {
        self.promise
    }

    /// Records a promise whose header was just appended to the [`tail`](Self::tail).
    pub fn promise_bytes(&mut self, source: (u64, usize), left: usize) {
        debug_assert!(self.promise.is_none());
        self.promise = Some(Promise { source, left });
    }

    /// Records that `n` promised bytes were sent. `true` when that was the last of them.
    pub fn kept(&mut self, n: usize) -> bool {
        let Some(promise) = &mut self.promise else {
            return false;
        };
        promise.left = promise.left.saturating_sub(n);
        if promise.left > 0 {
            return false;
        }
        self.promise = None;
        debug_assert!(self.before.is_empty());
        std::mem::swap(&mut self.before, &mut self.after);
        true
    }

    /// Completes a promise that cannot be kept with zeros: the other side knows only how many bytes to expect.
    pub fn break_promise(&mut self) {
        if let Some(Promise { left, .. }) = self.promise.take() {
            let mut bytes = vec![0; left];
            bytes.append(&mut self.after);
            self.before.append(&mut bytes);
        }
    }

    /// Writes the bytes in front of the promise. `false` when some are left because the port is full.
    pub fn flush(&mut self, port: &mut Port) -> Result<bool> {
        while self.written < self.before.len() {
            match port.write(&self.before[self.written..])? {
                Some(n) => self.written += n,
                None => return Ok(false),
            }
        }
        self.before.clear();
        self.before.shrink_to(64 << 10);
        self.written = 0;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn frames_queued_during_a_promise_follow_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut port = Port::new(ours.into());
        let mut out = Outbox::default();
        out.tail().extend_from_slice(b"header");
        out.promise_bytes((1, 0), 3);
        out.tail().extend_from_slice(b"later");
        assert!(out.flush(&mut port).unwrap());
        assert!(!out.kept(2));
        assert!(out.flush(&mut port).unwrap());
        assert!(out.kept(1));
        assert!(out.flush(&mut port).unwrap());
        assert!(out.is_empty());
        drop(port);
        let mut seen = String::new();
        theirs.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "headerlater");
    }

    #[test]
    fn held_bytes_come_in_front_of_the_next_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut port = Port::new(ours.into());
        let mut inbox = Inbox::default();
        theirs.write_all(b"abc").unwrap();
        let range = inbox.fill(&mut port).unwrap();
        inbox.hold(range.start + 1, range.end);
        assert!(inbox.is_holding());
        theirs.write_all(b"def").unwrap();
        let range = inbox.fill(&mut port).unwrap();
        assert_eq!(inbox.get(range.clone()), b"bcdef");
        assert_eq!(
            Inbox::read_starts(&range).collect::<Vec<_>>(),
            [range.start]
        );
        assert!(!inbox.is_holding());
        assert!(inbox.fill(&mut port).unwrap().is_empty());
        assert!(!port.readable);
    }
}
