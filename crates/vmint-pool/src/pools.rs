//! Acquire, release, fill, restore: the same code over this host and over `sim`.
//!
//! Invariants, beside those of the ledger:
//! * Whoever reserves a slot makes its machine, or frees the slot. If it dies in between, the slot says who it was, and
//!   [`Pools::restore`] frees it; if it lives and does not know, it finds out by [`making`](crate::making).
//! * A machine is destroyed only when it is nobody's: its runner is dead, or its lease was ended first, for good.
//! * A slot is freed only when nothing of its machine is left; so machines never outnumber slots.
//! * A wait ends at its deadline, and what was being waited for is given back if it came too late.

use crate::making::{self, Asking, Job, Known};
use crate::retry;

use futures_util::future::{Either, FutureExt, select};
use futures_util::pin_mut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::future::Future;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use vmint_model::ledger::Waiter;
use vmint_model::{
    Backend, By, Claim, Claimed, ErrorKind, Fault, LeaseEnd, LeaseId, LeaseRecord, Ledger,
    LedgerError, Listen, MachineId, Name, Owner, PoolChange, PoolRecord, PoolState, PoolStatus,
    Ring, SlotState, World,
};

/// How often those who wait look by themselves, in case a ring was lost with its ringer. At first, and at most.
const LOOK_MS: (i64, i64) = (50, 500);

/// Only the first of the line looks each time for what those left that died; the others once in so many times, should the
/// first one stand still. With 200 in line that all did, the ledger had time for nothing else.
const OTHERS_LOOK: u32 = 32;
/// How long after its deadline an acquire leaves whatever it waits for at that moment: a guest that does not answer, a
/// machine that does not go. Before that it has had the time to say more about it.
const GRACE_MS: i64 = 25;
/// When what failed on the way out is tried again: at first, at most, and how often. Some minutes in all: what keeps the
/// ledger from being written, like a full disk, seldom passes in a second.
const AFTERWARDS: (i64, i64, u32) = (100, 10_000, 30);

/// What a caller of [`Pools::acquire`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The pool.
    pub pool: Name,
    /// Who will hold the lease.
    pub owner: Owner,
    /// What for.
    pub label: Option<String>,
    /// How long the lease is given for at a time.
    pub ttl_ms: Option<u64>,
    /// When to give up, on the steady clock.
    pub deadline_ms: i64,
    /// Whether to wait in line when all machines that there may be are lent.
    pub wait: bool,
}

/// What came of filling a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Machines that are ready, or were granted at once.
    pub made: u32,
    /// Creations that failed, and why.
    pub failed: Vec<Fault>,
}

/// Pools over a backend, a ledger and a world.
#[derive(Debug)]
pub struct Pools<B, L, W> {
    /// Where machines live.
    pub backend: B,
    /// Where leases are claimed.
    pub ledger: L,
    /// Clock, bells, and who lives.
    pub world: W,
    /// How many machines one caller makes at once; admission holds back what the host cannot carry.
    pub parallel: u32,
}

