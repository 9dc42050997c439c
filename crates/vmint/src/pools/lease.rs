//! A machine that is lent.

use super::Here;
use super::local::at_once;
use crate::{Command, Output, Running, Vmint};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncRead;
use vmint_model::{
    By, ErrorKind, Fault, Generation, LeaseId, LeaseRecord, MachineId, MachineRecord, Name, RunId,
    SnapshotRecord,
};

/// The right to one machine at one generation. It is given back when this is dropped, and also when the process ends,
/// however it does: the machine's runner watches it.
///
/// Whatever is done with it after the lease has ended, or the machine is gone, is an error of kind
/// [`ErrorKind::LeaseLost`] that says why. It never reaches another's machine.
#[derive(Debug)]
pub struct Lease {
    vmint: Arc<Vmint>,
    here: Arc<Here>,
    record: Mutex<LeaseRecord>,
    /// Whether this still has to be given back.
    held: bool,
}

impl Lease {
    pub(super) fn new(vmint: Arc<Vmint>, here: Arc<Here>, record: LeaseRecord) -> Self {
        Self {
            vmint,
            here,
            record: Mutex::new(record),
            held: true,
        }
    }

    /// The lease as it was granted, or last renewed.
    pub fn record(&self) -> LeaseRecord {
        self.record
            .lock()
            .expect("nobody panics with the lock")
            .clone()
    }

    /// Its id.
    pub fn id(&self) -> LeaseId {
        self.record().id
    }

    /// Its machine.
    pub fn machine(&self) -> MachineId {
        self.record().machine
    }

    /// The generation of its machine.
    pub fn generation(&self) -> Generation {
        self.record().generation
    }

    /// The machine at this lease's generation and no other, as every method of [`Vmint`] that takes a machine's name
    /// understands it.
    pub fn handle(&self) -> String {
        let record = self.record.lock().expect("nobody panics with the lock");
        record.handle()
    }

