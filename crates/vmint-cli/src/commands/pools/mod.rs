//! `pool`; `lease` and `with` are in `leases`, and what all of them print in `views`.

mod leases;
mod views;

pub use leases::{lease, with};
#[cfg(test)]
pub(super) use views::LeaseView;
pub(super) use views::{PoolView, StatusView};

use crate::args::pool as args;
use crate::context::{self, Context};
use crate::output::time;
use std::collections::BTreeMap;
use std::sync::Arc;
use views::{SlotView, WaiterView, pool_rows, slot_rows, waiter_rows};
use vmint::config::{Config, PoolDefinition};
use vmint::{ErrorKind, Fault, Filled, Force, Name, PoolSpec, PoolStatus, Slot, Vmint};

/// `vmint pool`.
pub fn pool(context: Context, args: args::Pool) -> Result<u8, Fault> {
    match args {
        args::Pool::Create(args) => create(context, args),
        args::Pool::Ls => ls(context).map(|()| 0),
        args::Pool::Status(args) => status(context, &args.name).map(|()| 0),
        args::Pool::Resize(args) => resize(context, &args),
        args::Pool::Drain(args) => drain(context, &args).map(|()| 0),
        args::Pool::Rm(args) => remove(context, &args),
        args::Pool::Tend(args) => tend(context, &args).map(|()| 0),
    }
}

/// What the flags say, else `vmint.toml`, else the defaults.
fn spec(args: &args::Create, config: &Config) -> PoolSpec {
    let declared = config.pools.get(&args.name).map(PoolDefinition::spec);
    let base = declared.unwrap_or_else(|| PoolSpec {
        memory: config.defaults.memory,
        cpus: config.defaults.cpus,
        net: config.defaults.net.clone(),
        limits: config.defaults.limits,
        ..PoolSpec::of(config.defaults.image.to_string())
    });
    let max = args
        .max
        .unwrap_or_else(|| base.max.max(args.min.unwrap_or(0)));
    PoolSpec {
        image: args.image.clone().unwrap_or(base.image),
        memory: args.hardware.memory.unwrap_or(base.memory),
        cpus: args.hardware.cpus.unwrap_or(base.cpus),
        net: args.hardware.net_or(&base.net),
        limits: args.limits.given().or(base.limits),
        min: args.min.unwrap_or_else(|| base.min.min(max)),
        max,
        standby: args.standby.unwrap_or(base.standby),
        ttl_ms: args.ttl.map(|ttl| ttl.as_millis() as u64).or(base.ttl_ms),
        max_uses: args.max_uses.or(base.max_uses),
    }
}

fn create(context: Context, args: args::Create) -> Result<u8, Fault> {
    let (vmint, config) = context.open_configured()?;
    let vmint = Arc::new(vmint);
    let progress = context.progress();
    let spec = spec(&args, &config);
    let made = context::wait(async {
        vmint
            .ensure_declared(&config, &spec.image, &progress)
            .await?;
        vmint.create_pool(&args.name, spec, &progress).await
    });
    progress.finish();
    let (status, filled) = made?;
    told(context, &vmint, &status, &filled)
}

/// Prints a pool that was filled; what failed is on standard error, and makes the exit code that of the first failure.
fn told(
    context: Context,
    vmint: &Vmint,
    status: &PoolStatus,
    filled: &Filled,
) -> Result<u8, Fault> {
    let view = PoolView::of(status, vmint);
    context.show(&view, || view.text())?;
    for fault in &filled.failed {
        crate::failure::tell(fault);
    }
    Ok(filled
        .failed
        .first()
        .map_or(0, |fault| fault.kind.exit_code()))
}

fn ls(context: Context) -> Result<(), Fault> {
    let vmint = context.open()?;
    vmint.tend_missing()?;
    let pools = vmint.pools()?;
    let views: Vec<_> = pools.iter().map(|p| PoolView::of(p, &vmint)).collect();
    context.list(&views, |pool| pool.name, || pool_rows(&views))
}

fn status(context: Context, name: &Name) -> Result<(), Fault> {
    let vmint = context.open()?;
    vmint.tend_missing()?;
    let pool = vmint.pool_status(name)?;
    let (slots, leases, waiters) = (vmint.slots(Some(name))?, vmint.leases()?, vmint.waiters()?);
    let leases: BTreeMap<_, _> = leases.iter().map(|l| (&l.machine, l)).collect();
    let view = |slot: &'_ Slot| {
        let lease = leases.get(&slot.machine).copied();
        (slot.clone(), lease.cloned())
    };
    let rows: Vec<_> = slots.iter().map(view).collect();
    let machines = rows.iter().map(|(slot, lease)| SlotView {
        machine: slot.machine.as_str(),
        state: slot.state.as_str(),
        generation: slot.generation.0,
        uses: slot.uses,
        since: time(slot.since_ms),
        created_at: time(slot.born_at_ms),
        lease: lease.as_ref().map(|l| l.id.as_str()),
        owner: lease.as_ref().map(|l| &l.owner),
        label: lease.as_ref().and_then(|l| l.label.as_deref()),
    });
    let waiters: Vec<_> = waiters.iter().filter(|w| w.pool == *name).collect();
    let whole = StatusView {
        pool: PoolView::of(&pool, &vmint),
        machines: machines.collect(),
        waiters: waiters.iter().map(|w| WaiterView::from(*w)).collect(),
    };
    context.show(&whole, || {
        let mut text = whole.pool.text();
        if !rows.is_empty() {
            text.push_str("\n\n");
            text.push_str(&slot_rows(&rows));
        }
        if !waiters.is_empty() {
            text.push_str("\n\nQueue:\n");
            text.push_str(&waiter_rows(&waiters));
        }
        text
    })
}

fn resize(context: Context, args: &args::Resize) -> Result<u8, Fault> {
    if args.min.is_none() && args.max.is_none() {
        let message = "nothing to change: give --min, --max or both";
        return Err(Fault::new(ErrorKind::Usage, message));
    }
    let (vmint, _) = context.open_configured()?;
    let vmint = Arc::new(vmint);
    let progress = context.progress();
    let made = context::wait(vmint.resize_pool(&args.name, args.min, args.max, &progress));
    progress.finish();
    let (status, filled) = made?;
    told(context, &vmint, &status, &filled)
}

fn drain(context: Context, args: &args::Drain) -> Result<(), Fault> {
    let vmint = Arc::new(context.open()?);
    let status = context::wait(vmint.drain_pool(&args.name, args.wait))?;
    let view = PoolView::of(&status, &vmint);
    context.show(&view, || view.text())
}

fn remove(context: Context, args: &args::Remove) -> Result<u8, Fault> {
    let vmint = Arc::new(context.open()?);
    crate::commands::removal::each(context, &args.names, |name| {
        context::wait(vmint.remove_pool(name, Force::when(args.force), args.timeout))
    })
}

/// Fills a pool, unless another process is at it.
fn tend(context: Context, args: &args::Tend) -> Result<(), Fault> {
    if args.detach {
        return vmint::pools::detach_tending(&args.name);
    }
    let (vmint, _) = context.open_configured()?;
    let vmint = Arc::new(vmint);
    context::wait(async {
        let filled = vmint.tend_pool(&args.name).await?;
        match filled.failed.into_iter().next() {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    })
}
