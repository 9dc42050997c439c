//! What is cancelled leaves nothing that nobody holds, at whichever await it was dropped.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use vmint_tests::{Home, call::binary};

/// The program that cancels, which cargo builds if need be. `VMINT_TEST_EXAMPLES` is a folder with built examples, for where there is no
/// cargo.
fn program() -> PathBuf {
    if let Some(folder) = std::env::var_os("VMINT_TEST_EXAMPLES") {
        return PathBuf::from(folder).join("cancel");
    }
    let cargo = Command::new(env!("CARGO"))
        .args([
            "build",
            "--workspace",
            "--example",
            "cancel",
            "--message-format",
            "json",
        ])
        .env("NO_COLOR", "1")
        .output()
        .expect("cargo can be started");
    assert!(
        cargo.status.success(),
        "{}",
        String::from_utf8_lossy(&cargo.stderr)
    );
    let said = String::from_utf8_lossy(&cargo.stdout).into_owned();
    let values = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = values.filter(|v| v["target"]["name"] == "cancel");
    let program = programs.find_map(|v| v["executable"].as_str().map(PathBuf::from));
    program.unwrap_or_else(|| panic!("cargo names no program: {said}"))
}

fn cancel(home: &Home, what: &str, least: usize) {
    let output = Command::new(program())
        .arg(what)
        .env("VMINT_RUNNER", binary())
        .envs(home.environment())
        .output()
        .expect("it can be started");
    let said = [&output.stdout, &output.stderr]
        .map(|b| String::from_utf8_lossy(b).into_owned())
        .concat();
    assert!(output.status.success(), "{what}: {said}");
    let awaits = said
        .split_whitespace()
        .find_map(|word| word.parse::<usize>().ok());
    assert!(
        awaits.is_some_and(|n| n >= least),
        "{what} was cancelled nowhere: {said}"
    );
}

#[test]
fn a_machine_that_is_being_made_goes_with_whoever_makes_it() {
    let home = Home::new();
    cancel(&home, "create", 2);
    home.empties(Duration::from_secs(20));
}

#[test]
fn so_does_one_that_was_to_be_kept() {
    let home = Home::new();
    cancel(&home, "keep", 2);
    home.empties(Duration::from_secs(20));
}

#[test]
fn forks_that_are_being_made_all_go_and_their_source_stays() {
    let home = Home::new();
    home.start("source");
    cancel(&home, "fork", 4);
    assert_eq!(home.rows(), ["source"]);
    assert_eq!(home.sh("source", "echo up"), "up");
}

#[test]
fn a_pool_that_is_being_made_goes_with_its_machines() {
    let home = Home::new();
    cancel(&home, "pool", 2);
    home.empties(Duration::from_secs(20));
}

#[test]
fn whoever_gives_up_waiting_for_a_machine_has_none() {
    let home = Home::new();
    home.ok("pool create p --image tiny --memory 128M --min 0 --max 1");
    // It has to be made for whoever comes first.
    cancel(&home, "acquire", 1);
    home.ok("pool rm --force p");
}
