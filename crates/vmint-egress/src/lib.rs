//! What a guest with `--net allow:…` may reach, decided from bytes. No I/O, no clock, no threads: `vmint-qemu`'s `egress` does
//! what is decided here.
//!
//! ```text
//!   guest's question ─▶ dns::Question ─▶ is the name in the list? ─no─▶ REFUSED
//!                                              │ yes
//!                       dns::query ─▶ a name server of the host ─▶ dns::Answer
//!                                              │ without private addresses that the list does not name
//!                       Answers: (name, address), each as long as it lives
//!                                              │
//!   guest's connection ─▶ is the address in Answers, for a name with this port?
//!                         port 80:  http::Requests, each request's `Host` ┐ must be a name that this very address was
//!                         port 443: hello, the name in the ClientHello    ┘ answered for
//!                         another port: the address is enough
//! ```
//!
//! Invariants:
//!
//! * **A name and its address go together.** An address that was answered for one name is not opened by another name, be it in the
//!   list or not: a server of many names is reached by those that were asked for.
//! * **What cannot be read is refused**, and so is what two readers might read differently (two `Host`s, two lengths, a bare line
//!   feed, a name that is hidden in an encrypted ClientHello).
//! * **Bounded.** A name, a message, a head and a ClientHello have a size that they may have; the table of answers has a number of
//!   rows, and the row that dies first makes room.
//!
//! * [`dns`]: questions of guests, questions to name servers, and their answers.
//! * [`answers`]: which address was answered for which name, and until when.
//! * [`hello`]: the name in a TLS ClientHello.
//! * [`http`]: requests on one connection, one after the other.
//! * [`private`]: addresses that a name may not lead to by itself.
//! * [`entry`]: a line of the network log.
//!
//! *Why DNS and TLS are read by own code.* Of DNS it takes one question and three kinds of record, of TLS one message; the
//! libraries read dozens of each, and their size and their panics would be the runner's. Requests are read by `httparse`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod answers;
pub mod dns;
pub mod entry;
pub mod hello;
pub mod http;
pub mod private;

pub use answers::Answers;
pub use entry::{Entry, Totals, Verdict, What};

/// What was made of the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// Its end is not there yet.
    More,
    /// All of it.
    Whole(T),
}
