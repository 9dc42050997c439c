//! Leases on real machines: whose they are, how they end, and what is left to those who held them.

use rustix::process::Signal;
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vmint_tests::processes::{kill, lives};
use vmint_tests::{Home, until};

/// A second is promised; this machine may have much else to do.
const A_SECOND: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);

fn home() -> Home {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    home
}

/// A process that owns something, and does nothing.
struct Owner(Child);

impl Owner {
    fn new() -> Self {
        let sleep = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn();
        Self(sleep.expect("there is a program sleep"))
    }

    fn end(&mut self, signal: Signal) {
        vmint_tests::processes::signal(self.0.id(), signal);
        self.0.wait().expect("it ends");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn acquire(home: &Home, flags: &str) -> Value {
    home.json(&format!("lease acquire p {flags}"))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().expect("a string").to_owned()
}

fn is_ready(home: &Home, generation: u64) -> bool {
    let query =
        format!("SELECT machine FROM slots WHERE state = 'ready' AND generation = {generation}");
    !home.column(&query).is_empty()
}

#[test]
fn every_signal_that_ends_the_owner_has_its_machine_reset_within_a_second() {
    let home = home();
    let signals = [
        Signal::KILL,
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::ABORT,
    ];
    for (generation, signal) in (2..).step_by(2).zip(signals) {
        let mut owner = Owner::new();
        let lease = acquire(&home, &format!("--owner-pid {}", owner.0.id()));
        let machine = text(&lease, "handle");
        home.sh(&machine, "echo mine > /mine");
        let words = [
            "exec",
            &machine,
            "--",
            "sh",
            "-c",
            "echo up; exec sleep 1234",
        ];
        let mut command = home.call(words).start();
        command.says("up");
        owner.end(signal);
        let took = until(A_SECOND, "the machine is fresh", || {
            is_ready(&home, generation)
        });
        println!("fresh {took:?} after {signal:?}");
        // The command died with the machine that it ran in, and says why.
        let outcome = command.finish();
        outcome.clone().exits(125);
        assert!(outcome.error().contains("reset"), "{outcome}");
        let next = acquire(&home, "");
        assert_eq!(
            home.sh(
                &text(&next, "handle"),
                "ls /mine 2> /dev/null; ps -o args | grep -c '[s]leep 1234'; true"
            ),
            "0"
        );
        home.ok(&format!("lease release {}", text(&next, "lease")));
        until(A_SECOND, "the machine is fresh again", || {
            is_ready(&home, generation + 1)
        });
        let released = home.vmint(&format!(
            "lease release {} --format json",
            text(&lease, "lease")
        ));
        assert!(
            released.error().contains("owner's process ended"),
            "{released}"
        );
    }
}

#[test]
fn an_owner_that_is_dead_already_gets_nothing_to_keep() {
    let home = home();
    let mut owner = Owner::new();
    owner.end(Signal::KILL);
    let refused = home.vmint(&format!(
        "lease acquire p --owner-pid {} --format json",
        owner.0.id()
    ));
    refused.fault(3, "not_found");
    assert!(is_ready(&home, 1));
}

#[test]
fn with_lends_for_the_length_of_a_command_and_exits_as_it_does() {
    let home = home();
    for (generation, (command, code)) in
        (2..).zip([("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -1)])
    {
        let outcome = home.call(["with", "p", "--", "sh", "-c", command]).run();
        if code >= 0 {
            outcome.exits(code);
        } else {
            assert_eq!(outcome.code, None, "{outcome}");
        }
        until(A_SECOND, "the machine is fresh", || {
            is_ready(&home, generation)
        });
    }
    home.vmint("with p -- /no/such/program").exits(127);
    home.vmint("with p -- /etc").exits(126);
    home.vmint("with nopool -- true").exits(125);
    home.vmint("with p").exits(125);
    until(A_SECOND, "the machine is fresh", || is_ready(&home, 6));
}

/// What `vmint with` has started may live on without it; the machine does not.
#[test]
fn a_command_that_outlives_its_lease_reaches_nobody_elses_machine() {
    let home = home();
    let (go, said) = (home.root().join("go"), home.root().join("said"));
    let script = format!(
        "(while ! test -e {go}; do sleep 0.05; done; \"$VMINT_TEST\" exec $VMINT_MACHINE -- hostname > {said}.out 2> {said}.err; \
         echo $? > {said}) > /dev/null 2>&1 & echo $VMINT_LEASE",
        go = go.display(),
        said = said.display()
    );
    let with = home
        .call(["with", "p", "--", "sh", "-c", &script])
        .env("VMINT_TEST", vmint_tests::call::binary());
    let lease = with.run().ok().text();
    until(A_SECOND, "the machine is fresh", || is_ready(&home, 2));
    let other = acquire(&home, "");
    std::fs::write(&go, "").expect("a file");
    until(SOON, "the stranger has tried", || {
        said.exists() && std::fs::read(&said).is_ok_and(|b| !b.is_empty())
    });
    assert_eq!(std::fs::read_to_string(&said).expect("said").trim(), "125");
    let error = std::fs::read_to_string(said.with_extension("err")).expect("an error");
    assert!(
        error.contains(lease.trim()) && error.contains("owner's process ended"),
        "{error}"
    );
    // By its generation it can be held on to as well, and is refused as well.
    let old = format!("{}@1", text(&other, "machine"));
    let refused = home.call(["exec", &old, "--", "true"]).run();
    assert!(
        refused.error().contains("at generation 2, not 1"),
        "{refused}"
    );
}

#[test]
fn a_lease_ends_when_its_time_is_up_unless_it_is_renewed() {
    let home = home();
    let lease = acquire(&home, "--ttl 2s");
    let id = text(&lease, "lease");
    let first = text(&lease, "expires_at");
    let renewed = home.json(&format!("lease renew {id}"));
    assert!(text(&renewed, "expires_at") > first);
    until(SOON, "its time is up", || is_ready(&home, 2));
    let ended = home.event_of_slot("resetting");
    assert_eq!(ended["cause"], "expired", "{ended}");
    home.vmint(&format!("lease renew {id} --format json"))
        .fault(1, "lease_lost");
}

/// A client elsewhere is no process that could be watched; it says itself that it lives.
#[test]
fn a_client_that_falls_silent_loses_its_lease() {
    let home = home();
    let lease = acquire(&home, "--client robot --heartbeat 2s");
    let id = text(&lease, "lease");
    assert_eq!(lease["owner"]["client"]["name"], "robot");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        home.ok(&format!("lease renew {id}"));
    }
    assert_eq!(home.sh(&text(&lease, "handle"), "echo held"), "held");
    until(SOON, "it has been silent for too long", || {
        is_ready(&home, 2)
    });
    assert_eq!(home.event_of_slot("resetting")["cause"], "silent");
}

#[test]
fn twice_released_and_anothers_lease_are_refused_and_harmless() {
    let home = home();
    let owner = Owner::new();
    let lease = acquire(&home, &format!("--owner-pid {}", owner.0.id()));
    let id = text(&lease, "lease");
    // This test is not descended from the owner.
    home.vmint(&format!("lease release {id} --format json"))
        .exits(1);
    assert_eq!(home.json("lease ls").as_array().map(Vec::len), Some(1));
    home.ok(&format!("lease release {id} --force"));
    until(A_SECOND, "the machine is fresh", || is_ready(&home, 2));
    let next = acquire(&home, "");
    let again = home.vmint(&format!("lease release {id} --force"));
    assert!(
        again.clone().exits(1).error().contains("it was released"),
        "{again}"
    );
    assert_eq!(home.sh(&text(&next, "machine"), "echo mine"), "mine");
    home.vmint("lease release l0123456789abcdef").exits(3);
    let both = home.vmint(&format!(
        "lease release l0123456789abcdef {} --force --format json",
        text(&next, "lease")
    ));
    let told = both.clone().exits(3).json();
    assert_eq!(told[0]["name"], "l0123456789abcdef", "{both}");
    assert_eq!(told[0]["error"]["kind"], "not_found", "{both}");
    assert_eq!(told[1]["lease"], next["lease"], "{both}");
    home.vmint("lease release nonsense").exits(2);
}

#[test]
fn no_byte_of_one_lease_reaches_the_next() {
    let home = home();
    let mut seen = std::collections::BTreeSet::new();
    for generation in 1..6 {
        let lease = acquire(&home, "");
        let machine = text(&lease, "machine");
        assert_eq!(lease["generation"], generation);
        let boot = "cat /proc/sys/kernel/random/uuid /etc/machine-id; od -An -tx1 -N16 /dev/urandom; date +%s";
        let said = home.sh(&machine, boot);
        let mut words: Vec<_> = said.lines().collect();
        let clock: f64 = words.pop().expect("a time").parse().expect("a number");
        let off = clock - vmint_tests::home::now_ms() / 1e3;
        assert!(off.abs() < 3.0, "the clock is off by {off} s");
        for word in words {
            assert!(seen.insert(word.to_owned()), "{word} was seen before");
        }
        let clean = "ls /left /tmp/left /etc/left 2>/dev/null; mount | grep -c left; ps -o args | grep -c '[l]eft-behind'; true";
        assert_eq!(home.sh(&machine, clean), "0\n0");
        let dirty = "touch /left /tmp/left /etc/left; mkdir /mnt/left; mount -t tmpfs left /mnt/left; rm -f /bin/ps.x; \
            (exec -a left-behind sleep 1000) > /dev/null 2>&1 & date -s @1 > /dev/null; hostname left";
        home.sh(&machine, dirty);
        home.ok(&format!("lease release {}", text(&lease, "lease")));
        until(A_SECOND, "the machine is fresh", || {
            is_ready(&home, generation + 1)
        });
    }
}

#[test]
fn the_runner_killed_under_a_lease_ends_it_with_the_reason() {
    let home = home();
    let lease = acquire(&home, "");
    let machine = text(&lease, "machine");
    let (runner, hypervisor) = home.pids(&machine);
    kill(runner);
    until(A_SECOND, "its hypervisors die with it", || {
        !lives(runner) && !lives(hypervisor) && home.processes().is_empty()
    });
    home.ok("ls");
    let released = home.vmint(&format!("lease release {}", text(&lease, "lease")));
    assert!(released.error().contains("machine was lost"), "{released}");
    until(SOON, "another one is ready", || is_ready(&home, 1));
    assert!(!home.rows().contains(&machine));
}

#[test]
fn the_guest_killed_under_a_lease_ends_it_with_the_reason() {
    let home = home();
    let lease = acquire(&home, "");
    let (_, hypervisor) = home.pids(&text(&lease, "machine"));
    kill(hypervisor);
    until(A_SECOND, "the lease has ended", || {
        home.column("SELECT id FROM leases WHERE ended_at_ms IS NULL")
            .is_empty()
    });
    let released = home.vmint(&format!("lease release {}", text(&lease, "lease")));
    assert!(released.error().contains("QEMU died"), "{released}");
}
