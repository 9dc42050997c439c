//! `run`, `exec`, `shell`.

use crate::args::machine::{CommandOptions, Exec, Held, Run, Shell};
use crate::attach::{Ended, attach};
use crate::context::{Context, block_on, interrupted};
use crate::exit::{signal_code, status_code};
use crate::output::BROKEN_PIPE;
use crate::signals::Signals;
use crate::terminal;
use crate::values::{Pair, environment};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use vmint::config::Config;
use vmint::{Command, Fault, Force, MachineRecord, NewMachine, Vmint};

/// Finds bash, else sh, as a login shell; `exec` leaves nothing behind it.
const SHELL: &str = r"if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi";

/// `vmint run`.
pub fn run(context: Context, args: Run) -> Result<u8, Fault> {
    let command = command(&args.options, args.command.clone())?;
    let (vmint, config) = context.open_configured()?;
    block_on(async |signals| {
        let machine = match start(context, &vmint, &config, &args, signals).await {
            Ok(machine) => machine,
            Err(fault) => {
                remove_own(&vmint).await;
                return Err(fault);
            }
        };
        let id = machine.id.as_str();
        if args.keep {
            context.note(&format!(
                "the machine is {} and is kept; vmint rm {0} --force removes it",
                machine.name
            ));
        }
        let code = in_machine(&vmint, id, command, &args, signals).await;
        if args.keep {
            return code;
        }
        // Before the prompt is back nothing is left.
        let removed = vmint.remove(id, Force::Yes).await;
        match (code, removed) {
            // It may have removed itself: the guest shut down.
            (code, Err(fault)) if fault.kind == vmint::ErrorKind::NotFound => code,
            (Ok(_), Err(fault)) => {
                Err(fault.context("the command has ended, but its machine could not be removed"))
            }
            (code, _) => code,
        }
    })
}

async fn start(
    context: Context,
    vmint: &Vmint,
    config: &Config,
    args: &Run,
    signals: &mut Signals,
) -> Result<MachineRecord, Fault> {
    let image = args
        .image
        .clone()
        .unwrap_or_else(|| config.defaults.image.to_string());
    let base = if args.keep {
        NewMachine::of(&image)
    } else {
        NewMachine::ephemeral(&image)
    };
    let new = NewMachine {
        memory: args.hardware.memory.unwrap_or(config.defaults.memory),
        cpus: args.hardware.cpus.unwrap_or(config.defaults.cpus),
        net: args.hardware.net_or(&config.defaults.net),
        limits: args.limits.given().or(config.defaults.limits),
        publish: args.publish.clone(),
        ..base
    };
    let progress = context.progress();
    let started = async {
        vmint.ensure_declared(config, &image, &progress).await?;
        if args.command.is_empty() {
            // Told before a machine is made for nothing.
            vmint.expect_command(&image, &progress).await?;
        }
        vmint.create_running(new, &progress).await
    };
    tokio::select! {
        started = started => started,
        signal = signals.next() => Err(interrupted(signal)),
    }
}

/// What of an interrupted start is there already.
pub(super) async fn remove_own(vmint: &Vmint) {
    let own = std::process::id();
    let machines = vmint.machines().unwrap_or_default();
    for machine in machines
        .iter()
        .filter(|m| m.ephemeral && m.owner.as_ref().is_some_and(|o| o.pid == own))
    {
        // What cannot be removed now is removed when its runner finds that we are gone.
        let _ = vmint.remove(machine.id.as_str(), Force::Yes).await;
    }
}

/// Files in, the command, files out.
async fn in_machine(
    vmint: &Vmint,
    id: &str,
    command: Command,
    args: &Run,
    signals: &mut Signals,
) -> Result<u8, Fault> {
    for Pair { source, target } in &args.copy_in {
        tokio::select! {
            copied = vmint.copy_in(Path::new(source), id, target) => {
                let copied = copied
                    .map_err(|fault| fault.context(format!("cannot copy {source} into the machine")))?;
                super::copy::tell_skipped(source, &copied);
            }
            signal = signals.next() => return Ok(signal_code(signal)),
        }
    }
    let code = match attach(vmint, id, command, signals).await? {
        Ended::Exited(status) => status_code(status),
        Ended::Interrupted(signal) => return Ok(signal_code(signal)),
        Ended::BrokenPipe => return Ok(BROKEN_PIPE),
    };
    for Pair { source, target } in &args.copy_out {
        let copied = tokio::select! {
            copied = vmint.copy_out(id, source, Path::new(target)) => copied,
            signal = signals.next() => return Ok(signal_code(signal)),
        };
        match copied
            .map_err(|fault| fault.context(format!("cannot copy {source} out of the machine")))
        {
            Ok(unpacked) => super::copy::tell_skipped(source, &unpacked),
            Err(fault) if code == 0 => return Err(fault),
            // The command's own failure comes first, and is probably why.
            Err(fault) => crate::failure::tell(&fault),
        }
    }
    Ok(code)
}

/// `vmint exec`.
pub fn exec(context: Context, args: Exec) -> Result<u8, Fault> {
    let command = command(&args.options, args.command)?;
    attached(context, &args.name, &args.held, command)
}

/// `vmint shell`.
pub fn shell(context: Context, args: Shell) -> Result<u8, Fault> {
    let is_terminal = std::io::stdin().is_terminal();
    let argv = ["/bin/sh", "-c", SHELL];
    let options = CommandOptions {
        env: Vec::new(),
        workdir: None,
        user: args.user,
        interactive: true,
        tty: is_terminal,
        timeout: None,
    };
    let command = command(&options, argv.map(OsString::from).to_vec())?;
    attached(context, &args.name, &args.held, command)
}

fn attached(context: Context, name: &str, held: &Held, command: Command) -> Result<u8, Fault> {
    let vmint = context.open_for(held)?;
    block_on(async |signals| {
        Ok(match attach(&vmint, name, command, signals).await? {
            Ended::Exited(status) => status_code(status),
            Ended::Interrupted(signal) => signal_code(signal),
            Ended::BrokenPipe => BROKEN_PIPE,
        })
    })
}

pub(super) fn command(options: &CommandOptions, argv: Vec<OsString>) -> Result<Command, Fault> {
    let mut env = environment(&options.env)?;
    if options.tty
        && let Some(term) = std::env::var_os("TERM")
    {
        // Behind what -e says; the last counts, so it comes first.
        env.insert(0, (b"TERM".to_vec(), term.into_vec()));
    }
    Ok(Command {
        argv: argv.into_iter().map(OsStringExt::into_vec).collect(),
        env,
        cwd: options.workdir.clone().map(OsStringExt::into_vec),
        user: options.user.clone(),
        terminal: options.tty.then(terminal::size),
        stdin: options.interactive,
        timeout: options.timeout,
        output: vmint::protocol::Streams::Apart,
    })
}
