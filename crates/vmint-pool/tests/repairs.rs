//! Moments that the simulation meets too seldom to rely on: what happens between two looks of one process is written down
//! here, and done exactly then.

use futures_util::FutureExt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use vmint_model::sim::{Host, Hostile, Process, Sim, SimBackend, SimWorld};
use vmint_model::{
    Backend, Claim, ErrorKind, Fault, Generation, LeaseId, LeaseRecord, Ledger, MachineId, Name,
    Owner, PoolRecord, PoolSpec, SlotState,
};
use vmint_pool::{Acquire, Pools};
use vmint_store::{LocalLedger, Store};

type Meddle = Box<dyn FnOnce() + Send>;

/// The machines of a host; something happens behind a process's back, once, while it looks at one.
struct Meddled {
    machines: SimBackend<LocalLedger>,
    behind_a_look: Mutex<Option<Meddle>>,
    during_a_check: Mutex<Option<Meddle>>,
}

fn happens(meddle: &Mutex<Option<Meddle>>) -> bool {
    let meddle = meddle.lock().unwrap().take();
    meddle.map(|meddle| meddle()).is_some()
}

impl Backend for Meddled {
    async fn create(&self, pool: &PoolRecord, id: &MachineId, by: i64) -> Result<(), Fault> {
        self.machines.create(pool, id, by).await
    }

    async fn is_alive(&self, machine: &MachineId) -> bool {
        let alive = self.machines.is_alive(machine).await;
        happens(&self.behind_a_look);
        alive
    }

    async fn is_up(&self, machine: &MachineId) -> bool {
        self.machines.is_up(machine).await
    }

    async fn check(&self, machine: &MachineId, generation: Generation) -> Result<(), Fault> {
        if happens(&self.during_a_check) {
            return Err(Fault::new(ErrorKind::MachineLost, "it does not answer"));
        }
        self.machines.check(machine, generation).await
    }

    async fn ring(&self, machine: &MachineId) {
        self.machines.ring(machine).await;
    }

    async fn destroy(&self, machine: &MachineId) -> Result<(), Fault> {
        self.machines.destroy(machine).await
    }
}

/// When an acquire returned, and what.
type Answer = Arc<Mutex<Option<(i64, Result<LeaseRecord, Fault>)>>>;

/// A host with one pool for one machine.
#[derive(Clone)]
struct Place {
    sim: Sim,
    host: Arc<Host>,
    ledger: Arc<LocalLedger>,
    _dir: Arc<tempfile::TempDir>,
}

fn pool() -> Name {
    "p".parse().unwrap()
}

/// What waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for nothing")
}

impl Place {
    fn new() -> Self {
        let sim = Sim::new(1);
        let dir = tempfile::tempdir().unwrap();
        let patience = vmint_store::store::PATIENCE;
        let store = Store::open_file(&dir.path().join("vmint.db"), patience).unwrap();
        let lives = sim.clone();
        let ledger = LocalLedger::with_lives(store, Box::new(move |p| lives.lives(p)));
        let spec = PoolSpec {
            min: 1,
            max: 1,
            ..PoolSpec::of("tiny")
        };
        at_once(ledger.create_pool(&PoolRecord::new(pool(), spec, sim.now_ms()))).unwrap();
        Self {
            host: Host::new(&sim),
            ledger: Arc::new(ledger),
            sim,
            _dir: Arc::new(dir),
        }
    }

    fn machines(&self, process: &Process) -> SimBackend<LocalLedger> {
        SimBackend::new(self.host.clone(), self.ledger.clone(), process.clone())
    }

    fn pools(&self, process: &Process) -> Arc<Pools<Meddled, Hostile<LocalLedger>, SimWorld>> {
        Arc::new(Pools {
            backend: Meddled {
                machines: self.machines(process),
                behind_a_look: Mutex::default(),
                during_a_check: Mutex::default(),
            },
            ledger: Hostile::new(self.ledger.clone(), process.clone()),
            world: SimWorld::new(process.clone(), Arc::new(|_, _| {})),
            parallel: 1,
        })
    }

    /// Lets things happen until this is so.
    fn until(&self, so: impl Fn() -> bool) {
        let deadline = self.sim.now_ms() + 10_000;
        while !so() {
            assert!(self.sim.now_ms() < deadline && self.sim.step(), "in vain");
        }
    }

    /// The pool's machine, and its generation, if it is ready.
    fn ready(&self) -> Option<(MachineId, Generation)> {
        let slots = self.ledger.store().slots(None).unwrap();
        let ready = slots.into_iter().find(|s| s.state == SlotState::Ready)?;
        Some((ready.machine, ready.generation))
    }

