//! A workflow and its machine: how many there are, whose they are, and that they are taken once and given back once. Shown
//! by what steps see of their machine, not by what vmint says of it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;
use vmint_tests::processes::lives;
use vmint_tests::{Home, Project, Record, Started, until};

const SOON: Duration = Duration::from_secs(60);

/// Each of set-up, steps and clean-up leaves a line in the tmpfs of its machine with the machine's own name for itself, and
/// clean-up shows them all.
const MARKING: &str = r#"
setup = '''
cat /proc/sys/kernel/random/boot_id >/run/of-set-up
echo "mark set-up $(cat /proc/sys/kernel/random/boot_id)" >>/run/marks
'''
cleanup = '''
stat -f -c 'marks are in %T' /run
echo "mark clean-up $(cat /proc/sys/kernel/random/boot_id)" >>/run/marks
cat /run/marks
'''
"#;

/// A workflow with one job and `count` steps that leave their marks; the first of them does `first`, too.
fn marking(count: usize, first: &str) -> String {
    let mut text = "on: push\njobs:\n  only:\n    runs-on: ubuntu-latest\n    steps:\n".to_owned();
    for number in 1..=count {
        let first = if number == 1 { first } else { "true" };
        let _ = write!(
            text,
            "      - name: step {number}
        run: |
          echo \"mark {number} $(cat /proc/sys/kernel/random/boot_id)\" >>/run/marks
          echo \"set up in $(cat /run/of-set-up)\"
          echo \"session $(cat /run/vmint/session)\"
          {first}
"
        );
    }
    text
}

/// The one machine of a run with one job of `count` marking steps, as its guest names it; all that was executed must have
/// been there.
#[track_caller]
fn one_machine(home: &Home, record: &Record, count: usize) -> String {
    let log = record.log(home, "only", "Complete job");
    assert!(log.contains("marks are in tmpfs"), "{log}");
    let marks: Vec<_> = log
        .lines()
        .filter_map(|line| line.strip_prefix("mark ")?.split_once(' '))
        .collect();
    let boot = marks.first().map(|(_, boot)| *boot).unwrap_or_default();
    assert_eq!(boot.len(), 36, "no mark: {log}");
    let mut expected = vec!["set-up".to_owned()];
    expected.extend((1..=count).map(|number| number.to_string()));
    expected.push("clean-up".to_owned());
    let expected: Vec<_> = expected.iter().map(|name| (name.as_str(), boot)).collect();
    assert_eq!(marks, expected, "{log}");
    for number in 1..=count {
        let log = record.log(home, "only", &format!("step {number}"));
        let set_up = format!("set up in {boot}");
        assert!(log.lines().any(|line| line == set_up), "{log}");
        let session = log.lines().find_map(|line| line.strip_prefix("session "));
        let session = session.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let run = session.as_ref().map(|session| &session["run"]);
        assert_eq!(run, Some(&record.id().into()), "{log}");
    }
    // What vmint says agrees with it.
    let [machine] = record.machines() else {
        panic!("{:#}", record.0);
    };
    assert_eq!(machine["boot_id"], boot, "{machine}");
    assert_eq!(machine["executions"], count + 2, "{machine}");
    boot.to_owned()
}

/// What befell leases, from all events: how often each was taken, and how often it ended.
fn acquires_and_releases(home: &Home) -> Vec<(String, usize, usize)> {
    let events = home.ok("events --format json").values();
    let of_slots = || events.iter().filter(|event| event["of"] == "slot");
    let leases: BTreeSet<_> = of_slots().filter_map(|e| e["lease"].as_str()).collect();
    let count = |lease: &str, key: &str| {
        let mut events = of_slots().collect::<Vec<_>>();
        events.retain(|event| event["lease"] == lease && event[key] == "leased");
        events.len()
    };
    let count = |lease: &str| (lease.to_owned(), count(lease, "to"), count(lease, "from"));
    let told: Vec<_> = leases.into_iter().map(count).collect();
    let kept: BTreeSet<_> = home.column("SELECT id FROM leases").into_iter().collect();
    assert_eq!(
        told.iter().map(|l| l.0.clone()).collect::<BTreeSet<_>>(),
        kept
    );
    told
}

