//! What a run does and waits for, as it goes: for whoever asks why one is slow, or hangs.
//!
//! A run is made of activities, one within the other. Each says when it begins and when it ends:
//!
//! ```text
//! run ─┬─ wait                      a place in a concurrency group, the machine that all jobs share
//!      └─ job ─┬─ wait              a machine
//!              └─ step ─┬─ command          of the step, or vmint's own
//!                       ├─ container call   a call of the container engine
//!                       ├─ transfer         files into the machine, or out of it
//!                       ├─ snapshot
//!                       └─ wait             before the next look at a service
//! ```
//!
//! What has begun and not ended is where the run is: also of a run whose process was killed, since each event is written when it
//! happens. An [`Observer`] gets the events, and whoever keeps them bounds what is kept; here each text is bounded. All text is
//! [`Masked`]; of a command it is the program alone, no argument and no variable. The same goes to `tracing`.

use crate::mask::Masked;
use crate::observe::Observer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;
use vmint_model::now_ms;

/// Longer texts are cut, in bytes.
const LONGEST: usize = 300;

/// Which activity of a run; the run itself is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActivityId(u64);

/// Something that has begun or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Milliseconds since 1970 in UTC.
    pub time_ms: i64,
    /// Which activity.
    pub activity: ActivityId,
    /// What it is a part of; absent for the run itself.
    pub within: Option<ActivityId>,
    /// What kind of activity.
    pub doing: Doing,
    /// What it is about.
    pub what: Masked,
    /// How it ended; absent when it begins.
    pub ended: Option<Ended>,
}

/// How an activity ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In a word or two.
    pub how: Masked,
    /// How long it took.
    pub took_ms: u64,
}

/// What kind of activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// The run.
    Run,
    /// A job, from the moment in which it wants a machine.
    Job,
    /// A step, or a stage of one.
    Step,
    /// A command in the machine.
    Command,
    /// A call of the container engine.
    ContainerCall,
    /// Files into the machine, or out of it.
    Transfer,
    /// A branch of the machine.
    Snapshot,
    /// Something is waited for.
    Wait,
}

impl Doing {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Job => "job",
            Self::Step => "step",
            Self::Command => "command",
            Self::ContainerCall => "container call",
            Self::Transfer => "transfer",
            Self::Snapshot => "snapshot",
            Self::Wait => "wait for",
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hands events to an observer.
pub(crate) struct Tracer<'a> {
    observer: &'a dyn Observer,
    next: AtomicU64,
    /// The activity of each job that is a job or a step, by the job's index in the record: what it does now is a part of that.
    inner: Mutex<HashMap<usize, ActivityId>>,
}

/// What an activity is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// Nothing: it is the run.
    Nothing,
    /// The run.
    Run,
    /// The step that a job is at, or the job before its steps and between them.
    Job(usize),
}

/// The first activity.
const RUN: ActivityId = ActivityId(1);

impl<'a> Tracer<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            next: AtomicU64::new(RUN.0),
            inner: Mutex::default(),
        }
    }

    /// Begins an activity, which ends when it is dropped.
    pub(crate) fn begin(&self, within: Within, doing: Doing, what: Masked) -> Activity<'_> {
        let mut what = what;
        what.truncate(crate::sight::cut(&what, LONGEST));
        let activity = Activity {
            tracer: self,
            id: ActivityId(self.next.fetch_add(1, Ordering::Relaxed)),
            within: match within {
                Within::Nothing => None,
                Within::Run => Some(RUN),
                Within::Job(job) => Some(self.inner().get(&job).copied().unwrap_or(RUN)),
            },
            before: None,
            doing,
            what,
            since: Instant::now(),
            ended: OnceLock::new(),
        };
        activity.tell(None);
        activity
    }

    /// Begins an activity which what a job does from now on is a part of, until it ends.
    pub(crate) fn begin_part(
        &self,
        job: usize,
        (within, doing): (Within, Doing),
        what: Masked,
    ) -> Activity<'_> {
        let mut activity = self.begin(within, doing, what);
        let before = self.inner().insert(job, activity.id);
        activity.before = Some((job, before));
        activity
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, HashMap<usize, ActivityId>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that a run does. Dropped, it has ended.
pub(crate) struct Activity<'a> {
    tracer: &'a Tracer<'a>,
    id: ActivityId,
    within: Option<ActivityId>,
    /// Of a job or a step: the job, and what it did before.
    before: Option<(usize, Option<ActivityId>)>,
    doing: Doing,
    what: Masked,
    since: Instant,
    ended: OnceLock<()>,
}

