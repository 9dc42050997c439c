//! What workflows get here and on GitHub is the same; where it cannot be, that is said.

use vmint_tests::project::{TINY, steps};
use vmint_tests::{Home, Project, Ran};

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
        ran.said("one", "compare"),
        "/home/runner/work/w/w/j\n".replace("/w/w/", &workspace_part(&ran))
    );
    assert_eq!(ran.record.job("bad")["outcome"], "failure");
    let waits = &ran.record.job("one")["waits"];
    assert_eq!(waits[0]["what"], "a machine of image tiny", "{waits}");
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

#[test]
fn lists_are_spread_and_mappings_inserted() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    strategy:
      matrix:
        v: [a, "${{ fromJSON('[\"b\", \"c\"]') }}"]
        ${{ insert }}: ${{ fromJSON('{"w":["x"]}') }}
    env:
      ${{ format('KEY_{0}', matrix.v) }}: k
      ${{ insert }}: ${{ fromJSON('{"A":"1","B":"2"}') }}
    steps:
      - {id: say, run: "echo $A$B$KEY_a$KEY_b$KEY_c ${{ matrix.v }} ${{ matrix.w }}"}
"#,
    );
    let ran = project.run(&home, "ci").ok();
    for v in ["a", "b", "c"] {
        let job = format!("one ({v}, x)");
        assert_eq!(ran.said(&job, "say"), format!("12k {v} x\n"));
    }
}

#[test]
fn a_process_has_what_its_log_shows() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
env: {CI: "false", GITHUB_SHA: mine, RUNNER_OS: Plan9, GITHUB_TOKEN: own, PATH: "/usr/bin:/bin"}
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - id: see
        env: {GITHUB_JOB: other, GITHUB_ENV: /nowhere}
        run: |
          for name in CI GITHUB_SHA RUNNER_OS GITHUB_TOKEN PATH GITHUB_JOB; do
            eval "echo \"  $name: \$$name\""
          done
"#,
    );
    let ran = project.run(&home, "ci").ok();
    let log = ran.log("one", "see");
    let (shown, said) = log.split_once("##[endgroup]\n").unwrap();
    let (_, shown) = shown.split_once("\nenv:\n").unwrap();
    assert_eq!(shown, said);
    for line in [
        "  CI: false\n",
        "  RUNNER_OS: Linux\n",
        "  GITHUB_TOKEN: own\n",
        "  GITHUB_JOB: one\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn the_github_context_names_the_files_of_its_step() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - {id: first, run: "echo a=1 >>${{ github.output }}; echo B=2 >>${{ github.env }}; echo /three >>${{ github.path }}; echo four >>${{ github.step_summary }}"}
      - id: see
        run: |
          echo "${{ steps.first.outputs.a }} $B ${PATH%%:*}"
          [ "$GITHUB_OUTPUT" = "${{ github.output }}" ] && [ "$GITHUB_STATE" = "${{ github.state }}" ] && echo same
"#,
        ),
    );
    let ran = project.run(&home, "ci").ok();
    assert_eq!(ran.said("one", "see"), "1 2 /three\nsame\n");
    assert!(ran.record.step("one", "first")["summary"].is_string());
}

#[test]
fn composite_actions_tell_what_they_give_and_why_they_fail() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - uses: actions/checkout@v4
      - {id: gives, uses: ./gives, env: {WHO: me}}
      - {id: see, run: "echo '${{ steps.gives.outputs.who }}'"}
      - {id: fails, uses: ./fails}
      - {id: after, run: "true"}
      - {id: own, if: "github.ref != ''", run: "true"}
      - {id: unwanted, if: "failure() && false", run: "true"}
