//! Pages of the documentation that are made of the code: `docs/configuration.md` and `docs/command-line.md`.
//!
//! The tests compare each page with what is made, so that no key and no option changes without its page.

mod command_line;
mod configuration;
mod mentioned;

use std::fs;
use std::path::Path;

/// Set, the pages are written anew.
const WRITE: &str = "VMINT_WRITE_DOCS";

/// Compares a page with the one that is kept, or keeps it.
fn compare(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).position(|(a, b)| a != b);
    assert!(
        made == kept,
        "docs/{name} is not what the code says, from line {} on. Write it anew:\n  {WRITE}=1 cargo nextest run -p vmint-cli pages",
        differs.unwrap_or_else(|| made.lines().count().min(kept.lines().count())) + 1
    );
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