impl<B, L, W> Pools<B, L, W>
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
{
    /// Lends a machine. `say` is told, in a line for the user, what is being waited for.
    pub async fn acquire(
        self: &Arc<Self>,
        want: &Acquire,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<LeaseRecord, Fault> {
        let began = self.world.now_ms();
        let awaited = Mutex::new(Awaited::default());
        let ends_at = want.deadline_ms.max(began) + GRACE_MS;
        {
            let (lending, timer) = (
                self.lend(want, say, &awaited),
                self.world.sleep_until(ends_at),
            );
            pin_mut!(lending, timer);
            if let Either::Left((lent, _)) = select(lending, timer).await {
                return lent;
            }
        }
        let (pool, waited) = (&want.pool, self.world.now_ms() - began);
        let awaited = awaited.into_inner().expect("nobody panics with the lock");
        let message = format!(
            "no machine of pool {pool} was lent within {:.1} s: still waiting for {}{}",
            waited as f64 / 1e3,
            awaited.what,
            awaited.told(),
        );
        Err(Fault::new(ErrorKind::TimedOut, message))
    }

    async fn lend(
        self: &Arc<Self>,
        want: &Acquire,
        say: &(dyn Fn(String) + Send + Sync),
        awaited: &Mutex<Awaited>,
    ) -> Result<LeaseRecord, Fault> {
        let awaited = || awaited.lock().expect("nobody panics with the lock");
        let wait_for = |what| awaited().what = what;
        let began = self.world.now_ms();
        loop {
            // What was given and died at once is no answer: another one is claimed, until the deadline.
            let lost = awaited().told();
            if !lost.is_empty() && self.world.now_ms() >= want.deadline_ms {
                let waited = (self.world.now_ms() - began) as f64 / 1e3;
                let pool = &want.pool;
                let message =
                    format!("no machine of pool {pool} was lent within {waited:.1} s{lost}");
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            let mut claim = Claim {
                lease: LeaseId::from_bits(self.world.bits()),
                pool: want.pool.clone(),
                owner: want.owner.clone(),
                label: want.label.clone(),
                ttl_ms: want.ttl_ms,
                wait: None,
            };
            let mut guard = Withdraw {
                pools: self,
                lease: Some(claim.lease.clone()),
            };
            wait_for("the ledger");
            let claimed = match self.claim(&claim).await {
                Ok(Claimed::Leased {
                    lease,
                    stale,
                    missing,
                }) => {
                    if missing {
                        self.world.tend(&want.pool);
                    }
                    Ok((*lease, stale))
                }
                Ok(_) => self.wait(&mut claim, want, say).await,
                Err(e) => Err(Denied::from(e)),
            };
            let (lease, stale) = match claimed {
                Ok(claimed) => claimed,
                // It was granted while it stood in line, and its machine died before it heard of it.
                Err(Denied::Lost(fault)) => {
                    tracing::warn!("lost before it was lent: {fault}");
                    guard.lease = None;
                    awaited().seen = Some(fault.message);
                    continue;
                }
                Err(Denied::Fault(fault)) => return Err(fault),
            };
            wait_for("its guest to answer");
            let Err(fault) = self.sound(&lease, stale).await else {
                guard.lease = None;
                return Ok(lease);
            };
            // A dead machine is never lent. It goes, and another one is sought. First its lease: should that have ended
            // meanwhile, the machine is somebody else's by now.
            tracing::warn!(machine = %lease.machine, "not lent: {fault}");
            awaited().seen = Some(format!("machine {}: {}", lease.machine, fault.message));
            wait_for("a machine that does not answer to go");
            let (now, how, why) = (
                self.world.now(),
                LeaseEnd::MachineLost,
                Some(&*fault.message),
            );
            let ended = self.ledger.end(&lease.id, By::Anybody, how, why, now).await;
            match ended {
                Ok((_, rings)) => {
                    self.ring(rings).await;
                    guard.lease = None;
                    // Others may be at it too, and whoever touches the pool next tries again: it keeps nobody from another.
                    if let Err(e) = self.discard(&lease.machine, &fault.message).await {
                        tracing::warn!(machine = %lease.machine, "cannot be cleared up yet: {e}");
                    }
                }
                // Its runner was faster to say so, and takes down what is left.
                Err(LedgerError::LeaseEnded { ended, .. })
                    if ended.how == LeaseEnd::MachineLost =>
                {
                    guard.lease = None;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Whether the machine of a new lease is well: its runner lives, and its guest has answered not long ago, or does.
    async fn sound(&self, lease: &LeaseRecord, stale: bool) -> Result<(), Fault> {
        if !self.backend.is_up(&lease.machine).await {
            return Err(Fault::new(
                ErrorKind::MachineLost,
                "its runner or its hypervisor has died",
            ));
        }
        if stale {
            self.backend.check(&lease.machine, lease.generation).await?;
        }
        Ok(())
    }

    /// Destroys a machine and frees its slot.
    async fn discard(&self, machine: &MachineId, why: &str) -> Result<(), Fault> {
        self.backend.destroy(machine).await?;
        let now = self.world.now();
        let rings = self.ledger.gone(machine, Some(why), now).await?;
        self.ring(rings).await;
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, LedgerError> {
        let (claimed, rings) = self.ledger.claim(claim, self.world.now()).await?;
        self.ring(rings).await;
        Ok(claimed)
    }

    /// Waits in line, making machines meanwhile if the pool may have more. With the lease comes whether its guest was heard
    /// of too long ago.
    async fn wait(
        self: &Arc<Self>,
        claim: &mut Claim,
        want: &Acquire,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(LeaseRecord, bool), Denied> {
        let began = self.world.now_ms();
        // The pool was there when this came. It may be gone for good before this is woken.
        let removed = |e| match e {
            LedgerError::NoPool(_) => LedgerError::PoolClosed {
                name: want.pool.clone(),
                state: PoolState::Removing,
            },
            e => e,
        };
        let listener = self.world.listen()?;
        let process = self.world.process()?;
        claim.wait = Some(Waiter {
            bell: listener.bell(),
            process,
            deadline_ms: want.deadline_ms,
        });
        let mut making = FuturesUnordered::new();
        let (mut pause, mut seen, mut said) = (LOOK_MS.0, None::<Fault>, false);
        let mut looks = 0_u32;
        loop {
            let before = match self.claim(claim).await.map_err(removed)? {
                Claimed::Leased { lease, stale, .. } => return Ok((*lease, stale)),
                Claimed::Waiting { before } => before,
                Claimed::None => unreachable!("a claim that waits is in line"),
            };
            let now = self.world.now_ms();
            if now >= want.deadline_ms {
                return Err(self.give_up(claim, began, before, seen).await.into());
            }
            if making.is_empty() {
                // Those that died may hold what we wait for.
                if (before == 0 || looks.is_multiple_of(OTHERS_LOOK))
                    && let Err(fault) = self.restore().await
                {
                    // What cannot be cleared up at this moment can be at the next look.
                    tracing::warn!("cannot clear up what the dead left: {fault}");
                    seen = Some(fault);
                }
                looks = looks.wrapping_add(1);
                let jobs = match self.reserve(&want.pool, 1).await {
                    Err(fault) if fault.kind == ErrorKind::NotFound => {
                        return Err(removed(LedgerError::NoPool(want.pool.to_string())).into());
                    }
                    jobs => jobs?,
                };
                for job in jobs {
                    making.push(self.make_beside(&want.pool, job, want.deadline_ms));
                }
                if making.is_empty() {
                    if !want.wait {
                        return Err(self.refuse(claim).await.into());
                    }
                    if !said {
                        said = true;
                        let status = self.ledger.pool(&want.pool).await.map_err(removed)?;
                        say(waiting(&status, before));
                    }
                }
            }
            let until = want.deadline_ms.min(now + pause);
            pause = (pause * 2).min(LOOK_MS.1);
            let made = {
                let rung = listener.rung();
                let woken = async {
                    if making.is_empty() {
                        rung.await;
                        None
                    } else {
                        pin_mut!(rung);
                        match select(making.next(), rung).await {
                            Either::Left((made, _)) => made,
                            Either::Right(((), _)) => None,
                        }
                    }
                };
                let timer = self.world.sleep_until(until);
                pin_mut!(woken, timer);
                match select(woken, timer).await {
                    Either::Left((made, _)) => made,
                    Either::Right(((), _)) => None,
                }
            };
            if let Some(Ok(Err(fault))) = made {
                let status = self.ledger.pool(&want.pool).await.map_err(removed)?;
                if status.counts.alive() == 0 || !want.wait || fault.kind == ErrorKind::Pressure {
                    // Nothing is left that could be waited for, or the user would rather not wait for it.
                    return Err(self.left(claim, fault).await.into());
                }
                seen = Some(fault);
            }
        }
    }

    async fn left(&self, claim: &Claim, fault: Fault) -> Fault {
        match self.ledger.withdraw(&claim.lease, self.world.now()).await {
            Ok(rings) => self.ring(rings).await,
            Err(e) => tracing::warn!("cannot leave the line: {e}"),
        }
        fault
    }

    async fn give_up(&self, claim: &Claim, began: i64, before: u32, seen: Option<Fault>) -> Fault {
        let waited = self.world.now_ms() - began;
        let state = match self.ledger.pool(&claim.pool).await {
            Ok(status) => format!("; {}", tell(&status)),
            Err(_) => String::new(),
        };
        let last = seen
            .map(|f| format!("; the last thing that failed was: {}", f.message))
            .unwrap_or_default();
        let message = format!(
            "no machine of pool {} was free within {:.1} s: {}{state}{last}",
            claim.pool,
            waited as f64 / 1e3,
            place(before),
        );
        let fault = Fault::new(ErrorKind::TimedOut, message)
            .hint("`vmint lease ls` shows who holds them; `vmint pool resize` allows more");
        self.left(claim, fault).await
    }

    async fn refuse(&self, claim: &Claim) -> Fault {
        let state = match self.ledger.pool(&claim.pool).await {
            Ok(status) => tell(&status),
            Err(e) => e.to_string(),
        };
        let message = format!("no machine of pool {} is free: {state}", claim.pool);
        let fault = Fault::new(ErrorKind::Refused, message)
            .hint("wait for one, or allow more with `vmint pool resize`");
        self.left(claim, fault).await
    }

    /// Ends a lease. Its machine is reset by its runner, which is told.
    pub async fn release(&self, lease: &LeaseId, by: By<'_>) -> Result<LeaseRecord, Fault> {
        let now = self.world.now();
        let (lease, rings) = self
            .ledger
            .end(lease, by, LeaseEnd::Released, None, now)
            .await?;
        self.ring(rings).await;
        Ok(lease)
    }

    /// Renews a lease, or sends its heartbeat.
    pub async fn renew(&self, lease: &LeaseId, by: By<'_>) -> Result<LeaseRecord, Fault> {
        let now = self.world.now();
        Ok(self.ledger.renew(lease, by, now).await?)
    }

    /// Changes a pool, and tells those whom it concerns.
    pub async fn change(&self, pool: &Name, change: PoolChange) -> Result<PoolStatus, Fault> {
        let now = self.world.now();
        let (status, rings) = self.ledger.change_pool(pool, change, now).await?;
        self.ring(rings).await;
        Ok(status)
    }

    /// Removes a pool: what is idle goes at once, what is lent when its lease ends, or with `force` at once too.
    /// Returns when nothing is left, or at the deadline.
    pub async fn remove(&self, pool: &Name, force: bool, deadline_ms: i64) -> Result<(), Fault> {
        let change = PoolChange {
            state: Some(PoolState::Removing),
            force,
            ..PoolChange::default()
        };
        self.change(pool, change).await?;
        self.empty(pool, deadline_ms).await
    }

    /// Waits until a pool that does not lend any more has no machine left.
    pub async fn empty(&self, pool: &Name, deadline_ms: i64) -> Result<(), Fault> {
        let mut pause = 1;
        loop {
            self.restore().await?;
            let status = match self.ledger.pool(pool).await {
                Err(LedgerError::NoPool(_)) => return Ok(()),
                Ok(status) if status.counts.alive() == 0 => return Ok(()),
                other => other?,
            };
            let now = self.world.now_ms();
            if now >= deadline_ms {
                let message = format!("pool {pool} is not empty yet: {}", tell(&status));
                return Err(Fault::new(ErrorKind::TimedOut, message)
                    .hint("it goes on emptying by itself as its leases end; --force ends them"));
            }
            // The runners take their machines down; the ledger has no bell for those who wait for that.
            self.world.sleep_until(deadline_ms.min(now + pause)).await;
            pause = (pause * 2).min(LOOK_MS.1);
        }
    }

    /// Makes what a pool lacks, several at once. One that fails does not stop the others.
    pub async fn fill(self: &Arc<Self>, pool: &Name, deadline_ms: i64) -> Result<Filled, Fault> {
        self.restore().await?;
        let mut filled = Filled::default();
        let mut making = FuturesUnordered::new();
        loop {
            // What failed is not tried for ever: `make` has done so often enough.
            let room = self.parallel.saturating_sub(making.len() as u32);
            if room > 0 && filled.failed.is_empty() {
                for job in self.reserve(pool, room).await? {
                    making.push(self.make_beside(pool, job, deadline_ms));
                }
            }
            match making.next().await {
                None => return Ok(filled),
                Some(Ok(Ok(()))) => filled.made += 1,
                Some(Ok(Err(fault))) => filled.failed.push(fault),
                Some(Err(_gone)) => {
                    let message = "the creation of a machine was given up";
                    filled
                        .failed
                        .push(Fault::new(ErrorKind::Interrupted, message));
                }
            }
        }
    }

    /// Reserves slots for machines that this process makes now.
    async fn reserve(self: &Arc<Self>, pool: &Name, limit: u32) -> Result<Vec<Job>, Fault> {
        let process = self.world.process()?;
        // The guard goes last: it must find abandoned what nobody asks for any more.
        let mut guard = PutRight::unless_done(self);
        let asking = Asking::begin(process.clone());
        let now = self.world.now();
        let reserved = self.ledger.reserve(pool, &process, limit, now).await;
        // A refusal has reserved nothing; a failure may have.
        guard.done = !matches!(reserved, Err(LedgerError::Failed(_)));
        Ok(asking.answered(reserved?.machines))
    }

    /// Makes a machine in a task of its own: it goes on when the one who asked has got another one meanwhile.
    fn make_beside(
        self: &Arc<Self>,
        pool: &Name,
        job: Job,
        deadline_ms: i64,
    ) -> oneshot::Receiver<Result<(), Fault>> {
        let (answer, made) = oneshot::channel();
        let (pools, pool) = (self.clone(), pool.clone());
        self.world.spawn(async move {
            let result = pools.make(&pool, job, deadline_ms).await;
            let _ = answer.send(result);
        });
        made
    }

    /// Makes the machine of a reserved slot; when that fails for a cause that passes, another one in another slot.
    async fn make(self: &Arc<Self>, pool: &Name, job: Job, deadline_ms: i64) -> Result<(), Fault> {
        let (mut job, mut failures) = (job, 0);
        loop {
            let fault = match self.make_once(pool, job, deadline_ms).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            failures += 1;
            let pause = retry::pause_ms(failures, self.world.bits());
            let again = self.world.now_ms() + pause;
            if !retry::is_transient(&fault) || failures >= retry::ATTEMPTS || again >= deadline_ms {
                return Err(fault);
            }
            tracing::warn!(
                "a machine of pool {pool} could not be made, trying again in {pause} ms: {fault}"
            );
            self.world.sleep_until(again).await;
            // The slot was freed; perhaps nobody needs another machine any more.
            match self.reserve(pool, 1).await?.pop() {
                Some(next) => job = next,
                None => return Ok(()),
            }
        }
    }

    async fn make_once(
        self: &Arc<Self>,
        pool: &Name,
        job: Job,
        deadline_ms: i64,
    ) -> Result<(), Fault> {
        // The guard goes last: it must find abandoned what nobody makes any more.
        let mut guard = PutRight::unless_done(self);
        let job = job;
        let status = self.ledger.pool(pool).await?;
        let made = self
            .backend
            .create(&status.pool, &job.machine, deadline_ms)
            .await;
        if let Err(fault) = made {
            self.discard(&job.machine, &fault.message).await?;
            guard.done = true;
            return Err(fault);
        }
        guard.done = true;
        Ok(())
    }

    /// Puts right what those left that died: frees the slots of machines without a runner, and of machines that nobody
    /// makes any more; has the line move on.
    pub async fn restore(&self) -> Result<(), Fault> {
        self.restore_what_is_known().await.map(drop)
    }

    /// The same; whether there was nothing of which this process could not tell whether it makes it.
    async fn restore_what_is_known(&self) -> Result<bool, Fault> {
        let process = self.world.process()?;
        let mut complete = true;
        for slot in self.ledger.slots(None).await? {
            // In this order: who is dead now has not started a runner since.
            if slot.state == SlotState::Filling {
                match &slot.maker {
                    Some(maker) if *maker == process => {
                        let known = making::known(&process, &slot.machine);
                        complete &= known != Known::Perhaps;
                        if known != Known::Abandoned {
                            continue;
                        }
                    }
                    Some(maker) if self.world.lives(maker) => continue,
                    _ => {}
                }
            }
            if self.backend.is_alive(&slot.machine).await {
                continue;
            }
            let why = match slot.state {
                SlotState::Filling => "whoever was making it died, or gave it up",
                _ => "its runner died",
            };
            self.discard(&slot.machine, why).await?;
        }
        let rings = self.ledger.tidy(self.world.now()).await?;
        self.ring(rings).await;
        Ok(complete)
    }

    /// Tells those whom a transaction concerns.
    pub async fn ring(&self, rings: Vec<Ring>) {
        for ring in rings {
            match ring {
                Ring::Machine(machine) => self.backend.ring(&machine).await,
                Ring::Waiter(bell) => self.world.ring(&bell),
            }
        }
    }

    /// Adds a pool and fills it.
    pub async fn create(
        self: &Arc<Self>,
        pool: &PoolRecord,
        deadline_ms: i64,
    ) -> Result<Filled, Fault> {
        self.declare(pool).await?;
        self.fill(&pool.name, deadline_ms).await
    }

    /// Makes a pool, which is filled by whoever touches it next.
    pub async fn declare(&self, pool: &PoolRecord) -> Result<(), Fault> {
        Ok(self.ledger.create_pool(pool).await?)
    }
}

/// What an acquire waits for, and what it saw last that kept it from a machine.
#[derive(Debug)]
struct Awaited {
    what: &'static str,
    seen: Option<String>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            what: "the ledger",
            seen: None,
        }
    }
}

impl Awaited {
    fn told(&self) -> String {
        let seen = self.seen.as_ref();
        seen.map(|seen| format!("; the last one that it was given died: {seen}"))
            .unwrap_or_default()
    }
}

/// Why a claim came to nothing.
enum Denied {
    /// The machine that it was given has died since: another one may be had.
    Lost(Fault),
    /// There is nothing to be had.
    Fault(Fault),
}

impl From<LedgerError> for Denied {
    fn from(e: LedgerError) -> Self {
        match &e {
            LedgerError::LeaseEnded { ended, .. } if ended.how == LeaseEnd::MachineLost => {
                Self::Lost(e.into())
            }
            _ => Self::Fault(e.into()),
        }
    }
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a waiter is told.
fn waiting(status: &PoolStatus, before: u32) -> String {
    let name = &status.pool.name;
    format!(
        "waiting for a machine of pool {name}: {}, {}",
        tell(status),
        place(before)
    )
}

fn place(before: u32) -> String {
    match before {
        0 => "this one is first in line".into(),
        1 => "1 is before this one".into(),
        n => format!("{n} are before this one"),
    }
}

fn tell(status: &PoolStatus) -> String {
    let (counts, spec) = (&status.counts, &status.pool.spec);
    let parts = [
        (counts.leased, "lent"),
        (counts.resetting, "being reset"),
        (counts.filling, "being made"),
        (counts.ready, "ready"),
        (counts.retiring, "going"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0);
    let parts: Vec<_> = parts.map(|(n, what)| format!("{n} {what}")).collect();
    let parts = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    format!("it has {} of at most {}{parts}", counts.alive(), spec.max)
}

/// Gives up a claim whose caller failed, or was dropped, before it knew the outcome.
struct Withdraw<'a, B: Backend + 'static, L: Ledger + 'static, W: World + 'static> {
    pools: &'a Arc<Pools<B, L, W>>,
    lease: Option<LeaseId>,
}

impl<B: Backend, L: Ledger, W: World> Drop for Withdraw<'_, B, L, W> {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let pools = self.pools.clone();
        afterwards(self.pools, move || {
            let (pools, lease) = (pools.clone(), lease.clone());
            async move {
                let rings = pools.ledger.withdraw(&lease, pools.world.now()).await?;
                pools.ring(rings).await;
                Ok(true)
            }
        });
    }
}

/// Puts right what is left of an attempt to make a machine that failed, or was dropped, in the middle.
struct PutRight<'a, B: Backend + 'static, L: Ledger + 'static, W: World + 'static> {
    pools: &'a Arc<Pools<B, L, W>>,
    done: bool,
}

impl<'a, B: Backend, L: Ledger, W: World> PutRight<'a, B, L, W> {
    fn unless_done(pools: &'a Arc<Pools<B, L, W>>) -> Self {
        Self { pools, done: false }
    }
}

impl<B: Backend, L: Ledger, W: World> Drop for PutRight<'_, B, L, W> {
    fn drop(&mut self) {
        if !self.done {
            let pools = self.pools.clone();
            afterwards(self.pools, move || {
                let pools = pools.clone();
                async move { pools.restore_what_is_known().await }
            });
        }
    }
}

/// Does what must be done behind a failure: at once where it need not wait, else beside the caller; again and again while
/// it fails or says that it is not complete. Whoever touches the pool after the end of this process does it at the latest.
fn afterwards<B, L, W, D, F>(pools: &Arc<Pools<B, L, W>>, mut work: D)
where
    B: Backend + 'static,
    L: Ledger + 'static,
    W: World + 'static,
    D: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<bool, Fault>> + Send,
{
    let at = pools.clone();
    let mut doing = Box::pin(async move {
        let (mut pause, most, attempts) = AFTERWARDS;
        for _ in 0..attempts {
            match work().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(fault) => tracing::warn!("cannot clear up, trying again: {fault}"),
            }
            at.world.sleep_until(at.world.now_ms() + pause).await;
            pause = (pause * 2).min(most);
        }
    });
    if doing.as_mut().now_or_never().is_none() {
        pools.world.spawn(doing);
    }
}
