//! Puts a damaged database aside, so that a new one can take its place.
//!
//! Nothing is deleted: the file and what belongs to it get names with the time in them, under which SQLite's tools can
//! still read them together. The log goes first. Were it left to a new database of the old name, SQLite would take what is in
//! it for the new one's; and a process that is killed between the two steps leaves an older database, which costs nothing.

use crate::error::StoreError;
use crate::store::Store;
use std::io;
use std::path::{Path, PathBuf};
use vmint_model::Home;

/// What belongs to a database, in the order in which it is moved.
const PARTS: [&str; 4] = ["-shm", "-wal", "-journal", ""];

/// Why the home's database cannot be used, if it is the database itself that is at fault. Reads all of it.
pub fn damage(home: &Home) -> Result<Option<StoreError>, StoreError> {
    let looked = Store::open(home).and_then(|store| {
        store.check()?;
        // What cannot be read as a record fails every command.
        store.list(crate::MachineFilter::All)?;
        store.list_snapshots(&crate::SnapshotFilter::All)?;
        Ok(())
    });
    match looked {
        Ok(()) => Ok(None),
        Err(e) if e.is_damage() => Ok(Some(e)),
        Err(e) => Err(e),
    }
}

/// Moves the home's database to a name with `stamp` in it, and says to which.
pub fn put_aside(home: &Home, stamp: &str) -> io::Result<PathBuf> {
    let database = home.database();
    let aside = free_name(&database, stamp);
    for part in PARTS {
        let path = |base: &Path| {
            let mut path = base.as_os_str().to_owned();
            path.push(part);
            PathBuf::from(path)
        };
        match std::fs::rename(path(&database), path(&aside)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(aside)
}

/// A name that no part of an earlier one has.
fn free_name(database: &Path, stamp: &str) -> PathBuf {
    let name = |number: u32| {
        let mut name = database.as_os_str().to_owned();
        name.push(format!("-damaged-{stamp}"));
        if number > 1 {
            name.push(format!(".{number}"));
        }
        name
    };
    let is_free = |name: &std::ffi::OsString| {
        PARTS.iter().all(|part| {
            let mut path = name.clone();
            path.push(part);
            std::fs::symlink_metadata(path).is_err()
        })
    };
    let mut names = (1..).map(name);
    names.find(is_free).expect("some name is free").into()
}

impl Store {
    /// Reads all of the database, and fails if SQLite finds it damaged.
    fn check(&self) -> Result<(), StoreError> {
        let said: String = self
            .connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|e| self.fail(e))?;
        if said == "ok" {
            return Ok(());
        }
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Err(self.fail(rusqlite::Error::SqliteFailure(code, Some(said))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vmint_model::Explained;

    fn home(dir: &tempfile::TempDir) -> Home {
        Home::new(dir.path(), dir.path())
    }

    #[test]
    fn a_whole_database_is_not_damaged_and_others_are() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        assert!(damage(&home).unwrap().is_none());
        let mut store = Store::open(&home).unwrap();
        for n in 0..200 {
            store.set_setting(&n.to_string(), &"x".repeat(500)).unwrap();
        }
        store
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        drop(store);
        let whole = fs::read(home.database()).unwrap();
        // Any page: of the schema, of an index, of a table.
        for page in 1..whole.len() / 4096 {
            let mut bytes = whole.clone();
            bytes[page * 4096..page * 4096 + 64].fill(0xff);
            fs::write(home.database(), bytes).unwrap();
            for part in ["-wal", "-shm"] {
                let _ = fs::remove_file(dir.path().join(format!("vmint.db{part}")));
            }
            let found = damage(&home).unwrap();
            assert!(
                found.as_ref().is_some_and(StoreError::is_damage),
                "page {page}: {found:?}"
            );
            assert!(found.unwrap().hint().unwrap().contains("--repair"));
        }
    }

    #[test]
    fn all_parts_are_kept_together_and_no_earlier_one_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        for round in ["first", "second"] {
            for part in ["", "-wal", "-shm"] {
                fs::write(
                    dir.path().join(format!("vmint.db{part}")),
                    format!("{round}{part}"),
                )
                .unwrap();
            }
            let aside = put_aside(&home, "now").unwrap();
            assert!(!home.database().exists());
            for part in ["", "-wal", "-shm"] {
                let kept = PathBuf::from(format!("{}{part}", aside.display()));
                assert_eq!(fs::read_to_string(kept).unwrap(), format!("{round}{part}"));
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
    }
}
