//! What is to be run, and how.

use super::state::Saved;
use crate::check::{Checked, Mirror};
use crate::event::payload::Event;
use crate::expr::Object;
use crate::labels::LeftOut;
use crate::record::RunRecord;
use crate::workspace::Repository;
use std::path::PathBuf;
use std::time::Duration;
use vmint_model::{Name, ProcessRef, RunId};

/// What is to be run, and how.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: RunId,
    /// The process that runs it.
    pub owner: ProcessRef,
    /// The workflow, checked.
    pub checked: Checked,
    /// Where actions are found that are read only when they are used.
    pub actions: Mirror,
    /// The file, absolute.
    pub file: PathBuf,
    /// The file's path in the repository: `.github/workflows/ci.yml`.
    pub path: String,
    /// The repository that it is of.
    pub repository: Repository,
    /// What has happened.
    pub event: Event,
    /// Why the event does not start the workflow, if it does not.
    pub not_triggered: Option<String>,
    /// What should be known of the event.
    pub note: Option<String>,
    /// `inputs` of a `workflow_dispatch`.
    pub inputs: Object,
    /// `secrets`.
    pub secrets: Vec<(String, String)>,
    /// `vars`.
    pub vars: Vec<(String, String)>,
    /// These jobs, and those that they need; all, if there are none.
    pub jobs: Vec<String>,
    /// Only combinations with these values.
    pub matrix: Vec<(String, String)>,
    /// How.
    pub options: Options,
    /// The folder of the run, which exists.
    pub folder: PathBuf,
    /// The folder of the caches, made if need be.
    pub caches: PathBuf,
    /// Where to go on instead of beginning.
    pub resume: Option<Resume>,
    /// How many runs the workflow has had, with this one.
    pub run_number: u64,
}

/// Where a run goes on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The run that it continues.
    pub record: RunRecord,
    /// The moment.
    pub saved: Saved,
    /// The machine of that moment.
    pub snapshot: Name,
    /// The step, as it is numbered in that run.
    pub step: u32,
}

/// How a workflow is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether all of it has one machine.
    pub machine_per: MachinePer,
    /// Which moments are kept.
    pub moments: Moments,
    /// What `checkout` checks out.
    pub commit: Option<String>,
    /// How long the run may take.
    pub timeout: Option<Duration>,
    /// A shell script that the set-up of each job ends with.
    pub setup: Option<String>,
    /// A shell script that the clean-up of each job begins with.
    pub cleanup: Option<String>,
    /// How much room caches may take, in bytes.
    pub cache_quota: u64,
    /// What a failure does.
    pub on_failure: OnFailure,
    /// Jobs that are not run.
    pub left_out: LeftOut,
}

/// What has a machine of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MachinePer {
    /// The run: its jobs follow each other in one machine.
    #[default]
    Workflow,
    /// Each job.
    Job,
}

/// What the failure of a step does to its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The job goes on to what is to run in spite of it.
    #[default]
    GoOn,
    /// Nothing more is run: the run ends as [paused](crate::record::RunEnd::Paused), with the moment of the failure kept.
    Pause,
}

/// Which moments of the machine are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moments {
    /// None.
    #[default]
    None,
    /// The one in which a step has failed.
    Failures,
    /// Those before each step, and in which a step has failed.
    Steps,
}
