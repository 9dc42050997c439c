//! What parked forks take of the host's memory.

use super::process::{expect_memory, memory_available, own_memory};
use super::report::{Row, Rows, Unit};
use super::rig::{MEMORY_OF_MANY, RESERVE, Rig, spec, succeeded};
use super::targets;
use std::time::{Duration, Instant};
use vmint_model::{ErrorKind, Fault, MachineRecord, Origin, ProcessRef};

/// The fall of `MemAvailable` over many parked forks, divided by their number: first of forks without runners, then
/// of machines. Each fork has executed a command before it is parked, as one that is kept ready has. No cache is
/// dropped.
pub(crate) async fn memory(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let n = rig.count(50, 10);
    expect_memory(n as u64 * RESERVE)?;
    let template = rig.template(MEMORY_OF_MANY).await?;
    let argv = ["sh", "-c", "true"];
    let each = |before: Reading, after: Reading| {
        (before.bytes as f64 - after.bytes as f64) / 1e6 / n as f64
    };

    rig.progress
        .stage(&format!("memory: {n} parked forks without runners"));
    let start = async || {
        let live = rig.live(&template).await?;
        succeeded(live.session.exec(spec(&argv), |_, _| {}).await?, &argv, b"")?;
        live.hypervisor.pause().await?;
        Ok::<_, Fault>(live)
    };
    // One before all others: what the first one alone brings into memory is shared by all.
    let first = start().await?;
    let first_before = settled().await?;
    let mut forks = Vec::with_capacity(n);
    for _ in 0..n {
        forks.push(start().await?);
    }
    let first_after = settled().await?;
    let without = each(first_before, first_after);
    drop(forks);
    drop(first);
    let what =
        format!("a parked fork without a runner: fall of MemAvailable over {n}, divided by {n}");
    let row = Row::new("memory", what, Unit::Megabytes, &[without]).target(targets::MEMORY_FORK);
    rows.push(unsteady(row, &[first_before, first_after]));

    rig.progress.stage(&format!("memory: {n} parked machines"));
    let start = async || {
        let machine = rig
            .start(rig.machine("tiny", MEMORY_OF_MANY, Origin::Template))
            .await?;
        rig.execute(&machine, &argv).await?;
        rig.vmint.pause(machine.id.as_str()).await?;
        Ok::<_, Fault>(machine)
    };
    let first = start().await?;
    let before = settled().await?;
    let mut machines = Vec::with_capacity(n);
    for _ in 0..n {
        machines.push(start().await?);
    }
    let after = settled().await?;
    let with = each(before, after);
    let of = |process: fn(&MachineRecord) -> Result<&ProcessRef, Fault>| {
        let each = machines
            .iter()
            .map(|machine| Ok(own_memory(process(machine)?)? as f64 / 1e6));
        each.collect::<Result<Vec<f64>, Fault>>()
    };
    let (runners, hypervisors) = (of(runner)?, of(hypervisor)?);
    let what =
        format!("a parked fork with its runner: fall of MemAvailable over {n}, divided by {n}");
    let row = Row::new("memory", what, Unit::Megabytes, &[with]).target(targets::MEMORY);
    rows.push(unsteady(row, &[before, after]));
    let row = Row::new(
        "memory",
        "the runner: difference of the two",
        Unit::Megabytes,
        &[with - without],
    )
    .note(
        "two rounds of MemAvailable differ by some MB a fork, whatever runs: no verdict is made of it",
    );
    rows.push(unsteady(row, &[first_before, first_after, before, after]));
    let row = Row::new(
        "memory",
        "the runner: private and anonymous memory of its process",
        Unit::Megabytes,
        &runners,
    )
    .target(targets::MEMORY_RUNNER)
    .note(
        "its page tables, its sockets and the kernel's records of it are in the difference alone",
    );
    rows.push(row);
    let what = "the hypervisor: private and anonymous memory of its process";
    rows.push(Row::new("memory", what, Unit::Megabytes, &hypervisors));
    for machine in machines.iter().chain([&first]) {
        rig.remove(machine).await?;
    }
    Ok(())
}

/// The runner of a machine that is up.
pub(crate) fn runner(machine: &MachineRecord) -> Result<&ProcessRef, Fault> {
    machine
        .runner
        .as_ref()
        .ok_or_else(|| lacks(machine, "runner"))
}

/// The hypervisor of a machine that is up.
pub(crate) fn hypervisor(machine: &MachineRecord) -> Result<&ProcessRef, Fault> {
    machine
        .hypervisor
        .as_ref()
        .ok_or_else(|| lacks(machine, "hypervisor"))
}

fn lacks(machine: &MachineRecord, what: &str) -> Fault {
    let message = format!(
        "machine {} is up, and no {what} of it is recorded",
        machine.name
    );
    Fault::new(ErrorKind::Internal, message)
}

/// `MemAvailable`, and whether it had come to rest.
#[derive(Clone, Copy)]
struct Reading {
    bytes: u64,
    steady: bool,
}

/// Reads `MemAvailable` until three readings in a row differ by less than a megabyte; for at most ten seconds, since on
/// a busy host that may never be.
async fn settled() -> Result<Reading, Fault> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut last = [memory_available()?; 3];
    loop {
        // The kernel hands back what ended processes had, and adds up its counters, once a second at the latest.
        tokio::time::sleep(Duration::from_millis(400)).await;
        last.rotate_left(1);
        last[2] = memory_available()?;
        let mut sorted = last;
        sorted.sort_unstable();
        let steady = sorted[2] - sorted[0] < 1_000_000;
        if steady || Instant::now() > end {
            return Ok(Reading {
                bytes: sorted[1],
                steady,
            });
        }
    }
}

/// Figures that came about while other processes took and gave back memory decide nothing.
fn unsteady(row: Row, readings: &[Reading]) -> Row {
    if readings.iter().all(|reading| reading.steady) {
        return row;
    }
    row.undecided("the host's memory did not come to rest: other processes were using it")
}
