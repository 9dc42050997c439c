//! How leases are renewed, and end.

use super::{Refusal, json, line, parse, pools, slots};
use crate::{Store, machines};
use rusqlite::{OptionalExtension, Transaction, params};
use vmint_model::{
    By, Ended, LeaseEnd, LeaseId, LeaseRecord, LedgerError, MachineId, Name, Now, OwnerGone, Ring,
    SlotState,
};

/// How many leases are remembered after their end.
const REMEMBERED: i64 = 10_000;

impl Store {
    /// Ends a lease.
    pub fn end_lease(
        &mut self,
        id: &LeaseId,
        by: By<'_>,
        how: LeaseEnd,
        detail: Option<&str>,
        now: Now,
    ) -> Result<(LeaseRecord, Vec<Ring>), LedgerError> {
        self.ledger("end_lease", |t| {
            let lease = running(t, id)?;
            line::entitled(&lease, by)?;
            let mut rings = Vec::new();
            let lease = finish(t, lease, how, detail, now, &mut rings)?;
            Ok((lease, rings))
        })
    }

    /// Ends the lease of an owner that is gone, for the runner that watches it. One that has ended, or is forgotten, stays as it is.
    pub fn owner_gone(
        &mut self,
        id: &LeaseId,
        gone: &OwnerGone,
        now: Now,
    ) -> Result<Vec<Ring>, LedgerError> {
        self.ledger("owner_gone", |t| {
            let mut rings = Vec::new();
            if let Some(lease) = find(t, id)?.filter(|lease| lease.ended.is_none()) {
                let (how, why) = gone.lease_end();
                finish(t, lease, how, why, now, &mut rings)?;
            }
            Ok(rings)
        })
    }

    /// Renews a lease.
    pub fn renew_lease(
        &mut self,
        id: &LeaseId,
        by: By<'_>,
        now: Now,
    ) -> Result<LeaseRecord, LedgerError> {
        self.ledger("renew_lease", |t| {
            let mut lease = running(t, id)?;
            line::entitled(&lease, by)?;
            if let Some(how) = lease.overdue(now) {
                // The runner has not come to it yet, but the time is up.
                let ended = Ended {
                    how,
                    at_ms: now.wall_ms,
                    detail: None,
                };
                let id = lease.id;
                return Err(LedgerError::LeaseEnded { id, ended }.into());
            }
            lease.renew(now);
            write(t, &lease)?;
            Ok(lease)
        })
    }

    /// A lease, ended or not.
    pub fn lease(&mut self, id: &LeaseId) -> Result<LeaseRecord, LedgerError> {
        self.look(|t| find(t, id)?.ok_or_else(|| LedgerError::NoLease(id.clone()).into()))
    }

    /// The lease on a machine that has not ended.
    pub fn lease_of_machine(
        &mut self,
        machine: &MachineId,
    ) -> Result<Option<LeaseRecord>, LedgerError> {
        self.look(|t| of_machine(t, machine))
    }

    /// The last lease that there was on a machine, ended or not. Reads all that are remembered.
    pub fn last_lease_of_machine(
        &mut self,
        machine: &MachineId,
    ) -> Result<Option<LeaseRecord>, LedgerError> {
        self.look(|t| {
            t.prepare_cached(
                "SELECT record FROM leases WHERE machine = ?1 ORDER BY sequence DESC LIMIT 1",
            )?
            .query_row([machine.as_str()], |row| row.get::<_, String>(0))
            .optional()?
            .map(|text| parse("a lease", &text))
            .transpose()
        })
    }

    /// All leases that have not ended, the oldest first.
    pub fn leases(&mut self) -> Result<Vec<LeaseRecord>, LedgerError> {
        self.look(|t| held(t, None))
    }
}

/// How many consoles of lost machines are kept.
const CONSOLES: i64 = 100;
/// So many bytes of each.
pub const CONSOLE: usize = 32 << 10;

impl Store {
    /// Before a machine goes whose lease has not ended: keeps the end of its console with the lease, whose holder has not seen it yet.
    /// Whether there was such a lease.
    pub fn leave_console(
        &mut self,
        machine: &MachineId,
        console: &str,
    ) -> Result<bool, LedgerError> {
        if self.look(|t| of_machine(t, machine))?.is_none() {
            return Ok(false);
        }
        self.ledger("leave_console", |t| {
            let Some(mut lease) = of_machine(t, machine)? else {
                return Ok(false);
            };
            let from = console.ceil_char_boundary(console.len().saturating_sub(CONSOLE));
            lease.console = Some(console[from..].to_owned());
            write(t, &lease)?;
            // Machines are lost seldom: this reads what is remembered of leases.
            t.prepare_cached(
                "UPDATE leases SET record = json_remove(record, '$.console') WHERE sequence IN (
                     SELECT sequence FROM leases WHERE json_extract(record, '$.console') IS NOT NULL
                     ORDER BY sequence DESC LIMIT -1 OFFSET ?1)",
            )?
            .execute([CONSOLES])?;
            Ok(true)
        })
    }
}

impl Store {
    /// What is left of the machine of this lease, if that is lost, is to be kept as a stopped machine of this name; or no more.
    pub fn keep_if_lost(
        &mut self,
        id: &LeaseId,
        by: By<'_>,
        name: Option<&Name>,
    ) -> Result<LeaseRecord, LedgerError> {
        self.ledger("keep_if_lost", |t| {
            let mut lease = running(t, id)?;
            line::entitled(&lease, by)?;
            lease.keep_lost = name.cloned();
            write(t, &lease)?;
            Ok(lease)
        })
    }

