//! Where a stream's output comes from: a pipe or a terminal, under a window.

use crate::port::Outbox;
use rustix::io::{Errno, Result};
use rustix::pipe::{SpliceFlags, splice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use vmint_protocol::{Channel, HEADER_LEN, Header, Kind, MAX_DATA, Window};

/// Up to this, bytes are copied into the outbox and leave in one write with whatever else is there; above it, a header
/// and a `splice` are cheaper.
const SMALL: usize = 8 << 10;
/// Largest frame, so that the frames of others need not wait long behind it.
const LARGEST: usize = 256 << 10;
const _: () = assert!(LARGEST <= MAX_DATA);
/// A pipe that holds this much when it is looked at is worth enlarging.
const FULL: usize = 48 << 10;
/// To this. Linux's limit for unprivileged users, so no surprise.
const ENLARGED: usize = 1 << 20;

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A pipe's reading end: it can be spliced, and it tells how much is in it.
    Pipe,
    /// A pseudo-terminal: neither.
    Terminal,
}

/// One channel from the guest to the host.
#[derive(Debug)]
pub struct Source {
    fd: Rc<OwnedFd>,
    from: From,
    channel: Channel,
    /// What the host will take.
    pub window: Window,
    /// Whether there may be something to read.
    pub readable: bool,
    /// Whether it waits in the line of sources.
    pub in_line: bool,
    hung_up: bool,
    ended: bool,
    enlarged: bool,
    /// After the process has ended: what of its output is still to be sent.
    rest: Option<usize>,
}

/// What [`Source::offer`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// There is nothing now.
    Nothing,
    /// A frame was appended; its bytes may follow from the outbox's lane.
    Frame,
    /// There will never be anything again.
    End,
}

impl Source {
    /// A source that nothing is known of yet.
    pub fn new(fd: Rc<OwnedFd>, from: From, channel: Channel) -> Self {
        Self {
            fd,
            from,
            channel,
            window: Window::default(),
            readable: true,
            in_line: false,
            hung_up: false,
            ended: false,
            enlarged: false,
            rest: None,
        }
    }

    /// Its channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether everything was read that will ever come.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Records what the kernel reported.
    pub fn woken(&mut self, hung_up: bool) {
        self.readable = true;
        self.hung_up |= hung_up;
    }

    /// Whether [`offer`](Self::offer) may have something to say.
    pub fn is_ready(&self) -> bool {
        self.readable && !self.ended && self.window.available() > 0 && self.rest != Some(0)
    }

    /// The process has ended: what is in the pipe now belongs to its output, what others write later does not.
    pub fn process_ended(&mut self) {
        self.readable = true;
        self.rest = Some(match self.from {
            From::Pipe => self.available(),
            // A terminal does not tell, and nobody writes to it after its session's leader has gone.
            From::Terminal => usize::MAX,
        });
    }

    /// Whether all output of a process that has ended was handed over.
    pub fn is_done(&self) -> bool {
        self.ended
            || self.rest == Some(0)
            || (self.from == From::Terminal && self.rest.is_some() && !self.readable)
    }

    fn available(&self) -> usize {
        rustix::io::ioctl_fionread(&*self.fd).map_or(0, |n| n as usize)
    }

    /// Appends what it has for `stream` to `out`.
    pub fn offer(&mut self, stream: u32, out: &mut Outbox) -> Result<Offer> {
        let limit = self
            .window
            .available()
            .min(LARGEST)
            .min(self.rest.unwrap_or(usize::MAX));
        match self.from {
            From::Terminal => self.copy(stream, limit.min(SMALL), out.tail()),
            From::Pipe => {
                let available = self.available();
                if available == 0 {
                    self.readable = false;
                    self.ended = self.hung_up;
                    return Ok(if self.ended {
                        Offer::End
                    } else {
                        Offer::Nothing
                    });
                }
                if available >= FULL && !self.enlarged {
                    self.enlarged = true;
                    // Refused under the user's limit for pipes; then it stays small.
                    let _ = rustix::pipe::fcntl_setpipe_size(&*self.fd, ENLARGED);
                }
                let n = available.min(limit);
                if n <= SMALL {
                    return self.copy(stream, n, out.tail());
                }
                let n = out.promise(self.header(stream), self.fd.as_fd(), n)?;
                self.spend(n);
                Ok(if n > 0 { Offer::Frame } else { Offer::Nothing })
            }
        }
    }

    fn header(&self, stream: u32) -> Header {
        Header {
            stream,
            kind: Kind::Data,
            channel: self.channel,
            len: 0,
        }
    }

    fn spend(&mut self, n: usize) {
        self.window.sent(n);
        if let Some(rest) = &mut self.rest {
            *rest = rest.saturating_sub(n);
        }
    }

    /// Appends a frame with up to `n` bytes.
    fn copy(&mut self, stream: u32, n: usize, out: &mut Vec<u8>) -> Result<Offer> {
        let start = out.len();
        out.resize(start + HEADER_LEN + n, 0);
        let read = self.read(&mut out[start + HEADER_LEN..]);
        let got = *read.as_ref().unwrap_or(&0);
        if got == 0 {
            out.truncate(start);
            return read.map(|_| {
                if self.ended {
                    Offer::End
                } else {
                    Offer::Nothing
                }
            });
        }
        out.truncate(start + HEADER_LEN + got);
        out[start..start + HEADER_LEN].copy_from_slice(
            &Header {
                len: got as u32,
                ..self.header(stream)
            }
            .encode(),
        );
        self.spend(got);
        Ok(Offer::Frame)
    }

    /// Reads; zero bytes when there are none, or will never be.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match rustix::io::read(&*self.fd, buffer) {
            // A terminal that nobody has open on the other side gives EIO.
            Ok(0) | Err(Errno::IO) => {
                self.readable = false;
                self.ended = true;
                Ok(0)
            }
            Ok(n) => Ok(n),
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Throws away what there is, so that whoever writes is neither stopped nor killed by `SIGPIPE`.
    pub fn discard(&mut self, null: BorrowedFd<'_>) {
        let mut scratch = [0; 4096];
        while self.readable && !self.ended {
            let moved = match self.from {
                From::Terminal => self.read(&mut scratch).map(drop),
                From::Pipe if self.available() == 0 => {
                    self.readable = false;
                    self.ended = self.hung_up;
                    Ok(())
                }
                From::Pipe => {
                    splice(&*self.fd, None, null, None, ENLARGED, SpliceFlags::NONBLOCK).map(drop)
                }
            };
            if moved.is_err() {
                self.ended = true;
            }
        }
    }
}
