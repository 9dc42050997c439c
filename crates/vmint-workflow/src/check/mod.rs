//! All that is wrong with a workflow or cannot be run, before anything runs.
//!
//! [`check()`] loads a workflow, the actions and the workflows that it uses, and theirs. [`jobs`] looks at how jobs hang
//! together, [`steps`] at what steps do, [`uses`] at what is used and with which inputs, [`texts`] visits every text that
//! may hold an expression, and [`expressions`] says what is wrong with those.

pub mod actions;
mod called;
mod expressions;
mod jobs;
mod steps;
#[cfg(test)]
mod tests;
mod texts;
mod uses;

pub use actions::{Actions, Builtin, Found, Mirror};

use crate::diagnostic::{Diagnostic, Diagnostics, Findings, Severity, Spot, nearest};
use crate::event::On;
use crate::event::inputs::{self, Of};
use crate::labels::LeftOut;
use crate::load;
use crate::replace::Replaced;
use crate::spec::{Action, Text, Workflow};
use crate::yaml::source::Source;
use crate::yaml::{MAX_BYTES, shown};
use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// How deep actions and workflows may be nested, as on GitHub.
pub const MAX_NESTING: usize = 10;

/// Against what a workflow is checked.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The repository that it is of. What is local is searched here.
    pub repository: &'a Path,
    /// Where other actions are found.
    pub actions: &'a dyn Actions,
    /// Jobs that are not run here.
    pub left_out: &'a LeftOut,
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
    /// What it needs of the image.
    pub requirements: Requirements,
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
}

/// Where an action comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The repository: in the machine it is where the workspace is.
    Local,
    /// A mirror on the host: it must be copied into the machine.
    Mirror,
}

/// What a workflow needs of the image, with the places that need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Node.js; `what` is `using` of the action: `node20`.
    pub node: Vec<Need>,
    /// A container engine; `what` is the image or the service.
    pub container_engine: Vec<Need>,
    /// Other tools; `what` is `python`, `go`, `java`, `ruby`, `rust` or `node`.
    pub tools: Vec<Need>,
}

/// One thing that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub what: String,
    /// In which file.
    pub file: PathBuf,
    /// Where.
    pub spot: Spot,
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
        requirements: checker.requirements,
        warnings,
    })
}

/// The state of a check.
struct Checker<'a> {
    options: Options<'a>,
    findings: Findings,
    actions: HashMap<String, Resolved>,
    called: HashMap<String, Workflow>,
    requirements: Requirements,
    /// `uses` of the actions and workflows that are being checked, outermost first.
    nesting: Vec<String>,
    /// Of what was checked: how many levels it nests.
    heights: HashMap<String, usize>,
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
            requirements: Requirements::default(),
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
        self.findings.add(error.help(help));
    }

    fn warning(
        &mut self,
        file: &File<'_>,
        spot: Spot,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let warning = Diagnostic::warning(file.path, spot, message);
        self.findings.add(warning.help(help));
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
pub(crate) fn inside(path: &str) -> Option<PathBuf> {
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

/// The content of a file, one byte more than may be at the most.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
