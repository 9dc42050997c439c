//! Where secrets come from: files, the command line, the environment, and the user at the terminal.

use super::{dotenv, files};
use crate::context::Context;
use crate::terminal;
use crate::values::{Secret, SecretArg};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use vmint::{ErrorKind, Fault};

/// A longer file of secrets is none.
const LONGEST: u64 = 1 << 20;

/// Reads all secrets. What is given on the command line wins over what is in files, and the last over the first; upper and
/// lower case are the same, as on GitHub.
pub fn read(
    context: Context,
    args: &[SecretArg],
    files: &[PathBuf],
) -> Result<Vec<(String, Secret)>, Fault> {
    let environment = |name: &str| std::env::var_os(name);
    let ask = |name: &str| {
        let is_terminal = std::io::stdin().is_terminal();
        is_terminal.then(|| terminal::ask_hidden(&format!("secret {name}: ")))
    };
    let mut all = Vec::new();
    for file in files {
        for (name, value) in read_file(file)? {
            put(&mut all, name, value);
        }
    }
    let mut is_visible = false;
    for arg in args {
        let (name, given) = arg.read()?;
        is_visible |= given.is_some();
        let value = given.map_or_else(|| find(&name, environment, ask), Ok)?;
        put(&mut all, name, value);
    }
    if is_visible {
        context.note(
            "what is given as --secret K=V can be seen by others on this host, in the list of processes; \
             --secret K takes it from the variable K, or asks for it",
        );
    }
    Ok(all)
}

/// The value of a secret that has none on the command line.
fn find(
    name: &str,
    environment: impl Fn(&str) -> Option<OsString>,
    ask: impl Fn(&str) -> Option<Result<String, Fault>>,
) -> Result<Secret, Fault> {
    let usage = |message: String| Fault::new(ErrorKind::Usage, message);
    if let Some(value) = environment(name) {
        let value = value.into_string();
        return value
            .map(Secret)
            .map_err(|_| usage(format!("the variable {name} is not UTF-8")));
    }
    ask(name).transpose()?.map(Secret).ok_or_else(|| {
        usage(format!(
            "the secret {name} has no value: there is no variable {name}, and no terminal to ask on"
        ))
        .hint(format!("set the variable {name}, or use --secret-file"))
    })
}

fn put(all: &mut Vec<(String, Secret)>, name: String, value: Secret) {
    all.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
    all.push((name, value));
}

fn read_file(path: &Path) -> Result<Vec<(String, Secret)>, Fault> {
    let bytes = files::read_bounded(path, LONGEST, "--secret-file")?;
    let wrong = |why: &str| Fault::new(ErrorKind::Usage, format!("{}: {why}", path.display()));
    let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8"))?;
    dotenv::parse(&text).map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    const CONTEXT: Context = Context {
        format: Format::Table,
        quiet: true,
        tends: false,
    };

    fn text(secret: Result<Secret, Fault>) -> Result<String, Fault> {
        secret.map(|secret| secret.0)
    }

    #[test]
    fn a_secret_is_taken_from_the_environment_or_asked_for_or_missed() {
        let set = |_: &str| Some(OsString::from("set"));
        let unset = |_: &str| None;
        let typed = |_: &str| Some(Ok("typed".to_owned()));
        let no_terminal = |_: &str| None;
        assert_eq!(text(find("K", set, typed)).as_deref(), Ok("set"));
        assert_eq!(text(find("K", unset, typed)).as_deref(), Ok("typed"));
        let fault = find("K", unset, no_terminal).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Usage);
        assert!(
            fault.message.starts_with("the secret K has no value"),
            "{fault}"
        );
    }

    #[test]
    fn the_command_line_wins_over_files_whatever_the_case() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        std::fs::write(&file, "TOKEN=of the file\nOTHER='kept'\n").unwrap();
        let args = [SecretArg::from(OsString::from("token=of the line"))];
        let all = read(CONTEXT, &args, &[file]).unwrap();
        let all: Vec<_> = all
            .into_iter()
            .map(|(name, value)| (name, value.0))
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(all, [pair("OTHER", "kept"), pair("token", "of the line")]);
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told_without_showing_it() {
        for arg in ["1X=hunter2", "=hunter2", "A B=hunter2"] {
            let fault = read(CONTEXT, &[SecretArg::from(OsString::from(arg))], &[]).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::Usage);
            assert!(!fault.message.contains("hunter2"), "{fault}");
        }
        let missing = PathBuf::from("/no/such/file");
        let fault = read(CONTEXT, &[], &[missing]).unwrap_err();
        assert!(fault.message.contains("/no/such/file"), "{fault}");
    }
}
