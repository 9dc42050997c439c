//! What has come from the guest on one stream and was not taken yet.

use super::{Breach, Incoming};
use crate::{Channel, FromGuest, Reply, Request, WINDOW};
use std::collections::VecDeque;

/// A part that is shorter is filled up before another one is begun: a frame of one byte must not cost more than it.
const PART: usize = 16 << 10;
/// Output and errors are kept in the order in which they came as long as that takes no more parts than this. After that
/// a peer that changes the channel with each byte has its bytes put behind those of the same channel.
const MAX_PARTS: usize = 256;

/// What a stream was opened for, and so what may come on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Ping,
    Prepare,
    Exec,
    TarIn,
    TarOut,
    Info,
    SetClock,
    Sync,
    Shutdown,
}

#[derive(Debug)]
enum Part {
    Started(u32),
    Data(Channel, Vec<u8>),
    Eof(Channel),
}

/// One of the guest's channels.
#[derive(Debug, Default, Clone, Copy)]
struct Flow {
    /// Bytes that came and were not granted anew.
    received: u32,
    over: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    purpose: Purpose,
    parts: VecDeque<Part>,
    output: Flow,
    error: Flow,
    started: bool,
    credit: u32,
    last: Last,
}

/// The message that ends a stream.
#[derive(Debug)]
enum Last {
    Awaited,
    Came(FromGuest),
    Taken,
}

impl Inbox {
    /// For a stream that was opened with `request`.
    pub(super) fn of(request: &Request) -> Self {
        let purpose = match request {
            Request::Ping => Purpose::Ping,
            Request::Prepare(_) => Purpose::Prepare,
            Request::Exec(_) => Purpose::Exec,
            Request::TarIn(_) => Purpose::TarIn,
            Request::TarOut(_) => Purpose::TarOut,
            Request::Info => Purpose::Info,
            Request::SetClock(_) => Purpose::SetClock,
            Request::Sync => Purpose::Sync,
            Request::Shutdown => Purpose::Shutdown,
        };
        Self {
            purpose,
            parts: VecDeque::new(),
            output: Flow::default(),
            error: Flow::default(),
            started: false,
            credit: 0,
            last: Last::Awaited,
        }
    }

