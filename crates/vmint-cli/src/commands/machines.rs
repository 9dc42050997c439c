//! Commands for one machine or more.

use super::undo;
use crate::args::Format;
use crate::args::machine as args;
use crate::context::{self, Context};
use crate::exit::{Codes, exit_code};
use crate::failure::tell;
use crate::view::{Each, Failed};
use crate::{output, view};
use serde::Serialize;
use serde_json::json;
use std::io::IsTerminal;
use std::time::Duration;
use vmint::{
    Fault, Force, MachineRecord, NewMachine, Origin, Progress, StopHow, StopOptions, Stopped,
    WaitFor,
};

/// `vmint create`.
pub fn create(context: Context, args: args::Create) -> Result<(), Fault> {
    let (vmint, config) = context.open_configured()?;
    let image = args
        .image
        .clone()
        .unwrap_or_else(|| config.defaults.image.to_string());
    let origin = match args.from {
        Some(snapshot) if args.cold => Origin::Disk(snapshot),
        Some(snapshot) => Origin::Snapshot(snapshot),
        None if args.cold => Origin::Cold,
        None => Origin::Template,
    };
    let new = NewMachine {
        name: Some(args.name.clone()),
        memory: args.hardware.memory.unwrap_or(config.defaults.memory),
        cpus: args.hardware.cpus.unwrap_or(config.defaults.cpus),
        net: args.hardware.net_or(&config.defaults.net),
        limits: args.limits.given().or(config.defaults.limits),
        publish: args.publish,
        origin,
        disk_cache: args.disk_cache,
        ..NewMachine::of(&image)
    };
    let is_of_image = new.origin.snapshot().is_none();
    let progress = context.progress();
    let name = args.name.clone();
    let made = undo::wait(
        &vmint,
        |record| args.start && record.name == name && undo::is_coming_up(record),
        async {
            if is_of_image {
                vmint.ensure_declared(&config, &image, &progress).await?;
            }
            let made = if args.start {
                vmint.create_running(new, &progress).await
            } else {
                vmint.create(new, &progress).await
            };
            made.map(|record| vec![record])
        },
    );
    progress.finish();
    let Some(record) = made?.pop() else {
        return Ok(());
    };
    context.show(&view::Machine::from(&record), || view::brief(&record))
}

