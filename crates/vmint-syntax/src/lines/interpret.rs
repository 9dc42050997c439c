//! What a step prints, carried out.

use super::split::{MAX_COMMAND, Piece, Splitter};
use crate::annotation::{Annotation, Level};
use crate::commands::{Command, Commands, Parsed, Show, Which};
use crate::log::{Kind, Line, MAX_LINE};
use crate::mask::{MaskError, Masked, MaskedBytes, Masker, Masks};
use crate::matcher::Matchers;
use crate::sight;
use std::borrow::Cow;

/// What comes of a step's output, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line of the log.
    Line(Line),
    /// An annotation.
    Annotation(Annotation),
    /// An output of the step, as it is: outputs that are shown must be masked by who shows them.
    Output {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Something that the `post` of the action is told, as it is.
    State {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A variable for later steps, as it is.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A folder for later steps' `PATH`.
    Path(String),
    /// The problem matchers of this file in the guest are wanted: see [`Matchers::add`].
    AddMatcher {
        /// Relative to the workspace.
        path: String,
    },
    /// The problem matchers of this file in the guest are to go: see [`Matchers::remove_file`].
    RemoveMatchersOf {
        /// Relative to the workspace.
        path: String,
    },
    /// The step fails, whatever its exit code: a command could not be executed. Why is in the log.
    Failed,
}

/// Whether `::debug::` is shown: GitHub does so when `ACTIONS_STEP_DEBUG` is `true`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debugging {
    /// No.
    #[default]
    Hidden,
    /// Yes.
    Shown,
}

/// What the steps of a job share.
#[derive(Debug)]
pub struct Job<'a> {
    /// Its secrets.
    pub masks: &'a mut Masks,
    /// Its problem matchers.
    pub matchers: &'a mut Matchers,
}

/// Reads the output of one step.
#[derive(Debug)]
pub struct Interpreter {
    splitter: Splitter,
    rest: Rest,
}

/// All but the splitter, which lends lines while the rest works on them.
#[derive(Debug)]
struct Rest {
    commands: Commands,
    debugging: Debugging,
    /// Text that is not masked yet, each line with its end.
    text: Vec<u8>,
    masker: Masker,
    /// The beginning of a line, masked.
    masked: MaskedBytes,
    long: Long,
    warned: Vec<&'static str>,
}

/// What is done with a line that comes in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Long {
    /// None has begun.
    No,
    /// It is text.
    Text,
    /// It is a secret: not shown.
    Dropped,
}

impl Interpreter {
    /// For a step that starts.
    pub fn new(commands: Commands, debugging: Debugging) -> Self {
        Self {
            splitter: Splitter::new(),
            rest: Rest {
                commands,
                debugging,
                text: Vec::new(),
                masker: Masker::new(),
                masked: MaskedBytes::default(),
                long: Long::No,
                warned: Vec::new(),
            },
        }
    }

    /// Takes output as it comes, with the time of its lines. What could be the beginning of a secret is held back until
    /// more is known.
    pub fn push(&mut self, bytes: &[u8], at_ms: i64, job: Job<'_>, mut sink: impl FnMut(Event)) {
        let mut out = Out {
            at_ms,
            job,
            sink: &mut sink,
        };
        let rest = &mut self.rest;
        self.splitter
            .push(bytes, |piece| rest.piece(piece, &mut out));
        rest.flush(&mut out);
    }

    /// The end of the output.
    pub fn finish(&mut self, at_ms: i64, job: Job<'_>, mut sink: impl FnMut(Event)) {
        let mut out = Out {
            at_ms,
            job,
            sink: &mut sink,
        };
        let rest = &mut self.rest;
        self.splitter.finish(|piece| rest.piece(piece, &mut out));
        rest.settle(&mut out);
        out.job.matchers.forget();
    }
}

/// Where things go.
struct Out<'a> {
    at_ms: i64,
    job: Job<'a>,
    sink: &'a mut dyn FnMut(Event),
}

