//! What goes wrong with workflows, and that each is told as what it is: steps that fail or take too long, users who cancel,
//! machines and processes that die. Whatever it is, the machine goes back once.

use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;
use vmint_tests::fixture::SmallDisk;
use vmint_tests::processes::{kill, lives};
use vmint_tests::{Home, Project, Record, Started, until};

const SOON: Duration = Duration::from_secs(60);
/// A second is promised; this machine may have much else to do.
const A_SECOND: Duration = Duration::from_secs(3);
/// Of `timeout-minutes`: three seconds.
const SHORT: &str = "0.05";

/// What clean-up says is only in its log when it has run in the machine.
const CLEANS_UP: &str = "cleanup = 'echo cleaned-up $(cat /run/marker)'";

/// A workflow with one job `only`, of steps as `name: further lines; script`.
fn steps(of_job: &str, steps: &[(&str, &str, &str)]) -> String {
    let mut text = "on: push\njobs:\n  only:\n    runs-on: ubuntu-latest\n".to_owned();
    for line in of_job.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text += "    steps:\n";
    for (name, extra, script) in steps {
        let _ = writeln!(text, "      - name: {name}");
        for line in extra.lines() {
            let _ = writeln!(text, "        {line}");
        }
        text += "        run: |\n";
        for line in script.lines() {
            let _ = writeln!(text, "          {line}");
        }
    }
    text
}

/// Steps that run, or not, according to how the job stands.
const ALL_ENDS: [(&str, &str, &str); 5] = [
    ("if nothing", "", "echo ran"),
    ("if success", "if: success()", "echo ran"),
    ("if failure", "if: failure()", "echo ran"),
    ("if cancelled", "if: cancelled()", "echo ran"),
    ("if always", "if: always()", "echo ran; cat /run/marker"),
];

const MARKS: (&str, &str, &str) = ("marks", "", "echo here >/run/marker");

/// The middle one, between the step that marks the machine and those of all ends.
fn ending(of_job: &str, middle: (&str, &str, &str)) -> String {
    let mut all = vec![MARKS, middle];
    all.extend(ALL_ENDS);
    steps(of_job, &all)
}

/// Of the steps of all ends these have run, and then clean-up, in the same machine.
#[track_caller]
fn these_ran(home: &Home, record: &Record, which: &[&str]) {
    for (name, ..) in ALL_ENDS {
        let outcome = record.outcome("only", name);
        let wanted = if which.contains(&name) {
            "success"
        } else {
            "skipped"
        };
        assert_eq!(outcome, wanted, "step {name:?}: {:#}", record.job("only"));
        if wanted == "success" {
            let log = record.log(home, "only", name);
            assert!(log.lines().any(|line| line == "ran"), "{log}");
        }
    }
    cleaned_up(home, record);
}

#[track_caller]
fn cleaned_up(home: &Home, record: &Record) {
    let log = record.log(home, "only", "Complete job");
    assert!(log.contains("cleaned-up here"), "{log}");
    assert_eq!(record.outcome("only", "Complete job"), "success");
}

/// Every lease has ended, as often as it began: once. There were so many.
#[track_caller]
fn given_back(home: &Home, count: usize) {
    // The runner of its machine sees an owner end a moment after everybody else.
    until(A_SECOND, "no lease is held", || lent(home).is_empty());
    let events = home.ok("events --format json").values();
    let of_slots = events.iter().filter(|event| event["of"] == "slot");
    let of = |key: &str| {
        let events = of_slots.clone().filter(|event| event[key] == "leased");
        let mut leases: Vec<_> = events.filter_map(|e| e["lease"].as_str()).collect();
        leases.sort_unstable();
        leases
    };
    let (taken, ended) = (of("to"), of("from"));
    assert_eq!((taken.len(), &taken), (count, &ended));
}

fn lent(home: &Home) -> Vec<String> {
    home.column("SELECT machine FROM leases WHERE ended_at_ms IS NULL")
}

/// Says that it is there, and waits to be told to go on; or for ever.
const HELD: (&str, &str, &str) = (
    "held",
    "",
    "held=held; echo is-$held; until [ -e /run/go ]; do sleep 0.1; done",
);

