//! What is said about failures.

use crate::args::Format;
use crate::exit::{Codes, Stdout, exit_code, signal_code};
use crate::{output, signals};
use std::io::Write;
use vmint::{ErrorBody, ErrorKind, Fault, printable_lines};

/// Says what failed on standard error. An interruption is no news to who caused it.
pub fn tell(fault: &Fault) {
    if fault.kind == ErrorKind::Interrupted {
        return;
    }
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "vmint: {}", printable_lines(&fault.message));
    if let Some(hint) = &fault.hint {
        let _ = writeln!(stderr, "hint: {}", printable_lines(hint));
    }
}

/// Prints a failure as JSON: where results are, or where that disturbs nobody.
pub fn print(json: &str, stdout: Stdout) {
    match stdout {
        Stdout::Results => {
            let _ = output::line(json);
        }
        Stdout::Raw => {
            let _ = writeln!(std::io::stderr(), "{json}");
        }
    }
}

/// Says what failed and gives the exit code. As JSON too if that is asked for: on standard output, or on standard error
/// where that belongs to somebody else.
pub fn report(fault: &Fault, codes: Codes, format: Format, stdout: Stdout) -> u8 {
    if let Some(signal) = signals::received() {
        // What failed since, failed for that.
        return signal_code(signal);
    }
    tell(fault);
    if format != Format::Table {
        let body = ErrorBody {
            error: fault.clone(),
        };
        let json = output::printable_json(&serde_json::to_string(&body).unwrap_or_default());
        print(&json, stdout);
    }
    exit_code(fault.kind, codes)
}
