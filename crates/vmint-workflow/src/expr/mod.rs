//! Expressions, `${{ … }}`: parsed by `github-actions-expressions`, evaluated here as GitHub documents it.

pub mod value;

pub use value::{Object, Value};
