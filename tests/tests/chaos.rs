//! kill -9 of owners, waiters, runners, hypervisors and commands, at random moments, in one pool under load; others of them
//! stand still for seconds, a copy of the home is let loose beside it, and the disk fills up for a while. Each holder leaves a token in its guest, and looks for those of
//! others. Afterwards everything is in order, after one command.
//!
//! `VMINT_CHAOS_SEED` repeats the choices of a run (not its timing), `VMINT_CHAOS_ROUNDS` makes it longer.

use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};
use vmint_tests::fixture::SmallDisk;
use vmint_tests::processes::{self, kill, lives, signal};
use vmint_tests::{Home, Outcome, Process, Started, patient, until};

const SOON: Duration = Duration::from_secs(60);

/// What a holder has said of the tokens that it found.
fn clean(outcome: &Outcome) {
    let said = outcome.text();
    assert!(
        !said.contains("DIRTY") && !said.contains("STOLEN"),
        "{outcome}"
    );
}

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

/// What holders do. In the guest: `DIRTY` if the token of another is there, `STOLEN` if one's own is not any more; in memory,
/// and in a file.
const HOLDERS: [&str; 4] = [
    "exec sleep 0.05",
    "exec sleep 1000",
    "t=$VMINT_LEASE; v=\"$VMINT_TEST exec $VMINT_MACHINE -- sh -c\"
     $v \"ls /token.* 2> /dev/null && echo DIRTY; ps -o args | grep -q '[t]oken-in-memory' && echo DIRTY; \
        echo $t > /token.$t; (exec -a tok''en-in-memory sleep 1000) > /dev/null 2>&1 & sync\"
     sleep 0.$(($$ % 10))
     $v \"test \\\"\\$(cat /token.*)\\\" = $t || echo STOLEN\"",
    "\"$VMINT_TEST\" exec $VMINT_MACHINE -- sleep 1000",
];

/// Processes that stand still, and until when.
#[derive(Default)]
struct Still(Vec<(u32, Instant)>);

impl Still {
    fn stop(&mut self, pid: u32, length: Duration) {
        signal(pid, Signal::STOP);
        self.0.push((pid, Instant::now() + length));
    }

    /// Lets those go on whose time is up. `home` says who is still itself: an id may be another's by now.
    fn go_on(&mut self, home: &Home, commands: &[u32], at: Instant) {
        let own: BTreeSet<u32> = home.processes().iter().map(|p| p.pid).collect();
        self.0.retain(|(pid, until)| {
            if *until > at {
                return true;
            }
            if own.contains(pid) || commands.contains(pid) {
                signal(*pid, Signal::CONT);
            }
            false
        });
    }
}

/// A copy of the home, and a command let loose on it, as a careless backup does.
fn copy_and_look(home: &Home) {
    let (folder, runtime) = (temporary(), temporary());
    let copy = folder.path().join("home");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(home.root())
        .arg(&copy)
        .output();
    assert!(copied.is_ok(), "there is a program cp");
    let there = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let call = home.call(words).env("VMINT_HOME", &copy);
        call.env("VMINT_RUNTIME_DIR", runtime.path()).run()
    };
    // The copy is a home of its own: it makes its pool anew, and ends what it has made.
    there("ls").ok();
    there("pool rm p --force").ok();
    until(SOON, "nothing of the copy runs", || {
        processes::of_home(&copy).is_empty()
    });
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A home with its state on a small disk that others fill up for a while: nothing is lent twice, nothing is lost that lived,
/// and when there is room again everything is in order.
#[test]
fn a_disk_that_fills_up_for_a_while_costs_nothing_that_lives() {
    let outer = Home::new();
    let Some(disk) = SmallDisk::mount_ext4(outer.root().join("small"), 700 << 20) else {
        return;
    };
    let copied = Command::new("cp")
        .arg("-a")
        .arg(outer.root().join("images"))
        .arg(outer.root().join("templates"))
        .arg(outer.root().join("vmint.db"))
        .arg(disk.path())
        .status();
    assert!(copied.is_ok_and(|s| s.success()), "the seed fits the disk");
    let on_disk = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        outer.call(words).env("VMINT_HOME", disk.path())
    };
    let said = |words: &str| on_disk(words).run().ok().text();
    said("pool create p --image tiny --memory 128M --min 1 --max 2");
    for round in 0..3 {
        let lease: serde_json::Value =
            serde_json::from_str(&said("lease acquire p")).expect("a lease");
        let (id, handle) = (
            lease["lease"].as_str().expect("an id").to_owned(),
            lease["handle"].as_str().expect("a handle").to_owned(),
        );
        said(&format!("exec {handle} -- touch /token.{round}"));
        let ballast = disk.fill(64 << 10);
        // It may fail, by all means, and say that there is no room; it may not do half of it.
        let other = on_disk("with p --timeout 3s -- true").run();
        assert_ne!(other.code, None, "{other}");
        let held = on_disk(&format!("exec {handle} -- ls /token.{round}")).run();
        let token = format!("/token.{round}");
        let no_room = held.code == Some(125) && held.error().contains("no space");
        assert!(no_room || held.text().trim() == token, "{held}");
        std::fs::remove_file(ballast).expect("it is there");
        // Nothing was lost of it.
        assert_eq!(said(&format!("exec {handle} -- ls {token}")).trim(), token);
        said(&format!("lease release {id}"));
        // Whoever comes next gets a fresh machine, within its deadline.
        let script = "exec \"$VMINT_TEST\" exec $VMINT_MACHINE -- sh -c 'ls /token.* 2> /dev/null; echo clean'";
        let fresh = outer
            .call(["with", "p", "--", "sh", "-c", script])
            .env("VMINT_HOME", disk.path())
            .env("VMINT_TEST", vmint_tests::call::binary());
        assert_eq!(fresh.run().ok().text().trim(), "clean");
    }
    said("pool rm p --force");
    until(SOON, "no process is left on the disk", || {
        vmint_tests::processes::of_home(disk.path()).is_empty()
    });
}

