//! Actions that are programs, with their parts before and after the steps; and programs that the image has already. In
//! Debian with Node.js, python3 and podman.

use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use vmint_tests::seed::Seed;
use vmint_tests::{Home, Project, Record};

const SETTINGS: &str =
    "[workflow]\nimage = \"workshop\"\nmemory = \"640M\"\nactions = \"mirror\"\n";
/// Under emulation Node.js takes a second to begin, and a container takes several.
const RUN_WITHIN: Duration = Duration::from_mins(8);
/// The pool removes a machine behind the run that has given it back.
const GONE_WITHIN: Duration = Duration::from_secs(30);

const SCRIPT: &str = r#"
name: script
inputs: {who: {default: nobody}, how: {default: ''}, status: {default: "${{ job.status }}"}}
outputs: {said: {description: what was said}}
runs: {using: node20, pre: pre.js, pre-if: "runner.os == 'Linux'", main: main.js, post: post.js, post-if: always()}
"#;

const PRE: &str = r"
const { env } = process, fs = require('fs');
console.log(`pre of ${env.INPUT_WHO}, ${env.STEP}, ${env.GITHUB_ACTION}`);
fs.appendFileSync(env.GITHUB_STATE, 'before=from pre\n');
console.log('::save-state name=old::in the old way');
";

const MAIN: &str = r"
const { env } = process, fs = require('fs');
console.log(`main of ${env.INPUT_WHO}, ${env.STEP}, ${env.GITHUB_ACTION}: ${env.STATE_before}, ${env.STATE_old}`);
fs.appendFileSync(env.GITHUB_STATE, 'main<<END\nof\nmain\nEND\n');
fs.appendFileSync(env.GITHUB_OUTPUT, `said=hello ${env.INPUT_WHO}\n`);
if (env.INPUT_HOW === 'hangs') { console.log('it-' + 'hangs'); setInterval(() => {}, 1000); }
if (env.INPUT_HOW === 'fails') process.exit(3);
";

const POST: &str = r"
const { env } = process;
console.log(`post of ${env.INPUT_WHO}, ${env.STEP}, ${env.GITHUB_ACTION}: ${env.STATE_before}, ${env.STATE_old}, `
  + `${JSON.stringify(env.STATE_main)}, ${env.LATER}, ${env.INPUT_STATUS}`);
";

/// Uses two others of the mirror.
const COMPOSITE: &str = r#"
name: composite
inputs: {who: {default: nobody}}
outputs: {said: {value: "${{ steps.inner.outputs.said }}"}}
runs:
  using: composite
  steps:
    - {id: inner, uses: acme/script@v1, with: {who: "${{ inputs.who }} inside", status: given}, env: {STEP: own}}
    - {uses: acme/tools/boxed@v2, with: {who: "${{ inputs.who }} boxed"}}
    - {shell: bash, run: 'echo "$GITHUB_ACTION_REPOSITORY@$GITHUB_ACTION_REF has $(cat "$GITHUB_ACTION_PATH/file.txt")"'}
"#;

const BOXED: &str = r#"
name: boxed
inputs: {who: {default: nobody}}
runs:
  using: docker
  image: Dockerfile
  args: ["${{ inputs.who }}"]
  pre-entrypoint: /say.sh
  post-entrypoint: /say.sh
  post-if: success()
"#;

const LOCAL: &str = "
name: local
runs: {using: node20, pre: say.js, pre-if: failure(), main: say.js, post: say.js, post-if: failure()}
";

const WORKFLOW: &str = r#"
on: push
jobs:
  fails:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - {id: first, uses: acme/script@v1, env: {STEP: "of ${{ github.job }}"}, with: {who: first}}
      - {id: composite, uses: acme/tools@v2, with: {who: "${{ github.event_name }}"}}
      - {id: local, uses: ./local}
      - {id: see, run: "echo '${{ steps.first.outputs.said }}, ${{ steps.composite.outputs.said }}'; echo LATER=later >>$GITHUB_ENV"}
      - {id: failing, name: Fail, uses: acme/script@v1, with: {who: failing, how: fails}}
      - {id: never, name: Never, uses: acme/script@v1, with: {who: never}}
      - {id: status, if: always(), run: "echo 'the job: ${{ job.status }}'"}
  slow:
    needs: fails
    if: always()
    runs-on: ubuntu-latest
    steps:
      - {id: first, uses: acme/script@v1, with: {who: first}}
      - {id: hanging, uses: acme/script@v1, with: {who: hanging, how: hangs}}
      - {id: never, uses: acme/script@v1, if: false, with: {who: never}}
