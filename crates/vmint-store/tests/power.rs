//! What a loss of power leaves is a database that opens, and a ledger whose books agree.
//!
//! A power cut stops all files at one instant; what had not been synced by then may be there or not. A copy takes time.
//! So that a copy is one that a power cut could have left:
//!
//! * The database is copied first, then its log. What is committed in between is in the log, and so in the copy. The
//!   other way round a checkpoint in between would put pages into the database that are younger than the copied log, which
//!   would then take them back, some of them.
//! * If the log was begun anew in between, what it held is in neither copy. Its header has changed then, and the copy is
//!   taken again.
//! * The log is synced before a checkpoint writes a page of it into the database, and never else (`synchronous = NORMAL`).
//!   So what was ever written back must be in the log whole, and of everything behind that any block may be missing. How
//!   far that is stands in the index of the log; it is read last, when it can only have grown.
//!
//! The writers are processes of their own. Not only because that is what they are: to close any descriptor of a database
//! drops all locks that the process has on it, so whoever copies must not write.

#[expect(dead_code, reason = "machines are for other tests")]
mod common;

use common::Place;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vmint_model::ledger::Waiter;
use vmint_model::*;
use vmint_store::{Moment, Store, now_ms, process};

/// Set for the processes that write: the database, and the seed of their numbers.
const WRITER: &str = "VMINT_STORE_TEST_WRITER";
const SEED: &str = "VMINT_STORE_TEST_SEED";

/// How many processes write.
const WRITERS: u32 = 3;
/// How many copies are taken at least, and how often the log must have been begun anew meanwhile.
const COPIES: u32 = 30;
const LOGS: usize = 4;
/// The header of a log, and of each frame in it; see "The WAL file format" in SQLite's documentation.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const PAGE: usize = 4096;
/// Where the index of a log says how many frames checkpoints have tried to write back; see `WalCkptInfo` in `wal.c`.
const ATTEMPTED: usize = 2 * 48 + 32;
/// The salt of a log, another one each time it is begun anew: in its header, and in its index.
const SALT: Range<usize> = 16..24;
const SALT_IN_INDEX: Range<usize> = 32..40;

/// Numbers that need not be good.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn pool(n: u64) -> Name {
    format!("p{n}").parse().unwrap()
}

/// Claims, waits, releases, makes and loses machines, and changes pools, for ever.
fn write(path: &Path, seed: u64) -> ! {
    let mut store = Store::open_file(path, Duration::from_secs(60)).unwrap();
    let (mut dice, me) = (Dice(seed), process::current().unwrap());
    let mut held: Vec<LeaseId> = Vec::new();
    loop {
        let (p, now) = (pool(dice.roll(2)), Moment::now());
        // Others do the same to the same machines, so any of these may be refused.
        let refused = match dice.roll(9) {
            0 => store.reserve_slots(&p, &me, 2, now.now).err(),
            1 | 2 => {
                let lease = LeaseId::random();
                held.push(lease.clone());
                let claim = Claim {
                    lease,
                    pool: p,
                    owner: Owner::Process(me.clone()),
                    label: Some("x".repeat(dice.roll(400) as usize)),
                    ttl_ms: None,
                    wait: (dice.roll(2) == 0).then(|| Waiter {
                        bell: Bell("bell".into()),
                        process: me.clone(),
                        deadline_ms: now.now.steady_ms + 20,
                    }),
                };
                store.claim(&claim, now).err()
            }
            3 if !held.is_empty() => {
                let lease = held.swap_remove(dice.roll(held.len() as u64) as usize);
                store.withdraw(&lease, now.now).err()
            }
            4 => store.tidy(now).err(),
            5 => {
                let change = PoolChange {
                    min: Some(dice.roll(4) as u32),
                    max: Some(4 + dice.roll(4) as u32),
                    state: Some(PoolState::Open),
                    force: false,
                };
                store.change_pool(&p, change, now).err()
            }
            _ => {
                let slots = store.slots(Some(&p)).unwrap();
                let Some(slot) = slots.get(dice.roll(8) as usize) else {
                    continue;
                };
                if slot.state == SlotState::Retiring || dice.roll(12) == 0 {
                    store.slot_gone(&slot.machine, Some("dice"), now.now).err()
                } else {
                    let generation = slot.generation.next();
                    store.slot_ready(&slot.machine, generation, now).err()
                }
            }
        };
        if let Some(LedgerError::Failed(fault)) = refused {
            panic!("{fault}");
        }
    }
}

/// Not a test but what the processes do that write.
#[test]
fn writer() {
    if let Some(path) = std::env::var_os(WRITER) {
        let seed = std::env::var(SEED).unwrap().parse().unwrap();
        println!("writing");
        write(Path::new(&path), seed);
    }
}

/// A process that writes, until it is dropped.
struct Writer(Child);

