//! The stages of a step besides its main one: `pre` before the job's steps, `post` behind them; also those of steps inside of
//! composite actions.
//!
//! A stage is a step: it has the step's environment and inputs, evaluated when it runs, its `continue-on-error` and its
//! `timeout-minutes`, and the same of the steps around it. Its own are the condition (`pre-if`, `post-if`) and what is run. A
//! `pre` is run whatever the `if` of its step says, and registers the action's `post`, so that what it has begun is ended also
//! when its step is not reached. Actions of the repository itself have no `pre`, as on GitHub: they are not there before the
//! checkout.

use super::action_parts::{Given, Hook, Part, Program};
use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::jobs::Counts;
use super::recorder::{StepAt, StepLog};
use super::state::Post;
use super::step::{Surroundings, base_id, conclude};
use crate::check::{LoadedAction, Origin, Resolved};
use crate::expr::{ContextName, Object, Value};
use crate::limits::Deadline;
use crate::record::{StepKind, StepRecord};
use crate::spec::{Map, Runs, Step, StepBody, Text};
use indexmap::IndexMap;
use vmint_model::Fault;

/// A step that uses something, with the composite actions around it, from the outermost one.
#[derive(Clone)]
pub(super) struct Chain<'r> {
    outer: Vec<(Used<'r>, &'r LoadedAction)>,
    used: Used<'r>,
    /// Its index path.
    path: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Used<'r> {
    step: &'r Step,
    uses: &'r Text,
    with: &'r Map,
}

impl<'r> Used<'r> {
    fn of(step: &'r Step) -> Option<Self> {
        match &step.body {
            StepBody::Uses { uses, with } => Some(Self { step, uses, with }),
            StepBody::Run { .. } => None,
        }
    }

    fn name(&self) -> &'r str {
        let Self { step, uses, .. } = self;
        step.name.as_ref().map_or(&uses.text, |name| &name.text)
    }
}

/// A `pre` that is to be run.
pub(super) struct Pre<'r> {
    chain: Chain<'r>,
    action: &'r LoadedAction,
    program: Program<'r>,
    hook: &'r Hook,
}

impl<'r> Pre<'r> {
    /// The step that uses the action.
    pub(super) fn step(&self) -> &'r Step {
        self.chain.used.step
    }

    /// As the record shows it.
    pub(super) fn name(&self) -> String {
        format!("Pre {}", self.chain.used.name())
    }
}

/// Which stage.
enum Stage<'r> {
    Pre(Pre<'r>),
    Post(Chain<'r>, Post),
}

impl<'r> Stage<'r> {
    fn chain(&self) -> &Chain<'r> {
        match self {
            Self::Pre(pre) => &pre.chain,
            Self::Post(chain, _) => chain,
        }
    }
}

/// What the steps around a stage make of it.
struct Bounds {
    counts: Counts,
    limit: Option<Deadline>,
}

