//! Workflows on this host.
//!
//! The language and the engine are `vmint-workflow`'s; here are the machines, the store and the settings of this host.
//!
//! * [`start`]: from what a user asks to a run.
//! * [`site`]: leases on pools as the machines of a run.
//! * [`runs`]: what is kept of runs; [`moments`]: back to the moment before a step.
//! * [`groups`]: `concurrency` among the runs of this host.

pub mod groups;
pub mod moments;
pub mod runs;
pub mod site;
pub mod start;
#[cfg(test)]
mod testing;

pub use start::{Asked, CannotRun};
pub use vmint_workflow::*;
