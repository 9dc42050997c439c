//! The store as its users see it: several connections to one file.

mod common;

use common::{Place, machine, spec};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use vmint_model::{
    Accelerator, ByteSize, Cause, ErrorKind, Explained, Generation, MachineId, MachineState, Name,
    ProcessRef, SnapshotRecord,
};
use vmint_store::events::{KEPT, TRIM_EVERY};
use vmint_store::{MachineFilter, SnapshotFilter, StopRequest, Store, StoreError};

use MachineState::{Created, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};

fn go(store: &mut Store, id: &MachineId, to: MachineState) {
    store
        .transition(id, None, to, Cause::Requested, None, |_| {})
        .unwrap();
}

#[test]
fn a_record_comes_back_as_it_was() {
    let place = Place::new();
    let mut record = machine("web");
    record.owner = Some(ProcessRef {
        pid: 7,
        start_time: 8,
        boot_id: "b".into(),
        namespace: None,
    });
    record.accelerator = Some(Accelerator::Tcg);
    record.ready_ms = Some(12.5);
    place.store().insert(&record).unwrap();

    let store = place.store();
    assert_eq!(store.get(&record.id).unwrap(), Some(record.clone()));
    assert_eq!(store.by_name_or_id("web").unwrap(), record);
    assert_eq!(store.by_name_or_id(record.id.as_str()).unwrap(), record);
    assert_eq!(store.get(&MachineId::random()).unwrap(), None);
    let error = store.by_name_or_id("wab").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), r#"there is no machine "wab""#);
}

#[test]
fn a_database_is_for_its_owner_alone() {
    let place = Place::new();
    place.store().insert(&machine("a")).unwrap();
    let _open = place.store();
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", place.database().display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
}

