//! How a machine is started: what its runner is told, admitted, and launched.

use crate::Vmint;
use crate::admit::{Permit, Terms};
use crate::folders::{SHORT, make_folder, try_lock};
use crate::snapshots::expect_fit;
use std::time::Duration;
use tokio::time::Instant;
use vmint_image::Progress;
use vmint_model::{Boot, Cause, ErrorKind, Fault, MachineDir, MachineRecord, MachineState, Origin};
use vmint_qemu::{Frozen, disk};
use vmint_runner::machine::start_deadline;
use vmint_runner::start::asked_now;
use vmint_runner::{From, StartRequest, Starting, start_runner, trace};
use vmint_store::{FileLock, InUse};

/// How long another command's start or stop of the same machine is waited for.
const LAUNCHED_WITHIN: Duration = Duration::from_secs(600);

impl Vmint {
    /// Starts a machine. One that is up is left as it is.
    pub async fn start(&self, name: &str, progress: &dyn Progress) -> Result<MachineRecord, Fault> {
        let end = Instant::now() + LAUNCHED_WITHIN;
        let mut pause = Duration::from_millis(5);
        let (record, dir, lock) = loop {
            let record = self.machine(name)?;
            let dir = self.home.machine(&record.id);
            if !dir.path().exists() {
                // Another command may make it at the same time; one of both does.
                match make_folder(&dir) {
                    Err(fault) if !dir.path().exists() => return Err(fault),
                    _ => {}
                }
            }
            match try_lock(&dir)? {
                Some(lock) => {
                    drop(lock);
                    // Over a stale record: clear it up first, then look again.
                    self.sweep_one(&record)?;
                    let lock = try_lock(&dir)?;
                    // By its id: the name may be another machine's by now.
                    let now = self.store().get(&record.id)?;
                    if let (Some(lock), Some(record)) = (lock, now)
                        && !record.state.has_runner()
                        && record.state != MachineState::Removing
                    {
                        break (record, dir, lock);
                    }
                }
                None if matches!(record.state, MachineState::Running | MachineState::Paused) => {
                    return Ok(record);
                }
                None => {}
            }
            // Another command starts or stops it: wait for what becomes of that.
            if Instant::now() > end {
                let minutes = LAUNCHED_WITHIN.as_secs() / 60;
                let message = format!(
                    "machine {name} was still {} after {minutes} min",
                    record.state
                );
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        };
        if let Origin::Disk(_) = record.spec.origin
            && disk::layers(dir.path()).is_empty()
        {
            // Its folder was lost. Without the snapshot there is no other disk that it could be meant to boot from.
            self.provide(&record, &dir)?;
        }
        let Admitted {
            request,
            permit,
            held,
        } = Box::pin(self.request_admitted(&record, &dir, None, progress)).await?;
        let to = MachineState::Starting;
        let changed = self
            .store()
            .transition(&record.id, None, to, Cause::Requested, None, |r| {
                r.reason = None;
            });
        let record = changed?;
        let starting = self.launch(&record, &dir, lock, &request)?;
        let started = self.launched(&record, &request, starting).await?;
        drop(held);
        permit.settle();
        Ok(started)
    }

    /// What the runner of `record` is to start.
    async fn request(
        &self,
        record: &MachineRecord,
        dir: &MachineDir,
        progress: &dyn Progress,
    ) -> Result<StartRequest, Fault> {
        let mut asked_at_ms = asked_now();
        let host = self.host(progress).await?;
        let spec = &record.spec;
        let origin = dir.path().join("origin");
        let used = Frozen::open(&origin).ok().filter(|frozen| {
            // A template that does not fit this host any more is made anew; a snapshot cannot be.
            spec.origin != Origin::Template || host.fits(frozen.manifest()).is_ok()
        });
        // What it was to be forked from first, if it never was.
        let used = used.or_else(|| Frozen::open(&dir.source()).ok());
        // What a machine wrote to its disk stays over a stop; then memory that was frozen before does not fit it.
        let has_own_disk = !disk::layers(dir.path()).is_empty();
        let frozen = match (&spec.origin, used) {
            (_, _) if has_own_disk => None,
            (Origin::Cold | Origin::Disk(_), _) => None,
            (Origin::Snapshot(name), Some(frozen)) => {
                expect_fit(&host, name, &frozen)?;
                Some(frozen)
            }
            (Origin::Template, Some(frozen)) => Some(frozen),
            (Origin::Snapshot(name), None) => {
                let (frozen, _in_use) = self.use_snapshot(name)?;
                expect_fit(&host, name, &frozen)?;
                Some(frozen)
            }
            (Origin::Template, None) => {
                let image = self.image_of(record, progress).await?;
                let frozen = self.ensure_template(&image, spec, progress).await?;
                // Making a template is no part of being started.
                asked_at_ms = asked_now();
                Some(frozen)
            }
        };
        let (from, shape, fingerprint) = if let Some(frozen) = frozen {
            let (shape, fingerprint) = (
                frozen.manifest().shape.clone(),
                frozen.manifest().fingerprint.clone(),
            );
            (From::Frozen(frozen.folder().to_owned()), shape, fingerprint)
        } else {
            let image = self.image_of(record, progress).await?;
            let files = Self::boot_files(&image)?;
            let boot = vmint_runner::template::boot_spec(&files, host.accelerator);
            let shape = Self::shape(&host, spec, files.disk.is_some());
            let fingerprint = self.wanted(&host, &image, &files, &shape).fingerprint();
            (From::Boot(boot), shape, fingerprint)
        };
        let boot = match from {
            From::Boot(_) => Boot::Cold,
            From::Frozen(_) => Boot::Fork,
        };
        Ok(StartRequest {
            deadline_ms: self
                .options
                .start_timeout
                .unwrap_or_else(|| start_deadline(host.accelerator, boot))
                .as_millis() as u64,
            host,
            shape,
            from,
            fingerprint,
            image_digest: record.image_digest.clone().unwrap_or_default(),
            asked_at_ms,
            trace: trace::current().map(|trace| trace.to_string()),
        })
    }

    pub(super) fn launch(
        &self,
        record: &MachineRecord,
        dir: &MachineDir,
        lock: FileLock,
        request: &StartRequest,
    ) -> Result<Starting, Fault> {
        request.write(dir).map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot write start.json")
        })?;
        let started = start_runner(&self.options.runner, &self.home, &record.id, lock);
        started.map_err(|fault| fault.context(format!("cannot start machine {}", record.name)))
    }

    pub(super) async fn launched(
        &self,
        record: &MachineRecord,
        request: &StartRequest,
        starting: Starting,
    ) -> Result<MachineRecord, Fault> {
        let deadline = Duration::from_millis(request.deadline_ms) + SHORT;
        let started = starting.ready(deadline).await;
        started.map_err(|fault| fault.context(format!("cannot start machine {}", record.name)))
    }

    /// What the runner of `record` is to start, once the host can carry it.
    pub(super) async fn request_admitted(
        &self,
        record: &MachineRecord,
        dir: &MachineDir,
        terms: Option<Terms>,
        progress: &dyn Progress,
    ) -> Result<Admitted<'_>, Fault> {
        let mut request = self.request(record, dir, progress).await?;
        let permit = self.admit_start(record, &request, terms, progress).await?;
        if !permit.waited().is_zero() {
            // To wait is no part of being started.
            request.asked_at_ms = asked_now();
        }
        loop {
            if let Some(held) = hold(&request, dir)? {
                return Ok(Admitted {
                    request,
                    permit,
                    held,
                });
            }
            // What it was to be forked from has been removed since it was looked for.
            request = self.request(record, dir, progress).await?;
        }
    }
}

/// That a machine may start, and how.
pub(super) struct Admitted<'v> {
    pub(super) request: StartRequest,
    pub(super) permit: Permit<'v>,
    /// What it is forked from is not removed before its runner has taken it in.
    pub(super) held: Held,
}

/// A folder outside of the machine's that it is forked from, if there is one.
pub(super) type Held = Option<InUse>;

/// Keeps what is to be forked from being removed; `None` if it is gone.
fn hold(request: &StartRequest, dir: &MachineDir) -> Result<Option<Held>, Fault> {
    let From::Frozen(folder) = &request.from else {
        return Ok(Some(None));
    };
    if folder.starts_with(dir.path()) {
        return Ok(Some(None));
    }
    let held = InUse::share(folder, std::time::Instant::now() + SHORT);
    let held = held?;
    let is_there = || folder.join(Frozen::MANIFEST).exists();
    Ok(held.filter(|_| is_there()).map(Some))
}
