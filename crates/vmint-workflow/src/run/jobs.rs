//! The jobs of a workflow: which come when, what makes them run or not, and what comes of them together.

use super::contexts::{Constant, OfJob, needs_context};
use super::state::JobResult;
use super::{Cancel, Run};
use crate::expr::{self, Availability, Field, Object, Scope, Status, Value, availability};
use crate::graph::Graph;
use crate::matrix;
use crate::observe::Change;
use crate::record::{JobRecord, Outcome};
use crate::spec::{Job, JobBody, Text, Workflow};
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use indexmap::IndexMap;
use std::collections::HashSet;
use vmint_model::{ErrorKind, Fault};

/// A workflow in its surroundings: the one that was started, or one that a job calls.
#[derive(Debug)]
pub(super) struct Caller<'r> {
    pub workflow: &'r Workflow,
    /// Its file, as the user knows it.
    pub file: String,
    pub constant: Constant,
    /// Stands before the keys of its jobs: `release / `.
    pub prefix: String,
    pub cancel: Cancel,
}

impl Caller<'_> {
    /// What sets a job apart in the run. It may hold a secret; [`JobRecord::key`] shows it.
    pub(super) fn key(&self, job: &str) -> String {
        format!("{}{job}", self.prefix)
    }
}

/// Jobs that have ended, by their ids. One that vmint or a machine has failed has no result.
pub(super) type Results = IndexMap<String, Option<JobResult>>;

