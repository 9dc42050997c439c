//! What a crash leaves behind is a database that opens, with everything up to some moment and nothing after it.

mod common;

use common::{Place, machine};
use rusqlite::Connection;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vmint_model::{Cause, MachineState};
use vmint_store::{MachineFilter, Store};

/// Set for the process that is killed: the database that it writes to.
const VICTIM: &str = "VMINT_STORE_TEST_VICTIM";

/// Makes machines, moves them, asks them to stop, and deletes them, `rounds` times.
fn write(path: &Path, rounds: impl Iterator<Item = u32>) {
    let mut store = Store::open_file(path, Duration::from_secs(60)).unwrap();
    for round in rounds {
        let record = machine(&format!("m{}-{round}", std::process::id()));
        store.insert(&record).unwrap();
        for to in [MachineState::Starting, MachineState::Running] {
            let cause = Cause::Completed;
            let detail = "x".repeat((round % 50) as usize * 100);
            store
                .transition(&record.id, None, to, cause, Some(&detail), |r| {
                    r.generation = r.generation.next();
                })
                .unwrap();
        }
        let request = vmint_store::StopRequest {
            force: false,
            deadline_ms: 1,
        };
        store.request_stop(&record.id, request).unwrap();
        store
            .transition(
                &record.id,
                None,
                MachineState::Stopped,
                Cause::Requested,
                None,
                |_| {},
            )
            .unwrap();
        if round % 3 > 0 {
            store.delete(&record.id, Cause::Requested).unwrap();
        }
    }
}

/// Opens the database and proves it whole: by SQLite's own checks, and by replaying all events, which must arrive at
/// the machines' states. Gives back the number of events.
fn prove_whole(path: &Path, context: &str) -> i64 {
    let store = Store::open_file(path, Duration::from_secs(60)).unwrap();
    let raw = Connection::open(path).unwrap();
    let integrity: String = raw
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok", "{context}");
    let strays: i64 = raw
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert_eq!(strays, 0, "{context}");

    let events = store.events(0, usize::MAX).unwrap();
    let mut states = std::collections::BTreeMap::new();
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event.sequence, number, "{context}");
        let (from, to) = event.machine_states().unwrap();
        assert_eq!(
            states.get(&event.machine).copied(),
            from,
            "{context}: {event:?}"
        );
        match to {
            Some(to) => states.insert(event.machine.clone(), to),
            None => states.remove(&event.machine),
        };
    }
    let machines = store.list(MachineFilter::All).unwrap();
    let found = machines.into_iter().map(|m| (m.id, m.state)).collect();
    assert_eq!(states, found, "{context}");
    events.len() as i64
}

/// Not a test but the process that the next one kills.
#[test]
fn victim() {
    if let Some(path) = std::env::var_os(VICTIM) {
        println!("writing");
        write(Path::new(&path), 0..);
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_database() {
    let place = Place::new();
    drop(place.store());
    let mut before = 0;
    for kill in 0..30_u64 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, place.database())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(victim.stdout.take().unwrap()).lines();
        let began = output.any(|line| line.unwrap().contains("writing"));
        std::thread::sleep(Duration::from_micros(kill * kill * 97));
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(began, "the victim was killed while it wrote");
        let after = prove_whole(&place.database(), &format!("kill {kill}"));
        assert!(
            after >= before,
            "kill {kill}: {after} events, {before} before"
        );
        before = after;
    }
    assert!(before > 100, "{before} events in all");
}

#[test]
fn a_log_torn_at_any_byte_gives_everything_up_to_some_moment() {
    let place = Place::new();
    drop(place.store());
    let log = |path: &Path| format!("{}-wal", path.display());
    // The file is not written to while the log is short, so the copies are of one moment.
    write(&place.database(), 0..25);
    let bytes = std::fs::read(log(&place.database())).unwrap();
    let whole = prove_whole(&place.database(), "not torn");
    let mut seen = std::collections::BTreeSet::new();
    let mut length = 0;
    while length <= bytes.len() {
        let torn = Place::new();
        std::fs::copy(place.database(), torn.database()).unwrap();
        std::fs::write(log(&torn.database()), &bytes[..length]).unwrap();
        seen.insert(prove_whole(&torn.database(), &format!("torn at {length}")));
        length += 15_013;
    }
    assert!(seen.len() > 20, "{seen:?}");
    assert!(seen.iter().all(|events| *events <= whole));
}
