//! What a text uses, for those who check it before it is run.

use super::condition;
use super::error::EvalError;
use super::names::{ContextName, Function};
use super::template::Template;
use super::tree::Node;
use super::value::Value;

/// Something that a text uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// What.
    pub what: Used,
    /// Where its name begins, in bytes from the beginning of the text.
    pub offset: usize,
}

/// What a text uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// A context, and what of it: `steps`, [`build`, `outputs`, `version`].
    Context(ContextName, Vec<PathPart>),
    /// A function.
    Function(Function),
}

/// A step into a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPart {
    /// `.name`, `['name']`, `[0]`.
    Name(String),
    /// `.*`.
    All,
    /// `[expression]`: known only when it is run.
    Computed,
}

impl Use {
    /// The context and the first name behind it: `steps` and `build`. Absent for functions, and where that is no name.
    pub fn context_and_name(&self) -> Option<(ContextName, &str)> {
        match &self.what {
            Used::Context(context, path) => match path.first() {
                Some(PathPart::Name(name)) => Some((*context, name)),
                _ => None,
            },
            Used::Function(_) => None,
        }
    }
}

/// What the expressions of a text use, in its order; also what would not be reached. An error when one is none.
pub fn inspect(text: &str) -> Result<Vec<Use>, EvalError> {
    Ok(uses(&Template::parse(text)?))
}

/// The same of an `if`, which may come without `${{ }}`.
pub fn inspect_condition(text: &str) -> Result<Vec<Use>, EvalError> {
    Ok(uses(&condition::parse(text)?))
}

fn uses(template: &Template<'_>) -> Vec<Use> {
    let mut uses = Vec::new();
    for node in template.expressions() {
        collect(node, &mut Vec::new(), &mut uses);
    }
    uses.sort_by_key(|each| each.offset);
    uses
}

/// Collects what a piece uses. `path` is what stands behind it, the nearest last.
fn collect(node: &Node, path: &mut Vec<PathPart>, uses: &mut Vec<Use>) {
    let mut inner = |node| collect(node, &mut Vec::new(), uses);
    match node {
        Node::Literal(_) => {}
        Node::Context(context, offset) => uses.push(Use {
            what: Used::Context(*context, path.drain(..).rev().collect()),
            offset: *offset,
        }),
        Node::Index(left, index) => {
            path.push(match &**index {
                Node::Literal(value @ (Value::String(_) | Value::Number(_))) => {
                    PathPart::Name(value.to_text().into_owned())
                }
                _ => PathPart::Computed,
            });
            inner(index);
            collect(left, path, uses);
        }
        Node::Filter(left) => {
            path.push(PathPart::All);
            collect(left, path, uses);
        }
        Node::Not(operand) => inner(operand),
        Node::Compare(_, left, right) => {
            inner(left);
            inner(right);
        }
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(inner),
        Node::Call(function, arguments, offset) => {
            arguments.iter().for_each(inner);
            uses.push(Use {
                what: Used::Function(*function),
                offset: *offset,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uses: Result<Vec<Use>, EvalError>) -> String {
        let each = |used: Use| {
            let what = match used.what {
                Used::Context(name, path) => path.iter().fold(name.to_string(), |text, part| {
                    text + &match part {
                        PathPart::Name(name) => format!(".{name}"),
                        PathPart::All => ".*".to_owned(),
                        PathPart::Computed => "[…]".to_owned(),
                    }
                }),
                Used::Function(function) => format!("{function}()"),
            };
            format!("{} {what}", used.offset)
        };
        let uses = uses.unwrap().into_iter().map(each);
        uses.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn contexts_and_functions_are_told_with_their_places() {
        insta::assert_snapshot!(
            told(inspect("ä ${{ Steps.build.outputs['v'] }} ${{ contains(needs.*.result, 'x') || matrix[github.ref].a[0] }}")),
            @"7 steps.build.outputs.v, 39 contains(), 48 needs.*.result, 72 matrix[…].a.0, 79 github.ref"
        );
        insta::assert_snapshot!(told(inspect("no expressions")), @"");
        insta::assert_snapshot!(
            told(inspect("${{ (secrets.A || inputs).b }}${{ fromJSON(vars.X).y }}")),
            @"5 secrets.A, 18 inputs, 34 fromJSON(), 43 vars.X"
        );
    }

    #[test]
    fn a_condition_is_told_with_and_without_braces() {
        let expected = "0 always(), 13 steps.a.outcome";
        assert_eq!(
            told(inspect_condition("always() && !steps.a.outcome")),
            expected
        );
        insta::assert_snapshot!(told(inspect_condition("${{ success() }}")), @"4 success()");
        insta::assert_snapshot!(told(inspect_condition("")), @"");
    }

    #[test]
    fn the_first_name_behind_a_context_is_at_hand() {
        let uses = inspect("${{ needs.build.result || needs.* || needs || success() }}").unwrap();
        let names: Vec<_> = uses.iter().map(Use::context_and_name).collect();
        let build = Some((ContextName::Needs, "build"));
        assert_eq!(names, [build, None, None, None]);
    }

    #[test]
    fn what_is_no_expression_is_an_error_with_its_place() {
        assert_eq!(inspect("ab ${{ 1 2 }}").unwrap_err().offset(), Some(9));
    }
}
