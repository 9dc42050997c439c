//! Forks of one template differ where they must, and have the right time, before any command of the user's.

use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use vmint_tests::home::{now_ms, time_ms};
use vmint_tests::seed::Seed;
use vmint_tests::{Home, until};

/// How far a guest's clock may be from the host's.
const CLOCK: f64 = 500.0;

/// A host whose wall clock is an hour slow, for the process that makes the template and for its QEMU: what both of them
/// put into it is an hour old when it is forked.
const AN_HOUR_AGO: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && clock == CLOCK_REALTIME) now->tv_sec -= 3600;
    return done;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
";

fn slow_clock(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("hour.c"), folder.join("hour.so"));
    std::fs::write(&source, AN_HOUR_AGO).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .output();
    let made = made.expect("a C compiler is installed, which Rust needs too");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    library
}

/// Milliseconds since 1970 in a guest, and how far that is from the host's clock, at best: asking takes time.
#[track_caller]
fn clock_error(home: &Home, name: &str) -> f64 {
    let before = now_ms();
    // Busybox's date has no fractions; the adjusted clock's nanoseconds are in its adjtimex.
    let text = home.sh(name, "adjtimex | sed -n 's/.*time.tv_u*sec: *//p'");
    let after = now_ms();
    let mut parts = text
        .lines()
        .map(|line| line.trim().parse::<f64>().expect("a number"));
    let (seconds, fraction) = (
        parts.next().expect("seconds"),
        parts.next().expect("a fraction"),
    );
    let guest = seconds * 1e3 + fraction / 1e3;
    if guest < before {
        guest - before
    } else {
        (guest - after).max(0.0)
    }
}

#[test]
fn eight_forks_of_a_template_aged_by_an_hour_are_distinct_and_have_the_right_time() {
    let home = Home::with(Seed::Image);
    let library = slow_clock(home.runtime());
    let words = "run --memory 128M --net nat -- true".split(' ');
    home.call(words).env("LD_PRELOAD", &library).run().ok();
    let templates = home.ok("template ls --format json").values();
    assert_eq!(templates.len(), 1, "{templates:?}");
    let age = now_ms() - time_ms(&templates[0]["created_at"]);
    assert!(
        age > 3_595_000.0,
        "the template is {age} ms old: {templates:?}"
    );

    let names: Vec<String> = (0..8).map(|n| format!("fork-{n}")).collect();
    let calls = names
        .iter()
        .map(|name| format!("create {name} --memory 128M --net nat --start"));
    for outcome in home.at_once(calls) {
        outcome.ok();
    }
    assert_eq!(
        home.ok("template ls --format json").values().len(),
        1,
        "it was forked, not made anew"
    );

    let unique = [
        "cat /proc/sys/kernel/random/uuid",
        "head -c 32 /dev/urandom | sha256sum",
        "cat /etc/machine-id",
        "hostname",
        "cat /sys/class/net/eth0/address",
    ];
    // In the first command of each machine.
    let script = unique.join("; ");
    let told: Vec<Vec<String>> = names
        .iter()
        .map(|name| home.sh(name, &script).lines().map(str::to_owned).collect())
        .collect();
    for (n, what) in unique.iter().enumerate() {
        let values: HashSet<&String> = told.iter().map(|lines| &lines[n]).collect();
        assert_eq!(values.len(), names.len(), "{what}: {values:?}");
        assert!(
            values.iter().all(|value| !value.is_empty()),
            "{what}: {values:?}"
        );
    }
    for (name, lines) in names.iter().zip(&told) {
        assert_eq!(&lines[3], name);
        let error = clock_error(&home, name);
        println!("{name}: {error:.0} ms");
        assert!(error.abs() <= CLOCK, "{name} is {error} ms off");
    }
}

/// A reset is a new fork: of the machine before it nothing is left, its identity neither.
#[test]
fn a_reset_machine_has_another_identity_and_nothing_of_the_one_before() {
    let home = Home::new();
    home.start("box");
    let tell =
        "cat /proc/sys/kernel/random/uuid /etc/machine-id; cat /tmp/secret 2>/dev/null; true";
    let before = home.sh("box", tell);
    home.sh("box", "echo secret > /tmp/secret");
    let reset = home.ok("reset box");
    assert!(
        reset.text().contains('2'),
        "it prints the new generation: {reset}"
    );
    assert_eq!(home.info("box")["generation"], 2);
    let after = home.sh("box", tell);
    assert_eq!(
        (before.lines().count(), after.lines().count()),
        (2, 2),
        "{after}"
    );
    let old: HashSet<_> = before.lines().collect();
    assert!(
        after.lines().all(|line| !old.contains(line)),
        "{before} {after}"
    );
}

/// A fork of a snapshot is given its own identity and the time, as one of a template is.
#[test]
fn forks_of_a_snapshot_are_distinct_too_and_have_the_right_time() {
    let home = Home::new();
    home.start("box");
    home.ok("snapshot create box moment");
    let parent = home.sh("box", "cat /etc/machine-id");
    home.ok("fork moment child --count 3");
    let mut seen = HashSet::from([parent]);
    let mut random = HashSet::new();
    for name in ["child-1", "child-2", "child-3"] {
        let told = home.sh(
            name,
            "cat /etc/machine-id /proc/sys/kernel/random/uuid; hostname",
        );
        let lines: Vec<_> = told.lines().collect();
        assert!(
            seen.insert(lines[0].to_owned()),
            "{name} has another's machine id: {told}"
        );
        assert!(
            random.insert(lines[1].to_owned()),
            "{name} has another's random numbers: {told}"
        );
        assert_eq!(lines[2], name);
        let error = clock_error(&home, name);
        assert!(error.abs() <= CLOCK, "{name} is {error} ms off");
    }
}

