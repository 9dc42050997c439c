//! What a step has written to `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_PATH`, `GITHUB_STATE` and `GITHUB_STEP_SUMMARY`.
//!
//! ```text
//! NAME=value
//! NAME<<DELIMITER
//! any lines
//! DELIMITER
//! ```

use std::fmt;

/// How large a file of variables or paths may be: an environment beyond that starts no program.
pub const MAX_ENV: usize = 2 << 20;

/// How much the outputs of a job may take, in UTF-16 as GitHub counts.
pub const MAX_JOB_OUTPUTS: usize = 1 << 20;

/// How much the outputs of all jobs of a run may take, in UTF-16.
pub const MAX_RUN_OUTPUTS: usize = 50 << 20;

/// How large a summary may be.
pub const MAX_SUMMARY: usize = 1 << 20;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// `GITHUB_ENV`.
    Env,
    /// `GITHUB_OUTPUT`.
    Output,
    /// `GITHUB_PATH`.
    Path,
    /// `GITHUB_STATE`.
    State,
    /// `GITHUB_STEP_SUMMARY`.
    Summary,
}

impl File {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Env,
        Self::Output,
        Self::Path,
        Self::State,
        Self::Summary,
    ];

    /// The variable that holds its path.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Env => "GITHUB_ENV",
            Self::Output => "GITHUB_OUTPUT",
            Self::Path => "GITHUB_PATH",
            Self::State => "GITHUB_STATE",
            Self::Summary => "GITHUB_STEP_SUMMARY",
        }
    }

    /// How many bytes of it are read at most. Whoever fetches it needs no more than one byte beyond.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Env | Self::Path => MAX_ENV,
            Self::Output | Self::State => MAX_JOB_OUTPUTS,
            Self::Summary => MAX_SUMMARY,
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable())
    }
}

/// What is wrong in a file. When a whole file cannot be used, the step fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("${file}{}: {what}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct FileError {
    /// Which.
    pub file: File,
    /// Where, counted from 1; absent when it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: Wrong,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A line that is nothing.
    #[error("invalid format `{0}`; write NAME=value, or NAME<<DELIMITER, the lines, and DELIMITER")]
    Format(String),
    /// `=value`, `<<EOF`, `NAME<<`.
    #[error(
        "invalid format `{0}`; the name must not be empty, and neither must the delimiter behind <<"
    )]
    Empty(String),
    /// The file ends first.
    #[error("the value of `{name}` does not end: no line is `{delimiter}`{}", near(.almost.as_deref()))]
    Unended {
        /// Whose value.
        name: String,
        /// What should end it.
        delimiter: String,
        /// A line that is nearly that.
        almost: Option<String>,
    },
    /// It is too large.
    #[error(
        "it is larger than {limit} bytes; keep large data in files, and hand them on as artifacts"
    )]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A name that is GitHub's.
    #[error("`{0}` cannot be set for later steps; each step sets it itself")]
    Reserved(String),
    /// A name that would run code in every later action.
    #[error("`{0}` cannot be set with $GITHUB_ENV; set it with `env` of the steps that need it")]
    Blocked(String),
    /// A name or a value with a NUL, which no environment can hold.
    #[error("`{0}` has a NUL byte, which no environment can hold")]
    Nul(String),
}

fn near(line: Option<&str>) -> String {
    line.map(|line| format!(" (line {line} is nearly so: spaces and carriage returns count)"))
        .unwrap_or_default()
}

/// A name and its value.
pub type Pair = (String, String);

/// Reads a file of names and values as they are, in order: `GITHUB_OUTPUT`, `GITHUB_STATE`. The last of two of the same
/// name counts, as on GitHub.
pub fn pairs(file: File, content: &[u8]) -> Result<Vec<Pair>, FileError> {
    let numbered = read(file, content)?;
    Ok(numbered.into_iter().map(|(_, pair)| pair).collect())
}

/// What a `GITHUB_ENV` gives: what is set, and what is refused. GitHub shows what is refused as errors of the step, and
/// lets it succeed all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// In order.
    pub set: Vec<Pair>,
    /// What is not set.
    pub refused: Vec<FileError>,
}

