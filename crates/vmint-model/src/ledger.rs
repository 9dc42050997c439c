//! Where leases are recorded and claimed.
//!
//! Every method is one transaction: it happens wholly or not at all, and no two overlap. What must hold between pools,
//! slots, lines and leases is decided here and nowhere else:
//!
//! * A pool never has more slots than its maximum: [`Ledger::reserve`] counts and reserves in one transaction.
//! * A slot has at most one lease that has not ended, and is `leased` exactly while it has one.
//! * A slot is never `ready` while somebody waits in line: whoever makes it ready grants it to the first of the line.
//! * An owner comes back with the same [`LeaseId`] after a lost answer; asking twice is asking once.
//!
//! A transaction tells nobody. It gives back whom to [`Ring`], and the caller rings; a ring that gets lost costs time
//! only, for runners and waiters also look by themselves.

use crate::{
    Counts, ErrorKind, Fault, Generation, LeaseEnd, LeaseId, LeaseRecord, MachineId, Name, Now,
    Owner, OwnerGone, PoolRecord, PoolSpec, PoolState, ProcessRef, Slot,
};
use serde::{Deserialize, Serialize};
use std::future::Future;

/// Where a waiter listens: on this host the path of a datagram socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bell(pub String);

/// Whom a transaction concerns besides its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The runner of a machine: its [`Duty`] has changed.
    Machine(MachineId),
    /// A waiter: it has a lease now, or no hope of one.
    Waiter(Bell),
}

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease that it wants, by an id of its own choice.
    pub lease: LeaseId,
    /// The pool.
    pub pool: Name,
    /// Who will hold it.
    pub owner: Owner,
    /// What for.
    pub label: Option<String>,
    /// How long it is given for at a time.
    pub ttl_ms: Option<u64>,
    /// The line to wait in when there is no machine; without one the caller does not wait.
    pub wait: Option<Waiter>,
}

/// A place in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Where to ring.
    pub bell: Bell,
    /// Who waits; it leaves the line when it dies.
    pub process: ProcessRef,
    /// When it gives up, on the steady clock.
    pub deadline_ms: i64,
}

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The owner holds the lease.
    Leased {
        /// The lease.
        lease: Box<LeaseRecord>,
        /// The guest was last heard of longer ago than [`CHECK_AFTER_MS`]: ask it before it is handed out.
        stale: bool,
        /// The pool has fewer machines ready now than it should have.
        missing: bool,
    },
    /// The owner is in line, with so many before it.
    Waiting {
        /// How many come first.
        before: u32,
    },
    /// There is no machine to be had, and the claim said not to wait.
    None,
}

/// How fresh the news of a ready guest must be for it to be lent unasked.
pub const CHECK_AFTER_MS: i64 = 2_000;

/// Slots reserved for machines that the caller must make now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// The ids that the machines must have.
    pub machines: Vec<MachineId>,
}

/// What became of a machine that got ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readied {
    /// It waits to be lent.
    Ready,
    /// The first of the line holds it.
    Granted(Box<LeaseRecord>),
    /// The pool does not want it any more: take it down.
    Retire,
}

/// What a machine's runner is to do, apart from serving requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing; look again at this time, if at any.
    Idle {
        /// On the steady clock.
        until_ms: Option<i64>,
    },
    /// Watch the owner of this lease, and look again when it is due.
    Guard(Box<LeaseRecord>),
    /// Make the machine fresh, then say that it is ready.
    Reset,
    /// Take it down.
    Retire,
    /// It has no slot in any pool.
    None,
}

/// What to change about a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolChange {
    /// Machines kept ready.
    pub min: Option<u32>,
    /// Machines alive at once.
    pub max: Option<u32>,
    /// Whether it lends. From [`PoolState::Removing`] there is no way back.
    pub state: Option<PoolState>,
    /// With [`PoolState::Removing`]: ends the leases that are out.
    pub force: bool,
}

