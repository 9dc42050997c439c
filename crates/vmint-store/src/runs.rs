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

    /// Runs whose ids begin like this, the newest first, at most `limit`.
    pub fn runs_with_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Ids are of `r`, digits and a to f: all that begin so lie between these two.
        select(
            &self.connection,
            "WHERE id >= ?1 AND id < ?1 || '~' ORDER BY started_at_ms DESC, id DESC LIMIT ?2",
            params![prefix, limit],
        )
        .map_err(|e| self.explain(e))
    }

    /// Whether there is a run with this id; does not read its record.
    pub fn has_run(&self, id: &RunId) -> Result<bool, StoreError> {
        self.connection
            .prepare_cached("SELECT 1 FROM runs WHERE id = ?1")
            .and_then(|mut statement| statement.exists([id.as_str()]))
            .map_err(|e| self.fail(e))
    }

    /// The ids of the runs that have ended and are not among the last `keep`, the oldest first.
    pub fn runs_beyond(&self, keep: u32) -> Result<Vec<RunId>, StoreError> {
        let read = || -> Result<Vec<RunId>, Failure> {
            let mut statement = self.connection.prepare_cached(
                "SELECT id, ended_at_ms FROM runs ORDER BY started_at_ms DESC, id DESC LIMIT -1 OFFSET ?1",
            )?;
            let mut rows = statement.query([keep])?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next()? {
                if row.get::<_, Option<i64>>(1)?.is_some() {
                    ids.push(parse(&row.get::<_, String>(0)?)?);
                }
            }
            ids.reverse();
            Ok(ids)
        };
        read().map_err(|e| self.explain(e))
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
        runs.push(StoredRun {
            id: parse(&id)?,
            owner: owner.ok_or_else(|| unreadable("it has no owner".into()))?,
            started_at_ms: row.get(2)?,
            ended_at_ms: row.get(3)?,
            record: row.get(4)?,
        });
    }
    Ok(runs)
}

fn parse(id: &str) -> Result<RunId, Failure> {
    id.parse()
        .map_err(|source: vmint_model::InvalidName| Failure::Unreadable {
            what: format!("run {id:?}"),
            source: source.into(),
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::Duration;

    pub(crate) fn open() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_file(&folder.path().join("vmint.db"), Duration::from_secs(60));
        (store.unwrap(), folder)
    }

    pub(crate) fn run(started_at_ms: i64) -> StoredRun {
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

    #[test]
    fn runs_are_found_by_the_beginning_of_their_ids() {
        let (mut store, _home) = open();
        for id in ["r00000001", "r0000ffff", "r1fffffff"] {
            let id = id.parse().unwrap();
            store.put_run(&StoredRun { id, ..run(1) }).unwrap();
        }
        let found = |prefix| {
            let found = store.runs_with_prefix(prefix, 5).unwrap();
            found.into_iter().map(|run| run.id.to_string()).collect()
        };
        let expected: [(&str, &[&str]); 4] = [
            ("r0", &["r0000ffff", "r00000001"]),
            ("r1fffffff", &["r1fffffff"]),
            ("r2", &[]),
            ("r", &["r1fffffff", "r0000ffff", "r00000001"]),
        ];
        for (prefix, ids) in expected {
            let all: Vec<String> = found(prefix);
            assert_eq!(all, ids, "{prefix}");
        }
        assert!(store.has_run(&"r1fffffff".parse().unwrap()).unwrap());
        assert!(!store.has_run(&"r2fffffff".parse().unwrap()).unwrap());
    }

    #[test]
    fn what_is_beyond_the_last_runs_is_what_has_ended_and_the_oldest_comes_first() {
        let (mut store, _home) = open();
        let mut all = [run(1), run(2), run(3), run(4), run(5)];
        for (n, run) in all.iter_mut().enumerate() {
            run.ended_at_ms = (n != 1).then_some(9);
            store.put_run(run).unwrap();
        }
        let beyond = store.runs_beyond(2).unwrap();
        assert_eq!(beyond, [all[0].id.clone(), all[2].id.clone()]);
        assert_eq!(store.runs_beyond(5).unwrap(), []);
    }
}
