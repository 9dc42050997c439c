//! What the dead left, and what a failure left half done: both are put right by whoever is there.

use super::Pools;
use crate::making::{self, Known};
use futures_util::future::FutureExt;
use std::future::Future;
use std::sync::Arc;
use vmint_model::{Backend, Fault, LeaseId, Ledger, MachineId, SlotState, World};

/// When what failed on the way out is tried again: at first, at most, and how often. Some minutes in all: what keeps the
/// ledger from being written, like a full disk, seldom passes in a second.
const AFTERWARDS: (i64, i64, u32) = (100, 10_000, 30);

impl<B, L, W> Pools<B, L, W>
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
{
    /// Destroys a machine and frees its slot.
    pub(super) async fn discard(&self, machine: &MachineId, why: &str) -> Result<(), Fault> {
        self.backend.destroy(machine).await?;
        let now = self.world.now();
        let rings = self.ledger.gone(machine, Some(why), now).await?;
        self.ring(rings).await;
        Ok(())
    }

    /// Puts right what those left that died: frees the slots of machines without a runner, and of machines that nobody
    /// makes any more; has the line move on.
    pub async fn restore(&self) -> Result<(), Fault> {
        self.restore_what_is_known().await.map(drop)
    }

    /// The same; whether there was nothing of which this process could not tell whether it makes it.
    async fn restore_what_is_known(&self) -> Result<bool, Fault> {
        let process = self.world.process()?;
        let mut complete = true;
        for slot in self.ledger.slots(None).await? {
            // In this order: who is dead now has not started a runner since.
            if slot.state == SlotState::Filling {
                match &slot.maker {
                    Some(maker) if *maker == process => {
                        let known = making::known(&process, &slot.machine);
                        complete &= known != Known::Perhaps;
                        if known != Known::Abandoned {
                            continue;
                        }
                    }
                    Some(maker) if self.world.lives(maker) => continue,
                    _ => {}
                }
            }
            if self.backend.is_alive(&slot.machine).await {
                continue;
            }
            let why = match slot.state {
                SlotState::Filling => "the process that was making it died or gave up",
                _ => "its runner died",
            };
            self.discard(&slot.machine, why).await?;
        }
        let rings = self.ledger.tidy(self.world.now()).await?;
        self.ring(rings).await;
        Ok(complete)
    }
}

/// Gives up a claim whose caller failed, or was dropped, before it knew the outcome.
pub(super) struct Withdraw<'a, B: Backend + 'static, L: Ledger + 'static, W: World + 'static> {
    pub(super) pools: &'a Arc<Pools<B, L, W>>,
    pub(super) lease: Option<LeaseId>,
}

impl<B: Backend, L: Ledger, W: World> Drop for Withdraw<'_, B, L, W> {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let pools = self.pools.clone();
        afterwards(self.pools, move || {
            let (pools, lease) = (pools.clone(), lease.clone());
            async move {
                let rings = pools.ledger.withdraw(&lease, pools.world.now()).await?;
                pools.ring(rings).await;
                Ok(true)
            }
        });
    }
}

/// Puts right what is left of an attempt to make a machine that failed, or was dropped, in the middle.
pub(super) struct PutRight<'a, B: Backend + 'static, L: Ledger + 'static, W: World + 'static> {
    pools: &'a Arc<Pools<B, L, W>>,
    pub(super) done: bool,
}

impl<'a, B: Backend, L: Ledger, W: World> PutRight<'a, B, L, W> {
    pub(super) fn unless_done(pools: &'a Arc<Pools<B, L, W>>) -> Self {
        Self { pools, done: false }
    }
}

impl<B: Backend, L: Ledger, W: World> Drop for PutRight<'_, B, L, W> {
    fn drop(&mut self) {
        if !self.done {
            let pools = self.pools.clone();
            afterwards(self.pools, move || {
                let pools = pools.clone();
                async move { pools.restore_what_is_known().await }
            });
        }
    }
}

/// Does what must be done behind a failure: at once where it need not wait, else beside the caller; again and again while
/// it fails or says that it is not complete. Whoever touches the pool after the end of this process does it at the latest.
fn afterwards<B, L, W, D, F>(pools: &Arc<Pools<B, L, W>>, mut work: D)
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
    D: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<bool, Fault>> + Send,
{
    let at = pools.clone();
    let mut doing = Box::pin(async move {
        let (mut pause, most, attempts) = AFTERWARDS;
        for _ in 0..attempts {
            match work().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(fault) => tracing::warn!("cannot clear up, trying again: {fault}"),
            }
            at.world.sleep_until(at.world.now_ms() + pause).await;
            pause = (pause * 2).min(most);
        }
    });
    if doing.as_mut().now_or_never().is_none() {
        pools.world.spawn(doing);
    }
}
