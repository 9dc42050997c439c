//! What must hold, seen from outside, where nothing is delayed or lost.
//!
//! The ledger is read directly, and the machines are looked at as they truly are, not as anybody recorded them. The
//! numbers are those of `SPECIFICATION.md`.

use crate::admission::PLACES;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use vmint_model::sim::{Host, Process, Sim};
use vmint_model::{
    Counts, Fault, LeaseEnd, LeaseId, LeaseRecord, MachineId, Name, Owner, PoolState, PoolStatus,
    ProcessRef, Slot, SlotState,
};
use vmint_store::LocalLedger;
use vmint_store::ledger::line::InLine;

/// How old the news may be on which a machine was lent: what the weather may put off between a look and a loan.
const NEWS_MS: i64 = 250;

/// What is known of a history from outside.
pub struct Promises {
    sim: Sim,
    host: Arc<Host>,
    ledger: Arc<LocalLedger>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    calm: bool,
    operations: u64,
    /// When the last operation was looked at.
    audited: u64,
    births: u64,
    /// More slots than these a pool has never been allowed to have since the last look.
    ceilings: BTreeMap<Name, u32>,
    /// Maxima that were asked for, and may be given at any moment.
    asked: HashMap<ProcessRef, (Name, u32)>,
    /// Which machines were handed out at which generation, ever.
    handed: BTreeSet<(MachineId, u64)>,
    /// Who knows that it holds a lease.
    known: BTreeMap<LeaseId, Process>,
    /// Who asks on behalf of this owner.
    askers: HashMap<ProcessRef, Process>,
    line: Vec<InLine>,
    leases: BTreeMap<LeaseId, LeaseRecord>,
    /// The earliest that each lease can have begun, on the steady clock.
    begun: BTreeMap<LeaseId, i64>,
    /// When everything was looked at last.
    looked_ms: i64,
}

/// The ledger at one moment.
struct Books {
    pools: Vec<PoolStatus>,
    slots: Vec<Slot>,
    leases: Vec<LeaseRecord>,
    line: Vec<InLine>,
}

impl Promises {
    pub fn new(sim: Sim, host: Arc<Host>, ledger: Arc<LocalLedger>) -> Self {
        Self {
            sim,
            host,
            ledger,
            seen: Mutex::default(),
        }
    }

    pub fn count(&self) {
        self.seen.lock().unwrap().operations += 1;
    }

    pub fn operations(&self) -> u64 {
        self.seen.lock().unwrap().operations
    }

    pub fn storms(&self) -> bool {
        !self.seen.lock().unwrap().calm
    }

    pub fn end_storm(&self) {
        self.seen.lock().unwrap().calm = true;
    }

    /// This process is about to ask for a pool with this maximum; until [`Promises::asked`] the pool may have it.
    pub fn ask(&self, who: &Process, pool: &Name, max: u32) {
        let mut seen = self.seen.lock().unwrap();
        seen.asked.insert(who.reference(), (pool.clone(), max));
        let ceiling = seen.ceilings.entry(pool.clone()).or_default();
        *ceiling = max.max(*ceiling);
    }

    /// It has been answered.
    pub fn asked(&self, who: &Process) {
        self.seen.lock().unwrap().asked.remove(&who.reference());
    }

    /// `asker` is going to ask for leases that `owner` will hold.
    pub fn asks_for(&self, asker: &Process, owner: &Process) {
        let mut seen = self.seen.lock().unwrap();
        seen.askers.insert(owner.reference(), asker.clone());
    }

    /// Promises 2 and 4: nobody else was ever handed this machine at this generation, nobody has used it, and it lives.
    pub fn handed(&self, lease: &LeaseRecord, to: &Process) {
        let mut seen = self.seen.lock().unwrap();
        let first = seen
            .handed
            .insert((lease.machine.clone(), lease.generation.0));
        assert!(first, "a machine was handed out twice: {lease:?}");
        seen.known.insert(lease.id.clone(), to.clone());
        drop(seen);
        let ended = self.host.ended_at_ms(&lease.machine);
        assert!(
            ended.is_none_or(|at| at >= self.sim.now_ms() - NEWS_MS),
            "a machine was lent that had ended: {lease:?}"
        );
        let _ = self.used(lease);
    }

