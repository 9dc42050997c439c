//! What workflows use: the repository, actions, artifacts, caches, tools of the image, other workflows. And what cannot be
//! used here, which is refused before anything runs.
//!
//! JavaScript actions need an image with Node.js, which is too large for a seed: here is only that they are refused
//! without it.

use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use vmint_tests::bytes::hex;
use vmint_tests::project::{TINY, steps};
use vmint_tests::{Home, Project, Ran};

#[test]
fn checkout_brings_the_files_as_they_lie_there_or_those_of_a_commit() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        &steps(
            r#"
      - {id: before, run: "ls -A | wc -l; touch stale"}
      - {id: here, uses: actions/checkout@v4}
      - id: list
        run: |
          find . -path ./.git -prune -o \( -type f -o -type l \) -print | sort
          cat changed.txt; readlink link; stat -c %a run.sh plain; ./run.sh
          cat "with space/ünï.txt"
          echo "$GITHUB_SHA ${{ steps.here.outputs.commit }}"
      - {id: old, uses: actions/checkout@v4, with: {ref: "first", path: old}}
      - id: list-old
        run: cd old; find . -path ./.git -prune -o -type f -print | sort; cat changed.txt; echo "${{ steps.old.outputs.commit }}"
      - {id: out, uses: actions/checkout@v4, with: {path: ../../../x}, continue-on-error: true}
      - {id: no-ref, uses: actions/checkout@v4, with: {ref: no-such-branch}, continue-on-error: true}
      - {id: other, uses: actions/checkout@v4, with: {repository: some/other}, continue-on-error: true}
"#,
        ),
    );
    project.file("changed.txt", "committed\n");
    project.file(".gitignore", "ignored/\n*.log\n!kept.log\n");
    project.file("plain", "");
    let first = project.commit();
    project.git(&["tag", "first"]);
    project.file("second.txt", "");
    project.file("run.sh", "#!/bin/sh\necho executable\n");
    let run = project.root().join("run.sh");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("changed.txt", project.root().join("link")).unwrap();
    let second = project.commit();
    project.file("changed.txt", "not committed\n");
    project.file("with space/ünï.txt", "untracked\n");
    project.file("ignored/no", "");
    project.file("no.log", "");
    project.file("kept.log", "");
    let ran = project.run(&home, "ci").ok();
    assert_eq!(
        ran.said("one", "before"),
        "0\n",
        "a job begins with an empty workspace"
    );
    let list = ran.said("one", "list");
    for there in [
        "./changed.txt\n",
        "./.gitignore\n",
        "./kept.log\n",
        "./link\n",
        "./with space/ünï.txt\n",
        "./.github/workflows/ci.yml\n",
    ] {
        assert!(list.contains(there), "{there}: {list}");
    }
    assert!(
        !list.contains("ignored/") && !list.contains("no.log"),
        "{list}"
    );
    let end =
        format!("not committed\nchanged.txt\n755\n644\nexecutable\nuntracked\n{second} {second}\n");
    assert!(list.ends_with(&end), "{list}");
    let old = ran.said("one", "list-old");
    assert!(old.ends_with(&format!("committed\n{first}\n")), "{old}");
    assert!(
        !old.contains("second.txt") && !old.contains("run.sh"),
        "{old}"
    );
    for (step, word) in [
        ("out", "workspace"),
        ("no-ref", "no-such-branch"),
        ("other", "some/other"),
    ] {
        assert_eq!(ran.record.outcome("one", step), "failure", "{step}");
        let log = ran.log("one", step);
        assert!(log.contains(word), "{word}: {log}");
    }
    // The whole run on a commit, and not on what lies there.
    project.workflow(
        "ci",
        &steps(
            "      - uses: actions/checkout@v4\n      - {id: see, run: \"cat changed.txt; ls\"}\n",
        ),
    );
    let ran = project.run(&home, &format!("ci --commit {first}")).ok();
    let see = ran.said("one", "see");
    assert!(
        see.starts_with("committed\n") && !see.contains("second.txt"),
        "{see}"
    );
}

const OUTER: &str = r#"
name: outer
inputs:
  who: {description: d, required: true}
  times: {default: "2"}
outputs:
  greeting: {value: "${{ steps.inner.outputs.said }} from ${{ steps.own.outputs.where }}"}
  none: {value: "${{ steps.skipped.outputs.x }}"}