impl<'r> Run<'r> {
    /// Runs the jobs of a workflow to their ends.
    pub(super) async fn jobs(&'r self, caller: &Caller<'r>, only: &[String]) -> Results {
        let mut pending: Vec<(usize, &'r Job)> =
            caller.workflow.jobs.values().enumerate().collect();
        pending.retain(|(_, job)| only.is_empty() || only.contains(&job.id));
        let mut results = Results::new();
        let graph = match Graph::of(caller.workflow) {
            Ok(graph) => graph,
            // The check has refused what cannot be ordered.
            Err(error) => return self.stuck(caller, pending, results, &error.to_string()),
        };
        let mut under_way = FuturesUnordered::new();
        loop {
            let (ready, rest): (Vec<_>, Vec<_>) = pending.into_iter().partition(|(at, _)| {
                let mut needs = graph.needs(*at).iter();
                needs.all(|need| results.contains_key(graph.name(*need)))
            });
            pending = rest;
            let has_ready = !ready.is_empty();
            for (at, job) in ready {
                let mut needed = graph.needs(at).iter();
                if needed.any(|need| results[graph.name(*need)].is_none()) {
                    self.never(
                        caller,
                        job,
                        "a job that it needs was lost with its machine, or by vmint",
                    );
                    results.insert(job.id.clone(), None);
                    continue;
                }
                let needs = needs(&graph, at, &results);
                let status = ancestors(&graph, at, &results);
                let id = job.id.clone();
                under_way.push(async move { (id, self.job(caller, job, needs, status).await) });
            }
            match under_way.next().await {
                Some((id, result)) => drop(results.insert(id, result)),
                None if has_ready => {}
                None if pending.is_empty() => return results,
                None => return self.stuck(caller, pending, results, "its `needs` never ended"),
            }
        }
    }

    /// Jobs that can never begin are a mistake of vmint's, and the run is not green for them.
    fn stuck(
        &self,
        caller: &Caller<'_>,
        pending: Vec<(usize, &Job)>,
        mut results: Results,
        why: &str,
    ) -> Results {
        for (_, job) in pending {
            let mut record = self.job_record(caller, job, &job.id, &job.id, None);
            let message = format!("job `{}` was never started: {why}", job.id);
            record.fault = Some(self.mask_fault(&Fault::new(ErrorKind::Internal, message)));
            self.recorder.add_job(record);
            results.insert(job.id.clone(), None);
        }
        results
    }

    /// Notes that a job was never begun.
    fn never(&self, caller: &Caller<'_>, job: &Job, reason: &'static str) {
        let mut record = self.job_record(caller, job, &job.id, &job.id, None);
        record.reason = Some(reason.into());
        self.recorder.add_job(record);
    }

    /// A job's record before it begins.
    pub(super) fn job_record(
        &self,
        caller: &Caller<'_>,
        job: &Job,
        key: &str,
        name: &str,
        matrix: Option<Value>,
    ) -> JobRecord {
        let environment = match &job.body {
            JobBody::Steps(body) => body.environment.as_ref().map(Value::from),
            JobBody::Call(_) => None,
        };
        JobRecord {
            key: self.mask(&caller.key(key)),
            id: self.mask(&job.id),
            name: self.mask(&format!("{}{name}", caller.prefix)),
            matrix: matrix.map(|matrix| self.mask_json(matrix)),
            needs: (job.needs.iter())
                .map(|need| self.mask(&need.text))
                .collect(),
            runs_on: Vec::new(),
            outcome: None,
            continue_on_error: false,
            reason: None,
            fault: None,
            machine: None,
            started_at_ms: None,
            ended_at_ms: None,
            waits: Vec::new(),
            outputs: Vec::new(),
            steps: Vec::new(),
            failed: None,
            left_out: None,
            permissions: (job.permissions.as_ref())
                .map(|permissions| self.mask_json(permissions.into())),
            environment: environment.map(|environment| self.mask_json(environment)),
        }
    }

    /// Runs a job: all combinations of its matrix.
    async fn job(
        &'r self,
        caller: &Caller<'r>,
        job: &'r Job,
        needs: IndexMap<String, JobResult>,
        status: Status,
    ) -> Option<JobResult> {
        let of_job = OfJob {
            needs: needs_context(needs.iter().map(|(id, result)| (&**id, result))),
            ..OfJob::default()
        };
        let status = if caller.cancel.by().is_some() {
            Status::Cancelled
        } else {
            status
        };
        let scope = field_scope(caller, &of_job, Field::JobIf).with_status(status);
        let condition = job.condition.as_ref().map(|text| text.text.as_str());
        match expr::condition(condition, &scope) {
            Ok(true) => {}
            Ok(false) => {
                let outcome = if status == Status::Cancelled {
                    Outcome::Cancelled
                } else {
                    Outcome::Skipped
                };
                return Some(self.unrun(caller, job, outcome, why_not(job, &needs, status)));
            }
            Err(error) => {
                let reason = format!("`if` cannot be evaluated: {error}");
                return Some(self.unrun(caller, job, Outcome::Failure, reason));
            }
        }
        let plan = match self.combinations(caller, job, &of_job) {
            Ok(plan) => plan,
            Err(reason) => return Some(self.unrun(caller, job, Outcome::Failure, reason)),
        };
        // Of a matrix, whatever fails cancels the rest, unless it may not.
        let cancel = caller.cancel.part();
        let instances = (0..plan.combinations.len()).map(|index| {
            let (of_job, cancel, plan) = (&of_job, &cancel, &plan);
            async move {
                let result = self.combination(caller, job, of_job, plan, index, cancel.part());
                let (result, counts) = result.await;
                let failed = result
                    .as_ref()
                    .is_none_or(|r| r.outcome == Outcome::Failure);
                if failed && counts == Counts::Fully && plan.fail_fast == FailFast::Yes {
                    cancel.cancel("fail-fast: another job of the matrix failed");
                }
                result
            }
        });
        let mut results = stream::iter(instances).buffer_unordered(plan.max_parallel);
        let mut joined = Some(JobResult {
            outcome: Outcome::Skipped,
            outputs: IndexMap::new(),
        });
        while let Some(result) = results.next().await {
            joined = join(joined, result);
        }
        joined
    }

    /// Notes that a job is not run.
    fn unrun(&self, caller: &Caller<'_>, job: &Job, outcome: Outcome, reason: String) -> JobResult {
        let name = job.name.as_ref().map_or(&job.id, |name| &name.text);
        let record = self.job_record(caller, job, &job.id, name, None);
        let at = self.recorder.add_job(record);
        let reason = self.mask(&reason);
        self.recorder.job(at, |job| {
            job.outcome = Some(outcome);
            job.reason = Some(reason);
        });
        self.recorder
            .change(Change::JobStarted { job: at.0 }, |_| {});
        self.recorder.change(Change::JobEnded { job: at.0 }, |_| {});
        JobResult {
            outcome,
            outputs: IndexMap::new(),
        }
    }

    /// Which combinations a job's matrix makes.
    fn combinations(&self, caller: &Caller<'_>, job: &Job, of_job: &OfJob) -> Result<Plan, String> {
        let Some(strategy) = &job.strategy else {
            return Ok(Plan::single());
        };
        let scope = field_scope(caller, of_job, Field::JobStrategy);
        let value = |text: &Option<Text>, field: &str| -> Result<Value, String> {
            let text = text.as_ref();
            let value = text.map(|text| expr::evaluate_text(&text.text, &scope));
            let value = value.transpose();
            let value =
                value.map_err(|e| format!("`strategy.{field}` cannot be evaluated: {e}"))?;
            Ok(value.unwrap_or_default())
        };
        let fail_fast = match value(&strategy.fail_fast, "fail-fast")? {
            Value::Null => FailFast::Yes,
            value if super::fields::truth(&value, "strategy.fail-fast")? => FailFast::Yes,
            _ => FailFast::No,
        };
        let max_parallel = match value(&strategy.max_parallel, "max-parallel")? {
            Value::Null => matrix::MOST,
            value => match value.to_number() {
                n if n >= 1.0 => (n as usize).min(matrix::MOST),
                _ => {
                    return Err(format!(
                        "`strategy.max-parallel` is {:?}; it must be a number from 1",
                        value.to_text()
                    ));
                }
            },
        };
        let Some(node) = &strategy.matrix else {
            return Ok(Plan {
                fail_fast,
                max_parallel,
                ..Plan::single()
            });
        };
        let matrix = expr::evaluate_node(node, &scope)
            .map_err(|e| format!("`strategy.matrix` cannot be evaluated: {e}"))?;
        let mut combinations = matrix::combinations(&matrix).map_err(|e| e.to_string())?;
        if caller.prefix.is_empty() && !self.request.matrix.is_empty() {
            combinations =
                matrix::keep(combinations, &self.request.matrix).map_err(|e| e.to_string())?;
        }
        Ok(Plan {
            combinations: combinations.into_iter().map(Some).collect(),
            fail_fast,
            max_parallel,
        })
    }

    /// Runs one combination of a job's matrix.
    async fn combination(
        &'r self,
        caller: &Caller<'r>,
        job: &'r Job,
        of_job: &OfJob,
        plan: &Plan,
        index: usize,
        cancel: Cancel,
    ) -> (Option<JobResult>, Counts) {
        let combination = &plan.combinations[index];
        let mut of_job = of_job.clone();
        of_job.strategy = plan.context(index);
        if let Some(combination) = combination {
            of_job.matrix = Value::from(combination.values.clone());
        }
        match &job.body {
            JobBody::Call(call) => {
                let result = self.call(caller, job, call, of_job, combination.as_ref(), cancel);
                (Box::pin(result).await, Counts::Fully)
            }
            JobBody::Steps(body) => {
                self.instance(caller, job, body, of_job, combination.as_ref(), cancel)
                    .await
            }
        }
    }
}

/// Whether a failure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// It does.
    Fully,
    /// `continue-on-error`: it is shown, and nothing comes of it.
    NotAtAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailFast {
    Yes,
    No,
}

/// What a job's strategy makes of it.
struct Plan {
    combinations: Vec<Option<matrix::Combination>>,
    fail_fast: FailFast,
    max_parallel: usize,
}

impl Plan {
    fn single() -> Self {
        Self {
            combinations: vec![None],
            fail_fast: FailFast::Yes,
            max_parallel: matrix::MOST,
        }
    }

