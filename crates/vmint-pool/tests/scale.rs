//! What an acquire costs when there are many machines.
//!
//! Fifty pools over simulated machines and the ledger of this host. What is asserted is work, not time: an acquire of a
//! ready machine waits for nothing, however many others there are; how many pages of the database it reads is tried in
//! `vmint-store`. The times are printed:
//! `cargo test --release -p vmint-pool --test scale -- --nocapture`.

use futures_util::FutureExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmint_model::sim::{Host, Hostile, Process, Sim, SimBackend, SimWorld};
use vmint_model::{By, LeaseRecord, MachineId, Name, Owner, PoolRecord, PoolSpec, SlotState};
use vmint_pool::{Acquire, Pools};
use vmint_store::{LocalLedger, Store};

const POOLS: u32 = 50;
/// How many acquires are measured.
const SAMPLES: usize = 1_000;

type SimPools = Pools<SimBackend<LocalLedger>, Hostile<LocalLedger>, SimWorld>;

/// Fifty full pools.
struct Estate {
    sim: Sim,
    client: Process,
    pools: Arc<SimPools>,
    ledger: Arc<LocalLedger>,
    machines: u32,
    _dir: tempfile::TempDir,
}

fn name(n: u32) -> Name {
    format!("p{n}").parse().unwrap()
}

impl Estate {
    fn new(machines: u32) -> Self {
        let sim = Sim::new(u64::from(machines));
        let dir = tempfile::tempdir().unwrap();
        let patience = vmint_store::store::PATIENCE;
        let store = Store::open_file(&dir.path().join("vmint.db"), patience).unwrap();
        let (lives, ids) = (sim.clone(), sim.clone());
        let ledger = LocalLedger::with_lives(store, Box::new(move |p| lives.lives(p))).with_ids(
            Box::new(move || MachineId::from_bits(ids.draw(vmint_model::sim::Random::bits))),
        );
        let (host, ledger) = (Host::new(&sim), Arc::new(ledger));
        let pools_of = |process: &Process| {
            Arc::new(Pools {
                backend: SimBackend::new(host.clone(), ledger.clone(), process.clone()),
                ledger: Hostile::new(ledger.clone(), process.clone()),
                world: SimWorld::new(process.clone(), Arc::new(|_, _| {})),
                parallel: machines,
            })
        };
        // Side by side, so that no machine idles for long while others are being made.
        let makers: Vec<_> = (0..POOLS).map(|_| sim.process()).collect();
        for (n, maker) in (0..).zip(&makers) {
            let spec = PoolSpec {
                min: machines / POOLS,
                max: machines / POOLS,
                ..PoolSpec::of("tiny")
            };
            let record = PoolRecord::new(name(n), spec, sim.now_ms());
            let (pools, deadline, maker) = (pools_of(maker), sim.now_ms() + 60_000, maker.clone());
            maker.clone().spawn(async move {
                let filled = pools.create(&record, deadline).await.unwrap();
                assert_eq!((filled.made, filled.failed.len()), (machines / POOLS, 0));
                maker.die().await;
            });
        }
        while makers.iter().any(Process::lives) {
            assert!(sim.step());
        }
        let client = sim.process();
        Self {
            pools: pools_of(&client),
            sim,
            client,
            ledger,
            machines,
            _dir: dir,
        }
    }

    /// Takes a machine, which must be there and not be waited for.
    fn acquire(&self, pool: u32) -> (LeaseRecord, Duration) {
        let want = Acquire {
            pool: name(pool),
            owner: Owner::Process(self.client.reference()),
            label: None,
            ttl_ms: None,
            deadline_ms: self.sim.now_ms() + 1_000,
            wait: true,
        };
        let say = |line: String| panic!("{line}");
        let began = Instant::now();
        let lease = self.pools.acquire(&want, &say).now_or_never();
        let took = began.elapsed();
        let lease = lease.expect("it waits for nothing");
        (lease.expect("a machine is ready"), took)
    }

    /// Gives machines back, and waits until all are fresh.
    fn release(&self, leases: &[LeaseRecord]) {
        for lease in leases {
            let by = By::Owner(&lease.owner);
            let released = self.pools.release(&lease.id, by).now_or_never();
            released.expect("it waits for nothing").unwrap();
        }
        let ready = || {
            let slots = self.ledger.store().slots(None).unwrap();
            slots.iter().all(|slot| slot.state == SlotState::Ready)
        };
        let mut looks = self.sim.now_ms();
        while self.sim.now_ms() < looks || !ready() {
            looks = self.sim.now_ms() + 20;
            while self.sim.now_ms() < looks {
                assert!(self.sim.step());
            }
        }
    }

    /// How long acquires take, the shortest first.
    fn times(&self) -> Vec<Duration> {
        let (mut times, mut held) = (Vec::new(), Vec::new());
        while times.len() < SAMPLES {
            let (lease, took) = self.acquire(times.len() as u32 % POOLS);
            times.push(took);
            held.push(lease);
            if held.len() == self.machines as usize {
                self.release(&held);
                held.clear();
            }
        }
        times.sort();
        times
    }
}

#[test]
fn an_acquire_waits_for_nothing_however_many_machines_there_are() {
    for machines in [100, 1_000, 10_000] {
        let estate = Estate::new(machines);
        let times = estate.times();
        let ms = |n: usize| times[n].as_secs_f64() * 1e3;
        println!(
            "{machines:>6} machines in {POOLS} pools: acquire p50 {:.3} ms, p99 {:.3} ms, most {:.3} ms",
            ms(SAMPLES / 2),
            ms(SAMPLES * 99 / 100),
            ms(SAMPLES - 1),
        );
    }
}
