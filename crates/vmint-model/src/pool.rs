//! Pools: what their machines are, how many there may be, and what state each one's slot is in.
//!
//! A machine of a pool occupies a *slot* from before it exists until nothing is left of it. Slots are what a pool's
//! maximum counts, so a machine that is being made, made fresh or taken down counts as much as one that is lent.
//!
//! ```text
//!   reserve                   claim              lease ends
//! ──────────▶ filling ─▶ ready ─────▶ leased ──────────────▶ resetting
//!                │         │  ▲         │                        │ │
//!                │         │  └─────────│────────────────────────┘ │
//!                ▼         ▼            ▼                          ▼
//!              (gone) ◀─ retiring ◀─────┴──────────────────────────┘
//! ```
//!
//! * `filling → leased` and `resetting → leased` happen too: a machine that gets ready while somebody waits in line is
//!   granted in the same transaction, so no later comer can take it.
//! * From every state a slot may vanish: then its machine has died, and its lease, if any, ended with it.

use crate::{ByteSize, Generation, Limits, MachineId, Name, NetMode, Now, ProcessRef};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a pool's machines are, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// The image.
    pub image: String,
    /// Memory of each machine.
    pub memory: ByteSize,
    /// Virtual processors of each machine.
    pub cpus: u32,
    /// Network of each machine.
    #[serde(default)]
    pub net: NetMode,
    /// What each machine may take of its host.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Machines kept ready.
    pub min: u32,
    /// Machines that may be alive at once, in whatever state.
    pub max: u32,
    /// Forks that each machine keeps parked at most, to be swapped in when it is reset: none, or one, and more as resets come faster than
    /// one is made.
    pub standby: u32,
    /// After this long a machine is replaced, when it is not lent.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// After so many leases a machine is replaced.
    #[serde(default)]
    pub max_uses: Option<u32>,
}

impl PoolSpec {
    /// Two to eight machines of `image`, with 512 MiB, one processor and no network.
    pub fn of(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            memory: ByteSize::mib(512),
            cpus: 1,
            net: NetMode::None,
            limits: Limits::default(),
            min: 2,
            max: 8,
            standby: 1,
            ttl_ms: Some(3_600_000),
            max_uses: None,
        }
    }
}

/// Whether a pool lends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolState {
    /// It lends.
    Open,
    /// It does not lend any more; its machines go as their leases end. A resize opens it again.
    Drained,
    /// The same, and the pool goes with its last machine.
    Removing,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Its name.
    pub name: Name,
    /// Whether it lends.
    pub state: PoolState,
    /// What it consists of.
    pub spec: PoolSpec,
    /// Milliseconds since 1970 in UTC.
    pub created_at_ms: i64,
}

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// Its machine is being made.
    Filling,
    /// Its machine is fresh, checked and warm, and nobody's.
    Ready,
    /// Its machine is lent.
    Leased,
    /// Its machine is being made fresh.
    Resetting,
    /// Its machine is being taken down, to be replaced or not.
    Retiring,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its machine.
    pub machine: MachineId,
    /// Its pool.
    pub pool: Name,
    /// Its state.
    pub state: SlotState,
    /// The machine's generation.
    pub generation: Generation,
    /// How often the machine was lent.
    pub uses: u32,
    /// When the slot was reserved. All times are the steady clock's.
    pub born_at_ms: i64,
    /// Since when it is in this state.
    pub since_ms: i64,
    /// When its guest last answered.
    pub checked_at_ms: i64,
    /// Who makes the machine, until its runner does.
    pub maker: Option<ProcessRef>,
}

/// How many slots of a pool are in each state, and how many owners wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Being made.
    pub filling: u32,
    /// To be had at once.
    pub ready: u32,
    /// Lent.
    pub leased: u32,
    /// Being made fresh.
    pub resetting: u32,
    /// Being taken down.
    pub retiring: u32,
    /// In line.
    pub waiting: u32,
}

