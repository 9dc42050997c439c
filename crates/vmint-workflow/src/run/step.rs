//! A step: whether it runs, with which environment and for how long; and how what it did counts.

use super::containers::Containers;
use super::end::End;
use super::instance::{Done, Frame, Instance, Trouble};
use super::jobs::Counts;
use super::recorder::{StepAt, StepLog};
use super::script::Within;
use super::stage::Pre;
use crate::expr::{self, ContextName, Scope, Status, Value};
use crate::limits::{self, Deadline};
use crate::log::Kind;
use crate::record::{Limit, Outcome, StepKind, StepRecord};
use crate::spec::{Step, StepBody};
use indexmap::IndexMap;
use std::time::Instant;
use vmint_model::{ErrorKind, Fault};

/// A step that is to run.
struct Prepared {
    scope: Scope,
    /// The environment of job, frame and step.
    env: IndexMap<String, String>,
    /// Frame's and step's alone.
    own: IndexMap<String, String>,
    id: String,
}

/// What the body of a step needs.
pub(super) struct Surroundings<'l, 'r> {
    /// What its expressions see.
    pub scope: Scope,
    /// The environment of job, frame and step.
    pub env: IndexMap<String, String>,
    /// `github.action`.
    pub id: String,
    /// Where it writes to.
    pub log: &'l StepLog<'r>,
    /// What of it the step itself has, and the steps around it.
    pub own: IndexMap<String, String>,
    /// When the step's own time is over.
    pub limit: Option<Deadline>,
    /// Its index path.
    pub path: Vec<usize>,
}

