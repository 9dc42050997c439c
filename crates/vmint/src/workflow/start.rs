//! From what a user asks to a run: the file is checked, the event made, the moment found where it goes on.

use super::again;
use super::check::{self, Checked, Mirror, Selection};
use super::diagnostic::Diagnostics;
use super::event::inputs::{self, Of};
use super::event::payload::{Details, Event};
use super::event::{self, Decision, On, choose, decide, trigger};
use super::graph::Graph;
use super::meaning::Meanings;
use super::mirror::lock::Lock;
use super::mirror::{self, FetchError, Refs};
use super::observe::Observer;
use super::record::RunRecord;
use super::run::state::Saved;
use super::run::{self, Cancel, MachinePer, Moments, OnFailure, Options, Request, Resume};
use super::runs::Keeper;
use super::site::{HostSite, PoolOptions};
use super::workspace::{self, Repository};
use crate::config::Config;
use crate::{Progress, Vmint};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vmint_model::{ErrorKind, Fault, RunId};
use vmint_store::process;

/// What is asked of a run.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The workflow's file.
    pub file: PathBuf,
    /// These jobs and those that they need; all, if there are none.
    pub jobs: Vec<String>,
    /// Only combinations of matrices with these values.
    pub matrix: Vec<(String, String)>,
    /// What is checked out; the files as they are when absent.
    pub commit: Option<String>,
    /// The run that it continues, and the step from which, as the user names them.
    pub resume: Option<(String, String)>,
    /// What has happened, if that was said.
    pub event: Option<String>,
    /// A file with its payload.
    pub event_file: Option<PathBuf>,
    /// Inputs of `workflow_dispatch`.
    pub inputs: Vec<(String, String)>,
    /// Secrets.
    pub secrets: Vec<(String, String)>,
    /// `vars`.
    pub vars: Vec<(String, String)>,
    /// What has a machine of its own.
    pub machine_per: MachinePer,
    /// Where machines come from.
    pub pools: PoolOptions,
    /// How long the run may take; as the settings say when absent.
    pub timeout: Option<Duration>,
    /// Which moments are kept.
    pub moments: Moments,
    /// What a failure does.
    pub on_failure: OnFailure,
}

/// Why a workflow cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CannotRun {
    /// The file is wrong, or asks for what there is not.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
    /// All else.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Checks a workflow file, with all that it uses. Its path in messages is `shown`.
pub async fn check_file(
    file: &Path,
    shown: &Path,
    config: &Config,
    asked: &Asked,
) -> Result<(Checked, Repository), CannotRun> {
    let repository = workspace::discover(file).await.map_err(unreadable)?;
    let bytes = check::read(file).map_err(|e| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Host,
        };
        Fault::from_error(kind, &e).context(format!("cannot read {}", file.display()))
    })?;
    let mirror = mirror(config)?;
    let slug = format!("{}/{}", repository.slug.owner, repository.slug.name);
    let options = check::Options {
        repository: &repository.root,
        files: &check::Disk,
        actions: &mirror,
        labels: Some(&Meanings::new(config, &asked.pools)),
        slug: &slug,
        selection: Selection {
            jobs: &asked.jobs,
            matrix: &asked.matrix,
        },
        left_out: &config.workflow.skip_runs_on,
    };
    let checked = check::check(shown, &bytes, &options)?;
    Ok((checked, repository))
}

/// The mirror of actions, as the settings say.
fn mirror(config: &Config) -> Result<Mirror, Fault> {
    let folder = config.workflow.actions.clone();
    let mut lock = Lock::default();
    if let Some(folder) = &folder {
        config.refuse_path("`actions` of [workflow]", folder)?;
        lock = Lock::read(folder).map_err(|e| {
            let fault = Fault::from_error(ErrorKind::Corrupt, &e);
            fault.hint("restore it, or remove it and run `vmint workflow fetch-actions FILE`")
        })?;
    }
    Ok(Mirror {
        folder,
        choices: config.workflow.replace.clone(),
        lock,
        ..Mirror::default()
    })
}

