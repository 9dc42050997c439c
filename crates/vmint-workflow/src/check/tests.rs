use super::needs::Reached;
use super::*;
use crate::equipment::{Equipment, Known};
use crate::expr::{inspect, inspect_condition};
use crate::labels::Meaning;
use crate::replace::Choices;
use crate::spec::JobBody;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Instant;
use vmint_model::{ErrorKind, Fault};

mod fields;
mod replaced;

/// A repository of files, and a mirror beside it.
struct Repository(tempfile::TempDir, Choices);

impl Repository {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a test");
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
            std::fs::write(path, content).expect("a file");
        }
        Self(folder, Choices::default())
    }

    fn check(&self, text: &str) -> Result<Checked, Diagnostics> {
        self.check_without(text, &[])
    }

    /// Checks a workflow whose jobs with labels like these are not run.
    fn check_without(&self, text: &str, skipped: &[&str]) -> Result<Checked, Diagnostics> {
        let left_out = LeftOut::new(skipped.iter().map(|&pattern| pattern.to_owned()));
        let mirror = Mirror {
            folder: Some(self.0.path().join("mirror")),
            choices: self.1.clone(),
            ..Mirror::default()
        };
        let options = Options {
            repository: self.0.path(),
            actions: &mirror,
            left_out: &left_out,
            labels: None,
            slug: "o/own",
            selection: Selection::default(),
        };
        check(Path::new("ci.yml"), text.as_bytes(), &options)
    }

    /// All that is said of a workflow.
    fn said(&self, text: &str) -> String {
        let said = match self.check(text) {
            Ok(checked) => Diagnostics(checked.warnings).to_string(),
            Err(wrong) => wrong.to_string(),
        };
        said.replace(&*self.0.path().to_string_lossy(), "REPO")
    }
}

fn said(text: &str) -> String {
    Repository::new(&[]).said(text)
}

/// A workflow whose only job has these steps.
fn steps(steps: &str) -> String {
    let steps = steps.replace('\n', "\n      ");
    format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      {steps}\n")
}

const EXAMPLE: &str = r#"
on: {push: {branches: [main]}}
env: {RUST_BACKTRACE: 1}
jobs:
  lint:
    runs-on: ubuntu-latest
    outputs: {sum: "${{ steps.sum.outputs.sum }}"}
    steps:
      - uses: actions/checkout@v4
      - uses: dtolnay/rust-toolchain@stable
        with: {components: 'clippy, rustfmt'}
      - id: sum
        run: |
          echo "sum=${{ hashFiles('**/Cargo.lock') }}" >> "$GITHUB_OUTPUT"
  test:
    needs: [lint]
    strategy:
      matrix:
        os: [ubuntu-22.04, ubuntu-24.04]
        include: [{os: debian, extra: 1}]
    runs-on: ${{ matrix.os }}
    steps:
      - uses: actions/checkout@v4
      - uses: ./.github/actions/greet
        with: {who: "${{ needs.lint.outputs.sum }}"}
      - run: make ${{ matrix.extra }}
        shell: python {0}
        if: ${{ !cancelled() && matrix.os != 'debian' }}
"#;

/// What the jobs of a workflow need, in order.
fn needs(checked: &Checked) -> Vec<(String, Equipment, Reached)> {
    let jobs = checked.workflow.jobs.values();
    let needs = jobs.flat_map(|job| match &job.body {
        JobBody::Steps(steps) => needs::of_job(steps, &checked.actions),
        JobBody::Call(_) => Vec::new(),
    });
    needs
        .map(|need| (need.who, need.what, need.reached))
        .collect()
}

/// Machines of two images: `bare`, which has nothing, and `some`, which has Node.js; and nothing for other labels.
struct TwoImages;

impl Labels for TwoImages {
    fn meaning(&self, labels: &[String]) -> Result<Meaning, Fault> {
        let known = match labels.first().map(String::as_str) {
            Some("bare") => Known::Bare,
            Some("some") => Known::Packages(vec![Equipment::Node]),
            _ => {
                let message = format!("no machine is known for {labels:?}");
                return Err(Fault::new(ErrorKind::Usage, message).hint("say it"));
            }
        };
        let note = (labels.len() > 1).then(|| "it is another one".to_owned());
        let target = labels[0].clone();
        Ok(Meaning {
            target,
            note,
            known,
        })
    }
}

