//! Actions for which something stands in, and jobs that are left out: told, and not asked for what they would need.

use super::*;
use crate::replace::{Choice, StandIn};

#[test]
fn what_stands_in_for_an_action_is_told_and_settings_win_over_builtins_copies_and_defaults() {
    let mut repository = Repository::new(&[
        (
            "mirror/codecov/codecov-action@v4/action.yml",
            "runs: {using: composite, steps: [{run: x, shell: sh}]}",
        ),
        (
            "mirror/actions/cache@v4/action.yml",
            "runs: {using: composite, steps: [{run: x, shell: sh}]}",
        ),
    ]);
    let text = steps(
        "- uses: Swatinem/rust-cache@v2\n  with: {workspaces: x}\n- uses: codecov/codecov-action@v4\n- uses: actions/cache@v4\n  with: {path: x, key: y}\n- uses: o/own@v1",
    );
    let message = repository.said(&text);
    assert!(
        message.contains("the action `o/own@v1` is not available"),
        "{message}"
    );
    let script = || Choice::Replaced(StandIn::Run("true".to_owned()));
    repository.1 = Choices::new([("o/own".to_owned(), script())]);
    let checked = repository
        .check(&text)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    let messages: Vec<&str> = checked.warnings.iter().map(|one| &*one.message).collect();
    assert_eq!(
        messages,
        [
            "the action `Swatinem/rust-cache@v2` is replaced by nothing",
            "the action `o/own@v1` is replaced by a script of vmint.toml"
        ]
    );
    let kind = |checked: &Checked, uses: &str| match &checked.actions[uses] {
        Resolved::Builtin(_) => "builtin",
        Resolved::Action(_) => "action",
        Resolved::Replaced(_) => "replaced",
        Resolved::AtRun | Resolved::Missing(_) => "later",
    };
    assert_eq!(kind(&checked, "codecov/codecov-action@v4"), "action");
    assert_eq!(kind(&checked, "actions/cache@v4"), "builtin");
    repository.1 = Choices::new([
        ("o/own".to_owned(), script()),
        ("actions/cache".to_owned(), Choice::Itself),
        ("codecov/codecov-action@v4".to_owned(), script()),
    ]);
    let checked = repository
        .check(&text)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(kind(&checked, "codecov/codecov-action@v4"), "replaced");
    assert_eq!(kind(&checked, "actions/cache@v4"), "action");
    // Without a copy there is nothing that could be run as itself.
    repository.1 = Choices::new([
        ("o/own".to_owned(), script()),
        ("Swatinem/rust-cache".to_owned(), Choice::Itself),
    ]);
    let message = repository.said(&text);
    assert!(
        message.contains("error: the action `Swatinem/rust-cache@v2` is not available"),
        "{message}"
    );
}

#[test]
fn jobs_that_are_left_out_need_nothing_and_are_told() {
    let text = r#"
on: push
jobs:
  mac:
    runs-on: macos-14
    steps: [{uses: "o/absent@v1"}, {run: dir, shell: pwsh}]
  both:
    strategy: {matrix: {os: [ubuntu-24.04, macos-13, windows-2022]}}
    runs-on: ${{ matrix.os }}
    steps: [{run: make}]
  none:
    strategy: {matrix: {include: [{os: macos-13}, {os: windows-2022}]}}
    runs-on: ${{ matrix.os }}
    steps: [{uses: "o/absent@v1"}]
"#;
    let repository = Repository::new(&[]);
    let patterns = ["macos-*", "windows-*"];
    let checked = repository.check_without(text, &patterns);
    let checked = checked.unwrap_or_else(|wrong| panic!("{wrong}"));
    let told: Vec<(u32, &str)> = checked
        .warnings
        .iter()
        .map(|one| (one.spot.line, one.message.as_str()))
        .collect();
    let of = |label, pattern| {
        format!("jobs on `{label}` are skipped: the label matches `{pattern}` of skip-runs-on")
    };
    let (mac, windows) = (of("macos-13", "macos-*"), of("windows-2022", "windows-*"));
    let first = of("macos-14", "macos-*");
    let expected = [
        (5, &first),
        (8, &mac),
        (8, &windows),
        (12, &mac),
        (12, &windows),
    ];
    let expected: Vec<(u32, &str)> = expected.map(|(l, m)| (l, m.as_str())).to_vec();
    assert_eq!(told, expected);
    assert!(!checked.actions.contains_key("o/absent@v1"));
    // Without the patterns each of them is an error, as is the rest of a job that runs in part.
    let wrong = repository.check(text).unwrap_err().to_string();
    assert!(wrong.contains("skip-runs-on = [\"macos-*\"]"), "{wrong}");
    let half = text.replace("{run: make}", "{uses: 'o/absent@v1'}");
    let wrong = repository.check_without(&half, &patterns).unwrap_err();
    let errors = wrong.0.iter().filter(|one| one.severity == Severity::Error);
    let errors: Vec<u32> = errors.map(|one| one.spot.line).collect();
    assert_eq!(errors, [10], "{wrong}");
    // What only the run knows is checked.
    for matrix in [
        "{os: \"${{ fromJSON(vars.OS) }}\"}",
        "\"${{ fromJSON(vars.M) }}\"",
        "{os: [macos-13, \"${{ vars.OS }}\"]}",
    ] {
        let text = format!(
            "on: push\njobs:\n  a:\n    strategy: {{matrix: {matrix}}}\n    runs-on: ${{{{ matrix.os }}}}\n    steps: [{{uses: 'o/absent@v1'}}]\n"
        );
        repository.check_without(&text, &patterns).unwrap_err();
    }
}
