//! What vmint costs here, each figure against the least that it could cost, measured in the same run.
//!
//! A benchmark takes samples of what vmint does and of its floor (a bare QEMU, the agent's own round trip, `git
//! --version`) in turn, so that a busy host slows both down, and reports them with their ratio and the ratio to reach.
//! The first sample of each turn of a guest or program is not counted: it fills caches. No other is left out.
//!
//! * [`suite`]: which benchmarks there are; runs them.
//! * [`report`]: figures, targets, and whether they were met.
//! * [`targets`]: what each figure should come to.
//! * [`plot`]: figures as pictures.
//! * `rig`: what benchmarks share: hypervisors and machines to measure, and that none of them stays behind.
//! * `process`: whole processes timed; what processes and the host use.
//! * `fork`, `commands`, `memory`, `many`, `branch`, `restore`, `stream`, `files`, `raw`: the benchmarks.
//! * `pool` and its kin: pools and leases; [`worker`] is a process that contends for them.
//! * `workflow` and its kin: what runs of workflows add to the commands of their steps.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

mod branch;
mod commands;
mod files;
mod fork;
mod many;
mod memory;
pub mod plot;
mod pool;
mod pool_crowd;
mod pool_ledger;
mod pool_rig;
mod pool_soak;
mod pool_worker;
mod process;
mod raw;
pub mod report;
mod restore;
mod rig;
mod stream;
pub mod suite;
pub mod targets;
mod workflow;
mod workflow_check;
mod workflow_memory;
mod workflow_rig;

pub use pool_worker::worker;
pub use report::{Bound, Failure, Figures, Floor, HostFacts, Of, Report, Row, Target, Told, Unit};
pub use suite::{BenchOptions, names, run};
