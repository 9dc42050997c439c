//! How a run, a job or a step ended, in the words and signs that every face shows.

use super::text::{duration, quoted};
use crate::record::{JobRecord, Limit, Outcome, RunEnd, RunRecord, StepEnd, StepRecord};

/// How something ended, as its reader should see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It did what it should.
    Success,
    /// It failed.
    Failure,
    /// It failed, and `continue-on-error` says that it may.
    AllowedFailure,
    /// It was cancelled.
    Cancelled,
    /// It was not run, for its condition was false.
    Skipped,
    /// vmint or the machine failed: this says nothing of the workflow.
    Fault,
    /// It runs.
    Running,
    /// The run ended before its turn came.
    NotReached,
    /// Its turn has not come yet.
    Waiting,
}

impl Verdict {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Failure,
        Self::AllowedFailure,
        Self::Cancelled,
        Self::Skipped,
        Self::Fault,
        Self::Running,
        Self::NotReached,
        Self::Waiting,
    ];

    /// Of a run.
    pub fn of_run(run: &RunRecord) -> Self {
        match &run.end {
            None => Self::Running,
            Some(RunEnd::Success) => Self::Success,
            Some(RunEnd::Failure | RunEnd::TimedOut { .. } | RunEnd::Paused { .. }) => {
                Self::Failure
            }
            Some(RunEnd::Cancelled { .. }) => Self::Cancelled,
            Some(RunEnd::NotTriggered { .. }) => Self::Skipped,
            Some(RunEnd::Fault { .. } | RunEnd::Abandoned) => Self::Fault,
        }
    }

    /// Of a job of this run.
    pub fn of_job(run: &RunRecord, job: &JobRecord) -> Self {
        if job.fault.is_some() {
            return Self::Fault;
        }
        match job.outcome {
            Some(Outcome::Failure) if job.continue_on_error => Self::AllowedFailure,
            Some(outcome) => Self::of_outcome(outcome),
            None => Self::open(run, job.started_at_ms),
        }
    }

    /// Of a step of this run.
    pub fn of_step(run: &RunRecord, step: &StepRecord) -> Self {
        if matches!(step.ended, Some(StepEnd::Fault { .. })) {
            return Self::Fault;
        }
        match (step.outcome, step.conclusion) {
            (Some(Outcome::Failure), Some(Outcome::Success)) => Self::AllowedFailure,
            (Some(outcome), _) => Self::of_outcome(outcome),
            (None, _) => Self::open(run, step.started_at_ms),
        }
    }

    fn of_outcome(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure => Self::Failure,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Skipped => Self::Skipped,
        }
    }

    /// Of what has no outcome. What began and was not ended by the end of the run was cut short by vmint.
    fn open(run: &RunRecord, started_at_ms: Option<i64>) -> Self {
        match (run.end.is_some(), started_at_ms) {
            (false, Some(_)) => Self::Running,
            (false, None) => Self::Waiting,
            (true, Some(_)) => Self::Fault,
            (true, None) => Self::NotReached,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Success => "succeeded",
            Self::Failure => "failed",
            Self::AllowedFailure => "failed, allowed to",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Fault => "vmint failed",
            Self::Running => "running",
            Self::NotReached => "not reached",
            Self::Waiting => "waiting",
        }
    }

    /// A sign of one column.
    pub fn sign(self) -> char {
        match self {
            Self::Success => '✓',
            Self::Failure => '✗',
            Self::AllowedFailure => '△',
            Self::Cancelled => '⊘',
            Self::Skipped => '»',
            Self::Fault => '!',
            Self::Running => '▸',
            Self::NotReached | Self::Waiting => '·',
        }
    }

    /// The class in the page.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::AllowedFailure => "allowed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Fault => "fault",
            Self::Running => "running",
            Self::NotReached | Self::Waiting => "open",
        }
    }

    /// Whether its reader should look at it first.
    pub fn needs_attention(self) -> bool {
        matches!(self, Self::Failure | Self::AllowedFailure | Self::Fault)
    }
}

/// Why a run ended so, in a sentence without a full stop.
pub fn run_note(run: &RunRecord) -> Option<String> {
    Some(match run.end.as_ref()? {
        RunEnd::Success => {
            let left_out = run.jobs.iter().filter(|job| job.left_out.is_some());
            match left_out.count() {
                0 => return None,
                n => format!("{} skipped by skip-runs-on", count(n, "job")),
            }
        }
        RunEnd::Failure => {
            let failed = |job: &&JobRecord| Verdict::of_job(run, job) == Verdict::Failure;
            let failed = run.jobs.iter().filter(failed).count();
            format!("{failed} of {} failed", count(run.jobs.len(), "job"))
        }
        RunEnd::Cancelled { by } => format!("cancelled by {by}"),
        RunEnd::TimedOut { limit_ms } => {
            format!("ran past the workflow's limit of {}", duration(*limit_ms))
        }
        RunEnd::Paused { job, step, name } => {
            format!("paused at step {step} of {job} ({name}); its machine is kept as it was then")
        }
        RunEnd::NotTriggered { reason } => format!("nothing was run: {reason}"),
        RunEnd::Fault { fault } => fault.message.to_string(),
        RunEnd::Abandoned => {
            "the process that ran it was killed, and its machine was taken back".to_owned()
        }
    })
}

