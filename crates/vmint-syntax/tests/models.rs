//! Workflows and actions are what `github-actions-models` takes them for, by another reader of YAML: whatever is loaded says the
//! same there, also with a piece of it changed.

#[path = "models/compare.rs"]
mod compare;

use compare::Compared;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The files of this repository that are workflows or actions, and the examples of its documents.
static CORPUS: LazyLock<Vec<(PathBuf, String)>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for place in ["fuzz/corpus-seeds/workflow", "examples", "docs", ".github"] {
        gather(&root.join(place), &mut found);
    }
    found.sort();
    found
});

fn gather(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, found);
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (extension, fs::read_to_string(&path)) {
            (Some("yml" | "yaml"), Ok(text)) => found.push((path, text)),
            (Some("md"), Ok(text)) => {
                for (at, block) in text.split("```").skip(1).step_by(2).enumerate() {
                    if let Some(("yaml", block)) = block.split_once('\n') {
                        found.push((path.join(at.to_string()), block.to_owned()));
                    }
                }
            }
            _ => {}
        }
    }
}

/// What is told of a text, read as a workflow or as an action.
fn both(text: &str) -> [Compared; 2] {
    [compare::workflow(text), compare::action(text)]
}

#[test]
fn the_files_of_this_repository_say_the_same() {
    let (mut same, mut wrong) = (0, Vec::new());
    for (path, text) in CORPUS.iter() {
        for compared in both(text) {
            match compared {
                Compared::Same => same += 1,
                Compared::Differs(how) => wrong.push(format!("{}: {how}", path.display())),
                Compared::Refused | Compared::NotRead => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same >= 20, "only {same} of {} were read", CORPUS.len());
}

/// What the syntax has, in all its forms.
#[test]
fn every_form_of_the_syntax_says_the_same() {
    for text in [
        "on: push\njobs: {a: {runs-on: x, steps: [{run: y}]}}",
        "on: [push, workflow_call]\njobs: {a: {runs-on: [x, y], needs: b, steps: [{run: y}]}, b: {runs-on: x, steps: [{run: y}]}}",
        "on: {push: , schedule: [{cron: '1 2 * * *'}], workflow_call: {secrets: {t: }}, workflow_dispatch: {inputs: {i: }}, image_version: {names: a}}\njobs: {a: {runs-on: {group: g, labels: l}, steps: [{run: 1.10, if: , env: {A: , B: 0x1F, C: true}}]}}",
        "on: {pull_request: {branches: main, types: opened, paths-ignore: [a]}, workflow_run: {workflows: w}}\nenv: ' ${{ fromJSON(1) }} '\nname: 1.0\njobs: {a: {uses: o/r/.github/workflows/x.yml@v1, secrets: inherit, with: {n: 1}}, b: {uses: ./.github/workflows/x.yml, secrets: {s: t}}}",
        "on: push\njobs: {a: {runs-on: '${{ matrix.os }}', strategy: {fail-fast: false, max-parallel: 2, matrix: {os: [a, 1, ~], include: [{os: b}]}}, timeout-minutes: 1.5, continue-on-error: ' ${{ true }} ', steps: [{uses: docker://a:1, with: {args: x}}, {uses: ' ./a ', continue-on-error: true, timeout-minutes: '${{ 1 }}'}]}}",
        "on: push\njobs: {a: {runs-on: x, container: {image: a, env: {A: 1}, volumes: [a:/b], ports: [80], options: -x, credentials: {username: u, password: p}}, services: {s: {image: r, ports: ['80:80']}}, environment: {name: e, url: u}, concurrency: {group: g, cancel-in-progress: true}, permissions: read-all, outputs: {o: 1}, defaults: {run: {shell: bash}}, steps: [{run: y, shell: sh, working-directory: d, id: i, name: n}]}}",
    ] {
        assert_eq!(compare::workflow(text), Compared::Same, "{text}");
    }
    for text in [
        "name: a\ninputs: {i: , j: {required: 'TRUE', default: 1}}\noutputs: {o: {value: x}}\nruns: {using: composite, steps: [{run: x, shell: sh}, {uses: o/r@v1, with: {a: }}]}",
        "runs: {using: node20, main: m.js, pre: p.js, pre-if: , post: q.js, post-if: always()}",
        "runs: {using: docker, image: Dockerfile, env: {A: 1}, args: [a, 1], entrypoint: e, pre-entrypoint: p, post-if: x}",
    ] {
        assert_eq!(compare::action(text), Compared::Same, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_with_a_piece_changed_says_the_same_or_is_refused(
        which in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        length in 0_usize..12,
        piece in "([a-z]{1,3}|[-:\\[\\]{} \n'\"#&*|>$]|: |\n  |\\$\\{\\{|\\}\\}|1|~|true){0,4}",
    ) {
        let (path, text) = which.get(&CORPUS);
        let mut from = from.index(text.len() + 1);
        let mut to = (from + length).min(text.len());
        while !text.is_char_boundary(from) { from -= 1; }
        while !text.is_char_boundary(to) { to += 1; }
        let changed = format!("{}{piece}{}", &text[..from], &text[to..]);
        for compared in both(&changed) {
            if let Compared::Differs(how) = compared {
                prop_assert!(false, "{}: {how}\n{changed}", path.display());
            }
        }
    }
}