/// A run that is in its step `held`, and its machine.
#[track_caller]
fn held(project: &Project, home: &Home, args: &str) -> (Started, String) {
    let mut run = project.start(home, args);
    run.says("is-held");
    let lent = lent(home);
    let [machine] = &lent[..] else {
        panic!("{lent:?}");
    };
    (run, machine.clone())
}

#[test]
fn a_failed_step_fails_the_run_and_what_is_for_failures_runs() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", ("fails", "", "exit 3")));
    let ran = project.run(&home, "ci").ends("failure", 1);
    these_ran(&home, &ran.record, &["if failure", "if always"]);
    let step = ran.record.step("only", "fails");
    assert_eq!(step["outcome"], "failure", "{step}");
    assert_eq!(step["ended"]["kind"], "exited", "{step}");
    assert_eq!(step["ended"]["code"], 3, "{step}");
    assert_eq!(ran.record.job("only")["fault"], Value::Null);
    given_back(&home, 1);
}

#[test]
fn a_step_that_may_fail_is_shown_as_failed_and_the_run_succeeds() {
    let home = Home::new();
    let middle = ("fails", "continue-on-error: true", "exit 3");
    let project = Project::with(CLEANS_UP, &ending("", middle));
    let record = project.run(&home, "ci").ok().record;
    these_ran(&home, &record, &["if nothing", "if success", "if always"]);
    let step = record.step("only", "fails");
    assert_eq!(
        (&step["outcome"], &step["conclusion"]),
        (&"failure".into(), &"success".into())
    );
    assert_eq!(step["ended"]["code"], 3, "{step}");
    let shown = home.ok(&format!("workflow show {}", record.id())).text();
    let line = shown.lines().find(|line| line.contains(" fails "));
    assert!(line.is_some_and(|line| line.contains("failed")), "{shown}");
    given_back(&home, 1);
}

#[test]
fn a_job_that_may_fail_is_shown_as_failed_and_the_run_succeeds() {
    let home = Home::new();
    let text = ending("continue-on-error: true", ("fails", "", "exit 3"));
    let project = Project::with(CLEANS_UP, &text);
    let record = project.run(&home, "ci").ok().record;
    let job = record.job("only");
    assert_eq!(
        (&job["outcome"], &job["continue_on_error"]),
        (&"failure".into(), &true.into())
    );
    these_ran(&home, &record, &["if failure", "if always"]);
    given_back(&home, 1);
}

/// A step that no signal but `KILL` ends, with a child.
const STUBBORN: &str = "trap '' INT TERM HUP\nsleep 12345 &\nsleep 12346";
/// And a look at what is left of it.
const LEFT: (&str, &str, &str) = (
    "left",
    "if: always()",
    "ps -o args | grep '^sleep 1234[56]' | sed 's/^/left /'",
);

/// A stubborn step, then one that looks for it, then those of all ends.
fn stubborn(of_job: &str, of_step: &str) -> String {
    let mut all = vec![MARKS, ("stubborn", of_step, STUBBORN), LEFT];
    all.extend(ALL_ENDS);
    steps(of_job, &all)
}

/// The stubborn step ran past this limit, and was killed in the guest.
#[track_caller]
fn was_killed_for(home: &Home, record: &Record, whose: &str, outcome: &str) {
    let step = record.step("only", "stubborn");
    assert_eq!(step["outcome"], outcome, "{step}");
    assert_eq!(step["ended"]["kind"], "timed_out", "{step}");
    assert_eq!(step["ended"]["whose"], whose, "{step}");
    let log = record.log(home, "only", "left");
    assert!(!log.lines().any(|line| line.starts_with("left ")), "{log}");
    assert_eq!(record.outcome("only", "left"), "success", "{log}");
    assert_eq!(record.job("only")["fault"], Value::Null);
}

#[test]
fn a_step_that_takes_too_long_is_killed_in_the_guest_and_has_failed() {
    let home = Home::new();
    let text = stubborn("", &format!("timeout-minutes: {SHORT}"));
    let project = Project::with(CLEANS_UP, &text);
    let record = project.run(&home, "ci").ends("failure", 1).record;
    was_killed_for(&home, &record, "step", "failure");
    these_ran(&home, &record, &["if failure", "if always"]);
    given_back(&home, 1);
}