runs:
  using: composite
  steps:
    - id: inner
      uses: ./actions/inner
      with: {WHO: "${{ inputs.who }}"}
    - id: own
      shell: sh
      working-directory: sub
      env: {STEP: of the step}
      run: |
        echo "where=$(basename "$PWD")" >>"$GITHUB_OUTPUT"
        echo "outer ${{ inputs.times }} $OUTSIDE $STEP [$INPUT_WHO] $(cat "${{ github.action_path }}/data.txt")"
        echo "BY_ACTION=set" >>"$GITHUB_ENV"
    - {id: skipped, if: "inputs.times != '2'", shell: sh, run: exit 1}
"#;

const INNER: &str = r#"
name: inner
inputs: {who: {default: nobody}}
outputs: {said: {value: "${{ steps.s.outputs.said }}"}}
runs:
  using: composite
  steps:
    - {id: s, shell: sh, run: 'echo "said=Hello ${{ inputs.who }}" >>"$GITHUB_OUTPUT"; echo "inner $OUTSIDE ${{ steps.own }}"'}
"#;

const FAILING: &str = r#"
name: failing
outputs: {seen: {value: "${{ steps.b.outcome }}-${{ steps.c.outcome }}-${{ steps.d.outcome }}"}}
runs:
  using: composite
  steps:
    - {id: a, shell: sh, run: exit 1, continue-on-error: true}
    - {id: b, shell: sh, run: "echo b runs; exit 5"}
    - {id: c, shell: sh, run: echo c does not run}
    - {id: d, shell: sh, if: failure(), run: echo d runs}
"#;

#[test]
fn composite_actions_have_inputs_outputs_and_conditions_of_their_own() {
    let home = Home::new();
    let project = Project::with(
        "image = \"tiny\"\nactions = \"mirror\"",
        &steps(
            r#"
      - uses: actions/checkout@v4
      - run: mkdir sub
      - {id: outer, uses: ./actions/outer, with: {who: the world}, env: {OUTSIDE: outside}}
      - id: see
        run: echo "${{ steps.outer.outputs.greeting }}|${{ steps.outer.outputs.none }}|${{ steps.inner }}|$BY_ACTION|$OUTSIDE"
      - {id: mirrored, uses: someone/tools/deep@v1, with: {word: "w"}}
      - {id: failing, uses: ./actions/failing, continue-on-error: true}
      - id: after
        run: echo "${{ steps.failing.outcome }} ${{ steps.failing.conclusion }} ${{ steps.failing.outputs.seen }} ${{ steps.mirrored.outputs.file }}"
"#,
        ),
    );
    project.file("actions/outer/action.yml", OUTER);
    project.file("actions/outer/data.txt", "data");
    project.file("actions/inner/action.yaml", INNER);
    project.file("actions/failing/action.yml", FAILING);
    project.file(
        "mirror/someone/tools@v1/deep/action.yml",
        "name: deep\ninputs: {word: {required: true}}\noutputs: {file: {value: \"${{ steps.x.outputs.file }}\"}}\nruns:\n  using: composite\n  steps:\n    - {id: x, shell: sh, run: 'echo \"file=$(cat \"$GITHUB_ACTION_PATH/../deep/f.txt\") ${{ inputs.word }}\" >>\"$GITHUB_OUTPUT\"'}\n",
    );
    project.file("mirror/someone/tools@v1/deep/f.txt", "of the mirror");
    let ran = project.run(&home, "ci").ok();
    let outer = ran.log("one", "outer");
    assert!(
        outer.contains("\ninner outside \n"),
        "an action sees its own steps alone: {outer}"
    );
    assert!(
        outer.contains("\nouter 2 outside of the step [] data\n"),
        "{outer}"
    );
    assert_eq!(ran.said("one", "see"), "Hello the world from sub|||set|\n");
    assert_eq!(
        ran.said("one", "after"),
        "failure success failure-skipped-success of the mirror w\n"
    );
    let failing = ran.log("one", "failing");
    assert!(
        failing.contains("\nd runs\n") && !failing.contains("\nc does not run\n"),
        "{failing}"
    );
}

