//! One runner, one machine, and nothing left behind. The numbers are those of the twenty properties in
//! SPECIFICATION.md.

use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};
use vmint_tests::home::{now_ms, time_ms};
use vmint_tests::processes::{kill, lives, signal};
use vmint_tests::wait::until_some;
use vmint_tests::{Home, Terminal, until};

/// What is told to happen at once, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(10);

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a process id")
}

fn session(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let rest = stat.rsplit(')').next().expect("fields behind the name");
    rest.split_ascii_whitespace().nth(3).expect("a session").parse().expect("a number")
}

/// 1.
#[test]
fn starting_a_machine_spawns_a_runner_in_a_session_of_its_own() {
    let home = Home::new();
    home.start("one");
    let info = home.info("one");
    assert_eq!(info["state"], "running", "{info}");
    let (runner, _) = home.pids("one");
    let runners: Vec<_> = home.processes().into_iter().filter(|p| p.is_runner()).collect();
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
    assert!(all.iter().any(|p| p.pid == hypervisor && p.is_hypervisor()), "{all:?}");
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
    assert!(took < 1000.0, "{took} ms: {event}");
    assert_eq!(event["cause"], "hypervisor_died", "{event}");
    let info = home.info("four");
    assert_eq!(info["state"], "failed", "{info}");
    assert!(info["reason"].as_str().is_some_and(|r| r.contains("signal: 9")), "{info}");
    assert!(info["runner_pid"].is_null() && info["hypervisor_pid"].is_null(), "{info}");
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
    let version = home.call(["qmp", "five", "human-monitor-command", arguments]).run().ok();
    assert!(version.text().contains(|c: char| c.is_ascii_digit()), "{version}");
    let refused = home.vmint("qmp five no-such-command --format json").fault(1, "hypervisor");
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
    let states: Vec<_> = home.events("six").iter().map(|event| event["to"].clone()).collect();
    assert!(states.ends_with(&[Value::from("stopping"), Value::from("stopped")]), "{states:?}");
    until(SOON, "runner and QEMU have exited", || !lives(runner) && !lives(hypervisor));
}

/// 6.
#[test]
fn stop_forces_a_guest_that_does_not_shut_down_in_time() {
    let home = Home::new();
    home.start("six");
    // The guest waits two seconds for processes that do not end when asked.
    home.sh("six", "(trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & sleep 0.2");
    let (runner, hypervisor) = home.pids("six");
    let stopped = home.ok("stop six --timeout 300ms");
    println!("{:?}", stopped.took);
    let info = home.info("six");
    assert_eq!(info["state"], "stopped", "{info}");
    assert!(info["reason"].as_str().is_some_and(|r| r.contains("forced")), "{info}");
    until(SOON, "runner and QEMU have exited", || !lives(runner) && !lives(hypervisor));
}

/// 6.
#[test]
fn stop_with_force_does_not_ask_the_guest() {
    let home = Home::new();
    home.start("six");
    home.sh("six", "(trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & sleep 0.2");
    home.ok("stop six --force");
    let events = home.events("six");
    assert!(!events.iter().any(|event| event["to"] == "stopping"), "{events:?}");
    assert_eq!(home.state("six"), "stopped");
}

/// 7.
#[test]
fn a_missing_socket_is_a_clear_error() {
    let home = Home::new();
    home.start("seven");
    fs::remove_file(&home.sockets()[0]).unwrap();
    let exec = home.vmint("exec seven --format json -- true").fault(125, "runner");
    assert!(exec.contains("seven") && exec.contains("cannot be reached"), "{exec}");
    let qmp = home.vmint("qmp seven query-status --format json").fault(1, "runner");
    assert!(qmp.contains("seven") && qmp.contains("cannot be reached"), "{qmp}");
    // The machine is none the worse for it.
    let (runner, hypervisor) = home.pids("seven");
    assert!(lives(runner) && lives(hypervisor));
}

