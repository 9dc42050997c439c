//! All that is wrong with a workflow or cannot be run, before anything runs.
//!
//! [`check()`] loads a workflow, the actions and the workflows that it uses, and theirs. [`jobs`] looks at how jobs hang
//! together, [`steps`] at what steps do, [`uses`] at what is used and with which inputs, [`texts`] visits every text that
//! may hold an expression, and [`expressions`] says what is wrong with those.

pub mod actions;
mod called;
mod containers;
mod expressions;
mod files;
mod jobs;
pub mod late;
pub mod needs;
mod places;
mod steps;
#[cfg(test)]
mod tests;
mod texts;
mod uses;

pub use actions::{Actions, Builtin, Found};
pub use files::{Files, Kind, NoFiles};

use crate::diagnostic::{Diagnostic, Diagnostics, Findings, Severity, Spot, nearest};
use crate::event::On;
use crate::event::inputs::{self, Of};
use crate::labels::{Labels, LeftOut};
use crate::load;
use crate::replace::Replaced;
use crate::spec::{Action, Text, Workflow};
use crate::yaml::shown;
use crate::yaml::source::Source;
use late::Lookup;
use needs::Reached;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// How deep actions and workflows may be nested, as on GitHub.
pub const MAX_NESTING: usize = 10;

/// Against what a workflow is checked.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The repository that it is of. What is local is searched here.
    pub repository: &'a Path,
    /// The files there, and those of copies of others.
    pub files: &'a dyn Files,
    /// Where other actions are found.
    pub actions: &'a dyn Actions,
    /// Jobs that are not run here.
    pub left_out: &'a LeftOut,
    /// What labels stand for; when absent, nothing is said of it.
    pub labels: Option<&'a dyn Labels>,
    /// `OWNER/NAME` of the repository.
    pub slug: &'a str,
    /// What is to be run.
    pub selection: Selection<'a>,
}

/// What of a workflow is to be run. What is wrong with the rest is told as notes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// These jobs, and those that they need; all, if there are none.
    pub jobs: &'a [String],
    /// Only combinations of matrices with these values.
    pub matrix: &'a [(String, String)],
}

/// A workflow without errors, and all that it uses.
#[derive(Debug)]
pub struct Checked {
    /// The workflow.
    pub workflow: Workflow,
    /// The actions, by the text of `uses`. Images (`docker://…`) are not among them.
    pub actions: HashMap<String, Resolved>,
    /// The reusable workflows, by the text of `uses`.
    pub called: HashMap<String, Workflow>,
    /// What runs, but probably not as meant.
    pub warnings: Vec<Diagnostic>,
}

/// What `uses` of a step stands for.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// vmint does it itself.
    Builtin(Builtin),
    /// An action.
    Action(Box<LoadedAction>),
    /// What stands in for an action.
    Replaced(Replaced),
    /// It is known only in the workspace, when the step runs.
    AtRun,
    /// There is none, which matters when a step that uses it is reached: why, and what to do.
    Missing(String),
}

/// An action that was loaded and checked.
#[derive(Clone, Debug)]
pub struct LoadedAction {
    /// What it is.
    pub action: Action,
    /// The folder that holds it.
    pub folder: PathBuf,
    /// Where it comes from.
    pub origin: Origin,
    /// The file by which the folder is an action: `action.yml`.
    pub file: String,
    /// What is in that file.
    pub bytes: Vec<u8>,
}

/// Where an action comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The repository: in the machine it is where the workspace is.
    Local,
    /// A mirror on the host: it must be copied into the machine.
    Mirror,
}

/// Checks a workflow file. All that is wrong is told at once, sorted by place.
pub fn check(path: &Path, bytes: &[u8], options: &Options<'_>) -> Result<Checked, Diagnostics> {
    let (workflow, warnings) = load::workflow(path, bytes)?;
    let mut checker = Checker::new(*options);
    checker.findings.extend(warnings);
    let source = Source::new(bytes);
    let file = File {
        path,
        source: &source,
        home: Home::Repository,
    };
    checker.on(&workflow, &file);
    checker.workflow(&workflow, &file);
    let warnings = checker.findings.finish()?;
    Ok(Checked {
        workflow,
        actions: checker.actions,
        called: checker.called,
        warnings,
    })
}

