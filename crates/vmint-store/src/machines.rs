//! The machines' records. A state changes in [`Store::transition`] alone; and in [`Store::take_up`], for a machine that the
//! store has not known, or not lately.

use crate::description;
use crate::error::StoreError;
use crate::events::{self, Change};
use crate::store::{Failure, Store};
use rusqlite::{Connection, OptionalExtension, Row, params};
use vmint_model::{Cause, MachineId, MachineRecord, MachineState, Name, now_ms};

/// Which machines to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MachineFilter {
    /// All.
    #[default]
    All,
    /// Those in a state in which a runner must be alive. Whether it is, its lock says.
    Live,
    /// Those that go away when they stop or their owner ends.
    Ephemeral,
}

/// A wish, left in the store, that a machine be stopped: for a runner that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRequest {
    /// Whether the guest is not to be asked at all.
    pub force: bool,
    /// When the guest's time to shut down ends, on the steady clock.
    pub deadline_ms: i64,
}

/// What becomes of a record that the store has of a machine that is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It stays: it counts more than what the machine's folder says.
    Keep,
    /// It goes: the runner knows better.
    Replace,
}

const COLUMNS: &str = "id, name, state, state_since_ms, record";

impl Store {
    /// Adds a machine, `created` or `starting`, and its first event. A name that another machine has as name or id is
    /// taken.
    pub fn insert(&mut self, record: &MachineRecord) -> Result<(), StoreError> {
        let (name, state) = (record.name.clone(), record.state);
        if !matches!(state, MachineState::Created | MachineState::Starting) {
            return Err(StoreError::NotABeginning { name, state });
        }
        self.write(|transaction| {
            if let Some(other) = by_name_or_id(transaction, name.as_str())? {
                let state = other.record.state;
                return Err(StoreError::NameTaken { name, state }.into());
            }
            let now = now_ms();
            insert_row(transaction, record, now)?;
            let change = Change {
                at_ms: now,
                machine: record,
                from: None,
                to: Some(state),
                cause: Cause::Requested,
                duration_ms: None,
                detail: None,
            };
            Ok(events::append(transaction, &change)?)
        })?;
        self.describe(record);
        Ok(())
    }

    /// Has the machine's folder say what it is now.
    fn describe(&self, record: &MachineRecord) {
        if let Some(home) = &self.home {
            description::describe_machine(home, record);
        }
    }

    /// Makes this the record of a machine that the store lacks, or knows from another time if it is to be
    /// [replaced](Known::Replace); the first event of it here says why. Gives back the record as it is in the store then:
    /// where another machine has the name, the machine goes by its id.
    pub fn take_up(
        &mut self,
        record: &MachineRecord,
        known: Known,
        detail: &str,
    ) -> Result<MachineRecord, StoreError> {
        let taken = self.write(|transaction| {
            let mut record = record.clone();
            match by_id(transaction, &record.id) {
                Ok(old) if known == Known::Keep => return Ok(old.record),
                Ok(_) => {
                    transaction
                        .prepare_cached("DELETE FROM machines WHERE id = ?1")?
                        .execute([record.id.as_str()])?;
                }
                Err(Failure::Store(StoreError::NoMachine { .. })) => {}
                Err(e) => return Err(e),
            }
            if by_name_or_id(transaction, record.name.as_str())?.is_some() {
                record.name = record.id.as_str().parse().expect("an id is a legal name");
            }
            let now = now_ms();
            insert_row(transaction, &record, now)?;
            let change = Change {
                at_ms: now,
                machine: &record,
                from: None,
                to: Some(record.state),
                cause: Cause::HomeChanged,
                duration_ms: None,
                detail: Some(detail),
            };
            events::append(transaction, &change)?;
            Ok(record)
        })?;
        self.describe(&taken);
        Ok(taken)
    }

    /// The machine with this id, if there is one.
    pub fn get(&self, id: &MachineId) -> Result<Option<MachineRecord>, StoreError> {
        match by_id(&self.connection, id) {
            Ok(row) => Ok(Some(row.record)),
            Err(Failure::Store(StoreError::NoMachine { .. })) => Ok(None),
            Err(e) => Err(self.explain(e)),
        }
    }

