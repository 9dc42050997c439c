//! The snapshots' records.

use crate::error::StoreError;
use crate::store::{Failure, Store};
use rusqlite::{Connection, OptionalExtension, params};
use vmint_model::{Name, SnapshotRecord};

/// Which snapshots to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SnapshotFilter {
    /// Those that a user has made.
    #[default]
    Explicit,
    /// Those that a user has made of the machine with this name.
    Of(Name),
    /// All, those made by `vmint fork` for its children and by workflows included.
    All,
}

impl Store {
    /// Adds a snapshot.
    pub fn insert_snapshot(&mut self, record: &SnapshotRecord) -> Result<(), StoreError> {
        self.write(|transaction| {
            if read(transaction, &record.name)?.is_some() {
                return Err(StoreError::SnapshotExists {
                    name: record.name.clone(),
                }
                .into());
            }
            transaction
                .prepare_cached(
                    "INSERT INTO snapshots (name, machine, implicit, created_at_ms, record)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    record.name.as_str(),
                    record.machine.as_str(),
                    record.implicit,
                    record.created_at_ms,
                    serde_json::to_string(record).expect("a record has no keys but strings"),
                ])?;
            Ok(())
        })
    }

    /// The snapshot with this name, if there is one.
    pub fn snapshot(&self, name: &Name) -> Result<Option<SnapshotRecord>, StoreError> {
        read(&self.connection, name).map_err(|e| self.explain(e))
    }

    /// Snapshots, the oldest first.
    pub fn list_snapshots(
        &self,
        filter: &SnapshotFilter,
    ) -> Result<Vec<SnapshotRecord>, StoreError> {
        let (all, machine) = match filter {
            SnapshotFilter::Explicit => (false, None),
            SnapshotFilter::Of(name) => (false, Some(name.as_str())),
            SnapshotFilter::All => (true, None),
        };
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT name, record FROM snapshots
                 WHERE (?1 OR NOT implicit) AND (?2 IS NULL OR machine = ?2) ORDER BY created_at_ms, name",
            )?;
            let mut rows = statement.query(params![all, machine])?;
            let mut snapshots = Vec::new();
            while let Some(row) = rows.next()? {
                snapshots.push(parse(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?);
            }
            Ok(snapshots)
        };
        read().map_err(|e| self.explain(e))
    }

    /// Deletes a snapshot's record, and gives it back.
    pub fn delete_snapshot(&mut self, name: &Name) -> Result<SnapshotRecord, StoreError> {
        self.write(|transaction| {
            let record = read(transaction, name)?.ok_or_else(|| StoreError::NoSnapshot {
                name: name.to_string(),
            })?;
            transaction.execute("DELETE FROM snapshots WHERE name = ?1", [name.as_str()])?;
            Ok(record)
        })
    }
}

fn read(connection: &Connection, name: &Name) -> Result<Option<SnapshotRecord>, Failure> {
    connection
        .prepare_cached("SELECT record FROM snapshots WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get::<_, String>(0))
        .optional()?
        .map(|json| parse(name.as_str(), &json))
        .transpose()
}

fn parse(name: &str, json: &str) -> Result<SnapshotRecord, Failure> {
    serde_json::from_str(json).map_err(|e| Failure::Unreadable {
        what: format!("snapshot {name:?}"),
        source: e.into(),
    })
}
