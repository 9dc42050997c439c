//! Machines that start only when they are admitted, by the code that admits them on a host: the line in the store, and the
//! function that decides.
//!
//! Places to start in are few here, so that there is always a line. A promise is tied to a machine's record, which this
//! module keeps as a host's runners do: it says `running` when the machine is up, and goes with the machine.

use std::sync::Arc;
use vmint_model::sim::backend::Life;
use vmint_model::sim::{Host, Process, SimBackend};
use vmint_model::{
    Backend, Bell, Boot, ByteSize, Cause, ErrorKind, ExecDefaults, Fault, Generation, MachineId,
    MachineRecord, MachineSpec, MachineState, NetMode, Origin, PoolRecord,
};
use vmint_pool::admission::{Factor, Held, Limits, Need, Situation, Verdict, decide};
use vmint_store::admission::{Booked, Request, Wait};
use vmint_store::{LocalLedger, Moment};

/// How many machines start at a time.
pub const PLACES: u32 = 3;
/// What the guests of all machines may have together. Enough for all pools at their largest.
const MEMORY: u64 = 64 << 30;
/// How often somebody who is held asks again.
const LOOK_MS: i64 = 20;

/// The machines of a host as one process reaches them, under admission.
#[derive(Debug)]
pub struct Admitting {
    pub inner: SimBackend<LocalLedger>,
    pub ledger: Arc<LocalLedger>,
    pub process: Process,
}

/// What is said of one who is held.
fn held(booked: &Booked, memory: u64) -> Result<(), (&'static str, ())> {
    let limits = Limits {
        overcommit: Factor::ONE,
        swap_percent: 100,
        pressure: 100,
        cold_boots: 1,
        forks: PLACES,
    };
    let promised = booked.promises.iter().map(|(_, bytes)| bytes).sum();
    let situation = Situation {
        available: Some(MEMORY - promised),
        total: Some(MEMORY),
        promised,
        taken: promised,
        machines: booked.promises.len() as u32,
        boots: booked.boots,
        ahead_bytes: booked.ahead_bytes,
        ahead_boots: booked.ahead_boots,
        held: Held::default(),
        ..Situation::default()
    };
    let need = Need {
        bytes: memory,
        boot: Boot::Fork,
    };
    match decide(&limits, &situation, &need) {
        Verdict::Admit => Ok(()),
        _ => Err(("place", ())),
    }
}

/// Keeps the records of machines as their runners do.
pub fn keep_records(host: &Host, ledger: &Arc<LocalLedger>) {
    let ledger = ledger.clone();
    host.on_life(move |machine, life| {
        let mut store = ledger.store();
        // There may be none: whoever made the machine was killed, or has given it up.
        let _ = match life {
            Life::Up => {
                let to = MachineState::Running;
                store
                    .transition(machine, None, to, Cause::Completed, None, |_| {})
                    .map(drop)
            }
            Life::Gone => {
                let to = MachineState::Failed;
                let _ = store.transition(machine, None, to, Cause::Fault, None, |_| {});
                store.delete(machine, Cause::Fault).map(drop)
            }
        };
    });
}

impl Admitting {
    async fn admit(&self, request: &Request, deadline_ms: i64) -> Result<(), Fault> {
        let sim = self.process.sim().clone();
        loop {
            self.process.falter().await;
            let admitted = {
                let lives = |p: &vmint_model::ProcessRef| sim.lives(p);
                let moment = Moment {
                    now: sim.now(),
                    lives: &lives,
                };
                let decide = |booked: &Booked| held(booked, request.bytes);
                let mut store = self.ledger.store();
                store
                    .admit(request, moment, &[], decide)
                    .expect("it can be written")
            };
            if admitted.is_ok() {
                return Ok(());
            }
            let now = sim.now_ms();
            if now >= deadline_ms {
                let withdrawn = self.ledger.store().withdraw_admission(&request.machine);
                withdrawn.expect("it can be written");
                let message = "there was no place to start in";
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            let until = deadline_ms.min(now + LOOK_MS);
            self.process.sleep_until(until).await;
        }
    }
}

impl Backend for Admitting {
    async fn create(
        &self,
        pool: &PoolRecord,
        machine: &MachineId,
        deadline_ms: i64,
    ) -> Result<(), Fault> {
        let request = Request {
            machine: machine.clone(),
            bytes: pool.spec.memory.0,
            boot: Boot::Fork,
            holder: self.process.reference(),
            wait: Some(Wait {
                bell: Bell("nobody".into()),
                deadline_ms,
            }),
        };
        self.admit(&request, deadline_ms).await?;
        self.process.falter().await;
        let inserted = self.ledger.store().insert(&record(pool, machine));
        inserted.expect("its id is new");
        self.inner.create(pool, machine, deadline_ms).await
    }

    async fn is_alive(&self, machine: &MachineId) -> bool {
        self.inner.is_alive(machine).await
    }

    async fn is_up(&self, machine: &MachineId) -> bool {
        self.inner.is_up(machine).await
    }

    async fn check(&self, machine: &MachineId, generation: Generation) -> Result<(), Fault> {
        self.inner.check(machine, generation).await
    }

    async fn ring(&self, machine: &MachineId) {
        self.inner.ring(machine).await;
    }

    async fn destroy(&self, machine: &MachineId) -> Result<(), Fault> {
        self.inner.destroy(machine).await?;
        // One that was killed between the record and the machine has left the record.
        let mut store = self.ledger.store();
        let to = MachineState::Failed;
        let _ = store.transition(machine, None, to, Cause::Fault, None, |_| {});
        let _ = store.delete(machine, Cause::Fault);
        Ok(())
    }
}

fn record(pool: &PoolRecord, machine: &MachineId) -> MachineRecord {
    MachineRecord {
        ephemeral: true,
        pool: Some(pool.name.clone()),
        ..MachineRecord::new(
            machine.clone(),
            format!("m-{machine}").parse().expect("a name"),
            MachineState::Starting,
            MachineSpec {
                image: "tiny".into(),
                memory: ByteSize(pool.spec.memory.0),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: vmint_model::Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: ExecDefaults::default(),
            },
        )
    }
}