/// Reads a `GITHUB_ENV`. `NODE_OPTIONS`, and `GITHUB_*` and `RUNNER_*` but for those that nobody else sets, are refused.
pub fn variables(content: &[u8]) -> Result<Variables, FileError> {
    let mut variables = Variables::default();
    for (line, (name, value)) in read(File::Env, content)? {
        let what = if name.contains('\0') || value.contains('\0') {
            Wrong::Nul(name)
        } else if name.eq_ignore_ascii_case("NODE_OPTIONS") {
            Wrong::Blocked(name)
        } else if is_reserved(&name) {
            Wrong::Reserved(name)
        } else {
            variables.set.push((name, value));
            continue;
        };
        variables.refused.push(FileError {
            file: File::Env,
            line: Some(line),
            what,
        });
    }
    Ok(variables)
}

/// Whether a variable is set anew for each step, so that whatever is said of it has no effect: GitHub's default variables.
/// `CI` can be set, and so can what others call `GITHUB_…`: `GITHUB_TOKEN` is the best known.
pub fn is_reserved(name: &str) -> bool {
    const GITHUB: [&str; 38] = [
        "ACTION",
        "ACTIONS",
        "ACTION_PATH",
        "ACTION_REF",
        "ACTION_REPOSITORY",
        "ACTOR",
        "ACTOR_ID",
        "API_URL",
        "BASE_REF",
        "ENV",
        "EVENT_NAME",
        "EVENT_PATH",
        "GRAPHQL_URL",
        "HEAD_REF",
        "JOB",
        "OUTPUT",
        "PATH",
        "REF",
        "REF_NAME",
        "REF_PROTECTED",
        "REF_TYPE",
        "REPOSITORY",
        "REPOSITORY_ID",
        "REPOSITORY_OWNER",
        "REPOSITORY_OWNER_ID",
        "RETENTION_DAYS",
        "RUN_ATTEMPT",
        "RUN_ID",
        "RUN_NUMBER",
        "SERVER_URL",
        "SHA",
        "STATE",
        "STEP_SUMMARY",
        "TRIGGERING_ACTOR",
        "WORKFLOW",
        "WORKFLOW_REF",
        "WORKFLOW_SHA",
        "WORKSPACE",
    ];
    const RUNNER: [&str; 7] = [
        "ARCH",
        "DEBUG",
        "ENVIRONMENT",
        "NAME",
        "OS",
        "TEMP",
        "TOOL_CACHE",
    ];
    match name.split_once('_') {
        Some(("GITHUB", rest)) => GITHUB.contains(&rest),
        Some(("RUNNER", rest)) => RUNNER.contains(&rest),
        _ => false,
    }
}

/// Reads a `GITHUB_PATH`: folders, the last of which comes first in `PATH`. Of the same folder twice, the last counts.
pub fn paths(content: &[u8]) -> Result<Vec<String>, FileError> {
    let text = text(File::Path, content)?;
    let mut paths: Vec<String> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.contains('\0') {
            return Err(FileError {
                file: File::Path,
                line: Some(index + 1),
                what: Wrong::Nul(line.escape_debug().to_string()),
            });
        }
        if !line.is_empty() {
            at.insert(line.to_owned(), paths.len());
            paths.push(line.to_owned());
        }
    }
    let mut index = 0;
    paths.retain(|path| {
        index += 1;
        at[path] == index - 1
    });
    Ok(paths)
}

/// Reads a `GITHUB_STEP_SUMMARY`: Markdown, or nothing.
pub fn summary(content: &[u8]) -> Result<Option<String>, FileError> {
    let text = text(File::Summary, content)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// What outputs have taken by now, of a job or of all jobs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBudget {
    used: usize,
    limit: usize,
}

/// More outputs than GitHub takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the output `{name}` makes the outputs of this {whose} larger than {} MiB; hand large data on as artifacts", limit >> 20)]
pub struct OutputsTooLarge {
    /// The output that was too much.
    pub name: String,
    /// `job` or `run`.
    pub whose: &'static str,
    /// The limit, in bytes of UTF-16.
    pub limit: usize,
}

