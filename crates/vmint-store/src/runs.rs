//! The records of workflow runs. What is in a record is the business of whoever writes it; here it is text.

use crate::error::StoreError;
use crate::store::{Failure, Store};
use rusqlite::{Connection, params};
use vmint_model::{ProcessRef, RunId};

/// A run as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRun {
    /// Its id.
    pub id: RunId,
    /// The process that runs it.
    pub owner: ProcessRef,
    /// Milliseconds since 1970 in UTC.
    pub started_at_ms: i64,
    /// Milliseconds since 1970 in UTC; absent while it runs.
    pub ended_at_ms: Option<i64>,
    /// The record, as JSON.
    pub record: String,
}

impl Store {
    /// Adds a run, or changes it. A run that has ended stays so: what comes late from a process that was taken for dead
    /// does not bring it back. Says whether anything was written.
    pub fn put_run(&mut self, run: &StoredRun) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let owner = serde_json::to_string(&run.owner).expect("a process has no keys but strings");
            let written = transaction
                .prepare_cached(
                    "INSERT INTO runs (id, owner, started_at_ms, ended_at_ms, record) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (id) DO UPDATE SET ended_at_ms = ?4, record = ?5 WHERE ended_at_ms IS NULL",
                )?
                .execute(params![
                    run.id.as_str(),
                    owner,
                    run.started_at_ms,
                    run.ended_at_ms,
                    run.record,
                ])?;
            Ok(written == 1)
        })
    }

    /// The run with this id.
    pub fn run(&self, id: &RunId) -> Result<Option<StoredRun>, StoreError> {
        let read = || {
            let mut found = select(&self.connection, "WHERE id = ?1", params![id.as_str()])?;
            Ok(found.pop())
        };
        read().map_err(|e| self.explain(e))
    }

    /// The last runs, the newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<StoredRun>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        select(
            &self.connection,
            "ORDER BY started_at_ms DESC, id DESC LIMIT ?1",
            params![limit],
        )
        .map_err(|e| self.explain(e))
    }

    /// Runs that have not ended, as far as the store knows.
    pub fn unended_runs(&self) -> Result<Vec<StoredRun>, StoreError> {
        // Asked by every command, so the usual answer costs one look at an index.
        select(
            &self.connection,
            "WHERE ended_at_ms IS NULL ORDER BY started_at_ms",
            params![],
        )
        .map_err(|e| self.explain(e))
    }

    /// Deletes a run's record. Says whether there was one.
    pub fn delete_run(&mut self, id: &RunId) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let deleted = transaction
                .prepare_cached("DELETE FROM runs WHERE id = ?1")?
                .execute([id.as_str()])?;
            Ok(deleted == 1)
        })
    }
}

fn select(
    connection: &Connection,
    rest: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<StoredRun>, Failure> {
    let columns = "SELECT id, owner, started_at_ms, ended_at_ms, record FROM runs";
    let mut statement = connection.prepare_cached(&format!("{columns} {rest}"))?;
    let mut rows = statement.query(params)?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Unreadable {
            what: format!("run {id:?}"),
            source,
        };
        let owner: Option<ProcessRef> =
            serde_json::from_str(&row.get::<_, String>(1)?).map_err(|e| unreadable(e.into()))?;
        let parsed = id.parse::<RunId>();
        runs.push(StoredRun {
            id: parsed.map_err(|e| unreadable(e.into()))?,
            owner: owner.ok_or_else(|| unreadable("it has no owner".into()))?,
            started_at_ms: row.get(2)?,
            ended_at_ms: row.get(3)?,
            record: row.get(4)?,
        });
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn open() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_file(&folder.path().join("vmint.db"), Duration::from_secs(60));
        (store.unwrap(), folder)
    }

    fn run(started_at_ms: i64) -> StoredRun {
        StoredRun {
            id: RunId::random(),
            owner: crate::process::current().unwrap(),
            started_at_ms,
            ended_at_ms: None,
            record: "{}".into(),
        }
    }

    #[test]
    fn a_run_that_has_ended_stays_so() {
        let (mut store, _home) = open();
        let mut one = run(1);
        assert!(store.put_run(&one).unwrap());
        one.ended_at_ms = Some(5);
        assert!(store.put_run(&one).unwrap());
        let late = StoredRun {
            ended_at_ms: None,
            record: "late".into(),
            ..one.clone()
        };
        assert!(!store.put_run(&late).unwrap());
        assert_eq!(store.run(&one.id).unwrap(), Some(one));
    }

    #[test]
    fn runs_are_listed_from_the_newest_and_deleted_for_good() {
        let (mut store, _home) = open();
        let all = [run(1), run(2), run(3)];
        for run in &all {
            store.put_run(run).unwrap();
        }
        let listed = store.runs(2).unwrap();
        assert_eq!(listed, [all[2].clone(), all[1].clone()]);
        assert_eq!(store.unended_runs().unwrap(), all);
        assert!(store.delete_run(&all[1].id).unwrap());
        assert!(!store.delete_run(&all[1].id).unwrap());
        assert_eq!(store.run(&all[1].id).unwrap(), None);
    }
}
