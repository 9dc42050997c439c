//! Jobs for machines that are not Linux: left out on demand, shown as skipped with the reason, and never a success.

use vmint_tests::{Home, Project};

const SETTINGS: &str = r#"skip-runs-on = ["macos-*", "windows-*"]"#;

const MIXED: &str = "\
on: push
jobs:
  build:
    strategy: {matrix: {os: [ubuntu-latest, macOS-14]}}
    runs-on: ${{ matrix.os }}
    steps:
      - run: echo \"on $RUNNER_OS\"
  windows:
    runs-on: [self-hosted, windows-2022]
    steps:
      - uses: nobody/has-this@v1
      - run: Get-Item x
        shell: pwsh
  computed:
    runs-on: ${{ vars.PLACE }}
    steps:
      - run: echo never
  after:
    needs: windows
    runs-on: ubuntu-latest
    steps:
      - run: echo never
  gate:
    needs: [build, windows]
    if: always()
    runs-on: ubuntu-latest
    steps:
      - name: say
        run: echo \"windows was ${{ needs.windows.result }}, build was ${{ needs.build.result }}\"
";

#[test]
fn what_is_not_linux_is_skipped_with_its_reason_and_the_rest_runs() {
    let home = Home::new();
    let project = Project::with(SETTINGS, MIXED);
    let ran = project.run(&home, "ci --var PLACE=windows-11-arm").ok();
    let jobs = ran.record.0["jobs"].as_array().expect("jobs").clone();
    let told: Vec<_> = jobs
        .iter()
        .map(|job| {
            let text = |key: &str| job[key].as_str().unwrap_or("-").to_owned();
            (text("key"), text("outcome"), text("reason"))
        })
        .collect();
    let skipped = |key: &str, label: &str, pattern: &str| {
        let reason = format!("its label {label} matches {pattern} of skip-runs-on");
        (key.to_owned(), "skipped".to_owned(), reason)
    };
    let mut expected = vec![
        skipped("build (macOS-14)", "macOS-14", "macos-*"),
        skipped("windows", "windows-2022", "windows-*"),
        skipped("computed", "windows-11-arm", "windows-*"),
    ];
    let other = |key: &str, outcome: &str, reason: &str| {
        (key.to_owned(), outcome.to_owned(), reason.to_owned())
    };
    expected.push(other("build (ubuntu-latest)", "success", "-"));
    expected.push(other(
        "after",
        "skipped",
        "it needs windows, which was skipped",
    ));
    expected.push(other("gate", "success", "-"));
    for one in &expected {
        assert!(told.contains(one), "{one:?} is not among {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    let log = ran.record.log(&home, "gate", "say");
    assert!(
        log.contains("windows was skipped, build was success"),
        "{log}"
    );
    // Each face says it.
    let shown = project
        .vmint(&home, "workflow show latest")
        .run()
        .ok()
        .text();
    assert!(shown.contains("3 jobs skipped by skip-runs-on"), "{shown}");
    assert!(
        shown.contains("its label windows-2022 matches windows-*"),
        "{shown}"
    );
}

#[test]
fn a_run_of_which_all_is_left_out_is_no_success() {
    let home = Home::new();
    let text = "on: push\njobs:\n  a: {runs-on: macos-14, steps: [{run: echo never}]}\n  b: {needs: a, runs-on: ubuntu-latest, steps: [{run: echo never}]}\n";
    let project = Project::with(SETTINGS, text);
    let outcome = project.vmint(&home, "workflow run ci").run().exits(125);
    let said = format!("{}{}", outcome.text(), outcome.error());
    assert!(said.contains("skip-runs-on leaves no job to run"), "{said}");
    // Without the setting nothing is left out silently.
    project.file("vmint.toml", "");
    let outcome = project.vmint(&home, "workflow check").run().exits(1);
    assert!(outcome.text().contains("machines run Linux"), "{outcome}");
}
