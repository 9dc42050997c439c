//! Which machines this process is making.
//!
//! A slot that is being filled says which process fills it. That the process lives proves nothing: it may never have learnt
//! that it reserved the slot, because the answer was lost or nobody waited for it any more; or the call that was to free the
//! slot failed. So a process remembers what it makes, for all of its tasks, and a slot of its own that it does not know is
//! abandoned. While an answer is outstanding it cannot tell, and does not judge.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use vmint_model::{MachineId, ProcessRef};

/// What one process makes. Simulated processes share an address space, so it is kept for each.
#[derive(Default)]
struct Making {
    machines: BTreeSet<MachineId>,
    /// How many answers are outstanding.
    asking: u32,
}

fn all() -> MutexGuard<'static, HashMap<ProcessRef, Making>> {
    static ALL: LazyLock<Mutex<HashMap<ProcessRef, Making>>> = LazyLock::new(Mutex::default);
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(process: &ProcessRef, change: impl FnOnce(&mut Making)) {
    let mut all = all();
    let making = all.entry(process.clone()).or_default();
    change(making);
    if making.asking == 0 && making.machines.is_empty() {
        all.remove(process);
    }
}

/// What a process knows of a slot that is its own to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It makes its machine.
    Making,
    /// It cannot tell: it has asked for slots, and has no answer yet.
    Perhaps,
    /// It does not make it.
    Abandoned,
}

/// What `process`, which is the calling one, knows of this machine.
pub(crate) fn known(process: &ProcessRef, machine: &MachineId) -> Known {
    match all().get(process) {
        Some(making) if making.machines.contains(machine) => Known::Making,
        Some(making) if making.asking > 0 => Known::Perhaps,
        _ => Known::Abandoned,
    }
}

/// Slots are being asked for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Asking(ProcessRef);

impl Asking {
    /// Begins to ask.
    pub(crate) fn begin(process: ProcessRef) -> Self {
        change(&process, |making| making.asking += 1);
        Self(process)
    }

    /// What came of it. At no moment in between is any of these slots abandoned.
    pub(crate) fn answered(self, machines: Vec<MachineId>) -> Vec<Job> {
        let process = &self.0;
        let job = |machine: MachineId| {
            change(process, |making| {
                making.machines.insert(machine.clone());
            });
            Job {
                process: process.clone(),
                machine,
            }
        };
        machines.into_iter().map(job).collect()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        change(&self.0, |making| making.asking -= 1);
    }
}

/// A machine is being made, until it is dropped.
#[derive(Debug)]
pub(crate) struct Job {
    process: ProcessRef,
    /// The machine.
    pub(crate) machine: MachineId,
}

impl Drop for Job {
    fn drop(&mut self) {
        change(&self.process, |making| {
            making.machines.remove(&self.machine);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_abandoned_when_nobody_asks_for_it_or_makes_its_machine() {
        let process = ProcessRef {
            pid: 1,
            start_time: 2,
            boot_id: "making".into(),
            namespace: None,
        };
        let machine = MachineId::random();
        let is = |known_as| assert_eq!(known(&process, &machine), known_as);
        is(Known::Abandoned);
        let lost = Asking::begin(process.clone());
        is(Known::Perhaps);
        let asking = Asking::begin(process.clone());
        let jobs = asking.answered(vec![machine.clone()]);
        is(Known::Making);
        drop(jobs);
        is(Known::Perhaps);
        drop(lost);
        is(Known::Abandoned);
        assert!(!all().contains_key(&process));
    }
}
