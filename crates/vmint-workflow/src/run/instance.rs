//! One job on its machine: set-up, steps, `post`s, clean-up.

use super::Run;
use super::contexts::{Constant, OfJob};
use super::end::End;
use super::node::NodeJs;
use super::recorder::{JobAt, StepAt, StepLog, now_ms};
use super::session::Session;
use super::state::{JobState, Post, Standing, StepResult, Steps};
use super::view::View;
use crate::check::Resolved;
use crate::containers::Engine;
use crate::containers::teardown::Teardown;
use crate::expr::{ContextName, Field, Object, Scope, Status, Value, availability};
use crate::limits::Limits;
use crate::log::Kind;
use crate::mask::Masked;
use crate::matcher::Matchers;
use crate::observe::Change;
use crate::record::{Annotation, Level, Limit, Outcome, StepEnd, StepKind, StepRecord};
use crate::setup::probe::Inventory;
use crate::spec::{self, Text};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use vmint_model::{ErrorKind, Fault};

/// A job that runs.
pub(super) struct Instance<'r> {
    pub run: &'r Run<'r>,
    pub constant: Constant,
    /// The Node.js that actions run by, once it was looked for.
    pub node: Option<NodeJs>,
    /// That of the machine, for a job's container that has none.
    pub machine_node: Option<String>,
    /// What `uses` of steps stands for that was read from the workspace.
    pub late: HashMap<String, &'r Resolved>,
    /// The file of the workflow, as the user knows it.
    pub file: String,
    /// What of its machine is not as on GitHub.
    pub place_note: Option<String>,
    /// `env` of the workflow, as it stands in the file.
    pub workflow_env: &'r spec::Map,
    pub job: &'r spec::Job,
    pub body: &'r spec::StepsJob,
    pub of_job: OfJob,
    pub at: JobAt,
    pub key: String,
    pub session: Arc<Session>,
    pub cancel: super::Cancel,
    pub limits: Limits,
    /// Since when it does not run as usual any more: out of time, or cancelled.
    pub ending: Option<Instant>,
    pub state: JobState,
    /// Where its steps run.
    pub view: View,
    /// What there is where its steps run.
    pub inventory: Inventory,
    pub matchers: Matchers,
    pub defaults: Defaults<'r>,
    /// Variables that are the same for all steps.
    pub facts: Vec<(String, String)>,
    /// The `runner` context.
    pub runner: Value,
    /// The container engine, once it is known.
    pub engine: Option<Engine>,
    /// What removes the containers that this run has started.
    pub teardown: Option<Teardown>,
    /// The set-up, as it stands in the record.
    pub planned_set_up: StepAt,
    /// The start of the containers, if there are any, as it stands in the record.
    pub planned_containers: Option<StepAt>,
    /// `pre`s, as they stand in the record.
    pub planned_pres: Vec<StepAt>,
    /// Steps of the file, as they stand in the record.
    pub planned: Vec<StepAt>,
}

/// `defaults.run`: the job's, else the workflow's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults<'r> {
    pub shell: Option<&'r Text>,
    pub working_directory: Option<&'r Text>,
}

impl<'r> Defaults<'r> {
    pub(super) fn of(workflow: &'r spec::Workflow, body: &'r spec::StepsJob) -> Self {
        let (outer, own) = (&workflow.defaults, &body.defaults);
        Self {
            shell: own.shell.as_ref().or(outer.shell.as_ref()),
            working_directory: own
                .working_directory
                .as_ref()
                .or(outer.working_directory.as_ref()),
        }
    }
}

/// Why something of a step could not be done.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Its own fault.
    Step(String),
    /// It was cancelled, or its time was over, before it came to a command of its own, or in the midst of one for it.
    Ended(End),
    /// vmint's, or the machine's.
    Fault(Fault),
}

impl From<Fault> for Trouble {
    /// What the guest refuses is the step's fault, for it is what steps have made of the machine: full disks, missing files.
    /// All else is not.
    fn from(fault: Fault) -> Self {
        match fault.kind {
            ErrorKind::Guest
            | ErrorKind::CommandNotFound
            | ErrorKind::CommandNotExecutable
            | ErrorKind::NotFound => {
                let hint = fault.hint.as_deref();
                let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
                Self::Step(format!("{}{hint}", fault.message))
            }
            _ => Self::Fault(fault),
        }
    }
}

