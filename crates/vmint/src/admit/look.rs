//! One look: what the host has and what is booked, put to the decision, in the order in which it must be read.

use super::Boots;
use crate::Vmint;
use crate::memory::{HostMemory, private_memory};
use std::collections::HashMap;
use vmint_model::{ByteSize, ErrorKind, Fault, MachineId, ProcessRef};
use vmint_pool::admission::{Need, Reason, Situation, Verdict, decide, promise};
use vmint_store::admission::{Request, Wait};
use vmint_store::{Moment, process};

/// How it looked.
pub(super) enum Looked {
    Admitted,
    Held(Reason),
    Never(Fault),
}

impl Vmint {
    /// Looks once, and takes what is wanted if it is there. The order of the readings matters: see
    /// [`vmint_pool::admission`].
    pub(super) fn look(
        &self,
        boots: &Boots,
        holder: &ProcessRef,
        wait: Option<Wait>,
    ) -> Result<Looked, Fault> {
        let live = self.store().live()?;
        let before: Vec<u64> = live
            .iter()
            .map(|machine| {
                machine
                    .hypervisor
                    .as_ref()
                    .map_or(0, |h| private_memory(h.pid))
            })
            .collect();
        let host = HostMemory::read();
        let taken: HashMap<MachineId, u64> = live
            .iter()
            .zip(before)
            .filter(|(machine, _)| machine.hypervisor.as_ref().is_some_and(process::is_alive))
            .map(|(machine, before)| {
                let pid = machine.hypervisor.as_ref().map_or(0, |h| h.pid);
                (machine.machine.clone(), before.min(private_memory(pid)))
            })
            .collect();
        let without_row: Vec<_> = live
            .iter()
            .map(|machine| (machine.machine.clone(), promise(machine.memory, 0, 0)))
            .collect();
        let limits = self.options.admission.limits();
        let need = Need {
            bytes: promise(boots.memory.0, boots.shared, boots.standbys),
            boot: boots.boot,
        };
        let request = Request {
            machine: boots.machine.clone(),
            bytes: need.bytes,
            boot: boots.boot,
            holder: holder.clone(),
            wait,
        };
        let mut store = self.store();
        let decided = store.admit(&request, Moment::now(), &without_row, |booked| {
            let mut now = Situation {
                available: host.available(),
                total: host.total(),
                swap: host.info.swap_percent(),
                pressure: host.pressure,
                machines: booked.promises.len() as u32,
                boots: booked.boots,
                ahead_bytes: booked.ahead_bytes,
                ahead_boots: booked.ahead_boots,
                ..Situation::default()
            };
            for (machine, promised) in &booked.promises {
                let taken = taken.get(machine).copied().unwrap_or(0);
                now.promised = now.promised.saturating_add(taken.max(*promised));
                now.taken = now.taken.saturating_add(taken);
            }
            for awaited in &booked.awaited {
                now.held.add(awaited);
            }
            match decide(&limits, &now, &need) {
                Verdict::Admit => Ok(()),
                Verdict::Hold(reason) => Err((reason.word(), Looked::Held(reason))),
                Verdict::Never { need, most } => {
                    let never = Looked::Never(never(boots, need, most));
                    Err(("never", never))
                }
            }
        });
        Ok(match decided? {
            Ok(()) => Looked::Admitted,
            Err(looked) => looked,
        })
    }
}

fn never(boots: &Boots, need: u64, most: u64) -> Fault {
    let message = format!(
        "{} needs {} of memory, and this host can promise {} in all",
        boots.what,
        ByteSize(need),
        ByteSize(most)
    );
    Fault::new(ErrorKind::Refused, message)
        .hint("ask for less with --memory, or raise admission.overcommit in vmint.toml")
}
