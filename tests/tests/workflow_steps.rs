//! What steps do in a real machine: variables, outputs, expressions, conditions, shells, matrices; what they print, and
//! what must not be seen of it.
//!
//! What they use is in `workflow_actions.rs`: actions, and workflows that are called.

use serde_json::{Value, json};
use std::fmt::Write;
use vmint_tests::bytes::hex;
use vmint_tests::project::TINY;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Project, Ran};

/// A project on Debian's image, with the memory that the seed has a template of.
fn debian(workflow: &str) -> Project {
    let project = Project::with("", workflow);
    project.file(
        "vmint.toml",
        "[workflow]\nimage = \"deb\"\nmemory = \"256M\"\n",
    );
    project
}

/// Workflow, job, step, `GITHUB_ENV`: the nearest wins, and what vmint sets itself wins over all.
#[test]
fn a_step_has_the_variables_of_its_workflow_job_and_file_and_the_nearest_wins() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
env: {A: workflow, B: workflow, C: workflow, N: 12, T: true, V: "${{ vars.GIVEN }}"}
jobs:
  one:
    runs-on: ubuntu-latest
    env: {B: job, C: job, SEES: "${{ vars.GIVEN }}"}
    steps:
      - id: first
        env: {C: step, GITHUB_SHA: mine}
        run: |
          echo "$A $B $C $N $T $V $SEES"
          [ "$GITHUB_SHA" != mine ] && [ "$GITHUB_JOB" = one ] && [ "$CI" = true ] && echo "GitHub's own are GitHub's"
          echo A=file >>"$GITHUB_ENV"
          echo B=file >>"$GITHUB_ENV"
          echo C=file >>"$GITHUB_ENV"
          { echo 'LINES<<--'; echo 'one = 1'; echo; echo '  two'; echo --; } >>"$GITHUB_ENV"
          echo "GITHUB_REF=stolen" >>"$GITHUB_ENV"
          mkdir -p "$RUNNER_TEMP/bin"
          printf '#!/bin/sh\necho added to the path\n' >"$RUNNER_TEMP/bin/added"
          chmod +x "$RUNNER_TEMP/bin/added"
          echo "$RUNNER_TEMP/bin" >>"$GITHUB_PATH"
      - id: second
        env: {B: step, D: "${{ env.B }}+${{ env.A }}"}
        run: |
          echo "$A $B $C $D ${{ env.A }} ${{ env.B }}"
          printf '%s|' "$LINES"; echo
          [ "$GITHUB_REF" != stolen ] && echo "a reserved name is refused"
          added
  two:
    needs: one
    runs-on: ubuntu-latest
    steps:
      - id: fresh
        run: |
          echo "$A $B"
          command -v added || echo "no path of another job"
"#,
    );
    let ran = project.run(&home, "ci --var GIVEN=given").ok();
    assert_eq!(
        ran.said("one", "first").lines().take(2).collect::<Vec<_>>(),
        [
            "workflow job step 12 true given given",
            "GitHub's own are GitHub's"
        ]
    );
    let second = ran.said("one", "second");
    let expected = "file step file file+file file step\none = 1\n\n  two|\na reserved name is refused\nadded to the path\n";
    assert_eq!(second, expected);
    let fresh = ran.said("two", "fresh");
    assert_eq!(fresh, "workflow workflow\nno path of another job\n");
    let first = ran.record.step("one", "first");
    let message = first["annotations"][0]["message"].to_string();
    assert!(
        message.contains("GITHUB_REF"),
        "it is said what was refused: {first}"
    );
}

