//! Workflow commands: `::group::`, `::error file=…::`, `::add-mask::` and the others.
//!
//! A line that starts with `::name properties::message`, after white space, is a command, and so is one with
//! `##[name properties]message` anywhere in it. Names are read whatever their case. A name that is unknown makes the line plain
//! text. [`Commands`] knows what a line means; who executes it is elsewhere.

use crate::annotation::{Annotation, Level};

/// What a line of output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Plain text.
    Text,
    /// A command.
    Command {
        /// What it wants.
        command: Command,
        /// Whether the line itself is to be shown.
        show: Show,
    },
}

/// Whether the line of a command is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// As it is: after `::echo::on`, and where commands are stopped and resumed.
    Line,
    /// Only what the command itself shows.
    Nothing,
}

/// What a step wants. Nothing of it is masked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `group`, with its title.
    Group(String),
    /// `endgroup`.
    EndGroup,
    /// `debug`.
    Debug(String),
    /// `error`, `warning`, `notice`.
    Annotate(Annotation<String>),
    /// `add-mask`. Never white space alone.
    AddMask(String),
    /// `add-mask` without a value: a warning.
    EmptyMask,
    /// `stop-commands`: nothing is a command until its token. Longer tokens are also hidden, as GitHub does.
    Stop {
        /// What resumes them.
        token: String,
    },
    /// The token: lines are commands again.
    Resume,
    /// `echo`; [`Commands`] has noted it.
    Echo(Echo),
    /// `set-output`, which GitHub executes, and warns of.
    SetOutput {
        /// `name`.
        name: String,
        /// Its value.
        value: String,
    },
    /// `save-state`, which GitHub executes, and warns of.
    SaveState {
        /// `name`.
        name: String,
        /// Its value.
        value: String,
    },
    /// `set-env`, where that is [allowed](Unsecure::Allowed).
    SetEnv {
        /// `name`.
        name: String,
        /// Its value.
        value: String,
    },
    /// `add-path`, where that is [allowed](Unsecure::Allowed).
    AddPath(String),
    /// `add-matcher`: a file in the guest, relative to the workspace.
    AddMatcher {
        /// The file.
        path: String,
    },
    /// `remove-matcher`.
    RemoveMatcher(Which),
    /// `add-matcher` and `remove-matcher` without what they need: a warning.
    Ignored {
        /// Why.
        reason: String,
    },
    /// A command that cannot be executed: an error, and the step fails.
    Invalid {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
}

/// Which problem matchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one's.
    Owner(String),
    /// Those of this file in the guest.
    File(String),
}

/// Whether lines of commands are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// Whether `set-env` and `add-path` are executed: `ACTIONS_ALLOW_UNSECURE_COMMANDS=true` in the step's environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsecure {
    /// As GitHub does since 2020, for whoever prints what others wrote would let them set `PATH`.
    #[default]
    Refused,
    /// The author has said so.
    Allowed,
}

/// Names of commands, as they are compared.
const NAMES: [&str; 15] = [
    "stop-commands",
    "group",
    "endgroup",
    "debug",
    "error",
    "warning",
    "notice",
    "add-mask",
    "echo",
    "set-output",
    "save-state",
    "set-env",
    "add-path",
    "add-matcher",
    "remove-matcher",
];

/// A command as it stands in a line, its escapes undone.
struct Raw<'a> {
    name: &'a str,
    properties: Vec<(&'a str, String)>,
    data: String,
}

impl Raw<'_> {
    /// A property that is not empty. The last of two of the same name counts.
    fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.properties.iter().rev();
        let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }
}

/// Reads the lines of a step's output, one after the other.
#[derive(Clone, Debug)]
pub struct Commands {
    stopped: Option<String>,
    echo: Echo,
    unsecure: Unsecure,
}

impl Commands {
    /// At the beginning of a step. GitHub turns `echo` on for jobs with debug logs.
    pub fn new(echo: Echo, unsecure: Unsecure) -> Self {
        Self {
            stopped: None,
            echo,
            unsecure,
        }
    }

    /// Whether a line is worth to be read to its end: no line is a command that does not look like this in its beginning.
    pub fn may_be_command(beginning: &[u8]) -> bool {
        beginning.trim_ascii_start().starts_with(b"::") || contains_brackets(beginning)
    }

