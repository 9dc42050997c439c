//! What came of a run. Stored as JSON with the run, printed by `--format json`, shown by [reports](crate::report).
//!
//! All of its text is [`Masked`], but for ids of vmint's own, the commit, and paths of this host.

use crate::mask::{Masked, Masks};
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::path::PathBuf;
use vmint_model::{
    Accelerator, ErrorKind, Fault, Generation, LeaseId, MachineId, Name, ProcessRef, RunId,
};

pub use vmint_syntax::annotation::{Annotation, Level};
pub use vmint_syntax::limits::Limit;

/// A run of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// `name` of the workflow, else its file.
    pub workflow: Masked,
    /// `run-name`, evaluated.
    pub title: Option<Masked>,
    /// The file, absolute.
    pub file: PathBuf,
    /// The repository that it is of, absolute.
    pub repository: PathBuf,
    /// What has happened: `push`.
    pub event: Masked,
    /// `github.ref`.
    pub git_ref: Masked,
    /// `github.sha`.
    pub sha: String,
    /// Of which run this is the continuation, and from which step.
    pub resumed: Option<Resumed>,
    /// The process that runs it.
    pub owner: ProcessRef,
    /// Milliseconds since 1970 in UTC.
    pub started_at_ms: i64,
    /// Milliseconds since 1970 in UTC; absent while it runs.
    pub ended_at_ms: Option<i64>,
    /// How it ended; absent while it runs.
    pub end: Option<RunEnd>,
    /// `permissions`, as in the file; without effect.
    pub permissions: Option<MaskedJson>,
    /// `concurrency.group`, evaluated.
    pub concurrency: Option<Masked>,
    /// The machines that it was lent, in order.
    pub machines: Vec<MachineUse>,
    /// Its jobs, in the order in which they were planned. Those of reusable workflows stand behind the job that calls it.
    pub jobs: Vec<JobRecord>,
    /// What its reader should know, said once.
    pub notes: Vec<Masked>,
}

/// Where a run went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The run that it continues.
    pub run: RunId,
    /// The job, as [`JobRecord::key`].
    pub job: Masked,
    /// The step, as [`StepRecord::number`].
    pub step: u32,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunEnd {
    /// All jobs succeeded, were skipped, or failed with `continue-on-error`.
    Success,
    /// A job failed.
    Failure,
    /// The user, or another run of its concurrency group, cancelled it.
    Cancelled {
        /// By whom or by what.
        by: Masked,
    },
    /// It ran past the workflow's time limit.
    TimedOut {
        /// The limit.
        limit_ms: u64,
    },
    /// Its event does not start it; nothing was run.
    NotTriggered {
        /// Why.
        reason: Masked,
    },
    /// vmint or a machine failed; this says nothing of the workflow.
    Fault {
        /// What failed.
        fault: MaskedFault,
    },
    /// A step has failed, and the machine is kept as it was then. Nothing was run after it.
    Paused {
        /// The job, as [`JobRecord::key`].
        job: Masked,
        /// The step, as [`StepRecord::number`].
        step: u32,
        /// The step, as [`StepRecord::name`].
        name: Masked,
    },
    /// The process that ran it was killed, and its machine was taken back.
    Abandoned,
}

impl RunEnd {
    /// The exit code of `vmint workflow run`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Success | Self::NotTriggered { .. } => 0,
            Self::Failure | Self::TimedOut { .. } => 1,
            Self::Paused { .. } => 77,
            Self::Cancelled { .. } => 130,
            Self::Fault { .. } | Self::Abandoned => 125,
        }
    }

    /// In a word, for tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled { .. } => "cancelled",
            Self::TimedOut { .. } => "timed_out",
            Self::NotTriggered { .. } => "not_triggered",
            Self::Fault { .. } => "fault",
            Self::Paused { .. } => "paused",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A failure of vmint or a machine, without secrets in what it says; written as a [`Fault`] is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedFault {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What happened.
    pub message: Masked,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Masked>,
}

impl MaskedFault {
    /// A failure as it may be shown.
    pub fn new(fault: &Fault, masks: &Masks) -> Self {
        Self {
            kind: fault.kind,
            message: masks.mask(&fault.message),
            hint: fault.hint.as_deref().map(|hint| masks.mask(hint)),
        }
    }
}

