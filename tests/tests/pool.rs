//! Pools on real machines: how many there are, how they are replaced, how pools change while they are in use.

use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use vmint_tests::processes::{kill, lives};
use vmint_tests::{Home, until};

const SOON: Duration = Duration::from_secs(30);

fn pool(home: &Home, flags: &str) {
    home.ok(&format!("pool create p --image tiny --memory 128M {flags}"));
}

fn status(home: &Home) -> Value {
    home.json("pool status p")
}

fn count(home: &Home, what: &str) -> u64 {
    status(home)[what].as_u64().expect("a number")
}

/// The states of the slots, read past the program under test, which would put things right.
fn slots(home: &Home, state: &str) -> Vec<String> {
    home.column(&format!(
        "SELECT machine FROM slots WHERE state = '{state}' ORDER BY machine"
    ))
}

fn settles(home: &Home, ready: usize) {
    until(SOON, "the pool has its machines ready", || {
        slots(home, "ready").len() == ready
            && home.column("SELECT machine FROM slots").len() == ready
    });
}

struct Lease {
    id: String,
    machine: String,
    generation: u64,
}

fn acquire(home: &Home, flags: &str) -> Lease {
    let value = home.json(&format!("lease acquire p {flags}"));
    let text = |key: &str| value[key].as_str().expect("a string").to_owned();
    Lease {
        id: text("lease"),
        machine: text("machine"),
        generation: value["generation"].as_u64().expect("a number"),
    }
}

#[test]
fn a_pool_keeps_its_minimum_ready_and_never_has_more_than_its_maximum() {
    let home = Home::new();
    pool(&home, "--min 2 --max 3");
    assert_eq!(count(&home, "ready"), 2);
    let first = acquire(&home, "");
    // What was taken is replaced, by nobody that the user has to run.
    until(SOON, "there are two ready again", || {
        slots(&home, "ready").len() == 2
    });
    let second = acquire(&home, "");
    let third = acquire(&home, "");
    assert_eq!(count(&home, "alive"), 3);
    let mut machines = vec![&first.machine, &second.machine, &third.machine];
    machines.sort();
    machines.dedup();
    assert_eq!(machines.len(), 3);
    let refused = home.vmint("lease acquire p --no-wait --format json");
    let message = refused.fault(4, "refused");
    assert!(message.contains("3 of at most 3"), "{message}");
    let late = home.vmint("lease acquire p --timeout 300ms --format json");
    let message = late.fault(5, "timed_out");
    assert!(message.contains("within 0.3 s"), "{message}");
    home.ok(&format!("lease release {} {}", first.id, second.id));
    home.ok(&format!("lease release {}", third.id));
    settles(&home, 3);
}

