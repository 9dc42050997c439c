//! A line that cannot be understood: what is said of it, to people and to programs.

use crate::args::Cli;
use crate::exit::{Stdout, VMINT_FAILED};
use clap::error::ErrorKind as Wrong;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
use vmint::{ErrorKind, Fault};

/// The whole command line's description.
pub fn command() -> clap::Command {
    // `--memory -1` is a wrong size, and not an unknown flag that could be passed behind `--`.
    fn numbers(command: clap::Command) -> clap::Command {
        command
            .mut_args(|arg| {
                let takes_one = arg.get_action().takes_values() && !arg.is_positional();
                arg.allow_negative_numbers(takes_one)
            })
            .mut_subcommands(numbers)
    }
    numbers(Cli::command())
}

/// Understands a line, or says what is wrong with it and gives the exit code.
pub fn parse(args: &[OsString]) -> Result<Cli, u8> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    match cli {
        Ok(cli) => {
            // To take apart what describes all commands is a twelfth of all that `vmint ls` does (8 % of its instructions, by callgrind),
            // and of no use to a process that ends soon.
            std::mem::forget(command);
            Ok(cli)
        }
        Err(e) if matches!(e.kind(), Wrong::DisplayHelp | Wrong::DisplayVersion) => {
            Err(tell(&e, args))
        }
        Err(e) => Err(tell(&e.format(&mut command), args)),
    }
}

fn tell(e: &clap::Error, args: &[OsString]) -> u8 {
    let _ = e.print();
    if matches!(e.kind(), Wrong::DisplayHelp | Wrong::DisplayVersion) {
        return 0;
    }
    let named = named_command(args);
    if wants_json(args) {
        let error = fault(&e.to_string(), &named);
        let json = serde_json::to_string(&vmint::ErrorBody { error }).unwrap_or_default();
        let json = crate::output::printable_json(&json);
        crate::failure::print(&json, stdout(&named));
    }
    usage_code(&named)
}

/// What clap says in paragraphs, as a message and what to do about it.
fn fault(text: &str, named: &[&str]) -> Fault {
    let mut paragraphs = text.split("\n\n").map(|paragraph| {
        let words: Vec<_> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let (mut values, mut tips, mut usage) = (None, Vec::new(), None);
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            tips.extend(tip.split(" tip: ").map(str::to_owned));
        } else if paragraph.starts_with("Usage: ") {
            usage = Some(paragraph);
        } else if paragraph.starts_with('[') {
            values = Some(paragraph);
        }
    }
    let message = values.map_or_else(|| message.clone(), |values| format!("{message} {values}"));
    let help = match named.first() {
        Some(name) if is_command(name) => {
            format!("run `vmint {name} --help` for its usage")
        }
        _ => "run `vmint --help` for the usage".to_owned(),
    };
    let hint = match (tips.is_empty(), usage) {
        (false, _) => tips.join("; "),
        (true, Some(usage)) => usage,
        (true, None) => help,
    };
    // A line without a command is answered by all of the help.
    let message = if named.is_empty() && message.len() > 200 {
        "no command is given".to_owned()
    } else {
        message
    };
    Fault::new(ErrorKind::Usage, message).hint(hint)
}

fn is_command(name: &str) -> bool {
    Cli::command().find_subcommand(name).is_some()
}

/// What the standard output of what was meant carries.
fn stdout(named: &[&str]) -> Stdout {
    let raw = [
        &["run"][..],
        &["exec"],
        &["shell"],
        &["with"],
        &["cp"],
        &["logs"],
        &["completions"],
        &["man"],
        &["workflow", "shell"],
    ];
    if raw.iter().any(|words| named.starts_with(words)) {
        Stdout::Raw
    } else {
        Stdout::Results
    }
}

/// The exit code of a line that could not be parsed. A 2 of `run` would be taken for the command's own.
fn usage_code(named: &[&str]) -> u8 {
    match named {
        ["run" | "exec" | "shell" | "with", ..] | ["workflow", "run" | "retry" | "shell", ..] => {
            VMINT_FAILED
        }
        _ => 2,
    }
}

