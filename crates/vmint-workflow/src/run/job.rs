//! One combination of a job, from its name to its machine and back.

use super::contexts::OfJob;
use super::fields;
use super::instance::{Instance, Trouble};
use super::jobs::{Caller, Counts, field_scope};
use super::request::MachinePer;
use super::session::Session;
use super::state::{JobResult, JobState};
use super::teller::{Positions, Teller};
use super::view::View;
use super::wire::Wire;
use super::{Cancel, Run};
use crate::expr::{self, Field, Scope, Value};
use crate::guest::{Group, GroupMode, Place};
use crate::limits::{self, Limits};
use crate::mask::Masked;
use crate::matcher::Matchers;
use crate::matrix::Combination;
use crate::observe::Change;
use crate::record::{JobRecord, Outcome, Wait};
use crate::setup::probe::Inventory;
use crate::spec::{Job, Map, StepsJob, Text};
use crate::trace::{Doing, Within};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmint_model::now_ms;
use vmint_model::{ErrorKind, Fault, Name};

/// What of a job is known before it has a machine.
struct Prepared {
    record: JobRecord,
    /// By this the job is found again; it may hold a secret.
    key: String,
    place: Place,
    /// What of it is not as on GitHub.
    place_note: Option<String>,
    limit: Option<Duration>,
    counts: Counts,
    /// The concurrency group that it waits for.
    group: Option<(String, GroupMode)>,
}

/// Why a job is not run here.
struct LeftOut {
    labels: Vec<Masked>,
    pattern: Masked,
    reason: Masked,
}

impl<'r> Run<'r> {
    /// Runs one combination of a job of steps.
    pub(super) async fn instance(
        &'r self,
        caller: &Caller<'r>,
        job: &'r Job,
        body: &'r StepsJob,
        of_job: OfJob,
        combination: Option<&Combination>,
        cancel: Cancel,
    ) -> (Option<JobResult>, Counts) {
        let key = combination.map_or_else(|| job.id.clone(), |c| c.name(&job.id));
        let name = Self::job_name(caller, job, &of_job, combination);
        let matrix = combination.map(|c| Value::from(c.values.clone()));
        let record = self.job_record(caller, job, &key, &name, matrix);
        let key = caller.key(&key);
        if let Some(done) = self.taken_over(&key) {
            return (Some(done), Counts::Fully);
        }
        if let Some(reason) = self.left_out(caller, body, &of_job) {
            return (Some(self.skipped(record, &reason)), Counts::Fully);
        }
        let prepared = match self.prepare(caller, (job, body), &of_job, record.clone(), key) {
            Ok(prepared) => prepared,
            Err(Trouble::Step(reason)) => {
                return (Some(self.refused(record, &reason)), Counts::Fully);
            }
            Err(Trouble::Fault(fault)) => {
                self.lose(record, &fault);
                return (None, Counts::Fully);
            }
            Err(Trouble::Ended(_)) => unreachable!("no command runs before there is a machine"),
        };
        let counts = prepared.counts;
        let result = self.with_machine(caller, job, body, of_job, prepared, cancel);
        // A job is much to keep in the futures of all that wait for it.
        (Box::pin(result).await, counts)
    }

    /// Why a job is not run here, if it is not.
    fn left_out(&self, caller: &Caller<'_>, body: &StepsJob, of_job: &OfJob) -> Option<LeftOut> {
        let scope = field_scope(caller, of_job, Field::JobRunsOn);
        // What is wrong with them is said when the job is prepared.
        let labels = labels(&body.runs_on, &scope).ok()?;
        let (label, pattern) = self.request.options.left_out.first(&labels)?;
        let reason = format!("its label {label} matches {pattern} of skip-runs-on");
        Some(LeftOut {
            reason: self.mask(&reason),
            pattern: self.mask(pattern),
            labels: self.mask_all(&labels),
        })
    }

    /// `name`, evaluated; with the matrix's values unless it names some itself.
    fn job_name(
        caller: &Caller<'_>,
        job: &Job,
        of_job: &OfJob,
        combination: Option<&Combination>,
    ) -> String {
        let with_values = |name: &str| combination.map_or(name.to_owned(), |c| c.name(name));
        let Some(name) = &job.name else {
            return with_values(&job.id);
        };
        let scope = field_scope(caller, of_job, Field::JobName);
        let evaluated = expr::interpolate(&name.text, &scope);
        let evaluated = evaluated.unwrap_or_else(|_| name.text.clone());
        if name.text.contains("${{") {
            evaluated
        } else {
            with_values(&evaluated)
        }
    }