#[test]
fn a_job_that_takes_too_long_is_cancelled_and_says_why() {
    let home = Home::new();
    let text = stubborn(&format!("timeout-minutes: {SHORT}"), "");
    let project = Project::with(CLEANS_UP, &text);
    let record = project.run(&home, "ci").ends("failure", 1).record;
    was_killed_for(&home, &record, "job", "cancelled");
    these_ran(&home, &record, &["if cancelled", "if always"]);
    let job = record.job("only");
    assert_eq!(job["outcome"], "cancelled", "{job:#}");
    assert!(job["reason"].to_string().contains("time limit"), "{job:#}");
    given_back(&home, 1);
}

#[test]
fn a_workflow_that_takes_too_long_is_ended_and_says_so() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &stubborn("", ""));
    let record = project
        .run(&home, "ci --timeout 4s")
        .ends("timed_out", 1)
        .record;
    assert_eq!(record.0["end"]["limit_ms"], 4000);
    was_killed_for(&home, &record, "workflow", "cancelled");
    these_ran(&home, &record, &["if cancelled", "if always"]);
    assert_eq!(record.job("only")["outcome"], "cancelled");
    given_back(&home, 1);
}

#[track_caller]
fn cancelled_by(signal: Signal, words: &str) {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let (run, _) = held(&project, &home, "ci");
    run.signal(signal);
    let record = project.record_of(&home, &run.finish().exits(130));
    assert_eq!(record.end(), "cancelled");
    let by = record.0["end"]["by"].as_str().expect("by whom");
    assert!(by.contains(words), "{by}");
    assert_eq!(record.outcome("only", "held"), "cancelled");
    these_ran(&home, &record, &["if cancelled", "if always"]);
    assert_eq!(record.job("only")["outcome"], "cancelled");
    given_back(&home, 1);
    home.empties(SOON);
}

#[test]
fn ctrl_c_cancels_and_what_cleans_up_runs() {
    cancelled_by(Signal::INT, "Ctrl-C");
}

#[test]
fn sigterm_cancels_and_what_cleans_up_runs() {
    cancelled_by(Signal::TERM, "signal 15");
}

#[test]
fn a_second_ctrl_c_ends_what_cleans_up_too_and_gives_the_machine_back() {
    let home = Home::new();
    let hangs = (
        "hangs",
        "if: always()",
        "hangs=hangs; echo it-$hangs; sleep 12345",
    );
    let later = ("later", "if: always()", "echo ran");
    let project = Project::with(CLEANS_UP, &steps("", &[MARKS, HELD, hangs, later]));
    let (mut run, _) = held(&project, &home, "ci");
    run.signal(Signal::INT);
    run.says("it-hangs");
    run.signal(Signal::INT);
    let record = project.record_of(&home, &run.finish().exits(130));
    assert_eq!(record.end(), "cancelled");
    assert_eq!(record.outcome("only", "hangs"), "cancelled");
    assert_ne!(record.outcome("only", "later"), "success");
    let job = record.job("only");
    assert_eq!(
        (&job["outcome"], &job["fault"]),
        (&"cancelled".into(), &Value::Null),
        "{job:#}"
    );
    assert_ne!(record.outcome("only", "Complete job"), "success");
    given_back(&home, 1);
    home.empties(SOON);
}

#[test]
fn a_run_that_is_cancelled_while_it_waits_for_a_machine_has_none() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 0 --max 1");
    let own = std::process::id();
    let lease = home.json(&format!("lease acquire p --owner-pid {own}"));
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let run = project.start(&home, "ci --pool p");
    until(SOON, "it stands in line", || {
        home.column("SELECT lease FROM waiters").len() == 1
    });
    run.signal(Signal::INT);
    let record = project.record_of(&home, &run.finish().exits(130));
    assert_eq!((record.end(), record.machines()), ("cancelled", &[][..]));
    assert_eq!(home.column("SELECT lease FROM waiters"), [] as [String; 0]);
    home.ok(&format!(
        "lease release {}",
        lease["lease"].as_str().expect("a lease")
    ));
    given_back(&home, 1);
}

