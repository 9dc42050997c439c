//! `workflow check`.

use super::files;
use crate::args::workflow::Check;
use crate::context::{self, Context, wait};
use crate::output::printable;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use vmint::workflow::check;
use vmint::workflow::diagnostic::{Diagnostic, Diagnostics, Severity};
use vmint::workflow::mask::Masks;
use vmint::workflow::start::check_file;
use vmint::workflow::{Asked, CannotRun};
use vmint::{ErrorKind, Fault};

/// Of a longer line, a part around the place is shown.
const WIDTH: usize = 100;

/// `vmint workflow check`.
pub fn check(context: Context, args: &Check) -> Result<u8, Fault> {
    let config = context::config()?;
    let here = std::env::current_dir().map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot tell the working directory")
    })?;
    let wanted = if args.files.is_empty() {
        files::all(&here)?
    } else {
        let found = args.files.iter().map(|given| files::find(&here, given));
        found.collect::<Result<Vec<_>, _>>()?
    };
    let (mut all, mut files) = (Vec::new(), 0);
    for path in wanted {
        let shown = path.strip_prefix(&here).unwrap_or(&path);
        let checked = wait(async {
            Ok(check_file(&here.join(&path), shown, &config, &Asked::default()).await)
        })?;
        all.extend(match checked {
            Ok((checked, _)) => checked.warnings,
            Err(CannotRun::Invalid(Diagnostics(diagnostics))) => diagnostics,
            Err(CannotRun::Fault(fault)) => return Err(fault),
        });
        files += 1;
    }
    let errors = all.iter().filter(|d| d.severity == Severity::Error).count();
    context.show(&all, || {
        let mut sources = HashMap::new();
        let mut text: Vec<_> = all
            .iter()
            .map(|diagnostic| {
                // What a workflow uses is in files of its own.
                let path = here.join(&diagnostic.file);
                let text = sources.entry(path.clone()).or_insert_with(|| source(&path));
                render(diagnostic, text)
            })
            .collect();
        text.push(summary(files, errors, all.len() - errors));
        text.join("\n\n")
    })?;
    Ok(u8::from(errors > 0))
}

/// All that is wrong with a file, with its places, for somebody who wanted to run it.
pub fn tell(diagnostics: &Diagnostics, masks: &Masks) {
    let mut sources = HashMap::new();
    for diagnostic in &diagnostics.0 {
        let path = &diagnostic.file;
        let text: &Vec<u8> = sources.entry(path.clone()).or_insert_with(|| source(path));
        let shown = masks.mask(&render(diagnostic, text));
        let _ = writeln!(std::io::stderr(), "{shown}\n");
    }
}

/// What the user sees of a file's text; nothing, if it cannot be read any more.
fn source(path: &Path) -> Vec<u8> {
    check::read(path).unwrap_or_default()
}

/// `ci.yml:12:9: error: …`, the line with a mark under the place, and what to do.
pub fn render(diagnostic: &Diagnostic, source: &[u8]) -> String {
    let severity = diagnostic.severity.as_str();
    let (file, spot) = (diagnostic.file.display().to_string(), diagnostic.spot);
    let mut text = printable(&format!(
        "{file}:{spot}: {severity}: {}",
        diagnostic.message
    ));
    let line = source.split(|&b| b == b'\n').nth(spot.line as usize - 1);
    if let Some(line) = line.filter(|line| !line.trim_ascii().is_empty()) {
        let (line, column) = window(&String::from_utf8_lossy(line), spot.column as usize);
        let number = spot.line.to_string();
        let margin = " ".repeat(number.len());
        let blank = " ".repeat(column);
        text += &format!("\n{margin} |\n{number} | {line}\n{margin} | {blank}^");
    }
    if let Some(help) = &diagnostic.help {
        text += &format!("\n  help: {}", printable(help).replace('\n', "\n        "));
    }
    text
}

/// The part of a line that is shown, and how many characters of it stand before the place.
fn window(line: &str, column: usize) -> (String, usize) {
    let line: Vec<char> = line.trim_end().chars().collect();
    let at = column.saturating_sub(1).min(line.len());
    let from = if line.len() <= WIDTH {
        0
    } else {
        at.saturating_sub(WIDTH / 2)
    };
    let part: String = line[from..].iter().take(WIDTH).collect();
    // A tab as one blank, so that the mark stands under the place.
    (printable(&part.replace('\t', " ")), at - from)
}

fn summary(files: usize, errors: usize, warnings: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let files = count(files, "file");
    match (errors, warnings) {
        (0, 0) => format!("{files} checked, no problems"),
        _ => format!(
            "{files}: {}, {}",
            count(errors, "error"),
            count(warnings, "warning")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint::workflow::diagnostic::Spot;

    fn diagnostic(line: u32, column: u32) -> Diagnostic {
        let spot = Spot { line, column };
        Diagnostic::error(Path::new("ci.yml"), spot, "there is no key `step`")
            .help("did you mean `steps`?")
    }

    #[test]
    fn a_place_is_shown_in_its_line_with_what_to_do() {
        let source = "jobs:\n  a:\n\tü step: []\r\n";
        let shown = render(&diagnostic(3, 4), source.as_bytes());
        insta::assert_snapshot!(shown, @r"
        ci.yml:3:4: error: there is no key `step`
          |
        3 |  ü step: []
          |    ^
          help: did you mean `steps`?
        ");
    }

    #[test]
    fn a_place_that_is_not_in_the_source_is_told_without_a_line() {
        for (line, column) in [(9, 1), (2, 1)] {
            let shown = render(&diagnostic(line, column), b"a\n \n");
            assert_eq!(shown.lines().count(), 2, "{shown}");
        }
        let shown = render(&diagnostic(1, 99), b"abc");
        assert!(shown.contains("\n1 | abc\n  |    ^\n"), "{shown}");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let line = format!("{}X{}", "a".repeat(1_000_000), "b".repeat(1_000_000));
        let (part, before) = window(&line, 1_000_001);
        assert_eq!(part.chars().count(), WIDTH);
        assert_eq!(part.chars().nth(before), Some('X'));
    }

    #[test]
    fn what_stands_in_a_file_commands_no_terminal() {
        let shown = render(&diagnostic(1, 1), b"\x1b[2J: \xff");
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}