    /// Notes a job that cannot be begun through its own fault.
    pub(super) fn refused(&self, record: JobRecord, reason: &str) -> JobResult {
        let at = self.recorder.add_job(record);
        let reason = self.mask(reason);
        self.recorder.job(at, |job| {
            job.outcome = Some(Outcome::Failure);
            job.reason = Some(reason);
        });
        self.recorder
            .change(Change::JobStarted { job: at.0 }, |_| {});
        self.recorder.change(Change::JobEnded { job: at.0 }, |_| {});
        JobResult {
            outcome: Outcome::Failure,
            outputs: IndexMap::new(),
        }
    }

    /// Notes a job that is not run here.
    fn skipped(&self, record: JobRecord, why: &LeftOut) -> JobResult {
        let at = self.recorder.add_job(record);
        self.recorder.job(at, |job| {
            job.outcome = Some(Outcome::Skipped);
            job.runs_on.clone_from(&why.labels);
            job.left_out = Some(why.pattern.clone());
            job.reason = Some(why.reason.clone());
        });
        self.recorder
            .change(Change::JobStarted { job: at.0 }, |_| {});
        self.recorder.change(Change::JobEnded { job: at.0 }, |_| {});
        JobResult {
            outcome: Outcome::Skipped,
            outputs: IndexMap::new(),
        }
    }

    /// Notes a job that was cancelled before it began.
    fn cancelled(&self, record: JobRecord, by: &str) -> JobResult {
        let at = self.recorder.add_job(record);
        let reason = self.mask(by);
        self.recorder.change(Change::JobEnded { job: at.0 }, |run| {
            run.jobs[at.0].outcome = Some(Outcome::Cancelled);
            run.jobs[at.0].reason = Some(reason);
        });
        JobResult {
            outcome: Outcome::Cancelled,
            outputs: IndexMap::new(),
        }
    }

    /// Notes a job that has no machine, or lost it.
    fn lose(&self, record: JobRecord, fault: &Fault) {
        let at = self.recorder.add_job(record);
        self.recorder
            .change(Change::JobStarted { job: at.0 }, |_| {});
        self.lost(at, fault);
    }

    /// Notes that vmint or a machine has failed a job.
    pub(super) fn lost(&self, at: super::recorder::JobAt, fault: &Fault) {
        let fault = self.mask_fault(fault);
        self.recorder.change(Change::JobEnded { job: at.0 }, |run| {
            run.jobs[at.0].fault = Some(fault);
            run.jobs[at.0].ended_at_ms = Some(now_ms());
        });
    }

    fn prepare(
        &self,
        caller: &Caller<'_>,
        (job, body): (&Job, &StepsJob),
        of_job: &OfJob,
        mut record: JobRecord,
        key: String,
    ) -> Result<Prepared, Trouble> {
        let scope = |field| field_scope(caller, of_job, field);
        let wrong = |field: &str| {
            let field = field.to_owned();
            move |e: expr::EvalError| Trouble::Step(format!("`{field}` cannot be evaluated: {e}"))
        };
        let labels = labels(&body.runs_on, &scope(Field::JobRunsOn))?;
        record.runs_on = self.mask_all(&labels);
        let place = self.site.resolve(&labels).map_err(of_file)?;
        let place_note = self.site.note(&labels);
        let value = |text: Option<&Text>, field, name: &str| -> Result<Option<Value>, Trouble> {
            let value = text.map(|text| expr::evaluate_text(&text.text, &scope(field)));
            value.transpose().map_err(wrong(name))
        };
        let may_fail = value(
            body.continue_on_error.as_ref(),
            Field::JobContinueOnError,
            "continue-on-error",
        )?;
        let may_fail = fields::truth(&may_fail.unwrap_or_default(), "continue-on-error");
        record.continue_on_error = may_fail.map_err(Trouble::Step)?;
        let limit = value(
            body.timeout_minutes.as_ref(),
            Field::JobTimeoutMinutes,
            "timeout-minutes",
        )?;
        let limit = limit.map(|value| limits::minutes(value.to_number()));
        let limit = limit
            .transpose()
            .map_err(|e| Trouble::Step(e.to_string()))?;
        let group = match &job.concurrency {
            Some(concurrency) => {
                let group = Self::group(concurrency, &scope(Field::JobConcurrency));
                Some(group.map_err(Trouble::Step)?)
            }
            None => None,
        };
        let own = self.group.get();
        if let (Some((group, _)), Some(own)) = (&group, own)
            && own.eq_ignore_ascii_case(group)
        {
            let reason = "its concurrency group is the workflow's own, so it would wait for itself";
            return Err(Trouble::Step(reason.into()));
        }
        let counts = if record.continue_on_error {
            Counts::NotAtAll
        } else {
            Counts::Fully
        };
        Ok(Prepared {
            record,
            key,
            place,
            place_note,
            limit,
            counts,
            group,
        })
    }

