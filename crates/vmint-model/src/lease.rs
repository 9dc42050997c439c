//! Leases: who holds which machine, since when, until when, and how it ended.

use crate::{Generation, MachineId, Name, Now, ProcessRef};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A lease's id: 16 random hexadecimal digits behind an `l`. Chosen by whoever asks for the lease, so that asking
/// again after a lost answer gives the same lease and not another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId(String);

impl LeaseId {
    /// A new id.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        Self::from_bits(u64::from_be_bytes(bytes))
    }

    /// The id with these digits; for simulations, which must be the same each time.
    pub fn from_bits(bits: u64) -> Self {
        Self(format!("l{bits:016x}"))
    }

    /// As stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LeaseId {
    type Err = InvalidLeaseId;

    fn from_str(s: &str) -> Result<Self, InvalidLeaseId> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match s.strip_prefix('l') {
            Some(digits) if digits.len() == 16 && digits.bytes().all(hex) => Ok(Self(s.to_owned())),
            _ => Err(InvalidLeaseId(s.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for LeaseId {
    type Error = InvalidLeaseId;

    fn try_from(s: String) -> Result<Self, InvalidLeaseId> {
        s.parse()
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> Self {
        id.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A string that is no [`LeaseId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a lease: an l and 16 hexadecimal digits, as `vmint lease ls` shows them")]
pub struct InvalidLeaseId(String);

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// A process of this host; the lease ends with it.
    Process(ProcessRef),
    /// A client elsewhere; the lease ends when it has not sent a heartbeat for so long.
    Client {
        /// How the client is called.
        name: Name,
        /// In milliseconds.
        heartbeat_ms: u64,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => write!(f, "process {}", process.pid),
            Self::Client { name, .. } => write!(f, "client {name}"),
        }
    }
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseEnd {
    /// Its owner gave it back.
    Released,
    /// Its owner's process ended.
    OwnerEnded,
    /// Its owner's process could not be seen by the machine's runner, which would never learn that it ended.
    OwnerUnseen,
    /// Its time was up.
    Expired,
    /// Its owner sent no heartbeat in time.
    Silent,
    /// Its machine ended.
    MachineLost,
    /// Its pool was removed, and forcibly so.
    PoolRemoved,
}

impl LeaseEnd {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::OwnerEnded => "owner_ended",
            Self::OwnerUnseen => "owner_unseen",
            Self::Expired => "expired",
            Self::Silent => "silent",
            Self::MachineLost => "machine_lost",
            Self::PoolRemoved => "pool_removed",
        }
    }

    /// For a reader, behind “the lease ended: ”.
    pub fn tell(self) -> &'static str {
        match self {
            Self::Released => "it was released",
            Self::OwnerEnded => "its owner's process ended",
            Self::OwnerUnseen => "the machine's runner cannot see its owner's process",
            Self::Expired => "its time was up",
            Self::Silent => "its owner sent no heartbeat in time",
            Self::MachineLost => "its machine was lost",
            Self::PoolRemoved => "its pool was removed by force",
        }
    }

    /// What the holder can do about it.
    pub fn hint(self) -> Option<&'static str> {
        (self == Self::OwnerUnseen).then_some(
            "start the pool's machines on the host itself, whose first PID namespace sees all others, or in this container",
        )
    }
}

impl fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How an owner's process is gone, for the runner that watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerGone {
    /// It has ended.
    Ended,
    /// It cannot be seen, for this reason: nobody would learn that it ended.
    Unseen(String),
}

impl OwnerGone {
    /// How its lease ends, and what a reader is told beside that.
    pub fn lease_end(&self) -> (LeaseEnd, Option<&str>) {
        match self {
            Self::Ended => (LeaseEnd::OwnerEnded, None),
            Self::Unseen(why) => (LeaseEnd::OwnerUnseen, Some(why)),
        }
    }
}

/// That a lease ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub how: LeaseEnd,
    /// When; milliseconds since 1970 in UTC.
    pub at_ms: i64,
    /// More, for a reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A lease: the exclusive right of one owner to one machine at one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its id.
    pub id: LeaseId,
    /// The pool.
    pub pool: Name,
    /// The machine.
    pub machine: MachineId,
    /// The machine's generation: of an older one the lease gives no right, and of a younger one neither.
    pub generation: Generation,
    /// Who holds it.
    pub owner: Owner,
    /// What for, in the owner's words.
    #[serde(default)]
    pub label: Option<String>,
    /// How long it is given for at a time; for ever when absent.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// When it was given; milliseconds since 1970 in UTC.
    pub granted_at_ms: i64,
    /// How long the owner was in line for it.
    pub waited_ms: i64,
    /// When its time is up, unless it is renewed; to be shown. What decides is `expires_steady_ms`.
    #[serde(default)]
    pub expires_at_ms: Option<i64>,
    /// The same on the steady clock.
    #[serde(default)]
    pub expires_steady_ms: Option<i64>,
    /// Until when the owner must send another heartbeat, on the steady clock.
    #[serde(default)]
    pub silent_steady_ms: Option<i64>,
    /// That it ended.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// What is left of its machine, if that is lost, is to be kept as a stopped machine of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_lost: Option<Name>,
    /// The machine that was kept in this way: it has the disk of the one that was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Name>,
    /// The end of what its machine said on its console, when that was lost and nothing else is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

impl LeaseRecord {
    /// The machine at this lease's generation and no other, as commands understand it.
    pub fn handle(&self) -> String {
        format!("{}@{}", self.machine, self.generation)
    }

    /// The same with the times that the wall clock gives now, to be shown.
    #[must_use]
    pub fn shown(self, now: Now) -> Self {
        Self {
            expires_at_ms: self.expires_steady_ms.map(|at| now.wall_of(at)),
            ..self
        }
    }

    /// How it has ended by the clock alone, and `None` while it has not.
    pub fn overdue(&self, now: Now) -> Option<LeaseEnd> {
        let passed = |moment: Option<i64>| moment.is_some_and(|at| at <= now.steady_ms);
        if passed(self.expires_steady_ms) {
            Some(LeaseEnd::Expired)
        } else if passed(self.silent_steady_ms) {
            Some(LeaseEnd::Silent)
        } else {
            None
        }
    }

    /// When the steady clock alone will end it.
    pub fn due_steady_ms(&self) -> Option<i64> {
        [self.expires_steady_ms, self.silent_steady_ms]
            .into_iter()
            .flatten()
            .min()
    }

    /// Counts its times from `now` on: at its beginning, at a renewal, at a heartbeat.
    pub fn renew(&mut self, now: Now) {
        let after = |ms: u64| {
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            now.steady_ms.saturating_add(ms)
        };
        self.expires_steady_ms = self.ttl_ms.map(after);
        self.expires_at_ms = self.expires_steady_ms.map(|at| now.wall_of(at));
        self.silent_steady_ms = match self.owner {
            Owner::Client { heartbeat_ms, .. } => Some(after(heartbeat_ms)),
            Owner::Process(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_nothing_else_does() {
        let id = LeaseId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for bad in [
            "",
            "l",
            "l12",
            "m0123456789abcdef",
            "l0123456789ABCDEF",
            "l0123456789abcdef0",
        ] {
            assert!(bad.parse::<LeaseId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lease_ends_by_the_clock_when_its_time_or_its_owners_silence_is_up() {
        let mut lease = LeaseRecord {
            id: LeaseId::from_bits(1),
            pool: "p".parse().unwrap(),
            machine: MachineId::random(),
            generation: Generation(1),
            owner: Owner::Client {
                name: "c".parse().unwrap(),
                heartbeat_ms: 10,
            },
            label: None,
            ttl_ms: Some(100),
            granted_at_ms: 0,
            waited_ms: 0,
            expires_at_ms: None,
            expires_steady_ms: None,
            silent_steady_ms: None,
            ended: None,
            keep_lost: None,
            kept: None,
            console: None,
        };
        let at = |steady_ms, wall_ms| Now { steady_ms, wall_ms };
        lease.renew(at(1000, 77_000));
        assert_eq!(lease.due_steady_ms(), Some(1010));
        // Whatever the wall clock says.
        for wall_ms in [0, 77_009, i64::MAX] {
            assert_eq!(lease.overdue(at(1009, wall_ms)), None);
            assert_eq!(lease.overdue(at(1010, wall_ms)), Some(LeaseEnd::Silent));
        }
        assert_eq!(lease.expires_at_ms, Some(77_100));
        assert_eq!(lease.clone().shown(at(1050, 5)).expires_at_ms, Some(55));
        lease.silent_steady_ms = None;
        assert_eq!(lease.overdue(at(1099, 0)), None);
        assert_eq!(lease.overdue(at(1100, 0)), Some(LeaseEnd::Expired));
    }
}
