//! Machines, each with a runner of its own.

use super::runner::Runner;
use super::{Hostile, Process, Sim};
use crate::{Backend, ErrorKind, Fault, Generation, LeaseId, Ledger, MachineId, Name, PoolRecord};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How often a creation looks whether its machine is ready.
const LOOK_MS: i64 = 10;
/// How long a check waits for a guest's answer.
const ANSWER_MS: i64 = 1_000;

/// What has become of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is up, for the first time.
    Up,
    /// Nothing is left of it.
    Gone,
}

/// Is told what becomes of machines.
type Told = Box<dyn Fn(&MachineId, Life) + Send + Sync>;

/// The machines of a simulated host, as they truly are.
pub struct Host {
    sim: Sim,
    machines: Mutex<BTreeMap<MachineId, Machine>>,
    ended: Mutex<BTreeMap<MachineId, i64>>,
    births: AtomicU64,
    victims: Mutex<Vec<MachineId>>,
    told: OnceLock<Told>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// A machine. Its hypervisor ends with its runner at the latest.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its pool.
    pub pool: Name,
    /// Its runner.
    pub runner: Process,
    /// How often it was made fresh.
    pub generation: Generation,
    /// Its hypervisor has not ended.
    pub hypervisor: bool,
    /// Its guest answers.
    pub guest: bool,
    /// Who has used it at this generation.
    pub used_by: Option<LeaseId>,
    /// The fork that is parked to take its place.
    pub standby: Option<Standby>,
    /// What its creator waits for: that its runner says that it is ready, or what prevents it.
    pub(super) start: Option<Result<(), Fault>>,
}

/// A fork that waits, with its identity set, to become a machine's next generation. It ends with the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// What it is made for; of another generation it is of no use.
    pub generation: Generation,
    /// Its guest answers.
    pub guest: bool,
    /// Who has used it, which nobody may have.
    pub used_by: Option<LeaseId>,
}

impl Machine {
    /// Whether it takes memory and a place: what a pool's maximum counts.
    pub fn exists(&self) -> bool {
        self.hypervisor && self.runner.lives()
    }
}

impl Host {
    /// A host without machines.
    pub fn new(sim: &Sim) -> Arc<Self> {
        Arc::new(Self {
            sim: sim.clone(),
            machines: Mutex::default(),
            ended: Mutex::default(),
            births: AtomicU64::new(0),
            victims: Mutex::default(),
            told: OnceLock::new(),
        })
    }

    /// Has somebody told what becomes of machines, at the moment in which it does: as a runner that writes it down.
    pub fn on_life(&self, told: impl Fn(&MachineId, Life) + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(told));
    }

    pub(super) fn tell(&self, machine: &MachineId, life: Life) {
        if let Some(told) = self.told.get() {
            told(machine, life);
        }
    }

    /// How many machines are on their way up.
    pub fn starting(&self) -> u32 {
        let starts = |m: &&Machine| m.exists() && m.generation == Generation(0);
        self.machines().values().filter(starts).count() as u32
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineId, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many machines there ever were. Between two births no limit can be newly broken.
    pub fn births(&self) -> u64 {
        self.births.load(Ordering::Relaxed)
    }

    /// Machines that were destroyed from outside although they were well. Code that only clears up after the dead has none.
    pub fn victims(&self) -> Vec<MachineId> {
        let victims = self.victims.lock();
        victims.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at a machine, if there is one of this id.
    pub fn look<T>(&self, machine: &MachineId, look: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.machines().get_mut(machine).map(look)
    }

    /// Looks at all machines.
    pub fn look_at_all<T>(&self, look: impl FnOnce(&BTreeMap<MachineId, Machine>) -> T) -> T {
        look(&self.machines())
    }

    /// When a machine ended, by itself or with its runner; `None` while it has not, or if there never was one.
    pub fn ended_at_ms(&self, machine: &MachineId) -> Option<i64> {
        let with_its_runner = self.look(machine, |m| m.runner.ended_at_ms()).flatten();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let by_itself = ended.get(machine).copied();
        [by_itself, with_its_runner].into_iter().flatten().min()
    }

    /// Runs a command in a machine of this generation, for this lease. Gives back who else ran one in it before.
    pub fn exec(
        &self,
        machine: &MachineId,
        generation: Generation,
        lease: &LeaseId,
    ) -> Result<Option<LeaseId>, Fault> {
        let lost = || Fault::new(ErrorKind::MachineLost, "the machine has ended");
        self.look(machine, |m| {
            if !m.exists() || !m.guest {
                return Err(lost());
            }
            if m.generation != generation {
                let message = format!("the machine is of generation {} now", m.generation);
                return Err(Fault::new(ErrorKind::StaleGeneration, message));
            }
            let before = m.used_by.replace(lease.clone());
            Ok(before.filter(|other| other != lease))
        })
        .unwrap_or_else(|| Err(lost()))
    }

    /// Ends a machine's hypervisor, as a crash does; its runner will notice.
    pub fn crash(&self, machine: &MachineId) {
        let runner = self.look(machine, |m| {
            m.hypervisor = false;
            m.runner.clone()
        });
        if runner.is_some() {
            self.note_end(machine);
            self.sim.ring(&bell(machine));
        }
    }

    fn note_end(&self, machine: &MachineId) {
        let now = self.sim.now_ms();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.entry(machine.clone()).or_insert(now);
    }

    /// Forgets a machine of which nothing is left.
    pub(super) fn clear(&self, machine: &MachineId) {
        let cleared = self.machines().remove(machine);
        if cleared.is_some() {
            self.note_end(machine);
            self.tell(machine, Life::Gone);
        }
        drop(cleared);
    }
}

/// Where a machine's runner listens.
pub(super) fn bell(machine: &MachineId) -> String {
    format!("machine-{machine}")
}

/// The machines of a host as one process reaches them.
#[derive(Debug)]
pub struct SimBackend<L> {
    host: Arc<Host>,
    ledger: Arc<L>,
    process: Process,
}

impl<L: Ledger + 'static> SimBackend<L> {
    /// The machines of `host` as `process` reaches them. Their runners use `ledger`, in the host's weather.
    pub fn new(host: Arc<Host>, ledger: Arc<L>, process: Process) -> Self {
        Self {
            host,
            ledger,
            process,
        }
    }
}