/// The state of a check.
struct Checker<'a> {
    options: Options<'a>,
    findings: Findings,
    actions: HashMap<String, Resolved>,
    called: HashMap<String, Workflow>,
    /// Where local actions are looked up.
    home: Lookup,
    /// Whether what is checked is to be run.
    weight: Weight,
    /// Whether it is surely come to then.
    reached: Reached,
    /// `uses` of the actions and workflows that are being checked, outermost first.
    nesting: Vec<String>,
    /// Of what was checked: how many levels it nests, and whether it was surely come to.
    heights: HashMap<String, (usize, Reached)>,
}

/// How much counts what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is to be run.
    Full,
    /// It is not.
    Unselected,
}

/// The file that is being checked.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a Path,
    source: &'a Source<'a>,
    home: Home,
}

/// Which repository a file is of.
#[derive(Clone, Copy, PartialEq)]
enum Home {
    /// The one that the workflow is of.
    Repository,
    /// Another, known from a mirror.
    Elsewhere,
}

impl<'a> Checker<'a> {
    fn new(options: Options<'a>) -> Self {
        Self {
            options,
            findings: Findings::default(),
            actions: HashMap::new(),
            called: HashMap::new(),
            home: Lookup::Repository,
            weight: Weight::Full,
            reached: Reached::Surely,
            nesting: Vec::new(),
            heights: HashMap::new(),
        }
    }

    fn error(
        &mut self,
        file: &File<'_>,
        spot: Spot,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let error = Diagnostic::error(file.path, spot, message);
        self.find(error.help(help));
    }

    /// Adds a finding, with the weight of what is checked.
    fn find(&mut self, found: Diagnostic) {
        let severity = match self.weight {
            Weight::Full => found.severity,
            Weight::Unselected => Severity::Note,
        };
        self.findings.add(Diagnostic { severity, ..found });
    }

    fn warning(
        &mut self,
        file: &File<'_>,
        spot: Spot,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let warning = Diagnostic::warning(file.path, spot, message);
        self.find(warning.help(help));
    }

    /// Says what cannot be run here: an error where it is surely come to, else a warning.
    fn cannot(
        &mut self,
        file: &File<'_>,
        spot: Spot,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        match self.reached {
            Reached::Surely => self.error(file, spot, message, help),
            Reached::Perhaps => {
                let message = format!("{}; the step fails if it is reached", message.into());
                self.warning(file, spot, message, help);
            }
        }
    }

    /// Checks what starts a workflow: filters, and the inputs of a `workflow_dispatch`.
    fn on(&mut self, workflow: &Workflow, file: &File<'_>) {
        let on = match On::read(&workflow.on_node) {
            Ok(on) => on,
            Err(wrong) => {
                let help = "GitHub's documents call these filters: branches, tags, paths, types";
                return self.error(file, wrong.spot, wrong.problem.to_string(), help);
            }
        };
        let declared = on.get("workflow_dispatch").and_then(|f| f.inputs.as_ref());
        if let Err(wrong) = inputs::declared(Of::Dispatch, declared) {
            let help =
                "an input has type, default, required, description and, of a choice, options";
            self.error(file, wrong.spot, wrong.problem.to_string(), help);
        }
    }

    /// The place of an offset in a text. When no more is shown, it is not searched for: that costs the length of the file.
    fn spot(&self, severity: Severity, file: &File<'_>, text: &Text, offset: usize) -> Spot {
        if self.findings.full(severity) {
            return text.spot;
        }
        file.source.locate(text.spot, &text.text, offset)
    }
}

impl Checker<'_> {
    fn is_file(&self, path: &Path) -> bool {
        self.options.files.kind(path) == Some(Kind::File)
    }

    /// The name that was probably meant, unless no more is shown.
    fn near<'n>(
        &self,
        severity: Severity,
        word: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Option<&'n str> {
        if self.findings.full(severity) {
            return None;
        }
        nearest(word, names)
    }
}

/// Names, for a help; not all of very many.
fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const MOST: usize = 30;
    let mut names = names.into_iter();
    let mut first: Vec<String> = names.by_ref().take(MOST).map(shown).collect();
    if names.next().is_some() {
        first.push("…".to_owned());
    }
    first.join(", ")
}

/// A path below a folder, if it does not lead out of it.
pub fn inside(path: &str) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::ParentDir if inside.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}
