//! The promises under a hostile scheduler: the code of pools and the ledger of this host, over simulated machines.
//!
//! Each seed is a little history: up to four pools, six clients at a time that acquire, use, renew, release, resize,
//! drain and remove, runners that do their duty, and [`Weather`] that delays, fails, loses and kills at every await point.
//! Everything is drawn from the seed, and nothing else: `VMINT_SIM_SEED=17 cargo test -p vmint-pool --test simulation`
//! replays history 17 step by step, and writes it down. `VMINT_SIM_OPERATIONS` is how many operations are run in all.
//!
//! * [`history`]: how one goes: storm, calm, the end of all owners, the end of all processes.
//! * [`client`]: what clients do.
//! * [`promises`]: what must hold, and is looked at from outside, where nothing is delayed or lost.
//!
//! [`Weather`]: vmint_model::sim::Weather

mod client;
mod history;
mod promises;

use history::History;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many operations are run, unless told otherwise.
const OPERATIONS: u64 = 100_000;
/// How many of them make a history.
const CHAPTER: u64 = 500;

/// Says how to replay a history that went wrong.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "\nseed {seed}: replay with VMINT_SIM_SEED={seed} cargo test -p vmint-pool --test simulation\n"
            );
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn the_promises_hold_after_every_operation_whatever_goes_wrong() {
    if let Some(seed) = number("VMINT_SIM_SEED") {
        let history = History::new(seed);
        history.write_down();
        history.run(CHAPTER);
        return;
    }
    let operations = number("VMINT_SIM_OPERATIONS").unwrap_or(OPERATIONS);
    let (next, done, began) = (AtomicU64::new(1), AtomicU64::new(0), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < operations {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let _replay = Replay(seed);
                    let ran = History::new(seed).run(CHAPTER);
                    done.fetch_add(ran, Ordering::Relaxed);
                }
            });
        }
    });
    let (histories, took) = (next.into_inner() - 1, began.elapsed());
    let done = done.into_inner();
    println!("{done} operations in {histories} histories, {took:.1?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    let steps = |seed| {
        let history = History::new(seed);
        history.run(100);
        history.sim.steps()
    };
    // Seeds of its own: two runs of one seed at a time would have the same processes, and this is one address space.
    let (one, other) = (u64::MAX, u64::MAX - 1);
    assert_eq!(steps(one), steps(one));
    assert_ne!(steps(one), steps(other));
}
