//! The ledger's transactions, one by one and from many threads at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use vmint_model::*;
use vmint_store::{Moment, Store, process};

fn spec(min: u32, max: u32) -> PoolSpec {
    PoolSpec {
        image: "tiny".into(),
        memory: ByteSize::mib(128),
        cpus: 1,
        net: NetMode::None,
        limits: vmint_model::Limits::default(),
        min,
        max,
        standby: 1,
        ttl_ms: None,
        max_uses: None,
    }
}

fn open(dir: &Path) -> Store {
    Store::open_file(&dir.join("vmint.db"), vmint_store::store::PATIENCE).unwrap()
}

fn name(s: &str) -> Name {
    s.parse().unwrap()
}

/// A steady clock, and a wall clock that runs backwards: nothing may be decided by that one.
fn clocks(steady_ms: i64) -> Now {
    Now {
        steady_ms,
        wall_ms: 1_000_000 - 7 * steady_ms,
    }
}

fn at(ms: i64) -> Moment<'static> {
    Moment {
        now: clocks(ms),
        lives: &process::is_alive,
    }
}

fn me() -> ProcessRef {
    process::current().unwrap()
}

fn claim(n: u64, wait: bool) -> Claim {
    Claim {
        lease: LeaseId::from_bits(n),
        pool: name("p"),
        owner: Owner::Process(me()),
        label: None,
        ttl_ms: None,
        wait: wait.then(|| ledger_waiter(&format!("bell-{n}"))),
    }
}

fn ledger_waiter(bell: &str) -> vmint_model::ledger::Waiter {
    vmint_model::ledger::Waiter {
        bell: Bell(bell.into()),
        process: me(),
        deadline_ms: 1_000_000,
    }
}

/// A store with a pool `p` whose reserved machines are all ready.
fn filled(dir: &Path, spec: PoolSpec) -> (Store, Vec<MachineId>) {
    let mut store = open(dir);
    store
        .create_pool(&PoolRecord::new(name("p"), spec, 0))
        .unwrap();
    let machines = store
        .reserve_slots(&name("p"), &me(), u32::MAX, at(1).now)
        .unwrap()
        .machines;
    for machine in &machines {
        let (readied, _) = store.slot_ready(machine, Generation(1), at(2)).unwrap();
        assert_eq!(readied, Readied::Ready);
    }
    (store, machines)
}

fn leased(claimed: Claimed) -> LeaseRecord {
    match claimed {
        Claimed::Leased { lease, .. } => *lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_takes_a_ready_machine_and_asking_again_is_asking_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(1, 1));
    let (claimed, rings) = store.claim(&claim(1, false), at(3)).unwrap();
    let lease = leased(claimed);
    assert_eq!(lease.machine, machines[0]);
    assert_eq!(rings, [Ring::Machine(machines[0].clone())]);
    let again = leased(store.claim(&claim(1, false), at(4)).unwrap().0);
    assert_eq!(again, lease);
    assert_eq!(
        store.claim(&claim(2, false), at(5)).unwrap().0,
        Claimed::None
    );
    let counts = store.pool(&name("p")).unwrap().counts;
    assert_eq!((counts.leased, counts.alive()), (1, 1));
}

#[test]
fn a_machine_that_gets_ready_goes_to_the_first_in_line_and_nobody_overtakes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(1, 1));
    let held = leased(store.claim(&claim(1, false), at(3)).unwrap().0);
    for (n, before) in [(2, 0), (3, 1)] {
        let (claimed, _) = store.claim(&claim(n, true), at(3)).unwrap();
        assert_eq!(claimed, Claimed::Waiting { before });
    }
    let owner = Owner::Process(me());
    let (_, rings) = store
        .end_lease(
            &held.id,
            By::Owner(&owner),
            LeaseEnd::Released,
            None,
            at(10).now,
        )
        .unwrap();
    assert_eq!(rings, [Ring::Machine(machines[0].clone())]);
    assert_eq!(
        store.slot_duty(&machines[0], at(10).now).unwrap(),
        Duty::Reset
    );
    let (readied, rings) = store
        .slot_ready(&machines[0], Generation(2), at(12))
        .unwrap();
    let Readied::Granted(lease) = readied else {
        panic!("{readied:?}")
    };
    assert_eq!((lease.id, lease.waited_ms), (LeaseId::from_bits(2), 9));
    assert_eq!(rings, [Ring::Waiter(Bell("bell-2".into()))]);
    // The line has one left; a newcomer goes behind it.
    let (claimed, _) = store.claim(&claim(4, true), at(13)).unwrap();
    assert_eq!(claimed, Claimed::Waiting { before: 1 });
    let mine = leased(store.claim(&claim(2, true), at(14)).unwrap().0);
    assert_eq!(mine.generation, Generation(2));
}

