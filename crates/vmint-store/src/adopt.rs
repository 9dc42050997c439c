//! What becomes of records that this home has not made: those of a copy, and those in a database from elsewhere.
//!
//! A database knows the id of its home. If that is another one, its records tell of processes that are not this home's: the
//! machines that were up are recorded as lost, leases have ended, nobody waits in line. No process is touched, and no
//! folder: not even those of machines that were to go with their owners, for these may live, in the other home.

use crate::description;
use crate::error::StoreError;
use crate::events::{self, Change};
use crate::identity::Original;
use crate::ledger::slots;
use crate::lock::FileLock;
use crate::machines::{self, write_record};
use crate::store::{Failure, Store};
use rusqlite::{Transaction, params};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use vmint_model::{Cause, Home, HomeId, MachineId, MachineRecord, MachineState, now_ms};

/// The setting that holds the id of the database's home.
const KEY: &str = "home";

/// What a database was, to the home that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Its own.
    Known,
    /// New, or of an older vmint; it is the home's own now.
    New,
    /// Another home's. It is this one's now.
    Adopted(Adopted),
}

/// What was adopted with another home's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The home that this one is a copy of. Absent if only the database is from elsewhere.
    pub copy_of: Option<Original>,
    /// The names of the machines that were up, or were to go with their owners, and are lost.
    pub lost: Vec<String>,
    /// How many other machines there are.
    pub kept: usize,
    /// Leases that have ended.
    pub leases: usize,
}

impl Adopted {
    /// From where, for a reader; to stand behind “a copy of ” or “from ”.
    pub fn origin(&self) -> String {
        match &self.copy_of {
            Some(original) if !original.path.is_empty() => original.path.clone(),
            _ => "another home".to_owned(),
        }
    }

    /// Why its machines are lost.
    pub fn reason(&self) -> String {
        match &self.copy_of {
            Some(_) => format!(
                "it was not down when its home was copied from {}, and its disk may be incomplete",
                self.origin()
            ),
            None => "its record came with the database of another home".to_owned(),
        }
    }
}

impl Store {
    /// Makes sure that the database is this home's, and adopts it if it is not. Costs one look if it is.
    pub fn settle(&mut self, home: &Home) -> Result<Settled, StoreError> {
        let Some(id) = home.mark().to_str().and_then(|m| m.parse::<HomeId>().ok()) else {
            // A home that was not opened, but put together: of a test.
            return Ok(Settled::Known);
        };
        if self.setting(KEY)?.as_deref() == Some(id.as_str()) {
            return Ok(Settled::Known);
        }
        let copy_of = crate::Identity::of(home).ok().flatten();
        let copy_of = copy_of.and_then(|identity| identity.copy_of);
        // A copy by hard links shares the very file with the original, whose id must not be written over; nor is its disk one
        // of its own.
        let is_linked = std::fs::metadata(&self.path).is_ok_and(|file| file.nlink() > 1);
        if is_linked && copy_of.is_some() {
            return Err(StoreError::Linked {
                path: self.path.clone(),
            });
        }
        let settled = self.write(|t| settle(t, home, &id, copy_of.clone()))?;
        if settled != Settled::Known {
            self.describe_all(home)?;
        }
        Ok(settled)
    }

    /// Has all folders say what they are, those of an older vmint for the first time.
    fn describe_all(&self, home: &Home) -> Result<(), StoreError> {
        for record in self.list(crate::MachineFilter::All)? {
            description::describe_machine(home, &record);
        }
        for record in self.list_snapshots(&crate::SnapshotFilter::All)? {
            description::describe_snapshot(home, &home.snapshot(&record.name), &record);
        }
        Ok(())
    }
}

