//! Claims, and who comes first.

use super::{Moment, Refusal, json, leases, parse, pools, slots};
use crate::Store;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use vmint_model::ledger::CHECK_AFTER_MS;
use vmint_model::{
    Bell, By, Claim, Claimed, Counts, LeaseEnd, LeaseId, LeaseRecord, LedgerError, Name, Now,
    Owner, PoolState, ProcessRef, Ring, Slot, SlotState,
};

impl Store {
    /// Takes a ready machine, or joins the line. Asked again with the same lease id, it says what became of the first
    /// time.
    pub fn claim(
        &mut self,
        claim: &Claim,
        moment: Moment<'_>,
    ) -> Result<(Claimed, Vec<Ring>), LedgerError> {
        // Those in line ask again and again. Most often nothing has changed for them, and then they keep nobody from
        // writing.
        if claim.wait.is_some()
            && let Some(claimed) = self.look(|t| unchanged(t, claim, moment))?
        {
            return Ok((claimed, Vec::new()));
        }
        self.ledger("claim", |t| {
            let mut rings = Vec::new();
            if let Some(claimed) = granted(t, claim, moment)? {
                return Ok((claimed, rings));
            }
            let status = pools::open(t, &claim.pool)?;
            if let Some(ticket) = ticket(t, &claim.lease)? {
                serve(t, &claim.pool, moment, &mut rings)?;
                if let Some(lease) = leases::find(t, &claim.lease)? {
                    return Ok((
                        Claimed::Leased {
                            lease: Box::new(lease),
                            stale: true,
                            missing: false,
                        },
                        rings,
                    ));
                }
                let before = before(t, &claim.pool, ticket)?;
                return Ok((Claimed::Waiting { before }, rings));
            }
            if status.counts.waiting > 0 {
                // A ready machine that nobody in line took means that those in line are dead.
                serve(t, &claim.pool, moment, &mut rings)?;
            }
            let waiting = match status.counts.waiting {
                0 => 0,
                _ => pools::known(t, &claim.pool)?.counts.waiting,
            };
            if waiting == 0
                && let Some(slot) = slots::ready(t, &claim.pool)?
            {
                let wish = Wish::of(claim);
                let stale = is_stale(&slot, moment);
                let lease = grant(t, &slot, &claim.lease, wish, 0, moment.now)?;
                rings.push(Ring::Machine(slot.machine));
                let lease = Box::new(lease);
                let counts = Counts {
                    ready: status.counts.ready.saturating_sub(1),
                    leased: status.counts.leased + 1,
                    ..status.counts
                };
                let missing = counts.missing(&status.pool.spec) > 0;
                return Ok((
                    Claimed::Leased {
                        lease,
                        stale,
                        missing,
                    },
                    rings,
                ));
            }
            let Some(waiter) = &claim.wait else {
                return Ok((Claimed::None, rings));
            };
            if waiter.deadline_ms < moment.now.steady_ms {
                // It was sent out of the line at its deadline, and asks a last time; it does not join it again.
                return Ok((Claimed::Waiting { before: waiting }, rings));
            }
            t.prepare_cached(
                "INSERT INTO waiters (lease, pool, claim, bell, process, since_ms, deadline_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                claim.lease.as_str(),
                claim.pool.as_str(),
                json(&Wish::of(claim)),
                waiter.bell.0,
                json(&waiter.process),
                moment.now.steady_ms,
                waiter.deadline_ms,
            ])?;
            Ok((Claimed::Waiting { before: waiting }, rings))
        })
    }

    /// Leaves the line, and gives the lease back if it has come to that.
    pub fn withdraw(&mut self, lease: &LeaseId, now: Now) -> Result<Vec<Ring>, LedgerError> {
        self.ledger("withdraw", |t| {
            let mut rings = Vec::new();
            t.prepare_cached("DELETE FROM waiters WHERE lease = ?1")?
                .execute([lease.as_str()])?;
            if let Some(held) = leases::find(t, lease)?
                && held.ended.is_none()
            {
                leases::finish(t, held, LeaseEnd::Released, None, now, &mut rings)?;
            }
            Ok(rings)
        })
    }

    /// Puts right what those left that died.
    pub fn tidy(&mut self, moment: Moment<'_>) -> Result<Vec<Ring>, LedgerError> {
        // Who lives is asked of the kernel, one by one: not while others wait to write.
        let suspicious = self.look(|t| {
            for status in pools::all(t)? {
                let name = &status.pool.name;
                let is_removing = status.pool.state == PoolState::Removing;
                let is_served = status.counts.waiting == 0
                    || slots::ready(t, name)?.is_none() && !has_dead(t, name, moment)?;
                if is_removing || !is_served {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !suspicious {
            return Ok(Vec::new());
        }
        self.ledger("tidy", |t| {
            let mut rings = Vec::new();
            for status in pools::all(t)? {
                let name = &status.pool.name;
                if status.counts.waiting > 0 {
                    serve(t, name, moment, &mut rings)?;
                    leave_dead(t, name, moment)?;
                }
                pools::forget_if_empty(t, name)?;
            }
            Ok(rings)
        })
    }

    /// Those in line at a pool: who, since when, for what.
    pub fn waiters(&mut self) -> Result<Vec<InLine>, LedgerError> {
        self.look(|t| {
            let mut statement = t.prepare_cached(
                "SELECT lease, pool, claim, process, since_ms, deadline_ms FROM waiters ORDER BY ticket",
            )?;
            let rows = statement.query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                    row.get::<_, i64>(4)?,
                    row.get::<_, i64>(5)?,
                ))
            })?;
            rows.map(|row| {
                let (lease, pool, claim, process, since_ms, deadline_ms) = row?;
                let wish: Wish = parse("a waiter", &claim)?;
                Ok(InLine {
                    lease: lease.parse().map_err(|e: vmint_model::lease::InvalidLeaseId| {
                        Refusal::unreadable("a waiter", e)
                    })?,
                    pool: pool
                        .parse()
                        .map_err(|e: vmint_model::InvalidName| Refusal::unreadable("a waiter", e))?,
                    owner: wish.owner,
                    label: wish.label,
                    process: parse("a waiter", &process)?,
                    since_ms,
                    deadline_ms,
                })
            })
            .collect()
        })
    }
}