impl Out<'_> {
    fn line(&mut self, kind: Kind, text: impl Into<Masked>) {
        (self.sink)(Event::Line(Line::new(self.at_ms, kind, text)));
    }

    /// Shows a text that is not masked yet. Its first line is of this kind.
    fn show(&mut self, kind: Kind, text: &str) {
        let mut masked = self.job.masks.mask(text);
        if masked.contains('\r') {
            // A space stands for a return within a line, and may make a secret of what was none: what is shown is masked.
            let line = |line: &str| line.strip_suffix('\r').unwrap_or(line).replace('\r', " ");
            let lines: Vec<String> = masked.as_str().split('\n').map(line).collect();
            masked = self.job.masks.mask(&lines.join("\n"));
        }
        let mut kind = kind;
        for mut line in masked.split('\n') {
            while !line.is_empty() || kind != Kind::Text {
                let end = fitting(&line);
                self.line(kind, line.piece(0..end));
                (kind, line) = (Kind::Text, line.piece(end..line.len()));
            }
        }
    }

    /// An annotation that is not masked yet; `line` is what the log shows.
    fn annotate(&mut self, annotation: Annotation<String>, line: &str) {
        let masks = &*self.job.masks;
        let kind = match annotation.level {
            Level::Error => Kind::Error,
            Level::Warning => Kind::Warning,
            Level::Notice => Kind::Notice,
        };
        let annotation = annotation.map(|text| {
            let mut text = masks.mask(&text);
            text.truncate(fitting(&text));
            text
        });
        (self.sink)(Event::Annotation(annotation));
        self.show(kind, line);
    }

    fn say(&mut self, level: Level, message: String) {
        self.annotate(Annotation::new(level, message.clone()), &message);
    }

    fn fail(&mut self, message: String) {
        self.say(Level::Error, message);
        (self.sink)(Event::Failed);
    }
}