"#;

fn project() -> Project {
    let project = Project::new("");
    project.file("vmint.toml", SETTINGS);
    for (path, text) in [
        ("mirror/acme/script@v1/action.yml", SCRIPT),
        ("mirror/acme/script@v1/pre.js", PRE),
        ("mirror/acme/script@v1/main.js", MAIN),
        ("mirror/acme/script@v1/post.js", POST),
        ("mirror/acme/tools@v2/action.yml", COMPOSITE),
        ("mirror/acme/tools@v2/file.txt", "a file of its own"),
        ("mirror/acme/tools@v2/boxed/action.yml", BOXED),
        (
            "mirror/acme/tools@v2/boxed/Dockerfile",
            "FROM localhost/box:1\nCOPY say.sh /\nRUN chmod +x /say.sh\nENTRYPOINT [\"/say.sh\"]\n",
        ),
        (
            "mirror/acme/tools@v2/boxed/say.sh",
            "#!/bin/sh\necho \"in the box: $1, $INPUT_WHO, $STATE_S\"\necho \"S=$STATE_S+\" >>$GITHUB_STATE\n",
        ),
        ("local/action.yml", LOCAL),
        ("local/say.js", "console.log('local speaks')"),
        (".gitignore", "mirror/\n"),
    ] {
        project.file(path, text);
    }
    project.workflow("ci", WORKFLOW);
    project
}

/// What the programs of a job have said, in the order of its steps.
fn said(record: &Record, home: &Home, job: &str) -> Vec<String> {
    let steps = record.job(job)["steps"].as_array().expect("steps").clone();
    let folder = home.root().join("runs").join(record.id());
    let logs = steps.iter().filter_map(|step| step["log"].as_str());
    let texts = logs.map(|log| std::fs::read_to_string(folder.join(log)).expect("a log"));
    let ours = |line: &str| {
        let line = line.split_once(' ')?.1;
        let begins = ["pre of ", "main of ", "post of ", "in the box: ", "local "];
        begins
            .iter()
            .any(|begin| line.starts_with(begin))
            .then(|| line.to_owned())
    };
    let lines = texts.flat_map(|text| text.lines().filter_map(ours).collect::<Vec<_>>());
    lines.collect()
}

/// The steps of a job and how they ended, in order.
fn steps(record: &Record, job: &str) -> Vec<String> {
    let steps = record.job(job)["steps"].as_array().expect("steps").iter();
    let text = |step: &Value| {
        let word = |key: &str| step[key].as_str().unwrap_or("none").to_owned();
        format!("{}: {}", word("name"), word("outcome"))
    };
    steps.map(text).collect()
}

#[test]
fn parts_of_actions_run_before_and_after_the_steps_whatever_becomes_of_these() {
    let home = Home::with(Seed::Workshop);
    let project = project();
    let call = project.vmint(&home, "workflow run ci").deadline(RUN_WITHIN);
    let mut run = call.start();
    run.says("it-hangs");
    run.signal(Signal::INT);
    let record = project.record_of(&home, &run.finish().exits(130));
    assert_eq!(
        said(&record, &home, "fails"),
        [
            "pre of first, of fails, first",
            "pre of push inside, own, inner",
            "in the box: push boxed, push boxed, ",
            "pre of failing, undefined, failing",
            "pre of never, undefined, never",
            "main of first, of fails, first: from pre, in the old way",
            "main of push inside, own, inner: from pre, in the old way",
            "in the box: push boxed, push boxed, +",
            "local speaks",
            "main of failing, undefined, failing: from pre, in the old way",
            "local speaks",
            "post of never, undefined, never: from pre, in the old way, undefined, later, failure",
            "post of failing, undefined, failing: from pre, in the old way, \"of\\nmain\", later, failure",
            "post of push inside, own, inner: from pre, in the old way, \"of\\nmain\", later, given",
            "post of first, of fails, first: from pre, in the old way, \"of\\nmain\", later, failure",
        ]
    );
    let names: Vec<_> = steps(&record, "fails");
    assert_eq!(
        names[1..=5],
        [
            "Pre acme/script@v1: success",
            "Pre acme/script@v1: success",
            "Pre acme/tools/boxed@v2: success",
            "Pre Fail: success",
            "Pre Never: success",
        ]
    );
    assert_eq!(
        names[names.len() - 7..],
        [
            "Post ./local: success",
            "Post Never: success",
            "Post Fail: success",
            "Post acme/tools/boxed@v2: skipped",
            "Post acme/script@v1: success",
            "Post acme/script@v1: success",
            "Complete job: success",
        ]
    );
    for (step, text) in [
        ("see", "\nhello first, hello push inside\n"),
        ("status", "\nthe job: failure\n"),
        ("composite", "\nacme/tools@v2 has a file of its own\n"),
        ("Post ./local", "local speaks\n"),
    ] {
        let log = record.log(&home, "fails", step);
        assert!(log.contains(text), "{step}: no {text:?} in {log}");
    }
    assert_eq!(record.outcome("slow", "hanging"), "cancelled");
    assert_eq!(
        said(&record, &home, "slow"),
        [
            "pre of first, undefined, first",
            "pre of hanging, undefined, hanging",
            "pre of never, undefined, never",
            "main of first, undefined, first: from pre, in the old way",
            "main of hanging, undefined, hanging: from pre, in the old way",
            "post of never, undefined, never: from pre, in the old way, undefined, undefined, cancelled",
            "post of hanging, undefined, hanging: from pre, in the old way, \"of\\nmain\", undefined, cancelled",
            "post of first, undefined, first: from pre, in the old way, \"of\\nmain\", undefined, cancelled",
        ]
    );
    home.empties(GONE_WITHIN);
}

