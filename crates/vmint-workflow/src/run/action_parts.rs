//! Actions that are programs, which run in parts: `pre` before the job's steps, main, and `post` behind the steps.

use super::command::Ran;
use super::instance::{ActionPlace, Done, Instance, Trouble};
use super::state::Post;
use super::step::Surroundings;
use crate::check::{LoadedAction, Origin};
use crate::log::Kind;
use crate::spec::{DockerRuns, NodeRuns, Runs, Text};
use indexmap::IndexMap;

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
        match action.origin {
            Origin::Mirror => self.bring(action, &place).await?,
            Origin::Local if program.pre().is_some() => {
                let text = "`pre` is not run for an action of the repository itself, as on GitHub";
                around.log.say(Kind::Warning, text)?;
            }
            Origin::Local => {}
        }
        // Registered before it runs: what is cut off has to be ended, too.
        let mut post = Post {
            step: around.path.clone(),
            id: around.id.clone(),
            inputs,
            state: self.take_state(&around.path),
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
                self.node_ready(node, around).await?;
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
}
