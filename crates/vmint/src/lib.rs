//! vmint: a real virtual machine for every test, workflow and agent, in milliseconds.
//!
//! This crate is the one door: the command line, the server and Rust programs all go through it.
//!
//! ```no_run
//! # async fn example() -> Result<(), vmint::Fault> {
//! use vmint::{Command, Force, NewMachine, Vmint};
//!
//! let vmint = Vmint::open(vmint::Options::from_environment()?)?;
//! let machine = vmint.create_running(NewMachine::ephemeral("tiny"), &vmint::Silent).await?;
//! let output = vmint.output(machine.name.as_str(), Command::new(["uname", "-r"])).await?;
//! println!("{}", String::from_utf8_lossy(&output.stdout));
//! vmint.remove(machine.name.as_str(), Force::Yes).await?;
//! # Ok(())
//! # }
//! ```
//!
//! * [`door`]: [`Vmint`], opened once per process.
//! * [`machines`]: create, start; [`running`]: reset, pause, wait; [`ending`]: stop, remove; [`sweep`]: what was left by those that died.
//! * [`admit`]: whether the host can carry one more, and waiting until it can. [`memory`]: what the host has.
//! * `reach`: whom a machine serves.
//! * [`exec`], [`files`]: commands in machines, files in and out.
//! * [`snapshots`]: freeze, restore, fork.
//! * [`pools`]: pools and leases.
//! * [`workflow`]: GitHub Actions workflows.
//! * [`blocking`]: the same for programs that do not wait for futures. [`testing`]: a fresh machine for every test.
//! * [`images`]: images, templates, and what executes machines here.
//! * [`config`], [`doctor`], [`garbage`].

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

/// Their examples are compiled with this crate's own.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/rust.md")]
    struct Rust;
}

pub mod admit;
pub mod blocking;
pub mod config;
pub mod declared;
pub mod doctor;
pub mod door;
pub mod ending;
pub mod exec;
pub mod files;
mod folders;
pub mod garbage;
pub mod images;
mod lost;
pub mod machines;
pub mod memory;
pub mod pools;
mod reach;
pub mod repair;
pub mod running;
pub mod snapshots;
pub mod strays;
pub mod sweep;
pub mod testing;
mod undo;
pub mod workflow;

pub use admit::{Admission, OnPressure, Terms};
pub use door::{Options, Vmint};
pub use ending::{StopHow, StopOptions, Stopped};
pub use exec::{Command, Output, Running};
pub use machines::NewMachine;
pub use memory::HostMemory;
pub use pools::{Acquire, Lease, Pool, process};
pub use running::WaitFor;
pub use sweep::Found;
pub use testing::{AsyncVm, Vm};
pub use undo::Undo;
pub use vmint_files::{Skipped, Unpacked, Xattrs};
pub use vmint_image as image;
pub use vmint_image::{Progress, Silent};
pub use vmint_macros::test;
pub use vmint_model::printable::is_unprintable;
pub use vmint_model::{
    Accelerator, ByteSize, Cause, Change, Confine, Confinement, Counts, CpuLimit, DiskCache,
    DiskLimit, Ended, ErrorBody, ErrorKind, Event, ExecDefaults, Fault, Force, Generation, Home,
    IoLimit, LeaseEnd, LeaseId, LeaseRecord, Limits, MachineId, MachineRecord, MachineSpec,
    MachineState, Name, NetMode, Origin, Owner, PoolRecord, PoolSpec, PoolState, PoolStatus,
    ProcessRef, Publish, Slot, SlotState, SnapshotRecord, parse_duration, printable,
    printable_bytes, printable_lines, span,
};
pub use vmint_pool::Filled;
pub use vmint_protocol as protocol;
pub use vmint_qemu as qemu;
pub use vmint_runner as runner;
pub use vmint_store::{InLine, now_ms};
