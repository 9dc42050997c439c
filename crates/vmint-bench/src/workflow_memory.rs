//! What a run takes of the host's memory: by its number of steps, and by the size of a log.

use super::pool_rig::BenchPool;
use super::process::own_memory;
use super::report::{Row, Rows, Unit};
use super::rig::Rig;
use super::stream::{expect, rate};
use super::targets;
use super::workflow::stage;
use super::workflow_rig::{self as flow, Whole};
use std::sync::Mutex;
use std::time::Instant;
use vmint::exec::Happening;
use vmint::workflow::record::{RunRecord, StepKind};
use vmint::workflow::run::Moments;
use vmint_model::{ErrorKind, Fault};

/// Steps of the short run and of the long one.
const FEW: usize = 10;
const MANY: usize = 100;
/// A line of the logs that are measured, without its end.
const LINE: &str = "abcdefghijklmnopqrstuvwxyz0123456789 abcdefghijklmnopqrstuvwxyz0123456789 abcdefghijklmnopqrst";

fn megabytes(what: &str, bytes: &[u64]) -> Row {
    let samples: Vec<_> = bytes.iter().map(|bytes| *bytes as f64 / 1e6).collect();
    Row::new("workflow", what, Unit::Megabytes, &samples)
}

fn as_megabytes(bytes: &[u64]) -> Vec<f64> {
    bytes.iter().map(|bytes| *bytes as f64 / 1e6).collect()
}

/// The memory of a machine's runner after ten steps and after a hundred of one run, and that of the process that runs
/// them.
pub(crate) async fn steps(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "memory by the number of steps");
    let few = flow::write(rig, "few", &flow::steps(["true"; FEW]))?;
    let many = flow::write(rig, "many", &flow::steps(["true"; MANY]))?;
    let (mut after_few, mut after_many) = (Vec::new(), Vec::new());
    let (mut process_few, mut process_many) = (Vec::new(), Vec::new());
    for _ in 0..rig.count(3, 1) {
        // The runner of a pool's machine is as old as the pool.
        let pool = BenchPool::new(rig, 1, 1, 0).await?;
        let seen = Mutex::new(Vec::new());
        let look = |run: &RunRecord, step: usize| {
            let steps = &run.jobs[0].steps;
            let done = steps[..=step].iter().filter(|s| s.kind == StepKind::Main);
            let done = done.count();
            if steps[step].kind == StepKind::Main && (done == FEW || done == MANY) {
                let machine = run.machines[0].machine.as_str();
                let memory = flow::runner_of(&pool.vmint, machine).and_then(|r| own_memory(&r));
                seen.lock().expect("nobody panics").push(memory);
            }
        };
        flow::run(&pool.vmint, &pool, &many, Moments::None, &look).await?;
        let seen = seen.into_inner().expect("nobody panics");
        let seen = seen.into_iter().collect::<Result<Vec<_>, Fault>>()?;
        let [few_seen, many_seen] = seen[..] else {
            let message = format!(
                "a run's runner was looked at {} times, not twice",
                seen.len()
            );
            return Err(Fault::new(ErrorKind::Internal, message));
        };
        after_few.push(few_seen);
        after_many.push(many_seen);
        pool.settled().await?;
        process_few.push(flow::run_whole(rig, &pool, &few)?.vmint);
        pool.settled().await?;
        process_many.push(flow::run_whole(rig, &pool, &many)?.vmint);
        pool.remove().await?;
    }
    // Allocators round up: a twentieth is some pages of a few megabytes.
    rows.push(
        megabytes(
            &format!("a runner's own memory after {MANY} steps"),
            &after_many,
        )
        .floor(
            format!("after {FEW} steps of the same run"),
            &as_megabytes(&after_few),
        )
        .target(targets::WORKFLOW_MEMORY),
    );
    rows.push(
        megabytes(
            &format!("the most memory of `vmint workflow run`, {MANY} steps"),
            &process_many,
        )
        .floor(format!("{FEW} steps"), &as_megabytes(&process_few)),
    );
    Ok(())
}

/// A script that writes so many lines of 96 bytes.
fn script(lines: usize) -> String {
    format!("yes '{LINE}' | head -n {lines}")
}

