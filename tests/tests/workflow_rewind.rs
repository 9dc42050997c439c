//! Back to the moment before a step: shells in it, runs that go on from it, and what becomes of the snapshots.

use serde_json::Value;
use std::fs;
use vmint_tests::project::TINY;
use vmint_tests::{Home, Outcome, Project};

/// Two jobs that succeed and fail, and one that is not reached. What is in memory tells what has run, and how often.
const WORKFLOW: &str = r#"
on: push
jobs:
  before:
    runs-on: ubuntu-latest
    outputs: {word: "${{ steps.s.outputs.word }}"}
    steps:
      - id: s
        run: |
          mkdir -p /run/marks
          echo word=of-before >>"$GITHUB_OUTPUT"
          echo before >>/run/marks/ran
  test:
    needs: before
    runs-on: ubuntu-latest
    env: {LEVEL: job}
    steps:
      - id: make
        run: |
          mkdir -p "$GITHUB_WORKSPACE/sub dir" /run/marks
          echo make >>/run/marks/ran
          cat /proc/sys/kernel/random/boot_id >/run/marks/boot
          echo made=1,2 >>"$GITHUB_OUTPUT"
          echo ADDED='a b' >>"$GITHUB_ENV"
          echo /opt/added >>"$GITHUB_PATH"
          word=hidden-$(echo by)-the-step
          echo "::add-mask::$word"
          sleep 100000 >/dev/null 2>&1 &
          echo $! >/run/marks/pid
      - id: breaks
        name: "The one: that breaks"
        working-directory: sub dir
        env: {OWN: "${{ steps.make.outputs.made }}"}
        run: |
          echo breaks >>/run/marks/ran
          exit 7
      - {id: last, run: echo last >>/run/marks/ran}
      - {id: always, if: always(), run: echo always >>/run/marks/ran}
  later:
    needs: [test, before]
    runs-on: ubuntu-latest
    steps: [{id: say, run: "echo later: ${{ needs.test.result }} ${{ needs.test.outputs.made }} ${{ needs.before.outputs.word }}; cat /run/marks/ran"}]
"#;

/// What a shell in a moment finds.
const LOOK: &str = r#"echo "$(cat /run/marks/ran | tr '\n' ' ')| $PWD | $LEVEL $ADDED $OWN | $PATH"
if [ -s /run/marks/pid ] && kill -0 "$(cat /run/marks/pid)"; then echo runs; fi"#;

fn shell(project: &Project, home: &Home, run: &str, before: &str, script: &str) -> Outcome {
    let words = [
        "workflow", "shell", run, "--before", before, "--", "sh", "-c", script,
    ];
    project.call(home, words).run()
}

/// What is on disk of snapshots and of runs.
fn kept(home: &Home) -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(home.root().join(folder)).map_or(0, Iterator::count);
    (count("snapshots"), count("runs"))
}

#[test]
fn a_shell_begins_in_the_machine_as_it_was_before_a_step() {
    let home = Home::new();
    let project = Project::with(TINY, WORKFLOW);
    let ran = project.run(&home, "ci --snapshot-steps").ends("failure", 1);
    let id = ran.record.id();
    let is_of_a_run = |snapshot: &Value| {
        snapshot["name"]
            .as_str()
            .is_some_and(|name| name.starts_with(id))
    };
    assert!(
        !home
            .json("snapshot ls")
            .as_array()
            .unwrap()
            .iter()
            .any(is_of_a_run),
        "snapshots of steps are not listed with those of users"
    );
    let look = |before: &str| shell(&project, &home, "latest", before, LOOK).ok().text();
    let breaks = look("breaks");
    let (first, alive) = breaks.split_once('\n').unwrap();
    assert!(
        first.starts_with("before make | /home/runner/work/")
            && first.contains("/sub dir | job a b 1,2 | /opt/added:"),
        "memory, folder and variables are those of the moment: {first}"
    );
    assert_eq!(alive, "runs\n", "what a step has left running runs");
    for same in [
        "The one: that breaks",
        "test:breaks",
        "test:3",
        "test:the one: that breaks",
    ] {
        assert_eq!(look(same), breaks, "{same}");
    }
    let make = look("make");
    assert!(
        make.starts_with("before | ") && !make.contains("runs") && !make.contains("a b"),
        "{make}"
    );
    assert!(
        look("always").starts_with("before make breaks | "),
        "a step later"
    );
    // Without a step it is the one that failed; and a shell of its own changes nothing.
    let words = [
        "workflow",
        "shell",
        id,
        "--",
        "sh",
        "-c",
        "echo changed >>/run/marks/ran; exit 9",
    ];
    project.call(&home, words).run().exits(9);
    assert_eq!(look("breaks"), breaks);
    for (before, word) in [
        ("2", "JOB:NUMBER"),
        ("nonsense", "its steps are"),
        ("later:1", "later:1"),
    ] {
        let wrong = shell(&project, &home, "latest", before, "true").exits(125);
        assert!(
            wrong.error().contains(word) && wrong.error().contains(id),
            "{wrong}"
        );
    }
    assert!(kept(&home).0 >= 4, "{:?}", kept(&home));
    project
        .vmint(&home, &format!("workflow rm {id}"))
        .run()
        .ok();
    assert_eq!(kept(&home), (0, 0), "nothing is left on the disk");
    let gone = shell(&project, &home, id, "make", "true").exits(125);
    assert!(gone.error().contains("there is no run"), "{gone}");
}

