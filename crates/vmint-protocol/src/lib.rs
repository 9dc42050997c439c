//! What host and guest say to each other over one byte stream, a virtio-serial port. No I/O happens here.
//!
//! ```text
//! host                                guest
//!  │── Hello { version, nonce } ───────▶│  forgets the session before, whatever state it was in
//!  │◀── Welcome { version, nonce } ─────│  everything before this nonce is thrown away by the host
//!  │── Open(stream 1, Prepare) ────────▶│
//!  │◀── Message(stream 1, Reply) ───────│
//!  │── Open(stream 2, Exec) ───────────▶│
//!  │◀── Data(stream 2, stdout, …) ──────│  bounded by the window that the receiver grants
//!  │── Credit(stream 2, stdout, n) ────▶│
//!  │◀── Message(stream 2, Exited) ──────│  the last frame of a stream
//! ```
//!
//! *Why a preamble and not just a connect.* A fork wakes up in the middle of whatever its template's or parent's
//! agent was doing; neither side can rely on seeing a hang-up. So a host starts each session with a [`Hello`] that no
//! payload can contain (the encoder splits payloads that would, see [`encode_data`]), and a guest that sees one at the
//! start of a read starts anew. The nonce lets the host tell the answer from the rest of an older session.
//!
//! *Why not yamux.* The guest sends a process's output by `splice`, from the process's pipe into the port, without the
//! bytes ever passing through the agent's memory. For that the header must be written first and its length be exact,
//! and under emulation each copy saved is a quarter of the throughput. The multiplexing that is left is small: a
//! 12-byte [`Header`] and a window per stream and channel ([`Window`], [`Credit`]).
//!
//! * [`preamble`]: the session's start, stable across versions.
//! * [`frame`]: headers, the encoder, and the [`Decoder`], which holds at most one message in memory.
//! * [`flow`]: the windows.
//! * [`message`]: what can be asked and answered.
//! * [`host`]: what a host holds of a session, and what a guest may send it.
//! * [`archive`]: tar streams, written, taken apart as they arrive, or as they are read.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod archive;
pub mod flow;
pub mod frame;
pub mod host;
pub mod message;
pub mod preamble;

pub use flow::{Credit, WINDOW, Window};
pub use frame::{
    Channel, DecodeError, Decoder, Event, HEADER_LEN, Header, Kind, MAX_DATA, MAX_MESSAGE,
    encode_credit, encode_data, encode_eof, encode_message,
};
pub use message::{
    ErrorCode, ExecSpec, ExitStatus, Extent, FromGuest, GuestError, GuestInfo, Init, LeftOut,
    NetworkConfig, Partly, Prepare, Reply, Request, Sent, SshHostKey, Streams, TarIn, TarOut,
    ToGuest, WindowSize,
};
pub use preamble::{Hello, NONCE_LEN, PREAMBLE_LEN, PROTOCOL_VERSION, Welcome};

/// The name of the virtio-serial port that the agent listens on.
pub const PORT_NAME: &str = "vmint.agent";