#[test]
fn outputs_go_from_steps_to_jobs_to_those_that_need_them_and_into_the_record() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  make:
    runs-on: ubuntu-latest
    outputs:
      plain: ${{ steps.a.outputs.plain }}
      lines: ${{ steps.a.outputs.lines }}
      both: ${{ steps.a.outputs.plain }}-${{ steps.b.outputs.plain }}
      none: ${{ steps.b.outputs.no-such-thing }}
      list: ${{ steps.b.outputs.list }}
    steps:
      - id: a
        run: |
          echo 'plain=x = y ' >>"$GITHUB_OUTPUT"
          echo 'plain=last = wins' >>"$GITHUB_OUTPUT"
          { echo 'lines<<END of it'; printf 'first\n\n  third: "$HOME" `id`\nEND\n'; echo 'END of it'; } >>"$GITHUB_OUTPUT"
          echo '# Title' >>"$GITHUB_STEP_SUMMARY"
          echo '| a |' >>"$GITHUB_STEP_SUMMARY"
      - id: b
        run: |
          echo 'plain=of b' >>"$GITHUB_OUTPUT"
          echo 'list=["x", {"y": 2}]' >>"$GITHUB_OUTPUT"
  use:
    needs: [make]
    runs-on: ubuntu-latest
    env:
      LINES: ${{ needs.make.outputs.lines }}
    steps:
      - id: print
        run: |
          printf '%s\n' "$LINES"
          echo "${{ needs.make.outputs.both }}|${{ needs.make.outputs.none }}|${{ needs.make.result }}"
          echo "${{ fromJSON(needs.make.outputs.list)[1].y }} ${{ toJSON(fromJSON(needs.make.outputs.list)[0]) == '"x"' }}"
  bad:
    runs-on: ubuntu-latest
    steps:
      - id: unended
        continue-on-error: true
        run: printf 'a<<END\nb\n' >>"$GITHUB_OUTPUT"
"#,
    );
    let ran = project.run(&home, "ci").ok();
    let lines = "first\n\n  third: \"$HOME\" `id`\nEND";
    let expected = format!("{lines}\nlast = wins-of b||success\n2 true\n");
    assert_eq!(ran.said("use", "print"), expected);
    let outputs = &ran.record.job("make")["outputs"];
    assert!(
        outputs
            .as_array()
            .unwrap()
            .contains(&json!(["lines", lines])),
        "{outputs}"
    );
    let summary = ran.record.step("make", "a")["summary"].as_str().unwrap();
    let summary = std::fs::read_to_string(ran.folder.join(summary)).unwrap();
    assert_eq!(summary, "# Title\n| a |\n");
    assert_eq!(ran.record.outcome("bad", "unended"), "failure");
    let why = ran.log("bad", "unended");
    assert!(why.contains("GITHUB_OUTPUT, line 1"), "{why}");
}

#[test]
fn expressions_are_evaluated_in_every_field() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
name: all fields
run-name: Run of ${{ github.event_name }} with ${{ vars.DIR }}
on: push
env: {YES: "true"}
jobs:
  setup:
    runs-on: ubuntu-latest
    outputs: {runner: ubuntu-latest, minutes: "0.05"}
    steps:
      - run: echo
        working-directory: /
  all:
    needs: setup
    name: Job on ${{ needs.setup.outputs.runner }}
    runs-on: ${{ needs.setup.outputs.runner }}
    if: needs.setup.result == 'success' && contains(github.ref, 'heads')
    continue-on-error: ${{ vars.DIR == 'sub dir' }}
    defaults: {run: {working-directory: "${{ github.workspace }}/../default"}}
    steps:
      - run: mkdir -p "$GITHUB_WORKSPACE/../default" "$GITHUB_WORKSPACE/sub dir"
        working-directory: /
      - id: named
        name: Step ${{ format('{0}-{1}', 'a', 2) }} {{0}}
        if: ${{ env.YES }}
        env: {E: "${{ join(fromJSON('[1,2,3]'), '+') }}"}
        run: echo "$E ${{ runner.os }} ${{ 1 == 1.0 }} ${{ !env.NONE }} ${{ 'A' == 'a' }}"; pwd
      - id: there
        working-directory: ${{ vars.DIR }}
        shell: ${{ 'sh' }}
        run: basename "$PWD"; echo "${{ toJSON(job.status) }}"
      - id: fails
        timeout-minutes: ${{ fromJSON('5') }}
        continue-on-error: ${{ vars.DIR == 'sub dir' }}
        run: exit 1
      - id: after
        if: steps.fails.outcome == 'failure' && steps.fails.conclusion == 'success'
        run: echo "outcome ${{ steps.fails.outcome }}, conclusion ${{ steps.fails.conclusion }}"
      - id: broken
        run: echo "${{ fromJSON('{') }}"
      - id: not-reached
        run: echo not reached
      - {id: limit, if: always(), timeout-minutes: "${{ fromJSON(needs.setup.outputs.minutes) }}", run: sleep 1000}
