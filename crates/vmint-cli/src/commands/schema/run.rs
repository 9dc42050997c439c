//! How a run of a workflow looks as JSON: the record, and what [`report::json`](vmint::workflow::report::json) adds.

#![expect(dead_code, reason = "described, never made")]

use super::foreign::{Accelerator, Fault, Process, Time};
use schemars::JsonSchema;
use serde_json::Value;

/// A run of a workflow.
#[derive(JsonSchema)]
pub struct Run {
    id: String,
    workflow: String,
    title: Option<String>,
    file: String,
    repository: String,
    event: String,
    git_ref: String,
    sha: String,
    resumed: Option<Resumed>,
    owner: Process,
    #[schemars(flatten)]
    started: RunTimes,
    /// How it ended; null while it runs.
    end: Option<RunEnd>,
    /// Of `vmint workflow run`; null while it runs.
    exit_code: Option<u8>,
    /// As in the file.
    permissions: Value,
    concurrency: Option<String>,
    machines: Vec<RunMachine>,
    jobs: Vec<Job>,
    notes: Vec<String>,
}

#[derive(JsonSchema)]
pub struct RunTimes {
    started_at: Time,
    ended_at: Option<Time>,
    #[schemars(skip_serializing_if = "absent")]
    duration_ms: u64,
}

/// Times of what may never have begun.
#[derive(JsonSchema)]
pub struct Times {
    started_at: Option<Time>,
    ended_at: Option<Time>,
    #[schemars(skip_serializing_if = "absent")]
    duration_ms: u64,
}

/// Where a run went on.
#[derive(JsonSchema)]
pub struct Resumed {
    run: String,
    job: String,
    step: u32,
}

/// How a run ended.
#[derive(JsonSchema)]
#[schemars(tag = "kind", rename_all = "snake_case")]
pub enum RunEnd {
    Success,
    Failure,
    Cancelled {
        by: String,
    },
    TimedOut {
        limit_ms: u64,
    },
    NotTriggered {
        reason: String,
    },
    /// A step has failed, and its machine is kept: exit code 77.
    Paused {
        /// Its `key`.
        job: String,
        /// Its `number`.
        step: u32,
        name: String,
    },
    Fault {
        fault: Fault,
    },
    Abandoned,
}

/// A machine that a run was lent.
#[derive(JsonSchema)]
pub struct RunMachine {
    machine: String,
    generation: u64,
    lease: String,
    pool: String,
    image: String,
    accelerator: Option<Accelerator>,
    boot_id: Option<String>,
    acquire_ms: f64,
    acquired_at: Time,
    released_at: Option<Time>,
    executions: u32,
}

/// GitHub's word for how a step or a job ended.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Failure,
    Cancelled,
    Skipped,
}

/// A job of a run.
#[derive(JsonSchema)]
pub struct Job {
    key: String,
    id: String,
    /// The pattern of `skip-runs-on` by which it was not run; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
    name: String,
    /// As in the file.
    matrix: Value,
    needs: Vec<String>,
    runs_on: Vec<String>,
    outcome: Option<Outcome>,
    continue_on_error: bool,
    reason: Option<String>,
    /// What of vmint or the machine failed; then the outcome says nothing.
    fault: Option<Fault>,
    /// Index into the run's machines.
    machine: Option<usize>,
    #[schemars(flatten)]
    times: Times,
    /// What it has waited for before it began.
    waits: Vec<Wait>,
    /// Names and values.
    outputs: Vec<(String, String)>,
    steps: Vec<Step>,
    failed: Option<StepSnapshot>,
    /// As in the file.
    permissions: Value,
    /// As in the file.
    environment: Value,
}

/// Something that a job has waited for.
#[derive(JsonSchema)]
pub struct Wait {
    what: String,
    /// Milliseconds since 1970.
    from_ms: i64,
    /// Milliseconds since 1970.
    to_ms: i64,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub enum StepKind {
    SetUp,
    Pre,
    Main,
    Post,
    CleanUp,
}

/// A step of a job.
#[derive(JsonSchema)]
pub struct Step {
    /// From 1 in the job.
    number: u32,
    kind: StepKind,
    id: Option<String>,
    name: String,
    line: Option<u32>,
    /// How it ended, before `continue-on-error`.
    outcome: Option<Outcome>,
    /// How it counts, after `continue-on-error`.
    conclusion: Option<Outcome>,
    ended: Option<StepEnd>,
    /// Why it was skipped, unless for its condition; which step of a composite action failed.
    reason: Option<String>,
    #[schemars(flatten)]
    times: Times,
    /// Relative to the run's folder.
    log: Option<String>,
    log_bytes: u64,
    annotations: Vec<Annotation>,
    annotations_dropped: u64,
    /// Relative to the run's folder.
    summary: Option<String>,
    snapshot: Option<StepSnapshot>,
    /// What was run in place of its action: `nothing`; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<String>,
}

/// How a step's command ended.
#[derive(JsonSchema)]
#[schemars(tag = "kind", rename_all = "snake_case")]
pub enum StepEnd {
    Exited { code: u8 },
    Killed { signal: i32 },
    TimedOut { whose: Limit, limit_ms: u64 },
    Cancelled,
    Invalid { reason: String },
    Fault { fault: Fault },
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub enum Limit {
    Step,
    Job,
    Workflow,
}

/// A moment to go back to.
#[derive(JsonSchema)]
pub struct StepSnapshot {
    name: String,
    pause_ms: f64,
    took_ms: f64,
    /// Bytes.
    size: u64,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub enum Level {
    Error,
    Warning,
    Notice,
}

/// What a step wants to be seen.
#[derive(JsonSchema)]
pub struct Annotation {
    level: Level,
    message: String,
    title: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    end_line: Option<u32>,
    column: Option<u32>,
    end_column: Option<u32>,
}
