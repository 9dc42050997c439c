//! What the targets share.

pub mod archive;

use vmint_syntax::expr::{ContextName, EvalError, Scope, Status, Value};

/// A scope with something in each context, deep enough for filters and indexes to find something.
pub fn scope() -> Scope {
    let sample = r#"{
        "github": {"ref": "refs/heads/main", "sha": "0123abc", "event_name": "push", "event": {"commits": [{"id": "a"}, {"id": "b"}]}},
        "env": {"NAME": "vmint", "}}": "braces", "EMPTY": ""},
        "vars": {"N": "12", "LIST": "[1,2,3]"},
        "job": {"status": "success"},
        "jobs": {"a": {"result": "success", "outputs": {"x": "y"}}},
        "steps": {"build": {"outputs": {"version": "1.2"}, "outcome": "failure", "conclusion": "success"}},
        "runner": {"os": "Linux", "temp": "/tmp"},
        "secrets": {"TOKEN": "s3cr3t"},
        "strategy": {"fail-fast": true, "job-index": 0},
        "matrix": {"os": ["a", "B", 3], "n": -1.5e3, "on": true, "none": null},
        "needs": {"lint": {"result": "failure", "outputs": {}}, "test": {"result": "success", "outputs": {"o": "1"}}},
        "inputs": {"who": "Größe", "flag": false}
    }"#;
    let sample = Value::from_json(sample).expect("the sample is JSON");
    ContextName::ALL.into_iter().fold(
        Scope::new().with_status(Status::Failure).with_hash_files(),
        |scope, name| {
            let value = sample.member(name.as_str());
            scope.with(name, value)
        },
    )
}

/// Evaluates until no digest of files is missing. The digests are made up.
pub fn evaluated<T>(what: impl Fn(&Scope) -> Result<T, EvalError>) -> Result<T, EvalError> {
    let mut scope = scope();
    // Each round answers one call, and an expression has at most 21,000 characters.
    for _ in 0..21_000 {
        match what(&scope) {
            Err(EvalError::HashPending(patterns)) => scope.remember_hash(patterns, "0a1b"),
            result => return result,
        }
    }
    panic!("the same digest is asked for again and again");
}

/// An error must name a place within the text.
pub fn place(text: &str, error: &EvalError) {
    if let Some(offset) = error.offset() {
        assert!(
            text.is_char_boundary(offset),
            "{error}: offset {offset} of {} bytes",
            text.len()
        );
    }
    // Messages are shown.
    assert!(error.to_string().len() < text.len() + 1000, "{error}");
}
