//! `lease`, `with`.

use super::views::{LeaseView, label};
use crate::args::pool as args;
use crate::context::{self, Context};
use crate::output::{self, age, table, time};
use crate::view::{Each, Failed};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use vmint::{Acquire, ErrorKind, Fault, Force, LeaseRecord, Options, Owner, ProcessRef, Vmint};

/// `vmint lease`.
pub fn lease(context: Context, args: args::Lease) -> Result<u8, Fault> {
    match args {
        args::Lease::Acquire(args) => acquire(context, args).map(|()| 0),
        args::Lease::Release(args) => release(context, &args),
        args::Lease::Renew(args) => {
            let vmint = Arc::new(context.open()?);
            let lease = vmint.renew_lease(&args.lease, Force::No)?;
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
    let vmint = Arc::new(context.open_with(Options::from_config(&config)?)?);
    let how = Acquire {
        label: how.label,
        timeout: how.timeout,
        ttl,
        owner: Some(owner),
        wait: !how.no_wait,
        keep_lost: how.keep_lost,
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
        let _ = vmint.release_lease(&lease.id, Force::No);
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
    let vmint = Arc::new(context.open()?);
    let (mut all, mut code) = (Vec::new(), 0);
    for lease in &args.leases {
        let released = vmint.release_lease(lease, Force::when(args.force));
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
    let _ = vmint.release_lease(&lease.id, Force::Yes);
    let program = program.to_string_lossy();
    Err(Fault::new(kind, format!("cannot execute {program:?}: {e}")))
}
