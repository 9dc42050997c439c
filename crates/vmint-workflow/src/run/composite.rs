//! Composite actions: steps with inputs and outputs of their own.

use super::action_parts::Program;
use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::recorder::StepLog;
use super::state::{Standing, Steps};
use super::step::Surroundings;
use crate::check::{LoadedAction, Origin, Resolved};
use crate::expr::{Object, Value};
use crate::limits::Deadline;
use crate::log::Kind;
use crate::record::Outcome;
use crate::spec::{Step, StepBody};
use indexmap::IndexMap;

/// How the steps of an action ended.
#[derive(Default)]
struct Ended {
    cancelled: bool,
    /// Which failed first, and how.
    failed: Option<String>,
}

impl<'r> Instance<'r> {
    /// Runs the steps of a composite action.
    pub(super) async fn composite(
        &mut self,
        action: &'r LoadedAction,
        steps: &'r [Step],
        place: ActionPlace,
        inputs: IndexMap<String, String>,
        outer: &Frame,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        match action.origin {
            Origin::Mirror => self.bring(action, &place).await?,
            Origin::Local if steps.iter().any(|step| self.has_pre(step)) => {
                let text = "`pre` of actions inside of an action of the repository itself is not run, as on GitHub";
                around.log.say(Kind::Warning, text)?;
            }
            Origin::Local => {}
        }
        let inputs: Object = inputs.into_iter().collect();
        let mut env = outer.env.clone();
        env.extend(around.own);
        let mut frame = Frame {
            inputs: Value::from(inputs),
            steps: Steps::new(),
            standing: Standing::Well,
            env,
            action: Some(place),
            path: around.path,
        };
        let mut ended = Ended::default();
        let ran = self
            .inner_steps(steps, &mut frame, around.log, around.limit, &mut ended)
            .await;
        self.keep_inner(&frame);
        ran?;
        let mut env = self.state.env.clone();
        env.extend(frame.env.clone());
        let mut scope = self.scope(&frame, &env, &around.id);
        let mut outputs = IndexMap::new();
        for (name, value) in &action.action.outputs {
            if let Some(value) = value {
                outputs.insert(name.clone(), self.text(&mut scope, value).await?);
            }
        }
        let outcome = match frame.standing {
            _ if ended.cancelled => Outcome::Cancelled,
            Standing::Well => Outcome::Success,
            Standing::Failed => Outcome::Failure,
        };
        Ok(Done {
            outcome,
            end: None,
            outputs,
            reason: ended.failed.filter(|_| outcome == Outcome::Failure),
        })
    }

    async fn inner_steps(
        &mut self,
        steps: &'r [Step],
        frame: &mut Frame,
        log: &StepLog<'r>,
        limit: Option<Deadline>,
        ended: &mut Ended,
    ) -> Result<(), Trouble> {
        for (index, step) in steps.iter().enumerate() {
            let mut path = frame.path.clone();
            path.push(index);
            let (conclusion, reason) = self.inner_step(step, frame, log, path, limit).await?;
            ended.cancelled |= conclusion == Outcome::Cancelled;
            if conclusion == Outcome::Failure && ended.failed.is_none() {
                let (number, name) = (index + 1, super::step::raw_name(step));
                let why = reason.unwrap_or_else(|| "it failed".to_owned());
                let why = why.trim_end_matches('.');
                ended.failed = Some(format!("step {number} of the action ({name}): {why}"));
            }
        }
        Ok(())
    }

    /// Whether a step uses an action with a `pre`.
    fn has_pre(&self, step: &Step) -> bool {
        let StepBody::Uses { uses, .. } = &step.body else {
            return false;
        };
        match self.resolved(&uses.text) {
            Some(Resolved::Action(action)) => {
                let program = Program::of(&action.action.runs);
                program.is_some_and(|program| program.pre().is_some())
            }
            _ => false,
        }
    }

    /// What its steps have given is kept for their `post`s.
    fn keep_inner(&mut self, frame: &Frame) {
        let mut posts = self.state.posts.iter();
        if posts.any(|post| post.step.starts_with(&frame.path)) {
            let kept = (frame.path.clone(), frame.steps.clone());
            self.state.inner.push(kept);
        }
    }
}
