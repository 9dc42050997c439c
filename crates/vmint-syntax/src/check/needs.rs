//! What a job needs of its image: by its steps, by those of the actions that they use, by its containers.
//!
//! The steps of a job with a container have what that has, which nobody knows before it runs: of the machine they need a
//! container engine alone.

use super::Resolved;
use super::actions::Builtin;
use crate::diagnostic::Spot;
use crate::equipment::Equipment;
use crate::expr::is_computed;
use crate::spec::{Runs, Step, StepBody, StepsJob, Text};
use crate::uses::Uses;
use crate::yaml::{Data, Node, shown};
use std::collections::HashMap;

/// One thing that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub what: Equipment,
    /// By what, as the subject of a sentence.
    pub who: String,
    /// The step or the service in the file of the workflow.
    pub spot: Spot,
    /// Whether the job surely comes to it.
    pub reached: Reached,
}

/// Whether a job comes to what needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It does, unless it fails before.
    Surely,
    /// A condition decides, or the step may fail.
    Perhaps,
}

impl Reached {
    /// Of a step within what is reached so.
    pub fn of(self, step: &Step) -> Self {
        let perhaps = step.condition.is_some() || step.continue_on_error.is_some();
        if perhaps { Self::Perhaps } else { self }
    }
}

/// What a job needs, each thing at the first place that surely needs it, else at the first.
#[expect(clippy::implicit_hasher, reason = "it is `Checked::actions`")]
pub fn of_job(job: &StepsJob, actions: &HashMap<String, Resolved>) -> Vec<Need> {
    let mut needs = Needs {
        actions,
        runs_in: RunsIn::of(job.container.as_ref()),
        found: Vec::new(),
    };
    if let Some(container) = &job.container {
        let reached = match needs.runs_in {
            RunsIn::Machine => return needs.of_machine(job),
            RunsIn::Container => Reached::Surely,
            RunsIn::Either => Reached::Perhaps,
        };
        let who = "`container` of the job".to_owned();
        needs.add(Equipment::ContainerEngine, who, container.spot, reached);
    }
    needs.of_machine(job)
}

/// Where the steps of a job run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunsIn {
    /// In the machine.
    Machine,
    /// In the job's container.
    Container,
    /// An expression decides.
    Either,
}

impl RunsIn {
    fn of(container: Option<&Node>) -> Self {
        let Some(container) = container else {
            return Self::Machine;
        };
        let image = match &container.data {
            Data::Mapping(_) => container.get("image"),
            _ => Some(container),
        };
        match image.and_then(Node::text) {
            Some(image) if image.trim().is_empty() => Self::Machine,
            Some(image) if is_computed(&image) => Self::Either,
            _ => Self::Container,
        }
    }
}

struct Needs<'a> {
    actions: &'a HashMap<String, Resolved>,
    runs_in: RunsIn,
    found: Vec<Need>,
}

impl Needs<'_> {
    /// What services and steps need.
    fn of_machine(mut self, job: &StepsJob) -> Vec<Need> {
        for (key, service) in job.services.as_ref().map_or(&[][..], Node::entries) {
            let who = format!("the service `{}`", shown(&key.text));
            self.add(
                Equipment::ContainerEngine,
                who,
                service.spot,
                Reached::Surely,
            );
        }
        if let Some(shell) = &job.defaults.shell
            && shell.text.trim() == "python"
        {
            self.add(
                Equipment::Python,
                "the shell `python`".into(),
                shell.spot,
                Reached::Perhaps,
            );
        }
        for step in &job.steps {
            let spot = match &step.body {
                StepBody::Uses { uses, .. } => uses.spot,
                StepBody::Run { shell, .. } => shell.as_ref().map_or(step.spot, |shell| shell.spot),
            };
            self.step(step, spot, Reached::Surely, 0);
        }
        self.found
    }

    fn add(&mut self, what: Equipment, who: String, spot: Spot, reached: Reached) {
        let reached = match (self.runs_in, what) {
            (_, Equipment::ContainerEngine) | (RunsIn::Machine, _) => reached,
            (RunsIn::Container, _) => return,
            (RunsIn::Either, _) => Reached::Perhaps,
        };
        let known = self.found.iter_mut().find(|need| need.what == what);
        let need = Need {
            what,
            who,
            spot,
            reached,
        };
        match known {
            None => self.found.push(need),
            Some(known) if known.reached == Reached::Perhaps && reached == Reached::Surely => {
                *known = need;
            }
            Some(_) => {}
        }
    }

    fn step(&mut self, step: &Step, spot: Spot, outer: Reached, depth: usize) {
        let reached = outer.of(step);
        let uses = match &step.body {
            StepBody::Uses { uses, .. } => uses,
            StepBody::Run { shell, .. } => {
                let is_python = |shell: &Text| shell.text.trim() == "python";
                if shell.as_ref().is_some_and(is_python) {
                    let who = "the shell `python`".to_owned();
                    self.add(Equipment::Python, who, spot, reached);
                }
                return;
            }
        };
        let name = shown(&uses.text);
        match self.actions.get(&uses.text) {
            Some(Resolved::Builtin(builtin)) => {
                if let Some(what) = Builtin::equipment(*builtin) {
                    self.add(what, format!("`{name}`"), spot, reached);
                }
            }
            Some(Resolved::Action(action)) => match &action.action.runs {
                Runs::Node(node) => {
                    let who = format!("`{name}` (`using: {}`)", shown(&node.using.text));
                    self.add(Equipment::Node, who, spot, reached);
                }
                Runs::Docker(_) => {
                    self.add(
                        Equipment::ContainerEngine,
                        format!("`{name}`"),
                        spot,
                        reached,
                    );
                }
                // Deeper ones were refused.
                Runs::Composite(steps) if depth < super::MAX_NESTING => {
                    for inner in steps {
                        self.step(inner, spot, reached, depth + 1);
                    }
                }
                Runs::Composite(_) => {}
            },
            Some(Resolved::Replaced(_) | Resolved::AtRun | Resolved::Missing(_)) => {}
            None => {
                if matches!(Uses::parse(uses.text.as_str()), Ok(Uses::Docker(_))) {
                    self.add(
                        Equipment::ContainerEngine,
                        format!("`{name}`"),
                        spot,
                        reached,
                    );
                }
            }
        }
    }
}
