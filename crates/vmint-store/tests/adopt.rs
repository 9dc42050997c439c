//! Databases that come from another home, or have another version than their reader.

#[expect(dead_code, reason = "others need more of it")]
mod common;

use common::machine;
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use vmint_model::{
    Claim, Claimed, ErrorKind, Explained, Generation, Home, LeaseEnd, LeaseId, MachineRecord,
    MachineState, Name, Owner, PoolRecord, PoolSpec,
};
use vmint_store::{
    FileLock, Known, MachineFilter, Moment, Settled, Store, StoreError, description, process,
};

fn home(root: &Path, id: &str) -> Home {
    let home = Home::new(root, Path::new("/run/vmint").join(id));
    fs::create_dir_all(home.machines()).unwrap();
    home
}

/// A machine in this state, with a folder.
fn put(
    store: &mut Store,
    home: &Home,
    record: MachineRecord,
    state: MachineState,
) -> MachineRecord {
    fs::create_dir(home.machine(&record.id).path()).unwrap();
    store
        .take_up(&MachineRecord { state, ..record }, Known::Keep, "a test's")
        .unwrap()
}

fn states(store: &Store) -> Vec<(String, MachineState)> {
    let all = store.list(MachineFilter::All).unwrap();
    let mut states: Vec<_> = all
        .into_iter()
        .map(|r| (r.name.to_string(), r.state))
        .collect();
    states.sort();
    states
}

#[test]
fn a_database_of_another_home_brings_no_process_no_lease_and_nothing_that_is_disposable() {
    let dir = tempfile::tempdir().unwrap();
    let original = home(dir.path(), "0123abcd");
    let mut store = Store::open(&original).unwrap();
    assert_eq!(store.settle(&original).unwrap(), Settled::New);
    assert_eq!(store.settle(&original).unwrap(), Settled::Known);
    let me = process::current().unwrap();
    let up = MachineRecord {
        runner: Some(me.clone()),
        hypervisor: Some(me.clone()),
        ..machine("up")
    };
    let run = MachineRecord {
        ephemeral: true,
        owner: Some(me.clone()),
        runner: Some(me.clone()),
        ..machine("run")
    };
    put(&mut store, &original, up, MachineState::Running);
    put(&mut store, &original, run, MachineState::Running);
    put(
        &mut store,
        &original,
        machine("down"),
        MachineState::Stopped,
    );
    let here = put(
        &mut store,
        &original,
        machine("here"),
        MachineState::Running,
    );
    let pool: Name = "p".parse().unwrap();
    let spec = PoolSpec {
        min: 1,
        max: 1,
        ..PoolSpec::of("tiny")
    };
    store
        .create_pool(&PoolRecord::new(pool.clone(), spec, 0))
        .unwrap();
    let now = vmint_store::now();
    let reserved = store.reserve_slots(&pool, &me, 1, now).unwrap();
    store
        .slot_ready(&reserved.machines[0], Generation(1), Moment::now())
        .unwrap();
    let claim = Claim {
        lease: LeaseId::random(),
        pool,
        owner: Owner::Process(me),
        label: None,
        ttl_ms: None,
        wait: None,
    };
    let (claimed, _) = store.claim(&claim, Moment::now()).unwrap();
    assert!(matches!(claimed, Claimed::Leased { .. }), "{claimed:?}");

    let copy = home(dir.path(), "ffffffff");
    // Its lock is held in this very folder: it is not of another home.
    let _lock = FileLock::try_acquire(&copy.machine(&here.id).lock())
        .unwrap()
        .unwrap();
    let mut store = Store::open(&copy).unwrap();
    let Settled::Adopted(adopted) = store.settle(&copy).unwrap() else {
        panic!("it is another home's");
    };
    let mut lost = adopted.lost;
    lost.sort();
    assert_eq!(lost, ["run", "up"]);
    assert_eq!((adopted.kept, adopted.leases), (2, 1));
    use MachineState::{Failed, Running, Stopped};
    let expected = [
        ("down", Stopped),
        ("here", Running),
        ("run", Failed),
        ("up", Failed),
    ];
    assert_eq!(
        states(&store),
        expected.map(|(name, state)| (name.to_owned(), state))
    );
    for record in store.list(MachineFilter::All).unwrap() {
        assert!(!record.ephemeral && record.owner.is_none(), "{record:?}");
        if record.state == Failed {
            assert!(record.runner.is_none() && record.hypervisor.is_none());
            assert!(record.reason.unwrap().contains("another home"));
        }
        let said = description::machine(copy.machine(&record.id).path()).unwrap();
        assert!(said.is_of(&copy) && !said.is_of(&original));
        assert_eq!(said.record.state, record.state);
    }
    let ended = store.lease(&claim.lease).unwrap().ended.unwrap();
    assert_eq!(ended.how, LeaseEnd::MachineLost);
    assert_eq!(store.slots(None).unwrap(), []);
    assert_eq!(
        store.settle(&copy).unwrap(),
        Settled::Known,
        "it is told once"
    );
}