fn settles(home: &Home, max: usize, seen: &mut usize) {
    let what = "every machine is ready or gone, and nobody is in line";
    until(SOON, what, || {
        check(home, max, seen);
        home.column("SELECT machine FROM slots WHERE state <> 'ready'")
            .is_empty()
            && home.column("SELECT lease FROM waiters").is_empty()
            && !home.column("SELECT machine FROM slots").is_empty()
    });
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
    let (mut kills, mut stops) = (BTreeMap::<&str, u32>::new(), BTreeMap::<&str, u32>::new());
    let (mut still, mut done) = (Still::default(), Vec::new());
    for round in 0..rounds {
        let commands: Vec<u32> = running.iter().map(Started::pid).collect();
        still.go_on(&home, &commands, Instant::now());
        while running.len() < 5 {
            let script = HOLDERS[random.below(4)];
            let words = ["with", "p", "--timeout", "120s", "--", "sh", "-c", script];
            let call = home
                .call(words)
                .env("VMINT_TEST", vmint_tests::call::binary());
            running.push(call.deadline(Duration::from_secs(300)).start());
        }
        if round == 0 || round == rounds / 2 {
            copy_and_look(&home);
        }
        if round == 0 {
            // Nobody has killed anything yet.
            let died = home.column(
                "SELECT machine || ': ' || cause FROM events WHERE cause LIKE '%_died' OR cause = 'home_changed'",
            );
            assert_eq!(died, [] as [&str; 0], "killed by a command on a copy");
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
            let victim = victims[random.below(victims.len())];
            if random.below(3) == 0 {
                still.stop(
                    victim,
                    Duration::from_millis(500 + random.below(2500) as u64),
                );
                *stops.entry(who).or_default() += 1;
            } else {
                kill(victim);
                *kills.entry(who).or_default() += 1;
            }
        }
        check(&home, max, &mut seen);
        let (ended, going): (Vec<_>, Vec<_>) = running.into_iter().partition(Started::has_ended);
        running = going;
        done.extend(ended);
    }
    let commands: Vec<u32> = running.iter().map(Started::pid).collect();
    still.go_on(&home, &commands, Instant::now() + patient(SOON));
    println!("killed: {kills:?}; stopped: {stops:?}; at most {seen} machines at a time");
    assert!(
        seen > 0,
        "the test does not see the machines that it counts"
    );
    for call in &running {
        kill(call.pid());
    }
    until(SOON, "all commands have ended", || {
        running.iter().all(|call| !lives(call.pid()))
    });
    home.ok("ls");
    settles(&home, max, &mut seen);
    // Now that nothing stands still any more, nothing keeps their output open either.
    for call in running.into_iter().chain(done) {
        clean(&call.finish());
    }
    let machines = home.column("SELECT machine FROM slots");
    for _ in &machines {
        let lease = home.json("lease acquire p");
        let handle = lease["handle"].as_str().expect("a handle");
        assert_eq!(
            home.sh(handle, "ls /token.* 2> /dev/null; echo well"),
            "well"
        );
    }
    for lease in home.column("SELECT id FROM leases WHERE ended_at_ms IS NULL") {
        home.ok(&format!("lease release {lease}"));
    }
    settles(&home, max, &mut seen);
    let machines = home.column("SELECT machine FROM slots");
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
