//! What makes `--net allow:…` true: a resolver for the names of the list, and a proxy that looks at the names which connections
//! show. What is allowed is decided in `vmint-egress`; this does it.
//!
//! ```text
//!  QEMU (libslirp)            thread "netguard"                        thread "egress", one for each QEMU
//!  sendto(name server:53) ──▶ takes the question ───── Question ─────▶ resolver ─▶ the host's name servers
//!  recvfrom              ◀── reads it, says “from port 53” ◀─ datagram ─┘   └▶ Answers
//!  connect(name server:53) ─▶ a pair instead of the socket ─ Stream ──▶ resolver, by TCP
//!  connect(address:80|443) ─▶ a pair instead of the socket ─ Stream ──▶ proxy: reads the name, judges, connects, copies
//!  connect(address:other) ──▶ connects the socket itself, as with nat
//! ```
//!
//! * **Nobody else can use it.** A connection of the guest's is a pair of sockets, one end of which takes the place of QEMU's own
//!   (`SECCOMP_ADDFD_FLAG_SETFD`); nothing listens on the host. Questions are handed over within this process. Only their
//!   answers come by a socket on loopback, connected, so that nobody else can answer.
//! * **The answer's port.** libslirp tells the guest the port that an answer came from, and vmint need not be root to have port 53.
//!   So the guard also stops `recvfrom` of callers that want to know the sender, reads the answer for QEMU, and says what the
//!   guest asked. That is a datagram of DNS each; TCP is received without it.
//! * **Nothing starves.** Questions and connections that are too many are dropped or refused ([`service`]), the rate to name
//!   servers and that of lines in the log are limited.
//! * **It ends with QEMU**: the guard's thread does, the channel is closed, the thread's tasks are dropped.
//!
//! What a name was answered with is remembered for one QEMU process: after a fork, a restore or a reset a guest asks again.
//!
//! * `gate`: what the guard asks: where may this call go?
//! * `journal`: the network log and its sums.
//! * `service`: the thread, and the limits.
//! * `resolver`: from a question to its answer.
//! * `upstream`: the host's name servers.
//! * `proxy`: connections to ports 80 and 443.
//! * `relay`: what is copied once a name was judged.

mod gate;
mod journal;
mod proxy;
mod relay;
mod resolver;
mod service;
mod upstream;

pub(crate) use gate::{Gate, Way, split_sender};
pub use journal::Journal;
pub use vmint_egress::{Entry, Totals, Verdict, What};

use std::path::Path;
use vmint_model::AllowList;

/// What a machine may reach, and where that is written down.
#[derive(Clone, Copy, Debug)]
pub struct Allow<'a> {
    /// The list.
    pub list: &'a AllowList,
    /// The network log; gone on with.
    pub log: &'a Path,
}