    /// The holder runs a command in its machine: promise 2 and 4 again, at any time. An error is the end of the lease.
    pub fn used(&self, lease: &LeaseRecord) -> Result<(), Fault> {
        let before = self
            .host
            .exec(&lease.machine, lease.generation, &lease.id)?;
        assert_eq!(before, None, "somebody else used the machine of {lease:?}");
        Ok(())
    }

    pub fn given_back(&self, lease: &LeaseId) {
        self.seen.lock().unwrap().known.remove(lease);
    }

    /// After each step: promise 5, of machines as they truly are. After each operation, everything.
    pub fn check_step(&self) {
        let mut seen = self.seen.lock().unwrap();
        let births = self.host.births();
        if births > seen.births {
            seen.births = births;
            let starting = self.host.starting();
            assert!(
                starting <= PLACES,
                "{starting} machines start at a time, in {PLACES} places"
            );
            let mut alive: BTreeMap<Name, u32> = BTreeMap::new();
            self.host.look_at_all(|all| {
                for machine in all.values().filter(|m| m.exists()) {
                    *alive.entry(machine.pool.clone()).or_default() += 1;
                }
            });
            for (pool, number) in alive {
                let ceiling = seen.ceilings.get(&pool).copied().unwrap_or_default();
                assert!(
                    number <= ceiling,
                    "pool {pool} has {number} machines alive of at most {ceiling}"
                );
            }
        }
        if seen.audited < seen.operations {
            seen.audited = seen.operations;
            drop(seen);
            self.audit();
        }
    }

    fn books(&self) -> Books {
        let mut store = self.ledger.store();
        let read = "the store can be read";
        Books {
            pools: store.pools().expect(read),
            slots: store.slots(None).expect(read),
            leases: store.leases().expect(read),
            line: store.waiters().expect(read),
        }
    }

    /// What holds at every moment, between what is written and what is true.
    pub fn audit(&self) {
        let books = self.books();
        let victims = self.host.victims();
        assert!(victims.is_empty(), "destroyed although well: {victims:?}");
        self.audit_counts(&books);
        self.audit_slots(&books);
        self.audit_ends(&books);
        self.audit_line(&books);
    }

    /// Whatever was done to the wall clock: no lease has ended for want of time before its time was up.
    fn audit_ends(&self, books: &Books) {
        let seen = self.seen.lock().unwrap();
        let out: BTreeSet<_> = books.leases.iter().map(|l| &l.id).collect();
        let now = self.sim.now();
        for lease in seen.leases.values().filter(|l| !out.contains(&l.id)) {
            let Ok(ended) = self.ledger.store().lease(&lease.id) else {
                continue;
            };
            let given = match ended.ended.as_ref().map(|e| e.how) {
                Some(LeaseEnd::Expired) => lease.ttl_ms,
                Some(LeaseEnd::Silent) => match lease.owner {
                    Owner::Client { heartbeat_ms, .. } => Some(heartbeat_ms),
                    Owner::Process(_) => panic!("a process need send no heartbeat: {ended:?}"),
                },
                _ => continue,
            };
            let given = given.expect("a lease without a limit ends by no clock") as i64;
            let since = seen.begun[&lease.id];
            assert!(
                // It counts from when it was asked for, and the weather may have put that off.
                now.steady_ms - since + NEWS_MS >= given,
                "{} ms old, and ended after {given} ms: {ended:?}",
                now.steady_ms - since
            );
        }
        for lease in &books.leases {
            let shown = lease.clone().shown(now);
            let left = |at: Option<i64>, now: i64| at.map(|at| at - now);
            assert_eq!(
                left(shown.expires_at_ms, now.wall_ms),
                left(lease.expires_steady_ms, now.steady_ms),
                "what is shown is what is left: {lease:?}"
            );
        }
    }

