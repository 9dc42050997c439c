//! What is promised to machines, and who waits for a promise.
//!
//! A row of `admissions` is a promise of memory to a machine, and, while it has a `boot`, a place among those that start.
//! It is written in the transaction that decides, so that no two decisions count on the same memory or place, and it
//! lives as long as what it is for:
//!
//! ```text
//!  admit ──▶ holder alive ──▶ machine starting ──▶ running ─────▶ down, or gone
//!            (no machine       (the trigger          (the trigger
//!             yet)              frees the place)      deletes the row)
//! ```
//!
//! A holder that dies before there is a machine leaves a row that nobody counts and the next admission deletes. A holder
//! that dies later leaves a machine, and what becomes of that is the sweep's business.
//!
//! Who is held gets into line, with what he asked for, which nobody behind him is given, and a bell. Who dies or has let
//! his deadline pass leaves the line.
//!
//! * `booked`: what counts at the moment of a decision.

mod booked;
#[cfg(test)]
mod tests;

use crate::ledger::Moment;
use crate::store::Failure;
use crate::{MachineFilter, Store, StoreError};
use booked::booked;
use rusqlite::{Transaction, params};
use vmint_model::{Bell, Boot, MachineId, ProcessRef};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For this machine, which need not exist yet; or for something that boots and never will be a machine.
    pub machine: MachineId,
    /// Memory.
    pub bytes: u64,
    /// The place.
    pub boot: Boot,
    /// Who asks. The promise is his until the machine exists.
    pub holder: ProcessRef,
    /// If it is held: where it waits. Without, it does not.
    pub wait: Option<Wait>,
}

/// How somebody waits in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Where to ring.
    pub bell: Bell,
    /// When he goes at the latest, on the steady clock.
    pub deadline_ms: i64,
}

/// What is booked at the moment of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// Each machine's promise, the asker's own of an earlier time not included.
    pub promises: Vec<(MachineId, u64)>,
    /// Boots of the asker's kind that are under way.
    pub boots: u32,
    /// Bytes that those ahead in the line have asked for.
    pub ahead_bytes: u64,
    /// How many of those ahead have asked for the same kind of boot.
    pub ahead_boots: u32,
    /// What those ahead are held for, and what the asker was held for when he asked last.
    pub awaited: Vec<String>,
}

/// A machine in a state in which it has memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its id.
    pub machine: MachineId,
    /// Its guest's memory, in bytes.
    pub memory: u64,
    /// Its hypervisor, once there is one.
    pub hypervisor: Option<ProcessRef>,
}

/// The states in which a machine has memory, as the triggers of `admissions` have them.
const LIVE: &str = "('starting', 'running', 'paused', 'stopping')";

impl Store {
    /// The machines that have memory.
    pub fn live(&self) -> Result<Vec<Live>, StoreError> {
        let live = self.list(MachineFilter::Live)?.into_iter();
        Ok(live
            .map(|record| Live {
                machine: record.id,
                memory: record.spec.memory.0,
                hypervisor: record.hypervisor,
            })
            .collect())
    }

    /// Decides about a request, and books it if `decide` says yes. `decide` says no with one word for what is awaited,
    /// which those behind learn, and with whatever the caller wants to know. Asked again for the same machine, it is the
    /// same request: it keeps its place in line.
    ///
    /// The promise of a machine without a row, one that was started by a version of vmint that made none, is taken from
    /// `without_row`.
    pub fn admit<H>(
        &mut self,
        request: &Request,
        moment: Moment<'_>,
        without_row: &[(MachineId, u64)],
        decide: impl FnOnce(&Booked) -> Result<(), (&'static str, H)>,
    ) -> Result<Result<(), H>, StoreError> {
        self.write(|t| {
            let booked = booked(t, request, moment, without_row)?;
            match decide(&booked) {
                Ok(()) => {
                    leave(t, &request.machine)?;
                    t.prepare_cached(
                        "INSERT OR REPLACE INTO admissions (machine, bytes, boot, holder, at_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        request.machine.as_str(),
                        integer(request.bytes),
                        request.boot.as_str(),
                        json(&request.holder),
                        moment.now.steady_ms,
                    ])?;
                    Ok(Ok(()))
                }
                Err((awaits, held)) => {
                    if let Some(wait) = &request.wait {
                        enter(t, request, wait, awaits)?;
                    }
                    Ok(Err(held))
                }
            }
        })
    }

    /// Leaves the line, and gives the promise back unless there is a machine by now that has it.
    pub fn withdraw_admission(&mut self, machine: &MachineId) -> Result<(), StoreError> {
        self.write(|t| {
            leave(t, machine)?;
            t.prepare_cached(&format!(
                "DELETE FROM admissions WHERE machine = ?1 AND NOT EXISTS
                     (SELECT 1 FROM machines WHERE id = ?1 AND state IN {LIVE})"
            ))?
            .execute([machine.as_str()])?;
            Ok(())
        })
    }

    /// The bells of all in line with what they want, in their order. When something has become free the first of each
    /// kind is to be rung who hears it. Reads only.
    pub fn admission_bells(&self) -> Result<Vec<(String, Bell)>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached("SELECT boot, bell FROM admission_line ORDER BY ticket")?
                .query_map([], |row| Ok((row.get(0)?, Bell(row.get(1)?))))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.fail(e))
    }

    /// How many boots of a kind are under way, and how many wait to be admitted.
    pub fn admissions(&self, boot: Boot) -> Result<(u32, u32), StoreError> {
        let read = || {
            let boots = self
                .connection
                .prepare_cached("SELECT count(*) FROM admissions WHERE boot = ?1")?
                .query_row([boot.as_str()], |row| row.get(0))?;
            let waiting = self
                .connection
                .prepare_cached("SELECT count(*) FROM admission_line WHERE boot = ?1")?
                .query_row([boot.as_str()], |row| row.get(0))?;
            Ok((boots, waiting))
        };
        read().map_err(|e| self.fail(e))
    }
}

fn enter(t: &Transaction<'_>, request: &Request, wait: &Wait, awaits: &str) -> Result<(), Failure> {
    t.prepare_cached(
        "INSERT INTO admission_line (machine, bytes, boot, awaits, bell, process, deadline_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (machine) DO UPDATE SET awaits = excluded.awaits",
    )?
    .execute(params![
        request.machine.as_str(),
        integer(request.bytes),
        request.boot.as_str(),
        awaits,
        wait.bell.0,
        json(&request.holder),
        wait.deadline_ms,
    ])?;
    Ok(())
}

fn leave(t: &Transaction<'_>, machine: &MachineId) -> Result<(), Failure> {
    t.prepare_cached("DELETE FROM admission_line WHERE machine = ?1")?
        .execute([machine.as_str()])?;
    Ok(())
}

fn integer(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn json(process: &ProcessRef) -> String {
    serde_json::to_string(process).expect("has no keys but strings")
}