    /// The machine with this name, or else with this id; an error if there is none.
    pub fn by_name_or_id(&self, name: &str) -> Result<MachineRecord, StoreError> {
        match by_name_or_id(&self.connection, name).map_err(|e| self.explain(e))? {
            Some(row) => Ok(row.record),
            None => Err(StoreError::NoMachine {
                name: name.chars().take(80).collect(),
            }),
        }
    }

    /// Machines, the oldest first.
    pub fn list(&self, filter: MachineFilter) -> Result<Vec<MachineRecord>, StoreError> {
        let condition = match filter {
            MachineFilter::All => "TRUE".to_owned(),
            MachineFilter::Live => format!("state IN ({})", live_states()),
            MachineFilter::Ephemeral => "ephemeral".to_owned(),
        };
        those(&self.connection, &condition).map_err(|e| self.explain(e))
    }

    /// How many machines are in a state in which a runner must be alive.
    pub fn count_live(&self) -> Result<u64, StoreError> {
        let query = format!(
            "SELECT count(*) FROM machines WHERE state IN ({})",
            live_states()
        );
        self.connection
            .prepare_cached(&query)
            .and_then(|mut s| s.query_row([], |row| row.get::<_, u32>(0)))
            .map(u64::from)
            .map_err(|e| self.fail(e))
    }

    /// Changes a machine's state: checks the change against the table, applies `update` to the record, writes it, and
    /// appends the event, all in one transaction. Gives back the new record.
    ///
    /// `expected_from` makes it fail if the state is another one now. `update` sees the record with its old state;
    /// what it does to id, name, state and time of creation is not kept. A request to stop does not survive the
    /// machine's end, nor its start.
    pub fn transition(
        &mut self,
        id: &MachineId,
        expected_from: Option<MachineState>,
        to: MachineState,
        cause: Cause,
        detail: Option<&str>,
        update: impl FnOnce(&mut MachineRecord),
    ) -> Result<MachineRecord, StoreError> {
        let new = self.write(|transaction| {
            let old = by_id(transaction, id)?;
            let (name, from) = (&old.record.name, old.record.state);
            if let Some(expected) = expected_from
                && expected != from
            {
                return Err(StoreError::UnexpectedState {
                    name: name.clone(),
                    expected,
                    actual: from,
                }
                .into());
            }
            from.to(to)
                .map_err(|source| StoreError::IllegalTransition {
                    name: name.clone(),
                    source,
                })?;
            let new = updated(&old.record, to, update);
            let now = now_ms();
            write_record(transaction, &new)?;
            transaction
                .prepare_cached("UPDATE machines SET state_since_ms = ?2 WHERE id = ?1")?
                .execute(params![id.as_str(), now])?;
            if from.has_runner() != to.has_runner() {
                forget_stop_request(transaction, id)?;
            }
            let change = Change {
                at_ms: now,
                machine: &new,
                from: Some(from),
                to: Some(to),
                cause,
                duration_ms: Some(old.age_ms(now)),
                detail,
            };
            events::append(transaction, &change)?;
            Ok(new)
        })?;
        tracing::debug!(machine = %id, %to, %cause, generation = %new.generation, "the store has recorded");
        // On the way to another state that will be written down, or to none.
        let is_passing = matches!(
            to,
            MachineState::Starting | MachineState::Stopping | MachineState::Removing
        );
        if !is_passing {
            self.describe(&new);
        }
        Ok(new)
    }

    /// Changes a machine's record, but not its state: what `update` does to id, name, state and time of creation is
    /// not kept. Gives back the new record.
    pub fn update(
        &mut self,
        id: &MachineId,
        update: impl FnOnce(&mut MachineRecord),
    ) -> Result<MachineRecord, StoreError> {
        let (new, is_changed) = self.write(|transaction| {
            let old = by_id(transaction, id)?.record;
            let new = updated(&old, old.state, update);
            let is_changed = new != old;
            if is_changed {
                write_record(transaction, &new)?;
            }
            Ok((new, is_changed))
        })?;
        if is_changed {
            self.describe(&new);
        }
        Ok(new)
    }

