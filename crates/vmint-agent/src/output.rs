//! From sources to the port: whose turn it is, and what happens when a unit has said everything.

use crate::agent::{Agent, Link, Unit, Work};
use crate::exec::{failure, os};
use crate::source::Offer;
use rustix::io::Result;
use rustix::process::WaitStatus;
use std::os::fd::AsFd;
use vmint_protocol::{ErrorCode, FromGuest, GuestError, Reply, encode_eof, encode_message};

/// What is gathered before it is written: a write to the port is an exit to the hypervisor.
const GATHER: usize = 32 << 10;
/// Frames that are sent before requests are looked at again.
const TURNS: usize = 8;

impl Agent {
    /// Queues a message.
    pub(crate) fn say(&mut self, stream: u32, message: &FromGuest) {
        if matches!(self.link, Link::Up(_))
            && encode_message(self.out.tail(), stream, message).is_err()
        {
            // No message of ours can be too large; should one be, its stream must end all the same.
            let error = failure(ErrorCode::Os, "send its answer, which is too large");
            let _ = encode_message(self.out.tail(), stream, &FromGuest::Failed(error));
        }
    }

    /// Writes what there is to write. `true` when the port would take more and there is more.
    pub(crate) fn send(&mut self) -> Result<bool> {
        let mut turns = TURNS;
        loop {
            while !self.out.has_promise()
                && self.out.len() < GATHER
                && let Some((id, index)) = self.line.pop_front()
            {
                self.serve(id, index);
            }
            if self.out.is_empty() {
                return Ok(false);
            }
            if !self.out.flush(&mut self.port)? {
                return Ok(false);
            }
            turns -= 1;
            if turns == 0 {
                return Ok(!self.line.is_empty());
            }
        }
    }

    /// Gives one source its turn.
    fn serve(&mut self, id: u64, index: usize) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        let stream = unit.stream;
        let Some(source) = unit.sources().get_mut(index) else {
            return;
        };
        source.in_line = false;
        let Some(stream) = stream else {
            // Borrowed anew, since the descriptor is the agent's and the source the unit's.
            if let Ok(null) = rustix::io::fcntl_dupfd_cloexec(self.null(), 3)
                && let Some(source) = self
                    .units
                    .get_mut(&id)
                    .and_then(|u| u.sources().get_mut(index))
            {
                source.discard(null.as_fd());
            }
            return self.settle(id);
        };
        if !source.is_ready() {
            return self.settle(id);
        }
        let channel = source.channel();
        match source.offer(stream, &mut self.out) {
            Ok(Offer::Nothing) => self.settle(id),
            Ok(Offer::Frame) => {
                self.enqueue(id, index);
                self.settle(id);
            }
            Ok(Offer::End) => {
                encode_eof(self.out.tail(), stream, channel);
                self.settle(id);
            }
            Err(e) => self.fail(id, os("read a command's output", e)),
        }
    }

    /// Ends a unit's stream with an error. A command is killed.
    pub(crate) fn fail(&mut self, id: u64, error: GuestError) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        if let Work::Exec(exec) = &mut unit.work {
            exec.kill();
        }
        if let Some(stream) = unit.stream {
            self.say(stream, &FromGuest::Failed(error));
        }
        self.detach(id);
    }

    /// Takes a unit's stream away. It stays until its process has ended and its pipes are at their end.
    pub(crate) fn detach(&mut self, id: u64) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        if let Some(stream) = unit.stream.take() {
            self.streams.remove(&stream);
        }
        match &mut unit.work {
            Work::Exec(exec) => {
                if let Some(mut sink) = exec.sink.take() {
                    sink.close();
                }
            }
            Work::Pack(pack) => pack.cancel(),
            Work::Unpack(_) | Work::Flush(_) => {}
        }
        let count = unit.sources().len();
        for index in 0..count {
            self.enqueue(id, index);
        }
        self.settle(id);
    }

    /// Ends a unit that has nothing more to do or to say.
    pub(crate) fn settle(&mut self, id: u64) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        let Some(stream) = unit.stream else {
            let ended = unit.sources().iter().all(crate::source::Source::has_ended);
            let gone = match &unit.work {
                Work::Exec(exec) => exec.status.is_some() && ended,
                // A packer's pipe may be closed at any time, and its process is reaped like any orphan.
                Work::Unpack(_) | Work::Pack(_) => true,
                Work::Flush(_) => false,
            };
            if gone {
                self.units.remove(&id);
            }
            return;
        };
        let message = match &mut unit.work {
            Work::Exec(exec) => match exec.status {
                Some(status) if exec.sources.iter().all(crate::source::Source::is_done) => {
                    FromGuest::Exited(status)
                }
                _ => return,
            },
            Work::Pack(pack) => match pack.result() {
                Some(Ok(partly)) if partly.left_out.is_empty() => {
                    FromGuest::Reply(Reply::Packed(partly.sent))
                }
                Some(Ok(partly)) => FromGuest::Reply(Reply::Partly(Box::new(partly))),
                Some(Err(error)) => FromGuest::Failed(error),
                None => return,
            },
            Work::Unpack(_) | Work::Flush(_) => return,
        };
        self.say(stream, &message);
        self.detach(id);
    }

    /// `sync` has returned.
    pub(crate) fn flushed(&mut self, id: u64, status: WaitStatus) {
        let Some(Unit { stream, .. }) = self.units.remove(&id) else {
            return;
        };
        let Some(stream) = stream else { return };
        self.streams.remove(&stream);
        if status.exit_status() == Some(0) {
            self.say(stream, &FromGuest::Reply(Reply::Synced));
        } else {
            let error = failure(
                ErrorCode::Os,
                "write everything to disk: the process that did it was killed",
            );
            self.say(stream, &FromGuest::Failed(error));
        }
    }
}
