//! What clients do.

use crate::history::{History, PATIENCE_MS, SimPools};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use vmint_model::sim::{Process, Sim};
use vmint_model::{
    By, ErrorKind, Fault, Force, LeaseId, LeaseRecord, Owner, PoolChange, PoolRecord, PoolSpec,
    PoolState,
};
use vmint_pool::Acquire;

/// Every acquire returns so soon after its deadline, when nothing is put off. Delays that the weather brought are added.
const PUNCTUAL_MS: i64 = 50;
/// How often a remote owner says that it lives.
const HEARTBEAT_MS: i64 = 300;

/// A client process.
#[derive(Clone)]
pub struct Client {
    pub process: Process,
    history: History,
    pools: Arc<SimPools>,
    held: Arc<Mutex<Vec<LeaseRecord>>>,
    settled: Arc<AtomicBool>,
}

impl Client {
    /// Starts one.
    pub fn start(history: &History) -> Self {
        let process = history.sim.process();
        let client = Self {
            pools: history.pools(&process),
            history: history.clone(),
            held: Arc::default(),
            settled: Arc::default(),
            process,
        };
        history.promises.asks_for(&client.process, &client.process);
        let living = client.clone();
        client.process.spawn(async move { living.live().await });
        client
    }

    /// Whether it has finished what it did, or is dead.
    pub fn has_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed) || !self.process.lives()
    }

    fn sim(&self) -> &Sim {
        self.process.sim()
    }

    fn now(&self) -> i64 {
        self.sim().now_ms()
    }

    fn below(&self, end: u64) -> u64 {
        self.sim().draw(|r| r.below(end))
    }

    async fn live(&self) {
        while self.history.promises.storms() {
            self.operation().await;
            self.history.promises.count();
            self.process
                .sleep(self.below(self.history.pace_ms) as i64)
                .await;
        }
        self.settle().await;
        self.settled.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }

    async fn operation(&self) {
        let held = self.pick_held();
        match (self.below(20), held) {
            (0..=3, Some(lease)) => self.use_it(&lease).await,
            (4..=5, Some(lease)) => self.renew(&lease).await,
            (6..=10, Some(lease)) => self.release(&lease).await,
            (11, Some(lease)) => self.release_a_strangers(&lease).await,
            (12, _) => self.create_a_pool().await,
            (13, _) => self.change_a_pool().await,
            (14, _) => {
                let _ = self.pools.restore().await;
            }
            (15, _) => {
                let (pool, deadline) = (self.history.a_pool(), self.now() + PATIENCE_MS);
                let _ = self.pools.fill(&pool, deadline).await;
            }
            _ => self.acquire().await,
        }
    }

    fn pick_held(&self) -> Option<LeaseRecord> {
        let held = self.held.lock().unwrap();
        (!held.is_empty()).then(|| self.sim().draw(|r| r.pick(&held).clone()))
    }

    fn forget(&self, lease: &LeaseId) {
        self.held.lock().unwrap().retain(|l| l.id != *lease);
        self.history.promises.given_back(lease);
    }

    /// Itself, another process, or somebody far away.
    fn an_owner(&self) -> Owner {
        match self.below(6) {
            0 => {
                let helper = self.sim().process();
                self.history.promises.asks_for(&self.process, &helper);
                let owner = Owner::Process(helper.reference());
                self.history.helpers.lock().unwrap().push(helper);
                owner
            }
            1 => Owner::Client {
                name: format!("c{}", self.below(1_000)).parse().expect("a name"),
                heartbeat_ms: HEARTBEAT_MS as u64,
            },
            _ => Owner::Process(self.process.reference()),
        }
    }

    async fn acquire(&self) {
        let owner = self.an_owner();
        let began = self.now();
        let want = Acquire {
            pool: self.history.a_pool(),
            owner: owner.clone(),
            label: None,
            ttl_ms: (self.below(4) == 0).then(|| 200 + self.below(2_000)),
            deadline_ms: began + self.sim().draw(|r| *r.pick(&[0, 20, 300, 1_000, 3_000])),
            wait: self.below(4) > 0,
        };
        let impatience = self.below(8) == 0;
        let said = |_line: String| {};
        let acquired = {
            let acquiring = pin!(self.pools.acquire(&want, &said));
            let given_up = pin!(async {
                if impatience {
                    self.process.sleep(self.below(500) as i64).await;
                } else {
                    std::future::pending::<()>().await;
                }
            });
            match select(acquiring, given_up).await {
                Either::Left((acquired, _)) => acquired,
                // Dropped in the middle.
                Either::Right(_) => return,
            }
        };
        if !self.process.lives() {
            // It died in a destructor on the way here.
            self.process.die().await;
        }
        let latest = want.deadline_ms.max(began);
        let (now, delayed) = (self.now(), self.process.delayed_ms(latest));
        self.sim()
            .note(|| format!("{:?} {want:?}: {acquired:?}", self.process));
        assert!(
            now <= latest + PUNCTUAL_MS + delayed,
            "an acquire returned {} ms after its deadline, {delayed} ms of which were the weather's: {want:?}: {acquired:?}",
            now - latest,
        );
        match acquired {
            Ok(lease) => {
                assert_eq!((&lease.pool, &lease.owner), (&want.pool, &want.owner));
                self.history.promises.handed(&lease, &self.process);
                self.held.lock().unwrap().push(lease.clone());
                self.hold(lease);
            }
            Err(fault) => self.judge(&fault, &want),
        }
    }

    fn judge(&self, fault: &Fault, want: &Acquire) {
        let expected = match fault.kind {
            ErrorKind::TimedOut => self.now() >= want.deadline_ms,
            ErrorKind::Refused => !want.wait,
            // The pool is gone or closed; the ledger or the backend failed, as the weather had it; or the lease ended
            // before it was known.
            ErrorKind::NotFound
            | ErrorKind::PoolClosed
            | ErrorKind::NoSpace
            | ErrorKind::Host
            | ErrorKind::Image
            | ErrorKind::Hypervisor
            | ErrorKind::Runner
            | ErrorKind::MachineLost
            | ErrorKind::LeaseLost
            | ErrorKind::Interrupted => true,
            _ => false,
        };
        assert!(expected, "{want:?} failed with {fault:?}");
    }

    /// A remote owner sends heartbeats, most of the time.
    fn hold(&self, lease: LeaseRecord) {
        if !matches!(lease.owner, Owner::Client { .. }) || self.below(5) == 0 {
            return;
        }
        let client = self.clone();
        self.process.spawn(async move {
            loop {
                client.process.sleep(HEARTBEAT_MS / 3).await;
                let by = By::Owner(&lease.owner);
                match client.pools.renew(&lease.id, by).await {
                    Err(f) if f.kind == ErrorKind::LeaseLost || f.kind == ErrorKind::NotFound => {
                        client.forget(&lease.id);
                        return;
                    }
                    _ => {}
                }
            }
        });
    }

    async fn use_it(&self, lease: &LeaseRecord) {
        if self.history.promises.used(lease).is_err() {
            self.release(lease).await;
        }
    }

    async fn renew(&self, lease: &LeaseRecord) {
        let by = By::Owner(&lease.owner);
        if let Err(fault) = self.pools.renew(&lease.id, by).await {
            assert!(may_fail(fault.kind), "{lease:?}: {fault:?}");
            if fault.kind == ErrorKind::LeaseLost {
                self.forget(&lease.id);
            }
        }
    }

    async fn release(&self, lease: &LeaseRecord) {
        let by = By::Owner(&lease.owner);
        let released = self.pools.release(&lease.id, by).await;
        self.sim()
            .note(|| format!("{:?} releases {}: {released:?}", self.process, lease.id));
        match released {
            Ok(ended) => {
                assert!(ended.ended.is_some());
                self.forget(&lease.id);
                let twice = self.pools.release(&lease.id, by).await;
                let fault = twice.expect_err("a lease ends once");
                assert!(may_fail(fault.kind), "{lease:?}: {fault:?}");
            }
            Err(fault) => {
                assert!(may_fail(fault.kind), "{lease:?}: {fault:?}");
                if matches!(fault.kind, ErrorKind::LeaseLost | ErrorKind::NotFound) {
                    self.forget(&lease.id);
                }
            }
        }
    }

    async fn release_a_strangers(&self, lease: &LeaseRecord) {
        let stranger = Owner::Process(self.sim().process().reference());
        let fault = self
            .pools
            .release(&lease.id, By::Owner(&stranger))
            .await
            .expect_err("a stranger ends nobody's lease");
        let refused = fault.kind == ErrorKind::NotOwner || may_fail(fault.kind);
        assert!(refused, "{lease:?}: {fault:?}");
    }

    async fn create_a_pool(&self) {
        let (few, some) = (self.below(4) as u32, 1 + self.below(5) as u32);
        let spec = PoolSpec {
            min: few.min(some),
            max: some,
            ttl_ms: (self.below(4) == 0).then(|| 3_000 + self.below(5_000)),
            max_uses: (self.below(4) == 0).then(|| 1 + self.below(4) as u32),
            ..PoolSpec::of("tiny")
        };
        let record = PoolRecord::new(self.history.a_pool(), spec, self.now());
        self.history.promises.ask(&self.process, &record.name, some);
        let deadline = self.now() + PATIENCE_MS;
        let _ = self.pools.create(&record, deadline).await;
        self.history.promises.asked(&self.process);
    }

    async fn change_a_pool(&self) {
        let pool = self.history.a_pool();
        let state = |state| PoolChange {
            state: Some(state),
            ..PoolChange::default()
        };
        match self.below(8) {
            0 => {
                let _ = self.pools.change(&pool, state(PoolState::Drained)).await;
                if self.below(2) == 0 {
                    let _ = self.pools.empty(&pool, self.now() + 300).await;
                }
            }
            1 => {
                let force = Force::when(self.below(2) == 0);
                let _ = self.pools.remove(&pool, force, self.now() + 300).await;
            }
            _ => {
                let max = 1 + self.below(6) as u32;
                let change = PoolChange {
                    min: Some((self.below(4) as u32).min(max)),
                    max: Some(max),
                    ..state(PoolState::Open)
                };
                self.history.promises.ask(&self.process, &pool, max);
                let _ = self.pools.change(&pool, change).await;
                self.history.promises.asked(&self.process);
            }
        }
    }

    /// Gives back what it holds, keeps it, or ends with it. Keeps nothing that it would have to care for.
    async fn settle(&self) {
        let end = self.below(3);
        if end == 0 {
            self.process.die().await;
        }
        let all = self.held.lock().unwrap().clone();
        for lease in all {
            let lasting = lease.ttl_ms.is_none() && matches!(lease.owner, Owner::Process(_));
            if end == 1 || !lasting {
                self.release(&lease).await;
            }
        }
    }
}

/// How the use of a lease may fail in any weather: it is over and forgotten, or the ledger failed.
fn may_fail(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::LeaseLost | ErrorKind::NotFound | ErrorKind::NoSpace | ErrorKind::Host
    )
}
