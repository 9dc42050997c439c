//! Workflows: what a run adds to the commands of its steps, in time and in memory.

use super::pool_rig::{BenchPool, POOL_MEMORY, clear_dead};
use super::process::ms;
use super::report::{Row, Rows, Unit};
use super::rig::Rig;
use super::targets;
use super::workflow_rig::{self as flow, FIRST_OUTPUT, Mark, SAYS_IT};
use super::{workflow_check, workflow_memory};
use std::sync::Arc;
use std::time::Instant;
use vmint::exec::Happening;
use vmint::workflow::record::StepKind;
use vmint::workflow::run::Moments;
use vmint::{Lease, Vmint};
use vmint_model::{ErrorKind, Fault};
use vmint_protocol::ExitStatus;

/// All of `bench workflow`.
pub(crate) async fn workflow(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let vmint = Arc::new(Vmint::open(rig.vmint.options().clone())?);
    clear_dead(&vmint).await?;
    flow::clear_dead(&vmint)?;
    stage(rig, "checking a file");
    workflow_check::check(rig, rows)?;
    rig.template(POOL_MEMORY).await?;
    first_output(rig, rows).await?;
    overhead(rig, rows, Moments::None).await?;
    overhead(rig, rows, Moments::Steps).await?;
    workflow_memory::steps(rig, rows).await?;
    workflow_memory::log(rig, rows).await
}

/// Says what is measured now.
pub(crate) fn stage(rig: &Rig<'_>, what: &str) {
    rig.progress.stage(&format!("workflow: {what}"));
}

/// A row in milliseconds.
pub(crate) fn row(what: &str, samples: &[f64]) -> Row {
    Row::new("workflow", what, Unit::Milliseconds, samples)
}

fn differences(whole: &[f64], part: &[f64]) -> Vec<f64> {
    whole.iter().zip(part).map(|(w, p)| w - p).collect()
}

/// The parts of the way to the first output.
#[derive(Default)]
struct Way {
    whole: Vec<f64>,
    acquire: Vec<f64>,
    set_up: Vec<f64>,
    step: Vec<f64>,
    plain: Vec<f64>,
    process: Vec<f64>,
}

/// From the run's beginning, with a machine ready, until the first step's output is seen; against the same script as the
/// first command in another machine of the pool. The way to the run's beginning (the file is read and checked) is in the
/// figure of the whole process.
async fn first_output(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "acquire to the first step's first output");
    let pool = BenchPool::new(rig, 2, 2, 1).await?;
    let file = flow::write(rig, "first-output", &flow::steps([SAYS_IT]))?;
    let mut way = Way::default();
    // The first round is not counted.
    for round in 0..=rig.count(20, 4) {
        let mut now = Way::default();
        // Each as often first as the other.
        for half in [round % 2, (round + 1) % 2] {
            pool.settled().await?;
            if half == 0 {
                let ran = flow::run(&pool.vmint, &pool, &file, Moments::None, &|_, _| {}).await?;
                let began = ran.at(|mark| mark == Mark::Started)?;
                let seen = ran.at(|mark| mark == Mark::FirstOutput)?;
                let set_up = |mark| matches!(mark, Mark::StepStarted(_, StepKind::SetUp));
                let was_set_up = |mark| matches!(mark, Mark::StepEnded(_, StepKind::SetUp));
                let step = |mark| matches!(mark, Mark::StepStarted(_, StepKind::Main));
                now.whole.push(ms(seen - began));
                now.acquire.push(ran.record.machines[0].acquire_ms);
                now.set_up.push(ms(ran.at(was_set_up)? - ran.at(set_up)?));
                now.step.push(ms(seen - ran.at(step)?));
            } else {
                let lease = pool.acquire().await?;
                flow::put_script(&lease, SAYS_IT).await?;
                now.plain.push(plain_first_output(&lease).await?);
                lease.release()?;
            }
        }
        pool.settled().await?;
        now.process
            .push(flow::until_first_output(rig, &pool, &file)?);
        if round > 0 {
            way.whole.extend(now.whole);
            way.acquire.extend(now.acquire);
            way.set_up.extend(now.set_up);
            way.step.extend(now.step);
            way.plain.extend(now.plain);
            way.process.extend(now.process);
        }
    }
    pool.remove().await?;
    let what = "acquire to the first step's first output, over the step's own time";
    rows.push(row(what, &differences(&way.whole, &way.plain)).target(targets::WORKFLOW_FIRST));
    let floor = "its script as the first command of another ready machine";
    rows.push(row("acquire to the first step's first output", &way.whole).floor(floor, &way.plain));
    rows.push(row("  of that, the acquire", &way.acquire));
    rows.push(row("  of that, the set-up", &way.set_up));
    rows.push(row("  of that, the step until its output", &way.step));
    let what = "start of `vmint workflow run` to the first step's first output";
    rows.push(row(what, &way.process));
    Ok(())
}

