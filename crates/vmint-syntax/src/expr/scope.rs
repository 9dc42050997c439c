//! What an evaluation sees.

use super::availability::Availability;
use super::names::{ContextName, Function};
use super::value::Value;
use std::collections::HashMap;

/// How things went so far: what `success()`, `failure()` and `cancelled()` answer.
///
/// In the `if` of a step it is the job's status (in a composite action the action's: `github.action_status`). In the `if`
/// of a job it sums up the jobs that it needs, with those that they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// All went well: all steps so far, or all needed jobs, succeeded.
    Success,
    /// One failed.
    Failure,
    /// The job, or the run, is cancelled. This is said even when something failed before.
    Cancelled,
    /// A needed job was skipped, and none failed: neither a success nor a failure.
    Skipped,
}

impl Status {
    /// What a status function answers; nothing for other functions.
    pub fn answer(self, function: Function) -> Option<bool> {
        match function {
            Function::Success => Some(self == Self::Success),
            Function::Failure => Some(self == Self::Failure),
            Function::Cancelled => Some(self == Self::Cancelled),
            Function::Always => Some(true),
            _ => None,
        }
    }
}

/// What an evaluation sees: contexts, the status, and the digests of files. What it was not given is not available, and an
/// expression that names it is refused, even where the name would not be reached.
///
/// Cheap to clone: an engine keeps one for a job, and makes one for each step of it.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    contexts: [Option<Value>; ContextName::ALL.len()],
    status: Option<Status>,
    hashes: Option<HashMap<Vec<String>, String>>,
    /// Of `github`, what is not known yet.
    unknown: &'static [&'static str],
}

impl Scope {
    /// One in which nothing is available.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a context.
    #[must_use]
    pub fn with(mut self, name: ContextName, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// With the status functions.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// With `hashFiles`, and no digest known.
    #[must_use]
    pub fn with_hash_files(mut self) -> Self {
        self.hashes = Some(HashMap::new());
        self
    }

    /// Without these values of `github`: they are not known yet, and to read one is an error rather than nothing.
    #[must_use]
    pub fn without(mut self, unknown: &'static [&'static str]) -> Self {
        self.unknown = unknown;
        self
    }

    /// Whether a value of a context is not known yet.
    pub(super) fn lacks(&self, context: ContextName, name: &str) -> bool {
        let mut unknown = self.unknown.iter();
        context == ContextName::Github && unknown.any(|known| known.eq_ignore_ascii_case(name))
    }

    /// With only what a field may use. Contexts that it may use and that are not there stay away.
    #[must_use]
    pub fn limited_to(mut self, availability: &Availability) -> Self {
        for name in ContextName::ALL {
            if !availability.allows_context(name) {
                self.contexts[name as usize] = None;
            }
        }
        if !availability.allows_function(Function::Success) {
            self.status = None;
        }
        if !availability.allows_function(Function::HashFiles) {
            self.hashes = None;
        }
        self
    }

    /// Gives or replaces a context.
    pub fn set(&mut self, name: ContextName, value: impl Into<Value>) {
        self.contexts[name as usize] = Some(value.into());
    }

    /// Gives the digest that [`HashPending`](super::EvalError::HashPending) has asked for: hexadecimal, or nothing when no
    /// file matches. `hashFiles` becomes available.
    pub fn remember_hash(&mut self, patterns: Vec<String>, digest: impl Into<String>) {
        self.hashes
            .get_or_insert_default()
            .insert(patterns, digest.into());
    }

    /// A context, if it is available.
    pub fn get(&self, name: ContextName) -> Option<&Value> {
        self.contexts[name as usize].as_ref()
    }

    /// The status, if it is available.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// Whether a function can be called.
    pub(super) fn offers(&self, function: Function) -> bool {
        match function {
            Function::HashFiles => self.hashes.is_some(),
            _ if function.is_status() => self.status.is_some(),
            _ => true,
        }
    }

    /// The digest of the files that match, if it was given.
    pub(super) fn hash(&self, patterns: &[String]) -> Option<&str> {
        self.hashes.as_ref()?.get(patterns).map(String::as_str)
    }
}
