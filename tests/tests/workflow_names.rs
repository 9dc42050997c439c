//! Names that look alike: jobs that are needed in another case, images whose names differ by a character that no pool's
//! name can have.

use vmint_tests::{Home, Project};

/// As on GitHub, `needs: [Build]` is the job `build`: it is run, in its order, and its result is seen.
#[test]
fn a_job_that_is_needed_in_another_case_is_run_before() {
    let home = Home::new();
    let project = Project::with(
        "image = \"tiny\"",
        r#"
on: push
jobs:
  Test:
    needs: [Build, LINT]
    if: needs.build.result == 'success' && needs.lint.outputs.done == 'yes'
    runs-on: ubuntu-latest
    steps:
      - id: says
        run: echo "tested after ${{ needs.Build.result }}"
  build:
    runs-on: ubuntu-latest
    steps: [{run: 'true'}]
  lint:
    needs: bUILD
    runs-on: ubuntu-latest
    outputs: {done: "${{ steps.s.outputs.done }}"}
    steps: [{id: s, run: 'echo done=yes >>"$GITHUB_OUTPUT"'}]
"#,
    );
    let ran = project.run(&home, "ci").ok();
    assert_eq!(ran.record.0["jobs"].as_array().map(Vec::len), Some(3));
    for job in ["build", "lint", "Test"] {
        assert_eq!(ran.record.job(job)["outcome"], "success", "{job}");
    }
    assert!(ran.log("Test", "says").contains("tested after success"));
    // A selection brings what it needs, by the same rule.
    let ran = project.run(&home, "ci --job test").ok();
    assert_eq!(ran.record.0["jobs"].as_array().map(Vec::len), Some(3));
}

/// Two images whose names make the same letters and dashes have two pools, and a pool that serves another image than the
/// settings say is refused with both names.
#[test]
fn a_workflow_runs_in_a_pool_of_its_own_image_and_of_no_other() {
    let home = Home::new();
    let images = "[images.\"a.b\"]\nfrom = \"tiny\"\n[images.a-b]\nfrom = \"tiny\"\n";
    let workflow = "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n";
    let project = Project::new("");
    project.workflow("ci", workflow);
    for image in ["a.b", "a-b"] {
        let settings = format!("[workflow]\nmemory = \"128M\"\nimage = \"{image}\"\n{images}");
        project.file("vmint.toml", settings);
        let ran = project.run(&home, "ci").ok();
        let machine = ran.record.machines()[0]["pool"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let pool = home.json(&format!("pool status {machine}"));
        assert_eq!(pool["image"], image, "{pool}");
    }
    // The name stays, and the settings say another image.
    home.ok("pool create ci --image a.b --memory 128M --min 0 --net nat");
    let settings = format!("[pools.ci]\nimage = \"a-b\"\n[workflow]\n{images}");
    project.file("vmint.toml", settings);
    let refused = project.vmint(&home, "workflow run ci --pool ci").run();
    let error = refused.error();
    assert!(
        refused.code != Some(0) && error.contains("`a.b`") && error.contains("`a-b`"),
        "{error}"
    );
}
