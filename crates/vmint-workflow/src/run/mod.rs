//! The engine: jobs in sessions, steps in jobs.
//!
//! ```text
//! run ── jobs ──┬── call ── jobs …               a reusable workflow
//!               └── instance (session, job)      one combination of a matrix
//!                     set-up ─ containers ─ pre… ─ step… ─ post… ─ containers ─ clean-up
//!                                                 │
//!                                                 ├── script      a command in the guest, or in the job's container
//!                                                 ├── composite   steps again, with inputs and outputs of their own
//!                                                 ├── action_parts  pre, main, post of an action: node or docker
//!                                                 └── builtin     checkout, artifacts, cache, setup-…
//! ```
//!
//! Invariants:
//!
//! * A session is acquired once and released once, whatever happens in between; a run has one, or each job has one.
//! * A step's outcome is about the step. What goes wrong in vmint or with the machine is a [`Fault`](vmint_model::Fault): the step gets no
//!   outcome, the job none, and the run ends with [`RunEnd::Fault`](crate::record::RunEnd::Fault).
//! * After a failure, a time limit or a cancellation, what is to run in spite of it does run, as long as there is a machine.
//! * Whatever is written down or shown is [masked](crate::mask::Masked): the recorder and the logs take nothing else.

mod action_parts;
mod builtin;
mod call;
pub mod cancel;
mod collect;
mod command;
mod composite;
mod container_calls;
mod containers;
mod contexts;
mod docker;
mod end;
mod fields;
mod forward;
mod found;
mod guest_files;
mod inside;
mod instance;
mod job;
mod jobs;
mod late;
mod lifecycle;
mod moments;
mod node;
pub mod paths;
mod recorder;
mod replaced;
mod request;
mod results;
mod script;
mod session;
mod set_up;
mod stage;
mod standstill;
pub mod state;
mod step;
mod supervise;
mod teller;
mod token;
mod transfer;
mod uses;
mod view;
mod wire;
mod workflow_run;

pub use cancel::Cancel;
pub use request::{MachinePer, Moments, OnFailure, Options, Request, Resume};
pub use workflow_run::run;

use workflow_run::Run;
