use super::*;
use crate::workflow::testing::{Place, dead, job, run, step};
use vmint_workflow::log::{Kind, Line};
use vmint_workflow::record::Outcome;

/// Counts what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn happened(&self, _: &RunRecord, what: Change<'_>) {
        let what = format!("{what:?}");
        let word = what.split([' ', '(']).next().unwrap().to_owned();
        self.0.lock().unwrap().push(word);
    }
}

fn keep(runs: u32, age: Duration, quota: u64) -> WorkflowSettings {
    WorkflowSettings {
        keep_runs: runs,
        snapshot_age: age,
        snapshot_quota: ByteSize(quota),
        ..WorkflowSettings::default()
    }
}

const FOREVER: Duration = Duration::from_secs(u64::MAX / 1000);

fn all(place: &Place) -> Vec<KeptRun> {
    place.vmint.runs(100).unwrap()
}

#[test]
fn a_run_is_kept_when_it_changes_and_all_is_passed_on() {
    let place = Place::new();
    let keeper = Keeper::new(
        place.vmint.clone(),
        &"r0000cafe".parse().unwrap(),
        Told::default(),
    );
    let mut run = run();
    let kept = |run: &RunRecord| place.vmint.run_record(run.id.as_str()).unwrap();
    keeper.happened(&run, Change::Started);
    assert_eq!(kept(&run), run);
    run.jobs = vec![job("test", "test", vec![step(1, "one")])];
    run.notes.push("to be known".into());
    let line = Line::new(1, Kind::Text, "a line");
    let logged = Change::Logged {
        job: 0,
        step: 0,
        line: &line,
    };
    keeper.happened(&run, logged);
    keeper.happened(&run, Change::Note(&"to be known".into()));
    assert_eq!(kept(&run).jobs, [], "a line is nothing that is kept");
    keeper.happened(&run, Change::StepStarted { job: 0, step: 0 });
    assert_eq!(kept(&run), run);
    run.end = Some(RunEnd::Success);
    run.ended_at_ms = Some(7);
    keeper.happened(&run, Change::Ended);
    assert_eq!(kept(&run), run);
    assert_eq!(keeper.failure(), None);
    let told = keeper.next().0.lock().unwrap().clone();
    assert_eq!(told, ["Started", "Logged", "Note", "StepStarted", "Ended"]);
}

#[test]
fn a_large_record_is_written_less_often_and_whole_at_the_end() {
    let place = Place::new();
    let keeper = Keeper::new(
        place.vmint.clone(),
        &"r0000cafe".parse().unwrap(),
        Told::default(),
    );
    let mut run = run();
    keeper.happened(&run, Change::Started);
    // As if writing had taken an hour of a run that has just begun.
    keeper.lock().spent = Duration::from_secs(3600);
    run.jobs = vec![job("test", "test", Vec::new())];
    keeper.happened(&run, Change::JobStarted { job: 0 });
    let kept = || place.vmint.run_record(LATEST).unwrap();
    assert_eq!(kept().jobs, []);
    // Made up for as soon as there is time for it.
    keeper.lock().spent = Duration::ZERO;
    keeper.happened(&run, Change::Note(&"n".into()));
    assert_eq!(kept().jobs, run.jobs);
    keeper.lock().spent = Duration::from_secs(3600);
    run.end = Some(RunEnd::Failure);
    keeper.happened(&run, Change::Ended);
    assert_eq!(kept().end, Some(RunEnd::Failure));
    assert!(kept().ended_at_ms.is_some());
}

#[test]
fn a_record_that_cannot_be_written_is_told_at_the_end_and_nothing_is_stopped() {
    let place = Place::new();
    let keeper = Keeper::new(
        place.vmint.clone(),
        &"r0000cafe".parse().unwrap(),
        Told::default(),
    );
    let mut run = run();
    run.owner = dead();
    keeper.happened(&run, Change::Started);
    // Another process takes it for dead, and ends it.
    let found = place.vmint.sweep().unwrap();
    assert_eq!(found.len(), 1);
    run.end = Some(RunEnd::Success);
    keeper.happened(&run, Change::Ended);
    let failure = keeper.failure().unwrap();
    assert!(
        failure
            .message
            .starts_with("the run's record could not be kept: run `r"),
        "{failure}"
    );
    assert_eq!(keeper.next().0.lock().unwrap().len(), 2);
}