/// A log of a hundred megabytes against one of a single one: the most memory that `vmint workflow run` and the machine's
/// runner ever had, and how fast it goes against the same command's output read by nobody.
pub(crate) async fn log(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "a log of 100 MB");
    let size = LINE.len() + 1;
    let [few, many] = [1_000_000, 100_000_000].map(|bytes| bytes / size);
    let short = flow::write(rig, "short-log", &flow::steps([&*script(few)]))?;
    let long = flow::write(rig, "long-log", &flow::steps([&*script(many)]))?;
    let (mut shorts, mut longs) = (Vec::new(), Vec::new());
    let (mut rates, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..rig.count(3, 1) {
        // What a runner once had, it has had: each log has a runner of its own.
        shorts.push(whole(rig, &short, few).await?);
        let (ran, direct) = {
            let ran = whole(rig, &long, many).await?;
            (ran, plain_rate(rig, many).await?)
        };
        rates.push(log_rate(&ran.record, (many * size) as u64)?);
        plain.push(direct);
        longs.push(ran);
    }
    type Part = fn(&Whole) -> u64;
    let parts: [(&str, Part); 2] = [
        ("`vmint workflow run`", |whole| whole.vmint),
        ("the machine's runner", |whole| whole.runner),
    ];
    for (who, part) in parts {
        let of = |runs: &[Whole]| runs.iter().map(part).collect::<Vec<_>>();
        let (short, long) = (of(&shorts), of(&longs));
        let more = long.iter().zip(&short);
        let more: Vec<_> = more
            .map(|(long, short)| long.saturating_sub(*short))
            .collect();
        rows.push(
            megabytes(
                &format!("a log of 100 MB: more memory of {who} than with 1 MB"),
                &more,
            )
            .target(targets::WORKFLOW_LOG),
        );
        rows.push(
            megabytes(&format!("the most memory of {who}, a log of 100 MB"), &long)
                .floor("a log of 1 MB", &as_megabytes(&short)),
        );
    }
    let row = Row::new(
        "workflow",
        "a log of 100 MB, masked and written",
        Unit::MegabytesPerSecond,
        &rates,
    );
    rows.push(row.floor("the same command's output, read", &plain));
    Ok(())
}

/// Runs a workflow with a log in a new machine with a new runner. All of the log must be there.
async fn whole(rig: &Rig<'_>, file: &std::path::Path, lines: usize) -> Result<Whole, Fault> {
    let pool = BenchPool::new(rig, 1, 1, 0).await?;
    let ran = flow::run_whole(rig, &pool, file)?;
    pool.remove().await?;
    let step = main_step(&ran.record)?;
    let least = (lines * LINE.len()) as u64;
    if step.log_bytes < least {
        let message = format!("a log of {} bytes was kept, not {least}", step.log_bytes);
        return Err(Fault::new(ErrorKind::Internal, message));
    }
    Ok(ran)
}

fn main_step(record: &RunRecord) -> Result<&vmint::workflow::record::StepRecord, Fault> {
    let mut steps = record.jobs.iter().flat_map(|job| &job.steps);
    let step = steps.find(|step| step.kind == StepKind::Main);
    step.ok_or_else(|| Fault::new(ErrorKind::Internal, "a run has no step"))
}

fn log_rate(record: &RunRecord, bytes: u64) -> Result<f64, Fault> {
    let step = main_step(record)?;
    let (Some(from), Some(to)) = (step.started_at_ms, step.ended_at_ms) else {
        return Err(Fault::new(ErrorKind::Internal, "a step has no times"));
    };
    Ok(bytes as f64 / 1e3 / (to - from).max(1) as f64)
}

async fn plain_rate(rig: &Rig<'_>, lines: usize) -> Result<f64, Fault> {
    let pool = BenchPool::new(rig, 1, 1, 0).await?;
    let lease = pool.acquire().await?;
    flow::put_script(&lease, &script(lines)).await?;
    let began = Instant::now();
    let mut command = lease.exec(flow::plain()).await?;
    let mut received = 0;
    let status = loop {
        match command.next().await? {
            Happening::Output(_, bytes) => received += bytes.len() as u64,
            Happening::Exited(status) => break status,
            Happening::Started(_) | Happening::Credit(_) => {}
        }
    };
    let rate = rate(received, began);
    drop(command);
    super::rig::succeeded(status, &["sh"], b"")?;
    expect(received, (lines * (LINE.len() + 1)) as u64)?;
    lease.release()?;
    pool.remove().await?;
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_how_long_its_output_is() {
        let out = std::process::Command::new("sh")
            .args(["-c", &script(1000)])
            .output()
            .unwrap();
        assert_eq!(out.stdout.len(), 1000 * (LINE.len() + 1));
    }
}
