//! What workflows get here and on GitHub is the same; where it cannot be, that is said.

use vmint_tests::{Home, Project, Ran};

const TINY: &str = "image = \"tiny\"";

/// What a step wrote, without what vmint says at its beginning.
#[track_caller]
fn said(ran: &Ran, job: &str, step: &str) -> String {
    let log = ran.log(job, step);
    match log.split_once("##[endgroup]\n") {
        Some((_, said)) => said.to_owned(),
        None => panic!("{step} of {job} does not say what it runs: {log}"),
    }
}

/// A workflow of one job with these steps.
fn steps(steps: &str) -> String {
    format!("on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}

#[test]
fn env_of_workflow_and_job_knows_the_machine_that_it_is_evaluated_for() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
env:
  OF_WORKFLOW: ${{ github.workspace }}/w
  EVENT: ${{ github.event_path }}
jobs:
  one:
    runs-on: ubuntu-latest
    env:
      OF_JOB: ${{ github.workspace }}/j
      BY_INDEX: ${{ github[format('{0}space', 'work')] }}
      JOB: ${{ github.job }}
    steps:
      - id: compare
        run: |
          [ "$OF_WORKFLOW" = "$GITHUB_WORKSPACE/w" ] && [ "$OF_JOB" = "$PWD/j" ] && [ "$BY_INDEX" = "$PWD" ]
          [ "$EVENT" = "$GITHUB_EVENT_PATH" ] && [ -s "$EVENT" ] && [ "$JOB" = one ]
          echo "${{ env.OF_JOB }}"
  bad:
    needs: one
    runs-on: ubuntu-latest
    env: {BAD: "${{ fromJSON('no') }}"}
    steps:
      - {id: never, if: always(), run: echo reached}
"#,
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    assert_eq!(
        said(&ran, "one", "compare"),
        "/home/runner/work/w/w/j\n".replace("/w/w/", &workspace_part(&ran))
    );
    assert_eq!(ran.record.job("bad")["outcome"], "failure");
    assert_eq!(ran.record.outcome("bad", "never"), "skipped");
    let reason = ran.record.job("bad")["reason"].as_str().unwrap();
    assert!(reason.starts_with("`env` cannot be evaluated"), "{reason}");
}

/// `/NAME/NAME/` of the workspace, which is called after the project's folder.
fn workspace_part(ran: &Ran) -> String {
    let root = ran.record.0["repository"].as_str().unwrap();
    let name = root.rsplit('/').next().unwrap();
    format!("/{name}/{name}/")
}

#[test]
fn what_only_a_machine_tells_is_refused_where_there_is_none_yet() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    name: in ${{ github.workspace }}\n    concurrency: ${{ github['event_path'] }}\n    steps:\n      - run: 'true'\n",
    );
    let checked = project.vmint(&home, "workflow check ci").run();
    assert_eq!(checked.code, Some(1), "{checked}");
    for said in [
        "`github.workspace` is not known in `name` of a job",
        "`github.event_path` is not known in `concurrency` of a job",
    ] {
        assert!(checked.text().contains(said), "{checked}");
    }
}
