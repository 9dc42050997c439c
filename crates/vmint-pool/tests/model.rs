//! The ledger of this host against a specification of it that can be read at one go.
//!
//! The [`Spec`] knows no tables, counters or transactions: a pool has a map of slots and a line, which is a `Vec`. Random
//! sequences of operations are given to both, and must come to the same outcomes and the same books after each. A
//! sequence that does not is made as short as it gets, by proptest.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use vmint_model::ledger::{CHECK_AFTER_MS, Waiter};
use vmint_model::*;
use vmint_store::{Moment, Store};

/// One operation. Numbers name pools and owners; leases and machines by the order in which they first appeared, modulo
/// how many there are.
#[derive(Clone, Debug)]
enum Op {
    Create(u8, PoolSpec),
    Change(u8, PoolChange),
    Claim(Wish),
    ClaimAgain(u8),
    Withdraw(u8),
    Reserve(u8, u32),
    /// A machine says that it is ready, at a generation so far ahead of the one that is known.
    Ready(u8, u64),
    Gone(u8),
    Duty(u8),
    /// By this owner, or by anybody.
    End(u8, Option<u8>),
    Renew(u8, Option<u8>),
    Tidy,
    Die(u8),
    Later(i64),
}

#[derive(Clone, Debug)]
struct Wish {
    pool: u8,
    owner: u8,
    ttl: Option<u64>,
    /// How long it waits in line, if it does.
    patience: Option<i64>,
}

