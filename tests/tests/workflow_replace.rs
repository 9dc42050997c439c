//! Actions for which something else stands in: by the settings or by vmint's own table, and never silently.

use vmint_tests::{Home, Project};

const SETTINGS: &str = r#"
actions = "actions"
[workflow.replace]
"nobody/uploads" = "nothing"
"nobody/builds/sub" = { run = "echo \"made $INPUT_WHAT of $VMINT_ACTION at $VMINT_ACTION_REF in $PWD\"; echo result=done >>\"$GITHUB_OUTPUT\"" }
"nobody/fails@v2" = { run = "exit 3" }
"#;

const WORKFLOW: &str = "\
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - {id: cache, uses: Swatinem/rust-cache@v2}
      - uses: nobody/uploads@v1
      - {id: made, name: builds, uses: nobody/builds/sub@main, with: {what: it}}
      - {name: composite, uses: nobody/composite@v1}
      - {name: has, uses: taiki-e/install-action@v2, with: {tool: 'cat,ls@1'}}
      - {name: fails, uses: nobody/fails@v2, continue-on-error: true}
      - {name: lacks, uses: taiki-e/install-action@no-such-tool, continue-on-error: true}
      - name: say
        run: echo \"result ${{ steps.made.outputs.result }}, cache ${{ steps.cache.outcome }} <${{ steps.cache.outputs.cache-hit }}>\"
";

#[test]
fn what_stands_in_is_run_and_told_in_check_log_and_result() {
    let home = Home::new();
    let project = Project::with(SETTINGS, WORKFLOW);
    project.file(
        "actions/nobody/composite@v1/action.yml",
        "runs: {using: composite, steps: [{uses: 'nobody/builds/sub@main', with: {what: inner}}]}\n",
    );
    let checked = project.vmint(&home, "workflow check").run().ok().text();
    for told in [
        "warning: the action `Swatinem/rust-cache@v2` is replaced by nothing",
        "warning: the action `nobody/uploads@v1` is replaced by nothing",
        "warning: the action `nobody/builds/sub@main` is replaced by a script of vmint.toml",
        "`[workflow.replace]` of vmint.toml says so",
        "warning: the action `taiki-e/install-action@v2` is replaced by a look for the tool in the image",
    ] {
        assert!(checked.contains(told), "{told} is not in {checked}");
    }
    let ran = project.run(&home, "ci").ok();
    let log = |step: &str| ran.record.log(&home, "one", step);
    let say = log("say");
    assert!(say.contains("result done, cache success <>"), "{say}");
    let builds = log("builds");
    assert!(
        builds.contains("is replaced by a script of vmint.toml"),
        "{builds}"
    );
    assert!(
        builds.contains("made it of nobody/builds/sub at main in /home/runner/work/"),
        "{builds}"
    );
    let inner = log("composite");
    assert!(
        inner.contains("made inner of nobody/builds/sub at main"),
        "{inner}"
    );
    assert_eq!(ran.record.outcome("one", "has"), "success");
    // A script that fails fails its step, and a tool that is not there is said.
    assert_eq!(ran.record.outcome("one", "fails"), "failure");
    assert_eq!(ran.record.outcome("one", "lacks"), "failure");
    assert!(
        log("lacks").contains("the image does not have no-such-tool"),
        "{}",
        log("lacks")
    );
    let step = ran.record.step("one", "Run Swatinem/rust-cache@v2");
    assert_eq!(step["replaced"], "nothing", "{step}");
    let notes = ran.record.0["notes"].to_string();
    for action in [
        "Swatinem/rust-cache@v2",
        "nobody/uploads@v1",
        "nobody/builds/sub@main",
    ] {
        assert!(
            notes.contains(&format!("the action {action} is replaced by")),
            "{notes}"
        );
    }
    let shown = project
        .vmint(&home, "workflow show latest")
        .run()
        .ok()
        .text();
    assert!(
        shown.contains("the action is replaced by nothing"),
        "{shown}"
    );
}
