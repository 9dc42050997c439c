//! The trace of a run, kept while it runs: what it does and waits for, to be read also after its process was killed.
//!
//! A file of the run's folder has one JSON object a line, as each thing happens. It is bounded ([`SIZE`]): the older half goes when
//! the younger one is full. What has not ended is written again from time to time, so that what a run waits for is in the file
//! however long ago it began.

use crate::Vmint;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use vmint_model::RunId;
use vmint_qemu::log::Log;
use vmint_workflow::trace::{ActivityId, TraceEvent};

/// How much of a trace is kept, in bytes.
const SIZE: u64 = 2 << 20;
/// After this many bytes, what has not ended is written again: several times in each half.
const AGAIN: usize = 256 << 10;
/// More than this is not written again at once: a run of that many jobs has other troubles.
const MOST_AGAIN: usize = 500;
/// The file, below the run's folder.
const FILE: &str = "trace.jsonl";

/// Keeps the trace of one run.
#[derive(Debug)]
pub(super) struct TraceFile(Mutex<State>);

#[derive(Debug)]
struct State {
    log: Log,
    open: BTreeMap<ActivityId, String>,
    /// Bytes since what is open was written.
    since: usize,
}

impl TraceFile {
    /// Of the run with this folder.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(State {
            log: Log::open(&folder.join(FILE), SIZE)?,
            open: BTreeMap::new(),
            since: 0,
        })))
    }

    /// Adds an event.
    pub(super) fn add(&self, event: &TraceEvent) {
        let mut line = serde_json::to_string(event).expect("it has no keys but strings");
        line.push('\n');
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.since > AGAIN {
            let open = state.open.values().take(MOST_AGAIN);
            let again: String = open.map(String::as_str).collect();
            state.log.append(again.as_bytes());
            state.since = 0;
        }
        state.log.append(line.as_bytes());
        state.since += line.len();
        if event.ended.is_some() {
            state.open.remove(&event.activity);
        } else {
            state.open.insert(event.activity, line);
        }
    }
}

impl Vmint {
    /// The file with the trace of a run; its older half is beside it, as of all bounded logs. Each line is a [`TraceEvent`].
    pub fn run_trace(&self, id: &RunId) -> PathBuf {
        self.home.run(id).join(FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint_qemu::log::read;
    use vmint_workflow::trace::Course;

    fn event(activity: u64, ended: bool) -> TraceEvent {
        let ended = ended.then(|| serde_json::json!({ "how": "done", "took_ms": 1 }));
        let json = serde_json::json!({
            "time_ms": 1_795_188_912_123_i64, "activity": activity, "within": 1, "doing": "wait", "what": "x".repeat(200),
            "ended": ended,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_flood_of_events_is_bounded_and_what_has_not_ended_is_known_for_all_that() {
        let folder = tempfile::tempdir().unwrap();
        let file = TraceFile::open(folder.path()).unwrap();
        file.add(&event(1, false));
        file.add(&event(2, false));
        for n in 3..20_000 {
            file.add(&event(n, false));
            file.add(&event(n, true));
        }
        let bytes = read(&folder.path().join(FILE)).unwrap();
        assert!(bytes.len() as u64 <= SIZE, "{} bytes are kept", bytes.len());
        let mut course = Course::default();
        let text = String::from_utf8(bytes).unwrap();
        for line in text.lines() {
            if let Ok(event) = serde_json::from_str(line) {
                course.take(&event);
            }
        }
        let open: Vec<_> = course.open().map(|event| event.activity).collect();
        let expected = [event(1, false), event(2, false)].map(|event| event.activity);
        assert_eq!(open, expected);
    }
}