    /// Makes the machine of a slot that `maker` has reserved.
    fn make(&self, maker: &Process, machine: &MachineId) {
        let pool = at_once(self.ledger.pool(&pool())).unwrap().pool;
        let (machines, machine) = (self.machines(maker), machine.clone());
        let deadline = self.sim.now_ms() + 5_000;
        maker.spawn(async move {
            machines.create(&pool, &machine, deadline).await.unwrap();
        });
        self.until(|| self.ready().is_some());
    }

    fn reserve(&self, maker: &Process) -> MachineId {
        let now = self.sim.now();
        let reserved = at_once(self.ledger.reserve(&pool(), &maker.reference(), 1, now));
        reserved.unwrap().machines.remove(0)
    }

    /// A ready machine whose guest has died unnoticed, long enough ago that it is asked before it is lent.
    fn with_a_dead_guest() -> (Self, MachineId) {
        let place = Self::new();
        let maker = place.sim.process();
        let machine = place.reserve(&maker);
        place.make(&maker, &machine);
        place.host.look(&machine, |m| m.guest = false);
        let later = place.sim.now_ms() + 3_000;
        place.until(|| place.sim.now_ms() > later);
        (place, machine)
    }
}

fn want(owner: &Process, patience_ms: i64) -> Acquire {
    Acquire {
        pool: pool(),
        owner: Owner::Process(owner.reference()),
        label: None,
        ttl_ms: None,
        deadline_ms: owner.sim().now_ms() + patience_ms,
        wait: true,
    }
}

#[test]
fn a_machine_whose_maker_finishes_and_dies_while_somebody_looks_is_left_alone() {
    let place = Place::new();
    let (maker, looker) = (place.sim.process(), place.sim.process());
    let machine = place.reserve(&maker);
    let pools = place.pools(&looker);
    let (at, made) = (place.clone(), machine.clone());
    *pools.backend.behind_a_look.lock().unwrap() = Some(Box::new(move || {
        at.make(&maker, &made);
        maker.kill();
    }));
    at_once(pools.restore()).unwrap();
    // Whoever asks first whether the maker lives has no reason to look at the machine; then it happens now.
    happens(&pools.backend.behind_a_look);
    at_once(pools.restore()).unwrap();
    assert_eq!(place.host.victims(), []);
    assert_eq!(place.ready(), Some((machine, Generation(1))));
}

#[test]
fn a_machine_that_became_somebody_elses_during_a_check_is_left_alone() {
    let (place, machine) = Place::with_a_dead_guest();
    let (client, owner, other) = (
        place.sim.process(),
        place.sim.process(),
        place.sim.process(),
    );
    let pools = place.pools(&client);
    let want = want(&owner, 5_000);
    let (at, theirs) = (place.clone(), LeaseId::from_bits(77));
    let claim = Claim {
        lease: theirs.clone(),
        pool: pool(),
        owner: Owner::Process(other.reference()),
        label: None,
        ttl_ms: None,
        wait: None,
    };
    *pools.backend.during_a_check.lock().unwrap() = Some(Box::new(move || {
        owner.kill();
        at.until(|| at.ready().is_some());
        at_once(at.ledger.claim(&claim, at.sim.now())).unwrap();
    }));
    let fault = at_once(pools.acquire(&want, &|_| {})).expect_err("its owner is dead");
    assert_eq!(fault.kind, ErrorKind::LeaseLost, "{fault}");
    assert_eq!(place.host.victims(), []);
    let lease = at_once(place.ledger.lease(&theirs)).unwrap();
    let expected = (machine, Generation(2), None);
    assert_eq!((lease.machine, lease.generation, lease.ended), expected);
}

#[test]
fn a_guest_that_does_not_answer_makes_nobody_late() {
    let (place, _) = Place::with_a_dead_guest();
    let client = place.sim.process();
    let (pools, want) = (place.pools(&client), want(&client, 100));
    let answer: Answer = Arc::default();
    let (told, asked, sim) = (answer.clone(), want.clone(), place.sim.clone());
    client.spawn(async move {
        let result = pools.acquire(&asked, &|_| {}).await;
        *told.lock().unwrap() = Some((sim.now_ms(), result));
    });
    place.until(|| answer.lock().unwrap().is_some());
    let (at_ms, result) = answer.lock().unwrap().take().unwrap();
    let fault = result.expect_err("the only machine does not answer");
    assert_eq!(fault.kind, ErrorKind::TimedOut);
    assert!(fault.message.contains("its guest to answer"), "{fault}");
    assert!(
        at_ms <= want.deadline_ms + 50,
        "{} ms late",
        at_ms - want.deadline_ms
    );
    // Nor does it hold what it was not given.
    place.until(|| at_once(place.ledger.leases()).unwrap().is_empty());
}