#[test]
fn a_run_is_found_by_its_id_by_a_beginning_of_it_or_as_the_latest() {
    let place = Place::new();
    let fault = place.vmint.run_record(LATEST).unwrap_err();
    assert_eq!(fault.kind, ErrorKind::NotFound);
    for (id, at) in [("r10000000", 1), ("r1fffffff", 3), ("r20000000", 2)] {
        let mut run = run();
        run.id = id.parse().unwrap();
        run.started_at_ms = at;
        place.put(&run, None);
    }
    for (which, id) in [
        ("r10000000", "r10000000"),
        ("r2", "r20000000"),
        ("r1f", "r1fffffff"),
        (LATEST, "r1fffffff"),
    ] {
        let found = place.vmint.run_id(which).map(|id| id.to_string());
        assert_eq!(found.as_deref(), Ok(id), "{which}");
    }
    let fault = place.vmint.run_id("r1").unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Usage);
    assert_eq!(
        fault.message,
        "more than one run begins with r1: r1fffffff, r10000000"
    );
    for which in ["", "r3", "x", "r1 ", "r100000000", "r%", "R1"] {
        let fault = place.vmint.run_id(which).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotFound, "{which:?}");
        assert!(
            fault
                .hint
                .unwrap()
                .contains("r1fffffff, r20000000, r10000000")
        );
    }
}

#[test]
fn a_record_of_another_version_is_told_as_such_and_hides_no_other() {
    let place = Place::new();
    let (one, other) = (run(), run());
    place.put(&one, None);
    let stored = StoredRun {
        id: other.id.clone(),
        owner: dead(),
        started_at_ms: 2,
        ended_at_ms: None,
        record: r#"{"shape": "of tomorrow"}"#.into(),
    };
    place.vmint.store().put_run(&stored).unwrap();
    assert_eq!(place.vmint.sweep().unwrap().len(), 1);
    let listed = all(&place);
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].id, other.id);
    assert!(listed[0].ended_at_ms.is_some(), "it is not asked for again");
    assert_eq!(listed[1].record, Ok(one));
    for fault in [
        listed[0].record.clone().unwrap_err(),
        place.vmint.run_record(other.id.as_str()).unwrap_err(),
    ] {
        assert_eq!(fault.kind, ErrorKind::Corrupt);
        assert!(
            fault.message.contains("another version of vmint"),
            "{fault}"
        );
    }
    // What was written is left to whoever can read it; but it can be removed.
    let kept = place.vmint.store().run(&other.id).unwrap().unwrap();
    assert_eq!(kept.record, stored.record);
    place.vmint.remove_run(&other.id).unwrap();
    assert_eq!(all(&place).len(), 1);
}

#[test]
fn a_run_whose_process_is_gone_is_abandoned_and_what_it_had_reached_stays() {
    let place = Place::new();
    let (mut gone, alive) = (run(), run());
    gone.owner = dead();
    gone.jobs = vec![
        job("a", "a", vec![step(1, "one"), step(2, "two")]),
        job("b", "b", Vec::new()),
    ];
    gone.jobs[0].outcome = Some(Outcome::Success);
    gone.jobs[1].steps = vec![step(1, "runs")];
    gone.jobs[1].steps[0].started_at_ms = Some(5);
    place.put(&gone, None);
    place.put(&alive, None);
    let found = place.vmint.sweep().unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .message
            .starts_with(&format!("run {} was abandoned", gone.id))
    );
    assert_eq!(place.vmint.sweep().unwrap(), []);
    let record = place.vmint.run_record(gone.id.as_str()).unwrap();
    assert_eq!(record.end, Some(RunEnd::Abandoned));
    assert!(record.ended_at_ms.is_some());
    assert_eq!(record.jobs[0], gone.jobs[0]);
    assert_eq!(record.jobs[1].reason.as_deref(), Some(ABANDONED));
    assert_eq!(record.jobs[1].outcome, None);
    assert_eq!(record.jobs[1].steps, gone.jobs[1].steps);
    assert_eq!(place.vmint.run_record(alive.id.as_str()), Ok(alive));
}

#[test]
fn the_last_runs_are_kept_and_the_others_go_with_all_that_is_theirs() {
    let place = Place::new();
    let mut runs: Vec<_> = (0..5).map(|_| run()).collect();
    for (n, run) in runs.iter_mut().enumerate() {
        run.started_at_ms = n as i64;
        // The second one still runs.
        place.put(run, (n != 1).then_some(9));
        place.snapshot(run, &format!("s{n}"), 10, now_ms());
        let log = place.vmint.run_folder(&run.id).unwrap().join("log");
        std::fs::write(log, "log").unwrap();
    }
    let keep = keep(2, FOREVER, u64::MAX);
    let plan = place.vmint.prunable_runs(&keep, &[]).unwrap();
    assert_eq!(plan.runs, [runs[0].id.clone(), runs[2].id.clone()]);
    assert_eq!(plan.bytes, ByteSize(20));
    assert_eq!(all(&place).len(), 5, "a plan removes nothing");
    let spared = place
        .vmint
        .prunable_runs(&keep, &[runs[0].id.clone()])
        .unwrap();
    assert_eq!(spared.runs, [runs[2].id.clone()]);

    assert_eq!(place.vmint.prune_runs(&keep, &[]).unwrap(), plan);
    let left: Vec<_> = all(&place).into_iter().map(|run| run.id).collect();
    assert_eq!(left, [4, 3, 1].map(|n: usize| runs[n].id.clone()));
    let names = ["s1", "s3", "s4"].map(str::to_owned).to_vec();
    assert_eq!(place.snapshots(), (names.clone(), names));
    let folders: Vec<bool> = runs
        .iter()
        .map(|run| place.vmint.home().run(&run.id).exists())
        .collect();
    assert_eq!(folders, [false, true, false, true, true]);
    let again = place.vmint.prune_runs(&keep, &[]).unwrap();
    assert_eq!(again, PrunedRuns::default());
}

