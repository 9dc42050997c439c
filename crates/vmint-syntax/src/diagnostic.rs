//! What is wrong with a workflow, and where.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

pub use vmint_text::nearest;

/// A place in a file: line and column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Spot {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl Spot {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not concern what is run: a job that was not selected.
    Note,
    /// It runs here, but probably not as meant, or otherwise than on GitHub.
    Warning,
    /// It cannot be run.
    Error,
}

impl Severity {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the user would name it.
    pub file: PathBuf,
    /// Where in the file.
    #[serde(flatten)]
    pub spot: Spot,
    /// What is wrong; a sentence without a full stop, in the present tense.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without help.
    pub fn error(file: &Path, spot: Spot, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            spot,
            message: message.into(),
            help: None,
        }
    }

    /// A warning without help.
    pub fn warning(file: &Path, spot: Spot, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(file, spot, message)
        }
    }

    /// The same with help.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `ci.yml:12:9: error: …`, with the help on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.as_str();
        let (file, spot, message) = (self.file.display(), self.spot, &self.message);
        write!(f, "{file}:{spot}: {severity}: {message}")?;
        match &self.help {
            Some(help) => write!(f, "\n    help: {help}"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a file; never empty.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

/// How many diagnostics of one severity are shown; a file of 5 MB can be wrong in a million places.
pub const SHOWN: usize = 100;

/// Collects what is wrong. Keeps the first [`SHOWN`] of each severity as they come and counts the others.
#[derive(Debug, Default)]
pub struct Findings {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    notes: Vec<Diagnostic>,
    more_errors: usize,
    more_warnings: usize,
    more_notes: usize,
}

impl Findings {
    /// Adds one. What was said already is not said again.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        let (list, more) = match diagnostic.severity {
            Severity::Error => (&mut self.errors, &mut self.more_errors),
            Severity::Warning => (&mut self.warnings, &mut self.more_warnings),
            Severity::Note => (&mut self.notes, &mut self.more_notes),
        };
        if list.contains(&diagnostic) {
            return;
        }
        if list.len() < SHOWN {
            list.push(diagnostic);
        } else {
            *more += 1;
        }
    }

    /// Adds many.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics.into_iter().for_each(|d| self.add(d));
    }

    /// Whether there is an error.
    pub fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether no more of this severity is shown, so that a good place and good help need not be searched for.
    pub fn full(&self, severity: Severity) -> bool {
        let list = match severity {
            Severity::Error => &self.errors,
            Severity::Warning => &self.warnings,
            Severity::Note => &self.notes,
        };
        list.len() >= SHOWN
    }

    /// The warnings, sorted by place, or with an error all, sorted by place.
    pub fn finish(self) -> Result<Vec<Diagnostic>, Diagnostics> {
        let failed = self.failed();
        let all = self.all();
        if failed {
            Err(Diagnostics(all))
        } else {
            Ok(all)
        }
    }

    /// All, sorted by place.
    pub fn all(self) -> Vec<Diagnostic> {
        let mut all = self.errors;
        all.extend(self.warnings);
        all.extend(self.notes);
        // Stable: what is said of one place stays in the order in which it was found.
        all.sort_by(|a, b| (&a.file, a.spot).cmp(&(&b.file, b.spot)));
        for (more, severity, what) in [
            (self.more_errors, Severity::Error, "errors"),
            (self.more_warnings, Severity::Warning, "warnings"),
            (self.more_notes, Severity::Note, "notes"),
        ] {
            if let Some(last) = all.last().filter(|_| more > 0) {
                let message = format!("{more} more {what} are not shown");
                let (file, spot) = (last.file.clone(), last.spot);
                all.push(Diagnostic {
                    severity,
                    file,
                    spot,
                    message,
                    help: None,
                });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_a_typing_error_away() {
        let keys = ["runs-on", "steps", "needs", "timeout-minutes", "if"];
        for (word, meant) in [
            ("run-on", Some("runs-on")),
            ("runs_on", Some("runs-on")),
            ("setps", Some("steps")),
            ("Needs", Some("needs")),
            ("timeout-minute", Some("timeout-minutes")),
            ("container", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
    }

    #[test]
    fn findings_are_sorted_by_place_and_capped() {
        let file = Path::new("ci.yml");
        let mut findings = Findings::default();
        for line in (1..=150).rev() {
            findings.add(Diagnostic::error(file, Spot { line, column: 1 }, "wrong"));
        }
        findings.add(Diagnostic::error(
            file,
            Spot {
                line: 150,
                column: 1,
            },
            "wrong",
        ));
        let Diagnostics(all) = findings.finish().unwrap_err();
        assert_eq!(all.len(), SHOWN + 1);
        assert!(all.windows(2).all(|pair| pair[0].spot <= pair[1].spot));
        assert_eq!(all[SHOWN].message, "50 more errors are not shown");
    }
}
