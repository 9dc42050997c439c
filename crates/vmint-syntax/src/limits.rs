//! Time limits: which of the step's, the job's and the workflow's comes first.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long a job may take when it does not say: 360 minutes.
pub const JOB: Duration = Duration::from_secs(360 * 60);

/// How long the steps that run `always()` have, all of them together, after their job ran out of time or was cancelled.
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// The longest limit; GitHub ends each workflow run after 35 days.
const LONGEST: f64 = 35.0 * 24.0 * 60.0;

const HELP: &str = "give a number of minutes; the shortest limit is a second, 0.017";

/// `timeout-minutes` that is no time limit.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// It is not a number.
    #[error("timeout-minutes is not a number; {HELP}")]
    NotANumber,
    /// It is less than a second.
    #[error("timeout-minutes is {0}; {HELP}")]
    TooShort(f64),
}

impl LimitError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        HELP
    }
}

/// The time that `timeout-minutes` stands for, to the millisecond. A part of a minute counts, which GitHub drops: what is
/// tried out here is often short. What is longer than 35 days is 35 days.
pub fn minutes(minutes: f64) -> Result<Duration, LimitError> {
    if minutes.is_nan() {
        return Err(LimitError::NotANumber);
    }
    let ms = (minutes.min(LONGEST) * 60_000.0).round();
    if ms < 1000.0 {
        return Err(LimitError::TooShort(minutes));
    }
    Ok(Duration::from_millis(ms as u64))
}

/// Whose time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The step's.
    Step,
    /// The job's.
    Job,
    /// The workflow's.
    Workflow,
}

/// A moment at which something must have ended, and how long it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The limit as it was set.
    pub limit: Duration,
    /// Whose it is.
    pub whose: Limit,
}

impl Deadline {
    /// That of something that began at a moment.
    pub fn new(whose: Limit, began: Instant, limit: Duration) -> Self {
        Self {
            // No limit is longer than 35 days; an overflow would be a clock near its end.
            at: began.checked_add(limit).unwrap_or(began),
            limit,
            whose,
        }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.at
    }
}

/// What a command gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How long it may run from now on.
    pub timeout: Duration,
    /// Which limit ends it then.
    pub deadline: Deadline,
}

/// Why a job does not run as usual anymore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Running,
    /// It ran out of time or was cancelled at this moment: steps that run all the same have [`GRACE`].
    Ending {
        /// When.
        since: Instant,
    },
}

/// The limits of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    job: Deadline,
    workflow: Option<Deadline>,
}

impl Limits {
    /// Those of a job that began at a moment; `job` is [`JOB`] when it has none of its own.
    pub fn new(began: Instant, job: Option<Duration>, workflow: Option<Deadline>) -> Self {
        Self {
            job: Deadline::new(Limit::Job, began, job.unwrap_or(JOB)),
            workflow,
        }
    }

    /// The limit of job or workflow that is over, if one is: the one that came first.
    pub fn over(&self, now: Instant) -> Option<Deadline> {
        Some(self.outer()).filter(|deadline| deadline.is_over(now))
    }

    /// What a command of a step gets, or the limit that is over already. `step` is that of the step, counted from
    /// when the step began, so that the commands of one step share it.
    pub fn allow(
        &self,
        now: Instant,
        phase: Phase,
        step: Option<Deadline>,
    ) -> Result<Allowance, Deadline> {
        let outer = match phase {
            Phase::Running => self.outer(),
            Phase::Ending { since } => Deadline {
                whose: self.outer().whose,
                ..Deadline::new(Limit::Job, since, GRACE)
            },
        };
        // Of two that end at the same moment, the step's own says more.
        let deadline = match step {
            Some(step) if step.at <= outer.at => step,
            _ => outer,
        };
        if deadline.is_over(now) {
            return Err(deadline);
        }
        Ok(Allowance {
            timeout: deadline.at - now,
            deadline,
        })
    }

    fn outer(&self) -> Deadline {
        match self.workflow {
            Some(workflow) if workflow.at < self.job.at => workflow,
            _ => self.job,
        }
    }
}

