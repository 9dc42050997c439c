//! The `vmint` command: arguments, output and exit codes. What is done is done by the library.
//!
//! * [`args`]: what can be written; [`values`]: what a single argument may be.
//! * [`complete`]: what a shell is told that completes a line.
//! * [`commands`]: one file for each group of commands.
//! * [`attach`], [`terminal`]: this process's terminal, input and output as those of a command in a machine.
//! * [`top`]: the screen of `vmint top`. [`trace`]: what `VMINT_LOG` shows.
//! * [`context`]: what commands share; [`signals`]: Ctrl-C at any moment.
//! * [`output`], [`view`], [`progress`]: what is printed; [`failure`], [`exit`]: how it ends; [`usage`]: lines that cannot be understood.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod args;
mod attach;
mod commands;
mod complete;
mod context;
mod exit;
mod failure;
mod output;
mod progress;
mod signals;
mod terminal;
#[cfg(feature = "top")]
mod top;
mod trace;
mod usage;
mod values;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    die_of_panics();
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "runner") {
        return runner(&args[2..]);
    }
    complete::answer();
    ExitCode::from(commands::run(&args))
}

/// A panic ends the program, in whatever thread or task, and with a runner its machine, however it was compiled: a part of a
/// program that is gone must not be missed by another.
fn die_of_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        std::process::abort();
    }));
}

/// `vmint runner HOME RUNTIME ID`: not for people; see `vmint_runner::start`.
fn runner(args: &[OsString]) -> ExitCode {
    let three = <&[OsString; 3]>::try_from(args).ok();
    let known =
        three.and_then(|[home, runtime, id]| Some((home, runtime, id.to_str()?.parse().ok()?)));
    let Some((home, runtime, id)) = known else {
        eprintln!("vmint: `vmint runner` is for vmint itself, which starts one for each machine");
        return ExitCode::from(2);
    };
    let home = vmint::Home::new(home, runtime);
    trace::begin_runner(&home, &id);
    vmint::runner::process::run(&home, &id);
    ExitCode::SUCCESS
}
