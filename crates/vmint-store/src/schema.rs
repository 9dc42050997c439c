//! The tables, and how an older database becomes a current one.
//!
//! `user_version` counts the migrations that a database has seen. A migration, once released, is never changed; a new
//! one is put behind it.

use rusqlite::{Connection, TransactionBehavior};

/// What one migration did to a database cannot be undone; so it does all or nothing, with all others, in one
/// transaction.
const MIGRATIONS: &[&str] = &[
    // 1. `record` holds a record as JSON; the columns beside it are what queries need, and win over it.
    "CREATE TABLE machines (
         id             TEXT PRIMARY KEY,
         name           TEXT NOT NULL UNIQUE,
         state          TEXT NOT NULL,
         ephemeral      INTEGER NOT NULL,
         runner_pid     INTEGER,
         created_at_ms  INTEGER NOT NULL,
         state_since_ms INTEGER NOT NULL,
         record         TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE stop_requests (
         machine     TEXT PRIMARY KEY REFERENCES machines (id) ON DELETE CASCADE,
         force       INTEGER NOT NULL,
         deadline_ms INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE snapshots (
         name          TEXT PRIMARY KEY,
         machine       TEXT NOT NULL,
         implicit      INTEGER NOT NULL,
         created_at_ms INTEGER NOT NULL,
         record        TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE events (
         sequence    INTEGER PRIMARY KEY,
         at_ms       INTEGER NOT NULL,
         machine     TEXT NOT NULL,
         name        TEXT NOT NULL,
         from_state  TEXT,
         to_state    TEXT,
         cause       TEXT NOT NULL,
         duration_ms INTEGER,
         detail      TEXT
     ) STRICT;

     CREATE TABLE settings (
         key   TEXT PRIMARY KEY,
         value TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;",
];

/// The version that this vmint writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// What [`migrate`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The database is current now.
    Current,
    /// It is of a later version, and was left alone.
    Future(i64),
    /// It has tables, but no version: it is not ours, and was left alone.
    Foreign,
}

/// The version of a database; 0 for an empty one.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings a database up to date. Of several processes that do it at once one does the work and the others find it done.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<Outcome> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    if found > VERSION {
        return Ok(Outcome::Future(found));
    }
    if found == 0 {
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Ok(Outcome::Foreign);
        }
    }
    for migration in &MIGRATIONS[usize::try_from(found).unwrap_or(0)..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(Outcome::Current)
}
