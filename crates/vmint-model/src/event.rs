//! What happened to a machine, and why.

use crate::{MachineId, MachineState, Name};
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
    /// The hypervisor died.
    HypervisorDied,
    /// The guest shut itself down.
    GuestShutdown,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The host was rebooted.
    HostRebooted,
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
            Self::GuestShutdown => "guest_shutdown",
            Self::GuestPanicked => "guest_panicked",
            Self::HostRebooted => "host_rebooted",
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

/// One transition of one machine.
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
    /// The state before; absent for a machine's first event.
    pub from: Option<MachineState>,
    /// The state after; absent for its last, the removal of its record.
    pub to: Option<MachineState>,
    /// Why.
    pub cause: String,
    /// How long the machine had been in the state before.
    pub duration_ms: Option<i64>,
    /// More, for a reader.
    pub detail: Option<String>,
}
