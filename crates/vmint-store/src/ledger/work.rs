//! How much of the database the ledger's transactions read: work, which is the same on every host, and not time.

use crate::Moment;
use crate::Store;
use rusqlite::ffi;
use vmint_model::{
    By, Claim, Claimed, Generation, LeaseEnd, LeaseId, Name, Owner, PoolRecord, PoolSpec,
    ProcessRef,
};

const POOLS: u32 = 50;

fn name(n: u32) -> Name {
    format!("p{n}").parse().unwrap()
}

fn me() -> ProcessRef {
    crate::process::current().unwrap()
}

fn at(ms: i64) -> Moment<'static> {
    Moment {
        now: vmint_model::Now::both(ms),
        lives: &|_| true,
    }
}

impl Store {
    /// How many pages of the database were looked at, in memory or on disk, since the last time.
    fn pages_read(&self) -> i32 {
        let counters = [
            ffi::SQLITE_DBSTATUS_CACHE_HIT,
            ffi::SQLITE_DBSTATUS_CACHE_MISS,
        ];
        let read = counters.map(|counter| {
            let (mut now, mut most) = (0, 0);
            // SAFETY: the handle is of a connection that is open for as long as `self` is borrowed, and nothing else uses
            // it; both pointers are to integers that live until the call returns; 1 asks to begin again at 0.
            let status = unsafe {
                let handle = self.connection.handle();
                ffi::sqlite3_db_status(handle, counter, &raw mut now, &raw mut most, 1)
            };
            assert_eq!(status, ffi::SQLITE_OK);
            now
        });
        read.iter().sum()
    }
}

impl Store {
    /// How often statements were prepared again, because they were executed with other values than before.
    fn prepared_again(&self) -> i32 {
        let mut count = 0;
        let mut statement = std::ptr::null_mut();
        loop {
            // SAFETY: the handle is of a connection that is open for as long as `self` is borrowed, and nothing else uses it; the
            // statement is null, for the first one, or one that this function was given for this handle, and none is finalized meanwhile.
            statement = unsafe { ffi::sqlite3_next_stmt(self.connection.handle(), statement) };
            if statement.is_null() {
                return count;
            }
            // SAFETY: the statement is of this connection, as above; 0 leaves its counter as it is.
            count +=
                unsafe { ffi::sqlite3_stmt_status(statement, ffi::SQLITE_STMTSTATUS_REPREPARE, 0) };
        }
    }
}

/// Pages that a claim, the reset behind its end, and a look at a duty read with so many machines ready in fifty pools.
fn pages(machines: u32) -> [i32; 4] {
    let dir = tempfile::tempdir().unwrap();
    let patience = crate::store::PATIENCE;
    let mut store = Store::open_file(&dir.path().join("vmint.db"), patience).unwrap();
    for n in 0..POOLS {
        let each = machines / POOLS;
        let spec = PoolSpec {
            min: each,
            max: each,
            ..PoolSpec::of("tiny")
        };
        store
            .create_pool(&PoolRecord::new(name(n), spec, 0))
            .unwrap();
        let reserved = store
            .reserve_slots(&name(n), &me(), each, at(1).now)
            .unwrap();
        for machine in reserved.machines {
            store.slot_ready(&machine, Generation(1), at(2)).unwrap();
        }
    }
    let claim = |n: u64| Claim {
        lease: LeaseId::from_bits(n),
        pool: name(n as u32 % POOLS),
        owner: Owner::Process(me()),
        label: None,
        ttl_ms: None,
        wait: None,
    };
    let mut worst = [0; 4];
    for n in 0..100 {
        let mut note = |store: &Store, what: usize| {
            worst[what] = store.pages_read().max(worst[what]);
        };
        store.pages_read();
        let (claimed, _) = store.claim(&claim(n), at(3)).unwrap();
        note(&store, 0);
        let Claimed::Leased { lease, .. } = claimed else {
            panic!("{claimed:?}");
        };
        store.slot_duty(&lease.machine, at(4).now).unwrap();
        note(&store, 1);
        store
            .end_lease(&lease.id, By::Anybody, LeaseEnd::Released, None, at(5).now)
            .unwrap();
        note(&store, 2);
        store
            .slot_ready(&lease.machine, lease.generation.next(), at(6))
            .unwrap();
        note(&store, 3);
        // Whoever is lent a machine reads its record, too.
        let _ = store.by_name_or_id(lease.machine.as_str());
    }
    // Once is for tables that were made since.
    let again = store.prepared_again();
    assert!(again < 10, "prepared anew {again} times in 100 rounds");
    worst
}

#[test]
fn a_claim_reads_no_more_of_10_000_machines_than_trees_of_them_are_deeper() {
    let (few, many) = (pages(100), pages(10_000));
    println!("pages read by claim, duty, end, ready: {few:?} of 100 machines, {many:?} of 10,000");
    for (few, many) in few.into_iter().zip(many) {
        // A hundred times as many machines, and trees of one page have become trees of two levels; not a hundred pages.
        assert!(many <= 2 * few + 4, "{many} pages instead of {few}");
    }
}
