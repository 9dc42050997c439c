//! The process that owns one QEMU machine, and what others need to talk to it.
//!
//! A runner is started by whoever wants a machine, leaves its caller's session, and lives exactly as long as its
//! machine is up. It holds the machine's lock; QEMU is its child and dies with it. Everybody else goes through its
//! socket, or, should that be gone, leaves word in the store.
//!
//! * [`start`]: how a runner is started; [`process`]: what it then does.
//! * [`machine`]: the task that owns the machine; [`watch`]: what it watches.
//! * [`belongs`]: whose process a process is, by its arguments.
//! * [`api`], [`server`], [`client`]: the socket; [`view`]: what it shows; [`policy`]: which requests a machine serves.
//! * [`trace`]: one id for the way of one command.
//! * [`session`], [`relay`]: streams to the guest's agent.
//! * [`bringup`], [`identity`]: from a launch to a guest that can be used and is like no other.
//! * [`fence`]: what a runner needs of its host, and nothing else.
//! * [`reserve`]: what is left when a disk is full; [`salvage`]: what is left of a machine that was lost while it was lent.
//! * [`template`]: images booted once and frozen; [`probe`]: what executes guests on this host.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod api;
pub mod belongs;
pub mod bringup;
pub mod client;
pub mod fence;
pub mod identity;
pub mod machine;
pub mod policy;
pub mod probe;
pub mod process;
pub mod relay;
pub mod reserve;
pub mod salvage;
pub mod server;
pub mod session;
pub mod start;
pub mod template;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod view;
pub mod watch;

pub use client::Client;
pub use session::{Fed, Sender, Session, SessionError, Stream, StreamEvent};
pub use start::{BootSpec, From, StartRequest, Starting, start_runner};
