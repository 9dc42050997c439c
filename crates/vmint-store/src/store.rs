//! Opens the database. Every `vmint` command does it, so an existing one of the current version costs three pragmas and
//! no write: 0.1 ms, or 0.3 ms for the first process that uses it, which reads the log.

use crate::error::{StoreError, classify};
use crate::lock::FileLock;
use crate::schema::{self, Outcome};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vmint_model::{Home, MachineId, Now, now_ms};

/// How long a store waits for other processes that write. A transaction takes well under a millisecond.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many statements stay prepared: all that there are. Of the 16 that rusqlite would keep, the ledger alone pushes out
/// its own, and to prepare one takes longer than to run it.
const STATEMENTS: usize = 256;

/// The database of one home. One connection: to be owned by one thread at a time; others open their own.
#[derive(Debug)]
pub struct Store {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    /// The home whose folders describe themselves; absent for a database file alone.
    pub(crate) home: Option<Home>,
    patience: Duration,
}

impl Store {
    /// Opens the store of a home, making it or bringing it up to date if need be.
    pub fn open(home: &Home) -> Result<Self, StoreError> {
        let store = Self::open_with(&home.database(), PATIENCE, Some(home))?;
        Ok(Self {
            home: Some(home.clone()),
            ..store
        })
    }

    /// Opens the store of a home if it is of this version. For a process that is fenced in: it cannot see who else uses another one,
    /// and so must not bring it up to date.
    pub fn open_current(home: &Home) -> Result<Self, StoreError> {
        let path = home.database();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let found = Connection::open_with_flags(&path, flags)
            .and_then(|connection| schema::version(&connection))
            .map_err(|e| classify(path.clone(), PATIENCE, e))?;
        if found != schema::VERSION {
            return Err(StoreError::Upgraded {
                path,
                found,
                known: schema::VERSION,
            });
        }
        Self::open(home)
    }

    /// Opens a database file; `patience` is how long this store waits for other processes that write.
    pub fn open_file(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        Self::open_with(path, patience, None)
    }

