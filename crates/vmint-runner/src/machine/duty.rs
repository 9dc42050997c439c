//! What a runner does for the pool that its machine belongs to. The ledger says what is to be done, and is asked
//! whenever somebody rings, an owner ends, something is due, and in any case twice a second.
//!
//! ```text
//!        ┌───────────── made fresh ◀── Reset ◀──┐
//!        ▼                                      │
//! said to be ready ──▶ Idle ──▶ Guard ── lease ends ──▶ Retire ──▶ machine, folder, slot gone
//!                        └────── too old, too many ────────▲
//! ```
//!
//! Invariants:
//! * A machine is said to be ready only as a fork that nobody has had.
//! * The owner that is watched is that of the lease that the ledger has now, and no other.
//! * A runner ends no lease: it tells the ledger that the owner is gone.
//! * A machine that cannot be made fresh goes, and its slot with it: there is no state in between.
//! * A slot is freed when nothing is left of the machine, with the reason, and whoever waits is told.

use super::Machine;
use super::end::{Forced, Over};
use crate::policy::Tenure;
use crate::watch::{self, Watch};
use std::time::Duration;
use tokio::time::Instant;
use vmint_model::{
    Cause, Duty, ErrorKind, Fault, Generation, LeaseId, LeaseRecord, LedgerError, MachineState,
    OwnerGone, Readied, Ring,
};
use vmint_store::{Moment, now, steady_ms};

/// What is waited for on behalf of the pool.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The lease, and its owner if that is a process of this host.
    lease: Option<(LeaseId, Option<Watch>)>,
    /// When the ledger is to be asked again, on the steady clock.
    due_ms: Option<i64>,
}

/// Why the ledger is to be asked.
#[derive(Debug)]
pub(super) enum Alarm {
    /// The owner of this lease is gone.
    OwnerGone(LeaseId, OwnerGone),
    /// It is time.
    Due,
}

impl Guard {
    /// Watches this lease, and no other.
    fn lease(&mut self, lease: &LeaseRecord) {
        if self.lease.as_ref().is_none_or(|(id, _)| *id != lease.id) {
            let owner = match &lease.owner {
                vmint_model::Owner::Process(process) => Some(Watch::of(process)),
                vmint_model::Owner::Client { .. } => None,
            };
            self.lease = Some((lease.id.clone(), owner));
        }
        self.due_ms = lease.due_steady_ms();
    }

    /// Watches no lease.
    fn nobody(&mut self, until_ms: Option<i64>) {
        *self = Self {
            lease: None,
            due_ms: until_ms,
        };
    }

