//! An action that is read when its step runs: from the workspace, without a repository beside it.

use super::{
    Actions, Checker, File, Home, LoadedAction, NoFiles, Options, Origin, Resolved, Selection,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, Spot};
use crate::labels::LeftOut;
use crate::load;
use crate::spec::{Action, DockerRuns, Runs, Text};
use crate::yaml::source::Source;
use indexmap::IndexMap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The action.
    pub action: LoadedAction,
    /// What its steps use.
    pub used: HashMap<String, Resolved>,
    /// What should be known of it.
    pub warnings: Vec<Diagnostic>,
}

/// Reads an action of the workspace: the content of its `action.yml`, or of a `Dockerfile` that stands alone.
pub fn read(
    shown: &Path,
    name: &str,
    bytes: Vec<u8>,
    actions: &dyn Actions,
) -> Result<Read, Diagnostics> {
    let options = Options {
        repository: Path::new(""),
        files: &NoFiles,
        actions,
        left_out: &LeftOut::default(),
        labels: None,
        slug: "",
        selection: Selection::default(),
    };
    let mut checker = Checker::new(options);
    checker.home = Lookup::Late;
    let action = if name == "Dockerfile" {
        of_dockerfile(shown)
    } else {
        let (action, warnings) = load::action(shown, &bytes)?;
        checker.findings.extend(warnings);
        let source = Source::new(&bytes);
        let file = File {
            path: shown,
            source: &source,
            home: Home::Repository,
        };
        checker.content(&file, &action);
        action
    };
    let (used, findings) = (checker.actions, checker.findings);
    let mut warnings = findings.finish()?;
    warnings.retain(|found| found.severity == Severity::Warning);
    Ok(Read {
        action: LoadedAction {
            action,
            folder: PathBuf::new(),
            origin: Origin::Local,
            file: name.to_owned(),
            bytes,
        },
        used,
        warnings,
    })
}

/// Where local actions are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// In the repository on this host.
    Repository,
    /// Nowhere: when their steps run.
    Late,
}

/// A folder with nothing but a `Dockerfile` is an action without inputs.
pub(super) fn of_dockerfile(path: &Path) -> Action {
    let image = Text {
        text: "Dockerfile".to_owned(),
        spot: Spot::START,
    };
    Action {
        path: path.to_owned(),
        name: None,
        inputs: IndexMap::new(),
        outputs: Vec::new(),
        runs: Runs::Docker(Box::new(DockerRuns {
            image,
            env: Vec::new(),
            entrypoint: None,
            args: Vec::new(),
            pre: None,
            post: None,
        })),
    }
}
