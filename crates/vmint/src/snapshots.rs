//! Freeze, restore, fork.
//!
//! `fork NAME NEW` freezes a running machine into an implicit snapshot, which its children start from. They link all
//! that they need into their own folders, so it goes as soon as they are up.

use crate::folders::{SHORT, remove_folder};
use crate::sweep::Found;
use crate::{NewMachine, Undo, Vmint};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;
use vmint_image::Progress;
use vmint_model::{
    ByteSize, ErrorKind, Fault, Force, MachineRecord, Name, Origin, RunId, SnapshotRecord,
};
use vmint_qemu::frozen::FrozenError;
use vmint_qemu::{Frozen, Host};
use vmint_runner::api;
use vmint_store::{FileLock, InUse, LockError, SnapshotFilter, StoreError, process};

/// Locked as long as an implicit snapshot is needed.
pub(crate) const IN_USE: &str = "in-use";

/// For whom a snapshot is made.
enum Whose<'a> {
    /// For the user, who has named it.
    User,
    /// For the children of a fork. It is locked before it can be seen, by whoever makes them.
    Children(&'a mut Option<FileLock>),
    /// For a run.
    Run(&'a RunId),
}

impl Vmint {
    /// Freezes this moment of a running machine, which goes on.
    pub async fn snapshot(&self, machine: &str, name: &Name) -> Result<SnapshotRecord, Fault> {
        self.take_snapshot(machine, name, Whose::User).await
    }

    /// The same, on behalf of a run; not among the user's own.
    pub(crate) async fn snapshot_for_run(
        &self,
        machine: &str,
        name: &Name,
        run: &RunId,
    ) -> Result<SnapshotRecord, Fault> {
        self.take_snapshot(machine, name, Whose::Run(run)).await
    }

    async fn take_snapshot(
        &self,
        machine: &str,
        name: &Name,
        whose: Whose<'_>,
    ) -> Result<SnapshotRecord, Fault> {
        let (record, client) = self.reach(machine)?;
        if self.store().snapshot(name)?.is_some() {
            return Err(exists(name));
        }
        let temporary = Temporary::of(self, &record);
        temporary.make()?;
        let body = api::Snapshot {
            folder: temporary.0.clone(),
            full: self.options.full_snapshots,
        };
        let answer = client.snapshot(&body).await;
        let taken = answer.map_err(|fault| self.explain(&record, fault))?;
        let frozen = Frozen::open(&temporary.0)?;
        let run = match &whose {
            Whose::Run(run) => Some((*run).clone()),
            Whose::User | Whose::Children(_) => None,
        };
        let implicit = !matches!(whose, Whose::User);
        if let Whose::Children(slot) = whose {
            let lock = FileLock::try_acquire(&temporary.0.join(IN_USE));
            *slot = lock?;
        }
        let size = frozen
            .own_size()
            .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        let snapshot = SnapshotRecord {
            name: name.clone(),
            machine: record.name.clone(),
            spec: record.spec.clone(),
            // Of what runs, which may have been brought back to another image's moment.
            image_digest: Some(frozen.manifest().image_digest.clone())
                .filter(|digest| !digest.is_empty())
                .or_else(|| record.image_digest.clone()),
            accelerator: frozen.manifest().shape.accelerator,
            pause_ms: taken.pause_ms,
            size: ByteSize(size),
            full: taken.full,
            implicit,
            run,
            created_at_ms: vmint_store::now_ms(),
        };
        vmint_store::description::describe_snapshot(&self.home, &temporary.0, &snapshot);
        // The record first: it decides between two that take the same name.
        self.store()
            .insert_snapshot(&snapshot)
            .map_err(|e| match e {
                StoreError::SnapshotExists { .. } => exists(name),
                e => Fault::from(e),
            })?;
        let folder = self.home.snapshot(name);
        if let Err(e) = remove_folder(&folder).and_then(|()| {
            let fault = |e: std::io::Error| {
                Fault::from_error(ErrorKind::Host, &e).context("cannot keep the snapshot")
            };
            std::fs::rename(&temporary.0, &folder).map_err(fault)
        }) {
            let _ = self.store().delete_snapshot(name);
            return Err(e);
        }
        // Between the two, somebody may have removed what he had found a record of.
        if self.store().snapshot(name)?.is_none() {
            remove_folder(&folder)?;
            let message = format!("snapshot {name} was removed while it was made");
            return Err(Fault::new(ErrorKind::NotFound, message));
        }
        Ok(snapshot)
    }

    /// A snapshot that can be used, and is not removed meanwhile.
    pub(crate) fn use_snapshot(&self, name: &Name) -> Result<(Frozen, InUse), Fault> {
        let missing = || {
            let message = format!("there is no snapshot {name}");
            Fault::new(ErrorKind::NotFound, message)
        };
        if self.store().snapshot(name)?.is_none() {
            return Err(missing());
        }
        let folder = self.home.snapshot(name);
        let in_use = InUse::share(&folder, Instant::now() + SHORT);
        let in_use = in_use?;
        let in_use = in_use.ok_or_else(missing)?;
        match Frozen::open(&folder).and_then(|frozen| frozen.check().map(|()| frozen)) {
            Ok(frozen) => Ok((frozen, in_use)),
            Err(FrozenError::Missing { .. }) => Err(missing()),
            Err(e) => Err(Fault::from(e)
                .context(format!("snapshot {name} cannot be used"))
                .hint("run `vmint doctor --repair` to repair what can be repaired")),
        }
    }

    /// Snapshots, of one machine or of all.
    pub fn snapshots(&self, machine: Option<&Name>) -> Result<Vec<SnapshotRecord>, Fault> {
        let filter = machine.map_or(SnapshotFilter::Explicit, |m| SnapshotFilter::Of(m.clone()));
        self.store().list_snapshots(&filter).map_err(Fault::from)
    }

    /// Removes a snapshot. Machines that were made of it keep what they need, those that were never started too; a command that
    /// takes that out of it right now is waited for.
    pub fn remove_snapshot(&self, name: &Name) -> Result<(), Fault> {
        if self.store().snapshot(name)?.is_none() {
            return Err(Fault::new(
                ErrorKind::NotFound,
                format!("there is no snapshot {name}"),
            ));
        }
        let folder = self.home.snapshot(name);
        let alone = alone(&folder, &format!("snapshot {name}"))?;
        self.leave_sources(name)?;
        // The folder goes before the record, so that a failure is tried again.
        remove_folder(&folder)?;
        drop(alone);
        self.store()
            .delete_snapshot(name)
            .map(drop)
            .map_err(Fault::from)
    }

    /// Brings a machine to the moment of a snapshot; the next generation of it.
    pub async fn restore(&self, machine: &str, name: &Name) -> Result<MachineRecord, Fault> {
        let (record, _) = self.reach(machine)?;
        let staged = Temporary::of(self, &record);
        let (snapshot, in_use) = self.use_snapshot(name)?;
        let frozen = snapshot.link_whole(&staged.0)?;
        drop(in_use);
        self.open_up(&frozen)?;
        let reset = api::Reset {
            from: Some(frozen.folder().to_owned()),
            snapshot: Some(name.clone()),
        };
        // Its runner knows what it can load, and looks before it gives anything up.
        let restored = self.reset_from(machine, reset).await;
        restored.map_err(|fault| match fault.kind {
            ErrorKind::Corrupt => unusable(name, &snapshot, fault),
            _ => fault,
        })
    }

    /// Where QEMU opens the memory of a fork itself, it must be able to; the runner cannot see to that.
    fn open_up(&self, frozen: &Frozen) -> Result<(), Fault> {
        let needs = vmint_qemu::fence::needs_memory_writable(self.options.confine);
        if !needs || self.options.run_as.is_some() {
            return Ok(());
        }
        let thawed = vmint_qemu::frozen::thaw(&frozen.ram());
        thawed
            .map_err(|e| Fault::from_error(ErrorKind::Host, &e).context("cannot use the snapshot"))
    }

    /// Starts `count` machines from this moment of a running machine, or from a snapshot. One is called `new`, more
    /// are called `new-1`, `new-2` and so on. All come up, or none stays.
    pub async fn fork(
        &self,
        source: &str,
        new: &Name,
        count: u32,
        progress: &dyn Progress,
    ) -> Result<Vec<MachineRecord>, Fault> {
        if !(1..=1000).contains(&count) {
            return Err(Fault::new(
                ErrorKind::Usage,
                format!("{count} forks: 1 to 1000 at once"),
            ));
        }
        let names = (1..=count).map(|n| {
            if count == 1 {
                Ok(new.clone())
            } else {
                format!("{new}-{n}").parse()
            }
        });
        let names: Vec<Name> = names
            .collect::<Result<_, _>>()
            .map_err(|e: vmint_model::InvalidName| Fault::new(ErrorKind::Usage, e.to_string()))?;
        for name in &names {
            self.expect_free(name)?;
        }
        let (snapshot, in_use) = self.fork_source(source).await?;
        let implicit = in_use.is_some().then(|| snapshot.clone());
        let mut implicit = Implicit(self, implicit);
        // Until the last of them is up.
        let held = match &in_use {
            None => Some(self.use_snapshot(&snapshot)?),
            Some(_) => None,
        };
        let outcome = self.fork_all(&names, &snapshot, progress).await;
        drop(held);
        if let Some(snapshot) = implicit.1.take() {
            // The children have links of their own to all that they need.
            self.remove_snapshot(&snapshot)?;
        }
        outcome
    }

    /// The snapshot to fork from: one of that name, or a new one of the machine of that name, in use until the lock is
    /// dropped.
    async fn fork_source(&self, source: &str) -> Result<(Name, Option<FileLock>), Fault> {
        let machine = self.machine(source);
        let known =
            |name: &Name| -> Result<bool, Fault> { Ok(self.store().snapshot(name)?.is_some()) };
        match (machine, source.parse::<Name>()) {
            (Ok(_), _) => {
                let id = vmint_model::MachineId::random();
                let name: Name = format!("fork-{id}").parse().expect("a legal name");
                let mut in_use = None;
                self.take_snapshot(source, &name, Whose::Children(&mut in_use))
                    .await?;
                Ok((name, in_use))
            }
            (Err(_), Ok(name)) if known(&name)? => Ok((name, None)),
            (Err(fault), _) if fault.kind == ErrorKind::NotFound => Err(Fault::new(
                ErrorKind::NotFound,
                format!("there is neither a machine nor a snapshot {source:?}"),
            )),
            (Err(fault), _) => Err(fault),
        }
    }

    async fn fork_all(
        &self,
        names: &[Name],
        snapshot: &Name,
        progress: &dyn Progress,
    ) -> Result<Vec<MachineRecord>, Fault> {
        // As many at a time as there are processors: a fork is work for one, and more at once only wait for each other.
        let width = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let mut records = Vec::with_capacity(names.len());
        // All come up, or none stays: also if nobody waits for the last any more.
        let mut undo = Vec::with_capacity(names.len());
        let mut failure = None;
        let mut starts = names.iter().map(|name| {
            let new = NewMachine {
                name: Some(name.clone()),
                origin: Origin::Snapshot(snapshot.clone()),
                ..NewMachine::of(String::new())
            };
            Box::pin(self.create_running(new, progress))
        });
        let mut under_way: Vec<_> = starts.by_ref().take(width).collect();
        while !under_way.is_empty() {
            match first_of(&mut under_way).await {
                Ok(record) => {
                    undo.push(Undo::machine(self, &record.id));
                    records.push(record);
                    if failure.is_none() {
                        under_way.extend(starts.next());
                    }
                    if names.len() > width {
                        progress.bytes(records.len() as u64, Some(names.len() as u64));
                    }
                }
                Err(fault) => failure = failure.or(Some(fault)),
            }
        }
        // Some overtake others.
        records.sort_by_key(|record| names.iter().position(|name| *name == record.name));
        let Some(fault) = failure else {
            undo.into_iter().for_each(Undo::claim);
            return Ok(records);
        };
        for record in records {
            let _ = self.remove(record.id.as_str(), Force::Yes).await;
        }
        undo.into_iter().for_each(Undo::claim);
        Err(fault)
    }

    /// Removes implicit snapshots, and unfinished ones, whose commands were killed; settles what becomes of those without
    /// a record.
    pub(crate) fn sweep_snapshots(&self) -> Result<Vec<Found>, Fault> {
        let Ok(entries) = std::fs::read_dir(self.home.snapshots()) else {
            return Ok(Vec::new());
        };
        let known = self.store().snapshot_names()?;
        let known: HashSet<Name> = known.into_iter().collect();
        let mut found = Vec::new();
        for path in entries.flatten().map(|e| e.path()) {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(rest) = name.strip_prefix(".tmp-") {
                let pid = rest.rsplit('-').next().and_then(|pid| pid.parse().ok());
                if pid.is_some_and(|pid| matches!(process::of(pid), Ok(None))) {
                    remove_folder(&path)?;
                }
                continue;
            }
            let Ok(name) = name.parse::<Name>() else {
                continue;
            };
            if !known.contains(&name) {
                match self.settle_snapshot(&name) {
                    Ok(settled) => found.extend(settled),
                    Err(e) => tracing::warn!("{e}"),
                }
            } else if path.join(IN_USE).exists()
                && !FileLock::is_held(&path.join(IN_USE)).unwrap_or(true)
            {
                match self.remove_snapshot(&name) {
                    // Another command was faster.
                    Err(fault) if fault.kind == ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(found)
    }
}

/// A folder that nobody uses any more; `what` it is, for a message. `None` if it is gone.
pub(crate) fn alone(folder: &Path, what: &str) -> Result<Option<InUse>, Fault> {
    InUse::alone_until(folder, Instant::now() + SHORT).map_err(|e| match e {
        LockError::TimedOut { waited, .. } => {
            let waited = waited.as_secs();
            let message =
                format!("{what} is not removed: another command still uses it after {waited} s");
            Fault::new(ErrorKind::WrongState, message)
                .hint("wait until that command has ended, and remove it then")
        }
        e => Fault::from(e),
    })
}

/// Whether the memory of a snapshot can be loaded here; if not, what still can be had of it is told.
pub(crate) fn expect_fit(host: &Host, name: &Name, frozen: &Frozen) -> Result<(), Fault> {
    host.fits(frozen.manifest())
        .map_err(|misfit| unusable(name, frozen, misfit.into()))
}

/// What still can be had of a snapshot whose memory cannot be loaded.
fn unusable(name: &Name, frozen: &Frozen, fault: Fault) -> Fault {
    let fault = fault.context(format!("snapshot {name} cannot be used"));
    fault.hint(if frozen.manifest().layers > 0 {
        format!("boot from its disk: `vmint create NEW --from {name} --cold --start`")
    } else {
        "it has no disk, only memory: name the QEMU that it was made with in VMINT_QEMU".to_owned()
    })
}

fn exists(name: &Name) -> Fault {
    Fault::new(
        ErrorKind::AlreadyExists,
        format!("a snapshot with the name {name} exists already"),
    )
}

/// A folder within the reach of a machine's runner, that goes away unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn of(vmint: &Vmint, machine: &MachineRecord) -> Self {
        let what = format!(
            "{}-{}",
            std::process::id(),
            vmint_model::MachineId::random()
        );
        let path = vmint.home.machine(&machine.id).staged(&what);
        Self(path)
    }

    fn make(&self) -> Result<(), Fault> {
        let made = std::fs::create_dir(&self.0);
        made.map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot make the snapshot's folder")
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        vmint_qemu::frozen::release(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The implicit snapshot that children are made of, if there is one: it goes with the future that makes them.
struct Implicit<'v>(&'v Vmint, Option<Name>);

impl Drop for Implicit<'_> {
    fn drop(&mut self) {
        if let Some(snapshot) = self.1.take()
            && let Err(e) = self.0.remove_snapshot(&snapshot)
        {
            // It is nobody's any more, and the next command finds that out.
            tracing::info!("snapshot {snapshot} is not removed yet: {e}");
        }
    }
}

/// Awaits the first of several to end, and takes it out.
async fn first_of<F: Future + Unpin>(futures: &mut Vec<F>) -> F::Output {
    let (at, output) = std::future::poll_fn(|cx| {
        for (at, future) in futures.iter_mut().enumerate() {
            if let Poll::Ready(output) = Pin::new(future).poll(cx) {
                return Poll::Ready((at, output));
            }
        }
        Poll::Pending
    })
    .await;
    drop(futures.swap_remove(at));
    output
}
