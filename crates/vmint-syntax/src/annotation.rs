//! What a step wants to be seen beside its log.

use crate::mask::Masked;
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

/// What a step wants to be seen; of text that is not masked yet, what it has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation<Text = Masked> {
    /// How bad.
    pub level: Level,
    /// What it says.
    pub message: Text,
    /// `title`.
    pub title: Option<Text>,
    /// `file`.
    pub file: Option<Text>,
    /// `line`.
    pub line: Option<u32>,
    /// `endLine`.
    pub end_line: Option<u32>,
    /// `col`.
    pub column: Option<u32>,
    /// `endColumn`.
    pub end_column: Option<u32>,
}

impl<Text> Annotation<Text> {
    /// One that says this, of no place.
    pub fn new(level: Level, message: Text) -> Self {
        Self {
            level,
            message,
            title: None,
            file: None,
            line: None,
            end_line: None,
            column: None,
            end_column: None,
        }
    }

    /// The same with other texts.
    pub fn map<Other>(self, mut text: impl FnMut(Text) -> Other) -> Annotation<Other> {
        Annotation {
            level: self.level,
            message: text(self.message),
            title: self.title.map(&mut text),
            file: self.file.map(&mut text),
            line: self.line,
            end_line: self.end_line,
            column: self.column,
            end_column: self.end_column,
        }
    }
}