"#,
    );
    let ran = project
        .call(
            &home,
            [
                "workflow",
                "run",
                "ci",
                "--var",
                "DIR=sub dir",
                "--format",
                "json",
            ],
        )
        .run()
        .exits(0);
    let record = vmint_tests::Record(ran.json());
    let folder = home.root().join("runs").join(record.id());
    let ran = Ran {
        outcome: ran,
        record,
        folder,
    };
    let record = &ran.record;
    assert_eq!(record.0["title"], "Run of push with sub dir");
    let job = record.job("all");
    assert_eq!(job["name"], "Job on ubuntu-latest");
    assert_eq!(
        (&job["outcome"], &job["continue_on_error"]),
        (&json!("failure"), &json!(true)),
        "a job that may fail is shown as failed: {job}"
    );
    assert_eq!(record.step("all", "named")["name"], "Step a-2 {{0}}");
    let said = |step| ran.said("all", step);
    let here = said("named");
    assert!(
        here.starts_with("1+2+3 Linux true true true\n") && here.ends_with("/default\n"),
        "{here}"
    );
    assert_eq!(said("there"), "sub dir\n\"success\"\n".replace('"', ""));
    let limit = record.step("all", "limit");
    assert_eq!(
        (&limit["ended"]["kind"], &limit["ended"]["whose"]),
        (&json!("timed_out"), &json!("step")),
        "{limit}"
    );
    assert_eq!(said("after"), "outcome failure, conclusion success\n");
    assert_eq!(record.outcome("all", "broken"), "failure");
    assert!(
        ran.log("all", "broken").contains("fromJSON"),
        "{}",
        ran.log("all", "broken")
    );
    assert_eq!(record.outcome("all", "not-reached"), "skipped");
}

#[test]
fn conditions_follow_github_s_rules_of_status() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  steps:
    runs-on: ubuntu-latest
    steps:
      - {id: early, if: failure(), run: echo}
      - {id: no, if: "false", run: exit 1}
      - {id: allowed, run: exit 4, continue-on-error: true}
      - {id: still, if: "steps.allowed.outcome == 'failure'", run: echo}
      - {id: fails, run: exit 3}
      - {id: usual, run: echo}
      - {id: plain, if: "true", run: echo}
      - {id: success, if: success(), run: echo}
      - {id: failure, if: failure(), run: echo}
      - {id: always, if: always(), run: echo}
      - {id: cancelled, if: cancelled(), run: echo}
      - {id: not-cancelled, if: "!cancelled()", run: echo}
      - {id: both, if: "failure() && steps.fails.conclusion == 'failure'", run: echo}
      - {id: skipped, if: "always() && steps.usual.outcome == 'skipped'", run: echo}
  after: {needs: steps, runs-on: ubuntu-latest, steps: [{run: echo}]}
  after-always:
    needs: [steps, after]
    if: always()
    runs-on: ubuntu-latest
    steps:
      - {id: results, run: "echo ${{ needs.steps.result }} ${{ needs.after.result }} ${{ join(needs.*.result, ',') }}"}
  after-failure: {needs: steps, if: failure(), runs-on: ubuntu-latest, steps: [{run: echo}]}
  no: {if: "github.event_name == 'pull_request'", runs-on: ubuntu-latest, steps: [{run: exit 1}]}
  after-skipped: {needs: no, runs-on: ubuntu-latest, steps: [{run: exit 1}]}
  after-skipped-all-the-same: {needs: no, if: "!failure()", runs-on: ubuntu-latest, steps: [{run: echo}]}
"#,
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    let steps = [
        ("early", "skipped"),
        ("no", "skipped"),
        ("allowed", "failure"),
        ("still", "success"),
        ("fails", "failure"),
        ("usual", "skipped"),
        ("plain", "skipped"),
        ("success", "skipped"),
        ("failure", "success"),
        ("always", "success"),
        ("cancelled", "skipped"),
        ("not-cancelled", "success"),
        ("both", "success"),
        ("skipped", "success"),
    ];
    for (step, outcome) in steps {
        assert_eq!(ran.record.outcome("steps", step), outcome, "{step}");
    }
    assert_eq!(ran.record.step("steps", "allowed")["conclusion"], "success");
    for (job, outcome) in [
        ("steps", "failure"),
        ("after", "skipped"),
        ("after-always", "success"),
        ("after-failure", "success"),
        ("no", "skipped"),
        ("after-skipped", "skipped"),
        ("after-skipped-all-the-same", "success"),
    ] {
        assert_eq!(ran.record.job(job)["outcome"], outcome, "{job}");
    }
    let results = ran.said("after-always", "results");
    assert!(results.starts_with("failure skipped "), "{results}");
}

