//! What a snapshot costs the machine that it is taken of.

use super::report::{Row, Target, Unit};
use super::rig::{Rig, kill};
use vmint_model::{ByteSize, Fault, Origin};

/// Changed memory of a machine whose snapshots are measured, in bytes.
const CHANGED: u64 = 10_000_000;

struct Samples {
    pauses: Vec<f64>,
    forks: Vec<f64>,
    changed: u64,
}

/// How long a machine of which at most 10 MB have changed stands still for a snapshot, against a fork; with little and
/// with much memory.
pub async fn branch(rig: &Rig<'_>, rows: &mut Vec<Row>) -> Result<(), Fault> {
    let small = measure(rig, ByteSize::mib(256)).await?;
    let large = measure(rig, ByteSize::mib(4096)).await?;
    for (samples, memory) in [(&small, "256 MiB"), (&large, "4 GiB")] {
        let what = format!("pause for a snapshot, {memory} of memory");
        let row = Row::new("branch", what, Unit::Milliseconds, &samples.pauses)
            .floor("fork to running, same memory", &samples.forks)
            .target(Target::ratio_at_most(0.5))
            .note(format!(
                "the snapshot takes {:.1} MB, device state included",
                samples.changed as f64 / 1e6
            ));
        rows.push(row);
    }
    let row = Row::new(
        "branch",
        "pause for a snapshot, 4 GiB of memory",
        Unit::Milliseconds,
        &large.pauses,
    )
    .floor("the same, 256 MiB", &small.pauses)
    .target(Target::ratio_at_most(1.15))
    .note("asked for is “flat”; this takes it as “size” does");
    rows.push(row);
    Ok(())
}

async fn measure(rig: &Rig<'_>, memory: ByteSize) -> Result<Samples, Fault> {
    let template = rig.template(memory).await?;
    let machine = rig
        .start(rig.machine("tiny", memory, Origin::Template))
        .await?;
    let snapshot = async || {
        let name = rig.name();
        let taken = rig.vmint.snapshot(machine.id.as_str(), &name).await?;
        rig.vmint.remove_snapshot(&name)?;
        Ok::<_, Fault>(taken)
    };
    // What a fork changes by coming up counts; the rest is filled with what cannot be compressed or shared.
    rig.execute(
        &machine,
        &[
            "dd",
            "if=/dev/urandom",
            "of=/tmp/changed",
            "bs=64k",
            "count=1",
        ],
    )
    .await?;
    let before = snapshot().await?.size.0;
    let blocks = CHANGED.saturating_sub(before) / (64 << 10);
    let count = format!("count={blocks}");
    rig.execute(
        &machine,
        &["dd", "if=/dev/urandom", "of=/tmp/changed", "bs=64k", &count],
    )
    .await?;
    let changed = snapshot().await?.size.0;
    let (mut pauses, mut forks) = (Vec::new(), Vec::new());
    for _ in 0..rig.count(20, 6) {
        pauses.push(snapshot().await?.pause_ms);
        let (elapsed, hypervisor) = rig.fork(&template).await?;
        kill(hypervisor).await?;
        forks.push(elapsed);
    }
    rig.remove(&machine).await?;
    Ok(Samples {
        pauses,
        forks,
        changed,
    })
}
