//! A run as events: one JSON object a line, as things happen, for programs that follow it.

#[cfg(test)]
use crate::commands::schema::{foreign, run as form};
use crate::output;
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use vmint::now_ms;
use vmint::workflow::log::{Kind, rfc3339};
use vmint::workflow::observe::{Change, Observer};
use vmint::workflow::record::{JobRecord, Outcome, RunEnd, RunRecord, StepRecord};
use vmint::workflow::report;
use vmint::workflow::report::text::between;

/// Something that has happened in a run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkflowEvent<'a> {
    /// When.
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    at: String,
    /// The run's id.
    run: &'a str,
    #[serde(flatten)]
    happened: Happened<'a>,
}

/// What has happened.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
enum Happened<'a> {
    /// The run has begun.
    RunStarted {
        workflow: &'a str,
        file: String,
        /// The event that starts it: `push`.
        trigger: &'a str,
    },
    /// Something is waited for or should be known.
    Note { text: &'a str },
    /// A job has begun, or is skipped.
    JobStarted { job: &'a str, name: &'a str },
    /// A step has begun, or is skipped.
    StepStarted {
        job: &'a str,
        /// From 1 in the job.
        step: u32,
        name: &'a str,
    },
    /// A step has written a line.
    Log {
        job: &'a str,
        step: u32,
        kind: LineKind,
        text: &'a str,
    },
    /// A step has ended.
    StepEnded {
        job: &'a str,
        step: u32,
        name: &'a str,
        /// Before `continue-on-error`; null when vmint or the machine failed.
        #[cfg_attr(test, schemars(with = "Option<form::Outcome>"))]
        outcome: Option<Outcome>,
        /// After `continue-on-error`.
        #[cfg_attr(test, schemars(with = "Option<form::Outcome>"))]
        conclusion: Option<Outcome>,
        /// Why it ended so, in words.
        reason: Option<String>,
        duration_ms: Option<u64>,
        /// Relative to the run's folder.
        log: Option<String>,
    },
    /// A job has ended.
    JobEnded {
        job: &'a str,
        /// Null when vmint or the machine failed.
        #[cfg_attr(test, schemars(with = "Option<form::Outcome>"))]
        outcome: Option<Outcome>,
        /// Why it ended so, in words.
        reason: Option<String>,
    },
    /// The run has ended: the last line.
    RunEnded {
        #[cfg_attr(test, schemars(with = "Option<form::RunEnd>"))]
        end: &'a Option<RunEnd>,
        exit_code: Option<u8>,
        /// Commands that look into a run that is paused, and that go on with it.
        next: Vec<String>,
        /// As `--format json` prints it.
        #[cfg_attr(test, schemars(with = "form::Run"))]
        record: Value,
    },
}

/// What kind of line.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum LineKind {
    Text,
    Group,
    EndGroup,
    Command,
    Debug,
    Error,
    Warning,
    Notice,
}

impl From<Kind> for LineKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Group => Self::Group,
            Kind::EndGroup => Self::EndGroup,
            Kind::Command => Self::Command,
            Kind::Debug => Self::Debug,
            Kind::Error => Self::Error,
            Kind::Warning => Self::Warning,
            Kind::Notice => Self::Notice,
        }
    }
}

/// What to do with a run that is paused.
pub fn next(run: &RunRecord) -> Vec<String> {
    match &run.end {
        Some(RunEnd::Paused { .. }) => vec![
            format!("vmint workflow shell {}", run.id),
            format!("vmint workflow retry {}", run.id),
        ],
        _ => Vec::new(),
    }
}

/// Writes events.
#[derive(Debug)]
pub struct Events<W> {
    out: Mutex<W>,
}

impl<W: Write> Events<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: Mutex::new(out),
        }
    }
}

