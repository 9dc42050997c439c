//! vmint's words as types. No I/O but random numbers for new ids, the wall clock, and a look at the processor.
//!
//! * [`id`]: names, machine ids, generations.
//! * [`size`]: sizes in bytes and durations as people write them.
//! * [`state`]: a machine's states and the table of legal transitions.
//! * [`spec`]: what a machine is asked to be.
//! * [`allow`]: what a guest may reach, name by name.
//! * [`confine`]: how its hypervisor is fenced in.
//! * [`record`]: what is known of a machine; `vmint info` prints it.
//! * [`event`]: what happened to it, and why.
//! * [`pool`], [`lease`]: pools, their slots, who holds what.
//! * [`boot`]: how a machine starts.
//! * [`ledger`], [`backend`]: where leases are claimed and machines live, as traits.
//! * [`clock`]: two clocks, and which of them decides.
//! * [`force`]: whether what stands in the way is overcome.
//! * [`process`]: a process named so that no other can be mistaken for it.
//! * [`home`]: where everything is kept.
//! * [`printable`](mod@printable), [`meant`]: what of a text is shown, and which name was meant; both from `vmint-text`.
//! * `sim`: a simulated host for tests, with the feature of this name.
//! * [`error`]: kinds of failure and their exit codes.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod allow;
pub mod backend;
pub mod boot;
pub mod cgroup;
pub mod clock;
pub mod confine;
pub mod error;
pub mod event;
pub mod force;
pub mod home;
pub mod id;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod pool;
pub mod process;
pub mod record;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod size;
pub mod spec;
pub mod state;

pub use allow::{AllowList, HostName, InvalidAllowList};
pub use backend::{Backend, Listen, World};
pub use boot::{Boot, InvalidBoot};
pub use clock::{Now, now_ms};
pub use confine::{Confine, Confinement};
pub use error::{ErrorBody, ErrorKind, Explained, Fault};
pub use event::{Cause, Change, Event};
pub use force::Force;
pub use home::{Home, MachineDir};
pub use id::{Generation, HomeId, InvalidHomeId, InvalidName, MachineId, Name, RunId};
pub use lease::{Ended, LeaseEnd, LeaseId, LeaseRecord, Owner, OwnerGone};
pub use ledger::{
    Bell, By, Claim, Claimed, Duty, Ledger, LedgerError, PoolChange, PoolStatus, Readied, Reserved,
    Ring, Waiter,
};
pub use limits::{CpuLimit, DiskLimit, IoLimit, Limits};
pub use pool::{Counts, PoolRecord, PoolSpec, PoolState, Slot, SlotState};
pub use process::ProcessRef;
pub use record::{MachineRecord, SnapshotRecord};
pub use size::{ByteSize, parse_duration, span};
pub use spec::{
    Accelerator, DiskCache, ExecDefaults, InvalidNetMode, Link, MachineSpec, NetMode, Origin,
    Publish,
};
pub use state::{IllegalTransition, MachineState};
pub use vmint_text::{meant, nearest, printable, printable_bytes, printable_lines};
