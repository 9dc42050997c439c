//! What a host holds of a session, and what its peer may send: bounded by construction, without I/O.
//!
//! The peer is a guest, so it is hostile; or, for a client, the runner that passes a guest's frames on. There is no cap on
//! a queue that a patient peer could fill: for each stream there is a place for each thing that may come, and whatever has
//! no place is a [`Breach`], which ends the session.
//!
//! ```text
//! from the guest                 at most                  to the guest                  at most
//!   Started                        1                        Open                          1
//!   data on Output, on Error       a window each            data on Input                 a window
//!   EOF of Output, of Error        1 each                   EOF of Input                  1
//!   credit for Input               1 number                 credit for Output, for Error  1 number each
//!   the message that ends it       1                        signals, the terminal's size  16
//!                                                           Cancel                        1
//! ```
//!
//! * [`inbox`]: the left column, for one stream.
//! * [`outbox`]: the right one. A peer that does not read what is written to it costs no more than this.
//! * [`Streams`]: all streams of a session, at most [`MAX_STREAMS`].
//!
//! A stream that nobody listens to any more is cancelled, and its place kept until the peer has said its last word on it.
//! What comes for it meanwhile is counted like anything else, and thrown away. After the last word only credit may come,
//! for input that was under way; it is of no use to anybody, and nothing is kept of it.

mod inbox;
mod outbox;

use crate::{Channel, DecodeError, Decoder, Event, FromGuest, MAX_DATA, Request, ToGuest, WINDOW};
use inbox::Inbox;
use outbox::Outbox;
use std::collections::{HashMap, VecDeque};

/// Streams at once; an agent serves no more either.
pub const MAX_STREAMS: usize = 1024;
/// Bytes that are written in one go, about.
const BATCH: usize = 256 << 10;

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Bytes.
    Data(Channel, Vec<u8>),
    /// The end of a channel.
    Eof(Channel),
    /// Window for [`Channel::Input`]: all that came together.
    Credit(u32),
    /// A message; the last thing on a stream, except for [`FromGuest::Started`].
    Message(FromGuest),
}

/// The peer broke the protocol, and the session with it. To be read after “it”.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// What it sent is no frame.
    #[error("sent bytes that are not a frame: {0}")]
    Frame(#[from] DecodeError),
    /// A frame for a stream that the host has not opened.
    #[error("sent a frame on stream {stream}, which was never opened")]
    NeverOpened {
        /// The stream.
        stream: u32,
    },
    /// A frame after the message that ends its stream.
    #[error("sent a frame on stream {stream} after the stream had ended")]
    Ended {
        /// The stream.
        stream: u32,
    },
    /// Data or an end of file on a channel that leads the other way.
    #[error("sent on the input channel of stream {stream}")]
    WrongWay {
        /// The stream.
        stream: u32,
    },
    /// More data than it was granted.
    #[error("sent {over} bytes more than the window of {WINDOW} on stream {stream}, {channel:?}")]
    Overrun {
        /// The stream.
        stream: u32,
        /// The channel.
        channel: Channel,
        /// How many bytes are too many.
        over: usize,
    },
    /// Data or an end of file after the end of a channel.
    #[error("sent on stream {stream}, {channel:?}, after the end of that channel")]
    AfterEof {
        /// The stream.
        stream: u32,
        /// The channel.
        channel: Channel,
    },
    /// Credit for nothing, or for more than was sent.
    #[error("granted {granted} bytes on stream {stream}, where {sent} were under way")]
    Credit {
        /// The stream.
        stream: u32,
        /// The grant.
        granted: u32,
        /// What it could have granted.
        sent: u32,
    },
    /// A message that does not answer what was asked.
    #[error("sent a message on stream {stream} that does not belong there")]
    Unawaited {
        /// The stream.
        stream: u32,
    },
}

