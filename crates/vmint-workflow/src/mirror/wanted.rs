//! Which actions and workflows of other repositories a file uses.

use crate::check;
use crate::diagnostic::Diagnostics;
use crate::load;
use crate::spec::{JobBody, Runs, Step, StepBody};
use crate::uses::{RepositoryUses, Uses};
use std::path::Path;

/// What a file uses.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Of other repositories.
    pub foreign: Vec<RepositoryUses>,
    /// Of its own: paths below the root.
    pub local: Vec<String>,
}

/// What a workflow uses.
pub(super) fn of_workflow(path: &Path, bytes: &[u8]) -> Result<Wanted, Diagnostics> {
    let (workflow, _) = load::workflow(path, bytes)?;
    let mut wanted = Wanted::default();
    for job in workflow.jobs.values() {
        match &job.body {
            JobBody::Call(call) => wanted.add(&call.uses.text),
            JobBody::Steps(job) => wanted.steps(&job.steps),
        }
    }
    Ok(wanted)
}

/// What the action in a folder uses; nothing, if there is none.
pub(super) fn of_action(folder: &Path) -> Result<Wanted, Diagnostics> {
    let mut wanted = Wanted::default();
    for name in ["action.yml", "action.yaml"] {
        let path = folder.join(name);
        if let Some(bytes) = read(&path) {
            let (action, _) = load::action(&path, &bytes)?;
            if let Runs::Composite(steps) = &action.runs {
                wanted.steps(steps);
            }
            break;
        }
    }
    Ok(wanted)
}

/// The content of a file, if it is one.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    if !path.is_file() {
        return None;
    }
    check::read(path).ok()
}

impl Wanted {
    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            if let StepBody::Uses { uses, .. } = &step.body {
                self.add(&uses.text);
            }
        }
    }

    fn add(&mut self, uses: &str) {
        match Uses::parse(uses) {
            Ok(Uses::Repository(repository)) => self.foreign.push(repository),
            Ok(Uses::Local(local)) => {
                let path = local.raw().trim_start_matches(['.', '$']);
                self.local.push(path.trim_start_matches('/').to_owned());
            }
            _ => {}
        }
    }
}
