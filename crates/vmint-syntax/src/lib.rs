//! The language of GitHub Actions workflows: what turns text into values.
//!
//! Nothing here knows a clock, a file, a machine or a runtime: bytes and moments come in as arguments, and files that a check
//! looks at come through a trait, [`check::Files`]. So all of it is tested and fuzzed as it is; `vmint-workflow` runs what is
//! read here, and re-exports these modules.
//!
//! From the file to the plan:
//!
//! 1. [`yaml`]: bytes to a tree in which every node knows its line and column. Bounded in size, depth and aliases.
//! 2. [`load`]: the tree, held against tables of the syntax, as a [`spec`].
//! 3. [`check`]: all that is wrong or cannot be run, as [`diagnostic`]s, before anything runs. Nothing is skipped silently:
//!    what passes the check is run, what cannot be run does not pass. It knows which actions are done in another way
//!    ([`replace`], [`setup`]), what containers are made of ([`containers`]), what images have ([`equipment`]), and what labels
//!    say ([`labels`]); [`uses`] says what is named.
//! 4. [`event`]: what has happened, whether it starts the workflow, and the `github` context, from facts about a
//!    [repository](event::repository). [`matrix`], [`graph`]: which jobs that makes, and in which order.
//!
//! And from a step's output to what is known of it:
//!
//! 1. [`lines`]: bytes to lines; each is [masked](mask) as a person would see it ([`sight`]), and is a [command](commands), a
//!    [match](matcher), or text of the [`log`]. [`ansi`] keeps its colours and nothing else that a terminal would obey.
//! 2. [`files`]: what a step writes for the next ones: variables, paths, outputs.
//! 3. [`annotation`]: what a step wants to be seen.
//!
//! [`expr`] evaluates expressions; [`glob`] are the patterns of files; [`shell`] says how a script is run, [`limits`] how long.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod annotation;
pub mod ansi;
pub mod check;
pub mod commands;
pub mod containers;
pub mod diagnostic;
pub mod equipment;
pub mod event;
pub mod expr;
pub mod files;
pub mod glob;
pub mod graph;
pub mod labels;
pub mod limits;
pub mod lines;
pub mod load;
pub mod log;
pub mod mask;
pub mod matcher;
pub mod matrix;
pub mod replace;
pub mod setup;
pub mod shell;
pub mod sight;
pub mod spec;
pub mod uses;
pub mod yaml;
