//! One job on its machine: set-up, steps, `post`s, clean-up.

use super::Run;
use super::contexts::{Constant, OfJob};
use super::end::End;
use super::node::NodeJs;
use super::state::{JobState, Post, Standing, StepResult, Steps};
use super::teller::{Positions, Teller};
use super::view::View;
use super::wire::Wire;
use crate::check::Resolved;
use crate::containers::Engine;
use crate::containers::teardown::Teardown;
use crate::expr::{ContextName, Field, Object, Scope, Status, Value, availability};
use crate::matcher::Matchers;
use crate::record::{Limit, Outcome};
use crate::setup::probe::Inventory;
use crate::spec::{self, Text};
use indexmap::IndexMap;
use std::collections::HashMap;
use vmint_model::{ErrorKind, Fault};

/// A job that runs.
pub(super) struct Instance<'r> {
    pub run: &'r Run<'r>,
    pub wire: Wire<'r>,
    pub tell: Teller<'r>,
    /// Where its steps stand in the record.
    pub positions: Positions,
    pub constant: Constant,
    /// The Node.js that actions run by, once it was looked for.
    pub node: Option<NodeJs>,
    /// That of the machine, for a job's container that has none.
    pub machine_node: Option<String>,
    /// What `uses` of steps stands for that was read from the workspace.
    pub late: HashMap<String, &'r Resolved>,
    /// The file of the workflow, as the user knows it.
    pub file: String,
    /// What of its machine is not as on GitHub.
    pub place_note: Option<String>,
    /// `env` of the workflow, as it stands in the file.
    pub workflow_env: &'r spec::Map,
    pub job: &'r spec::Job,
    pub body: &'r spec::StepsJob,
    pub of_job: OfJob,
    pub key: String,
    pub state: JobState,
    /// Where its steps run.
    pub view: View,
    /// What there is where its steps run.
    pub inventory: Inventory,
    pub matchers: Matchers,
    pub defaults: Defaults<'r>,
    /// Variables that are the same for all steps.
    pub facts: Vec<(String, String)>,
    /// The `runner` context.
    pub runner: Value,
    /// The container engine, once it is known.
    pub engine: Option<Engine>,
    /// What removes the containers that this run has started.
    pub teardown: Option<Teardown>,
}

/// `defaults.run`: the job's, else the workflow's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults<'r> {
    pub shell: Option<&'r Text>,
    pub working_directory: Option<&'r Text>,
}

impl<'r> Defaults<'r> {
    pub(super) fn of(workflow: &'r spec::Workflow, body: &'r spec::StepsJob) -> Self {
        let (outer, own) = (&workflow.defaults, &body.defaults);
        Self {
            shell: own.shell.as_ref().or(outer.shell.as_ref()),
            working_directory: own
                .working_directory
                .as_ref()
                .or(outer.working_directory.as_ref()),
        }
    }
}

/// Why something of a step could not be done.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Its own fault.
    Step(String),
    /// It was cancelled, or its time was over, before it came to a command of its own, or in the midst of one for it.
    Ended(End),
    /// vmint's, or the machine's.
    Fault(Fault),
}

impl From<Fault> for Trouble {
    /// What the guest refuses is the step's fault, for it is what steps have made of the machine: full disks, missing files.
    /// All else is not.
    fn from(fault: Fault) -> Self {
        match fault.kind {
            ErrorKind::Guest
            | ErrorKind::CommandNotFound
            | ErrorKind::CommandNotExecutable
            | ErrorKind::NotFound => {
                let hint = fault.hint.as_deref();
                let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
                Self::Step(format!("{}{hint}", fault.message))
            }
            _ => Self::Fault(fault),
        }
    }
}

/// How the body of a step ended.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub outcome: Outcome,
    pub end: Option<End>,
    pub outputs: IndexMap<String, String>,
    /// What failed inside of it; its log has it already.
    pub reason: Option<String>,
}

