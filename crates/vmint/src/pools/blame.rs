//! What a failure means to whoever holds a lease.
//!
//! A runner that loses its hypervisor hangs up first and writes down afterwards why, a moment later. Who held the machine
//! shall hear that its lease has ended, and how, rather than that a socket is gone; so a failure that may have this cause
//! waits until the ledger knows, for a second at most.

use crate::Vmint;
use std::time::{Duration, Instant};
use vmint_model::{ErrorKind, Fault, LeaseId, LedgerError};

/// How long the ledger may take to learn of what the machine's runner has seen.
const LEARNS_WITHIN: Duration = Duration::from_secs(1);

impl Vmint {
    /// What a failure with the machine of a lease means: that the lease has ended, if it has, or if its machine is going. Of
    /// a machine that is lent, neither happens unless it is lost.
    pub async fn blame_lease(&self, id: &LeaseId, handle: &str, fault: Fault) -> Fault {
        if !is_suspicious(&fault) {
            return fault;
        }
        let (end, mut pause) = (Instant::now() + LEARNS_WITHIN, Duration::from_millis(1));
        loop {
            if let Some(ended) = self.how_it_ended(id) {
                return ended;
            }
            let machine = self.machine(handle);
            let is_up = machine.is_ok_and(|machine| machine.state.has_runner());
            // What its runner has refused, it has lived to refuse.
            if is_up && !is_cut_off(&fault) {
                return fault;
            }
            if Instant::now() > end {
                let kind = if is_up {
                    fault.kind
                } else {
                    ErrorKind::LeaseLost
                };
                return Fault { kind, ..fault };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// The same for what only reads records: as far as it is known now.
    pub(super) fn blame_lease_now(&self, id: &LeaseId, fault: Fault) -> Fault {
        let ended = is_suspicious(&fault).then(|| self.how_it_ended(id));
        ended.flatten().unwrap_or(fault)
    }

    fn how_it_ended(&self, id: &LeaseId) -> Option<Fault> {
        let id = id.clone();
        let lease = self.store().lease(&id).ok()?;
        let ended = lease.ended?;
        let fault = Fault::from(LedgerError::LeaseEnded { id, ended });
        Some(match lease.kept {
            Some(kept) => fault.hint(format!(
                "its disk and logs are kept as machine {kept}: `vmint start {kept}` boots from it"
            )),
            None => fault,
        })
    }
}

/// Whether the end of a lease may be behind it.
fn is_suspicious(fault: &Fault) -> bool {
    is_cut_off(fault)
        || matches!(
            fault.kind,
            ErrorKind::StaleGeneration
                | ErrorKind::NotFound
                | ErrorKind::WrongState
                | ErrorKind::Host
        )
}

/// Whether it says that a connection broke or could not be had.
fn is_cut_off(fault: &Fault) -> bool {
    matches!(fault.kind, ErrorKind::Runner | ErrorKind::MachineLost)
}