/// The host's own side asked for something that the protocol does not allow. To be read after “it”.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// More input than the guest has granted.
    #[error("sent {over} bytes more than the window of {WINDOW}")]
    Overrun {
        /// How many bytes are too many.
        over: usize,
    },
    /// Input after its end.
    #[error("sent input after its end")]
    AfterEof,
    /// A grant of more than has come and was not granted yet.
    #[error("granted {granted} bytes of {channel:?}, where {received} had come")]
    Grant {
        /// The channel.
        channel: Channel,
        /// The grant.
        granted: u32,
        /// What could have been granted.
        received: u32,
    },
    /// More messages than one stream has place for.
    #[error("sent more than {} messages at once", outbox::MAX_MESSAGES)]
    Messages,
    /// A message that opens a stream inside of one.
    #[error("opened a stream that is open")]
    Reopened,
}

/// A stream that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There are [`MAX_STREAMS`].
    #[error("{MAX_STREAMS} streams are open, and no more are served at once")]
    Crowded,
    /// All numbers were used.
    #[error("the session has used all of its stream numbers")]
    Exhausted,
    /// The request is too large to be sent.
    #[error(transparent)]
    Request(#[from] DecodeError),
}

/// One stream.
#[derive(Debug)]
struct Slot<T> {
    inbox: Inbox,
    outbox: Outbox,
    /// Nobody listens any more; the slot waits for the guest's last word.
    abandoned: bool,
    waker: T,
}

/// All streams of a session. `T` is what its caller wakes a stream's listener with.
#[derive(Debug)]
pub struct Streams<T> {
    slots: HashMap<u32, Slot<T>>,
    /// The last number that was given out.
    last: u32,
    /// Those that have something to write, each once.
    line: VecDeque<u32>,
    decoder: Decoder<FromGuest>,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            last: 0,
            line: VecDeque::new(),
            decoder: Decoder::default(),
        }
    }
}

impl<T> Streams<T> {
    /// Opens a stream with `request`, and gives its number.
    pub fn open(&mut self, request: Request, waker: T) -> Result<u32, OpenError> {
        if self.slots.len() >= MAX_STREAMS {
            return Err(OpenError::Crowded);
        }
        let id = self.last.checked_add(1).ok_or(OpenError::Exhausted)?;
        let inbox = Inbox::of(&request);
        let outbox = Outbox::opening(id, request)?;
        self.last = id;
        let slot = Slot {
            inbox,
            outbox,
            abandoned: false,
            waker,
        };
        self.slots.insert(id, slot);
        self.line.push_back(id);
        Ok(id)
    }

    /// Takes in bytes of the peer's, and calls `wake` for each thing that its listener may take. After an error nothing
    /// more must be taken in.
    pub fn receive(&mut self, mut bytes: &[u8], mut wake: impl FnMut(&T)) -> Result<(), Breach> {
        while let Some(event) = self.decoder.next(&mut bytes)? {
            let (stream, late_credit) = match &event {
                Event::Credit { stream, .. } => (*stream, true),
                Event::Data { stream, .. }
                | Event::Eof { stream, .. }
                | Event::Message { stream, .. } => (*stream, false),
            };
            let Some(slot) = self.slots.get_mut(&stream) else {
                if stream > self.last {
                    return Err(Breach::NeverOpened { stream });
                }
                // It has ended; but the peer grants what was under way.
                if late_credit {
                    continue;
                }
                return Err(Breach::Ended { stream });
            };
            if !slot.outbox.is_opened() {
                return Err(Breach::NeverOpened { stream });
            }
            match event {
                Event::Data { channel, bytes, .. } => slot.inbox.data(stream, channel, bytes)?,
                Event::Eof { channel, .. } => slot.inbox.eof(stream, channel)?,
                Event::Message { message, .. } => slot.inbox.message(stream, message)?,
                Event::Credit { channel, bytes, .. } => {
                    if channel != Channel::Input {
                        return Err(Breach::WrongWay { stream });
                    }
                    slot.outbox.credited(stream, bytes)?;
                    slot.inbox.credit(bytes);
                }
            }
            if slot.inbox.has_ended() {
                slot.outbox.forget();
            }
            if slot.abandoned {
                slot.inbox.discard();
                if slot.inbox.has_ended() {
                    self.slots.remove(&stream);
                }
            } else {
                wake(&slot.waker);
            }
        }
        Ok(())
    }

