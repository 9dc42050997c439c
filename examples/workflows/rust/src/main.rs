//! `span 90m 1h` prints their sum: `2h30m`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let sum = std::env::args().skip(1).try_fold(0_u64, |sum, text| {
        let seconds = span::parse(&text).map_err(|e| format!("{text:?}: {e}"))?;
        sum.checked_add(seconds)
            .ok_or_else(|| format!("{text:?}: the sum is too long"))
    });
    match sum {
        Ok(seconds) => {
            println!("{}", span::format(seconds));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("span: {message}");
            ExitCode::from(2)
        }
    }
}
