//! Expressions, `${{ … }}`: parsed by `github-actions-expressions`, evaluated here as GitHub documents it and its runner
//! does it.
//!
//! - [`value`] is what an expression gives; `compare` and [`number`] are GitHub's coercions, `json` its JSON.
//! - [`names`] are the contexts and functions that exist, `tree` is an expression that was parsed, with all names resolved.
//! - [`scope`] is what an evaluation sees, [`eval`] evaluates one expression, `functions` and `format` are what it calls.
//! - [`template`] is text with expressions in it, [`mod@condition`] the rules of `if`.
//! - [`mod@inspect`] and [`mod@availability`] are for the checker: what a text uses, and what its field may use.
//!
//! Everything is bounded: the length and depth of an expression, and how much it may make in memory.
//!
//! `hashFiles` needs the machine's files, and so cannot be answered here: an evaluation that meets one without an answer
//! ends with [`EvalError::HashPending`]. The caller computes the digest, gives it to the scope and evaluates again.

pub mod availability;
mod compare;
pub mod condition;
pub mod error;
pub mod eval;
mod format;
mod functions;
pub mod inspect;
mod json;
pub mod names;
pub mod number;
#[cfg(test)]
mod random;
pub mod scope;
pub mod template;
mod tree;
pub mod value;

pub use availability::{Availability, ContainerFields, Field, availability};
pub use condition::{ConditionForm, condition, condition_form, hook_condition, implies_success};
pub use error::EvalError;
pub use eval::evaluate;
pub use inspect::{Inspection, PathPart, Use, Used, Wrong, inspect, inspect_condition};
pub use names::{ContextName, Function};
pub use scope::{Scope, Status};
pub use template::{
    NodeError, evaluate_map, evaluate_node, evaluate_text, interpolate, is_computed, is_insert,
};
pub use value::{Object, Value};
