//! The functions.

use super::compare::fold;
use super::error::EvalError;
use super::eval::Evaluation;
use super::format;
use super::names::Function;
use super::tree::Node;
use super::value::Value;
use std::borrow::Cow;

/// Memory that a parsed JSON text may take, for each byte of it: `{}` is the worst.
const BYTES_PER_JSON_BYTE: usize = 4;

/// Calls a function. `case` is none of these: it gives one of its arguments, as operators do.
pub(super) fn call(
    evaluation: &mut Evaluation<'_>,
    function: Function,
    arguments: &[Node],
    offset: usize,
) -> Result<Value, EvalError> {
    match (function, arguments) {
        (Function::Contains, [search, item]) => contains(evaluation, search, item),
        (Function::StartsWith, [text, start]) => {
            both_texts(evaluation, text, start, |text, start| {
                text.starts_with(start)
            })
        }
        (Function::EndsWith, [text, end]) => {
            both_texts(evaluation, text, end, |text, end| text.ends_with(end))
        }
        (Function::Format, [text, values @ ..]) => format::call(evaluation, text, values),
        (Function::Join, [items]) => join(evaluation, items, None),
        (Function::Join, [items, separator]) => join(evaluation, items, Some(separator)),
        (Function::ToJson, [value]) => to_json(evaluation, value),
        (Function::FromJson, [text]) => from_json(evaluation, text),
        (Function::HashFiles, patterns) => hash_files(evaluation, patterns, offset),
        _ => match evaluation
            .scope
            .status()
            .map(|status| status.answer(function))
        {
            Some(Some(answer)) => Ok(answer.into()),
            None if function.is_status() => {
                Err(EvalError::FunctionNotAvailable { function, offset })
            }
            // The parser has counted the arguments.
            _ => Err(EvalError::WrongArguments {
                function,
                expected: "another number of arguments".to_owned(),
                offset,
            }),
        },
    }
}

fn contains(
    evaluation: &mut Evaluation<'_>,
    search: &Node,
    item: &Node,
) -> Result<Value, EvalError> {
    let search = evaluation.value(search)?;
    let item = evaluation.value(item)?;
    let found = match &search {
        Value::Array(items) => items.iter().any(|each| item.loosely_equals(each)),
        Value::Object(_) => false,
        _ => item.is_primitive() && fold(&search.to_text()).contains(&fold(&item.to_text())),
    };
    Ok(found.into())
}

/// A question about two texts; no for lists and mappings.
fn both_texts(
    evaluation: &mut Evaluation<'_>,
    left: &Node,
    right: &Node,
    ask: impl Fn(&str, &str) -> bool,
) -> Result<Value, EvalError> {
    let (left, right) = (evaluation.value(left)?, evaluation.value(right)?);
    let yes = left.is_primitive()
        && right.is_primitive()
        && ask(&fold(&left.to_text()), &fold(&right.to_text()));
    Ok(yes.into())
}

fn join(
    evaluation: &mut Evaluation<'_>,
    items: &Node,
    separator: Option<&Node>,
) -> Result<Value, EvalError> {
    let items = evaluation.value(items)?;
    let items = match &items {
        Value::Array(items) => items,
        Value::Object(_) => return Ok("".into()),
        one => return Ok(one.to_text().into_owned().into()),
    };
    let separator = separator.map(|node| evaluation.value(node)).transpose()?;
    let separator = match &separator {
        Some(separator) if separator.is_primitive() => separator.to_text(),
        _ => Cow::Borrowed(","),
    };
    let mut out = String::new();
    for (index, item) in items.iter().enumerate() {
        let text = item.to_text();
        let between = if index == 0 { "" } else { &*separator };
        evaluation.budget.take(between.len() + text.len())?;
        out.push_str(between);
        out.push_str(&text);
    }
    Ok(out.into())
}

fn to_json(evaluation: &mut Evaluation<'_>, value: &Node) -> Result<Value, EvalError> {
    let value = evaluation.value(value)?;
    let mut out = String::new();
    value
        .write_json(&mut out, evaluation.budget.left())
        .map_err(|_| EvalError::TooLarge)?;
    evaluation.budget.take(out.len())?;
    Ok(out.into())
}

fn from_json(evaluation: &mut Evaluation<'_>, text: &Node) -> Result<Value, EvalError> {
    let text = evaluation.value(text)?;
    let text = text.to_text();
    evaluation
        .budget
        .take(text.len().saturating_mul(BYTES_PER_JSON_BYTE))?;
    Value::from_json(&text).map_err(|error| EvalError::Json {
        message: if text.trim().is_empty() {
            "it is empty".to_owned()
        } else {
            error.to_string()
        },
    })
}

fn hash_files(
    evaluation: &mut Evaluation<'_>,
    patterns: &[Node],
    offset: usize,
) -> Result<Value, EvalError> {
    let patterns = patterns
        .iter()
        .map(|pattern| Ok(evaluation.value(pattern)?.to_text().into_owned()))
        .collect::<Result<Vec<_>, EvalError>>()?;
    match patterns.first() {
        Some(option)
            if option.starts_with("--")
                && !option.eq_ignore_ascii_case("--follow-symbolic-links") =>
        {
            let option: String = option.chars().take(50).collect();
            return Err(EvalError::WrongArguments {
                function: Function::HashFiles,
                expected: format!("no option `{option}`; there is only `--follow-symbolic-links`"),
                offset,
            });
        }
        _ => {}
    }
    match evaluation.scope.hash(&patterns) {
        Some(digest) => Ok(digest.into()),
        None => Err(EvalError::HashPending(patterns)),
    }
}