fn op() -> impl Strategy<Value = Op> {
    let pool = || 0_u8..2;
    let ttl = || prop::option::weighted(0.3, 50_u64..500);
    let uses = prop::option::weighted(0.3, 1_u32..3);
    let spec =
        (0_u32..4, 0_u32..5, ttl(), uses).prop_map(|(min, max, ttl_ms, max_uses)| PoolSpec {
            min,
            max,
            ttl_ms,
            max_uses,
            ..PoolSpec::of("tiny")
        });
    let state = prop_oneof![
        6 => Just(Some(PoolState::Open)),
        3 => Just(None),
        2 => Just(Some(PoolState::Drained)),
        1 => Just(Some(PoolState::Removing)),
    ];
    let number = || prop::option::of(0_u32..5);
    let change = (number(), number(), state, any::<bool>()).prop_map(|(min, max, state, force)| {
        PoolChange {
            min,
            max,
            state,
            force,
        }
    });
    let patience = prop::option::weighted(0.8, 0_i64..600);
    let wish = (pool(), 0_u8..4, ttl(), patience).prop_map(|(pool, owner, ttl, patience)| Wish {
        pool,
        owner,
        ttl,
        patience,
    });
    let by = || prop::option::of(0_u8..4);
    prop_oneof![
        2 => (pool(), spec).prop_map(|(pool, spec)| Op::Create(pool, spec)),
        2 => (pool(), change).prop_map(|(pool, change)| Op::Change(pool, change)),
        8 => wish.prop_map(Op::Claim),
        3 => any::<u8>().prop_map(Op::ClaimAgain),
        2 => any::<u8>().prop_map(Op::Withdraw),
        6 => (pool(), 1_u32..4).prop_map(|(pool, limit)| Op::Reserve(pool, limit)),
        10 => (any::<u8>(), 0_u64..3).prop_map(|(machine, ahead)| Op::Ready(machine, ahead)),
        2 => any::<u8>().prop_map(Op::Gone),
        5 => any::<u8>().prop_map(Op::Duty),
        5 => (any::<u8>(), by()).prop_map(|(lease, by)| Op::End(lease, by)),
        2 => (any::<u8>(), by()).prop_map(|(lease, by)| Op::Renew(lease, by)),
        1 => Just(Op::Tidy),
        1 => (0_u8..4).prop_map(Op::Die),
        4 => (1_i64..1_500).prop_map(Op::Later),
    ]
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
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

use Outcome::Refused;

// --- The specification -----------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
struct SpecSlot {
    state: SlotState,
    generation: u64,
    uses: u32,
    born_ms: i64,
    since_ms: i64,
    checked_ms: i64,
}

#[derive(Debug)]
struct SpecPool {
    spec: PoolSpec,
    state: PoolState,
    slots: BTreeMap<MachineId, SpecSlot>,
    line: Vec<usize>,
}

/// Where a claim has got to.
#[derive(Clone, Debug)]
enum Stands {
    /// Not in line, and was never granted.
    Nowhere,
    InLine,
    Held(MachineId),
    Ended,
}

#[derive(Debug)]
struct SpecLease {
    wish: Wish,
    deadline_ms: i64,
    expires_ms: Option<i64>,
    stands: Stands,
}

#[derive(Debug, Default)]
struct Spec {
    now_ms: i64,
    pools: BTreeMap<u8, SpecPool>,
    leases: Vec<SpecLease>,
    dead: BTreeSet<u8>,
}

impl SpecPool {
    fn count(&self, states: &[SlotState]) -> usize {
        let slots = self.slots.values();
        slots.filter(|slot| states.contains(&slot.state)).count()
    }

    /// The ready machine that has been ready for the shortest time.
    fn newest_ready(&self) -> Option<MachineId> {
        let ready = self
            .slots
            .iter()
            .filter(|(_, s)| s.state == SlotState::Ready);
        ready
            .max_by_key(|(_, s)| s.since_ms)
            .map(|(m, _)| m.clone())
    }

    fn oldest_ready(&self) -> Option<MachineId> {
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
    fn pool_of(&mut self, machine: &MachineId) -> Option<u8> {
        let mut pools = self.pools.iter();
        pools
            .find(|(_, p)| p.slots.contains_key(machine))
            .map(|(n, _)| *n)
    }

    fn set(&mut self, pool: u8, machine: &MachineId, state: SlotState) {
        let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
        let slot = slots.get_mut(machine).unwrap();
        (slot.state, slot.since_ms) = (state, self.now_ms);
    }

    fn open(&self, pool: u8) -> Result<&SpecPool, Outcome> {
        let pool = self.pools.get(&pool).ok_or(Refused(ErrorKind::NotFound))?;
        match pool.state {
            PoolState::Open => Ok(pool),
            _ => Err(Refused(ErrorKind::PoolClosed)),
        }
    }

    /// A machine is not wanted any more: its pool is closed, it is too old, was used too often, or is one too many.
    fn is_done(&self, pool: u8, machine: &MachineId) -> bool {
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

    fn is_gone(&self, lease: usize) -> bool {
        let lease = &self.leases[lease];
        lease.deadline_ms < self.now_ms || self.dead.contains(&lease.wish.owner)
    }

    /// Takes the first who still waits out of the line.
    fn first(&mut self, pool: u8) -> Option<usize> {
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

    fn grant(&mut self, pool: u8, machine: &MachineId, lease: usize) {
        self.set(pool, machine, SlotState::Leased);
        let slots = &mut self.pools.get_mut(&pool).unwrap().slots;
        slots.get_mut(machine).unwrap().uses += 1;
        let lease = &mut self.leases[lease];
        lease.expires_ms = lease.wish.ttl.map(|ttl| self.now_ms + ttl as i64);
        lease.stands = Stands::Held(machine.clone());
    }

    /// What is ready goes to those who wait; the dead at the head of the line leave it.
    fn serve(&mut self, pool: u8) {
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

    fn finish(&mut self, lease: usize, lost: bool) {
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

    fn dissolve(&mut self, pool: u8) {
        for lease in std::mem::take(&mut self.pools.get_mut(&pool).unwrap().line) {
            self.leases[lease].stands = Stands::Nowhere;
        }
    }

    fn forget_if_empty(&mut self, pool: u8) {
        if self.pools[&pool].state == PoolState::Removing && self.pools[&pool].slots.is_empty() {
            self.dissolve(pool);
            self.pools.remove(&pool);
        }
    }

    fn holder(&self, machine: &MachineId) -> Option<usize> {
        let mut leases = self.leases.iter();
        leases.position(|l| matches!(&l.stands, Stands::Held(held) if held == machine))
    }

    fn change(&mut self, pool: u8, change: PoolChange) -> Result<Outcome, Outcome> {
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

    fn claim(&mut self, lease: usize) -> Result<Outcome, Outcome> {
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
    fn missing(&self, pool: u8, limit: u32) -> Result<usize, Outcome> {
        use SlotState::{Filling, Ready, Resetting};
        let pool = self.open(pool)?;
        let coming = pool.count(&[Filling, Ready, Resetting]);
        let wanted = (pool.spec.min as usize + pool.line.len()).saturating_sub(coming);
        let room = (pool.spec.max as usize).saturating_sub(pool.slots.len());
        Ok(wanted.min(room).min(limit as usize))
    }

    fn reserved(&mut self, pool: u8, machines: &[MachineId]) {
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

    fn ready(&mut self, machine: &MachineId, ahead: u64) -> Result<Outcome, Outcome> {
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

    fn gone(&mut self, machine: &MachineId) -> Outcome {
        if let Some(pool) = self.pool_of(machine) {
            if let Some(lease) = self.holder(machine) {
                self.finish(lease, true);
            }
            self.pools.get_mut(&pool).unwrap().slots.remove(machine);
            self.forget_if_empty(pool);
        }
        Outcome::Done
    }

    fn duty(&mut self, machine: &MachineId) -> Outcome {
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

    fn entitled(&self, lease: usize, by: Option<u8>) -> Result<(), Outcome> {
        match self.leases[lease].stands {
            Stands::Nowhere | Stands::InLine => Err(Refused(ErrorKind::NotFound)),
            Stands::Ended => Err(Refused(ErrorKind::LeaseLost)),
            Stands::Held(_) if by.is_some_and(|by| by != self.leases[lease].wish.owner) => {
                Err(Refused(ErrorKind::NotOwner))
            }
            Stands::Held(_) => Ok(()),
        }
    }

    fn renew(&mut self, lease: usize, by: Option<u8>) -> Result<Outcome, Outcome> {
        self.entitled(lease, by)?;
        let lease = &mut self.leases[lease];
        if lease.expires_ms.is_some_and(|at| at <= self.now_ms) {
            return Err(Refused(ErrorKind::LeaseLost));
        }
        lease.expires_ms = lease.wish.ttl.map(|ttl| self.now_ms + ttl as i64);
        Ok(Outcome::Done)
    }

    fn withdraw(&mut self, lease: usize) -> Outcome {
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

    fn tidy(&mut self) -> Outcome {
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

// --- Both of them ----------------------------------------------------------------------------------------------------

struct Both {
    spec: Spec,
    store: Store,
    dead: Arc<Mutex<BTreeSet<u32>>>,
    machines: Vec<MachineId>,
    _dir: tempfile::TempDir,
}

fn name(pool: u8) -> Name {
    format!("p{pool}").parse().unwrap()
}

fn process(owner: u8) -> ProcessRef {
    ProcessRef {
        pid: u32::from(owner) + 2,
        start_time: 1,
        boot_id: "model".into(),
    }
}

fn refused(e: LedgerError) -> Outcome {
    assert!(!matches!(e, LedgerError::Failed(_)), "{e:?}");
    Refused(e.kind())
}

fn either(outcome: Result<Outcome, Outcome>) -> Outcome {
    outcome.unwrap_or_else(|refused| refused)
}

impl Both {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let patience = vmint_store::store::PATIENCE;
        Self {
            spec: Spec::default(),
            store: Store::open_file(&dir.path().join("vmint.db"), patience).unwrap(),
            dead: Arc::default(),
            machines: Vec::new(),
            _dir: dir,
        }
    }

    fn pick(number: u8, of: usize) -> Option<usize> {
        (of > 0).then(|| usize::from(number) % of)
    }

    /// Gives one operation to both, and compares.
    fn run(&mut self, op: &Op) {
        // No two things happen in one millisecond, so it is never open which came first.
        self.spec.now_ms += 1;
        let (real, expected) = match op {
            Op::Later(ms) => {
                self.spec.now_ms += ms;
                return;
            }
            Op::Die(owner) => {
                self.spec.dead.insert(*owner);
                self.dead.lock().unwrap().insert(process(*owner).pid);
                return;
            }
            Op::Claim(wish) => {
                let deadline_ms = self.spec.now_ms + wish.patience.unwrap_or_default();
                self.spec.leases.push(SpecLease {
                    wish: wish.clone(),
                    deadline_ms,
                    expires_ms: None,
                    stands: Stands::Nowhere,
                });
                self.claim(self.spec.leases.len() - 1)
            }
            Op::ClaimAgain(n) => match Self::pick(*n, self.spec.leases.len()) {
                Some(lease) => self.claim(lease),
                None => return,
            },
            Op::Withdraw(n) | Op::End(n, _) | Op::Renew(n, _) => {
                match Self::pick(*n, self.spec.leases.len()) {
                    Some(lease) => self.give_back(lease, op),
                    None => return,
                }
            }
            Op::Ready(n, _) | Op::Gone(n) | Op::Duty(n) => {
                match Self::pick(*n, self.machines.len()) {
                    Some(machine) => self.serve(&self.machines[machine].clone(), op),
                    None => return,
                }
            }
            Op::Create(..) | Op::Change(..) | Op::Reserve(..) | Op::Tidy => self.manage(op),
        };
        assert_eq!(real, expected, "real and expected outcome of {op:?}");
        self.compare();
    }

    fn manage(&mut self, op: &Op) -> (Outcome, Outcome) {
        let now = self.spec.now_ms;
        let dead = self.dead.clone();
        let lives = move |p: &ProcessRef| !dead.lock().unwrap().contains(&p.pid);
        let moment = Moment {
            ms: now,
            lives: &lives,
        };
        match op {
            Op::Create(pool, spec) => {
                let record = PoolRecord::new(name(*pool), spec.clone(), now);
                let real = self.store.create_pool(&record).map(|()| Outcome::Done);
                let expected = if self.spec.pools.contains_key(pool) {
                    Refused(ErrorKind::AlreadyExists)
                } else {
                    let new = SpecPool {
                        spec: spec.clone(),
                        state: PoolState::Open,
                        slots: BTreeMap::new(),
                        line: Vec::new(),
                    };
                    self.spec.pools.insert(*pool, new);
                    Outcome::Done
                };
                (either(real.map_err(refused)), expected)
            }
            Op::Change(pool, change) => {
                let real = self.store.change_pool(&name(*pool), *change, moment);
                let real = real.map(|_| Outcome::Done).map_err(refused);
                (either(real), either(self.spec.change(*pool, *change)))
            }
            Op::Reserve(pool, limit) => {
                let maker = process(9);
                let real = self.store.reserve_slots(&name(*pool), &maker, *limit, now);
                let expected = self.spec.missing(*pool, *limit).map(Outcome::Reserved);
                let real = real.map(|reserved| {
                    // Their ids are the ledger's choice.
                    self.spec.reserved(*pool, &reserved.machines);
                    self.machines.extend(reserved.machines.clone());
                    Outcome::Reserved(reserved.machines.len())
                });
                (either(real.map_err(refused)), either(expected))
            }
            Op::Tidy => {
                let real = self.store.tidy(moment).map(|_| Outcome::Done);
                (either(real.map_err(refused)), self.spec.tidy())
            }
            _ => unreachable!(),
        }
    }

    fn claim(&mut self, lease: usize) -> (Outcome, Outcome) {
        let asked = &self.spec.leases[lease];
        let (wish, deadline_ms) = (asked.wish.clone(), asked.deadline_ms);
        let claim = Claim {
            lease: LeaseId::from_bits(lease as u64),
            pool: name(wish.pool),
            owner: Owner::Process(process(wish.owner)),
            label: None,
            ttl_ms: wish.ttl,
            wait: wish.patience.map(|_| Waiter {
                bell: Bell(format!("bell-{lease}")),
                process: process(wish.owner),
                deadline_ms,
            }),
        };
        let dead = self.dead.clone();
        let lives = move |p: &ProcessRef| !dead.lock().unwrap().contains(&p.pid);
        let moment = Moment {
            ms: self.spec.now_ms,
            lives: &lives,
        };
        let real = self
            .store
            .claim(&claim, moment)
            .map(|(claimed, _)| match claimed {
                Claimed::Leased { lease, stale, .. } => Outcome::Leased(lease.machine, stale),
                Claimed::Waiting { before } => Outcome::Waiting(before as usize),
                Claimed::None => Outcome::None,
            });
        (
            either(real.map_err(refused)),
            either(self.spec.claim(lease)),
        )
    }

    fn give_back(&mut self, lease: usize, op: &Op) -> (Outcome, Outcome) {
        let (now, id) = (self.spec.now_ms, LeaseId::from_bits(lease as u64));
        let done = |_| Outcome::Done;
        let owner = |by: &Option<u8>| by.map(|by| Owner::Process(process(by)));
        match op {
            Op::Withdraw(_) => {
                let real = self.store.withdraw(&id, now).map(|_| Outcome::Done);
                (either(real.map_err(refused)), self.spec.withdraw(lease))
            }
            Op::End(_, by) => {
                let owner = owner(by);
                let as_whom = owner.as_ref().map_or(By::Anybody, By::Owner);
                let how = LeaseEnd::Released;
                let real = self.store.end_lease(&id, as_whom, how, None, now);
                let expected = self.spec.entitled(lease, *by).map(|()| {
                    self.spec.finish(lease, false);
                    Outcome::Done
                });
                (
                    either(real.map(|_| Outcome::Done).map_err(refused)),
                    either(expected),
                )
            }
            Op::Renew(_, by) => {
                let owner = owner(by);
                let as_whom = owner.as_ref().map_or(By::Anybody, By::Owner);
                let real = self.store.renew_lease(&id, as_whom, now).map(done);
                (
                    either(real.map_err(refused)),
                    either(self.spec.renew(lease, *by)),
                )
            }
            _ => unreachable!(),
        }
    }

    fn serve(&mut self, machine: &MachineId, op: &Op) -> (Outcome, Outcome) {
        let now = self.spec.now_ms;
        match op {
            Op::Ready(_, ahead) => {
                let known = self.spec.pool_of(machine);
                let known = known.map_or(0, |p| self.spec.pools[&p].slots[machine].generation);
                let dead = self.dead.clone();
                let lives = move |p: &ProcessRef| !dead.lock().unwrap().contains(&p.pid);
                let moment = Moment {
                    ms: now,
                    lives: &lives,
                };
                let real = self
                    .store
                    .slot_ready(machine, Generation(known + ahead), moment);
                let real = real.map(|(readied, _)| {
                    Outcome::Readied(match readied {
                        Readied::Ready => "ready",
                        Readied::Granted(_) => "granted",
                        Readied::Retire => "retire",
                    })
                });
                (
                    either(real.map_err(refused)),
                    either(self.spec.ready(machine, *ahead)),
                )
            }
            Op::Gone(_) => {
                let real = self.store.slot_gone(machine, None, now);
                let real = real.map(|_| Outcome::Done).map_err(refused);
                (either(real), self.spec.gone(machine))
            }
            Op::Duty(_) => {
                let real = self.store.slot_duty(machine, now).map(|duty| {
                    Outcome::Duty(match duty {
                        Duty::Idle { .. } => "idle",
                        Duty::Guard(_) => "guard",
                        Duty::Reset => "reset",
                        Duty::Retire => "retire",
                        Duty::None => "none",
                    })
                });
                (either(real.map_err(refused)), self.spec.duty(machine))
            }
            _ => unreachable!(),
        }
    }

    /// The books say the same.
    fn compare(&mut self) {
        let mut real = BTreeMap::new();
        for status in self.store.pools().unwrap() {
            real.insert(
                status.pool.name.clone(),
                (status.pool.state, status.pool.spec),
            );
        }
        let pools = self.spec.pools.iter();
        let expected = pools
            .map(|(n, p)| (name(*n), (p.state, p.spec.clone())))
            .collect();
        assert_eq!(real, expected);

        let slots = self.store.slots(None).unwrap().into_iter();
        let real: BTreeMap<_, _> = slots
            .map(|s| {
                (
                    s.machine,
                    (s.pool, s.state, s.generation.0, s.uses, s.since_ms),
                )
            })
            .collect();
        let mut expected = BTreeMap::new();
        for (n, pool) in &self.spec.pools {
            for (m, s) in &pool.slots {
                let slot = (name(*n), s.state, s.generation, s.uses, s.since_ms);
                expected.insert(m.clone(), slot);
            }
        }
        assert_eq!(real, expected);

        let leases = self.store.leases().unwrap().into_iter();
        let real: BTreeMap<_, _> = leases
            .map(|l| (l.id, (l.machine, l.expires_at_ms)))
            .collect();
        let held = self.spec.leases.iter().enumerate();
        let expected = held
            .filter_map(|(n, l)| match &l.stands {
                Stands::Held(machine) => Some((
                    LeaseId::from_bits(n as u64),
                    (machine.clone(), l.expires_ms),
                )),
                _ => None,
            })
            .collect();
        assert_eq!(real, expected);

        let line = self.store.waiters().unwrap();
        for (n, pool) in &self.spec.pools {
            let mine = line.iter().filter(|w| w.pool == name(*n));
            let real: Vec<_> = mine.map(|w| w.lease.clone()).collect();
            let line = pool.line.iter().map(|l| LeaseId::from_bits(*l as u64));
            assert_eq!(real, line.collect::<Vec<_>>(), "the line of pool {n}");
        }
    }
}

proptest! {
    // A failure prints its operations; there is no file of them to keep beside a test.
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_specification_says(ops in prop::collection::vec(op(), 1..150)) {
        let mut both = Both::new();
        for op in &ops {
            both.run(op);
        }
    }
}
