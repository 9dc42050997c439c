//! Workflows on this host.
//!
//! The language and the engine are `vmint-workflow`'s; here are the machines, the store and the settings of this host.
//!
//! * [`site`]: leases on pools as the machines of a run.

pub mod site;

pub use vmint_workflow::*;