#[test]
fn a_name_is_taken_once_however_many_ask_at_once() {
    let place = Place::new();
    let barrier = Barrier::new(8);
    for round in 0..20 {
        let name = format!("m{round}");
        let results: Vec<_> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        // In the first round they make the database, too.
                        place.store().insert(&machine(&name))
                    })
                })
                .collect();
            askers.into_iter().map(|a| a.join().unwrap()).collect()
        });
        let mut winners = 0;
        for result in results {
            match result {
                Ok(()) => winners += 1,
                Err(StoreError::NameTaken { name: taken, state }) => {
                    assert_eq!((taken.as_str(), state), (name.as_str(), Created));
                }
                Err(e) => panic!("{e:?}"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
    assert_eq!(place.store().list(MachineFilter::All).unwrap().len(), 20);
}

#[test]
fn the_id_of_a_machine_is_no_name_for_another() {
    let place = Place::new();
    let mut store = place.store();
    let first = machine("a");
    store.insert(&first).unwrap();
    let error = store.insert(&machine(first.id.as_str())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
}

#[test]
fn a_machine_begins_created_or_starting() {
    let place = Place::new();
    let mut store = place.store();
    for state in MachineState::ALL {
        let mut record = machine(state.as_str());
        record.state = state;
        let begun = store.insert(&record);
        assert_eq!(
            begun.is_ok(),
            matches!(state, Created | Starting),
            "{state}"
        );
    }
}

#[test]
fn transitions_of_many_are_those_of_the_table_in_one_order() {
    let place = Place::new();
    let record = machine("busy");
    place.store().insert(&record).unwrap();
    let outcomes: Vec<(u32, u32)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8_usize)
            .map(|worker| {
                let (place, id) = (&place, &record.id);
                scope.spawn(move || {
                    let (mut done, mut refused) = (0, 0);
                    let mut store = place.store();
                    for step in 0..200 {
                        // Every worker asks for every state but the last, each in another order.
                        let to = MachineState::ALL[(step * (2 * worker + 1) + worker) % 7];
                        match store.transition(id, None, to, Cause::Requested, None, |r| {
                            r.generation = r.generation.next();
                        }) {
                            Ok(new) => {
                                assert_eq!(new.state, to);
                                done += 1;
                            }
                            Err(StoreError::IllegalTransition { .. }) => refused += 1,
                            Err(e) => panic!("{e:?}"),
                        }
                    }
                    (done, refused)
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let (done, refused) = outcomes
        .iter()
        .fold((0, 0), |(d, r), (done, refused)| (d + done, r + refused));
    assert_eq!(done + refused, 1600);
    assert!(
        done > 100 && refused > 100,
        "{done} done, {refused} refused"
    );

    let store = place.store();
    let events = store.events(0, usize::MAX).unwrap();
    assert_eq!(events.len(), done as usize + 1, "the first is the creation");
    let mut state = None;
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event.sequence, number);
        let (from, to) = event.machine_states().unwrap();
        assert_eq!(from, state, "{event:?}");
        if let (Some(from), Some(to)) = (from, to) {
            assert!(from.to(to).is_ok(), "{event:?}");
        }
        state = to;
    }
    let last = store.get(&record.id).unwrap().unwrap();
    assert_eq!(Some(last.state), state);
    assert_eq!(
        last.generation,
        Generation(1 + u64::from(done)),
        "no update was lost"
    );
}

#[test]
fn a_refused_transition_changes_nothing_and_names_the_machine() {
    let place = Place::new();
    let mut store = place.store();
    let record = machine("web");
    store.insert(&record).unwrap();
    let error = store
        .transition(&record.id, None, Paused, Cause::Requested, None, |r| {
            r.ephemeral = true;
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongState);
    assert_eq!(
        error.to_string(),
        "machine web is created: it cannot become paused"
    );
    let error = store
        .transition(
            &record.id,
            Some(Stopped),
            Starting,
            Cause::Requested,
            None,
            |_| {},
        )
        .unwrap_err();
    assert_eq!(error.to_string(), "machine web is created, not stopped");
    assert_eq!(store.get(&record.id).unwrap(), Some(record));
    assert_eq!(store.events(0, 10).unwrap().len(), 1);

    let nobody = MachineId::random();
    let error = store
        .transition(&nobody, None, Running, Cause::Fault, None, |_| {})
        .unwrap_err();
    assert!(matches!(error, StoreError::NoMachine { .. }), "{error}");
}

#[test]
fn an_update_cannot_change_who_a_machine_is_nor_its_state() {
    let place = Place::new();
    let mut store = place.store();
    let record = machine("web");
    store.insert(&record).unwrap();
    let forge = |r: &mut vmint_model::MachineRecord| {
        r.id = MachineId::random();
        r.name = "other".parse().unwrap();
        r.state = Failed;
        r.created_at_ms = 0;
        r.reason = Some("kept".into());
    };
    let expected = vmint_model::MachineRecord {
        reason: Some("kept".into()),
        ..record.clone()
    };
    assert_eq!(store.update(&record.id, forge).unwrap(), expected);
    assert_eq!(store.get(&record.id).unwrap(), Some(expected.clone()));
    let started = store
        .transition(&record.id, None, Starting, Cause::Requested, None, forge)
        .unwrap();
    assert_eq!(started.state, Starting);
    assert_eq!(started.id, record.id);
}

#[test]
fn events_tell_why_and_after_how_long() {
    let place = Place::new();
    let mut store = place.store();
    let record = machine("web");
    store.insert(&record).unwrap();
    let begin = Instant::now();
    go(&mut store, &record.id, Starting);
    std::thread::sleep(Duration::from_millis(30));
    store
        .transition(
            &record.id,
            None,
            Failed,
            Cause::HypervisorDied,
            Some("signal 9"),
            |_| {},
        )
        .unwrap();
    let most = begin.elapsed().as_millis() as i64 + 2;
    store.delete(&record.id, Cause::Requested).unwrap();

    let events = store.events(2, 10).unwrap();
    let [died, gone] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(died.machine_states(), Some((Some(Starting), Some(Failed))));
    assert_eq!(died.cause, "hypervisor_died");
    assert_eq!(died.detail.as_deref(), Some("signal 9"));
    let duration = died.duration_ms.unwrap();
    assert!((29..=most).contains(&duration), "{duration} of {most}");
    assert_eq!(gone.machine_states(), Some((Some(Failed), None)));
    assert_eq!(gone.name.as_str(), "web");
    assert_eq!(store.last_sequence().unwrap(), 4);
    assert_eq!(store.events(4, 10).unwrap(), []);
    assert_eq!(store.events(0, 1).unwrap()[0].sequence, 1);
}

#[test]
fn a_machine_is_deleted_only_where_no_runner_is() {
    let place = Place::new();
    for state in MachineState::ALL {
        let mut store = place.store();
        let record = machine("a");
        store.insert(&record).unwrap();
        let way: &[MachineState] = match state {
            Created => &[],
            Starting => &[Starting],
            Running => &[Starting, Running],
            Paused => &[Starting, Running, Paused],
            Stopping => &[Starting, Stopping],
            Stopped => &[Starting, Stopped],
            Failed => &[Starting, Failed],
            Removing => &[Removing],
        };
        for to in way {
            go(&mut store, &record.id, *to);
        }
        assert_eq!(
            store.count_live().unwrap(),
            u64::from(state.has_runner()),
            "{state}"
        );
        match store.delete(&record.id, Cause::Requested) {
            Ok(deleted) => {
                assert!(!state.has_runner(), "{state}");
                assert_eq!(deleted.state, state);
            }
            Err(StoreError::IllegalTransition { .. }) => {
                assert!(state.has_runner(), "{state}");
                go(&mut store, &record.id, Failed);
                store.delete(&record.id, Cause::Fault).unwrap();
            }
            Err(e) => panic!("{e:?}"),
        }
        assert!(store.get(&record.id).unwrap().is_none());
    }
}

#[test]
fn lists_show_what_was_asked_for_in_the_order_of_creation() {
    let place = Place::new();
    let mut store = place.store();
    for (name, age, ephemeral, started) in [
        ("young", 1, false, true),
        ("old", 9, true, false),
        ("middle", 5, true, true),
    ] {
        let mut record = machine(name);
        record.created_at_ms -= age;
        record.ephemeral = ephemeral;
        store.insert(&record).unwrap();
        if started {
            go(&mut store, &record.id, Starting);
        }
    }
    let names = |filter| -> Vec<String> {
        let machines = store.list(filter).unwrap();
        machines.iter().map(|m| m.name.to_string()).collect()
    };
    assert_eq!(names(MachineFilter::All), ["old", "middle", "young"]);
    assert_eq!(names(MachineFilter::Live), ["middle", "young"]);
    assert_eq!(names(MachineFilter::Ephemeral), ["old", "middle"]);
}

#[test]
fn a_request_to_stop_is_taken_once_and_the_sterner_counts() {
    let place = Place::new();
    let (mut runner, mut command) = (place.store(), place.store());
    let record = machine("web");
    command.insert(&record).unwrap();
    let request = |force, deadline_ms| StopRequest { force, deadline_ms };

    assert!(
        !command.request_stop(&record.id, request(true, 1)).unwrap(),
        "nobody would take it"
    );
    go(&mut runner, &record.id, Starting);
    assert_eq!(runner.take_stop_request(&record.id).unwrap(), None);
    let before = runner.data_version().unwrap();
    assert_eq!(runner.data_version().unwrap(), before);
    for r in [request(false, 500), request(true, 900), request(false, 700)] {
        assert!(command.request_stop(&record.id, r).unwrap());
    }
    assert_ne!(runner.data_version().unwrap(), before);
    let taken = runner.take_stop_request(&record.id).unwrap();
    assert_eq!(taken, Some(request(true, 500)));
    assert_eq!(runner.take_stop_request(&record.id).unwrap(), None);
}

#[test]
fn a_request_to_stop_does_not_reach_the_next_start() {
    let place = Place::new();
    let mut store = place.store();
    let record = machine("web");
    store.insert(&record).unwrap();
    go(&mut store, &record.id, Starting);
    let request = StopRequest {
        force: true,
        deadline_ms: 1,
    };
    store.request_stop(&record.id, request).unwrap();
    go(&mut store, &record.id, Running);
    go(&mut store, &record.id, Failed);
    go(&mut store, &record.id, Starting);
    assert_eq!(store.take_stop_request(&record.id).unwrap(), None);

    store.request_stop(&record.id, request).unwrap();
    go(&mut store, &record.id, Stopped);
    store.delete(&record.id, Cause::Requested).unwrap();
    assert_eq!(store.take_stop_request(&record.id).unwrap(), None);
}

fn snapshot(name: &str, machine: &str, implicit: bool) -> SnapshotRecord {
    SnapshotRecord {
        name: name.parse().unwrap(),
        machine: machine.parse().unwrap(),
        spec: spec(),
        image_digest: None,
        accelerator: Accelerator::Tcg,
        pause_ms: 14.0,
        size: ByteSize::mib(9),
        full: false,
        implicit,
        run: None,
        created_at_ms: 1,
    }
}

#[test]
fn snapshots_are_kept_and_the_implicit_ones_not_shown() {
    let place = Place::new();
    let mut store = place.store();
    for (name, machine, implicit) in [
        ("one", "web", false),
        ("two", "db", false),
        ("fork", "web", true),
    ] {
        store
            .insert_snapshot(&snapshot(name, machine, implicit))
            .unwrap();
    }
    let error = store
        .insert_snapshot(&snapshot("one", "db", false))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let names = |filter| -> Vec<String> {
        let snapshots = store.list_snapshots(&filter).unwrap();
        snapshots.iter().map(|s| s.name.to_string()).collect()
    };
    assert_eq!(names(SnapshotFilter::Explicit), ["one", "two"]);
    assert_eq!(names(SnapshotFilter::Of("web".parse().unwrap())), ["one"]);
    assert_eq!(names(SnapshotFilter::All), ["fork", "one", "two"]);

    let one: Name = "one".parse().unwrap();
    assert_eq!(
        store.snapshot(&one).unwrap(),
        Some(snapshot("one", "web", false))
    );
    assert_eq!(store.delete_snapshot(&one).unwrap().name, one);
    assert_eq!(store.snapshot(&one).unwrap(), None);
    let error = store.delete_snapshot(&one).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn settings_are_remembered_replaced_and_forgotten() {
    let place = Place::new();
    let mut store = place.store();
    assert_eq!(store.setting("probe").unwrap(), None);
    store.set_setting("probe", "{}").unwrap();
    store.set_setting("probe", r#"{"kvm":false}"#).unwrap();
    let found = place.store().setting("probe").unwrap();
    assert_eq!(found.as_deref(), Some(r#"{"kvm":false}"#));
    store.forget_setting("probe").unwrap();
    store.forget_setting("probe").unwrap();
    assert_eq!(store.setting("probe").unwrap(), None);
}

#[test]
fn a_count_gives_each_of_many_another_number() {
    let place = Place::new();
    let count = || place.store().count_up("runs").unwrap();
    let counted = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| [count(), count()])).collect();
        let numbers = threads.into_iter().flat_map(|t| t.join().unwrap());
        numbers.collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(counted, (1..=8).collect());
    place.store().set_setting("runs", "x").unwrap();
    assert_eq!(place.store().count_up("runs").unwrap(), 1);
}

#[test]
fn old_events_are_deleted_a_bounded_number_at_a_time() {
    let place = Place::new();
    let mut store = place.store();
    let record = machine("web");
    store.insert(&record).unwrap();
    let surplus = 5_000;
    Connection::open(place.database())
        .unwrap()
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO events (sequence, at_ms, machine, name, cause)
             SELECT i, 0, 'm000000000000', 'x', 'fault' FROM n",
            [KEPT + surplus - 1],
        )
        .unwrap();
    let kept = |store: &Store| {
        let first = store.events(0, 1).unwrap()[0].sequence;
        store.last_sequence().unwrap() - first + 1
    };
    go(&mut store, &record.id, Starting);
    assert_eq!(kept(&store), KEPT + surplus - 2 * TRIM_EVERY);
    for _ in 0..TRIM_EVERY {
        go(&mut store, &record.id, Running);
        go(&mut store, &record.id, Paused);
    }
    for _ in 0..TRIM_EVERY / 2 {
        go(&mut store, &record.id, Running);
        go(&mut store, &record.id, Paused);
    }
    assert_eq!(kept(&store), KEPT);
}

#[test]
fn a_database_from_the_future_is_left_alone() {
    let place = Place::new();
    drop(place.store());
    let raw = Connection::open(place.database()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let error = Store::open_file(&place.database(), Duration::from_secs(1)).unwrap_err();
    let known = vmint_store::schema::VERSION;
    assert!(matches!(
        error,
        StoreError::Future { found: 99, known: k, .. } if k == known
    ));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let shown = error.to_string();
    for part in ["vmint.db", "99", &format!("versions up to {known}")] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn what_is_no_database_of_ours_is_a_typed_error() {
    let open = |place: &Place| Store::open_file(&place.database(), Duration::from_secs(1));
    for garbage in [
        b"garbage".to_vec(),
        vec![0xa5; 100],
        vec![b'#'; 100_000],
        b"SQLite format 3\0".repeat(600),
    ] {
        let place = Place::new();
        std::fs::write(place.database(), &garbage).unwrap();
        let error = open(&place).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("doctor --repair"));
        let after = std::fs::read(place.database()).unwrap();
        assert!(after == garbage, "and is left as it was");
    }
    let place = Place::new();
    Connection::open(place.database())
        .unwrap()
        .execute_batch("CREATE TABLE cookies (a)")
        .unwrap();
    let error = open(&place).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_that_names_it() {
    let place = Place::new();
    let mut store = place.store();
    let record = machine("web");
    store.insert(&record).unwrap();
    for damage in ["record = '{}'", "state = 'flying'", "name = 'No Name'"] {
        let raw = Connection::open(place.database()).unwrap();
        raw.execute_batch(&format!("UPDATE machines SET {damage}"))
            .unwrap();
        let error = store.get(&record.id).unwrap_err();
        assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        raw.execute(
            "UPDATE machines SET state = 'created', name = 'web', record = ?1",
            [serde_json::to_string(&record).unwrap()],
        )
        .unwrap();
        store.get(&record.id).unwrap().unwrap();
    }
}

#[test]
fn the_wait_for_another_writer_has_a_deadline() {
    let place = Place::new();
    drop(place.store());
    let hog = Connection::open(place.database()).unwrap();
    hog.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut store = Store::open_file(&place.database(), Duration::from_millis(80)).unwrap();
    assert!(
        store.list(MachineFilter::All).unwrap().is_empty(),
        "reads go on"
    );
    let begin = Instant::now();
    let error = store.insert(&machine("a")).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(
        begin.elapsed() >= Duration::from_millis(70),
        "{:?}",
        begin.elapsed()
    );
    hog.execute_batch("ROLLBACK").unwrap();
    store.insert(&machine("a")).unwrap();
}
