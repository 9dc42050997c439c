//! The contexts and functions that exist.

use std::fmt;

/// A context: the first word of `github.sha`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextName {
    /// `github`.
    Github,
    /// `env`.
    Env,
    /// `vars`.
    Vars,
    /// `job`.
    Job,
    /// `jobs`.
    Jobs,
    /// `steps`.
    Steps,
    /// `runner`.
    Runner,
    /// `secrets`.
    Secrets,
    /// `strategy`.
    Strategy,
    /// `matrix`.
    Matrix,
    /// `needs`.
    Needs,
    /// `inputs`.
    Inputs,
}

impl ContextName {
    /// All, in the order of GitHub's documentation.
    pub const ALL: [Self; 12] = [
        Self::Github,
        Self::Env,
        Self::Vars,
        Self::Job,
        Self::Jobs,
        Self::Steps,
        Self::Runner,
        Self::Secrets,
        Self::Strategy,
        Self::Matrix,
        Self::Needs,
        Self::Inputs,
    ];

    /// As in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Env => "env",
            Self::Vars => "vars",
            Self::Job => "job",
            Self::Jobs => "jobs",
            Self::Steps => "steps",
            Self::Runner => "runner",
            Self::Secrets => "secrets",
            Self::Strategy => "strategy",
            Self::Matrix => "matrix",
            Self::Needs => "needs",
            Self::Inputs => "inputs",
        }
    }

    /// The context of a name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|context| context.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `contains(search, item)`.
    Contains,
    /// `startsWith(text, start)`.
    StartsWith,
    /// `endsWith(text, end)`.
    EndsWith,
    /// `format(text, …)`.
    Format,
    /// `join(array, separator)`.
    Join,
    /// `toJSON(value)`.
    ToJson,
    /// `fromJSON(text)`.
    FromJson,
    /// `hashFiles(pattern, …)`.
    HashFiles,
    /// `case(predicate, value, …, default)`.
    Case,
    /// `success()`.
    Success,
    /// `failure()`.
    Failure,
    /// `always()`.
    Always,
    /// `cancelled()`.
    Cancelled,
}

impl Function {
    /// All, in the order of GitHub's documentation.
    pub const ALL: [Self; 13] = [
        Self::Contains,
        Self::StartsWith,
        Self::EndsWith,
        Self::Format,
        Self::Join,
        Self::ToJson,
        Self::FromJson,
        Self::HashFiles,
        Self::Case,
        Self::Success,
        Self::Failure,
        Self::Always,
        Self::Cancelled,
    ];

    /// As GitHub documents it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Format => "format",
            Self::Join => "join",
            Self::ToJson => "toJSON",
            Self::FromJson => "fromJSON",
            Self::HashFiles => "hashFiles",
            Self::Case => "case",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Always => "always",
            Self::Cancelled => "cancelled",
        }
    }

    /// The function of a name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|function| function.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether it asks how things went so far. An `if` without one of these implies `success()`.
    pub fn is_status(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failure | Self::Always | Self::Cancelled
        )
    }
}

impl From<github_actions_expressions::call::Function> for Function {
    fn from(function: github_actions_expressions::call::Function) -> Self {
        use github_actions_expressions::call::Function as Parsed;
        match function {
            Parsed::Contains => Self::Contains,
            Parsed::StartsWith => Self::StartsWith,
            Parsed::EndsWith => Self::EndsWith,
            Parsed::Format => Self::Format,
            Parsed::Join => Self::Join,
            Parsed::ToJSON => Self::ToJson,
            Parsed::FromJSON => Self::FromJson,
            Parsed::HashFiles => Self::HashFiles,
            Parsed::Case => Self::Case,
            Parsed::Success => Self::Success,
            Parsed::Failure => Self::Failure,
            Parsed::Always => Self::Always,
            Parsed::Cancelled => Self::Cancelled,
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