    /// Whether the message that ends the stream has come.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.last, Last::Awaited)
    }

    /// Bytes of a channel that came and were not granted anew.
    pub(super) fn received(&self, channel: Channel) -> u32 {
        match channel {
            Channel::Input => 0,
            Channel::Output => self.output.received,
            Channel::Error => self.error.received,
        }
    }

    /// A grant for a channel is on its way to the guest.
    pub(super) fn granted(&mut self, channel: Channel, bytes: u32) {
        let flow = match channel {
            Channel::Input => return,
            Channel::Output => &mut self.output,
            Channel::Error => &mut self.error,
        };
        flow.received = flow.received.saturating_sub(bytes);
    }

    /// The channel, if it leads from the guest, has not ended, and neither has the stream.
    fn flow(&mut self, stream: u32, channel: Channel) -> Result<&mut Flow, Breach> {
        if self.has_ended() {
            return Err(Breach::Ended { stream });
        }
        let carries = matches!(
            (self.purpose, channel),
            (Purpose::Exec, _) | (Purpose::TarOut, Channel::Output)
        );
        let flow = match channel {
            Channel::Input => return Err(Breach::WrongWay { stream }),
            Channel::Output => &mut self.output,
            Channel::Error => &mut self.error,
        };
        if !carries {
            return Err(Breach::Unawaited { stream });
        }
        if flow.over {
            return Err(Breach::AfterEof { stream, channel });
        }
        Ok(flow)
    }

    pub(super) fn data(
        &mut self,
        stream: u32,
        channel: Channel,
        bytes: &[u8],
    ) -> Result<(), Breach> {
        let flow = self.flow(stream, channel)?;
        let sum = flow.received as usize + bytes.len();
        if sum > WINDOW as usize {
            let over = sum - WINDOW as usize;
            return Err(Breach::Overrun {
                stream,
                channel,
                over,
            });
        }
        flow.received = sum as u32;
        self.keep(channel, bytes);
        Ok(())
    }

    fn keep(&mut self, channel: Channel, bytes: &[u8]) {
        let crowded = self.parts.len() >= MAX_PARTS;
        let is_last = |part: &&mut Part| matches!(part, Part::Data(c, _) if *c == channel);
        let found = if crowded {
            self.parts.iter_mut().rev().find(is_last)
        } else {
            self.parts.back_mut().filter(is_last)
        };
        if let Some(Part::Data(_, kept)) = found
            && (crowded || kept.len() + bytes.len() <= PART)
        {
            kept.extend_from_slice(bytes);
            return;
        }
        self.parts.push_back(Part::Data(channel, bytes.to_vec()));
    }

    pub(super) fn eof(&mut self, stream: u32, channel: Channel) -> Result<(), Breach> {
        self.flow(stream, channel)?.over = true;
        self.parts.push_back(Part::Eof(channel));
        Ok(())
    }

    pub(super) fn credit(&mut self, bytes: u32) {
        if !self.has_ended() {
            self.credit = self.credit.saturating_add(bytes);
        }
    }

    pub(super) fn message(&mut self, stream: u32, message: FromGuest) -> Result<(), Breach> {
        if self.has_ended() {
            return Err(Breach::Ended { stream });
        }
        let awaited = match (&message, self.purpose) {
            (FromGuest::Started { pid }, Purpose::Exec) if !self.started => {
                self.started = true;
                self.parts.push_back(Part::Started(*pid));
                return Ok(());
            }
            (FromGuest::Failed(_), _) | (FromGuest::Exited(_), Purpose::Exec) => true,
            (FromGuest::Started { .. } | FromGuest::Exited(_), _) => false,
            (FromGuest::Reply(reply), purpose) => matches!(
                (reply, purpose),
                (Reply::Pong, Purpose::Ping)
                    | (Reply::Prepared, Purpose::Prepare)
                    | (Reply::Unpacked(_), Purpose::TarIn)
                    | (Reply::Packed(_), Purpose::TarOut)
                    | (Reply::Partly(_), Purpose::TarIn | Purpose::TarOut)
                    | (Reply::Info(_), Purpose::Info)
                    | (Reply::ClockSet, Purpose::SetClock)
                    | (Reply::Synced, Purpose::Sync)
                    | (Reply::ShuttingDown, Purpose::Shutdown)
            ),
        };
        if !awaited {
            return Err(Breach::Unawaited { stream });
        }
        self.credit = 0;
        self.last = Last::Came(message);
        Ok(())
    }

    /// The next thing to hand on: credit first, for somebody may be waiting to send; then all else as it came.
    pub(super) fn take(&mut self) -> Option<Incoming> {
        match std::mem::take(&mut self.credit) {
            0 => {}
            credit => return Some(Incoming::Credit(credit)),
        }
        match self.parts.pop_front() {
            Some(Part::Started(pid)) => {
                return Some(Incoming::Message(FromGuest::Started { pid }));
            }
            Some(Part::Data(channel, bytes)) => return Some(Incoming::Data(channel, bytes)),
            Some(Part::Eof(channel)) => return Some(Incoming::Eof(channel)),
            None => {}
        }
        match std::mem::replace(&mut self.last, Last::Taken) {
            Last::Came(message) => Some(Incoming::Message(message)),
            before => {
                self.last = before;
                None
            }
        }
    }

    /// Throws away what has come; its windows stay used up.
    pub(super) fn discard(&mut self) {
        self.parts = VecDeque::new();
        self.credit = 0;
        if self.has_ended() {
            self.last = Last::Taken;
        }
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        let parts = self.parts.iter().map(|part| match part {
            Part::Data(_, bytes) => bytes.capacity(),
            Part::Started(_) | Part::Eof(_) => 0,
        });
        let last = match &self.last {
            Last::Came(FromGuest::Failed(e)) => e.message.len(),
            Last::Came(FromGuest::Reply(Reply::Partly(partly))) => {
                size_of_val(&**partly) + partly.left_out.first.len()
            }
            Last::Came(FromGuest::Reply(Reply::Info(info))) => {
                info.agent.len()
                    + info.kernel.len()
                    + info.boot_id.len()
                    + info.hostname.len()
                    + info.addresses.len() * 4
            }
            _ => 0,
        };
        self.parts.capacity() * size_of::<Part>() + parts.sum::<usize>() + last
    }
}
