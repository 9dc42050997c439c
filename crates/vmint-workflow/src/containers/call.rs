//! What a dialogue asks for, and what it is told.

use crate::guest::{Command, Exit};
use crate::log::Kind;
use std::time::Duration;

/// What comes next in a dialogue. Asked again without an [`Answer`] in between, a dialogue repeats a call; a line is said
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn<R> {
    /// Write this to the log.
    Say(Kind, String),
    /// Run this in the machine and bring the answer.
    Run(Call),
    /// It is over.
    End(R),
}

/// A command for the machine. It is to be run by root, whoever runs the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Program and arguments. Free of secrets.
    pub argv: Vec<String>,
    /// Environment over the image's. Secrets are here.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Wait this long before.
    pub after: Duration,
    /// The most that it may take, where that is not the job's or the step's own limit.
    pub limit: Option<Duration>,
    /// What of it is for the log.
    pub show: Show,
}

/// What of a call is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The command and what it writes.
    All,
    /// What it writes.
    Output,
    /// Nothing: it is a question whose answer is not for people.
    Nothing,
}

impl Call {
    /// A call that shows all and has no limit of its own.
    pub fn new<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            after: Duration::ZERO,
            limit: None,
            show: Show::All,
        }
    }

    /// With more arguments.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// With variables.
    pub fn env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env);
        self
    }

    /// After a while.
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// Within a time.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// What of it is for the log.
    pub fn showing(mut self, show: Show) -> Self {
        self.show = show;
        self
    }

    /// For [`Guest::start`](crate::guest::Guest::start), once [`after`](Self::after) is over.
    pub fn command(&self) -> Command {
        Command {
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: Some("root".to_owned()),
            timeout: self.limit,
        }
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub exit: Exit,
    /// The end of what it wrote to standard output and error, in the order of writing.
    pub output: String,
}

/// More than this of an output is never needed: the caller may drop what is before.
pub const OUTPUT_LIMIT: usize = 1 << 20;

impl Answer {
    /// Of an output that may be anything.
    pub fn new(exit: Exit, output: &[u8]) -> Self {
        let end = output.len().saturating_sub(OUTPUT_LIMIT);
        let output = String::from_utf8_lossy(&output[end..]).into_owned();
        Self { exit, output }
    }

    /// Whether the command did what it should.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// How it failed.
    pub fn failure(&self) -> Failure {
        Failure {
            exit: self.exit,
            said: last_words(&self.output),
            hint: hint(&self.output),
        }
    }
}

/// How a command of the engine failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(*exit, said, *hint))]
pub struct Failure {
    /// How it ended.
    pub exit: Exit,
    /// The last line that it wrote, shortened; it is in the log, too.
    pub said: String,
    /// What to do, where that can be told from all that it wrote.
    pub hint: Option<&'static str>,
}

fn describe(exit: Exit, said: &str, hint: Option<&str>) -> String {
    let mut text = match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}"),
        Exit::TimedOut => "it took too long".to_owned(),
    };
    if !said.is_empty() {
        text = format!("{text} ({said})");
    }
    match hint {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// What to do about failures that say little of their cause.
fn hint(output: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 5] = [
        (
            "short-name",
            "write the image with its registry (docker.io/library/…), or put `unqualified-search-registries = [\"docker.io\"]` into a \
             file of /etc/containers/registries.conf.d of the machine's image",
        ),
        (
            "Temporary failure in name resolution",
            "if the machine has no network, give its pool `net = \"nat\"`, or pull the image when the machine's image is built",
        ),
        (
            "dial tcp",
            "if the machine has no network, give its pool `net = \"nat\"`, or pull the image when the machine's image is built",
        ),
        (
            "apparmor_parser",
            "add the package `apparmor` to the machine's image, which docker needs",
        ),
        (
            "no space left on device",
            "the machine's disk is full: give its image a larger `size`",
        ),
    ];
    let found = HINTS.iter().find(|(sign, _)| output.contains(sign));
    found.map(|(_, hint)| *hint)
}

/// The last line with something in it, at most 500 characters of it.
fn last_words(output: &str) -> String {
    let line = output.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or_default().chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_how_it_ended_and_what_to_do() {
        let said = "Trying to pull\nError: short-name \"redis:7\" did not resolve to an alias\n\n";
        let failure = Answer::new(Exit::Code(125), said.as_bytes()).failure();
        assert_eq!(
            failure.said,
            "Error: short-name \"redis:7\" did not resolve to an alias"
        );
        insta::assert_snapshot!(failure, @r#"exit code 125 (Error: short-name "redis:7" did not resolve to an alias); write the image with its registry (docker.io/library/…), or put `unqualified-search-registries = ["docker.io"]` into a file of /etc/containers/registries.conf.d of the machine's image"#);
        let failure = Answer::new(Exit::Signal(9), b"\xff").failure();
        assert_eq!(failure.to_string(), "killed by signal 9 (\u{fffd})");
    }

    #[test]
    fn of_a_huge_output_the_end_is_kept() {
        let mut output = vec![b'x'; 3 * OUTPUT_LIMIT];
        output.extend_from_slice(b"\nend\n");
        let answer = Answer::new(Exit::Code(1), &output);
        assert!(answer.output.len() <= OUTPUT_LIMIT);
        assert_eq!(answer.failure().said, "end");
    }
}
