//! Somebody sets the host's clock, by hours: no lease ends of it, nobody is sent out of line, and what is due is due on time.
//!
//! The host's own clock is left alone. A library is put in front of `vmint` and its runners, and gives them another wall clock.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vmint_tests::home::{now_ms, time_ms};
use vmint_tests::{Home, until};

const SOON: Duration = Duration::from_secs(30);
const HOUR_S: i64 = 3_600;

/// What takes the place of the wall clock: the real one, and so many seconds as a file says.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *ts) {
    int result = (int)syscall(SYS_clock_gettime, id, ts);
    const char *path = getenv("VMINT_TEST_CLOCK");
    if (result != 0 || id != CLOCK_REALTIME || !path) return result;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[32] = {0};
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) > 0) ts->tv_sec += atoll(text);
        close(fd);
    }
    return result;
}
"#;

/// A wall clock that can be set.
struct WallClock(PathBuf);

impl WallClock {
    fn of(home: &mut Home) -> Self {
        let (source, library) = (home.root().join("clock.c"), home.root().join("clock.so"));
        let ahead = home.root().join("clock.ahead");
        std::fs::write(&source, LIBRARY).expect("a file");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library);
        let made = compiler.arg(&source).output().expect("there is a compiler");
        assert!(made.status.success(), "{made:?}");
        home.set_env("LD_PRELOAD", &library);
        home.set_env("VMINT_TEST_CLOCK", &ahead);
        let clock = Self(ahead);
        clock.is_ahead(0);
        clock
    }

    fn is_ahead(&self, seconds: i64) {
        // As one write: whoever reads it reads all of it, or what was there before.
        let new = self.0.with_extension("new");
        std::fs::write(&new, seconds.to_string()).expect("a file");
        std::fs::rename(&new, Path::new(&self.0)).expect("the same folder");
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().expect("a string").to_owned()
}

/// A runner looks at its lease twice a second; for as long as four looks nothing ends.
fn goes_on(home: &Home, lease: &str, when: &str) {
    for _ in 0..20 {
        let out = home.column("SELECT id FROM leases WHERE ended_at_ms IS NULL");
        assert_eq!(out, [lease], "{when}\n{}", home.story());
        let line = home.column("SELECT lease FROM waiters");
        assert_eq!(line.len(), 1, "{when}: sent out of line");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_clock_that_is_set_by_hours_ends_no_lease_and_no_wait() {
    let mut home = Home::new();
    let clock = WallClock::of(&mut home);
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    let lease = home.json("lease acquire p --client robot --heartbeat 120s --ttl 280s");
    let (id, handle) = (text(&lease, "lease"), text(&lease, "handle"));
    let words = "lease acquire p --timeout 200s --client second --heartbeat 120s";
    let waiter = home
        .call(words.split(' '))
        .deadline(Duration::from_secs(250))
        .start();
    until(SOON, "somebody waits in line", || {
        !home.column("SELECT lease FROM waiters").is_empty()
    });
    for hours in [10, -30, 0] {
        clock.is_ahead(hours * HOUR_S);
        goes_on(&home, &id, &format!("{hours} hours ahead"));
        let renewed = home.json(&format!("lease renew {id}"));
        // What is shown is what the clock says now, and that is the clock that was set.
        let left = time_ms(&renewed["expires_at"]) - now_ms() - (hours * HOUR_S * 1000) as f64;
        assert!((200e3..290e3).contains(&left), "{left} ms, {renewed}");
        assert_eq!(home.sh(&handle, "echo held"), "held");
    }
    clock.is_ahead(5 * HOUR_S);
    home.ok(&format!("lease release {id} --force"));
    let next = waiter.finish().ok().json();
    let waited = next["waited_ms"].as_i64().expect("a number");
    assert!((0..200_000).contains(&waited), "{next}");
    home.ok(&format!("lease release {} --force", text(&next, "lease")));
}

#[test]
fn what_is_due_is_due_though_the_clock_is_set_back() {
    let mut home = Home::new();
    let clock = WallClock::of(&mut home);
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    let lease = home.json("lease acquire p --ttl 2s");
    clock.is_ahead(-20 * HOUR_S);
    until(SOON, "its time is up", || {
        let ended = home.column("SELECT id FROM leases WHERE ended_at_ms IS NOT NULL");
        ended == [text(&lease, "lease")]
    });
    assert_eq!(home.event_of_slot("resetting")["cause"], "expired");
    // A wait ends too.
    home.json("lease acquire p --ttl 100s");
    let waiter = home.call("lease acquire p --timeout 2s".split(' ')).start();
    clock.is_ahead(-40 * HOUR_S);
    waiter.finish().exits(5);
}