    /// Returns when there is something to do. Can be cancelled.
    pub(super) async fn alarm(&self) -> Alarm {
        let owner = async {
            match &self.lease {
                Some((id, Some(owner))) => {
                    owner.ended().await;
                    (id.clone(), owner.gone())
                }
                _ => std::future::pending().await,
            }
        };
        let due = async {
            match self.due_ms {
                // A millisecond more, so that it has passed by every clock.
                Some(due) => {
                    let left = due.saturating_sub(steady_ms()).max(0) as u64;
                    tokio::time::sleep(Duration::from_millis(left + 1)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (id, gone) = owner => Alarm::OwnerGone(id, gone),
            () = due => Alarm::Due,
        }
    }
}

impl Machine {
    /// Tells the pool, for the first time, that the machine can be lent.
    pub(super) fn join_pool(&mut self) -> Result<(), Fault> {
        let Some(pool) = self.record.pool.clone() else {
            return Ok(());
        };
        if self.tell_ready()? == Wanted::No {
            let message = format!("pool {pool} no longer needs machine {}", self.record.name);
            return Err(Fault::new(ErrorKind::PoolClosed, message));
        }
        let status = self.store.pool(&pool)?;
        if status.pool.spec.standby > 0 && self.plan.is_apart() {
            self.standby.want(status.pool.spec.standby);
        }
        Ok(())
    }

    /// Says that the machine can be lent, at the generation that it has.
    fn tell_ready(&mut self) -> Result<Wanted, Fault> {
        let (id, generation) = (&self.record.id, self.record.generation);
        let (readied, rings) = self.store.slot_ready(id, generation, Moment::now())?;
        self.ring(&rings);
        match readied {
            Readied::Ready => self.guard.nobody(None),
            Readied::Granted(lease) => self.guard.lease(&lease),
            Readied::Retire => return Ok(Wanted::No),
        }
        Ok(Wanted::Yes)
    }

    /// Rings whom a transaction concerns.
    pub(super) fn ring(&self, rings: &[Ring]) {
        let others = rings
            .iter()
            .filter(|ring| !matches!(ring, Ring::Machine(id) if *id == self.record.id));
        watch::tell(&self.home, others);
    }

    /// Does what is to be done for the pool, if the machine belongs to one.
    pub(super) async fn duty(&mut self, cause: Cause) -> Option<Over> {
        self.record.pool.as_ref()?;
        loop {
            match self.store.slot_duty(&self.record.id, now()) {
                Ok(Duty::Guard(lease)) => {
                    self.guard.lease(&lease);
                    if lease.generation < self.record.generation {
                        // The ledger could not be told at the time.
                        self.advance();
                    }
                    return None;
                }
                Ok(Duty::Idle { until_ms }) => {
                    self.guard.nobody(until_ms);
                    return None;
                }
                Ok(Duty::Reset) => {
                    self.guard.nobody(None);
                    if let Err(fault) = self.make_fresh(cause).await {
                        tracing::error!("the machine cannot be made fresh: {fault}");
                        let reason = format!("it could not be made fresh: {}", fault.message);
                        return Some(self.died(reason));
                    }
                    // And once more, for when the ledger wants to be asked next.
                }
                Ok(Duty::Retire | Duty::None) => {
                    return Some(Over::Down {
                        cause,
                        to: MachineState::Stopped,
                        reason: Some("its pool no longer needs it".into()),
                        remove: true,
                        forced: Forced::No,
                    });
                }
                Err(e) => {
                    tracing::warn!("the ledger cannot be asked: {e}");
                    return None;
                }
            }
        }
    }

    /// A fork that nobody has had, said to be ready.
    async fn make_fresh(&mut self, cause: Cause) -> Result<(), Fault> {
        let began = Instant::now();
        self.renew(None, cause).await?;
        let up = began.elapsed();
        // If it is not wanted, the ledger says so when it is asked next.
        self.tell_ready()?;
        tracing::info!(?up, ready = ?began.elapsed(), generation = %self.record.generation, "fresh");
        Ok(())
    }

    /// Something that was waited for has happened.
    pub(super) async fn alarmed(&mut self, alarm: Alarm) -> Option<Over> {
        // If the ledger cannot be asked now, the next look sets it up again.
        self.guard = Guard::default();
        let Alarm::OwnerGone(lease, gone) = alarm else {
            return self.duty(Cause::TimedOut).await;
        };
        let mut told = self.store.owner_gone(&lease, &gone, now());
        if told.is_err() {
            // The store may be on a disk that this very machine has filled.
            self.reserve.give_up();
            told = self.store.owner_gone(&lease, &gone, now());
        }
        match told {
            Ok(rings) => self.ring(&rings),
            Err(e) => {
                // It is nobody's now, and no duty can come of it: a newer vmint may have the database. The next command finds it
                // gone, and ends the lease.
                tracing::error!("lease {lease} cannot be ended: {e}");
                return Some(self.died(format!("the end of its lease cannot be recorded: {e}")));
            }
        }
        self.duty(Cause::OwnerEnded).await
    }

    /// Who has the machine: a pool's is reset by its owner, while it has one, and else by its runner alone.
    pub(super) fn tenure(&mut self) -> Result<Tenure, Fault> {
        if self.record.pool.is_none() {
            return Ok(Tenure::Own);
        }
        Ok(match self.store.slot_duty(&self.record.id, now())? {
            Duty::Guard(_) => Tenure::Lent,
            _ => Tenure::Idle,
        })
    }

    /// Tells the ledger that the owner has had the machine reset. If it cannot be told, it is at the next look.
    pub(super) fn advance(&mut self) {
        if self.record.pool.is_none() {
            return;
        }
        let (id, generation) = (&self.record.id, self.record.generation);
        match self.store.slot_advanced(id, generation, now()) {
            // The lease has ended meanwhile: the next look finds what is to be done.
            Ok(()) | Err(LedgerError::NoSlot { .. }) => {}
            Err(e) => tracing::warn!("the ledger does not know of generation {generation}: {e}"),
        }
    }

    /// The guest of this generation has answered.
    pub(super) fn checked(&mut self, generation: Generation) -> Result<(), Fault> {
        if self.record.pool.is_some() && generation == self.record.generation {
            self.store.slot_checked(&self.record.id, now())?;
        }
        Ok(())
    }

    /// Frees the slot, when nothing is left of the machine.
    pub(super) fn leave_pool(&mut self, why: Option<&str>) {
        if self.record.pool.is_none() {
            return;
        }
        match self.store.slot_gone(&self.record.id, why, now()) {
            Ok(rings) => self.ring(&rings),
            Err(e) => tracing::error!("the machine's slot cannot be freed: {e}"),
        }
    }
}

/// Whether the pool wants a machine that is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use vmint_model::{MachineId, Name, Owner, ProcessRef};

    fn lease(owner: Owner) -> LeaseRecord {
        let pool: Name = "p".parse().unwrap();
        LeaseRecord {
            id: LeaseId::random(),
            pool,
            machine: MachineId::random(),
            generation: Generation(1),
            owner,
            label: None,
            ttl_ms: None,
            granted_at_ms: 0,
            waited_ms: 0,
            expires_at_ms: None,
            expires_steady_ms: None,
            silent_steady_ms: None,
            ended: None,
            keep_lost: None,
            kept: None,
            console: None,
        }
    }

    async fn alarm(guard: &Guard, within: Duration) -> Option<Alarm> {
        tokio::time::timeout(within, guard.alarm()).await.ok()
    }

    #[tokio::test]
    async fn the_end_of_the_owner_of_this_lease_and_of_no_other_alarms() {
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        let alive = vmint_store::process::of(sleeper.id()).unwrap().unwrap();
        let dead = ProcessRef {
            start_time: alive.start_time + 1,
            ..alive.clone()
        };
        let (first, second) = (lease(Owner::Process(dead)), lease(Owner::Process(alive)));
        let mut guard = Guard::default();
        guard.lease(&first);
        let rung = alarm(&guard, Duration::from_secs(10)).await;
        assert!(matches!(rung, Some(Alarm::OwnerGone(id, OwnerGone::Ended)) if id == first.id));
        guard.lease(&second);
        assert!(alarm(&guard, Duration::from_millis(50)).await.is_none());
        sleeper.kill().unwrap();
        let rung = alarm(&guard, Duration::from_secs(10)).await;
        sleeper.wait().unwrap();
        assert!(matches!(rung, Some(Alarm::OwnerGone(id, OwnerGone::Ended)) if id == second.id));
        guard.nobody(None);
        assert!(alarm(&guard, Duration::from_millis(50)).await.is_none());
    }

    #[tokio::test]
    async fn a_lease_alarms_when_it_is_due_and_not_before() {
        let mut far = lease(Owner::Client {
            name: "far".parse().unwrap(),
            heartbeat_ms: 100,
        });
        let mut guard = Guard::default();
        far.renew(now());
        let due = far.due_steady_ms().unwrap();
        guard.lease(&far);
        let rung = alarm(&guard, Duration::from_secs(10)).await;
        assert!(matches!(rung, Some(Alarm::Due)));
        assert!(far.overdue(now()).is_some(), "due at {due}");
        // A heartbeat moves the moment.
        let at = now().steady_ms + 60_000;
        far.renew(vmint_model::Now::both(at));
        guard.lease(&far);
        assert!(alarm(&guard, Duration::from_millis(150)).await.is_none());
    }
}