    /// Promise 5: the counters count, and nothing grows beyond its maximum.
    fn audit_counts(&self, books: &Books) {
        let mut seen = self.seen.lock().unwrap();
        let mut ceilings = BTreeMap::new();
        for status in &books.pools {
            let name = &status.pool.name;
            let slots = books.slots.iter().filter(|s| s.pool == *name);
            let waiting = books.line.iter().filter(|w| w.pool == *name).count() as u32;
            let mut counts = Counts {
                waiting,
                ..Counts::default()
            };
            for slot in slots {
                *match slot.state {
                    SlotState::Filling => &mut counts.filling,
                    SlotState::Ready => &mut counts.ready,
                    SlotState::Leased => &mut counts.leased,
                    SlotState::Resetting => &mut counts.resetting,
                    SlotState::Retiring => &mut counts.retiring,
                } += 1;
            }
            assert_eq!(counts, status.counts, "{status:?}");
            let before = seen.ceilings.get(name).copied().unwrap_or_default();
            let max = status.pool.spec.max;
            assert!(
                counts.alive() <= before.max(max),
                "{before} at most: {status:?}"
            );
            ceilings.insert(name.clone(), max.max(counts.alive()));
        }
        seen.asked.retain(|who, _| self.sim.lives(who));
        for (pool, max) in seen.asked.values() {
            let ceiling = ceilings.entry(pool.clone()).or_default();
            *ceiling = (*max).max(*ceiling);
        }
        seen.ceilings = ceilings;
    }

    /// Promises 2, 3 and 4: slots, leases and machines are one to one to one, and what is ready is untouched.
    fn audit_slots(&self, books: &Books) {
        let mut leases: BTreeMap<&MachineId, &LeaseRecord> = BTreeMap::new();
        for lease in &books.leases {
            let other = leases.insert(&lease.machine, lease);
            assert_eq!(other, None, "two leases on one machine: {lease:?}");
        }
        let slots: BTreeMap<_, _> = books.slots.iter().map(|s| (&s.machine, s)).collect();
        for (machine, slot) in &slots {
            let lease = leases.get(*machine);
            assert_eq!(
                slot.state == SlotState::Leased,
                lease.is_some(),
                "{slot:?} {lease:?}"
            );
            if let Some(lease) = lease {
                assert_eq!(
                    (lease.generation, &lease.pool),
                    (slot.generation, &slot.pool)
                );
            }
        }
        for lease in &books.leases {
            assert!(slots.contains_key(&lease.machine), "no slot: {lease:?}");
        }
        self.host.look_at_all(|all| {
            for (id, machine) in all.iter().filter(|(_, m)| m.exists()) {
                let Some(slot) = slots.get(id) else {
                    panic!("machine {id} lives, and has no slot: {machine:?}");
                };
                assert_eq!(machine.pool, slot.pool);
                let used = machine.standby.as_ref().and_then(|s| s.used_by.as_ref());
                assert_eq!(used, None, "somebody was in the standby of {slot:?}");
                if slot.state == SlotState::Ready {
                    assert_eq!(machine.used_by, None, "ready, but used: {slot:?}");
                    assert_eq!(machine.generation, slot.generation, "{slot:?}");
                }
            }
        });
    }