    fn open_with(path: &Path, patience: Duration, home: Option<&Home>) -> Result<Self, StoreError> {
        let fail = |e| classify(path.to_owned(), patience, e);
        make_file(path).map_err(|source| StoreError::Host {
            path: path.to_owned(),
            source,
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        if patience == PATIENCE {
            connection
                .busy_handler(Some(wait_for_others))
                .map_err(fail)?;
        } else {
            connection.busy_timeout(patience).map_err(fail)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // NORMAL with a write-ahead log: no commit waits for the disk. After a loss of power the last commits may be
        // missing, never half there; and after that every machine is gone, too.
        // The last one to close a database would copy the log back and wait for the disk: 19 ms instead of 0.1 ms for a
        // lone command that writes, on ext4. The log is copied back by whoever makes it longer than 1000 pages.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(fail)?;
        // Else SQLite plans a statement by the values that are bound to it, and prepares it anew for others: about 200,000 of the 530,000
        // instructions of an acquire (callgrind).
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(fail)?;
        // What SQLite would put into a temporary file is little, and a runner may make none.
        connection
            .execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")
            .map_err(fail)?;
        if schema::version(&connection).map_err(fail)? != schema::VERSION {
            use_write_ahead_log(&connection, patience).map_err(fail)?;
            match migrate(&mut connection, home).map_err(fail)? {
                Outcome::Current => {}
                Outcome::InUse(runners) => {
                    return Err(StoreError::OlderRunners {
                        path: path.to_owned(),
                        runners,
                    });
                }
                Outcome::Future(found) => {
                    return Err(StoreError::Future {
                        path: path.to_owned(),
                        found,
                        known: schema::VERSION,
                    });
                }
                Outcome::Foreign => {
                    return Err(StoreError::Foreign {
                        path: path.to_owned(),
                    });
                }
            }
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
            home: None,
            patience,
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that is another one after another connection has changed anything. Costs microseconds; says nothing
    /// about changes made through this store.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        self.connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(|e| self.fail(e))
    }

    /// A transaction with the right to write that does nothing: the least that any change costs.
    pub fn nothing(&mut self) -> Result<(), StoreError> {
        self.write(|_| Ok(()))
    }

    pub(crate) fn fail(&self, e: rusqlite::Error) -> StoreError {
        classify(self.path.clone(), self.patience, e)
    }

    /// Runs `work` in one transaction that has the right to write from its beginning, so that what it reads stays true
    /// until it has written. An error undoes it.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let run = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // A newer vmint may have changed the tables since this one opened them. Nothing else can for as long as this
            // transaction lasts.
            let found = schema::version(&transaction)?;
            if found != schema::VERSION {
                return Err(Failure::Upgraded(found));
            }
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run(&mut self.connection).map_err(|failure| self.explain(failure))
    }

    pub(crate) fn explain(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Store(e) => e,
            Failure::Sqlite(e) => self.fail(e),
            Failure::Upgraded(found) => StoreError::Upgraded {
                path: self.path.clone(),
                found,
                known: schema::VERSION,
            },
            Failure::Unreadable { what, source } => StoreError::Unreadable {
                path: self.path.clone(),
                what,
                source,
            },
        }
    }
}

/// How long a migration waits for locks: a command that only looks at a machine has its lock for a moment, too.
const LOOKERS: Duration = Duration::from_secs(2);

/// Brings a database up to date, unless runners of an older vmint live that would go on writing to it.
fn migrate(connection: &mut Connection, home: Option<&Home>) -> rusqlite::Result<Outcome> {
    let deadline = Instant::now() + LOOKERS;
    loop {
        let found = schema::migrate(connection, || home.map(live_runners).unwrap_or_default())?;
        if !matches!(found, Outcome::InUse(_)) || Instant::now() >= deadline {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The machines of a home whose locks are held.
fn live_runners(home: &Home) -> Vec<MachineId> {
    let entries = std::fs::read_dir(home.machines());
    let ids = entries.into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| FileLock::is_held(&home.machine(id).lock()).unwrap_or(false))
        .collect()
}

/// SQLite's own way to wait for others that write sleeps up to 100 ms at a time, which is a thousand transactions of
/// theirs. This one sleeps for 0.1 to 0.3 ms at first, not equally long in any two processes, and gives up after
/// [`PATIENCE`]. After some 50 ms in vain it sleeps for up to 26 ms: where 200 processes ask each millisecond, the one that
/// may write has no processor to do it with.
fn wait_for_others(tries: i32) -> bool {
    thread_local! {
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if tries == 0 {
        SINCE.set(Some(now));
    }
    let since = SINCE.get().unwrap_or(now);
    if now.duration_since(since) > PATIENCE {
        return false;
    }
    let noise = u64::from(std::process::id()).wrapping_mul(2_654_435_761) >> 7;
    let longest = 200 << (tries / 4).clamp(0, 7);
    let pause = 100 + (noise ^ u64::from(now.duration_since(since).subsec_micros())) % longest;
    std::thread::sleep(Duration::from_micros(pause));
    true
}

/// How the inside of a transaction fails, before the path of the database is put to it.
#[derive(Debug)]
pub(crate) enum Failure {
    Store(StoreError),
    Sqlite(rusqlite::Error),
    /// Its version is this one now.
    Upgraded(i64),
    Unreadable {
        what: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

/// Now, on both clocks of this host. The steady one is `CLOCK_MONOTONIC`: nobody can set it, and it stands still while the
/// host sleeps.
pub fn now() -> Now {
    Now {
        steady_ms: steady_ms(),
        wall_ms: now_ms(),
    }
}

/// Now, on the steady clock.
pub fn steady_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Makes an empty file that only its owner may read, unless there is one; SQLite gives its other files the same rights.
/// By mknod, which opens nothing: to close any descriptor of a database drops all locks that this process has on it.
fn make_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    match mknodat(CWD, path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Switches a new database over. SQLite does not wait for others here as it does everywhere else, so this does.
fn use_write_ahead_log(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let switched = connection.query_row("PRAGMA journal_mode = WAL", [], |row| {
            row.get::<_, String>(0)
        });
        match switched {
            Err(e)
                if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint_model::{ErrorKind, Explained};

    #[test]
    fn a_full_disk_is_told_from_other_failures_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open_file(&dir.path().join("vmint.db"), PATIENCE).unwrap();
        // The same error as a full disk's, without one: the file may not grow.
        store
            .connection
            .pragma_update(None, "max_page_count", 60)
            .unwrap();
        let text = "x".repeat(1000);
        let (last, error) = (0..1000)
            .find_map(|n| {
                store
                    .set_setting(&n.to_string(), &text)
                    .err()
                    .map(|e| (n, e))
            })
            .expect("60 pages hold less than 1000 settings");
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.hint().unwrap().contains("space"));
        assert!(last > 10);
        for n in 0..last {
            assert_eq!(store.setting(&n.to_string()).unwrap().as_ref(), Some(&text));
        }
        assert_eq!(store.setting(&last.to_string()).unwrap(), None);
    }

    #[test]
    fn a_database_in_no_folder_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = Store::open_file(&dir.path().join("no/vmint.db"), PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.to_string().contains("no/vmint.db"), "{error}");
    }
}
