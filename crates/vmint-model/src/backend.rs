//! Where machines live, and what the code of pools needs besides: a clock, bells, and who is alive.

use crate::{Bell, Fault, Generation, MachineId, Name, Now, PoolRecord, ProcessRef};
use std::future::Future;

/// Where machines live.
pub trait Backend: Send + Sync {
    /// Makes the machine for a slot that is reserved under this id, under admission, and returns when its runner has
    /// told the ledger that it is ready. If it fails, nothing of the machine is left.
    fn create(
        &self,
        pool: &PoolRecord,
        machine: &MachineId,
        deadline_ms: i64,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Whether the machine's runner lives. While it does, the machine is its business. The truth, and cheap.
    fn is_alive(&self, machine: &MachineId) -> impl Future<Output = bool> + Send;
    /// Whether the machine's hypervisor lives, too.
    fn is_up(&self, machine: &MachineId) -> impl Future<Output = bool> + Send;
    /// Asks the guest whether it is well.
    fn check(
        &self,
        machine: &MachineId,
        generation: Generation,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Tells the machine's runner to look into the ledger.
    fn ring(&self, machine: &MachineId) -> impl Future<Output = ()> + Send;
    /// Destroys what there is of a machine, whether its runner lives or not.
    fn destroy(&self, machine: &MachineId) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// What the code of pools needs of the world.
pub trait World: Send + Sync {
    /// A place to be rung.
    type Listener: Listen;

    /// Now, on both clocks.
    fn now(&self) -> Now;
    /// Now, on the steady clock, by which all deadlines go.
    fn now_ms(&self) -> i64 {
        self.now().steady_ms
    }
    /// Returns at that time of the steady clock.
    fn sleep_until(&self, at_ms: i64) -> impl Future<Output = ()> + Send;
    /// Random bits, for ids and jitter.
    fn bits(&self) -> u64;
    /// The calling process.
    fn process(&self) -> Result<ProcessRef, Fault>;
    /// Whether a process lives.
    fn lives(&self, process: &ProcessRef) -> bool;
    /// Runs a task beside the caller, for as long as the calling process lives.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
    /// Has another process fill the pool, and does not wait for it.
    fn tend(&self, pool: &Name);
    /// Makes a bell. It is gone when it is dropped.
    fn listen(&self) -> Result<Self::Listener, Fault>;
    /// Rings a bell; one that is gone is not missed.
    fn ring(&self, bell: &Bell);
}

/// A place to be rung.
pub trait Listen: Send + Sync {
    /// Its address.
    fn bell(&self) -> Bell;
    /// Returns when it has been rung since the last time.
    fn rung(&self) -> impl Future<Output = ()> + Send;
}
