//! Forks: against a bare QEMU, against a cold boot, with little and with much memory.

use super::process::ms;
use super::report::{Row, Rows, Target, Unit};
use super::rig::{MEMORY, Rig, in_turn, kill};
use super::targets;
use std::time::Instant;
use vmint_model::{ByteSize, Fault, Origin};

/// A fork until it runs, against the least that it could cost: QEMU with the same arguments until QMP answers.
pub(crate) async fn fork(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let template = rig.template(MEMORY).await?;
    let forked = async || {
        let (elapsed, hypervisor) = rig.fork(&template).await?;
        kill(hypervisor).await?;
        Ok(elapsed)
    };
    let started = async || {
        let (elapsed, hypervisor) = rig.bare(&template).await?;
        kill(hypervisor).await?;
        Ok(elapsed)
    };
    let (forks, bare) = in_turn(rig.count(40, 12), forked, started).await?;
    let row = Row::new("fork", "fork to running", Unit::Milliseconds, &forks)
        .floor("bare QEMU, same arguments, until QMP answers", &bare)
        .target(targets::FORK);
    rows.push(row);
    Ok(())
}

/// A cold boot against a fork, both to a first command's result, as a user of the library has it.
pub(crate) async fn boot(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    boot_of(rig, rows, "tiny", (5, 2), targets::BOOT_TINY).await?;
    let debian = "debian:12";
    let exists = rig
        .vmint
        .images()
        .find(debian)
        .is_ok_and(|image| image.is_some());
    if rig.options.quick && !exists {
        rig.progress.stage(&format!(
            "there is no image {debian}, and --quick builds none"
        ));
        return Ok(());
    }
    boot_of(rig, rows, debian, (3, 1), targets::BOOT_DEBIAN).await
}

async fn boot_of(
    rig: &Rig<'_>,
    rows: &mut Rows<'_>,
    image: &str,
    (usual, quick): (usize, usize),
    target: Target,
) -> Result<(), Fault> {
    // The first fork makes the template, if there is none, and is not counted.
    let first = rig
        .vmint
        .create_running(rig.machine(image, MEMORY, Origin::Template), rig.progress)
        .await?;
    rig.remove(&first).await?;
    rig.progress
        .stage(&format!("boot: booting {image} again and again"));
    let mut forks = Vec::new();
    let mut boots = Vec::new();
    // Forks take a fraction of a boot: more of them tell more.
    let forks_per_boot = 5;
    for _ in 0..rig.count(usual, quick) {
        boots.push(first_result(rig, image, MEMORY, Origin::Cold).await?);
        for _ in 0..forks_per_boot {
            forks.push(first_result(rig, image, MEMORY, Origin::Template).await?);
        }
    }
    let what = format!("cold boot of {image} to the first `sh -c` result");
    let row = Row::new("boot", what, Unit::Milliseconds, &boots)
        .floor("fork to the same", &forks)
        .target(target);
    rows.push(row);
    Ok(())
}

async fn first_result(
    rig: &Rig<'_>,
    image: &str,
    memory: ByteSize,
    origin: Origin,
) -> Result<f64, Fault> {
    let new = rig.machine(image, memory, origin);
    let began = Instant::now();
    let machine = rig.start(new).await?;
    rig.execute(&machine, &["sh", "-c", "true"]).await?;
    let elapsed = ms(began.elapsed());
    rig.remove(&machine).await?;
    Ok(elapsed)
}

/// A fork with 4 GiB of memory against one with 256 MiB: nothing of it may grow with memory.
pub(crate) async fn size(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let (small, large) = (ByteSize::mib(256), ByteSize::mib(4096));
    let (small_template, large_template) = (rig.template(small).await?, rig.template(large).await?);
    let forked = async |template| {
        let (elapsed, hypervisor) = rig.fork(template).await?;
        kill(hypervisor).await?;
        Ok(elapsed)
    };
    let n = rig.count(40, 12);
    let (larges, smalls) = in_turn(
        n,
        async || forked(&large_template).await,
        async || forked(&small_template).await,
    )
    .await?;
    let row = Row::new(
        "size",
        "fork to running, 4 GiB of memory",
        Unit::Milliseconds,
        &larges,
    )
    .floor("the same, 256 MiB", &smalls)
    .target(targets::SIZE);
    rows.push(row);
    let first = async |memory| first_result(rig, "tiny", memory, Origin::Template).await;
    let n = rig.count(12, 4);
    let (larges, smalls) =
        in_turn(n, async || first(large).await, async || first(small).await).await?;
    let row = Row::new(
        "size",
        "fork with its runner to the first result, 4 GiB",
        Unit::Milliseconds,
        &larges,
    )
    .floor("the same, 256 MiB", &smalls);
    rows.push(row);
    Ok(())
}