#[test]
fn what_is_over_is_refused_with_its_reason_and_a_strangers_release_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = filled(dir.path(), spec(1, 1));
    let lease = leased(store.claim(&claim(1, false), at(3)).unwrap().0);
    let owner = Owner::Process(me());
    let stranger = Owner::Process(ProcessRef { pid: 1, ..me() });
    let end = |store: &mut Store, owner: &Owner| {
        store.end_lease(
            &lease.id,
            By::Owner(owner),
            LeaseEnd::Released,
            None,
            at(5).now,
        )
    };
    let refused = end(&mut store, &stranger).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotOwner);
    end(&mut store, &owner).unwrap();
    let twice = end(&mut store, &owner).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::LeaseLost);
    assert!(twice.to_string().contains("it was released"), "{twice}");
    let unknown = LeaseId::from_bits(77);
    let unknown = store
        .end_lease(&unknown, By::Anybody, LeaseEnd::Released, None, at(5).now)
        .unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[test]
fn a_drained_or_removed_pool_lends_nothing_and_goes_with_its_last_machine() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(2, 2));
    let lease = leased(store.claim(&claim(1, false), at(3)).unwrap().0);
    let (_, _) = store.claim(&claim(2, false), at(3)).unwrap();
    store.claim(&claim(3, true), at(3)).unwrap();
    let change = PoolChange {
        state: Some(PoolState::Drained),
        ..PoolChange::default()
    };
    let (_, rings) = store.change_pool(&name("p"), change, at(4)).unwrap();
    assert_eq!(rings, [Ring::Waiter(Bell("bell-3".into()))]);
    let refused = store.claim(&claim(3, true), at(5)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PoolClosed);
    let removing = PoolChange {
        state: Some(PoolState::Removing),
        force: true,
        ..PoolChange::default()
    };
    store.change_pool(&name("p"), removing, at(6)).unwrap();
    let ended = store.lease(&lease.id).unwrap().ended.unwrap();
    assert_eq!(ended.how, LeaseEnd::PoolRemoved);
    for machine in &machines {
        assert_eq!(store.slot_duty(machine, at(7).now).unwrap(), Duty::Retire);
        store.slot_gone(machine, None, at(8).now).unwrap();
    }
    assert_eq!(
        store.pool(&name("p")).unwrap_err(),
        LedgerError::NoPool("p".into())
    );
}

#[test]
fn time_ends_leases_and_ages_machines() {
    let dir = tempfile::tempdir().unwrap();
    let spec = PoolSpec {
        ttl_ms: Some(1000),
        max_uses: Some(2),
        ..spec(2, 2)
    };
    let (mut store, machines) = filled(dir.path(), spec);
    let timed = Claim {
        ttl_ms: Some(100),
        ..claim(1, false)
    };
    let lease = leased(store.claim(&timed, at(10)).unwrap().0);
    store
        .renew_lease(&lease.id, By::Anybody, at(60).now)
        .unwrap();
    assert!(matches!(
        store.slot_duty(&lease.machine, at(159).now).unwrap(),
        Duty::Guard(_)
    ));
    assert_eq!(
        store.slot_duty(&lease.machine, at(160).now).unwrap(),
        Duty::Reset
    );
    let late = store
        .renew_lease(&lease.id, By::Anybody, at(161).now)
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LeaseLost);
    let other = machines.iter().find(|m| **m != lease.machine).unwrap();
    assert_eq!(
        store.slot_duty(other, at(999).now).unwrap(),
        Duty::Idle {
            until_ms: Some(1001)
        }
    );
    assert_eq!(store.slot_duty(other, at(1001).now).unwrap(), Duty::Retire);
    // Used twice, the machine goes instead of being reset.
    store
        .slot_ready(&lease.machine, Generation(2), at(200))
        .unwrap();
    let second = leased(store.claim(&claim(2, false), at(201)).unwrap().0);
    assert_eq!(second.machine, lease.machine);
    store
        .end_lease(
            &second.id,
            By::Anybody,
            LeaseEnd::Released,
            None,
            at(202).now,
        )
        .unwrap();
    assert_eq!(
        store.slot_duty(&lease.machine, at(202).now).unwrap(),
        Duty::Retire
    );
}

