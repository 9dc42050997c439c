//! YAML with places: every node knows its line and column.
//!
//! [`parse`] reads a file by GitHub's rules and within bounds; [`scalar`] says what a plain scalar is and how GitHub
//! writes it as text; [`source`] finds the place of a piece of a scalar in the file.

mod build;
mod lenient;
mod node;
pub mod scalar;
pub mod source;
#[cfg(test)]
mod tests;

pub(crate) use build::shown;
pub use build::{MAX_BYTES, MAX_DEPTH, MAX_NODES, parse};

use crate::diagnostic::Spot;

/// A node of a document. Aliases are replaced by what they name.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub spot: Spot,
    /// What it is.
    pub data: Data,
}

/// What a node is. Plain scalars are resolved by YAML 1.2's core schema, as GitHub does: `on` and `yes` are strings.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `null`, `~`, nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number, with the text that it was written as.
    Number(f64, String),
    /// Text.
    String(String),
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the file's order; keys are unique strings.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it stands.
    pub spot: Spot,
}
