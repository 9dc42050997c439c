//! The snapshots' records.

use crate::error::StoreError;
use crate::store::{Failure, Store};
use rusqlite::{Connection, OptionalExtension, params};
use vmint_model::{Name, RunId, SnapshotRecord};

/// Which snapshots to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SnapshotFilter {
    /// Those that a user has made.
    #[default]
    Explicit,
    /// Those that a user has made of the machine with this name.
    Of(Name),
    /// Those that runs of workflows have made.
    OfRuns,
    /// Those that this run has made.
    OfRun(RunId),
    /// Those that runs have made that are no longer in the store.
    OfLostRuns,
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
                    "INSERT INTO snapshots (name, machine, implicit, created_at_ms, record, run)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    record.name.as_str(),
                    record.machine.as_str(),
                    record.implicit,
                    record.created_at_ms,
                    serde_json::to_string(record).expect("a record has no keys but strings"),
                    record.run.as_ref().map(RunId::as_str),
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
        let (query, of) = query(filter);
        let read = || {
            let mut statement = self.connection.prepare_cached(&query)?;
            let mut rows = statement.query(params![of])?;
            let mut snapshots = Vec::new();
            while let Some(row) = rows.next()? {
                snapshots.push(parse(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?);
            }
            Ok(snapshots)
        };
        read().map_err(|e| self.explain(e))
    }

    /// The names of all snapshots. Asked by every command: it reads no record.
    pub fn snapshot_names(&self) -> Result<Vec<Name>, StoreError> {
        let read = || -> Result<Vec<Name>, Failure> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT name FROM snapshots")?;
            let mut rows = statement.query([])?;
            let mut names = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                names.push(name.parse().map_err(|e: vmint_model::InvalidName| {
                    Failure::Unreadable {
                        what: format!("snapshot {name:?}"),
                        source: e.into(),
                    }
                })?);
            }
            Ok(names)
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

/// What to ask, and its parameter. Each is a condition of its own, so that each finds its index.
fn query(filter: &SnapshotFilter) -> (String, Option<&str>) {
    let (condition, of) = match filter {
        SnapshotFilter::Explicit => ("NOT implicit AND ?1 IS NULL", None),
        SnapshotFilter::Of(name) => ("NOT implicit AND machine = ?1", Some(name.as_str())),
        SnapshotFilter::OfRuns => ("run IS NOT NULL AND ?1 IS NULL", None),
        SnapshotFilter::OfRun(id) => ("run = ?1", Some(id.as_str())),
        SnapshotFilter::OfLostRuns => (
            "run IS NOT NULL AND ?1 IS NULL AND NOT EXISTS (SELECT 1 FROM runs WHERE id = snapshots.run)",
            None,
        ),
        SnapshotFilter::All => ("?1 IS NULL", None),
    };
    let rest = "ORDER BY created_at_ms, name";
    (
        format!("SELECT name, record FROM snapshots WHERE {condition} {rest}"),
        of,
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::tests::{open, run};
    use vmint_model::{Accelerator, ByteSize, MachineSpec, NetMode, Origin};

    fn snapshot(name: &str, run: Option<&RunId>) -> SnapshotRecord {
        SnapshotRecord {
            name: name.parse().unwrap(),
            machine: "box".parse().unwrap(),
            spec: MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(64),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: vmint_model::Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: vmint_model::ExecDefaults::default(),
            },
            image_digest: None,
            accelerator: Accelerator::Tcg,
            pause_ms: 1.0,
            size: ByteSize(1),
            full: false,
            implicit: run.is_some(),
            run: run.cloned(),
            created_at_ms: 1,
        }
    }

    #[test]
    fn the_snapshots_of_runs_are_told_from_a_user_s_and_those_of_lost_runs_from_others() {
        let (mut store, _home) = open();
        let (kept, lost) = (run(1), RunId::random());
        store.put_run(&kept).unwrap();
        for (name, run) in [("a", None), ("b", Some(&kept.id)), ("c", Some(&lost))] {
            store.insert_snapshot(&snapshot(name, run)).unwrap();
        }
        let listed = |filter| {
            let all = store.list_snapshots(&filter).unwrap();
            let names = all.into_iter().map(|one| one.name.to_string());
            names.collect::<Vec<_>>().concat()
        };
        for (filter, names) in [
            (SnapshotFilter::Explicit, "a"),
            (SnapshotFilter::Of("box".parse().unwrap()), "a"),
            (SnapshotFilter::OfRuns, "bc"),
            (SnapshotFilter::OfRun(kept.id.clone()), "b"),
            (SnapshotFilter::OfLostRuns, "c"),
            (SnapshotFilter::All, "abc"),
        ] {
            assert_eq!(listed(filter.clone()), names, "{filter:?}");
        }
    }

    #[test]
    fn to_look_for_those_of_runs_reads_no_others() {
        let (store, _home) = open();
        for filter in [
            SnapshotFilter::OfRuns,
            SnapshotFilter::OfRun(RunId::random()),
            SnapshotFilter::OfLostRuns,
        ] {
            let (query, of) = query(&filter);
            let mut statement = store
                .connection
                .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
                .unwrap();
            let plan = statement.query_map(params![of], |row| row.get(3)).unwrap();
            let plan: Vec<String> = plan.collect::<Result<_, _>>().unwrap();
            let plan = plan.join("; ");
            assert!(plan.contains("snapshots_of_runs"), "{filter:?}: {plan}");
        }
    }
}