    /// Runs a job once it has a machine.
    async fn with_machine(
        &'r self,
        caller: &Caller<'r>,
        job: &'r Job,
        body: &'r StepsJob,
        of_job: OfJob,
        prepared: Prepared,
        cancel: Cancel,
    ) -> Option<JobResult> {
        let Prepared {
            record,
            key,
            place,
            place_note,
            limit,
            group,
            ..
        } = prepared;
        if let Some(note) = &place_note {
            self.recorder.note(self.mask(&format!("{key}: {note}")));
        }
        let mut member = None;
        let mut waits = Waits::default();
        if let Some((group, mode)) = group {
            let since = now_ms();
            let say = |text: &str| self.recorder.waiting(self.mask(text));
            let waits_for = format!("the concurrency group of job {key}");
            let doing = self.trace_wait(&waits_for);
            let shown = self.mask(&group);
            let group = Group {
                name: &group,
                shown: &shown,
            };
            match self.site.enter_group(group, mode, &say, &cancel).await {
                Ok(entered) => {
                    doing.end("done");
                    waits.add("its concurrency group", since);
                    member = Some(entered);
                }
                Err(fault) if fault.kind == ErrorKind::Interrupted => {
                    return Some(self.cancelled(record, &fault.message));
                }
                Err(fault) => {
                    self.lose(record, &fault);
                    return None;
                }
            }
        }
        // In one machine the jobs follow each other; who waits for it holds nothing.
        let since = now_ms();
        let mut shared = match self.request.options.machine_per {
            MachinePer::Workflow => {
                let waits_for = format!("the machine that all jobs share, for job {key}");
                let doing = self.trace_wait(&waits_for);
                let machine = self.machine.lock().await;
                doing.end("done");
                Some(machine)
            }
            MachinePer::Job => None,
        };
        if let Some(by) = cancel.by() {
            return Some(self.cancelled(record, &by));
        }
        waits.add("the machine that all jobs share", since);
        let at = self.recorder.add_job(record);
        let tracer = self.recorder.tracer();
        let shown = self.recorder.job(at, |job| job.key.clone());
        let job_goes = tracer.begin_part(at.0, (Within::Run, Doing::Job), shown);
        let since = now_ms();
        let resume = self.resume_of(&key);
        let from = match (&self.request.resume, self.request.options.machine_per) {
            (Some(resume), MachinePer::Workflow) => Some(&resume.snapshot),
            _ => resume.map(|resume| &resume.snapshot),
        };
        let label = self.mask(&format!("workflow {} {key}", self.request.id));
        let machine = self.mask(&format!("a machine of image {}", place.image));
        let doing = tracer.begin(Within::Job(at.0), Doing::Wait, machine.clone());
        let session = match &mut shared {
            Some(machine) => {
                self.shared(machine, &place, &key, label, from, &cancel)
                    .await
            }
            None => self.acquire(&place, label, from, &cancel).await,
        };
        let session = match session {
            Ok(session) => session,
            Err(Acquiring::Cancelled(by)) => {
                let reason = self.mask(&by);
                self.recorder.change(Change::JobEnded { job: at.0 }, |run| {
                    run.jobs[at.0].outcome = Some(Outcome::Cancelled);
                    run.jobs[at.0].reason = Some(reason);
                });
                return Some(JobResult {
                    outcome: Outcome::Cancelled,
                    outputs: IndexMap::new(),
                });
            }
            Err(Acquiring::Failed(fault)) => {
                self.recorder
                    .change(Change::JobStarted { job: at.0 }, |_| {});
                self.lost(at, &fault);
                return None;
            }
        };
        doing.end("done");
        waits.add(machine, since);
        let index = session.index();
        let own = shared.is_none().then(|| session.clone());
        self.recorder
            .change(Change::JobStarted { job: at.0 }, |run| {
                run.jobs[at.0].machine = Some(index);
                run.jobs[at.0].waits = waits.0;
                run.jobs[at.0].started_at_ms = Some(now_ms());
            });
        let state = match resume {
            Some(resume) => resume.saved.state.clone(),
            None => JobState::default(),
        };
        for mask in &state.masks {
            // Those that were refused were refused then.
            let _ = self.masks().add(mask);
        }
        let whole = cancel.clone();
        let workspace = super::paths::workspace(&self.repository_name());
        let scope = caller.constant.scope(&of_job);
        let view = View::of(body.container.as_ref(), &workspace, &scope);
        let limits = Limits::new(Instant::now(), limit, self.deadline);
        let tell = Teller::new(self, at);
        let instance = Instance {
            run: self,
            wire: Wire::new(session, cancel, limits, tell),
            tell,
            positions: Positions::new(at),
            constant: caller.constant.clone(),
            node: None,
            machine_node: None,
            late: HashMap::new(),
            file: caller.file.clone(),
            place_note,
            workflow_env: &caller.workflow.env,
            job,
            body,
            of_job,
            key: key.clone(),
            state,
            view,
            inventory: Inventory::default(),
            matchers: Matchers::new(),
            defaults: super::instance::Defaults::of(caller.workflow, body),
            facts: Vec::new(),
            runner: Value::Null,
            engine: None,
            teardown: None,
        };
        let running = instance.run(resume.map(|resume| resume.saved.done));
        tokio::pin!(running);
        let result = match &mut member {
            None => running.await,
            Some(member) => tokio::select! {
                result = &mut running => result,
                by = member.cancelled() => {
                    whole.cancel(by);
                    running.await
                }
            },
        };
        if shared.is_none()
            && let Some(session) = own
            && let Some(session) = Arc::into_inner(session)
            && let Err(fault) = session.release(self.recorder).await
        {
            self.note_fault(&fault.context("a machine could not be given back"));
        }
        job_goes.end(
            result
                .as_ref()
                .map_or("fault", |result| result.outcome.as_str()),
        );
        if let Some(result) = &result {
            self.results().insert(key, result.clone());
        }
        result
    }

