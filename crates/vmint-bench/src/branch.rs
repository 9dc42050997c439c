//! What a snapshot costs the machine that it is taken of.

use super::report::{Row, Rows, Unit};
use super::rig::{Rig, kill};
use super::targets;
use vmint_model::{ByteSize, Fault, MachineRecord, Origin, SnapshotRecord};
use vmint_qemu::Frozen;

/// Changed memory of a machine whose snapshots are measured, in bytes.
const CHANGED: u64 = 10_000_000;

/// Bytes that `dd` writes at a time.
const BLOCK: u64 = 64 << 10;

/// A machine whose snapshots are measured.
struct Subject {
    template: Frozen,
    machine: MachineRecord,
    changed: u64,
    pauses: Vec<f64>,
    forks: Vec<f64>,
}

/// How long a machine of which at most 10 MB have changed stands still for a snapshot, against a fork; with little and
/// with much memory, in turn.
pub(crate) async fn branch(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let mut small = Subject::start(rig, ByteSize::mib(256)).await?;
    let mut large = Subject::start(rig, ByteSize::mib(4096)).await?;
    for _ in 0..rig.count(20, 6) {
        small.measure(rig).await?;
        large.measure(rig).await?;
    }
    for (subject, memory) in [(&small, "256 MiB"), (&large, "4 GiB")] {
        let what = format!("pause for a snapshot, {memory} of memory");
        let changed = subject.changed as f64 / 1e6;
        let row = Row::new("branch", what, Unit::Milliseconds, &subject.pauses)
            .floor("fork to running, same memory", &subject.forks)
            .target(targets::BRANCH)
            .note(format!(
                "the snapshot takes {changed:.1} MB, device state included"
            ));
        rows.push(row);
    }
    let what = "pause for a snapshot, 4 GiB of memory";
    let row = Row::new("branch", what, Unit::Milliseconds, &large.pauses)
        .floor("the same, 256 MiB", &small.pauses)
        .target(targets::BRANCH_SIZE)
        .note("asked for is “flat”; this takes it as “size” does");
    rows.push(row);
    rig.remove(&small.machine).await?;
    rig.remove(&large.machine).await
}

impl Subject {
    async fn start(rig: &Rig<'_>, memory: ByteSize) -> Result<Self, Fault> {
        let template = rig.template(memory).await?;
        let machine = rig
            .start(rig.machine("tiny", memory, Origin::Template))
            .await?;
        // What a fork changes by coming up counts; the rest is filled with what can neither be compressed nor shared.
        fill(rig, &machine, 1).await?;
        let before = snapshot(rig, &machine).await?.size.0;
        fill(rig, &machine, CHANGED.saturating_sub(before) / BLOCK).await?;
        let changed = snapshot(rig, &machine).await?.size.0;
        Ok(Self {
            template,
            machine,
            changed,
            pauses: Vec::new(),
            forks: Vec::new(),
        })
    }

    async fn measure(&mut self, rig: &Rig<'_>) -> Result<(), Fault> {
        self.pauses
            .push(snapshot(rig, &self.machine).await?.pause_ms);
        let (elapsed, hypervisor) = rig.fork(&self.template).await?;
        kill(hypervisor).await?;
        self.forks.push(elapsed);
        Ok(())
    }
}

async fn fill(rig: &Rig<'_>, machine: &MachineRecord, blocks: u64) -> Result<(), Fault> {
    let count = format!("count={blocks}");
    rig.execute(
        machine,
        &["dd", "if=/dev/urandom", "of=/tmp/changed", "bs=64k", &count],
    )
    .await
}

async fn snapshot(rig: &Rig<'_>, machine: &MachineRecord) -> Result<SnapshotRecord, Fault> {
    let name = rig.name();
    let taken = rig.vmint.snapshot(machine.id.as_str(), &name).await?;
    rig.vmint.remove_snapshot(&name)?;
    Ok(taken)
}
