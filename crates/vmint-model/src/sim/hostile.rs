//! Any ledger, in bad weather.

use super::Process;
use crate::{
    By, Claim, Claimed, Duty, ErrorKind, Fault, Generation, LeaseEnd, LeaseId, LeaseRecord, Ledger,
    LedgerError, MachineId, Name, Now, OwnerGone, PoolChange, PoolRecord, PoolStatus, ProcessRef,
    Readied, Reserved, Ring, Slot,
};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

/// A ledger as one process reaches it. Each call may be put off, fail and not have happened, fail and have happened, or
/// be the last thing that the process did.
#[derive(Clone, Debug)]
pub struct Hostile<L> {
    ledger: Arc<L>,
    process: Process,
}

impl<L: Ledger> Hostile<L> {
    /// The ledger as this process reaches it.
    pub fn new(ledger: Arc<L>, process: Process) -> Self {
        Self { ledger, process }
    }

    async fn call<T: Debug>(
        &self,
        what: &str,
        transaction: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let sim = self.process.sim();
        self.process.falter().await;
        if sim.strikes(|w| w.fail) {
            let fault = Fault::new(ErrorKind::NoSpace, "no space is left for the database");
            return Err(LedgerError::Failed(fault));
        }
        let result = transaction.await;
        sim.note(|| format!("{:?} {what}: {result:?}", self.process));
        if sim.strikes(|w| w.crash) {
            self.process.die().await;
        }
        if sim.strikes(|w| w.lose) {
            let fault = Fault::new(ErrorKind::Host, "the ledger's answer was lost");
            return Err(LedgerError::Failed(fault));
        }
        self.process.linger().await;
        result
    }
}

impl<L: Ledger> Ledger for Hostile<L> {
    async fn create_pool(&self, pool: &PoolRecord) -> Result<(), LedgerError> {
        self.call("create_pool", self.ledger.create_pool(pool))
            .await
    }

    async fn pool(&self, name: &Name) -> Result<PoolStatus, LedgerError> {
        self.call("pool", self.ledger.pool(name)).await
    }

    async fn pools(&self) -> Result<Vec<PoolStatus>, LedgerError> {
        self.call("pools", self.ledger.pools()).await
    }

    async fn change_pool(
        &self,
        name: &Name,
        change: PoolChange,
        now: Now,
    ) -> Result<(PoolStatus, Vec<Ring>), LedgerError> {
        self.call("change_pool", self.ledger.change_pool(name, change, now))
            .await
    }

    async fn claim(&self, claim: &Claim, now: Now) -> Result<(Claimed, Vec<Ring>), LedgerError> {
        self.call("claim", self.ledger.claim(claim, now)).await
    }

    async fn withdraw(&self, lease: &LeaseId, now: Now) -> Result<Vec<Ring>, LedgerError> {
        self.call("withdraw", self.ledger.withdraw(lease, now))
            .await
    }

    async fn reserve(
        &self,
        pool: &Name,
        maker: &ProcessRef,
        limit: u32,
        now: Now,
    ) -> Result<Reserved, LedgerError> {
        self.call("reserve", self.ledger.reserve(pool, maker, limit, now))
            .await
    }

    async fn ready(
        &self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> Result<(Readied, Vec<Ring>), LedgerError> {
        self.call("ready", self.ledger.ready(machine, generation, now))
            .await
    }

    async fn checked(&self, machine: &MachineId, now: Now) -> Result<(), LedgerError> {
        self.call("checked", self.ledger.checked(machine, now))
            .await
    }

    async fn advance(
        &self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> Result<(), LedgerError> {
        self.call("advance", self.ledger.advance(machine, generation, now))
            .await
    }

    async fn gone(
        &self,
        machine: &MachineId,
        why: Option<&str>,
        now: Now,
    ) -> Result<Vec<Ring>, LedgerError> {
        self.call("gone", self.ledger.gone(machine, why, now)).await
    }

    async fn duty(&self, machine: &MachineId, now: Now) -> Result<Duty, LedgerError> {
        self.call("duty", self.ledger.duty(machine, now)).await
    }

    async fn end(
        &self,
        lease: &LeaseId,
        by: By<'_>,
        how: LeaseEnd,
        detail: Option<&str>,
        now: Now,
    ) -> Result<(LeaseRecord, Vec<Ring>), LedgerError> {
        self.call("end", self.ledger.end(lease, by, how, detail, now))
            .await
    }

    async fn owner_gone(
        &self,
        lease: &LeaseId,
        gone: &OwnerGone,
        now: Now,
    ) -> Result<Vec<Ring>, LedgerError> {
        self.call("owner_gone", self.ledger.owner_gone(lease, gone, now))
            .await
    }

    async fn renew(
        &self,
        lease: &LeaseId,
        by: By<'_>,
        now: Now,
    ) -> Result<LeaseRecord, LedgerError> {
        self.call("renew", self.ledger.renew(lease, by, now)).await
    }

    async fn lease(&self, id: &LeaseId) -> Result<LeaseRecord, LedgerError> {
        self.call("lease", self.ledger.lease(id)).await
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, LedgerError> {
        self.call("leases", self.ledger.leases()).await
    }

    async fn slots(&self, pool: Option<&Name>) -> Result<Vec<Slot>, LedgerError> {
        self.call("slots", self.ledger.slots(pool)).await
    }

    async fn tidy(&self, now: Now) -> Result<Vec<Ring>, LedgerError> {
        self.call("tidy", self.ledger.tidy(now)).await
    }
}
