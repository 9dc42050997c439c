//! Slots, from reserved to gone.

use super::{Moment, Refusal, json, leases, line, parse, pools};
use crate::Store;
use crate::events::{SlotChange, append_slot};
use crate::store::Failure;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use vmint_model::{
    Duty, Generation, LeaseEnd, LedgerError, MachineId, Name, Now, ProcessRef, Readied, Reserved,
    Ring, Slot, SlotState,
};

impl Store {
    /// Reserves slots for the machines that a pool lacks, at most `limit`. Never more than its maximum: what is there
    /// is counted in the same transaction.
    pub fn reserve_slots(
        &mut self,
        pool: &Name,
        maker: &ProcessRef,
        limit: u32,
        now: Now,
    ) -> Result<Reserved, LedgerError> {
        self.reserve_slots_as(pool, maker, limit, now, &MachineId::random)
    }

    /// The same for machines with ids from elsewhere.
    pub(super) fn reserve_slots_as(
        &mut self,
        pool: &Name,
        maker: &ProcessRef,
        limit: u32,
        now: Now,
        new_id: &dyn Fn() -> MachineId,
    ) -> Result<Reserved, LedgerError> {
        let work = |t: &Transaction<'_>| {
            let status = pools::open(t, pool)?;
            let missing = status.counts.missing(&status.pool.spec).min(limit);
            let machines: Vec<_> = (0..missing).map(|_| new_id()).collect();
            for machine in &machines {
                t.prepare_cached(
                    "INSERT INTO slots (machine, pool, state, generation, uses, born_at_ms, since_ms, checked_at_ms, maker)
                     VALUES (?1, ?2, 'filling', 0, 0, ?3, ?3, 0, ?4)",
                )?
                .execute(params![machine.as_str(), pool.as_str(), now.steady_ms, json(maker)])?;
                note(
                    t,
                    machine,
                    pool,
                    None,
                    None,
                    Some(SlotState::Filling),
                    "missing",
                    None,
                    now,
                )?;
            }
            Ok(Reserved { machines })
        };
        // Most often nothing is missing, and nothing is written.
        let status = self.look(|t| pools::open(t, pool))?;
        if status.counts.missing(&status.pool.spec) == 0 {
            return Ok(Reserved::default());
        }
        self.ledger("reserve_slots", work)
    }

    /// The machine can be lent, at this generation.
    pub fn slot_ready(
        &mut self,
        machine: &MachineId,
        generation: Generation,
        moment: Moment<'_>,
    ) -> Result<(Readied, Vec<Ring>), LedgerError> {
        self.ledger("slot_ready", |t| {
            let mut rings = Vec::new();
            let Some(slot) = find(t, machine)? else {
                return Ok((Readied::Retire, rings));
            };
            match slot.state {
                SlotState::Filling | SlotState::Resetting => {}
                SlotState::Retiring => return Ok((Readied::Retire, rings)),
                // An answer that was lost: it has been said before.
                SlotState::Ready => return Ok((Readied::Ready, rings)),
                SlotState::Leased => {
                    let lease = leases::of_machine(t, machine)?;
                    return Ok((
                        lease.map_or(Readied::Ready, |l| Readied::Granted(Box::new(l))),
                        rings,
                    ));
                }
            }
            // A machine that was lent is not made fresh by saying so: only a later generation is.
            if generation <= slot.generation {
                let machine = machine.clone();
                return Err(LedgerError::NoSlot {
                    machine,
                    generation,
                }
                .into());
            }
            let status = pools::known(t, &slot.pool)?;
            if pools::is_done(&status, &slot, moment.now) {
                change(t, &slot, SlotState::Retiring, None, "not_wanted", None, moment.now)?;
                return Ok((Readied::Retire, rings));
            }
            t.prepare_cached(
                "UPDATE slots SET generation = ?2, checked_at_ms = ?3, maker = NULL WHERE machine = ?1",
            )?
            .execute(params![machine.as_str(), generation.0 as i64, moment.now.steady_ms])?;
            let slot = Slot {
                generation,
                ..slot
            };
            if let Some(lease) = line::grant_to_first(t, &slot, moment, &mut rings)? {
                return Ok((Readied::Granted(Box::new(lease)), rings));
            }
            change(t, &slot, SlotState::Ready, None, "completed", None, moment.now)?;
            Ok((Readied::Ready, rings))
        })
    }

    /// The guest of a machine has answered.
    pub fn slot_checked(&mut self, machine: &MachineId, now: Now) -> Result<(), LedgerError> {
        self.ledger("slot_checked", |t| {
            t.prepare_cached("UPDATE slots SET checked_at_ms = ?2 WHERE machine = ?1")?
                .execute(params![machine.as_str(), now.steady_ms])?;
            Ok(())
        })
    }

    /// The machine of a lease is of this generation now.
    pub fn slot_advanced(
        &mut self,
        machine: &MachineId,
        generation: Generation,
        now: Now,
    ) -> Result<(), LedgerError> {
        self.ledger("slot_advanced", |t| {
            let no_slot = || LedgerError::NoSlot {
                machine: machine.clone(),
                generation,
            };
            let slot = find(t, machine)?.ok_or_else(no_slot)?;
            let mut lease = leases::of_machine(t, machine)?.ok_or_else(no_slot)?;
            if generation < slot.generation {
                return Err(no_slot().into());
            }
            t.prepare_cached(
                "UPDATE slots SET generation = ?2, checked_at_ms = ?3 WHERE machine = ?1",
            )?
            .execute(params![
                machine.as_str(),
                generation.0 as i64,
                now.steady_ms
            ])?;
            lease.generation = generation;
            leases::write(t, &lease)
        })
    }

    /// Nothing is left of a machine: its slot is free.
    pub fn slot_gone(
        &mut self,
        machine: &MachineId,
        why: Option<&str>,
        now: Now,
    ) -> Result<Vec<Ring>, LedgerError> {
        // Machines without a slot are the rule for those who call this; they cost no write.
        if self.look(|t| find(t, machine))?.is_none() {
            return Ok(Vec::new());
        }
        self.ledger("slot_gone", |t| {
            let mut rings = Vec::new();
            free(t, machine, why, now, &mut rings)?;
            Ok(rings)
        })
    }

    /// What a machine's runner is to do; what the clock has decided is written down first.
    pub fn slot_duty(&mut self, machine: &MachineId, now: Now) -> Result<Duty, LedgerError> {
        let seen = self.look(|t| see(t, machine, now))?;
        if !seen.overdue {
            return Ok(seen.duty);
        }
        self.ledger("slot_duty", |t| {
            // Again, for it may have changed.
            let seen = see(t, machine, now)?;
            if !seen.overdue {
                return Ok(seen.duty);
            }
            if let Duty::Guard(lease) = seen.duty {
                let how = lease.overdue(now).unwrap_or(LeaseEnd::Expired);
                // Nobody else is to be told: the caller is the one to ring.
                leases::finish(t, *lease, how, None, now, &mut Vec::new())?;
            } else if let Some(slot) = find(t, machine)? {
                let status = pools::known(t, &slot.pool)?;
                let done = pools::is_done(&status, &slot, now);
                let cause = if done { "ttl" } else { "surplus" };
                change(t, &slot, SlotState::Retiring, None, cause, None, now)?;
            }
            Ok(see(t, machine, now)?.duty)
        })
    }

    /// The slots of a pool, or of all.
    pub fn slots(&mut self, pool: Option<&Name>) -> Result<Vec<Slot>, LedgerError> {
        self.look(|t| {
            let mut statement = t.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM slots WHERE ?1 IS NULL OR pool = ?1 ORDER BY pool, born_at_ms, machine"
            ))?;
            let rows = statement.query_map([pool.map(Name::as_str)], SlotRow::read)?;
            rows.map(|row| row?.parse()).collect()
        })
    }
}

