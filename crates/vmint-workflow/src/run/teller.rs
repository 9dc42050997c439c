//! The telling of a job: what its steps do goes into the record, their logs, and to whoever watches; all of it masked.

use super::Run;
use super::end::End;
use super::instance::Done;
use super::recorder::{JobAt, Recorder, StepAt, StepLog};
use crate::log::Kind;
use crate::mask::{Masked, Masks};
use crate::observe::Change;
use crate::record::{Annotation, Level, MaskedFault, Outcome, StepEnd, StepRecord};
use crate::trace::{Activity, Doing, Within};
use std::sync::MutexGuard;
use vmint_model::Fault;
use vmint_model::now_ms;

/// Tells of a job.
#[derive(Clone, Copy)]
pub(super) struct Teller<'r> {
    run: &'r Run<'r>,
    pub recorder: &'r Recorder<'r>,
    /// The job, as it stands in the record.
    pub at: JobAt,
}

/// Steps of a job, as they stand in the record.
#[derive(Debug)]
pub(super) struct Positions {
    /// The set-up.
    pub set_up: StepAt,
    /// The start of the containers, if there are any.
    pub containers: Option<StepAt>,
    /// `pre`s.
    pub pres: Vec<StepAt>,
    /// Steps of the file.
    pub steps: Vec<StepAt>,
}

impl Positions {
    /// Before anything is planned.
    pub(super) fn new(at: JobAt) -> Self {
        Self {
            set_up: StepAt { job: at.0, step: 0 },
            containers: None,
            pres: Vec::new(),
            steps: Vec::new(),
        }
    }
}

impl<'r> Teller<'r> {
    pub(super) fn new(run: &'r Run<'r>, at: JobAt) -> Self {
        Self {
            run,
            recorder: run.recorder,
            at,
        }
    }

    /// Hides secrets.
    pub(super) fn mask(&self, text: &str) -> Masked {
        self.run.mask(text)
    }

    /// Hides secrets in what is told of a failure.
    pub(super) fn mask_fault(&self, fault: &Fault) -> MaskedFault {
        self.run.mask_fault(fault)
    }

    /// The job's secrets.
    pub(super) fn masks(&self) -> MutexGuard<'r, Masks> {
        self.run.masks()
    }

    /// Says something that should be known, once, and keeps it.
    pub(super) fn note(&self, text: &str) {
        self.recorder.note(self.mask(text));
    }

    /// Begins something that the job does now.
    pub(super) fn trace(&self, doing: Doing, what: &str) -> Activity<'r> {
        let within = Within::Job(self.at.0);
        self.recorder.tracer().begin(within, doing, self.mask(what))
    }

    /// Adds a step to those that are to come.
    pub(super) fn plan(&self, step: StepRecord) -> StepAt {
        self.recorder.add_step(self.at, step)
    }

    /// Begins a step: its record and its log.
    pub(super) fn begin(&self, at: StepAt) -> Result<StepLog<'r>, Fault> {
        let recorder = self.recorder;
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
            log.say(Kind::Error, self.mask(&text))?;
            self.annotate(at, Level::Error, &text);
        }
        if done.outcome != conclusion {
            let text = "The step failed, and may fail: continue-on-error";
            log.say(Kind::Warning, text)?;
        }
        log.finish()?;
        log.ended(conclusion.as_str());
        let StepAt { job, step } = at;
        let what = Change::StepEnded { job, step };
        let ended = (done.end.as_ref()).map(|end| end.shown(&self.masks()));
        let reason = done.reason.as_deref().map(|reason| self.mask(reason));
        self.recorder.change(what, |run| {
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
        let _ = log.say(Kind::Error, self.mask(&text));
        let _ = log.finish();
        log.ended("fault");
        let StepAt { job, step } = log.at();
        let what = Change::StepEnded { job, step };
        let fault = self.mask_fault(fault);
        self.recorder.change(what, |run| {
            let step = &mut run.jobs[job].steps[step];
            step.ended = Some(StepEnd::Fault { fault });
            step.ended_at_ms = Some(now_ms());
        });
    }

    /// Notes that a step was not run: for its condition, or for another reason.
    pub(super) fn skip(&self, at: StepAt, reason: Option<&'static str>) {
        let StepAt { job, step } = at;
        let recorder = self.recorder;
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
        self.keep_annotation(at, Annotation::new(level, self.mask(message)));
    }

    /// Keeps an annotation, unless there are too many.
    pub(super) fn keep_annotation(&self, at: StepAt, annotation: Annotation) {
        /// GitHub keeps 10 of each level of a step; a page has room for more.
        const KEPT: usize = 100;
        self.recorder.step(at, |step| {
            if step.annotations.len() < KEPT {
                step.annotations.push(annotation);
            } else {
                step.annotations_dropped += 1;
            }
        });
    }
}
