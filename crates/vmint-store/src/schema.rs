//! The tables, and how an older database becomes a current one.
//!
//! `user_version` counts the migrations that a database has seen. A migration, once released, is never changed; a new
//! one is put behind it.

use rusqlite::{Connection, TransactionBehavior};
use vmint_model::MachineId;

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
    // 2. Pools, their slots, leases, and the line. The counters of a pool are kept by triggers, so that nothing can
    // change a slot and forget to count it, and so that a claim reads one row however large the pool is.
    "CREATE TABLE pools (
         name          TEXT PRIMARY KEY,
         state         TEXT NOT NULL,
         created_at_ms INTEGER NOT NULL,
         spec          TEXT NOT NULL,
         filling       INTEGER NOT NULL DEFAULT 0,
         ready         INTEGER NOT NULL DEFAULT 0,
         leased        INTEGER NOT NULL DEFAULT 0,
         resetting     INTEGER NOT NULL DEFAULT 0,
         retiring      INTEGER NOT NULL DEFAULT 0,
         waiting       INTEGER NOT NULL DEFAULT 0
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE slots (
         machine       TEXT PRIMARY KEY,
         pool          TEXT NOT NULL REFERENCES pools (name),
         state         TEXT NOT NULL,
         generation    INTEGER NOT NULL,
         uses          INTEGER NOT NULL,
         born_at_ms    INTEGER NOT NULL,
         since_ms      INTEGER NOT NULL,
         checked_at_ms INTEGER NOT NULL,
         maker         TEXT
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX slots_by_state ON slots (pool, state, since_ms);

     CREATE TRIGGER slot_enters AFTER INSERT ON slots BEGIN
         UPDATE pools SET
             filling = filling + (NEW.state = 'filling'), ready = ready + (NEW.state = 'ready'),
             leased = leased + (NEW.state = 'leased'), resetting = resetting + (NEW.state = 'resetting'),
             retiring = retiring + (NEW.state = 'retiring')
         WHERE name = NEW.pool;
     END;
     CREATE TRIGGER slot_leaves AFTER DELETE ON slots BEGIN
         UPDATE pools SET
             filling = filling - (OLD.state = 'filling'), ready = ready - (OLD.state = 'ready'),
             leased = leased - (OLD.state = 'leased'), resetting = resetting - (OLD.state = 'resetting'),
             retiring = retiring - (OLD.state = 'retiring')
         WHERE name = OLD.pool;
     END;
     CREATE TRIGGER slot_changes AFTER UPDATE OF state ON slots BEGIN
         UPDATE pools SET
             filling = filling - (OLD.state = 'filling') + (NEW.state = 'filling'),
             ready = ready - (OLD.state = 'ready') + (NEW.state = 'ready'),
             leased = leased - (OLD.state = 'leased') + (NEW.state = 'leased'),
             resetting = resetting - (OLD.state = 'resetting') + (NEW.state = 'resetting'),
             retiring = retiring - (OLD.state = 'retiring') + (NEW.state = 'retiring')
         WHERE name = NEW.pool;
     END;

     CREATE TABLE leases (
         sequence    INTEGER PRIMARY KEY,
         id          TEXT NOT NULL UNIQUE,
         machine     TEXT NOT NULL,
         ended_at_ms INTEGER,
         record      TEXT NOT NULL
     ) STRICT;
     CREATE UNIQUE INDEX leases_held ON leases (machine) WHERE ended_at_ms IS NULL;

     CREATE TABLE waiters (
         ticket      INTEGER PRIMARY KEY AUTOINCREMENT,
         lease       TEXT NOT NULL UNIQUE,
         pool        TEXT NOT NULL REFERENCES pools (name),
         claim       TEXT NOT NULL,
         bell        TEXT NOT NULL,
         process     TEXT NOT NULL,
         since_ms    INTEGER NOT NULL,
         deadline_ms INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX waiters_line ON waiters (pool, ticket);
     CREATE TRIGGER waiter_enters AFTER INSERT ON waiters BEGIN
         UPDATE pools SET waiting = waiting + 1 WHERE name = NEW.pool;
     END;
     CREATE TRIGGER waiter_leaves AFTER DELETE ON waiters BEGIN
         UPDATE pools SET waiting = waiting - 1 WHERE name = OLD.pool;
     END;

     -- What is promised to machines: memory while they live, a place among those that boot until they are up.
     CREATE TABLE admissions (
         machine TEXT PRIMARY KEY,
         bytes   INTEGER NOT NULL,
         boot    TEXT,
         holder  TEXT NOT NULL,
         at_ms   INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TRIGGER admission_up AFTER UPDATE OF state ON machines WHEN NEW.state = 'running' BEGIN
         UPDATE admissions SET boot = NULL WHERE machine = NEW.id AND boot IS NOT NULL;
     END;
     CREATE TRIGGER admission_down AFTER UPDATE OF state ON machines
     WHEN NEW.state NOT IN ('starting', 'running', 'paused', 'stopping') BEGIN
         DELETE FROM admissions WHERE machine = NEW.id;
     END;
     CREATE TRIGGER admission_gone AFTER DELETE ON machines BEGIN
         DELETE FROM admissions WHERE machine = OLD.id;
     END;

     ALTER TABLE events ADD COLUMN pool TEXT;
     ALTER TABLE events ADD COLUMN lease TEXT;",
    // 3. Who waits to be admitted, in the order in which they came.
    "CREATE TABLE admission_line (
         ticket      INTEGER PRIMARY KEY AUTOINCREMENT,
         machine     TEXT NOT NULL UNIQUE,
         bytes       INTEGER NOT NULL,
         boot        TEXT NOT NULL,
         awaits      TEXT NOT NULL,
         bell        TEXT NOT NULL,
         process     TEXT NOT NULL,
         deadline_ms INTEGER NOT NULL
     ) STRICT;",
    // 4. Runs of workflows.
    "CREATE TABLE runs (
         id            TEXT PRIMARY KEY,
         owner         TEXT NOT NULL,
         started_at_ms INTEGER NOT NULL,
         ended_at_ms   INTEGER,
         record        TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX runs_by_start ON runs (started_at_ms);
     CREATE INDEX runs_unended ON runs (started_at_ms) WHERE ended_at_ms IS NULL;",
    // 5. Which run a snapshot belongs to, so that those of runs are found without reading all others.
    "ALTER TABLE snapshots ADD COLUMN run TEXT;
     UPDATE snapshots SET run = json_extract(record, '$.run') WHERE json_valid(record);
     CREATE INDEX snapshots_of_runs ON snapshots (run) WHERE run IS NOT NULL;",
    // 6. What decides by time is on the steady clock from here on, and was on the wall clock before: the times of slots, of
    // those in line, of stops, and of leases that are out. `temp.clocks` says by how much the wall clock is ahead.
    "UPDATE slots SET born_at_ms = born_at_ms - (SELECT ahead_ms FROM temp.clocks),
         since_ms = since_ms - (SELECT ahead_ms FROM temp.clocks),
         checked_at_ms = checked_at_ms - (SELECT ahead_ms FROM temp.clocks);
     UPDATE waiters SET since_ms = since_ms - (SELECT ahead_ms FROM temp.clocks),
         deadline_ms = deadline_ms - (SELECT ahead_ms FROM temp.clocks);
     UPDATE admission_line SET deadline_ms = deadline_ms - (SELECT ahead_ms FROM temp.clocks);
     UPDATE stop_requests SET deadline_ms = deadline_ms - (SELECT ahead_ms FROM temp.clocks);
     UPDATE leases SET record = json_set(record,
         '$.expires_steady_ms', json_extract(record, '$.expires_at_ms') - (SELECT ahead_ms FROM temp.clocks),
         '$.silent_steady_ms', json_extract(record, '$.silent_at_ms') - (SELECT ahead_ms FROM temp.clocks))
     WHERE ended_at_ms IS NULL AND json_valid(record);",
];

/// The version that this vmint writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// What [`migrate`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The database is current now.
    Current,
    /// It is of a later version, and was left alone.
    Future(i64),
    /// It has tables, but no version: it is not ours, and was left alone.
    Foreign,
    /// It is older, and was left alone: runners of the vmint that made it live, of these machines.
    InUse(Vec<MachineId>),
}

