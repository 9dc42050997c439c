//! A run as it happens: every line of every step, a line when a step begins and one when it ends, and at the end a table.
//!
//! Whatever a guest writes has been through [`ansi`]: on a terminal its colours are kept and all else that would command
//! the terminal is not, elsewhere it is plain text. What a group holds is dimmed on a terminal and set in; it is not
//! folded afterwards, for with several jobs at once the lines above are not only its own. Elsewhere nothing is left out.

use super::show;
use crate::output;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use vmint::workflow::log::{Kind, Line};
use vmint::workflow::observe::{Change, Observer};
use vmint::workflow::record::{Annotation, JobRecord, Level, RunRecord, StepRecord};
use vmint::workflow::report::ansi::{self, Style};
use vmint::workflow::report::text::{between, duration};
use vmint::workflow::report::{Verdict, job_note, step_note};

/// For whom it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// A terminal that shows colours.
    Colours,
    /// A file, a pipe, or a terminal whose user wants no colours.
    Plain,
    /// The log of GitHub Actions, in which vmint itself runs: a step is a group there.
    Actions,
}

impl Face {
    /// What standard output or error is, and what the environment says.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
            Self::Actions
        } else if stream.is_terminal() && !set("NO_COLOR") && !crate::progress::is_dumb() {
            Self::Colours
        } else {
            Self::Plain
        }
    }
}

/// Writes what happens.
#[derive(Debug)]
pub struct Live<W> {
    face: Face,
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    out: W,
    /// By job and step: those that run.
    open: HashMap<(usize, usize), Open>,
    /// The step whose lines stand in a group of GitHub's, and the word that ends its quotation.
    group: Option<((usize, usize), String)>,
}

/// A step that runs.
#[derive(Debug, Default)]
struct Open {
    /// The colours with which its next line begins.
    style: Style,
    in_group: bool,
}

impl<W: Write> Live<W> {
    /// Writes to `out`.
    pub fn new(face: Face, out: W) -> Self {
        Self {
            face,
            state: Mutex::new(State {
                out,
                open: HashMap::new(),
                group: None,
            }),
        }
    }

    fn text(&self, state: &mut State<W>, run: &RunRecord, what: Change<'_>) -> String {
        match what {
            Change::Started => format!("{}\n", self.dim(&self.own(show::title(run)))),
            Change::Note(note) => format!("{}\n", self.dim(&self.own(output::printable(note)))),
            Change::JobStarted { .. } => String::new(),
            Change::StepStarted { job: j, step: s } => {
                let Some((job, step)) = found(run, j, s) else {
                    return String::new();
                };
                match Verdict::of_step(run, step) {
                    Verdict::Running => self.begin(state, run, (j, job), (s, step)),
                    _ => String::new(),
                }
            }
            Change::Logged {
                job: j,
                step: s,
                line,
            } => {
                let Some((job, _)) = found(run, j, s) else {
                    return String::new();
                };
                let open = state.open.entry((j, s)).or_default();
                let Some(text) = self.line(open, line) else {
                    return String::new();
                };
                // In a group the runner obeys nothing, and the text can stay as it is.
                let text = match state.group {
                    Some(_) => text,
                    None => self.own(text),
                };
                format!("{}  {text}\n", self.prefix(run, job))
            }
            Change::StepEnded { job: j, step: s } => match found(run, j, s) {
                Some((job, step)) => self.end(state, run, (j, job), (s, step)),
                None => String::new(),
            },
            Change::JobEnded { job } => match run.jobs.get(job) {
                Some(job) => self.job_end(run, job),
                None => String::new(),
            },
            Change::Ended => {
                let verdict =
                    self.painted(Verdict::of_run(run), &self.own(show::verdict_line(run)));
                format!("\n{}\n{verdict}\n", self.own(show::summary(run)))
            }
        }
    }

