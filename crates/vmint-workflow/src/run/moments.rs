//! Moments that can be gone back to: the machine frozen, and what the job knew.

use super::instance::{Frame, Instance};
use super::recorder::StepAt;
use super::request::{Moments, OnFailure};
use super::state::Saved;
use crate::record::{RunEnd, StepSnapshot};
use crate::shell_state::{Container, ShellState};
use crate::spec::{Map, Step, StepBody, Text};
use indexmap::IndexMap;
use sha2::{Digest, Sha256};
use std::time::Instant;
use vmint_model::{ErrorKind, Fault, Name};

impl Instance<'_> {
    /// Freezes the moment before a step, if that is asked for.
    pub(super) async fn freeze_before(
        &mut self,
        index: usize,
        at: StepAt,
        frame: &Frame,
        env: &IndexMap<String, String>,
        cwd: String,
    ) -> Result<(), Fault> {
        if self.run.request.options.moments != Moments::Steps {
            return Ok(());
        }
        let number = self.tell.recorder.step(at, |step| step.number);
        let snapshot = self.freeze(number).await?;
        self.save(number, index, frame, env, cwd)?;
        self.tell
            .recorder
            .step(at, |step| step.snapshot = Some(snapshot));
        Ok(())
    }

    /// Freezes the moment after the last step, when one has failed.
    pub(super) async fn freeze_end(&mut self, frame: &Frame) -> Result<(), Fault> {
        let snapshot = self.freeze(crate::shell_state::AT_FAILURE).await?;
        let env = self.state.env.clone();
        let (number, done, cwd) = (
            crate::shell_state::AT_FAILURE,
            self.body.steps.len(),
            self.workspace(),
        );
        self.save(number, done, frame, &env, cwd)?;
        self.tell
            .recorder
            .job(self.tell.at, |job| job.failed = Some(snapshot));
        Ok(())
    }

    /// Ends the run here if a failure is to pause it: the moment is frozen, and nothing more is run.
    pub(super) async fn pause_at(&mut self, index: usize, frame: &Frame) -> Result<(), Fault> {
        let may_fail = self
            .tell
            .recorder
            .job(self.tell.at, |job| job.continue_on_error);
        let wanted = self.run.request.options.on_failure == OnFailure::Pause;
        if !wanted || may_fail || self.wire.cancel.by().is_some() {
            return Ok(());
        }
        self.freeze_end(frame).await?;
        let at = self.positions.steps[index];
        let (number, name) = self
            .tell
            .recorder
            .step(at, |step| (step.number, step.name.clone()));
        // A shell begins as the step did, not as the next one would.
        let folder = self.tell.recorder.folder();
        let shell = ShellState::read(folder, self.tell.at.0, number);
        let kept = shell.and_then(|shell| match shell {
            Some(shell) => shell.write(folder, self.tell.at.0, crate::shell_state::AT_FAILURE),
            None => Ok(()),
        });
        kept.map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        let end = RunEnd::Paused {
            job: self.tell.recorder.job(self.tell.at, |job| job.key.clone()),
            step: number,
            name,
        };
        // Another job may have been faster: then this one ends with it.
        if self.run.paused.set(end).is_ok() {
            self.run.cancel.hasten("the run is paused");
        }
        Ok(())
    }

    /// Whether the run is paused at a step of this job.
    pub(super) fn is_paused_here(&self) -> bool {
        let key = self.tell.recorder.job(self.tell.at, |job| job.key.clone());
        matches!(self.run.paused.get(), Some(RunEnd::Paused { job, .. }) if *job == key)
    }

    async fn freeze(&self, number: u32) -> Result<StepSnapshot, Fault> {
        let (run, job) = (&self.run.request.id, self.tell.at.0 + 1);
        let name: Name = format!("{run}-{job}-{number}")
            .parse()
            .expect("a legal name");
        let began = Instant::now();
        let snapshot = self.wire.snapshot(&name).await?;
        Ok(StepSnapshot {
            name,
            pause_ms: snapshot.pause_ms,
            took_ms: began.elapsed().as_secs_f64() * 1000.0,
            size: snapshot.size,
        })
    }

    /// Writes down what the job knows, and how a shell begins there.
    fn save(
        &mut self,
        number: u32,
        index: usize,
        frame: &Frame,
        env: &IndexMap<String, String>,
        cwd: String,
    ) -> Result<(), Fault> {
        self.state.steps.clone_from(&frame.steps);
        self.state.standing = frame.standing;
        // Those that the user gives are given again.
        let given = &self.run.request.secrets;
        let masks = self.tell.masks();
        let added = masks
            .secrets()
            .filter(|mask| given.iter().all(|(_, secret)| secret.trim() != *mask));
        self.state.masks = added.map(str::to_owned).collect();
        drop(masks);
        let saved = Saved {
            run: self.run.request.id.clone(),
            job: self.key.clone(),
            done: index,
            texts: self.step_texts(index),
            state: self.state.clone(),
            results: self.run.results().clone(),
        };
        // Only what the steps themselves have set: what vmint sets names files of steps that are over.
        let shell = ShellState {
            env: env.clone().into_iter().collect(),
            path: self.search_path(env),
            cwd,
            user: None,
            container: self.container_of_shell(),
        };
        let folder = self.tell.recorder.folder();
        let kept = shell.write(folder, self.tell.at.0, number);
        let kept = kept.and_then(|()| saved.write(folder, self.tell.at.0, number));
        kept.map_err(|e| {
            let fault = Fault::from_error(ErrorKind::Host, &e);
            fault.context(format!("cannot write into {}", folder.display()))
        })
    }

    fn container_of_shell(&self) -> Option<Container> {
        let inside = self.inside().ok()?;
        Some(Container::new(self.engine.as_ref()?, inside))
    }

    /// Says which steps before the one that a run goes on from are not what they were: they are not run again.
    pub(super) fn note_changes(&self, from: usize) {
        let Some(resume) = self.run.resume_of(&self.key) else {
            return;
        };
        let (then, now) = (&resume.saved.texts, self.step_texts(from));
        let changed = (0..from).filter(|&n| then.get(n) != now.get(n));
        let names = changed.map(|n| match self.positions.steps.get(n) {
            Some(at) => self
                .tell
                .recorder
                .step(*at, |step| format!("{} ({})", step.number, step.name)),
            None => "one that no longer exists".to_owned(),
        });
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            let text = format!(
                "of {}, steps that are not run again have changed since run {}: {}",
                self.key,
                resume.record.id,
                names.join(", ")
            );
            self.tell.note(&text);
        }
    }

    /// What the first steps of the file are, so that a change can be told.
    fn step_texts(&self, count: usize) -> Vec<String> {
        let steps = self.body.steps.iter().take(count);
        steps.map(|step| digest(&describe(step))).collect()
    }
}

/// All of a step that makes a difference to what it does.
fn describe(step: &Step) -> String {
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.text.clone());
    let map = |map: &Map| match map {
        Map::Entries(entries) => {
            let entries = entries
                .iter()
                .map(|(name, text)| (name.clone(), text.text.clone()));
            entries.collect()
        }
        Map::Expression(text) => vec![(String::new(), text.text.clone())],
    };
    let body = match &step.body {
        StepBody::Run {
            script,
            shell,
            working_directory,
        } => {
            format!("{:?}", (&script.text, text(shell), text(working_directory)))
        }
        StepBody::Uses { uses, with } => format!("{:?}", (&uses.text, map(with))),
    };
    format!(
        "{:?}",
        (&step.id, text(&step.condition), map(&step.env), body)
    )
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