/// Every lease was taken once and has ended once; there were so many.
#[track_caller]
fn taken_and_given_back(home: &Home, count: usize) -> Vec<String> {
    let leases = acquires_and_releases(home);
    assert!(
        leases.len() == count && leases.iter().all(|lease| (lease.1, lease.2) == (1, 1)),
        "expected {count} leases, each taken once and given back once: {leases:?}"
    );
    let held = home.column("SELECT id FROM leases WHERE ended_at_ms IS NULL");
    assert_eq!(held, [] as [String; 0]);
    leases.into_iter().map(|lease| lease.0).collect()
}

fn lent(home: &Home) -> Vec<String> {
    home.column("SELECT machine FROM leases WHERE ended_at_ms IS NULL ORDER BY machine")
}

#[track_caller]
fn one_run(count: usize) {
    let home = Home::new();
    let project = Project::with(MARKING, &marking(count, "true"));
    let ran = project.run(&home, "ci").ok();
    one_machine(&home, &ran.record, count);
    taken_and_given_back(&home, 1);
    home.empties(SOON);
}

#[test]
fn set_up_five_steps_and_clean_up_are_in_one_machine() {
    one_run(5);
}

#[test]
fn set_up_ten_steps_and_clean_up_are_in_one_machine() {
    one_run(10);
}

#[test]
fn three_workflows_at_once_have_three_machines_and_see_nothing_of_each_other() {
    let home = Home::new();
    let project = Project::new(MARKING);
    let sizes = [("five", 5), ("three", 3), ("seven", 7)];
    let start = |&(name, count): &(&str, usize)| {
        // Nobody leaves before all have come.
        let meets = format!(
            "touch /run/only-{name}; name={name}; echo met-$name; until [ -e /run/go ]; do sleep 0.1; done; ls -d /run/only-*"
        );
        project.workflow(name, &marking(count, &meets));
        project.start(&home, name)
    };
    let mut started: Vec<_> = sizes.iter().map(start).collect();
    for (run, (name, _)) in started.iter_mut().zip(sizes) {
        run.says(&format!("met-{name}"));
    }
    let machines = lent(&home);
    assert_eq!(machines.len(), 3, "{machines:?}");
    let seen = machines
        .iter()
        .map(|machine| home.sh(machine, "ls -d /run/only-*"));
    let seen: BTreeSet<_> = seen.collect();
    let each = ["/run/only-five", "/run/only-seven", "/run/only-three"];
    assert_eq!(seen, each.map(str::to_owned).into());
    for machine in &machines {
        home.sh(machine, "touch /run/go");
    }
    let ended: Vec<_> = started.into_iter().map(|run| run.finish().ok()).collect();
    let boots = ended.iter().zip(sizes).map(|(outcome, (name, count))| {
        let record = project.record_of(&home, outcome);
        let log = record.log(&home, "only", "step 1");
        let all: Vec<_> = log
            .lines()
            .filter(|l| l.starts_with("/run/only-"))
            .collect();
        assert_eq!(all, [format!("/run/only-{name}")], "{log}");
        one_machine(&home, &record, count)
    });
    let boots: BTreeSet<_> = boots.collect();
    assert_eq!(boots.len(), 3, "{boots:?}");
    taken_and_given_back(&home, 3);
}

/// Waits in its first step until it may go on.
const HELD: &str = "held=held; echo is-$held; until [ -e /run/go ]; do sleep 0.1; done";

#[track_caller]
fn held(project: &Project, home: &Home, args: &str) -> (Started, String) {
    let mut run = project.start(home, args);
    run.says("is-held");
    let [machine] = &lent(home)[..] else {
        panic!("{:?}", lent(home));
    };
    (run, machine.clone())
}

/// A second release changes nothing, and says so.
#[track_caller]
fn released_already(home: &Home, lease: &str) {
    let again = home.vmint(&format!("lease release {lease}")).exits(1);
    assert!(again.error().contains("it was released"), "{again}");
}

