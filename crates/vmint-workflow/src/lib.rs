//! GitHub Actions workflows, checked and run in machines.
//!
//! A workflow file becomes a checked [`spec`], its jobs are run in *sessions*: leases in which steps follow each other in
//! one machine. This crate knows the language and the rules; where machines come from is a trait, [`guest::Site`].
//!
//! From the file to the result:
//!
//! 1. [`yaml`]: bytes to a tree in which every node knows its line and column. Bounded in size, depth and aliases.
//! 2. [`load`]: the tree to `github-actions-models`' types, and these to the [`spec`] that everything here works on.
//! 3. [`check`]: all that is wrong or cannot be run, as [`diagnostic`]s, before anything runs. Nothing is skipped silently:
//!    what passes the check is run, what cannot be run does not pass.
//! 4. [`event`]: what has happened, whether it starts the workflow, and the `github` context. [`matrix`], [`graph`]: which
//!    jobs that makes, and in which order.
//! 5. [`run`]: the engine. [`expr`] evaluates; [`commands`], [`files`], [`mask`], [`log`] are how a step talks back;
//!    [`workspace`], [`artifacts`], [`cache`] stand in for GitHub's services.
//! 6. [`record`]: what came of it, which is also what is stored; [`report`] shows it as a page, as JUnit and as JSON;
//!    [`moment`]: how a shell begins in a machine as it was before a step.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod artifacts;
pub mod cache;
pub mod check;
pub mod containers;
pub mod event;
pub mod guest;
pub mod mirror;
pub mod observe;
pub mod private_file;
pub mod record;
pub mod report;
pub mod run;
pub mod shell_state;
pub mod spool;
pub mod trace;
pub mod workspace;

pub use vmint_syntax::{
    annotation, ansi, commands, diagnostic, equipment, expr, files, glob, graph, labels, limits,
    lines, load, log, mask, matcher, matrix, replace, setup, shell, sight, spec, uses, yaml,
};
