//! What a step prints, from bytes to lines of its log.
//!
//! ```text
//! bytes ─ Splitter ─ lines ─ Commands ─┬─ text ─ Masker ─ lines that are shown
//!                                      └─ effects: masks, annotations, outputs, matchers
//! ```
//!
//! Commands are read before anything is masked, as a masked `::set-output::` would give stars; all that is shown or
//! recorded is masked. Long lines are broken after they are masked, so that no secret is cut in two. Memory is bounded by
//! the longest command, whatever is printed.

mod interpret;
mod split;

pub use interpret::{Debugging, Event, Interpreter, Job};
pub use split::{MAX_COMMAND, Piece, Splitter};
