//! Actions that are programs, which run in parts: `pre` before the job's steps, main, and `post` behind the steps.

use super::command::Ran;
use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::recorder::{StepAt, StepLog};
use super::state::Post;
use super::step::Surroundings;
use crate::check::{LoadedAction, Origin, Resolved};
use crate::expr::Scope;
use crate::record::StepKind;
use crate::spec::{DockerRuns, Map, NodeRuns, Runs, Step, StepBody, Text};
use indexmap::IndexMap;
use vmint_model::Fault;

/// An action that is a program.
#[derive(Clone, Copy)]
pub(super) enum Program<'r> {
    /// For Node.js.
    Node(&'r NodeRuns),
    /// In a container.
    Docker(&'r DockerRuns),
}

/// A `pre` or `post` as an action gives it: the file or the entrypoint, and on which condition.
type Hook = (String, Option<Text>);

impl<'r> Program<'r> {
    fn of(runs: &'r Runs) -> Option<Self> {
        match runs {
            Runs::Composite(_) => None,
            Runs::Node(node) => Some(Self::Node(node)),
            Runs::Docker(docker) => Some(Self::Docker(docker)),
        }
    }

    fn pre(self) -> Option<&'r Hook> {
        match self {
            Self::Node(node) => node.pre.as_ref(),
            Self::Docker(docker) => docker.pre.as_ref(),
        }
    }

    fn post(self) -> Option<&'r Hook> {
        match self {
            Self::Node(node) => node.post.as_ref(),
            Self::Docker(docker) => docker.post.as_ref(),
        }
    }
}

/// A part of a program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'r> {
    /// `pre`, with its file or entrypoint.
    Pre(&'r str),
    /// What the step is about.
    Main,
    /// `post`, with its file or entrypoint.
    Post(&'r str),
}

/// What a part is given.
pub(super) struct Given<'l> {
    /// The action.
    pub action: &'l LoadedAction,
    /// Where it is.
    pub place: &'l ActionPlace,
    /// Its inputs, by names in lower case.
    pub inputs: &'l IndexMap<String, String>,
    /// What the parts before have left in `GITHUB_STATE`.
    pub state: &'l IndexMap<String, String>,
}

impl Given<'_> {
    /// The variables by which a part knows its action and the parts before it.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let state = self.state.iter();
        let state = state.map(|(name, value)| (format!("STATE_{name}"), value.clone()));
        let place = [
            ("GITHUB_ACTION_PATH", &self.place.path),
            ("GITHUB_ACTION_REPOSITORY", &self.place.repository),
            ("GITHUB_ACTION_REF", &self.place.reference),
        ];
        let place = place.map(|(name, value)| (name.to_owned(), value.clone()));
        state.chain(place).collect()
    }
}

/// A `pre` that is to be run.
pub(super) struct Pre<'r> {
    /// The step that uses the action.
    pub step: &'r Step,
    pub uses: &'r Text,
    with: &'r Map,
    action: &'r LoadedAction,
    program: Program<'r>,
    hook: &'r Hook,
    path: Vec<usize>,
}

impl<'r> Instance<'r> {
    /// Runs the main part.
    pub(super) async fn main_part(
        &mut self,
        program: Program<'r>,
        action: &'r LoadedAction,
        place: ActionPlace,
        inputs: IndexMap<String, String>,
        around: Surroundings<'_, 'r>,
    ) -> Result<Done, Trouble> {
        if action.origin == Origin::Mirror {
            self.bring(action, &place).await?;
        }
        let state = self.take_state(&around.path);
        let given = Given {
            action,
            place: &place,
            inputs: &inputs,
            state: &state,
        };
        let ran = self.part(program, Part::Main, given, &around).await?;
        if program.post().is_some() {
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

    async fn part(
        &mut self,
        program: Program<'r>,
        part: Part<'r>,
        given: Given<'_>,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Ran, Trouble> {
        match program {
            Program::Node(node) => {
                let launch = self.node(node, part, &given, around);
                self.command(around, launch).await
            }
            Program::Docker(docker) => self.docker_action(docker, part, &given, around).await,
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
            if let Runs::Composite(inner) = &action.action.runs {
                self.collect_pres(inner, path, pres);
            }
            if let Some(program) = Program::of(&action.action.runs)
                && let Some(hook) = program.pre()
            {
                pres.push(Pre {
                    step,
                    uses,
                    with,
                    action,
                    program,
                    hook,
                    path: path.clone(),
                });
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
        let (_, condition) = pre.hook;
        let mut scope = self.scope(frame, &self.state.env, "");
        let log = self.begin(at)?;
        let done = match self.hook(&mut scope, condition.as_ref()).await {
            Ok(false) => {
                self.skip(at);
                return Ok(());
            }
            Ok(true) => self.pre_body(&pre, scope, &log).await,
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
        mut scope: Scope,
        log: &StepLog<'r>,
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
        let given = Given {
            action: pre.action,
            place: &place,
            inputs: &inputs,
            state: &IndexMap::new(),
        };
        let part = Part::Pre(&pre.hook.0);
        let ran = self.part(pre.program, part, given, &around).await?;
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
            Some(Resolved::Action(action)) => self.post_part(action, uses, &post, around).await,
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

    async fn post_part(
        &mut self,
        action: &'r LoadedAction,
        uses: &'r Text,
        post: &Post,
        mut around: Surroundings<'_, 'r>,
    ) -> Result<Option<Done>, Trouble> {
        let Some(program) = Program::of(&action.action.runs) else {
            return Ok(None);
        };
        let Some((file, condition)) = program.post() else {
            return Ok(None);
        };
        if !self.hook(&mut around.scope, condition.as_ref()).await? {
            return Ok(None);
        }
        let place = self.place(uses, action);
        let given = Given {
            action,
            place: &place,
            inputs: &post.inputs,
            state: &post.state,
        };
        let ran = self.part(program, Part::Post(file), given, &around).await?;
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