    /// Whether lines are text until a token comes.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// What a line means, without its line break and before it is masked.
    pub fn parse(&mut self, line: &str) -> Parsed {
        let Some(raw) = self.read(line) else {
            return Parsed::Text;
        };
        if let Some(token) = &self.stopped {
            if !raw.name.eq_ignore_ascii_case(token) {
                return Parsed::Text;
            }
            self.stopped = None;
            return Parsed::Command {
                command: Command::Resume,
                show: Show::Line,
            };
        }
        let name = NAMES
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(raw.name));
        // What is not echoed, for it shows itself or must never be shown.
        let show = match (name, self.echo) {
            (Some("debug" | "error" | "warning" | "notice" | "add-mask"), _) => Show::Nothing,
            (_, Echo::On) => Show::Line,
            (_, Echo::Off) => Show::Nothing,
        };
        let Some(command) = name.map(|name| self.understand(name, &raw)) else {
            return Parsed::Text;
        };
        let show = match &command {
            Command::Stop { .. } => Show::Line,
            _ => show,
        };
        Parsed::Command { command, show }
    }

    fn known(&self, name: &str) -> bool {
        let token = self.stopped.as_deref();
        let mut names = NAMES.into_iter().chain(token);
        names.any(|known| known.eq_ignore_ascii_case(name))
    }

    fn read<'a>(&self, line: &'a str) -> Option<Raw<'a>> {
        self.read_colons(line).or_else(|| self.read_brackets(line))
    }

    /// `::name key=value,key=value::data`.
    fn read_colons<'a>(&self, line: &'a str) -> Option<Raw<'a>> {
        let (head, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        self.known(name).then(|| Raw {
            name,
            properties: pairs(properties.trim(), ',', &PROPERTY_ESCAPES),
            data: unescape(data, &DATA_ESCAPES),
        })
    }

    /// `##[name key=value;key=value]data`, with anything before it.
    fn read_brackets<'a>(&self, line: &'a str) -> Option<Raw<'a>> {
        let (_, rest) = line.split_once("##[")?;
        let (head, data) = rest.split_once(']')?;
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        self.known(name).then(|| Raw {
            name,
            properties: pairs(properties, ';', &BRACKET_ESCAPES),
            data: unescape(data, &BRACKET_ESCAPES),
        })
    }

    fn understand(&mut self, name: &'static str, raw: &Raw) -> Command {
        let data = raw.data.clone();
        match name {
            "group" => Command::Group(data),
            "endgroup" => Command::EndGroup,
            "debug" => Command::Debug(data),
            "error" => Command::Annotate(annotation(Level::Error, raw)),
            "warning" => Command::Annotate(annotation(Level::Warning, raw)),
            "notice" => Command::Annotate(annotation(Level::Notice, raw)),
            "add-mask" if data.trim().is_empty() => Command::EmptyMask,
            "add-mask" => Command::AddMask(data),
            "stop-commands" => self.stop(data),
            "echo" => self.echo(&data),
            "set-output" | "save-state" | "set-env" => self.set(name, raw),
            "add-path" if self.unsecure == Unsecure::Refused => disabled(name),
            "add-path" if data.is_empty() => invalid(name, "it needs a path"),
            "add-path" => Command::AddPath(data),
            "add-matcher" if data.is_empty() => Command::Ignored {
                reason: "add-matcher needs the path of a file".into(),
            },
            "add-matcher" => Command::AddMatcher { path: data },
            _ => remove_matcher(raw),
        }
    }

    fn stop(&mut self, token: String) -> Command {
        if token.is_empty() || token.eq_ignore_ascii_case("pause-logging") || self.known(&token) {
            return invalid(
                "stop-commands",
                "its token must not be empty, `pause-logging`, or the name of a command",
            );
        }
        self.stopped = Some(token.clone());
        Command::Stop { token }
    }

    fn echo(&mut self, data: &str) -> Command {
        self.echo = match data.trim().to_ascii_lowercase().as_str() {
            "on" => Echo::On,
            "off" => Echo::Off,
            _ => return invalid("echo", &format!("it is `on` or `off`, not `{data}`")),
        };
        Command::Echo(self.echo)
    }

    fn set(&self, command: &'static str, raw: &Raw) -> Command {
        if command == "set-env" && self.unsecure == Unsecure::Refused {
            return disabled(command);
        }
        let Some(name) = raw.get("name").filter(|name| !name.is_empty()) else {
            return invalid(command, "it needs a `name`");
        };
        let (name, value) = (name.to_owned(), raw.data.clone());
        match command {
            "set-output" => Command::SetOutput { name, value },
            "save-state" => Command::SaveState { name, value },
            _ if name.eq_ignore_ascii_case("NODE_OPTIONS") => {
                invalid(command, "NODE_OPTIONS cannot be set for later steps")
            }
            _ => Command::SetEnv { name, value },
        }
    }
}

