//! A machine for as long as a run, or one of its jobs, needs it.

use super::cancel::Cancel;
use super::recorder::Recorder;
use super::standstill::Watched;
use crate::guest::{Command, Guest, Place, Process, Site, Want};
use crate::mask::{Masked, Masks};
use crate::record::MachineUse;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use vmint_model::now_ms;
use vmint_model::{ErrorKind, Fault, Name};

/// A lease in which steps follow each other.
pub struct Session {
    guest: Box<dyn Guest>,
    place: Place,
    /// Index among the record's machines.
    index: usize,
    used: AtomicBool,
    lost: AtomicBool,
}

/// Whether a machine is as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// No job was here.
    Fresh,
    /// A job was here, and has left what it has left.
    Before,
}

impl Session {
    /// Acquires a machine, or waits in line for it.
    pub async fn acquire(
        site: &dyn Site,
        place: &Place,
        label: Masked,
        from: Option<&Name>,
        (recorder, masks): (&Recorder<'_>, &Mutex<Masks>),
        cancel: &Cancel,
    ) -> Result<Self, Fault> {
        let began = Instant::now();
        let want = Want { place, label, from };
        let guest = Watched::new(site.acquire(want).await?, cancel.clone());
        let identity = guest.identity();
        let image = masks
            .lock()
            .expect("nobody panics with the lock")
            .mask(&place.image);
        let index = recorder.add_machine(MachineUse {
            machine: identity.machine,
            generation: identity.generation,
            lease: identity.lease,
            pool: place.pool.clone(),
            image,
            accelerator: identity.accelerator,
            boot_id: None,
            acquire_ms: began.elapsed().as_secs_f64() * 1000.0,
            acquired_at_ms: now_ms(),
            released_at_ms: None,
            executions: 0,
        });
        Ok(Self {
            guest: Box::new(guest),
            place: place.clone(),
            index,
            used: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        })
    }

    /// The machine.
    pub fn guest(&self) -> &dyn Guest {
        &*self.guest
    }

    /// Starts a command, and counts it.
    pub async fn start(
        &self,
        command: Command,
        recorder: &Recorder<'_>,
    ) -> Result<Box<dyn Process + '_>, Fault> {
        let process = self.guest.start(command).await?;
        recorder.quietly(|run| run.machines[self.index].executions += 1);
        Ok(process)
    }

    /// Whether a job was here before; from now on one was.
    pub fn use_it(&self) -> Used {
        if self.used.swap(true, Ordering::Relaxed) {
            Used::Before
        } else {
            Used::Fresh
        }
    }

    /// The machine is gone, or cannot be relied upon.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Where it is from.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Index among the record's machines.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Gives the machine back. That it is gone already is no failure: there is nothing to give back.
    pub async fn release(self, recorder: &Recorder<'_>) -> Result<(), Fault> {
        let released = self.guest.release().await;
        let index = self.index;
        recorder.quietly(|run| run.machines[index].released_at_ms = Some(now_ms()));
        match released {
            Err(fault) if fault.kind == ErrorKind::LeaseLost => Ok(()),
            other => other,
        }
    }
}
