//! SPECIFICATION.md keeps its word: each promise names the tests that try to break it, and what is named is there.
//!
//! A name in the last column is a path in the repository, or after one, separated by a colon, the name of a test in it; `…` at
//! the end or the beginning of a name stands for the rest.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts of the page whose rows are promises.
const PARTS: [&str; 1] = ["## Promises"];

/// Where tests are written.
const TEST_ATTRIBUTES: [&str; 5] = [
    "#[test]",
    "#[tokio::test",
    "#[vmint::test",
    "proptest! {",
    "#[test_case",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

/// The rows of the tables below a heading, up to the next one of its kind, as (line number, cells).
fn rows(page: &str, part: &str) -> Vec<(usize, Vec<String>)> {
    let lines = page.lines().enumerate();
    let inside = lines
        .skip_while(|(_, line)| *line != part)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("## "));
    let tables = inside.filter(|(_, line)| line.starts_with('|'));
    let cells = |line: &str| {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let rows: Vec<(usize, Vec<String>)> = tables.map(|(n, line)| (n + 1, cells(line))).collect();
    let is_head = |row: &[String]| row.last().is_some_and(|cell| cell == "test");
    let is_rule = |row: &[String]| row.iter().all(|cell| cell.chars().all(|c| c == '-'));
    rows.into_iter()
        .filter(|(_, row)| !is_head(row) && !is_rule(row))
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A file, or all files below a folder, as one text.
fn text_of(path: &Path) -> String {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().flatten().collect();
        entries.sort_by_key(fs::DirEntry::path);
        return entries.iter().map(|e| text_of(&e.path())).collect();
    }
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Names of functions in Rust and in Python.
fn functions(text: &str) -> Vec<&str> {
    let name = |rest: &'_ str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        end.map(|end| rest.len().min(end))
    };
    let mut all = Vec::new();
    for line in text.lines() {
        for word in ["fn ", "def "] {
            let Some(at) = line.find(word) else { continue };
            let rest = &line[at + word.len()..];
            if let Some(end) = name(rest) {
                all.push(&rest[..end]);
            }
        }
    }
    all
}

fn is_meant(name: &str, function: &str) -> bool {
    match (name.strip_suffix('…'), name.strip_prefix('…')) {
        (Some(beginning), _) => function.starts_with(beginning),
        (None, Some(end)) => function.ends_with(end),
        (None, None) => function == name,
    }
}

/// What is wrong with what a row names.
fn faults(cell: &str, texts: &mut HashMap<PathBuf, String>) -> Vec<String> {
    let (root, mut faults) = (root(), Vec::new());
    let (mut file, mut files): (Option<PathBuf>, usize) = (None, 0);
    for name in quoted(cell) {
        let is_path = name.contains('/') || name == ".ci/run";
        if is_path {
            let path = root.join(name);
            files += 1;
            if !path.exists() {
                faults.push(format!("`{name}` does not exist"));
            }
            file = Some(path);
            continue;
        }
        let is_function = name
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '…');
        if !is_function || !name.contains('_') {
            // A target of the fuzzer, by its own name.
            if !root
                .join("fuzz/targets")
                .join(format!("{name}.rs"))
                .exists()
            {
                faults.push(format!(
                    "`{name}` is neither a path, nor a test, nor a target of the fuzzer"
                ));
            }
            files += 1;
            continue;
        }
        let Some(path) = &file else {
            faults.push(format!("`{name}` comes before its file"));
            continue;
        };
        let text = texts.entry(path.clone()).or_insert_with(|| text_of(path));
        if !functions(text)
            .iter()
            .any(|function| is_meant(name, function))
        {
            faults.push(format!("{} has no test `{name}`", path.display()));
        }
    }
    if files == 0 {
        faults.push("no test is named".into());
    }
    faults
}

#[test]
fn every_promise_names_a_test_and_every_test_that_is_named_is_there() {
    let page = fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let (mut wrong, mut texts, mut seen) = (Vec::new(), HashMap::new(), 0);
    for part in PARTS {
        for (line, row) in rows(&page, part) {
            seen += 1;
            let cell = row.last().expect("a row has cells");
            let faults = faults(cell, &mut texts).into_iter();
            wrong.extend(faults.map(|fault| format!("SPECIFICATION.md:{line}: {fault}")));
        }
    }
    assert!(seen > 50, "only {seen} promises were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that is named for its tests has some.
#[test]
fn a_source_file_that_is_named_has_tests() {
    let page = fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let (mut without, root) = (Vec::new(), root());
    for (line, row) in PARTS.iter().flat_map(|part| rows(&page, part)) {
        for name in quoted(row.last().expect("a row has cells")) {
            let path = root.join(name);
            // What tests and targets of the fuzzer are made of.
            let is_part = name.starts_with("fuzz/") || name.starts_with("tests/src/");
            let is_rust = path.extension().is_some_and(|e| e == "rs");
            let is_source = is_rust && !is_part && path.is_file();
            if !is_source {
                continue;
            }
            // Its tests may lie beside it, in a file of their own.
            let beside = path.with_extension("").join("tests.rs");
            let text = text_of(&path) + &text_of(&beside);
            if !TEST_ATTRIBUTES.iter().any(|test| text.contains(test)) {
                without.push(format!("SPECIFICATION.md:{line}: {name}"));
            }
        }
    }
    assert!(without.is_empty(), "without a test: {without:#?}");
}

#[test]
fn a_name_that_is_wrong_is_found() {
    let wrong = |cell: &str| faults(cell, &mut HashMap::new());
    let right = "`tests/tests/spec.rs`: `a_name_that_is_wrong_is_found`, `a_name_…`, `…_is_found`";
    assert_eq!(wrong(right), Vec::<String>::new());
    for (cell, what) in [
        ("", "no test"),
        ("some words", "no test"),
        ("`tests/tests/nothing.rs`", "does not exist"),
        (
            "`tests/tests/spec.rs`: `a_name_that_is_right`",
            "has no test",
        ),
        ("`tests/tests/spec.rs`: `b_…`", "has no test"),
        ("`a_name_…`", "before its file"),
        ("fuzz target `nonsense`", "neither"),
    ] {
        let faults = wrong(cell).join("; ");
        assert!(faults.contains(what), "{cell}: {faults}");
    }
}
