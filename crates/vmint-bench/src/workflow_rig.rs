//! Workflows to measure: written, run in this process or in one of their own, watched, and removed again.

use super::pool_rig::BenchPool;
use super::process::{ms, peak_memory};
use super::rig::{Rig, owner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vmint::config::Config;
use vmint::workflow::log::{Kind, Line};
use vmint::workflow::observe::{Change, Observer};
use vmint::workflow::record::{RunEnd, RunRecord, StepKind};
use vmint::workflow::run::{Cancel, Moments};
use vmint::workflow::site::PoolOptions;
use vmint::workflow::{Asked, CannotRun};
use vmint::{Command, Lease, Vmint};
use vmint_image::Silent;
use vmint_model::{ByteSize, ErrorKind, Fault, ProcessRef};
use vmint_protocol::Streams;

/// What the first step writes. Its script does not hold it, so that what announces the script is not taken for it.
pub(crate) const FIRST_OUTPUT: &str = "vmint-42-out";
/// A script that writes it.
pub(crate) const SAYS_IT: &str = "echo vmint-$((40 + 2))-out";
/// Where a script is put that is run without a workflow: beside those of steps.
const SCRIPT: &str = "/home/runner/work/_temp/bench.sh";
/// How often a process is looked at whose memory is watched.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// No run that is measured takes longer.
const RUN_WITHIN: Duration = Duration::from_mins(15);

/// Settings under which nothing of the user's is pruned.
fn settings() -> Result<Arc<Config>, Fault> {
    // As the programs that are timed: in the root folder, with nobody's environment.
    let mut config = Config::load(Path::new("/"), |_| None)?;
    config.workflow.keep_runs = u32::MAX;
    config.workflow.snapshot_age = Duration::from_secs(u64::from(u32::MAX));
    config.workflow.snapshot_quota = ByteSize(u64::MAX >> 1);
    Ok(Arc::new(config))
}

/// A workflow's file, written.
pub(crate) fn write(rig: &Rig<'_>, name: &str, content: &str) -> Result<PathBuf, Fault> {
    let folder = rig.scratch(".github").join("workflows");
    let path = folder.join(format!("{name}.yml"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, content))
        .map_err(|e| {
            let fault = Fault::from_error(ErrorKind::Host, &e);
            fault.context(format!("cannot write {}", path.display()))
        })?;
    Ok(path)
}

/// A workflow of one job with these scripts as its steps.
pub(crate) fn steps<'a>(scripts: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = "on: push\njobs:\n  bench:\n    runs-on: ubuntu-latest\n    steps:\n".to_owned();
    for script in scripts {
        text.push_str("      - run: ");
        text.push_str(script);
        text.push('\n');
    }
    text
}

/// What happened in a run, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It began.
    Started,
    /// The job has its machine.
    JobStarted,
    /// A step began; index among the job's.
    StepStarted(usize, StepKind),
    /// [`FIRST_OUTPUT`] was seen.
    FirstOutput,
    /// A step ended.
    StepEnded(usize, StepKind),
}

/// Notes when things happen; looks at something when a step has ended.
pub(crate) struct Watch<'w> {
    marks: &'w Mutex<Vec<(Mark, Instant)>>,
    look: &'w (dyn Fn(&RunRecord, usize) + Send + Sync),
}

impl Observer for Watch<'_> {
    fn happened(&self, run: &RunRecord, what: Change<'_>) {
        let now = Instant::now();
        let kind = |job: usize, step: usize| run.jobs[job].steps[step].kind;
        let mark = match what {
            Change::Started => Mark::Started,
            Change::JobStarted { .. } => Mark::JobStarted,
            Change::StepStarted { job, step } => Mark::StepStarted(step, kind(job, step)),
            Change::StepEnded { job, step } => {
                (self.look)(run, step);
                Mark::StepEnded(step, kind(job, step))
            }
            Change::Logged {
                line:
                    Line {
                        kind: Kind::Text,
                        text,
                        ..
                    },
                ..
            } if text == FIRST_OUTPUT => Mark::FirstOutput,
            _ => return,
        };
        let mut marks = self.marks.lock().expect("nobody panics with the lock");
        marks.push((mark, now));
    }
}

/// A run that has ended well.
pub(crate) struct Ran {
    /// Its record.
    pub record: RunRecord,
    /// What happened.
    pub marks: Vec<(Mark, Instant)>,
}