/// What has become of a claim that was granted before.
fn granted(
    t: &Transaction<'_>,
    claim: &Claim,
    moment: Moment<'_>,
) -> Result<Option<Claimed>, Refusal> {
    let Some(lease) = leases::find(t, &claim.lease)? else {
        return Ok(None);
    };
    if lease.pool != claim.pool || lease.owner != claim.owner {
        return Err(LedgerError::LeaseTaken(claim.lease.clone()).into());
    }
    if let Some(ended) = lease.ended {
        let id = lease.id;
        return Err(LedgerError::LeaseEnded { id, ended }.into());
    }
    // Most often from a machine that had got ready at that moment; but it may have been ready for long, and the one in
    // line have become the first by somebody's death.
    let slot = slots::find(t, &lease.machine)?;
    Ok(Some(Claimed::Leased {
        lease: Box::new(lease),
        stale: slot.is_some_and(|slot| is_stale(&slot, moment)),
        missing: false,
    }))
}

/// Where a claim stands, if that can be told without changing anything.
fn unchanged(
    t: &Transaction<'_>,
    claim: &Claim,
    moment: Moment<'_>,
) -> Result<Option<Claimed>, Refusal> {
    if let Some(claimed) = granted(t, claim, moment)? {
        return Ok(Some(claimed));
    }
    pools::open(t, &claim.pool)?;
    let Some(ticket) = ticket(t, &claim.lease)? else {
        return Ok(None);
    };
    let head_is_dead = match first(t, &claim.pool)? {
        Some(head) => head.is_dead(moment)?,
        None => false,
    };
    if head_is_dead || slots::ready(t, &claim.pool)?.is_some() {
        return Ok(None);
    }
    let before = before(t, &claim.pool, ticket)?;
    Ok(Some(Claimed::Waiting { before }))
}

/// Whether the guest of a machine must be asked before it is lent.
fn is_stale(slot: &Slot, moment: Moment<'_>) -> bool {
    moment.now.steady_ms - slot.checked_at_ms > CHECK_AFTER_MS
}

