//! A machine's states and the table of legal transitions.
//!
//! ```text
//!            ┌────────────────── start, from the template ◀─────────────┐
//!            ▼                                                          │
//! created ─▶ starting ─▶ running ◀─▶ paused                             │
//!               │         │  │  ▲       │                               │
//!               │  reset, └──│──┘       │                               │
//!               │  restore   ▼          │                               │
//!               │         stopping ◀────┘                               │
//!               │            │                                          │
//!               ▼            ▼                                          │
//!             failed ◀── (any) ──▶ stopped ─────────────────────────────┘
//! ```
//!
//! * Only a runner moves a machine out of `starting`, `running`, `paused` and `stopping`; or, once it has proved by
//!   the machine's lock that no runner lives, whoever finds it dead.
//! * `failed` says that a machine ended otherwise than by request; the record's `reason` says how. It can be started.
//! * `removing` is on the way to being no record at all, and never anything else again.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// Defined, never started.
    Created,
    /// A runner is bringing it up.
    Starting,
    /// Up: a command can be executed.
    Running,
    /// Up, and its processors stand still.
    Paused,
    /// A runner is shutting it down.
    Stopping,
    /// Down by request, or because the guest shut itself down.
    Stopped,
    /// Down for another reason.
    Failed,
    /// Being deleted.
    Removing,
}

/// A transition that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a machine that is {from} cannot become {to}")]
pub struct IllegalTransition {
    /// The state it has.
    pub from: MachineState,
    /// The state it was to have.
    pub to: MachineState,
}

use MachineState::{Created, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};

/// All legal transitions, and nothing else.
const LEGAL: &[(MachineState, &[MachineState])] = &[
    (Created, &[Starting, Removing]),
    (Starting, &[Running, Stopping, Failed, Stopped]),
    (Running, &[Paused, Starting, Stopping, Stopped, Failed]),
    (Paused, &[Running, Starting, Stopping, Stopped, Failed]),
    (Stopping, &[Stopped, Failed]),
    (Stopped, &[Starting, Removing]),
    (Failed, &[Starting, Removing]),
    (Removing, &[]),
];

impl MachineState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Created, Starting, Running, Paused, Stopping, Stopped, Failed, Removing,
    ];

    /// Checks a transition against the table. `running → starting` is a reset or a restore.
    pub fn to(self, to: Self) -> Result<Self, IllegalTransition> {
        let row = LEGAL
            .iter()
            .find(|(from, _)| *from == self)
            .expect("every state has a row")
            .1;
        if row.contains(&to) {
            Ok(to)
        } else {
            Err(IllegalTransition { from: self, to })
        }
    }

    /// Whether a runner must be alive in this state.
    pub fn has_runner(self) -> bool {
        matches!(self, Starting | Running | Paused | Stopping)
    }

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Created => "created",
            Starting => "starting",
            Running => "running",
            Paused => "paused",
            Stopping => "stopping",
            Stopped => "stopped",
            Failed => "failed",
            Removing => "removing",
        }
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A string that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a machine state")]
pub struct UnknownState(String);

impl FromStr for MachineState {
    type Err = UnknownState;

    fn from_str(s: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| UnknownState(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 64 pairs, written out a second time and by another hand than the table.
    #[test]
    fn every_pair_of_states_is_legal_or_refused_as_written_here() {
        let legal = "created-starting created-removing starting-running starting-stopping starting-failed starting-stopped \
            running-paused running-starting running-stopping running-stopped running-failed paused-running paused-starting \
            paused-stopping paused-stopped paused-failed stopping-stopped stopping-failed stopped-starting \
            stopped-removing failed-starting failed-removing";
        let legal: Vec<_> = legal.split_whitespace().collect();
        for from in MachineState::ALL {
            for to in MachineState::ALL {
                let expected = legal.contains(&format!("{from}-{to}").as_str());
                assert_eq!(from.to(to).is_ok(), expected, "{from} → {to}");
            }
        }
    }

    #[test]
    fn a_machine_with_a_runner_is_never_deleted_under_it() {
        for state in MachineState::ALL {
            assert!(
                !(state.has_runner() && state.to(Removing).is_ok()),
                "{state}"
            );
        }
    }

    #[test]
    fn states_read_back() {
        for state in MachineState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("Running".parse::<MachineState>().is_err());
    }
}
