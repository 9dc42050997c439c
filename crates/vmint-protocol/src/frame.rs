//! Frames: a 12-byte header and a payload. Data passes through the [`Decoder`] in pieces as it arrives and is never
//! gathered; only messages are, and they are bounded.

use crate::preamble::Hello;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Length of a [`Header`] in bytes.
pub const HEADER_LEN: usize = 12;
/// Largest payload of a data frame in bytes.
pub const MAX_DATA: usize = 1 << 20;
/// Largest encoded message in bytes. An argument list with its environment fits: Linux allows 128 KiB for one string.
pub const MAX_MESSAGE: usize = 2 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a channel.
    Data = 1,
    /// The end of a channel; no payload.
    Eof = 2,
    /// A grant of window for a channel: a `u32`.
    Credit = 3,
    /// An encoded [`ToGuest`](crate::ToGuest) or [`FromGuest`](crate::FromGuest).
    Message = 4,
}

/// Which bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Channel {
    /// Host to guest: a process's standard input, or a tar stream to unpack.
    Input = 0,
    /// Guest to host: a process's standard output, a terminal's output, or a tar stream.
    Output = 1,
    /// Guest to host: a process's standard error.
    Error = 2,
}

/// A frame's first 12 bytes: stream (`u32`), kind, channel, two zero bytes, payload length (`u32`); little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream; chosen by the host when it opens one, never zero, never used twice in a session.
    pub stream: u32,
    /// What the frame is.
    pub kind: Kind,
    /// Which channel; [`Channel::Input`] where the kind has none.
    pub channel: Channel,
    /// Length of the payload in bytes.
    pub len: u32,
}

/// Bytes that are no frame. The session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No [`Kind`] has this number.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// No [`Channel`] has this number.
    #[error("unknown channel {0}")]
    Channel(u8),
    /// Bytes that must be zero are not.
    #[error("reserved bytes {0:#06x} are not zero")]
    Reserved(u16),
    /// Stream 0 is nobody's.
    #[error("stream 0 does not exist")]
    Stream,
    /// The payload is longer than its kind allows.
    #[error("a {kind:?} frame of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// The frame's kind.
        kind: Kind,
        /// Its length.
        len: u32,
        /// The most that the kind allows.
        limit: usize,
    },
    /// The payload is not a message.
    #[error("a message of {0} bytes cannot be decoded")]
    Message(u32),
}

impl Header {
    /// The bytes on the wire.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..4].copy_from_slice(&self.stream.to_le_bytes());
        out[4] = self.kind as u8;
        out[5] = self.channel as u8;
        out[8..].copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Reads a header and checks all of its fields against their limits.
    pub fn decode(b: &[u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let kind = match b[4] {
            1 => Kind::Data,
            2 => Kind::Eof,
            3 => Kind::Credit,
            4 => Kind::Message,
            n => return Err(DecodeError::Kind(n)),
        };
        let channel = match b[5] {
            0 => Channel::Input,
            1 => Channel::Output,
            2 => Channel::Error,
            n => return Err(DecodeError::Channel(n)),
        };
        let reserved = u16::from_le_bytes([b[6], b[7]]);
        if reserved != 0 {
            return Err(DecodeError::Reserved(reserved));
        }
        let stream = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        if stream == 0 {
            return Err(DecodeError::Stream);
        }
        let len = u32::from_le_bytes([b[8], b[9], b[10], b[11]]);
        let (min, limit) = match kind {
            Kind::Data => (1, MAX_DATA),
            Kind::Eof => (0, 0),
            Kind::Credit => (4, 4),
            Kind::Message => (1, MAX_MESSAGE),
        };
        if (len as usize) < min || len as usize > limit {
            return Err(DecodeError::TooLong { kind, len, limit });
        }
        Ok(Self {
            stream,
            kind,
            channel,
            len,
        })
    }
}

/// Appends data frames for `bytes` to `out`. Payloads are split at [`MAX_DATA`], and wherever a
/// [`Hello`] would otherwise appear on the wire: only a host may start a session, not a file that it copies.
pub fn encode_data(out: &mut Vec<u8>, stream: u32, channel: Channel, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut n = rest.len().min(MAX_DATA);
        if let Some(at) = memchr::memmem::find(&rest[..n], Hello::magic()) {
            n = at + 1;
        }
        // A magic that straddles the cut at MAX_DATA has a header in its middle, so it is none.
        let header = Header {
            stream,
            kind: Kind::Data,
            channel,
            len: n as u32,
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&rest[..n]);
        rest = &rest[n..];
    }
}

/// Appends the frame that ends a channel.
pub fn encode_eof(out: &mut Vec<u8>, stream: u32, channel: Channel) {
    out.extend_from_slice(
        &Header {
            stream,
            kind: Kind::Eof,
            channel,
            len: 0,
        }
        .encode(),
    );
}

/// Appends a grant of `bytes` of window.
pub fn encode_credit(out: &mut Vec<u8>, stream: u32, channel: Channel, bytes: u32) {
    out.extend_from_slice(
        &Header {
            stream,
            kind: Kind::Credit,
            channel,
            len: 4,
        }
        .encode(),
    );
    out.extend_from_slice(&bytes.to_le_bytes());
}