    /// Deletes a machine's record, from a state in which that is legal, and gives it back. The machine's folder goes
    /// before: while the record exists, the deletion can be tried again.
    pub fn delete(&mut self, id: &MachineId, cause: Cause) -> Result<MachineRecord, StoreError> {
        self.write(|transaction| {
            let old = by_id(transaction, id)?;
            let from = old.record.state;
            if from != MachineState::Removing {
                from.to(MachineState::Removing).map_err(|source| {
                    StoreError::IllegalTransition {
                        name: old.record.name.clone(),
                        source,
                    }
                })?;
            }
            transaction
                .prepare_cached("DELETE FROM machines WHERE id = ?1")?
                .execute([id.as_str()])?;
            let now = now_ms();
            // Whoever deletes a machine of a pool frees its slot before, with its reason; this is for those who forgot.
            crate::ledger::slots::free_silently(transaction, id, None, crate::now())?;
            let change = Change {
                at_ms: now,
                machine: &old.record,
                from: Some(from),
                to: None,
                cause,
                duration_ms: Some(old.age_ms(now)),
                detail: None,
            };
            events::append(transaction, &change)?;
            Ok(old.record)
        })
    }

    /// Leaves a wish that a machine be stopped. Of several wishes the sterner counts: force, and the earlier deadline.
    /// `false`, and nothing is left, if the machine is in a state without a runner that could take it.
    pub fn request_stop(
        &mut self,
        id: &MachineId,
        request: StopRequest,
    ) -> Result<bool, StoreError> {
        self.write(|transaction| {
            if !by_id(transaction, id)?.record.state.has_runner() {
                return Ok(false);
            }
            transaction
                .prepare_cached(
                    "INSERT INTO stop_requests (machine, force, deadline_ms) VALUES (?1, ?2, ?3)
                     ON CONFLICT (machine) DO UPDATE SET
                         force = max(force, excluded.force), deadline_ms = min(deadline_ms, excluded.deadline_ms)",
                )?
                .execute(params![id.as_str(), request.force, request.deadline_ms])?;
            Ok(true)
        })
    }

    /// Takes the wish that a machine be stopped out of the store, if there is one. Writes only then.
    pub fn take_stop_request(&mut self, id: &MachineId) -> Result<Option<StopRequest>, StoreError> {
        let there = stop_request(&self.connection, id).map_err(|e| self.fail(e))?;
        if there.is_none() {
            return Ok(None);
        }
        self.write(|transaction| {
            let request = stop_request(transaction, id)?;
            forget_stop_request(transaction, id)?;
            Ok(request)
        })
    }
}

/// A row, as it is in the table.
struct MachineRow {
    id: String,
    name: String,
    state: String,
    since_ms: i64,
    record: String,
}

/// A row, understood.
struct Machine {
    record: MachineRecord,
    since_ms: i64,
}

impl Machine {
    /// How long it has been in its state. A clock that was set back makes it nothing, not less.
    fn age_ms(&self, now: i64) -> i64 {
        (now - self.since_ms).max(0)
    }
}

impl MachineRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            state: row.get(2)?,
            since_ms: row.get(3)?,
            record: row.get(4)?,
        })
    }

    /// The columns win over the JSON.
    fn parse(self) -> Result<Machine, Failure> {
        let understand = || -> Result<MachineRecord, Box<dyn std::error::Error + Send + Sync>> {
            let mut record: MachineRecord = serde_json::from_str(&self.record)?;
            record.id = self.id.parse()?;
            record.name = self.name.parse()?;
            record.state = self.state.parse()?;
            Ok(record)
        };
        match understand() {
            Ok(record) => Ok(Machine {
                record,
                since_ms: self.since_ms,
            }),
            Err(source) => Err(Failure::Unreadable {
                what: format!("machine {:?}", self.name),
                source,
            }),
        }
    }
}

