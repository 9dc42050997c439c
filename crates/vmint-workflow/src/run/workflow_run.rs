//! A run from its beginning to its end: what it knows, what ends it early, and how it ended.

use super::cancel::Cancel;
use super::contexts::{self, Constant};
use super::fields;
use super::jobs::{self, Caller};
use super::late::Late;
use super::recorder::Recorder;
use super::request::{MachinePer, Request, Resume};
use super::session::Session;
use super::state::JobResult;
use crate::check::Resolved;
use crate::event::context::{self, Scene};
use crate::expr::{self, Field, Object, Value, availability};
use crate::guest::{Group, Site};
use crate::limits::Deadline;
use crate::mask::{Masked, Masks};
use crate::observe::{Change, Observer};
use crate::record::{
    Limit, MaskedFault, MaskedJson, Outcome, Resumed, RunEnd, RunRecord, StepKind, StepRecord,
};
use crate::trace::{Activity, Doing, Within};
use indexmap::IndexMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;
use tracing::Instrument as _;
use vmint_model::now_ms;
use vmint_model::{ErrorKind, Fault};

/// A run that runs.
pub(crate) struct Run<'a> {
    pub(super) request: &'a Request,
    pub(super) site: &'a dyn Site,
    pub(super) recorder: &'a Recorder<'a>,
    pub(super) cancel: Cancel,
    pub(super) masks: Mutex<Masks>,
    /// The machine that all jobs share.
    pub(super) machine: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Jobs that have ended, by their keys.
    pub(super) results: Mutex<IndexMap<String, JobResult>>,
    /// Actions that were read from workspaces.
    pub(super) late: Late<Resolved>,
    /// When the run's own time is over.
    pub(super) deadline: Option<Deadline>,
    /// How it ends, when it is paused.
    pub(super) paused: OnceLock<RunEnd>,
    /// Its concurrency group, as it is.
    pub(super) group: OnceLock<String>,
}