    /// First come, first served: who waits on is never behind in line of who was granted a lease.
    fn audit_line(&self, books: &Books) {
        let mut seen = self.seen.lock().unwrap();
        let seen = &mut *seen;
        let place = |line: &[InLine], lease: &LeaseId| line.iter().position(|w| w.lease == *lease);
        // Those whom nobody owes anything any more: they leave the line in their own time.
        let patient =
            |w: &&InLine| w.deadline_ms >= self.sim.now_ms() && self.sim.lives(&w.process);
        let mut last = BTreeMap::new();
        let granted = books
            .leases
            .iter()
            .filter(|l| !seen.leases.contains_key(&l.id));
        for lease in granted {
            let mine = place(&seen.line, &lease.id);
            let others = books.line.iter().filter(|w| w.pool == lease.pool);
            for waiter in others.filter(patient) {
                let Some(theirs) = place(&seen.line, &waiter.lease) else {
                    continue;
                };
                assert!(
                    mine.is_some_and(|mine| mine < theirs),
                    "{lease:?} was granted while {waiter:?} came first"
                );
            }
            if let Some(mine) = mine {
                let before = last.insert(lease.pool.clone(), mine);
                assert!(before < Some(mine), "{lease:?} was granted out of turn");
            }
        }
        for status in &books.pools {
            let mut line = books.line.iter().filter(patient);
            let first = line.find(|w| w.pool == status.pool.name);
            assert!(
                status.counts.ready == 0 || first.is_none(),
                "a machine is ready, and somebody waits: {status:?} {first:?}"
            );
        }
        let now = self.sim.now_ms();
        for lease in &books.leases {
            // Not before the last look, or it would have been seen then.
            let looked = seen.looked_ms;
            seen.begun.entry(lease.id.clone()).or_insert(looked);
        }
        seen.looked_ms = now;
        seen.leases = books
            .leases
            .iter()
            .map(|l| (l.id.clone(), l.clone()))
            .collect();
        seen.line.clone_from(&books.line);
    }

    /// Promise 3, in calm weather, after somebody has touched every pool: everything is as it should be.
    pub fn check_rest(&self, when: &str) {
        self.audit();
        let books = self.books();
        let seen = self.seen.lock().unwrap();
        assert!(books.line.is_empty(), "{when}: {:?}", books.line);
        for lease in &books.leases {
            let Owner::Process(owner) = &lease.owner else {
                panic!("{when}: a remote owner has gone, and not its lease: {lease:?}");
            };
            assert!(
                self.sim.lives(owner),
                "{when}: its owner is dead: {lease:?}"
            );
            // One that died before it could say so has left its owner with a lease, which ends with the owner.
            let told = seen.askers.get(owner).is_some_and(Process::lives);
            let holder = seen.known.get(&lease.id);
            assert!(
                !told || holder.is_some_and(Process::lives),
                "{when}: nobody knows that it holds {lease:?}"
            );
        }
        let all = self.host.look_at_all(Clone::clone);
        // Where machines age, one may be due at this very moment, whoever filled the pool a moment ago.
        let pools = books.pools.iter();
        let aging: BTreeSet<_> = pools
            .filter(|p| p.pool.spec.ttl_ms.is_some())
            .map(|p| &p.pool.name)
            .collect();
        for slot in &books.slots {
            let going = slot.state == SlotState::Retiring && aging.contains(&slot.pool);
            let settled = going || matches!(slot.state, SlotState::Ready | SlotState::Leased);
            assert!(settled, "{when}: {slot:?}");
            let machine = all.get(&slot.machine);
            assert!(
                going || machine.is_some_and(|m| m.exists() && m.generation == slot.generation),
                "{when}: {slot:?} {machine:?}"
            );
        }
        for (id, machine) in &all {
            let slot = books.slots.iter().find(|slot| slot.machine == *id);
            assert!(slot.is_some(), "{when}: leaked: {id} {machine:?}");
        }
        for status in &books.pools {
            let (counts, spec) = (&status.counts, &status.pool.spec);
            match status.pool.state {
                PoolState::Open => {
                    let wanted = spec.min.min(spec.max.saturating_sub(counts.leased));
                    let filled = counts.ready >= wanted || aging.contains(&status.pool.name);
                    assert!(filled, "{when}: not filled: {status:?}");
                    assert!(
                        counts.alive() <= spec.max.max(counts.leased),
                        "{when}: {status:?}"
                    );
                }
                PoolState::Drained => {
                    assert_eq!(counts.alive(), counts.leased, "{when}: {status:?}");
                }
                PoolState::Removing => {
                    assert!(counts.leased > 0, "{when}: not gone: {status:?}");
                }
            }
        }
    }

    /// Promise 3: a second after the end of their owners, leases have ended.
    pub fn check_no_leases(&self) {
        self.audit();
        let leases = self.books().leases;
        assert!(leases.is_empty(), "their owners are dead: {leases:?}");
    }
}
