//! Pools: what a lease costs against the store's transaction, a reset against a command and a fork, and what filling in
//! parallel saves.

use super::pool_rig::{BenchPool, POOL_MEMORY, clear_dead};
use super::process::ms;
use super::report::{Figures, Row, Rows, Unit};
use super::rig::{Rig, in_turn, kill, succeeded};
use super::targets;
use super::{pool_crowd, pool_ledger};
use std::sync::Arc;
use std::time::Instant;
use vmint::{Command, Lease, Vmint};
use vmint_model::{ErrorKind, Fault};
use vmint_runner::bringup::warm_up;
use vmint_runner::machine::start_deadline;
use vmint_store::Store;

const ARGV: [&str; 1] = ["true"];

/// All of `bench pool`.
pub(crate) async fn pool(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let vmint = Arc::new(Vmint::open(rig.vmint.options().clone())?);
    clear_dead(&vmint).await?;
    rig.template(POOL_MEMORY).await?;
    acquire(rig, rows).await?;
    first_result(rig, rows).await?;
    reset_with(rig, rows).await?;
    reset_without(rig, rows).await?;
    fill(rig, rows).await?;
    rig.progress.stage("pool: machines in the ledger alone");
    pool_ledger::ledger(rig, rows)?;
    pool_crowd::crowd(rig, rows).await
}

fn stage(rig: &Rig<'_>, what: &str) {
    rig.progress.stage(&format!("pool: {what}"));
}

/// One of a distribution's percentiles as a row of its own, against the other's median.
pub(crate) fn tail(what: &str, samples: &[f64], percentile: f64) -> Row {
    let n = samples.len();
    Row::new("pool", what, Unit::Milliseconds, &[percentile])
        .note(format!("the 99th percentile of {n} samples, as one"))
}

/// A ready machine, lent in process, against an empty transaction on the same store.
async fn acquire(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "acquire against an empty transaction");
    let pool = BenchPool::new(rig, 4, 4, 1).await?;
    let mut store =
        Store::open(rig.vmint.home()).map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    let n = rig.count(200, 20);
    let (mut acquired, mut empty) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let acquire = async || {
        pool.settled().await?;
        let began = Instant::now();
        let lease = pool.acquire().await?;
        let elapsed = ms(began.elapsed());
        lease.release()?;
        Ok::<_, Fault>(elapsed)
    };
    let mut transaction = || {
        let began = Instant::now();
        store
            .nothing()
            .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        Ok::<_, Fault>(ms(began.elapsed()))
    };
    acquire().await?;
    transaction()?;
    for _ in 0..n {
        acquired.push(acquire().await?);
        // At rest, as it was for the lease.
        pool.settled().await?;
        empty.push(transaction()?);
    }
    pool.remove().await?;
    let what = "acquire of a ready machine, in process";
    let floor = "an empty immediate transaction on the same store";
    let row = Row::new("pool", what, Unit::Milliseconds, &acquired);
    let p99 = row.figures.p99;
    rows.push(row.clone().floor(floor, &empty).target(targets::ACQUIRE));
    rows.push(
        Row {
            what: format!("{what}, in all"),
            ..row
        }
        .target(targets::ACQUIRE_TIME),
    );
    let empty = Figures::of(Unit::Milliseconds, &empty).p50;
    let worst = tail("acquire of a ready machine, p99", &acquired, p99);
    rows.push(
        worst
            .clone()
            .floor("median of the empty transaction", &[empty])
            .target(targets::ACQUIRE_P99),
    );
    rows.push(
        Row {
            what: "acquire of a ready machine, p99, in all".into(),
            ..worst
        }
        .target(targets::ACQUIRE_P99_TIME),
    );
    Ok(())
}

async fn execute(lease: &Lease) -> Result<(), Fault> {
    let output = lease.output(Command::new(ARGV)).await?;
    succeeded(output.status, &ARGV, &output.stderr)
}

/// From the call of acquire to the first command's result, against a command in a machine that is held.
async fn first_result(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "acquire to the first result against exec");
    let pool = BenchPool::new(rig, 4, 4, 1).await?;
    let held = pool.acquire().await?;
    for _ in 0..20 {
        execute(&held).await?;
    }
    let n = rig.count(100, 10);
    let (firsts, execs) = in_turn(
        n,
        async || {
            pool.settled().await?;
            let began = Instant::now();
            let lease = pool.acquire().await?;
            execute(&lease).await?;
            let elapsed = ms(began.elapsed());
            lease.release()?;
            Ok(elapsed)
        },
        async || {
            pool.settled().await?;
            let began = Instant::now();
            execute(&held).await?;
            Ok(ms(began.elapsed()))
        },
    )
    .await?;
    held.release()?;
    pool.remove().await?;
    let what = "acquire to the first result of `true`";
    rows.push(
        Row::new("pool", what, Unit::Milliseconds, &firsts)
            .floor("the same command in a machine that is held", &execs)
            .target(targets::FIRST_RESULT),
    );
    Ok(())
}