impl OutputBudget {
    /// Of the outputs of a job, or of the steps in it.
    pub fn of_job() -> Self {
        Self {
            used: 0,
            limit: MAX_JOB_OUTPUTS,
        }
    }

    /// Of the outputs of all jobs.
    pub fn of_run() -> Self {
        Self {
            used: 0,
            limit: MAX_RUN_OUTPUTS,
        }
    }

    /// Counts an output.
    pub fn take(&mut self, name: &str, value: &str) -> Result<(), OutputsTooLarge> {
        let units = name.encode_utf16().count() + value.encode_utf16().count();
        let used = self.used.saturating_add(units * 2);
        if used > self.limit {
            let whose = if self.limit == MAX_JOB_OUTPUTS {
                "job"
            } else {
                "run"
            };
            return Err(OutputsTooLarge {
                name: name.to_owned(),
                whose,
                limit: self.limit,
            });
        }
        self.used = used;
        Ok(())
    }
}

/// The text of a file, without a mark at its beginning. What is not UTF-8 is replaced, as GitHub's runner does.
fn text(file: File, content: &[u8]) -> Result<String, FileError> {
    let limit = file.max_bytes();
    if content.len() > limit {
        return Err(FileError {
            file,
            line: None,
            what: Wrong::TooLarge { limit },
        });
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    Ok(String::from_utf8_lossy(content).into_owned())
}

fn read(file: File, content: &[u8]) -> Result<Vec<(usize, Pair)>, FileError> {
    let text = text(file, content)?;
    let mut pairs = Vec::new();
    // On Linux, GitHub's runner ends lines with `\n` alone: of a file as Windows writes it, values end with `\r`.
    let mut lines = Lines {
        text: &text,
        at: 0,
        number: 0,
    };
    while let Some(line) = lines.next() {
        let number = lines.number;
        if line.is_empty() {
            continue;
        }
        let wrong = |what| FileError {
            file,
            line: Some(number),
            what,
        };
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        let pair = match (equals, heredoc) {
            (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
                let (name, value) = (&line[..equals], &line[equals + 1..]);
                if name.is_empty() {
                    return Err(wrong(Wrong::Empty(short(line))));
                }
                (name.to_owned(), value.to_owned())
            }
            (_, Some(heredoc)) => {
                let (name, delimiter) = (&line[..heredoc], &line[heredoc + 2..]);
                if name.is_empty() || delimiter.is_empty() {
                    return Err(wrong(Wrong::Empty(short(line))));
                }
                let value = lines.until(delimiter).map_err(|almost| {
                    wrong(Wrong::Unended {
                        name: short(name),
                        delimiter: short(delimiter),
                        almost,
                    })
                })?;
                (name.to_owned(), value)
            }
            _ => return Err(wrong(Wrong::Format(short(line)))),
        };
        pairs.push((number, pair));
    }
    Ok(pairs)
}

struct Lines<'a> {
    text: &'a str,
    at: usize,
    /// Of the line that was read last.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        self.number += 1;
        let (line, length) = match rest.find('\n') {
            Some(end) => (&rest[..end], end + 1),
            None => (rest, rest.len()),
        };
        self.at += length;
        Some(line)
    }

    /// The lines up to a delimiter, with the line breaks between them, or a line that is nearly the delimiter.
    fn until(&mut self, delimiter: &str) -> Result<String, Option<String>> {
        let from = self.at;
        let mut almost = None;
        loop {
            let end = self.at;
            match self.next() {
                Some(line) if line == delimiter => {
                    let value = &self.text[from..end];
                    return Ok(value.strip_suffix('\n').unwrap_or(value).to_owned());
                }
                Some(line) if line.trim() == delimiter.trim() => {
                    almost = Some(self.number.to_string());
                }
                Some(_) => {}
                None => return Err(almost),
            }
        }
    }
}

/// What of a line is shown: a value may be large, and what is not seen is often what is wrong.
fn short(line: &str) -> String {
    const SHOWN: usize = 100;
    let mut text = String::new();
    for (index, char) in line.chars().enumerate() {
        if index == SHOWN {
            text.push('…');
            break;
        }
        match char {
            char if char.is_control() => text.extend(char.escape_default()),
            char => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests;