fn settle(
    t: &Transaction<'_>,
    home: &Home,
    id: &HomeId,
    copy_of: Option<Original>,
) -> Result<Settled, Failure> {
    use rusqlite::OptionalExtension;
    // Again, for another process may have been faster.
    let found: Option<String> = t
        .query_row("SELECT value FROM settings WHERE key = ?1", [KEY], |row| {
            row.get(0)
        })
        .optional()?;
    if found.as_deref() == Some(id.as_str()) {
        return Ok(Settled::Known);
    }
    t.execute(
        "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [KEY, id.as_str()],
    )?;
    // A database that was copied along, or one without an id in a home that may be a copy.
    let copy_of = copy_of.filter(|o| found.as_deref().is_none_or(|f| f == o.id.as_str()));
    if found.is_none() && copy_of.is_none() {
        return Ok(Settled::New);
    }
    let mut adopted = Adopted {
        copy_of,
        ..Adopted::default()
    };
    t.execute_batch(
        "DELETE FROM waiters; DELETE FROM admission_line; DELETE FROM admissions; DELETE FROM stop_requests;",
    )?;
    lose_machines(t, home, &mut adopted)?;
    end_leases(t, &mut adopted)?;
    Ok(Settled::Adopted(adopted))
}

fn lose_machines(t: &Transaction<'_>, home: &Home, adopted: &mut Adopted) -> Result<(), Failure> {
    let now = now_ms();
    for record in machines::all(t)? {
        // A runner lives in this very folder: the machine is this home's, wherever the database comes from.
        if FileLock::is_held(&home.machine(&record.id).lock()).unwrap_or(false) {
            adopted.kept += 1;
            continue;
        }
        let was_up = record.state.has_runner();
        if !was_up && !record.ephemeral && record.pool.is_none() {
            adopted.kept += 1;
            continue;
        }
        let reason = adopted.reason();
        // Neither owner nor pool, so that nothing but a user's word removes it.
        let lost = MachineRecord {
            state: if was_up {
                MachineState::Failed
            } else {
                record.state
            },
            ephemeral: false,
            pool: None,
            owner: None,
            runner: None,
            hypervisor: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            reason: if was_up {
                Some(reason.clone())
            } else {
                record.reason.clone()
            },
            ..record.clone()
        };
        write_record(t, &lost)?;
        if was_up {
            t.prepare_cached("UPDATE machines SET state_since_ms = ?2 WHERE id = ?1")?
                .execute(params![lost.id.as_str(), now])?;
            let change = Change {
                at_ms: now,
                machine: &lost,
                from: Some(record.state),
                to: Some(lost.state),
                cause: Cause::HomeChanged,
                duration_ms: None,
                detail: Some(&reason),
            };
            events::append(t, &change)?;
        }
        adopted.lost.push(lost.name.to_string());
    }
    Ok(())
}

/// Ends the leases on the machines of pools, and frees their slots.
fn end_leases(t: &Transaction<'_>, adopted: &mut Adopted) -> Result<(), Failure> {
    adopted.leases = t.query_row(
        "SELECT count(*) FROM leases WHERE ended_at_ms IS NULL",
        [],
        |row| row.get::<_, u32>(0),
    )? as usize;
    let reason = adopted.reason();
    let slots: Vec<String> = {
        let mut statement = t.prepare("SELECT machine FROM slots")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    };
    for machine in slots {
        if let Ok(machine) = machine.parse::<MachineId>() {
            slots::free_silently(t, &machine, Some(&reason), crate::now())?;
        }
    }
    Ok(())
}

/// Moves a folder that has no record to where nothing deletes it but `vmint gc`, and that by its age; says where it is then.
pub fn put_away(home: &Home, folder: &Path, name: &str) -> std::io::Result<std::path::PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let place = home.lost_and_found();
    match std::fs::DirBuilder::new().mode(0o700).create(&place) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // From now on, not from when it was changed last. Before it is moved: a folder there always has its age.
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let now = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        folder,
        &now,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?;
    for number in 1_u32.. {
        let to = match number {
            1 => place.join(name),
            _ => place.join(format!("{name}.{number}")),
        };
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, folder, rustix::fs::CWD, &to, flags) {
            Ok(()) => return Ok(to),
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    unreachable!("some name is free")
}