impl<L: Ledger + 'static> Backend for SimBackend<L> {
    async fn create(
        &self,
        pool: &PoolRecord,
        machine: &MachineId,
        deadline_ms: i64,
    ) -> Result<(), Fault> {
        self.process.falter().await;
        let sim = self.process.sim();
        if sim.strikes(|w| w.broken) {
            return Err(Fault::new(ErrorKind::Image, "the image cannot be read"));
        }
        let runner = sim.process();
        let entry = Machine {
            pool: pool.name.clone(),
            runner: runner.clone(),
            generation: Generation(0),
            hypervisor: true,
            guest: true,
            used_by: None,
            standby: None,
            start: None,
        };
        let before = self.host.machines().insert(machine.clone(), entry);
        assert!(
            before.is_none(),
            "a machine's id was used again: {before:?}"
        );
        let running = Runner {
            process: runner.clone(),
            host: self.host.clone(),
            ledger: Hostile::new(self.ledger.clone(), runner.clone()),
            machine: machine.clone(),
        };
        runner.spawn(running.run());
        loop {
            let started = self
                .host
                .look(machine, |m| match m.start.take() {
                    None if !m.runner.lives() => Some(Err("its runner died")),
                    None => None,
                    Some(Ok(())) => Some(Ok(None)),
                    Some(Err(fault)) => Some(Ok(Some(fault))),
                })
                .unwrap_or(Some(Err("it was destroyed while it was being made")));
            let failed = match started {
                Some(Ok(None)) => return Ok(()),
                Some(Ok(Some(fault))) => Some(fault),
                Some(Err(why)) => Some(Fault::new(ErrorKind::Runner, why)),
                None if sim.now_ms() >= deadline_ms => {
                    let message = "the machine was not ready in time";
                    Some(Fault::new(ErrorKind::TimedOut, message))
                }
                None => None,
            };
            if let Some(fault) = failed {
                runner.kill();
                self.host.clear(machine);
                return Err(fault);
            }
            let soon = sim.now_ms() + LOOK_MS;
            self.process.sleep_until(soon.min(deadline_ms)).await;
            self.process.falter().await;
        }
    }

    async fn is_alive(&self, machine: &MachineId) -> bool {
        self.process.falter().await;
        let alive = self.host.look(machine, |m| m.runner.lives());
        self.process.linger().await;
        alive.unwrap_or(false)
    }

    async fn is_up(&self, machine: &MachineId) -> bool {
        self.process.falter().await;
        let up = self.host.look(machine, |m| m.exists());
        self.process.linger().await;
        up.unwrap_or(false)
    }

    async fn check(&self, machine: &MachineId, generation: Generation) -> Result<(), Fault> {
        self.process.falter().await;
        let guest = self.host.look(machine, |m| {
            (m.exists() && m.generation == generation).then_some(m.guest)
        });
        let lost = |why| Fault::new(ErrorKind::MachineLost, why);
        match guest.flatten() {
            None => Err(lost("the machine is another one now, or none")),
            Some(true) => Ok(()),
            Some(false) => {
                self.process.sleep(ANSWER_MS).await;
                Err(lost("its guest does not answer"))
            }
        }
    }

    async fn ring(&self, machine: &MachineId) {
        self.process.falter().await;
        self.process.sim().ring(&bell(machine));
    }

    async fn destroy(&self, machine: &MachineId) -> Result<(), Fault> {
        self.process.falter().await;
        let found = self
            .host
            .look(machine, |m| (m.runner.clone(), m.exists() && m.guest));
        if let Some((runner, well)) = found {
            if well {
                let victims = self.host.victims.lock();
                let mut victims = victims.unwrap_or_else(PoisonError::into_inner);
                victims.push(machine.clone());
            }
            runner.kill();
            // Its folder goes in its own time.
            self.process.linger().await;
            self.host.clear(machine);
        }
        self.process.linger().await;
        Ok(())
    }
}
