//! A run as JSON.

use super::text::between;
use crate::log::rfc3339;
use crate::record::{RunEnd, RunRecord};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The record, with each time as RFC 3339 (`started_at` in place of `started_at_ms`), with `duration_ms` of run, jobs and
/// steps that have ended, and with the `exit_code` of the run. Paths that are not UTF-8 are given as far as they are.
///
/// # Panics
/// Never: a record's keys are strings, and its paths are made UTF-8.
pub fn json(run: &RunRecord) -> Value {
    let mut run = run.clone();
    let lossy = |path: &mut PathBuf| *path = path.to_string_lossy().into_owned().into();
    lossy(&mut run.file);
    lossy(&mut run.repository);
    for step in run.jobs.iter_mut().flat_map(|job| &mut job.steps) {
        step.log.as_mut().map(lossy);
        step.summary.as_mut().map(lossy);
    }
    let mut value = serde_json::to_value(&run).expect("keys are strings and paths UTF-8");
    if let Some(object) = value.as_object_mut() {
        let code = run.end.as_ref().map(RunEnd::exit_code);
        object.insert("exit_code".to_owned(), code.into());
        add_times(object);
        each(object, "machines", &|machine| add_times(machine));
        each(object, "jobs", &|job| {
            add_times(job);
            each(job, "steps", &|step| add_times(step));
        });
    }
    value
}

fn each(object: &mut Map<String, Value>, key: &str, act: &dyn Fn(&mut Map<String, Value>)) {
    let Some(Value::Array(items)) = object.get_mut(key) else {
        return;
    };
    items
        .iter_mut()
        .filter_map(Value::as_object_mut)
        .for_each(act);
}

/// Only the record's own fields: outputs and matrices are the user's and stay as they are.
fn add_times(object: &mut Map<String, Value>) {
    let [started, ended, ..] =
        ["started_at", "ended_at", "acquired_at", "released_at"].map(|key| {
            let ms = object.remove(&format!("{key}_ms"))?;
            let ms = ms.as_i64();
            object.insert(key.to_owned(), ms.map(rfc3339).into());
            ms
        });
    if let Some(ms) = between(started, ended) {
        object.insert("duration_ms".to_owned(), ms.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Masks;
    use crate::record::MaskedJson;
    use crate::report::sample;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn times_are_rfc_3339_and_nothing_else() {
        let run = sample::build_and_test();
        let json = json(&run);
        assert_eq!(json["started_at"], "2026-11-20T15:35:12.000Z");
        assert_eq!(json["exit_code"], 1);
        assert_eq!(
            json["machines"][0]["acquired_at"],
            "2026-11-20T15:35:12.050Z"
        );
        let step = &json["jobs"][0]["steps"][0];
        assert_eq!(
            step["started_at"],
            rfc3339(run.jobs[0].steps[0].started_at_ms.unwrap())
        );
        assert_eq!(step["duration_ms"], 100);
        let text = json.to_string();
        assert!(!text.contains("_at_ms"), "{text}");
    }

    #[test]
    fn what_the_user_named_like_a_time_stays_as_it_is() {
        let mut run = sample::build_and_test();
        run.jobs[0].matrix = Some(MaskedJson::new(
            serde_json::json!({ "started_at_ms": 5 }),
            &Masks::new(),
        ));
        assert_eq!(
            json(&run)["jobs"][0]["matrix"],
            serde_json::json!({ "started_at_ms": 5 })
        );
    }

    #[test]
    fn a_path_that_is_not_utf_8_is_given_as_far_as_it_is() {
        let mut run = sample::build_and_test();
        run.repository = PathBuf::from(OsStr::from_bytes(b"/home/\xff/x"));
        assert_eq!(json(&run)["repository"], "/home/\u{fffd}/x");
    }
}