/// A script that tells of itself: `$0`'s bytes.
#[test]
fn scripts_reach_their_shell_byte_for_byte() {
    let home = Home::new();
    // What YAML makes of each, by its rules for block scalars.
    let cases = [
        (
            "literal",
            "|",
            "cat \"$0\"\n  indented\t\n\nlast # comment\n",
        ),
        ("keep", "|+", "cat \"$0\"\n\ntail\n\n\n"),
        ("strip", "|-", "cat \"$0\"\n\ntail"),
        (
            "folded",
            ">",
            "cat \"$0\"\n  kept\n  as is\nfolded together\n\nünïcödé 🦀 'q' \"d\" \\n %s $x\n",
        ),
    ];
    let mut workflow =
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n".to_owned();
    for (id, header, text) in cases {
        let text = if header == ">" {
            text.replace("folded together\n\n", "folded\ntogether\n\n\n")
        } else {
            text.to_owned()
        };
        write!(
            workflow,
            "      - id: {id}\n        shell: cat {{0}}\n        run: {header}\n"
        )
        .unwrap();
        for line in text.split_inclusive('\n') {
            let blank = line == "\n";
            write!(workflow, "{}{line}", if blank { "" } else { "          " }).unwrap();
        }
        if !workflow.ends_with('\n') {
            workflow.push('\n');
        }
    }
    workflow +=
        "      - {id: digest, shell: sha256sum {0}, run: \"a\\r\\nb\\x07\\t\\u00e9 \\\"q\\\"\"}\n";
    workflow = workflow.replace("sha256sum {0}", "'sha256sum {0}'");
    let project = Project::with(TINY, &workflow);
    let ran = project.run(&home, "ci").ok();
    for (id, _, text) in cases {
        let mut lines = text.to_owned();
        if !lines.ends_with('\n') {
            lines.push('\n');
        }
        assert_eq!(ran.said("one", id), lines, "{id} of:\n{workflow}");
    }
    let digest = ran.said("one", "digest");
    let expected = hex("a\r\nb\u{7}\t\u{e9} \"q\"".as_bytes());
    assert!(digest.starts_with(&expected), "{digest}");
}