impl Writer {
    fn start(path: &Path, seed: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(WRITER, path)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.unwrap().contains("writing")));
        Self(child)
    }

    fn writes(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// The files as a power cut could have left them.
struct Copy {
    database: Vec<u8>,
    log: Vec<u8>,
    /// So much of the log has been synced.
    synced: usize,
}

impl Copy {
    fn take(path: &Path) -> Self {
        loop {
            let read = |suffix: &str| std::fs::read(beside(path, suffix)).unwrap();
            let salt = |log: &[u8]| log.get(SALT).map(<[u8]>::to_vec);
            let before = salt(&read("-wal"));
            let (database, log, index) = (read(""), read("-wal"), read("-shm"));
            // The index changes first when a log is begun anew.
            let same = [salt(&log), index.get(SALT_IN_INDEX).map(<[u8]>::to_vec)];
            if before.is_none() || same.iter().any(|salt| *salt != before) {
                continue;
            }
            let attempted = index[ATTEMPTED..ATTEMPTED + 4].try_into().unwrap();
            let frames = u32::from_ne_bytes(attempted) as usize;
            let synced = (LOG_HEADER + frames * (FRAME_HEADER + PAGE)).min(log.len());
            return Self {
                database,
                log,
                synced,
            };
        }
    }

    /// What is found when the power is back. Gives back the last event.
    fn open(&self, log: &[u8], context: &str) -> i64 {
        let place = Place::new();
        let path = place.database();
        std::fs::write(&path, &self.database).unwrap();
        std::fs::write(beside(&path, "-wal"), log).unwrap();
        prove_whole(&path, context)
    }
}

/// Opens the database and proves it whole: by SQLite's own checks, and by all that must agree in the ledger.
fn prove_whole(path: &Path, context: &str) -> i64 {
    let mut store = Store::open_file(path, Duration::from_secs(60)).unwrap();
    let raw = Connection::open(path).unwrap();
    let integrity: String = raw
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok", "{context}");
    let number = |sql: &str| raw.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    // Slots and waiters of unknown pools are such strays.
    let strays = number("SELECT count(*) FROM pragma_foreign_key_check");
    assert_eq!(strays, 0, "{context}");

    let (slots, leases) = (store.slots(None).unwrap(), store.leases().unwrap());
    let line = store.waiters().unwrap();
    for status in store.pools().unwrap() {
        let name = &status.pool.name;
        let count = |state| {
            let mine = slots.iter().filter(|s| s.pool == *name && s.state == state);
            mine.count() as u32
        };
        let counts = Counts {
            filling: count(SlotState::Filling),
            ready: count(SlotState::Ready),
            leased: count(SlotState::Leased),
            resetting: count(SlotState::Resetting),
            retiring: count(SlotState::Retiring),
            waiting: line.iter().filter(|w| w.pool == *name).count() as u32,
        };
        assert_eq!(status.counts, counts, "{context}: {name}");
    }
    for slot in &slots {
        let mine = leases.iter().filter(|l| l.machine == slot.machine);
        let expected = usize::from(slot.state == SlotState::Leased);
        assert_eq!(mine.count(), expected, "{context}: {slot:?}");
    }
    for lease in &leases {
        let slot = slots.iter().find(|s| s.machine == lease.machine);
        let agrees = slot.is_some_and(|s| s.generation == lease.generation && s.pool == lease.pool);
        assert!(agrees, "{context}: {lease:?} {slot:?}");
    }
    // It can be written to, as before.
    store.tidy(Moment::now()).unwrap();
    number("SELECT coalesce(max(sequence), 0) FROM events")
}

#[test]
fn a_copy_taken_at_any_moment_opens_and_its_books_agree() {
    let place = Place::new();
    let path = place.database();
    {
        let mut store = place.store();
        for n in 0..2 {
            let record = PoolRecord::new(pool(n), PoolSpec::of("tiny"), now_ms());
            store.create_pool(&record).unwrap();
        }
    }
    let mut writers: Vec<_> = (1..=WRITERS).map(|n| Writer::start(&path, n)).collect();
    let (mut dice, mut last, mut shorter) = (Dice(7), 0, 0);
    let (mut copies, mut logs) = (0, BTreeSet::new());
    let deadline = Instant::now() + Duration::from_secs(120);
    while copies < COPIES || logs.len() < LOGS {
        copies += 1;
        assert!(Instant::now() < deadline, "{copies} copies, {logs:?}");
        let copy = Copy::take(&path);
        logs.insert(copy.log[SALT].to_vec());
        let whole = copy.open(&copy.log, &format!("copy {copies}"));
        // What was there when the one before was taken is there for good.
        assert!(whole >= last, "{whole} events, {last} before");
        last = whole;

        let unsynced = copy.log.len() - copy.synced;
        if unsynced == 0 {
            continue;
        }
        let at = copy.synced + dice.roll(unsynced as u64) as usize;
        let context = format!("copy {copies}, torn at {at} of {}", copy.log.len());
        let torn = copy.open(&copy.log[..at], &context);
        // One block never reached the disk; all others did.
        let block = at / PAGE * PAGE;
        let lost = block.max(copy.synced)..(block + PAGE).min(copy.log.len());
        let mut holed = copy.log.clone();
        holed[lost.clone()].fill(0);
        let holed = copy.open(&holed, &format!("copy {copies}, without {lost:?}"));
        assert!(torn <= whole && holed <= whole, "copy {copies}");
        shorter += u32::from(torn < whole) + u32::from(holed < whole);
    }
    assert!(writers.iter_mut().all(Writer::writes), "a writer failed");
    assert!(last > 100, "{last} events in all");
    assert!(shorter > 0, "no damage has ever cost an event");
    println!(
        "{copies} copies of {} logs, {last} events, {shorter} damaged copies told less",
        logs.len()
    );
}
