//! What is booked at the moment of a decision, and what of it still counts.

use super::{Booked, LIVE, Request};
use crate::ledger::Moment;
use crate::store::Failure;
use rusqlite::{OptionalExtension, Row, Transaction};
use vmint_model::MachineId;

struct Promised {
    machine: String,
    bytes: i64,
    boot: Option<String>,
    holder: String,
    /// Whether its machine has memory.
    lives: bool,
}

/// What is booked at the moment of a request. Rows of the dead that nothing lives by are deleted on the way.
pub(super) fn booked(
    t: &Transaction<'_>,
    request: &Request,
    moment: Moment<'_>,
    without_row: &[(MachineId, u64)],
) -> Result<Booked, Failure> {
    let mut booked = Booked::default();
    let rows: Vec<Promised> = t
        .prepare_cached(&format!(
            "SELECT a.machine, a.bytes, a.boot, a.holder, m.id IS NOT NULL
             FROM admissions a LEFT JOIN machines m ON m.id = a.machine AND m.state IN {LIVE}"
        ))?
        .query_map([], |row| {
            Ok(Promised {
                machine: row.get(0)?,
                bytes: row.get(1)?,
                boot: row.get(2)?,
                holder: row.get(3)?,
                lives: row.get(4)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for row in rows {
        if row.machine == request.machine.as_str() {
            continue;
        }
        if !row.lives && !lives(&row.holder, moment) {
            // Its holder died between the promise and the machine.
            t.prepare_cached("DELETE FROM admissions WHERE machine = ?1")?
                .execute([&row.machine])?;
            continue;
        }
        booked.boots += u32::from(row.boot.as_deref() == Some(request.boot.as_str()));
        let Ok(machine) = row.machine.parse() else {
            continue;
        };
        booked.promises.push((machine, bytes(row.bytes)));
    }
    for (machine, bytes) in without_row {
        let known = booked.promises.iter().any(|(known, _)| known == machine);
        if !known && machine != &request.machine && is_live(t, machine)? {
            booked.promises.push((machine.clone(), *bytes));
        }
    }
    let own: Option<i64> = t
        .prepare_cached("SELECT ticket FROM admission_line WHERE machine = ?1")?
        .query_row([request.machine.as_str()], |row| row.get(0))
        .optional()?;
    let line: Vec<Waiting> = t
        .prepare_cached(
            "SELECT ticket, bytes, boot, awaits, process, deadline_ms FROM admission_line ORDER BY ticket",
        )?
        .query_map([], Waiting::read)?
        .collect::<Result<_, _>>()?;
    for waiting in line {
        if own.is_some_and(|own| waiting.ticket > own) {
            break;
        }
        if own == Some(waiting.ticket) {
            booked.awaited.push(waiting.awaits);
            continue;
        }
        if waiting.deadline_ms <= moment.now.steady_ms || !lives(&waiting.process, moment) {
            t.prepare_cached("DELETE FROM admission_line WHERE ticket = ?1")?
                .execute([waiting.ticket])?;
            continue;
        }
        booked.ahead_bytes = booked.ahead_bytes.saturating_add(bytes(waiting.bytes));
        booked.ahead_boots += u32::from(waiting.boot == request.boot.as_str());
        booked.awaited.push(waiting.awaits);
    }
    Ok(booked)
}

struct Waiting {
    ticket: i64,
    bytes: i64,
    boot: String,
    awaits: String,
    process: String,
    deadline_ms: i64,
}

impl Waiting {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            ticket: row.get(0)?,
            bytes: row.get(1)?,
            boot: row.get(2)?,
            awaits: row.get(3)?,
            process: row.get(4)?,
            deadline_ms: row.get(5)?,
        })
    }
}

fn is_live(t: &Transaction<'_>, machine: &MachineId) -> rusqlite::Result<bool> {
    t.prepare_cached(&format!(
        "SELECT EXISTS (SELECT 1 FROM machines WHERE id = ?1 AND state IN {LIVE})"
    ))?
    .query_row([machine.as_str()], |row| row.get(0))
}

/// A process that cannot be understood is none.
fn lives(process: &str, moment: Moment<'_>) -> bool {
    serde_json::from_str(process).is_ok_and(|process| (moment.lives)(&process))
}

fn bytes(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}
