//! What an interrupted command has half done.
//!
//! During a build there is no machine yet. A fork takes a moment: it is waited for, and removed by its id. A boot takes
//! longer: its machine is found by what it must be, of that name, not older than the command, and still coming up.

use crate::context::{self, interrupted};
use std::time::Duration;
use vmint::{Fault, Force, MachineRecord, MachineState, Vmint, now_ms};

/// How long an interrupted command may still take.
const GRACE: Duration = Duration::from_secs(2);

/// Waits for what makes machines of these names; interrupted, removes those that it made.
pub fn wait(
    vmint: &Vmint,
    is_ours: impl Fn(&MachineRecord) -> bool,
    work: impl Future<Output = Result<Vec<MachineRecord>, Fault>>,
) -> Result<Vec<MachineRecord>, Fault> {
    let since_ms = now_ms();
    context::block_on(async |signals| {
        let mut work = Box::pin(work);
        let signal = tokio::select! {
            made = &mut work => return made,
            signal = signals.next() => signal,
        };
        let ours = || {
            let all = vmint.machines().unwrap_or_default().into_iter();
            all.filter(|r| r.created_at_ms >= since_ms && is_ours(r))
                .collect::<Vec<_>>()
        };
        if ours().is_empty() {
            // Still at a build.
            return Err(interrupted(signal));
        }
        let made = tokio::select! {
            made = tokio::time::timeout(GRACE, &mut work) => made,
            _ = signals.next() => return Err(interrupted(signal)),
        };
        drop(work);
        let mut left = match made {
            Ok(Ok(records)) => records,
            // It has cleared up after itself.
            Ok(Err(_)) => Vec::new(),
            Err(_) => ours(),
        };
        while let Some(record) = left.pop() {
            tokio::select! {
                _ = vmint.remove(record.id.as_str(), Force::Yes) => {}
                _ = signals.next() => break,
            }
        }
        Err(interrupted(signal))
    })
}

/// Whether a machine still comes up.
pub fn is_coming_up(record: &MachineRecord) -> bool {
    record.state == MachineState::Starting
}