/// Who wants to end a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// This owner; it must be its own.
    Owner(&'a Owner),
    /// Somebody who may end anybody's: the runner, an administrator.
    Anybody,
}

/// What stands in the ledger about a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The pool.
    #[serde(flatten)]
    pub pool: PoolRecord,
    /// Its machines by state.
    pub counts: Counts,
}

/// How the ledger refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No pool has this name.
    #[error("there is no pool {0:?}")]
    NoPool(String),
    /// Another pool has this name.
    #[error("there is already a pool {0}")]
    PoolExists(Name),
    /// The pool does not lend.
    #[error("pool {name} {}", match state { PoolState::Removing => "is being removed", _ => "is drained: it lends no machines" })]
    PoolClosed {
        /// The pool.
        name: Name,
        /// Drained or being removed.
        state: PoolState,
    },
    /// No lease has this id.
    #[error("there is no lease {0}")]
    NoLease(LeaseId),
    /// The lease is over.
    #[error("lease {id} has ended: {}{}", ended.how.tell(), ended.detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    LeaseEnded {
        /// The lease.
        id: LeaseId,
        /// How it ended.
        ended: crate::lease::Ended,
    },
    /// The lease is somebody else's.
    #[error("lease {id} is held by {owner}")]
    NotOwner {
        /// The lease.
        id: LeaseId,
        /// Who holds it.
        owner: Owner,
    },
    /// A lease id that is in use for another claim.
    #[error("lease {0} was claimed for something else")]
    LeaseTaken(LeaseId),
    /// The machine has no slot, or is of another generation there.
    #[error("machine {machine} has no slot of generation {generation} in any pool")]
    NoSlot {
        /// The machine.
        machine: MachineId,
        /// The generation that was spoken of.
        generation: Generation,
    },
    /// The ledger itself failed.
    #[error("{0}")]
    Failed(Fault),
}

impl LedgerError {
    /// For the doors.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPool(_) | Self::NoLease(_) => ErrorKind::NotFound,
            Self::PoolExists(_) | Self::LeaseTaken(_) => ErrorKind::AlreadyExists,
            Self::PoolClosed { .. } => ErrorKind::PoolClosed,
            Self::LeaseEnded { ended, .. } if ended.how == LeaseEnd::OwnerUnseen => {
                ErrorKind::Refused
            }
            Self::LeaseEnded { .. } => ErrorKind::LeaseLost,
            Self::NotOwner { .. } => ErrorKind::NotOwner,
            Self::NoSlot { .. } => ErrorKind::StaleGeneration,
            Self::Failed(fault) => fault.kind,
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(e: LedgerError) -> Self {
        let fault = Self::new(e.kind(), e.to_string());
        match e {
            LedgerError::Failed(fault) => fault,
            LedgerError::NoPool(_) => fault.hint("run `vmint pool ls` to list pools"),
            LedgerError::NoLease(_) => fault.hint("run `vmint lease ls` to list leases"),
            LedgerError::PoolClosed {
                name,
                state: PoolState::Drained,
            } => fault.hint(format!("vmint pool resize {name} opens it again")),
            LedgerError::NotOwner { .. } => fault.hint("--force ends it all the same"),
            LedgerError::LeaseEnded { ended, .. } => match ended.how.hint() {
                Some(hint) => fault.hint(hint),
                None => fault,
            },
            _ => fault,
        }
    }
}

