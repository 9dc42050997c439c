//! What a job knows at a moment; saved with each snapshot, so that a run can go on from there.

use crate::containers::running::Running;
use crate::containers::{Inside, Scope};
use crate::expr::{Object, Value};
use crate::private_file::{self, Before};
use crate::record::Outcome;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use vmint_model::RunId;

/// A step as the `steps` context shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Before `continue-on-error`.
    pub outcome: Outcome,
    /// After `continue-on-error`.
    pub conclusion: Outcome,
    /// Outputs.
    pub outputs: IndexMap<String, String>,
}

/// Steps by their ids.
pub type Steps = IndexMap<String, StepResult>;

/// The `steps` context.
pub fn steps_context(steps: &Steps) -> Value {
    let of = |(id, step): (&String, &StepResult)| {
        let outputs: Object = step
            .outputs
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let mut object = Object::new();
        object.insert("outputs", outputs);
        object.insert("outcome", step.outcome.as_str());
        object.insert("conclusion", step.conclusion.as_str());
        (id.clone(), Value::from(object))
    };
    Value::from(steps.iter().map(of).collect::<Object>())
}

/// A `post` that is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The step that has registered it, as an index path into the job's steps: `[2]`, or `[2, 0]` inside of a composite
    /// action.
    pub step: Vec<usize>,
    /// `github.action` of the step.
    #[serde(default)]
    pub id: String,
    /// The inputs that the step had.
    pub inputs: IndexMap<String, String>,
    /// What it has left in `GITHUB_STATE`.
    pub state: IndexMap<String, String>,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No step has failed.
    #[default]
    Well,
    /// A step has failed.
    Failed,
}

/// What a job knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// `env` of workflow and job, and what steps have added.
    pub env: IndexMap<String, String>,
    /// `env` of workflow and job alone, as it was in the file.
    #[serde(default)]
    pub given: IndexMap<String, String>,
    /// What steps have put before `PATH`, the last first.
    pub path: Vec<String>,
    /// Steps that have ended, by their ids.
    pub steps: Steps,
    /// How it stood when its last step began, which is what `job.status` says.
    pub standing: Standing,
    /// `post`s to come, in the order in which they were registered.
    pub posts: Vec<Post>,
    /// What the steps of composite actions have given, by the index paths of these: their `post`s see it.
    #[serde(default)]
    pub inner: Vec<(Vec<usize>, Steps)>,
    /// `GITHUB_STATE` of `pre`s, by the step's index path.
    pub states: Vec<(Vec<usize>, IndexMap<String, String>)>,
    /// Where actions were copied to.
    pub brought: Vec<String>,
    /// Secrets that steps have named.
    pub masks: Vec<String>,
    /// How many commands were started; scripts and files are numbered by it.
    pub commands: u32,
    /// The `GITHUB_ACTION`s that were used, so that each is unique.
    pub actions: u32,
    /// What it has of containers.
    #[serde(default)]
    pub containers: Containers,
}

/// What a job has of containers. A machine that goes on from a moment has them still, under the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containers {
    /// What sets them apart from those of other jobs; none before the first.
    pub scope: Option<Scope>,
    /// Images of docker actions, by the folders of the actions, and of those that steps may have changed also by the step.
    pub images: IndexMap<String, String>,
    /// Services that run; none of them before containers were begun with.
    pub services: Option<Vec<Running>>,
    /// The job's own container, once it has started.
    #[serde(default)]
    pub job: Option<Inside>,
    /// How many commands were run in it.
    #[serde(default)]
    pub execs: u64,
}

impl JobState {
    /// The same with the environment that the file gives: of one that begins, all of it; of one that goes on, what was edited
    /// since. What steps have set stays.
    pub fn with_edited(mut self, env: IndexMap<String, String>) -> Self {
        let given = std::mem::replace(&mut self.given, env);
        let is_of_file = |name: &String, value: &String| given.get(name) == Some(value);
        self.env.retain(|name, value| !is_of_file(name, value));
        for (name, value) in &self.given {
            self.env
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        self
    }
}

/// A job that has ended, for those that need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// For `needs`: success also when it was allowed to fail.
    pub outcome: Outcome,
    /// Outputs, as they are.
    pub outputs: IndexMap<String, String>,
}

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Of which run.
    pub run: RunId,
    /// The job, as its key.
    pub job: String,
    /// How many of its steps were done, or skipped.
    pub done: usize,
    /// What these steps were, so that a change can be told.
    pub texts: Vec<String>,
    /// What the job knew.
    pub state: JobState,
    /// Jobs that had ended, by their keys.
    pub results: IndexMap<String, JobResult>,
}

impl Saved {
    /// Where it is kept, relative to the run's folder; beside [`crate::shell_state::ShellState`].
    fn file(job: usize, step: u32) -> PathBuf {
        format!("moments/{job}-{step}.state").into()
    }

    /// Keeps it in the folder of a run, for its owner alone: outputs and variables may hold secrets.
    pub(super) fn write(&self, folder: &Path, job: usize, step: u32) -> io::Result<()> {
        private_file::write(&folder.join(Self::file(job, step)), self, Before::Goes)
    }

    /// Reads what was kept; nothing, if nothing was.
    pub fn read(folder: &Path, job: usize, step: u32) -> io::Result<Option<Self>> {
        /// Outputs of all jobs are bounded far below.
        const LONGEST: u64 = 256 << 20;
        private_file::read(&folder.join(Self::file(job, step)), LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_environment_counts_but_where_a_step_has_set_another() {
        let env = |pairs: &[(&str, &str)]| -> IndexMap<String, String> {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            pairs.collect()
        };
        let mut state =
            JobState::default().with_edited(env(&[("GONE", "1"), ("EDITED", "1"), ("SET", "1")]));
        state.env.insert("SET".into(), "by a step".into());
        state.env.insert("NEW".into(), "by a step".into());
        let state = state.with_edited(env(&[("EDITED", "2"), ("SET", "2"), ("ADDED", "2")]));
        let expected = [
            ("ADDED", "2"),
            ("EDITED", "2"),
            ("NEW", "by a step"),
            ("SET", "by a step"),
        ];
        let mut found = state.env.clone();
        found.sort_keys();
        assert_eq!(found, env(&expected));
    }
}
