//! `pool`, `lease`, `with`.

#[cfg(test)]
use super::schema::foreign;
use crate::args::pool as args;
use crate::context::{self, Context};
use crate::output::{self, age, table, time};
use crate::view::{Each, Failed};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use vmint::config::{Config, PoolDefinition};
use vmint::{
    Acquire, ByteSize, ErrorKind, Fault, Filled, InLine, LeaseRecord, Name, Owner, PoolSpec,
    PoolStatus, ProcessRef, Slot, Vmint,
};

/// A pool.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Pool"))]
pub(super) struct PoolView<'a> {
    name: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::PoolState"))]
    state: &'static str,
    image: &'a str,
    #[cfg_attr(test, schemars(with = "Option<foreign::Accelerator>"))]
    accelerator: Option<&'static str>,
    memory: u64,
    cpus: u32,
    #[cfg_attr(test, schemars(with = "Option<foreign::Limits>"))]
    limits: Option<vmint::Limits>,
    #[cfg_attr(test, schemars(with = "foreign::NetMode"))]
    net: &'a vmint::NetMode,
    min: u32,
    max: u32,
    standby: u32,
    ttl_ms: Option<u64>,
    max_uses: Option<u32>,
    alive: u32,
    ready: u32,
    leased: u32,
    resetting: u32,
    filling: u32,
    retiring: u32,
    waiting: u32,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    created_at: String,
}

impl<'a> PoolView<'a> {
    fn of(status: &'a PoolStatus, vmint: &Vmint) -> Self {
        let (pool, spec, counts) = (&status.pool, &status.pool.spec, &status.counts);
        let machines = vmint.machines().unwrap_or_default();
        let mut mine = machines
            .iter()
            .filter(|m| m.pool.as_ref() == Some(&pool.name));
        Self {
            name: pool.name.as_str(),
            state: pool.state.as_str(),
            image: &spec.image,
            accelerator: mine
                .find_map(|m| m.accelerator)
                .map(vmint::Accelerator::as_str),
            memory: spec.memory.0,
            cpus: spec.cpus,
            limits: Some(spec.limits).filter(|limits| !limits.is_none()),
            net: &spec.net,
            min: spec.min,
            max: spec.max,
            standby: spec.standby,
            ttl_ms: spec.ttl_ms,
            max_uses: spec.max_uses,
            alive: counts.alive(),
            ready: counts.ready,
            leased: counts.leased,
            resetting: counts.resetting,
            filling: counts.filling,
            retiring: counts.retiring,
            waiting: counts.waiting,
            created_at: time(pool.created_at_ms),
        }
    }

    fn text(&self) -> String {
        let accelerator = self
            .accelerator
            .map(|a| format!(", {a}"))
            .unwrap_or_default();
        format!(
            "pool {} of {} ({}{accelerator}): {} of at most {} machines, {} ready, {} leased, {} waiting",
            self.name,
            self.image,
            self.state,
            self.alive,
            self.max,
            self.ready,
            self.leased,
            self.waiting
        )
    }
}

fn pool_rows(views: &[PoolView<'_>]) -> String {
    let headings = [
        "POOL",
        "STATE",
        "IMAGE",
        "ACCELERATOR",
        "MEMORY",
        "MIN",
        "MAX",
        "READY",
        "LENT",
        "RESETTING",
        "FILLING",
        "WAITING",
        "CREATED",
    ];
    let row = |v: &PoolView<'_>| {
        [
            v.name.to_owned(),
            v.state.to_owned(),
            v.image.to_owned(),
            v.accelerator.unwrap_or_default().to_owned(),
            ByteSize(v.memory).to_string(),
            v.min.to_string(),
            v.max.to_string(),
            v.ready.to_string(),
            v.leased.to_string(),
            v.resetting.to_string(),
            v.filling.to_string(),
            v.waiting.to_string(),
            v.created_at.clone(),
        ]
    };
    table(headings, views.iter().map(row))
}

/// A machine of a pool.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Slot"))]
pub(super) struct SlotView<'a> {
    machine: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::SlotState"))]
    state: &'static str,
    generation: u64,
    uses: u32,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    since: String,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    created_at: String,
    lease: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "Option<foreign::Owner>"))]
    owner: Option<&'a Owner>,
    label: Option<&'a str>,
}

/// A lease.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Lease"))]
pub(super) struct LeaseView<'a> {
    lease: &'a str,
    pool: &'a str,
    machine: &'a str,
    generation: u64,
    /// What names the machine at this generation and no other.
    handle: String,
    #[cfg_attr(test, schemars(with = "foreign::Owner"))]
    owner: &'a Owner,
    label: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    granted_at: String,
    waited_ms: i64,
    #[cfg_attr(test, schemars(with = "Option<foreign::Time>"))]
    expires_at: Option<String>,
    ended: Option<EndView<'a>>,
}

