//! Pools to measure, and that none of them stays behind.

use super::rig::Rig;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmint::{Acquire, Lease, Pool, Vmint};
use vmint_model::{ByteSize, ErrorKind, Fault, MachineId, Name, PoolSpec, SlotState};

/// Enough for a guest that runs `true`; many of them are up at once.
pub(crate) const POOL_MEMORY: ByteSize = ByteSize::mib(128);
/// How long all machines of a pool may take to be ready, on a busy host under emulation too.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// How long a pool may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Most of what is awaited here has no bell for those who only watch.
const LOOK: Duration = Duration::from_millis(5);

/// A pool of this run. Dropped half way, it is told to go.
pub(crate) struct BenchPool {
    /// vmint, as pools need it.
    pub vmint: Arc<Vmint>,
    /// The pool.
    pub pool: Pool,
    spec: PoolSpec,
    is_up: bool,
}

impl BenchPool {
    /// A pool of tiny machines, filled, and its standbys parked.
    pub(crate) async fn new(
        rig: &Rig<'_>,
        min: u32,
        max: u32,
        standby: u32,
    ) -> Result<Self, Fault> {
        let pool = Self::begin(rig, min, max, standby).await?;
        pool.settled().await?;
        Ok(pool)
    }

    /// The same, when its machines are ready.
    pub(crate) async fn begin(
        rig: &Rig<'_>,
        min: u32,
        max: u32,
        standby: u32,
    ) -> Result<Self, Fault> {
        let vmint = Arc::new(Vmint::open(rig.vmint.options().clone())?);
        let spec = PoolSpec {
            memory: POOL_MEMORY,
            min,
            max,
            standby,
            ..PoolSpec::of("tiny")
        };
        let name = rig.name();
        let (_, filled) = vmint.create_pool(&name, spec.clone(), rig.progress).await?;
        let made = Self {
            pool: vmint.pool(name.as_str())?,
            vmint,
            spec,
            is_up: true,
        };
        match filled.failed.into_iter().next() {
            Some(fault) => Err(fault.context("cannot fill a pool")),
            None => Ok(made),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Name {
        self.pool.name()
    }

    /// Lends a machine.
    pub(crate) async fn acquire(&self) -> Result<Lease, Fault> {
        self.pool.acquire(Acquire::default()).await
    }

    /// Returns when every machine is ready or lent, and each has parked its standby: nothing of the pool is at work.
    pub(crate) async fn settled(&self) -> Result<(), Fault> {
        let end = Instant::now() + SETTLED_WITHIN;
        loop {
            let slots = self.vmint.slots(Some(self.name()))?;
            let is_done = |state| matches!(state, SlotState::Ready | SlotState::Leased);
            let enough = slots.len() as u32 >= self.spec.min;
            let unsettled = slots.iter().find(|slot| {
                !is_done(slot.state)
                    || self.spec.standby > 0 && !self.has_standby(&slot.machine, slot.generation.0)
            });
            if enough && unsettled.is_none() {
                return Ok(());
            }
            if Instant::now() > end {
                let seen = unsettled.map_or_else(
                    || format!("it has {} machines", slots.len()),
                    |slot| format!("machine {} is {}", slot.machine, slot.state),
                );
                let message = format!(
                    "pool {} did not come to rest within {SETTLED_WITHIN:?}; {seen}",
                    self.name()
                );
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its runner says so in its log, and nowhere else.
    fn has_standby(&self, machine: &MachineId, generation: u64) -> bool {
        let log = self.vmint.home().machine(machine).runner_log();
        let line = format!("a standby is parked generation={} ", generation + 1);
        // It is among the last that a machine at rest has said.
        vmint_qemu::log::tail(&log).contains(&line)
    }

    /// Removes it, and returns when nothing of it is left.
    pub(crate) async fn remove(mut self) -> Result<(), Fault> {
        self.is_up = false;
        self.vmint
            .remove_pool(self.name(), vmint_model::Force::Yes, GONE_WITHIN)
            .await
    }
}

impl Drop for BenchPool {
    fn drop(&mut self) {
        if self.is_up {
            // It is tried again by the next run.
            let _ = self.vmint.abandon_pool(self.name());
        }
    }
}

/// Removes the pools of runs that were killed.
pub(crate) async fn clear_dead(vmint: &Arc<Vmint>) -> Result<(), Fault> {
    for status in vmint.pools()? {
        let name = status.pool.name;
        let is_dead = super::rig::owner(name.as_str())
            .is_some_and(|pid| matches!(vmint_store::process::of(pid), Ok(None)));
        if is_dead {
            vmint
                .remove_pool(&name, vmint_model::Force::Yes, GONE_WITHIN)
                .await?;
        }
    }
    Ok(())
}