#[test]
fn snapshots_go_by_age_and_by_quota_the_oldest_first_and_never_those_of_a_run_that_runs() {
    let place = Place::new();
    let (ended, runs) = (run(), run());
    place.put(&ended, Some(9));
    place.put(&runs, None);
    let now = now_ms();
    for (run, name, size, age_ms) in [
        (&ended, "ancient", 1, 10_000_000),
        (&runs, "needed", 50, 10_000_000),
        (&ended, "old", 20, 3000),
        (&ended, "middle", 20, 2000),
        (&ended, "young", 20, 1000),
    ] {
        place.snapshot(run, name, size, now - age_ms);
    }
    let names = |keep: &WorkflowSettings| {
        let plan = place.vmint.prunable_runs(keep, &[]).unwrap();
        assert_eq!(plan.runs, []);
        let names: Vec<_> = plan.snapshots.iter().map(ToString::to_string).collect();
        names.join(" ")
    };
    let hour = Duration::from_secs(3600);
    assert_eq!(names(&keep(9, FOREVER, 1000)), "");
    assert_eq!(names(&keep(9, hour, 1000)), "ancient");
    assert_eq!(names(&keep(9, hour, 110)), "ancient");
    assert_eq!(names(&keep(9, hour, 109)), "ancient old");
    assert_eq!(names(&keep(9, FOREVER, 110)), "ancient");
    assert_eq!(names(&keep(9, FOREVER, 0)), "ancient old middle young");
    place.vmint.prune_runs(&keep(9, hour, 70), &[]).unwrap();
    let left = ["needed", "young"].map(str::to_owned).to_vec();
    assert_eq!(place.snapshots(), (left.clone(), left));
}

#[test]
fn a_run_that_still_runs_is_not_removed() {
    let place = Place::new();
    let run = run();
    place.put(&run, None);
    let fault = place.vmint.remove_run(&run.id).unwrap_err();
    assert_eq!(fault.kind, ErrorKind::WrongState);
    place.put(&run, Some(5));
    place.vmint.remove_run(&run.id).unwrap();
    let fault = place.vmint.remove_run(&run.id).unwrap_err();
    assert_eq!(fault.kind, ErrorKind::NotFound);
}

#[test]
fn what_was_left_of_a_run_that_is_forgotten_is_cleared_up() {
    let place = Place::new();
    let (lost, new) = (run(), run());
    place.snapshot(&lost, "lost", 1, now_ms());
    place.vmint.sweep().unwrap();
    assert_eq!(place.snapshots(), (Vec::new(), Vec::new()));
    // A folder of today may be of a run that begins now.
    let old = place.vmint.run_folder(&lost.id).unwrap();
    let new = place.vmint.run_folder(&new.id).unwrap();
    let long_ago = SystemTime::now() - FORGOTTEN * 2;
    let folder = std::fs::File::open(&old).unwrap();
    folder.set_modified(long_ago).unwrap();
    place
        .vmint
        .prune_runs(&WorkflowSettings::default(), &[])
        .unwrap();
    assert!(!old.exists() && new.exists());
}

mod figures {
    use super::*;

    /// What a sweep costs every command when there is nothing to do for runs, with the usual number of them.
    #[test]
    fn to_look_for_abandoned_runs_costs_next_to_nothing() {
        let place = Place::new();
        for n in 0..100 {
            let mut run = run();
            run.started_at_ms = n;
            run.jobs = vec![job("a", "a", vec![step(1, "one"); 30]); 10];
            place.put(&run, Some(n));
        }
        let began = Instant::now();
        for _ in 0..100 {
            place.vmint.sweep_runs().unwrap();
            place.vmint.sweep_lost_snapshots().unwrap();
        }
        let each = began.elapsed() / 100;
        assert!(each < Duration::from_millis(1), "{each:?}");
    }
}
