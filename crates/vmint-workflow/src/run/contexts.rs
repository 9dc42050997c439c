//! The contexts that expressions see, put together.

use super::state::{JobResult, Steps, steps_context};
use crate::event::context::OF_MACHINE;
use crate::expr::{ContextName, Object, Scope, Status, Value};
use indexmap::IndexMap;

/// Contexts that stay the same for all jobs of a workflow.
#[derive(Clone, Debug, Default)]
pub struct Constant {
    /// `github`, but for what changes with jobs and steps.
    pub github: Object,
    /// `vars`.
    pub vars: Value,
    /// `secrets`.
    pub secrets: Value,
    /// `inputs`.
    pub inputs: Value,
}

/// Contexts that stay the same for all steps of a job.
#[derive(Clone, Debug, Default)]
pub struct OfJob {
    /// `needs`.
    pub needs: Value,
    /// `strategy`.
    pub strategy: Value,
    /// `matrix`.
    pub matrix: Value,
}

impl Constant {
    /// What a job's own fields see. Before there is a machine, what only it can tell is not known.
    pub fn scope(&self, job: &OfJob) -> Scope {
        let has_machine = self.github.get("workspace").is_some_and(Value::is_truthy);
        let unknown: &[&str] = if has_machine { &[] } else { OF_MACHINE };
        Scope::new()
            .without(unknown)
            .with(ContextName::Github, self.github.clone())
            .with(ContextName::Vars, self.vars.clone())
            .with(ContextName::Secrets, self.secrets.clone())
            .with(ContextName::Inputs, self.inputs.clone())
            .with(ContextName::Needs, job.needs.clone())
            .with(ContextName::Strategy, job.strategy.clone())
            .with(ContextName::Matrix, job.matrix.clone())
    }
}

/// The `env` context: on Linux the case of names counts.
pub fn env_context(env: &IndexMap<String, String>) -> Value {
    let mut object = Object::case_sensitive();
    for (name, value) in env {
        object.insert(name.clone(), value.clone());
    }
    object.into()
}

/// The `needs` context.
pub fn needs_context<'a>(needs: impl Iterator<Item = (&'a str, &'a JobResult)>) -> Value {
    let of = |(id, result): (&str, &JobResult)| {
        let outputs = result.outputs.iter();
        let outputs: Object = outputs.map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut object = Object::new();
        object.insert("result", result.outcome.as_str());
        object.insert("outputs", outputs);
        (id.to_owned(), Value::from(object))
    };
    Value::from(needs.map(of).collect::<Object>())
}

/// The `jobs` context, in the outputs of a reusable workflow.
pub fn jobs_context(results: &IndexMap<String, JobResult>) -> Value {
    needs_context(results.iter().map(|(id, result)| (&**id, result)))
}

/// What a step sees besides what its job sees.
pub fn with_step(
    scope: Scope,
    github: Object,
    env: &IndexMap<String, String>,
    steps: &Steps,
    status: Status,
) -> Scope {
    scope
        .with(ContextName::Github, github)
        .with(ContextName::Env, env_context(env))
        .with(ContextName::Steps, steps_context(steps))
        .with_status(status)
        .with_hash_files()
}