impl Rest {
    fn piece(&mut self, piece: Piece<'_>, out: &mut Out<'_>) {
        match piece {
            Piece::Line(line) => self.line(line, out),
            Piece::Part(part) => {
                if self.long == Long::No {
                    self.long = self.begin_long(part, out);
                }
                self.part(part, out);
            }
            Piece::Last(part) => {
                self.part(part, out);
                if self.long == Long::Text {
                    self.text.push(b'\n');
                }
                self.long = Long::No;
            }
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Out<'_>) {
        if Commands::may_be_command(line) {
            let text = String::from_utf8_lossy(line);
            if let Parsed::Command { command, show } = self.commands.parse(&text) {
                self.settle(out);
                if show == Show::Line {
                    // GitHub shows the line before it knows of a token that the line has to hide; here it is hidden.
                    hide_token(&command, out);
                    out.show(Kind::Text, &text);
                }
                self.execute(command, out);
                return;
            }
        }
        if !out.job.matchers.is_empty() {
            let text = String::from_utf8_lossy(line);
            let plain = without_colours(&text);
            if let Some(annotation) = out.job.matchers.look(&plain) {
                self.settle(out);
                out.annotate(annotation, &plain);
                return;
            }
        }
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    /// The first part of a line that is too long even for a command.
    fn begin_long(&mut self, part: &[u8], out: &mut Out<'_>) -> Long {
        let beginning = part.trim_ascii_start();
        let name = beginning.get(..b"::add-mask".len()).unwrap_or_default();
        if !name.eq_ignore_ascii_case(b"::add-mask") || self.commands.is_stopped() {
            return Long::Text;
        }
        self.settle(out);
        out.fail(format!(
            "the command `add-mask` cannot be executed: it is longer than {MAX_COMMAND} bytes; its line is not shown"
        ));
        Long::Dropped
    }

    fn part(&mut self, part: &[u8], out: &mut Out<'_>) {
        if self.long == Long::Text {
            self.text.extend_from_slice(part);
            self.flush(out);
        }
    }

    /// Masks the text that has come, and shows the lines that can be shown by now.
    fn flush(&mut self, out: &mut Out<'_>) {
        self.masked
            .push(&mut self.masker, out.job.masks, &self.text);
        self.text.clear();
        self.text.shrink_to(2 * MAX_LINE);
        self.give(out);
    }

    /// Shows all that has come: before something that is not text, and at the end.
    fn settle(&mut self, out: &mut Out<'_>) {
        self.flush(out);
        self.masked.finish(&mut self.masker);
        self.give(out);
        if !self.masked.is_empty() {
            give_line(self.masked.text(0..self.masked.len()), out);
            self.masked.forget(self.masked.len());
        }
    }

    fn give(&mut self, out: &mut Out<'_>) {
        let mut from = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.masked[from..]) {
            give_line(self.masked.text(from..from + end), out);
            from += end + 1;
        }
        while self.masked.len() - from > MAX_LINE {
            let end = from + sight::part(&self.masked[from..], MAX_LINE);
            give_line(self.masked.text(from..end), out);
            from = end;
        }
        self.masked.forget(from);
    }

    fn execute(&mut self, command: Command, out: &mut Out<'_>) {
        match command {
            Command::Group(title) => out.show(Kind::Group, &title),
            Command::EndGroup => out.line(Kind::EndGroup, ""),
            Command::Debug(text) if self.debugging == Debugging::Shown => {
                out.show(Kind::Debug, &text);
            }
            Command::Annotate(annotation) => {
                let message = annotation.message.clone();
                out.annotate(annotation, &message);
            }
            Command::AddMask(secret) => {
                if let Err(error) = out.job.masks.add(&secret) {
                    refuse(error, out);
                }
            }
            Command::EmptyMask => out.say(
                Level::Warning,
                "add-mask needs a value; nothing is masked".into(),
            ),
            Command::Debug(_) | Command::Stop { .. } | Command::Resume | Command::Echo(_) => {}
            Command::SetOutput { name, value } => {
                self.deprecated("set-output", "GITHUB_OUTPUT", out);
                (out.sink)(Event::Output { name, value });
            }
            Command::SaveState { name, value } => {
                self.deprecated("save-state", "GITHUB_STATE", out);
                (out.sink)(Event::State { name, value });
            }
            Command::SetEnv { name, value } => (out.sink)(Event::Env { name, value }),
            Command::AddPath(path) => (out.sink)(Event::Path(path)),
            Command::AddMatcher { path } => (out.sink)(Event::AddMatcher { path }),
            Command::RemoveMatcher(Which::Owner(owner)) => out.job.matchers.remove(&owner),
            Command::RemoveMatcher(Which::File(path)) => {
                (out.sink)(Event::RemoveMatchersOf { path });
            }
            Command::Ignored { reason } => out.say(Level::Warning, reason),
            Command::Invalid { name, reason } => {
                out.fail(format!("the command `{name}` cannot be executed: {reason}"));
            }
        }
    }

    /// Warns once in a step.
    fn deprecated(&mut self, name: &'static str, file: &str, out: &mut Out<'_>) {
        if !self.warned.contains(&name) {
            self.warned.push(name);
            out.say(
                Level::Warning,
                format!("the command `{name}` is deprecated; write to the file ${file} instead"),
            );
        }
    }
}

fn hide_token(command: &Command, out: &mut Out<'_>) {
    // As GitHub: a token that is a word would turn logs into stars.
    if let Command::Stop { token } = command
        && token.len() > 6
        && let Err(error) = out.job.masks.add(token)
    {
        refuse(error, out);
    }
}

fn refuse(error: MaskError, out: &mut Out<'_>) {
    out.fail(format!(
        "the command `add-mask` cannot be executed: {error}"
    ));
}

fn give_line(mut text: Masked, out: &mut Out<'_>) {
    // What is not UTF-8 grows when it is replaced.
    while text.len() > MAX_LINE {
        let end = fitting(&text);
        out.line(Kind::Text, text.piece(0..end));
        text = text.piece(end..text.len());
    }
    out.line(Kind::Text, text);
}

/// How much of a text fits in a line.
fn fitting(text: &str) -> usize {
    sight::cut(text, MAX_LINE)
}

/// The line without the sequences that colour it, which matchers do not expect.
fn without_colours(line: &str) -> Cow<'_, str> {
    if !line.contains("\u{1b}[") {
        return Cow::Borrowed(line);
    }
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';');
        plain.push_str(
            rest.strip_prefix('m')
                .or(rest.strip_prefix('K'))
                .unwrap_or(rest),
        );
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
