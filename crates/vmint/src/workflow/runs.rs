//! The runs of workflows that are kept: written while they run, found again, ended for those that died, and pruned.
//!
//! A run's record is in the store, its logs are in a folder of its own, its snapshots are among all others. They go in the
//! order snapshots, folder, record, so that what fails is found and tried again.

use super::trace_file::TraceFile;
use crate::Vmint;
use crate::config::WorkflowSettings;
use crate::folders::remove_folder;
use crate::strays::RUN;
use crate::sweep::Found;
use std::collections::HashSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use vmint_model::{ByteSize, ErrorKind, Fault, Name, RunId, SnapshotRecord};
use vmint_store::{SnapshotFilter, StoredRun, now_ms, process};
use vmint_workflow::observe::{Change, Observer};
use vmint_workflow::record::{RunEnd, RunRecord};
use vmint_workflow::trace::TraceEvent;

/// The word for the last run.
pub const LATEST: &str = "latest";
/// How many runs a message names.
const NAMED: usize = 5;
/// A folder without a record that nobody has touched for so long was left by a process that died between the two.
const FORGOTTEN: Duration = Duration::from_secs(86_400);
/// What is said of jobs whose process died.
const ABANDONED: &str = "the process that ran it was killed";

/// Keeps the record of a run in the store, and passes all on to another observer.
///
/// The record is written when the run, a job or a step starts or ends. That of a run with thousands of steps takes a while
/// to write: then some of these moments are left out, so that writing takes a twentieth of the run's time at most.
pub struct Keeper<O> {
    vmint: Arc<Vmint>,
    next: O,
    kept: Mutex<Kept>,
    /// Absent if the host cannot write it; then a run that hangs is harder to explain, and no more.
    trace: Option<TraceFile>,
}

struct Kept {
    began: Instant,
    spent: Duration,
    is_behind: bool,
    failure: Option<Fault>,
}

/// What may be spent on writing before it is held against the run's time.
const FREE: Duration = Duration::from_millis(500);

impl<O: Observer> Keeper<O> {
    /// Of a run that has not begun yet.
    pub fn new(vmint: Arc<Vmint>, run: &RunId, next: O) -> Self {
        let trace = TraceFile::open(&vmint.home.run(run));
        let trace = trace.inspect_err(|e| tracing::warn!("run {run} has no trace: {e}"));
        let kept = Kept {
            began: Instant::now(),
            spent: Duration::ZERO,
            is_behind: false,
            failure: None,
        };
        Self {
            vmint,
            next,
            kept: Mutex::new(kept),
            trace: trace.ok(),
        }
    }

    /// Why what is kept is not what happened, if so. To be asked at the end: the run goes on without its record, but its
    /// result is not to be lost silently.
    pub fn failure(&self) -> Option<Fault> {
        let failure = self.lock().failure.clone();
        failure.map(|fault| fault.context("the run's record could not be kept"))
    }

    /// The observer behind this one.
    pub fn next(&self) -> &O {
        &self.next
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, run: &RunRecord, what: Change<'_>) {
        let mut kept = self.lock();
        let must = match what {
            Change::Started | Change::Ended => true,
            Change::JobStarted { .. }
            | Change::StepStarted { .. }
            | Change::StepEnded { .. }
            | Change::JobEnded { .. } => {
                kept.is_behind = true;
                false
            }
            Change::Note(_) | Change::Logged { .. } => false,
        };
        let began = Instant::now();
        let may = kept.is_behind && kept.spent <= FREE + (began - kept.began) / 20;
        if !must && !may {
            return;
        }
        let ended = matches!(what, Change::Ended);
        let stored = StoredRun {
            id: run.id.clone(),
            owner: run.owner.clone(),
            started_at_ms: run.started_at_ms,
            ended_at_ms: ended.then(|| run.ended_at_ms.unwrap_or_else(now_ms)),
            record: serde_json::to_string(run).expect("a record has no keys but strings"),
        };
        let written = self.vmint.store().put_run(&stored);
        // Each writing is of all that is known, so that one that succeeds makes up for those that did not.
        kept.failure = match written {
            Ok(true) => None,
            Ok(false) => Some(Fault::new(
                ErrorKind::Internal,
                format!(
                    "run `{}` was assumed dead and closed by another process",
                    run.id
                ),
            )),
            Err(e) => Some(Fault::from(e)),
        };
        kept.is_behind = false;
        kept.spent += began.elapsed();
    }
}

