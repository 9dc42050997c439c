//! A check's result.

use serde::Serialize;
use std::fmt;
use vmint_model::Fault;

/// How a check ended; a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Something does not work, or not well; most does.
    Warning,
    /// Machines cannot be had.
    Failure,
}

impl Status {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which check; the same in every version of vmint.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found, in one line.
    pub summary: String,
    /// What to do, if something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, summary: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            summary: summary.into(),
            remedy: None,
        }
    }

    pub(super) fn warning(
        name: &'static str,
        summary: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(name, summary)
        }
    }

    pub(super) fn failure(
        name: &'static str,
        summary: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Failure,
            remedy: Some(remedy.into()),
            ..Self::ok(name, summary)
        }
    }

    /// A failure that has its own advice; `otherwise` when it has none.
    pub(super) fn fault(name: &'static str, fault: &Fault, otherwise: &str) -> Self {
        let remedy = fault.hint.clone().unwrap_or_else(|| otherwise.to_owned());
        Self::failure(name, &fault.message, remedy)
    }

    /// Makes one line of what other programs wrote.
    pub(super) fn tidy(&mut self) {
        self.summary = one_line(&self.summary);
        self.remedy = self.remedy.as_deref().map(one_line);
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// The worst of all; [`Status::Ok`] of none.
pub fn worst(checks: &[Check]) -> Status {
    checks
        .iter()
        .map(|check| check.status)
        .max()
        .unwrap_or(Status::Ok)
}