#[test]
fn of_two_in_sequence_the_first_leaves_neither_process_nor_disk_nor_socket_to_the_second() {
    let home = Home::new();
    let project = Project::with(MARKING, &marking(2, HELD));
    let (run, machine) = held(&project, &home, "ci");
    let (runner, hypervisor) = home.pids(&machine);
    let (folder, sockets) = (home.folder(&machine), home.sockets());
    assert!(lives(runner) && lives(hypervisor) && folder.is_dir() && !sockets.is_empty());
    home.sh(&machine, "touch /run/go");
    let first = project.record_of(&home, &run.finish().ok());
    home.empties(SOON);
    // Their command lines go a moment before they do.
    until(SOON, "its runner and its QEMU have ended", || {
        !lives(runner) && !lives(hypervisor)
    });
    assert!(!folder.exists() && sockets.iter().all(|socket| !socket.exists()));
    let leases = taken_and_given_back(&home, 1);
    let (run, second) = held(&project, &home, "ci");
    assert_ne!(second, machine);
    // Given back once more while another has a machine, it takes nothing from that one.
    released_already(&home, &leases[0]);
    assert_eq!(lent(&home), [second.as_str()]);
    home.sh(&second, "touch /run/go");
    let second = project.record_of(&home, &run.finish().ok());
    assert_ne!(
        one_machine(&home, &first, 2),
        one_machine(&home, &second, 2)
    );
    taken_and_given_back(&home, 2);
    home.empties(SOON);
    for lease in acquires_and_releases(&home) {
        released_already(&home, &lease.0);
    }
    taken_and_given_back(&home, 2);
}

#[test]
fn a_pool_s_machine_is_fresh_for_the_second_of_two() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 1 --max 1");
    let leaves = "test ! -e /run/left; test ! -e /root/left; touch /run/left /root/left";
    let project = Project::with(MARKING, &marking(3, leaves));
    let run = || {
        let record = project.run(&home, "ci --pool p").ok().record;
        let boot = one_machine(&home, &record, 3);
        (boot, record.machines()[0]["machine"].clone())
    };
    let (first, second) = (run(), run());
    assert_ne!(first.0, second.0);
    assert_eq!(first.1, second.1, "the machine was not reset but replaced");
    taken_and_given_back(&home, 2);
}

#[test]
fn fifty_workflows_never_have_a_third_machine_of_a_pool_of_two() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 0 --max 2");
    let only = "test ! -e /run/taken; touch /run/taken";
    let project = Project::with("", &marking(1, only));
    let call = |_| {
        let call = project.vmint(&home, "workflow run ci --pool p --quiet");
        call.deadline(Duration::from_secs(280)).start()
    };
    let started: Vec<_> = (0..50).map(call).collect();
    let (mut most, mut waited) = (0, 0);
    while started.iter().any(|call| !call.has_ended()) {
        most = most.max(lent(&home).len());
        waited = waited.max(home.column("SELECT lease FROM waiters").len());
        let slots = home.column("SELECT machine FROM slots");
        assert!(slots.len() <= 2, "{slots:?}");
        // By their machines: a runner that is starting a QEMU is shown twice for a moment.
        let processes = home.processes();
        let runners = processes.iter().filter(|p| p.is_runner());
        let machines: BTreeSet<_> = runners.filter_map(|p| p.argv.last()).collect();
        assert!(machines.len() <= 2, "{machines:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("at most {most} machines were lent while at most {waited} waited");
    assert!((1..=2).contains(&most) && waited > 10, "{most}, {waited}");
    for call in started {
        call.finish().ok();
    }
    taken_and_given_back(&home, 50);
}

#[test]
fn who_does_not_wait_is_told_and_who_waits_is_let_in_after_a_release() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 0 --max 2");
    let project = Project::with(MARKING, &marking(1, "true"));
    let own = std::process::id();
    let acquire = || home.json(&format!("lease acquire p --owner-pid {own}"));
    let leases = [acquire(), acquire()];
    let refused = |flag: &str, kind: &str, words: &str| {
        let ran = project.run(&home, &format!("ci --pool p {flag}"));
        let ran = ran.ends("fault", 125);
        let fault = &ran.record.0["end"]["fault"];
        assert_eq!(fault["kind"], kind, "{}", ran.outcome);
        assert!(fault.to_string().contains(words), "{fault}");
        assert_eq!(ran.record.machines(), [] as [Value; 0]);
        // Of the workflow nothing is said.
        assert_eq!(ran.record.job("only")["outcome"], Value::Null);
    };
    refused("--no-wait", "refused", "2 of at most 2");
    refused("--wait 300ms", "timed_out", "within 0.3 s");
    let waiting = project.start(&home, "ci --pool p");
    until(SOON, "it stands in line", || {
        home.column("SELECT lease FROM waiters").len() == 1
    });
    assert!(!waiting.has_ended());
    let id = leases[0]["lease"].as_str().expect("a lease");
    home.ok(&format!("lease release {id}"));
    let record = project.record_of(&home, &waiting.finish().ok());
    one_machine(&home, &record, 1);
    assert_eq!(
        lent(&home),
        [leases[1]["machine"].as_str().expect("a machine")]
    );
}

