//! The promises under a hostile scheduler: the code of pools and the ledger of this host, over simulated machines.
//!
//! Each seed is a little history: up to four pools, six clients at a time that acquire, use, renew, release, resize,
//! drain and remove, runners that do their duty, and [`Weather`] that delays, fails, loses and kills at every await point.
//! Everything is drawn from the seed, and nothing else: `VMINT_SIM_SEED=17 cargo test -p vmint-pool --test simulation`
//! replays history 17 step by step, and writes it down. `VMINT_SIM_OPERATIONS` is how many operations are run in all.
//!
//! * [`history`]: how one goes: storm, calm, the end of all owners, the end of all processes.
//! * [`client`]: what clients do.
//! * [`admission`]: machines that start only when they are admitted.
//! * [`promises`]: what must hold, and is looked at from outside, where nothing is delayed or lost.
//!
//! [`Weather`]: vmint_model::sim::Weather

mod admission;
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

/// The day in UTC, as one writes it: 20260131.
fn seed_of_the_day() -> u64 {
    let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
    let (year, month, day) = date_of(seconds / 86_400);
    year * 10_000 + month * 100 + day
}

/// The date of a day after 1970-01-01, after Howard Hinnant's `civil_from_days`.
fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[test]
fn the_seed_of_the_day_is_its_date() {
    assert_eq!(date_of(0), (1970, 1, 1));
    assert_eq!(date_of(19_782), (2024, 2, 29));
    assert_eq!(date_of(19_783), (2024, 3, 1));
    assert_eq!(date_of(20_453), (2025, 12, 31));
}

#[test]
fn the_promises_hold_after_every_operation_whatever_goes_wrong() {
    if let Some(seed) = number("VMINT_SIM_SEED") {
        let history = History::new(seed);
        history.write_down();
        history.run(CHAPTER);
        return;
    }
    // One that nobody has tried before, and that everybody can try again.
    let today = seed_of_the_day();
    println!("the seed of the day: replay with VMINT_SIM_SEED={today}");
    {
        let _replay = Replay(today);
        History::new(today).run(CHAPTER);
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
