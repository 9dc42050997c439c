//! What happened to a machine, and why.

use crate::{LeaseId, MachineId, MachineState, Name, SlotState};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a machine's state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A command or an API call asked for it.
    Requested,
    /// A step that was asked for is done.
    Completed,
    /// The process that owned the machine ended.
    OwnerEnded,
    /// The runner died.
    RunnerDied,
    /// The hypervisor was ended from outside, in which its guest had no part.
    HypervisorDied,
    /// The hypervisor ended by itself. Whether its guest had a part in it is not known.
    HypervisorEnded,
    /// The guest shut itself down.
    GuestShutdown,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The guest broke the protocol.
    ProtocolBroken,
    /// The host was rebooted.
    HostRebooted,
    /// Its home was copied or moved, or the home's database was replaced.
    HomeChanged,
    /// A deadline passed.
    TimedOut,
    /// vmint, QEMU or the host failed.
    Fault,
}

impl Cause {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Completed => "completed",
            Self::OwnerEnded => "owner_ended",
            Self::RunnerDied => "runner_died",
            Self::HypervisorDied => "hypervisor_died",
            Self::HypervisorEnded => "hypervisor_ended",
            Self::GuestShutdown => "guest_shutdown",
            Self::GuestPanicked => "guest_panicked",
            Self::ProtocolBroken => "protocol_broken",
            Self::HostRebooted => "host_rebooted",
            Self::HomeChanged => "home_changed",
            Self::TimedOut => "timed_out",
            Self::Fault => "fault",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "lowercase")]
pub enum Change {
    /// A machine's state.
    Machine {
        /// The state before; absent for a machine's first event.
        from: Option<MachineState>,
        /// The state after; absent for its last, the removal of its record.
        to: Option<MachineState>,
    },
    /// The state of a machine's slot in its pool.
    Slot {
        /// The pool.
        pool: Name,
        /// The lease that began or ended with it.
        lease: Option<LeaseId>,
        /// The state before; absent for a slot's first event.
        from: Option<SlotState>,
        /// The state after; absent for its last.
        to: Option<SlotState>,
    },
}

/// One transition of one machine, or of its slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event in a store.
    pub sequence: i64,
    /// Milliseconds since 1970 in UTC.
    pub at_ms: i64,
    /// The machine.
    pub machine: MachineId,
    /// Its name at the time.
    pub name: Name,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
    /// Why.
    pub cause: String,
    /// How long it had been in the state before.
    pub duration_ms: Option<i64>,
    /// More, for a reader.
    pub detail: Option<String>,
}

impl Event {
    /// The states before and after, of an event of a machine.
    pub fn machine_states(&self) -> Option<(Option<MachineState>, Option<MachineState>)> {
        match self.change {
            Change::Machine { from, to } => Some((from, to)),
            Change::Slot { .. } => None,
        }
    }

    /// Whether the machine is down after it.
    pub fn is_end(&self) -> bool {
        matches!(&self.change, Change::Machine { to, .. } if to.is_none_or(|to| !to.has_runner()))
    }
}