/// Jobs as `name: extra lines of the job; script of its one step`.
fn jobs(jobs: &[(&str, &str, &str)]) -> String {
    let mut text = "on: push\njobs:\n".to_owned();
    for (name, extra, script) in jobs {
        let _ = writeln!(text, "  {name}:\n    runs-on: ubuntu-latest");
        for line in extra.lines() {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "    steps:\n      - name: step\n        run: |");
        for line in script.lines() {
            let _ = writeln!(text, "          {line}");
        }
    }
    text
}

const BOOT: &str = "echo boot $(cat /proc/sys/kernel/random/boot_id)\n";

/// What the step of a job says of its machine.
#[track_caller]
fn boot(home: &Home, record: &Record, job: &str) -> String {
    let log = record.log(home, job, "step");
    let boot = log.lines().find_map(|line| line.strip_prefix("boot "));
    boot.unwrap_or_else(|| panic!("no boot id: {log}"))
        .to_owned()
}

/// The machine among those that are lent that a job has left its mark in.
#[track_caller]
fn machine_of(home: &Home, mark: &str) -> String {
    let has = |machine: &String| {
        let line = format!("exec {} -- test -e {mark}", home.handle(machine));
        home.vmint(&line).code == Some(0)
    };
    let found = lent(home).into_iter().find(has);
    found.unwrap_or_else(|| panic!("no machine has {mark}"))
}

#[test]
fn with_a_machine_per_job_those_that_need_nothing_overlap_and_others_wait() {
    let home = Home::new();
    let meets = |name: &str| {
        format!(
            "{BOOT}touch /run/{name}; n={name}; echo met-$n; until [ -e /run/go ]; do sleep 0.1; done; ls /run"
        )
    };
    let last = format!("{BOOT}ls /run");
    let text = jobs(&[
        ("one", "", &meets("of-one")),
        ("two", "", &meets("of-two")),
        ("last", "needs: [one, two]", &last),
    ]);
    let project = Project::with("", &text);
    let mut run = project.start(&home, "ci --machine-per job");
    run.says("met-of-one");
    run.says("met-of-two");
    // Both are in their steps, and who needs them has no machine.
    assert_eq!(lent(&home).len(), 2);
    for mark in ["/run/of-one", "/run/of-two"] {
        let machine = machine_of(&home, mark);
        home.sh(&machine, "touch /run/go");
    }
    let record = project.record_of(&home, &run.finish().ok());
    let boots = ["one", "two", "last"].map(|job| boot(&home, &record, job));
    let different: BTreeSet<_> = boots.iter().collect();
    assert_eq!(different.len(), 3, "{boots:?}");
    for (job, marks) in [("one", 1), ("two", 1), ("last", 0)] {
        let log = record.log(&home, job, "step");
        let seen = log.lines().filter(|line| line.starts_with("of-")).count();
        assert_eq!(seen, marks, "what is another's is seen in {job}: {log}");
    }
    for machine in record.machines() {
        assert_eq!(machine["executions"], 3, "{machine}");
    }
    taken_and_given_back(&home, 3);
}