#[test]
fn a_pool_shrinks_to_its_minimum_when_nobody_needs_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, mut machines) = filled(dir.path(), spec(3, 3));
    let change = PoolChange {
        min: Some(2),
        ..PoolChange::default()
    };
    store.change_pool(&name("p"), change, at(5)).unwrap();
    machines.sort();
    let after = vmint_store::ledger::pools::SURPLUS_AFTER_MS + 2;
    for machine in &machines {
        let duty = store.slot_duty(machine, clocks(after - 1)).unwrap();
        assert!(matches!(duty, Duty::Idle { .. }), "{duty:?}");
    }
    let duties: Vec<_> = machines
        .iter()
        .map(|m| store.slot_duty(m, clocks(after)).unwrap())
        .collect();
    assert_eq!(duties[0], Duty::Retire);
    assert!(duties[1..].iter().all(|d| matches!(d, Duty::Idle { .. })));
}

#[test]
fn dead_waiters_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(1, 1));
    let held = leased(store.claim(&claim(1, false), at(3)).unwrap().0);
    let dead = Claim {
        wait: Some(vmint_model::ledger::Waiter {
            process: ProcessRef {
                start_time: 1,
                ..me()
            },
            ..ledger_waiter("dead")
        }),
        ..claim(2, true)
    };
    store.claim(&dead, at(3)).unwrap();
    let late = Claim {
        wait: Some(vmint_model::ledger::Waiter {
            deadline_ms: 5,
            ..ledger_waiter("late")
        }),
        ..claim(3, true)
    };
    store.claim(&late, at(3)).unwrap();
    store.claim(&claim(4, true), at(3)).unwrap();
    store
        .end_lease(&held.id, By::Anybody, LeaseEnd::Released, None, at(10).now)
        .unwrap();
    let (readied, _) = store
        .slot_ready(&machines[0], Generation(2), at(11))
        .unwrap();
    assert!(matches!(readied, Readied::Granted(l) if l.id == LeaseId::from_bits(4)));
    assert_eq!(store.pool(&name("p")).unwrap().counts.waiting, 0);
}

#[test]
fn who_asks_again_behind_its_deadline_does_not_join_the_line_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = filled(dir.path(), spec(1, 1));
    store.claim(&claim(1, false), at(3)).unwrap();
    let late = Claim {
        wait: Some(vmint_model::ledger::Waiter {
            deadline_ms: 5,
            ..ledger_waiter("late")
        }),
        ..claim(2, true)
    };
    store.claim(&late, at(3)).unwrap();
    store.claim(&claim(3, true), at(4)).unwrap();
    store.tidy(at(6)).unwrap();
    let (claimed, _) = store.claim(&late, at(6)).unwrap();
    assert_eq!(claimed, Claimed::Waiting { before: 1 });
    assert_eq!(store.pool(&name("p")).unwrap().counts.waiting, 1);
}

/// A machine has been ready for long when the one before in line turns out to be dead.
#[test]
fn a_machine_that_was_ready_for_long_is_stale_also_for_who_waited() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(1, 1));
    let held = leased(store.claim(&claim(1, false), at(3)).unwrap().0);
    store.claim(&claim(2, true), at(3)).unwrap();
    store
        .end_lease(&held.id, By::Anybody, LeaseEnd::Released, None, at(10).now)
        .unwrap();
    store
        .slot_ready(&machines[0], Generation(2), at(11))
        .unwrap();
    let stale_at = |store: &mut Store, ms| match store.claim(&claim(2, true), at(ms)).unwrap().0 {
        Claimed::Leased { stale, .. } => stale,
        other => panic!("{other:?}"),
    };
    assert!(!stale_at(&mut store, 12));
    assert!(stale_at(&mut store, 3_000));
}