/// A duty, and whether the clock has decided something that is not written down.
struct Seen {
    duty: Duty,
    overdue: bool,
}

fn see(t: &Transaction<'_>, machine: &MachineId, now: Now) -> Result<Seen, Refusal> {
    let seen = |duty| Seen {
        duty,
        overdue: false,
    };
    let Some(slot) = find(t, machine)? else {
        return Ok(seen(Duty::None));
    };
    Ok(match slot.state {
        SlotState::Filling => seen(Duty::Idle { until_ms: None }),
        SlotState::Resetting => seen(Duty::Reset),
        SlotState::Retiring => seen(Duty::Retire),
        SlotState::Leased => match leases::of_machine(t, machine)? {
            Some(lease) => Seen {
                overdue: lease.overdue(now).is_some(),
                duty: Duty::Guard(Box::new(lease)),
            },
            None => {
                return Err(Refusal::unreadable(
                    format!("slot {machine}"),
                    "it is leased without a lease",
                ));
            }
        },
        SlotState::Ready => {
            let status = pools::known(t, &slot.pool)?;
            let ttl = status.pool.spec.ttl_ms;
            Seen {
                overdue: pools::is_done(&status, &slot, now)
                    || pools::is_surplus(&status, &slot, now),
                duty: Duty::Idle {
                    until_ms: ttl.map(|ttl| slot.born_at_ms.saturating_add_unsigned(ttl)),
                },
            }
        }
    })
}

