//! Machines: create and start. What a machine that runs is asked for is in [`running`](crate::running), how it ends in
//! [`ending`](crate::ending).

use crate::Vmint;
use crate::admit::{Permit, Terms};
use crate::ending::try_lock;
use crate::snapshots::expect_fit;
use crate::undo::Undo;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use vmint_confine::Ground;
use vmint_image::Progress;
use vmint_model::spec::{check_cpus, check_memory};
use vmint_model::{
    ByteSize, Cause, DiskCache, ErrorKind, ExecDefaults, Fault, Generation, Limits, MachineDir,
    MachineId, MachineRecord, MachineSpec, MachineState, Name, NetMode, Origin, ProcessRef,
    Publish,
};
use vmint_qemu::{Frozen, disk};
use vmint_runner::machine::{start_deadline, store_fault, unlimitable};
use vmint_runner::{From, StartRequest, Starting, identity, start_runner};
use vmint_store::{FileLock, InUse, process};

/// How long the things take that touch no guest.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// A machine to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMachine {
    /// Its name; its id when absent.
    pub name: Option<Name>,
    /// The image.
    pub image: String,
    /// Guest memory.
    pub memory: ByteSize,
    /// Virtual processors.
    pub cpus: u32,
    /// Network.
    pub net: NetMode,
    /// What it may take of its host.
    pub limits: Limits,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// Where it starts; image, memory, processors and network of a snapshot are the snapshot's.
    pub origin: Origin,
    /// What its disk keeps; by whether it stays when absent.
    pub disk_cache: Option<DiskCache>,
    /// Whether it goes away when it stops.
    pub ephemeral: bool,
    /// The pool that has reserved a slot for it, and the id that the slot is reserved for.
    pub slot: Option<(Name, MachineId)>,
    /// The process with whose end it ends.
    pub owner: Option<ProcessRef>,
}

impl NewMachine {
    /// A machine of `image` with 512 MiB, one processor and no network.
    pub fn of(image: impl Into<String>) -> Self {
        Self {
            name: None,
            image: image.into(),
            memory: ByteSize::mib(512),
            cpus: 1,
            net: NetMode::None,
            limits: Limits::default(),
            publish: Vec::new(),
            origin: Origin::Template,
            disk_cache: None,
            ephemeral: false,
            slot: None,
            owner: None,
        }
    }

    /// One that ends with this process and leaves nothing.
    pub fn ephemeral(image: impl Into<String>) -> Self {
        Self {
            ephemeral: true,
            owner: process::current().ok(),
            ..Self::of(image)
        }
    }

    fn validate(&self) -> Result<(), Fault> {
        check_hardware(self.memory, self.cpus)?;
        if self.net == NetMode::None && !self.publish.is_empty() {
            return Err(Fault::new(
                ErrorKind::Usage,
                "a machine without a network has no ports to publish",
            )
            .hint("give it one with `--net nat` or `--net allow:DOMAIN`"));
        }
        Ok(())
    }
}

/// What no machine can have is wrong; what this host could never carry is refused.
pub(crate) fn check_hardware(memory: ByteSize, cpus: u32) -> Result<(), Fault> {
    let usage = |message| Fault::new(ErrorKind::Usage, message);
    check_memory(memory).map_err(usage)?;
    check_cpus(cpus).map_err(usage)?;
    let host = rustix::system::sysinfo();
    let host = ByteSize((host.totalram + host.totalswap) * u64::from(host.mem_unit));
    if memory > host {
        return Err(Fault::new(
            ErrorKind::Refused,
            format!("{memory} of memory is more than this host has: {host}, swap included"),
        )
        .hint("ask for less with --memory"));
    }
    Ok(())
}

impl Vmint {
    /// Creates a machine and does not start it.
    pub async fn create(
        &self,
        new: NewMachine,
        progress: &dyn Progress,
    ) -> Result<MachineRecord, Fault> {
        let (spec, digest) = self.plan(&new, progress).await?;
        let mut record = record_of(new, spec, digest, MachineState::Created);
        let dir = self.home.machine(&record.id);
        let lock = self.insert(&mut record, &dir)?;
        if let Err(fault) = self.provide(&record, &dir) {
            self.erase(&record, Cause::Fault)?;
            return Err(fault);
        }
        drop(lock);
        Ok(record)
    }