impl<'r> Instance<'r> {
    /// All `pre`s of the job's steps, in order.
    pub(super) fn pres(&self) -> Vec<Pre<'r>> {
        let mut pres = Vec::new();
        let (mut outer, mut path) = (Vec::new(), Vec::new());
        self.collect_pres(&self.body.steps, &mut outer, &mut path, &mut pres);
        pres
    }

    fn collect_pres(
        &self,
        steps: &'r [Step],
        outer: &mut Vec<(Used<'r>, &'r LoadedAction)>,
        path: &mut Vec<usize>,
        pres: &mut Vec<Pre<'r>>,
    ) {
        for (index, step) in steps.iter().enumerate() {
            let Some(used) = Used::of(step) else { continue };
            let resolved = self.resolved(&used.uses.text);
            let Some(Resolved::Action(action)) = resolved else {
                continue;
            };
            if action.origin == Origin::Local {
                continue;
            }
            path.push(index);
            if let Runs::Composite(inner) = &action.action.runs {
                outer.push((used, action));
                self.collect_pres(inner, outer, path, pres);
                outer.pop();
            }
            if let Some(program) = Program::of(&action.action.runs)
                && let Some(hook) = program.pre()
            {
                let (outer, path) = (outer.clone(), path.clone());
                pres.push(Pre {
                    chain: Chain { outer, used, path },
                    action,
                    program,
                    hook,
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
        self.stage(Stage::Pre(pre), at, frame).await
    }

    /// Runs the `post`s that were registered, the last first.
    pub(super) async fn posts(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        while let Some(post) = self.state.posts.pop() {
            if self.wire.cancel.is_hastened() {
                return Ok(());
            }
            let Some(chain) = self.chain_at(&post.step) else {
                // A step of an edited file that is not there any more.
                continue;
            };
            let name = self.tell.mask(&format!("Post {}", chain.used.name()));
            let record = StepRecord::planned(StepKind::Post, name);
            let at = self.tell.plan(record);
            self.stage(Stage::Post(chain, post), at, frame).await?;
        }
        Ok(())
    }

    /// The step at an index path, which goes through composite actions.
    fn chain_at(&self, path: &[usize]) -> Option<Chain<'r>> {
        let mut steps: &'r [Step] = &self.body.steps;
        let mut outer = Vec::new();
        let (last, before) = path.split_last()?;
        for index in before {
            let used = Used::of(steps.get(*index)?)?;
            let resolved = self.resolved(&used.uses.text);
            let Some(Resolved::Action(action)) = resolved else {
                return None;
            };
            let Runs::Composite(inner) = &action.action.runs else {
                return None;
            };
            outer.push((used, &**action));
            steps = inner;
        }
        Some(Chain {
            outer,
            used: Used::of(steps.get(*last)?)?,
            path: path.to_vec(),
        })
    }

    async fn stage(
        &mut self,
        stage: Stage<'r>,
        at: StepAt,
        frame: &mut Frame,
    ) -> Result<(), Fault> {
        self.state.standing = frame.standing;
        let log = self.tell.begin(at)?;
        let mut bounds = Bounds {
            counts: Counts::Fully,
            limit: None,
        };
        let done = match self.stage_body(&stage, frame, &log, &mut bounds).await {
            Ok(None) => {
                self.tell.skip(at, None);
                return Ok(());
            }
            Ok(Some(done)) => Ok(done),
            Err(trouble) => Err(trouble),
        };
        let done = self.done(done, &log)?;
        let conclusion = conclude(&done, bounds.counts);
        self.tell.end(&log, &done, conclusion)?;
        Self::settle(frame, None, done.outcome, conclusion, IndexMap::new());
        Ok(())
    }

    /// Nothing, when its condition does not hold.
    async fn stage_body(
        &mut self,
        stage: &Stage<'r>,
        job: &Frame,
        log: &StepLog<'r>,
        bounds: &mut Bounds,
    ) -> Result<Option<Done>, Trouble> {
        let chain = stage.chain();
        let mut within = Frame {
            inputs: job.inputs.clone(),
            steps: job.steps.clone(),
            standing: job.standing,
            env: IndexMap::new(),
            action: None,
            path: Vec::new(),
        };
        for (depth, (outer, action)) in chain.outer.iter().enumerate() {
            let id = base_id(outer.step);
            let mut around = self.around(*outer, &within, log, id, bounds).await?;
            let place = self.place(&outer.uses.text);
            let inputs = self.inputs_of(*outer, action, &mut around, &place).await?;
            let inputs: Object = inputs.into_iter().collect();
            let path = chain.path[..=depth].to_vec();
            let mut inner = self.state.inner.iter();
            let inner = inner.find(|(known, _)| *known == path);
            within = Frame {
                inputs: Value::from(inputs),
                steps: inner.map(|(_, steps)| steps.clone()).unwrap_or_default(),
                standing: within.standing,
                env: around.own,
                action: Some(place),
                path,
            };
        }
        let id = match stage {
            Stage::Pre(_) => base_id(chain.used.step),
            Stage::Post(_, post) => post.id.clone(),
        };
        let mut around = self.around(chain.used, &within, log, id, bounds).await?;
        around.path.clone_from(&chain.path);
        around.limit = bounds.limit;
        match stage {
            Stage::Pre(pre) => self.pre_body(pre, around).await,
            Stage::Post(chain, post) => self.post_body(chain.used, post, around).await,
        }
    }

    /// What a step gives its stage or what is inside of it: its environment, and whether a failure counts.
    async fn around<'l>(
        &mut self,
        used: Used<'r>,
        within: &Frame,
        log: &'l StepLog<'r>,
        id: String,
        bounds: &mut Bounds,
    ) -> Result<Surroundings<'l, 'r>, Trouble> {
        let (mut env, mut own) = (self.state.env.clone(), within.env.clone());
        env.extend(own.clone());
        let mut scope = self.scope(within, &env, &id);
        own.extend(self.map(&mut scope, &used.step.env).await?);
        env.extend(own.clone());
        scope.set(ContextName::Env, super::contexts::env_context(&env));
        let may_fail = used.step.continue_on_error.as_ref();
        if self.flag(&mut scope, may_fail, "continue-on-error").await? {
            bounds.counts = Counts::NotAtAll;
        }
        let limit = self.limit_of(used.step, &mut scope).await?;
        let limits = bounds.limit.into_iter().chain(limit);
        bounds.limit = limits.min_by_key(|deadline| deadline.at);
        Ok(Surroundings {
            scope,
            env,
            id,
            log,
            own,
            limit: bounds.limit,
            path: Vec::new(),
        })
    }

    async fn inputs_of(
        &mut self,
        used: Used<'r>,
        action: &LoadedAction,
        around: &mut Surroundings<'_, 'r>,
        place: &ActionPlace,
    ) -> Result<IndexMap<String, String>, Trouble> {
        let with = self.map(&mut around.scope, used.with).await?;
        self.inputs(action, with, around, place).await
    }

    async fn pre_body(
        &mut self,
        pre: &Pre<'r>,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Option<Done>, Trouble> {
        let (_, condition) = pre.hook;
        if !self.hook(&mut around.scope, condition.as_ref()).await? {
            return Ok(None);
        }
        let place = self.place(&pre.chain.used.uses.text);
        self.bring(pre.action, &place).await?;
        let inputs = self
            .inputs_of(pre.chain.used, pre.action, &mut around, &place)
            .await?;
        // Registered before it runs: what is cut off has to be ended, too.
        let mut post = Post {
            step: pre.chain.path.clone(),
            id: around.id.clone(),
            inputs,
            state: IndexMap::new(),
        };
        self.register_of(pre.program, &post);
        let given = Given {
            action: pre.action,
            place: &place,
            inputs: &post.inputs,
            state: &post.state,
        };
        let part = Part::Pre(&pre.hook.0);
        let ran = self.part(pre.program, part, given, &around).await?;
        post.state.clone_from(&ran.state);
        self.register_of(pre.program, &post);
        self.state.states.push((post.step, ran.state));
        Ok(Some(Done::of(ran.end, ran.outputs)))
    }

    async fn post_body(
        &mut self,
        used: Used<'r>,
        post: &Post,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Option<Done>, Trouble> {
        let action = match self.resolved(&used.uses.text) {
            Some(Resolved::Action(action)) => action,
            Some(Resolved::Builtin(builtin)) => {
                return self.post_builtin(*builtin, post, around).await;
            }
            Some(Resolved::Replaced(_) | Resolved::AtRun | Resolved::Missing(_)) | None => {
                return Ok(None);
            }
        };
        let Some(program) = Program::of(&action.action.runs) else {
            return Ok(None);
        };
        let Some((file, condition)) = program.post() else {
            return Ok(None);
        };
        if !self.hook(&mut around.scope, condition.as_ref()).await? {
            return Ok(None);
        }
        let place = self.place(&used.uses.text);
        let inputs = self.inputs_of(used, action, &mut around, &place).await?;
        let given = Given {
            action,
            place: &place,
            inputs: &inputs,
            state: &post.state,
        };
        let ran = self.part(program, Part::Post(file), given, &around).await?;
        Ok(Some(Done::of(ran.end, ran.outputs)))
    }
}
