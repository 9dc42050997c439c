//! The program as its users meet it.

use std::process::{Command, Output};

fn span(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_span"))
        .args(args)
        .output()
        .expect("span starts")
}

#[test]
fn lengths_are_added_and_written_in_few_units() {
    let output = span(&["90m", "1h"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2h30m\n");
}

#[test]
fn a_mistake_is_told_on_standard_error_with_exit_code_2() {
    let output = span(&["1h", "soon"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "span: \"soon\": a number and a unit belong together, at 0\n"
    );
    assert!(output.stdout.is_empty());
}
