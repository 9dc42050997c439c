//! Fences a process in, so that code which takes it over reaches nothing that the process does not need.
//!
//! The fence has three layers. None needs privileges, a daemon, or anything set up on the host:
//!
//! 1. **Capabilities** are dropped, and nothing can bring them back ([`capabilities`]). Only root has any.
//! 2. **Landlock** ([`paths`]): files and folders outside of the [`Rules`] cannot be opened; TCP ports cannot be bound or
//!    connected to; processes outside the fence cannot be signalled, nor their abstract sockets be connected to. How much of
//!    it there is depends on the kernel ([`Confinement`]).
//! 3. **A list of denied system calls** ([`calls`]): those that reach other processes, change who may read a file, or have
//!    a history of kernel bugs. Where Landlock cannot guard signals, this layer does.
//!
//! ```text
//! Rules ── Fence::build (parent: opens paths, may allocate) ── Fence::enter (child, between fork and exec) ── exec
//!                └── Confinement: what holds on this kernel
//! ```
//!
//! A fence cannot be left: all that the process starts is inside as well, and may have a narrower fence of its own.
//!
//! What it may take of the host's processors, memory and disks, a control group says ([`group`]), where the host has them to give.
//!
//! What the process is decides about the third layer ([`Role`]). A process of root may also become another [`user`].
//!
//! ```no_run
//! use std::os::unix::process::CommandExt;
//! use vmint_confine::{Fence, Network, Rules, Confine};
//!
//! let rules = Rules::new(Network::None).run("/usr/bin/true").read("/usr/lib").read("/etc/ld.so.cache");
//! let Some(mut fence) = Fence::build(&rules, Confine::Best)? else { return Ok(()) };
//! println!("{}", fence.level());
//! let mut command = std::process::Command::new("/usr/bin/true");
//! // SAFETY: `enter` is async-signal-safe.
//! unsafe { command.pre_exec(move || fence.enter()) };
//! command.status()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod calls;
pub mod capabilities;
pub mod fence;
pub mod group;
pub mod paths;
mod programs;
pub mod rules;
mod tree;
pub mod user;

pub use capabilities::Capability;
pub use fence::{ConfineError, Fence};
pub use group::{Bounds, Ground, Group, NoGroup};
pub use rules::{Access, Network, Role, Rules};
pub use user::{NoUser, User};
pub use vmint_model::{Confine, Confinement};