#[test]
fn a_run_goes_on_from_a_step_with_the_edited_file_and_all_that_was_known() {
    let home = Home::new();
    let project = Project::with(TINY, WORKFLOW);
    let first = project.run(&home, "ci --snapshot-steps").ends("failure", 1);
    let edited = WORKFLOW
        .replace("exit 7", "echo \"$ADDED ${{ steps.make.outputs.made }} $OWN ${{ needs.before.outputs.word }} hidden-by-the-step\"; cat /run/marks/boot; pwd")
        .replace("    env: {LEVEL: job}", "    env: {LEVEL: job}\n    outputs: {made: \"${{ steps.make.outputs.made }}\"}");
    project.workflow("ci", &edited);
    let second = project
        .run(
            &home,
            &format!("ci --resume {} --from test:breaks", first.record.id()),
        )
        .ok();
    let text = second.said("test", "breaks");
    let (known, rest) = text.split_once('\n').unwrap();
    assert_eq!(
        known, "a b 1,2 1,2 of-before ***",
        "variables, outputs, needs and masks are known"
    );
    let boot = second.record.machines()[0]["boot_id"].as_str().unwrap();
    assert!(
        rest.starts_with(boot),
        "the very machine went on, forked: {text}, {boot}"
    );
    assert!(rest.ends_with("/sub dir\n"), "{text}");
    assert_eq!(first.record.machines()[0]["boot_id"], boot);
    let later = second.said("later", "say");
    assert!(
        later.starts_with("later: success 1,2 of-before\n"),
        "{later}"
    );
    assert!(
        later.ends_with("before\nmake\nbreaks\nlast\nalways\n"),
        "each has run once, and those before the step in the first run: {later}"
    );
    let before = second.record.job("before");
    assert_eq!(before["outcome"], "success");
    assert!(
        before["reason"].to_string().contains(first.record.id()),
        "{before}"
    );
    assert_eq!(second.record.0["resumed"]["run"], first.record.id());
    assert_eq!(second.record.machines().len(), 1);
    // And again from the same moment: the run that went on has not used it up.
    let again = project
        .run(
            &home,
            &format!("ci --resume {} --from breaks", first.record.id()),
        )
        .ok();
    assert_eq!(again.said("later", "say"), later);
    // What stands before the step has changed: that is told, for it is not run again.
    project.workflow("ci", &edited.replace("echo make", "echo other"));
    let args = format!("ci --resume {} --from breaks", first.record.id());
    let changed = project.run(&home, &args).ok();
    let notes = changed.record.0["notes"].to_string();
    assert!(
        notes.contains("not run again") && notes.contains("2 (Run mkdir"),
        "{notes}"
    );
    let none = project
        .vmint(
            &home,
            &format!(
                "workflow run ci --resume {} --from later:say",
                first.record.id()
            ),
        )
        .run()
        .exits(125);
    assert!(
        none.error().contains("no snapshot") || none.error().contains("has no step"),
        "{none}"
    );
    for run in home.json("workflow ls").as_array().unwrap() {
        project
            .vmint(
                &home,
                &format!("workflow rm {}", run["id"].as_str().unwrap()),
            )
            .run()
            .ok();
    }
    assert_eq!(kept(&home), (0, 0));
}

