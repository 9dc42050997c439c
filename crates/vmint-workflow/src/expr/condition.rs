//! The rules of `if`.

use super::error::EvalError;
use super::eval::{Evaluation, check};
use super::names::Function;
use super::scope::{Scope, Status};
use super::template::{Segment, Template, split};
use super::tree::Node;

/// How an `if` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionForm {
    /// Nothing, or only white space: `success()`.
    Absent,
    /// An expression without `${{ }}`.
    Bare,
    /// Exactly one `${{ … }}`.
    Wrapped,
    /// `${{ … }}` with text around it, be it only a line break. This is a text that is not empty, and so **always true**,
    /// whatever the expressions give: a checker should warn.
    Mixed,
}

/// How an `if` is written; an error where `${{` is not closed.
pub fn condition_form(text: Option<&str>) -> Result<ConditionForm, EvalError> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(ConditionForm::Absent);
    };
    if !text.contains("${{") {
        return Ok(ConditionForm::Bare);
    }
    Ok(match &*split(text)? {
        [Segment::Expression(_)] => ConditionForm::Wrapped,
        _ => ConditionForm::Mixed,
    })
}

/// An `if` that was parsed.
pub(super) fn parse(text: &str) -> Result<Template<'_>, EvalError> {
    match condition_form(Some(text))? {
        ConditionForm::Absent => Ok(Template::Plain("")),
        ConditionForm::Bare => Node::parse(text).map(Template::Single),
        ConditionForm::Wrapped | ConditionForm::Mixed => Template::parse(text),
    }
}

/// Whether an `if` holds.
///
/// Without a condition it holds when all went well so far; so, too, must one that names no status function anywhere.
/// The scope must have a [status](Scope::with_status).
pub fn condition(text: Option<&str>, scope: &Scope) -> Result<bool, EvalError> {
    let template = parse(text.unwrap_or_default())?;
    for node in template.expressions() {
        check(node, scope)?;
    }
    let status = scope.status().ok_or(EvalError::FunctionNotAvailable {
        function: Function::Success,
        offset: 0,
    })?;
    let fine_so_far = status == Status::Success;
    if let Template::Plain(_) = template {
        return Ok(fine_so_far);
    }
    if !fine_so_far && !template.expressions().any(asks_for_status) {
        return Ok(false);
    }
    let value = template.evaluate(&mut Evaluation::new(scope))?;
    Ok(value.is_truthy())
}

fn asks_for_status(node: &Node) -> bool {
    let mut asks = false;
    node.visit(&mut |node| {
        asks |= matches!(node, Node::Call(function, ..) if function.is_status());
    });
    asks
}