impl Ran {
    /// When something happened.
    pub(crate) fn at(&self, is_it: impl Fn(Mark) -> bool) -> Result<Instant, Fault> {
        let found = self.marks.iter().find(|(mark, _)| is_it(*mark));
        let missing = || {
            let message = format!(
                "a run of {} did not come to what is measured",
                self.record.file.display()
            );
            Fault::new(ErrorKind::Internal, message)
        };
        found.map(|(_, at)| *at).ok_or_else(missing)
    }

    /// Milliseconds from the beginning of each step of the file to that of the next one.
    pub(crate) fn steps(&self) -> Vec<f64> {
        let begins = self.marks.iter().filter_map(|(mark, at)| match mark {
            Mark::StepStarted(_, StepKind::Main) => Some(*at),
            _ => None,
        });
        let begins: Vec<_> = begins.collect();
        let pairs = begins.windows(2);
        pairs.map(|pair| ms(pair[1] - pair[0])).collect()
    }
}

/// Runs a workflow in this process, in machines of a pool, and forgets it. It must succeed.
pub(crate) async fn run(
    vmint: &Arc<Vmint>,
    pool: &BenchPool,
    file: &Path,
    moments: Moments,
    look: &(dyn Fn(&RunRecord, usize) + Send + Sync),
) -> Result<Ran, Fault> {
    let config = settings()?;
    let asked = Asked {
        file: file.to_owned(),
        pools: PoolOptions {
            pool: Some(pool.name().clone()),
            ..PoolOptions::default()
        },
        moments,
        ..Asked::default()
    };
    let prepared = vmint.prepare_run(&config, &asked).await;
    let request = prepared.map_err(|e| match e {
        CannotRun::Fault(fault) => fault,
        CannotRun::Invalid(wrong) => Fault::new(ErrorKind::Internal, wrong.to_string()),
    })?;
    let marks = Mutex::new(Vec::new());
    let watch = Watch {
        marks: &marks,
        look,
    };
    let cancel = Cancel::new();
    let running = vmint.run_workflow(
        &config,
        &request,
        asked.pools.clone(),
        (watch, Silent),
        &cancel,
    );
    let (record, unkept) = running.await;
    vmint.remove_run(&record.id)?;
    if let Some(fault) = unkept {
        return Err(fault);
    }
    succeeded(&record)?;
    let marks = marks.into_inner().expect("nobody panics with the lock");
    Ok(Ran { record, marks })
}

fn succeeded(record: &RunRecord) -> Result<(), Fault> {
    match &record.end {
        Some(RunEnd::Success) => Ok(()),
        Some(RunEnd::Fault { fault }) => Err(fault.clone().into()),
        other => {
            let file = record.file.display();
            let message = format!("the run of {file} ended with {other:?}");
            Err(Fault::new(ErrorKind::Guest, message))
        }
    }
}

/// What a run in a process of its own came to.
pub(crate) struct Whole {
    /// Its record.
    pub record: RunRecord,
    /// The most memory that the process had, in bytes.
    pub vmint: u64,
    /// The most memory that the runner of its machine had, in bytes.
    pub runner: u64,
}

/// `vmint workflow run` of a workflow in the only machine of a pool, with the memory watched that it takes. The run is
/// forgotten.
pub(crate) fn run_whole(rig: &Rig<'_>, pool: &BenchPool, file: &Path) -> Result<Whole, Fault> {
    let runner = only_runner(pool)?;
    let mut child = start(rig, pool, file, Stdio::null())?;
    let process = Pid::from_child(&child);
    let watched = (|| {
        let pidfd = pidfd_open(process, PidfdFlags::empty())
            .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        let end = Instant::now() + RUN_WITHIN;
        let mut most = (0, 0);
        while !matches!(
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&LOOK)),
            Ok(1)
        ) {
            // One that has just ended has no memory any more.
            most.0 = peak_memory(child.id()).unwrap_or(most.0);
            most.1 = peak_memory(runner.pid)?;
            if Instant::now() > end {
                let message = format!("a run did not end within {RUN_WITHIN:?}");
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
        }
        Ok(most)
    })();
    if watched.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    let (vmint, runner) = watched?;
    let record = taken(&pool.vmint, file)?;
    succeeded(&record)?;
    Ok(Whole {
        record,
        vmint,
        runner,
    })
}