/// How the body of a step ended.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub outcome: Outcome,
    pub end: Option<End>,
    pub outputs: IndexMap<String, String>,
    /// What failed inside of it; its log has it already.
    pub reason: Option<String>,
}

impl Done {
    pub(super) fn well(outputs: IndexMap<String, String>) -> Self {
        Self {
            outcome: Outcome::Success,
            end: None,
            outputs,
            reason: None,
        }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Failure,
            end: Some(End::Invalid {
                reason: reason.into(),
            }),
            outputs: IndexMap::new(),
            reason: None,
        }
    }

    /// Of a command.
    pub(super) fn of(end: End, outputs: IndexMap<String, String>) -> Self {
        let outcome = match &end {
            End::Exited { code: 0 } => Outcome::Success,
            End::Cancelled => Outcome::Cancelled,
            // A job or a run that takes too long is cancelled; a step that does has failed.
            End::TimedOut { whose, .. } if *whose != Limit::Step => Outcome::Cancelled,
            _ => Outcome::Failure,
        };
        Self {
            outcome,
            end: Some(end),
            outputs,
            reason: None,
        }
    }
}

/// Steps that follow each other: those of a job, or of a composite action.
pub(super) struct Frame {
    pub inputs: Value,
    pub steps: Steps,
    pub standing: Standing,
    /// The environment that its steps have besides the job's: of the steps that use the actions around it.
    pub env: IndexMap<String, String>,
    /// The action that these are the steps of.
    pub action: Option<ActionPlace>,
    /// The index path of the step that uses the action; empty for a job.
    pub path: Vec<usize>,
}

/// Where an action is.
#[derive(Clone, Debug)]
pub(super) struct ActionPlace {
    /// `github.action_path`.
    pub path: String,
    /// `github.action_repository`.
    pub repository: String,
    /// `github.action_ref`.
    pub reference: String,
}

impl<'r> Instance<'r> {
    /// How the job stands, for conditions of its own steps.
    pub(super) fn status(&self, standing: Standing) -> Status {
        if self.cancel.by().is_some()
            || self.ending.is_some()
            || self.limits.over(Instant::now()).is_some()
        {
            return Status::Cancelled;
        }
        match standing {
            Standing::Well => Status::Success,
            Standing::Failed => Status::Failure,
        }
    }

    /// What an expression of a step sees.
    pub(super) fn scope(&self, frame: &Frame, env: &IndexMap<String, String>, id: &str) -> Scope {
        let scope = self.constant.scope(&self.of_job);
        let scope = super::contexts::with_step(
            scope,
            self.github(frame, id),
            env,
            &frame.steps,
            self.status(frame.standing),
        );
        let scope = scope
            .with(ContextName::Inputs, frame.inputs.clone())
            .with(ContextName::Job, self.job_context())
            .with(ContextName::Runner, self.runner.clone());
        if frame.action.is_some() {
            // The steps of an action see less than those of a job: no secrets, for one.
            scope.limited_to(&availability(Field::ActionStepIf))
        } else {
            scope
        }
    }

    /// The `github` context of a step.
    pub(super) fn github(&self, frame: &Frame, id: &str) -> Object {
        let mut github = self.constant.github.clone();
        github.insert("job", self.job.id.clone());
        github.insert("action", id);
        for (name, path) in self.files_of_next() {
            github.insert(name, path);
        }
        if let Some(action) = &frame.action {
            github.insert("action_path", action.path.clone());
            github.insert("action_repository", action.repository.clone());
            github.insert("action_ref", action.reference.clone());
            let status = match frame.standing {
                Standing::Well => "success",
                Standing::Failed => "failure",
            };
            github.insert("action_status", status);
        }
        github
    }

    fn job_context(&self) -> Value {
        let mut job = Object::new();
        let status = match self.status(self.state.standing) {
            Status::Failure => "failure",
            Status::Cancelled => "cancelled",
            Status::Success | Status::Skipped => "success",
        };
        job.insert("status", status);
        job.insert("container", self.container_context());
        job.insert("services", self.services_context());
        job.into()
    }

    /// The workspace, as steps see it.
    pub(super) fn workspace(&self) -> String {
        let workspace = super::paths::workspace(&self.run.repository_name());
        self.view.seen(&workspace)
    }

