//! What is killed, deleted and left over is found and cleared up. The numbers are those of the twenty properties in
//! SPECIFICATION.md.

use rustix::process::Signal;
use std::fs;
use std::time::Duration;
use vmint_tests::processes::{kill, lives, signal};
use vmint_tests::{Home, until};

/// What is told to happen at once, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(10);

/// Kills QEMU and runner at once: neither can tell of the other's end.
fn kill_both(home: &Home, name: &str) {
    let (runner, hypervisor) = home.pids(name);
    signal(runner, Signal::STOP);
    kill(hypervisor);
    kill(runner);
    until(SOON, "both have died", || {
        !lives(runner) && !lives(hypervisor)
    });
}

/// 9.
#[test]
fn whichever_command_is_next_clears_up_what_was_killed() {
    let home = Home::new();
    let failed = |home: &Home| {
        let rows =
            home.sql("UPDATE machines SET state = state WHERE state = 'failed' AND name = 'nine'");
        rows == 1
    };
    home.start("other");
    home.ok("create nine --memory 128M");
    for next in [
        "ls",
        "info nine",
        "run --memory 128M -- true",
        "doctor",
        "exec other -- true",
        "events",
        "image ls",
        "gc",
    ] {
        home.ok("start nine");
        kill_both(&home, "nine");
        assert!(!failed(&home), "nobody was there to record it");
        let outcome = home.vmint(next);
        // `doctor` exits as it finds the host.
        assert!(outcome.code == Some(0) || next == "doctor", "{outcome}");
        assert!(failed(&home), "{next} did not clear up: {outcome}");
        assert_eq!(home.sockets().len(), 1, "{next} left the socket");
        let said = outcome.error() + &outcome.text();
        assert!(
            said.contains("machine nine has failed"),
            "{next} did not say so: {outcome}"
        );
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
    let listed = home
        .call(["ls", "--all", "--format", "json"])
        .env("VMINT_BOOT_ID", "another-boot")
        .run()
        .ok();
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
    let mut run = home
        .call(
            "run --memory 128M -- sh -c"
                .split(' ')
                .chain(["echo up; exec sleep 1000"]),
        )
        .start();
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
    until(SOON, "all have died", || {
        processes.iter().all(|p| !lives(p.pid))
    });
    assert_eq!((home.rows().len(), home.folders().len()), (1, 1));
    home.ok("ls");
    assert_eq!(home.left(), [] as [String; 0]);
}

/// 11.
#[test]
fn a_runner_whose_machines_record_is_deleted_ends_and_what_is_on_its_disk_stays() {
    let home = Home::new();
    home.start("eleven");
    let folder = home.folder("eleven");
    let (runner, hypervisor) = home.pids("eleven");
    assert_eq!(home.sql("DELETE FROM machines WHERE name = 'eleven'"), 1);
    let took = until(SOON, "runner and QEMU have exited", || {
        !lives(runner) && !lives(hypervisor)
    });
    println!("ended after {took:?}");
    let info = home.info("eleven");
    assert_eq!(info["state"], "failed", "{info}");
    assert!(
        info["reason"]
            .as_str()
            .is_some_and(|r| r.contains("its record disappeared")),
        "{info}"
    );
    assert!(folder.join("origin").exists());
    home.ok("start eleven");
}

/// 11.
#[test]
fn a_runner_whose_machines_folder_is_deleted_ends() {
    let home = Home::new();
    home.start("eleven");
    let (runner, hypervisor) = home.pids("eleven");
    fs::remove_dir_all(home.folder("eleven")).unwrap();
    let took = until(SOON, "runner and QEMU have exited", || {
        !lives(runner) && !lives(hypervisor)
    });
    println!("ended after {took:?}");
    home.ok("ls --all");
    assert_eq!(home.left(), [] as [String; 0]);
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

/// 16.
#[test]
fn when_the_runner_is_killed_qemu_goes_with_it_and_the_next_command_says_so() {
    let home = Home::new();
    home.start("sixteen");
    let (runner, hypervisor) = home.pids("sixteen");
    kill(runner);
    let took = until(Duration::from_secs(1), "QEMU has gone", || {
        !lives(hypervisor)
    });
    println!("QEMU went {took:?} after its runner");
    // A process that is being killed may hold its lock for a moment longer, and so long counts as alive.
    until(SOON, "the runner has gone", || !lives(runner));
    let listed = home.ok("ls --all");
    assert!(
        listed
            .error()
            .contains("machine sixteen has failed: its runner"),
        "{listed}"
    );
    let info = home.info("sixteen");
    assert_eq!(info["state"], "failed", "{info}");
    assert!(
        info["reason"]
            .as_str()
            .is_some_and(|r| r.contains(&runner.to_string())),
        "{info}"
    );
}

/// 16, while a command runs: its caller is told what happened, and not that the command failed.
#[test]
fn a_command_whose_machine_dies_under_it_fails_as_a_fault_of_the_machine() {
    let home = Home::new();
    home.start("sixteen");
    for victim in ["runner", "hypervisor"] {
        let words = "exec sixteen --format json -- sh -c"
            .split(' ')
            .chain(["echo up; exec sleep 1000"]);
        let mut exec = home.call(words).start();
        exec.says("up");
        let (runner, hypervisor) = home.pids("sixteen");
        kill(if victim == "runner" {
            runner
        } else {
            hypervisor
        });
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