#[test]
fn artifacts_go_from_job_to_job() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  make:
    strategy: {matrix: {n: [1, 2]}}
    runs-on: ubuntu-latest
    steps:
      - run: |
          mkdir -p out/deep; echo "of ${{ matrix.n }}" >out/deep/file-${{ matrix.n }}.txt; echo no >out/not.tmp
          ln -s deep/file-${{ matrix.n }}.txt out/link; chmod 755 out/deep/*; head -c 300000 /dev/zero >out/zeros; echo h >out/.hidden
      - {id: up, uses: actions/upload-artifact@v4, with: {name: "made-${{ matrix.n }}", path: "out\n!out/*.tmp\n"}}
      - {id: again, uses: actions/upload-artifact@v4, with: {name: "made-${{ matrix.n }}", path: out}, continue-on-error: true}
      - {id: over, uses: actions/upload-artifact@v4, with: {name: "over-${{ matrix.n }}", path: out/not.tmp}}
      - {run: "echo new >out/not.tmp"}
      - {uses: actions/upload-artifact@v4, with: {name: "over-${{ matrix.n }}", path: out/not.tmp, overwrite: true}}
      - {id: none, uses: actions/upload-artifact@v4, with: {name: none, path: nothing/*}}
      - {id: none-error, uses: actions/upload-artifact@v4, with: {name: none, path: nothing/*, if-no-files-found: error}, continue-on-error: true}
      - {id: bad-name, uses: actions/upload-artifact@v4, with: {name: "../../evil", path: out}, continue-on-error: true}
  use:
    needs: make
    runs-on: ubuntu-latest
    steps:
      - {uses: actions/download-artifact@v4, with: {name: made-1, path: one}}
      - {uses: actions/download-artifact@v4, with: {pattern: "made-*", path: folders}}
      - {uses: actions/download-artifact@v4, with: {pattern: "made-*", path: merged, merge-multiple: true}}
      - {uses: actions/download-artifact@v4, with: {name: over-2}}
      - {id: missing, uses: actions/download-artifact@v4, with: {name: no-such}, continue-on-error: true}
      - id: list
        run: |
          find one folders merged \( -type f -o -type l \) | sort
          cat one/deep/file-1.txt folders/made-2/deep/file-2.txt merged/deep/file-1.txt not.tmp
          sha256sum one/zeros
"#,
    );
    let ran = project.run(&home, "ci").ok();
    for key in ["make (1)", "make (2)"] {
        assert_eq!(ran.record.outcome(key, "up"), "success");
        for (step, outcome, word) in [
            ("again", "failure", "made-"),
            ("none", "success", "nothing/*"),
            ("none-error", "failure", "nothing/*"),
            ("bad-name", "failure", "../../evil"),
        ] {
            assert_eq!(ran.record.outcome(key, step), outcome, "{step}");
            let log = ran.log(key, step);
            assert!(log.contains(word), "{log}");
        }
    }
    assert_eq!(ran.record.outcome("use", "missing"), "failure");
    let list = ran.said("use", "list");
    for there in [
        "one/deep/file-1.txt",
        "folders/made-1/deep/file-1.txt",
        "folders/made-2/deep/file-2.txt",
        "merged/deep/file-1.txt",
        "merged/deep/file-2.txt",
    ] {
        assert!(list.contains(&format!("{there}\n")), "{there}: {list}");
    }
    assert!(
        !list.contains("not.tmp") && !list.contains(".hidden"),
        "{list}"
    );
    let zeros = hex(&vec![0; 300_000]);
    assert!(
        list.ends_with(&format!("of 1\nof 2\nof 1\nnew\n{zeros}  one/zeros\n")),
        "{list}"
    );
    project.vmint(&home, "workflow rm latest").run().ok();
    assert_eq!(
        std::fs::read_dir(home.root().join("runs")).unwrap().count(),
        0,
        "artifacts go with their run"
    );
}

#[test]
fn caches_are_found_again_by_their_key_or_its_beginning_in_later_runs() {
    let home = Home::new();
    let workflow = |key: &str| {
        steps(&format!(
            r#"
      - id: cache
        uses: actions/cache@v4
        with: {{path: "~/.cache/thing\nstore", key: "k-{key}", restore-keys: "k-\nother-"}}
      - id: see
        run: |
          cat ~/.cache/thing/file store/file 2>/dev/null || echo nothing
          echo "hit=${{{{ steps.cache.outputs.cache-hit }}}} matched=${{{{ steps.cache.outputs.cache-matched-key }}}}"
          mkdir -p ~/.cache/thing store; echo "{key}" >~/.cache/thing/file; echo "store of {key}" >store/file; chmod 640 store/file
"#
        ))
    };
    let project = Project::with(TINY, "");
    let see = |key: &str| {
        project.workflow("ci", &workflow(key));
        project.run(&home, "ci").ok().said("one", "see")
    };
    assert_eq!(see("a"), "nothing\nhit= matched=\n");
    assert_eq!(
        see("a"),
        "a\nstore of a\nhit=true matched=k-a\n",
        "of another run, and another machine"
    );
    assert_eq!(
        see("b"),
        "a\nstore of a\nhit=false matched=k-a\n",
        "by the beginning of its key"
    );
    assert_eq!(see("b"), "b\nstore of b\nhit=true matched=k-b\n");
    // What fails saves nothing; and what must be found is missed aloud.
    project.workflow("ci", &(workflow("c") + "      - run: exit 1\n"));
    project.run(&home, "ci").ends("failure", 1);
    assert_eq!(see("c").lines().last(), Some("hit=false matched=k-b"));
    project.workflow(
        "ci",
        &steps("      - {id: must, uses: actions/cache/restore@v4, with: {path: x, key: none, fail-on-cache-miss: true}}\n"),
    );
    let ran = project.run(&home, "ci").ends("failure", 1);
    assert!(ran.log("one", "must").contains("none"));
}

/// Machines that a home ever had, by its events.
fn machines(home: &Home) -> usize {
    let events = home.ok("events --format json").values();
    let started = events
        .iter()
        .filter(|event| event["of"] == "machine" || event["to"] == "starting");
    started.count()
}

#[test]
fn what_cannot_be_run_here_is_refused_with_its_place_before_anything_runs() {
    let home = Home::new();
    let project = Project::with("image = \"tiny\"\nactions = \"mirror\"", "");
    project.file(
        "js/action.yml",
        "name: js\nruns: {using: node20, main: main.js}\n",
    );
    project.file("js/main.js", "console.log('ran')");
    project.file(
        "docker/action.yml",
        "name: d\nruns: {using: docker, image: Dockerfile}\n",
    );
    project.file("docker/Dockerfile", "FROM scratch");
    let before = machines(&home);
    // What the file alone tells.
    for (what, words) in [
        (
            steps("      - run: echo ran\n      - uses: someone/unknown@v3\n"),
            &["ci.yml:7:15", "someone/unknown", "mirror"][..],
        ),
        (
            steps("      - uses: actions/checkout@v4\n      - uses: ./no/such\n"),
            &["ci.yml:7:15", "no/such"],
        ),
        (
            "on: push\njobs:\n  one:\n    runs-on: windows-latest\n    steps: [{run: echo ran}]\n"
                .to_owned(),
            &["windows"],
        ),
        (
            steps("      - {run: echo ran, shell: cmd}\n"),
            &["ci.yml:6:", "cmd"],
        ),
    ] {
        project.workflow("ci", &what);
        let outcome = project.vmint(&home, "workflow run ci").run().exits(125);
        for word in words {
            assert!(outcome.error().contains(word), "{word}: {outcome}");
        }
        assert!(!outcome.text().contains("ran"), "{outcome}");
    }
    assert_eq!(machines(&home), before, "no machine was started for these");
    assert_eq!(home.column("SELECT id FROM leases"), [] as [String; 0]);
    // An input that nobody knows is a warning, as on GitHub.
    project.workflow(
        "ci",
        &steps("      - {uses: actions/checkout@v4, with: {depht: 1}}\n"),
    );
    let warned = project.vmint(&home, "workflow run ci").run().ok();
    let said = warned.error();
    assert!(
        said.contains("ci.yml:6:") && said.contains("depht"),
        "{warned}"
    );
    // What only the image tells, which is asked before the first step. With a `setup` nothing is known of it before.
    project.file(
        "vmint.toml",
        "[workflow]\nmemory = \"128M\"\nimage = \"tiny\"\nsetup = \"true\"\n",
    );
    for (what, words) in [
        (steps("      - run: touch /tmp/x; echo ran\n      - uses: actions/checkout@v4\n      - uses: ./js\n"), &["ci.yml:8:15", "Node.js", "tiny"][..]),
        (steps("      - run: echo ran\n      - uses: actions/checkout@v4\n      - uses: ./docker\n"), &["ci.yml:8:15", "container engine", "tiny"]),
        (steps("      - run: echo ran\n      - uses: docker://alpine:3\n"), &["ci.yml:7:15", "container engine"]),
        ("on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    services:\n      db: {image: postgres}\n    steps: [{run: echo ran}]\n".to_owned(), &["ci.yml:6:", "container engine"]),
        (steps("      - run: echo ran\n      - {uses: actions/setup-python@v5, with: {python-version: '3.11'}}\n"), &["ci.yml:7:", "python", "tiny"]),
    ] {
        project.workflow("ci", &what);
        let outcome = project.vmint(&home, "workflow run ci").run().exits(125);
        for word in words {
            assert!(outcome.error().contains(word), "{word}: {outcome}");
        }
        let shown = project.record(&home, "latest");
        assert_eq!(shown.end(), "fault");
        let ran = shown.0["jobs"][0]["steps"].as_array().unwrap();
        let ran = ran.iter().filter(|step| step["kind"] == "main" && step["started_at"] != Value::Null);
        assert_eq!(ran.count(), 0, "no step was begun: {:#}", shown.0["jobs"]);
    }
}

#[test]
fn a_called_workflow_has_inputs_with_types_its_caller_s_secrets_and_gives_outputs() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
env: {OUTER: outer}
jobs:
  heir:
    uses: ./.github/workflows/called.yml
    with: {word: "of ${{ github.event_name }}", number: 2, truth: true}
    secrets: inherit
  named:
    needs: heir
    strategy: {matrix: {word: [a, b]}}
    uses: ./.github/workflows/called.yml
    with: {word: "${{ matrix.word }}"}
    secrets: {key: "${{ secrets.OTHER }}"}
  after:
    needs: [heir, named]
    runs-on: ubuntu-latest
    steps: [{id: say, run: "echo '${{ needs.heir.outputs.result }} ${{ needs.heir.result }} ${{ needs.named.outputs.result }}'"}]
"#,
    );
    project.workflow(
        "called",
        r#"
on:
  workflow_call:
    inputs:
      word: {type: string, required: true}
      number: {type: number, default: 40}
      truth: {type: boolean, default: false}
    secrets: {key: {required: false}}
    outputs: {result: {value: "${{ jobs.work.outputs.result }}!"}}
jobs:
  work:
    runs-on: ubuntu-latest
    outputs: {result: "${{ steps.say.outputs.result }}"}
    steps:
      - id: say
        run: |
          echo "${{ inputs.word }} ${{ inputs.number == 2 }} ${{ inputs.truth == true }} [${{ env.OUTER }}] ${{ github.workflow_ref == '' }}"
          echo "key has ${#KEY} bytes"
          echo "result=<${{ inputs.word }}>" >>"$GITHUB_OUTPUT"
        env: {KEY: "${{ secrets.key }}"}
"#,
    );
    let ran = project
        .call(
            &home,
            [
                "workflow", "run", "ci", "--secret", "KEY", "--secret", "OTHER", "--format", "json",
            ],
        )
        .env("KEY", "four-and-more")
        .env("OTHER", "longer-than-that")
        .run()
        .exits(0);
    let record = vmint_tests::Record(ran.json());
    let folder = home.root().join("runs").join(record.id());
    let ran = Ran {
        outcome: ran,
        record,
        folder,
    };
    for (key, text) in [
        (
            "heir / work",
            "of push true true [] false\nkey has 13 bytes\n",
        ),
        (
            "named (a) / work",
            "a false false [] false\nkey has 16 bytes\n",
        ),
        (
            "named (b) / work",
            "b false false [] false\nkey has 16 bytes\n",
        ),
        ("after", "<of push>! success <b>!\n"),
    ] {
        assert_eq!(ran.said(key, "say"), text, "{key}");
    }
    project.workflow("wrong", "on: push\njobs:\n  a:\n    uses: ./.github/workflows/called.yml\n    with: {number: x, nonsense: 1}\n");
    let wrong = project.vmint(&home, "workflow run wrong").run().exits(125);
    for word in ["wrong.yml:", "word", "nonsense", "number"] {
        assert!(wrong.error().contains(word), "{word}: {wrong}");
    }
}

#[test]
fn hash_files_is_the_digest_of_the_digests_of_what_lies_in_the_workspace() {
    let home = Home::new();
    let project = Project::with(
        TINY,
        r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: printf made >made.lock
      - id: say
        run: |
          echo "${{ hashFiles('a.lock') }}"
          echo "${{ hashFiles('**/*.lock', '!made.lock') }}"
          echo "${{ hashFiles('made.lock') }}"
          echo "[${{ hashFiles('nothing/**') }}]"
      - {id: if, if: "hashFiles('a.lock') != '' && hashFiles('none') == ''", run: echo}
"#,
    );
    project.file("a.lock", "first");
    project.file("sub/.hidden/b.lock", "second \u{e9}\n");
    let ran = project.run(&home, "ci").ok();
    let of = |files: &[&str]| {
        use sha2::Digest;
        let all = files.iter().flat_map(sha2::Sha256::digest);
        hex(&all.collect::<Vec<_>>())
    };
    let expected = format!(
        "{}\n{}\n{}\n[]\n",
        of(&["first"]),
        of(&["first", "second \u{e9}\n"]),
        of(&["made"])
    );
    assert_eq!(ran.said("one", "say"), expected);
    assert_eq!(ran.record.outcome("one", "if"), "success");
}
