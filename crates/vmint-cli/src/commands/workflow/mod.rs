//! `workflow` and its own commands.
//!
//! * [`asked`]: what a run is asked to be, with all values at hand; [`secrets`], [`dotenv`]: where secrets come from;
//!   [`files`]: which file is meant.
//! * [`live`]: a run as it happens; [`show`], [`list`]: what came of runs.
//! * [`check`], [`shell`], [`remove`]: the commands of these names.

mod asked;
mod check;
mod dotenv;
mod files;
mod list;
#[expect(dead_code, reason = "for `workflow run`, when the engine is there")]
mod live;
mod remove;
mod secrets;
mod shell;
mod show;

use crate::args::workflow::{List, Show, Workflow};
use crate::context::Context;
use crate::failure;
use vmint::workflow::report;
use vmint::{ErrorKind, Fault};

/// `vmint workflow`.
pub fn workflow(context: Context, args: Workflow) -> Result<u8, Fault> {
    match args {
        Workflow::Run(args) => {
            let asked = asked::Asked::read(context, *args)?;
            let message = format!(
                "this vmint has no engine to run {} with",
                asked.file.display()
            );
            Err(Fault::new(ErrorKind::Internal, message))
        }
        Workflow::Check(args) => check::check(context, &args),
        Workflow::Ls(args) => ls(context, &args).map(|()| 0),
        Workflow::Show(args) => show(context, &args).map(|()| 0),
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
    context.show(&values, || list::text(&runs))
}

fn show(context: Context, args: &Show) -> Result<(), Fault> {
    let vmint = context.open()?;
    let run = vmint.run_record(&args.run)?;
    let folder = vmint.home().run(&run.id);
    context.show(&report::json(&run), || show::text(&run, &folder))
}
