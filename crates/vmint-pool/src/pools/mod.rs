//! Acquire, release, fill, restore: the same code over this host and over `sim`.
//!
//! Invariants, beside those of the ledger:
//! * Whoever reserves a slot makes its machine, or frees the slot. If it dies in between, the slot says who it was, and
//!   [`Pools::restore`] frees it; if it lives and does not know, it finds out by [`making`](crate::making).
//! * A machine is destroyed only when it is nobody's: its runner is dead, or its lease was ended first, for good.
//! * A slot is freed only when nothing of its machine is left; so machines never outnumber slots.
//! * A wait ends at its deadline, and what was being waited for is given back if it came too late.
//!
//! * `acquire`: a lease for a caller; `line`: the wait for one.
//! * `fill`: machines for a pool.
//! * `repair`: what the dead left, and what a failure left half done.
//! * `words`: a pool's state for people.

mod acquire;
mod fill;
mod line;
mod repair;
mod words;

use std::sync::Arc;
use vmint_model::{
    Backend, By, ErrorKind, Fault, Force, LeaseEnd, LeaseId, LeaseRecord, Ledger, LedgerError,
    Name, Owner, PoolChange, PoolRecord, PoolState, PoolStatus, Ring, World,
};
use words::tell;

/// How often those who wait look by themselves, in case a ring was lost with its ringer. At first, and at most.
const LOOK_MS: (i64, i64) = (50, 500);

/// What a caller of [`Pools::acquire`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The pool.
    pub pool: Name,
    /// Who will hold the lease.
    pub owner: Owner,
    /// What for.
    pub label: Option<String>,
    /// How long the lease is given for at a time.
    pub ttl_ms: Option<u64>,
    /// When to give up, on the steady clock.
    pub deadline_ms: i64,
    /// Whether to wait in line when all machines that there may be are lent.
    pub wait: bool,
}

/// What came of filling a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Machines that are ready, or were granted at once.
    pub made: u32,
    /// Creations that failed, and why.
    pub failed: Vec<Fault>,
}

/// Pools over a backend, a ledger and a world.
#[derive(Debug)]
pub struct Pools<B, L, W> {
    /// Where machines live.
    pub backend: B,
    /// Where leases are claimed.
    pub ledger: L,
    /// Clock, bells, and who lives.
    pub world: W,
    /// How many machines one caller makes at once; admission holds back what the host cannot carry.
    pub parallel: u32,
}

impl<B, L, W> Pools<B, L, W>
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
{
    /// Ends a lease. Its machine is reset by its runner, which is told.
    pub async fn release(&self, lease: &LeaseId, by: By<'_>) -> Result<LeaseRecord, Fault> {
        let now = self.world.now();
        let (lease, rings) = self
            .ledger
            .end(lease, by, LeaseEnd::Released, None, now)
            .await?;
        self.ring(rings).await;
        Ok(lease)
    }

    /// Renews a lease, or sends its heartbeat.
    pub async fn renew(&self, lease: &LeaseId, by: By<'_>) -> Result<LeaseRecord, Fault> {
        let now = self.world.now();
        Ok(self.ledger.renew(lease, by, now).await?)
    }

    /// Adds a pool and fills it.
    pub async fn create(
        self: &Arc<Self>,
        pool: &PoolRecord,
        deadline_ms: i64,
    ) -> Result<Filled, Fault> {
        self.declare(pool).await?;
        self.fill(&pool.name, deadline_ms).await
    }

    /// Makes a pool, which is filled by whoever touches it next.
    pub async fn declare(&self, pool: &PoolRecord) -> Result<(), Fault> {
        Ok(self.ledger.create_pool(pool).await?)
    }

    /// Changes a pool, and tells those whom it concerns.
    pub async fn change(&self, pool: &Name, change: PoolChange) -> Result<PoolStatus, Fault> {
        let now = self.world.now();
        let (status, rings) = self.ledger.change_pool(pool, change, now).await?;
        self.ring(rings).await;
        Ok(status)
    }

    /// Removes a pool: what is idle goes at once, what is lent when its lease ends, or by force at once too.
    /// Returns when nothing is left, or at the deadline.
    pub async fn remove(&self, pool: &Name, force: Force, deadline_ms: i64) -> Result<(), Fault> {
        let change = PoolChange {
            state: Some(PoolState::Removing),
            force: force == Force::Yes,
            ..PoolChange::default()
        };
        self.change(pool, change).await?;
        self.empty(pool, deadline_ms).await
    }

    /// Waits until a pool that does not lend any more has no machine left.
    pub async fn empty(&self, pool: &Name, deadline_ms: i64) -> Result<(), Fault> {
        let mut pause = 1;
        loop {
            self.restore().await?;
            let status = match self.ledger.pool(pool).await {
                Err(LedgerError::NoPool(_)) => return Ok(()),
                Ok(status) if status.counts.alive() == 0 => return Ok(()),
                other => other?,
            };
            let now = self.world.now_ms();
            if now >= deadline_ms {
                let message = format!("pool {pool} is not empty yet: {}", tell(&status));
                return Err(Fault::new(ErrorKind::TimedOut, message)
                    .hint("it goes on emptying by itself as its leases end; --force ends them"));
            }
            // The runners take their machines down; the ledger has no bell for those who wait for that.
            self.world.sleep_until(deadline_ms.min(now + pause)).await;
            pause = (pause * 2).min(LOOK_MS.1);
        }
    }

    /// Tells those whom a transaction concerns.
    pub async fn ring(&self, rings: Vec<Ring>) {
        for ring in rings {
            match ring {
                Ring::Machine(machine) => self.backend.ring(&machine).await,
                Ring::Waiter(bell) => self.world.ring(&bell),
            }
        }
    }
}
