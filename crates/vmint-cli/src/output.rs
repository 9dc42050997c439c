//! Results on standard output.

use crate::args::Format;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};
use vmint::{ErrorKind, Fault, is_unprintable};

/// The exit code of a process whose reader has gone, as a shell gives for `SIGPIPE`.
pub const BROKEN_PIPE: u8 = 141;

/// Prints a line.
pub fn line(text: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    checked(written)
}

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    checked(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// A reader that has gone (`| head`) ends the process, as it ends others.
pub fn checked(written: io::Result<()>) -> Result<(), Fault> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => crate::signals::exit(BROKEN_PIPE),
        Err(e) => {
            Err(Fault::from_error(ErrorKind::Host, &e).context("cannot write to standard output"))
        }
        Ok(()) => Ok(()),
    }
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Fault::new(ErrorKind::Internal, e.to_string()))?;
    line(&printable_json(&text))
}

/// Prints a value as JSON on one line.
pub fn json_line(value: &impl Serialize) -> Result<(), Fault> {
    let text =
        serde_json::to_string(value).map_err(|e| Fault::new(ErrorKind::Internal, e.to_string()))?;
    line(&printable_json(&text))
}

/// JSON that commands no terminal and means the same: what it holds of such characters is in strings, and is escaped there.
pub fn printable_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_unprintable(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// Prints a value as asked for; nothing if the text for people is empty.
pub fn show(
    format: Format,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Fault> {
    match format {
        Format::Json => json(value),
        Format::Ndjson => json_line(value),
        Format::Table => match text() {
            text if text.is_empty() => Ok(()),
            // Each part was made printable where it was put together, or else it is here.
            text => line(&vmint::printable_lines(&text)),
        },
    }
}

/// Columns under headings.
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                printable(&cell)
            }
        }));
    }
    plain(&mut table)
}

/// Names and values, a line for each.
pub fn list<const N: usize>(rows: [(&str, String); N]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        let value = if value.is_empty() {
            "-".to_owned()
        } else {
            printable(&value)
        };
        table.add_row([name.to_owned(), value]);
    }
    plain(&mut table)
}

fn plain(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Without what would command a terminal; line breaks stay.
pub fn printable(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(vmint::printable).collect();
    lines.join("\n")
}

/// A moment in milliseconds since 1970, as RFC 3339 in UTC.
pub fn time(at_ms: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
    humantime::format_rfc3339_millis(at).to_string()
}

/// How long ago a moment is, in its largest unit.
pub fn age(at_ms: i64) -> String {
    let ms = vmint::now_ms().saturating_sub(at_ms.max(0));
    let seconds = u64::try_from(ms).unwrap_or(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds for people.
pub fn ms(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 10_000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_never_empty() {
        let rows = [
            ["a".into(), "running".into()],
            ["longer".into(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "STATE"], rows),
            "NAME    STATE\na       running\nlonger  -"
        );
        assert_eq!(table(["NAME"], []), "NAME");
    }

    #[test]
    fn what_would_command_a_terminal_is_not_passed_on() {
        assert_eq!(printable("a\x1b[2Jb\tü\nc"), "a\\x1b[2Jb\\tü\nc");
        let text = serde_json::to_string("\x1b\u{9b}\x7f\u{202e}\u{e0001}").unwrap();
        let shown = printable_json(&text);
        assert_eq!(shown, r#""\u001b\u009b\u007f\u202e\udb40\udc01""#);
        let value: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(value, serde_json::from_str::<String>(&text).unwrap());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(ms(3.25), "3.2 ms");
        assert_eq!(ms(42.4), "42 ms");
        assert_eq!(ms(12_345.0), "12.3 s");
    }
}