/// Somebody in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InLine {
    /// The lease that it will be given.
    pub lease: LeaseId,
    /// The pool.
    pub pool: Name,
    /// Who will hold it.
    pub owner: Owner,
    /// What for.
    pub label: Option<String>,
    /// Who waits.
    pub process: ProcessRef,
    /// Since when, on the steady clock.
    pub since_ms: i64,
    /// Until when, on the steady clock.
    pub deadline_ms: i64,
}

impl InLine {
    /// The same with the times that the wall clock gives, to be shown.
    #[must_use]
    pub fn shown(self, now: Now) -> Self {
        Self {
            since_ms: now.wall_of(self.since_ms),
            deadline_ms: now.wall_of(self.deadline_ms),
            ..self
        }
    }
}

/// What of a claim is kept while it waits.
#[derive(Serialize, Deserialize)]
struct Wish {
    owner: Owner,
    label: Option<String>,
    ttl_ms: Option<u64>,
}

impl Wish {
    fn of(claim: &Claim) -> Self {
        Self {
            owner: claim.owner.clone(),
            label: claim.label.clone(),
            ttl_ms: claim.ttl_ms,
        }
    }
}

struct WaiterRow {
    ticket: i64,
    lease: String,
    claim: String,
    bell: String,
    process: String,
    since_ms: i64,
    deadline_ms: i64,
}

impl WaiterRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            ticket: row.get(0)?,
            lease: row.get(1)?,
            claim: row.get(2)?,
            bell: row.get(3)?,
            process: row.get(4)?,
            since_ms: row.get(5)?,
            deadline_ms: row.get(6)?,
        })
    }

    fn is_dead(&self, moment: Moment<'_>) -> Result<bool, Refusal> {
        let process: ProcessRef = parse("a waiter", &self.process)?;
        Ok(self.deadline_ms < moment.now.steady_ms || !(moment.lives)(&process))
    }
}

const COLUMNS: &str = "ticket, lease, claim, bell, process, since_ms, deadline_ms";

fn first(t: &Transaction<'_>, pool: &Name) -> Result<Option<WaiterRow>, Refusal> {
    let row = t
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM waiters WHERE pool = ?1 ORDER BY ticket LIMIT 1"
        ))?
        .query_row([pool.as_str()], WaiterRow::read)
        .optional()?;
    Ok(row)
}

fn leave(t: &Transaction<'_>, ticket: i64) -> Result<(), Refusal> {
    t.prepare_cached("DELETE FROM waiters WHERE ticket = ?1")?
        .execute([ticket])?;
    Ok(())
}

fn ticket(t: &Transaction<'_>, lease: &LeaseId) -> Result<Option<i64>, Refusal> {
    let ticket = t
        .prepare_cached("SELECT ticket FROM waiters WHERE lease = ?1")?
        .query_row([lease.as_str()], |row| row.get(0))
        .optional()?;
    Ok(ticket)
}

fn before(t: &Transaction<'_>, pool: &Name, ticket: i64) -> Result<u32, Refusal> {
    let before = t
        .prepare_cached("SELECT count(*) FROM waiters WHERE pool = ?1 AND ticket < ?2")?
        .query_row(params![pool.as_str(), ticket], |row| row.get(0))?;
    Ok(before)
}

/// Gives a machine that can be lent to the first of the line that still waits. `slot` is not `ready` yet, or is.
pub(super) fn grant_to_first(
    t: &Transaction<'_>,
    slot: &Slot,
    moment: Moment<'_>,
    rings: &mut Vec<Ring>,
) -> Result<Option<LeaseRecord>, Refusal> {
    while let Some(waiter) = first(t, &slot.pool)? {
        leave(t, waiter.ticket)?;
        if waiter.is_dead(moment)? {
            continue;
        }
        let wish: Wish = parse("a waiter", &waiter.claim)?;
        let id = waiter
            .lease
            .parse()
            .map_err(|e: vmint_model::lease::InvalidLeaseId| Refusal::unreadable("a waiter", e))?;
        let waited = moment.now.steady_ms - waiter.since_ms;
        let lease = grant(t, slot, &id, wish, waited, moment.now)?;
        rings.push(Ring::Waiter(Bell(waiter.bell)));
        return Ok(Some(lease));
    }
    Ok(None)
}

