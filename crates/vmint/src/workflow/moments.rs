//! Back to the moment before a step: which step is meant, and a machine as it was then.

use crate::{NewMachine, Progress, Vmint};
use vmint_model::{ErrorKind, Fault, MachineRecord, Name, Origin, RunId};
use vmint_workflow::mask::Masked;
use vmint_workflow::record::{JobRecord, Outcome, RunEnd, RunRecord, StepEnd, StepRecord};
use vmint_workflow::shell_state::{AT_FAILURE, ShellState};

/// How many steps a message names.
const NAMED: usize = 12;

/// The moment before a step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The run.
    pub run: RunId,
    /// Index of the job in [`RunRecord::jobs`].
    pub job: usize,
    /// [`JobRecord::key`].
    pub job_key: Masked,
    /// [`StepRecord::number`], or [`AT_FAILURE`].
    pub step: u32,
    /// [`StepRecord::name`].
    pub step_name: Masked,
    /// The machine as it was then.
    pub snapshot: Name,
    /// How a shell begins there, if that was kept.
    pub shell: Option<ShellState>,
}

/// A step of a run, with the place of its job.
type Place<'a> = (usize, &'a JobRecord, &'a StepRecord);

impl Moment {
    /// When it is, to be read after “as it was”.
    pub fn when(&self) -> String {
        let (number, job, name) = (self.step, &self.job_key, &self.step_name);
        if number == AT_FAILURE {
            format!("when the step {name} of {job} had failed")
        } else {
            format!("before step {number} of {job} ({name})")
        }
    }
}

impl Vmint {
    /// The moment before a step: `None` for the one that failed, the first of several, else by its number, its id or its
    /// name, or as `JOB:STEP` with the key, the id or the name of the job. Where nothing was kept from before the step that
    /// failed, the moment in which it had.
    pub fn moment(&self, run: &RunRecord, which: Option<&str>) -> Result<Moment, Fault> {
        // With the snapshots that it had, to tell what was never there from what is gone.
        let written = self.written_record(&run.id)?;
        let run = written.as_ref().unwrap_or(run);
        let (at, job, step) = match which {
            Some(which) => named(run, which)?,
            None => failed(run)?,
        };
        let described = format!("step {} of run {}", describe((at, job, step)), run.id);
        // What a step has left behind when it failed, where nothing from before it was kept.
        let (kept, number) = match (&step.snapshot, &job.failed, which) {
            (None, Some(failed), None) => (Some(failed), AT_FAILURE),
            // A run that is paused is looked at where it stands.
            (_, Some(failed), None) if matches!(run.end, Some(RunEnd::Paused { .. })) => {
                (Some(failed), AT_FAILURE)
            }
            (snapshot, _, _) => (snapshot.as_ref(), step.number),
        };
        let Some(snapshot) = kept else {
            return Err(Fault::new(
                ErrorKind::NotFound,
                format!("no snapshot was taken before {described}"),
            )
            .hint(self.others(run)));
        };
        let known = self.store().snapshot(&snapshot.name);
        if known?.is_none() {
            let message = format!("the snapshot from before {described} was pruned");
            return Err(Fault::new(ErrorKind::NotFound, message).hint(self.others(run)));
        }
        let shell = ShellState::read(&self.home.run(&run.id), at, number).map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context(format!(
                "cannot read what the shell before {described} begins with"
            ))
        })?;
        Ok(Moment {
            run: run.id.clone(),
            job: at,
            job_key: job.key.clone(),
            step: number,
            step_name: step.name.clone(),
            snapshot: snapshot.name.clone(),
            shell,
        })
    }

    /// The step that failed first, as `JOB:STEP`, which is found again.
    pub fn failed_step(&self, run: &RunRecord) -> Result<String, Fault> {
        let (_, job, step) = failed(run)?;
        Ok(format!("{}:{}", job.key, step.number))
    }

    /// A machine as it was in this moment. It goes away with this process.
    pub async fn open_moment(
        &self,
        moment: &Moment,
        progress: &dyn Progress,
    ) -> Result<MachineRecord, Fault> {
        let new = NewMachine {
            origin: Origin::Snapshot(moment.snapshot.clone()),
            // All else is the snapshot's.
            ..NewMachine::ephemeral(String::new())
        };
        self.create_running(new, progress).await.map_err(|fault| {
            fault.context(format!(
                "cannot go back to the machine as it was {}",
                moment.when()
            ))
        })
    }

    /// What to do when a step has no snapshot.
    fn others(&self, run: &RunRecord) -> String {
        let is_there = |name: &Name| self.store().snapshot(name).is_ok_and(|s| s.is_some());
        let there: Vec<_> = steps(run)
            .filter(|(_, _, step)| step.snapshot.as_ref().is_some_and(|s| is_there(&s.name)))
            .collect();
        if there.is_empty() {
            "`vmint workflow run --snapshot-steps` takes one before each step".to_owned()
        } else {
            format!("there are snapshots from before {}", list(&there))
        }
    }
}

