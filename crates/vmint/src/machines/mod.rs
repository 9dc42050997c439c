//! Machines: create and start. What a machine that runs is asked for is in [`running`](crate::running), how it ends in
//! [`ending`](crate::ending).
//!
//! * `wanted`: what is asked for. `plan`: what comes of it.
//! * `start`: how a machine is started.

mod plan;
mod start;
mod wanted;

pub use wanted::NewMachine;
pub(crate) use wanted::check_hardware;

use crate::Vmint;
use crate::admit::Terms;
use crate::folders::{SHORT, make_folder};
use crate::undo::Undo;
use plan::taken;
use start::Admitted;
use vmint_image::Progress;
use vmint_model::{
    Cause, ErrorKind, Fault, MachineDir, MachineId, MachineRecord, MachineState, Name, Origin,
};
use vmint_qemu::Frozen;
use vmint_store::FileLock;
use wanted::record_of;

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

    /// Makes folder, lock and record, in this order.
    fn insert(&self, record: &mut MachineRecord, dir: &MachineDir) -> Result<FileLock, Fault> {
        record.created_at_ms = vmint_store::now_ms();
        let lock = make_folder(dir)?;
        if let Err(e) = self.store().insert(record) {
            let _ = std::fs::remove_dir_all(dir.path());
            return Err(match e {
                vmint_store::StoreError::NameTaken { state, .. } => taken(&record.name, state),
                e => Fault::from(e),
            });
        }
        Ok(lock)
    }

    /// For a machine that was just made, on its way to whoever shall hold it: should it never get there, it is taken back.
    pub fn until_claimed(&self, id: &MachineId) -> Undo {
        Undo::machine(self, id)
    }
}
