//! JavaScript actions: `pre`, main and `post`, run by the image's Node.js.

use super::command::Launch;
use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::recorder::StepAt;
use super::state::Post;
use super::step::Surroundings;
use super::uses::input_variables;
use crate::check::{LoadedAction, Origin, Resolved};
use crate::expr::Scope;
use crate::record::StepKind;
use crate::spec::{Map, NodeRuns, Runs, Step, StepBody, Text};
use indexmap::IndexMap;
use vmint_model::Fault;

/// A `pre` that is to be run.
pub(super) struct Pre<'r> {
    /// The step that uses the action.
    pub step: &'r Step,
    pub uses: &'r Text,
    pub with: &'r Map,
    pub action: &'r LoadedAction,
    pub node: &'r NodeRuns,
    pub path: Vec<usize>,
}

impl<'r> Instance<'r> {
    /// Runs the main part.
    pub(super) async fn node_main(
        &mut self,
        node: &'r NodeRuns,
        action: &'r LoadedAction,
        place: ActionPlace,
        inputs: IndexMap<String, String>,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        if action.origin == Origin::Mirror {
            self.bring(action, &place).await?;
        }
        let state = self.take_state(&around.path);
        let launch = self.node(&place, &node.main, &inputs, &state, &around);
        let ran = self.command(&around, launch).await?;
        if node.post.is_some() {
            let mut left = state;
            left.extend(ran.state);
            let own = around.own;
            self.register(Post {
                step: around.path,
                inputs,
                state: left,
                env: own,
            });
        }
        Ok(Done::of(ran.end, ran.outputs))
    }

    /// The command of a part of an action.
    fn node(
        &self,
        place: &ActionPlace,
        file: &str,
        inputs: &IndexMap<String, String>,
        state: &IndexMap<String, String>,
        around: &Surroundings<'_, 'r>,
    ) -> Launch {
        let mut env = around.env.clone();
        env.extend(input_variables(inputs));
        for (name, value) in state {
            env.insert(format!("STATE_{name}"), value.clone());
        }
        env.insert("GITHUB_ACTION_PATH".into(), place.path.clone());
        env.insert("GITHUB_ACTION_REPOSITORY".into(), place.repository.clone());
        env.insert("GITHUB_ACTION_REF".into(), place.reference.clone());
        Launch {
            argv: vec!["node".into(), super::paths::below(&place.path, file)],
            env,
            cwd: self.workspace(),
            ..Launch::default()
        }
    }

    /// What a `pre` has left for the parts that follow.
    fn take_state(&mut self, path: &[usize]) -> IndexMap<String, String> {
        let at = self.state.states.iter().position(|(p, _)| p == path);
        at.map(|at| self.state.states.remove(at).1)
            .unwrap_or_default()
    }