"#,
        ),
    );
    project.file(
        "gives/action.yml",
        "outputs: {who: {value: '${{ env.WHO }} and ${{ env.SET }}'}}\nruns:\n  using: composite\n  steps:\n    - {shell: sh, run: 'echo SET=you >>$GITHUB_ENV'}\n",
    );
    project.file(
        "fails/action.yml",
        "runs:\n  using: composite\n  steps:\n    - {shell: sh, run: 'true'}\n    - {name: Break, shell: sh, run: 'exit 7'}\n    - {shell: sh, run: 'true'}\n",
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    assert_eq!(ran.said("one", "see"), "me and you\n");
    let reason = |step: &str| ran.record.step("one", step)["reason"].as_str();
    assert_eq!(
        reason("fails"),
        Some("step 2 of the action (Break): Process completed with exit code 7")
    );
    assert_eq!(reason("after"), Some("skipped after a failure"));
    assert_eq!(reason("own"), Some("skipped after a failure"));
    assert_eq!(reason("unwanted"), None);
    let shown = project
        .vmint(&home, &format!("workflow show {}", ran.record.id()))
        .run()
        .ok();
    for text in [
        "step 2 of the action (Break)",
        "skipped after a failure",
        "its condition was false",
    ] {
        assert!(shown.text().contains(text), "{text}: {shown}");
    }
}

#[test]
fn artifacts_have_what_links_point_to() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - run: |
          mkdir -p store/deep out .hidden
          echo one >store/one; echo two >store/deep/two; echo three >three
          ln -s store result
          ln -s ../three out/file; ln -s ../store/deep out/folder; ln -s nowhere out/broken; ln -s . out/self
          echo twin >out/twin-a; ln out/twin-a out/twin-b
          ln out/twin-a .hidden/twin-c
      - {uses: actions/upload-artifact@v4, with: {name: out, path: out}}
      - {uses: actions/upload-artifact@v4, with: {name: result, path: result/}}
      - {uses: actions/upload-artifact@v4, with: {name: other, path: out/twin-b}}
      - {uses: actions/upload-artifact@v4, with: {name: globbed, path: "result/**/two"}}
      - {uses: actions/download-artifact@v4, with: {path: got}}
      - id: see
        run: |
          cd got; find . -type l; find . -type f | sort | while read -r file; do echo "$file $(cat "$file")"; done
          [ "$(stat -c %h out/twin-a)" = 1 ] && echo apart
"#,
        ),
    );
    let ran = project.run(&home, "ci").ok();
    assert_eq!(
        ran.said("one", "see"),
        "./globbed/deep/two two\n./other/twin-b twin\n./out/file three\n./out/folder/two two\n\
         ./out/twin-a twin\n./out/twin-b twin\n./result/deep/two two\n./result/one one\napart\n"
    );
}

#[test]
fn digests_and_caches_take_links_as_github_does() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - run: |
          mkdir -p a/b real; echo x >a/b/x; echo y >a-b; echo z >real/z; ln -s ../real a/link; ln -s b/x a/to-x
          mkdir kept; echo k >kept/k; ln kept/k kept/twin; ln -s k kept/soft; ln -s nowhere kept/broken
          ln -s kept linked
      - id: hashes
        run: |
          bytes() { for file; do sha256sum <"$file" | cut -d' ' -f1 | sed 's/../\\x&/g'; done; }
          all() { printf "$(bytes "$@" | tr -d '\n')" | sha256sum | cut -d' ' -f1; }
          [ "${{ hashFiles('a', 'a-b') }}" = "$(all a/b/x a/to-x a-b)" ] && echo unfollowed
          [ "${{ hashFiles('--Follow-symbolic-links', 'a') }}" = "$(all a/b/x a/link/z a/to-x)" ] && echo followed
          [ "${{ hashFiles('a/link/**') }}" = "" ] && echo nothing
      - {id: broken, continue-on-error: true, run: "echo ${{ hashFiles('kept') }}"}
      - {id: option, continue-on-error: true, run: "echo ${{ hashFiles('--follow', 'a') }}"}
      - {uses: actions/cache/save@v4, with: {key: k, path: "kept\nlinked"}}
      - run: rm -rf kept linked
      - {uses: actions/cache/restore@v4, with: {key: k, path: "kept\nlinked"}}
      - {id: see, run: "cat kept/twin; for link in kept/soft kept/broken linked; do readlink $link; done; stat -c %h kept/k; ls kept"}
