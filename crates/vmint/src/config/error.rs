//! What can be wrong with the settings.

use std::fmt;
use std::io;
use std::path::PathBuf;
use vmint_model::{ErrorKind, Explained};

/// A place in a file. Written `FILE:LINE:COLUMN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// The settings could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, a device or a pipe.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// Another user's. It says what that user wants, and a recipe may copy files into a guest.
    #[error("{} belongs to user {owner}, neither to you nor to root", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// Others can write to it.
    #[error("{} can be written by other users: its mode is {mode:03o}", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Larger than a file of settings can be.
    #[error("{} is larger than {} KiB", path.display(), limit / 1024)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// It is no text.
    #[error("{place}: the file is not UTF-8")]
    NotText {
        /// The first byte that is none.
        place: Box<Place>,
    },
    /// It is no TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Box<Place>,
        /// What the parser says.
        message: String,
    },
    /// No such key.
    #[error("{place}: unknown key `{key}` {table}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// Where.
        place: Box<Place>,
        /// The key.
        key: String,
        /// Its table, such as `in [defaults]`.
        table: String,
        /// The key that was probably meant, if one is near, as it stands in the message.
        nearest: Option<String>,
        /// All keys of the table.
        known: Vec<&'static str>,
    },
    /// A value of another type.
    #[error("{place}: `{key}` {table} must be {expected}, and is the {found} {value}")]
    WrongType {
        /// Where.
        place: Box<Place>,
        /// The key.
        key: String,
        /// Its table.
        table: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
        /// As written.
        value: String,
    },
    /// A value that cannot be.
    #[error("{place}: `{key}` {table} cannot be {value}: {why}")]
    Invalid {
        /// Where.
        place: Box<Place>,
        /// The key.
        key: String,
        /// Its table.
        table: String,
        /// As written.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A table lacks a key that it needs, or has some that do not go together.
    #[error("{place}: {table} {why}")]
    Table {
        /// Where the table starts.
        place: Box<Place>,
        /// Which, such as `[images.web]`.
        table: String,
        /// What is wrong with it.
        why: String,
    },
    /// A variable's value cannot be.
    #[error("{name} cannot be {value}: {why}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key}?"))
}

impl Explained for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Host,
            _ => ErrorKind::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { path, .. } => Some(format!(
                "work in another folder; if you trust this file, add `--trust {}`",
                path.parent().unwrap_or(path).display()
            )),
            Self::Writable { path, .. } => Some(format!("chmod go-w {}", path.display())),
            Self::UnknownKey { known, table, .. } => {
                Some(format!("known {table}: {}", known.join(", ")))
            }
            Self::Environment { name, .. } => Some(format!("unset {name}, or correct it")),
            _ => None,
        }
    }
}