/// What is said of a workflow of which this is to be run, with these machines.
fn said_of(text: &str, jobs: &[&str], matrix: &[(&str, &str)]) -> String {
    let repository = Repository::new(&[
        (
            "mirror/o/node@v1/action.yml",
            "runs: {using: node20, main: m.js}",
        ),
        ("mirror/o/node@v1/m.js", ""),
    ]);
    let mirror = Mirror {
        folder: Some(repository.0.path().join("mirror")),
        ..Mirror::default()
    };
    let jobs: Vec<String> = jobs.iter().map(|&job| job.to_owned()).collect();
    let matrix = matrix
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let matrix: Vec<_> = matrix.collect();
    let options = Options {
        repository: repository.0.path(),
        actions: &mirror,
        left_out: &LeftOut::default(),
        labels: Some(&TwoImages),
        slug: "o/own",
        selection: Selection {
            jobs: &jobs,
            matrix: &matrix,
        },
    };
    let found = match check(Path::new("ci.yml"), text.as_bytes(), &options) {
        Ok(checked) => checked.warnings,
        Err(wrong) => wrong.0,
    };
    let found = found.iter().map(|one| {
        format!(
            "{}: {}: {}",
            one.spot.line,
            one.severity.as_str(),
            one.message
        )
    });
    found.collect::<Vec<_>>().join("\n")
}