impl From<MaskedFault> for Fault {
    fn from(fault: MaskedFault) -> Self {
        Self {
            kind: fault.kind,
            message: fault.message.to_string(),
            hint: fault.hint.map(|hint| hint.to_string()),
        }
    }
}

/// A value of a file, without secrets in its texts and names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaskedJson(serde_json::Value);

impl MaskedJson {
    /// A value of a file as it may be shown.
    pub fn of(value: crate::expr::Value, masks: &Masks) -> Self {
        Self::new(serde_json::to_value(value).unwrap_or_default(), masks)
    }

    /// The value as it may be shown. A number or a truth value that is a secret is one as text, too.
    pub fn new(value: serde_json::Value, masks: &Masks) -> Self {
        use serde_json::Value;
        fn masked(value: Value, masks: &Masks) -> Value {
            match value {
                Value::String(text) => Value::String(masks.mask(&text).to_string()),
                Value::Array(values) => {
                    Value::Array(values.into_iter().map(|v| masked(v, masks)).collect())
                }
                Value::Object(entries) => {
                    let entries = entries.into_iter();
                    let of = |(name, v): (String, Value)| {
                        (masks.mask(&name).to_string(), masked(v, masks))
                    };
                    Value::Object(entries.map(of).collect())
                }
                Value::Number(_) | Value::Bool(_) | Value::Null => {
                    let text = value.to_string();
                    let shown = masks.mask(&text);
                    if shown == text {
                        value
                    } else {
                        Value::String(shown.to_string())
                    }
                }
            }
        }
        Self(masked(value, masks))
    }
}

impl Deref for MaskedJson {
    type Target = serde_json::Value;

    fn deref(&self) -> &serde_json::Value {
        &self.0
    }
}

/// A machine that a run was lent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineUse {
    /// The machine.
    pub machine: MachineId,
    /// At which generation.
    pub generation: Generation,
    /// The lease.
    pub lease: LeaseId,
    /// The pool.
    pub pool: Name,
    /// The image.
    pub image: Masked,
    /// What executes it.
    pub accelerator: Option<Accelerator>,
    /// The guest's own `boot_id`, as its set-up has said.
    pub boot_id: Option<Masked>,
    /// How long it took to get it.
    pub acquire_ms: f64,
    /// Milliseconds since 1970 in UTC.
    pub acquired_at_ms: i64,
    /// Milliseconds since 1970 in UTC; absent while it is lent.
    pub released_at_ms: Option<i64>,
    /// How many commands were started in it: set-up, steps, clean-up.
    pub executions: u32,
}

/// GitHub's word for how a step or a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Success,
    /// It failed.
    Failure,
    /// It was cancelled.
    Cancelled,
    /// It was not run, for its condition was false.
    Skipped,
}

impl Outcome {
    /// As in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// What a job has waited for before it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What, as the object of a sentence: “a machine of image ci”.
    pub what: Masked,
    /// Milliseconds since 1970 in UTC.
    pub from_ms: i64,
    /// Milliseconds since 1970 in UTC.
    pub to_ms: i64,
}