/// From the start of the script that was put until its first output is seen.
async fn plain_first_output(lease: &Lease) -> Result<f64, Fault> {
    let began = Instant::now();
    let mut seen = None;
    let (status, said) = ended(lease, |_| {
        seen.get_or_insert_with(|| ms(began.elapsed()));
    })
    .await?;
    super::rig::succeeded(status, &["sh"], &said)?;
    let is_it = String::from_utf8_lossy(&said).trim() == FIRST_OUTPUT;
    seen.filter(|_| is_it).ok_or_else(|| {
        let message = format!("a script said {:?}", String::from_utf8_lossy(&said));
        Fault::new(ErrorKind::Internal, message)
    })
}

/// Runs the script that was put to its end.
async fn ended(lease: &Lease, mut seen: impl FnMut(usize)) -> Result<(ExitStatus, Vec<u8>), Fault> {
    let mut command = lease.exec(flow::plain()).await?;
    let mut said = Vec::new();
    loop {
        match command.next().await? {
            Happening::Output(_, bytes) => {
                seen(bytes.len());
                said.extend_from_slice(&bytes);
            }
            Happening::Exited(status) => return Ok((status, said)),
            Happening::Started(_) | Happening::Credit(_) => {}
        }
    }
}

/// From one step's beginning to the next one's, over the time that the same script takes as a plain command in another
/// machine of the pool; many in a row of either, in turns.
async fn overhead(rig: &Rig<'_>, rows: &mut Rows<'_>, moments: Moments) -> Result<(), Fault> {
    const STEPS: usize = 12;
    let (with, target) = match moments {
        Moments::Steps => (", with snapshots", targets::WORKFLOW_SNAPSHOT),
        Moments::None | Moments::Failures => ("", targets::WORKFLOW_STEP),
    };
    stage(rig, &format!("overhead a step{with}"));
    let pool = BenchPool::new(rig, 2, 2, 0).await?;
    let file = flow::write(rig, "overhead", &flow::steps(["true"; STEPS]))?;
    let held = pool.acquire().await?;
    flow::put_script(&held, "true").await?;
    let (mut whole, mut plain, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rig.count(12, 3) {
        pool.settled().await?;
        let ran = flow::run(&pool.vmint, &pool, &file, moments, &|_, _| {}).await?;
        // The first of either fills caches, and the last one ends with the clean-up.
        let steps = &ran.steps()[1..];
        whole.extend_from_slice(steps);
        sizes.extend(ran.record.jobs[0].steps.iter().filter_map(|step| {
            let snapshot = step.snapshot.as_ref()?;
            Some(snapshot.size as f64 / 1e6)
        }));
        for n in 0..=steps.len() {
            let began = Instant::now();
            let (status, said) = ended(&held, |_| {}).await?;
            let elapsed = ms(began.elapsed());
            super::rig::succeeded(status, &["sh"], &said)?;
            if n > 0 {
                plain.push(elapsed);
            }
        }
    }
    held.release()?;
    pool.remove().await?;
    let what = format!("overhead a step{with}");
    rows.push(row(&what, &differences(&whole, &plain)).target(target));
    let what = format!("a step of `true`{with}, to the next one's beginning");
    rows.push(row(&what, &whole).floor("its script as a plain command", &plain));
    if !sizes.is_empty() {
        let what = "a snapshot before a step: memory and disk that it holds";
        rows.push(Row::new("workflow", what, Unit::Megabytes, &sizes));
    }
    Ok(())
}