impl<'r> Instance<'r> {
    /// Plans the steps, so that those to come can be seen.
    pub(super) fn plan_steps(&mut self, containers: Containers, pres: &[Pre<'r>]) {
        let add = |record| self.tell.plan(record);
        self.positions.set_up = add(StepRecord::planned(StepKind::SetUp, "Set up job"));
        self.positions.containers = (containers == Containers::Start).then(|| {
            add(StepRecord::planned(
                StepKind::SetUp,
                "Initialize containers",
            ))
        });
        let pres = pres.iter().map(|pre| {
            let mut record = StepRecord::planned(StepKind::Pre, self.tell.mask(&pre.name()));
            record.line = Some(pre.step().spot.line);
            add(record)
        });
        let pres = pres.collect();
        let steps = self.body.steps.iter().map(|step| {
            let mut record = StepRecord::planned(StepKind::Main, self.tell.mask(&raw_name(step)));
            record.id = step.id.as_deref().map(|id| self.tell.mask(id));
            record.line = Some(step.spot.line);
            add(record)
        });
        self.positions.steps = steps.collect();
        self.positions.pres = pres;
    }

    /// Runs a step of the file.
    ///
    /// # Errors
    /// When vmint or the machine fails; nothing more of the job can be run then.
    pub(super) async fn main_step(&mut self, index: usize, frame: &mut Frame) -> Result<(), Fault> {
        if self.wire.cancel.is_hastened() {
            // Not reached; nothing is said of its condition.
            return Ok(());
        }
        self.state.standing = frame.standing;
        let step = &self.body.steps[index];
        let at = self.positions.steps[index];
        let id = self.action_id(step);
        let mut prepared = match self.prepare(step, frame, id).await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                self.tell.skip(at, self.why_skipped(step, frame));
                let skipped = Outcome::Skipped;
                Self::settle(frame, step.id.as_deref(), skipped, skipped, IndexMap::new());
                return Ok(());
            }
            Err(trouble) => {
                let log = self.tell.begin(at)?;
                let done = self.done(Err(trouble), &log)?;
                self.tell.end(&log, &done, done.outcome)?;
                let outcome = done.outcome;
                Self::settle(frame, step.id.as_deref(), outcome, outcome, done.outputs);
                return Ok(());
            }
        };
        self.name_step(step, at, &mut prepared.scope).await;
        let cwd = self.directory_of(step, &mut prepared.scope).await;
        self.freeze_before(index, at, frame, &prepared.env, cwd)
            .await?;
        let log = self.tell.begin(at)?;
        let performed = self
            .perform(step, frame, prepared, &log, vec![index], None)
            .await;
        let (done, conclusion) = match performed {
            Ok(result) => result,
            Err(trouble) => {
                let done = self.done(Err(trouble), &log)?;
                let outcome = done.outcome;
                (done, outcome)
            }
        };
        self.tell.end(&log, &done, conclusion)?;
        Self::settle(
            frame,
            step.id.as_deref(),
            done.outcome,
            conclusion,
            done.outputs,
        );
        Ok(())
    }

    /// Runs a step of a composite action. What it says goes into the log of the step that uses the action.
    pub(super) async fn inner_step(
        &mut self,
        step: &'r Step,
        frame: &mut Frame,
        log: &StepLog<'r>,
        path: Vec<usize>,
        limit: Option<Deadline>,
    ) -> Result<(Outcome, Option<String>), Trouble> {
        if self.wire.cancel.is_hastened() {
            return Ok((Outcome::Cancelled, None));
        }
        let id = self.action_id(step);
        let Some(mut prepared) = self.prepare(step, frame, id).await? else {
            let skipped = Outcome::Skipped;
            Self::settle(frame, step.id.as_deref(), skipped, skipped, IndexMap::new());
            return Ok((skipped, None));
        };
        if let Some(name) = &step.name {
            let name = self.text(&mut prepared.scope, name).await?;
            log.say(Kind::Command, self.tell.mask(&name))?;
        }
        let performed = self.perform(step, frame, prepared, log, path, limit);
        let (done, conclusion) = performed.await?;
        let why = done.end.as_ref().and_then(End::why_failed);
        if let Some(text) = &why {
            log.say(Kind::Error, self.tell.mask(text))?;
            self.tell
                .annotate(log.at(), crate::record::Level::Error, text);
        }
        let outcome = done.outcome;
        Self::settle(frame, step.id.as_deref(), outcome, conclusion, done.outputs);
        Ok((conclusion, why.or(done.reason)))
    }

    /// Evaluates a step's environment, and whether it is to run; nothing if not.
    async fn prepare(
        &mut self,
        step: &Step,
        frame: &Frame,
        id: String,
    ) -> Result<Option<Prepared>, Trouble> {
        let mut env = self.state.env.clone();
        env.extend(frame.env.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut scope = self.scope(frame, &env, &id);
        let condition = step.condition.as_ref().map(|text| text.text.as_str());
        // A step that is not to run is not to fail either over an environment that it would have.
        if condition.is_none() && !self.condition(&mut scope, None).await? {
            return Ok(None);
        }
        let mut own = frame.env.clone();
        own.extend(self.map(&mut scope, &step.env).await?);
        env.extend(own.clone());
        scope.set(ContextName::Env, super::contexts::env_context(&env));
        let runs = self.condition(&mut scope, condition).await?;
        Ok(runs.then_some(Prepared {
            scope,
            env,
            own,
            id,
        }))
    }

    /// Why a step was not run, if it was not for a condition of its own.
    fn why_skipped(&self, step: &Step, frame: &Frame) -> Option<&'static str> {
        let condition = step.condition.as_ref().map(|text| text.text.as_str());
        match self.status(frame.standing) {
            _ if !expr::implies_success(condition) => None,
            Status::Failure => Some("skipped after a failure"),
            Status::Cancelled => Some("skipped after a cancellation"),
            Status::Success | Status::Skipped => None,
        }
    }

    /// Where a step runs, for a shell before it. One that cannot be told is told when the step runs.
    async fn directory_of(&mut self, step: &Step, scope: &mut Scope) -> String {
        let own = match &step.body {
            StepBody::Run {
                working_directory, ..
            } => working_directory.as_ref(),
            StepBody::Uses { .. } => return self.workspace(),
        };
        let directory = self.directory(scope, own, Within::Job).await;
        directory.unwrap_or_else(|_| self.workspace())
    }

    async fn name_step(&mut self, step: &Step, at: StepAt, scope: &mut Scope) {
        let name = match &step.name {
            Some(name) => self.text(scope, name).await.ok(),
            None => match &step.body {
                // The first line, with its expressions replaced, as GitHub shows it.
                StepBody::Run { script, .. } => {
                    let name = self.text(scope, script).await.ok();
                    name.map(|script| run_name(&script))
                }
                StepBody::Uses { .. } => None,
            },
        };
        if let Some(name) = name {
            let name = self.tell.mask(&name);
            self.tell.recorder.step(at, |step| step.name = name);
        }
    }

    /// Runs a step that is to run.
    async fn perform(
        &mut self,
        step: &'r Step,
        frame: &mut Frame,
        prepared: Prepared,
        log: &StepLog<'r>,
        path: Vec<usize>,
        outer: Option<Deadline>,
    ) -> Result<(Done, Outcome), Trouble> {
        let Prepared {
            mut scope,
            env,
            own,
            id,
        } = prepared;
        let may_fail = self
            .flag(
                &mut scope,
                step.continue_on_error.as_ref(),
                "continue-on-error",
            )
            .await?;
        let counts = if may_fail {
            Counts::NotAtAll
        } else {
            Counts::Fully
        };
        let limit = match self.limit_of(step, &mut scope).await {
            Err(Trouble::Step(reason)) => {
                let done = Done::invalid(reason);
                let conclusion = conclude(&done, counts);
                return Ok((done, conclusion));
            }
            other => other?,
        };
        let around = Surroundings {
            scope,
            env,
            id,
            log,
            limit: limit
                .into_iter()
                .chain(outer)
                .min_by_key(|deadline| deadline.at),
            own,
            path,
        };
        let done = match &step.body {
            StepBody::Run {
                script,
                shell,
                working_directory,
            } => {
                self.script(
                    script,
                    shell.as_ref(),
                    working_directory.as_ref(),
                    frame,
                    around,
                )
                .await
            }
            StepBody::Uses { uses, with } => {
                // Actions hold steps that use actions.
                Box::pin(self.uses(uses, with, frame, around)).await
            }
        };
        let done = match done {
            Err(Trouble::Step(reason)) => Done::invalid(reason),
            Err(Trouble::Ended(end)) => Done::of(end, IndexMap::new()),
            other => other?,
        };
        if done.outcome == Outcome::Failure {
            self.tell_empty_token(step, log)?;
        }
        let conclusion = conclude(&done, counts);
        Ok((done, conclusion))
    }

    /// When a step's own time will be over.
    pub(super) async fn limit_of(
        &mut self,
        step: &Step,
        scope: &mut Scope,
    ) -> Result<Option<Deadline>, Trouble> {
        let text = step.timeout_minutes.as_ref();
        let Some(text) = self.optional(scope, text).await? else {
            return Ok(None);
        };
        let limit = limits::minutes(Value::from(text).to_number());
        let limit = limit.map_err(|e| Trouble::Step(e.to_string()))?;
        Ok(Some(Deadline::new(Limit::Step, Instant::now(), limit)))
    }

    /// What became of a step, when its trouble was its own.
    pub(super) fn done(
        &self,
        done: Result<Done, Trouble>,
        log: &StepLog<'_>,
    ) -> Result<Done, Fault> {
        match done {
            Ok(done) => Ok(done),
            Err(Trouble::Step(reason)) => Ok(Done::invalid(reason)),
            Err(Trouble::Ended(end)) => Ok(Done::of(end, IndexMap::new())),
            // In haste, a transfer or a call of the engine is cut off as the step's command is: it was cancelled.
            Err(Trouble::Fault(fault))
                if fault.kind == ErrorKind::Interrupted && self.wire.cancel.is_hastened() =>
            {
                Ok(Done::of(End::Cancelled, IndexMap::new()))
            }
            Err(Trouble::Fault(fault)) => {
                self.tell.end_with_fault(log, &fault);
                Err(fault)
            }
        }
    }

    /// `github.action`: the step's id, or a name that no other step has.
    fn action_id(&mut self, step: &Step) -> String {
        let base = base_id(step);
        if step.id.is_some() {
            return base;
        }
        self.state.actions += 1;
        match self.state.actions {
            1 => base,
            n => format!("{base}_{n}"),
        }
    }

    /// How a frame of a job begins: as the job's state says.
    pub(super) fn job_frame(&mut self) -> Frame {
        Frame {
            inputs: self.constant.inputs.clone(),
            steps: std::mem::take(&mut self.state.steps),
            standing: self.state.standing,
            env: IndexMap::new(),
            action: None,
            path: Vec::new(),
        }
    }
}

