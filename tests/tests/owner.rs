//! When the process that owns a machine dies, by any signal, the machine is gone within a second, with all that it
//! had. Nothing here calls `vmint` again: nobody comes and clears up.

use rustix::process::Signal;
use std::time::Duration;
use vmint_tests::processes::lives;
use vmint_tests::{Home, Started, until};

/// A second is promised; this machine may have much else to do.
const A_SECOND: Duration = Duration::from_secs(3);

fn sleeping_run(home: &Home) -> Started {
    let words = "run --memory 128M -- sh -c"
        .split(' ')
        .chain(["echo up; exec sleep 1000"]);
    let mut run = home.call(words).start();
    run.says("up");
    assert_eq!(
        home.processes().len(),
        2,
        "a runner and a QEMU: {:?}",
        home.processes()
    );
    assert_eq!(
        (
            home.rows().len(),
            home.folders().len(),
            home.sockets().len()
        ),
        (1, 1, 1)
    );
    run
}

fn gone_after(signal: Signal) {
    let home = Home::new();
    let run = sleeping_run(&home);
    run.signal(signal);
    let took = home.empties(A_SECOND);
    println!("gone {took:?} after signal {}", signal.as_raw());
    let outcome = run.finish();
    assert_ne!(outcome.code, Some(0), "{outcome}");
}

#[test]
fn sigkill_takes_the_machine_along() {
    gone_after(Signal::KILL);
}

#[test]
fn sigterm_takes_the_machine_along() {
    gone_after(Signal::TERM);
}

#[test]
fn sigint_takes_the_machine_along() {
    gone_after(Signal::INT);
}

#[test]
fn sighup_takes_the_machine_along() {
    gone_after(Signal::HUP);
}

#[test]
fn sigquit_takes_the_machine_along() {
    gone_after(Signal::QUIT);
}

/// The moment at which most goes wrong: the machine is being started.
#[test]
fn a_run_killed_while_its_machine_starts_leaves_nothing() {
    let home = Home::new();
    for delay in [0, 5, 10, 20, 40, 60, 80, 120] {
        let run = home
            .call(["run", "--memory", "128M", "--", "sleep", "1000"])
            .start();
        // The delay is what is tried here, not what is waited for.
        std::thread::sleep(Duration::from_millis(delay));
        run.signal(Signal::KILL);
        run.finish();
        // What it died too early to hand over is found by the next command; a runner goes by itself.
        until(Duration::from_secs(10), "runner and QEMU have gone", || {
            home.processes().is_empty()
        });
        home.ok("ls");
        assert_eq!(home.left(), [] as [String; 0], "after {delay} ms");
    }
}

#[test]
fn a_kept_machine_outlives_its_command() {
    let home = Home::new();
    let run = home.ok("run --memory 128M --keep -- sh -c true");
    let [name] = &home.rows()[..] else {
        panic!("{:?}", home.rows())
    };
    assert!(run.error().contains(name.as_str()), "{run}");
    assert_eq!(home.sh(name, "echo here"), "here");
}

fn sleepers(home: &Home) -> String {
    home.sh("box", "ps -o args | grep 'sleep 123[45]' | wc -l")
}

#[test]
fn a_command_in_a_machine_dies_with_its_caller_and_the_machine_stays() {
    let home = Home::new();
    home.start("box");
    // No SIGINT: a shell's background jobs ignore it, and may outlive a command that it ended.
    for signal in [Signal::KILL, Signal::TERM, Signal::HUP] {
        let words = "exec box -- sh -c"
            .split(' ')
            .chain(["sleep 1234 & echo up; exec sleep 1235"]);
        let mut exec = home.call(words).start();
        exec.says("up");
        // The shell itself has both words in its arguments until it becomes the second.
        until(A_SECOND, "both run", || sleepers(&home) == "2");
        exec.signal(signal);
        until(
            A_SECOND,
            "the command and its child are dead in the guest",
            || sleepers(&home) == "0",
        );
        let outcome = exec.finish();
        assert_ne!(outcome.code, Some(0), "{signal:?}: {outcome}");
    }
    let (runner, hypervisor) = home.pids("box");
    assert!(lives(runner) && lives(hypervisor));
}