"#,
        ),
    );
    let ran = project.run(&home, "ci").ok();
    assert_eq!(ran.said("one", "hashes"), "unfollowed\nfollowed\nnothing\n");
    let failed = |step: &str| ran.record.step("one", step)["ended"]["reason"].to_string();
    assert!(
        failed("broken").contains("kept/broken is a link to something that is not there"),
        "{}",
        failed("broken")
    );
    assert!(
        failed("option").contains("takes no option `--follow`"),
        "{}",
        failed("option")
    );
    assert_eq!(
        ran.said("one", "see"),
        "k\nk\nnowhere\nkept\n2\nbroken\nk\nsoft\ntwin\n"
    );
}

/// Of another processor than this host's, as GitHub and others name it.
fn foreign() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("ubuntu-24.04-arm", "arm64"),
        _ => ("ubuntu-24.04-x64", "x64"),
    }
}

#[test]
fn labels_of_another_processor_are_refused_or_told_and_families_share_an_image() {
    let home = Home::new();
    let (label, plain) = foreign();
    let job = |id: &str, on: &str| {
        format!("  {id}:\n    runs-on: {on}\n    steps: [{{run: uname -m}}]\n")
    };
    let all = format!(
        "on: push\njobs:\n{}{}{}{}",
        job("one", label),
        job("two", &format!("[self-hosted, linux, {plain}]")),
        job("three", "depot-ubuntu-24.04-8"),
        job("four", "gpu")
    );
    let project = Project::with(TINY, &all);
    let checked = project.vmint(&home, "workflow check ci").run();
    let text = checked.text();
    for said in [
        format!("the label `{label}` asks for"),
        format!("the label `{plain}` asks for"),
        "no machine is known for the label `depot-ubuntu-24.04-8`".to_owned(),
        "no machine is known for the label `gpu`".to_owned(),
    ] {
        assert!(text.contains(&said), "{said}: {checked}");
    }
    assert_eq!(checked.code, Some(1), "{checked}");
    // Nothing was started for a file that cannot be run.
    let refused = project.vmint(&home, "workflow run ci").run().exits(125);
    assert!(
        refused
            .error()
            .contains(&format!("the label `{label}` asks for")),
        "{refused}"
    );
    // Only what is asked for counts.
    let settings = format!(
        "{TINY}\n[workflow.runs-on]\n\"depot-ubuntu-*\" = \"tiny\"\n\"{label}\" = \"tiny\"\n"
    );
    project.file(
        "vmint.toml",
        format!("[workflow]\nmemory = \"128M\"\n{settings}"),
    );
    let ran = project.run(&home, "ci --job three").ok();
    assert_eq!(
        ran.said("three", "Run uname -m"),
        format!("{}\n", std::env::consts::ARCH)
    );
    let mapped = project.run(&home, "ci --job one").ok();
    let note = format!("one: the label `{label}` asks for");
    let notes = mapped.record.0["notes"].to_string();
    assert!(notes.contains(&note), "{notes}");
    assert!(
        mapped
            .log("one", "Set up job")
            .contains("[workflow.runs-on] gives it `tiny`")
    );
    let checked = project.vmint(&home, "workflow check ci").run();
    assert!(checked.text().contains("warning: the label"), "{checked}");
}

#[test]
fn a_label_that_is_computed_and_not_there_is_the_files_fault() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    outputs: {on: nowhere}\n    steps: [{run: 'true'}]\n  two:\n    needs: one\n    runs-on: ${{ needs.one.outputs.on }}\n    steps: [{run: 'true'}]\n",
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    let two = ran.record.job("two");
    assert_eq!(two["outcome"], "failure");
    assert!(two["fault"].is_null(), "{two}");
    let reason = two["reason"].as_str().unwrap();
    assert!(
        reason.contains("no machine is known for the label `nowhere`"),
        "{reason}"
    );
}