/// Fills the mirror of actions with what workflow files use, from the git remotes below `base`.
pub async fn fetch_actions(
    files: &[PathBuf],
    config: &Config,
    base: &str,
    refs: Refs,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<mirror::Entry>, CannotRun> {
    let Some(first) = files.first() else {
        return Ok(Vec::new());
    };
    let repository = workspace::discover(first).await.map_err(unreadable)?;
    let files: Vec<_> = files.iter().map(|f| (f.clone(), shown(f))).collect();
    let what = mirror::Fetch {
        repository: &repository.root,
        files: &files,
        mirror: &mirror(config)?,
        base,
        refs,
        limits: mirror::Limits::default(),
    };
    mirror::fetch(&what, say)
        .await
        .map_err(|error| match error {
            FetchError::Invalid(wrong) => CannotRun::Invalid(wrong),
            FetchError::NoMirror => CannotRun::Fault(
                Fault::new(ErrorKind::Usage, error.to_string())
                    .hint("add `actions = \"actions\"` to `[workflow]` of vmint.toml"),
            ),
            error => CannotRun::Fault(Fault::from_error(ErrorKind::Host, &error)),
        })
}

fn unreadable(error: super::workspace::WorkspaceError) -> Fault {
    Fault::from_error(ErrorKind::Host, &error)
}

impl Vmint {
    /// Checks all that was asked, and makes it ready to be run.
    pub async fn prepare_run(
        self: &Arc<Self>,
        config: &Config,
        asked: &Asked,
    ) -> Result<Request, CannotRun> {
        let usage = |message: String| Fault::new(ErrorKind::Usage, message);
        let file = asked.file.canonicalize().map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Host,
            };
            Fault::from_error(kind, &e).context(format!("cannot find {}", asked.file.display()))
        })?;
        let shown = shown(&file);
        let (checked, repository) = check_file(&file, &shown, config, asked).await?;
        let on = On::read(&checked.workflow.on_node);
        let on = on.map_err(|e| usage(format!("{}:{}: {}", shown.display(), e.spot, e.problem)))?;
        let (event, inputs, decision) = make_event(asked, &on, &repository)?;
        // Only who names the event wants to know whether it starts the workflow; others want to run it.
        let (not_triggered, note) = match (decision, &asked.event) {
            (Decision::Triggered, _) => (None, None),
            (Decision::NotTriggered(reason), Some(_)) => (Some(reason), None),
            (Decision::NotTriggered(reason), None) => (None, Some(reason)),
        };
        let jobs = selected(&checked, &asked.jobs)?;
        let id = RunId::random();
        let resume = match &asked.resume {
            Some((run, step)) => Some(self.find_resume(run, step)?),
            None => None,
        };
        let path = file.strip_prefix(&repository.root).unwrap_or(&file);
        let count = self
            .store()
            .count_up(&format!("workflow-runs:{}", file.display()));
        let run_number = count.map_err(Fault::from)?;
        let settings = &config.workflow;
        let actions = mirror(config)?;
        // Nothing can fail from here on that would leave it behind.
        let owner = process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        let folder = self.run_folder(&id)?;
        again::keep(&folder, asked, &file).map_err(|e| {
            // Without a record nobody would remove it for a day.
            let _ = std::fs::remove_dir_all(&folder);
            let fault = Fault::from_error(ErrorKind::Host, &e);
            fault.context(format!("cannot write into {}", folder.display()))
        })?;
        Ok(Request {
            run_number,
            owner,
            path: path.display().to_string(),
            id,
            checked,
            actions,
            file,
            repository,
            event,
            not_triggered,
            note,
            inputs,
            secrets: asked.secrets.clone(),
            vars: asked.vars.clone(),
            jobs,
            matrix: asked.matrix.clone(),
            options: Options {
                machine_per: asked.machine_per,
                moments: match asked.on_failure {
                    OnFailure::GoOn => asked.moments,
                    // To go on from any step.
                    OnFailure::Pause => Moments::Steps,
                },
                on_failure: asked.on_failure,
                commit: asked.commit.clone(),
                timeout: asked.timeout.or(settings.timeout),
                setup: settings.setup.clone(),
                cleanup: settings.cleanup.clone(),
                cache_quota: settings.cache_quota.0,
                left_out: settings.skip_runs_on.clone(),
            },
            folder,
            caches: self.home.caches(),
            resume,
        })
    }

    /// Runs what was made ready, to its end, whatever that is. The record is kept as it grows.
    ///
    /// # Errors
    /// When the record could not be kept; the run itself does not end with an error.
    pub async fn run_workflow<O: Observer, P: Progress + Send + Sync>(
        self: &Arc<Self>,
        config: &Arc<Config>,
        request: &Request,
        pools: PoolOptions,
        watching: (O, P),
        cancel: &Cancel,
    ) -> (RunRecord, Option<Fault>) {
        let (observer, progress) = watching;
        let spared: Vec<_> = request.resume.iter().map(|r| r.record.id.clone()).collect();
        let pruned = self.prune_runs(&config.workflow, &spared);
        if let Err(fault) = pruned {
            tracing::warn!("older runs were not pruned: {fault}");
        }
        let site = HostSite::new(
            self.clone(),
            config.clone(),
            request.id.clone(),
            request.repository.root.clone(),
            pools,
            progress,
        );
        let keeper = Keeper::new(self.clone(), &request.id, observer);
        let record = run::run(request, &site, &keeper, cancel).await;
        (record, keeper.failure())
    }

    /// The moment where a run goes on.
    fn find_resume(&self, run: &str, step: &str) -> Result<Resume, Fault> {
        let record = self.run_record(run)?;
        let moment = self.moment(&record, Some(step))?;
        let saved = Saved::read(&self.home.run(&record.id), moment.job, moment.step);
        let saved = saved.map_err(|e| {
            Fault::from_error(ErrorKind::Corrupt, &e)
                .context(format!("what run {} knew then cannot be read", record.id))
        })?;
        let saved = saved.ok_or_else(|| {
            let message = format!(
                "run {} did not keep what it knew before that step",
                record.id
            );
            Fault::new(ErrorKind::NotFound, message)
        })?;
        Ok(Resume {
            record,
            saved,
            snapshot: moment.snapshot,
            step: moment.step,
        })
    }
}