/// The guest's clock stands still with it, and catches up when it goes on.
#[test]
fn a_machine_that_was_paused_has_the_right_time_again() {
    let home = Home::new();
    home.start("box");
    let paused = now_ms();
    home.ok("pause box");
    until(Duration::from_secs(20), "two seconds have passed", || {
        now_ms() - paused > 2_000.0
    });
    home.ok("resume box");
    until(
        Duration::from_secs(20),
        "the guest's clock is right",
        || clock_error(&home, "box").abs() < 500.0,
    );
}

/// Debian with systemd and an SSH server.
#[test]
fn forks_of_debian_have_host_keys_and_ids_of_their_own_and_systemd_agrees() {
    let home = Home::with(Seed::Debian);
    for name in ["one", "two"] {
        home.ok(&format!("create {name} --image deb --memory 256M --start"));
    }
    let tell = "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id /proc/sys/kernel/random/uuid; \
        uuidgen -r 2>/dev/null || head -c 16 /dev/urandom | sha256sum; hostname; cat /etc/hostname";
    let told = ["one", "two"].map(|name| {
        let text = home.sh(name, tell);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    for (one, two) in told[0].iter().zip(&told[1]) {
        assert_ne!(one, two);
    }
    for (name, lines) in ["one", "two"].iter().zip(&told) {
        assert!(
            lines[0].starts_with("ssh-ed25519 ") && lines[0].ends_with(&format!("root@{name}")),
            "{lines:?}"
        );
        assert_eq!(
            (lines[4].as_str(), lines[5].as_str()),
            (*name, *name),
            "{lines:?}"
        );
        let keys = home.sh(
            name,
            "ls /etc/ssh | grep -c '^ssh_host_.*_key$'; stat -c %a /etc/ssh/ssh_host_ed25519_key",
        );
        assert_eq!(keys.lines().last(), Some("600"), "{keys}");
        // The daemon takes the keys as they are.
        home.sh(name, "mkdir -p /run/sshd && /usr/sbin/sshd -t");
        let clock = home.sh(name, "date +%s.%N");
        let error = clock.parse::<f64>().unwrap() * 1e3 - now_ms();
        assert!(error.abs() < 2000.0, "{name} is {error} ms off");
        // systemd knows its machine by the same id as the file.
        let id = home.sh(name, "systemd-id128 machine-id");
        assert_eq!(id, lines[1]);
    }
    let failed: Value = home
        .sh("one", "systemctl --failed --plain --no-legend | wc -l")
        .parse()
        .unwrap();
    assert_eq!(failed, 0, "{}", home.sh("one", "systemctl --failed"));
}

/// What others know a machine by.
const WHO: &str = "cat /etc/machine-id /sys/class/net/eth0/address; hostname";

#[test]
fn a_machine_is_who_it_is_for_its_life_and_another_machine_is_another_one() {
    let home = Home::new();
    home.ok("create box --memory 128M --net nat --start");
    let who = home.sh("box", WHO);
    assert_eq!(who.lines().count(), 3, "{who}");
    home.ok("snapshot create box s");
    let random = "cat /proc/sys/kernel/random/uuid";
    let mut drawn = HashSet::from([home.sh("box", random)]);
    for step in [
        "restart box",
        "restore box s",
        "stop box --force",
        "start box",
    ] {
        home.ok(step);
        if !step.starts_with("stop") {
            assert_eq!(home.sh("box", WHO), who, "{step}");
            assert!(drawn.insert(home.sh("box", random)), "{step}");
        }
    }
    // After a reset it is somebody else, and stays that one.
    home.ok("reset box");
    let other = home.sh("box", WHO);
    for (n, (old, new)) in who.lines().zip(other.lines()).enumerate() {
        assert_eq!(old == new, n == 2, "{who} {other}");
    }
    home.ok("restore box s");
    assert_eq!(home.sh("box", WHO), other);
    home.ok("restart box");
    assert_eq!(home.sh("box", WHO), other);
    home.ok("fork s twin");
    let twin = home.sh("twin", WHO);
    for known in [&who, &other] {
        assert!(twin.lines().all(|line| !known.contains(line)), "{twin}");
    }
    // Nobody but its owner reads the key in there.
    let file = home.folder("box").join("identity.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// To ssh a machine that has another key is another one, and a machine that was restarted is none.
#[test]
fn the_host_key_of_a_machine_with_a_disk_outlives_its_restarts_and_restores() {
    let home = Home::with(Seed::Debian);
    home.ok("create box --image deb --memory 256M --net nat --start");
    let who = format!("cat /etc/ssh/ssh_host_ed25519_key.pub; {WHO}");
    let before = home.sh("box", &who);
    assert!(before.contains("ssh-ed25519"), "{before}");
    home.ok("snapshot create box s");
    for step in ["restore box s", "restart box", "restore box s"] {
        home.call(step.split(' '))
            .deadline(Duration::from_secs(250))
            .run()
            .ok();
        assert_eq!(home.sh("box", &who), before, "{step}");
    }
    home.ok("reset box");
    let after = home.sh("box", &who);
    assert_ne!(after.lines().next(), before.lines().next());
}
