//! Ten thousand machines that are rows in a ledger of their own, and nothing else: what a lease costs when there are many.

use super::pool::tail;
use super::process::ms;
use super::report::{Row, Rows, Unit};
use super::rig::Rig;
use super::targets;
use std::time::Instant;
use vmint_model::{
    By, Claim, Claimed, ErrorKind, Fault, Generation, LeaseEnd, LeaseId, LedgerError, Name, Owner,
    PoolRecord, PoolSpec, ProcessRef,
};
use vmint_store::store::PATIENCE;
use vmint_store::{Moment, Store, now, process};

const POOLS: usize = 50;
const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// A lease of one of 10,000 machines, and how its cost grows with their number.
pub(crate) fn ledger(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let n = rig.count(5_000, 500);
    let mut all = Vec::new();
    for size in SIZES {
        let path = rig.scratch(&format!("ledger-{size}.db"));
        let mut store = Store::open_file(&path, PATIENCE)
            .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        all.push(claims(&mut store, size, n)?);
    }
    let [few, some, many] = all.as_slice() else {
        unreachable!("there are three sizes")
    };
    let what = |size: usize| format!("claim with {size} machines in {POOLS} pools in the ledger");
    let row = Row::new("pool", what(SIZES[2]), Unit::Milliseconds, many);
    let p99 = row.figures.p99;
    // From 100 to 10,000 the logarithm doubles, and to 1,000 it is half as much again.
    for (samples, size, growth) in [
        (some, SIZES[1], targets::CLAIM_GROWTH),
        (many, SIZES[2], targets::CLAIM_GROWTH_MOST),
    ] {
        rows.push(
            Row::new("pool", what(size), Unit::Milliseconds, samples)
                .floor(format!("with {} machines", SIZES[0]), few)
                .target(growth),
        );
    }
    rows.push(tail(&format!("{}, p99", what(SIZES[2])), many, p99).target(targets::CLAIM));
    Ok(())
}

/// What claims take, each of another pool than the one before.
fn claims(store: &mut Store, size: usize, n: usize) -> Result<Vec<f64>, Fault> {
    let own = process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    let names = (0..POOLS).map(|n| format!("pool-{n}").parse());
    let names: Vec<Name> = names.collect::<Result<_, _>>().expect("legal names");
    let each = (size / POOLS) as u32;
    for name in &names {
        let spec = PoolSpec {
            min: each,
            max: each,
            ..PoolSpec::of("tiny")
        };
        store.create_pool(&PoolRecord::new(name.clone(), spec, now().wall_ms))?;
        let reserved = store.reserve_slots(name, &own, each, now())?;
        for machine in &reserved.machines {
            store.slot_ready(machine, Generation(1), Moment::now())?;
        }
    }
    let mut samples = Vec::with_capacity(n);
    for i in 0..n {
        samples.push(one(store, &names[i % POOLS], &own)?);
    }
    Ok(samples)
}

/// A claim timed, then given back and made ready again.
fn one(store: &mut Store, pool: &Name, own: &ProcessRef) -> Result<f64, LedgerError> {
    let claim = Claim {
        lease: LeaseId::random(),
        pool: pool.clone(),
        owner: Owner::Process(own.clone()),
        label: None,
        ttl_ms: None,
        wait: None,
    };
    let began = Instant::now();
    let (claimed, _) = store.claim(&claim, Moment::now())?;
    let elapsed = ms(began.elapsed());
    let Claimed::Leased { lease, .. } = claimed else {
        let message = format!("pool {pool} had no machine ready");
        return Err(LedgerError::Failed(Fault::new(
            ErrorKind::Internal,
            message,
        )));
    };
    let how = LeaseEnd::Released;
    store.end_lease(&lease.id, By::Anybody, how, None, now())?;
    let next = Generation(lease.generation.0 + 1);
    store.slot_ready(&lease.machine, next, Moment::now())?;
    Ok(elapsed)
}
