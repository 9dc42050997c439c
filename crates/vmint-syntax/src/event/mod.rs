//! What has happened, and which workflows it starts.
//!
//! [`on`] reads the `on` of a file. [`payload`] makes an [`Event`] from what is known of the [`repository`], or from the content of a file, and
//! [`trigger`] tells whether it starts the workflow, by the rules of [`pattern`]. [`context`] is what a workflow sees of
//! it: the `github` context and the variables `GITHUB_*`. [`inputs`] are what its starter may choose.

pub mod context;
pub mod inputs;
pub mod on;
pub mod pattern;
pub mod payload;
pub mod repository;
pub mod trigger;

pub use on::On;
pub use payload::Event;
pub use trigger::{Decision, choose, decide};
