//! What is to be written to the guest on one stream.

use super::{Breach, Misuse};
use crate::{
    Channel, DecodeError, MAX_DATA, Request, ToGuest, WINDOW, encode_credit, encode_data,
    encode_eof, encode_message,
};
use std::collections::VecDeque;

/// Signals and sizes that wait to be written. A signal that waits already is not queued twice, as in Unix.
pub(super) const MAX_MESSAGES: usize = 16;
/// Input that waits is put together up to this size.
const PART: usize = 64 << 10;

#[derive(Debug)]
enum Item {
    /// The encoded first frame.
    Open(Vec<u8>),
    Data(Vec<u8>),
    Eof,
    Message(ToGuest),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    /// Grants for the guest's channels that are not written yet.
    output: u32,
    error: u32,
    /// Bytes of input that the guest has not granted anew.
    under_way: u32,
    over: bool,
    opened: bool,
    /// Whether the stream stands in the line of those that have something to write.
    pub(super) in_line: bool,
}

impl Outbox {
    /// For a new stream, which stands in the line.
    pub(super) fn opening(stream: u32, request: Request) -> Result<Self, DecodeError> {
        let mut frame = Vec::new();
        encode_message(&mut frame, stream, &ToGuest::Open(request))?;
        Ok(Self {
            items: VecDeque::from([Item::Open(frame)]),
            output: 0,
            error: 0,
            under_way: 0,
            over: false,
            opened: false,
            in_line: true,
        })
    }

    /// Whether the guest may have heard of the stream.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    pub(super) fn has_something(&self) -> bool {
        !self.items.is_empty() || self.output > 0 || self.error > 0
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), Misuse> {
        if self.over {
            return Err(Misuse::AfterEof);
        }
        let sum = self.under_way as usize + bytes.len();
        if sum > WINDOW as usize {
            let over = sum - WINDOW as usize;
            return Err(Misuse::Overrun { over });
        }
        self.under_way = sum as u32;
        match self.items.back_mut() {
            Some(Item::Data(kept)) if kept.len() + bytes.len() <= PART => {
                kept.extend_from_slice(bytes);
            }
            _ if bytes.is_empty() => {}
            _ => self.items.push_back(Item::Data(bytes.to_vec())),
        }
        Ok(())
    }

    pub(super) fn eof(&mut self) -> Result<(), Misuse> {
        if std::mem::replace(&mut self.over, true) {
            return Err(Misuse::AfterEof);
        }
        self.items.push_back(Item::Eof);
        Ok(())
    }

    pub(super) fn message(&mut self, message: ToGuest) -> Result<(), Misuse> {
        let waiting = |same: fn(&ToGuest, &ToGuest) -> bool| {
            let mut items = self.items.iter();
            items.position(|item| matches!(item, Item::Message(m) if same(m, &message)))
        };
        match message {
            ToGuest::Open(_) => return Err(Misuse::Reopened),
            ToGuest::Signal(_) | ToGuest::Cancel => {
                if waiting(|a, b| a == b).is_some() {
                    return Ok(());
                }
            }
            // Only the last size counts.
            ToGuest::Resize(_) => {
                let is_size = |a: &ToGuest, _: &ToGuest| matches!(a, ToGuest::Resize(_));
                if let Some(at) = waiting(is_size) {
                    self.items[at] = Item::Message(message);
                    return Ok(());
                }
            }
        }
        let messages = self.items.iter();
        if messages.filter(|i| matches!(i, Item::Message(_))).count() >= MAX_MESSAGES {
            return Err(Misuse::Messages);
        }
        self.items.push_back(Item::Message(message));
        Ok(())
    }

    /// A grant of `bytes`; `received` of them have come and were not granted.
    pub(super) fn grant(
        &mut self,
        channel: Channel,
        bytes: u32,
        received: u32,
    ) -> Result<(), Misuse> {
        let mut none = 0;
        let owed = match channel {
            Channel::Input => &mut none,
            Channel::Output => &mut self.output,
            Channel::Error => &mut self.error,
        };
        match owed.checked_add(bytes).filter(|sum| *sum <= received) {
            Some(sum) => {
                *owed = sum;
                Ok(())
            }
            None => Err(Misuse::Grant {
                channel,
                granted: bytes,
                received: received - *owed,
            }),
        }
    }

    /// The guest grants input anew.
    pub(super) fn credited(&mut self, stream: u32, granted: u32) -> Result<(), Breach> {
        let sent = self.under_way;
        match sent.checked_sub(granted).filter(|_| granted > 0) {
            Some(left) => {
                self.under_way = left;
                Ok(())
            }
            None => Err(Breach::Credit {
                stream,
                granted,
                sent,
            }),
        }
    }

    /// Nothing but a cancelling is left to say.
    pub(super) fn cancel(&mut self) {
        self.forget();
        self.items.push_back(Item::Message(ToGuest::Cancel));
    }

    /// Nothing is left to say.
    pub(super) fn forget(&mut self) {
        self.items = VecDeque::new();
        (self.output, self.error) = (0, 0);
    }

    /// Appends one item's frames, and all grants, which it tells.
    pub(super) fn write(&mut self, stream: u32, out: &mut Vec<u8>) -> [(Channel, u32); 2] {
        // The first frame of a stream is its `Open`, and nothing can be granted before.
        let granted = [
            (Channel::Output, std::mem::take(&mut self.output)),
            (Channel::Error, std::mem::take(&mut self.error)),
        ];
        for (channel, bytes) in granted.iter().filter(|(_, bytes)| *bytes > 0) {
            encode_credit(out, stream, *channel, *bytes);
        }
        match self.items.pop_front() {
            None => {}
            Some(Item::Open(frame)) => {
                self.opened = true;
                out.extend_from_slice(&frame);
            }
            Some(Item::Data(bytes)) => encode_data(out, stream, Channel::Input, &bytes),
            Some(Item::Eof) => encode_eof(out, stream, Channel::Input),
            Some(Item::Message(message)) => {
                let encoded = encode_message(out, stream, &message);
                debug_assert!(encoded.is_ok(), "signals and sizes are small");
            }
        }
        granted
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        let items = self.items.iter().map(|item| match item {
            Item::Open(bytes) | Item::Data(bytes) => bytes.capacity(),
            Item::Eof | Item::Message(_) => 0,
        });
        self.items.capacity() * size_of::<Item>() + items.sum::<usize>()
    }
}

const _: () = assert!(PART <= MAX_DATA);
