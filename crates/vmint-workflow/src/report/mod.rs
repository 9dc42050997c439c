//! A run as a page, as JUnit XML and as JSON.
//!
//! [`write`] puts a folder in place: `index.html`, `junit.xml`, `run.json` and `logs/`. Names, logs and summaries come from
//! the guest, which is not trusted: whatever the page shows passes [`text::Escaped`], [`ansi`] or [`markdown`], the page
//! holds no script, and its policy lets it load nothing.
//!
//! [`Verdict`], [`text`] and [`ansi`] serve the command line, too: one word and one sign for one thing in every face.

mod chart;
mod json;
mod junit;
mod logs;
mod markdown;
mod page;
#[cfg(test)]
mod sample;
mod steps;
pub mod text;
mod verdict;
mod write;

pub use crate::ansi;
pub use json::json;
pub use verdict::{Verdict, job_note, rewind_commands, run_note, step_note};
pub use write::{ReportError, write};