    /// Makes a machine that was lost while it was lent an ordinary one, of the name that its holder has asked for, or of its own where
    /// another machine has that one. Its slot is free then and its lease ended, in the same transaction. `None`, and nothing is
    /// changed, if nobody wants it.
    pub fn keep_lost(
        &mut self,
        machine: &MachineId,
        why: Option<&str>,
        now: Now,
    ) -> Result<Option<(Name, Vec<Ring>)>, LedgerError> {
        self.ledger("keep_lost", |t| {
            let Some(mut lease) = of_machine(t, machine)? else {
                return Ok(None);
            };
            let Some(wanted) = lease.keep_lost.clone() else {
                return Ok(None);
            };
            let name = machines::set_apart(t, machine, &wanted)?;
            lease.kept = Some(name.clone());
            write(t, &lease)?;
            let mut rings = Vec::new();
            slots::free(t, machine, why, now, &mut rings)?;
            Ok(Some((name, rings)))
        })
    }
}

/// A lease that has not ended.
fn running(t: &Transaction<'_>, id: &LeaseId) -> Result<LeaseRecord, Refusal> {
    let lease = find(t, id)?.ok_or_else(|| LedgerError::NoLease(id.clone()))?;
    match lease.ended {
        None => Ok(lease),
        Some(ended) => Err(LedgerError::LeaseEnded {
            id: lease.id,
            ended,
        }
        .into()),
    }
}

/// Ends a lease, and sends its machine to be reset or to retire.
pub(super) fn finish(
    t: &Transaction<'_>,
    mut lease: LeaseRecord,
    how: LeaseEnd,
    detail: Option<&str>,
    now: Now,
    rings: &mut Vec<Ring>,
) -> Result<LeaseRecord, Refusal> {
    lease.ended = Some(Ended {
        how,
        at_ms: now.wall_ms,
        detail: detail.map(str::to_owned),
    });
    write(t, &lease)?;
    if let Some(slot) = slots::find(t, &lease.machine)? {
        let status = pools::known(t, &slot.pool)?;
        let retire = how == LeaseEnd::MachineLost || pools::is_done(&status, &slot, now);
        let to = if retire {
            SlotState::Retiring
        } else {
            SlotState::Resetting
        };
        slots::change(t, &slot, to, Some(&lease.id), how.as_str(), detail, now)?;
        rings.push(Ring::Machine(slot.machine));
    }
    forget_old(t)?;
    Ok(lease)
}

/// Two at a time, so that the number of those remembered falls when it is too large and no transaction is long.
fn forget_old(t: &Transaction<'_>) -> Result<(), Refusal> {
    t.prepare_cached(
        "DELETE FROM leases WHERE sequence IN (
             SELECT sequence FROM leases
             WHERE sequence < (SELECT max(sequence) FROM leases) - ?1 AND ended_at_ms IS NOT NULL
             ORDER BY sequence LIMIT 2)",
    )?
    .execute([REMEMBERED])?;
    Ok(())
}

pub(super) fn find(t: &Transaction<'_>, id: &LeaseId) -> Result<Option<LeaseRecord>, Refusal> {
    t.prepare_cached("SELECT record FROM leases WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get::<_, String>(0))
        .optional()?
        .map(|text| parse("a lease", &text))
        .transpose()
}

/// The lease on a machine that has not ended.
pub(super) fn of_machine(
    t: &Transaction<'_>,
    machine: &MachineId,
) -> Result<Option<LeaseRecord>, Refusal> {
    t.prepare_cached("SELECT record FROM leases WHERE machine = ?1 AND ended_at_ms IS NULL")?
        .query_row([machine.as_str()], |row| row.get::<_, String>(0))
        .optional()?
        .map(|text| parse("a lease", &text))
        .transpose()
}

pub(super) fn held(t: &Transaction<'_>, pool: Option<&Name>) -> Result<Vec<LeaseRecord>, Refusal> {
    let mut statement =
        t.prepare_cached("SELECT record FROM leases WHERE ended_at_ms IS NULL ORDER BY sequence")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let all = rows.map(|text| parse::<LeaseRecord>("a lease", &text?));
    all.filter(|lease| {
        let mine = |l: &LeaseRecord| pool.is_none_or(|pool| l.pool == *pool);
        lease.as_ref().map_or(true, mine)
    })
    .collect()
}

/// A unique index makes it fail if the machine is lent already, whatever the code thinks.
pub(super) fn add(t: &Transaction<'_>, lease: &LeaseRecord) -> Result<(), Refusal> {
    t.prepare_cached(
        "INSERT INTO leases (id, machine, ended_at_ms, record) VALUES (?1, ?2, NULL, ?3)",
    )?
    .execute(params![
        lease.id.as_str(),
        lease.machine.as_str(),
        json(lease)
    ])?;
    Ok(())
}

pub(super) fn write(t: &Transaction<'_>, lease: &LeaseRecord) -> Result<(), Refusal> {
    t.prepare_cached("UPDATE leases SET record = ?2, ended_at_ms = ?3 WHERE id = ?1")?
        .execute(params![
            lease.id.as_str(),
            json(lease),
            lease.ended.as_ref().map(|e| e.at_ms),
        ])?;
    Ok(())
}
