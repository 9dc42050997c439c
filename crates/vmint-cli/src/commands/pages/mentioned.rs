//! Every command that the documents name is one: `vmint …` in an example, also in one that is not run, or in a sentence.

use crate::args::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use std::fs;
use std::path::{Path, PathBuf};

/// Pages for users and for contributors; not the changelog, which tells of what was.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages: Vec<_> = [
        "README.md",
        "SECURITY.md",
        "SPECIFICATION.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "python/README.md",
        "examples/workflows/README.md",
    ]
    .map(|page| root.join(page))
    .into();
    let docs = fs::read_dir(root.join("docs")).expect("docs/ is there");
    pages.extend(
        docs.map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    pages
}

/// The words of a command as a shell splits them, up to where another one begins or a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | ';' | '&' | '<' | '>' | ')') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The commands of a page, each with its line.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (n, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let command = line.strip_prefix("$ ").unwrap_or_default();
            // Also those that another one starts.
            for (at, _) in command.match_indices("vmint ") {
                let before = command[..at].chars().next_back();
                if before.is_none_or(|c| c == ' ' || c == '(' || c == '\'') {
                    found.push((n + 1, command[at..].trim_end_matches('\'').to_owned()));
                }
            }
        } else {
            let code = line.split('`').skip(1).step_by(2);
            found.extend(
                code.filter(|code| code.starts_with("vmint "))
                    .map(|code| (n + 1, code.to_owned())),
            );
        }
    }
    found
}

#[test]
#[cfg_attr(not(feature = "top"), ignore = "documents have all commands")]
fn every_command_in_the_documents_can_be_written_so() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        for (line, command) in commands(&text) {
            let words: Vec<_> = words(&command)
                .into_iter()
                .filter(|word| word != "…")
                .collect();
            // The program itself, its packages, and any command.
            let other = |word: &String| ["runner", "vmint-tiny", "COMMAND"].contains(&&**word);
            if words.get(1).is_none_or(other) {
                continue;
            }
            seen += 1;
            let Err(e) = Cli::try_parse_from(&words) else {
                continue;
            };
            // A sentence need not name everything, and may say NAME for a number.
            let fine = matches!(
                e.kind(),
                ErrorKind::DisplayHelp
                    | ErrorKind::DisplayVersion
                    | ErrorKind::MissingRequiredArgument
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    | ErrorKind::ValueValidation
            );
            if !fine {
                let why = e.to_string();
                wrong.push(format!(
                    "{}:{line}: `{command}`: {}",
                    page.display(),
                    why.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 150, "only {seen} commands");
}