impl<O: Observer> Observer for Keeper<O> {
    fn happened(&self, run: &RunRecord, what: Change<'_>) {
        // Kept first: whoever hears of the run finds it.
        self.keep(run, what);
        self.next.happened(run, what);
    }

    fn traced(&self, event: &TraceEvent) {
        if let Some(trace) = &self.trace {
            trace.add(event);
        }
        self.next.traced(event);
    }
}

/// A run that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRun {
    /// Its id.
    pub id: RunId,
    /// Milliseconds since 1970 in UTC.
    pub started_at_ms: i64,
    /// Milliseconds since 1970 in UTC; absent while it runs.
    pub ended_at_ms: Option<i64>,
    /// What is known of it, unless another version of vmint has written it. Steps have a snapshot only if it is still
    /// there.
    pub record: Result<RunRecord, Fault>,
}

/// What was pruned, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedRuns {
    /// Runs with all that belongs to them.
    pub runs: Vec<RunId>,
    /// Snapshots, of these runs and of others.
    pub snapshots: Vec<Name>,
    /// Room that the snapshots took.
    pub bytes: ByteSize,
}

impl Vmint {
    /// The last runs, the newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<KeptRun>, Fault> {
        let stored = self.store().runs(limit)?;
        let there = self.snapshots_of_runs()?;
        let there: HashSet<_> = there.iter().map(|snapshot| &snapshot.name).collect();
        let kept = stored.into_iter().map(|stored| KeptRun {
            id: stored.id.clone(),
            started_at_ms: stored.started_at_ms,
            ended_at_ms: stored.ended_at_ms,
            record: read(&stored).map(|mut record| {
                forget_snapshots(&mut record, |name| there.contains(name));
                record
            }),
        });
        Ok(kept.collect())
    }

    /// The run that is meant: by its id, by a beginning of it that no other has, or `latest`.
    pub fn run_id(&self, which: &str) -> Result<RunId, Fault> {
        self.stored_run(which).map(|stored| stored.id)
    }

    /// What is known of a run, by its id, by a beginning of it that no other has, or `latest`. Steps have a snapshot only
    /// if it is still there.
    pub fn run_record(&self, which: &str) -> Result<RunRecord, Fault> {
        let stored = self.stored_run(which)?;
        let mut record = read(&stored)?;
        let of_run = SnapshotFilter::OfRun(stored.id);
        let there = self.store().list_snapshots(&of_run)?;
        let there: HashSet<_> = there.iter().map(|snapshot| &snapshot.name).collect();
        forget_snapshots(&mut record, |name| there.contains(name));
        Ok(record)
    }

    /// The record as it was written, with snapshots that may be gone.
    pub(crate) fn written_record(&self, id: &RunId) -> Result<Option<RunRecord>, Fault> {
        let stored = self.store().run(id)?;
        stored.as_ref().map(read).transpose()
    }

    fn stored_run(&self, which: &str) -> Result<StoredRun, Fault> {
        let missing = |message: String| -> Result<StoredRun, Fault> {
            let last = self.store().runs(NAMED)?;
            let hint = if last.is_empty() {
                "no run of a workflow is kept; `vmint workflow run FILE` makes one".to_owned()
            } else {
                let ids: Vec<_> = last.iter().map(|run| run.id.as_str()).collect();
                format!(
                    "the last ones are {}; `vmint workflow ls` shows all",
                    ids.join(", ")
                )
            };
            Err(Fault::new(ErrorKind::NotFound, message).hint(hint))
        };
        if which == LATEST {
            let latest = self.store().runs(1)?.pop();
            return latest.map_or_else(|| missing("there is no run yet".into()), Ok);
        }
        let is_beginning = which.strip_prefix('r').is_some_and(|rest| {
            rest.len() <= 8 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let mut found = if is_beginning {
            let found = self.store().runs_with_prefix(which, NAMED);
            found?
        } else {
            Vec::new()
        };
        match found.len() {
            0 => missing(format!("there is no run {which:?}")),
            1 => Ok(found.remove(0)),
            _ => {
                let ids: Vec<_> = found.iter().map(|run| run.id.as_str()).collect();
                let message = format!("more than one run begins with {which}: {}", ids.join(", "));
                Err(Fault::new(ErrorKind::Usage, message).hint("give more of its id"))
            }
        }
    }

    /// The folder of a run, made if need be, for its owner alone.
    pub fn run_folder(&self, id: &RunId) -> Result<PathBuf, Fault> {
        let folder = self.home.run(id);
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e)
                .context(format!("cannot make {}", folder.display()))
        })?;
        Ok(folder)
    }

    /// Ends the runs whose processes died. Costs one look at an index if there are none.
    pub(crate) fn sweep_runs(&self) -> Result<Vec<Found>, Fault> {
        self.end_runs(|run| !process::is_alive(&run.owner))
    }

    /// Ends the runs that nobody runs.
    pub(crate) fn end_runs(
        &self,
        is_over: impl Fn(&StoredRun) -> bool,
    ) -> Result<Vec<Found>, Fault> {
        let unended = self.store().unended_runs()?;
        let mut found = Vec::new();
        for stored in unended {
            if !is_over(&stored) {
                continue;
            }
            let now = now_ms();
            // A record that cannot be read is left as it is; that it has ended stands beside it.
            let record = match serde_json::from_str(&stored.record) {
                Ok(record) => {
                    let record = abandon(record, now);
                    serde_json::to_string(&record).expect("a record has no keys but strings")
                }
                Err(_) => stored.record.clone(),
            };
            let ended = StoredRun {
                ended_at_ms: Some(now),
                record,
                ..stored
            };
            if self.store().put_run(&ended)? {
                let pid = ended.owner.pid;
                found.push(Found {
                    name: ended.id.as_str().parse().expect("a run's id is a name"),
                    message: format!(
                        "run {} was abandoned: the process that ran it ({pid}) was killed",
                        ended.id
                    ),
                });
            }
        }
        Ok(found)
    }

    /// Removes a run with its snapshots and its logs. One that still runs is not removed.
    pub fn remove_run(&self, id: &RunId) -> Result<(), Fault> {
        let stored = self.store().run(id)?;
        let stored = stored.ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("there is no run {id}"))
                .hint("`vmint workflow ls` shows those that are kept")
        })?;
        if stored.ended_at_ms.is_none() {
            let pid = stored.owner.pid;
            let message = format!("run {id} still runs, in process {pid}");
            return Err(Fault::new(ErrorKind::WrongState, message)
                .hint(format!("cancel it first: `kill -INT {pid}`")));
        }
        let of_run = SnapshotFilter::OfRun(id.clone());
        let snapshots = self.store().list_snapshots(&of_run)?;
        for snapshot in snapshots {
            self.remove_if_there(&snapshot.name)?;
        }
        remove_folder(&self.home.run(id))?;
        self.store()
            .delete_run(id)
            .map(drop)
            .map_err(|e| Fault::from(e).context(format!("cannot forget run {id}")))
    }

    /// Removes what is beyond what the settings keep: runs, and snapshots of runs that are too old or take too much
    /// room. Nothing is taken from runs that still run, nor from those that are to be spared.
    pub fn prune_runs(
        &self,
        keep: &WorkflowSettings,
        spare: &[RunId],
    ) -> Result<PrunedRuns, Fault> {
        let plan = self.prunable_runs(keep, spare)?;
        for name in &plan.snapshots {
            self.remove_if_there(name)?;
        }
        for id in &plan.runs {
            match self.remove_run(id) {
                // Another command prunes, too.
                Err(fault) if fault.kind == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        self.put_forgotten_folders_away();
        Ok(plan)
    }

    /// What [`prune_runs`](Self::prune_runs) would remove.
    pub fn prunable_runs(
        &self,
        keep: &WorkflowSettings,
        spare: &[RunId],
    ) -> Result<PrunedRuns, Fault> {
        // The snapshots first: one that is taken after this belongs to a run that runs.
        let snapshots = self.snapshots_of_runs()?;
        let store = self.store();
        let mut runs = store.runs_beyond(keep.keep_runs)?;
        runs.retain(|run| !spare.contains(run));
        let running = store.unended_runs()?;
        drop(store);
        let mut kept: HashSet<RunId> = running.into_iter().map(|run| run.id).collect();
        kept.extend(spare.iter().cloned());
        let going: HashSet<_> = runs.iter().cloned().collect();
        let (snapshots, bytes) = outdated(&snapshots, keep, now_ms(), &kept, &going);
        Ok(PrunedRuns {
            runs,
            snapshots,
            bytes,
        })
    }

    fn snapshots_of_runs(&self) -> Result<Vec<SnapshotRecord>, Fault> {
        let of_runs = SnapshotFilter::OfRuns;
        self.store().list_snapshots(&of_runs).map_err(Fault::from)
    }

    fn remove_if_there(&self, name: &Name) -> Result<(), Fault> {
        match self.remove_snapshot(name) {
            Err(fault) if fault.kind == ErrorKind::NotFound => Ok(()),
            // A command forks it right now: it goes another time.
            Err(fault) if fault.kind == ErrorKind::WrongState => {
                tracing::warn!("{fault}");
                Ok(())
            }
            other => other,
        }
    }

    /// Removes the snapshots of runs that are no longer in the store. Costs one look at an index if there are none.
    pub(crate) fn sweep_lost_snapshots(&self) -> Result<(), Fault> {
        let lost = SnapshotFilter::OfLostRuns;
        let lost = self.store().list_snapshots(&lost)?;
        for snapshot in lost {
            self.remove_if_there(&snapshot.name)?;
        }
        Ok(())
    }

    /// Folders of runs that have no record. A run makes the one shortly before the other.
    fn put_forgotten_folders_away(&self) {
        let entries = std::fs::read_dir(self.home.runs());
        for entry in entries.into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let touched = entry.metadata().and_then(|m| m.modified());
            let age = touched.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            let is_old = age.is_ok_and(|age| age > FORGOTTEN);
            if is_old && self.store().has_run(&id).is_ok_and(|known| !known) {
                // The record may have been in a database that was lost.
                let to = format!("{RUN}{id}");
                match vmint_store::adopt::put_away(&self.home, &entry.path(), &to) {
                    Ok(to) => {
                        tracing::info!("moved run {id}, which has no record, to {}", to.display());
                    }
                    Err(e) => tracing::warn!("cannot move run {id} to lost+found: {e}"),
                }
            }
        }
    }
}