impl Done {
    pub(super) fn well(outputs: IndexMap<String, String>) -> Self {
        Self {
            outcome: Outcome::Success,
            end: None,
            outputs,
            reason: None,
        }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Failure,
            end: Some(End::Invalid {
                reason: reason.into(),
            }),
            outputs: IndexMap::new(),
            reason: None,
        }
    }

    /// Of a command.
    pub(super) fn of(end: End, outputs: IndexMap<String, String>) -> Self {
        let outcome = match &end {
            End::Exited { code: 0 } => Outcome::Success,
            End::Cancelled => Outcome::Cancelled,
            // A job or a run that takes too long is cancelled; a step that does has failed.
            End::TimedOut { whose, .. } if *whose != Limit::Step => Outcome::Cancelled,
            _ => Outcome::Failure,
        };
        Self {
            outcome,
            end: Some(end),
            outputs,
            reason: None,
        }
    }
}

/// Steps that follow each other: those of a job, or of a composite action.
pub(super) struct Frame {
    pub inputs: Value,
    pub steps: Steps,
    pub standing: Standing,
    /// The environment that its steps have besides the job's: of the steps that use the actions around it.
    pub env: IndexMap<String, String>,
    /// The action that these are the steps of.
    pub action: Option<ActionPlace>,
    /// The index path of the step that uses the action; empty for a job.
    pub path: Vec<usize>,
}

/// Where an action is.
#[derive(Clone, Debug)]
pub(super) struct ActionPlace {
    /// `github.action_path`.
    pub path: String,
    /// `github.action_repository`.
    pub repository: String,
    /// `github.action_ref`.
    pub reference: String,
}

impl Instance<'_> {
    /// How the job stands, for conditions of its own steps.
    pub(super) fn status(&self, standing: Standing) -> Status {
        if self.wire.is_ending() {
            return Status::Cancelled;
        }
        match standing {
            Standing::Well => Status::Success,
            Standing::Failed => Status::Failure,
        }
    }

    /// What an expression of a step sees.
    pub(super) fn scope(&self, frame: &Frame, env: &IndexMap<String, String>, id: &str) -> Scope {
        let scope = self.constant.scope(&self.of_job);
        let scope = super::contexts::with_step(
            scope,
            self.github(frame, id),
            env,
            &frame.steps,
            self.status(frame.standing),
        );
        let scope = scope
            .with(ContextName::Inputs, frame.inputs.clone())
            .with(ContextName::Job, self.job_context())
            .with(ContextName::Runner, self.runner.clone());
        if frame.action.is_some() {
            // The steps of an action see less than those of a job: no secrets, for one.
            scope.limited_to(&availability(Field::ActionStepIf))
        } else {
            scope
        }
    }

    /// The `github` context of a step.
    pub(super) fn github(&self, frame: &Frame, id: &str) -> Object {
        let mut github = self.constant.github.clone();
        github.insert("job", self.job.id.clone());
        github.insert("action", id);
        for (name, path) in self.files_of_next() {
            github.insert(name, path);
        }
        if let Some(action) = &frame.action {
            github.insert("action_path", action.path.clone());
            github.insert("action_repository", action.repository.clone());
            github.insert("action_ref", action.reference.clone());
            let status = match frame.standing {
                Standing::Well => "success",
                Standing::Failed => "failure",
            };
            github.insert("action_status", status);
        }
        github
    }

    fn job_context(&self) -> Value {
        let mut job = Object::new();
        let status = match self.status(self.state.standing) {
            Status::Failure => "failure",
            Status::Cancelled => "cancelled",
            Status::Success | Status::Skipped => "success",
        };
        job.insert("status", status);
        job.insert("container", self.container_context());
        job.insert("services", self.services_context());
        job.into()
    }

    /// The workspace, as steps see it.
    pub(super) fn workspace(&self) -> String {
        let workspace = super::paths::workspace(&self.run.repository_name());
        self.view.seen(&workspace)
    }

    /// Notes how a step of a frame ended.
    pub(super) fn settle(
        frame: &mut Frame,
        id: Option<&str>,
        outcome: Outcome,
        conclusion: Outcome,
        outputs: IndexMap<String, String>,
    ) {
        if conclusion == Outcome::Failure {
            frame.standing = Standing::Failed;
        }
        if let Some(id) = id {
            let result = StepResult {
                outcome,
                conclusion,
                outputs,
            };
            frame.steps.insert(id.to_owned(), result);
        }
    }

    /// Registers a `post`. What is known anew of one takes the place of what was known.
    pub(super) fn register(&mut self, post: Post) {
        let mut posts = self.state.posts.iter_mut();
        match posts.find(|known| known.step == post.step) {
            Some(known) => *known = post,
            None => self.state.posts.push(post),
        }
    }
}