    /// Creates a machine and starts it, as soon as the host can carry it. If it does not come up, or if this future is dropped before it
    /// is done, it is not left behind.
    pub async fn create_running(
        &self,
        new: NewMachine,
        progress: &dyn Progress,
    ) -> Result<MachineRecord, Fault> {
        self.create_running_on(new, None, progress).await
    }

    /// The same on other terms of admission than the settings'.
    pub async fn create_running_on(
        &self,
        new: NewMachine,
        terms: Option<Terms>,
        progress: &dyn Progress,
    ) -> Result<MachineRecord, Fault> {
        let (spec, digest) = self.plan(&new, progress).await?;
        let mut record = record_of(new, spec, digest, MachineState::Starting);
        let dir = self.home.machine(&record.id);
        // Nobody sees the machine before it is admitted: what has a record is what has a place.
        let Admitted {
            request,
            permit,
            held,
        } = Box::pin(self.request_admitted(&record, &dir, terms, progress)).await?;
        let lock = self.insert(&mut record, &dir)?;
        let id = record.id.clone();
        // A machine of a pool is the pool's, which knows it by its slot.
        let mut undo = record.pool.is_none().then(|| Undo::machine(self, &id));
        let provided = match record.spec.origin {
            Origin::Disk(_) => self.provide(&record, &dir),
            _ => Ok(()),
        };
        let started = async {
            provided?;
            let mut starting = self.launch(&record, &dir, lock, &request)?;
            if let Some(undo) = &mut undo {
                undo.runs(starting.take_process());
            }
            self.launched(&record, &request, starting).await
        };
        let started = started.await;
        drop(held);
        if let Some(undo) = undo {
            undo.claim();
        }
        match started {
            Ok(record) => {
                permit.settle();
                Ok(record)
            }
            Err(fault) => {
                // The runner has the lock until it is gone.
                let deadline = std::time::Instant::now() + SHORT;
                let lock = FileLock::acquire_until(&dir.lock(), deadline).ok();
                // Not in the condition: the guard would be held in the body, which takes it again.
                let left = self.store().get(&id);
                if let Ok(Some(record)) = left {
                    let record = self.settle_failed(record);
                    self.erase(&record, Cause::Fault)?;
                }
                drop(lock);
                Err(fault)
            }
        }
    }

