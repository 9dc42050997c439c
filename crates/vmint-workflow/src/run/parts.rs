//! Actions that are programs, which run in parts: `pre` before the job's steps, main, and `post` behind the steps.

use super::command::Ran;
use super::instance::{ActionPlace, Done, Frame, Instance, Trouble};
use super::state::Post;
use super::step::Surroundings;
use crate::check::{LoadedAction, Origin, Resolved};
use crate::record::StepKind;
use crate::spec::{DockerRuns, NodeRuns, Runs, Step, StepBody, Text};
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
pub(super) type Hook = (String, Option<Text>);

impl<'r> Program<'r> {
    pub(super) fn of(runs: &'r Runs) -> Option<Self> {
        match runs {
            Runs::Composite(_) => None,
            Runs::Node(node) => Some(Self::Node(node)),
            Runs::Docker(docker) => Some(Self::Docker(docker)),
        }
    }

    pub(super) fn pre(self) -> Option<&'r Hook> {
        match self {
            Self::Node(node) => node.pre.as_ref(),
            Self::Docker(docker) => docker.pre.as_ref(),
        }
    }

    pub(super) fn post(self) -> Option<&'r Hook> {
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
        // Registered before it runs: what is cut off has to be ended, too.
        let mut post = Post {
            step: around.path.clone(),
            id: around.id.clone(),
            inputs,
            state: self.take_state(&around.path),
            env: around.own.clone(),
        };
        self.register_of(program, &post);
        let given = Given {
            action,
            place: &place,
            inputs: &post.inputs,
            state: &post.state,
        };
        let ran = self.part(program, Part::Main, given, &around).await?;
        post.state.extend(ran.state);
        self.register_of(program, &post);
        Ok(Done::of(ran.end, ran.outputs))
    }

    /// Registers the `post` of a program, if it has one.
    pub(super) fn register_of(&mut self, program: Program<'r>, post: &Post) {
        if program.post().is_some() {
            self.register(post.clone());
        }
    }

    /// Runs a part.
    pub(super) async fn part(
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
        self.state.standing = frame.standing;
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
        let scope = self.scope(frame, &env, &post.id);
        let around = Surroundings {
            scope,
            env,
            own: post.env.clone(),
            id: post.id.clone(),
            log: &log,
            limit: None,
            path: post.step.clone(),
        };
        let done = match self.run.request.checked.actions.get(&uses.text) {
            Some(Resolved::Action(action)) => {
                self.post_part(action, (step, uses), &post, around).await
            }
            Some(Resolved::Builtin(builtin)) => self.post_builtin(*builtin, &post, around).await,
            Some(Resolved::Replaced(_)) | None => Ok(None),
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
        (step, uses): (&'r Step, &'r Text),
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
        let mut inputs = post.inputs.clone();
        if let (StepBody::Uses { with, .. }, [_]) = (&step.body, &*post.step) {
            // As on GitHub they are evaluated again: a status is that of now. What the steps of an action see is gone.
            let with = self.map(&mut around.scope, with).await?;
            inputs = self.inputs(action, with, &mut around, &place).await?;
        }
        let given = Given {
            action,
            place: &place,
            inputs: &inputs,
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