/// Which snapshots of runs go, of all from the oldest on, and the room that they take: those of runs that go, those that
/// are too old, and the oldest until the rest fits. Runs that are `kept` keep theirs, though these count.
fn outdated(
    all: &[SnapshotRecord],
    keep: &WorkflowSettings,
    now_ms: i64,
    kept: &HashSet<RunId>,
    going: &HashSet<RunId>,
) -> (Vec<Name>, ByteSize) {
    let age = i64::try_from(keep.snapshot_age.as_millis()).unwrap_or(i64::MAX);
    let mut room: u64 = all.iter().map(|snapshot| snapshot.size.0).sum();
    let (mut names, mut bytes) = (Vec::new(), 0);
    let is = |set: &HashSet<RunId>, one: &SnapshotRecord| {
        one.run.as_ref().is_some_and(|run| set.contains(run))
    };
    let goes = |one: &SnapshotRecord| {
        let is_old = now_ms.saturating_sub(one.created_at_ms) > age;
        is(going, one) || is_old && !is(kept, one)
    };
    let mut remove = |one: &SnapshotRecord, room: &mut u64| {
        names.push(one.name.clone());
        *room -= one.size.0;
        bytes += one.size.0;
    };
    for one in all.iter().filter(|one| goes(one)) {
        remove(one, &mut room);
    }
    for one in all.iter().filter(|one| !goes(one) && !is(kept, one)) {
        if room <= keep.snapshot_quota.0 {
            break;
        }
        remove(one, &mut room);
    }
    (names, ByteSize(bytes))
}

