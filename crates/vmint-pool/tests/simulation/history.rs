//! How a history goes: storm, calm, the end of all owners, the end of all processes.

use crate::admission::{self, Admitting};
use crate::client::Client;
use crate::promises::Promises;
use std::path::Path;
use std::sync::{Arc, Mutex};
use vmint_model::sim::{Host, Hostile, Machine, Process, Sim, SimBackend, SimWorld, Weather};
use vmint_model::{Name, ProcessRef, World};
use vmint_pool::Pools;
use vmint_store::LocalLedger;
use vmint_store::Store;

/// How many clients there are at a time.
const CLIENTS: usize = 6;
/// How many pools there may be.
const POOLS: u64 = 4;
/// How long fills and the like may take.
pub const PATIENCE_MS: i64 = 5_000;
/// Within this an owner's lease has ended after it; promise 3.
const RECLAIM_MS: i64 = 1_000;
/// Within this a machine is made, or made fresh, and everybody has looked once.
const SETTLE_MS: i64 = 2_000;

/// What the code under test is built of here.
pub type SimPools = Pools<Admitting, Hostile<LocalLedger>, SimWorld>;

/// Everything of one seed.
#[derive(Clone)]
pub struct History {
    pub sim: Sim,
    pub host: Arc<Host>,
    pub ledger: Arc<LocalLedger>,
    pub promises: Arc<Promises>,
    /// How long a client thinks between two operations, at most. In some histories everything happens at once, in others
    /// machines are idle for long.
    pub pace_ms: u64,
    /// Of 10,000 steps, in how many somebody meets with an accident.
    unrest: u32,
    /// Processes that hold leases which others have asked for.
    pub helpers: Arc<Mutex<Vec<Process>>>,
    _dir: Arc<tempfile::TempDir>,
}

/// The code of pools as this process runs it.
fn pools_of(
    host: &Arc<Host>,
    ledger: &Arc<LocalLedger>,
    process: &Process,
    tend: Arc<dyn Fn(Process, Name) + Send + Sync>,
) -> Arc<SimPools> {
    Arc::new(Pools {
        backend: Admitting {
            inner: SimBackend::new(host.clone(), ledger.clone(), process.clone()),
            ledger: ledger.clone(),
            process: process.clone(),
        },
        ledger: Hostile::new(ledger.clone(), process.clone()),
        world: SimWorld::new(process.clone(), tend),
        parallel: 3,
    })
}

/// Fills a pool, as the process does that is told to tend it.
fn tend(host: &Arc<Host>, ledger: &Arc<LocalLedger>, process: Process, pool: Name) {
    let nobody = Arc::new(|_, _| {});
    let pools = pools_of(host, ledger, &process, nobody);
    process.clone().spawn(async move {
        let _ = pools.fill(&pool, pools.world.now_ms() + PATIENCE_MS).await;
        process.die().await;
    });
}

impl History {
    /// The history of this seed, at its beginning.
    pub fn new(seed: u64) -> Self {
        let sim = Sim::new(seed);
        // In memory where there is such a place: what a disk does is not simulated by having one.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let dir = dir.expect("a folder can be made");
        let store = Store::open_file(&dir.path().join("vmint.db"), vmint_store::store::PATIENCE)
            .expect("a store can be made");
        let (lives, ids) = (sim.clone(), sim.clone());
        let ledger = LocalLedger::with_lives(store, Box::new(move |p: &ProcessRef| lives.lives(p)))
            .with_ids(Box::new(move || {
                vmint_model::MachineId::from_bits(ids.draw(vmint_model::sim::Random::bits))
            }));
        let (host, ledger) = (Host::new(&sim), Arc::new(ledger));
        admission::keep_records(&host, &ledger);
        let promises = Promises::new(sim.clone(), host.clone(), ledger.clone());
        Self {
            host,
            ledger,
            promises: Arc::new(promises),
            pace_ms: sim.draw(|r| *r.pick(&[1, 30, 300, 2_000])),
            unrest: sim.draw(|r| *r.pick(&[1, 5, 20])),
            helpers: Arc::default(),
            sim,
            _dir: Arc::new(dir),
        }
    }

    /// Has the history written down.
    pub fn write_down(&self) {
        self.sim.set_log(|line| eprintln!("{line}"));
    }

    /// The code of pools as this process runs it.
    pub fn pools(&self, process: &Process) -> Arc<SimPools> {
        let (host, ledger) = (self.host.clone(), self.ledger.clone());
        let tend = move |process, pool| tend(&host, &ledger, process, pool);
        pools_of(&self.host, &self.ledger, process, Arc::new(tend))
    }

    /// The name of one of the pools that there may be.
    pub fn a_pool(&self) -> Name {
        let n = self.sim.draw(|r| r.below(POOLS));
        format!("p{n}").parse().expect("a name")
    }

    /// Runs it until at least so many operations were done, and then to its end. Gives back how many there were.
    pub fn run(&self, operations: u64) -> u64 {
        let mut clients = self.storm(operations);
        self.calm(&mut clients);
        self.end_of_owners(&clients);
        self.end_of_all();
        self.sim.end();
        self.promises.operations()
    }

    /// One step, and what must hold after it.
    fn step(&self) {
        assert!(self.sim.step(), "nothing will ever happen any more");
        self.promises.check_step();
    }

    fn until(&self, at_ms: i64) {
        // So that time passes although nobody does anything.
        let timer = self.sim.process();
        let sleep = timer.sleep_until(at_ms);
        timer.spawn(sleep);
        while self.sim.now_ms() < at_ms {
            self.step();
        }
        timer.kill();
    }