fn steps(run: &RunRecord) -> impl Iterator<Item = Place<'_>> {
    let jobs = run.jobs.iter().enumerate();
    jobs.flat_map(|(at, job)| job.steps.iter().map(move |step| (at, job, step)))
}

/// As it is to be written to be found again, and its name.
fn describe((_, job, step): Place<'_>) -> String {
    format!("{}:{} ({})", job.key, step.number, step.name)
}

fn list(places: &[Place<'_>]) -> String {
    let mut all: Vec<_> = places
        .iter()
        .take(NAMED)
        .map(|place| describe(*place))
        .collect();
    if places.len() > NAMED {
        all.push(format!("and {} more", places.len() - NAMED));
    }
    all.join(", ")
}

fn is_job(job: &JobRecord, text: &str) -> bool {
    [&job.key, &job.id, &job.name]
        .iter()
        .any(|name| **name == *text)
}

fn is_step(step: &StepRecord, text: &str) -> bool {
    step.number.to_string() == text
        || step.id.as_deref() == Some(text)
        || step.name.trim().eq_ignore_ascii_case(text)
}

/// The step that is called so. Names may have colons in them, and so may keys of jobs: any of them can be the one.
fn named<'a>(run: &'a RunRecord, which: &str) -> Result<Place<'a>, Fault> {
    let which = which.trim();
    let colons = which.match_indices(':').map(|(at, _)| at);
    let pairs: Vec<_> = colons
        .map(|at| (which[..at].trim(), which[at + 1..].trim()))
        .collect();
    let found: Vec<_> = steps(run)
        .filter(|(_, job, step)| {
            let is_pair = |(of, one): &(&str, &str)| is_job(job, of) && is_step(step, one);
            is_step(step, which) || pairs.iter().any(is_pair)
        })
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let all: Vec<_> = steps(run).collect();
            let message = format!("run {} has no step {which:?}", run.id);
            let hint = if all.is_empty() {
                "none of its jobs has begun".to_owned()
            } else {
                format!("its steps are {}", list(&all))
            };
            Err(Fault::new(ErrorKind::NotFound, message).hint(hint))
        }
        several => {
            let message = format!(
                "run {} has {} steps {which:?}: {}",
                run.id,
                several.len(),
                list(several)
            );
            Err(Fault::new(ErrorKind::Usage, message).hint("write JOB:NUMBER"))
        }
    }
}

