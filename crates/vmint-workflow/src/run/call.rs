//! Jobs that call a reusable workflow of the repository.

use super::Cancel;
use super::Run;
use super::contexts::{Constant, OfJob, jobs_context};
use super::job;
use super::jobs::{Caller, Results, field_scope};
use super::state::JobResult;
use crate::event::inputs::{self, Of};
use crate::expr::{self, ContextName, Field, Object, Scope, Value, availability};
use crate::matrix::Combination;
use crate::record::Outcome;
use crate::spec::{CallJob, CallSecrets, Job, Map};
use crate::yaml::Node;
use indexmap::IndexMap;

impl<'r> Run<'r> {
    /// Runs the workflow that a job calls.
    pub(super) async fn call(
        &'r self,
        caller: &Caller<'r>,
        job: &'r Job,
        call: &'r CallJob,
        of_job: OfJob,
        combination: Option<&Combination>,
        cancel: Cancel,
    ) -> Option<JobResult> {
        let name = combination.map_or_else(|| job.id.clone(), |c| c.name(&job.id));
        let prepared = self.called(caller, call, &of_job, &name, cancel);
        let inner = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => {
                let record = self.job_record(caller, job, &name, &name, None);
                return Some(self.refused(record, &reason));
            }
        };
        let results = self.jobs(&inner, &[]).await;
        self.returned(&inner, results)
    }

    /// The workflow in its new surroundings.
    fn called(
        &self,
        caller: &Caller<'r>,
        call: &CallJob,
        of_job: &OfJob,
        name: &str,
        cancel: Cancel,
    ) -> Result<Caller<'r>, String> {
        let checked = &self.request.checked;
        let Some(workflow) = checked.called.get(&call.uses.text) else {
            return Err(format!("{} was not loaded", call.uses.text));
        };
        let scope = field_scope(caller, of_job, Field::JobWith);
        let with = values(&call.with, &scope, "with")?;
        let declared = inputs::declared(
            Of::Call,
            workflow
                .on_node
                .get("workflow_call")
                .and_then(|on| on.get("inputs")),
        );
        let declared = declared.map_err(|e| e.to_string())?;
        let defaults = caller.constant.scope(of_job);
        let defaults = defaults.limited_to(&availability(Field::CallInputDefault));
        let mut evaluate = |text: &crate::spec::Text| {
            expr::evaluate_text(&text.text, &defaults).map_err(|e| e.to_string())
        };
        let inputs = inputs::call(&declared, &with, &mut evaluate).map_err(|e| e.to_string())?;
        let secrets = match &call.secrets {
            CallSecrets::Inherit => caller.constant.secrets.clone(),
            CallSecrets::Named(map) => {
                let scope = field_scope(caller, of_job, Field::JobSecrets);
                let secrets = job::map(map, &scope, "secrets")?;
                Value::from(secrets.into_iter().collect::<Object>())
            }
        };
        let inner = Caller {
            workflow,
            file: call.uses.text.trim_start_matches("./").to_owned(),
            constant: Constant {
                github: caller.constant.github.clone(),
                vars: caller.constant.vars.clone(),
                secrets,
                inputs: Value::from(inputs),
            },
            prefix: format!("{}{name} / ", caller.prefix),
            cancel,
        };
        Ok(inner)
    }

    /// What the calling job gets.
    fn returned(&self, inner: &Caller<'_>, results: Results) -> Option<JobResult> {
        let mut ended = IndexMap::new();
        for (id, result) in results {
            ended.insert(id, result?);
        }
        let outcomes = || ended.values().map(|result| result.outcome);
        let mut outcome = if outcomes().any(|o| o == Outcome::Failure) {
            Outcome::Failure
        } else if outcomes().any(|o| o == Outcome::Cancelled) {
            Outcome::Cancelled
        } else if outcomes().all(|o| o == Outcome::Skipped) {
            Outcome::Skipped
        } else {
            Outcome::Success
        };
        let scope = inner.constant.scope(&OfJob::default());
        let scope = scope.with(ContextName::Jobs, jobs_context(&ended));
        let scope = scope.limited_to(&availability(Field::CallOutputValue));
        let mut outputs = IndexMap::new();
        let declared = inner.workflow.on_node.get("workflow_call");
        let declared = declared.and_then(|on| on.get("outputs"));
        for (name, output) in declared.into_iter().flat_map(Node::entries) {
            let text = output.get("value").and_then(Node::text);
            let value = expr::interpolate(&text.unwrap_or_default(), &scope);
            match value {
                Ok(value) => drop(outputs.insert(name.text.clone(), value)),
                Err(error) => {
                    let name = &name.text;
                    let text = format!("the output `{name}` cannot be evaluated: {error}");
                    self.recorder.note(self.mask(&text));
                    outcome = Outcome::Failure;
                }
            }
        }
        Some(JobResult { outcome, outputs })
    }
}

/// A mapping whose values keep their types.
fn values(map: &Map, scope: &Scope, field: &str) -> Result<Object, String> {
    let values = expr::evaluate_map(map, scope);
    let values = values.map_err(|e| format!("`{field}` cannot be evaluated: {e}"))?;
    Ok(values.into_iter().collect())
}
