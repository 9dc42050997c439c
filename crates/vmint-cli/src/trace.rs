//! What this process does, line by line, on standard error: for whoever asks, by `VMINT_LOG`, why a command is slow, or hangs.
//! All lines carry one id, and so do those that runners write about this process's requests.

use std::io::{self, Write};
use tracing::Level;
use tracing::span::EnteredSpan;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use vmint::runner::trace::{self, VARIABLE};
use vmint::{ErrorKind, Fault, Home, MachineId};

/// Everything that is vmint's own: other crates may log what they are given.
const OWN: &str = "vmint";

/// Begins to log, if that was asked for. What is done until the end of this span is done for `command`, of which nothing but
/// the name is logged.
pub fn begin(command: impl FnOnce() -> String) -> Result<Option<EnteredSpan>, Fault> {
    let Some(level) = level()? else {
        return Ok(None);
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Printable(io::stderr()))
        .with_ansi(false);
    let own = Targets::new().with_target(OWN, level);
    tracing_subscriber::registry().with(own).with(lines).init();
    let trace = trace::begin();
    Ok(Some(
        tracing::error_span!("vmint", %trace, command = command()).entered(),
    ))
}

/// Has a runner log into its own file: what happens, and more if whoever started it said so.
pub fn begin_runner(home: &Home, id: &MachineId) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(vmint::runner::process::log(home, id))
        .with_ansi(false);
    // A wrong level has been told to whoever has started it.
    let level = level().ok().flatten().unwrap_or(Level::INFO);
    let all = Targets::new()
        .with_default(Level::INFO)
        .with_target(OWN, level.max(Level::INFO));
    tracing_subscriber::registry().with(all).with(lines).init();
}

fn level() -> Result<Option<Level>, Fault> {
    let Some(word) = std::env::var_os(VARIABLE).filter(|word| !word.is_empty()) else {
        return Ok(None);
    };
    match word.to_str() {
        Some("error") => Ok(Some(Level::ERROR)),
        Some("warn") => Ok(Some(Level::WARN)),
        Some("info") => Ok(Some(Level::INFO)),
        Some("debug") => Ok(Some(Level::DEBUG)),
        Some("trace") => Ok(Some(Level::TRACE)),
        _ => {
            let word = word.to_string_lossy();
            let message = format!("{VARIABLE} is `{word}`, which is not a level");
            Err(Fault::new(ErrorKind::Usage, message).hint(format!(
                "use `{VARIABLE}=debug`: error, warn, info, debug or trace"
            )))
        }
    }
}

/// Lines may quote a guest; none commands a terminal.
struct Printable<W>(W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(vmint::printable_lines(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_quotes_a_guest_commands_no_terminal() {
        let mut out = Vec::new();
        Printable(&mut out)
            .write_all(b"said \x1b]0;x\x07\n")
            .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "said \\x1b]0;x\\x07\n");
    }
}
