//! kill -9 of owners, waiters, runners, hypervisors and commands, at random moments, in one pool under load. Afterwards
//! everything is in order, after one command.
//!
//! `VMINT_CHAOS_SEED` repeats the choices of a run (not its timing), `VMINT_CHAOS_ROUNDS` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vmint_tests::processes::{kill, lives};
use vmint_tests::{Home, Process, Started, until};

const SOON: Duration = Duration::from_secs(60);

/// Small, and the same for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn is_machine(word: &str) -> bool {
    let digits = word.strip_prefix('m').unwrap_or_default();
    digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What must hold at every moment, as the database alone tells it: one transaction, so one moment.
fn check(home: &Home, max: usize, seen: &mut usize) {
    let wrong = home.column(
        "SELECT 'two leases on ' || machine FROM leases WHERE ended_at_ms IS NULL GROUP BY machine HAVING count(*) > 1
         UNION ALL SELECT 'leased without a lease: ' || machine FROM slots WHERE state = 'leased' AND machine NOT IN
             (SELECT machine FROM leases WHERE ended_at_ms IS NULL)
         UNION ALL SELECT 'a lease without a slot: ' || machine FROM leases WHERE ended_at_ms IS NULL AND machine NOT IN
             (SELECT machine FROM slots WHERE state = 'leased')
         UNION ALL SELECT 'miscounted: ' || name FROM pools WHERE filling + ready + leased + resetting + retiring <>
             (SELECT count(*) FROM slots WHERE pool = name)",
    );
    assert_eq!(wrong, [] as [String; 0]);
    let slots = home.column("SELECT machine FROM slots");
    assert!(slots.len() <= max, "{slots:?}");
    // Processes are not listed in one moment, so one may have gone while the list was made: those are too many that are
    // in two lists.
    let hypervisors = || -> BTreeSet<String> {
        let all = home.processes().into_iter().filter(Process::is_hypervisor);
        all.filter_map(|p| {
            let mut words = p.argv.iter().flat_map(|a| a.split(['/', ',', '"']));
            let id = words.find(|w| is_machine(w));
            id.map(ToOwned::to_owned)
        })
        .collect()
    };
    let first = hypervisors();
    *seen = (*seen).max(first.len());
    if first.len() > max {
        let both: Vec<_> = hypervisors().intersection(&first).cloned().collect();
        assert!(both.len() <= max, "{both:?}");
    }
}

#[test]
fn whatever_is_killed_the_next_command_puts_it_right() {
    let max = 3;
    let seed =
        number("VMINT_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | 0x9e37);
    let rounds = number("VMINT_CHAOS_ROUNDS").unwrap_or(60);
    println!("VMINT_CHAOS_SEED={seed}");
    let mut random = Random(seed | 1);
    let home = Home::new();
    home.ok(&format!(
        "pool create p --image tiny --memory 128M --min 1 --max {max}"
    ));
    let mut seen = 0;
    let mut running: Vec<Started> = Vec::new();
    let mut kills = BTreeMap::<&str, u32>::new();
    for _ in 0..rounds {
        while running.len() < 5 {
            let script = [
                "exec sleep 0.05",
                "exec sleep 1000",
                "\"$VMINT_TEST\" exec $VMINT_MACHINE -- sh -c '! test -e /mark && touch /mark' || echo DIRTY",
                "\"$VMINT_TEST\" exec $VMINT_MACHINE -- sleep 1000",
            ][random.below(4)];
            let words = ["with", "p", "--timeout", "120s", "--", "sh", "-c", script];
            let call = home
                .call(words)
                .env("VMINT_TEST", vmint_tests::call::binary());
            running.push(call.deadline(Duration::from_secs(300)).start());
        }
        // The delay is what is tried here, not what is waited for.
        std::thread::sleep(Duration::from_millis(random.below(120) as u64));
        let processes = home.processes();
        let of = |wanted: bool| {
            let all = processes
                .iter()
                .filter(move |p| p.is_hypervisor() == wanted);
            all.map(|p| p.pid).collect::<Vec<_>>()
        };
        let (who, victims) = match random.below(3) {
            0 => ("hypervisor", of(true)),
            1 => ("runner", of(false)),
            // An owner or a waiter, whichever it is just now.
            _ => ("command", running.iter().map(Started::pid).collect()),
        };
        if !victims.is_empty() {
            kill(victims[random.below(victims.len())]);
            *kills.entry(who).or_default() += 1;
        }
        check(&home, max, &mut seen);
        running.retain_mut(|call| !call.has_ended());
    }
    println!("killed: {kills:?}; at most {seen} machines at a time");
    assert!(
        seen > 0,
        "the test does not see the machines that it counts"
    );
    for call in running {
        kill(call.pid());
        let outcome = call.finish();
        assert!(!outcome.text().contains("DIRTY"), "{outcome}");
    }
    home.ok("ls");
    until(
        SOON,
        "every machine is ready or gone, and nobody is in line",
        || {
            check(&home, max, &mut seen);
            home.column("SELECT machine FROM slots WHERE state <> 'ready'")
                .is_empty()
                && home.column("SELECT lease FROM waiters").is_empty()
                && !home.column("SELECT machine FROM slots").is_empty()
        },
    );
    let machines = home.column("SELECT machine FROM slots");
    for machine in &machines {
        assert_eq!(home.sh(machine, "ls /mark 2> /dev/null; echo well"), "well");
    }
    // What is not a machine's of the pool is nobody's.
    let strays: Vec<_> = home
        .processes()
        .into_iter()
        .filter(|p| {
            lives(p.pid)
                && !p
                    .argv
                    .iter()
                    .any(|a| machines.iter().any(|m| a.contains(m.as_str())))
        })
        .collect();
    assert_eq!(strays.len(), 0, "{strays:?}");
    home.ok("pool rm p");
    assert_eq!(home.left(), [] as [String; 0]);
}
