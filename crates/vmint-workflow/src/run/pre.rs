//! `pre`s: what actions have done before the job's steps, those inside of composite actions included.
//!
//! A `pre` is run whatever the `if` of its step says, with the environment and the inputs that its step would have then. It
//! registers the action's `post`, so that what it has begun is ended also when its step is not reached.

use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::parts::{Given, Hook, Part, Program};
use super::recorder::{StepAt, StepLog};
use super::state::{Post, Steps};
use super::step::{Surroundings, base_id};
use crate::check::{LoadedAction, Origin, Resolved};
use crate::expr::{ContextName, Object, Value};
use crate::log::Kind;
use crate::spec::{Map, Runs, Step, StepBody, Text};
use indexmap::IndexMap;
use vmint_model::Fault;

/// A `pre` that is to be run.
pub(super) struct Pre<'r> {
    /// The composite actions around it, from the outermost one.
    outer: Vec<Used<'r>>,
    used: Used<'r>,
    program: Program<'r>,
    hook: &'r Hook,
    path: Vec<usize>,
}

/// A step that uses an action.
#[derive(Clone, Copy)]
struct Used<'r> {
    step: &'r Step,
    uses: &'r Text,
    with: &'r Map,
    action: &'r LoadedAction,
}

impl<'r> Pre<'r> {
    /// The step that uses the action.
    pub(super) fn step(&self) -> &'r Step {
        self.used.step
    }

    /// As the record shows it.
    pub(super) fn name(&self) -> String {
        let Used { step, uses, .. } = self.used;
        let name = step.name.as_ref().map_or(&uses.text, |name| &name.text);
        format!("Pre {name}")
    }
}

impl<'r> Instance<'r> {
    /// All `pre`s of the job's steps, in order.
    pub(super) fn pres(&self) -> Vec<Pre<'r>> {
        let mut pres = Vec::new();
        self.collect_pres(
            &self.body.steps,
            &mut Vec::new(),
            &mut Vec::new(),
            &mut pres,
        );
        pres
    }

    fn collect_pres(
        &self,
        steps: &'r [Step],
        outer: &mut Vec<Used<'r>>,
        path: &mut Vec<usize>,
        pres: &mut Vec<Pre<'r>>,
    ) {
        for (index, step) in steps.iter().enumerate() {
            let StepBody::Uses { uses, with } = &step.body else {
                continue;
            };
            let resolved = self.run.request.checked.actions.get(&uses.text);
            let Some(Resolved::Action(action)) = resolved else {
                continue;
            };
            let used = Used {
                step,
                uses,
                with,
                action,
            };
            path.push(index);
            if let Runs::Composite(inner) = &action.action.runs {
                outer.push(used);
                self.collect_pres(inner, outer, path, pres);
                outer.pop();
            }
            if let Some(program) = Program::of(&action.action.runs)
                && let Some(hook) = program.pre()
            {
                pres.push(Pre {
                    outer: outer.clone(),
                    used,
                    program,
                    hook,
                    path: path.clone(),
                });
            }
            path.pop();
        }
    }

    /// Runs a `pre`.
    pub(super) async fn pre(
        &mut self,
        pre: Pre<'r>,
        at: StepAt,
        frame: &mut Frame,
    ) -> Result<(), Fault> {
        self.state.standing = frame.standing;
        let log = self.begin(at)?;
        let done = match self.pre_body(&pre, frame, &log).await {
            Ok(None) => {
                self.skip(at);
                return Ok(());
            }
            Ok(Some(done)) => Ok(done),
            Err(trouble) => Err(trouble),
        };
        let done = self.done(done, &log)?;
        self.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    /// Nothing, when its condition does not hold.
    async fn pre_body(
        &mut self,
        pre: &Pre<'r>,
        job: &Frame,
        log: &StepLog<'r>,
    ) -> Result<Option<Done>, Trouble> {
        let mut within = Frame {
            inputs: job.inputs.clone(),
            steps: Steps::new(),
            standing: job.standing,
            env: IndexMap::new(),
            action: None,
            path: Vec::new(),
        };
        for outer in &pre.outer {
            let mut around = self.around_pre(outer, &within, log, &[]).await?;
            let place = self.place_of_pre(outer);
            let inputs = self.inputs_of_pre(outer, &mut around, &place).await?;
            let inputs: Object = inputs.into_iter().collect();
            within = Frame {
                inputs: Value::from(inputs),
                env: around.own,
                action: Some(place),
                ..within
            };
        }
        let mut around = self.around_pre(&pre.used, &within, log, &pre.path).await?;
        let (_, condition) = pre.hook;
        if !self.hook(&mut around.scope, condition.as_ref()).await? {
            return Ok(None);
        }
        let Used { action, .. } = pre.used;
        if action.origin == Origin::Local {
            log.say(
                Kind::Notice,
                "GitHub does not run the `pre` of an action that lies in the repository itself.",
            )?;
        }
        let place = self.place_of_pre(&pre.used);
        self.bring(action, &place).await?;
        let inputs = self.inputs_of_pre(&pre.used, &mut around, &place).await?;
        // Registered before it runs: what is cut off has to be ended, too.
        let mut post = Post {
            step: pre.path.clone(),
            id: around.id.clone(),
            inputs,
            state: IndexMap::new(),
            env: around.own.clone(),
        };
        self.register_of(pre.program, &post);
        let given = Given {
            action,
            place: &place,
            inputs: &post.inputs,
            state: &post.state,
        };
        let part = Part::Pre(&pre.hook.0);
        let ran = self.part(pre.program, part, given, &around).await?;
        post.state.clone_from(&ran.state);
        self.register_of(pre.program, &post);
        self.state.states.push((pre.path.clone(), ran.state));
        Ok(Some(Done::of(ran.end, ran.outputs)))
    }

    /// What a step is given that itself or an action within has a `pre`.
    async fn around_pre<'l>(
        &mut self,
        used: &Used<'r>,
        within: &Frame,
        log: &'l StepLog<'r>,
        path: &[usize],
    ) -> Result<Surroundings<'l, 'r>, Trouble> {
        let (mut env, mut own) = (self.state.env.clone(), within.env.clone());
        env.extend(own.clone());
        let id = base_id(used.step);
        let mut scope = self.scope(within, &env, &id);
        own.extend(self.map(&mut scope, &used.step.env).await?);
        env.extend(own.clone());
        scope.set(ContextName::Env, super::contexts::env_context(&env));
        Ok(Surroundings {
            scope,
            env,
            id,
            log,
            own,
            limit: None,
            path: path.to_vec(),
        })
    }

    async fn inputs_of_pre(
        &mut self,
        used: &Used<'r>,
        around: &mut Surroundings<'_, 'r>,
        place: &ActionPlace,
    ) -> Result<IndexMap<String, String>, Trouble> {
        let with = self.map(&mut around.scope, used.with).await?;
        self.inputs(used.action, with, around, place).await
    }

    /// The workspace is still empty, so an action of the repository is run from a copy.
    fn place_of_pre(&self, used: &Used<'r>) -> ActionPlace {
        let mut place = self.place(used.uses, used.action);
        if used.action.origin == Origin::Local {
            let name = place.path.rsplit('/').next().unwrap_or_default();
            place.path = format!("{}/_local/{name}", super::paths::ACTIONS);
        }
        place
    }
}