/// What was done with one of several machines.
#[derive(Serialize)]
#[serde(untagged)]
enum Done<'a> {
    Machine(Box<view::Machine<'a>>),
    Stopped(Box<view::StoppedMachine<'a>>),
    Removed(view::Removed),
}

/// What became of one of several machines.
enum Outcome {
    Is(Box<MachineRecord>),
    Stopped(Box<Stopped>),
    Gone,
}

impl Outcome {
    fn machine(&self) -> Option<&MachineRecord> {
        match self {
            Self::Is(record) => Some(record),
            Self::Stopped(stopped) => Some(&stopped.machine),
            Self::Gone => None,
        }
    }
}

/// Does something with each of several machines. The failure of one keeps no other from it; the exit code is that of the
/// first one.
fn each(
    context: Context,
    names: &[String],
    work: impl AsyncFn(&str) -> Result<Outcome, Fault>,
    text: impl Fn(&MachineRecord) -> String,
) -> Result<u8, Fault> {
    let mut results = Vec::with_capacity(names.len());
    context::wait(async {
        for name in names {
            let result = work(name).await;
            if let Err(fault) = &result {
                tell(fault);
            }
            if let (Ok(outcome), Format::Table) = (&result, context.format)
                && let Some(record) = outcome.machine()
            {
                let text = text(record);
                if !text.is_empty() {
                    output::line(&output::printable(&text))?;
                }
            }
            results.push((name, result));
        }
        Ok(())
    })?;
    if context.format == Format::Json {
        let done: Vec<_> = results
            .iter()
            .map(|(name, result)| match result {
                Ok(Outcome::Is(record)) => Each::Done(Done::Machine(Box::new((&**record).into()))),
                Ok(Outcome::Stopped(stopped)) => {
                    Each::Done(Done::Stopped(Box::new(view::StoppedMachine {
                        machine: (&stopped.machine).into(),
                        forced: stopped.forced,
                    })))
                }
                Ok(Outcome::Gone) => Each::Done(Done::Removed(view::Removed::of((*name).clone()))),
                Err(fault) => Each::Failed(Failed {
                    name: (*name).clone(),
                    error: fault.clone(),
                }),
            })
            .collect();
        output::json(&done)?;
    }
    let first = results.iter().find_map(|(_, result)| result.as_ref().err());
    Ok(first.map_or(0, |fault| exit_code(fault.kind, Codes::Own)))
}

fn nothing(_: &MachineRecord) -> String {
    String::new()
}

fn is(record: MachineRecord) -> Outcome {
    Outcome::Is(Box::new(record))
}

/// `vmint start`.
pub fn start(context: Context, args: &args::Names) -> Result<u8, Fault> {
    let (vmint, config) = context.open_configured()?;
    let progress = context.progress();
    let start = async |name: &str| {
        let record = vmint.machine(name)?;
        if vmint
            .images()
            .find(&record.spec.image)
            .ok()
            .flatten()
            .is_none()
        {
            vmint
                .ensure_declared(&config, &record.spec.image, &progress)
                .await?;
        }
        let started = vmint.start(name, &progress).await;
        progress.finish();
        started.map(is)
    };
    each(context, &args.names, start, view::brief)
}

fn stop_options(how: args::StopHow) -> StopOptions {
    StopOptions {
        how: match (how.force, how.graceful_only) {
            (true, _) => StopHow::Force,
            (false, true) => StopHow::AskOnly,
            (false, false) => StopHow::Ask,
        },
        timeout: how.timeout,
    }
}

/// How long a guest shuts down without a word about it.
const QUICKLY: Duration = Duration::from_secs(1);

/// Waits for a guest that shuts down, and says so if that takes its time.
async fn told<T>(
    progress: &dyn Progress,
    name: &str,
    options: StopOptions,
    stopping: impl Future<Output = T>,
) -> T {
    tokio::pin!(stopping);
    tokio::select! {
        done = &mut stopping => return done,
        () = tokio::time::sleep(QUICKLY) => {}
    }
    let limit = options.timeout;
    progress.stage(&match options.how {
        StopHow::AskOnly => format!("waiting up to {limit:?} for {name} to shut down"),
        _ => format!("waiting for {name} to shut down; after {limit:?} its power is cut"),
    });
    stopping.await
}

/// What the user did not ask for.
fn tell_forced(options: StopOptions, stopped: &Stopped) {
    if stopped.forced && options.how != StopHow::Force {
        context::warn(&format!(
            "machine {} did not shut down within {} and was forced: what it had not written to its disk is lost",
            stopped.machine.name,
            vmint::span(options.timeout)
        ));
    }
}

/// `vmint stop`.
pub fn stop(context: Context, args: &args::Stop) -> Result<u8, Fault> {
    let vmint = context.open_for(&args.held)?;
    let options = stop_options(args.how);
    let progress = context.progress();
    let stop = async |name: &str| {
        let stopped = told(&progress, name, options, vmint.stop(name, options)).await;
        progress.finish();
        let stopped = stopped?;
        tell_forced(options, &stopped);
        Ok(Outcome::Stopped(Box::new(stopped)))
    };
    each(context, &args.which.names, stop, nothing)
}

/// `vmint restart`.
pub fn restart(context: Context, args: &args::Restart) -> Result<u8, Fault> {
    let (vmint, _config) = context.open_configured_for(&args.held)?;
    let options = stop_options(args.how);
    let progress = context.progress();
    let restart = async |name: &str| {
        let stopped = told(&progress, name, options, vmint.stop(name, options)).await;
        progress.finish();
        tell_forced(options, &stopped?);
        let started = vmint.start(name, &progress).await;
        progress.finish();
        started.map(is)
    };
    each(context, &args.which.names, restart, view::brief)
}

/// `vmint pause`.
pub fn pause(context: Context, args: &args::Pause) -> Result<u8, Fault> {
    let vmint = context.open_for(&args.held)?;
    let pause = async |name: &str| {
        vmint.pause(name).await?;
        vmint.machine(name).map(is)
    };
    each(context, &args.which.names, pause, nothing)
}

/// `vmint resume`.
pub fn resume(context: Context, args: &args::Resume) -> Result<u8, Fault> {
    let vmint = context.open_for(&args.held)?;
    let resume = async |name: &str| {
        vmint.resume(name).await?;
        vmint.machine(name).map(is)
    };
    each(context, &args.which.names, resume, nothing)
}

/// `vmint rm`.
pub fn remove(context: Context, args: &args::Remove) -> Result<u8, Fault> {
    let vmint = context.open_for(&args.held)?;
    let remove = async |name: &str| {
        vmint
            .remove(name, Force::when(args.force))
            .await
            .map(|()| Outcome::Gone)
    };
    each(context, &args.which.names, remove, nothing)
}

/// `vmint ls`.
pub fn list(context: Context, args: &args::List) -> Result<(), Fault> {
    let vmint = context.open()?;
    let mut all = vmint.machines()?;
    if let Some(pool) = &args.pool {
        vmint.pool_status(pool)?;
        all.retain(|record| record.pool.as_ref() == Some(pool));
    }
    let leases = vmint.leases()?;
    let (up, down): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|r| args.all || r.state.has_runner());
    let view = |record| view::Machine::lent(record, &leases);
    let views: Vec<_> = up.iter().map(view).collect();
    context.list(&views, view::Machine::name, || view::machines(&up))?;
    if !down.is_empty() && context.format == Format::Table && std::io::stdout().is_terminal() {
        context.note(&format!("{} more not up: vmint ls --all", down.len()));
    }
    Ok(())
}

/// `vmint info`.
pub fn info(context: Context, args: &args::Info) -> Result<(), Fault> {
    let vmint = context.open()?;
    let record = vmint.machine(&args.name)?;
    let leases = vmint.leases()?;
    let totals = vmint.network_totals(&record);
    let view = view::Machine::lent(&record, &leases).counted(totals);
    context.show(&view, || view::machine(&record, totals))
}

/// `vmint wait`.
pub fn wait(context: Context, args: &args::Wait) -> Result<(), Fault> {
    let vmint = context.open()?;
    let wanted = match args.state {
        args::Awaited::Ready => WaitFor::Ready,
        args::Awaited::Stopped => WaitFor::Stopped,
    };
    let record = context::wait(vmint.wait(&args.name, wanted, args.timeout))?;
    context.show(&view::Machine::from(&record), String::new)
}

/// `vmint reset`.
pub fn reset(context: Context, args: &args::Reset) -> Result<(), Fault> {
    let vmint = context.open_for(&args.held)?;
    let record = context::wait(vmint.reset(&args.name))?;
    context.show(&view::Machine::from(&record), || {
        record.generation.to_string()
    })
}

/// `vmint qmp`.
pub fn qmp(context: Context, args: args::Qmp) -> Result<(), Fault> {
    let vmint = context.open_for(&args.held)?;
    let arguments = args.arguments.unwrap_or_else(|| json!({}));
    let answer = context::wait(vmint.qmp(&args.name, &args.command, arguments))?;
    output::json(&answer)
}
