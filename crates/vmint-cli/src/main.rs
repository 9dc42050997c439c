//! The `vmint` command.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "runner") {
        return runner(&args[2..]);
    }
    eprintln!("vmint: not yet");
    ExitCode::from(2)
}

/// `vmint runner HOME RUNTIME ID`: not for people; see `vmint_runner::start`.
fn runner(args: &[OsString]) -> ExitCode {
    let [home, runtime, id] = args else { return ExitCode::from(2) };
    let Some(id) = id.to_str().and_then(|id| id.parse().ok()) else { return ExitCode::from(2) };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    vmint::runner::process::run(&vmint::Home::new(home, runtime), &id);
    ExitCode::SUCCESS
}