/// Ready machines are told to go, the idlest first, at most `number`.
pub(super) fn send_off(
    t: &Transaction<'_>,
    pool: &Name,
    number: u32,
    now: Now,
    rings: &mut Vec<Ring>,
) -> Result<(), Refusal> {
    let idle: Vec<Slot> = {
        let mut statement = t.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM slots WHERE pool = ?1 AND state = 'ready' ORDER BY since_ms LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![pool.as_str(), number], SlotRow::read)?;
        rows.map(|row| row?.parse())
            .collect::<Result<_, Refusal>>()?
    };
    for slot in idle {
        change(t, &slot, SlotState::Retiring, None, "not_wanted", None, now)?;
        rings.push(Ring::Machine(slot.machine));
    }
    Ok(())
}

/// Frees a slot, and ends the lease on it.
pub(super) fn free(
    t: &Transaction<'_>,
    machine: &MachineId,
    why: Option<&str>,
    now: Now,
    rings: &mut Vec<Ring>,
) -> Result<(), Refusal> {
    if let Some(lease) = leases::of_machine(t, machine)? {
        let how = LeaseEnd::MachineLost;
        leases::finish(t, lease, how, why, now, &mut Vec::new())?;
    }
    let Some(slot) = find(t, machine)? else {
        return Ok(());
    };
    t.prepare_cached("DELETE FROM slots WHERE machine = ?1")?
        .execute([machine.as_str()])?;
    let (pool, from) = (&slot.pool, Some(slot.state));
    let held = Some(now.steady_ms - slot.since_ms);
    append_slot(
        t,
        &SlotChange {
            at_ms: now.wall_ms,
            machine,
            pool,
            lease: None,
            from,
            to: None,
            cause: "gone",
            duration_ms: held,
            detail: why,
        },
    )?;
    // There is room for another one now, and the first in line will make it.
    line::wake(t, pool, rings)?;
    pools::forget_if_empty(t, pool)
}

/// The same in a transaction of the store.
pub(crate) fn free_silently(
    t: &Transaction<'_>,
    machine: &MachineId,
    why: Option<&str>,
    now: Now,
) -> Result<(), Failure> {
    free(t, machine, why, now, &mut Vec::new()).map_err(|refusal| match refusal {
        Refusal::Store(failure) => failure,
        Refusal::Ledger(e) => Failure::Unreadable {
            what: format!("the slot of machine {machine}"),
            source: e.into(),
        },
    })
}