#[test]
fn kill_9_of_vmint_takes_its_machine_along_and_the_next_command_shows_the_run_as_abandoned() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let (run, _) = held(&project, &home, "ci");
    kill(run.pid());
    let took = home.empties(A_SECOND);
    println!("gone {took:?} after it was killed");
    run.finish();
    let runs = home.json("workflow ls");
    let [shown] = &runs.as_array().expect("an array")[..] else {
        panic!("{runs}");
    };
    assert_eq!(shown["end"]["kind"], "abandoned", "{shown:#}");
    let record = project.record(&home, "latest");
    assert_eq!(
        (record.end(), &record.0["exit_code"]),
        ("abandoned", &125.into())
    );
    assert_eq!(record.job("only")["outcome"], Value::Null);
    // What it had come to is still known.
    assert_eq!(record.outcome("only", "marks"), "success");
    assert_eq!(record.outcome("only", "held"), "none");
    given_back(&home, 1);
}

#[test]
fn kill_9_of_vmint_has_the_machine_of_its_pool_made_fresh() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let (run, machine) = held(&project, &home, "ci --pool p");
    kill(run.pid());
    until(A_SECOND, "the machine is fresh", || {
        home.column("SELECT machine FROM slots WHERE state = 'ready' AND generation = 2")
            == [machine.clone()]
    });
    run.finish();
    let look =
        "exec \"$VMINT_TEST\" exec $VMINT_MACHINE -- sh -c 'ls /run/marker 2>/dev/null; echo well'";
    let next = home.call(["with", "p", "--", "sh", "-c", look]);
    let next = next.env("VMINT_TEST", vmint_tests::call::binary());
    assert_eq!(next.run().ok().text(), "well\n");
    given_back(&home, 2);
}

/// A machine died under a step: that is told as vmint's, not as the step's failure, whatever the step may do.
#[track_caller]
fn lost(home: &Home, record: &Record, job: &str) {
    let fault = &record.0["end"]["fault"];
    let kind = fault["kind"].as_str().unwrap_or_default();
    assert!(["machine_lost", "lease_lost"].contains(&kind), "{fault}");
    let held = record.step(job, "held");
    assert_eq!(
        (&held["outcome"], &held["conclusion"]),
        (&Value::Null, &Value::Null),
        "{held}"
    );
    assert_eq!(held["ended"]["kind"], "fault", "{held}");
    let job = record.job(job);
    assert_eq!(job["outcome"], Value::Null, "{job:#}");
    assert_eq!(job["fault"]["kind"], kind, "{job:#}");
    let steps = job["steps"].as_array().expect("steps");
    let after = steps
        .iter()
        .skip_while(|step| step["name"] != "held")
        .skip(1);
    for step in after {
        assert_eq!(
            step["started_at"],
            Value::Null,
            "it ran without a machine: {step}"
        );
    }
    let shown = home.ok(&format!("workflow show {}", record.id())).text();
    let line = shown.lines().find(|line| line.contains(" held "));
    assert!(
        line.is_some_and(|line| line.contains("vmint failed")),
        "{shown}"
    );
}

#[track_caller]
fn dies_in_the_middle(victim: impl FnOnce(u32, u32) -> u32) {
    let home = Home::new();
    let (name, _, script) = HELD;
    let middle = (name, "continue-on-error: true", script);
    let mut text = ending("continue-on-error: true", middle);
    text += "  next:\n    if: always()\n    needs: only\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ran\n";
    let project = Project::with(CLEANS_UP, &text);
    let (run, machine) = held(&project, &home, "ci");
    let (runner, hypervisor) = home.pids(&machine);
    kill(victim(runner, hypervisor));
    let record = project.record_of(&home, &run.finish().exits(125));
    assert_eq!(record.end(), "fault");
    lost(&home, &record, "only");
    let next = record.job("next");
    assert_eq!(
        (&next["outcome"], &next["started_at"]),
        (&Value::Null, &Value::Null),
        "{next:#}"
    );
    home.empties(SOON);
    // A process that is ending has lost its command line, by which homes know theirs, before it is gone.
    until(A_SECOND, "runner and hypervisor have ended", || {
        !lives(runner) && !lives(hypervisor)
    });
    given_back(&home, 1);
}

