//! What each command does: arguments to the library, its answers to standard output.
//!
//! * [`run`](mod@run): `run`, `exec`, `shell`; [`copy`]: `cp`.
//! * [`machines`]: those for one or more machines; [`logs`].
//! * [`pools`]: `pool`, `lease`, `with`.
//! * [`workflow`]: `workflow` and its own.
//! * [`images`], [`templates`], [`snapshots`]; [`removal`]: what `rm` of these has in common.
//! * [`bench`]; [`undo`]: what an interrupted command has half done.
//! * `schema`, of the tests: what all of them print as JSON; `pages`, too: documents that are made of the code.
//! * [`care`]: `doctor`, `gc`, `events`, `config`; [`generate`]: completions and man pages.

mod bench;
pub(crate) mod care;
mod copy;
mod generate;
mod images;
mod logs;
mod machines;
#[cfg(test)]
mod pages;
mod pools;
mod removal;
mod run;
#[cfg(test)]
pub(crate) mod schema;
mod snapshots;
mod templates;
#[cfg(feature = "top")]
mod top;
mod undo;
mod workflow;

use crate::args::Command;
use crate::context::Context;
use crate::exit::Codes;
use crate::failure;
use crate::{trace, usage};
use std::ffi::OsString;
use vmint::Fault;

/// Does what the command line says; gives the exit code.
pub fn run(args: &[OsString]) -> u8 {
    let cli = match usage::parse(args) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if let Some(confine) = cli.confine {
        // SAFETY: no other thread exists yet: none is started before this, by the program or by what it has called.
        unsafe { std::env::set_var(vmint::config::CONFINE, confine.as_str()) };
    }
    if let Some(user) = &cli.run_as {
        // SAFETY: as above.
        unsafe { std::env::set_var(vmint::config::RUN_AS, user) };
    }
    let context = Context {
        format: cli.format,
        quiet: cli.quiet,
        // Whoever makes or fills pools does it itself.
        tends: !matches!(cli.command, Command::Pool(_)),
    };
    let codes = if cli.command.runs_a_command() {
        Codes::Command
    } else {
        Codes::Own
    };
    let stdout = cli.command.stdout();
    let _span = match trace::begin(|| usage::command_of(args)) {
        Ok(span) => span,
        Err(fault) => return failure::report(&fault, codes, cli.format, stdout),
    };
    tracing::info!("begins");
    let result = events_alone(cli.format, &cli.command)
        .and_then(|()| crate::context::trust(&cli.trust))
        .and_then(|()| dispatch(context, cli.command));
    vmint::pools::wait_for_tenders();
    let code = match result {
        Ok(code) => code,
        Err(fault) => failure::report(&fault, codes, cli.format, stdout),
    };
    tracing::info!(code, "ends");
    code
}

/// Refuses events of what has none.
fn events_alone(format: crate::args::Format, command: &Command) -> Result<(), Fault> {
    if format != crate::args::Format::Ndjson || command.has_events() {
        return Ok(());
    }
    let message = "--format ndjson is for `workflow run` and `workflow retry`";
    Err(Fault::new(vmint::ErrorKind::Usage, message).hint("use --format json"))
}

fn dispatch(context: Context, command: Command) -> Result<u8, Fault> {
    let done = |()| 0;
    match command {
        Command::Run(args) => run::run(context, *args),
        Command::Exec(args) => run::exec(context, *args),
        Command::Shell(args) => run::shell(context, args),
        Command::Create(args) => machines::create(context, *args).map(done),
        Command::Start(args) => machines::start(context, &args),
        Command::Stop(args) => machines::stop(context, &args),
        Command::Restart(args) => machines::restart(context, &args),
        Command::Pause(args) => machines::pause(context, &args),
        Command::Resume(args) => machines::resume(context, &args),
        Command::Rm(args) => machines::remove(context, &args),
        Command::Ls(args) => machines::list(context, &args).map(done),
        Command::Info(args) => machines::info(context, &args).map(done),
        Command::Wait(args) => machines::wait(context, &args).map(done),
        Command::Reset(args) => machines::reset(context, &args).map(done),
        Command::Qmp(args) => machines::qmp(context, args).map(done),
        Command::Cp(args) => copy::copy(context, &args).map(done),
        Command::Logs(args) => logs::logs(context, &args).map(done),
        Command::Snapshot(args) => snapshots::snapshot(context, args),
        Command::Restore(args) => snapshots::restore(context, &args).map(done),
        Command::Fork(args) => snapshots::fork(context, &args).map(done),
        Command::Image(args) => images::image(context, args),
        Command::Template(args) => templates::template(context, args),
        Command::Pool(args) => pools::pool(context, args),
        Command::Lease(args) => pools::lease(context, args),
        Command::With(args) => pools::with(context, args),
        Command::Workflow(args) => workflow::workflow(context, args),
        Command::Doctor(args) if args.repair => care::repair(context).map(done),
        Command::Doctor(_) => care::doctor(context),
        Command::Gc(args) => care::gc(context, &args).map(done),
        Command::Events(args) => care::events(context, &args).map(done),
        #[cfg(feature = "top")]
        Command::Top(args) => top::top(context, &args).map(done),
        Command::Bench(args) => bench::bench(context, args),
        Command::Config(args) => care::config(context, &args).map(done),
        Command::Completions(args) => generate::completions(&args).map(done),
        Command::Man(args) => generate::man(&args).map(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_usage_exits_as_the_contract_says() {
        let code = |line: &str| run(&line.split(' ').map(Into::into).collect::<Vec<_>>());
        assert_eq!(code("vmint run --nonsense"), 125);
        assert_eq!(code("vmint --format json exec"), 125);
        assert_eq!(code("vmint create Not_A_Name"), 2);
        assert_eq!(code("vmint nonsense"), 2);
        assert_eq!(code("vmint workflow run --nonsense"), 125);
        assert_eq!(code("vmint workflow shell"), 125);
        assert_eq!(code("vmint workflow ls --nonsense"), 2);
        assert_eq!(code("vmint"), 2);
        assert_eq!(code("vmint --version"), 0);
        assert_eq!(code("vmint run --help"), 0);
    }
}
