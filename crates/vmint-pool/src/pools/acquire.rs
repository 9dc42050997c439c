//! A lease for a caller: claimed, or waited for, and never of a machine that is dead.

use super::repair::Withdraw;
use super::{Acquire, Pools};
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use std::sync::{Arc, Mutex};
use vmint_model::{
    Backend, By, Claim, Claimed, ErrorKind, Fault, LeaseEnd, LeaseId, LeaseRecord, Ledger,
    LedgerError, World,
};

/// How long after its deadline an acquire leaves whatever it waits for at that moment: a guest that does not answer, a
/// machine that does not go. Before that it has had the time to say more about it.
const GRACE_MS: i64 = 25;

impl<B, L, W> Pools<B, L, W>
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
{
    /// Lends a machine. `say` is told, in a line for the user, what is being waited for.
    pub async fn acquire(
        self: &Arc<Self>,
        want: &Acquire,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<LeaseRecord, Fault> {
        let began = self.world.now_ms();
        let awaited = Mutex::new(Awaited::default());
        let ends_at = want.deadline_ms.max(began) + GRACE_MS;
        {
            let (lending, timer) = (
                self.lend(want, say, &awaited),
                self.world.sleep_until(ends_at),
            );
            pin_mut!(lending, timer);
            if let Either::Left((lent, _)) = select(lending, timer).await {
                return lent;
            }
        }
        let (pool, waited) = (&want.pool, self.world.now_ms() - began);
        let awaited = awaited.into_inner().expect("nobody panics with the lock");
        let message = format!(
            "pool {pool} had no machine ready within {:.1} s: it still waits for {}{}",
            waited as f64 / 1e3,
            awaited.what,
            awaited.told(),
        );
        Err(Fault::new(ErrorKind::TimedOut, message))
    }

    async fn lend(
        self: &Arc<Self>,
        want: &Acquire,
        say: &(dyn Fn(String) + Send + Sync),
        awaited: &Mutex<Awaited>,
    ) -> Result<LeaseRecord, Fault> {
        let awaited = || awaited.lock().expect("nobody panics with the lock");
        let wait_for = |what| awaited().what = what;
        let began = self.world.now_ms();
        loop {
            // What was given and died at once is no answer: another one is claimed, until the deadline.
            let lost = awaited().told();
            if !lost.is_empty() && self.world.now_ms() >= want.deadline_ms {
                let waited = (self.world.now_ms() - began) as f64 / 1e3;
                let pool = &want.pool;
                let message =
                    format!("pool {pool} had no machine ready within {waited:.1} s{lost}");
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            let mut claim = Claim {
                lease: LeaseId::from_bits(self.world.bits()),
                pool: want.pool.clone(),
                owner: want.owner.clone(),
                label: want.label.clone(),
                ttl_ms: want.ttl_ms,
                wait: None,
            };
            let mut guard = Withdraw {
                pools: self,
                lease: Some(claim.lease.clone()),
            };
            wait_for("the ledger");
            let claimed = match self.claim(&claim).await {
                Ok(Claimed::Leased {
                    lease,
                    stale,
                    missing,
                }) => {
                    if missing {
                        self.world.tend(&want.pool);
                    }
                    Ok((*lease, stale))
                }
                Ok(_) => self.wait(&mut claim, want, say).await,
                Err(e) => Err(Denied::from(e)),
            };
            let (lease, stale) = match claimed {
                Ok(claimed) => claimed,
                // It was granted while it stood in line, and its machine died before it heard of it.
                Err(Denied::Lost(fault)) => {
                    tracing::warn!("lost before it could be leased: {fault}");
                    guard.lease = None;
                    awaited().seen = Some(fault.message);
                    continue;
                }
                Err(Denied::Fault(fault)) => return Err(fault),
            };
            wait_for("its guest to answer");
            let Err(fault) = self.sound(&lease, stale).await else {
                guard.lease = None;
                return Ok(lease);
            };
            // A dead machine is never lent. It goes, and another one is sought. First its lease: should that have ended
            // meanwhile, the machine is somebody else's by now.
            tracing::warn!(machine = %lease.machine, "not lent: {fault}");
            awaited().seen = Some(format!("machine {}: {}", lease.machine, fault.message));
            wait_for("a machine that does not answer to go");
            let (now, how, why) = (
                self.world.now(),
                LeaseEnd::MachineLost,
                Some(&*fault.message),
            );
            let ended = self.ledger.end(&lease.id, By::Anybody, how, why, now).await;
            match ended {
                Ok((_, rings)) => {
                    self.ring(rings).await;
                    guard.lease = None;
                    // Others may be at it too, and whoever touches the pool next tries again: it keeps nobody from another.
                    if let Err(e) = self.discard(&lease.machine, &fault.message).await {
                        tracing::warn!(machine = %lease.machine, "cannot be cleared up yet: {e}");
                    }
                }
                // Its runner was faster to say so, and takes down what is left.
                Err(LedgerError::LeaseEnded { ended, .. })
                    if ended.how == LeaseEnd::MachineLost =>
                {
                    guard.lease = None;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Whether the machine of a new lease is well: its runner lives, and its guest has answered not long ago, or does.
    async fn sound(&self, lease: &LeaseRecord, stale: bool) -> Result<(), Fault> {
        if !self.backend.is_up(&lease.machine).await {
            return Err(Fault::new(
                ErrorKind::MachineLost,
                "its runner or its hypervisor has died",
            ));
        }
        if stale {
            self.backend.check(&lease.machine, lease.generation).await?;
        }
        Ok(())
    }

    pub(super) async fn claim(&self, claim: &Claim) -> Result<Claimed, LedgerError> {
        let (claimed, rings) = self.ledger.claim(claim, self.world.now()).await?;
        self.ring(rings).await;
        Ok(claimed)
    }
}

/// What an acquire waits for, and what it saw last that kept it from a machine.
#[derive(Debug)]
struct Awaited {
    what: &'static str,
    seen: Option<String>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            what: "the ledger",
            seen: None,
        }
    }
}

impl Awaited {
    fn told(&self) -> String {
        let seen = self.seen.as_ref();
        seen.map(|seen| format!("; the last one that it was given died: {seen}"))
            .unwrap_or_default()
    }
}

/// Why a claim came to nothing.
pub(super) enum Denied {
    /// The machine that it was given has died since: another one may be had.
    Lost(Fault),
    /// There is nothing to be had.
    Fault(Fault),
}

impl From<LedgerError> for Denied {
    fn from(e: LedgerError) -> Self {
        match &e {
            LedgerError::LeaseEnded { ended, .. } if ended.how == LeaseEnd::MachineLost => {
                Self::Lost(e.into())
            }
            _ => Self::Fault(e.into()),
        }
    }
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