    /// Begins a step: its record and its log.
    pub(super) fn begin(&self, at: StepAt) -> Result<StepLog<'r>, Fault> {
        let recorder = self.run.recorder;
        let log = recorder.open_log(at)?;
        recorder.step(at, |step| step.started_at_ms = Some(now_ms()));
        let StepAt { job, step } = at;
        recorder.change(Change::StepStarted { job, step }, |_| {});
        Ok(log)
    }

    /// Ends a step.
    pub(super) fn end(
        &self,
        log: &StepLog<'_>,
        done: &Done,
        conclusion: Outcome,
    ) -> Result<(), Fault> {
        let at = log.at();
        if let Some(text) = done.end.as_ref().and_then(End::why_failed) {
            log.say(Kind::Error, self.run.mask(&text))?;
            self.annotate(at, Level::Error, &text);
        }
        if done.outcome != conclusion {
            let text = "The step failed, and may fail: continue-on-error";
            log.say(Kind::Warning, text)?;
        }
        log.finish()?;
        let StepAt { job, step } = at;
        let what = Change::StepEnded { job, step };
        let ended = (done.end.as_ref()).map(|end| end.shown(&self.run.masks()));
        let reason = done.reason.as_deref().map(|reason| self.run.mask(reason));
        self.run.recorder.change(what, |run| {
            let step = &mut run.jobs[job].steps[step];
            step.outcome = Some(done.outcome);
            step.conclusion = Some(conclusion);
            step.ended = ended;
            step.reason = reason;
            step.ended_at_ms = Some(now_ms());
        });
        Ok(())
    }

    /// Ends a step that vmint or the machine has failed.
    pub(super) fn end_with_fault(&self, log: &StepLog<'_>, fault: &Fault) {
        let text = format!("vmint: {}", fault.message);
        // The log's own disk may be what has failed.
        let _ = log.say(Kind::Error, self.run.mask(&text));
        let _ = log.finish();
        let StepAt { job, step } = log.at();
        let what = Change::StepEnded { job, step };
        let fault = self.run.mask_fault(fault);
        self.run.recorder.change(what, |run| {
            let step = &mut run.jobs[job].steps[step];
            step.ended = Some(StepEnd::Fault { fault });
            step.ended_at_ms = Some(now_ms());
        });
    }

    /// Notes that a step was not run: for its condition, or for another reason.
    pub(super) fn skip(&self, at: StepAt, reason: Option<&'static str>) {
        let StepAt { job, step } = at;
        let recorder = self.run.recorder;
        recorder.change(Change::StepStarted { job, step }, |run| {
            let step = &mut run.jobs[job].steps[step];
            step.outcome = Some(Outcome::Skipped);
            step.conclusion = Some(Outcome::Skipped);
            step.reason = reason.map(Masked::from);
        });
        recorder.change(Change::StepEnded { job, step }, |_| {});
    }

    /// Adds an annotation to a step.
    pub(super) fn annotate(&self, at: StepAt, level: Level, message: &str) {
        self.keep_annotation(at, Annotation::new(level, self.run.mask(message)));
    }

    /// Keeps an annotation, unless there are too many.
    pub(super) fn keep_annotation(&self, at: StepAt, annotation: Annotation) {
        /// GitHub keeps 10 of each level of a step; a page has room for more.
        const KEPT: usize = 100;
        self.run.recorder.step(at, |step| {
            if step.annotations.len() < KEPT {
                step.annotations.push(annotation);
            } else {
                step.annotations_dropped += 1;
            }
        });
    }

    /// A step's record before it begins.
    pub(super) fn planned_step(kind: StepKind, name: impl Into<Masked>) -> StepRecord {
        StepRecord {
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

    /// Notes how a step of a frame ended.
    pub(super) fn settle(
        frame: &mut Frame,
        id: Option<&str>,
        outcome: Outcome,
        conclusion: Outcome,
        outputs: IndexMap<String, String>,
    ) {
        if conclusion == Outcome::Failure {
            frame.standing = Standing::Failed;
        }
        if let Some(id) = id {
            let result = StepResult {
                outcome,
                conclusion,
                outputs,
            };
            frame.steps.insert(id.to_owned(), result);
        }
    }

    /// Registers a `post`. What is known anew of one takes the place of what was known.
    pub(super) fn register(&mut self, post: Post) {
        let mut posts = self.state.posts.iter_mut();
        match posts.find(|known| known.step == post.step) {
            Some(known) => *known = post,
            None => self.state.posts.push(post),
        }
    }
}