    /// The machine that all jobs share; acquired for the first.
    async fn shared(
        &self,
        machine: &mut Option<Arc<Session>>,
        place: &Place,
        key: &str,
        label: Masked,
        from: Option<&Name>,
        cancel: &Cancel,
    ) -> Result<Arc<Session>, Acquiring> {
        let Some(session) = machine else {
            let session = self.acquire(place, label, from, cancel).await?;
            *machine = Some(session.clone());
            return Ok(session);
        };
        if session.is_lost() {
            let message = "the machine of the workflow was lost before this job";
            let fault = Fault::new(ErrorKind::MachineLost, message);
            return Err(Acquiring::Failed(fault));
        }
        if session.place() != place {
            let first = self.recorder.read(|run| run.jobs[0].name.clone());
            let one = (&*first, session.place().image.as_str());
            let fault = super::jobs::cannot_share(one, (key, &place.image));
            return Err(Acquiring::Failed(fault));
        }
        Ok(session.clone())
    }

    /// Waits for a machine, or for a cancellation.
    async fn acquire(
        &self,
        place: &Place,
        label: Masked,
        from: Option<&Name>,
        cancel: &Cancel,
    ) -> Result<Arc<Session>, Acquiring> {
        tokio::select! {
            session = Session::acquire(self.site, place, label, from, (self.recorder, &self.masks), &self.cancel) => {
                session.map(Arc::new).map_err(Acquiring::Failed)
            }
            by = cancel.cancelled() => Err(Acquiring::Cancelled(by)),
        }
    }
}

/// What a job waits for before it begins.
#[derive(Default)]
struct Waits(Vec<Wait>);

impl Waits {
    /// Adds something that was waited for until now; what was there at once is none.
    fn add(&mut self, what: impl Into<Masked>, from_ms: i64) {
        let to_ms = now_ms();
        if to_ms > from_ms {
            let what = what.into();
            self.0.push(Wait {
                what,
                from_ms,
                to_ms,
            });
        }
    }
}

/// Why there is no machine.
enum Acquiring {
    Cancelled(String),
    Failed(Fault),
}

/// The labels of `runs-on`.
pub(super) fn labels(texts: &[Text], scope: &Scope) -> Result<Vec<String>, Trouble> {
    crate::labels::evaluate(texts, scope).map_err(Trouble::Step)
}

/// Labels that no machine has are the file's fault; all else is not.
fn of_file(fault: Fault) -> Trouble {
    match fault.kind {
        ErrorKind::Usage => {
            let hint = fault
                .hint
                .map_or(String::new(), |hint| format!(" ({hint})"));
            Trouble::Step(format!("{}{hint}", fault.message))
        }
        _ => Trouble::Fault(fault),
    }
}

/// A mapping of a field outside of steps.
pub(super) fn map(
    map: &Map,
    scope: &Scope,
    field: &str,
) -> Result<IndexMap<String, String>, String> {
    expr::evaluate_map(map, scope)
        .map(fields::texts)
        .map_err(|e| format!("`{field}` cannot be evaluated: {e}"))
}