#[test]
fn a_machine_whose_qemu_dies_is_told_as_lost_and_not_as_a_failure() {
    dies_in_the_middle(|_, hypervisor| hypervisor);
}

#[test]
fn a_machine_whose_runner_dies_is_told_as_lost_and_not_as_a_failure() {
    dies_in_the_middle(|runner, _| runner);
}

/// A guest that hangs cannot end what runs in it, nor say that it has.
#[test]
fn a_machine_that_hangs_does_not_hold_up_who_cancels() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let (run, machine) = held(&project, &home, "ci");
    let (_, hypervisor) = home.pids(&machine);
    vmint_tests::processes::signal(hypervisor, Signal::STOP);
    run.signal(Signal::INT);
    let record = project.record_of(&home, &run.finish().exits(125));
    assert_eq!(record.end(), "fault");
    lost(&home, &record, "only");
    home.empties(SOON);
    given_back(&home, 1);
}

#[test]
fn a_machine_that_hangs_does_not_outlast_the_limit_of_a_step() {
    let home = Home::new();
    let (name, _, script) = HELD;
    let limit = format!("timeout-minutes: {SHORT}");
    let project = Project::with(CLEANS_UP, &ending("", (name, &limit, script)));
    let (run, machine) = held(&project, &home, "ci");
    let (_, hypervisor) = home.pids(&machine);
    vmint_tests::processes::signal(hypervisor, Signal::STOP);
    let record = project.record_of(&home, &run.finish().exits(125));
    assert_eq!(record.end(), "fault");
    lost(&home, &record, "only");
    home.empties(SOON);
    given_back(&home, 1);
}

/// What a step does to its own machine is still no exit of the step.
#[test]
fn a_step_that_powers_its_machine_off_loses_it() {
    for way in ["poweroff -f", "echo c >/proc/sysrq-trigger"] {
        let home = Home::new();
        let (name, extra, _) = HELD;
        let script = format!("sync; {way}; sleep 1000");
        let project = Project::with(CLEANS_UP, &ending("", (name, extra, &script)));
        let ran = project.run(&home, "ci").ends("fault", 125);
        lost(&home, &ran.record, "only");
        given_back(&home, 1);
        home.empties(SOON);
    }
}

#[test]
fn a_step_that_has_failed_before_its_machine_died_is_still_told_as_failed_and_the_run_as_a_fault() {
    let home = Home::new();
    let fails = ("fails", "", "exit 3");
    let (name, _, script) = HELD;
    let project = Project::with(
        CLEANS_UP,
        &steps("", &[MARKS, fails, (name, "if: always()", script)]),
    );
    let (run, machine) = held(&project, &home, "ci");
    kill(home.pids(&machine).1);
    let record = project.record_of(&home, &run.finish().exits(125));
    assert_eq!(record.outcome("only", "fails"), "failure");
    lost(&home, &record, "only");
    given_back(&home, 1);
}

/// Whenever vmint dies, its machine is nobody's, and no run runs on in what is shown.
#[test]
fn a_run_killed_at_any_moment_holds_no_machine_and_is_not_shown_as_running() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    for delay in [0, 20, 60, 120, 250, 400, 600, 900] {
        let run = project.start(&home, "ci");
        // The delay is what is tried here, not what is waited for.
        std::thread::sleep(Duration::from_millis(delay));
        kill(run.pid());
        run.finish();
        until(
            SOON,
            "its machine is gone, or was never lent and is there for the next",
            || {
                // A slot whose maker died before there was a machine is freed by the next command, of any kind.
                home.ok("ls --all");
                home.column("SELECT machine FROM slots WHERE state <> 'ready' OR uses > 0")
                    .is_empty()
            },
        );
        assert!(home.rows().len() <= 1, "{:?}", home.rows());
        let runs = home.json("workflow ls");
        for run in runs.as_array().expect("an array") {
            assert_eq!(run["end"]["kind"], "abandoned", "after {delay} ms: {run:#}");
        }
        let held = lent(&home);
        assert_eq!(held, [] as [String; 0], "after {delay} ms");
    }
}

