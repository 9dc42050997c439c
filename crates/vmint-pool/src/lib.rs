//! Pools, leases, admission and reaping, over any backend and ledger.
//!
//! ```text
//!  acquire ──▶ claim ──▶ leased                       whoever touches a pool:
//!                │ nothing ready                        reap   what died   ─▶ slots are free
//!                ▼                                      fill   what is missing
//!              in line ──rung, or granted──▶ leased
//! ```
//!
//! There is no daemon. The ledger decides, in transactions; a machine's runner keeps its own machine in order (resets
//! it, watches its owner, takes it down); and whoever touches a pool restores the rest: [`Pools::restore`] frees the
//! slots of what died, [`Pools::fill`] makes what is missing. Who waits in line does both as long as it waits.
//!
//! * [`pools`]: acquire, release, fill, restore; the same code over this host and over `sim`.
//! * `making`: which machines this process is making.
//! * [`retry`]: which failures of a creation are tried again, and when.
//! * [`admission`]: whether the host can carry one more machine.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod admission;
mod making;
pub mod pools;
pub mod retry;

pub use pools::{Acquire, Filled, Pools};
