//! Where a stream's input goes: a process's standard input, with a buffer that is bounded by the window.

use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use vmint_protocol::Credit;

/// What a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// A pipe's writing end, closed at the end.
    Pipe,
    /// A pseudo-terminal, to which the end is a control character.
    Terminal,
}

/// Ctrl-D, the end-of-file character of a terminal.
const VEOF: u8 = 4;
/// A pipe that could not take this much is worth enlarging.
const ENLARGE_FROM: usize = 64 << 10;

/// The way to a process's standard input.
#[derive(Debug)]
pub struct Sink {
    /// Absent once it is closed: what still arrives is swallowed.
    fd: Option<Rc<OwnedFd>>,
    into: Into,
    pending: VecDeque<u8>,
    credit: Credit,
    at_line_start: bool,
    ending: bool,
    enlarged: bool,
    /// Whether the event loop watches it.
    pub watched: bool,
}

/// The host sent more than its window.
#[derive(Debug, PartialEq, Eq)]
pub struct Overrun;

impl Sink {
    /// A sink over a non-blocking descriptor.
    pub fn new(fd: Rc<OwnedFd>, into: Into) -> Self {
        Self {
            fd: Some(fd),
            into,
            pending: VecDeque::new(),
            credit: Credit::default(),
            at_line_start: true,
            ending: false,
            enlarged: false,
            watched: false,
        }
    }

    /// Its descriptor, to be watched, when it waits for room and is not watched yet.
    pub fn unwatched(&self) -> Option<BorrowedFd<'_>> {
        self.fd
            .as_ref()
            .filter(|_| !self.watched && !self.pending.is_empty())
            .map(|fd| fd.as_fd())
    }

    /// Takes bytes from the host. Returns a grant to send.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<u32>, Overrun> {
        if !self.credit.received(bytes.len()) {
            return Err(Overrun);
        }
        let mut passed = 0;
        if self.pending.is_empty() {
            passed = self.write(bytes);
        }
        if self.fd.is_none() {
            return Ok(self.credit.consumed(bytes.len()));
        }
        self.pending.extend(&bytes[passed..]);
        Ok(self.credit.consumed(passed))
    }

    /// Writes what is pending, now that there may be room. Returns a grant to send.
    pub fn drain(&mut self) -> Option<u32> {
        let mut passed = 0;
        while !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            let n = self.write(pending.as_slices().0);
            self.pending = pending;
            if self.fd.is_none() {
                passed += self.pending.len();
                self.pending = VecDeque::new();
                break;
            }
            if n == 0 {
                break;
            }
            self.pending.drain(..n);
            passed += n;
        }
        if self.pending.is_empty() && self.ending {
            self.close();
        }
        self.credit.consumed(passed)
    }

    /// The host has sent everything.
    pub fn end(&mut self) {
        self.ending = true;
        if self.pending.is_empty() {
            self.close();
        }
    }

    /// Closes it, whatever is pending.
    pub fn close(&mut self) {
        if self.into == Into::Terminal && self.fd.is_some() && self.ending {
            // The first one hands over an unfinished line, only the next one reads as the end.
            let end: &[u8] = if self.at_line_start {
                &[VEOF]
            } else {
                &[VEOF, VEOF]
            };
            self.write(end);
        }
        self.fd = None;
        self.pending = VecDeque::new();
    }

    /// Writes as much as fits; closes the sink when nobody reads it.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let Some(fd) = &self.fd else { break };
            match rustix::io::write(&**fd, &bytes[written..]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN)
                    if self.into == Into::Pipe && !self.enlarged && bytes.len() > ENLARGE_FROM =>
                {
                    self.enlarged = true;
                    if rustix::pipe::fcntl_setpipe_size(&**fd, 1 << 20).is_err() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(_) => self.fd = None,
            }
        }
        if written > 0 {
            self.at_line_start = matches!(bytes[written - 1], b'\n' | b'\r');
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Read;
    use vmint_protocol::WINDOW;

    fn pipe() -> (std::fs::File, Sink) {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        (read.into(), Sink::new(Rc::new(write), Into::Pipe))
    }

    #[test]
    fn input_waits_for_room_and_the_end_waits_for_the_input() {
        let (mut read, mut sink) = pipe();
        // The pipe is not enlarged by a piece of this size.
        let piece = vec![7; 60_000];
        for _ in 0..10 {
            sink.push(&piece).unwrap();
        }
        sink.end();
        assert!(sink.unwatched().is_some());
        let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            match read.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
            }
            sink.drain();
        }
        assert_eq!(total, 600_000);
    }

    #[test]
    fn a_closed_input_swallows_and_goes_on_granting() {
        let (read, mut sink) = pipe();
        drop(read);
        let (mut granted, piece) = (0, vec![0; 100_000]);
        for _ in 0..100 {
            granted += sink.push(&piece).unwrap().unwrap_or(0);
        }
        assert!(granted > 9_000_000);
        assert!(sink.unwatched().is_none());
    }

    #[test]
    fn an_overrun_is_refused() {
        let (_read, mut sink) = pipe();
        let (pieces, piece) = (WINDOW as usize / 60_000, vec![0; 60_000]);
        for _ in 0..pieces {
            assert_eq!(sink.push(&piece), Ok(None));
        }
        assert_eq!(sink.push(&piece), Err(Overrun));
    }
}
