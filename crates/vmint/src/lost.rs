//! What a failure means to whoever holds a machine of his own: one word for one fact.
//!
//! That a machine has ended is met as a connection that broke, as a state in which nothing can be done with it, or as a record
//! that is gone, by how long ago it was. To its holder it is lost, unless somebody has asked for its end. What the log says of the
//! end decides; its runner writes that a moment after it hangs up. Of a machine that is lent, its lease tells (`pools::blame`).

use crate::Vmint;
use std::time::{Duration, Instant};
use vmint_model::{Cause, ErrorKind, Fault, MachineId};

/// How long the log may take to learn of what the machine's runner has seen.
const LEARNS_WITHIN: Duration = Duration::from_secs(1);

impl Vmint {
    /// What a failure with this machine means: that it was lost, if it has ended and nobody had asked for that.
    pub async fn blame_machine(&self, id: &MachineId, fault: Fault) -> Fault {
        let is_cut_off = matches!(fault.kind, ErrorKind::Runner | ErrorKind::MachineLost);
        if !is_cut_off && !matches!(fault.kind, ErrorKind::NotFound | ErrorKind::WrongState) {
            return fault;
        }
        let (end, mut pause) = (Instant::now() + LEARNS_WITHIN, Duration::from_millis(1));
        loop {
            let _ = self.sweep();
            let record = self.store().get(id);
            let Ok(record) = record else { return fault };
            let is_up = record.is_some_and(|record| record.state.has_runner());
            if !is_up {
                return self.how_it_was_lost(id).unwrap_or(fault);
            }
            // What its runner has refused, it has lived to refuse.
            if !is_cut_off || Instant::now() > end {
                return fault;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// What the log says of the end of a machine that nobody had asked to end.
    pub(crate) fn how_it_was_lost(&self, id: &MachineId) -> Option<Fault> {
        let end = self.store().last_end(id).ok().flatten()?;
        if end.cause == Cause::Requested.as_str() || end.cause == Cause::Completed.as_str() {
            return None;
        }
        let why = end.detail.unwrap_or(end.cause);
        let message = format!("machine {} was lost: {why}", end.name);
        Some(Fault::new(ErrorKind::MachineLost, message))
    }
}
