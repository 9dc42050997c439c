//! One runner, one machine, and nothing left behind. The numbers are those of the twenty properties in
//! SPECIFICATION.md.

use serde_json::Value;
use std::fs;
use std::time::Duration;
use vmint_tests::home::{now_ms, time_ms};
use vmint_tests::processes::{kill, lives};
use vmint_tests::{Home, Terminal, patient, until};

/// What is told to happen at once, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(10);

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .expect("a parent");
    line.trim().parse().expect("a process id")
}

fn session(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let rest = stat.rsplit(')').next().expect("fields behind the name");
    rest.split_ascii_whitespace()
        .nth(3)
        .expect("a session")
        .parse()
        .expect("a number")
}

/// 1.
#[test]
fn starting_a_machine_spawns_a_runner_in_a_session_of_its_own() {
    let home = Home::new();
    home.start("one");
    let info = home.info("one");
    assert_eq!(info["state"], "running", "{info}");
    let (runner, _) = home.pids("one");
    let runners: Vec<_> = home
        .processes()
        .into_iter()
        .filter(vmint_tests::Process::is_runner)
        .collect();
    assert_eq!(runners.len(), 1, "{runners:?}");
    assert_eq!(runners[0].pid, runner);
    assert_eq!(session(runner), runner);
    assert_eq!(home.sockets().len(), 1);
}

/// 2.
#[test]
fn the_runner_starts_qemu_as_its_child_and_the_machine_runs_commands() {
    let home = Home::new();
    home.start("two");
    let (runner, hypervisor) = home.pids("two");
    assert_eq!(parent(hypervisor), runner);
    let all = home.processes();
    assert!(
        all.iter().any(|p| p.pid == hypervisor && p.is_hypervisor()),
        "{all:?}"
    );
    assert_eq!(home.sh("two", "echo $((6 * 7))"), "42");
}

/// 3.
#[test]
fn a_machine_survives_its_commands_end_and_the_death_of_the_terminal() {
    let home = Home::new();
    let script = format!(
        "'{0}' create three --memory 128M --start && '{0}' exec three -- true && echo is''-up; exec sleep 1000",
        vmint_tests::call::binary().display()
    );
    let mut terminal = Terminal::start(&script, home.environment(), (80, 24));
    terminal.shows("is-up", Duration::from_secs(60));
    let (runner, hypervisor) = home.pids("three");
    assert_ne!(session(runner), terminal.pid());
    // The session's leader dies of it, and so would all that still belonged to the terminal.
    terminal.hang_up();
    assert_eq!(home.sh("three", "echo alive"), "alive");
    assert_eq!(home.pids("three"), (runner, hypervisor));
}

/// 4.
#[test]
fn when_qemu_is_killed_the_runner_notices_records_why_and_exits() {
    let home = Home::new();
    home.start("four");
    let (runner, hypervisor) = home.pids("four");
    let killed_at = now_ms();
    kill(hypervisor);
    until(SOON, "the runner has exited", || !lives(runner));
    let event = home.event("four", "failed", SOON);
    let took = time_ms(&event["at"]) - killed_at;
    println!("noticed and recorded {took:.0} ms after the kill");
    assert!(
        took < patient(Duration::from_secs(1)).as_secs_f64() * 1e3,
        "{took} ms: {event}"
    );
    assert_eq!(event["cause"], "hypervisor_died", "{event}");
    let info = home.info("four");
    assert_eq!(info["state"], "failed", "{info}");
    assert!(
        info["reason"]
            .as_str()
            .is_some_and(|r| r.contains("signal: 9")),
        "{info}"
    );
    assert!(
        info["runner_pid"].is_null() && info["hypervisor_pid"].is_null(),
        "{info}"
    );
    assert_eq!(home.sockets(), [] as [std::path::PathBuf; 0]);
    // And it can be started again.
    home.ok("start four");
    assert_eq!(home.sh("four", "echo again"), "again");
}

/// 5.
#[test]
fn qmp_goes_through_the_runner() {
    let home = Home::new();
    home.start("five");
    let status = home.ok("qmp five query-status").json();
    assert_eq!(status["status"], "running", "{status}");
    let arguments = r#"{"command-line": "info version"}"#;
    let version = home
        .call(["qmp", "five", "human-monitor-command", arguments])
        .run()
        .ok();
    assert!(
        version.text().contains(|c: char| c.is_ascii_digit()),
        "{version}"
    );
    let refused = home
        .vmint("qmp five no-such-command --format json")
        .fault(1, "hypervisor");
    assert!(refused.contains("no-such-command"), "{refused}");
}

/// 6.
#[test]
fn stop_asks_the_guest_first() {
    let home = Home::new();
    home.start("six");
    let (runner, hypervisor) = home.pids("six");
    home.ok("stop six");
    let info = home.info("six");
    assert_eq!(info["state"], "stopped", "{info}");
    assert!(info["reason"].is_null(), "{info}");
    let states: Vec<_> = home
        .events("six")
        .iter()
        .map(|event| event["to"].clone())
        .collect();
    assert!(
        states.ends_with(&[Value::from("stopping"), Value::from("stopped")]),
        "{states:?}"
    );
    until(SOON, "runner and QEMU have exited", || {
        !lives(runner) && !lives(hypervisor)
    });
}