/// Where leases are recorded and claimed. What is decided by time is decided by the caller's steady clock; see [`clock`](crate::clock).
pub trait Ledger: Send + Sync {
    /// Adds a pool.
    fn create_pool(
        &self,
        pool: &PoolRecord,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// A pool and its counts.
    fn pool(&self, name: &Name) -> impl Future<Output = Result<PoolStatus, LedgerError>> + Send;
    /// All pools, by name.
    fn pools(&self) -> impl Future<Output = Result<Vec<PoolStatus>, LedgerError>> + Send;
    /// Changes a pool. Machines that are now too many, or not wanted at all, and not lent, start to retire.
    fn change_pool(
        &self,
        name: &Name,
        change: PoolChange,
        now: Now,
    ) -> impl Future<Output = Result<(PoolStatus, Vec<Ring>), LedgerError>> + Send;
    /// Takes a ready machine, or joins the line. Never overtakes the line.
    fn claim(
        &self,
        claim: &Claim,
        now: Now,
    ) -> impl Future<Output = Result<(Claimed, Vec<Ring>), LedgerError>> + Send;
    /// Leaves the line and gives the lease back, whichever the claim has come to. For one that is gone, nothing.
    fn withdraw(
        &self,
        lease: &LeaseId,
        now: Now,
    ) -> impl Future<Output = Result<Vec<Ring>, LedgerError>> + Send;
    /// Reserves slots for what [`Counts::missing`] says, at most `limit`; `maker` will make the machines.
    fn reserve(
        &self,
        pool: &Name,
        maker: &ProcessRef,
        limit: u32,
        now: Now,
    ) -> impl Future<Output = Result<Reserved, LedgerError>> + Send;
    /// The machine can be lent, at this generation; its runner says so.
    fn ready(
        &self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> impl Future<Output = Result<(Readied, Vec<Ring>), LedgerError>> + Send;
    /// The guest of a machine has answered.
    fn checked(
        &self,
        machine: &MachineId,
        now: Now,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// The owner has had its machine reset; the lease is of this generation now.
    fn advance(
        &self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Nothing is left of the machine: frees its slot, and ends its lease if it has one.
    fn gone(
        &self,
        machine: &MachineId,
        why: Option<&str>,
        now: Now,
    ) -> impl Future<Output = Result<Vec<Ring>, LedgerError>> + Send;
    /// What the machine's runner is to do. What the clock has decided is written down first.
    fn duty(
        &self,
        machine: &MachineId,
        now: Now,
    ) -> impl Future<Output = Result<Duty, LedgerError>> + Send;
    /// Ends a lease. Its machine is to be reset, or retires.
    fn end(
        &self,
        lease: &LeaseId,
        by: By<'_>,
        how: LeaseEnd,
        detail: Option<&str>,
        now: Now,
    ) -> impl Future<Output = Result<(LeaseRecord, Vec<Ring>), LedgerError>> + Send;
    /// Tells that a lease's owner is gone: the lease ends, unless it has ended. Of a machine's runner, which alone watches the owner.
    fn owner_gone(
        &self,
        lease: &LeaseId,
        gone: &OwnerGone,
        now: Now,
    ) -> impl Future<Output = Result<Vec<Ring>, LedgerError>> + Send;
    /// Renews a lease, which is a heartbeat too.
    fn renew(
        &self,
        lease: &LeaseId,
        by: By<'_>,
        now: Now,
    ) -> impl Future<Output = Result<LeaseRecord, LedgerError>> + Send;
    /// A lease, ended or not. Ended ones are forgotten after a while.
    fn lease(&self, id: &LeaseId) -> impl Future<Output = Result<LeaseRecord, LedgerError>> + Send;
    /// All leases that have not ended, the oldest first.
    fn leases(&self) -> impl Future<Output = Result<Vec<LeaseRecord>, LedgerError>> + Send;
    /// The slots of a pool, or of all.
    fn slots(
        &self,
        pool: Option<&Name>,
    ) -> impl Future<Output = Result<Vec<Slot>, LedgerError>> + Send;
    /// Puts right what those left that died: waiters leave the line, ready machines are granted to those who still
    /// wait, pools that are being removed and have no machine go. Slots are freed by [`Ledger::gone`].
    fn tidy(&self, now: Now) -> impl Future<Output = Result<Vec<Ring>, LedgerError>> + Send;
}

impl PoolRecord {
    /// A new pool; `wall_ms` is in milliseconds since 1970 in UTC.
    pub fn new(name: Name, spec: PoolSpec, wall_ms: i64) -> Self {
        Self {
            name,
            state: PoolState::Open,
            spec,
            created_at_ms: wall_ms,
        }
    }
}