/// Appends a message. Fails, and appends nothing, if it is larger than [`MAX_MESSAGE`].
pub fn encode_message<M: Serialize>(
    out: &mut Vec<u8>,
    stream: u32,
    message: &M,
) -> Result<(), DecodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    let encoded = postcard::to_extend(message, std::mem::take(out));
    let Ok(buffer) = encoded else {
        return Err(DecodeError::Message(0));
    };
    *out = buffer;
    let len = out.len() - start - HEADER_LEN;
    if len > MAX_MESSAGE {
        out.truncate(start);
        return Err(DecodeError::TooLong {
            kind: Kind::Message,
            len: len as u32,
            limit: MAX_MESSAGE,
        });
    }
    let header = Header {
        stream,
        kind: Kind::Message,
        channel: Channel::Input,
        len: len as u32,
    };
    out[start..start + HEADER_LEN].copy_from_slice(&header.encode());
    Ok(())
}

/// What the [`Decoder`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a, M> {
    /// Some bytes of a channel; a frame may come in several pieces.
    Data {
        /// The stream.
        stream: u32,
        /// The channel.
        channel: Channel,
        /// The bytes, at least one.
        bytes: &'a [u8],
    },
    /// The end of a channel.
    Eof {
        /// The stream.
        stream: u32,
        /// The channel.
        channel: Channel,
    },
    /// A grant of window.
    Credit {
        /// The stream.
        stream: u32,
        /// The channel.
        channel: Channel,
        /// How many bytes.
        bytes: u32,
    },
    /// A message.
    Message {
        /// The stream.
        stream: u32,
        /// The message.
        message: M,
    },
}

/// Takes a byte stream apart into [`Event`]s. `M` is what the other side sends: [`ToGuest`](crate::ToGuest) in the
/// guest, [`FromGuest`](crate::FromGuest) on the host.
#[derive(Debug)]
pub struct Decoder<M> {
    state: State,
    buffer: Vec<u8>,
    message: PhantomData<fn() -> M>,
}

#[derive(Debug)]
enum State {
    /// Gathering a header in the buffer.
    Header,
    /// Passing a data frame through; this many bytes are still to come.
    Data(Header, usize),
    /// Gathering a small payload in the buffer.
    Payload(Header),
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self {
            state: State::Header,
            buffer: Vec::new(),
            message: PhantomData,
        }
    }
}

impl<M: DeserializeOwned> Decoder<M> {
    /// Whether the next byte starts a frame.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Header) && self.buffer.is_empty()
    }

    /// Bytes that are held: of a header or a message that has not come whole.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes the next event from the front of `input`, which is advanced past what was used. `None` when more input
    /// is needed. After an error the decoder must not be used again.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a, M>>, DecodeError> {
        loop {
            match self.state {
                State::Header => {
                    if !self.gather(input, HEADER_LEN) {
                        return Ok(None);
                    }
                    let raw: [u8; HEADER_LEN] = self.buffer[..]
                        .try_into()
                        .expect("gathered exactly a header");
                    self.buffer.clear();
                    let header = Header::decode(&raw)?;
                    let Header {
                        stream, channel, ..
                    } = header;
                    match header.kind {
                        Kind::Eof => return Ok(Some(Event::Eof { stream, channel })),
                        Kind::Data => self.state = State::Data(header, header.len as usize),
                        Kind::Credit | Kind::Message => self.state = State::Payload(header),
                    }
                }
                State::Data(header, left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let (bytes, rest) = input.split_at(left.min(input.len()));
                    *input = rest;
                    self.state = match left - bytes.len() {
                        0 => State::Header,
                        left => State::Data(header, left),
                    };
                    return Ok(Some(Event::Data {
                        stream: header.stream,
                        channel: header.channel,
                        bytes,
                    }));
                }
                State::Payload(header) => {
                    if !self.gather(input, header.len as usize) {
                        return Ok(None);
                    }
                    self.state = State::Header;
                    let event = self.payload(header);
                    self.buffer.clear();
                    // One large message must not hold its memory for the rest of the session.
                    self.buffer.shrink_to(4096);
                    return event.map(Some);
                }
            }
        }
    }

    fn payload<'a>(&self, header: Header) -> Result<Event<'a, M>, DecodeError> {
        let Header {
            stream,
            channel,
            len,
            ..
        } = header;
        if header.kind == Kind::Credit {
            let raw: [u8; 4] = self.buffer[..]
                .try_into()
                .expect("checked by Header::decode");
            return Ok(Event::Credit {
                stream,
                channel,
                bytes: u32::from_le_bytes(raw),
            });
        }
        match postcard::take_from_bytes(&self.buffer) {
            Ok((message, [])) => Ok(Event::Message { stream, message }),
            _ => Err(DecodeError::Message(len)),
        }
    }

    /// Moves bytes from `input` to the buffer until it holds `want`.
    fn gather(&mut self, input: &mut &[u8], want: usize) -> bool {
        let n = (want - self.buffer.len()).min(input.len());
        self.buffer.extend_from_slice(&input[..n]);
        *input = &input[n..];
        self.buffer.len() == want
    }
}
