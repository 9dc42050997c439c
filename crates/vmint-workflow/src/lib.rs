//! GitHub Actions workflows, checked and run in machines.
//!
//! A workflow file becomes a checked [`spec`], its jobs are run in *sessions*: leases in which steps follow each other in
//! one machine. The language is `vmint-syntax`, whose modules are re-exported here; this crate knows how its jobs are run.
//! Where machines come from is a trait, [`guest::Site`].
//!
//! 1. [`check`]: the language's check, on the files of this host. [`mirror`]: the copies of actions.
//! 2. [`workspace`]: what git says of the repository, and its files. [`mod@event`]: what has happened.
//! 3. [`run`]: the engine. [`containers`], [`artifacts`], [`cache`] stand in for GitHub's services.
//! 4. [`record`]: what came of it, which is also what is stored; [`report`] shows it as a page, as JUnit and as JSON;
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