/// How long it takes from the start of `vmint workflow run` until the first step's output is seen.
pub(crate) fn until_first_output(
    rig: &Rig<'_>,
    pool: &BenchPool,
    file: &Path,
) -> Result<f64, Fault> {
    use std::io::{BufRead, BufReader};
    let began = Instant::now();
    let mut child = start(rig, pool, file, Stdio::piped())?;
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let (mut line, mut seen) = (String::new(), None);
    while out.read_line(&mut line).is_ok_and(|n| n > 0) {
        if seen.is_none() && line.contains(FIRST_OUTPUT) {
            seen = Some(ms(began.elapsed()));
        }
        line.clear();
    }
    let _ = child.wait();
    succeeded(&taken(&pool.vmint, file)?)?;
    seen.ok_or_else(|| {
        let message = "`vmint workflow run` did not show what the step wrote";
        Fault::new(ErrorKind::Internal, message)
    })
}

fn start(
    rig: &Rig<'_>,
    pool: &BenchPool,
    file: &Path,
    stdout: Stdio,
) -> Result<std::process::Child, Fault> {
    let fault = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot start `vmint workflow run`")
    };
    let log = std::fs::File::create(rig.scratch("programs.log")).map_err(fault)?;
    let mut command = rig.program(&["workflow", "run", "--pool", pool.name().as_str()]);
    command.arg(file);
    command.stdin(Stdio::null()).stdout(stdout).stderr(log);
    command.spawn().map_err(fault)
}

/// The last run of a file, which is forgotten.
fn taken(vmint: &Vmint, file: &Path) -> Result<RunRecord, Fault> {
    let kept = vmint.runs(usize::MAX)?;
    let record = kept.into_iter().find_map(|kept| {
        let record = kept.record.ok()?;
        (record.file == file).then_some(record)
    });
    let record = record.ok_or_else(|| {
        let message = format!("no run of {} was kept", file.display());
        Fault::new(ErrorKind::Internal, message)
    })?;
    vmint.remove_run(&record.id)?;
    Ok(record)
}

/// The runner of a pool's only machine.
fn only_runner(pool: &BenchPool) -> Result<ProcessRef, Fault> {
    let slots = pool.vmint.slots(Some(pool.name()))?;
    let slot = slots.first().ok_or_else(|| {
        let message = format!("pool {} has no machine", pool.name());
        Fault::new(ErrorKind::Internal, message)
    })?;
    runner_of(&pool.vmint, slot.machine.as_str())
}

/// The runner of a machine.
pub(crate) fn runner_of(vmint: &Vmint, machine: &str) -> Result<ProcessRef, Fault> {
    let record = vmint.machine(machine)?;
    super::memory::runner(&record).cloned()
}

/// A script, put beside where those of steps are.
pub(crate) async fn put_script(lease: &Lease, script: &str) -> Result<(), Fault> {
    let path = Path::new(SCRIPT);
    let (folder, name) = (path.parent(), path.file_name());
    let (folder, name) = (folder.expect("a folder"), name.expect("a name"));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(script.len() as u64);
    let mut tar = tar::Builder::new(Vec::new());
    let added = tar.append_data(&mut header, name, script.as_bytes());
    added.expect("a tar in memory takes any relative path");
    let bytes = tar.into_inner().expect("a tar in memory");
    let folder = folder.display().to_string();
    lease.unpack_into(&folder, None, bytes.as_slice()).await
}

/// The script that was put, as a step would run it: without a workflow.
pub(crate) fn plain() -> Command {
    Command {
        output: Streams::Together,
        ..Command::new(["sh", "-e", SCRIPT])
    }
}

/// Forgets the runs of benchmarks that were killed.
pub(crate) fn clear_dead(vmint: &Vmint) -> Result<(), Fault> {
    let is_dead = |part: std::path::Component<'_>| {
        let name = part.as_os_str().to_str();
        let pid = name.and_then(|name| owner(name.strip_prefix('.')?));
        pid.is_some_and(|pid| matches!(vmint_store::process::of(pid), Ok(None)))
    };
    vmint.sweep()?;
    for kept in vmint.runs(usize::MAX)? {
        let Ok(record) = kept.record else { continue };
        if record.end.is_some() && record.file.components().any(is_dead) {
            vmint.remove_run(&record.id)?;
        }
    }
    Ok(())
}
