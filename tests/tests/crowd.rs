//! Many commands, many machines, many times. The numbers are those of the twenty properties in SPECIFICATION.md.

use std::fs;
use std::time::{Duration, Instant};
use vmint_tests::processes::kill;
use vmint_tests::{Home, until};

/// What is told to happen at once, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(10);

/// 17.
#[test]
fn a_live_socket_is_not_stolen() {
    let home = Home::new();
    home.start("seventeen");
    let before = home.pids("seventeen");
    for outcome in home.at_once(["start seventeen"; 4]) {
        outcome.ok();
    }
    // Nor by a second runner that somebody starts by hand.
    let id = home.info("seventeen")["id"].as_str().unwrap().to_owned();
    let runtime = home.sockets()[0].parent().unwrap().to_owned();
    let words = [
        "runner".as_ref(),
        home.root().as_os_str(),
        runtime.as_os_str(),
        id.as_ref(),
    ];
    home.call(words).run();
    assert_eq!(home.pids("seventeen"), before);
    assert_eq!(home.processes().len(), 2);
    assert_eq!(home.sh("seventeen", "echo up"), "up");
}

/// Two commands that start one machine at once: it is started once, and both succeed.
#[test]
fn of_commands_that_race_to_start_a_machine_one_starts_it_and_all_succeed() {
    let home = Home::new();
    home.ok("create raced --memory 128M");
    for outcome in home.at_once(["start raced"; 4]) {
        outcome.ok();
    }
    assert_eq!(home.processes().len(), 2);
    let ups = home
        .events("raced")
        .iter()
        .filter(|event| event["to"] == "running")
        .count();
    assert_eq!(ups, 1);
}

/// Two commands that take one name: one gets it, the others are told.
#[test]
fn of_commands_that_race_for_a_name_one_gets_it() {
    let home = Home::new();
    let outcomes = home.at_once(["create raced --memory 128M --start --format json"; 4]);
    let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|o| o.code == Some(0));
    assert_eq!((done.len(), refused.len()), (1, 3), "{refused:?}");
    for outcome in refused {
        let message = outcome.fault(1, "already_exists");
        assert!(message.contains("raced"), "{message}");
    }
    assert_eq!(home.sh("raced", "echo up"), "up");
    assert_eq!((home.processes().len(), home.folders().len()), (2, 1));
}

/// 18 and 19.
#[test]
fn ten_machines_at_once_are_independent_and_stopping_one_disturbs_no_other() {
    let home = Home::new();
    let names: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    for outcome in home.at_once(
        names
            .iter()
            .map(|name| format!("create {name} --memory 128M --start")),
    ) {
        outcome.ok();
    }
    assert_eq!(home.processes().len(), 20);
    for name in &names {
        home.sh(name, &format!("echo {name} > /tmp/who; (while :; do cat /proc/uptime > /tmp/beat; sleep 0.1; done) >/dev/null 2>&1 &"));
    }
    for name in &names {
        assert_eq!(
            home.sh(name, "cat /tmp/who; hostname"),
            format!("{name}\n{name}")
        );
    }
    let others = [&names[..4], &names[5..]].concat();
    let before: Vec<_> = others
        .iter()
        .map(|name| (home.pids(name), home.events(name).len()))
        .collect();
    home.ok("stop m4");
    assert_eq!(home.state("m4"), "stopped");
    let (_, hypervisor) = home.pids("m5");
    kill(hypervisor);
    home.event("m5", "failed", SOON);
    for (name, before) in others.iter().zip(before) {
        if name == "m5" {
            continue;
        }
        assert_eq!((home.pids(name), home.events(name).len()), before, "{name}");
        assert_eq!(home.sh(name, "cat /tmp/who"), *name);
        let beat = home.sh(name, "cat /tmp/beat");
        until(SOON, "its background job goes on", || {
            home.sh(name, "cat /tmp/beat") != beat
        });
    }
    assert_eq!(home.processes().len(), 16);
}

/// 20.
#[test]
fn thirty_rapid_cycles_of_start_and_stop_leave_nothing_behind() {
    let home = Home::new();
    let began = Instant::now();
    home.ok("create twenty --memory 128M");
    let files = |home: &Home| {
        let mut names: Vec<_> = fs::read_dir(home.folder("twenty"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let mut first = None;
    for cycle in 0..30 {
        home.ok("start twenty");
        // Half of them by force, so that both ways are tried.
        home.ok(if cycle % 2 == 0 {
            "stop twenty"
        } else {
            "stop twenty --force"
        });
        let now = files(&home);
        assert_eq!(
            first.get_or_insert_with(|| now.clone()),
            &now,
            "files gather in the machine's folder"
        );
    }
    println!("thirty cycles took {:?}", began.elapsed());
    until(SOON, "nothing runs", || {
        home.processes().is_empty() && home.sockets().is_empty()
    });
    home.ok("rm twenty");
    assert_eq!(home.left(), [] as [String; 0]);
    let root: Vec<_> = fs::read_dir(home.root())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !root
            .iter()
            .any(|name| name.to_string_lossy().starts_with('.')),
        "{root:?}"
    );
}

/// 20, for machines that live as long as their command.
#[test]
fn thirty_runs_leave_nothing_behind() {
    let home = Home::new();
    for n in 0..30 {
        let run = home.ok(&format!("run --memory 128M -- echo {n}"));
        assert_eq!(run.text().trim(), n.to_string());
    }
    home.empties(Duration::from_secs(2));
}