#[test]
fn the_death_of_one_jobs_machine_leaves_the_others_alone() {
    let home = Home::new();
    let mut text = ending("", HELD);
    text += "  other:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          o=other; touch /run/other; echo the-$o; until [ -e /run/go ]; do sleep 0.1; done\n";
    let project = Project::with(CLEANS_UP, &text);
    let mut run = project.start(&home, "ci --machine-per job");
    run.says("is-held");
    run.says("the-other");
    let (others, mine): (Vec<_>, Vec<_>) = lent(&home).into_iter().partition(|machine| {
        home.vmint(&format!(
            "exec {} -- test -e /run/other",
            home.handle(machine)
        ))
        .code
            == Some(0)
    });
    assert_eq!((others.len(), mine.len()), (1, 1));
    let (_, hypervisor) = home.pids(&mine[0]);
    kill(hypervisor);
    until(SOON, "the machine of the one is gone", || {
        lent(&home) == others
    });
    home.sh(&others[0], "touch /run/go");
    let record = project.record_of(&home, &run.finish().exits(125));
    lost(&home, &record, "only");
    assert_eq!(record.job("other")["outcome"], "success");
    given_back(&home, 2);
}

/// A run of a concurrency group, which is held in its step.
fn grouped(cancels: &str) -> String {
    let text = ending("", HELD);
    format!("concurrency:\n  group: deploy\n  cancel-in-progress: {cancels}\n{text}")
}

#[test]
fn of_a_concurrency_group_one_runs_the_newest_waits_and_one_between_is_replaced() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &grouped("false"));
    let (first, machine) = held(&project, &home, "ci");
    let mut second = project.start(&home, "ci");
    second.says("waiting for run");
    let mut third = project.start(&home, "ci");
    third.says("waiting for run");
    let replaced = second.finish().exits(130);
    let record = project.record_of(&home, &replaced);
    assert_eq!(
        (record.end(), record.machines()),
        ("cancelled", &[][..]),
        "{replaced}"
    );
    assert!(
        record.0["end"]["by"].to_string().contains("newer"),
        "{:#}",
        record.0["end"]
    );
    // Another group is nobody's concern.
    let other = grouped("false")
        .replace("deploy", "other")
        .replace("until [ -e", "true || until [ -e");
    project.workflow("other", &other);
    project.run(&home, "other").ok();
    assert!(!third.has_ended());
    assert_eq!(lent(&home), [machine.as_str()]);
    home.sh(&machine, "touch /run/go");
    first.finish().ok();
    third.says("is-held");
    let machine = lent(&home).pop().expect("the third has one");
    home.sh(&machine, "touch /run/go");
    third.finish().ok();
    given_back(&home, 3);
}

#[test]
fn a_newer_run_of_a_group_cancels_the_one_in_progress_and_waits_for_its_end() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &grouped("true"));
    let (first, old) = held(&project, &home, "ci");
    let (second, new) = held_after(&project, &home, &first);
    assert_ne!(old, new);
    let record = project.record_of(&home, &first.finish().exits(130));
    assert_eq!(record.end(), "cancelled");
    let newer = project.record(&home, "latest");
    let by = record.0["end"]["by"].as_str().unwrap_or_default();
    assert!(by.contains(newer.id()), "{by:?} is not {}", newer.id());
    these_ran(&home, &record, &["if cancelled", "if always"]);
    home.sh(&new, "touch /run/go");
    second.finish().ok();
    given_back(&home, 2);
}

/// Starts another run, which must not have a machine before the first has given its own back.
#[track_caller]
fn held_after(project: &Project, home: &Home, first: &Started) -> (Started, String) {
    let mut second = project.start(home, "ci");
    until(SOON, "the first has ended", || {
        assert!(lent(home).len() <= 1, "both have a machine");
        first.has_ended()
    });
    second.says("is-held");
    let machine = lent(home).pop().expect("the second has one");
    (second, machine)
}

