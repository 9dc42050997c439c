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

/// Whether an `if` holds only when all went well so far: it names no status function.
pub fn implies_success(text: Option<&str>) -> bool {
    let parsed = parse(text.unwrap_or_default());
    parsed.is_ok_and(|template| !template.expressions().any(asks_for_status))
}

/// Whether the `pre-if` or `post-if` of an action holds. Without one it does, and none implies `success()`: the runner
/// evaluates these as they stand.
pub fn hook_condition(text: Option<&str>, scope: &Scope) -> Result<bool, EvalError> {
    match parse(text.unwrap_or_default())? {
        Template::Plain(_) => Ok(true),
        template => {
            let value = template.evaluate(&mut Evaluation::new(scope))?;
            Ok(value.is_truthy())
        }
    }
}

fn asks_for_status(node: &Node) -> bool {
    let mut asks = false;
    node.visit(&mut |node| {
        asks |= matches!(node, Node::Call(function, ..) if function.is_status());
    });
    asks
}

#[cfg(test)]
mod tests {
    use super::super::names::ContextName;
    use super::super::value::{Object, Value};
    use super::*;

    fn holds(text: &str, status: Status) -> bool {
        let github = Object::from_iter([("ref", "main")]);
        let scope = Scope::new()
            .with(ContextName::Github, Value::from(github))
            .with_status(status);
        condition(Some(text), &scope).unwrap()
    }

    #[test]
    fn without_a_condition_all_must_have_gone_well() {
        let given = |status| condition(None, &Scope::new().with_status(status)).unwrap();
        assert!(given(Status::Success));
        for status in [Status::Failure, Status::Cancelled, Status::Skipped] {
            assert!(!given(status), "{status:?}");
            assert!(!holds(" \n", status), "{status:?}");
        }
    }

    #[test]
    fn without_a_status_function_success_is_implied() {
        for text in [
            "github.ref == 'main'",
            "${{ github.ref == 'main' }}",
            "'always()'",
        ] {
            assert!(holds(text, Status::Success), "{text}");
            assert!(!holds(text, Status::Failure), "{text}");
        }
        assert!(!holds("github.ref == 'other'", Status::Success));
    }

    #[test]
    fn a_status_function_anywhere_replaces_that() {
        for text in [
            "always()",
            "${{ ALWAYS() }}",
            "failure()",
            "!success()",
            "true || cancelled()",
            "contains(format('{0}', failure()), 'true')",
            "github[failure() && 'ref'] == 'main'",
        ] {
            assert!(holds(text, Status::Failure), "{text}");
        }
        assert!(!holds("failure()", Status::Success));
        assert!(!holds(
            "failure() && github.ref == 'other'",
            Status::Failure
        ));
        assert!(holds("cancelled()", Status::Cancelled));
        assert!(!holds("failure()", Status::Cancelled));
        for text in ["success()", "failure()", "cancelled()"] {
            assert!(!holds(text, Status::Skipped), "{text}");
        }
    }

    #[test]
    fn text_around_an_expression_makes_it_always_true() {
        for text in [
            "${{ false }}\n",
            "${{ false }} && ${{ false }}",
            "!${{ true }}",
        ] {
            assert_eq!(condition_form(Some(text)), Ok(ConditionForm::Mixed));
            assert!(holds(text, Status::Success), "{text}");
            assert!(!holds(text, Status::Failure), "{text}");
        }
        assert!(holds("${{ failure() }} ", Status::Failure));
    }

    #[test]
    fn hooks_of_actions_imply_nothing() {
        let scope = Scope::new().with_status(Status::Failure);
        for (text, expected) in [
            (None, true),
            (Some("1 == 1"), true),
            (Some("success()"), false),
            (Some("failure()"), true),
            (Some("false"), false),
        ] {
            assert_eq!(hook_condition(text, &scope), Ok(expected), "{text:?}");
        }
        assert!(hook_condition(Some("github.ref"), &scope).is_err());
    }

    #[test]
    fn the_form_of_a_condition_is_told() {
        let form = |text| condition_form(Some(text)).unwrap();
        assert_eq!(condition_form(None), Ok(ConditionForm::Absent));
        assert_eq!(form(""), ConditionForm::Absent);
        assert_eq!(form("true"), ConditionForm::Bare);
        assert_eq!(form("${{ true }}"), ConditionForm::Wrapped);
        assert!(condition_form(Some("${{ true")).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_even_where_it_would_not_be_reached() {
        let scope = Scope::new().with_status(Status::Failure);
        for text in ["1 +", "secrets.TOKEN", "${{ frob() }}", "hashFiles('a')"] {
            assert!(condition(Some(text), &scope).is_err(), "{text}");
        }
        assert!(condition(Some("true"), &Scope::new()).is_err());
    }
}