/// The step's id, or what its name begins with.
pub(super) fn base_id(step: &Step) -> String {
    match (&step.id, &step.body) {
        (Some(id), _) => id.clone(),
        (None, StepBody::Run { .. }) => "__run".to_owned(),
        (None, StepBody::Uses { uses, .. }) => {
            let name = uses.text.split('@').next().unwrap_or_default();
            let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            format!("__{}", name.chars().map(legal).collect::<String>())
        }
    }
}

/// How a step counts, when it may fail or not.
pub(super) fn conclude(done: &Done, counts: Counts) -> Outcome {
    match (done.outcome, counts) {
        (Outcome::Failure, Counts::NotAtAll) => Outcome::Success,
        (outcome, _) => outcome,
    }
}

/// What a step is called before its expressions are evaluated.
pub(super) fn raw_name(step: &Step) -> String {
    match (&step.name, &step.body) {
        (Some(name), _) => name.text.clone(),
        (None, StepBody::Run { script, .. }) => run_name(&script.text),
        (None, StepBody::Uses { uses, .. }) => format!("Run {}", uses.text),
    }
}

/// As GitHub shows a script without a name.
fn run_name(script: &str) -> String {
    /// Longer lines tell no more.
    const SHOWN: usize = 120;
    let line = script.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.unwrap_or_default();
    let mut name: String = line.chars().take(SHOWN).collect();
    if name.len() < line.len() {
        name.push('…');
    }
    format!("Run {name}")
}