/// A job of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Unique in the run: `test (3.11, x64)`, `release / build`.
    pub key: Masked,
    /// The id in the file.
    pub id: Masked,
    /// What is shown: `name`, evaluated, with the matrix's values as GitHub adds them.
    pub name: Masked,
    /// The values of the matrix, if there is one.
    pub matrix: Option<MaskedJson>,
    /// The keys of the jobs that it waits for.
    pub needs: Vec<Masked>,
    /// The labels of `runs-on`.
    pub runs_on: Vec<Masked>,
    /// How it ended; absent until then, and for ever when vmint failed.
    pub outcome: Option<Outcome>,
    /// Whether the job may fail: the run then goes on and succeeds, and the job is shown as failed all the same.
    pub continue_on_error: bool,
    /// Why it ended so, if that needs a word: a time limit, a fault, a condition.
    pub reason: Option<Masked>,
    /// What of vmint or the machine failed; then the outcome says nothing.
    pub fault: Option<MaskedFault>,
    /// Index into [`RunRecord::machines`].
    pub machine: Option<usize>,
    /// Milliseconds since 1970 in UTC; absent when it never started.
    pub started_at_ms: Option<i64>,
    /// Milliseconds since 1970 in UTC.
    pub ended_at_ms: Option<i64>,
    /// What it has waited for before it began.
    #[serde(default)]
    pub waits: Vec<Wait>,
    /// Its outputs.
    pub outputs: Vec<(Masked, Masked)>,
    /// Its steps, in the order in which they were planned: set-up, `pre`, main, `post`, clean-up.
    pub steps: Vec<StepRecord>,
    /// The branch of the machine that was taken when a step had failed.
    pub failed: Option<StepSnapshot>,
    /// The pattern of `skip-runs-on` by which it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<Masked>,
    /// `permissions` of the job, as in the file.
    pub permissions: Option<MaskedJson>,
    /// `environment`, as in the file.
    pub environment: Option<MaskedJson>,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// vmint's own first step: the machine is made ready.
    SetUp,
    /// `pre` of an action.
    Pre,
    /// A step of the file.
    Main,
    /// `post` of an action.
    Post,
    /// vmint's own last step.
    CleanUp,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counted from 1 in the job. Steps inside of a composite action have none of their own and are shown in its log.
    pub number: u32,
    /// What it is.
    pub kind: StepKind,
    /// `id`.
    pub id: Option<Masked>,
    /// What is shown.
    pub name: Masked,
    /// Line of the step in its file; absent for vmint's own.
    pub line: Option<u32>,
    /// How it ended, before `continue-on-error`. Absent while it runs, when it was never reached, and when vmint failed.
    pub outcome: Option<Outcome>,
    /// How it counts, after `continue-on-error`.
    pub conclusion: Option<Outcome>,
    /// How its command ended.
    pub ended: Option<StepEnd>,
    /// Why it was skipped, unless it was for its condition; which step of a composite action failed, and how.
    #[serde(default)]
    pub reason: Option<Masked>,
    /// Milliseconds since 1970 in UTC; absent when it never started.
    pub started_at_ms: Option<i64>,
    /// Milliseconds since 1970 in UTC.
    pub ended_at_ms: Option<i64>,
    /// Its log, relative to the run's folder; see [`crate::log`].
    pub log: Option<PathBuf>,
    /// Size of the log.
    pub log_bytes: u64,
    /// What it wants to be seen.
    pub annotations: Vec<Annotation>,
    /// Annotations beyond the number that is kept.
    pub annotations_dropped: u64,
    /// Its `GITHUB_STEP_SUMMARY`, relative to the run's folder.
    pub summary: Option<PathBuf>,
    /// The branch of the machine that was taken before it.
    pub snapshot: Option<StepSnapshot>,
    /// What was run in place of its action, to be read after “replaced by”.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Masked>,
}

impl StepRecord {
    /// One that has not begun.
    pub fn planned(kind: StepKind, name: impl Into<Masked>) -> Self {
        Self {
            number: 0,
            kind,
            id: None,
            name: name.into(),
            reason: None,
            line: None,
            outcome: None,
            conclusion: None,
            ended: None,
            started_at_ms: None,
            ended_at_ms: None,
            log: None,
            log_bytes: 0,
            annotations: Vec::new(),
            annotations_dropped: 0,
            summary: None,
            replaced: None,
            snapshot: None,
        }
    }
}

/// How a step's command ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepEnd {
    /// It exited.
    Exited {
        /// With this code.
        code: u8,
    },
    /// A signal killed it.
    Killed {
        /// This one.
        signal: i32,
    },
    /// It ran past a time limit and was killed in the guest.
    TimedOut {
        /// Whose limit: `step`, `job`, `workflow`.
        whose: Limit,
        /// The limit.
        limit_ms: u64,
    },
    /// It was cancelled.
    Cancelled,
    /// It could not be started or evaluated, through its own fault: a missing shell, a bad expression.
    Invalid {
        /// Why.
        reason: Masked,
    },
    /// vmint or the machine failed.
    Fault {
        /// What failed.
        fault: MaskedFault,
    },
}

/// A moment to go back to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSnapshot {
    /// The snapshot.
    pub name: Name,
    /// How long the machine stood still.
    pub pause_ms: f64,
    /// How long the step had to wait in all.
    pub took_ms: f64,
    /// What it takes on disk beyond what it shares, in bytes.
    pub size: u64,
}
