//! Who watches a run: the command line, and the store.

use crate::log::Line;
use crate::mask::Masked;
use crate::record::RunRecord;
use crate::trace::TraceEvent;

/// Is told of all that happens in a run, in order, by one caller at a time.
pub trait Observer: Send + Sync {
    /// Something has happened; `run` is as it is since then. Must not block for long: the run waits.
    fn happened(&self, run: &RunRecord, what: Change<'_>);
    /// Something that the run does has begun or ended. Several callers may come at once. Must not block for long.
    fn traced(&self, _event: &TraceEvent) {}
}

/// What has happened. Jobs and steps are indices into [`RunRecord::jobs`] and their steps.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The run has begun.
    Started,
    /// Something is waited for or should be known; also in [`RunRecord::notes`] when it is lasting.
    Note(&'a Masked),
    /// A job runs, or was skipped without running.
    JobStarted {
        /// Which.
        job: usize,
    },
    /// A step runs, or was skipped without running.
    StepStarted {
        /// Of which job.
        job: usize,
        /// Which.
        step: usize,
    },
    /// A step has a new line in its log.
    Logged {
        /// Of which job.
        job: usize,
        /// Which.
        step: usize,
        /// The line.
        line: &'a Line,
    },
    /// A step has ended.
    StepEnded {
        /// Of which job.
        job: usize,
        /// Which.
        step: usize,
    },
    /// A job has ended.
    JobEnded {
        /// Which.
        job: usize,
    },
    /// The run has ended.
    Ended,
}