#[test]
fn a_failure_is_kept_if_asked_and_a_success_is_not() {
    let home = Home::new();
    let project = Project::with(TINY, WORKFLOW);
    project
        .run(&home, "ci --keep-on-failure")
        .ends("failure", 1);
    assert_eq!(kept(&home), (1, 1));
    let words = [
        "workflow",
        "shell",
        "latest",
        "--",
        "sh",
        "-c",
        "cat /run/marks/ran",
    ];
    let text = project.call(&home, words).run().ok().text();
    assert!(
        text.starts_with("before\nmake\nbreaks\n"),
        "as it was when the step had failed: {text}"
    );
    project.workflow("ci", &WORKFLOW.replace("exit 7", "true"));
    project.run(&home, "ci --keep-on-failure").ok();
    assert_eq!(kept(&home), (1, 2), "a run that succeeds keeps nothing");
}

#[test]
fn snapshots_of_steps_go_with_age_with_room_and_with_their_run() {
    let home = Home::new();
    // So much that three of them do not fit into the least quota that there may be.
    let large = WORKFLOW.replace(
        "echo make",
        "head -c 30000000 /dev/urandom >/run/noise; echo make",
    );
    let project = Project::with(TINY, &large);
    let ran = project.run(&home, "ci --snapshot-steps").ends("failure", 1);
    let first = ran.record.id();
    let (before, _) = kept(&home);
    assert!(before >= 5, "{before}");
    // Runs that take no snapshots themselves prune those of others.
    project.workflow(
        "small",
        "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: echo}]}}\n",
    );
    let settings = |more: &str| {
        project.file(
            "vmint.toml",
            format!("[workflow]\nmemory = \"128M\"\nimage = \"tiny\"\n{more}\n"),
        );
    };
    settings("snapshot-quota = \"64M\"");
    project.run(&home, "small").ok();
    let (room, _) = kept(&home);
    assert!(
        room < before,
        "those that do not fit have gone: {room} of {before}"
    );
    let resumed = project
        .vmint(
            &home,
            &format!("workflow run ci --resume {first} --from make"),
        )
        .run()
        .exits(125);
    assert!(resumed.error().contains("was pruned"), "{resumed}");
    let entered = shell(&project, &home, first, "make", "true").exits(125);
    assert!(entered.error().contains("was pruned"), "{entered}");
    let shown = project.record(&home, first);
    assert_eq!(
        shown.step("test", "make")["snapshot"],
        Value::Null,
        "what is gone is not offered"
    );

    settings("");
    project.run(&home, "ci --snapshot-steps").ends("failure", 1);
    project.run(&home, "small").ok();
    let (all, _) = kept(&home);
    assert!(all >= before, "{all} of {before}");
    home.sql("UPDATE snapshots SET record = json_set(record, '$.created_at_ms', created_at_ms - 8 * 86400000)");
    project.run(&home, "small").ok();
    assert_eq!(
        kept(&home).0,
        0,
        "older than the seven days that they are kept"
    );

    settings("keep-runs = 2");
    project.run(&home, "ci --snapshot-steps").ends("failure", 1);
    for _ in 0..2 {
        project.run(&home, "small").ok();
    }
    project.run(&home, "small").ok();
    let (snapshots, runs) = kept(&home);
    assert_eq!(snapshots, 0, "they went with their run");
    assert!(runs <= 3, "{runs} are kept");
}

#[test]
fn each_machine_of_a_run_can_be_gone_back_to() {
    let home = Home::new();
    let workflow = WORKFLOW.replace(
        "cat /run/marks/ran",
        "mkdir -p /run/marks; echo later >/run/marks/ran",
    );
    let project = Project::with(TINY, &workflow);
    let ran = project
        .run(&home, "ci --snapshot-steps --machine-per job")
        .ends("failure", 1);
    assert_eq!(ran.record.machines().len(), 2);
    let look = |before: &str| {
        shell(
            &project,
            &home,
            "latest",
            before,
            "cat /run/marks/ran 2>/dev/null; hostname",
        )
        .ok()
        .text()
    };
    assert_eq!(look("before:s").lines().count(), 1, "nothing had run");
    assert!(
        look("test:breaks").starts_with("make\n"),
        "the other job ran elsewhere"
    );
    project.workflow("ci", &workflow.replace("exit 7", "true"));
    let args = "ci --machine-per job --resume latest --from test:breaks";
    let second = project.run(&home, args).ok();
    assert_eq!(second.record.machines().len(), 2, "one goes on, one is new");
    assert_eq!(second.record.job("before")["machine"], Value::Null);
    assert!(second.said("later", "say").starts_with("later: success"));
}
