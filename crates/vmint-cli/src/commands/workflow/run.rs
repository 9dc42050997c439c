//! `workflow run`.

use super::events::{self, Events};
use super::live::{Face, Live};
use super::{asked, check};
use crate::args::Format;
use crate::args::workflow::Run;
use crate::context::{Context, block_on};
use crate::exit::{VMINT_FAILED, signal_code};
use crate::failure;
use crate::signals::{self, Signals};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use vmint::workflow::mask::Masks;
use vmint::workflow::observe::{Change, Observer};
use vmint::workflow::record::{MaskedFault, RunEnd, RunRecord};
use vmint::workflow::run::Cancel;
use vmint::workflow::{Asked, CannotRun, report};
use vmint::{ErrorKind, Fault};

/// `vmint workflow run`.
pub fn run(context: Context, args: Run) -> Result<u8, Fault> {
    let (asked, target) = asked::read(context, args)?;
    carry_out(context, &asked, target.as_deref())
}

/// Runs what is asked for.
pub fn carry_out(context: Context, asked: &Asked, target: Option<&Path>) -> Result<u8, Fault> {
    let (vmint, config) = context.open_configured()?;
    let (vmint, config) = (Arc::new(vmint), Arc::new(config));
    let masks = masks(asked);
    block_on(async |received| {
        let request = match vmint.prepare_run(&config, asked).await {
            Ok(request) => request,
            Err(CannotRun::Fault(fault)) => return Err(MaskedFault::new(&fault, &masks).into()),
            Err(CannotRun::Invalid(wrong)) => {
                check::tell(&wrong, &masks);
                let message = format!("{} cannot be run", asked.file.display());
                return Err(Fault::new(ErrorKind::Usage, message));
            }
        };
        for warning in &request.checked.warnings {
            context.note(&masks.mask(&warning.to_string()));
        }
        let cancel = Cancel::new();
        let pools = asked.pools.clone();
        let watching = (Watch::of(context.format), context.progress());
        let ended = {
            let running = vmint.run_workflow(&config, &request, pools, watching, &cancel);
            tokio::pin!(running);
            loop {
                tokio::select! {
                    ended = &mut running => break ended,
                    signal = received.next() => tell_it(signal, &cancel, context),
                }
            }
        };
        let (record, unkept) = ended;
        if let Some(target) = target {
            write_report(context, &record, &request.folder, target)?;
        }
        conclude(context, &record)?;
        match unkept {
            // What happened is known, and what is kept is not that.
            Some(fault) => Err(fault),
            None => Ok(exit_code(&record)),
        }
    })
}

/// What is hidden in what is said before the run begins. Secrets that cannot be hidden end the run itself.
fn masks(asked: &Asked) -> Masks {
    let mut masks = Masks::new();
    for (_, secret) in &asked.secrets {
        let _ = masks.add(secret);
    }
    masks
}

/// How a run is followed.
enum Watch {
    Live(Live<Box<dyn Write + Send>>),
    Events(Events<std::io::Stdout>),
}

impl Watch {
    /// The steps' output is the result, unless that is JSON.
    fn of(format: Format) -> Self {
        match format {
            Format::Table => Self::Live(Live::new(
                Face::of(&std::io::stdout()),
                Box::new(std::io::stdout()),
            )),
            Format::Json => Self::Live(Live::new(
                Face::of(&std::io::stderr()),
                Box::new(std::io::stderr()),
            )),
            Format::Ndjson => Self::Events(Events::new(std::io::stdout())),
        }
    }
}

impl Observer for Watch {
    fn happened(&self, run: &RunRecord, what: Change<'_>) {
        match self {
            Self::Live(live) => live.happened(run, what),
            Self::Events(events) => events.happened(run, what),
        }
    }
}

/// The first signal cancels the run, the second ends it without clean-up, the third ends this process: the machine goes with
/// its owner all the same.
fn tell_it(signal: i32, cancel: &Cancel, context: Context) {
    let by = match signal {
        2 => "Ctrl-C".to_owned(),
        n => format!("signal {n}"),
    };
    if cancel.is_hastened() {
        signals::exit(signal_code(signal));
    } else if cancel.by().is_some() {
        cancel.hasten(by);
    } else {
        context.note("cancelling: clean-up steps still run; press Ctrl-C again to stop now");
        cancel.cancel(by);
    }
    Signals::forgive();
}

fn write_report(
    context: Context,
    record: &RunRecord,
    folder: &std::path::Path,
    target: &std::path::Path,
) -> Result<(), Fault> {
    report::write(record, folder, target).map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("the report was not written")
    })?;
    context.note(&format!("the report is in {}", target.display()));
    Ok(())
}

fn conclude(context: Context, record: &RunRecord) -> Result<(), Fault> {
    if context.format == Format::Json {
        context.show(&report::json(record), String::new)?;
    }
    if let [shell, retry] = &events::next(record)[..] {
        context.note(&format!(
            "the machine is kept as the failure left it: look at it with `{shell}`, go on with `{retry}`"
        ));
    }
    if let Some(RunEnd::Fault { fault }) = &record.end {
        failure::tell(&fault.clone().into());
    }
    Ok(())
}

fn exit_code(record: &RunRecord) -> u8 {
    record.end.as_ref().map_or(VMINT_FAILED, RunEnd::exit_code)
}