/// All machines, in a transaction.
pub(crate) fn all(connection: &Connection) -> Result<Vec<MachineRecord>, Failure> {
    those(connection, "TRUE")
}

fn those(connection: &Connection, condition: &str) -> Result<Vec<MachineRecord>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM machines WHERE {condition} ORDER BY created_at_ms, id"
    ))?;
    let mut rows = statement.query([])?;
    let mut machines = Vec::new();
    while let Some(row) = rows.next()? {
        machines.push(MachineRow::read(row)?.parse()?.record);
    }
    Ok(machines)
}

fn by_id(connection: &Connection, id: &MachineId) -> Result<Machine, Failure> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM machines WHERE id = ?1"))?
        .query_row([id.as_str()], MachineRow::read)
        .optional()?
        .ok_or_else(|| StoreError::no_machine(id))?
        .parse()
}

fn by_name_or_id(connection: &Connection, name: &str) -> Result<Option<Machine>, Failure> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM machines WHERE name = ?1 OR id = ?1 ORDER BY name <> ?1 LIMIT 1"
        ))?
        .query_row([name], MachineRow::read)
        .optional()?
        .map(MachineRow::parse)
        .transpose()
}

fn updated(
    old: &MachineRecord,
    state: MachineState,
    update: impl FnOnce(&mut MachineRecord),
) -> MachineRecord {
    let mut new = old.clone();
    update(&mut new);
    MachineRecord {
        id: old.id.clone(),
        name: old.name.clone(),
        created_at_ms: old.created_at_ms,
        state,
        ..new
    }
}

fn insert_row(transaction: &Connection, record: &MachineRecord, now: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO machines (id, name, state, ephemeral, runner_pid, created_at_ms, state_since_ms, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            record.id.as_str(),
            record.name.as_str(),
            record.state.as_str(),
            record.ephemeral,
            record.runner.as_ref().map(|r| r.pid),
            record.created_at_ms,
            now,
            json(record),
        ])?;
    Ok(())
}

pub(crate) fn write_record(
    transaction: &Connection,
    record: &MachineRecord,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE machines SET state = ?2, ephemeral = ?3, runner_pid = ?4, record = ?5 WHERE id = ?1",
        )?
        .execute(params![
            record.id.as_str(),
            record.state.as_str(),
            record.ephemeral,
            record.runner.as_ref().map(|r| r.pid),
            json(record),
        ])?;
    Ok(())
}

/// Makes a pool's machine an ordinary one that stays, of this name if no other machine has it. Gives back the name that it has then.
pub(crate) fn set_apart(
    transaction: &Connection,
    id: &MachineId,
    name: &Name,
) -> Result<Name, Failure> {
    let mut record = by_id(transaction, id)?.record;
    if by_name_or_id(transaction, name.as_str())?.is_none() {
        transaction
            .prepare_cached("UPDATE machines SET name = ?2 WHERE id = ?1")?
            .execute([id.as_str(), name.as_str()])?;
        record.name = name.clone();
    }
    record.pool = None;
    record.owner = None;
    record.ephemeral = false;
    write_record(transaction, &record)?;
    Ok(record.name)
}

fn stop_request(connection: &Connection, id: &MachineId) -> rusqlite::Result<Option<StopRequest>> {
    connection
        .prepare_cached("SELECT force, deadline_ms FROM stop_requests WHERE machine = ?1")?
        .query_row([id.as_str()], |row| {
            Ok(StopRequest {
                force: row.get(0)?,
                deadline_ms: row.get(1)?,
            })
        })
        .optional()
}

fn forget_stop_request(transaction: &Connection, id: &MachineId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM stop_requests WHERE machine = ?1")?
        .execute([id.as_str()])
        .map(drop)
}

fn json(record: &MachineRecord) -> String {
    serde_json::to_string(record).expect("a record has no keys but strings")
}

/// For an SQL `IN`; the names are the model's own words, and need no quoting.
fn live_states() -> String {
    let live = MachineState::ALL.into_iter().filter(|s| s.has_runner());
    live.map(|s| format!("'{s}'")).collect::<Vec<_>>().join(",")
}