#[test]
fn a_machine_that_dies_takes_its_lease_along_and_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(1, 1));
    let lease = leased(store.claim(&claim(1, false), at(3)).unwrap().0);
    store.claim(&claim(2, true), at(3)).unwrap();
    let rings = store
        .slot_gone(&machines[0], Some("QEMU died"), at(9).now)
        .unwrap();
    assert_eq!(rings, [Ring::Waiter(Bell("bell-2".into()))]);
    let ended = store.lease(&lease.id).unwrap().ended.unwrap();
    assert_eq!(ended.how, LeaseEnd::MachineLost);
    assert_eq!(ended.detail.as_deref(), Some("QEMU died"));
    let reserved = store
        .reserve_slots(&name("p"), &me(), 8, at(10).now)
        .unwrap();
    assert_eq!(reserved.machines.len(), 1);
    assert_eq!(
        store
            .reserve_slots(&name("p"), &me(), 8, at(11).now)
            .unwrap(),
        Reserved::default()
    );
    assert_eq!(store.slots(None).unwrap().len(), 1);
}

/// Its holder has not seen it yet: the console stays with the lease, of the last hundred that were lost, and 32 KiB of each.
#[test]
fn the_console_of_a_lost_machine_stays_with_its_lease_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, machines) = filled(dir.path(), spec(1, 1));
    assert!(!store.leave_console(&machines[0], "nobody's").unwrap());
    let mut machine = machines[0].clone();
    for n in 1..=130 {
        let lease = leased(store.claim(&claim(n, false), at(3)).unwrap().0);
        let flood = "ö".repeat(1 << 20) + &format!("last words {n}");
        assert!(store.leave_console(&machine, &flood).unwrap());
        store.slot_gone(&machine, None, at(9).now).unwrap();
        let kept = store.lease(&lease.id).unwrap();
        assert!(kept.ended.is_some());
        let console = kept.console.unwrap();
        assert!(console.len() <= 32 << 10 && console.ends_with(&format!("last words {n}")));
        let reserved = store
            .reserve_slots(&name("p"), &me(), 8, at(10).now)
            .unwrap();
        machine = reserved.machines[0].clone();
        store.slot_ready(&machine, Generation(1), at(11)).unwrap();
    }
    let kept: Vec<u64> = (1..=130)
        .filter(|n| {
            let lease = store.lease(&LeaseId::from_bits(*n)).unwrap();
            lease.console.is_some()
        })
        .collect();
    assert_eq!(kept, (31..=130).collect::<Vec<_>>());
}

/// Eight threads with a connection each claim, release, make ready and reserve; two never hold one machine, and there
/// are never more slots than the maximum.
#[test]
fn threads_at_war_never_share_a_machine_nor_exceed_the_maximum() {
    const MAX: u32 = 3;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(dir.path(), spec(2, MAX));
    drop(store);
    let (next, served) = (AtomicU32::new(1), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut store = open(dir.path());
                for _ in 0..100 {
                    let n = u64::from(next.fetch_add(1, Ordering::Relaxed));
                    store
                        .reserve_slots(&name("p"), &me(), 1, at(5).now)
                        .unwrap();
                    let slots = store.slots(None).unwrap();
                    assert!(slots.len() as u32 <= MAX, "{slots:?}");
                    for slot in slots.iter().filter(|s| s.state == SlotState::Filling) {
                        // Another thread may have been faster, and have lent and reset it since.
                        match store.slot_ready(&slot.machine, Generation(1), at(6)) {
                            Ok(_) | Err(LedgerError::NoSlot { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                    let Claimed::Leased { lease, .. } =
                        store.claim(&claim(n, false), at(7)).unwrap().0
                    else {
                        continue;
                    };
                    let all = store.leases().unwrap();
                    let machines: BTreeSet<_> = all.iter().map(|l| &l.machine).collect();
                    assert_eq!(machines.len(), all.len());
                    assert!(all.contains(&lease));
                    store
                        .end_lease(&lease.id, By::Anybody, LeaseEnd::Released, None, at(8).now)
                        .unwrap();
                    if n.is_multiple_of(7) {
                        store.slot_gone(&lease.machine, None, at(9).now).unwrap();
                    } else {
                        store
                            .slot_ready(&lease.machine, lease.generation.next(), at(9))
                            .unwrap();
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(served.into_inner() > 100);
    let mut store = open(dir.path());
    let slots = store.slots(None).unwrap();
    assert_eq!(
        store.pool(&name("p")).unwrap().counts.alive() as usize,
        slots.len()
    );
}