/// How a lease ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "LeaseEnded"))]
pub(super) struct EndView<'a> {
    #[cfg_attr(test, schemars(with = "foreign::LeaseEnd"))]
    how: &'static str,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    at: String,
    detail: Option<&'a str>,
}

impl<'a> From<&'a LeaseRecord> for LeaseView<'a> {
    fn from(lease: &'a LeaseRecord) -> Self {
        Self {
            lease: lease.id.as_str(),
            pool: lease.pool.as_str(),
            machine: lease.machine.as_str(),
            generation: lease.generation.0,
            handle: lease.handle(),
            owner: &lease.owner,
            label: lease.label.as_deref(),
            granted_at: time(lease.granted_at_ms),
            waited_ms: lease.waited_ms,
            expires_at: lease.expires_at_ms.map(time),
            ended: lease.ended.as_ref().map(|e| EndView {
                how: e.how.as_str(),
                at: time(e.at_ms),
                detail: e.detail.as_deref(),
            }),
        }
    }
}

/// Somebody in line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Waiter"))]
pub(super) struct WaiterView<'a> {
    lease: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::Owner"))]
    owner: &'a Owner,
    label: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    since: String,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    deadline: String,
}

impl<'a> From<&'a InLine> for WaiterView<'a> {
    fn from(waiter: &'a InLine) -> Self {
        Self {
            lease: waiter.lease.as_str(),
            owner: &waiter.owner,
            label: waiter.label.as_deref(),
            since: time(waiter.since_ms),
            deadline: time(waiter.deadline_ms),
        }
    }
}

/// A pool with its machines, and who waits for one.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PoolStatus"))]
pub(super) struct StatusView<'a> {
    #[serde(flatten)]
    pool: PoolView<'a>,
    machines: Vec<SlotView<'a>>,
    /// The first in line first.
    waiters: Vec<WaiterView<'a>>,
}

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

fn slot_rows(rows: &[(Slot, Option<LeaseRecord>)]) -> String {
    let headings = [
        "MACHINE", "STATE", "FOR", "GEN", "USES", "AGE", "LEASE", "OWNER", "LABEL",
    ];
    let row = |(slot, lease): &(Slot, Option<LeaseRecord>)| {
        let lease = lease.as_ref();
        [
            slot.machine.to_string(),
            slot.state.to_string(),
            age(slot.since_ms),
            slot.generation.to_string(),
            slot.uses.to_string(),
            age(slot.born_at_ms),
            lease.map(|l| l.id.to_string()).unwrap_or_default(),
            lease.map(|l| l.owner.to_string()).unwrap_or_default(),
            label(lease.and_then(|l| l.label.as_deref())),
        ]
    };
    table(headings, rows.iter().map(row))
}

fn waiter_rows(waiters: &[&InLine]) -> String {
    let row = |w: &&InLine| {
        [
            w.owner.to_string(),
            age(w.since_ms),
            label(w.label.as_deref()),
        ]
    };
    table(["OWNER", "WAITS FOR", "LABEL"], waiters.iter().map(row))
}

