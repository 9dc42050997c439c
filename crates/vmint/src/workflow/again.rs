//! What a run was asked to be, kept so that it can be tried again.
//!
//! Kept in the run's folder for its owner alone, unmasked: inputs and variables may be anything. Of secrets only the names are
//! kept; whoever tries again gives them again.

use super::run::{MachinePer, Moments, OnFailure};
use super::site::PoolOptions;
use super::start::Asked;
use crate::Vmint;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_model::{ErrorKind, Fault, Name, RunId};
use vmint_workflow::private_file::{self, Before};

/// Where it is kept, relative to the run's folder.
const FILE: &str = "asked.json";
/// Inputs and variables come from a command line.
const LONGEST: u64 = 16 << 20;

/// What was asked of a run.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    file: PathBuf,
    jobs: Vec<String>,
    matrix: Vec<(String, String)>,
    commit: Option<String>,
    event: Option<String>,
    event_file: Option<PathBuf>,
    inputs: Vec<(String, String)>,
    /// Their names.
    secrets: Vec<String>,
    vars: Vec<(String, String)>,
    machine_per_job: bool,
    pool: Option<Name>,
    image: Option<String>,
    wait_ms: Option<u64>,
    timeout_ms: Option<u64>,
    moments: Keeps,
    pauses: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Keeps {
    Nothing,
    Failures,
    Steps,
}

/// A run that is to be tried again.
#[derive(Clone, Debug)]
pub struct Again {
    /// What was asked of it, without secrets.
    pub asked: Asked,
    /// The names of the secrets that it had.
    pub secrets: Vec<String>,
}

impl Vmint {
    /// What was asked of a run.
    pub fn again(&self, run: &RunId) -> Result<Again, Fault> {
        let folder = self.home.run(run);
        let unreadable = |e: &io::Error| {
            let kind = match e.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::InvalidData => ErrorKind::Corrupt,
                _ => ErrorKind::Host,
            };
            Fault::from_error(kind, e)
                .context(format!("cannot read how run {run} was started"))
                .hint("use `vmint workflow run FILE --resume RUN --from STEP`")
        };
        let kept = read(&folder).map_err(|e| unreadable(&e))?;
        Ok(kept.into())
    }
}

/// Keeps what is asked of a run in its folder.
pub(super) fn keep(folder: &Path, asked: &Asked, file: &Path) -> io::Result<()> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let kept = Kept {
        file: file.to_owned(),
        jobs: asked.jobs.clone(),
        matrix: asked.matrix.clone(),
        commit: asked.commit.clone(),
        event: asked.event.clone(),
        event_file: match &asked.event_file {
            Some(path) => Some(std::path::absolute(path)?),
            None => None,
        },
        inputs: asked.inputs.clone(),
        secrets: asked.secrets.iter().map(|(name, _)| name.clone()).collect(),
        vars: asked.vars.clone(),
        machine_per_job: asked.machine_per == MachinePer::Job,
        pool: asked.pools.pool.clone(),
        image: asked.pools.image.clone(),
        wait_ms: asked.pools.wait.map(ms),
        timeout_ms: asked.timeout.map(ms),
        moments: match asked.moments {
            Moments::None => Keeps::Nothing,
            Moments::Failures => Keeps::Failures,
            Moments::Steps => Keeps::Steps,
        },
        pauses: asked.on_failure == OnFailure::Pause,
    };
    private_file::write(&folder.join(FILE), &kept, Before::Stays)
}

fn read(folder: &Path) -> io::Result<Kept> {
    let kept = private_file::read(&folder.join(FILE), LONGEST)?;
    kept.ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl From<Kept> for Again {
    fn from(kept: Kept) -> Self {
        let asked = Asked {
            file: kept.file,
            jobs: kept.jobs,
            matrix: kept.matrix,
            commit: kept.commit,
            resume: None,
            event: kept.event,
            event_file: kept.event_file,
            inputs: kept.inputs,
            secrets: Vec::new(),
            vars: kept.vars,
            machine_per: if kept.machine_per_job {
                MachinePer::Job
            } else {
                MachinePer::Workflow
            },
            pools: PoolOptions {
                pool: kept.pool,
                image: kept.image,
                wait: kept.wait_ms.map(Duration::from_millis),
            },
            timeout: kept.timeout_ms.map(Duration::from_millis),
            moments: match kept.moments {
                Keeps::Nothing => Moments::None,
                Keeps::Failures => Moments::Failures,
                Keeps::Steps => Moments::Steps,
            },
            on_failure: if kept.pauses {
                OnFailure::Pause
            } else {
                OnFailure::GoOn
            },
        };
        Self {
            asked,
            secrets: kept.secrets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_was_asked_comes_back_without_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let asked = Asked {
            file: "ci".into(),
            jobs: vec!["test".to_owned()],
            matrix: vec![pair("os", "x")],
            event_file: Some("event.json".into()),
            inputs: vec![pair("a", "b=c")],
            secrets: vec![pair("TOKEN", "hunter2")],
            vars: vec![pair("V", "")],
            machine_per: MachinePer::Job,
            pools: PoolOptions {
                pool: Some("p".parse().unwrap()),
                image: None,
                wait: Some(Duration::from_secs(3)),
            },
            timeout: Some(Duration::from_millis(1500)),
            moments: Moments::Failures,
            on_failure: OnFailure::Pause,
            ..Asked::default()
        };
        keep(folder.path(), &asked, Path::new("/p/ci.yml")).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"));
        let again = Again::from(read(folder.path()).unwrap());
        assert_eq!(again.secrets, ["TOKEN"]);
        assert!(again.asked.event_file.as_ref().unwrap().is_absolute());
        let expected = Asked {
            file: "/p/ci.yml".into(),
            event_file: again.asked.event_file.clone(),
            secrets: Vec::new(),
            ..asked
        };
        assert_eq!(format!("{:?}", again.asked), format!("{expected:?}"));
    }
}