impl<W: Write + Send> Observer for Events<W> {
    fn happened(&self, run: &RunRecord, what: Change<'_>) {
        let Some(happened) = happened(run, what) else {
            return;
        };
        let event = WorkflowEvent {
            at: rfc3339(now_ms()),
            run: run.id.as_str(),
            happened,
        };
        let json = serde_json::to_string(&event).expect("keys are strings");
        let mut line = output::printable_json(&json);
        line.push('\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        // A reader that has gone ends the process. A full disk does not end the run: its record tells what came of it.
        let _ = output::checked(written);
    }
}

fn happened<'a>(run: &'a RunRecord, what: Change<'a>) -> Option<Happened<'a>> {
    let job = |at: usize| run.jobs.get(at);
    let step = |j: usize, s: usize| -> Option<(&'a JobRecord, &'a StepRecord)> {
        let job = run.jobs.get(j)?;
        Some((job, job.steps.get(s)?))
    };
    Some(match what {
        Change::Started => Happened::RunStarted {
            workflow: &run.workflow,
            file: run.file.to_string_lossy().into_owned(),
            trigger: &run.event,
        },
        Change::Note(text) => Happened::Note { text },
        Change::JobStarted { job: at } => {
            let job = job(at)?;
            Happened::JobStarted {
                job: &job.key,
                name: &job.name,
            }
        }
        Change::StepStarted { job, step: at } => {
            let (job, step) = step(job, at)?;
            Happened::StepStarted {
                job: &job.key,
                step: step.number,
                name: &step.name,
            }
        }
        Change::Logged {
            job,
            step: at,
            line,
        } => {
            let (job, step) = step(job, at)?;
            Happened::Log {
                job: &job.key,
                step: step.number,
                kind: line.kind.into(),
                text: &line.text,
            }
        }
        Change::StepEnded { job, step: at } => {
            let (job, step) = step(job, at)?;
            let log = step.log.as_ref();
            Happened::StepEnded {
                job: &job.key,
                step: step.number,
                name: &step.name,
                outcome: step.outcome,
                conclusion: step.conclusion,
                reason: report::step_note(run, step),
                duration_ms: between(step.started_at_ms, step.ended_at_ms),
                log: log.map(|log| log.to_string_lossy().into_owned()),
            }
        }
        Change::JobEnded { job: at } => {
            let job = job(at)?;
            Happened::JobEnded {
                job: &job.key,
                outcome: job.outcome,
                reason: report::job_note(run, job),
            }
        }
        Change::Ended => Happened::RunEnded {
            end: &run.end,
            exit_code: run.end.as_ref().map(RunEnd::exit_code),
            next: next(run),
            record: report::json(run),
        },
    })
}

#[cfg(test)]
pub(in crate::commands) mod tests {
    use super::*;
    use crate::commands::workflow::sample_run;
    use vmint::workflow::log::Line;

    /// An event of each kind, as they are written.
    pub(in crate::commands) fn all() -> Vec<Value> {
        let mut run = sample_run();
        run.end = Some(RunEnd::Paused {
            job: "test".into(),
            step: 2,
            name: "Run tests".into(),
        });
        let events = Events::new(Vec::new());
        let line = Line::new(0, Kind::Error, "it\u{1b}[2J failed\u{202e}");
        let (job, step) = (0, 1);
        for change in [
            Change::Started,
            Change::Note(&"waiting".into()),
            Change::JobStarted { job },
            Change::StepStarted { job, step },
            Change::Logged {
                job,
                step,
                line: &line,
            },
            Change::StepEnded { job, step },
            Change::JobEnded { job },
            Change::Ended,
            // Of what is not there nothing is said.
            Change::JobEnded { job: 99 },
        ] {
            events.happened(&run, change);
        }
        let bytes = events.out.into_inner().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    #[test]
    fn each_event_is_a_line_that_names_its_run_its_job_and_its_step() {
        let all = all();
        let names: Vec<&str> = all.iter().filter_map(|e| e["event"].as_str()).collect();
        assert_eq!(
            names,
            [
                "run_started",
                "note",
                "job_started",
                "step_started",
                "log",
                "step_ended",
                "job_ended",
                "run_ended"
            ]
        );
        let run = sample_run();
        for event in &all {
            assert_eq!(event["run"], run.id.as_str(), "{event}");
        }
        for event in &all[3..6] {
            assert_eq!(event["job"], run.jobs[0].key.as_str(), "{event}");
            assert_eq!(event["step"], run.jobs[0].steps[1].number, "{event}");
        }
        assert_eq!(all[4]["text"], "it\u{1b}[2J failed\u{202e}");
        let last = &all[7];
        assert_eq!(
            (&last["exit_code"], &last["end"]["kind"]),
            (&77.into(), &"paused".into())
        );
        assert_eq!(last["next"][1], format!("vmint workflow retry {}", run.id));
        assert_eq!(last["record"]["id"], run.id.as_str());
    }
}
