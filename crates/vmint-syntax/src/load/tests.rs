use super::*;
use crate::spec::{JobBody, Map, Runs, StepBody};
use proptest::prelude::*;

const WHOLE: &str = r#"name: CI
run-name: Build ${{ github.ref }}
on:
  push:
    branches: main
    paths-ignore: ['docs/**']
  pull_request:
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [a, b], default: a, required: true}
      plain:
  workflow_call:
    inputs:
      n: {type: number, default: 1.50}
    outputs:
      o: {value: "${{ jobs.build.outputs.v }}"}
    secrets:
      token:
permissions: {contents: read, id-token: write}
env: {A: 1.10, B: true, C: , D: 0x1F}
defaults: {run: {shell: bash}}
concurrency: {group: "g-${{ github.ref }}", cancel-in-progress: "${{ github.ref != 'x' }}"}
jobs:
  build:
    name: Build ${{ matrix.os }}
    runs-on: [self-hosted, linux]
    strategy:
      fail-fast: false
      max-parallel: 2
      matrix:
        os: [a, 1.10]
        include: [{os: a, extra: {deep: [1]}}]
    timeout-minutes: 1.5
    outputs: {v: "${{ steps.s.outputs.v }}"}
    environment: {name: prod, url: https://x}
    services:
      db: {image: postgres, ports: [5432:5432], env: {P: 1}}
    steps:
      - uses: ' actions/checkout@v4 '
        with: {fetch-depth: 0}
      - id: s
        run: |
          echo "v=1" >> "$GITHUB_OUTPUT"
        env: ${{ fromJSON('{}') }}
        timeout-minutes: ${{ 2 }}
        continue-on-error: true
        if: 0
  next:
    needs: build
    if: ${{ always() }}
    uses: ./.github/workflows/x.yml
    with: {a: 1}
    secrets: inherit
"#;

fn refused(text: &str) -> String {
    match workflow(Path::new("ci.yml"), text.as_bytes()) {
        Ok((workflow, _)) => panic!("this was loaded: {workflow:?}"),
        Err(wrong) => wrong.to_string(),
    }
}

/// A workflow with these lines as its only job, `a`.
fn job(lines: &str) -> String {
    let lines = lines.replace('\n', "\n    ");
    format!("on: push\njobs:\n  a:\n    {lines}\n")
}

fn texts(map: &Map) -> Vec<(&str, &str)> {
    match map {
        Map::Entries(entries) => entries
            .iter()
            .map(|(key, text)| (&**key, &*text.text))
            .collect(),
        Map::Expression(text) => vec![("", &text.text)],
    }
}

#[test]
fn a_workflow_is_loaded_with_all_that_it_says() {
    let (workflow, warnings) = workflow(Path::new("ci.yml"), WHOLE.as_bytes()).unwrap();
    assert_eq!(warnings, []);
    let named = ["push", "workflow_call", "release"].map(|event| workflow.names_event(event));
    assert_eq!(named, [true, true, false]);
    assert_eq!(
        texts(&workflow.env),
        [("A", "1.1"), ("B", "true"), ("C", ""), ("D", "31")]
    );
    let build = &workflow.jobs["build"];
    let JobBody::Steps(steps) = &build.body else {
        panic!("a job of steps: {build:?}");
    };
    assert_eq!(
        steps
            .runs_on
            .iter()
            .map(|label| &*label.text)
            .collect::<Vec<_>>(),
        ["self-hosted", "linux"]
    );
    assert_eq!(steps.timeout_minutes.as_ref().unwrap().text, "1.5");
    let StepBody::Uses { uses, with } = &steps.steps[0].body else {
        panic!("a step that uses: {:?}", steps.steps[0]);
    };
    assert_eq!(
        (&*uses.text, texts(with)),
        ("actions/checkout@v4", vec![("fetch-depth", "0")])
    );
    let step = &steps.steps[1];
    let StepBody::Run { script, .. } = &step.body else {
        panic!("a step that runs: {step:?}");
    };
    assert_eq!(script.text, "echo \"v=1\" >> \"$GITHUB_OUTPUT\"\n");
    assert_eq!(
        script.spot,
        Spot {
            line: 43,
            column: 11
        }
    );
    assert_eq!(texts(&step.env), [("", "${{ fromJSON('{}') }}")]);
    assert_eq!(step.condition.as_ref().unwrap().text, "0");
    let next = &workflow.jobs["next"];
    assert_eq!(next.needs[0].text, "build");
    assert!(
        matches!(&next.body, JobBody::Call(call) if call.secrets == crate::spec::CallSecrets::Inherit)
    );
}

#[test]
fn an_action_is_loaded_of_each_kind() {
    let load = |text: &str| action(Path::new("action.yml"), text.as_bytes()).unwrap().0;
    let composite = load(
        "name: x\nbranding: {icon: z}\ninputs:\n  a: {required: 'true', extra: 1}\n  b: {default: 1.10}\n  c:\n\
         outputs: {o: {value: v}}\nruns:\n  using: composite\n  steps: [{run: x, shell: bash}]\n",
    );
    assert!(composite.inputs["a"].required && !composite.inputs["c"].required);
    assert_eq!(composite.inputs["b"].default.as_ref().unwrap().text, "1.1");
    assert!(matches!(&composite.runs, Runs::Composite(steps) if steps.len() == 1));
    let node = load("runs: {using: node20, main: m.js, post: p.js, post-if: success()}");
    assert!(matches!(&node.runs, Runs::Node(node) if node.post.as_ref().unwrap().1.is_some()));
    let docker = load("runs: {using: docker, image: Dockerfile, args: [a, 1], env: {A: 1}}");
    assert!(matches!(&docker.runs, Runs::Docker(docker) if docker.args[1].text == "1"));
}

#[test]
fn what_does_not_fit_the_syntax_is_told_with_its_place() {
    let cases = [
        String::new(),
        "jobs:\n".into(),
        "on: [push, pul_request]\njobs: {}\n".into(),
        "on: {push: {branch: x}, schedule: {cron: x}}\njob: {}\njobs: {1a: x}\n".into(),
        "on: {push: {branches: a, branches-ignore: b}}\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n".into(),
        job("runs_on: x\nstep:\n- run: x"),
        job("runs-on: x\nsteps: []"),
        job("runs-on: []\nsteps:\n- name: nothing\n- run: x\n  uses: a/b@v1\n- Run: x"),
        job("runs-on: x\nsteps:\n- id: a b\n  run: x\n- id: ok\n  run: x\n- id: OK\n  run: x"),
        job("runs-on: x\ntimeout-minutes: '5'\ncontinue-on-error: yes\nneeds: 'a b'\nsteps:\n- run: [x]\n  env:\n  timeout-minutes: soon"),
        job("runs-on: x\nstrategy: {max-parallel: 1.5, matrix: {os: x}}\npermissions: {contents: writ}\nsteps:\n- run: x"),
        job("runs-on: x\nsteps:\n- uses: actions/checkout\n- uses: checkout@v4\n- uses: docker://\n- uses: ${{ x }}\n- uses: ''"),
        job("uses: ./.github/workflows/x.yml@v1\nsteps: []\nsecrets: all"),
        job("uses: docker://x\nruns-on: x"),
        job("runs-on: x\nsnapshot: x\nsteps:\n- run: x\n  background: true\n- wait: a\n- parallel: []"),
        job("runs-on: x\nenv: [A=b]\nsteps: {run: x}"),
    ];
    let all: Vec<String> = cases.iter().map(|case| refused(case)).collect();
    insta::assert_snapshot!(all.join("\n--\n"), @r"
    ci.yml:1:1: error: expected a mapping, found nothing
    --
    ci.yml:1:1: error: `jobs`: expected a mapping, found nothing
    ci.yml:1:1: error: the workflow needs the key `on`
    --
    ci.yml:1:12: error: `on`: expected the name of an event, found `pul_request`
        help: did you mean `pull_request`?
    ci.yml:2:7: error: `jobs` is empty
    --
    ci.yml:1:13: error: unknown key `branch` in `push`
        help: did you mean `branches`?
    ci.yml:1:35: error: `schedule`: expected a list, found a mapping
    ci.yml:2:1: error: unknown key `job` in the workflow
        help: did you mean `jobs`?
    ci.yml:3:8: error: `1a` is not a legal id
        help: an id begins with a letter or `_` and goes on with letters, digits, `-` and `_`
    ci.yml:3:12: error: `1a`: expected a mapping, found `x`
    --
    ci.yml:1:26: error: `push` has both `branches` and `branches-ignore`
        help: use only `branches` and exclude with patterns that begin with `!`
    --
    ci.yml:4:5: error: unknown key `runs_on` in the job
        help: did you mean `runs-on`?
    ci.yml:4:5: error: the job needs the key `runs-on`
        help: `runs_on` may be meant as `runs-on`
    ci.yml:4:5: error: the job needs the key `steps`
        help: `step` may be meant as `steps`
    ci.yml:5:5: error: unknown key `step` in the job
        help: did you mean `steps`?
    --
    ci.yml:5:5: error: `steps` is empty
        help: add a step with `run` or `uses`
    --
    ci.yml:6:7: error: the step has neither `run` nor `uses`
        help: a step runs a script or uses an action
    ci.yml:7:7: error: the step has both `run` and `uses`
        help: make two steps of it
    ci.yml:9:7: error: unknown key `Run` in a step
        help: did you mean `run`?
    ci.yml:9:7: error: the step has neither `run` nor `uses`
        help: a step runs a script or uses an action
    --
    ci.yml:6:11: error: `a b` is not a legal id
        help: an id begins with a letter or `_` and goes on with letters, digits, `-` and `_`
    --
    ci.yml:5:22: error: `timeout-minutes`: expected a number of at least 0 or one expression, found `5`
        help: remove the quotes
    ci.yml:6:24: error: `continue-on-error`: expected `true` or `false` or one expression, found `yes`
        help: in YAML 1.2 `yes` is text; write `true` or `false`
    ci.yml:7:12: error: `a b` is not a legal id
        help: an id begins with a letter or `_` and goes on with letters, digits, `-` and `_`
    ci.yml:9:12: error: `run`: expected text, found a list
    ci.yml:10:7: error: `env`: expected a mapping or one expression, found nothing
    ci.yml:11:24: error: `timeout-minutes`: expected a number of at least 0 or one expression, found `soon`
    --
    ci.yml:5:30: error: `max-parallel`: expected a whole number of at least 1 or one expression, found `1.5`
    ci.yml:5:48: error: `os`: expected a list or one expression, found `x`
    ci.yml:6:29: error: `contents`: expected `read`, `write` or `none`, found `writ`
        help: did you mean `write`?
    --
    ci.yml:6:13: error: `actions/checkout` has no `@REF`
        help: write `./PATH`, `OWNER/REPO@REF`, `OWNER/REPO/PATH@REF` or `docker://IMAGE`
    ci.yml:7:13: error: `checkout@v4` names no repository
        help: write `./PATH`, `OWNER/REPO@REF`, `OWNER/REPO/PATH@REF` or `docker://IMAGE`
    ci.yml:8:13: error: `docker://` names no image
        help: write `./PATH`, `OWNER/REPO@REF`, `OWNER/REPO/PATH@REF` or `docker://IMAGE`
    ci.yml:9:13: error: `uses` cannot hold an expression
        help: write `./PATH`, `OWNER/REPO@REF`, `OWNER/REPO/PATH@REF` or `docker://IMAGE`
    ci.yml:10:13: error: `` has no `@REF`
        help: write `./PATH`, `OWNER/REPO@REF`, `OWNER/REPO/PATH@REF` or `docker://IMAGE`
    --
    ci.yml:4:11: error: `./.github/workflows/x.yml@v1` is a local workflow and has no `@REF`
        help: remove the `@` and what is behind it
    ci.yml:5:5: error: the job has both `steps` and `uses`
        help: a job runs steps or calls a workflow; make two jobs of it
    ci.yml:6:14: error: `secrets`: expected `inherit` or a mapping, found `all`
    --
    ci.yml:4:11: error: `docker://x` is an image, not a workflow
        help: write `./.github/workflows/FILE.yml` or `OWNER/REPO/.github/workflows/FILE.yml@REF`
    ci.yml:5:5: error: `runs-on` is not allowed in a job that calls a workflow
        help: remove it; the jobs of the called workflow say where they run
    --
    ci.yml:5:5: error: `snapshot` (images made from runners) is not supported
        help: remove it; `vmint workflow run --snapshot-steps` freezes the machine before each step
    ci.yml:8:7: error: steps in the background are not supported
        help: run the steps one after the other, or start the process in the script with `&` and wait for it there
    ci.yml:9:7: error: steps in the background are not supported
        help: run the steps one after the other, or start the process in the script with `&` and wait for it there
    ci.yml:10:7: error: steps in the background are not supported
        help: run the steps one after the other, or start the process in the script with `&` and wait for it there
    --
    ci.yml:5:10: error: `env`: expected a mapping or one expression, found a list
    ci.yml:6:12: error: `steps`: expected a list, found a mapping
    ");
}

#[test]
fn what_does_not_fit_an_action_is_told_with_its_place() {
    let cases = [
        "name: x\n",
        "runs: {using: node20}\n",
        "runs: {using: node18, main: x.js}\n",
        "runs:\n  using: composite\n  steps:\n  - run: x\n  - uses: a/b@c\n    timeout-minutes: 1\n  - name: x\n",
        "runs: {using: docker, image: Dockerfile, arg: [x]}\n",
    ];
    let all = cases.map(
        |case| match action(Path::new("action.yml"), case.as_bytes()) {
            Ok((action, _)) => panic!("this was loaded: {action:?}"),
            Err(wrong) => wrong.to_string(),
        },
    );
    insta::assert_snapshot!(all.join("\n--\n"), @r"
    action.yml:1:1: error: the action needs the key `runs`
    --
    action.yml:1:7: error: the action does not say what it runs
        help: `runs` needs `using: composite` with `steps`, `using: node24` with `main`, or `using: docker` with `image`
    --
    action.yml:1:15: error: `using`: expected `node24`, `node20`, `node16` or `node12`, found `node18`
        help: did you mean `node16`?
    --
    action.yml:4:5: error: a step with `run` in an action needs the key `shell`
    action.yml:6:5: error: `timeout-minutes` is not allowed in a step of an action
        help: set it on the step that uses the action, or use `timeout` in the script
    action.yml:7:5: error: the step has neither `run` nor `uses`
        help: a step runs a script or uses an action
    --
    action.yml:1:42: error: unknown key `arg` in `runs` of a docker action
        help: did you mean `args`?
    ");
}

#[test]
fn what_has_no_effect_is_told() {
    let text = job(
        "runs-on: {group: big, labels: ubuntu-latest}\ncancel-timeout-minutes: 5\nsteps:\n- run: x",
    );
    let (_, warnings) = workflow(Path::new("ci.yml"), text.as_bytes()).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
    ci.yml:4:15: warning: `group` has no effect here
        help: only labels choose the image
    ci.yml:5:5: warning: `cancel-timeout-minutes` has no effect here
        help: a cancelled job has five minutes to clean up
    ");
}

#[test]
fn what_the_tables_let_through_the_models_read() {
    // Every key of the tables is in WHOLE or here; a model that refuses one would say so.
    for text in [
        "on: push\njobs: {a: {runs-on: '${{ x }}', steps: [{run: true}]}}",
        "on: [push, workflow_call]\njobs: {a: {runs-on: x, if: false, needs: [b], concurrency: x, steps: [{run: '', shell: sh, working-directory: x}]}, b: {uses: a/b/.github/workflows/c.yml@v1, secrets: {a: b}, strategy: {matrix: '${{ x }}'}}}",
        "on: {schedule: [{cron: '* * * * *', timezone: UTC}], workflow_run: {workflows: x, types: [completed], branches: [a]}, merge_group: {types: [checks_requested]}, issues: {types: opened}, workflow_dispatch: , workflow_call: }\npermissions: read-all\njobs: {a: {runs-on: x, permissions: {}, container: {image: x, credentials: {username: a, password: b}, options: x, volumes: [a], ports: [80]}, environment: prod, steps: [{uses: docker://x, with: '${{ x }}'}]}}",
        "on: {workflow_dispatch: {inputs: }, image_version: {names: [a], versions: [b]}}\njobs: {a: {runs-on: x, strategy: {matrix: {a: '${{ x }}', include: '${{ y }}'}}, container: x, services: {a: x}, steps: [{run: x}]}}",
        "on: push\nconcurrency: x\njobs: {a: {runs-on: x, timeout-minutes: ' ${{ 1 }} ', steps: [{run: x}]}}",
    ] {
        if let Err(wrong) = workflow(Path::new("ci.yml"), text.as_bytes()) {
            panic!("{text}\n{wrong}");
        }
    }
}

proptest! {
    #[test]
    fn a_workflow_with_a_piece_changed_is_loaded_or_refused_with_a_place(
        from in 0..WHOLE.len(),
        length in 0_usize..12,
        piece in "([a-z]{1,3}|[-:\\[\\]{} \n'\"#&*|>$]|: |\n  |\\$\\{\\{|\\}\\}|1|~|<<){0,4}",
    ) {
        let to = (from + length).min(WHOLE.len());
        let text = format!("{}{piece}{}", &WHOLE[..from], &WHOLE[to..]);
        if let Err(Diagnostics(wrong)) = workflow(Path::new("ci.yml"), text.as_bytes()) {
            prop_assert!(!wrong.is_empty());
        }
    }
}