#[test]
fn a_folder_says_what_its_machine_has_become() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path(), "0123abcd");
    let mut store = Store::open(&home).unwrap();
    let record = put(&mut store, &home, machine("box"), MachineState::Starting);
    let said = || {
        description::machine(home.machine(&record.id).path())
            .unwrap()
            .record
    };
    assert_eq!(said(), record);
    let go = |store: &mut Store, to| {
        store
            .transition(
                &record.id,
                None,
                to,
                vmint_model::Cause::Requested,
                None,
                |r| {
                    if to == MachineState::Starting {
                        r.generation = r.generation.next();
                    }
                },
            )
            .unwrap()
    };
    for to in [
        MachineState::Running,
        MachineState::Starting,
        MachineState::Running,
        MachineState::Failed,
    ] {
        let now = go(&mut store, to);
        if to != MachineState::Starting {
            assert_eq!(said(), now);
        }
    }
    assert_eq!(said().generation, Generation(2));
    // A folder that is gone is not made again, and the record is none the worse.
    fs::remove_dir_all(home.machine(&record.id).path()).unwrap();
    go(&mut store, MachineState::Removing);
    assert!(!home.machine(&record.id).path().exists());
}

#[test]
fn a_machine_that_is_taken_up_does_not_take_another_s_name_nor_its_own_newer_record() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path(), "0123abcd");
    let mut store = Store::open(&home).unwrap();
    let known = put(&mut store, &home, machine("box"), MachineState::Stopped);
    let same_name = store.take_up(&machine("box"), Known::Keep, "lost").unwrap();
    assert_eq!(same_name.name.as_str(), same_name.id.as_str());
    let older = MachineRecord {
        generation: Generation(7),
        ..known.clone()
    };
    assert_eq!(store.take_up(&older, Known::Keep, "lost").unwrap(), known);
    assert_eq!(
        store.take_up(&older, Known::Replace, "lost").unwrap(),
        older
    );
    assert_eq!(store.get(&known.id).unwrap(), Some(older));
}

#[test]
fn a_store_does_not_write_to_tables_of_another_version() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path(), "0123abcd");
    let mut store = Store::open(&home).unwrap();
    let record = put(&mut store, &home, machine("box"), MachineState::Running);
    let raw = Connection::open(home.database()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    let error = store.set_setting("key", "value").unwrap_err();
    assert!(
        matches!(error, StoreError::Upgraded { found: 99, .. }),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("was upgraded by a newer vmint"),
        "{error}"
    );
    let (to, cause) = (MachineState::Failed, vmint_model::Cause::Fault);
    store
        .transition(&record.id, None, to, cause, None, |_| {})
        .unwrap_err();
    store.delete(&record.id, cause).unwrap_err();
    raw.pragma_update(None, "user_version", vmint_store::schema::VERSION)
        .unwrap();
    assert_eq!(store.get(&record.id).unwrap(), Some(record));
    store.set_setting("key", "value").unwrap();
}

#[test]
fn an_older_database_is_brought_up_to_date_when_the_last_runner_of_before_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path(), "0123abcd");
    drop(Store::open(&home).unwrap());
    // What the last migration made is taken back.
    let raw = Connection::open(home.database()).unwrap();
    raw.execute_batch(
        "DROP INDEX snapshots_of_runs; ALTER TABLE snapshots DROP COLUMN run; PRAGMA user_version = 4;",
    )
    .unwrap();
    let id = machine("box").id;
    fs::create_dir(home.machine(&id).path()).unwrap();
    let lock = FileLock::try_acquire(&home.machine(&id).lock())
        .unwrap()
        .unwrap();
    let error = Store::open(&home).unwrap_err();
    assert!(matches!(&error, StoreError::OlderRunners { runners, .. } if *runners == [id.clone()]));
    assert_eq!(error.kind(), ErrorKind::WrongState);
    assert!(error.to_string().contains(id.as_str()), "{error}");
    assert!(error.hint().unwrap().contains(id.as_str()));
    let version: i64 = raw
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 4, "it is left alone");
    // One that lets go within a moment, as a command that only looks, is waited for.
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| Store::open(&home));
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(lock);
        opened.join().unwrap().unwrap();
    });
}

#[test]
fn what_is_put_away_keeps_what_is_there_and_is_as_old_as_its_stay() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path(), "0123abcd");
    let mut places = Vec::new();
    for content in ["first", "second"] {
        let folder = home.machines().join("folder");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("disk"), content).unwrap();
        let old = std::time::UNIX_EPOCH;
        fs::File::open(&folder).unwrap().set_modified(old).unwrap();
        let place = vmint_store::adopt::put_away(&home, &folder, "machine-m").unwrap();
        assert!(!folder.exists());
        let since = fs::metadata(&place).unwrap().modified().unwrap();
        assert!(since > old);
        places.push(place);
    }
    for (place, content) in places.iter().zip(["first", "second"]) {
        assert_eq!(fs::read_to_string(place.join("disk")).unwrap(), content);
    }
}