    /// The `strategy` context.
    fn context(&self, index: usize) -> Value {
        let total = self.combinations.len();
        let mut strategy = Object::new();
        strategy.insert("fail-fast", self.fail_fast == FailFast::Yes);
        strategy.insert("job-index", index as f64);
        strategy.insert("job-total", total as f64);
        strategy.insert("max-parallel", self.max_parallel.min(total) as f64);
        strategy.into()
    }
}

/// What a field of a job may use of what the job sees.
pub(super) fn field_scope(caller: &Caller<'_>, of_job: &OfJob, field: Field) -> Scope {
    let availability: &Availability = &availability(field);
    caller.constant.scope(of_job).limited_to(availability)
}

/// The results of the jobs that a job needs, by their ids as they stand in the file.
fn needs(graph: &Graph, job: usize, results: &Results) -> IndexMap<String, JobResult> {
    let of = |need: &usize| {
        let id = graph.name(*need);
        Some((id.to_owned(), results.get(id)?.clone()?))
    };
    graph.needs(job).iter().filter_map(of).collect()
}

/// What `success()` and `failure()` say in the `if` of a job: all that it needs counts, with all that those need.
fn ancestors(graph: &Graph, job: usize, results: &Results) -> Status {
    let ended = |job: usize| results.get(graph.name(job)).and_then(Option::as_ref);
    let ancestors = graph.ancestors(job).into_iter();
    let outcomes: HashSet<Outcome> = ancestors
        .filter_map(ended)
        .map(|result| result.outcome)
        .collect();
    if outcomes.contains(&Outcome::Failure) {
        Status::Failure
    } else if outcomes.contains(&Outcome::Skipped) || outcomes.contains(&Outcome::Cancelled) {
        Status::Skipped
    } else {
        Status::Success
    }
}

/// Why a job was not run, for the user.
fn why_not(job: &Job, needs: &IndexMap<String, JobResult>, status: Status) -> String {
    if let Some(condition) = &job.condition {
        return format!("`if: {}` is false", condition.text);
    }
    if status == Status::Cancelled {
        return "the run was cancelled before".to_owned();
    }
    let unsuccessful = needs.iter().find(|(_, r)| r.outcome != Outcome::Success);
    match unsuccessful {
        Some((id, result)) => {
            let what = match result.outcome {
                Outcome::Failure => "failed",
                Outcome::Cancelled => "was cancelled",
                _ => "was skipped",
            };
            format!("it needs {id}, which {what}")
        }
        None => "a job further up did not succeed".to_owned(),
    }
}

/// What comes of a matrix when one more of its jobs has ended.
fn join(all: Option<JobResult>, one: Option<JobResult>) -> Option<JobResult> {
    let (mut all, one) = (all?, one?);
    let rank = |outcome: Outcome| match outcome {
        Outcome::Skipped => 0,
        Outcome::Success => 1,
        Outcome::Cancelled => 2,
        Outcome::Failure => 3,
    };
    if rank(one.outcome) > rank(all.outcome) {
        all.outcome = one.outcome;
    }
    for (name, value) in one.outputs {
        // The last to end wins, but not with nothing.
        if !value.is_empty() || !all.outputs.contains_key(&name) {
            all.outputs.insert(name, value);
        }
    }
    Some(all)
}

/// The fault of a workflow whose jobs cannot share a machine.
pub(super) fn cannot_share(one: (&str, &str), other: (&str, &str)) -> Fault {
    let message = format!(
        "job {} runs on {} and job {} on {}, and a workflow has one machine",
        one.0, one.1, other.0, other.1
    );
    Fault::new(ErrorKind::Usage, message)
        .hint("give each job a machine of its own: --machine-per job")
}