    /// Starts a command.
    pub async fn exec(&self, command: Command) -> Result<Running<'_>, Fault> {
        let running = self.vmint.exec(&self.handle(), command).await;
        self.blamed(running).await
    }

    /// Runs a command to its end and gathers what it says.
    pub async fn output(&self, command: Command) -> Result<Output, Fault> {
        let output = self.vmint.output(&self.handle(), command).await;
        self.blamed(output).await
    }

    /// Copies a file or folder into the machine.
    pub async fn copy_in(&self, source: &Path, target: &str) -> Result<(), Fault> {
        let copied = self.vmint.copy_in(source, &self.handle(), target).await;
        warn_of_skipped(&self.blamed(copied).await?);
        Ok(())
    }

    /// Copies a file or folder out of the machine.
    pub async fn copy_out(&self, source: &str, target: &Path) -> Result<(), Fault> {
        let unpacked = self.vmint.copy_out(&self.handle(), source, target).await;
        warn_of_skipped(&self.blamed(unpacked).await?);
        Ok(())
    }

    /// Unpacks a tar stream in a folder of the machine, made if need be. What is unpacked belongs to `user`, or to whom the
    /// archive says.
    pub async fn unpack_into(
        &self,
        folder: &str,
        user: Option<String>,
        tar: impl AsyncRead + Unpin,
    ) -> Result<(), Fault> {
        let handle = self.handle();
        let sent = self
            .vmint
            .unpack_into(&handle, folder.as_bytes(), user, tar)
            .await;
        self.blamed(sent.map(drop)).await
    }

    /// Packs a file or folder of the machine, and hands the tar stream to `sink` piece by piece.
    pub async fn pack_from<F, Fut>(&self, path: &str, sink: F) -> Result<(), Fault>
    where
        F: FnMut(bytes::Bytes) -> Fut,
        Fut: Future<Output = std::io::Result<()>>,
    {
        let handle = self.handle();
        let sent = self.vmint.pack_from(&handle, path.as_bytes(), sink).await;
        self.blamed(sent.map(drop)).await
    }

    /// What is known of the machine.
    pub fn machine_record(&self) -> Result<MachineRecord, Fault> {
        let record = self.vmint.machine(&self.handle());
        record.map_err(|fault| self.vmint.blame_lease_now(&self.id(), fault))
    }

    /// The same as [`snapshot`](Self::snapshot), on behalf of a run; not among the user's own.
    pub(crate) async fn snapshot_for_run(
        &self,
        name: &Name,
        run: &RunId,
    ) -> Result<SnapshotRecord, Fault> {
        let snapshot = self.vmint.snapshot_for_run(&self.handle(), name, run).await;
        self.blamed(snapshot).await
    }

    /// Freezes this moment of the machine.
    pub async fn snapshot(&self, name: &Name) -> Result<SnapshotRecord, Fault> {
        let snapshot = self.vmint.snapshot(&self.handle(), name).await;
        self.blamed(snapshot).await
    }

    /// Makes the machine fresh, and keeps it. Its generation rises by one, and the lease's with it.
    pub async fn reset(&self) -> Result<Generation, Fault> {
        let machine = self.vmint.reset(&self.handle()).await;
        self.renewed(machine).await
    }

    /// Brings the machine to the moment of a snapshot, and keeps it. Its generation rises by one, and the lease's with it.
    pub async fn restore(&self, snapshot: &Name) -> Result<Generation, Fault> {
        let machine = self.vmint.restore(&self.handle(), snapshot).await;
        self.renewed(machine).await
    }

    async fn renewed(&self, machine: Result<MachineRecord, Fault>) -> Result<Generation, Fault> {
        let machine = self.blamed(machine).await?;
        let mut record = self.record.lock().expect("nobody panics with the lock");
        record.generation = machine.generation;
        Ok(machine.generation)
    }

    /// Begins the lease's time anew.
    pub fn renew(&self) -> Result<LeaseRecord, Fault> {
        let renewed = at_once(self.here.renew(&self.id(), By::Anybody))?;
        *self.record.lock().expect("nobody panics with the lock") = renewed.clone();
        Ok(renewed)
    }

    /// What is on the machine's console; of one that was lost, the end of it.
    pub fn console(&self) -> Result<String, Fault> {
        let path = self.vmint.home.machine(&self.machine()).console_log();
        match vmint_qemu::log::read_settled(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) => {
                let known = self.vmint.store().lease(&self.id());
                if let Ok(Some(kept)) = known.map(|lease| lease.console) {
                    return Ok(kept);
                }
                let fault = Fault::from_error(ErrorKind::Host, &e);
                Err(self.vmint.blame_lease_now(&self.id(), fault))
            }
        }
    }

    /// If the machine is lost while it is lent, what is left of it is kept under this name: a stopped machine with its disk, which can be
    /// started, copied and removed as any other. A machine without a disk leaves its console alone, which [`console`](Self::console)
    /// gives in any case. `None`: no more.
    ///
    /// # Errors
    /// If a machine of this name exists, or the lease has ended.
    pub fn keep_if_lost(&self, name: Option<&Name>) -> Result<LeaseRecord, Fault> {
        if let Some(name) = name {
            self.vmint.expect_free(name)?;
        }
        let kept = self
            .vmint
            .store()
            .keep_if_lost(&self.id(), By::Anybody, name);
        let kept = kept?;
        *self.record.lock().expect("nobody panics with the lock") = kept.clone();
        Ok(kept)
    }

    /// Gives the machine back. That it is already gone, and why, is an error.
    pub fn release(mut self) -> Result<(), Fault> {
        self.held = false;
        self.give_back()
    }

    fn give_back(&self) -> Result<(), Fault> {
        at_once(self.here.release(&self.id(), By::Anybody)).map(drop)
    }

    /// Keeps the lease beyond this value: for a caller that gives it back by its id, or whose owner is another process.
    pub fn keep(mut self) -> LeaseRecord {
        self.held = false;
        self.record()
    }

    /// What a failure means when the lease has ended meanwhile: [`Vmint::blame_lease`].
    pub(crate) async fn blame(&self, fault: Fault) -> Fault {
        let (id, handle) = (self.id(), self.handle());
        self.vmint.blame_lease(&id, &handle, fault).await
    }

    async fn blamed<T>(&self, done: Result<T, Fault>) -> Result<T, Fault> {
        match done {
            Err(fault) => Err(self.blame(fault).await),
            done => done,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held
            && let Err(fault) = self.give_back()
            && fault.kind != ErrorKind::LeaseLost
        {
            // The runner gives it back when this process ends.
            tracing::warn!("cannot give back lease {}: {fault}", self.id());
        }
    }
}

/// Notes what of a copy was left out.
fn warn_of_skipped(copied: &vmint_files::Unpacked) {
    if !copied.skipped.is_empty() {
        tracing::warn!("{}", copied.skipped);
    }
}