/// A user's words, as a terminal may show them.
fn label(text: Option<&str>) -> String {
    text.map(output::printable).unwrap_or_default()
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
    super::removal::each(context, &args.names, |name| {
        context::wait(vmint.remove_pool(name, args.force, args.timeout))
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

/// `vmint lease`.
pub fn lease(context: Context, args: args::Lease) -> Result<u8, Fault> {
    match args {
        args::Lease::Acquire(args) => acquire(context, args).map(|()| 0),
        args::Lease::Release(args) => release(context, &args),
        args::Lease::Renew(args) => {
            let vmint = context.open()?;
            let lease = vmint.renew_lease(&args.lease, false)?;
            show_lease(context, &lease).map(|()| 0)
        }
        args::Lease::Ls => leases(context).map(|()| 0),
    }
}

fn lend(
    context: Context,
    pool: &str,
    how: args::How,
    ttl: Option<std::time::Duration>,
    owner: Owner,
) -> Result<(Arc<Vmint>, LeaseRecord), Fault> {
    let mut config = context::config()?;
    if let Some(on_pressure) = how.on_pressure {
        config.admission.terms.on_pressure = on_pressure;
    }
    let vmint = Arc::new(context.open_with(context::options(&config)?)?);
    let how = Acquire {
        label: how.label,
        timeout: how.timeout,
        ttl,
        owner: Some(owner),
        wait: !how.no_wait,
    };
    let lease = context::wait(async {
        let progress = context.progress();
        let ensured = vmint.ensure_declared_pool(&config, pool, &progress).await;
        progress.finish();
        ensured?;
        let pool = vmint.pool(pool)?;
        let say = |line: String| context.note(&line);
        pool.acquire_saying(how, &say).await.map(vmint::Lease::keep)
    })?;
    vmint::pools::wait_for_tenders();
    Ok((vmint, lease))
}

fn acquire(context: Context, args: args::Acquire) -> Result<(), Fault> {
    let owner = match (args.client, args.heartbeat) {
        (Some(name), Some(heartbeat)) => Owner::Client {
            name,
            heartbeat_ms: heartbeat.as_millis() as u64,
        },
        _ => Owner::Process(owner(args.owner_pid)?),
    };
    let (vmint, lease) = lend(context, &args.pool, args.how, args.ttl, owner)?;
    // For scripts before people, as the contract says.
    let json = serde_json::to_string(&LeaseView::from(&lease))
        .map_err(|e| Fault::from_error(ErrorKind::Internal, &e))?;
    // A lease that nobody was told of is nobody's.
    output::line(&output::printable_json(&json)).inspect_err(|_| {
        let _ = vmint.release_lease(&lease.id, false);
    })
}

/// The process with this id, or the one that called this one.
fn owner(pid: Option<u32>) -> Result<ProcessRef, Fault> {
    let pid = pid.unwrap_or_else(std::os::unix::process::parent_id);
    let found = vmint::process(pid)?;
    found.ok_or_else(|| {
        Fault::new(ErrorKind::NotFound, format!("there is no process {pid}"))
            .hint("the lease ends with the process that --owner-pid names; give one that runs")
    })
}

fn release(context: Context, args: &args::Release) -> Result<u8, Fault> {
    let vmint = context.open()?;
    let (mut all, mut code) = (Vec::new(), 0);
    for lease in &args.leases {
        let released = vmint.release_lease(lease, args.force);
        if let Err(fault) = &released {
            crate::failure::tell(fault);
            if code == 0 {
                code = fault.kind.exit_code();
            }
        }
        all.push((lease, released));
    }
    let views: Vec<_> = all
        .iter()
        .map(|(lease, released)| match released {
            Ok(lease) => Each::Done(LeaseView::from(lease)),
            Err(error) => Each::Failed(Failed {
                name: lease.to_string(),
                error: error.clone(),
            }),
        })
        .collect();
    context.show(&views, || {
        let ended = all
            .iter()
            .filter_map(|(_, released)| released.as_ref().ok());
        let told = ended.map(|l| format!("{} is released", l.id));
        told.collect::<Vec<_>>().join("\n")
    })?;
    Ok(code)
}

fn show_lease(context: Context, lease: &LeaseRecord) -> Result<(), Fault> {
    let view = LeaseView::from(lease);
    context.show(&view, || match &view.expires_at {
        Some(at) => format!("{} is renewed until {at}", lease.id),
        None => format!("{} is renewed; it has no time limit", lease.id),
    })
}

fn leases(context: Context) -> Result<(), Fault> {
    let leases = context.open()?.leases()?;
    let views: Vec<_> = leases.iter().map(LeaseView::from).collect();
    context.list(
        &views,
        |view| view.lease,
        || {
            let headings = [
                "LEASE", "POOL", "MACHINE", "GEN", "OWNER", "LABEL", "HELD FOR", "EXPIRES",
            ];
            let row = |lease: &LeaseRecord| {
                [
                    lease.id.to_string(),
                    lease.pool.to_string(),
                    lease.machine.to_string(),
                    lease.generation.to_string(),
                    lease.owner.to_string(),
                    label(lease.label.as_deref()),
                    age(lease.granted_at_ms),
                    lease.expires_at_ms.map(time).unwrap_or_default(),
                ]
            };
            table(headings, leases.iter().map(row))
        },
    )
}

/// `vmint with`. The lease belongs to this process, which becomes the command: they end as one, and there is nobody
/// between them who could die alone.
pub fn with(context: Context, args: args::With) -> Result<u8, Fault> {
    let me = vmint::process(std::process::id())?
        .ok_or_else(|| Fault::new(ErrorKind::Host, "/proc does not show this process"))?;
    let (vmint, lease) = lend(context, &args.pool, args.how, None, Owner::Process(me))?;
    let (program, arguments) = args.command.split_first().expect("clap asks for one");
    #[expect(
        clippy::disallowed_methods,
        reason = "like env and flock, it hands on all that it was given: the command is the user's"
    )]
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env("VMINT_HOME", vmint.home().root())
        .env("VMINT_MACHINE", lease.machine.as_str())
        .env("VMINT_LEASE", lease.id.as_str());
    let e = command.exec();
    let kind = match e.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::CommandNotFound,
        _ => ErrorKind::CommandNotExecutable,
    };
    let _ = vmint.release_lease(&lease.id, true);
    let program = program.to_string_lossy();
    Err(Fault::new(kind, format!("cannot execute {program:?}: {e}")))
}
