//! What the ledger does, said in as few words as possible.
//!
//! No tables, counters or transactions: a pool has a map of slots and a line, which is a `Vec`. No two things happen at one
//! moment. Ids of machines are the ledger's choice; all else is decided here.

use Outcome::Refused;
use std::collections::{BTreeMap, BTreeSet};
use vmint_model::ledger::CHECK_AFTER_MS;
use vmint_model::{ErrorKind, MachineId, PoolChange, PoolSpec, PoolState, SlotState};

/// What a claim asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub pool: u8,
    pub owner: u8,
    pub ttl: Option<u64>,
    /// How long it waits in line, if it does.
    pub patience: Option<i64>,
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Which machine, and whether its guest must be asked first.
    Leased(MachineId, bool),
    Waiting(usize),
    None,
    Reserved(usize),
    Readied(&'static str),
    Duty(&'static str),
    Refused(ErrorKind),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecSlot {
    pub state: SlotState,
    pub generation: u64,
    pub uses: u32,
    pub born_ms: i64,
    pub since_ms: i64,
    pub checked_ms: i64,
}

#[derive(Debug)]
pub struct SpecPool {
    pub spec: PoolSpec,
    pub state: PoolState,
    pub slots: BTreeMap<MachineId, SpecSlot>,
    pub line: Vec<usize>,
}

/// Where a claim has got to.
#[derive(Clone, Debug)]
pub enum Stands {
    /// Not in line, and was never granted.
    Nowhere,
    InLine,
    Held(MachineId),
    Ended,
}

#[derive(Debug)]
pub struct SpecLease {
    pub wish: Wish,
    pub deadline_ms: i64,
    pub expires_ms: Option<i64>,
    pub stands: Stands,
}

#[derive(Debug, Default)]
pub struct Spec {
    pub now_ms: i64,
    pub pools: BTreeMap<u8, SpecPool>,
    pub leases: Vec<SpecLease>,
    pub dead: BTreeSet<u8>,
}

impl SpecPool {
    pub fn count(&self, states: &[SlotState]) -> usize {
        let slots = self.slots.values();
        slots.filter(|slot| states.contains(&slot.state)).count()
    }

    /// The ready machine that has been ready for the shortest time.
    pub fn newest_ready(&self) -> Option<MachineId> {
        let ready = self
            .slots
            .iter()
            .filter(|(_, s)| s.state == SlotState::Ready);
        ready
            .max_by_key(|(_, s)| s.since_ms)
            .map(|(m, _)| m.clone())
    }

    pub fn oldest_ready(&self) -> Option<MachineId> {
        let ready = self
            .slots
            .iter()
            .filter(|(_, s)| s.state == SlotState::Ready);
        ready
            .min_by_key(|(_, s)| s.since_ms)
            .map(|(m, _)| m.clone())
    }
}

impl Spec {
    pub fn pool_of(&mut self, machine: &MachineId) -> Option<u8> {
        let mut pools = self.pools.iter();
        pools
            .find(|(_, p)| p.slots.contains_key(machine))
            .map(|(n, _)| *n)
    }

    pub fn set(&mut self, pool: u8, machine: &MachineId, state: SlotState) {
        let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
        let slot = slots.get_mut(machine).unwrap();
        (slot.state, slot.since_ms) = (state, self.now_ms);
    }

    pub fn open(&self, pool: u8) -> Result<&SpecPool, Outcome> {
        let pool = self.pools.get(&pool).ok_or(Refused(ErrorKind::NotFound))?;
        match pool.state {
            PoolState::Open => Ok(pool),
            _ => Err(Refused(ErrorKind::PoolClosed)),
        }
    }

    /// A machine is not wanted any more: its pool is closed, it is too old, was used too often, or is one too many.
    pub fn is_done(&self, pool: u8, machine: &MachineId) -> bool {
        let pool = &self.pools[&pool];
        let (slot, spec) = (&pool.slots[machine], &pool.spec);
        let staying = pool.slots.len() - pool.count(&[SlotState::Retiring]);
        pool.state != PoolState::Open
            || spec
                .ttl_ms
                .is_some_and(|ttl| self.now_ms - slot.born_ms >= ttl as i64)
            || spec.max_uses.is_some_and(|most| slot.uses >= most)
            || staying > spec.max as usize
    }

    pub fn is_gone(&self, lease: usize) -> bool {
        let lease = &self.leases[lease];
        lease.deadline_ms < self.now_ms || self.dead.contains(&lease.wish.owner)
    }

    /// Takes the first who still waits out of the line.
    pub fn first(&mut self, pool: u8) -> Option<usize> {
        loop {
            let line = &mut self.pools.get_mut(&pool).unwrap().line;
            if line.is_empty() {
                return None;
            }
            let first = line.remove(0);
            self.leases[first].stands = Stands::Nowhere;
            if !self.is_gone(first) {
                return Some(first);
            }
        }
    }

    pub fn grant(&mut self, pool: u8, machine: &MachineId, lease: usize) {
        self.set(pool, machine, SlotState::Leased);
        let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
        slots.get_mut(machine).unwrap().uses += 1;
        let lease = &mut self.leases[lease];
        lease.expires_ms = lease.wish.ttl.map(|ttl| self.now_ms + ttl as i64);
        lease.stands = Stands::Held(machine.clone());
    }

    /// What is ready goes to those who wait; the dead at the head of the line leave it.
    pub fn serve(&mut self, pool: u8) {
        while let Some(machine) = self.pools[&pool].newest_ready() {
            let Some(first) = self.first(pool) else {
                return;
            };
            self.grant(pool, &machine, first);
        }
        while let Some(&first) = self.pools[&pool].line.first() {
            if !self.is_gone(first) {
                return;
            }
            self.pools.get_mut(&pool).unwrap().line.remove(0);
            self.leases[first].stands = Stands::Nowhere;
        }
    }

    pub fn finish(&mut self, lease: usize, lost: bool) {
        let stands = std::mem::replace(&mut self.leases[lease].stands, Stands::Ended);
        let Stands::Held(machine) = stands else {
            unreachable!()
        };
        let pool = self.pool_of(&machine).unwrap();
        let done = lost || self.is_done(pool, &machine);
        let to = if done {
            SlotState::Retiring
        } else {
            SlotState::Resetting
        };
        self.set(pool, &machine, to);
    }

    pub fn dissolve(&mut self, pool: u8) {
        for lease in std::mem::take(&mut self.pools.get_mut(&pool).unwrap().line) {
            self.leases[lease].stands = Stands::Nowhere;
        }
    }

    pub fn forget_if_empty(&mut self, pool: u8) {
        if self.pools[&pool].state == PoolState::Removing && self.pools[&pool].slots.is_empty() {
            self.dissolve(pool);
            self.pools.remove(&pool);
        }
    }

    pub fn holder(&self, machine: &MachineId) -> Option<usize> {
        let mut leases = self.leases.iter();
        leases.position(|l| matches!(&l.stands, Stands::Held(held) if held == machine))
    }

    pub fn change(&mut self, pool: u8, change: PoolChange) -> Result<Outcome, Outcome> {
        let p = self
            .pools
            .get_mut(&pool)
            .ok_or(Refused(ErrorKind::NotFound))?;
        if p.state == PoolState::Removing && change.state != Some(PoolState::Removing) {
            return Err(Refused(ErrorKind::PoolClosed));
        }
        p.spec.min = change.min.unwrap_or(p.spec.min);
        p.spec.max = change.max.unwrap_or(p.spec.max);
        p.state = change.state.unwrap_or(p.state);
        let (state, max) = (p.state, p.spec.max as usize);
        let machines: Vec<_> = p.slots.keys().cloned().collect();
        if state == PoolState::Removing && change.force {
            for lease in machines
                .iter()
                .filter_map(|m| self.holder(m))
                .collect::<Vec<_>>()
            {
                self.finish(lease, false);
            }
        }
        let surplus = match state {
            PoolState::Open => machines.len().saturating_sub(max),
            _ => machines.len(),
        };
        for _ in 0..surplus {
            if let Some(machine) = self.pools[&pool].oldest_ready() {
                self.set(pool, &machine, SlotState::Retiring);
            }
        }
        match state {
            PoolState::Open => self.serve(pool),
            _ => self.dissolve(pool),
        }
        self.forget_if_empty(pool);
        Ok(Outcome::Done)
    }

    pub fn claim(&mut self, lease: usize) -> Result<Outcome, Outcome> {
        let now = self.now_ms;
        let stale = |s: &Self, pool: u8, m: &MachineId| {
            now - s.pools[&pool].slots[m].checked_ms > CHECK_AFTER_MS
        };
        let pool = self.leases[lease].wish.pool;
        match self.leases[lease].stands.clone() {
            Stands::Held(machine) => {
                let stale = stale(self, pool, &machine);
                return Ok(Outcome::Leased(machine, stale));
            }
            Stands::Ended => return Err(Refused(ErrorKind::LeaseLost)),
            Stands::InLine => {
                self.open(pool)?;
                self.serve(pool);
                if let Stands::Held(machine) = self.leases[lease].stands.clone() {
                    return Ok(Outcome::Leased(machine, true));
                }
                let mut line = self.pools[&pool].line.iter();
                if let Some(before) = line.position(|l| *l == lease) {
                    return Ok(Outcome::Waiting(before));
                }
                // It was itself the dead one at the head.
                return Ok(Outcome::Waiting(0));
            }
            Stands::Nowhere => {}
        }
        if !self.open(pool)?.line.is_empty() {
            self.serve(pool);
        }
        let waiting = self.pools[&pool].line.len();
        if waiting == 0
            && let Some(machine) = self.pools[&pool].newest_ready()
        {
            let stale = stale(self, pool, &machine);
            self.grant(pool, &machine, lease);
            return Ok(Outcome::Leased(machine, stale));
        }
        if self.leases[lease].wish.patience.is_none() {
            return Ok(Outcome::None);
        }
        if self.leases[lease].deadline_ms >= now {
            self.leases[lease].stands = Stands::InLine;
            self.pools.get_mut(&pool).unwrap().line.push(lease);
        }
        Ok(Outcome::Waiting(waiting))
    }

    /// How many machines to make: so that `min` are ready and everybody in line is served, but not more than `max`.
    pub fn missing(&self, pool: u8, limit: u32) -> Result<usize, Outcome> {
        use SlotState::{Filling, Ready, Resetting};
        let pool = self.open(pool)?;
        let coming = pool.count(&[Filling, Ready, Resetting]);
        let wanted = (pool.spec.min as usize + pool.line.len()).saturating_sub(coming);
        let room = (pool.spec.max as usize).saturating_sub(pool.slots.len());
        Ok(wanted.min(room).min(limit as usize))
    }

    pub fn reserved(&mut self, pool: u8, machines: &[MachineId]) {
        for machine in machines {
            let slot = SpecSlot {
                state: SlotState::Filling,
                generation: 0,
                uses: 0,
                born_ms: self.now_ms,
                since_ms: self.now_ms,
                checked_ms: 0,
            };
            let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
            slots.insert(machine.clone(), slot);
        }
    }

    pub fn ready(&mut self, machine: &MachineId, ahead: u64) -> Result<Outcome, Outcome> {
        let Some(pool) = self.pool_of(machine) else {
            return Ok(Outcome::Readied("retire"));
        };
        match self.pools[&pool].slots[machine].state {
            SlotState::Retiring => return Ok(Outcome::Readied("retire")),
            SlotState::Ready => return Ok(Outcome::Readied("ready")),
            SlotState::Leased => return Ok(Outcome::Readied("granted")),
            SlotState::Filling | SlotState::Resetting => {}
        }
        if ahead == 0 {
            return Err(Refused(ErrorKind::StaleGeneration));
        }
        if self.is_done(pool, machine) {
            self.set(pool, machine, SlotState::Retiring);
            return Ok(Outcome::Readied("retire"));
        }
        let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
        let slot = slots.get_mut(machine).unwrap();
        slot.generation += ahead;
        slot.checked_ms = self.now_ms;
        if let Some(first) = self.first(pool) {
            self.grant(pool, machine, first);
            return Ok(Outcome::Readied("granted"));
        }
        self.set(pool, machine, SlotState::Ready);
        Ok(Outcome::Readied("ready"))
    }

    pub fn advance(&mut self, machine: &MachineId, to: u64) -> Result<Outcome, Outcome> {
        let refused = Refused(ErrorKind::StaleGeneration);
        let now = self.now_ms;
        let pool = self.pool_of(machine).ok_or(refused.clone())?;
        self.holder(machine).ok_or(refused.clone())?;
        let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
        let slot = slots.get_mut(machine).unwrap();
        if to < slot.generation {
            return Err(refused);
        }
        (slot.generation, slot.checked_ms) = (to, now);
        Ok(Outcome::Done)
    }

    pub fn gone(&mut self, machine: &MachineId) -> Outcome {
        if let Some(pool) = self.pool_of(machine) {
            if let Some(lease) = self.holder(machine) {
                self.finish(lease, true);
            }
            self.pools.get_mut(&pool).unwrap().slots.remove(machine);
            self.forget_if_empty(pool);
        }
        Outcome::Done
    }

    pub fn duty(&mut self, machine: &MachineId) -> Outcome {
        let Some(pool) = self.pool_of(machine) else {
            return Outcome::Duty("none");
        };
        let now = self.now_ms;
        match self.pools[&pool].slots[machine].state {
            SlotState::Leased => {
                let lease = self.holder(machine).unwrap();
                if self.leases[lease].expires_ms.is_none_or(|at| at > now) {
                    return Outcome::Duty("guard");
                }
                self.finish(lease, false);
            }
            SlotState::Ready if self.is_done(pool, machine) => {
                self.set(pool, machine, SlotState::Retiring);
            }
            _ => {}
        }
        Outcome::Duty(match self.pools[&pool].slots[machine].state {
            SlotState::Filling | SlotState::Ready => "idle",
            SlotState::Resetting => "reset",
            SlotState::Retiring => "retire",
            SlotState::Leased => unreachable!(),
        })
    }

    pub fn entitled(&self, lease: usize, by: Option<u8>) -> Result<(), Outcome> {
        match self.leases[lease].stands {
            Stands::Nowhere | Stands::InLine => Err(Refused(ErrorKind::NotFound)),
            Stands::Ended => Err(Refused(ErrorKind::LeaseLost)),
            Stands::Held(_) if by.is_some_and(|by| by != self.leases[lease].wish.owner) => {
                Err(Refused(ErrorKind::NotOwner))
            }
            Stands::Held(_) => Ok(()),
        }
    }

    pub fn renew(&mut self, lease: usize, by: Option<u8>) -> Result<Outcome, Outcome> {
        self.entitled(lease, by)?;
        let lease = &mut self.leases[lease];
        if lease.expires_ms.is_some_and(|at| at <= self.now_ms) {
            return Err(Refused(ErrorKind::LeaseLost));
        }
        lease.expires_ms = lease.wish.ttl.map(|ttl| self.now_ms + ttl as i64);
        Ok(Outcome::Done)
    }

    pub fn withdraw(&mut self, lease: usize) -> Outcome {
        match self.leases[lease].stands {
            Stands::InLine => {
                for pool in self.pools.values_mut() {
                    pool.line.retain(|l| *l != lease);
                }
                self.leases[lease].stands = Stands::Nowhere;
            }
            Stands::Held(_) => self.finish(lease, false),
            Stands::Nowhere | Stands::Ended => {}
        }
        Outcome::Done
    }

    pub fn tidy(&mut self) -> Outcome {
        for pool in self.pools.keys().copied().collect::<Vec<_>>() {
            self.serve(pool);
            for lease in self.pools[&pool].line.clone() {
                if self.is_gone(lease) {
                    self.withdraw(lease);
                }
            }
            self.forget_if_empty(pool);
        }
        Outcome::Done
    }
}