#[test]
fn shells_have_github_s_flags() {
    let home = Home::with(Seed::Debian);
    let project = debian(
        r#"
on: push
env: {BASH_ENV: /etc/no-such-profile}
jobs:
  named:
    runs-on: ubuntu-latest
    steps:
      - id: usual
        run: |
          echo "$- $(tr '\0' ' ' </proc/$$/cmdline)"
          false | true
          echo on
      - id: bash
        shell: bash
        continue-on-error: true
        run: |
          echo "$- $SHELLOPTS $(tr '\0' ' ' </proc/$$/cmdline)"
          shopt -q login_shell || echo no login
          false | true
          echo on
      - {id: sh, shell: sh, continue-on-error: true, run: 'echo "$- $(tr "\0" " " </proc/$$/cmdline)"; type [['}
      - {id: perl, shell: "perl -w {0} 'an argument' \"two words\"", run: 'print "@ARGV|$ARGV[-1] $^W\n"'}
      - {id: options, shell: "bash -x -u {0}", run: "echo x ${NONE}"}
      - {id: none, if: always(), continue-on-error: true, shell: "zsh {0}", run: echo}
  defaults:
    runs-on: ubuntu-latest
    if: always()
    defaults: {run: {shell: bash, working-directory: /tmp}}
    steps:
      - {id: given, run: 'echo "$SHELLOPTS" | grep -o pipefail; pwd'}
      - {id: own, shell: sh, working-directory: /usr, run: 'pwd; echo "${SHELLOPTS-none}"'}
      - {id: no-folder, working-directory: /no/such/folder, run: pwd}
"#,
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    let said = |step| ran.said("named", step);
    let of = |text: &str, flags: &str, command: &str| {
        let line = text.lines().next().unwrap_or_default();
        let (is, runs) = line.split_once(' ').unwrap_or_default();
        let is_command = runs.contains(command) && runs.contains(".sh ");
        assert!(
            flags.chars().all(|flag| is.contains(flag)) && is_command,
            "expected the flags {flags} and {command}: {line}"
        );
    };
    let usual = said("usual");
    of(&usual, "e", "bash -e /home/runner/work/_temp/");
    assert!(
        usual.ends_with("\non\n"),
        "a failure in a pipe goes unseen: {usual}"
    );
    let bash = said("bash");
    of(
        &bash,
        "e",
        "bash --noprofile --norc -eo pipefail /home/runner/work/_temp/",
    );
    assert!(
        bash.contains("pipefail") && bash.contains("no login"),
        "{bash}"
    );
    assert!(
        !bash.contains("\non\n"),
        "a failure in a pipe ends it: {bash}"
    );
    assert_eq!(ran.record.outcome("named", "bash"), "failure");
    of(&said("sh"), "e", "sh -e /home/runner/work/_temp/");
    assert_eq!(
        ran.record.outcome("named", "sh"),
        "failure",
        "dash has no [["
    );
    assert_eq!(said("perl"), "'an argument' two words|two words 1\n");
    let options = ran.log("named", "options");
    assert!(
        options.contains("NONE: unbound variable"),
        "it has -u: {options}"
    );
    assert_eq!(ran.record.outcome("named", "none"), "failure");
    let log = ran.log("named", "none");
    assert!(log.contains("##[error]") && log.contains("zsh"), "{log}");
    let defaults = |step| ran.said("defaults", step);
    assert_eq!(defaults("given"), "pipefail\n/tmp\n");
    assert_eq!(defaults("own"), "/usr\nnone\n");
    assert_eq!(ran.record.outcome("defaults", "no-folder"), "failure");
    let log = ran.log("defaults", "no-folder");
    assert!(log.contains("/no/such/folder"), "{log}");
}

#[test]
fn a_matrix_makes_a_job_of_each_combination() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  plan:
    runs-on: ubuntu-latest
    outputs: {dynamic: "${{ steps.s.outputs.dynamic }}"}
    steps:
      - id: s
        run: echo 'dynamic={"word":["x","y"],"include":[{"word":"x","more":{"deep":7}},{"word":"z"}]}' >>"$GITHUB_OUTPUT"
  fixed:
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        os: [linux, bsd]
        n: [1, 2]
        exclude: [{os: bsd, n: 1}]
        include:
          - {os: linux, n: 1, extra: yes it is}
          - {os: plan9, n: 9}
    steps:
      - id: say
        run: |
          echo "${{ matrix.os }} ${{ matrix.n }} ${{ matrix.extra }} ${{ strategy.job-index }}/${{ strategy.job-total }} ${{ strategy.fail-fast }}"
          [ ${{ matrix.os }} != bsd ]
  dynamic:
    needs: plan
    name: D ${{ matrix.word }}
    runs-on: ubuntu-latest
    strategy: {matrix: "${{ fromJSON(needs.plan.outputs.dynamic) }}"}
    outputs: {last: "${{ steps.say.outputs.last }}"}
    steps:
      - id: say
        run: |
          echo "${{ matrix.word }} ${{ matrix.more.deep }} ${{ toJSON(matrix) != '' }}"
          echo "last=${{ matrix.word }}" >>"$GITHUB_OUTPUT"
  after: {needs: dynamic, runs-on: ubuntu-latest, steps: [{id: say, run: "echo ${{ needs.dynamic.outputs.last }}"}]}
"#,
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    for (key, line, outcome) in [
        ("fixed (linux, 1)", "linux 1 yes it is 0/4 false", "success"),
        ("fixed (linux, 2)", "linux 2  1/4 false", "success"),
        ("fixed (bsd, 2)", "bsd 2  2/4 false", "failure"),
        ("fixed (plan9, 9)", "plan9 9  3/4 false", "success"),
        ("dynamic (x)", "x 7 true", "success"),
        ("dynamic (y)", "y  true", "success"),
        ("dynamic (z)", "z  true", "success"),
    ] {
        let text = ran.said(key, "say");
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first.trim_end(), line.trim_end(), "{key}");
        assert_eq!(ran.record.job(key)["outcome"], outcome, "{key}");
    }
    assert_eq!(ran.record.job("dynamic (y)")["name"], "D y");
    assert_eq!(ran.said("after", "say"), "z\n");
    let one = project
        .run(&home, "ci --job fixed --matrix os=linux --matrix n=2")
        .ok();
    let jobs: Vec<_> = one.record.0["jobs"].as_array().unwrap().iter().collect();
    let keys: Vec<_> = jobs
        .iter()
        .map(|job| job["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["fixed (linux, 2)"], "one job in one combination");
    let none = project.vmint(&home, "workflow run ci --job nonsense").run();
    assert!(
        none.error().contains("nonsense") && none.error().contains("fixed"),
        "{none}"
    );
    assert_eq!(none.code, Some(125), "{none}");
}

#[test]
fn commands_in_the_output_make_groups_annotations_and_nothing_while_they_are_stopped() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - id: commands
        run: |
          echo '::group::Inside'
          echo 'in the group'
          echo '::endgroup::'
          echo '::error file=src/a.c,line=3,endLine=3,col=5,endColumn=7,title=Bad%3A it%2C is::first%0Asecond 100%25'
          echo '::warning::careful'
          echo '::notice title=T::note'
          echo '::debug::not seen'
          echo '##[warning]of the old kind'
          echo 'before ::error::not at the beginning'
          echo '::stop-commands::a-word'
          echo '::error::only text'
          echo '::set-output name=no::no'
          echo '::a-word::'
          echo '::notice::again'
          echo '::unknown-thing::x'
      - id: matched
        run: |
          cat >matcher.json <<'END'
          {"problemMatcher": [{"owner": "mine", "severity": "warning", "pattern": [
            {"regexp": "^(\\S+):(\\d+):(\\d+): (error|warning): (.*)$", "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5}]}]}
          END
          echo '::add-matcher::matcher.json'
          echo 'lib/b.c:12:9: error: no such thing'
          echo 'no problem: 1:2'
          echo '::remove-matcher owner=mine::'
          echo 'lib/b.c:13:9: error: not looked for'
      - {id: quiet, run: "for i in $(seq 150); do echo ::warning::w$i; done"}
"#,
    );
    let report = project.root().join("out");
    let ran = project.run(&home, "ci --report out").ok();
    let said = ran.said("one", "commands");
    let expected = "##[group]Inside\nin the group\n##[endgroup]\n";
    assert!(said.starts_with(expected), "{said}");
    assert!(
        said.contains("\n::error::only text\n::set-output name=no::no\n"),
        "{said}"
    );
    assert!(!said.contains("not seen"), "{said}");
    let annotations = |step| {
        let step = ran.record.step("one", step);
        let all = step["annotations"].as_array().unwrap().clone();
        let text = |one: &Value| {
            let place = format!("{}:{}:{}", one["file"], one["line"], one["column"]);
            format!(
                "{} {place} {} {}",
                one["level"], one["title"], one["message"]
            )
            .replace('"', "")
        };
        (
            all.iter().map(text).collect::<Vec<_>>(),
            step["annotations_dropped"].clone(),
        )
    };
    let of = annotations("commands").0;
    assert_eq!(
        of[..3],
        [
            "error src/a.c:3:5 Bad: it, is first\\nsecond 100%",
            "warning null:null:null null careful",
            "notice null:null:null T note"
        ],
        "{of:#?}"
    );
    assert!(
        of.contains(&"notice null:null:null null again".to_owned()),
        "{of:#?}"
    );
    assert!(
        !of.iter()
            .any(|one| one.contains("only text") || one.contains("at the beginning")),
        "{of:#?}"
    );
    assert_eq!(
        annotations("matched").0,
        ["error lib/b.c:12:9 null no such thing"]
    );
    let (kept, dropped) = annotations("quiet");
    assert_eq!((kept.len(), dropped), (100, json!(50)));
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(
        page.contains("no such thing") && page.contains("Bad: it, is"),
        "the report has them"
    );
    let read: Value =
        serde_json::from_slice(&std::fs::read(report.join("run.json")).unwrap()).unwrap();
    assert_eq!(read["id"], ran.record.0["id"]);
}