    fn storm(&self, operations: u64) -> Vec<Client> {
        let mut clients: Vec<Client> = Vec::new();
        let mut weather = self.sim.draw(Weather::any);
        self.sim.set_weather(weather);
        while self.promises.operations() < operations {
            clients.retain(|client| client.process.lives());
            while clients.len() < CLIENTS {
                clients.push(Client::start(self));
            }
            self.step();
            if self.sim.draw(|r| r.strikes(self.unrest)) {
                self.accident(&clients);
            }
            if self.sim.draw(|r| r.strikes(self.unrest)) {
                self.set_the_clock();
            }
            if self.sim.draw(|r| r.strikes(1)) {
                weather = self.sim.draw(Weather::any);
                self.sim.set_weather(weather);
                self.sim.note(|| format!("{weather:?}"));
            }
        }
        clients
    }

    /// Somebody sets the wall clock: by hours, in either direction, or a little, as a clock that drifts is put right.
    fn set_the_clock(&self) {
        const HOUR_MS: i64 = 3_600_000;
        let by_ms = self.sim.draw(|r| match r.below(3) {
            0 => r.between(-40, 40),
            1 => r.between(HOUR_MS, 30 * HOUR_MS),
            _ => -r.between(HOUR_MS, 30 * HOUR_MS),
        });
        self.sim
            .note(|| format!("the wall clock is set by {by_ms} ms"));
        self.sim.step_wall_clock(by_ms);
    }

    /// Something that happens to somebody who is not calling anything at the moment.
    fn accident(&self, clients: &[Client]) {
        let machines: Vec<_> = self.host.look_at_all(|all| all.keys().cloned().collect());
        let what = self.sim.draw(|r| r.below(8));
        if what == 0 && !clients.is_empty() {
            let client = self.sim.draw(|r| r.pick(clients).clone());
            self.sim.note(|| format!("{:?} is killed", client.process));
            client.process.kill();
        } else if what == 5 {
            for helper in self.helpers.lock().unwrap().drain(..) {
                self.sim.note(|| format!("{helper:?} is killed"));
                helper.kill();
            }
        } else if !machines.is_empty() {
            let machine = self.sim.draw(|r| r.pick(&machines).clone());
            self.sim.note(|| format!("accident {what} of {machine}"));
            match what {
                1 => self.host.crash(&machine),
                2 => {
                    self.host.look(&machine, |m| m.guest = false);
                }
                6 => {
                    self.host.look(&machine, |m| m.standby = None);
                }
                7 => {
                    let hang = |m: &mut Machine| m.standby.iter_mut().for_each(|s| s.guest = false);
                    self.host.look(&machine, hang);
                }
                _ => {
                    if let Some(runner) = self.host.look(&machine, |m| m.runner.clone()) {
                        runner.kill();
                    }
                }
            }
        }
    }

    /// The weather clears up; whoever lives finishes what it does. Then somebody touches each pool, and all is well.
    fn calm(&self, clients: &mut Vec<Client>) {
        self.sim.set_weather(Weather::CALM);
        self.sim.note(|| "calm".into());
        self.promises.end_storm();
        let deadline = self.sim.now_ms() + 4 * PATIENCE_MS;
        while !clients.iter().all(Client::has_settled) {
            assert!(
                self.sim.now_ms() < deadline,
                "a client does not come to an end"
            );
            self.step();
        }
        clients.retain(|client| client.process.lives());
        // By itself, everything of dead owners is reclaimed, where a runner is left to do it.
        self.until(self.sim.now_ms() + RECLAIM_MS);
        self.promises.audit();
        self.touch();
        self.promises.check_rest("after the storm");
    }

    /// Somebody touches each pool, and everything settles; then whoever comes next finds what is due by then.
    fn touch(&self) {
        self.fill_all();
        self.until(self.sim.now_ms() + SETTLE_MS);
        self.fill_all();
        self.until(self.sim.now_ms() + SETTLE_MS);
        // Machines age while nobody looks.
        self.fill_all();
    }

    /// What the next command of any kind does, and a fill of each pool.
    fn fill_all(&self) {
        let process = self.sim.process();
        let (pools, ledger, at) = (self.pools(&process), self.ledger.clone(), process.clone());
        process.spawn(async move {
            pools.restore().await.expect("the weather is calm");
            let all = ledger.store().pools().expect("the store can be read");
            for status in all {
                let deadline_ms = pools.world.now_ms() + PATIENCE_MS;
                // One that is closed is not filled.
                let _ = pools.fill(&status.pool.name, deadline_ms).await;
            }
            at.die().await;
        });
        let deadline = self.sim.now_ms() + 4 * PATIENCE_MS;
        while process.lives() {
            assert!(
                self.sim.now_ms() < deadline,
                "a fill does not come to an end"
            );
            self.step();
        }
    }

    /// All owners die. Their leases end within a second, without anybody's help.
    fn end_of_owners(&self, clients: &[Client]) {
        self.sim.note(|| "all owners die".into());
        for client in clients {
            client.process.kill();
        }
        for helper in self.helpers.lock().unwrap().drain(..) {
            helper.kill();
        }
        self.until(self.sim.now_ms() + RECLAIM_MS);
        self.promises.check_no_leases();
        self.touch();
        self.promises.check_rest("after the end of all owners");
    }

    /// The host starts anew: nothing lives, and what was recorded is made true again.
    fn end_of_all(&self) {
        self.sim.note(|| "all processes die".into());
        self.sim.end();
        self.touch();
        self.promises.check_rest("after the end of all processes");
    }
}
