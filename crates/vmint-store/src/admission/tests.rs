//! Promises, places and the line, on real databases.

use super::*;
use crate::process;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use vmint_model::{
    ByteSize, Cause, ExecDefaults, MachineRecord, MachineSpec, MachineState, NetMode, Now, Origin,
};

fn open(folder: &Path) -> Store {
    Store::open_file(&folder.join("vmint.db"), Duration::from_secs(60)).unwrap()
}

fn me() -> ProcessRef {
    process::current().unwrap()
}

fn dead() -> ProcessRef {
    ProcessRef {
        start_time: 0,
        ..me()
    }
}

fn request(boot: Boot, bytes: u64) -> Request {
    Request {
        machine: MachineId::random(),
        bytes,
        boot,
        holder: me(),
        wait: None,
    }
}

fn waiting(boot: Boot, bytes: u64) -> Request {
    let wait = Wait {
        bell: Bell("nobody".into()),
        deadline_ms: i64::MAX,
    };
    Request {
        wait: Some(wait),
        ..request(boot, bytes)
    }
}

fn record(machine: &MachineId) -> MachineRecord {
    MachineRecord::new(
        machine.clone(),
        format!("m-{machine}").parse().unwrap(),
        MachineState::Starting,
        MachineSpec {
            image: "tiny".into(),
            memory: ByteSize::mib(128),
            cpus: 1,
            net: NetMode::None,
            publish: Vec::new(),
            limits: vmint_model::Limits::default(),
            origin: Origin::Template,
            disk_cache: None,
            defaults: ExecDefaults::default(),
        },
    )
}

fn at(ms: i64) -> Moment<'static> {
    Moment {
        now: Now::both(ms),
        ..Moment::now()
    }
}

/// Books it whatever is booked, and returns what is.
fn book(store: &mut Store, request: &Request) -> Booked {
    let mut seen = Booked::default();
    let decision = store.admit(request, at(1), &[], |booked| {
        seen = booked.clone();
        Ok::<(), (&str, ())>(())
    });
    decision.unwrap().unwrap();
    seen
}

/// Asks and is refused, and returns what is booked.
fn look(store: &mut Store, request: &Request, ms: i64) -> Booked {
    let decision = store.admit(request, at(ms), &[], |booked| {
        Err::<(), _>(("memory", booked.clone()))
    });
    decision.unwrap().unwrap_err()
}

fn change(store: &mut Store, machine: &MachineId, to: MachineState) {
    store
        .transition(machine, None, to, Cause::Requested, None, |_| {})
        .unwrap();
}

#[test]
fn a_promise_lives_as_long_as_its_machine_and_its_place_until_that_is_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (first, asker) = (request(Boot::Fork, 100), request(Boot::Fork, 1));
    assert_eq!(book(&mut store, &first), Booked::default());
    let promised = vec![(first.machine.clone(), 100)];
    let seen = look(&mut store, &asker, 2);
    assert_eq!((&seen.promises, seen.boots), (&promised, 1));
    assert_eq!(look(&mut store, &request(Boot::Cold, 1), 2).boots, 0);
    store.insert(&record(&first.machine)).unwrap();
    assert_eq!(look(&mut store, &asker, 2).boots, 1);
    change(&mut store, &first.machine, MachineState::Running);
    let seen = look(&mut store, &asker, 2);
    assert_eq!((&seen.promises, seen.boots), (&promised, 0));
    change(&mut store, &first.machine, MachineState::Failed);
    assert_eq!(look(&mut store, &asker, 2), Booked::default());
}

#[test]
fn what_the_dead_hold_counts_only_if_there_is_a_machine() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let of_dead = || Request {
        holder: dead(),
        ..request(Boot::Fork, 100)
    };
    let (alone, with_machine) = (of_dead(), of_dead());
    book(&mut store, &alone);
    book(&mut store, &with_machine);
    store.insert(&record(&with_machine.machine)).unwrap();
    let seen = look(&mut store, &request(Boot::Fork, 1), 2);
    assert_eq!((seen.boots, seen.promises.len()), (1, 1));
    assert_eq!(store.admissions(Boot::Fork).unwrap(), (1, 0), "deleted");
}

