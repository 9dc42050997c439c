//! The ledger of this host against a specification of it that can be read at one go.
//!
//! Random sequences of operations are given to the ledger and to its [`spec`], and must come to the same outcomes and the
//! same books after each. A sequence that does not is made as short as it gets, by proptest.

mod spec;

use proptest::prelude::*;
use spec::Outcome::Refused;
use spec::{Outcome, Spec, SpecLease, SpecPool, Stands, Wish};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use vmint_model::ledger::Waiter;
use vmint_model::*;
use vmint_store::{Moment, Store};

/// A steady clock, and a wall clock that runs backwards: nothing may be decided by that one.
fn clocks(steady_ms: i64) -> Now {
    Now {
        steady_ms,
        wall_ms: 1_000_000 - 7 * steady_ms,
    }
}

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
    /// An owner has had its machine reset, to a generation so far ahead of the one before that which is known.
    Advance(u8, u64),
    Gone(u8),
    Duty(u8),
    /// By this owner, or by anybody.
    End(u8, Option<u8>),
    /// The owner is gone, whatever the lease is.
    OwnerGone(u8),
    Renew(u8, Option<u8>),
    Tidy,
    Die(u8),
    Later(i64),
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
        2 => (any::<u8>(), 0_u64..3).prop_map(|(machine, ahead)| Op::Advance(machine, ahead)),
        2 => any::<u8>().prop_map(Op::Gone),
        5 => any::<u8>().prop_map(Op::Duty),
        5 => (any::<u8>(), by()).prop_map(|(lease, by)| Op::End(lease, by)),
        2 => any::<u8>().prop_map(Op::OwnerGone),
        2 => (any::<u8>(), by()).prop_map(|(lease, by)| Op::Renew(lease, by)),
        1 => Just(Op::Tidy),
        1 => (0_u8..4).prop_map(Op::Die),
        4 => (1_i64..1_500).prop_map(Op::Later),
    ]
}

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
        namespace: None,
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
            Op::Withdraw(n) | Op::End(n, _) | Op::OwnerGone(n) | Op::Renew(n, _) => {
                match Self::pick(*n, self.spec.leases.len()) {
                    Some(lease) => self.give_back(lease, op),
                    None => return,
                }
            }
            Op::Ready(n, _) | Op::Advance(n, _) | Op::Gone(n) | Op::Duty(n) => {
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
            now: clocks(now),
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
                let real = self
                    .store
                    .reserve_slots(&name(*pool), &maker, *limit, clocks(now));
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
            now: clocks(self.spec.now_ms),
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
                let real = self.store.withdraw(&id, clocks(now)).map(|_| Outcome::Done);
                (either(real.map_err(refused)), self.spec.withdraw(lease))
            }
            Op::End(_, by) => {
                let owner = owner(by);
                let as_whom = owner.as_ref().map_or(By::Anybody, By::Owner);
                let how = LeaseEnd::Released;
                let real = self.store.end_lease(&id, as_whom, how, None, clocks(now));
                let expected = self.spec.entitled(lease, *by).map(|()| {
                    self.spec.finish(lease, false);
                    Outcome::Done
                });
                (
                    either(real.map(|_| Outcome::Done).map_err(refused)),
                    either(expected),
                )
            }
            Op::OwnerGone(_) => {
                let gone = &OwnerGone::Ended;
                let real = self.store.owner_gone(&id, gone, clocks(now));
                if self.spec.entitled(lease, None).is_ok() {
                    self.spec.finish(lease, false);
                }
                (
                    either(real.map(|_| Outcome::Done).map_err(refused)),
                    Outcome::Done,
                )
            }
            Op::Renew(_, by) => {
                let owner = owner(by);
                let as_whom = owner.as_ref().map_or(By::Anybody, By::Owner);
                let real = self.store.renew_lease(&id, as_whom, clocks(now)).map(done);
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
        let known = self.spec.pool_of(machine);
        let known = known.map_or(0, |p| self.spec.pools[&p].slots[machine].generation);
        match op {
            Op::Advance(_, ahead) => {
                let to = (known + ahead).saturating_sub(1);
                let real = self
                    .store
                    .slot_advanced(machine, Generation(to), clocks(now));
                let real = real.map(|()| Outcome::Done).map_err(refused);
                (either(real), either(self.spec.advance(machine, to)))
            }
            Op::Ready(_, ahead) => {
                let dead = self.dead.clone();
                let lives = move |p: &ProcessRef| !dead.lock().unwrap().contains(&p.pid);
                let moment = Moment {
                    now: clocks(now),
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
                let real = self.store.slot_gone(machine, None, clocks(now));
                let real = real.map(|_| Outcome::Done).map_err(refused);
                (either(real), self.spec.gone(machine))
            }
            Op::Duty(_) => {
                let real = self.store.slot_duty(machine, clocks(now)).map(|duty| {
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
            .map(|l| (l.id, (l.machine, l.generation.0, l.expires_steady_ms)))
            .collect();
        let mut expected = BTreeMap::new();
        for (n, lease) in self.spec.leases.iter().enumerate() {
            if let Stands::Held(machine) = &lease.stands {
                let generation = self.spec.pools[&lease.wish.pool].slots[machine].generation;
                let lent = (machine.clone(), generation, lease.expires_ms);
                expected.insert(LeaseId::from_bits(n as u64), lent);
            }
        }
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
