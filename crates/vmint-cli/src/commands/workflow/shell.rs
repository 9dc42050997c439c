//! `workflow shell`: in the machine as it was before a step.

use crate::args::machine::CommandOptions;
use crate::args::workflow::Shell;
use crate::attach::{Ended, attach};
use crate::commands::run;
use crate::context::{Context, block_on, interrupted};
use crate::exit::{signal_code, status_code};
use crate::output::BROKEN_PIPE;
use crate::signals::Signals;
use std::ffi::OsString;
use std::io::IsTerminal;
use vmint::workflow::moments::Moment;
use vmint::workflow::shell_state::{Entry, ShellState, Terminal};
use vmint::{Command, ErrorKind, Fault, Force, Vmint};

/// Goes to the step's folder, if it is there already, and becomes what is behind it: the command, or bash, or else sh. No
/// login shell, which would set a `PATH` of its own.
const ENTER: &str = r#"cd -- "$0" 2>/dev/null || echo "vmint: $0 does not exist yet; this is $PWD" >&2
if [ $# -gt 0 ]; then exec "$@"; fi
if command -v bash >/dev/null 2>&1; then exec bash; fi
exec sh"#;

/// `vmint workflow shell`.
pub fn shell(context: Context, args: Shell) -> Result<u8, Fault> {
    let (vmint, _config) = context.open_configured()?;
    let run = vmint.run_record(&args.run)?;
    let moment = vmint.moment(&run, args.before.as_deref())?;
    let command = command(&moment, args.command)?;
    block_on(async |signals| {
        let machine = match open(context, &vmint, &moment, signals).await {
            Ok(machine) => machine,
            Err(fault) => {
                run::remove_own(&vmint).await;
                return Err(fault);
            }
        };
        let id = machine.id.as_str();
        let code = attach(&vmint, id, command, signals)
            .await
            .map(|ended| match ended {
                Ended::Exited(status) => status_code(status),
                Ended::Interrupted(signal) => signal_code(signal),
                Ended::BrokenPipe => BROKEN_PIPE,
            });
        // Before the prompt is back nothing is left.
        match (code, vmint.remove(id, Force::Yes).await) {
            // It may have removed itself: the guest shut down.
            (code, Err(fault)) if fault.kind == ErrorKind::NotFound => code,
            (Ok(_), Err(fault)) => {
                Err(fault.context("the shell has ended, but its machine could not be removed"))
            }
            (code, _) => code,
        }
    })
}

async fn open(
    context: Context,
    vmint: &Vmint,
    moment: &Moment,
    signals: &mut Signals,
) -> Result<vmint::MachineRecord, Fault> {
    let progress = context.progress();
    let opened = tokio::select! {
        opened = vmint.open_moment(moment, &progress) => opened,
        signal = signals.next() => Err(interrupted(signal)),
    };
    progress.finish();
    let machine = opened?;
    let accelerator = machine.accelerator.map(|a| a.to_string());
    context.note(&format!(
        "this is {} on {}, as it was {} in run {}; it goes away with the shell",
        machine.name,
        accelerator.unwrap_or_default(),
        moment.when(),
        moment.run
    ));
    Ok(machine)
}

/// What is run there: with a terminal if this is one and no command was given, or the command is at a terminal's both
/// ends.
fn command(moment: &Moment, asked: Vec<OsString>) -> Result<Command, Fault> {
    let is_terminal = std::io::stdin().is_terminal();
    let tty = is_terminal && (asked.is_empty() || std::io::stdout().is_terminal());
    let state = moment.shell.clone().unwrap_or_default();
    let terminal = if tty { Terminal::Yes } else { Terminal::No };
    let entry = state.entry(terminal).map_err(|e| {
        let fault = Fault::new(ErrorKind::Usage, e.to_string());
        fault.context("the step's variables cannot be given to its container")
    })?;
    let options = CommandOptions {
        env: Vec::new(),
        workdir: None,
        user: match &state.container {
            // The engine is root's.
            Some(_) => Some("root".to_owned()),
            None => state.user.clone(),
        },
        interactive: true,
        tty,
        timeout: None,
    };
    let mut command = run::command(&options, argv(&state, &entry, asked))?;
    command.env.extend(environment(entry));
    Ok(command)
}

fn argv(state: &ShellState, entry: &Entry, asked: Vec<OsString>) -> Vec<OsString> {
    let cwd = match state.cwd.as_str() {
        "" => ".",
        cwd => cwd,
    };
    let enter = ["/bin/sh", "-c", ENTER, cwd].map(OsString::from);
    let begin = entry.argv.iter().map(OsString::from);
    begin.chain(enter).chain(asked).collect()
}

/// The step's variables.
fn environment(entry: Entry) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let all = entry.env.into_iter();
    all.map(|(name, value)| (name.into_bytes(), value.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Output;

    /// What the guest would do, done here.
    fn done(state: &ShellState, asked: &[&str]) -> Output {
        let asked = asked.iter().map(OsString::from).collect();
        let entry = state.entry(Terminal::No).unwrap();
        let argv = argv(state, &entry, asked);
        let pair = |(name, value)| (OsString::from_vec(name), OsString::from_vec(value));
        std::process::Command::new(&argv[0])
            .args(&argv[1..])
            .envs(environment(entry).map(pair))
            .output()
            .unwrap()
    }

    #[test]
    fn a_command_finds_the_folder_and_the_variables_of_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let cwd = folder.path().join("a folder's");
        std::fs::create_dir(&cwd).unwrap();
        let state = ShellState {
            env: [("GREETING".to_owned(), "a\nb  c".to_owned())].into(),
            path: "/bin:/usr/bin:/own".into(),
            cwd: cwd.to_str().unwrap().into(),
            ..ShellState::default()
        };
        let script = r#"printf '%s|%s|%s|%s' "$PWD" "$PATH" "$GREETING" "$1""#;
        let output = done(&state, &["sh", "-c", script, "sh", "an argument"]);
        let said = String::from_utf8(output.stdout).unwrap();
        let expected = format!("{}|/bin:/usr/bin:/own|a\nb  c|an argument", state.cwd);
        assert_eq!(said, expected);
        assert_eq!(done(&state, &["sh", "-c", "exit 7"]).status.code(), Some(7));
    }

    #[test]
    fn a_folder_that_a_later_step_makes_is_missed_aloud() {
        let state = ShellState {
            cwd: "/no/such folder".into(),
            ..ShellState::default()
        };
        let output = done(&state, &["echo", "still here"]);
        assert_eq!(output.stdout, b"still here\n");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with("vmint: /no/such folder does not exist yet"),
            "{said}"
        );
    }
}