fn read(stored: &StoredRun) -> Result<RunRecord, Fault> {
    let record = serde_json::from_str(&stored.record);
    let mut record: RunRecord = record.map_err(|e| {
        let message = format!(
            "what is kept of run {} was written by another version of vmint: {e}",
            stored.id
        );
        Fault::new(ErrorKind::Corrupt, message).hint(format!(
            "use the vmint that has run it, or remove it with `vmint workflow rm {}`",
            stored.id
        ))
    })?;
    // What stands beside the record wins over it.
    record.ended_at_ms = stored.ended_at_ms;
    if stored.ended_at_ms.is_some() && record.end.is_none() {
        record.end = Some(RunEnd::Abandoned);
    }
    Ok(record)
}

fn abandon(mut record: RunRecord, now_ms: i64) -> RunRecord {
    record.end = Some(RunEnd::Abandoned);
    record.ended_at_ms = Some(now_ms);
    for job in &mut record.jobs {
        if job.outcome.is_none() && job.fault.is_none() {
            job.reason.get_or_insert_with(|| ABANDONED.into());
        }
    }
    for machine in &mut record.machines {
        // A machine goes back when its owner dies.
        machine.released_at_ms.get_or_insert(now_ms);
    }
    record
}

fn forget_snapshots(record: &mut RunRecord, is_there: impl Fn(&Name) -> bool) {
    for job in &mut record.jobs {
        let steps = job.steps.iter_mut().map(|step| &mut step.snapshot);
        for snapshot in steps.chain([&mut job.failed]) {
            *snapshot = snapshot.take().filter(|s| is_there(&s.name));
        }
    }
}

#[cfg(test)]
mod tests;
