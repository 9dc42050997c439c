//! Many forks at once.

use super::memory::{hypervisor, runner};
use super::process::{cpu, cpus, expect_memory, ms};
use super::report::{Row, Rows, Unit};
use super::rig::{MEMORY_OF_MANY, RESERVE, Rig, succeeded};
use super::targets;
use std::time::Instant;
use vmint::Command;
use vmint::exec::{Happening, Running};
use vmint_image::Silent;
use vmint_model::{ErrorKind, Fault, MachineRecord, Name, Origin};
use vmint_protocol::ExitStatus;

const COUNT: u32 = 50;

const ARGV: [&str; 3] = ["sh", "-c", "true"];

/// 50 forks of a snapshot at once until each has answered a command, against 50 times the processor time that one of
/// them and its runner use for the same, spread over the processors. A fork that is lost fails the benchmark.
pub(crate) async fn many(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    expect_memory(u64::from(COUNT) * RESERVE)?;
    rig.template(MEMORY_OF_MANY).await?;
    let source = rig
        .start(rig.machine("tiny", MEMORY_OF_MANY, Origin::Template))
        .await?;
    rig.execute(&source, &ARGV).await?;
    let snapshot = rig.name();
    rig.vmint.snapshot(source.id.as_str(), &snapshot).await?;
    rig.remove(&source).await?;

    let share = f64::from(COUNT) / cpus() as f64;
    let mut singles = Vec::new();
    for _ in 0..rig.count(20, 8) {
        singles.push(alone(rig, &snapshot).await?);
    }
    let one = mean(&singles);
    let this =
        vmint_store::process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    let (mut elapsed, mut together, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rig.count(3, 1) {
        let (began, own_before) = (Instant::now(), cpu(&this)?);
        let machines = rig
            .vmint
            .fork(snapshot.as_str(), &rig.name(), COUNT, &Silent)
            .await?;
        all_answer(rig, &machines).await?;
        elapsed.push(ms(began.elapsed()));
        own.push((cpu(&this)? - own_before) / f64::from(COUNT));
        for machine in &machines {
            together.push(used(machine)?);
        }
        for machine in &machines {
            rig.remove(machine).await?;
        }
    }
    rig.vmint.remove_snapshot(&snapshot)?;
    let what = format!("{COUNT} forks at once, until each has answered a command; none was lost");
    let row = Row::new("many", what, Unit::Milliseconds, &elapsed)
        .floor(
            format!("{COUNT} × processor time of one / {} processors", cpus()),
            &singles.iter().map(|single| single * share).collect::<Vec<_>>(),
        )
        .target(targets::MANY)
        .note(format!(
            "processor time of one: {one:.0} ms alone; {:.0} ms among {COUNT}, and {:.1} ms of this process",
            mean(&together),
            mean(&own),
        ));
    rows.push(row);
    Ok(())
}

/// What one fork with its runner uses until it has answered a command, started while nothing else is.
async fn alone(rig: &Rig<'_>, snapshot: &Name) -> Result<f64, Fault> {
    let machine = rig
        .start(rig.machine("tiny", MEMORY_OF_MANY, Origin::Snapshot(snapshot.clone())))
        .await?;
    rig.execute(&machine, &ARGV).await?;
    let used = used(&machine)?;
    rig.remove(&machine).await?;
    Ok(used)
}

/// Processor time of a machine's processes.
fn used(machine: &MachineRecord) -> Result<f64, Fault> {
    Ok(cpu(hypervisor(machine)?)? + cpu(runner(machine)?)?)
}

/// Starts a command in all of them, then awaits all.
async fn all_answer(rig: &Rig<'_>, machines: &[MachineRecord]) -> Result<(), Fault> {
    if machines.len() != COUNT as usize {
        return Err(Fault::new(
            ErrorKind::Internal,
            format!("{} of {COUNT} forks came up", machines.len()),
        ));
    }
    let mut commands = Vec::with_capacity(machines.len());
    for machine in machines {
        commands.push(
            rig.vmint
                .exec(machine.id.as_str(), Command::new(ARGV))
                .await?,
        );
    }
    for mut command in commands {
        succeeded(ended(&mut command).await?, &ARGV, b"")?;
    }
    Ok(())
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

async fn ended(command: &mut Running<'_>) -> Result<ExitStatus, Fault> {
    loop {
        if let Happening::Exited(status) = command.next().await? {
            return Ok(status);
        }
    }
}