    fn begin(
        &self,
        state: &mut State<W>,
        run: &RunRecord,
        (j, job): (usize, &JobRecord),
        (s, step): (usize, &StepRecord),
    ) -> String {
        state.open.insert((j, s), Open::default());
        let name = output::printable(&step.name).replace('\n', " ");
        let head = format!("{}/{} {name}", step.number, job.steps.len());
        let prefix = self.prefix(run, job);
        if self.face != Face::Actions {
            return format!("{prefix}{}\n", self.bold(&format!("▸ {head}")));
        }
        if state.group.is_some() {
            return format!("{prefix}{}\n", self.own(format!("▸ {head}")));
        }
        // Between these, the runner obeys nothing; the guest cannot guess the word that ends it.
        let word = format!("vmint-{:016x}", RandomState::new().hash_one(&head));
        let opened = format!(
            "::group::{prefix}{}\n::stop-commands::{word}\n",
            data(&head)
        );
        state.group = Some(((j, s), word));
        opened
    }

    fn end(
        &self,
        state: &mut State<W>,
        run: &RunRecord,
        (j, job): (usize, &JobRecord),
        (s, step): (usize, &StepRecord),
    ) -> String {
        state.open.remove(&(j, s));
        let mut text = String::new();
        let closes = |group: &mut ((usize, usize), String)| group.0 == (j, s);
        if let Some((_, word)) = state.group.take_if(closes) {
            let _ = write!(text, "::{word}::\n::endgroup::\n");
            for annotation in &step.annotations {
                text.push_str(&command(annotation));
            }
        }
        let verdict = Verdict::of_step(run, step);
        let took = between(step.started_at_ms, step.ended_at_ms);
        let line = ended(verdict, &step.name, took, step_note(run, step));
        let line = self.painted(verdict, &self.own(line));
        let _ = writeln!(text, "{}{line}", self.prefix(run, job));
        text
    }

    /// A job without steps of its own says how it ended; of others the steps have told.
    fn job_end(&self, run: &RunRecord, job: &JobRecord) -> String {
        let verdict = Verdict::of_job(run, job);
        let note = job_note(run, job);
        if !job.steps.is_empty() && note.is_none() {
            return String::new();
        }
        let took = between(job.started_at_ms, job.ended_at_ms);
        let line = self.own(ended(verdict, &job.name, took, note));
        let line = self.painted(verdict, &line);
        format!("{line}\n")
    }

    /// A line of a log; nothing for the end of a group.
    fn line(&self, open: &mut Open, line: &Line) -> Option<String> {
        let (colour, word) = match line.kind {
            Kind::Text => (None, ""),
            Kind::Group => {
                open.in_group = true;
                let title = self.shown(&line.text, &mut open.style, Some("1"));
                return Some(format!("▾ {title}"));
            }
            Kind::EndGroup => {
                open.in_group = false;
                return None;
            }
            Kind::Command => (Some("36"), ""),
            Kind::Debug => (Some("2"), "Debug: "),
            Kind::Error => (Some("31"), "Error: "),
            Kind::Warning => (Some("33"), "Warning: "),
            Kind::Notice => (Some("34"), "Notice: "),
        };
        let colour = colour.or(open.in_group.then_some("2"));
        let margin = if open.in_group { "  " } else { "" };
        let text = self.shown(&format!("{word}{}", line.text), &mut open.style, colour);
        Some(format!("{margin}{text}"))
    }

    /// A guest's text, with `look` where it has no colours of its own.
    fn shown(&self, text: &str, style: &mut Style, look: Option<&str>) -> String {
        let mut shown = String::with_capacity(text.len());
        ansi::pieces(text, style, |piece, style| {
            let sequence = match (self.face, style) {
                (Face::Colours, Style::PLAIN) => {
                    look.map_or(String::new(), |look| format!("\x1b[{look}m"))
                }
                (Face::Colours, style) => style.sequence(),
                _ => String::new(),
            };
            shown.push_str(&sequence);
            shown.push_str(piece);
            if !sequence.is_empty() {
                shown.push_str("\x1b[0m");
            }
        });
        shown
    }