#[test]
fn labels_are_looked_up_and_what_their_image_lacks_is_told() {
    let text = r"
on: push
jobs:
  a:
    runs-on: nothing
    steps: [{run: x}]
  b:
    strategy: {matrix: {on: [bare, [some, other], gone, bare]}}
    runs-on: ${{ matrix.on }}
    steps:
      - {uses: o/node@v1}
      - {uses: actions/setup-go@v5, if: false}
      - {uses: actions/checkout@v4, with: {repository: other/one}}
      - {uses: actions/checkout@v4, with: {repository: O/Own}}
      - {uses: actions/checkout@v4, with: {repository: '${{ env.X }}'}}
  c:
    runs-on: ${{ vars.ON }}
    steps: [{uses: o/node@v1}]
";
    insta::assert_snapshot!(said_of(text, &[], &[]), @r#"
    5: error: no machine is known for ["nothing"]
    8: error: no machine is known for ["gone"]
    9: warning: it is another one
    11: error: `o/node@v1` (`using: node20`) needs Node.js, which `bare` does not have
    12: warning: `actions/setup-go@v5` needs Go if it is reached, and `bare` does not have it
    12: warning: `actions/setup-go@v5` needs Go, and no package of `some` is known to bring it
    13: error: the repository other/one is not o/own, and vmint fetches nothing
    "#);
}

#[test]
fn what_is_not_selected_gives_notes_and_what_both_use_is_an_error() {
    let text = r"
on: push
jobs:
  mac:
    runs-on: macos-14
    steps: [{uses: o/absent@v1}, {uses: o/shared@v1}]
  lint:
    runs-on: some
    needs: before
    steps: [{run: x}]
  before:
    strategy: {matrix: {on: [some, windows-2022]}}
    runs-on: ${{ matrix.on }}
    steps: [{run: x}]
";
    insta::assert_snapshot!(said_of(text, &["lint"], &[("on", "some")]), @r"
    5: note: `macos-14` is macOS, but machines run Linux
    6: note: the action `o/absent@v1` is not available
    6: note: the action `o/shared@v1` is not available
    12: note: `windows-2022` is Windows, but machines run Linux
    ");
    let both = text.replace("{run: x}", "{uses: o/shared@v1}");
    insta::assert_snapshot!(said_of(&both, &["LINT"], &[]), @r"
    5: note: `macos-14` is macOS, but machines run Linux
    6: note: the action `o/absent@v1` is not available
    6: note: the action `o/shared@v1` is not available
    10: error: the action `o/shared@v1` is not available
    12: error: `windows-2022` is Windows, but machines run Linux
    14: error: the action `o/shared@v1` is not available
    ");
}

#[test]
fn a_sound_workflow_passes_with_all_that_it_uses() {
    let greet = "name: greet\ninputs: {who: {required: true}}\nruns:\n  using: composite\n  steps:\n  - id: a\n    run: echo ${{ inputs.who }}\n    shell: python\n  - uses: o/node@v1\n";
    let repository = Repository::new(&[
        (".github/actions/greet/action.yml", greet),
        (
            "mirror/o/node@v1/action.yaml",
            "runs: {using: node20, main: m.js}",
        ),
        ("mirror/o/node@v1/m.js", ""),
    ]);
    let checked = repository
        .check(EXAMPLE)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(checked.warnings, []);
    let mut uses: Vec<&str> = checked.actions.keys().map(String::as_str).collect();
    uses.sort_unstable();
    assert_eq!(
        uses,
        [
            "./.github/actions/greet",
            "actions/checkout@v4",
            "dtolnay/rust-toolchain@stable",
            "o/node@v1"
        ]
    );
    assert!(matches!(
        checked.actions["actions/checkout@v4"],
        Resolved::Builtin(Builtin::Checkout)
    ));
    let Resolved::Action(node) = &checked.actions["o/node@v1"] else {
        panic!("an action");
    };
    assert_eq!(
        (node.origin, node.folder.ends_with("mirror/o/node@v1")),
        (Origin::Mirror, true)
    );
    assert_eq!(
        needs(&checked),
        [
            (
                "`dtolnay/rust-toolchain@stable`",
                Equipment::Rust,
                Reached::Surely
            ),
            ("the shell `python`", Equipment::Python, Reached::Surely),
            (
                "`o/node@v1` (`using: node20`)",
                Equipment::Node,
                Reached::Surely
            ),
        ]
        .map(|(who, what, reached)| (who.to_owned(), what, reached))
    );
}

#[test]
fn containers_are_required_and_other_systems_refused() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    services: {db: {image: postgres}}\n    steps: [{uses: docker://alpine}]\n";
    let checked = Repository::new(&[]).check(text).unwrap();
    assert_eq!(
        needs(&checked)[0],
        (
            "the service `db`".to_owned(),
            Equipment::ContainerEngine,
            Reached::Surely
        )
    );
    insta::assert_snapshot!(said("on: push\njobs:\n  a:\n    runs-on: windows-latest\n    container: x\n    steps: [{run: x}]\n  b:\n    strategy: {matrix: {os: [ubuntu-latest, macos-14]}}\n    runs-on: ${{ matrix.os }}\n    steps: [{run: x}]\n"), @r#"
    ci.yml:4:14: error: `windows-latest` is Windows, but machines run Linux
        help: run the job on Linux, or skip it: `skip-runs-on = ["windows-*"]` in `[workflow]` of vmint.toml
    ci.yml:8:45: error: `macos-14` is macOS, but machines run Linux
        help: run the job on Linux, or skip it: `skip-runs-on = ["macos-*"]` in `[workflow]` of vmint.toml
    "#);
}

#[test]
fn the_steps_of_a_job_with_a_container_need_an_engine_of_the_machine_and_nothing_else() {
    let of = |container: &str| {
        let text = format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    container: {container}\n    steps: [{{run: x, shell: python}}, {{uses: actions/setup-node@v4}}]\n"
        );
        needs(&Repository::new(&[]).check(&text).unwrap())
    };
    let engine = |reached| {
        let who = "`container` of the job".to_owned();
        (who, Equipment::ContainerEngine, reached)
    };
    for container in ["rust:1", "{image: rust}"] {
        assert_eq!(of(container), [engine(Reached::Surely)], "{container}");
    }
    // It may come out empty, and then the steps run in the machine.
    let perhaps = of("{image: '${{ vars.IMAGE }}'}");
    assert_eq!(perhaps[0], engine(Reached::Perhaps));
    assert!(perhaps.len() > 1, "{perhaps:?}");
    assert!(perhaps.iter().all(|need| need.2 == Reached::Perhaps));
    let none = of("''");
    assert!(
        none.iter()
            .all(|need| need.1 != Equipment::ContainerEngine && need.2 == Reached::Surely),
        "{none:?}"
    );
}

#[test]
fn containers_are_read_as_they_stand_in_the_file() {
    let job = |id: &str, key: &str, container: &str| {
        format!(
            "  {id}:\n    runs-on: ubuntu-latest\n    {key}: {container}\n    steps: [{{run: x}}]\n"
        )
    };
    let wrong = [
        job("a", "container", "{image: x, options: --network host}"),
        job(
            "b",
            "container",
            "{image: '${{ matrix.x }}', options: --entrypoint sh, env: {A: '${{ secrets.S }}'}}",
        ),
        job("c", "container", "'--privileged'"),
        job("d", "container", "{image: x, ports: ['1:2:3']}"),
        job("e", "container", "{image: x, volumes: ['./a:/b']}"),
        job(
            "f",
            "services",
            "{db: {image: x, volumes: ['a:b']}, 1x: {image: x}}",
        ),
        job("g", "container", "{image: x, credentials: {username: x}}"),
        job("h", "container", "{image: x, options: '${{ secrets.S }}'}"),
    ];
    insta::assert_snapshot!(said(&format!("on: push\njobs:\n{}", wrong.concat())), @"
    ci.yml:5:36: error: container.options: `--network` is not supported, neither here nor on GitHub: all containers of a job are in one network
    ci.yml:9:52: error: container.options: `--entrypoint` is not supported, neither here nor on GitHub: a process that waits keeps the job's container alive
    ci.yml:13:16: error: container: “--privileged” is not the name of an image, such as `redis:7` or `ghcr.io/owner/name:tag`
    ci.yml:17:34: error: container.ports: `1:2:3` is not a port: write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, with /udp for UDP
    ci.yml:21:36: error: container.volumes: `./a:/b` is not a volume: write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET
    ci.yml:25:40: error: services.db.volumes: `a:b`: the path in the container has to begin with `/`
    ci.yml:25:50: error: services.1x: this cannot be the name of a host: write letters, digits, `_` and `-`, beginning with a letter or `_`
    ci.yml:29:40: error: container.credentials: this needs `username` and `password`, and nothing else
    ci.yml:33:41: error: the context `secrets` is not available in `container`
        help: available there: github, needs, strategy, matrix, vars, inputs
    ");
    let right = [
        job(
            "a",
            "container",
            "{image: x, options: --user 1 --cpus 2, credentials: {username: '${{ github.actor }}', password: '${{ secrets.S }}'}}",
        ),
        job(
            "b",
            "container",
            "{image: '${{ matrix.x }}', ports: [80, '${{ matrix.p }}'], volumes: ['${{ github.workspace }}:/x']}",
        ),
        job("c", "container", "docker://rust:1"),
        job("d", "container", "''"),
    ];
    assert_eq!(said(&format!("on: push\njobs:\n{}", right.concat())), "");
}

#[test]
fn needs_are_jobs_and_make_no_circle() {
    let job = |id: &str, needs: &str| {
        format!("  {id}:\n    needs: [{needs}]\n    runs-on: x\n    steps: [{{run: x}}]\n")
    };
    let jobs = [
        ("build", "tset"),
        ("test", "build"),
        ("a", "c"),
        ("b", "a"),
        ("c", "b"),
        ("self", "self"),
    ];
    let jobs: String = jobs.iter().map(|(id, needs)| job(id, needs)).collect();
    insta::assert_snapshot!(said(&format!("on: push\njobs:\n{jobs}")), @r"
    ci.yml:4:13: error: the job `build` needs `tset`, which is not there
        help: did you mean `test`?
    ci.yml:16:13: error: jobs need each other in a circle: `a` → `c` → `b` → `a`
        help: remove one of these from `needs`
    ci.yml:24:13: error: jobs need each other in a circle: `self` → `self`
        help: remove one of these from `needs`
    ");
}

#[test]
fn a_job_is_needed_by_its_name_whatever_its_case_and_names_differ_by_more() {
    let job = |id: &str, needs: &str| {
        format!("  {id}:\n    needs: [{needs}]\n    runs-on: x\n    steps: [{{run: x}}]\n")
    };
    let jobs = job("build", "") + &job("test", "Build");
    assert_eq!(said(&format!("on: push\njobs:\n{jobs}")), "");
    let twins = jobs + &job("Build", "");
    insta::assert_snapshot!(said(&format!("on: push\njobs:\n{twins}")), @r"
    ci.yml:11:3: error: the key `Build` is already defined at 3:3
        help: keep one of the two; keys that differ only in case are the same
    ");
}

#[test]
fn matrices_make_some_jobs_but_not_too_many() {
    let job = |matrix: &str| {
        format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    strategy:\n      matrix: {matrix}\n    steps: [{{run: 'echo ${{{{ matrix.oz }}}}'}}]\n"
        )
    };
    let hundred = format!("[{}]", ["x"; 17].join(", "));
    let all = [
        job("{}"),
        job("{os: []}"),
        job(&format!("{{a: {hundred}, b: {hundred}}}")),
        job("{os: [a, b], exclude: [{so: a}]}"),
        job("${{ fromJSON(x) }}"),
        job("{os: [1]}"),
    ];
    let all = all.map(|text| said(&text));
    insta::assert_snapshot!(all.join("\n--\n"), @r"
    ci.yml:6:15: error: the matrix is empty
        help: give it a key with a list of values, or `include`
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: it is empty
    --
    ci.yml:6:16: error: `os` of the matrix is empty, so no job would run
        help: give it a value, or remove it
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: did you mean `os`?
    --
    ci.yml:6:15: error: the matrix makes 289 jobs, more than 256
        help: use fewer values, or split the job
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: it is empty
    --
    ci.yml:6:39: error: `exclude` names `so`, which is no key of the matrix
        help: did you mean `os`?
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: did you mean `os`?
    --
    ci.yml:6:28: error: unknown context `x`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text stands in single quotes
    --
    ci.yml:7:29: warning: the matrix of the job has no key `oz`
        help: did you mean `os`?
    ");
}

#[test]
fn expressions_are_checked_at_their_place_in_the_file() {
    let text = steps(
        "- run: |\n    echo ok ${{ github.sha }}\n    echo ${{ gihtub.sha }} ${{ github.sha\n- run: \"x ${{ \\\"a\\\" }}\"\n- if: succes()\n  run: x\n\
         - if: github.ref = 'x'\n  run: x\n- name: ${{ }}\n  run: x\n- run: ${{ toJSON() }} ${{ 1 + 1 }}\n- run: ${{ always }}\n- if: ''\n  run: x",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:8:20: error: unknown context `gihtub`
        help: did you mean `github`?
    ci.yml:8:34: error: the expression that begins here is not closed
        help: close it with `}}`; text in it stands in single quotes
    ci.yml:9:22: error: the expression is wrong here: unexpected symbol
        help: text stands in single quotes: 'like this'
    ci.yml:10:13: error: unknown function `succes`
        help: did you mean `success`?
    ci.yml:12:24: error: the expression is wrong here: expected `==`
        help: compare with `==`
    ci.yml:14:18: error: the expression is empty
        help: write an expression, or remove `${{ }}`
    ci.yml:16:18: error: `toJSON` takes exactly 1 argument
    ci.yml:16:36: error: the expression is wrong here: invalid numeric literal
        help: expressions have no arithmetic; compute it in a `run` step
    ci.yml:17:18: error: unknown context `always`
        help: to call the function, write `always()`
    ci.yml:18:13: warning: the condition is empty
        help: remove it, or write an expression
    ");
}

#[test]
fn conditions_that_are_always_true_are_told() {
    let text = steps(
        "- if: ${{ github.ref == 'x' }} && true\n  run: x\n- if: ${{ 'false' }}\n  run: x\n- if: \"'no'\"\n  run: x\n- if: ${{ github.ref }}\n  run: x\n\
         - if: ' ${{ a }} '\n  run: x",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:6:13: warning: the condition is always true: text around `${{ }}` makes all of it a text
        help: put the whole condition into one `${{ }}`, or leave `${{ }}` out
    ci.yml:8:13: warning: the condition is always true: it is a text
        help: remove the quotes within the expression, or compare the text with something
    ci.yml:10:13: warning: the condition is always true: it is a text
        help: remove the quotes within the expression, or compare the text with something
    ci.yml:14:19: error: unknown context `a`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text stands in single quotes
    ");
}

#[test]
fn names_that_are_not_there_are_told() {
    let text = "on: push\njobs:\n  one:\n    runs-on: x\n    outputs: {o: '${{ steps.fisrt.outputs.x }}'}\n    steps:\n    - run: ${{ steps.second.outputs.x }}\n    - id: first\n      run: x\n    - id: second\n      run: ${{ steps['first'].outputs.x }}\n  two:\n    runs-on: x\n    if: needs.one.result == 'success'\n    steps:\n    - run: ${{ needs.tow.outputs.x }}\n";
    insta::assert_snapshot!(said(text), @r"
    ci.yml:5:23: warning: there is no step with the id `fisrt`
        help: did you mean `first`?
    ci.yml:7:16: warning: `steps.second` is read before the step `second` (number 3) has run
        help: its outputs are empty here; move the step or the reference
    ci.yml:14:9: warning: `needs.one` is read, but the job does not need `one`
        help: it is empty; add `one` to `needs` of the job
    ci.yml:16:16: warning: there is no job `tow`
        help: did you mean `two`?
    ");
}

#[test]
fn shells_are_known_or_templates() {
    let text = steps(
        "- {run: x, shell: pwsh}\n- {run: x, shell: bsh}\n- {run: x, shell: perl}\n- {run: x, shell: 'perl {0}'}\n- {run: x, shell: cmd}",
    );
    insta::assert_snapshot!(said(&text), @r"
    ci.yml:6:25: error: the shell `pwsh` is not supported
        help: use bash, sh or python; if the image has PowerShell, write `shell: pwsh -File {0}`
    ci.yml:7:25: error: the shell `bsh` is not known
        help: did you mean `bash`?
    ci.yml:8:25: error: the shell `perl` is not known
        help: use bash, sh or python, or a template such as `perl {0}`
    ci.yml:10:25: error: the shell `cmd` is not supported
        help: use bash, sh or python; if the image has PowerShell, write `shell: pwsh -File {0}`
    ");
}

#[test]
fn what_is_used_is_found_and_given_its_inputs() {
    let action = "inputs:\n  who: {required: true}\n  old: {deprecationMessage: use who}\nruns:\n  using: composite\n  steps: [{run: x, shell: bash}]\n";
    let repository = Repository::new(&[
        ("ok/action.yml", action),
        (
            "bad/action.yaml",
            "runs:\n  using: composite\n  steps:\n  - run: ${{ nothing.x }}\n",
        ),
        ("image/Dockerfile", ""),
        (
            "image2/action.yml",
            "runs: {using: docker, image: Dockerfile}",
        ),
        ("empty/x", ""),
        (
            "a/action.yml",
            "runs: {using: composite, steps: [{uses: ./b}]}",
        ),
        (
            "b/action.yml",
            "runs: {using: composite, steps: [{uses: ./a}]}",
        ),
    ]);
    let text = steps(
        "- uses: ./ok\n- uses: actions/checkout@v4\n  with: {fetch_depth: 1}\n- uses: ./ok\n  with: {woh: x, old: y}\n- uses: ./bad\n- uses: ./image\n\
         - uses: ./image2\n  with: {args: x}\n- uses: ./empty\n- uses: ./nowhere\n- uses: ./../x\n- uses: ./a\n- uses: some/thing@v1\n- uses: actions/cache@v4\n  with: {key: x}",
    );
    insta::assert_snapshot!(repository.said(&text), @r"
    b/action.yml:1:41: error: `./a` uses itself: `./a` → `./b` → `./a`
        help: break the circle
    bad/action.yaml:4:5: error: a step with `run` in an action needs the key `shell`
    ci.yml:6:15: error: no step before this one checks out the repository, so `./ok` is not there
        help: add a step with `uses: actions/checkout@v4` before it
    ci.yml:8:29: warning: `actions/checkout@v4` has no input `fetch_depth`
        help: did you mean `fetch-depth`?
    ci.yml:9:15: warning: `./ok` needs the input `who`
        help: add `who` to `with`
    ci.yml:10:21: warning: `./ok` has no input `woh`
        help: did you mean `who`?
    ci.yml:10:29: warning: the input `old` of `./ok` is deprecated
        help: use who
    ci.yml:15:15: warning: `./empty` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ci.yml:16:15: warning: `./nowhere` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ci.yml:17:15: warning: `./../x` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ci.yml:19:15: error: the action `some/thing@v1` is not available
        help: fetch it with `vmint workflow fetch-actions FILE`, put the repository at that ref into `REPO/mirror/some/thing@v1`, or say in `[workflow.replace]` what stands in for it
    ci.yml:20:15: error: `actions/cache@v4` needs the input `path`
        help: add `path` to `with`
    image2/action.yml:1:30: warning: the action names the file `Dockerfile`, which is not there
        help: fine if the workflow makes it before the action is used; else correct the path
    ");
    // Behind a checkout alone, all is known of the workspace.
    let alone = |uses: &str| {
        repository.said(&steps(&format!(
            "- uses: actions/checkout@v4\n- uses: {uses}"
        )))
    };
    let all = ["./empty", "./nowhere", "./ok/action.yml", "./image"].map(alone);
    insta::assert_snapshot!(all.join("\n"), @r"
    ci.yml:7:15: error: `empty` holds no action.yml
        help: an action is a folder with an action.yml, an action.yaml or a Dockerfile
    ci.yml:7:15: error: there is no folder `nowhere`
        help: paths of local actions begin at the root of the workspace
    ci.yml:7:15: error: `ok/action.yml` is a file
        help: name the folder of the action; a workflow is called by `uses` of a job, not of a step
    ");
    // What another folder has is of the repository, too.
    let sub = "- uses: actions/checkout@v4\n  with: {path: sub}\n- {uses: ./sub/ok, with: {woh: x}}\n- uses: ./ok";
    insta::assert_snapshot!(repository.said(&steps(sub)), @r"
    ci.yml:8:16: warning: `./sub/ok` needs the input `who`
        help: add `who` to `with`
    ci.yml:8:38: warning: `./sub/ok` has no input `woh`
        help: did you mean `who`?
    ci.yml:9:15: warning: `./ok` is not in the repository; it is looked for in the workspace when the step runs
        help: fine if a step before puts it there; else correct the path
    ");
}

#[test]
fn actions_are_nested_ten_deep_at_the_most() {
    let chain = |levels: usize| {
        let mut files: Vec<(String, String)> = (1..levels)
            .map(|i| {
                (
                    format!("a{i}/action.yml"),
                    format!(
                        "runs: {{using: composite, steps: [{{uses: ./a{}}}]}}",
                        i + 1
                    ),
                )
            })
            .collect();
        files.push((
            format!("a{levels}/action.yml"),
            "runs: {using: composite, steps: [{run: x, shell: sh}]}".into(),
        ));
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (&**path, &**text))
            .collect();
        Repository::new(&files).said(&steps(
            "- uses: actions/checkout@v4\n- uses: ./a2\n- uses: ./a1",
        ))
    };
    assert_eq!(chain(10), "");
    insta::assert_snapshot!(chain(11), @r"
    a1/action.yml:1:41: error: actions or workflows are nested more than 10 deep here
        help: use fewer levels
    ");
}

#[test]
fn called_workflows_are_checked_and_given_their_inputs() {
    let called = "on:\n  workflow_call:\n    inputs:\n      name: {type: string, required: true}\n      flag: {type: boolean}\n      n: {type: number}\n    secrets:\n      token: {required: true}\njobs:\n  x:\n    runs-on: y\n    steps: [{run: '${{ inputs.name }} ${{ oops.x }}'}]\n";
    let repository = Repository::new(&[
        (".github/workflows/called.yml", called),
        (
            ".github/workflows/plain.yml",
            "on: push\njobs: {x: {runs-on: y, steps: [{run: x}]}}",
        ),
        (
            ".github/workflows/loop.yml",
            "on: workflow_call\njobs: {x: {uses: ./.github/workflows/loop.yml}}",
        ),
    ]);
    let text = "on: push\njobs:\n  a:\n    uses: ./.github/workflows/called.yml\n    with: {nmae: x, flag: maybe, n: 3}\n  b:\n    uses: ./.github/workflows/plain.yml\n  c:\n    uses: ./.github/workflows/loop.yml\n  d:\n    uses: ./workflows/x.yml\n  e:\n    uses: o/r/.github/workflows/x.yml@v1\n  f:\n    uses: ./.github/workflows/gone.yml\n  g:\n    uses: ./.github/workflows/called.yml\n    with: {name: x, flag: '${{ x }}'}\n    secrets: inherit\n";
    insta::assert_snapshot!(repository.said(text), @r"
    .github/workflows/called.yml:12:43: error: unknown context `oops`
        help: did you mean `jobs`?
    .github/workflows/loop.yml:2:18: error: `./.github/workflows/loop.yml` uses itself: `./.github/workflows/loop.yml` → `./.github/workflows/loop.yml`
        help: break the circle
    ci.yml:4:11: error: `./.github/workflows/called.yml` needs the input `name`
        help: add `name` to `with` of the job
    ci.yml:4:11: error: `./.github/workflows/called.yml` needs the secret `token`
        help: add `token` to `secrets` of the job
    ci.yml:5:18: error: `./.github/workflows/called.yml` has no input `nmae`
        help: did you mean `name`?
    ci.yml:5:27: error: the input `flag` is a boolean, but `maybe` is not
        help: give it a boolean
    ci.yml:7:11: error: `.github/workflows/plain.yml` cannot be called
        help: add `workflow_call` to its `on`
    ci.yml:11:11: error: `./workflows/x.yml` is not a file of .github/workflows
        help: workflows that are called stand directly in that folder and end in .yml or .yaml
    ci.yml:13:11: error: the workflow `o/r/.github/workflows/x.yml@v1` is not available
        help: fetch it with `vmint workflow fetch-actions FILE`, put the repository at that ref into `REPO/mirror/o/r@v1`, or say in `[workflow.replace]` what stands in for it
    ci.yml:15:11: error: the workflow `.github/workflows/gone.yml` cannot be read: No such file or directory (os error 2)
        help: paths of local workflows begin at the root of the repository
    ci.yml:18:32: error: unknown context `x`
        help: the contexts are github, env, vars, job, jobs, steps, runner, secrets, strategy, matrix, needs, inputs; text stands in single quotes
    ");
}

#[test]
fn a_workflow_that_is_called_is_handed_over() {
    let repository = Repository::new(&[(
        ".github/workflows/c.yml",
        "on: workflow_call\njobs: {x: {runs-on: y, steps: [{run: x}]}}",
    )]);
    let checked = repository
        .check("on: push\njobs: {a: {uses: ./.github/workflows/c.yml}}")
        .unwrap();
    assert_eq!(checked.called["./.github/workflows/c.yml"].jobs.len(), 1);
}

/// A workflow of so many lines, as real ones are.
fn long(lines: usize) -> String {
    let mut text = String::from("on: push\njobs:\n");
    let mut job = 0;
    while text.lines().count() < lines {
        write!(
            text,
            "  j{job}:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n"
        )
        .expect("text");
        for step in 0..10 {
            write!(
                text,
                "      - name: Step ${{{{ github.ref }}}} {step}\n        id: s{step}\n        if: ${{{{ success() && github.event_name == 'push' }}}}\n        env:\n          A: ${{{{ secrets.A }}}}\n        run: |\n          echo one\n          echo ${{{{ env.A || format('{{0}}', github.sha) }}}}\n\n          make test\n"
            )
            .expect("text");
        }
        job += 1;
    }
    text
}

#[test]
#[ignore = "measures; run it with --release --nocapture"]
fn a_workflow_of_2000_lines_is_checked_in_50_ms() {
    let text = long(2000);
    let repository = Repository::new(&[]);
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let start = Instant::now();
            repository.check(&text).expect("a sound workflow");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    eprintln!(
        "{} lines, {} bytes: median {:?}, slowest {:?}",
        text.lines().count(),
        text.len(),
        times[10],
        times[19]
    );
    assert!(times[10].as_millis() <= 50, "{times:?}");
}

#[test]
fn hostile_workflows_of_5_mb_are_checked_in_bounded_time() {
    let fill = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let jobs = |count: usize, needs: &dyn Fn(usize) -> String| {
        (0..count).fold("on: push\njobs:\n".to_owned(), |mut text, i| {
            writeln!(
                text,
                "  j{i}: {{runs-on: x, needs: {}, steps: [{{run: x}}]}}",
                needs(i)
            )
            .expect("text");
            text
        })
    };
    let cases = [
        steps(&format!("- run: \"{}\"", fill("${{ x }}", 4_900_000))),
        steps(&format!("- run: {}", fill("${{ ", 4_900_000))),
        steps(&format!("- run: ${{{{ {} }}}}", fill("a||", 20_000) + "a")),
        steps(&format!("- run: ${{{{ {} }}}}", fill("a<", 2_000) + "a")),
        steps(&format!("- run: ${{{{ {} }}}}", fill("(", 20_000))),
        steps(&format!("- run: ${{{{ {} }}}}", fill("!", 20_000))),
        steps(&format!("- if: {}\n  run: x", fill("a.", 4_900_000))),
        steps(&format!(
            "- run: x\n  env: {{{}}}",
            fill("A: 1, ", 10)
                + &(0..240_000).fold(String::new(), |s, i| s
                    + "K"
                    + &i.to_string()
                    + ": \"${{ x }}\",")
        )),
        jobs(60_000, &|i| format!("[j{}]", i + 1)),
        jobs(60_000, &|i| format!("[j{}]", i.saturating_sub(1))),
        jobs(60_000, &|i| format!("[x{i}]")),
    ];
    for case in cases {
        let start = Instant::now();
        let said = said(&case);
        let took = start.elapsed();
        let head: String = case.chars().skip(70).take(30).collect();
        eprintln!("{head:?} ({} bytes): {took:?}", case.len());
        assert!(said.len() < 100_000, "{}", &said[..1000]);
        assert!(took.as_secs() < 90, "{head:?} took {took:?}");
    }
}

#[test]
fn very_many_inputs_are_compared_with_very_many_that_are_declared() {
    // With each of the ones held against each of the others, and all told each time, this took hours.
    let many = |name: &str, value: &str| -> String {
        let entries = (0..30_000).map(|i| format!("  {name}{i}: {value}\n"));
        entries.collect()
    };
    let runs = "runs: {using: composite, steps: [{run: x, shell: sh}]}\n";
    let action = format!("inputs:\n{}{runs}", many("i", "{}"));
    let called = format!(
        "on:\n workflow_call:\n  inputs:\n{}jobs: {{x: {{runs-on: y, steps: [{{run: x}}]}}}}\n",
        many("  i", "{type: string}")
    );
    let repository = Repository::new(&[
        ("a/action.yml", &action),
        (".github/workflows/c.yml", &called),
    ]);
    let uses = |uses: &str| format!("uses: {uses}\nwith:\n{}{}", many("x", "1"), many("I", "1"));
    let step = uses("./a").replace('\n', "\n  ");
    let step = steps(&format!("- uses: actions/checkout@v4\n- {step}"));
    let job = uses("./.github/workflows/c.yml").replace('\n', "\n    ");
    let job = format!("on: push\njobs:\n  a:\n    {job}");
    for text in [step, job] {
        let said = repository.said(&text);
        assert!(said.contains("has no input `x0`"), "{}", &said[..1000]);
        assert!(said.len() < 200_000, "{}", &said[..1000]);
    }
}

proptest! {
    #[test]
    fn a_workflow_with_a_piece_changed_passes_or_is_refused(
        from in 0..EXAMPLE.len(),
        length in 0_usize..12,
        piece in "([a-z]{1,3}|[-:\\[\\]{} \n'\"#&*|>$()!=.]|\\$\\{\\{|\\}\\}|1|matrix|steps|needs){0,4}",
    ) {
        let to = (from + length).min(EXAMPLE.len());
        let text = format!("{}{piece}{}", &EXAMPLE[..from], &EXAMPLE[to..]);
        let _ = said(&text);
    }

    #[test]
    fn any_expression_is_inspected(text in "(\\$\\{\\{|\\}\\}|[a-z'\"().\\[\\]*&|=<>! é0-9,]|github|steps\\.|contains\\(){0,30}") {
        for inspection in [inspect(&text), inspect_condition(&text)] {
            for wrong in inspection.wrong {
                prop_assert!(text.is_char_boundary(wrong.offset), "{wrong:?}");
            }
            for used in inspection.uses {
                prop_assert!(text.is_char_boundary(used.offset), "{used:?}");
            }
        }
    }
}