/// A limit for people: `6 h`, `90 min`, `5 s`.
pub fn text(limit: Duration) -> String {
    let ms = limit.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        _ if ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        _ => format!("{} s", ms as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn parts_of_minutes_count_down_to_a_second() {
        assert_eq!(minutes(1.0), Ok(MINUTE));
        assert_eq!(minutes(2.9), Ok(Duration::from_secs(174)));
        assert_eq!(minutes(0.05), Ok(Duration::from_secs(3)));
        assert_eq!(minutes(1.0 / 60.0), Ok(Duration::from_secs(1)));
        assert_eq!(minutes(1e300), Ok(35 * 24 * 60 * MINUTE));
        assert_eq!(minutes(f64::INFINITY), minutes(1e300));
        assert_eq!(minutes(0.016), Err(LimitError::TooShort(0.016)));
        assert_eq!(minutes(0.0), Err(LimitError::TooShort(0.0)));
        assert_eq!(minutes(-3.0), Err(LimitError::TooShort(-3.0)));
        assert_eq!(minutes(f64::NAN), Err(LimitError::NotANumber));
        assert_eq!(
            minutes(0.01).unwrap_err().to_string(),
            "timeout-minutes is 0.01; give a number of minutes; the shortest limit is a second, 0.017"
        );
    }

    #[test]
    fn the_limit_that_comes_first_is_the_one_that_is_told() {
        let began = Instant::now();
        let workflow = Deadline::new(Limit::Workflow, began, 20 * MINUTE);
        let limits = Limits::new(began, Some(10 * MINUTE), Some(workflow));
        let now = began + 4 * MINUTE;
        let whose = |limits: Limits, step: Option<u32>| {
            let step = step.map(|minutes| Deadline::new(Limit::Step, now, minutes * MINUTE));
            let allowance = limits.allow(now, Phase::Running, step).unwrap();
            (
                allowance.deadline.whose,
                allowance.timeout,
                allowance.deadline.limit,
            )
        };
        assert_eq!(whose(limits, None), (Limit::Job, 6 * MINUTE, 10 * MINUTE));
        assert_eq!(
            whose(limits, Some(5)),
            (Limit::Step, 5 * MINUTE, 5 * MINUTE)
        );
        assert_eq!(
            whose(limits, Some(6)),
            (Limit::Step, 6 * MINUTE, 6 * MINUTE)
        );
        assert_eq!(
            whose(limits, Some(7)),
            (Limit::Job, 6 * MINUTE, 10 * MINUTE)
        );
        let limits = Limits::new(began, None, Some(workflow));
        assert_eq!(
            whose(limits, None),
            (Limit::Workflow, 16 * MINUTE, 20 * MINUTE)
        );
        let limits = Limits::new(began, None, None);
        assert_eq!(
            whose(limits, None),
            (Limit::Job, 356 * MINUTE, 360 * MINUTE)
        );
    }

    #[test]
    fn a_limit_that_is_over_lets_nothing_start() {
        let began = Instant::now();
        let limits = Limits::new(began, Some(MINUTE), None);
        let late = began + MINUTE;
        assert_eq!(limits.over(began), None);
        let over = limits.over(late).unwrap();
        assert_eq!((over.whose, over.limit), (Limit::Job, MINUTE));
        assert_eq!(limits.allow(late, Phase::Running, None), Err(over));
    }

    #[test]
    fn steps_that_always_run_share_five_minutes_after_the_end() {
        let began = Instant::now();
        let limits = Limits::new(began, Some(MINUTE), None);
        let since = began + MINUTE;
        let phase = Phase::Ending { since };
        let allowance = limits.allow(since + 2 * MINUTE, phase, None).unwrap();
        assert_eq!(allowance.timeout, 3 * MINUTE);
        assert_eq!(allowance.deadline.limit, GRACE);
        let short = Deadline::new(Limit::Step, since, 4 * MINUTE);
        let allowance = limits.allow(since, phase, Some(short)).unwrap();
        assert_eq!(allowance.deadline.whose, Limit::Step);
        assert!(limits.allow(since + GRACE, phase, None).is_err());
    }
}