/// A path as the user would write it.
fn shown(file: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let relative = here.ok().and_then(|here| file.strip_prefix(here).ok());
    relative.unwrap_or(file).to_owned()
}

/// The event, the `inputs` of a `workflow_dispatch`, and whether it starts the workflow.
fn make_event(
    asked: &Asked,
    on: &On,
    repository: &Repository,
) -> Result<(Event, super::expr::Object, Decision), Fault> {
    let usage = |message: String| Fault::new(ErrorKind::Usage, message);
    // Who gives inputs wants the event that has some.
    let wanted = match &asked.event {
        None if !asked.inputs.is_empty() => Some("workflow_dispatch"),
        event => event.as_deref(),
    };
    let name = choose(on, wanted).to_owned();
    let filters = on.get(&name);
    let is_dispatch = name == "workflow_dispatch";
    let declared = filters
        .filter(|_| is_dispatch)
        .and_then(|filters| filters.inputs.as_ref());
    let declared = inputs::declared(Of::Dispatch, declared);
    let declared = declared.map_err(|e| usage(format!("{}: {}", e.spot, e.problem)))?;
    let dispatched =
        inputs::dispatch(&declared, &asked.inputs).map_err(|e| usage(e.to_string()))?;
    let event = if let Some(path) = &asked.event_file {
        event::read(&name, path, repository).map_err(|e| Fault::from_error(ErrorKind::Usage, &e))?
    } else {
        let details = Details {
            action: trigger::activity(on, &name).map(str::to_owned),
            inputs: dispatched.texts,
            schedule: filters.and_then(|filters| filters.crons.first().cloned()),
        };
        Event::simulate(&name, repository, details)
    };
    let decision = decide(on, &event);
    Ok((event, dispatched.inputs, decision))
}

/// The jobs that are to be run, with those that they need.
fn selected(checked: &Checked, asked: &[String]) -> Result<Vec<String>, Fault> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let usage = |message: String| Fault::new(ErrorKind::Usage, message);
    let graph = Graph::of(&checked.workflow).map_err(|e| usage(e.to_string()))?;
    let selected = graph.select(asked).map_err(|e| usage(e.to_string()))?;
    let name = |job| graph.name(job).to_owned();
    Ok(selected.into_iter().map(name).collect())
}
