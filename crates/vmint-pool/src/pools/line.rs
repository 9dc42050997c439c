//! The wait for a lease: in line, making machines meanwhile, until one is free, or time or hope is up.

use super::acquire::Denied;
use super::words::{place, tell, waiting};
use super::{Acquire, LOOK_MS, Pools};
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use vmint_model::ledger::Waiter;
use vmint_model::{
    Backend, Claim, Claimed, ErrorKind, Fault, LeaseRecord, Ledger, LedgerError, Listen, PoolState,
    World,
};

/// Only the first of the line looks each time for what those left that died; the others once in so many times, should the
/// first one stand still. With 200 in line that all did, the ledger had time for nothing else.
const OTHERS_LOOK: u32 = 32;

impl<B, L, W> Pools<B, L, W>
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
{
    /// Waits in line, making machines meanwhile if the pool may have more. With the lease comes whether its guest was heard
    /// of too long ago.
    pub(super) async fn wait(
        self: &Arc<Self>,
        claim: &mut Claim,
        want: &Acquire,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(LeaseRecord, bool), Denied> {
        let began = self.world.now_ms();
        // The pool was there when this came. It may be gone for good before this is woken.
        let removed = |e| match e {
            LedgerError::NoPool(_) => LedgerError::PoolClosed {
                name: want.pool.clone(),
                state: PoolState::Removing,
            },
            e => e,
        };
        let listener = self.world.listen()?;
        let process = self.world.process()?;
        claim.wait = Some(Waiter {
            bell: listener.bell(),
            process,
            deadline_ms: want.deadline_ms,
        });
        let mut making = FuturesUnordered::new();
        let (mut pause, mut seen, mut said) = (LOOK_MS.0, None::<Fault>, false);
        let mut looks = 0_u32;
        loop {
            let before = match self.claim(claim).await.map_err(removed)? {
                Claimed::Leased { lease, stale, .. } => return Ok((*lease, stale)),
                Claimed::Waiting { before } => before,
                Claimed::None => unreachable!("a claim that waits is in line"),
            };
            let now = self.world.now_ms();
            if now >= want.deadline_ms {
                return Err(self.give_up(claim, began, before, seen).await.into());
            }
            if making.is_empty() {
                // Those that died may hold what we wait for.
                if (before == 0 || looks.is_multiple_of(OTHERS_LOOK))
                    && let Err(fault) = self.restore().await
                {
                    // What cannot be cleared up at this moment can be at the next look.
                    tracing::warn!("cannot clear up what the dead left: {fault}");
                    seen = Some(fault);
                }
                looks = looks.wrapping_add(1);
                let jobs = match self.reserve(&want.pool, 1).await {
                    Err(fault) if fault.kind == ErrorKind::NotFound => {
                        return Err(removed(LedgerError::NoPool(want.pool.to_string())).into());
                    }
                    jobs => jobs?,
                };
                for job in jobs {
                    making.push(self.make_beside(&want.pool, job, want.deadline_ms));
                }
                if making.is_empty() {
                    if !want.wait {
                        return Err(self.refuse(claim).await.into());
                    }
                    if !said {
                        said = true;
                        let status = self.ledger.pool(&want.pool).await.map_err(removed)?;
                        say(waiting(&status, before));
                    }
                }
            }
            let until = want.deadline_ms.min(now + pause);
            pause = (pause * 2).min(LOOK_MS.1);
            let made = {
                let rung = listener.rung();
                let woken = async {
                    if making.is_empty() {
                        rung.await;
                        None
                    } else {
                        pin_mut!(rung);
                        match select(making.next(), rung).await {
                            Either::Left((made, _)) => made,
                            Either::Right(((), _)) => None,
                        }
                    }
                };
                let timer = self.world.sleep_until(until);
                pin_mut!(woken, timer);
                match select(woken, timer).await {
                    Either::Left((made, _)) => made,
                    Either::Right(((), _)) => None,
                }
            };
            if let Some(Ok(Err(fault))) = made {
                let status = self.ledger.pool(&want.pool).await.map_err(removed)?;
                if status.counts.alive() == 0 || !want.wait || fault.kind == ErrorKind::Pressure {
                    // Nothing is left that could be waited for, or the user would rather not wait for it.
                    return Err(self.left(claim, fault).await.into());
                }
                seen = Some(fault);
            }
        }
    }

    async fn left(&self, claim: &Claim, fault: Fault) -> Fault {
        match self.ledger.withdraw(&claim.lease, self.world.now()).await {
            Ok(rings) => self.ring(rings).await,
            Err(e) => tracing::warn!("cannot leave the line: {e}"),
        }
        fault
    }

    async fn give_up(&self, claim: &Claim, began: i64, before: u32, seen: Option<Fault>) -> Fault {
        let waited = self.world.now_ms() - began;
        let state = match self.ledger.pool(&claim.pool).await {
            Ok(status) => format!("; {}", tell(&status)),
            Err(_) => String::new(),
        };
        let last = seen
            .map(|f| format!("; the last thing that failed was: {}", f.message))
            .unwrap_or_default();
        let message = format!(
            "no machine of pool {} was free within {:.1} s: {}{state}{last}",
            claim.pool,
            waited as f64 / 1e3,
            place(before),
        );
        let fault = Fault::new(ErrorKind::TimedOut, message)
            .hint("`vmint lease ls` shows who holds them; `vmint pool resize` allows more");
        self.left(claim, fault).await
    }

    async fn refuse(&self, claim: &Claim) -> Fault {
        let state = match self.ledger.pool(&claim.pool).await {
            Ok(status) => tell(&status),
            Err(e) => e.to_string(),
        };
        let message = format!("no machine of pool {} is free: {state}", claim.pool);
        let fault = Fault::new(ErrorKind::Refused, message)
            .hint("wait for one, or allow more with `vmint pool resize`");
        self.left(claim, fault).await
    }
}
