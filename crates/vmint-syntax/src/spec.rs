//! A workflow as this crate works on it: the content of a file that was parsed and found well-formed, each piece with its
//! place. Expressions are still text: `${{ … }}` is evaluated when its time has come.

use crate::diagnostic::Spot;
use crate::yaml::Node;
use indexmap::IndexMap;
use std::path::PathBuf;

/// Text that may hold `${{ expressions }}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// As it stands in the file, after YAML's own rules. Numbers and booleans as GitHub writes them.
    pub text: String,
    /// Where.
    pub spot: Spot,
}

/// A mapping of names to text, or one expression that gives an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Map {
    /// `key: text`, in the file's order.
    Entries(Vec<(String, Text)>),
    /// `${{ fromJSON(…) }}`.
    Expression(Text),
}

impl Default for Map {
    fn default() -> Self {
        Self::Entries(Vec::new())
    }
}

/// A workflow file.
#[derive(Debug)]
pub struct Workflow {
    /// The file, as the user would name it.
    pub path: PathBuf,
    /// `name`.
    pub name: Option<String>,
    /// `run-name`.
    pub run_name: Option<Text>,
    /// `on`, as it stands in the file: inputs' defaults keep their types. [`On`](crate::event::On) reads it.
    pub on_node: Node,
    /// `permissions`, which are recorded and have no effect here.
    pub permissions: Option<Node>,
    /// `env`.
    pub env: Map,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `jobs`, in the file's order.
    pub jobs: IndexMap<String, Job>,
}

impl Workflow {
    /// Whether an event is named in its `on`.
    pub fn names_event(&self, event: &str) -> bool {
        let on = &self.on_node;
        let is = |node: &Node| node.text().is_some_and(|text| text == event);
        is(on) || on.items().iter().any(is) || on.entry(event).is_some()
    }
}

/// `defaults.run`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// `shell`.
    pub shell: Option<Text>,
    /// `working-directory`.
    pub working_directory: Option<Text>,
}

/// `concurrency`.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// `group`.
    pub group: Text,
    /// `cancel-in-progress`.
    pub cancel_in_progress: Option<Text>,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its key in `jobs`.
    pub id: String,
    /// Where its key stands.
    pub spot: Spot,
    /// `name`.
    pub name: Option<Text>,
    /// `needs`.
    pub needs: Vec<Text>,
    /// `if`, with or without `${{ }}`.
    pub condition: Option<Text>,
    /// `permissions`.
    pub permissions: Option<Node>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `strategy`.
    pub strategy: Option<Strategy>,
    /// What it does.
    pub body: JobBody,
}

/// `strategy`.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// `matrix`: a mapping, or an expression.
    pub matrix: Option<Node>,
    /// `fail-fast`.
    pub fail_fast: Option<Text>,
    /// `max-parallel`.
    pub max_parallel: Option<Text>,
    /// Where.
    pub spot: Spot,
}

/// What a job does.
#[derive(Clone, Debug)]
pub enum JobBody {
    /// Steps on a machine.
    Steps(Box<StepsJob>),
    /// Another workflow.
    Call(Box<CallJob>),
}

/// A job of steps.
#[derive(Clone, Debug)]
pub struct StepsJob {
    /// `runs-on`: labels, or one expression that gives a label or a list of them.
    pub runs_on: Vec<Text>,
    /// `env`.
    pub env: Map,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Text>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Text>,
    /// `outputs`.
    pub outputs: Vec<(String, Text)>,
    /// `container`, in which the steps run.
    pub container: Option<Node>,
    /// `services`.
    pub services: Option<Node>,
    /// `environment`, which is recorded.
    pub environment: Option<Node>,
    /// `steps`.
    pub steps: Vec<Step>,
}

/// A job that calls a reusable workflow.
#[derive(Clone, Debug)]
pub struct CallJob {
    /// `uses`.
    pub uses: Text,
    /// `with`.
    pub with: Map,
    /// `secrets`.
    pub secrets: CallSecrets,
}

/// `secrets` of a job that calls a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum CallSecrets {
    /// `inherit`.
    Inherit,
    /// Those named; none when absent.
    Named(Map),
}

/// A step of a job or of a composite action.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it begins.
    pub spot: Spot,
    /// `id`.
    pub id: Option<String>,
    /// `name`.
    pub name: Option<Text>,
    /// `if`, with or without `${{ }}`.
    pub condition: Option<Text>,
    /// `env`.
    pub env: Map,
    /// `timeout-minutes`; never in a composite action.
    pub timeout_minutes: Option<Text>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Text>,
    /// What it does.
    pub body: StepBody,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepBody {
    /// `run`.
    Run {
        /// The script, byte for byte.
        script: Text,
        /// `shell`.
        shell: Option<Text>,
        /// `working-directory`.
        working_directory: Option<Text>,
    },
    /// `uses`.
    Uses {
        /// As it stands in the file.
        uses: Text,
        /// `with`.
        with: Map,
    },
}

/// An action: the content of `action.yml`.
#[derive(Clone, Debug)]
pub struct Action {
    /// The file, as the user would name it.
    pub path: PathBuf,
    /// `name`.
    pub name: Option<String>,
    /// `inputs`.
    pub inputs: IndexMap<String, ActionInput>,
    /// `outputs`: name and, of composite actions, the value.
    pub outputs: Vec<(String, Option<Text>)>,
    /// `runs`.
    pub runs: Runs,
}

/// An input of an action.
#[derive(Clone, Debug)]
pub struct ActionInput {
    /// `required`.
    pub required: bool,
    /// `default`.
    pub default: Option<Text>,
    /// `deprecationMessage`.
    pub deprecation: Option<String>,
}

/// `runs` of an action.
#[derive(Clone, Debug)]
pub enum Runs {
    /// `using: composite`.
    Composite(Vec<Step>),
    /// `using: node…`.
    Node(Box<NodeRuns>),
    /// `using: docker`.
    Docker(Box<DockerRuns>),
}

/// `runs` of a JavaScript action. Paths are relative to the action.
#[derive(Clone, Debug)]
pub struct NodeRuns {
    /// `using`: `node20`.
    pub using: Text,
    /// `main`.
    pub main: String,
    /// `pre` and `pre-if`.
    pub pre: Option<(String, Option<Text>)>,
    /// `post` and `post-if`.
    pub post: Option<(String, Option<Text>)>,
}

/// `runs` of a docker action.
#[derive(Clone, Debug)]
pub struct DockerRuns {
    /// `image`: `Dockerfile`, a path to one, or `docker://…`.
    pub image: Text,
    /// `env`.
    pub env: Vec<(String, Text)>,
    /// `entrypoint`.
    pub entrypoint: Option<Text>,
    /// `args`.
    pub args: Vec<Text>,
    /// `pre-entrypoint` and `pre-if`.
    pub pre: Option<(String, Option<Text>)>,
    /// `post-entrypoint` and `post-if`.
    pub post: Option<(String, Option<Text>)>,
}