/// Runs a workflow to its end, whatever that is.
pub async fn run(
    request: &Request,
    site: &dyn Site,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> RunRecord {
    let mut masks = Masks::new();
    let refused = request
        .secrets
        .iter()
        .find_map(|(_, secret)| masks.add(secret).err());
    let recorder = Recorder::new(begun(request, &masks), &request.folder, observer);
    recorder.change(Change::Started, |_| {});
    let name = recorder.read(|run| run.workflow.clone());
    let doing = recorder.tracer().begin(Within::Nothing, Doing::Run, name);
    let end = match (&request.not_triggered, refused) {
        (_, Some(error)) => {
            let fault = Fault::new(ErrorKind::Usage, error.to_string());
            RunEnd::Fault {
                fault: MaskedFault::new(&fault, &masks),
            }
        }
        (Some(reason), None) => RunEnd::NotTriggered {
            reason: masks.mask(reason),
        },
        (None, None) => {
            let running = carry_out(request, site, &recorder, cancel, masks);
            let span = tracing::debug_span!("workflow", run = %request.id);
            running.instrument(span).await
        }
    };
    doing.end(end.as_str());
    recorder.change(Change::Ended, |run| {
        run.end = Some(end);
        run.ended_at_ms = Some(now_ms());
        run.clone()
    })
}

/// The record of a run that begins.
fn begun(request: &Request, masks: &Masks) -> RunRecord {
    let workflow = &request.checked.workflow;
    let name = &workflow.name;
    let permissions = workflow.permissions.as_ref().map(Value::from);
    RunRecord {
        id: request.id.clone(),
        workflow: masks.mask(name.as_ref().unwrap_or(&request.path)),
        title: None,
        file: request.file.clone(),
        repository: request.repository.root.clone(),
        event: masks.mask(&request.event.name),
        git_ref: masks.mask(&request.event.git_ref),
        sha: request.event.sha.clone(),
        resumed: request.resume.as_ref().map(|resume| Resumed {
            run: resume.record.id.clone(),
            job: masks.mask(&resume.saved.job),
            step: resume.step,
        }),
        owner: request.owner.clone(),
        started_at_ms: now_ms(),
        ended_at_ms: None,
        end: None,
        permissions: permissions.map(|p| MaskedJson::of(p, masks)),
        concurrency: None,
        machines: Vec::new(),
        jobs: Vec::new(),
        notes: request
            .note
            .iter()
            .map(|note| masks.mask(&format!("on GitHub this would not start: {note}")))
            .collect(),
    }
}

async fn carry_out(
    request: &Request,
    site: &dyn Site,
    recorder: &Recorder<'_>,
    cancel: &Cancel,
    masks: Masks,
) -> RunEnd {
    let began = Instant::now();
    let limit = request.options.timeout;
    let run = Run {
        request,
        site,
        recorder,
        cancel: cancel.part(),
        masks: Mutex::new(masks),
        machine: tokio::sync::Mutex::new(None),
        results: Mutex::new(IndexMap::new()),
        paused: OnceLock::new(),
        group: OnceLock::new(),
        late: Late::default(),
        deadline: limit.map(|limit| Deadline::new(Limit::Workflow, began, limit)),
    };
    let end = run.whole().await;
    // No job runs any more, so nobody else has it.
    let machine = run.machine.lock().await.take();
    if let Some(session) = machine.and_then(Arc::into_inner)
        && let Err(fault) = session.release(recorder).await
        && !matches!(end, RunEnd::Fault { .. })
    {
        let fault = fault.context("the machine could not be given back");
        return RunEnd::Fault {
            fault: run.mask_fault(&fault),
        };
    }
    end
}

impl<'a> Run<'a> {
    /// Runs it, and says how it ended.
    async fn whole(&'a self) -> RunEnd {
        let caller = Caller {
            workflow: &self.request.checked.workflow,
            file: self.request.path.clone(),
            constant: self.constant(),
            prefix: String::new(),
            cancel: self.cancel.clone(),
        };
        self.evaluate_title(&caller.constant);
        let group = match self.enter_group(&caller).await {
            Ok(group) => group,
            Err(end) => return end,
        };
        if let Err(fault) = self.check_places() {
            return RunEnd::Fault {
                fault: self.mask_fault(&fault),
            };
        }
        let jobs = self.jobs(&caller, &self.request.jobs);
        let watched = self.watch(group);
        tokio::pin!(jobs);
        // The jobs end, one way or the other, after what is watched for has cancelled them.
        tokio::select! {
            _ = &mut jobs => {}
            () = watched => drop(jobs.await),
        }
        self.conclude()
    }

    /// Cancels the run when its time is over, or when another run of its concurrency group wants that. Never returns
    /// otherwise.
    async fn watch(&self, group: Option<Box<dyn crate::guest::Member>>) {
        let over = async {
            match self.deadline {
                Some(deadline) => {
                    let slack = std::time::Duration::from_secs(1);
                    // The guest ends what runs; this ends what waits.
                    tokio::time::sleep_until((deadline.at + slack).into()).await;
                    "the workflow ran past its time limit".to_owned()
                }
                None => std::future::pending().await,
            }
        };
        let replaced = async {
            match group {
                Some(mut group) => {
                    let by = group.cancelled().await;
                    (by, Some(group))
                }
                None => std::future::pending().await,
            }
        };
        // The place in the group is kept as long as this is: until the run has ended.
        let (by, _kept) = tokio::select! {
            by = over => (by, None),
            cancelled = replaced => cancelled,
        };
        self.cancel.cancel(by);
        std::future::pending::<()>().await;
    }

    fn conclude(&self) -> RunEnd {
        let ended = self.recorder.record();
        if let Some(paused) = self.paused.get() {
            return paused.clone();
        }
        // In haste nothing is waited for, and what was cut off is no fault.
        if self.cancel.is_hastened() {
            let by = self.cancel.by().unwrap_or_default();
            return RunEnd::Cancelled { by: self.mask(&by) };
        }
        let fault = ended.jobs.iter().find_map(|job| job.fault.clone());
        if let Some(fault) = fault {
            return RunEnd::Fault { fault };
        }
        if let Some(deadline) = self.deadline.filter(|d| d.is_over(Instant::now()))
            && ended
                .jobs
                .iter()
                .any(|job| job.outcome == Some(Outcome::Cancelled))
        {
            let limit_ms = deadline.limit.as_millis() as u64;
            return RunEnd::TimedOut { limit_ms };
        }
        if let Some(by) = self.cancel.by() {
            return RunEnd::Cancelled { by: self.mask(&by) };
        }
        let failed = ended.jobs.iter().any(|job| {
            matches!(job.outcome, Some(Outcome::Failure | Outcome::Cancelled))
                && !(job.continue_on_error && job.outcome == Some(Outcome::Failure))
        });
        if failed {
            return RunEnd::Failure;
        }
        // Of a job that was left out nothing is known, and of others that needed it neither.
        let nothing_ran = ended
            .jobs
            .iter()
            .all(|j| j.outcome == Some(Outcome::Skipped));
        if nothing_ran && ended.jobs.iter().any(|job| job.left_out.is_some()) {
            let fault = Fault::new(ErrorKind::Usage, "skip-runs-on leaves no job to run");
            let fault = fault
                .hint("remove the pattern from `[workflow] skip-runs-on`, or run another workflow");
            return RunEnd::Fault {
                fault: self.mask_fault(&fault),
            };
        }
        RunEnd::Success
    }

    /// The contexts of the workflow that was started.
    fn constant(&self) -> Constant {
        let request = self.request;
        let pairs = |pairs: &[(String, String)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()));
            Value::from(pairs.collect::<Object>())
        };
        Constant {
            github: context::github(&self.scene()),
            vars: pairs(&request.vars),
            secrets: pairs(&request.secrets),
            inputs: Value::from(request.inputs.clone()),
        }
    }

    /// What contexts are made of.
    pub(super) fn scene(&self) -> Scene<'_> {
        let request = self.request;
        let secrets = request.secrets.iter();
        let mut token = secrets.filter(|(name, _)| name.eq_ignore_ascii_case("GITHUB_TOKEN"));
        let name = request.checked.workflow.name.as_ref();
        Scene {
            repository: &request.repository,
            event: &request.event,
            workflow: name.unwrap_or(&request.path),
            workflow_path: &request.path,
            run_id: u64::from_str_radix(&request.id.as_str()[1..], 16).unwrap_or(0),
            run_number: request.run_number,
            run_attempt: 1,
            job: None,
            token: token.next().map(|(_, token)| token.as_str()),
            machine: None,
        }
    }

    /// `run-name`, evaluated.
    fn evaluate_title(&self, constant: &Constant) {
        let Some(title) = &self.request.checked.workflow.run_name else {
            return;
        };
        let scope = constant.scope(&contexts::OfJob::default());
        let scope = scope.limited_to(&availability(Field::RunName));
        let title = match expr::interpolate(&title.text, &scope) {
            Ok(title) => self.mask(&title),
            Err(error) => {
                self.recorder
                    .note(self.mask(&format!("`run-name` cannot be evaluated: {error}")));
                return;
            }
        };
        self.recorder.quietly(|run| run.title = Some(title));
    }

    /// Refuses labels that stand for no machine, and jobs that cannot share one, before anything runs. Labels that depend
    /// on what jobs give are looked at when that is known.
    fn check_places(&self) -> Result<(), Fault> {
        let workflow = &self.request.checked.workflow;
        let mut first: Option<(&str, crate::guest::Place)> = None;
        let asked = &self.request.jobs;
        let jobs = workflow.jobs.values();
        for job in jobs.filter(|job| asked.is_empty() || asked.contains(&job.id)) {
            let crate::spec::JobBody::Steps(body) = &job.body else {
                continue;
            };
            if body.runs_on.iter().any(|label| label.text.contains("${{")) {
                continue;
            }
            let labels: Vec<_> = body
                .runs_on
                .iter()
                .map(|label| label.text.clone())
                .collect();
            if self.request.options.left_out.first(&labels).is_some() {
                continue;
            }
            let place = self.site.resolve(&labels)?;
            match &first {
                Some((id, other))
                    if *other != place
                        && self.request.options.machine_per == MachinePer::Workflow =>
                {
                    let one = (*id, other.image.as_str());
                    return Err(jobs::cannot_share(one, (&job.id, &place.image)));
                }
                Some(_) => {}
                None => first = Some((&job.id, place)),
            }
        }
        Ok(())
    }

    /// Waits for the run's place in its concurrency group.
    async fn enter_group(
        &self,
        caller: &Caller<'_>,
    ) -> Result<Option<Box<dyn crate::guest::Member>>, RunEnd> {
        let Some(concurrency) = &caller.workflow.concurrency else {
            return Ok(None);
        };
        let scope = caller.constant.scope(&contexts::OfJob::default());
        let scope = scope.limited_to(&availability(Field::Concurrency));
        let group = Self::group(concurrency, &scope);
        let (group, mode) = group.map_err(|reason| RunEnd::Fault {
            fault: self.mask_fault(&Fault::new(ErrorKind::Usage, reason)),
        })?;
        let shown = self.mask(&group);
        self.recorder
            .quietly(|run| run.concurrency = Some(shown.clone()));
        let own = self.group.get_or_init(|| group.clone());
        debug_assert_eq!(*own, group, "a run has one group");
        let in_group = Group {
            name: &group,
            shown: &shown,
        };
        let say = |text: &str| self.recorder.waiting(self.mask(text));
        let doing = self.trace_wait(&format!("the concurrency group {group}"));
        match self
            .site
            .enter_group(in_group, mode, &say, &self.cancel)
            .await
        {
            Ok(member) => {
                doing.end("done");
                Ok(Some(member))
            }
            Err(fault) if fault.kind == ErrorKind::Interrupted => Err(RunEnd::Cancelled {
                by: self.mask(&self.cancel.by().unwrap_or(fault.message)),
            }),
            Err(fault) => Err(RunEnd::Fault {
                fault: self.mask_fault(&fault),
            }),
        }
    }

    /// A `concurrency`, evaluated.
    pub(super) fn group(
        concurrency: &crate::spec::Concurrency,
        scope: &expr::Scope,
    ) -> Result<(String, crate::guest::GroupMode), String> {
        let wrong = |e: expr::EvalError| format!("`concurrency` cannot be evaluated: {e}");
        let group = expr::interpolate(&concurrency.group.text, scope).map_err(wrong)?;
        let cancels = concurrency.cancel_in_progress.as_ref();
        let cancels = cancels.map(|text| expr::evaluate_text(&text.text, scope));
        let cancels = cancels.transpose().map_err(wrong)?.unwrap_or_default();
        let mode = if fields::truth(&cancels, "cancel-in-progress")? {
            crate::guest::GroupMode::CancelInProgress
        } else {
            crate::guest::GroupMode::Queue
        };
        Ok((group, mode))
    }

    /// Hides secrets.
    pub(super) fn mask(&self, text: &str) -> Masked {
        self.masks().mask(text)
    }

    /// Hides secrets in what is told of a failure.
    pub(super) fn mask_fault(&self, fault: &Fault) -> MaskedFault {
        MaskedFault::new(fault, &self.masks())
    }

    /// Begins to wait for something of the run.
    pub(super) fn trace_wait(&self, what: &str) -> Activity<'_> {
        let tracer = self.recorder.tracer();
        tracer.begin(Within::Run, Doing::Wait, self.mask(what))
    }

    /// Hides secrets in several texts.
    pub(super) fn mask_all(&self, texts: &[String]) -> Vec<Masked> {
        let masks = self.masks();
        texts.iter().map(|text| masks.mask(text)).collect()
    }

    /// Hides secrets in a value of a file.
    pub(super) fn mask_json(&self, value: Value) -> MaskedJson {
        MaskedJson::of(value, &self.masks())
    }

    pub(super) fn masks(&self) -> MutexGuard<'_, Masks> {
        self.masks.lock().expect("nobody panics with the lock")
    }

    pub(super) fn results(&self) -> MutexGuard<'_, IndexMap<String, JobResult>> {
        self.results.lock().expect("nobody panics with the lock")
    }

    /// Whether debug messages are wanted, as on GitHub: by a secret or variable.
    pub(super) fn debug(&self) -> bool {
        let pairs = self.request.secrets.iter().chain(&self.request.vars);
        let mut debug = pairs.filter(|(name, _)| name == "ACTIONS_STEP_DEBUG");
        debug.any(|(_, value)| value == "true")
    }

    /// `OWNER/NAME` of the repository.
    pub(super) fn repository_name(&self) -> String {
        let slug = &self.request.repository.slug;
        format!("{}/{}", slug.owner, slug.name)
    }

    /// The result of a job that had ended in the run that this one continues.
    pub(super) fn taken_over(&self, key: &str) -> Option<JobResult> {
        let resume = self.request.resume.as_ref()?;
        let result = resume.saved.results.get(key)?;
        let shown = self.mask(key);
        let job = resume.record.jobs.iter().find(|job| job.key == shown)?;
        let mut job = job.clone();
        job.machine = None;
        for step in &mut job.steps {
            // The log stays with the run that has written it.
            step.log = None;
            step.log_bytes = 0;
            step.summary = None;
        }
        job.reason = Some(self.mask(&format!("taken over from run {}", resume.record.id)));
        let at = self.recorder.add_job(job);
        self.recorder.change(Change::JobEnded { job: at.0 }, |_| {});
        self.results().insert(key.to_owned(), result.clone());
        Some(result.clone())
    }

    /// Where a job goes on, if it is the one.
    pub(super) fn resume_of(&self, key: &str) -> Option<&'a Resume> {
        let resume = self.request.resume.as_ref();
        resume.filter(|resume| resume.saved.job == key)
    }

    /// A step of the file as it was in the run that this one continues.
    pub(super) fn earlier_step(&self, key: &str, index: usize) -> Option<StepRecord> {
        let resume = self.resume_of(key)?;
        let shown = self.mask(key);
        let job = resume.record.jobs.iter().find(|job| job.key == shown)?;
        let mut mains = job.steps.iter().filter(|step| step.kind == StepKind::Main);
        mains.nth(index).cloned()
    }

    /// Notes a failure of vmint that is nobody's result.
    pub(super) fn note_fault(&self, fault: &Fault) {
        self.recorder
            .note(self.mask(&format!("vmint: {}", fault.message)));
    }
}
