//! A job from its set-up to its clean-up.

use super::instance::{Done, Frame, Instance, Trouble};
use super::request::Moments;
use super::set_up::Begun;
use super::state::{JobResult, Standing};
use crate::expr::{self, ContextName, Field, availability};
use crate::files::OutputBudget;
use crate::observe::Change;
use crate::record::{Outcome, StepKind, StepRecord};
use indexmap::IndexMap;
use vmint_model::Fault;
use vmint_model::now_ms;

impl<'r> Instance<'r> {
    /// Runs the job; from the step with this index on, when the machine is in the moment before it. Nothing, when vmint or
    /// the machine has failed.
    pub(super) async fn run(mut self, from: Option<usize>) -> Option<JobResult> {
        let mut frame = self.job_frame();
        let steps = self.steps(&mut frame, from).await;
        let steps = match steps {
            Ok(()) => self.freeze_failure(&mut frame).await,
            other => other,
        };
        let ended = match steps {
            Ok(()) => self.posts(&mut frame).await,
            other => other,
        };
        let ended = match ended {
            Ok(()) => self.stop_containers(&mut frame).await,
            other => other,
        };
        let ended = match ended {
            Ok(()) => self.clean_up(&mut frame).await,
            other => other,
        };
        match ended {
            Ok(()) => Some(self.conclude(frame)),
            Err(fault) => {
                self.wire.session.lose();
                self.run.lost(self.tell.at, &fault);
                None
            }
        }
    }

    async fn steps(&mut self, frame: &mut Frame, from: Option<usize>) -> Result<(), Fault> {
        let pres = match from {
            None => self.pres(),
            Some(_) => Vec::new(),
        };
        self.plan_steps(self.containers(from), &pres);
        if let Some(from) = from {
            self.note_changes(from);
        }
        if self.set_up(frame, from).await? == Begun::NoSteps {
            let planned = self.positions.containers.iter();
            for at in planned
                .chain(&self.positions.pres)
                .chain(&self.positions.steps)
            {
                self.tell
                    .skip(*at, Some("the environment of the job cannot be evaluated"));
            }
            return Ok(());
        }
        self.start_containers(frame).await?;
        for (pre, at) in pres.into_iter().zip(self.positions.pres.clone()) {
            self.pre(pre, at, frame).await?;
        }
        for index in 0..self.body.steps.len() {
            if from.is_some_and(|from| index < from) {
                self.take_over(index, frame);
                continue;
            }
            let before = frame.standing;
            self.main_step(index, frame).await?;
            if before == Standing::Well && frame.standing == Standing::Failed {
                self.pause_at(index, frame).await?;
            }
        }
        Ok(())
    }

    /// The last step: what the settings want to be done.
    async fn clean_up(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let record = StepRecord::planned(StepKind::CleanUp, "Complete job");
        let at = self.tell.plan(record);
        if self.wire.cancel.is_hastened() {
            return Ok(());
        }
        let log = self.tell.begin(at)?;
        let done = self.clean_up_body(&log).await;
        let done = self.done(done, &log)?;
        self.tell.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    /// What comes of the job.
    fn conclude(&mut self, frame: Frame) -> JobResult {
        let mut reason = None;
        let outcome = if self.is_paused_here() {
            Outcome::Failure
        } else if let Some(by) = self.wire.cancel.by() {
            reason = Some(by);
            Outcome::Cancelled
        } else if let Some(over) = self.wire.ran_out() {
            let limit = crate::limits::text(over.limit);
            let whose = super::command::whose(over.whose);
            reason = Some(format!("the {whose} ran past its time limit of {limit}"));
            Outcome::Cancelled
        } else if frame.standing == Standing::Failed {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        let scope = self.scope(&frame, &self.state.env, "");
        let mut scope = scope.limited_to(&availability(Field::JobOutput));
        scope.set(
            ContextName::Env,
            super::contexts::env_context(&self.state.env),
        );
        let mut outputs = IndexMap::new();
        let mut outcome = outcome;
        for (name, text) in &self.body.outputs {
            match expr::interpolate(&text.text, &scope) {
                // As on GitHub: a secret is not handed on to other jobs.
                Ok(value) if self.tell.masks().finds_in(&value) => {
                    let text = format!(
                        "the output `{name}` of {} may hold a secret and is not handed on",
                        self.key
                    );
                    self.tell.note(&text);
                    outputs.insert(name.clone(), String::new());
                }
                Ok(value) => drop(outputs.insert(name.clone(), value)),
                Err(error) => {
                    reason = Some(format!("the output `{name}` cannot be evaluated: {error}"));
                    outcome = Outcome::Failure;
                }
            }
        }
        let mut budget = OutputBudget::of_job();
        let too_large = outputs
            .iter()
            .find_map(|(name, value)| budget.take(name, value).err());
        if let Some(error) = too_large {
            reason = Some(error.to_string());
            outcome = Outcome::Failure;
            outputs.clear();
        }
        let shown = outputs.iter().map(|(name, value)| {
            let masks = self.tell.masks();
            (masks.mask(name), masks.mask(value))
        });
        let shown: Vec<_> = shown.collect();
        let reason = reason.map(|reason| self.tell.mask(&reason));
        let at = self.tell.at.0;
        let may_fail = self
            .tell
            .recorder
            .change(Change::JobEnded { job: at }, |run| {
                let job = &mut run.jobs[at];
                job.outcome = Some(outcome);
                job.reason = reason.or(job.reason.take());
                job.outputs = shown;
                job.ended_at_ms = Some(now_ms());
                job.continue_on_error
            });
        JobResult {
            outcome: match outcome {
                Outcome::Failure if may_fail => Outcome::Success,
                outcome => outcome,
            },
            outputs,
        }
    }

    /// A step that was done in the run that this one continues.
    fn take_over(&mut self, index: usize, frame: &Frame) {
        let step = &self.body.steps[index];
        let result = step.id.as_ref().and_then(|id| frame.steps.get(id));
        let outcome = result.map_or(Outcome::Success, |r| r.outcome);
        let conclusion = result.map_or(Outcome::Success, |r| r.conclusion);
        let at = self.positions.steps[index];
        let earlier = self.run.earlier_step(&self.key, index);
        self.tell.recorder.step(at, |step| {
            if let Some(earlier) = earlier {
                // As it was; its log stays with the run that has run it.
                let number = step.number;
                *step = earlier;
                step.number = number;
                step.log = None;
                step.log_bytes = 0;
                step.summary = None;
            } else {
                step.outcome = Some(outcome);
                step.conclusion = Some(conclusion);
            }
        });
    }

    async fn freeze_failure(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let wanted = self.run.request.options.moments != Moments::None;
        // A run that is paused has frozen it before.
        if frame.standing == Standing::Failed && wanted && self.run.paused.get().is_none() {
            self.freeze_end(frame).await?;
        }
        Ok(())
    }

    async fn clean_up_body(&mut self, log: &super::recorder::StepLog<'r>) -> Result<Done, Trouble> {
        let end = self.tidy(log).await?;
        Ok(Done::of(end, IndexMap::new()))
    }
}