/// The step that failed; the first of several.
fn failed(run: &RunRecord) -> Result<Place<'_>, Fault> {
    let first = |is: fn(&StepRecord) -> bool| {
        let those = steps(run).filter(|(_, _, step)| step.started_at_ms.is_some() && is(step));
        those.min_by_key(|(_, _, step)| step.ended_at_ms.or(step.started_at_ms))
    };
    // What made the run fail; else what could not go on, or was running when all ended; else what was allowed to fail.
    first(|step| step.conclusion == Some(Outcome::Failure))
        .or_else(|| first(|step| matches!(step.ended, Some(StepEnd::Fault { .. }))))
        .or_else(|| first(|step| step.outcome.is_none() && step.ended_at_ms.is_none()))
        .or_else(|| first(|step| step.outcome == Some(Outcome::Failure)))
        .ok_or_else(|| {
            let message = format!("no step of run {} has failed", run.id);
            let all: Vec<_> = steps(run).collect();
            let hint = match all.as_slice() {
                [] => "none of its jobs has begun".to_owned(),
                all => format!("say before which step: {}", list(all)),
            };
            Fault::new(ErrorKind::NotFound, message).hint(hint)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::testing::{Place as Home, job, run, step};
    use vmint_workflow::record::StepSnapshot;

    fn example() -> RunRecord {
        let mut run = run();
        let steps = || {
            let mut all = [
                step(1, "Set up job"),
                step(2, "Build: all"),
                step(3, "Test"),
            ];
            all[2].id = Some("t".into());
            all.to_vec()
        };
        run.jobs = vec![
            job("test (a)", "test", steps()),
            job("lint", "lint", steps()),
        ];
        run.jobs[1].steps.truncate(2);
        run
    }

    fn found(run: &RunRecord, which: &str) -> Result<(Masked, u32), Fault> {
        named(run, which).map(|(_, job, step)| (job.key.clone(), step.number))
    }

    #[test]
    fn a_step_is_found_by_number_id_or_name_alone_or_behind_its_job() {
        let run = example();
        for which in [
            "3",
            "t",
            "Test",
            "test",
            "test (a):3",
            "test:t",
            "test (a): TEST ",
        ] {
            assert_eq!(found(&run, which), Ok(("test (a)".into(), 3)), "{which}");
        }
        for which in ["lint:2", "lint:Build: all", "lint: build: all"] {
            assert_eq!(found(&run, which), Ok(("lint".into(), 2)), "{which}");
        }
    }

    #[test]
    fn what_is_meant_by_several_or_by_none_is_told_with_what_there_is() {
        let run = example();
        let fault = found(&run, "Build: all").unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Usage);
        assert!(
            fault.message.ends_with(
                r#"has 2 steps "Build: all": test (a):2 (Build: all), lint:2 (Build: all)"#
            ),
            "{fault}"
        );
        for which in ["", "4", "Deploy", "deploy:1", "lint:3", ":", "lint:"] {
            let fault = found(&run, which).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::NotFound, "{which:?}");
            assert!(fault.hint.unwrap().contains("lint:1 (Set up job)"));
        }
    }

    #[test]
    fn without_a_word_it_is_the_step_that_failed_first() {
        let mut run = example();
        let which =
            |run: &RunRecord| failed(run).map(|(_, job, step)| (job.id.clone(), step.number));
        assert_eq!(which(&run).unwrap_err().kind, ErrorKind::NotFound);
        let mut end = |job: usize, step: usize, at_ms, outcome, conclusion| {
            let step = &mut run.jobs[job].steps[step];
            step.started_at_ms = Some(at_ms - 1);
            step.ended_at_ms = Some(at_ms);
            (step.outcome, step.conclusion) = (Some(outcome), Some(conclusion));
            which(&run)
        };
        use Outcome::{Failure, Success};
        end(0, 0, 5, Success, Success).unwrap_err();
        assert_eq!(end(0, 1, 6, Failure, Success), Ok(("test".into(), 2)));
        assert_eq!(end(0, 2, 9, Failure, Failure), Ok(("test".into(), 3)));
        assert_eq!(end(1, 1, 8, Failure, Failure), Ok(("lint".into(), 2)));
    }

    #[test]
    fn of_a_run_that_was_killed_it_is_the_step_that_ran() {
        let mut run = example();
        run.jobs[0].steps[1].started_at_ms = Some(5);
        let (_, _, step) = failed(&run).unwrap();
        assert_eq!(step.number, 2);
    }

    #[test]
    fn a_moment_without_a_snapshot_is_told_from_one_whose_snapshot_was_pruned() {
        let home = Home::new();
        let mut run = example();
        run.jobs[0].steps[2].snapshot = Some(StepSnapshot {
            name: "gone".parse().unwrap(),
            pause_ms: 1.0,
            took_ms: 1.0,
            size: 1,
        });
        run.jobs[0].steps[1].snapshot = Some(home.snapshot(&run, "there", 1, 5));
        home.put(&run, Some(9));
        // What is shown does not offer the one that is gone; what is asked for by name is told as gone.
        let shown = home.vmint.run_record(run.id.as_str()).unwrap();
        assert_eq!(shown.jobs[0].steps[2].snapshot, None);
        let fault = home.vmint.moment(&shown, Some("t")).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotFound);
        assert!(fault.message.ends_with("was pruned"), "{fault}");
        assert_eq!(
            fault.hint.as_deref(),
            Some("there are snapshots from before test (a):2 (Build: all)")
        );
        let fault = home.vmint.moment(&shown, Some("lint:1")).unwrap_err();
        assert!(
            fault.message.starts_with("no snapshot was taken"),
            "{fault}"
        );
        let state = ShellState {
            cwd: "/w".into(),
            ..ShellState::default()
        };
        let folder = home.vmint.run_folder(&run.id).unwrap();
        state.write(&folder, 0, 2).unwrap();
        let moment = home.vmint.moment(&shown, Some("test:2")).unwrap();
        assert_eq!(moment.snapshot.as_str(), "there");
        assert_eq!((moment.job, moment.step), (0, 2));
        assert_eq!(moment.shell, Some(state));
    }
}