impl Slot {
    /// The same with the times that the wall clock gives, to be shown.
    #[must_use]
    pub fn shown(self, now: Now) -> Self {
        Self {
            born_at_ms: now.wall_of(self.born_at_ms),
            since_ms: now.wall_of(self.since_ms),
            checked_at_ms: now.wall_of(self.checked_at_ms),
            ..self
        }
    }
}

impl Counts {
    /// All machines, whatever their state: what the maximum limits.
    pub fn alive(&self) -> u32 {
        self.filling + self.ready + self.leased + self.resetting + self.retiring
    }

    /// How many machines to make now, that `min` be ready and everybody in line be served, under `max`.
    pub fn missing(&self, spec: &PoolSpec) -> u32 {
        let coming = self.ready + self.filling + self.resetting;
        let wanted = spec.min + self.waiting;
        let room = spec.max.saturating_sub(self.alive());
        wanted.saturating_sub(coming).min(room)
    }
}

impl SlotState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Filling,
        Self::Ready,
        Self::Leased,
        Self::Resetting,
        Self::Retiring,
    ];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Resetting => "resetting",
            Self::Retiring => "retiring",
        }
    }

    /// Whether a slot may go from this state to that.
    pub fn may_become(self, to: Self) -> bool {
        use SlotState::{Filling, Leased, Ready, Resetting, Retiring};
        match self {
            Filling | Resetting => matches!(to, Ready | Leased | Retiring),
            Ready => matches!(to, Leased | Retiring),
            Leased => matches!(to, Resetting | Retiring),
            Retiring => false,
        }
    }
}

impl PoolState {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Drained => "drained",
            Self::Removing => "removing",
        }
    }
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A string that names no state of a slot or a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a state of a {1}")]
pub struct UnknownPoolState(String, &'static str);

impl FromStr for SlotState {
    type Err = UnknownPoolState;

    fn from_str(s: &str) -> Result<Self, UnknownPoolState> {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == s)
            .ok_or_else(|| UnknownPoolState(s.to_owned(), "slot"))
    }
}

impl FromStr for PoolState {
    type Err = UnknownPoolState;

    fn from_str(s: &str) -> Result<Self, UnknownPoolState> {
        let mut all = [Self::Open, Self::Drained, Self::Removing].into_iter();
        all.find(|state| state.as_str() == s)
            .ok_or_else(|| UnknownPoolState(s.to_owned(), "pool"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(min: u32, max: u32) -> PoolSpec {
        PoolSpec {
            image: "tiny".into(),
            memory: ByteSize::mib(128),
            cpus: 1,
            net: NetMode::None,
            limits: Limits::default(),
            min,
            max,
            standby: 1,
            ttl_ms: None,
            max_uses: None,
        }
    }

    #[test]
    fn what_is_missing_fills_up_to_min_serves_the_line_and_stays_under_max() {
        let counts = Counts::default();
        assert_eq!(counts.missing(&spec(2, 8)), 2);
        assert_eq!(counts.missing(&spec(3, 2)), 2);
        let counts = Counts {
            ready: 1,
            leased: 5,
            retiring: 1,
            waiting: 4,
            ..counts
        };
        assert_eq!(counts.alive(), 7);
        assert_eq!(counts.missing(&spec(0, 8)), 1);
        assert_eq!(counts.missing(&spec(0, 20)), 3);
        assert_eq!(counts.missing(&spec(0, 3)), 0);
    }

    /// All 25 pairs, written out a second time.
    #[test]
    fn every_pair_of_slot_states_is_legal_or_refused_as_written_here() {
        let legal = "filling-ready filling-leased filling-retiring ready-leased ready-retiring leased-resetting \
            leased-retiring resetting-ready resetting-leased resetting-retiring";
        let legal: Vec<_> = legal.split_whitespace().collect();
        for from in SlotState::ALL {
            assert_eq!(from.as_str().parse(), Ok(from));
            for to in SlotState::ALL {
                let expected = legal.contains(&format!("{from}-{to}").as_str());
                assert_eq!(from.may_become(to), expected, "{from} → {to}");
            }
        }
    }
}
