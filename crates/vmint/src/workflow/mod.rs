//! Workflows on this host.
//!
//! The language and the engine are `vmint-workflow`'s; here are the machines, the store and the settings of this host.
//!
//! ```no_run
//! # async fn example(watching: impl vmint::workflow::observe::Observer) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use vmint::workflow::{Asked, run::Cancel};
//!
//! let vmint = Arc::new(vmint::Vmint::open(vmint::Options::from_environment()?)?);
//! let config = Arc::new(vmint::config::Config::load(&std::env::current_dir()?, |name| std::env::var_os(name))?);
//! let asked = Asked { file: ".github/workflows/ci.yml".into(), ..Asked::default() };
//! let request = vmint.prepare_run(&config, &asked).await?; // checked; nothing has run
//! let watching = (watching, vmint::Silent);
//! let (record, unkept) = vmint.run_workflow(&config, &request, asked.pools, watching, &Cancel::new()).await;
//! println!("{:?}, {unkept:?}", record.end);
//! # Ok(())
//! # }
//! ```
//!
//! * [`start`]: from what a user asks to a run.
//! * [`meaning`]: what labels stand for; [`site`]: leases on pools as the machines of a run.
//! * [`runs`]: what is kept of runs; [`moments`]: back to the moment before a step.
//! * [`again`]: what a run was asked to be, to try it again.
//! * `trace_file`: what a run does and waits for, kept as it goes.
//! * [`groups`]: `concurrency` among the runs of this host.

pub mod again;
pub mod groups;
pub mod meaning;
pub mod moments;
pub mod runs;
pub mod site;
pub mod start;
#[cfg(test)]
mod testing;
mod trace_file;

pub use start::{Asked, CannotRun};
pub use vmint_workflow::*;