    /// Whose line it is, where there are several jobs.
    fn prefix(&self, run: &RunRecord, job: &JobRecord) -> String {
        match run.jobs.len() {
            0 | 1 => String::new(),
            _ => {
                let key = output::printable(&job.key).replace('\n', " ");
                format!("{} ", self.dim(&self.own(format!("{key} |"))))
            }
        }
    }

    /// What vmint says itself, and with it names from the file: no commands for a runner of GitHub's.
    fn own(&self, text: String) -> String {
        match self.face {
            Face::Actions => unobeyed(&text),
            Face::Colours | Face::Plain => text,
        }
    }

    fn painted(&self, verdict: Verdict, text: &str) -> String {
        let colour = match verdict {
            Verdict::Success => "32",
            Verdict::Failure => "31",
            Verdict::AllowedFailure => "33",
            Verdict::Fault => "1;35",
            Verdict::Cancelled
            | Verdict::Skipped
            | Verdict::Running
            | Verdict::NotReached
            | Verdict::Waiting => "2",
        };
        self.sgr(colour, text)
    }

    fn dim(&self, text: &str) -> String {
        self.sgr("2", text)
    }

    fn bold(&self, text: &str) -> String {
        self.sgr("1", text)
    }

    fn sgr(&self, codes: &str, text: &str) -> String {
        match self.face {
            Face::Colours => format!("\x1b[{codes}m{text}\x1b[0m"),
            Face::Plain | Face::Actions => text.to_owned(),
        }
    }
}

impl<W: Write + Send> Observer for Live<W> {
    fn happened(&self, run: &RunRecord, what: Change<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.text(&mut state, run, what);
        if text.is_empty() {
            return;
        }
        let written = state
            .out
            .write_all(text.as_bytes())
            .and_then(|()| state.out.flush());
        // A reader that has gone ends the process. A full disk does not end the run: its record tells what came of it.
        let _ = output::checked(written);
    }
}

fn found(run: &RunRecord, job: usize, step: usize) -> Option<(&JobRecord, &StepRecord)> {
    let job = run.jobs.get(job)?;
    Some((job, job.steps.get(step)?))
}

/// `✓ cargo test  2.3 s`, `✗ cargo test  2.3 s  exit code 101`.
fn ended(verdict: Verdict, name: &str, took: Option<u64>, note: Option<String>) -> String {
    let mut line = format!("{} {name}", verdict.sign());
    if let Some(ms) = took {
        let _ = write!(line, "  {}", duration(ms));
    }
    if verdict != Verdict::Success {
        let _ = write!(line, "  {}", verdict.words());
    }
    if let Some(note) = note {
        let _ = write!(line, ": {note}");
    }
    output::printable(&line.replace('\n', " "))
}

/// An annotation for the run of GitHub's in which this one is.
fn command(annotation: &Annotation) -> String {
    let level = match annotation.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let mut properties = Vec::new();
    let numbers = [
        ("line", annotation.line),
        ("endLine", annotation.end_line),
        ("col", annotation.column),
        ("endColumn", annotation.end_column),
    ];
    for (name, text) in [("title", &annotation.title), ("file", &annotation.file)] {
        if let Some(text) = text {
            let text = data(text).replace(':', "%3A").replace(',', "%2C");
            properties.push(format!("{name}={text}"));
        }
    }
    for (name, number) in numbers {
        properties.extend(number.map(|number| format!("{name}={number}")));
    }
    let space = if properties.is_empty() { "" } else { " " };
    format!(
        "::{level}{space}{}::{}\n",
        properties.join(","),
        data(&annotation.message)
    )
}

/// Text as data of a workflow command: one line, whatever it holds.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Text in which GitHub's runner sees no command, of its present form or of its old one.
fn unobeyed(text: &str) -> String {
    text.replace("::", ":\u{200b}:")
        .replace("##[", "##\u{200b}[")
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