/// The version of a database; 0 for an empty one.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA user_version")?
        .query_row([], |row| row.get(0))
}

/// Brings a database up to date. Of several processes that do it at once one does the work and the others find it done.
///
/// `runners` tells of the machines that have a runner. While the database is of an older version these are all of an older
/// vmint, for a newer one would have brought it up to date before. They are not waited for, for a machine may run for days,
/// and not ended: the caller names them.
pub(crate) fn migrate(
    connection: &mut Connection,
    runners: impl FnOnce() -> Vec<MachineId>,
) -> rusqlite::Result<Outcome> {
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
    if (1..VERSION).contains(&found) {
        let runners = runners();
        if !runners.is_empty() {
            return Ok(Outcome::InUse(runners));
        }
    }
    if found < VERSION {
        let now = crate::now();
        transaction.execute_batch("CREATE TEMP TABLE clocks (ahead_ms INTEGER NOT NULL) STRICT")?;
        transaction.execute(
            "INSERT INTO temp.clocks VALUES (?1)",
            [now.wall_ms - now.steady_ms],
        )?;
    }
    for migration in &MIGRATIONS[usize::try_from(found).unwrap_or(0)..] {
        transaction.execute_batch(migration)?;
    }
    transaction.execute_batch("DROP TABLE IF EXISTS temp.clocks")?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(Outcome::Current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint_model::{LeaseEnd, LeaseRecord};

    /// A database as an older vmint left it.
    fn at_version(version: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS[..version] {
            connection.execute_batch(migration).unwrap();
        }
        connection
            .pragma_update(None, "user_version", i64::try_from(version).unwrap())
            .unwrap();
        connection
    }

    #[test]
    fn what_was_due_by_the_wall_clock_is_due_at_the_same_moment_by_the_steady_one() {
        let mut connection = at_version(5);
        let wall = crate::now().wall_ms;
        let lease = |id: &str, machine: &str, expires: &str| {
            format!(
                r#"{{"id":"{id}","pool":"p","machine":"{machine}","generation":3,
                    "owner":{{"client":{{"name":"agent","heartbeat_ms":5000}}}},"label":null,"ttl_ms":60000,
                    "granted_at_ms":{wall},"waited_ms":0,"expires_at_ms":{expires},"silent_at_ms":{},"ended":null}}"#,
                wall + 5_000
            )
        };
        let (one, two) = ("l0000000000000001", "l0000000000000002");
        let (first, second) = ("m000000000001", "m000000000002");
        let insert =
            "INSERT INTO leases (id, machine, ended_at_ms, record) VALUES (?1, ?2, ?3, ?4)";
        let out = lease(one, first, &(wall + 60_000).to_string());
        let ended = lease(two, second, "null");
        connection
            .execute(insert, (one, first, None::<i64>, &out))
            .unwrap();
        connection
            .execute(insert, (two, second, wall, &ended))
            .unwrap();
        connection
            .execute_batch(&format!(
                "INSERT INTO pools (name, state, created_at_ms, spec) VALUES ('p', 'active', {wall}, '{{}}');
                 INSERT INTO slots VALUES ('{first}', 'p', 'leased', 3, 1, {wall} - 3000, {wall} - 2000, {wall} - 1000, NULL);
                 INSERT INTO waiters VALUES (1, 'l0000000000000003', 'p', '{{}}', 'bell', '{{}}', {wall} - 10, {wall} + 700);
                 INSERT INTO admission_line VALUES (1, '{second}', 1, 'boot', '{{}}', 'bell', '{{}}', {wall} + 800);"
            ))
            .unwrap();

        let before = crate::now();
        assert_eq!(
            migrate(&mut connection, Vec::new).unwrap(),
            Outcome::Current
        );
        let after = crate::now();
        // Between two looks at both clocks, the moment of the wall clock was this one of the steady clock.
        let is = |steady: i64, wall_ms: i64| {
            let ahead = |now: vmint_model::Now| now.wall_ms - now.steady_ms;
            let (low, high) = (
                ahead(before).min(ahead(after)),
                ahead(before).max(ahead(after)),
            );
            let found = wall_ms - steady;
            assert!(
                (low - 1..=high + 1).contains(&found),
                "{found}: {low} to {high}"
            );
        };
        let number = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        is(number("SELECT born_at_ms FROM slots"), wall - 3000);
        is(number("SELECT since_ms FROM slots"), wall - 2000);
        is(number("SELECT checked_at_ms FROM slots"), wall - 1000);
        is(number("SELECT since_ms FROM waiters"), wall - 10);
        is(number("SELECT deadline_ms FROM waiters"), wall + 700);
        is(number("SELECT deadline_ms FROM admission_line"), wall + 800);
        let record = |id: &str| -> LeaseRecord {
            let sql = "SELECT record FROM leases WHERE id = ?1";
            let text: String = connection.query_row(sql, [id], |row| row.get(0)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let out = record(one);
        is(out.expires_steady_ms.unwrap(), wall + 60_000);
        is(out.silent_steady_ms.unwrap(), wall + 5_000);
        assert_eq!(out.overdue(after), None);
        let later = vmint_model::Now {
            steady_ms: after.steady_ms + 5_001,
            ..after
        };
        assert_eq!(out.overdue(later), Some(LeaseEnd::Silent));
        let ended = record(two);
        assert_eq!(
            (ended.expires_steady_ms, ended.silent_steady_ms),
            (None, None)
        );
    }
}
