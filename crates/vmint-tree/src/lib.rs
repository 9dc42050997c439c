//! Trees of files on their way between host and guest: the rules that both sides keep.
//!
//! ```text
//! tree ──pack()──▶ vmint_protocol::archive (the dialect) ──▶ bytes ──▶ Parser ──▶ Draft, xattrs::set ──▶ tree
//!        walks by descriptors,        host ⇄ guest                     what is whole gets its name
//!        to any depth
//! ```
//!
//! * [`pack`]: the one packer. A file is sent with the length that it has when it is opened, whatever becomes of it
//!   meanwhile; what cannot be read is [told](Packed::trouble) when all the rest was sent. Holes stay holes, hard links hard
//!   links, and sockets stay behind, counted.
//! * [`Sink`]: where an archive goes: a pipe of the guest's, by `splice`; memory, on the host.
//! * [`Drafts`], [`Draft`]: a file under its way has no name; when it is whole it takes the place of what has it.
//! * [`xattrs`]: which extended attributes go along, and how they are set.
//! * [`deep`]: paths of any length, opened in steps.
//!
//! It is a part of the guest's agent, so it is small: no I/O but system calls, no dependencies but the protocol.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod deep;
mod draft;
mod holes;
mod kernel;
mod links;
mod pack;
mod sink;
mod walk;
pub mod xattrs;

pub use draft::{Draft, Drafts, link, write_all};
pub use pack::{As, PackError, Packed, Reason, Trouble, entry_of, pack};
pub use sink::{Broken, Sink, Writing};
pub use xattrs::Xattrs;