    /// What the runner of `record` is to start, once the host can carry it.
    async fn request_admitted(
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
            request.asked_at_ms = now_ms();
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

    /// Has a machine that is not started yet keep what it is to start from, so that the snapshot can be removed.
    fn provide(&self, record: &MachineRecord, dir: &MachineDir) -> Result<(), Fault> {
        match &record.spec.origin {
            Origin::Template | Origin::Cold => Ok(()),
            Origin::Snapshot(name) if dir.source().exists() => {
                tracing::debug!("{} has its own links to {name}", record.name);
                Ok(())
            }
            Origin::Snapshot(name) => {
                let (snapshot, _in_use) = self.use_snapshot(name)?;
                snapshot.link_whole(&dir.source())?;
                Ok(())
            }
            Origin::Disk(name) => {
                let (snapshot, _in_use) = self.use_snapshot(name)?;
                let base = dir.base();
                std::fs::create_dir(&base).map_err(|e| {
                    Fault::from_error(ErrorKind::Host, &e)
                        .context("cannot prepare the machine's folder")
                })?;
                // What it goes back to at a reset, and what it boots from now.
                snapshot.link_disk(&base)?;
                snapshot.link_disk(dir.path())?;
                Ok(())
            }
        }
    }

    /// Before a snapshot is removed: machines that were made of it by an older vmint, and never started, keep what they need.
    pub(crate) fn leave_sources(&self, snapshot: &Name) -> Result<(), Fault> {
        for record in self.machines()? {
            let dir = self.home.machine(&record.id);
            let is_of_it = record.state == MachineState::Created
                && record.spec.origin == Origin::Snapshot(snapshot.clone());
            if !is_of_it || dir.source().exists() || !dir.path().exists() {
                continue;
            }
            let frozen = Frozen::open(&self.home.snapshot(snapshot))?;
            frozen.link_whole(&dir.source())?;
        }
        Ok(())
    }

    /// A record that still says “starting” though nothing starts it any more.
    fn settle_failed(&self, record: MachineRecord) -> MachineRecord {
        if !record.state.has_runner() {
            return record;
        }
        let failed = self.store().transition(
            &record.id,
            None,
            MachineState::Failed,
            Cause::Fault,
            None,
            |_| {},
        );
        failed.unwrap_or(record)
    }

    /// Checks what is asked, and makes sure of the image.
    pub(crate) async fn plan(
        &self,
        new: &NewMachine,
        progress: &dyn Progress,
    ) -> Result<(MachineSpec, String), Fault> {
        if let Some(name) = &new.name
            && let Ok(other) = self.store().by_name_or_id(name.as_str())
        {
            return Err(taken(name, other.state));
        }
        if let Some(name) = new.origin.snapshot() {
            let snapshot = self.store().snapshot(name).map_err(store_fault)?;
            let snapshot = snapshot.ok_or_else(|| {
                Fault::new(ErrorKind::NotFound, format!("there is no snapshot {name}"))
            })?;
            let digest = snapshot.image_digest.unwrap_or_default();
            if let Origin::Disk(_) = new.origin
                && !self.has_disk(name)
            {
                let message = format!("snapshot {name} has no disk to boot from");
                return Err(Fault::new(ErrorKind::Usage, message).hint("leave out --cold"));
            }
            if !new.publish.is_empty() && snapshot.spec.net == NetMode::None {
                return Err(Fault::new(
                    ErrorKind::Usage,
                    "the snapshot is of a machine without a network",
                ));
            }
            let spec = MachineSpec {
                publish: new.publish.clone(),
                origin: new.origin.clone(),
                limits: new.limits.or(snapshot.spec.limits),
                disk_cache: new.disk_cache.or(snapshot.spec.disk_cache),
                ..snapshot.spec
            };
            self.check_limits(&spec.limits)?;
            return Ok((spec, digest));
        }
        new.validate()?;
        self.check_limits(&new.limits)?;
        let image = self.ensure_image(&new.image, progress).await?;
        let defaults = &image.manifest().defaults;
        let spec = MachineSpec {
            image: new.image.clone(),
            memory: new.memory,
            cpus: new.cpus,
            net: new.net.clone(),
            limits: new.limits,
            publish: new.publish.clone(),
            origin: new.origin.clone(),
            disk_cache: new.disk_cache,
            defaults: ExecDefaults {
                user: defaults.user.clone(),
                env: defaults.env.clone(),
                workdir: defaults.workdir.clone(),
                command: [defaults.entrypoint.clone(), defaults.cmd.clone()].concat(),
            },
        };
        if new.origin == Origin::Template {
            self.ensure_template(&image, &spec, progress).await?;
        }
        Ok((spec, image.digest().to_string()))
    }

    /// Refuses limits that this host cannot hold, before anything is made for a machine that could not have them.
    pub(crate) fn check_limits(&self, limits: &Limits) -> Result<(), Fault> {
        if !limits.need_group() {
            return Ok(());
        }
        let ground = Ground::find();
        let offers = ground.and_then(|ground| ground.offers(limits, self.home.root()));
        offers.map_err(|e| unlimitable(&e))
    }

    /// Whether a snapshot is of a machine with a disk.
    fn has_disk(&self, snapshot: &Name) -> bool {
        Frozen::open(&self.home.snapshot(snapshot)).is_ok_and(|f| f.manifest().layers > 0)
    }

    /// Makes folder, lock and record, in this order.
    fn insert(&self, record: &mut MachineRecord, dir: &MachineDir) -> Result<FileLock, Fault> {
        record.created_at_ms = vmint_store::now_ms();
        let lock = make_folder(dir)?;
        if let Err(e) = self.store().insert(record) {
            let _ = std::fs::remove_dir_all(dir.path());
            return Err(match e {
                vmint_store::StoreError::NameTaken { state, .. } => taken(&record.name, state),
                e => store_fault(e),
            });
        }
        Ok(lock)
    }

    /// Starts a machine. One that is up is left as it is.
    pub async fn start(&self, name: &str, progress: &dyn Progress) -> Result<MachineRecord, Fault> {
        let end = Instant::now() + Duration::from_secs(600);
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
                    let now = self.store().get(&record.id).map_err(store_fault)?;
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
                let message = format!("machine {name} has been {} all the while", record.state);
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
        let record = changed.map_err(store_fault)?;
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
        let mut asked_at_ms = now_ms();
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
                asked_at_ms = now_ms();
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
        let boots = matches!(from, From::Boot(_));
        Ok(StartRequest {
            deadline_ms: self
                .options
                .start_timeout
                .unwrap_or_else(|| start_deadline(host.accelerator, boots))
                .as_millis() as u64,
            host,
            shape,
            from,
            fingerprint,
            image_digest: record.image_digest.clone().unwrap_or_default(),
            asked_at_ms,
        })
    }

    fn launch(
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

    async fn launched(
        &self,
        record: &MachineRecord,
        request: &StartRequest,
        starting: Starting,
    ) -> Result<MachineRecord, Fault> {
        let deadline = Duration::from_millis(request.deadline_ms) + SHORT;
        let started = starting.ready(deadline).await;
        started.map_err(|fault| fault.context(format!("cannot start machine {}", record.name)))
    }

    /// For a machine that was just made, on its way to whoever shall hold it: should it never get there, it is taken back.
    pub fn until_claimed(&self, id: &MachineId) -> Undo {
        Undo::machine(self, id)
    }
}

/// That a machine may start, and how.
struct Admitted<'v> {
    request: StartRequest,
    permit: Permit<'v>,
    /// What it is forked from is not removed before its runner has taken it in.
    held: Held,
}

/// A folder outside of the machine's that it is forked from, if there is one.
type Held = Option<InUse>;

/// Keeps what is to be forked from being removed; `None` if it is gone.
fn hold(request: &StartRequest, dir: &MachineDir) -> Result<Option<Held>, Fault> {
    let From::Frozen(folder) = &request.from else {
        return Ok(Some(None));
    };
    if folder.starts_with(dir.path()) {
        return Ok(Some(None));
    }
    let held = InUse::share(folder, std::time::Instant::now() + SHORT);
    let held = held.map_err(|e| Fault::from_error(e.kind(), &e))?;
    let is_there = || folder.join(Frozen::MANIFEST).exists();
    Ok(held.filter(|_| is_there()).map(Some))
}

/// The record of a machine that is not in the store yet.
fn record_of(
    new: NewMachine,
    spec: MachineSpec,
    digest: String,
    state: MachineState,
) -> MachineRecord {
    let (pool, id) = match new.slot {
        Some((pool, id)) => (Some(pool), id),
        None => (None, MachineId::random()),
    };
    MachineRecord {
        id: id.clone(),
        name: new.name.unwrap_or_else(|| identity::default_name(&id)),
        state,
        generation: Generation(1),
        spec,
        image_digest: Some(digest),
        template: None,
        restored: None,
        last_ports: Vec::new(),
        accelerator: None,
        confinement: None,
        runner_confinement: None,
        run_as: None,
        ephemeral: new.ephemeral,
        pool,
        owner: new.owner,
        runner: None,
        hypervisor: None,
        addresses: Vec::new(),
        ports: Vec::new(),
        reason: None,
        created_at_ms: 0,
        ready_ms: None,
    }
}

fn taken(name: &Name, state: MachineState) -> Fault {
    let message = format!("a machine with the name {name} exists already (it is {state})");
    Fault::new(ErrorKind::AlreadyExists, message)
}

/// Makes the machine's folder, with its lock taken. It is made under another name and then renamed, so that there is no
/// moment in which it could be found without its lock, and be taken for a left-over.
fn make_folder(dir: &MachineDir) -> Result<FileLock, Fault> {
    use std::os::unix::fs::DirBuilderExt;
    let fault = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e)
            .context(format!("cannot create {}", dir.path().display()))
    };
    let id = dir.path().file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{NEW_FOLDER}{id}-{}", std::process::id());
    let temporary = dir.path().with_file_name(name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&temporary)
        .map_err(fault)?;
    let locked = FileLock::try_acquire(&temporary.join("lock"));
    let lock = locked.map_err(|e| Fault::from_error(e.kind(), &e))?;
    let lock = lock.ok_or_else(|| {
        let message = format!("the lock of {} is held by another", temporary.display());
        Fault::new(ErrorKind::Host, message)
    })?;
    if let Err(e) = std::fs::rename(&temporary, dir.path()) {
        let _ = std::fs::remove_dir_all(&temporary);
        return Err(fault(e));
    }
    FileLock::from_fd(lock.into_fd(), &dir.lock()).map_err(|e| Fault::from_error(e.kind(), &e))
}

/// What the names of folders in the making begin with; they end in the maker's process id.
pub(crate) const NEW_FOLDER: &str = ".new-";

fn now_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64() * 1e3)
}