/// Grants what is ready to who waits. There is never both, unless somebody in line died or the pool has grown.
pub(super) fn serve(
    t: &Transaction<'_>,
    pool: &Name,
    moment: Moment<'_>,
    rings: &mut Vec<Ring>,
) -> Result<(), Refusal> {
    while let Some(slot) = slots::ready(t, pool)? {
        let Some(lease) = grant_to_first(t, &slot, moment, rings)? else {
            return Ok(());
        };
        rings.push(Ring::Machine(lease.machine));
    }
    // With nothing ready, those at the head who are dead still make others wait for what nobody will make.
    while let Some(waiter) = first(t, pool)? {
        if !waiter.is_dead(moment)? {
            break;
        }
        leave(t, waiter.ticket)?;
    }
    Ok(())
}

fn has_dead(t: &Transaction<'_>, pool: &Name, moment: Moment<'_>) -> Result<bool, Refusal> {
    let mut statement =
        t.prepare_cached(&format!("SELECT {COLUMNS} FROM waiters WHERE pool = ?1"))?;
    let mut rows = statement.query([pool.as_str()])?;
    while let Some(row) = rows.next()? {
        if WaiterRow::read(row)?.is_dead(moment)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn leave_dead(t: &Transaction<'_>, pool: &Name, moment: Moment<'_>) -> Result<(), Refusal> {
    let all: Vec<_> = t
        .prepare_cached(&format!("SELECT {COLUMNS} FROM waiters WHERE pool = ?1"))?
        .query_map([pool.as_str()], WaiterRow::read)?
        .collect::<Result<_, _>>()?;
    for waiter in all {
        if waiter.is_dead(moment)? {
            leave(t, waiter.ticket)?;
        }
    }
    Ok(())
}

/// Rings the first of the line: there may be something for it to do.
pub(super) fn wake(t: &Transaction<'_>, pool: &Name, rings: &mut Vec<Ring>) -> Result<(), Refusal> {
    if let Some(waiter) = first(t, pool)? {
        rings.push(Ring::Waiter(Bell(waiter.bell)));
    }
    Ok(())
}

/// Sends everybody in line away.
pub(super) fn dissolve(
    t: &Transaction<'_>,
    pool: &Name,
    rings: &mut Vec<Ring>,
) -> Result<(), Refusal> {
    while let Some(waiter) = first(t, pool)? {
        leave(t, waiter.ticket)?;
        rings.push(Ring::Waiter(Bell(waiter.bell)));
    }
    Ok(())
}

fn grant(
    t: &Transaction<'_>,
    slot: &Slot,
    id: &LeaseId,
    wish: Wish,
    waited_ms: i64,
    now: Now,
) -> Result<LeaseRecord, Refusal> {
    let mut lease = LeaseRecord {
        id: id.clone(),
        pool: slot.pool.clone(),
        machine: slot.machine.clone(),
        generation: slot.generation,
        owner: wish.owner,
        label: wish.label,
        ttl_ms: wish.ttl_ms,
        granted_at_ms: now.wall_ms,
        waited_ms,
        expires_at_ms: None,
        expires_steady_ms: None,
        silent_steady_ms: None,
        ended: None,
        keep_lost: None,
        kept: None,
        console: None,
    };
    lease.renew(now);
    t.prepare_cached("UPDATE slots SET uses = uses + 1 WHERE machine = ?1")?
        .execute([slot.machine.as_str()])?;
    slots::change(
        t,
        slot,
        SlotState::Leased,
        Some(id),
        "claimed",
        lease.label.as_deref(),
        now,
    )?;
    leases::add(t, &lease)?;
    Ok(lease)
}

/// Whether this may end or renew that lease.
pub(super) fn entitled(lease: &LeaseRecord, by: By<'_>) -> Result<(), LedgerError> {
    match by {
        By::Owner(owner) if *owner != lease.owner => Err(LedgerError::NotOwner {
            id: lease.id.clone(),
            owner: lease.owner.clone(),
        }),
        _ => Ok(()),
    }
}
