//! `workflow` and its own commands.
//!
//! * [`asked`]: what a run is asked to be, with all values at hand; [`secrets`], [`dotenv`]: where secrets come from;
//!   [`files`]: which file is meant.
//! * [`live`]: a run as it happens; [`events`]: the same for programs; [`show`], [`list`]: what came of runs.
//! * [`run`](mod@run), [`retry`](mod@retry), [`check`], [`fetch_actions`], [`shell`], [`remove`]: the commands of these names.
//! * [`trace`](mod@trace): what a run does and waits for, for `vmint logs`.

mod asked;
mod check;
mod dotenv;
mod events;
mod fetch_actions;
mod files;
mod list;
mod live;
mod remove;
mod retry;
mod run;
mod secrets;
mod shell;
mod show;
mod trace;

use crate::args::workflow::{List, Show, Workflow};
use crate::context::Context;
use crate::failure;
use vmint::Fault;
use vmint::workflow::report;

#[cfg(test)]
pub(super) use events::{WorkflowEvent, tests::all as sample_events};
#[cfg(test)]
pub(super) use fetch_actions::Fetched;
#[cfg(test)]
pub(super) use show::tests::run as sample_run;
pub(super) use trace::trace;
#[cfg(test)]
pub(super) use trace::{TraceView, tests::all as sample_trace};

/// `vmint workflow`.
pub fn workflow(context: Context, args: Workflow) -> Result<u8, Fault> {
    match args {
        Workflow::Run(args) => run::run(context, *args),
        Workflow::Check(args) => check::check(context, &args),
        Workflow::FetchActions(args) => fetch_actions::fetch_actions(context, &args),
        Workflow::Ls(args) => ls(context, &args).map(|()| 0),
        Workflow::Show(args) => show(context, &args).map(|()| 0),
        Workflow::Retry(args) => retry::retry(context, *args),
        Workflow::Shell(args) => shell::shell(context, args),
        Workflow::Rm(args) => remove::remove(context, &args),
    }
}

fn ls(context: Context, args: &List) -> Result<(), Fault> {
    let vmint = context.open()?;
    let mut runs = Vec::new();
    for kept in vmint.runs(args.limit as usize)? {
        match kept.record {
            Ok(record) => runs.push(record),
            // Told, and no reason to keep the others back.
            Err(fault) => failure::tell(&fault),
        }
    }
    let values: Vec<_> = runs.iter().map(report::json).collect();
    let id = |value: &serde_json::Value| value["id"].as_str().unwrap_or_default().to_owned();
    context.list(&values, id, || list::text(&runs))
}

fn show(context: Context, args: &Show) -> Result<(), Fault> {
    let vmint = context.open()?;
    let run = vmint.run_record(&args.run)?;
    let folder = vmint.home().run(&run.id);
    context.show(&report::json(&run), || show::text(&run, &folder))
}
