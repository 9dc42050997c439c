//! Whom a machine serves.
//!
//! A machine that is in no pool serves everybody who can open the home. A machine of a pool serves the holder of its lease,
//! and nobody else; while nobody holds one it serves nobody. There are three ways to be the holder:
//!
//! | said | means |
//! |---|---|
//! | `NAME@GENERATION`, which `vmint lease acquire` prints as `handle` | the lease that is out at this generation |
//! | a lease: `--lease`, or `VMINT_LEASE` in the environment | this lease, at whatever generation its holder has brought the machine to |
//! | `NAME` alone | the lease that is out, if its owner is this process or one that it descends from |
//!
//! Invariants:
//! * Nothing is decided here that could be otherwise when it is acted upon: what is sent to the runner of a pool's machine
//!   names the generation that was looked at, and the runner serves that generation or refuses. The record is read before
//!   the lease, so a lease that is out was out at that generation, or the generation is past.
//! * To look (`ls`, `info`, `logs`, `wait`) needs no lease, nor does what clears up: `rm --force`, `pool drain` and `pool rm`.

use crate::Vmint;
use vmint_model::{ErrorKind, Fault, Generation, LeaseRecord, LedgerError, MachineRecord, Owner};
use vmint_runner::Client;

/// A machine that serves this process.
#[derive(Debug)]
pub(crate) struct Reach {
    /// As it was looked at.
    pub(crate) record: MachineRecord,
    /// The generation that is meant, when another one must not be served.
    pub(crate) generation: Option<Generation>,
}

impl Vmint {
    /// A machine that is up and serves this process, and the way to its runner.
    pub(crate) fn reach(&self, name: &str) -> Result<(MachineRecord, Client), Fault> {
        let Reach { record, generation } = self.serving(name)?;
        let record = Self::expect_up(record)?;
        let client = match generation {
            Some(generation) => self.client(&record).with_generation(generation),
            None => self.client(&record),
        };
        Ok((record, client))
    }

    /// A machine, up or not, that serves this process.
    pub(crate) fn serving(&self, name: &str) -> Result<Reach, Fault> {
        let found = self.machine(name);
        if let Err(fault) = &found
            && fault.kind == ErrorKind::NotFound
        {
            self.expect_held(name)?;
        }
        let (record, is_handle) = (found?, name.contains('@'));
        let generation = (is_handle || record.pool.is_some()).then_some(record.generation);
        if record.pool.is_some() {
            self.expect_holder(&record, is_handle)?;
        }
        Ok(Reach { record, generation })
    }

    /// The machine that was lent to this process is gone: then the lease says why, not that there is no such machine.
    fn expect_held(&self, name: &str) -> Result<(), Fault> {
        let Some(id) = &self.options.lease else {
            return Ok(());
        };
        match self.store().lease(id) {
            Ok(lease) if lease.machine.as_str() == name => expect_out(lease).map(drop),
            _ => Ok(()),
        }
    }

    fn expect_holder(&self, record: &MachineRecord, is_handle: bool) -> Result<(), Fault> {
        if let Some(id) = &self.options.lease {
            match self.store().lease(id) {
                // It says why it has ended, whatever became of the machine since.
                Ok(lease) if lease.machine == record.id => return expect_out(lease).map(drop),
                Ok(_) | Err(LedgerError::NoLease(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let out = self.store().lease_of_machine(&record.id)?;
        let Some(lease) = out else {
            return Err(self.not_leased(record, is_handle)?);
        };
        let is_owner = || match &lease.owner {
            Owner::Process(owner) => crate::pools::i_descend_from(owner),
            Owner::Client { .. } => false,
        };
        if is_handle || is_owner() {
            return Ok(());
        }
        let message = format!(
            "{} is leased to {}, not to this process",
            of_pool(record),
            lease.owner
        );
        Err(Fault::new(ErrorKind::NotOwner, message).hint(HOW))
    }

    /// Nobody holds it. Whoever names the generation of a lease that has ended learns how it ended.
    fn not_leased(&self, record: &MachineRecord, is_handle: bool) -> Result<Fault, Fault> {
        let last = self.store().last_lease_of_machine(&record.id)?;
        if let Some(lease) = last
            && is_handle
            && lease.generation == record.generation
            && let Some(ended) = lease.ended
        {
            let id = lease.id;
            return Ok(LedgerError::LeaseEnded { id, ended }.into());
        }
        let message = format!("{} is not leased to anybody", of_pool(record));
        let pool = record.pool.as_ref().map_or("POOL", |pool| pool.as_str());
        let hint = format!(
            "acquire a machine with `vmint lease acquire {pool}`, and name it by the `handle` that is printed"
        );
        Ok(Fault::new(ErrorKind::NotOwner, message).hint(hint))
    }

    /// A machine that is up, by whoever may name it.
    pub(crate) fn live(&self, name: &str) -> Result<MachineRecord, Fault> {
        Self::expect_up(self.machine(name)?)
    }

    pub(crate) fn expect_up(record: MachineRecord) -> Result<MachineRecord, Fault> {
        if record.state.has_runner() {
            return Ok(record);
        }
        let why = record
            .reason
            .as_deref()
            .map(|r| format!(" ({r})"))
            .unwrap_or_default();
        let message = format!("machine {} is {}{why}", record.name, record.state);
        Err(Fault::new(ErrorKind::WrongState, message).hint(format!("vmint start {}", record.name)))
    }

    /// A machine by name or id; as `NAME@GENERATION` only while it is of this generation.
    pub fn machine(&self, name: &str) -> Result<MachineRecord, Fault> {
        let (name, generation) = match name.split_once('@') {
            Some((name, generation)) => (name, Some(generation)),
            None => (name, None),
        };
        let record = self.store().by_name_or_id(name)?;
        match generation {
            Some(wanted) if wanted != record.generation.to_string() => {
                let message = format!(
                    "machine {name} is at generation {}, not {wanted}",
                    record.generation
                );
                Err(Fault::new(ErrorKind::StaleGeneration, message))
            }
            _ => Ok(record),
        }
    }
}

/// How to reach a machine that another holds.
const HOW: &str = "its holder names it as NAME@GENERATION, the `handle` of `vmint lease acquire`, or gives the lease with --lease or VMINT_LEASE";

fn of_pool(record: &MachineRecord) -> String {
    let pool = record.pool.as_ref().map_or("?", |pool| pool.as_str());
    format!("machine `{}` of pool `{pool}`", record.name)
}

fn expect_out(lease: LeaseRecord) -> Result<LeaseRecord, Fault> {
    match lease.ended {
        None => Ok(lease),
        Some(ended) => {
            let id = lease.id;
            Err(LedgerError::LeaseEnded { id, ended }.into())
        }
    }
}