#[test]
fn what_a_condition_guards_is_asked_of_the_image_when_it_is_reached() {
    let home = Home::new();
    let text = steps(
        r"
      - {uses: actions/setup-node@v4, if: runner.os == 'Windows'}
      - {uses: acme/tool@v1, if: runner.os == 'Windows'}
      - {id: there, run: echo there}
",
    );
    let project = Project::with(&format!("{TINY}\nactions = \"mirror\""), &text);
    project.file(
        "mirror/acme/tool@v1/action.yml",
        "runs: {using: node24, main: main.js}",
    );
    project.file("mirror/acme/tool@v1/main.js", "");
    let ran = project.run(&home, "ci").ok();
    assert_eq!(ran.said("one", "there"), "there\n");
    project.workflow("ci", &text.replace(", if: runner.os == 'Windows'", ""));
    let checked = project.vmint(&home, "workflow check ci").run();
    for line in [
        "`actions/setup-node@v4` needs Node.js, which `tiny` does not have",
        "add \"nodejs\" to the packages",
    ] {
        assert!(checked.text().contains(line), "{checked}");
    }
    assert_eq!(checked.code, Some(1), "{checked}");
}

#[test]
fn actions_of_the_workspace_are_those_that_lie_there_when_their_step_runs() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - {id: early, uses: ./greet, continue-on-error: true, with: {who: nobody}}
      - {uses: actions/checkout@v4, with: {path: sub}}
      - {id: sub, uses: ./sub/greet, with: {who: sub}}
      - run: |
          mkdir -p made ../outside
          cp sub/made.yml made/action.yml
          cp made/action.yml ../outside/action.yaml
          sed 's/hello/changed/' sub/greet/action.yml >x; mv x sub/greet/action.yml
      - {id: made, uses: ./made, with: {who: made}}
      - {id: outside, uses: ./../outside}
      - {id: see, run: "echo '${{ steps.made.outputs.said }}, ${{ steps.outside.outputs.said }}'"}
      - {id: gone, uses: ./no/such, continue-on-error: true}
      - run: "echo 'runs: {using: composite, steps: [{run: x}]}' >made/action.yml"
      - {id: wrong, uses: ./made, continue-on-error: true}
"#,
        ),
    );
    project.file(
        "greet/action.yml",
        "inputs: {who: {required: true}}\nruns:\n  using: composite\n  steps:\n    - {shell: sh, run: 'echo hello ${{ inputs.who }}'}\n",
    );
    project.file(
        "made.yml",
        "inputs: {who: {required: true}}
outputs: {said: {value: '${{ steps.s.outputs.said }}'}}
runs:
  using: composite
  steps:
    - {uses: ./sub/greet, with: {who: '${{ inputs.who }} within'}}
    - {id: s, shell: sh, run: 'echo \"said=by ${{ inputs.who }}\" >>$GITHUB_OUTPUT; echo \"at $GITHUB_ACTION_PATH\"'}
",
    );
    let checked = project.vmint(&home, "workflow check ci").run().exits(0);
    for said in [
        "no step before this one checks out the repository, so `./greet` is not there",
        "`./made` is not in the repository; it is looked for in the workspace",
        "`./../outside` is not in the repository",
    ] {
        assert!(checked.text().contains(said), "{checked}");
    }
    let ran = project.run(&home, "ci").ok();
    for (step, text) in [
        ("sub", "hello sub\n"),
        ("made", "changed made within\n"),
        ("made", "/made\n"),
        ("outside", "changed  within\n"),
        ("outside", "/outside\n"),
        ("see", "by made, by \n"),
    ] {
        let log = ran.log("one", step);
        assert!(log.contains(text), "{step}: {log}");
    }
    let why = |step: &str| ran.record.step("one", step)["ended"]["reason"].to_string();
    assert!(
        why("early").contains("there is no action.yml, action.yaml or Dockerfile in"),
        "{}",
        why("early")
    );
    assert!(
        why("gone").contains("/no/such; does a step before"),
        "{}",
        why("gone")
    );
    assert!(
        why("wrong").contains("made/action.yml:1:"),
        "{}",
        why("wrong")
    );
    // Surely nothing of the workspace before the first checkout.
    project.workflow("ci", &steps("      - uses: ./greet\n"));
    let checked = project.vmint(&home, "workflow check ci").run().exits(1);
    assert!(
        checked.text().contains("error: no step before this one"),
        "{checked}"
    );
}