impl Activity<'_> {
    /// It has ended so. The first word counts.
    pub(crate) fn end(&self, how: impl Into<Masked>) {
        if self.ended.set(()).is_err() {
            return;
        }
        if let Some((job, before)) = self.before {
            let mut inner = self.tracer.inner();
            match before {
                Some(before) => drop(inner.insert(job, before)),
                None => drop(inner.remove(&job)),
            }
        }
        let mut how = how.into();
        how.truncate(crate::sight::cut(&how, LONGEST));
        self.tell(Some(Ended {
            how,
            took_ms: self.since.elapsed().as_millis() as u64,
        }));
    }

    /// It has ended as this says.
    pub(crate) fn ends_with<T, E>(self, result: Result<T, E>) -> Result<T, E> {
        self.end(if result.is_ok() { "done" } else { "failed" });
        result
    }

    fn tell(&self, ended: Option<Ended>) {
        let (activity, within) = (self.id.0, self.within.map_or(0, |id| id.0));
        match &ended {
            None => {
                tracing::debug!(activity, within, "{} {} begins", self.doing, self.what);
            }
            Some(Ended { how, took_ms }) => {
                tracing::debug!(activity, took_ms, "{} {}: {how}", self.doing, self.what);
            }
        }
        self.tracer.observer.traced(&TraceEvent {
            time_ms: now_ms(),
            activity: self.id,
            within: self.within,
            doing: self.doing,
            what: self.what.clone(),
            ended,
        });
    }
}

impl Drop for Activity<'_> {
    fn drop(&mut self) {
        self.end("cut off");
    }
}

/// Where a run is, by its events. An event may come again.
#[derive(Clone, Debug, Default)]
pub struct Course {
    open: BTreeMap<ActivityId, TraceEvent>,
}

impl Course {
    /// Takes the next event. Whether it says something new.
    pub fn take(&mut self, event: &TraceEvent) -> bool {
        if event.ended.is_some() {
            self.open.remove(&event.activity);
            return true;
        }
        self.open.insert(event.activity, event.clone()).is_none()
    }

    /// What has begun and not ended, in the order in which it began: the last is what the run waits for.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &TraceEvent> {
        self.open.values()
    }

    /// How many activities one is within that have not ended.
    pub fn depth(&self, event: &TraceEvent) -> usize {
        let above = std::iter::successors(event.within, |id| self.open.get(id)?.within);
        // Each activity is within an earlier one; a file that says otherwise is not followed in circles.
        above.take(8).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Masks;
    use crate::observe::Change;
    use crate::record::RunRecord;

    #[derive(Default)]
    struct Heard(Mutex<Vec<TraceEvent>>);

    impl Observer for Heard {
        fn happened(&self, _: &RunRecord, _: Change<'_>) {}

        fn traced(&self, event: &TraceEvent) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    impl Heard {
        fn lines(&self) -> Vec<String> {
            let mut course = Course::default();
            let events = self.0.lock().unwrap();
            let line = |event: &TraceEvent| {
                course.take(event);
                let how = event.ended.as_ref().map_or("", |ended| &*ended.how);
                let depth = "  ".repeat(course.depth(event));
                format!("{depth}{} {} {how}", event.doing, event.what)
            };
            events.iter().map(line).collect()
        }
    }

    #[test]
    fn what_a_job_does_is_a_part_of_its_step_and_what_is_dropped_was_cut_off() {
        let heard = Heard::default();
        let tracer = Tracer::new(&heard);
        let run = tracer.begin(Within::Nothing, Doing::Run, "r".into());
        let job = tracer.begin_part(0, (Within::Run, Doing::Job), "a".into());
        let other = tracer.begin_part(1, (Within::Run, Doing::Job), "b".into());
        let step = tracer.begin_part(0, (Within::Job(0), Doing::Step), "one".into());
        drop(tracer.begin(Within::Job(0), Doing::Command, "sh".into()));
        step.end("failure");
        step.end("again");
        drop(step);
        tracer
            .begin(Within::Job(0), Doing::Wait, "w".into())
            .end("done");
        drop((other, job, run));
        let expected = [
            "run r ",
            "  job a ",
            "  job b ",
            "    step one ",
            "      command sh ",
            "      command sh cut off",
            "    step one failure",
            "    wait for w ",
            "    wait for w done",
            "  job b cut off",
            "  job a cut off",
            "run r cut off",
        ];
        assert_eq!(heard.lines(), expected);
    }

    #[test]
    fn what_has_not_ended_is_where_the_run_is_however_often_it_is_said() {
        let heard = Heard::default();
        let tracer = Tracer::new(&heard);
        let run = tracer.begin(Within::Nothing, Doing::Run, "r".into());
        tracer
            .begin(Within::Run, Doing::Wait, "gone".into())
            .end("done");
        let wait = tracer.begin(Within::Run, Doing::Wait, "a machine".into());
        let events = heard.0.lock().unwrap().clone();
        let mut course = Course::default();
        let new: Vec<bool> = events.iter().map(|event| course.take(event)).collect();
        assert_eq!(new, [true; 4]);
        assert!(!course.take(&events[0]), "it was known");
        let open: Vec<_> = course.open().map(|event| event.what.clone()).collect();
        assert_eq!(open, ["r", "a machine"]);
        drop((wait, run));
    }

    #[test]
    fn an_event_is_bounded_and_survives_its_json() {
        let heard = Heard::default();
        let tracer = Tracer::new(&heard);
        let long = Masks::new().mask(&"é".repeat(5000));
        tracer
            .begin(Within::Run, Doing::Wait, long.clone())
            .end(&long);
        for event in &*heard.0.lock().unwrap() {
            let json = serde_json::to_string(event).unwrap();
            assert!(json.len() < 3 * LONGEST, "{json}");
            assert_eq!(serde_json::from_str::<TraceEvent>(&json).unwrap(), *event);
        }
    }
}
