//! A store as a [`Ledger`].

use super::Moment;
use crate::{Store, process};
use std::sync::{Mutex, MutexGuard};
use vmint_model::{
    By, Claim, Claimed, Duty, Generation, LeaseEnd, LeaseId, LeaseRecord, Ledger, LedgerError,
    MachineId, Name, Now, OwnerGone, PoolChange, PoolRecord, PoolStatus, ProcessRef, Readied,
    Reserved, Ring, Slot,
};

type Lives = dyn Fn(&ProcessRef) -> bool + Send + Sync;
type NewId = dyn Fn() -> MachineId + Send + Sync;

/// The ledger of this host. Its methods take well under a millisecond, and so do not wait: they block.
pub struct LocalLedger {
    store: Mutex<Store>,
    lives: Box<Lives>,
    new_id: Box<NewId>,
}

impl std::fmt::Debug for LocalLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalLedger").finish_non_exhaustive()
    }
}

impl LocalLedger {
    /// The ledger in this store.
    pub fn new(store: Store) -> Self {
        Self::with_lives(store, Box::new(process::is_alive))
    }

    /// The same with another way to tell who lives; for simulations.
    pub fn with_lives(store: Store, lives: Box<Lives>) -> Self {
        Self {
            store: Mutex::new(store),
            lives,
            new_id: Box::new(MachineId::random),
        }
    }

    /// The same with ids for machines from elsewhere; for simulations, which must be the same each time.
    pub fn with_ids(self, new_id: Box<NewId>) -> Self {
        Self { new_id, ..self }
    }

    /// The store. Never held across an await.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panics with the lock")
    }

    fn at(&self, now: Now) -> Moment<'_> {
        Moment {
            now,
            lives: &*self.lives,
        }
    }
}

impl Ledger for LocalLedger {
    async fn create_pool(&self, pool: &PoolRecord) -> Result<(), LedgerError> {
        self.store().create_pool(pool)
    }

    async fn pool(&self, name: &Name) -> Result<PoolStatus, LedgerError> {
        self.store().pool(name)
    }

    async fn pools(&self) -> Result<Vec<PoolStatus>, LedgerError> {
        self.store().pools()
    }

    async fn change_pool(
        &self,
        name: &Name,
        change: PoolChange,
        now: Now,
    ) -> Result<(PoolStatus, Vec<Ring>), LedgerError> {
        self.store().change_pool(name, change, self.at(now))
    }

    async fn claim(&self, claim: &Claim, now: Now) -> Result<(Claimed, Vec<Ring>), LedgerError> {
        self.store().claim(claim, self.at(now))
    }

    async fn withdraw(&self, lease: &LeaseId, now: Now) -> Result<Vec<Ring>, LedgerError> {
        self.store().withdraw(lease, now)
    }

    async fn reserve(
        &self,
        pool: &Name,
        maker: &ProcessRef,
        limit: u32,
        now: Now,
    ) -> Result<Reserved, LedgerError> {
        self.store()
            .reserve_slots_as(pool, maker, limit, now, &*self.new_id)
    }

    async fn ready(
        &self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> Result<(Readied, Vec<Ring>), LedgerError> {
        self.store().slot_ready(machine, generation, self.at(now))
    }

    async fn checked(&self, machine: &MachineId, now: Now) -> Result<(), LedgerError> {
        self.store().slot_checked(machine, now)
    }

    async fn advance(
        &self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> Result<(), LedgerError> {
        self.store().slot_advanced(machine, generation, now)
    }

    async fn gone(
        &self,
        machine: &MachineId,
        why: Option<&str>,
        now: Now,
    ) -> Result<Vec<Ring>, LedgerError> {
        self.store().slot_gone(machine, why, now)
    }

    async fn duty(&self, machine: &MachineId, now: Now) -> Result<Duty, LedgerError> {
        self.store().slot_duty(machine, now)
    }

    async fn end(
        &self,
        lease: &LeaseId,
        by: By<'_>,
        how: LeaseEnd,
        detail: Option<&str>,
        now: Now,
    ) -> Result<(LeaseRecord, Vec<Ring>), LedgerError> {
        self.store().end_lease(lease, by, how, detail, now)
    }

    async fn owner_gone(
        &self,
        lease: &LeaseId,
        gone: &OwnerGone,
        now: Now,
    ) -> Result<Vec<Ring>, LedgerError> {
        self.store().owner_gone(lease, gone, now)
    }

    async fn renew(
        &self,
        lease: &LeaseId,
        by: By<'_>,
        now: Now,
    ) -> Result<LeaseRecord, LedgerError> {
        self.store().renew_lease(lease, by, now)
    }

    async fn lease(&self, id: &LeaseId) -> Result<LeaseRecord, LedgerError> {
        self.store().lease(id)
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, LedgerError> {
        self.store().leases()
    }

    async fn slots(&self, pool: Option<&Name>) -> Result<Vec<Slot>, LedgerError> {
        self.store().slots(pool)
    }

    async fn tidy(&self, now: Now) -> Result<Vec<Ring>, LedgerError> {
        self.store().tidy(self.at(now))
    }
}
