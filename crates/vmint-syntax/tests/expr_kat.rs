//! Known answers: what GitHub gives for expressions, by its documentation and its runner. The cases are in `expr/*.json`, by
//! subject: `expr`, the `contexts` that it sees, and `value` or a part of the `error`.

use serde::Deserialize;
use std::collections::BTreeMap;
use vmint_syntax::expr::{ContextName, Scope, Status, Value, evaluate};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    expr: String,
    #[serde(default)]
    contexts: BTreeMap<String, Value>,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Value(serde_json::Value),
    Error(String),
}

/// What is wrong with a case, if anything.
fn wrong(case: &Case) -> Option<String> {
    let mut scope = Scope::new().with_status(Status::Success).with_hash_files();
    scope.remember_hash(vec!["*.lock".to_owned(), "a/**".to_owned()], "c0ffee");
    for (name, value) in &case.contexts {
        scope.set(
            ContextName::parse(name).expect("a context of GitHub's"),
            value.clone(),
        );
    }
    let expr = &case.expr;
    match (evaluate(expr, &scope), &case.answer) {
        (Ok(value), Answer::Value(expected)) => {
            let value = serde_json::Value::from(&value);
            (value != *expected)
                .then(|| format!("{expr}\n    gives    {value}\n    expected {expected}"))
        }
        (Err(error), Answer::Error(expected)) => {
            let error = error.to_string();
            (!error.contains(expected))
                .then(|| format!("{expr}\n    fails    {error}\n    expected {expected}"))
        }
        (Ok(value), Answer::Error(expected)) => Some(format!(
            "{expr}\n    gives    {}\n    expected {expected}",
            value.to_json_pretty()
        )),
        (Err(error), Answer::Value(expected)) => Some(format!(
            "{expr}\n    fails    {error}\n    expected {expected}"
        )),
    }
}

fn check(cases: &str, at_least: usize) {
    let cases: BTreeMap<String, Vec<Case>> =
        serde_json::from_str(cases).expect("well-formed cases");
    let mut count = 0;
    let mut failures = Vec::new();
    for (group, cases) in &cases {
        count += cases.len();
        failures.extend(
            cases
                .iter()
                .filter_map(wrong)
                .map(|text| format!("{group}: {text}")),
        );
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= at_least, "only {count} cases were read");
}

#[test]
fn literals_and_coercions_are_githubs() {
    check(include_str!("expr/coercions.json"), 60);
}

#[test]
fn operators_are_githubs() {
    check(include_str!("expr/operators.json"), 60);
}

#[test]
fn indexes_and_filters_are_githubs() {
    check(include_str!("expr/indexes.json"), 40);
}

#[test]
fn functions_are_githubs() {
    check(include_str!("expr/functions.json"), 80);
}

#[test]
fn what_is_no_expression_is_refused_with_a_reason() {
    check(include_str!("expr/refused.json"), 40);
}
