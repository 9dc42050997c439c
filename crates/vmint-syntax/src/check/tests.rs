use super::needs::Reached;
use super::*;
use crate::equipment::{Equipment, Known};
use crate::labels::{Meaning, NoMeaning};
use crate::replace::Choices;
use crate::spec::JobBody;
use crate::uses::RepositoryUses;
use std::collections::BTreeMap;
use std::io;

mod bounds;
mod called;
mod containers;
mod fields;
mod jobs;
mod places;
mod replaced;
mod texts;
mod uses;

/// A repository of files, and copies of actions below `mirror`.
struct Repository(BTreeMap<PathBuf, String>, Choices);

/// Where it is said to be.
const ROOT: &str = "/REPO";

impl Files for Repository {
    fn kind(&self, path: &Path) -> Option<Kind> {
        if self.0.contains_key(path) {
            return Some(Kind::File);
        }
        let mut files = self.0.keys();
        files
            .any(|file| file.starts_with(path))
            .then_some(Kind::Folder)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path);
        text.map(|text| text.clone().into_bytes())
            .ok_or_else(|| io::Error::from_raw_os_error(2))
    }
}

impl Actions for Repository {
    fn find(&self, uses: &RepositoryUses) -> Found {
        actions::choose(uses, &self.1, |uses| {
            let folder = format!("{ROOT}/mirror/{}@{}", uses.slug(), uses.git_ref());
            match self.kind(folder.as_ref()) {
                Some(Kind::Folder) => Found::Repository(folder.into()),
                _ => Found::Nothing {
                    help: format!("put it into {folder}"),
                },
            }
        })
    }
}

impl Repository {
    fn new(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|&(path, content)| (Path::new(ROOT).join(path), content.to_owned()));
        Self(files.collect(), Choices::default())
    }

    fn check(&self, text: &str) -> Result<Checked, Diagnostics> {
        self.check_without(text, &[])
    }

    /// Checks a workflow whose jobs with labels like these are not run.
    fn check_without(&self, text: &str, skipped: &[&str]) -> Result<Checked, Diagnostics> {
        let left_out = LeftOut::new(skipped.iter().map(|&pattern| pattern.to_owned()));
        let options = Options {
            repository: ROOT.as_ref(),
            files: self,
            actions: self,
            left_out: &left_out,
            labels: None,
            slug: "o/own",
            selection: Selection::default(),
        };
        check(Path::new("ci.yml"), text.as_bytes(), &options)
    }

    /// All that is said of a workflow.
    fn said(&self, text: &str) -> String {
        match self.check(text) {
            Ok(checked) => Diagnostics(checked.warnings).to_string(),
            Err(wrong) => wrong.to_string(),
        }
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
    fn meaning(&self, labels: &[String]) -> Result<Meaning, NoMeaning> {
        let known = match labels.first().map(String::as_str) {
            Some("bare") => Known::Bare,
            Some("some") => Known::Packages(vec![Equipment::Node]),
            _ => {
                let message = format!("no machine is known for {labels:?}");
                let hint = Some("say it".to_owned());
                return Err(NoMeaning { message, hint });
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
    let jobs: Vec<String> = jobs.iter().map(|&job| job.to_owned()).collect();
    let matrix = matrix
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let matrix: Vec<_> = matrix.collect();
    let options = Options {
        repository: ROOT.as_ref(),
        files: &repository,
        actions: &repository,
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