/// Why a job ended so, if that needs a word.
pub fn job_note(run: &RunRecord, job: &JobRecord) -> Option<String> {
    match (&job.fault, &job.reason, Verdict::of_job(run, job)) {
        (Some(fault), ..) => Some(fault.message.to_string()),
        (None, Some(reason), _) => Some(reason.to_string()),
        (None, None, Verdict::AllowedFailure) => Some("continue-on-error of the job".to_owned()),
        (None, None, Verdict::Skipped) => Some("its condition was false".to_owned()),
        _ => None,
    }
}

/// Why a step ended so, if that needs a word.
pub fn step_note(run: &RunRecord, step: &StepRecord) -> Option<String> {
    let verdict = Verdict::of_step(run, step);
    let note = match &step.ended {
        Some(StepEnd::Exited { code: 0 }) => None,
        Some(StepEnd::Exited { code }) => Some(format!("exit code {code}")),
        Some(StepEnd::Killed { signal }) => Some(format!("killed by signal {signal}")),
        Some(StepEnd::TimedOut { whose, limit_ms }) => Some(format!(
            "ran past the {}'s limit of {}",
            match whose {
                Limit::Step => "step",
                Limit::Job => "job",
                Limit::Workflow => "workflow",
            },
            duration(*limit_ms)
        )),
        Some(StepEnd::Cancelled) => None,
        Some(StepEnd::Invalid { reason }) => Some(reason.to_string()),
        Some(StepEnd::Fault { fault }) => Some(fault.message.to_string()),
        None if step.reason.is_some() => step.reason.as_ref().map(ToString::to_string),
        None if verdict == Verdict::Skipped => Some("its condition was false".to_owned()),
        None if verdict == Verdict::Fault => Some("cut short".to_owned()),
        None => None,
    };
    let note = match (&step.replaced, note) {
        (Some(by), Some(note)) => Some(format!("{note}; the action is replaced by {by}")),
        (Some(by), None) => Some(format!("the action is replaced by {by}")),
        (None, note) => note,
    };
    match (verdict, note) {
        (Verdict::AllowedFailure, Some(note)) => Some(format!("{note}; continue-on-error")),
        (Verdict::AllowedFailure, None) => Some("continue-on-error".to_owned()),
        (_, note) => note,
    }
}

/// How to look into the machine as it was before a step, and how to go on from there.
pub fn rewind_commands(run: &RunRecord, job: &JobRecord, step: &StepRecord) -> Option<[String; 2]> {
    step.snapshot.as_ref()?;
    // A number alone names a step only where one job has any.
    let (id, number, file) = (&run.id, step.number, run.file.to_string_lossy());
    let which = match run.jobs.iter().filter(|job| !job.steps.is_empty()).count() {
        0 | 1 => number.to_string(),
        _ => quoted(&format!("{}:{number}", job.key)),
    };
    Some([
        format!("vmint workflow shell {id} --before {which}"),
        format!(
            "vmint workflow run {} --resume {id} --from {which}",
            quoted(&file)
        ),
    ])
}

/// `1 job`, `2 jobs`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_failed_step_is_never_shown_as_a_success() {
        let mut run = sample::build_and_test();
        let step = &mut run.jobs[0].steps[1];
        step.outcome = Some(Outcome::Failure);
        step.ended = Some(StepEnd::Exited { code: 3 });
        for (conclusion, verdict) in [
            (Outcome::Failure, Verdict::Failure),
            (Outcome::Success, Verdict::AllowedFailure),
        ] {
            run.jobs[0].steps[1].conclusion = Some(conclusion);
            assert_eq!(Verdict::of_step(&run, &run.jobs[0].steps[1]), verdict);
        }
        let note = step_note(&run, &run.jobs[0].steps[1]);
        assert_eq!(note.as_deref(), Some("exit code 3; continue-on-error"));
    }

    #[test]
    fn what_was_cut_short_is_vmints_fault_and_not_the_steps() {
        let mut run = sample::build_and_test();
        run.end = Some(RunEnd::Abandoned);
        let verdict = |run: &RunRecord| Verdict::of_step(run, &run.jobs[0].steps[1]);
        let step = &mut run.jobs[0].steps[1];
        (step.outcome, step.conclusion, step.ended) = (None, None, None);
        assert_eq!(verdict(&run), Verdict::Fault);
        run.jobs[0].steps[1].started_at_ms = None;
        assert_eq!(verdict(&run), Verdict::NotReached);
        run.end = None;
        assert_eq!(verdict(&run), Verdict::Waiting);
    }

    #[test]
    fn signs_of_what_differs_differ() {
        let mut signs = Verdict::ALL.map(Verdict::sign).to_vec();
        signs.dedup();
        // Waiting and not reached are told apart by whether the run has ended.
        assert_eq!(signs.len(), Verdict::ALL.len() - 1);
    }

    #[test]
    fn rewinding_names_the_job_only_where_there_are_several() {
        let mut run = sample::build_and_test();
        run.file = "/home/me/my project/ci.yml".into();
        let commands = |run: &RunRecord| {
            let job = &run.jobs[0];
            rewind_commands(run, job, &job.steps[2]).unwrap().join("\n")
        };
        insta::assert_snapshot!(commands(&run), @"
        vmint workflow shell r0000cafe --before build:3
        vmint workflow run '/home/me/my project/ci.yml' --resume r0000cafe --from build:3
        ");
        run.jobs.truncate(1);
        insta::assert_snapshot!(commands(&run), @"
        vmint workflow shell r0000cafe --before 3
        vmint workflow run '/home/me/my project/ci.yml' --resume r0000cafe --from 3
        ");
    }
}
