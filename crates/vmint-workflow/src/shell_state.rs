//! How a shell begins in the machine as it was before a step: what the step itself would have found.
//!
//! Kept beside the snapshot, as a file in the run's folder. The environment of a step may hold secrets, so the file is for
//! its owner alone.

use crate::containers::variables::{VariableError, Variables};
use crate::containers::{Engine, Inside};
use crate::private_file::{self, Before};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Stands for the number of a step where a moment is that in which a step of the job had failed.
pub const AT_FAILURE: u32 = 0;

/// A longer file is no [`ShellState`]: GitHub's limit of all variables together is far below.
const LONGEST: u64 = 16 << 20;

/// What a step would have found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellState {
    /// Its variables, without `PATH`.
    pub env: BTreeMap<String, String>,
    /// `PATH`; the machine's own when empty.
    pub path: String,
    /// Its working directory.
    pub cwd: String,
    /// Who would have run it; root when absent.
    pub user: Option<String>,
    /// The job's container, if it would have run there.
    #[serde(default)]
    pub container: Option<Container>,
}

/// The job's container, for a shell that begins in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's client, with its own options.
    engine: Vec<String>,
    /// What the client's environment needs.
    env: Vec<(String, String)>,
    /// The container's id.
    id: String,
}

/// Whether a shell has a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl Container {
    /// Of a job.
    pub(crate) fn new(engine: &Engine, inside: &Inside) -> Self {
        let call = engine.call(["exec"]);
        Self {
            engine: call.argv,
            env: call.env,
            id: inside.container.clone(),
        }
    }
}

impl ShellState {
    /// What a command begins with, so that it begins as the step did, and with which variables: in the machine it is itself;
    /// in the job's container it is run by the engine.
    pub fn entry(&self, terminal: Terminal) -> Result<Entry, VariableError> {
        let path = Some(("PATH".to_owned(), self.path.clone()));
        let path = path.filter(|(_, path)| !path.is_empty());
        // The last one counts.
        let env = self.env.clone().into_iter().chain(path);
        let Some(container) = &self.container else {
            return Ok(Entry {
                argv: Vec::new(),
                env: env.collect(),
            });
        };
        let variables = Variables::new(env)?;
        let mut argv = container.engine.clone();
        argv.push("--interactive".into());
        if terminal == Terminal::Yes {
            argv.push("--tty".into());
        }
        argv.extend(variables.arguments());
        argv.push(container.id.clone());
        let env = container.env.iter().cloned().chain(variables.inherited());
        Ok(Entry {
            argv,
            env: env.collect(),
        })
    }

    /// Where it is kept, relative to the run's folder, for the job at this index of
    /// [`RunRecord::jobs`](crate::record::RunRecord::jobs) and the step with this
    /// [`number`](crate::record::StepRecord::number).
    pub fn file(job: usize, step: u32) -> PathBuf {
        format!("moments/{job}-{step}.json").into()
    }

    /// Keeps it in the folder of a run.
    pub fn write(&self, folder: &Path, job: usize, step: u32) -> io::Result<()> {
        let path = folder.join(Self::file(job, step));
        private_file::write(&path, self, Before::Goes)
    }

    /// Reads what was kept; nothing, if nothing was.
    pub fn read(folder: &Path, job: usize, step: u32) -> io::Result<Option<Self>> {
        private_file::read(&folder.join(Self::file(job, step)), LONGEST)
    }
}

/// How a command of a shell begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Before its own words.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_shell_begins_in_the_jobs_container_if_the_step_did() {
        let mut state = ShellState {
            env: [("A-B".to_owned(), "s3cret".to_owned())].into(),
            path: "/x:/bin".into(),
            ..ShellState::default()
        };
        let entry = state.entry(Terminal::Yes).unwrap();
        assert_eq!(entry.argv, [] as [String; 0]);
        assert_eq!(entry.env[1], ("PATH".into(), "/x:/bin".into()));
        state.container = Some(Container::new(&Engine::Docker, &Inside::new("abc")));
        let entry = state.entry(Terminal::Yes).unwrap();
        assert_eq!(
            entry.argv.join(" "),
            "docker exec --interactive --tty --env A-B --env PATH=/x:/bin abc"
        );
        // The client is found by the machine's own.
        assert_eq!(entry.env, [("A-B".into(), "s3cret".into())]);
        let entry = state.entry(Terminal::No).unwrap();
        assert!(!entry.argv.contains(&"--tty".to_owned()));
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<ShellState>(&json).unwrap(), state);
        let older = r#"{"env":{},"path":"","cwd":"/","user":null}"#;
        assert_eq!(
            serde_json::from_str::<ShellState>(older).unwrap().container,
            None
        );
    }

    #[test]
    fn what_was_kept_comes_back_and_is_for_its_owner_alone() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(ShellState::read(run.path(), 0, 3).unwrap(), None);
        let state = ShellState {
            env: [("A".to_owned(), "1\n2".to_owned())].into(),
            path: "/usr/bin".into(),
            cwd: "/w".into(),
            user: None,
            container: None,
        };
        state.write(run.path(), 0, 3).unwrap();
        assert_eq!(ShellState::read(run.path(), 0, 3).unwrap(), Some(state));
        let path = run.path().join(ShellState::file(0, 3));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        std::fs::write(path, "{").unwrap();
        let error = ShellState::read(run.path(), 0, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