/// 6.
#[test]
fn stop_forces_a_guest_that_does_not_shut_down_in_time() {
    let home = Home::new();
    home.start("six");
    // The guest waits two seconds for processes that do not end when asked.
    home.sh(
        "six",
        "(trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & sleep 0.2",
    );
    let (runner, hypervisor) = home.pids("six");
    let stopped = home.ok("stop six --timeout 300ms");
    println!("{:?}", stopped.took);
    let info = home.info("six");
    assert_eq!(info["state"], "stopped", "{info}");
    assert!(
        info["reason"]
            .as_str()
            .is_some_and(|r| r.contains("forced")),
        "{info}"
    );
    until(SOON, "runner and QEMU have exited", || {
        !lives(runner) && !lives(hypervisor)
    });
}

/// 6.
#[test]
fn stop_with_force_does_not_ask_the_guest() {
    let home = Home::new();
    home.start("six");
    home.sh(
        "six",
        "(trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & sleep 0.2",
    );
    home.ok("stop six --force");
    let events = home.events("six");
    assert!(
        !events.iter().any(|event| event["to"] == "stopping"),
        "{events:?}"
    );
    assert_eq!(home.state("six"), "stopped");
}

/// 7.
#[test]
fn a_missing_socket_is_a_clear_error() {
    let home = Home::new();
    home.start("seven");
    fs::remove_file(&home.sockets()[0]).unwrap();
    let exec = home
        .vmint("exec seven --format json -- true")
        .fault(125, "runner");
    assert!(
        exec.contains("seven") && exec.contains("cannot be reached"),
        "{exec}"
    );
    let qmp = home
        .vmint("qmp seven query-status --format json")
        .fault(1, "runner");
    assert!(
        qmp.contains("seven") && qmp.contains("cannot be reached"),
        "{qmp}"
    );
    // The machine is none the worse for it.
    let (runner, hypervisor) = home.pids("seven");
    assert!(lives(runner) && lives(hypervisor));
}

/// 8. The command line has no `ping`: it is the runner's answer to `curl`.
#[test]
fn a_runner_answers_a_ping() {
    let home = Home::new();
    home.start("eight");
    let answer = curl(
        &home.sockets()[0],
        "GET /v1/ping HTTP/1.1\r\nHost: vmint\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let info = home.info("eight");
    assert_eq!(
        (&body["machine"], &body["pid"]),
        (&info["id"], &info["runner_pid"]),
        "{answer}"
    );
    assert_eq!(body["generation"], 1, "{answer}");
    // A caller that means an older machine is refused, never served by this one.
    home.ok("reset eight");
    let stale =
        "GET /v1/ping HTTP/1.1\r\nHost: vmint\r\nvmint-generation: 1\r\nConnection: close\r\n\r\n";
    let refused = curl(&home.sockets()[0], stale);
    assert!(
        refused.starts_with("HTTP/1.1 409") && refused.contains("stale_generation"),
        "{refused}"
    );
}

fn curl(socket: &std::path::Path, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the runner listens");
    stream.set_read_timeout(Some(patient(SOON))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the runner answers");
    answer
}

/// 10.
#[test]
fn a_stop_asked_for_in_the_store_reaches_a_runner_whose_socket_is_gone() {
    let home = Home::new();
    home.start("ten");
    let (runner, hypervisor) = home.pids("ten");
    fs::remove_file(&home.sockets()[0]).unwrap();
    home.ok("stop ten");
    assert_eq!(home.state("ten"), "stopped");
    assert!(!lives(hypervisor), "whoever reads “stopped” may rely on it");
    until(SOON, "the runner has exited", || !lives(runner));
    let events = home.events("ten");
    assert!(
        events.iter().any(|e| e["to"] == "stopping"),
        "the guest was asked: {events:?}"
    );
}

/// 12.
#[test]
fn starting_a_machine_that_runs_changes_nothing() {
    let home = Home::new();
    home.start("twelve");
    let before = (home.pids("twelve"), home.events("twelve").len());
    home.sh("twelve", "echo kept > /tmp/mark");
    home.ok("start twelve");
    assert_eq!((home.pids("twelve"), home.events("twelve").len()), before);
    assert_eq!(home.sh("twelve", "cat /tmp/mark"), "kept");
}

/// 14.
#[test]
fn stopping_a_machine_that_is_down_changes_nothing() {
    let home = Home::new();
    home.ok("create fourteen --memory 128M");
    home.ok("stop fourteen");
    assert_eq!(home.state("fourteen"), "created");
    home.ok("start fourteen");
    home.ok("stop fourteen");
    let before = home.events("fourteen").len();
    home.ok("stop fourteen");
    home.ok("stop fourteen --force");
    assert_eq!(home.events("fourteen").len(), before);
    assert_eq!(home.state("fourteen"), "stopped");
}

/// 15.
#[test]
fn qmp_on_a_stopped_machine_is_a_typed_error() {
    let home = Home::new();
    home.ok("create fifteen --memory 128M");
    let message = home
        .vmint("qmp fifteen query-status --format json")
        .fault(1, "wrong_state");
    assert!(
        message.contains("fifteen") && message.contains("created"),
        "{message}"
    );
    home.ok("start fifteen");
    home.ok("stop fifteen");
    let message = home
        .vmint("qmp fifteen query-status --format json")
        .fault(1, "wrong_state");
    assert!(message.contains("stopped"), "{message}");
    let message = home
        .vmint("exec fifteen --format json -- true")
        .fault(125, "wrong_state");
    assert!(message.contains("stopped"), "{message}");
    let message = home
        .vmint("qmp nobody query-status --format json")
        .fault(3, "not_found");
    assert!(message.contains("nobody"), "{message}");
}