/// 8. The command line has no `ping`: it is the runner's answer to `curl`.
#[test]
fn a_runner_answers_a_ping() {
    let home = Home::new();
    home.start("eight");
    let answer = curl(&home.sockets()[0], "GET /v1/ping HTTP/1.1\r\nHost: vmint\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let info = home.info("eight");
    assert_eq!((&body["machine"], &body["pid"]), (&info["id"], &info["runner_pid"]), "{answer}");
    assert_eq!(body["generation"], 1, "{answer}");
    // A caller that means an older machine is refused, never served by this one.
    home.ok("reset eight");
    let stale = "GET /v1/ping HTTP/1.1\r\nHost: vmint\r\nvmint-generation: 1\r\nConnection: close\r\n\r\n";
    let refused = curl(&home.sockets()[0], stale);
    assert!(refused.starts_with("HTTP/1.1 409") && refused.contains("stale_generation"), "{refused}");
}

fn curl(socket: &std::path::Path, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the runner listens");
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the runner answers");
    answer
}

/// Kills QEMU and runner at once: neither can tell of the other's end.
fn kill_both(home: &Home, name: &str) {
    let (runner, hypervisor) = home.pids(name);
    signal(runner, Signal::STOP);
    kill(hypervisor);
    kill(runner);
    until(SOON, "both have died", || !lives(runner) && !lives(hypervisor));
}

/// 9.
#[test]
fn whichever_command_is_next_clears_up_what_was_killed() {
    let home = Home::new();
    let failed = |home: &Home| {
        let rows = home.sql("UPDATE machines SET state = state WHERE state = 'failed' AND name = 'nine'");
        rows == 1
    };
    home.start("other");
    home.ok("create nine --memory 128M");
    for next in
        ["ls", "info nine", "run --memory 128M -- true", "doctor", "exec other -- true", "events", "image ls", "gc"]
    {
        home.ok("start nine");
        kill_both(&home, "nine");
        assert!(!failed(&home), "nobody was there to record it");
        let outcome = home.vmint(next);
        // `doctor` exits as it finds the host.
        assert!(outcome.code == Some(0) || next == "doctor", "{outcome}");
        assert!(failed(&home), "{next} did not clear up: {outcome}");
        assert_eq!(home.sockets().len(), 1, "{next} left the socket");
        let said = outcome.error() + &outcome.text();
        assert!(said.contains("machine nine has failed"), "{next} did not say so: {outcome}");
    }
    let event = home.event("nine", "failed", SOON);
    assert_eq!(event["cause"], "runner_died", "{event}");
    assert_eq!(home.sh("other", "echo undisturbed"), "undisturbed");
}

/// 9.
#[test]
fn after_a_reboot_of_the_host_the_next_command_clears_up() {
    let home = Home::new();
    home.start("nine");
    let info = home.info("nine");
    kill_both(&home, "nine");
    // A process of another boot that has the runner's id now is no runner: here, this test.
    let replace = format!(
        "UPDATE machines SET record = json_set(record, '$.runner.pid', {}, '$.hypervisor.pid', {0}) WHERE name = 'nine'",
        std::process::id()
    );
    assert_eq!(home.sql(&replace), 1);
    let listed = home.call(["ls", "--all", "--format", "json"]).env("VMINT_BOOT_ID", "another-boot").run().ok();
    let machines = listed.values();
    assert_eq!(machines[0]["state"], "failed", "{listed}");
    assert_eq!(machines[0]["id"], info["id"], "{listed}");
    let event = home.event("nine", "failed", SOON);
    assert_eq!(event["cause"], "host_rebooted", "{event}");
}

/// 9, for a machine that was to go with its command.
#[test]
fn a_machine_of_a_command_that_was_killed_with_its_runner_is_removed_by_the_next_command() {
    let home = Home::new();
    let mut run = home.call("run --memory 128M -- sh -c".split(' ').chain(["echo up; exec sleep 1000"])).start();
    run.says("up");
    let processes = home.processes();
    run.signal(Signal::STOP);
    for process in &processes {
        signal(process.pid, Signal::STOP);
    }
    run.signal(Signal::KILL);
    for process in &processes {
        kill(process.pid);
    }
    until(SOON, "all have died", || processes.iter().all(|p| !lives(p.pid)));
    assert_eq!((home.rows().len(), home.folders().len()), (1, 1));
    home.ok("ls");
    assert_eq!(home.left(), [] as [String; 0]);
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
    assert!(!lives(runner) && !lives(hypervisor));
    let events = home.events("ten");
    assert!(events.iter().any(|e| e["to"] == "stopping"), "the guest was asked: {events:?}");
}

/// 11.
#[test]
fn a_runner_whose_machines_record_is_deleted_ends() {
    let home = Home::new();
    home.start("eleven");
    let (runner, hypervisor) = home.pids("eleven");
    assert_eq!(home.sql("DELETE FROM machines WHERE name = 'eleven'"), 1);
    let took = until(SOON, "runner and QEMU have exited", || !lives(runner) && !lives(hypervisor));
    println!("ended after {took:?}");
    home.ok("ls");
    assert_eq!(home.left(), [] as [String; 0]);
}

/// 11.
#[test]
fn a_runner_whose_machines_folder_is_deleted_ends() {
    let home = Home::new();
    home.start("eleven");
    let (runner, hypervisor) = home.pids("eleven");
    fs::remove_dir_all(home.folder("eleven")).unwrap();
    let took = until(SOON, "runner and QEMU have exited", || !lives(runner) && !lives(hypervisor));
    println!("ended after {took:?}");
    home.ok("ls --all");
    assert_eq!(home.left(), [] as [String; 0]);
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

/// 13.
#[test]
fn start_over_a_stale_record_starts() {
    let home = Home::new();
    home.start("thirteen");
    let old = home.pids("thirteen");
    kill_both(&home, "thirteen");
    assert_eq!(home.rows(), ["thirteen"]);
    home.ok("start thirteen");
    assert_eq!(home.sh("thirteen", "echo up"), "up");
    assert_ne!(home.pids("thirteen"), old);
    assert_eq!(home.processes().len(), 2);
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
    let message = home.vmint("qmp fifteen query-status --format json").fault(1, "wrong_state");
    assert!(message.contains("fifteen") && message.contains("created"), "{message}");
    home.ok("start fifteen");
    home.ok("stop fifteen");
    let message = home.vmint("qmp fifteen query-status --format json").fault(1, "wrong_state");
    assert!(message.contains("stopped"), "{message}");
    let message = home.vmint("exec fifteen --format json -- true").fault(125, "wrong_state");
    assert!(message.contains("stopped"), "{message}");
    let message = home.vmint("qmp nobody query-status --format json").fault(3, "not_found");
    assert!(message.contains("nobody"), "{message}");
}

/// 16.
#[test]
fn when_the_runner_is_killed_qemu_goes_with_it_and_the_next_command_says_so() {
    let home = Home::new();
    home.start("sixteen");
    let (runner, hypervisor) = home.pids("sixteen");
    kill(runner);
    let took = until(Duration::from_secs(1), "QEMU has gone", || !lives(hypervisor));
    println!("QEMU went {took:?} after its runner");
    let listed = home.ok("ls --all");
    assert!(listed.error().contains("machine sixteen has failed: its runner"), "{listed}");
    let info = home.info("sixteen");
    assert_eq!(info["state"], "failed", "{info}");
    assert!(info["reason"].as_str().is_some_and(|r| r.contains(&runner.to_string())), "{info}");
}

/// 16, while a command runs: its caller is told what happened, and not that the command failed.
#[test]
fn a_command_whose_machine_dies_under_it_fails_as_a_fault_of_the_machine() {
    let home = Home::new();
    home.start("sixteen");
    for victim in ["runner", "hypervisor"] {
        let words = "exec sixteen --format json -- sh -c".split(' ').chain(["echo up; exec sleep 1000"]);
        let mut exec = home.call(words).start();
        exec.says("up");
        let (runner, hypervisor) = home.pids("sixteen");
        kill(if victim == "runner" { runner } else { hypervisor });
        let message = exec.finish().fault(125, "machine_lost");
        assert!(message.contains("sixteen"), "{victim}: {message}");
        home.ok("start sixteen");
    }
}

/// 17.
#[test]
fn a_left_over_socket_file_is_no_obstacle() {
    let home = Home::new();
    home.start("seventeen");
    let socket = home.sockets().remove(0);
    home.ok("stop seventeen");
    until(SOON, "the socket is gone", || !socket.exists());
    // A socket that nobody listens on, as a runner leaves it that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    home.ok("start seventeen");
    assert_eq!(home.sh("seventeen", "echo up"), "up");
}

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
    let words = ["runner".as_ref(), home.root().as_os_str(), runtime.as_os_str(), id.as_ref()];
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
    let ups = home.events("raced").iter().filter(|event| event["to"] == "running").count();
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
    for outcome in home.at_once(names.iter().map(|name| format!("create {name} --memory 128M --start"))) {
        outcome.ok();
    }
    assert_eq!(home.processes().len(), 20);
    for name in &names {
        home.sh(name, &format!("echo {name} > /tmp/who; (while :; do cat /proc/uptime > /tmp/beat; sleep 0.1; done) >/dev/null 2>&1 &"));
    }
    for name in &names {
        assert_eq!(home.sh(name, "cat /tmp/who; hostname"), format!("{name}\n{name}"));
    }
    let others = [&names[..4], &names[5..]].concat();
    let before: Vec<_> = others.iter().map(|name| (home.pids(name), home.events(name).len())).collect();
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
        let (_, took) = until_some(SOON, "its background job goes on", || (home.sh(name, "cat /tmp/beat") != beat).then_some(()));
        assert!(took < SOON);
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
        let mut names: Vec<_> = fs::read_dir(home.folder("twenty")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let mut first = None;
    for cycle in 0..30 {
        home.ok("start twenty");
        // Half of them by force, so that both ways are tried.
        home.ok(if cycle % 2 == 0 { "stop twenty" } else { "stop twenty --force" });
        let now = files(&home);
        assert_eq!(first.get_or_insert_with(|| now.clone()), &now, "files gather in the machine's folder");
    }
    println!("thirty cycles took {:?}", began.elapsed());
    until(SOON, "nothing runs", || home.processes().is_empty() && home.sockets().is_empty());
    home.ok("rm twenty");
    assert_eq!(home.left(), [] as [String; 0]);
    let root: Vec<_> = fs::read_dir(home.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!root.iter().any(|name| name.to_string_lossy().starts_with('.')), "{root:?}");
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