    /// The next thing that has come on a stream.
    pub fn take(&mut self, stream: u32) -> Option<Incoming> {
        self.slots.get_mut(&stream)?.inbox.take()
    }

    /// Sends bytes on [`Channel::Input`]. On a stream that has ended they are nobody's.
    pub fn send(&mut self, stream: u32, bytes: &[u8]) -> Result<(), Misuse> {
        self.with(stream, |slot| slot.outbox.data(bytes))
    }

    /// Ends [`Channel::Input`].
    pub fn send_eof(&mut self, stream: u32) -> Result<(), Misuse> {
        self.with(stream, |slot| slot.outbox.eof())
    }

    /// Grants window for a channel of the guest's: what has come on it and was passed on.
    pub fn grant(&mut self, stream: u32, channel: Channel, bytes: u32) -> Result<(), Misuse> {
        self.with(stream, |slot| {
            slot.outbox
                .grant(channel, bytes, slot.inbox.received(channel))
        })
    }

    /// Sends a message.
    pub fn send_message(&mut self, stream: u32, message: ToGuest) -> Result<(), Misuse> {
        self.with(stream, |slot| slot.outbox.message(message))
    }

    /// Nobody listens to a stream any more: it is cancelled, unless it has ended.
    pub fn abandon(&mut self, stream: u32) {
        let Some(slot) = self.slots.get_mut(&stream) else {
            return;
        };
        // What the guest never heard of needs no cancelling.
        if slot.inbox.has_ended() || !slot.outbox.is_opened() {
            self.slots.remove(&stream);
            return;
        }
        slot.abandoned = true;
        slot.inbox.discard();
        slot.outbox.cancel();
        self.queue(stream);
    }

    /// Appends what is to be written next to `out`, which stays empty when that is nothing.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        while out.len() < BATCH
            && let Some(stream) = self.line.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&stream) else {
                continue;
            };
            slot.outbox.in_line = false;
            for (channel, granted) in slot.outbox.write(stream, out) {
                slot.inbox.granted(channel, granted);
            }
            // In turn, so that one stream's input does not hold up another's request.
            self.queue(stream);
        }
    }

    /// The listeners of all streams.
    pub fn wakers(&self) -> impl Iterator<Item = &T> {
        self.slots.values().map(|slot| &slot.waker)
    }

    /// Bytes that are held, with what holding them costs; for tests of the bound.
    pub fn held(&self) -> usize {
        let slots = self.slots.values();
        let each = slots.map(|s| size_of::<Slot<T>>() + s.inbox.held() + s.outbox.held());
        self.decoder.held() + self.line.len() * size_of::<u32>() + each.sum::<usize>()
    }

    fn with(
        &mut self,
        stream: u32,
        change: impl FnOnce(&mut Slot<T>) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        // After its end nothing is sent on it; the caller may not have heard of it yet.
        let Some(slot) = self.slots.get_mut(&stream) else {
            return Ok(());
        };
        if slot.abandoned || slot.inbox.has_ended() {
            return Ok(());
        }
        change(slot)?;
        self.queue(stream);
        Ok(())
    }

    fn queue(&mut self, stream: u32) {
        if let Some(slot) = self.slots.get_mut(&stream)
            && !slot.outbox.in_line
            && slot.outbox.has_something()
        {
            slot.outbox.in_line = true;
            self.line.push_back(stream);
        }
    }
}

const _: () = assert!(MAX_DATA <= WINDOW as usize);