fn contains_brackets(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"##[").is_some()
}

fn invalid(name: &'static str, reason: &str) -> Command {
    Command::Invalid {
        name,
        reason: reason.into(),
    }
}

fn disabled(name: &'static str) -> Command {
    let file = match name {
        "set-env" => "GITHUB_ENV",
        _ => "GITHUB_PATH",
    };
    invalid(
        name,
        &format!(
            "it is disabled; write to the file ${file} instead, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to `true`"
        ),
    )
}

fn remove_matcher(raw: &Raw) -> Command {
    let owner = raw.get("owner").filter(|owner| !owner.is_empty());
    match (owner, &*raw.data) {
        (Some(owner), "") => Command::RemoveMatcher(Which::Owner(owner.to_owned())),
        (None, file) if !file.is_empty() => Command::RemoveMatcher(Which::File(file.to_owned())),
        (Some(_), _) => Command::Ignored {
            reason: "remove-matcher takes an owner or a file, not both".into(),
        },
        (None, _) => Command::Ignored {
            reason: "remove-matcher needs an owner or a file".into(),
        },
    }
}

/// An annotation, with its places put right as GitHub does: what contradicts itself is dropped.
fn annotation(level: Level, raw: &Raw) -> Annotation<String> {
    let number = |name| {
        raw.get(name)
            .and_then(|text| text.trim().parse::<u32>().ok())
    };
    let text = |name| {
        raw.get(name)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let (mut line, mut end_line) = (number("line"), number("endLine"));
    let (mut column, mut end_column) = (number("col"), number("endColumn"));
    line = line.or(end_line);
    column = column.or(end_column);
    let lines_differ = end_line.is_some_and(|end| Some(end) != line);
    if line.is_none() || lines_differ {
        (column, end_column) = (None, None);
    }
    if line.zip(end_line).is_some_and(|(line, end)| end < line) {
        (line, end_line) = (None, None);
    }
    if column
        .zip(end_column)
        .is_some_and(|(column, end)| end < column)
    {
        (column, end_column) = (None, None);
    }
    Annotation {
        level,
        message: raw.data.clone(),
        title: text("title"),
        file: text("file"),
        line,
        end_line,
        column,
        end_column,
    }
}

fn pairs<'a>(text: &'a str, separator: char, escapes: &[(&str, char)]) -> Vec<(&'a str, String)> {
    text.split(separator)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .map(|(key, value)| (key, unescape(value, escapes)))
        .collect()
}

const DATA_ESCAPES: [(&str, char); 3] = [("%0D", '\r'), ("%0A", '\n'), ("%25", '%')];
const PROPERTY_ESCAPES: [(&str, char); 5] = [
    ("%0D", '\r'),
    ("%0A", '\n'),
    ("%3A", ':'),
    ("%2C", ','),
    ("%25", '%'),
];
const BRACKET_ESCAPES: [(&str, char); 5] = [
    ("%3B", ';'),
    ("%0D", '\r'),
    ("%0A", '\n'),
    ("%5D", ']'),
    ("%25", '%'),
];

/// Undoes escapes in one pass, so that `%250A` is `%0A`. Other percent signs stay.
fn unescape(text: &str, escapes: &[(&str, char)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = escapes.iter().find(|(escape, _)| rest.starts_with(escape));
        let (char, length) = escape.map_or(('%', 1), |(escape, char)| (*char, escape.len()));
        out.push(char);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