    /// All `pre`s of the job's steps, those inside of composite actions included, in order.
    pub(super) fn pres(&self) -> Vec<Pre<'r>> {
        let mut pres = Vec::new();
        self.collect_pres(&self.body.steps, &mut Vec::new(), &mut pres);
        pres
    }

    fn collect_pres(&self, steps: &'r [Step], path: &mut Vec<usize>, pres: &mut Vec<Pre<'r>>) {
        for (index, step) in steps.iter().enumerate() {
            let StepBody::Uses { uses, with } = &step.body else {
                continue;
            };
            let resolved = self.run.request.checked.actions.get(&uses.text);
            let Some(Resolved::Action(action)) = resolved else {
                continue;
            };
            path.push(index);
            match &action.action.runs {
                Runs::Composite(inner) => self.collect_pres(inner, path, pres),
                Runs::Node(node) if node.pre.is_some() => pres.push(Pre {
                    step,
                    uses,
                    with,
                    action,
                    node,
                    path: path.clone(),
                }),
                Runs::Node(_) | Runs::Docker(_) => {}
            }
            path.pop();
        }
    }

    /// Runs a `pre`. The workspace is still empty, so the action is run from a copy.
    pub(super) async fn pre(
        &mut self,
        pre: Pre<'r>,
        at: StepAt,
        frame: &mut Frame,
    ) -> Result<(), Fault> {
        let Some((file, condition)) = &pre.node.pre else {
            return Ok(());
        };
        let mut scope = self.scope(frame, &self.state.env, "");
        let log = self.begin(at)?;
        let done = match self.hook(&mut scope, condition.as_ref()).await {
            Ok(false) => {
                self.skip(at);
                return Ok(());
            }
            Ok(true) => self.pre_body(&pre, file, scope, &log).await,
            Err(trouble) => Err(trouble),
        };
        let done = self.done(done, &log)?;
        self.end(&log, &done, done.outcome)?;
        Self::settle(frame, None, done.outcome, done.outcome, IndexMap::new());
        Ok(())
    }

    async fn pre_body(
        &mut self,
        pre: &Pre<'r>,
        file: &str,
        mut scope: Scope,
        log: &super::recorder::StepLog<'r>,
    ) -> Result<Done, Trouble> {
        let mut place = self.place(pre.uses, pre.action);
        if pre.action.origin == Origin::Local {
            let name = place.path.rsplit('/').next().unwrap_or_default();
            place.path = format!("{}/_local/{name}", super::paths::ACTIONS);
        }
        self.bring(pre.action, &place).await?;
        let with = self.map(&mut scope, pre.with).await?;
        let mut around = Surroundings {
            scope,
            env: self.state.env.clone(),
            own: IndexMap::new(),
            id: String::new(),
            log,
            limit: None,
            path: pre.path.clone(),
        };
        let inputs = self.inputs(pre.action, with, &mut around, &place).await?;
        let launch = self.node(&place, file, &inputs, &IndexMap::new(), &around);
        let ran = self.command(&around, launch).await?;
        self.state.states.push((pre.path.clone(), ran.state));
        Ok(Done::of(ran.end, ran.outputs))
    }

    /// Runs the `post`s that were registered, the last first.
    pub(super) async fn posts(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        while let Some(post) = self.state.posts.pop() {
            if self.cancel.is_hastened() {
                return Ok(());
            }
            self.post(post, frame).await?;
        }
        Ok(())
    }

    async fn post(&mut self, post: Post, frame: &mut Frame) -> Result<(), Fault> {
        let Some((step, uses)) = self.step_at(&post.step) else {
            // A step of an edited file that is not there any more.
            return Ok(());
        };
        let name = step.name.as_ref().map_or(&uses.text, |name| &name.text);
        let record = Self::planned_step(StepKind::Post, format!("Post {name}"));
        let at = self.run.recorder.add_step(self.at, record);
        let log = self.begin(at)?;
        let mut env = self.state.env.clone();
        env.extend(post.env.clone());
        let scope = self.scope(frame, &env, "");
        let around = Surroundings {
            scope,
            env,
            own: post.env.clone(),
            id: String::new(),
            log: &log,
            limit: None,
            path: post.step.clone(),
        };
        let done = match self.run.request.checked.actions.get(&uses.text) {
            Some(Resolved::Action(action)) => self.post_node(action, uses, &post, around).await,
            Some(Resolved::Builtin(builtin)) => self.post_builtin(*builtin, &post, around).await,
            None => Ok(None),
        };
        let done = match done {
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

    async fn post_node(
        &mut self,
        action: &'r LoadedAction,
        uses: &'r Text,
        post: &Post,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Option<Done>, Trouble> {
        let Runs::Node(node) = &action.action.runs else {
            return Ok(None);
        };
        let Some((file, condition)) = &node.post else {
            return Ok(None);
        };
        if !self.hook(&mut around.scope, condition.as_ref()).await? {
            return Ok(None);
        }
        let place = self.place(uses, action);
        let launch = self.node(&place, file, &post.inputs, &post.state, &around);
        let ran = self.command(&around, launch).await?;
        Ok(Some(Done::of(ran.end, ran.outputs)))
    }

    /// The step at an index path, which goes through composite actions.
    fn step_at(&self, path: &[usize]) -> Option<(&'r Step, &'r Text)> {
        let mut steps: &'r [Step] = &self.body.steps;
        let (last, before) = path.split_last()?;
        for index in before {
            let StepBody::Uses { uses, .. } = &steps.get(*index)?.body else {
                return None;
            };
            let Some(Resolved::Action(action)) = self.run.request.checked.actions.get(&uses.text)
            else {
                return None;
            };
            let Runs::Composite(inner) = &action.action.runs else {
                return None;
            };
            steps = inner;
        }
        let step = steps.get(*last)?;
        match &step.body {
            StepBody::Uses { uses, .. } => Some((step, uses)),
            StepBody::Run { .. } => None,
        }
    }
}
