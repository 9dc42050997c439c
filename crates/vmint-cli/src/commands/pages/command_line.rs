//! `docs/command-line.md`.

use super::{cell, compare};
use crate::args::Cli;
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write as _;

const HEAD: &str = "\
# Command line

<!-- Made of crates/vmint-cli/src/args by VMINT_WRITE_DOCS=1 cargo nextest run -p vmint-cli pages -->

`vmint COMMAND --help` prints the same, and `vmint man DIR` writes it as manual pages. [errors.md](errors.md#exit-codes) lists the exit codes,
[vmint.schema.json](vmint.schema.json) what `--format json` prints.
";

/// The text of a help: lines that are indented, and those of a table of commands, stay as they are.
fn prose(page: &mut String, text: &str) {
    for paragraph in text
        .split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
    {
        let indented = paragraph.lines().any(|line| line.starts_with("  "));
        if indented {
            let (first, rest) = paragraph.split_once('\n').unwrap_or(("", paragraph));
            if first.starts_with("  ") || first.is_empty() {
                writeln!(page, "\n```text\n{}\n```", paragraph.trim_end()).unwrap();
            } else {
                writeln!(
                    page,
                    "\n{}\n\n```text\n{}\n```",
                    escaped(first),
                    rest.trim_end()
                )
                .unwrap();
            }
        } else {
            writeln!(page, "\n{}", escaped(&paragraph.replace('\n', " "))).unwrap();
        }
    }
}

/// Signs that Markdown would read.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut code = false;
    for c in text.chars() {
        code ^= c == '`';
        if !code && matches!(c, '<' | '*' | '_' | '[') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// How an argument is written.
fn written(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    let value = values.join(" ");
    match (arg.get_short(), arg.get_long()) {
        (None, None) => value,
        (short, long) => {
            let names = [
                short.map(|c| format!("-{c}")),
                long.map(|name| format!("--{name}")),
            ];
            let names: Vec<_> = names.into_iter().flatten().collect();
            let names = names.join(", ");
            if takes {
                format!("{names} {value}")
            } else {
                names
            }
        }
    }
}

/// What an argument means, in a cell: the first sentence of its help, then the rest.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    let choices: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !choices.is_empty() && arg.get_action().takes_values() {
        write!(text, "\n\nOne of {}", choices.join(", ")).unwrap();
    }
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        write!(text, " [default: {}]", defaults.join(", ")).unwrap();
    }
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| escaped(&cell(paragraph.trim())));
    paragraphs.collect::<Vec<_>>().join("<br>")
}

fn table(page: &mut String, title: &str, args: &[&Arg]) {
    if args.is_empty() {
        return;
    }
    writeln!(page, "\n| {title} | meaning |\n|---|---|").unwrap();
    for arg in args {
        writeln!(page, "| `{}` | {} |", cell(&written(arg)), meaning(arg)).unwrap();
    }
}

fn arguments(page: &mut String, command: &Command) {
    let own = |arg: &&Arg| {
        !arg.is_global_set()
            && !arg.is_hide_set()
            && arg.get_id() != "help"
            && arg.get_id() != "version"
    };
    let (places, options): (Vec<_>, Vec<_>) = command
        .get_arguments()
        .filter(own)
        .partition(|arg| arg.is_positional());
    table(page, "argument", &places);
    table(page, "option", &options);
}

fn about(page: &mut String, command: &Command) {
    let text = command.get_long_about().or_else(|| command.get_about());
    prose(page, &text.map(ToString::to_string).unwrap_or_default());
}

fn leaf(page: &mut String, command: &mut Command, name: &str, level: usize) {
    writeln!(page, "\n{} vmint {name}", "#".repeat(level)).unwrap();
    about(page, command);
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    writeln!(page, "\n```text\n{usage}\n```").unwrap();
    arguments(page, command);
    if let Some(after) = command
        .get_after_long_help()
        .or_else(|| command.get_after_help())
    {
        prose(page, &after.to_string());
    }
}

fn page() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = HEAD.to_owned();
    let mut contents = String::from("\n| command | |\n|---|---|\n");
    let mut body = String::new();
    for command in root
        .get_subcommands_mut()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        let name = command.get_name().to_owned();
        let about_line = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        writeln!(
            contents,
            "| [`vmint {name}`](#vmint-{name}) | {} |",
            escaped(&cell(&about_line))
        )
        .unwrap();
        if command.has_subcommands() {
            writeln!(body, "\n## vmint {name}").unwrap();
            about(&mut body, command);
            for sub in command
                .get_subcommands_mut()
                .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
            {
                let name = format!("{name} {}", sub.get_name());
                leaf(&mut body, sub, &name, 3);
            }
        } else {
            leaf(&mut body, command, &name, 2);
        }
    }
    page.push_str(&contents);
    page.push_str("\n## Global options\n\nEvery command has them.\n");
    let global: Vec<_> = root
        .get_arguments()
        .filter(|arg| arg.is_global_set() && !arg.is_hide_set())
        .collect();
    table(&mut page, "option", &global);
    page.push_str(&body);
    page
}

#[test]
#[cfg_attr(not(feature = "top"), ignore = "documents have all commands")]
fn the_page_of_the_command_line_is_made_of_its_description() {
    compare("command-line.md", &page());
}