/// How many machines are lent at most, seen from outside for as long as a run lasts.
fn most_lent(home: &Home, run: &Started) -> usize {
    let mut most = 0;
    while !run.has_ended() {
        most = most.max(lent(home).len());
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}

#[test]
fn jobs_with_machines_of_their_own_stay_within_what_workflows_may_have() {
    let home = Home::new();
    let strategy = "strategy:\n  matrix:\n    n: [1, 2, 3, 4, 5]";
    let project = Project::with(
        "max = 2",
        &jobs(&[("a", strategy, &format!("{BOOT}sleep 0.5"))]),
    );
    let run = project.start(&home, "ci --machine-per job");
    let most = most_lent(&home, &run);
    let record = project.record_of(&home, &run.finish().ok());
    assert_eq!(most, 2);
    let boots = (1..=5).map(|n| boot(&home, &record, &format!("a ({n})")));
    let boots: BTreeSet<_> = boots.collect();
    assert_eq!(boots.len(), 5, "{boots:?}");
    taken_and_given_back(&home, 5);
}

#[test]
fn max_parallel_is_kept() {
    let home = Home::new();
    let strategy = "strategy:\n  max-parallel: 1\n  matrix:\n    n: [1, 2, 3]";
    let project = Project::with("", &jobs(&[("a", strategy, &format!("{BOOT}sleep 0.5"))]));
    let run = project.start(&home, "ci --machine-per job");
    let most = most_lent(&home, &run);
    run.finish().ok();
    assert_eq!(most, 1);
    taken_and_given_back(&home, 3);
}

#[test]
fn the_first_of_a_matrix_to_fail_cancels_the_others() {
    let home = Home::new();
    let strategy = "strategy:\n  matrix:\n    n: [waits, fails]";
    let script = "n=${{ matrix.n }}; touch /run/$n; echo it-$n
until [ -e /run/go ]; do sleep 0.1; done
exit 3";
    let project = Project::with("", &jobs(&[("a", strategy, script)]));
    let mut run = project.start(&home, "ci --machine-per job");
    run.says("it-waits");
    run.says("it-fails");
    let machine = machine_of(&home, "/run/fails");
    home.sh(&machine, "touch /run/go");
    let record = project.record_of(&home, &run.finish().exits(1));
    assert_eq!(record.end(), "failure");
    assert_eq!(record.job("a (fails)")["outcome"], "failure");
    let waits = record.job("a (waits)");
    assert_eq!(waits["outcome"], "cancelled", "{waits:#}");
    assert!(
        waits["reason"].to_string().contains("fail-fast"),
        "{waits:#}"
    );
    assert_eq!(record.outcome("a (waits)", "step"), "cancelled");
    assert_eq!(record.outcome("a (waits)", "Complete job"), "success");
    taken_and_given_back(&home, 2);
}

#[test]
fn without_fail_fast_the_others_of_a_matrix_go_on() {
    let home = Home::new();
    let strategy = "strategy:\n  fail-fast: false\n  matrix:\n    n: [waits, fails]";
    let script = "n=${{ matrix.n }}; touch /run/$n; echo it-$n
until [ -e /run/go ]; do sleep 0.1; done
test $n = waits";
    let project = Project::with("", &jobs(&[("a", strategy, script)]));
    let mut run = project.start(&home, "ci --machine-per job");
    run.says("it-waits");
    run.says("it-fails");
    let machine = machine_of(&home, "/run/fails");
    home.sh(&machine, "touch /run/go");
    until(
        SOON,
        "the one that fails has given its machine back",
        || lent(&home).len() == 1,
    );
    let machine = machine_of(&home, "/run/waits");
    home.sh(&machine, "touch /run/go");
    let record = project.record_of(&home, &run.finish().exits(1));
    assert_eq!(record.end(), "failure");
    assert_eq!(record.job("a (fails)")["outcome"], "failure");
    assert_eq!(record.job("a (waits)")["outcome"], "success");
    taken_and_given_back(&home, 2);
}

#[test]
fn jobs_in_one_machine_find_an_empty_workspace_and_no_process_of_the_job_before() {
    let home = Home::new();
    let first = format!(
        "{BOOT}touch left .hidden; mkdir folder; touch /run/marker
sleep 12345 &
setsid sleep 12346 </dev/null >/dev/null 2>&1 &
until [ $(ps -o args | grep -c '^sleep 1234[56]') = 2 ]; do sleep 0.1; done
ls -A; ls $RUNNER_TEMP; touch $RUNNER_TEMP/left"
    );
    let second = format!(
        "{BOOT}ls -A | sed 's/^/found /'
ps -o args | grep '^sleep 1234[56]' | sed 's/^/found /'
ls $RUNNER_TEMP/left 2>/dev/null && echo found it || true
ls /run/marker"
    );
    let text = jobs(&[("first", "", &first), ("second", "needs: first", &second)]);
    let project = Project::with("", &text);
    let record = project.run(&home, "ci").ok().record;
    let log = record.log(&home, "first", "step");
    assert!(log.lines().any(|line| line == ".hidden"), "{log}");
    let log = record.log(&home, "second", "step");
    assert!(log.lines().any(|line| line == "/run/marker"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("found ")), "{log}");
    assert_eq!(
        boot(&home, &record, "first"),
        boot(&home, &record, "second")
    );
    let [machine] = record.machines() else {
        panic!("{:#}", record.0);
    };
    assert_eq!(machine["executions"], 6, "{machine}");
    taken_and_given_back(&home, 1);
}

/// Nothing of a machine was asked for.
#[track_caller]
fn nothing_ran(home: &Home) {
    assert_eq!(home.left(), [] as [String; 0]);
    let slots = home.ok("events --format json").values();
    let slots: Vec<_> = slots.iter().filter(|e| e["of"] == "slot").collect();
    assert_eq!(slots, [] as [&Value; 0]);
}

#[test]
fn jobs_that_cannot_share_a_machine_are_refused_before_anything_runs() {
    let home = Home::new();
    let text = jobs(&[("one", "", BOOT), ("two", "", BOOT)]).replacen("ubuntu-latest", "large", 1);
    let settings = "runs-on = { large = \"big\" }\n[pools.big]\nimage = \"tiny\"\nmemory = \"128M\"\nmin = 0\nmax = 1";
    let project = Project::with(settings, &text);
    let ran = project.run(&home, "ci").ends("fault", 125);
    let fault = &ran.record.0["end"]["fault"];
    assert_eq!(fault["kind"], "usage", "{fault}");
    assert!(
        fault["hint"].to_string().contains("--machine-per job"),
        "{fault}"
    );
    nothing_ran(&home);
    let record = project.run(&home, "ci --machine-per job").ok().record;
    assert_ne!(boot(&home, &record, "one"), boot(&home, &record, "two"));
    taken_and_given_back(&home, 2);
}

#[test]
fn a_label_that_stands_for_nothing_is_refused_with_what_to_do() {
    let home = Home::new();
    let text = jobs(&[("one", "", BOOT), ("two", "", BOOT)]);
    let (before, behind) = text.split_at(text.find("  two").expect("a job"));
    let text = format!(
        "{before}{}",
        behind.replace("ubuntu-latest", "[self-hosted, gpu]")
    );
    let project = Project::with("", &text);
    let outcome = project.vmint(&home, "workflow run ci --format json").run();
    let outcome = outcome.exits(125);
    let said = format!("{}{}", outcome.text(), outcome.error());
    assert!(
        said.contains("gpu") && said.contains("[workflow.runs-on]"),
        "{outcome}"
    );
    nothing_ran(&home);
}