#[test]
fn what_is_given_back_is_kept_by_a_machine_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (kept, given) = (request(Boot::Cold, 1), request(Boot::Cold, 1));
    book(&mut store, &kept);
    book(&mut store, &given);
    store.insert(&record(&kept.machine)).unwrap();
    for request in [&kept, &given] {
        store.withdraw_admission(&request.machine).unwrap();
    }
    assert_eq!(store.admissions(Boot::Cold).unwrap(), (1, 0));
}

#[test]
fn a_live_machine_without_a_promise_counts_and_one_that_is_gone_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let old = MachineId::random();
    store.insert(&record(&old)).unwrap();
    let without_row = [(old.clone(), 7), (MachineId::random(), 9)];
    let decision = store.admit(&request(Boot::Fork, 1), at(1), &without_row, |booked| {
        Err::<(), _>(("memory", booked.promises.clone()))
    });
    assert_eq!(decision.unwrap().unwrap_err(), vec![(old, 7)]);
}

#[test]
fn those_ahead_in_line_count_until_they_leave_die_or_are_late() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let first = waiting(Boot::Cold, 100);
    let dies = Request {
        holder: dead(),
        ..waiting(Boot::Cold, 1000)
    };
    let mut late = waiting(Boot::Fork, 10_000);
    late.wait.as_mut().unwrap().deadline_ms = 50;
    let last = waiting(Boot::Cold, 1);
    for request in [&first, &dies, &late, &last] {
        look(&mut store, request, 10);
    }
    let seen = look(&mut store, &last, 20);
    assert_eq!((seen.ahead_bytes, seen.ahead_boots), (10_100, 1));
    let seen = look(&mut store, &last, 50);
    assert_eq!((seen.ahead_bytes, seen.ahead_boots), (100, 1));
    assert_eq!(
        seen.awaited,
        ["memory", "memory"],
        "the first's and its own"
    );
    // To ask again is not to come again.
    assert_eq!(look(&mut store, &first, 60).ahead_boots, 0);
    let bells = store.admission_bells().unwrap();
    assert_eq!(bells.len(), 2);
    store.withdraw_admission(&first.machine).unwrap();
    assert_eq!(look(&mut store, &last, 60).ahead_boots, 0);
    book(&mut store, &last);
    assert!(store.admission_bells().unwrap().is_empty());
}

/// Many connections at once, as of many processes: never more boots than places, nor more promised than there is.
#[test]
fn no_interleaving_books_more_than_there_is() {
    const PLACES: u32 = 3;
    const CAPACITY: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let (booting, taken) = (AtomicU32::new(0), AtomicU64::new(0));
    let (admitted, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let seen = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (booting, taken, admitted, most, seen) =
                (&booting, &taken, &admitted, &most, &seen);
            let mut store = open(dir.path());
            scope.spawn(move || {
                for round in 0..40 {
                    let bytes = 100 + 37 * ((thread + round) % 9);
                    let request = request(Boot::Fork, bytes);
                    let decision = store.admit(&request, Moment::now(), &[], |booked| {
                        let sum: u64 = booked.promises.iter().map(|(_, bytes)| bytes).sum();
                        if booked.boots >= PLACES || sum + bytes > CAPACITY {
                            return Err(("memory", ()));
                        }
                        Ok(())
                    });
                    if decision.unwrap().is_err() {
                        std::thread::yield_now();
                        continue;
                    }
                    admitted.fetch_add(1, Ordering::SeqCst);
                    seen.lock().unwrap().insert(request.machine.clone());
                    let now = booting.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    assert!(now <= PLACES, "{now} boots at once");
                    let sum = taken.fetch_add(bytes, Ordering::SeqCst) + bytes;
                    assert!(sum <= CAPACITY, "{sum} promised");
                    store.insert(&record(&request.machine)).unwrap();
                    booting.fetch_sub(1, Ordering::SeqCst);
                    change(&mut store, &request.machine, MachineState::Running);
                    taken.fetch_sub(bytes, Ordering::SeqCst);
                    change(&mut store, &request.machine, MachineState::Stopping);
                    change(&mut store, &request.machine, MachineState::Stopped);
                }
            });
        }
    });
    let store = open(dir.path());
    assert_eq!(store.admissions(Boot::Fork).unwrap(), (0, 0));
    let (admitted, most) = (admitted.into_inner(), most.into_inner());
    assert_eq!(seen.into_inner().unwrap().len(), admitted as usize);
    assert!(
        admitted > 40 && most > 1,
        "{admitted} admitted, {most} at once"
    );
}
