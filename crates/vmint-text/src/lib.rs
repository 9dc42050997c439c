//! Two rules about text that all parts of vmint keep: what may be shown as it is, and which word was meant.
//!
//! * [`printable`](mod@printable): text of others, made fit to be shown.
//! * [`meant`]: which name was probably meant.
//!
//! It lies below the other crates, for messages are written everywhere. `vmint-model` re-exports it.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

pub mod meant;
pub mod printable;

pub use meant::nearest;
pub use printable::{printable, printable_bytes, printable_lines};
