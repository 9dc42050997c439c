//! What a step wants to be seen beside its log.

use serde::{Deserialize, Serialize};

/// How bad an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// `::error::`.
    Error,
    /// `::warning::`.
    Warning,
    /// `::notice::`.
    Notice,
}

/// What a step wants to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// How bad.
    pub level: Level,
    /// Masked.
    pub message: String,
    /// `title`.
    pub title: Option<String>,
    /// `file`.
    pub file: Option<String>,
    /// `line`.
    pub line: Option<u32>,
    /// `endLine`.
    pub end_line: Option<u32>,
    /// `col`.
    pub column: Option<u32>,
    /// `endColumn`.
    pub end_column: Option<u32>,
}