#[test]
fn a_dead_member_of_a_group_holds_nobody_up() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &grouped("false"));
    let (first, _) = held(&project, &home, "ci");
    let mut second = project.start(&home, "ci");
    second.says("waiting for run");
    kill(first.pid());
    first.finish();
    second.says("is-held");
    let machine = lent(&home).pop().expect("the second has one");
    home.sh(&machine, "touch /run/go");
    second.finish().ok();
    given_back(&home, 2);
}

#[test]
fn a_run_whose_logs_find_no_room_is_not_told_as_a_failure_of_its_steps() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(home.root().join("runs"), 1 << 20) else {
        return;
    };
    // More than any buffer holds, after the disk is full.
    let (name, extra, script) = HELD;
    let script = format!("{script}\nseq 1 100000");
    let project = Project::with("", &steps("", &[MARKS, (name, extra, &script)]));
    let (run, machine) = held(&project, &home, "ci");
    disk.fill(0);
    home.sh(&machine, "touch /run/go");
    let outcome = run.finish().exits(125);
    assert!(
        outcome.error().contains("cannot write the log"),
        "{outcome}"
    );
    let record = project.record_of(&home, &outcome);
    assert_eq!(record.end(), "fault");
    assert_eq!(record.outcome("only", "held"), "none");
    assert_eq!(record.job("only")["outcome"], Value::Null);
    given_back(&home, 1);
    home.empties(SOON);
}

#[test]
fn a_run_that_finds_no_room_for_its_folder_takes_no_machine() {
    let home = Home::new();
    std::fs::write(home.root().join("runs"), "no folder").expect("a home can be written");
    let project = Project::with("", &steps("", &[MARKS]));
    let outcome = project.vmint(&home, "workflow run ci --format json").run();
    let message = outcome.fault(125, "host");
    assert!(message.contains("cannot make"), "{message}");
    given_back(&home, 0);
}

/// The store refuses from some moment on what is known of runs, and nothing else.
#[test]
fn a_run_whose_record_cannot_be_kept_goes_on_and_says_so() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let (run, machine) = held(&project, &home, "ci");
    for moment in ["INSERT", "UPDATE"] {
        home.sql(&format!(
            "CREATE TRIGGER no_{moment} BEFORE {moment} ON runs BEGIN SELECT RAISE(ABORT, 'no room'); END"
        ));
    }
    home.sh(&machine, "touch /run/go");
    let outcome = run.finish().exits(125);
    assert!(
        outcome.error().contains("record could not be kept"),
        "{outcome}"
    );
    assert!(outcome.text().contains("succeeded after"), "{outcome}");
    for moment in ["INSERT", "UPDATE"] {
        home.sql(&format!("DROP TRIGGER no_{moment}"));
    }
    // What is kept does not claim that it succeeded.
    let record = project.record(&home, "latest");
    assert_eq!(record.end(), "abandoned");
    given_back(&home, 1);
    home.empties(SOON);
}

#[test]
fn a_run_that_runs_is_shown_and_not_removed() {
    let home = Home::new();
    let project = Project::with(CLEANS_UP, &ending("", HELD));
    let (run, machine) = held(&project, &home, "ci");
    let record = project.record(&home, "latest");
    assert_eq!(
        (record.end(), &record.0["exit_code"]),
        ("running", &Value::Null)
    );
    assert_eq!(record.outcome("only", "marks"), "success");
    let id = record.id().to_owned();
    let refused = home.vmint(&format!("workflow rm {id}")).exits(1);
    assert!(refused.error().contains("still runs"), "{refused}");
    home.sh(&machine, "touch /run/go");
    run.finish().ok();
    let ended = project.record(&home, &id[..5]);
    assert_eq!((ended.id(), ended.end()), (id.as_str(), "success"));
    let runs = home.json("workflow ls");
    assert_eq!(
        (&runs[0]["id"], &runs[0]["exit_code"]),
        (&id.as_str().into(), &0.into())
    );
    assert!(home.root().join("runs").join(&id).is_dir());
    home.ok(&format!("workflow rm {id}"));
    assert!(!home.root().join("runs").join(&id).exists());
    let gone = home.vmint(&format!("workflow show {id} --format json"));
    gone.fault(3, "not_found");
    assert_eq!(home.json("workflow ls"), serde_json::json!([]));
}