const WEAK: &str = "
name: weak
inputs: {who: {default: nobody}, status: {default: ''}}
runs: {using: node20, pre: weak.js, main: weak.js, post: weak.js}
";

const WEAK_JS: &str = r"
const { env } = process;
console.log(`main of weak ${env.INPUT_WHO}, ${env.STEP}, ${env.SEEN}`);
if (env.FAILS) process.exit(4);
";

/// Its step may fail, and sees what the composite was given.
const AROUND: &str = r#"
name: around
inputs: {who: {default: nobody}}
runs:
  using: composite
  steps:
    - {id: mine, shell: bash, run: 'echo "seen=by main" >>$GITHUB_OUTPUT'}
    - uses: acme/weak@v1
      continue-on-error: true
      with: {who: "${{ inputs.who }}"}
      env: {STEP: "${{ env.OUTER }} inner", SEEN: "${{ steps.mine.outputs.seen }}"}
"#;

const STAGES: &str = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    env: {FAILS: "1"}
    steps:
      - {uses: acme/weak@v1, continue-on-error: true, with: {who: "${{ env.LATER }}first"}, env: {STEP: "${{ env.LATER }}step"}}
      - {uses: acme/around@v1, with: {who: "${{ github.event_name }}"}, env: {OUTER: outer}}
      - {run: "echo LATER=later- >>$GITHUB_ENV"}
      - {id: last, run: "echo reached"}
"#;

#[test]
fn every_stage_of_a_step_is_a_step() {
    let home = Home::with(Seed::Workshop);
    let project = Project::new("");
    project.file("vmint.toml", SETTINGS);
    for (path, text) in [
        ("mirror/acme/weak@v1/action.yml", WEAK),
        ("mirror/acme/weak@v1/weak.js", WEAK_JS),
        ("mirror/acme/around@v1/action.yml", AROUND),
    ] {
        project.file(path, text);
    }
    project.workflow("ci", STAGES);
    let call = project.vmint(&home, "workflow run ci").deadline(RUN_WITHIN);
    // All parts fail, and all of them may.
    let record = project.record_of(&home, &call.run().exits(0));
    assert_eq!(
        said(&record, &home, "one"),
        [
            "main of weak first, step, undefined",
            "main of weak push, outer inner, ",
            "main of weak first, step, undefined",
            "main of weak push, outer inner, by main",
            "main of weak push, outer inner, by main",
            "main of weak later-first, later-step, undefined",
        ]
    );
    for step in record.job("one")["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        let (outcome, conclusion) = (&step["outcome"], &step["conclusion"]);
        assert_eq!(conclusion, "success", "{step}");
        let fails = name.contains("acme/weak");
        assert_eq!(outcome == "failure", fails, "{step}");
    }
}

/// Dies of an empty token, as most do.
const ASKS: &str = "
name: asks
inputs: {github-token: {default: '${{ github.token }}'}}
runs: {using: node24, main: asks.js}
";

