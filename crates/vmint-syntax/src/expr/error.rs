//! Why an expression has no value.

use super::names::{ContextName, Function};

/// The longest expression, in characters, as on GitHub.
pub const MAX_LENGTH: usize = 21_000;
/// The deepest expression, as on GitHub.
pub const MAX_DEPTH: usize = 50;
/// How much an evaluation may make in memory, in bytes.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// Why an expression has no value. Offsets are bytes from the beginning of the text that was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// There is none.
    #[error("an expression is expected, at offset {offset} of the text")]
    Empty {
        /// Where.
        offset: usize,
    },
    /// `${{` without `}}`.
    #[error(
        "`${{{{` is not closed: a `}}}}` outside of quotes is expected, at offset {offset} of the text"
    )]
    Unclosed {
        /// Where it is opened.
        offset: usize,
    },
    /// It is none.
    #[error("{message}, at offset {offset} of the text")]
    Syntax {
        /// What was expected.
        message: String,
        /// Where.
        offset: usize,
    },
    /// It is nested too deep.
    #[error("the expression is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It is too long.
    #[error("the expression is longer than {MAX_LENGTH} characters")]
    TooLong,
    /// There is no such context.
    #[error("there is no context `{name}`, at offset {offset} of the text")]
    UnknownContext {
        /// Its name.
        name: String,
        /// Where.
        offset: usize,
    },
    /// There is no such function.
    #[error("there is no function `{name}`, at offset {offset} of the text")]
    UnknownFunction {
        /// Its name.
        name: String,
        /// Where.
        offset: usize,
    },
    /// A function was given something that it cannot work with.
    #[error("`{function}` takes {expected}")]
    WrongArguments {
        /// The function.
        function: Function,
        /// What it takes.
        expected: String,
        /// Where it is called.
        offset: usize,
    },
    /// A context cannot be used here.
    #[error("the context `{context}` is not available here, at offset {offset} of the text")]
    ContextNotAvailable {
        /// The context.
        context: ContextName,
        /// Where.
        offset: usize,
    },
    /// A value that is known only once there is a machine.
    #[error(
        "`{context}.{name}` is not known before the job has a machine, at offset {offset} of the text"
    )]
    NotKnownYet {
        /// The context.
        context: ContextName,
        /// What of it.
        name: String,
        /// Where.
        offset: usize,
    },
    /// A function cannot be used here.
    #[error("the function `{function}` is not available here, at offset {offset} of the text")]
    FunctionNotAvailable {
        /// The function.
        function: Function,
        /// Where.
        offset: usize,
    },
    /// The text given to `fromJSON` is no JSON.
    #[error("`fromJSON` was given text that is not JSON: {message}")]
    Json {
        /// What is wrong with it.
        message: String,
    },
    /// The text given to `format` has no such places.
    #[error("`format` {message}: {text}")]
    Format {
        /// What is wrong with it.
        message: String,
        /// The text; shortened.
        text: String,
    },
    /// The value grew beyond what is allowed.
    #[error("the expression makes more than {} MB", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    /// A key that is computed is there already.
    #[error("the key `{key}` comes twice")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// What should give a mapping gives something else.
    #[error("`{text}` gives {kind}, and a mapping is expected")]
    NotMapping {
        /// The expression.
        text: String,
        /// What it gives.
        kind: &'static str,
    },
    /// The digest of these files is wanted: [give it](super::Scope::remember_hash) and evaluate again.
    #[error("the digest of {} is not known yet", .0.join(", "))]
    HashPending(Vec<String>),
}

impl EvalError {
    /// The same error, of a text in which the expression begins at the offset.
    #[must_use]
    pub(super) fn moved(mut self, by: usize) -> Self {
        if let Self::Empty { offset }
        | Self::Unclosed { offset }
        | Self::Syntax { offset, .. }
        | Self::WrongArguments { offset, .. }
        | Self::UnknownContext { offset, .. }
        | Self::UnknownFunction { offset, .. }
        | Self::ContextNotAvailable { offset, .. }
        | Self::NotKnownYet { offset, .. }
        | Self::FunctionNotAvailable { offset, .. } = &mut self
        {
            *offset += by;
        }
        self
    }

    /// Where it is wrong, in bytes from the beginning of the text; absent where it is known only of the whole.
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Empty { offset }
            | Self::Unclosed { offset }
            | Self::Syntax { offset, .. }
            | Self::WrongArguments { offset, .. }
            | Self::UnknownContext { offset, .. }
            | Self::UnknownFunction { offset, .. }
            | Self::ContextNotAvailable { offset, .. }
            | Self::NotKnownYet { offset, .. }
            | Self::FunctionNotAvailable { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

/// How much an evaluation may still make.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: MAX_BYTES }
    }

    /// What is left, in bytes.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Takes these bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.left = self.left.checked_sub(bytes).ok_or(EvalError::TooLarge)?;
        Ok(())
    }
}
