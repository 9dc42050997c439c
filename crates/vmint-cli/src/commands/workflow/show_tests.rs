use super::*;
use vmint::workflow::record::StepRecord;

/// A run of two jobs, of which one failed, from its JSON.
pub(crate) fn run() -> RunRecord {
    let step = |number: u32,
                kind: &str,
                name: &str,
                outcome: &str,
                from: i64,
                to: i64,
                code: u8| {
        serde_json::json!({
            "number": number, "kind": kind, "id": null, "name": name, "line": 12, "outcome": outcome, "conclusion": outcome,
            "ended": { "kind": "exited", "code": code }, "started_at_ms": from, "ended_at_ms": to, "log": null,
            "log_bytes": 0, "annotations": [], "annotations_dropped": 0, "summary": null, "snapshot": null,
        })
    };
    let job = |key: &str, outcome: &str, to: i64, steps: Vec<serde_json::Value>| {
        serde_json::json!({
            "key": key, "id": key, "name": key, "matrix": null, "needs": [], "runs_on": ["ubuntu-latest"],
            "outcome": outcome, "continue_on_error": false, "reason": null, "fault": null, "machine": 0,
            "started_at_ms": 1000, "ended_at_ms": to, "outputs": [], "steps": steps, "permissions": null, "environment": null,
        })
    };
    let mut test = step(2, "main", "cargo test", "failure", 1100, 3400, 101);
    test["annotations"] = serde_json::json!([{
        "level": "error", "message": "left\nright", "title": null, "file": "src/a.rs", "line": 4, "end_line": null,
        "column": 9, "end_column": null,
    }]);
    test["snapshot"] = serde_json::json!({ "name": "r0000cafe-2", "pause_ms": 1.5, "took_ms": 9.0, "size": 9_400_000 });
    let mut lint = step(1, "main", "cargo clippy", "failure", 3500, 4000, 1);
    lint["conclusion"] = "success".into();
    serde_json::from_value(serde_json::json!({
        "id": "r0000cafe", "workflow": "CI", "title": "Fix the clock", "file": "/home/me/clock/.github/workflows/ci.yml",
        "repository": "/home/me/clock", "event": "push", "git_ref": "refs/heads/main",
        "sha": "2f1c9d0e8b7a65544332211000ffeeddccbbaa99", "resumed": null,
        "owner": { "pid": 1, "start_time": 2, "boot_id": "b" }, "started_at_ms": 900, "ended_at_ms": 4100,
        "end": { "kind": "failure" }, "permissions": null, "concurrency": null, "notes": ["permissions have no effect"],
        "machines": [{
            "machine": "m0123456789ab", "generation": 3, "lease": "l0123456789abcdef", "pool": "ubuntu", "image": "ubuntu-24.04",
            "accelerator": "tcg", "boot_id": "7d3b1f9a", "acquire_ms": 41.7, "acquired_at_ms": 950, "released_at_ms": 4050,
            "executions": 5,
        }],
        "jobs": [
            job("build", "failure", 3400, vec![step(1, "set_up", "Set up job", "success", 1000, 1100, 0), test]),
            job("lint", "success", 4000, vec![lint]),
        ],
    }))
    .unwrap()
}

#[test]
fn a_run_is_shown_with_steps_annotations_and_how_to_rewind() {
    let shown = text(
        &run(),
        Path::new("/home/me/.local/state/vmint/runs/r0000cafe"),
    );
    insta::assert_snapshot!(shown, @r"
    ✗ CI: failed after 3.2 s on emulation: 1 of 2 jobs failed

    run        r0000cafe
    workflow   CI
    title      Fix the clock
    file       /home/me/clock/.github/workflows/ci.yml
    event      push
    ref        refs/heads/main
    commit     2f1c9d0e8b7a65544332211000ffeeddccbbaa99
    continues  -
    started    1970-01-01T00:00:00.900Z
    duration   3.2 s on emulation
    logs       /home/me/.local/state/vmint/runs/r0000cafe
    note: permissions have no effect

    MACHINE          IMAGE         ACCELERATOR  BOOT ID   ACQUIRED IN  LENT FOR  COMMANDS
    m0123456789ab@3  ubuntu-24.04  emulation    7d3b1f9a  42 ms        3.1 s     5

    JOB, STEP         OUTCOME               TIME                NOTE
    build             ✗ failed              2.4 s on emulation  -
      1 Set up job    ✓ succeeded           100 ms              -
      2 cargo test    ✗ failed              2.3 s               exit code 101
    lint              ✓ succeeded           3.0 s on emulation  -
      1 cargo clippy  △ failed, allowed to  500 ms              exit code 1; continue-on-error

    Annotations
      src/a.rs:4:9: error: left right

    Rewind
      before step 2 of build, cargo test (9.4 MB)
        vmint workflow shell r0000cafe --before build:2
        vmint workflow run /home/me/clock/.github/workflows/ci.yml --resume r0000cafe --from build:2
    ");
}

#[test]
fn of_very_many_steps_the_summary_tells_those_that_did_not_succeed() {
    let mut run = run();
    let step: StepRecord = run.jobs[0].steps[0].clone();
    run.jobs[0].steps.extend(vec![step; 100]);
    let shown = summary(&run);
    assert!(
        shown.lines().count() < 10 && shown.contains("cargo test"),
        "{shown}"
    );
    assert!(
        shown.contains("all 103: vmint workflow show r0000cafe"),
        "{shown}"
    );
}

#[test]
fn a_guests_text_commands_no_terminal() {
    let mut run = run();
    let evil = "x\x1b]0;title\x07\ny\u{9b}2J";
    run.jobs[0].steps[1].name = evil.into();
    run.jobs[0].steps[1].annotations[0].message = evil.into();
    (run.workflow, run.event) = (evil.into(), evil.into());
    for shown in [text(&run, Path::new("/x")), summary(&run), title(&run)] {
        assert!(
            !shown.contains(|c: char| c.is_control() && c != '\n'),
            "{shown:?}"
        );
    }
}