const TOOLS: &str = r#"
on: push
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - {id: python, uses: actions/setup-python@v5}
      - {id: node, uses: actions/setup-node@v4}
      - {id: asks, uses: acme/asks@v1, continue-on-error: true}
      - {id: env, run: '[ -n "$T" ]', continue-on-error: true, env: {T: "${{ secrets.GITHUB_TOKEN }}"}}
      - {id: unrelated, run: exit 1, continue-on-error: true}
      - {id: uv, uses: astral-sh/setup-uv@v5, continue-on-error: true}
"#;

#[test]
fn what_a_step_lacks_is_said_at_the_step() {
    let home = Home::with(Seed::Workshop);
    let project = Project::new("");
    project.file("vmint.toml", SETTINGS);
    project.file("mirror/acme/asks@v1/action.yml", ASKS);
    project.file(
        "mirror/acme/asks@v1/asks.js",
        "process.exit(process.env['INPUT_GITHUB-TOKEN'] ? 0 : 1)",
    );
    project.workflow("ci", TOOLS);
    let call = |args: &str| project.vmint(&home, args).deadline(RUN_WITHIN);
    let record = project.record_of(&home, &call("workflow run ci").run().exits(0));
    let log = |step: &str| record.log(&home, "one", step);
    for (step, text) in [
        (
            "python",
            "the image has Python, but no pip: add python3-pip to `packages`",
        ),
        (
            "node",
            "the image has Node.js, but no npm: add npm to `packages`",
        ),
        (
            "asks",
            "the action is written for Node.js 24, and the image has v",
        ),
        (
            "asks",
            "it was given an empty token: there is none unless you give it: --secret GITHUB_TOKEN",
        ),
        ("env", "--secret GITHUB_TOKEN"),
        ("uv", "the image has no uv"),
    ] {
        let log = log(step);
        let text = text.strip_prefix("it was").unwrap_or(text);
        assert!(log.contains(text), "{step}: no {text:?} in {log}");
    }
    assert!(!log("unrelated").contains("GITHUB_TOKEN"));
    let given = call("workflow run ci --secret GITHUB_TOKEN=t0ken")
        .run()
        .exits(0);
    let record = project.record_of(&home, &given);
    assert_eq!(record.outcome("one", "asks"), "success");
    assert_eq!(record.outcome("one", "env"), "success");
}

/// A newer Node.js, as far as actions can tell; made by the set-up, since the image has been built.
const NEWER: &str = r#"[images.workshop]
import = "built.tar"
node = "/opt/newer/node"

[workflow]
image = "workshop"
memory = "640M"
actions = "mirror"
setup = """
mkdir -p /opt/newer
cat >/opt/newer/node <<'END'
#!/bin/sh
[ "$1" != --version ] || exec echo v24.9.0
echo "the newer one runs ${1##*/}"
exec node "$@"
END
chmod 755 /opt/newer/node
"""
"#;

#[test]
fn actions_are_run_by_the_node_that_their_image_names() {
    let home = Home::with(Seed::Workshop);
    let project = Project::new("");
    project.file("vmint.toml", NEWER);
    project.file(
        "mirror/acme/asks@v1/action.yml",
        "runs: {using: node24, main: asks.js, post: asks.js}\n",
    );
    project.file("mirror/acme/asks@v1/asks.js", "console.log('it ran');\n");
    let steps = "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      \
                 - {id: asks, uses: acme/asks@v1}\n      - {id: own, run: node --version}\n";
    project.workflow("ci", steps);
    let call = |args: &str| project.vmint(&home, args).deadline(RUN_WITHIN);
    let record = project.record_of(&home, &call("workflow run ci").run().exits(0));
    for step in ["asks", "Post acme/asks@v1"] {
        let log = record.log(&home, "one", step);
        assert!(
            log.ends_with("the newer one runs asks.js\nit ran\n"),
            "{log}"
        );
        assert!(!log.contains("is written for Node.js"), "{log}");
    }
    // Scripts have that of the image's PATH.
    let own = record.log(&home, "one", "own");
    assert!(!own.contains("v24"), "{own}");
    project.file(
        "vmint.toml",
        NEWER.replace("= \"/opt/newer/node\"", "= \"/opt/none\""),
    );
    let record = project.record_of(&home, &call("workflow run ci").run().exits(1));
    let ended = &record.step("one", "asks")["ended"];
    let reason = ended["reason"].as_str().unwrap_or_default();
    assert!(
        reason.starts_with(
            "`node` of [images.workshop] in vmint.toml is /opt/none, which does not run"
        ),
        "{ended}"
    );
}
