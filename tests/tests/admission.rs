//! Admission: whatever many commands do at once, nothing is started that the host cannot carry, and who is held is told
//! for what.

use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vmint_tests::call::binary;
use vmint_tests::processes::kill;
use vmint_tests::{Home, patient, until};

/// What is told to happen at once, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(10);

/// A number from the store, read past the program under test.
fn number(home: &Home, query: &str) -> i64 {
    let path = home.root().join("vmint.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let database = database.expect("a database");
    database.busy_timeout(SOON).expect("a time-out");
    let number = database.query_row(query, [], |row| row.get::<_, Option<i64>>(0));
    number.expect("a number").unwrap_or(0)
}

fn in_line(home: &Home) -> i64 {
    number(home, "SELECT count(*) FROM admission_line")
}

fn promised(home: &Home) -> i64 {
    number(home, "SELECT sum(bytes) FROM admissions")
}

/// What is available for machines, in bytes, as `vmint doctor` says it: “22.9 GiB available of …”.
fn available(home: &Home) -> f64 {
    let checks = home.vmint("doctor --format json").values();
    let memory = checks
        .iter()
        .find(|check| check["name"] == "memory")
        .unwrap_or_else(|| panic!("no check of the memory in {checks:?}"));
    let summary = memory["summary"].as_str().expect("a summary");
    let mut words = summary.split(' ');
    let number: f64 = words.next().and_then(|n| n.parse().ok()).expect("a number");
    let unit = match words.next() {
        Some("MiB") => 20,
        Some("GiB") => 30,
        Some("TiB") => 40,
        _ => panic!("no unit in {summary:?}"),
    };
    number * (1_u64 << unit) as f64
}

/// The overcommit with which there is room for one machine and a half like the only one that there is.
fn room_for_one(home: &Home) -> String {
    room_for(home, 1.5)
}

/// The same for so many machines.
fn room_for(home: &Home, machines: f64) -> String {
    let factor = machines * promised(home) as f64 / available(home);
    assert!(factor > 0.002, "too large a host for this test: {factor}");
    format!("{factor:.4}")
}

#[test]
fn who_is_held_for_memory_is_told_so_and_starts_when_another_machine_has_stopped() {
    let mut home = Home::new();
    home.start("first");
    home.set_env("VMINT_ADMISSION_OVERCOMMIT", room_for_one(&home));
    let second = home
        .call(["run", "--memory", "128M", "--", "echo", "second"])
        .start();
    until(SOON, "the second is in line", || in_line(&home) == 1);
    assert!(!second.has_ended());
    // Nobody sees a machine before it is admitted.
    assert_eq!(home.rows(), ["first"]);
    home.ok("stop --force first");
    let second = second.finish().ok();
    assert_eq!(second.text(), "second\n");
    let said = second.error();
    assert_eq!(
        said.matches("waiting for memory: it needs ").count(),
        1,
        "{said}"
    );
    assert!(said.contains("(1 live machine(s))"), "{said}");
    assert_eq!((in_line(&home), promised(&home)), (0, 0));
}

#[test]
fn who_does_not_want_to_wait_fails_at_once_and_leaves_nothing() {
    let mut home = Home::new();
    home.start("first");
    home.set_env("VMINT_ADMISSION_OVERCOMMIT", room_for_one(&home));
    for policy in ["fail", "skip"] {
        home.set_env("VMINT_ADMISSION_ON_PRESSURE", policy);
        let refused = home.vmint("create second --memory 128M --start --format json");
        let message = refused.fault(4, "pressure");
        assert!(
            message.contains("was not started: it would have to wait for memory: it needs "),
            "{message}"
        );
        let refused = home.vmint("run --memory 128M --format json -- true");
        refused.fault(125, "pressure");
    }
    assert_eq!(home.rows(), ["first"]);
    assert_eq!(home.folders().len(), 1);
    // What is created and not started needs no memory; nor does what is up already.
    home.ok("create second --memory 128M");
    home.ok("start first");
    let refused = home.vmint("start second --format json");
    refused.fault(4, "pressure");
    assert_eq!(home.state("second"), "created");
    home.ok("stop --force first");
    home.ok("start second");
}

#[test]
fn a_wait_ends_at_its_deadline_and_says_for_what_it_was() {
    let mut home = Home::new();
    home.start("first");
    home.set_env("VMINT_ADMISSION_OVERCOMMIT", room_for_one(&home));
    home.set_env("VMINT_ADMISSION_TIMEOUT", "1s");
    let late = home.vmint("create second --memory 128M --start --format json");
    let took = late.took;
    let message = late.fault(5, "timed_out");
    assert!(
        message.contains("waited 1.0 s for memory: it needs "),
        "{message}"
    );
    assert!(
        took >= Duration::from_secs(1) && took < patient(SOON),
        "{took:?}"
    );
    assert_eq!(home.rows(), ["first"]);
    assert_eq!(in_line(&home), 0);
}

#[test]
fn what_the_host_could_never_carry_is_refused_at_once() {
    let mut home = Home::new();
    home.set_env("VMINT_ADMISSION_OVERCOMMIT", "0.001");
    let began = Instant::now();
    let refused = home.vmint("create large --cold --memory 1G --start --format json");
    // Unless the host has a tebibyte.
    let message = refused.fault(4, "refused");
    assert!(message.contains("this host can promise"), "{message}");
    assert!(began.elapsed() < patient(SOON));
    assert!(home.rows().is_empty());
}

#[test]
fn of_many_forks_no_more_start_at_once_than_may() {
    let mut home = Home::new();
    home.set_env("VMINT_ADMISSION_FORKS", "1");
    // Those of the machines that made the seed.
    let before = home.ok("events --format json").values().len();
    for outcome in home.at_once(["run --memory 128M -- true"; 6]) {
        outcome.ok();
    }
    let events = home.ok("events --format json").values().split_off(before);
    let (mut starting, mut most, mut ups) = (0, 0, 0);
    for event in &events {
        if event["to"] == "starting" {
            starting += 1;
            most = most.max(starting);
        } else if event["from"] == "starting" {
            starting -= 1;
            ups += i32::from(event["to"] == "running");
        }
    }
    assert_eq!((most, ups), (1, 6), "{events:#?}");
    assert_eq!((in_line(&home), promised(&home)), (0, 0));
}

#[test]
fn however_many_come_at_once_no_more_live_than_there_is_memory_for() {
    let mut home = Home::new();
    home.start("first");
    home.set_env("VMINT_ADMISSION_OVERCOMMIT", room_for(&home, 2.5));
    home.set_env("VMINT_ADMISSION_FORKS", "8");
    home.ok("rm --force first");
    let start = |_| home.call(["run", "--memory", "128M", "--", "true"]).start();
    let calls: Vec<_> = (0..8).map(start).collect();
    let mut most = 0;
    until(Duration::from_secs(60), "all have ended", || {
        let lives = "state IN ('starting', 'running', 'paused', 'stopping')";
        let query = format!("SELECT count(*) FROM machines WHERE {lives}");
        most = most.max(number(&home, &query));
        calls.iter().all(vmint_tests::Started::has_ended)
    });
    for call in calls {
        call.finish().ok();
    }
    assert!((1..=2).contains(&most), "{most} machines at once");
    assert_eq!((in_line(&home), promised(&home)), (0, 0));
}

#[test]
fn who_is_killed_in_line_or_while_he_starts_is_in_nobody_s_way() {
    let mut home = Home::new();
    home.set_env("VMINT_ADMISSION_FORKS", "1");
    let start = || home.call(["run", "--memory", "128M", "--", "true"]).start();
    let calls: Vec<_> = (0..6).map(|_| start()).collect();
    until(SOON, "one starts and others wait", || {
        promised(&home) > 0 && in_line(&home) > 1
    });
    let mut left = Vec::new();
    for (n, call) in calls.into_iter().enumerate() {
        // Whoever they are: one starts, the others are in line.
        if n % 2 == 0 {
            kill(call.pid());
            drop(call);
        } else {
            left.push(call);
        }
    }
    for call in left {
        call.finish().ok();
    }
    home.empties(SOON);
    // What the killed have left in the tables counts for nothing, and goes when somebody looks.
    home.ok("run --memory 128M -- true");
    assert_eq!((in_line(&home), promised(&home)), (0, 0));
}

#[test]
fn templates_are_made_in_the_places_of_cold_boots() {
    let mut home = Home::new();
    home.set_env("VMINT_ADMISSION_COLD_BOOTS", "1");
    let calls =
        ["96M", "112M"].map(|memory| home.call(["run", "--memory", memory, "--", "true"]).start());
    let mut most = 0;
    until(Duration::from_secs(100), "both have ended", || {
        let cold = number(&home, "SELECT count(*) FROM admissions WHERE boot = 'cold'");
        most = most.max(cold);
        calls.iter().all(vmint_tests::Started::has_ended)
    });
    let said: String = calls.map(|call| call.finish().ok().error()).concat();
    assert_eq!(most, 1, "{said}");
    assert_eq!(
        said.matches(
            "waiting for a place to start: 1 cold boot(s) under way, 0 in line before, 1 at once"
        )
        .count(),
        1,
        "{said}"
    );
}

/// A control group with a limit on memory, until dropped.
struct Group(PathBuf);

impl Group {
    /// `None`, and a word about it, where none can be made.
    fn make(limit: u64) -> Option<Self> {
        let not_tested = |why: &str| {
            eprintln!("NOT TESTED: {why}");
            None
        };
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = |prefix: fn(&str) -> Option<&str>| groups.lines().find_map(prefix);
        let v1 = path(|line| line.split_once(":memory:").map(|(_, path)| path));
        let (mount, own, file) = match (v1, path(|line| line.strip_prefix("0::"))) {
            (Some(own), _) => ("/sys/fs/cgroup/memory", own, "memory.limit_in_bytes"),
            (None, Some(own)) => ("/sys/fs/cgroup", own, "memory.max"),
            (None, None) => return not_tested("there are no control groups"),
        };
        let within = Path::new(mount).join(own.trim_start_matches('/'));
        let within = if within.is_dir() {
            within
        } else {
            mount.into()
        };
        let folder = within.join(format!("vmint-test-{}", std::process::id()));
        if let Err(e) = fs::create_dir(&folder) {
            return not_tested(&format!("this user may not make a control group: {e}"));
        }
        let group = Self(folder);
        match fs::write(group.0.join(file), limit.to_string()) {
            Ok(()) => Some(group),
            Err(e) => not_tested(&format!("this control group cannot limit memory: {e}")),
        }
    }

    /// Calls the program under test in it.
    fn vmint(&self, home: &Home, args: &str) -> std::process::Output {
        let script = format!(
            "echo $$ > '{}/cgroup.procs' && exec '{}' {args}",
            self.0.display(),
            binary().display()
        );
        Command::new("sh")
            .args(["-c", &script])
            .current_dir(home.runtime())
            .envs(home.environment())
            .output()
            .expect("a shell can be started")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What has just ended in it may be counted for a moment still.
        until(SOON, "the control group can be removed", || {
            fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        });
    }
}

#[test]
fn the_limit_of_the_control_group_counts() {
    let mut home = Home::new();
    home.start("first");
    home.set_env("VMINT_ADMISSION_ON_PRESSURE", "fail");
    // Room for the second alone; the first has not yet taken all that it was promised.
    let limit = promised(&home) as u64 + (40 << 20);
    let Some(group) = Group::make(limit) else {
        return;
    };
    let refused = group.vmint(&home, "create second --memory 128M --start --format json");
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(
        said.contains("\"pressure\"") && said.contains("have to wait for memory"),
        "{said}"
    );
    // The same call outside of the group.
    home.ok("create second --memory 128M --start");
    home.ok("rm --force second");
    // More than the group has in all.
    let refused = group.vmint(
        &home,
        "create third --cold --memory 1G --start --format json",
    );
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(said.contains("\"refused\""), "{said}");
    assert_eq!(home.rows(), ["first"]);
}