/// Changes a slot's state, by the table.
pub(super) fn change(
    t: &Transaction<'_>,
    slot: &Slot,
    to: SlotState,
    lease: Option<&vmint_model::LeaseId>,
    cause: &str,
    detail: Option<&str>,
    now: Now,
) -> Result<(), Refusal> {
    debug_assert!(slot.state.may_become(to), "{} → {to}", slot.state);
    t.prepare_cached("UPDATE slots SET state = ?2, since_ms = ?3 WHERE machine = ?1")?
        .execute(params![slot.machine.as_str(), to.as_str(), now.steady_ms])?;
    append_slot(
        t,
        &SlotChange {
            at_ms: now.wall_ms,
            machine: &slot.machine,
            pool: &slot.pool,
            lease,
            from: Some(slot.state),
            to: Some(to),
            cause,
            duration_ms: Some(now.steady_ms - slot.since_ms),
            detail,
        },
    )?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "an event has so many parts")]
fn note(
    t: &Transaction<'_>,
    machine: &MachineId,
    pool: &Name,
    lease: Option<&vmint_model::LeaseId>,
    from: Option<SlotState>,
    to: Option<SlotState>,
    cause: &str,
    detail: Option<&str>,
    now: Now,
) -> Result<(), Refusal> {
    append_slot(
        t,
        &SlotChange {
            at_ms: now.wall_ms,
            machine,
            pool,
            lease,
            from,
            to,
            cause,
            duration_ms: None,
            detail,
        },
    )?;
    Ok(())
}

const COLUMNS: &str =
    "machine, pool, state, generation, uses, born_at_ms, since_ms, checked_at_ms, maker";

struct SlotRow {
    machine: String,
    pool: String,
    state: String,
    generation: i64,
    uses: u32,
    born_at_ms: i64,
    since_ms: i64,
    checked_at_ms: i64,
    maker: Option<String>,
}

impl SlotRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            machine: row.get(0)?,
            pool: row.get(1)?,
            state: row.get(2)?,
            generation: row.get(3)?,
            uses: row.get(4)?,
            born_at_ms: row.get(5)?,
            since_ms: row.get(6)?,
            checked_at_ms: row.get(7)?,
            maker: row.get(8)?,
        })
    }

    fn parse(self) -> Result<Slot, Refusal> {
        let what = format!("the slot of machine {:?}", self.machine);
        let bad = |e: String| Refusal::unreadable(what.clone(), e);
        let machine = self.machine.parse().map_err(|_| bad("not an id".into()))?;
        let pool: Name = self
            .pool
            .parse()
            .map_err(|e: vmint_model::InvalidName| bad(e.to_string()))?;
        let state = self
            .state
            .parse()
            .map_err(|e: vmint_model::pool::UnknownPoolState| bad(e.to_string()))?;
        Ok(Slot {
            machine,
            pool,
            state,
            generation: Generation(self.generation as u64),
            uses: self.uses,
            born_at_ms: self.born_at_ms,
            since_ms: self.since_ms,
            checked_at_ms: self.checked_at_ms,
            maker: self.maker.map(|m| parse(&what, &m)).transpose()?,
        })
    }
}

/// A machine's slot, if it has one.
pub(super) fn find(t: &Transaction<'_>, machine: &MachineId) -> Result<Option<Slot>, Refusal> {
    t.prepare_cached(&format!("SELECT {COLUMNS} FROM slots WHERE machine = ?1"))?
        .query_row([machine.as_str()], SlotRow::read)
        .optional()?
        .map(SlotRow::parse)
        .transpose()
}

/// The ready machine that was used last, whose memory is the warmest.
pub(super) fn ready(t: &Transaction<'_>, pool: &Name) -> Result<Option<Slot>, Refusal> {
    t.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM slots WHERE pool = ?1 AND state = 'ready' ORDER BY since_ms DESC LIMIT 1"
    ))?
    .query_row([pool.as_str()], SlotRow::read)
    .optional()?
    .map(SlotRow::parse)
    .transpose()
}
