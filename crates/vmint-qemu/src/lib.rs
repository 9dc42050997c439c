//! QEMU as a typed thing: arguments, QMP, freeze, fork, snapshot.
//!
//! ```text
//!            Launch ──▶ Hypervisor ──▶ freeze / branch ──▶ Frozen (a folder)
//!                           ▲                                 │
//!                           └──────────── fork ◀──────────────┘
//! ```
//!
//! A [`Frozen`] is a moment of a machine as files: the RAM that it was mapped from, the pages that differ from it, the
//! devices' state, the disk's layers. Templates and snapshots are both one, and are forked by the same few lines.
//! Folders hold hard links to what they share, so each is complete in itself, any of them can be deleted at any
//! time, and the file system counts the references.
//!
//! * [`host`]: which QEMU, which accelerator.
//! * [`shape`]: what a frozen machine and its forks must have in common.
//! * [`args`]: the command line, from pure functions.
//! * [`spawn`]: a child that never outlives its parent, with descriptors passed by number.
//! * [`qmp`]: typed and asynchronous QMP.
//! * [`hypervisor`]: a QEMU process from launch to exit.
//! * [`log`]: bounded logs of what a guest and its QEMU say.
//! * [`memory`]: which pages of a running fork differ from its template; reading and writing them.
//! * [`disk`]: the layers of a disk.
//! * [`platform`]: what a guest sees of its QEMU, and which QEMU can go on with it.
//! * [`listen`]: the sockets of published ports.
//! * [`frozen`]: the folder of a frozen machine, its manifest, its integrity.
//! * `seen`: up to which change the content of a frozen file is known.
//! * [`fence`]: what a QEMU needs of its host, and nothing else.
//! * `opened`: what a QEMU of another user is given open.
//! * [`netguard`]: what user-mode networking may reach.
//! * [`egress`]: names instead of addresses: the resolver and the proxy of an allow list.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod args;
pub mod disk;
pub mod egress;
pub mod error;
pub mod fence;
pub mod frozen;
pub mod host;
pub mod hypervisor;
pub mod listen;
pub mod log;
pub mod memory;
pub mod netguard;
mod opened;
pub mod platform;
pub mod qmp;
mod seen;
pub mod shape;
pub mod spawn;

pub use error::{BranchError, FreezeError, LaunchError, QmpError};
pub use frozen::{Frozen, Manifest};
pub use host::{DeviceState, Host, Qemu};
pub use hypervisor::{Boot, Exit, Hypervisor, Launch, Notice, Start};
pub use listen::Port;
pub use platform::{PanicDevice, Platform};
pub use qmp::Heard;
pub use shape::{MachineType, Shape};
