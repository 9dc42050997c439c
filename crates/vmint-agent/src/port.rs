//! The virtio-serial port: finding it, reading it in batches, and what waits to be written to it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use vmint_protocol::{Header, PORT_NAME, PREAMBLE_LEN};

/// What the kernel's driver hands out in one `read()`: it never joins two of the host's buffers, and each is a page.
/// So every read starts where a host's write may have started, and a [`Hello`](vmint_protocol::Hello) can only be there.
pub const READ: usize = 4096;
/// Reads that one system call does.
const BATCH: usize = 32;
/// How much may be queued before the agent stops taking requests.
const CONGESTED: usize = 1 << 20;
/// Size of the lane, and so of the largest frame of output: 1 MiB is Linux's limit for unprivileged pipes.
const LANE: usize = 1 << 20;

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

/// What waits to be written: bytes, then perhaps promised ones, then bytes.
///
/// Promised bytes lie in a pipe of the outbox's own, the lane, never in a command's: virtio_console's `splice_write`
/// sizes its list of pages by what the pipe holds and hands the whole list to the device even if it was told to take
/// less, and QEMU stops a device that sends empty pages. So a splice into the port must always be of a whole pipe that
/// nobody else writes to. Moving bytes from one pipe to another moves pages, and copies nothing.
#[derive(Debug)]
pub struct Outbox {
    before: Vec<u8>,
    written: usize,
    promised: usize,
    after: Vec<u8>,
    lane: Lane,
}

/// The outbox's own pipe; empty whenever nothing is promised.
#[derive(Debug)]
struct Lane {
    read: OwnedFd,
    write: OwnedFd,
}

impl Lane {
    fn new() -> Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused under a limit for pipes; then frames are smaller.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, LANE);
        Ok(Self { read, write })
    }
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Self {
            before: Vec::new(),
            written: 0,
            promised: 0,
            after: Vec::new(),
            lane: Lane::new()?,
        })
    }

    /// Where frames are appended: behind everything that is under way.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.promised > 0 {
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
        self.len() == 0 && self.promised == 0
    }

    /// Whether so much waits that nothing should be taken in that asks for more.
    pub fn is_congested(&self) -> bool {
        self.len() > CONGESTED
    }

    /// Whether bytes are promised, so that nothing can be promised behind them yet.
    pub fn has_promise(&self) -> bool {
        self.promised > 0
    }

    /// Forgets everything: a new session has begun.
    pub fn clear(&mut self) -> Result<()> {
        self.before.clear();
        self.after.clear();
        self.written = 0;
        if self.promised > 0 {
            // Empty it by replacing it.
            self.lane = Lane::new()?;
            self.promised = 0;
        }
        Ok(())
    }

    /// Takes up to `limit` bytes out of a pipe, and appends the header that promises them. Returns how many there were.
    pub fn promise(
        &mut self,
        mut header: Header,
        pipe: BorrowedFd<'_>,
        limit: usize,
    ) -> Result<usize> {
        debug_assert!(self.promised == 0);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = match splice(pipe, None, &self.lane.write, None, limit, flags) {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(e) => return Err(e),
        };
        if n > 0 {
            header.len = n as u32;
            self.before.extend_from_slice(&header.encode());
            self.promised = n;
        }
        Ok(n)
    }

    /// Writes what can be written. `false` when something is left because the port is full.
    pub fn flush(&mut self, port: &mut Port) -> Result<bool> {
        loop {
            while self.written < self.before.len() {
                match port.write(&self.before[self.written..])? {
                    Some(n) => self.written += n,
                    None => return Ok(false),
                }
            }
            self.before.clear();
            self.before.shrink_to(64 << 10);
            self.written = 0;
            while self.promised > 0 {
                match splice(
                    &self.lane.read,
                    None,
                    &port.fd,
                    None,
                    LANE,
                    SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
                ) {
                    Ok(n) if n > 0 => self.promised = self.promised.saturating_sub(n),
                    Err(Errno::AGAIN) => {
                        port.writable = false;
                        return Ok(false);
                    }
                    Err(Errno::INTR) => {}
                    // Out of memory in an interrupt's moment, the driver says 0 and has lost what it took. The session
                    // cannot go on, and must not look as if it had.
                    Ok(_) => return Err(Errno::NOMEM),
                    Err(e) => return Err(e),
                }
            }
            if self.after.is_empty() {
                return Ok(true);
            }
            std::mem::swap(&mut self.before, &mut self.after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use vmint_protocol::{Channel, HEADER_LEN, Kind};

    #[test]
    fn frames_queued_during_a_promise_follow_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut port = Port::new(ours.into());
        let mut out = Outbox::new().unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::write(&write, b"promised, and more").unwrap();
        let header = Header {
            stream: 1,
            kind: Kind::Data,
            channel: Channel::Output,
            len: 0,
        };
        assert_eq!(out.promise(header, read.as_fd(), 8).unwrap(), 8);
        out.tail().extend_from_slice(b" later");
        assert!(out.flush(&mut port).unwrap());
        assert!(out.is_empty());
        drop(port);
        let mut seen = Vec::new();
        theirs.read_to_end(&mut seen).unwrap();
        assert_eq!(seen[..HEADER_LEN], Header { len: 8, ..header }.encode());
        assert_eq!(&seen[HEADER_LEN..], b"promised later");
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
