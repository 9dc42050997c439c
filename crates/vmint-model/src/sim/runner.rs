//! A machine's runner: starts the machine, says that it is ready, and does its [`Duty`].

use super::backend::{Life, bell};
use super::world::SimListener;
use super::{Host, Hostile, Process, Standby};
use crate::{
    Duty, ErrorKind, Fault, Generation, Ledger, LedgerError, Listen, MachineId, Now, Owner,
    OwnerGone, Readied, Ring,
};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// How often a runner looks at its duty when nobody rings.
const LOOK_MS: i64 = 500;
/// How soon it tries again what the ledger has refused.
const AGAIN_MS: i64 = 50;
/// How often it tries to say that its machine is gone. Behind that, whoever touches the pool will see it.
const FAREWELLS: u32 = 5;

pub(super) struct Runner<L> {
    pub process: Process,
    pub host: Arc<Host>,
    pub ledger: Hostile<L>,
    pub machine: MachineId,
}

/// Why a runner ends.
struct Leave(&'static str);

impl<L: Ledger> Runner<L> {
    pub(super) async fn run(self) {
        let hung = SimListener::hang(&self.process, Some(bell(&self.machine)));
        let listener = hung.expect("a machine has one runner");
        let Leave(why) = match self.serve(&listener).await {
            Ok(never) => match never {},
            Err(leave) => leave,
        };
        // The hypervisor first, then the folder, then the slot: in this order a crash in between leaves a slot without a
        // machine, which is found, and never a machine without a slot.
        let started = self.host.look(&self.machine, |m| {
            m.hypervisor = false;
            if m.generation > Generation(0) {
                return true;
            }
            m.start = Some(Err(Fault::new(ErrorKind::Hypervisor, why)));
            false
        });
        if started == Some(false) {
            // Its creator clears up, or whoever finds that its creator is dead.
            self.process.die().await;
        }
        self.host.clear(&self.machine);
        for _ in 0..FAREWELLS {
            let gone = self.ledger.gone(&self.machine, Some(why), self.clocks());
            match gone.await {
                Ok(rings) => {
                    self.ring(rings);
                    break;
                }
                Err(_) => self.process.sleep(AGAIN_MS).await,
            }
        }
        self.process.die().await;
    }

    async fn serve(&self, listener: &SimListener) -> Result<std::convert::Infallible, Leave> {
        let sim = self.process.sim();
        self.process.sleep(sim.draw(|r| r.between(20, 200))).await;
        if sim.strikes(|w| w.stillborn) {
            return Err(Leave("the hypervisor did not start"));
        }
        self.make_fresh(None).await?;
        self.park();
        let mut checked_at = self.now();
        loop {
            self.survive()?;
            let duty = self.ledger.duty(&self.machine, self.clocks()).await;
            self.survive()?;
            let look = self.now() + LOOK_MS;
            match duty {
                Err(LedgerError::Failed(_)) => self.process.sleep(AGAIN_MS).await,
                Err(_) | Ok(Duty::None) => return Err(Leave("the pool does not know it")),
                Ok(Duty::Retire) => return Err(Leave("the pool does not want it any more")),
                Ok(Duty::Reset) => {
                    let parked = self.swap();
                    let longest = if parked.is_some() { 5 } else { 80 };
                    let least = longest / 16;
                    self.process
                        .sleep(sim.draw(|r| r.between(least, longest)))
                        .await;
                    self.make_fresh(parked).await?;
                    self.park();
                    checked_at = self.now();
                }
                Ok(Duty::Idle { until_ms }) => {
                    let answers = self.host.look(&self.machine, |m| m.guest);
                    if self.now() - checked_at > 2 * LOOK_MS && answers == Some(true) {
                        checked_at = self.now();
                        let _ = self.ledger.checked(&self.machine, self.clocks()).await;
                    }
                    let until = until_ms.map_or(look, |at| at.clamp(self.now() + 1, look));
                    self.rest(listener, until, std::future::pending()).await;
                }
                Ok(Duty::Guard(lease)) => {
                    let due = lease.due_steady_ms().unwrap_or(look);
                    let until = due.clamp(self.now() + 1, look);
                    let Owner::Process(owner) = &lease.owner else {
                        self.rest(listener, until, std::future::pending()).await;
                        continue;
                    };
                    if sim.lives(owner) {
                        self.rest(listener, until, self.process.outlive(owner))
                            .await;
                        continue;
                    }
                    let gone = &OwnerGone::Ended;
                    let told = self.ledger.owner_gone(&lease.id, gone, self.clocks());
                    match told.await {
                        Ok(rings) => self.ring(rings),
                        Err(_) => self.process.sleep(AGAIN_MS).await,
                    }
                }
            }
        }
    }

    /// Begins to make the fork that will take the machine's place, beside all else. It may not come up.
    fn park(&self) {
        let sim = self.process.sim().clone();
        let (host, machine, process) = (
            self.host.clone(),
            self.machine.clone(),
            self.process.clone(),
        );
        let takes = sim.draw(|r| r.between(10, 150));
        self.process.spawn(async move {
            process.sleep(takes).await;
            if process.sim().strikes(|w| w.stillborn) {
                return;
            }
            host.look(&machine, |m| {
                m.standby = Some(Standby {
                    generation: m.generation.next(),
                    guest: true,
                    used_by: None,
                });
            });
        });
    }

    /// Takes the standby, if it fits and answers. One that does not is thrown away.
    fn swap(&self) -> Option<Standby> {
        let parked = self.host.look(&self.machine, |m| {
            let next = m.generation.next();
            m.standby.take().filter(|s| s.generation == next && s.guest)
        });
        parked.flatten()
    }

    /// Makes a machine of the next generation, of its standby or anew, and says that it is ready.
    async fn make_fresh(&self, parked: Option<Standby>) -> Result<(), Leave> {
        let generation = self.host.look(&self.machine, |m| {
            m.generation = m.generation.next();
            m.guest = true;
            m.used_by = parked.and_then(|standby| standby.used_by);
            m.generation
        });
        let generation: Generation = generation.ok_or(Leave("it was destroyed"))?;
        loop {
            self.survive()?;
            let ready = self
                .ledger
                .ready(&self.machine, generation, self.clocks())
                .await;
            match ready {
                Ok((Readied::Retire, rings)) => {
                    self.ring(rings);
                    return Err(Leave("the pool does not want it any more"));
                }
                Ok((_, rings)) => self.ring(rings),
                Err(LedgerError::Failed(_)) => {
                    self.process.sleep(AGAIN_MS).await;
                    continue;
                }
                // It had been said, and things went on since; what to do now is a question of duty.
                Err(_) => {}
            }
            self.host.look(&self.machine, |m| m.start = Some(Ok(())));
            self.host.tell(&self.machine, Life::Up);
            return Ok(());
        }
    }

    /// Not without its hypervisor.
    fn survive(&self) -> Result<(), Leave> {
        match self.host.look(&self.machine, |m| m.hypervisor) {
            Some(true) => Ok(()),
            _ => Err(Leave("its hypervisor died")),
        }
    }

    fn clocks(&self) -> Now {
        self.process.sim().now()
    }

    fn now(&self) -> i64 {
        self.process.sim().now_ms()
    }

    fn ring(&self, rings: Vec<Ring>) {
        for ring in rings {
            match ring {
                Ring::Machine(machine) => self.process.sim().ring(&bell(&machine)),
                Ring::Waiter(waiter) => self.process.sim().ring(&waiter.0),
            }
        }
    }

    /// Until that time, a ring, or that event.
    async fn rest(&self, listener: &SimListener, until_ms: i64, event: impl Future<Output = ()>) {
        let mut timer = pin!(self.process.sleep_until(until_ms));
        let (mut rung, mut event) = (pin!(listener.rung()), pin!(event));
        poll_fn(|context| {
            let woken = timer.as_mut().poll(context).is_ready()
                || rung.as_mut().poll(context).is_ready()
                || event.as_mut().poll(context).is_ready();
            if woken {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
