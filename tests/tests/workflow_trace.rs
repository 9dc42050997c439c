//! `vmint logs RUN --trace`: what a run does and waits for, of runs that hang, on real machines.

use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use vmint_tests::processes::signal;
use vmint_tests::project::TINY;
use vmint_tests::wait::{patient, until, until_some};
use vmint_tests::{Home, Outcome, Project};

const HANGS: &str = r#"
name: hangs
on: push
jobs:
  build:
    name: Build tr0ub4dor
    runs-on: ubuntu-latest
    steps:
      - run: echo done with the first
      - name: Waits for tr0ub4dor
        env: {ONE: "${{ secrets.ONE }}"}
        run: 'echo here it hangs; sleep 3600'
"#;

/// What a trace says at its end: what is under way.
fn standing(outcome: &Outcome) -> Vec<String> {
    let text = outcome.text();
    let head = text.lines().position(|line| line.contains("under way"));
    let Some(head) = head else { return Vec::new() };
    let lines = text.lines().skip(head);
    lines.map(|line| line.trim().to_owned()).collect()
}

/// While it runs, after it was killed, and as JSON; without its secret.
#[test]
fn a_step_that_hangs_is_what_the_trace_ends_with_while_it_runs_and_after_it_was_killed() {
    let home = Home::new();
    let project = Project::with(TINY, HANGS);
    let mut started = project
        .call(&home, "workflow run ci --secret ONE".split(' '))
        .env("ONE", "tr0ub4dor")
        .start();
    started.says("here it hangs");
    let found = || {
        let outcome = home.ok("logs latest --trace");
        let chain = standing(&outcome);
        let is_in_it = chain
            .last()
            .is_some_and(|line| line.starts_with("command `"));
        (is_in_it && chain.iter().any(|line| line.starts_with("step 3"))).then_some(outcome)
    };
    let (running, _) = until_some(
        patient(Duration::from_secs(60)),
        "it is in its command",
        found,
    );
    let chain = standing(&running);
    assert_eq!(chain.len(), 5, "{running}");
    assert!(
        chain[0].starts_with("under way, the last since "),
        "{running}"
    );
    let expected = ["run hangs", "job build", "step 3 Waits for ***"];
    assert_eq!(chain[1..4], expected, "{running}");
    assert!(chain[4].starts_with("command `"), "{running}");
    assert!(chain[4].contains("for at most "), "{running}");
    let text = running.text();
    for line in [
        "wait for a machine of image",
        "step 2 Run echo",
        ": success after ",
    ] {
        assert!(text.contains(line), "{line}: {running}");
    }
    signal(started.pid(), Signal::KILL);
    drop(started.finish());
    home.ok("ls");
    let killed = home.ok("logs latest --trace --follow");
    let chain = standing(&killed);
    assert_eq!(chain.len(), 5, "{killed}");
    assert_eq!(chain[0], "cut off while under way:", "{killed}");
    assert_eq!(chain[1..4], expected, "{killed}");
    let events = home.ok("logs latest --trace --format json");
    let values = events.values();
    let of = |doing: &str| -> Vec<&Value> {
        values
            .iter()
            .filter(|event| event["doing"] == doing)
            .collect()
    };
    assert_eq!(of("run").len(), 1, "it began and did not end: {events}");
    assert!(of("transfer").len() >= 4, "{events}");
    for outcome in [running, killed, events] {
        assert!(!outcome.text().contains("tr0ub4dor"), "{outcome}");
    }
    let kept = vmint_tests::bytes::holding(&home.root().join("runs"), &[b"tr0ub4dor".to_vec()]);
    assert_eq!(kept, []);
}

/// A run that waits for a machine says so, and `VMINT_LOG` shows the same in the lines of the command.
#[test]
fn a_run_that_waits_for_a_machine_says_what_it_waits_for() {
    let home = Home::new();
    let project = Project::with(TINY, HANGS);
    home.ok("pool create one --image tiny --memory 128M --max 1");
    let lease = home.json("lease acquire one")["lease"].clone();
    let mut waits = project
        .call(&home, "workflow run ci --secret ONE --pool one".split(' '))
        .env("ONE", "tr0ub4dor")
        .env("VMINT_LOG", "debug")
        .start();
    until(
        patient(Duration::from_secs(60)),
        "the trace says what it waits for",
        || {
            let outcome = home.vmint("logs latest --trace");
            outcome.code == Some(0)
                && standing(&outcome)
                    .last()
                    .is_some_and(|line| line.starts_with("wait for a machine of image tiny"))
        },
    );
    home.ok(&format!("lease release {}", lease.as_str().unwrap()));
    // Its command begins a moment later: a cancellation that comes before that counts for it, too.
    waits.says("here it hangs");
    signal(waits.pid(), Signal::INT);
    let ended = waits.finish().exits(130);
    let log = ended.error();
    for line in [
        "wait for a machine of image tiny begins",
        "wait for a machine of image tiny: done",
        "step 3 Waits for ***: cancelled",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("tr0ub4dor"), "{log}");
    let trace = home.ok("logs latest --trace").text();
    assert!(
        trace.contains("command `") && trace.contains(": cancelled after "),
        "{trace}"
    );
    assert!(trace.ends_with("nothing is under way\n"), "{trace}");
}