/// A reset that swaps in a standby, until the machine is ready for a command, against a command.
async fn reset_with(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "reset with a standby against exec");
    let pool = BenchPool::new(rig, 1, 1, 1).await?;
    let lease = pool.acquire().await?;
    let n = rig.count(100, 10);
    let (resets, execs) = in_turn(
        n,
        async || {
            pool.settled().await?;
            let began = Instant::now();
            lease.reset().await?;
            Ok(ms(began.elapsed()))
        },
        async || {
            pool.settled().await?;
            // The first command in a fork is slower; a round trip is what a warm machine takes.
            execute(&lease).await?;
            let began = Instant::now();
            execute(&lease).await?;
            Ok(ms(began.elapsed()))
        },
    )
    .await?;
    lease.release()?;
    pool.remove().await?;
    let what = "reset with a standby, until ready for a command";
    let row = Row::new("pool", what, Unit::Milliseconds, &resets);
    rows.push(
        row.clone()
            .floor("a command's round trip in the same machine", &execs)
            .target(targets::RESET),
    );
    rows.push(
        Row {
            what: format!("{what}, in all"),
            ..row
        }
        .target(targets::RESET_TIME),
    );
    Ok(())
}

/// A reset that forks anew, against a fork without a runner that is brought to the same point: it has its identity, and
/// has run a shell once, as every machine of a pool before it is lent.
async fn reset_without(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    stage(rig, "reset without a standby against a fork");
    let pool = BenchPool::new(rig, 1, 1, 0).await?;
    let lease = pool.acquire().await?;
    let template = rig.template(POOL_MEMORY).await?;
    let mut cold = Vec::new();
    let (resets, forks) = in_turn(
        rig.count(40, 5),
        async || {
            let began = Instant::now();
            lease.reset().await?;
            Ok(ms(began.elapsed()))
        },
        async || {
            let began = Instant::now();
            let mut live = rig.live(&template).await?;
            cold.push(ms(began.elapsed()));
            let deadline = start_deadline(rig.host.accelerator, vmint_model::Boot::Fork);
            let deadline = tokio::time::Instant::now() + deadline;
            warm_up(&mut live, &rig.scratch("console.log"), deadline).await?;
            let elapsed = ms(began.elapsed());
            drop(live.session);
            kill(live.hypervisor).await?;
            Ok(elapsed)
        },
    )
    .await?;
    lease.release()?;
    pool.remove().await?;
    let what = "reset without a standby, until ready for a command";
    let row = Row::new("pool", what, Unit::Milliseconds, &resets);
    rows.push(
        row.clone()
            .floor(
                "a fork with its identity and warm, without a runner",
                &forks,
            )
            .target(targets::RESET_ALONE),
    );
    // The first one is not counted among the others, either.
    rows.push(row.floor(
        "a fork with its identity, not warmed up: for comparison",
        &cold[1..],
    ));
    Ok(())
}

/// Eight machines, all at once against one after the other.
async fn fill(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    const COUNT: u32 = 8;
    stage(rig, "filling 8 machines");
    let (one_by_one, at_once) = in_turn(
        rig.count(5, 1),
        async || {
            let pool = BenchPool::begin(rig, 0, COUNT, 0).await?;
            let began = Instant::now();
            for n in 1..=COUNT {
                let (_, filled) = pool
                    .vmint
                    .resize_pool(pool.name(), Some(n), None, rig.progress)
                    .await?;
                if filled.made != 1 {
                    let message = format!("{} machines were made instead of 1", filled.made);
                    return Err(Fault::new(ErrorKind::Internal, message));
                }
            }
            let elapsed = ms(began.elapsed());
            pool.remove().await?;
            Ok(elapsed)
        },
        async || {
            let pool = BenchPool::begin(rig, 0, COUNT, 0).await?;
            let began = Instant::now();
            pool.vmint
                .resize_pool(pool.name(), Some(COUNT), None, rig.progress)
                .await?;
            let elapsed = ms(began.elapsed());
            pool.settled().await?;
            pool.remove().await?;
            Ok(elapsed)
        },
    )
    .await?;
    rows.push(
        Row::new(
            "pool",
            format!("filling {COUNT} machines one after the other"),
            Unit::Milliseconds,
            &one_by_one,
        )
        .floor("at once", &at_once)
        .target(targets::FILL),
    );
    Ok(())
}