/// Fifty processes want a machine of a pool of two, for the length of a command in it.
#[test]
fn fifty_at_once_never_have_a_third_machine() {
    let home = Home::new();
    pool(&home, "--min 0 --max 2");
    let calls = (0..50).map(|_| {
        home.call(["with", "p", "--timeout", "120s", "--", "sh", "-c"].iter().copied().chain([
            // No trace of another one, and none other can be seen while this one is there.
            "\"$VMINT_TEST\" exec \"$VMINT_MACHINE\" -- sh -c '! test -e /taken && touch /taken && sleep 0.05 && echo fresh'",
        ]))
        .env("VMINT_TEST", vmint_tests::call::binary())
        .deadline(Duration::from_secs(180))
        .start()
    });
    let started: Vec<_> = calls.collect();
    let mut most = 0;
    while started.iter().any(|call| !call.has_ended()) {
        most = most.max(home.column("SELECT machine FROM slots").len());
        // Those that are parked stand still; two that run are the limit, and each has at most one parked.
        assert!(home.rows().len() <= 2, "{:?}", home.rows());
        // By their machines: a runner that is starting a QEMU is shown twice for a moment.
        let processes = home.processes();
        let runners = processes.iter().filter(|p| p.is_runner());
        let machines: BTreeSet<_> = runners.filter_map(|p| p.argv.last()).collect();
        assert!(machines.len() <= 2, "{machines:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!((1..=2).contains(&most), "{most}");
    for call in started {
        let outcome = call.finish().ok();
        assert_eq!(outcome.text().trim(), "fresh");
    }
}

#[test]
fn who_comes_first_is_served_first() {
    let home = Home::new();
    pool(&home, "--min 1 --max 1");
    let held = acquire(&home, "");
    let order = home.root().join("order");
    let mut waiting = Vec::new();
    for n in 0..6 {
        let script = format!("echo {n} >> {}", order.display());
        waiting.push(home.call(["with", "p", "--", "sh", "-c", &script]).start());
        until(SOON, "it stands in line", || {
            home.column("SELECT lease FROM waiters").len() == n + 1
        });
    }
    home.ok(&format!("lease release {}", held.id));
    for call in waiting {
        call.finish().ok();
    }
    let order = std::fs::read_to_string(order).expect("each has written its number");
    assert_eq!(
        order.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4", "5"]
    );
}

#[test]
fn a_waiter_that_dies_leaves_the_line() {
    let home = Home::new();
    pool(&home, "--min 1 --max 1");
    let held = acquire(&home, "");
    let dead = home.call(["lease", "acquire", "p"]).start();
    until(SOON, "it stands in line", || {
        !home.column("SELECT lease FROM waiters").is_empty()
    });
    let next = home.call(["with", "p", "--", "echo", "mine"]).start();
    until(SOON, "both stand in line", || {
        home.column("SELECT lease FROM waiters").len() == 2
    });
    kill(dead.pid());
    dead.finish();
    home.ok(&format!("lease release {}", held.id));
    assert_eq!(next.finish().ok().text().trim(), "mine");
    assert_eq!(home.column("SELECT lease FROM waiters"), [] as [String; 0]);
}

#[test]
fn dead_machines_are_never_lent_and_are_replaced() {
    let home = Home::new();
    pool(&home, "--min 2 --max 2");
    for round in 0..3 {
        let machine = slots(&home, "ready")[0].clone();
        let (runner, hypervisor) = home.pids(&machine);
        let victim = if round == 0 { runner } else { hypervisor };
        kill(victim);
        until(SOON, "it is dead", || !lives(victim));
        // At once, before anybody need have noticed: whichever is lent, it is well.
        let leases: Vec<_> = (0..2).map(|_| acquire(&home, "--timeout 60s")).collect();
        for lease in &leases {
            assert_ne!(lease.machine, machine);
            assert_eq!(home.sh(&lease.machine, "echo well"), "well");
            home.ok(&format!("lease release {}", lease.id));
        }
        settles(&home, 2);
        until(SOON, "what was killed has gone", || {
            !lives(runner) && !lives(hypervisor)
        });
    }
}

/// A guest that hangs has a living runner and a living hypervisor; only a round trip shows it.
#[test]
fn a_guest_that_hangs_is_not_lent() {
    let home = Home::new();
    pool(&home, "--min 1 --max 1 --standby 0");
    let machine = slots(&home, "ready")[0].clone();
    let (_, hypervisor) = home.pids(&machine);
    vmint_tests::processes::signal(hypervisor, rustix::process::Signal::STOP);
    // It answered when it was made; that news must get old first.
    until(SOON, "the news of the guest is old", || {
        let checked = home.column("SELECT CAST(checked_at_ms AS TEXT) FROM slots");
        let checked: i64 = checked[0].parse().expect("a number");
        // On the clock that nobody can set.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000 - checked > 2_500
    });
    let lease = home
        .call(
            ["lease", "acquire", "p", "--timeout", "100s", "--owner-pid"]
                .map(str::to_owned)
                .into_iter()
                .chain([std::process::id().to_string()]),
        )
        .deadline(Duration::from_secs(110))
        .run()
        .ok()
        .json();
    let lent = lease["machine"].as_str().expect("a machine");
    assert_ne!(lent, machine);
    assert_eq!(home.sh(lent, "echo well"), "well");
}

#[test]
fn drained_resized_and_removed_while_in_use() {
    let home = Home::new();
    pool(&home, "--min 2 --max 3");
    let lease = acquire(&home, "");
    home.ok("pool drain p");
    let message = home
        .vmint("lease acquire p --format json")
        .fault(1, "pool_closed");
    assert!(message.contains("drained"), "{message}");
    until(SOON, "what was idle has gone", || home.rows().len() == 1);
    assert_eq!(home.sh(&lease.machine, "echo here"), "here");
    home.ok("pool resize p --min 1 --max 2");
    until(SOON, "the pool is open again", || {
        slots(&home, "ready").len() == 1
    });
    let removing = home.call(["pool", "rm", "p", "--timeout", "60s"]).start();
    until(SOON, "it is being removed", || {
        home.column("SELECT state FROM pools") == ["removing"]
    });
    home.vmint("lease acquire p --format json")
        .fault(1, "pool_closed");
    assert_eq!(home.sh(&lease.machine, "echo still here"), "still here");
    assert!(!removing.has_ended());
    home.ok(&format!("lease release {}", lease.id));
    removing.finish().ok();
    assert_eq!(home.left(), [] as [String; 0]);
    home.vmint("lease acquire p --format json")
        .fault(3, "not_found");
    home.vmint("pool status p --format json")
        .fault(3, "not_found");
}

#[test]
fn removed_by_force_it_takes_its_leases_along() {
    let home = Home::new();
    pool(&home, "--min 1 --max 1");
    let lease = acquire(&home, "");
    let waiter = home
        .call(["lease", "acquire", "p", "--format", "json"])
        .start();
    until(SOON, "somebody waits", || {
        home.column("SELECT lease FROM waiters").len() == 1
    });
    home.ok("pool rm p --force");
    waiter.finish().fault(1, "pool_closed");
    assert_eq!(home.left(), [] as [String; 0]);
    let again = home.vmint(&format!("lease release {} --format json", lease.id));
    assert!(again.error().contains("removed by force"), "{again}");
}

#[test]
fn machines_of_age_and_of_many_uses_are_replaced() {
    let home = Home::new();
    pool(&home, "--min 1 --max 1 --max-uses 2");
    let first = acquire(&home, "");
    home.ok(&format!("lease release {}", first.id));
    let second = acquire(&home, "");
    assert_eq!((&second.machine, second.generation), (&first.machine, 2));
    home.ok(&format!("lease release {}", second.id));
    let third = acquire(&home, "");
    assert_ne!(third.machine, first.machine);
    home.ok(&format!("lease release {}", third.id));
    home.ok("pool rm p");
    pool(&home, "--min 1 --max 1 --ttl 1s");
    let old = slots(&home, "ready")[0].clone();
    until(SOON, "the machine of age has gone by itself", || {
        !home.rows().contains(&old)
    });
    home.ok("ls");
    until(SOON, "it is replaced", || slots(&home, "ready").len() == 1);
}

#[test]
fn pools_stand_side_by_side_and_are_declared_in_a_file() {
    let home = Home::new();
    let text = "[pools.small]\nimage = \"tiny\"\nmin = 1\nmax = 1\nmemory = \"128M\"\n\n\
        [pools.large]\nimage = \"tiny\"\nmin = 1\nmax = 2\nmemory = \"256M\"\n";
    let folder = home.root().join("project");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("vmint.toml"), text).expect("a file");
    let with = |pool: &str| {
        let call = home.call(["with", pool, "--", "sh", "-c", "echo $VMINT_MACHINE"]);
        call.current_dir(&folder)
            .run()
            .ok()
            .text()
            .trim()
            .to_owned()
    };
    assert_ne!(with("small"), with("large"));
    let pools = home.json("pool ls");
    let of = |n: usize, key: &str| pools[n][key].clone();
    assert_eq!(
        (of(0, "name"), of(0, "memory")),
        ("large".into(), (256 << 20).into())
    );
    assert_eq!((of(1, "name"), of(1, "max")), ("small".into(), 1.into()));
    home.call(["with", "none", "--", "true"])
        .current_dir(&folder)
        .run()
        .exits(125);
}

/// kill -9 of whatever makes a pool, at many moments; the next command puts it right.
#[test]
fn a_pool_whose_maker_is_killed_is_put_right_by_the_next_command() {
    let home = Home::new();
    for delay in [0, 5, 15, 30, 60, 100, 150] {
        let call = home
            .call("pool create p --image tiny --memory 128M --min 2 --max 2".split(' '))
            .start();
        // The delay is what is tried here, not what is waited for.
        std::thread::sleep(Duration::from_millis(delay));
        kill(call.pid());
        call.finish();
        home.ok("ls");
        if home.pools().is_empty() {
            continue;
        }
        until(SOON, "the pool is whole", || {
            slots(&home, "ready").len() == 2
        });
        let lease = acquire(&home, "");
        assert_eq!(
            home.sh(&lease.machine, "echo well"),
            "well",
            "after {delay} ms"
        );
        home.ok("pool rm p --force");
        assert_eq!(home.left(), [] as [String; 0], "after {delay} ms");
    }
}

/// The machine, and its parked forks.
fn hypervisors(home: &Home) -> Vec<u32> {
    let mut found = home.processes();
    found.retain(vmint_tests::Process::is_hypervisor);
    found.iter().map(|process| process.pid).collect()
}

#[test]
fn a_burst_of_short_leases_has_more_forks_parked_for_the_next_and_no_more_than_were_asked_for() {
    let home = Home::new();
    pool(&home, "--min 1 --max 1 --standby 3");
    let parked = |n: usize| {
        until(SOON, &format!("there are {n} parked"), || {
            hypervisors(&home).len() == 1 + n
        });
    };
    parked(1);
    let mut seen = BTreeSet::new();
    // One after the other, and each sees a fresh machine.
    let mut use_one = || {
        let lease = acquire(&home, "");
        let name = &lease.machine;
        let handle = format!("{name}@{}", lease.generation);
        let script = "test ! -e /tmp/dirt && touch /tmp/dirt; cat /run/vmint/generation /etc/machine-id; echo $?";
        let said = home.sh(&handle, script);
        assert!(said.starts_with(&lease.generation.to_string()), "{said}");
        assert!(said.ends_with("\n0"), "{said}");
        assert!(seen.insert(said), "two are the same: {seen:?}");
        home.ok(&format!("lease release {}", lease.id));
    };
    // However slow this host is, a reset that follows at once finds the next standby not made.
    for _ in 0..12 {
        use_one();
    }
    parked(3);
    for _ in 0..3 {
        use_one();
    }
    parked(3);
    // One that dies is made anew, with those that come after it.
    let (runner, now) = home.pids(&slots(&home, "ready")[0]);
    let victim = hypervisors(&home).into_iter().find(|pid| *pid != now);
    kill(victim.expect("one is parked"));
    parked(3);
    use_one();
    assert!(lives(runner), "it was none the worse");
    home.ok("pool rm p");
    assert!(hypervisors(&home).is_empty());
}
