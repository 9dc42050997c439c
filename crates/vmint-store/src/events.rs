//! What happened to the machines, in one order. The newest [`KEPT`] are kept.

use crate::error::StoreError;
use crate::store::{Failure, Store};
use rusqlite::{Connection, Row, params};
use std::error::Error;
use std::str::FromStr;
use vmint_model::{Cause, Event, LeaseId, MachineId, MachineRecord, MachineState, Name, SlotState};

/// How many events are kept, at least; at most [`TRIM_EVERY`] more.
pub const KEPT: i64 = 100_000;
/// After how many new events the oldest are deleted.
pub const TRIM_EVERY: i64 = 1_000;
/// How many are deleted at once, so that no transaction takes long for another's sake.
const TRIM_AT_MOST: i64 = 2 * TRIM_EVERY;

impl Store {
    /// The events after the one with this number, the oldest first, at most `limit`. 0 is before all.
    pub fn events(&self, after: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT sequence, at_ms, machine, name, from_state, to_state, cause, duration_ms, detail, pool, lease
                 FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![after, limit])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(event(row)?);
            }
            Ok(events)
        };
        read().map_err(|e| self.explain(e))
    }

    /// When a machine was up for the last time, and ended.
    pub fn last_end(&self, machine: &MachineId) -> Result<Option<Event>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT sequence, at_ms, machine, name, from_state, to_state, cause, duration_ms, detail, pool, lease
                 FROM events WHERE machine = ?1 AND pool IS NULL
                     AND from_state IN ('starting', 'running', 'paused', 'stopping')
                     AND (to_state IS NULL OR to_state NOT IN ('starting', 'running', 'paused', 'stopping'))
                 ORDER BY sequence DESC LIMIT 1",
            )?;
            let mut rows = statement.query([machine.as_str()])?;
            rows.next()?.map(event).transpose()
        };
        read().map_err(|e| self.explain(e))
    }

    /// The number of the newest event; 0 if there is none.
    pub fn last_sequence(&self) -> Result<i64, StoreError> {
        self.connection
            .prepare_cached("SELECT coalesce(max(sequence), 0) FROM events")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(|e| self.fail(e))
    }
}

/// A change of a machine's state, as it is written down.
pub(crate) struct Change<'a> {
    pub(crate) at_ms: i64,
    pub(crate) machine: &'a MachineRecord,
    pub(crate) from: Option<MachineState>,
    pub(crate) to: Option<MachineState>,
    pub(crate) cause: Cause,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) detail: Option<&'a str>,
}

/// A change of a slot's state, as it is written down.
pub(crate) struct SlotChange<'a> {
    pub(crate) at_ms: i64,
    pub(crate) machine: &'a MachineId,
    pub(crate) pool: &'a Name,
    pub(crate) lease: Option<&'a LeaseId>,
    pub(crate) from: Option<SlotState>,
    pub(crate) to: Option<SlotState>,
    pub(crate) cause: &'a str,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) detail: Option<&'a str>,
}

/// Writes a slot's change down, in the transaction that makes it. The machines of pools go by their ids.
pub(crate) fn append_slot(
    transaction: &Connection,
    change: &SlotChange<'_>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO events (at_ms, machine, name, from_state, to_state, cause, duration_ms, detail, pool, lease)
             VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            change.at_ms,
            change.machine.as_str(),
            change.from.map(SlotState::as_str),
            change.to.map(SlotState::as_str),
            change.cause,
            change.duration_ms,
            change.detail,
            change.pool.as_str(),
            change.lease.map(LeaseId::as_str),
        ])?;
    trim(transaction)
}

/// Writes a change down, in the transaction that makes it.
pub(crate) fn append(transaction: &Connection, change: &Change<'_>) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO events (at_ms, machine, name, from_state, to_state, cause, duration_ms, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            change.at_ms,
            change.machine.id.as_str(),
            change.machine.name.as_str(),
            change.from.map(MachineState::as_str),
            change.to.map(MachineState::as_str),
            change.cause.as_str(),
            change.duration_ms,
            change.detail,
        ])?;
    trim(transaction)
}

fn trim(transaction: &Connection) -> rusqlite::Result<()> {
    let sequence = transaction.last_insert_rowid();
    if sequence % TRIM_EVERY == 0 {
        transaction
            .prepare_cached(
                "DELETE FROM events WHERE sequence <= min(?1, (SELECT min(sequence) FROM events) + ?2)",
            )?
            .execute(params![sequence - KEPT, TRIM_AT_MOST - 1])?;
    }
    Ok(())
}

fn event(row: &Row<'_>) -> Result<Event, Failure> {
    let sequence: i64 = row.get(0)?;
    fn read<T: FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, Failure>
    where
        T::Err: Error + Send + Sync + 'static,
    {
        let text: Option<String> = row.get(column)?;
        text.map(|s| s.parse())
            .transpose()
            .map_err(|e: T::Err| Failure::Unreadable {
                what: format!("column {column} of an event"),
                source: e.into(),
            })
    }
    let missing = |what: &str| Failure::Unreadable {
        what: format!("event {sequence}"),
        source: format!("it has no {what}").into(),
    };
    let change = match read(row, 9)? {
        None => vmint_model::Change::Machine {
            from: read(row, 4)?,
            to: read(row, 5)?,
        },
        Some(pool) => vmint_model::Change::Slot {
            pool,
            lease: read(row, 10)?,
            from: read(row, 4)?,
            to: read(row, 5)?,
        },
    };
    Ok(Event {
        sequence,
        at_ms: row.get(1)?,
        machine: read(row, 2)?.ok_or_else(|| missing("machine"))?,
        name: read(row, 3)?.ok_or_else(|| missing("name"))?,
        change,
        cause: row.get(6)?,
        duration_ms: row.get(7)?,
        detail: row.get(8)?,
    })
}
