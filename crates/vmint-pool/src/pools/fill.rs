//! Machines for a pool: slots reserved, machines made in them, and made again after failures that pass.

use super::repair::PutRight;
use super::{Filled, Pools};
use crate::making::{Asking, Job};
use crate::retry;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use tokio::sync::oneshot;
use vmint_model::{Backend, ErrorKind, Fault, Ledger, LedgerError, Name, World};

impl<B, L, W> Pools<B, L, W>
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
{
    /// Makes what a pool lacks, several at once. One that fails does not stop the others.
    pub async fn fill(self: &Arc<Self>, pool: &Name, deadline_ms: i64) -> Result<Filled, Fault> {
        self.restore().await?;
        let mut filled = Filled::default();
        let mut making = FuturesUnordered::new();
        loop {
            // What failed is not tried for ever: `make` has done so often enough.
            let room = self.parallel.saturating_sub(making.len() as u32);
            if room > 0 && filled.failed.is_empty() {
                for job in self.reserve(pool, room).await? {
                    making.push(self.make_beside(pool, job, deadline_ms));
                }
            }
            match making.next().await {
                None => return Ok(filled),
                Some(Ok(Ok(()))) => filled.made += 1,
                Some(Ok(Err(fault))) => filled.failed.push(fault),
                Some(Err(_gone)) => {
                    let message = "the creation of a machine was given up";
                    filled
                        .failed
                        .push(Fault::new(ErrorKind::Interrupted, message));
                }
            }
        }
    }

    /// Reserves slots for machines that this process makes now.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        pool: &Name,
        limit: u32,
    ) -> Result<Vec<Job>, Fault> {
        let process = self.world.process()?;
        // The guard goes last: it must find abandoned what nobody asks for any more.
        let mut guard = PutRight::unless_done(self);
        let asking = Asking::begin(process.clone());
        let now = self.world.now();
        let reserved = self.ledger.reserve(pool, &process, limit, now).await;
        // A refusal has reserved nothing; a failure may have.
        guard.done = !matches!(reserved, Err(LedgerError::Failed(_)));
        Ok(asking.answered(reserved?.machines))
    }

    /// Makes a machine in a task of its own: it goes on when the one who asked has got another one meanwhile.
    pub(super) fn make_beside(
        self: &Arc<Self>,
        pool: &Name,
        job: Job,
        deadline_ms: i64,
    ) -> oneshot::Receiver<Result<(), Fault>> {
        let (answer, made) = oneshot::channel();
        let (pools, pool) = (self.clone(), pool.clone());
        self.world.spawn(async move {
            let result = pools.make(&pool, job, deadline_ms).await;
            let _ = answer.send(result);
        });
        made
    }

    /// Makes the machine of a reserved slot; when that fails for a cause that passes, another one in another slot.
    async fn make(self: &Arc<Self>, pool: &Name, job: Job, deadline_ms: i64) -> Result<(), Fault> {
        let (mut job, mut failures) = (job, 0);
        loop {
            let fault = match self.make_once(pool, job, deadline_ms).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            failures += 1;
            let pause = retry::pause_ms(failures, self.world.bits());
            let again = self.world.now_ms() + pause;
            if !retry::is_transient(&fault) || failures >= retry::ATTEMPTS || again >= deadline_ms {
                return Err(fault);
            }
            tracing::warn!(
                "a machine of pool {pool} could not be made, trying again in {pause} ms: {fault}"
            );
            self.world.sleep_until(again).await;
            // The slot was freed; perhaps nobody needs another machine any more.
            match self.reserve(pool, 1).await?.pop() {
                Some(next) => job = next,
                None => return Ok(()),
            }
        }
    }

    async fn make_once(
        self: &Arc<Self>,
        pool: &Name,
        job: Job,
        deadline_ms: i64,
    ) -> Result<(), Fault> {
        // The guard goes last: it must find abandoned what nobody makes any more.
        let mut guard = PutRight::unless_done(self);
        let job = job;
        let status = self.ledger.pool(pool).await?;
        let made = self
            .backend
            .create(&status.pool, &job.machine, deadline_ms)
            .await;
        if let Err(fault) = made {
            self.discard(&job.machine, &fault.message).await?;
            guard.done = true;
            return Err(fault);
        }
        guard.done = true;
        Ok(())
    }
}