/// Whether a line that could not be parsed asks for JSON.
fn wants_json(args: &[OsString]) -> bool {
    let ours = args.iter().take_while(|arg| *arg != "--");
    let words: Vec<_> = ours.filter_map(|arg| arg.to_str()).collect();
    ["json", "ndjson"].iter().any(|format| {
        words.contains(&&*format!("--format={format}"))
            || words.windows(2).any(|pair| pair == ["--format", format])
    })
}

/// The command that was meant, of a line that could not be parsed, and what is written behind it, without flags.
fn named_command(args: &[OsString]) -> Vec<&str> {
    let (mut rest, mut words) = (args.iter().skip(1), Vec::new());
    while let Some(arg) = rest.next().and_then(|arg| arg.to_str()) {
        match arg {
            "--" => break,
            "--format" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            word => words.push(word),
        }
    }
    words
}

/// The command of a line: of all that is in it, the one word that is not the user's.
pub fn command_of(args: &[OsString]) -> String {
    let cli = Cli::command();
    let mut words = named_command(args).into_iter();
    let known = words.find(|word| cli.find_subcommand(word).is_some());
    known.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn of_a_line_the_command_alone_is_told() {
        let told = |line: &str| command_of(&words(line));
        assert_eq!(told("vmint exec box -e TOKEN=geheim -- run"), "exec");
        assert_eq!(told("vmint --confine off run -- sh"), "run");
        assert_eq!(told("vmint workflow secrets set geheim"), "workflow");
        assert_eq!(told("vmint geheim"), "");
    }

    #[test]
    fn the_command_of_a_wrong_line_is_found_behind_global_flags() {
        let named = |line: &str| named_command(&words(line)).join(" ");
        assert_eq!(named("vmint run --nonsense"), "run");
        assert_eq!(named("vmint --format json exec"), "exec");
        assert_eq!(named("vmint -q --format=json shell"), "shell");
        assert_eq!(named("vmint workflow -q shell -- run"), "workflow shell");
        assert_eq!(named("vmint --format"), "");
        let json = |line: &str| wants_json(&words(line));
        assert!(json("vmint run --format json --nonsense") && json("vmint --format=json"));
        assert!(!json("vmint run --nonsense -- x --format json"));
    }

    #[test]
    fn wrong_usage_is_told_whole_and_with_a_remedy() {
        let told = |line: &str| {
            let args = words(line);
            let mut command = command();
            let matches = command.try_get_matches_from_mut(&args);
            let e = matches.and_then(|m| Cli::from_arg_matches(&m)).unwrap_err();
            let fault = fault(&e.format(&mut command).to_string(), &named_command(&args));
            (fault.message, fault.hint.unwrap())
        };
        let (message, hint) = told("vmint start");
        assert_eq!(
            message,
            "the following required arguments were not provided: <NAME>..."
        );
        assert!(hint.starts_with("Usage: vmint start"), "{hint}");
        let (message, hint) = told("vmint ls --al");
        assert_eq!(message, "unexpected argument '--al' found");
        assert_eq!(hint, "a similar argument exists: '--all'");
        let (message, _) = told("vmint ls --format yaml");
        assert!(
            message.contains("[possible values: table, json, ndjson]"),
            "{message}"
        );
        let (message, hint) = told("vmint create box --memory -1");
        assert!(
            message.contains("invalid value '-1' for '--memory"),
            "{message}"
        );
        assert!(!hint.contains("-- -1"), "{hint}");
        assert_eq!(told("vmint --format json").0, "no command is given");
        let (_, hint) = told("vmint lss");
        assert!(hint.contains("similar"), "{hint}");
    }

    #[test]
    fn every_wrong_line_has_a_hint() {
        for name in Cli::command().get_subcommands() {
            let line = format!("vmint {} --no-such-flag", name.get_name());
            let args = words(&line);
            let mut command = command();
            if let Err(e) = command.try_get_matches_from_mut(&args) {
                let fault = fault(&e.format(&mut command).to_string(), &named_command(&args));
                assert!(fault.hint.is_some_and(|hint| !hint.is_empty()), "{line}");
                assert!(
                    fault.message.contains("--no-such-flag"),
                    "{}",
                    fault.message
                );
            }
        }
    }
}
