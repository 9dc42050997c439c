//! What a text uses, for those who check it before it is run.

use super::error::EvalError;
use super::names::{ContextName, Function};
use super::template::{self, Segment};
use super::tree::Node;
use super::value::Value;
use std::ops::Range;

/// How many faults of one text are told: a text of 5 MB can have a million.
pub const MAX_WRONG: usize = 20;

/// What a text uses, and what is wrong with it. One expression that is wrong does not hide the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What its expressions use, in the text's order; also what would not be reached.
    pub uses: Vec<Use>,
    /// What is wrong, in the text's order. After [`MAX_WRONG`] of them nothing more is looked at.
    pub wrong: Vec<Wrong>,
    /// The text that it gives whatever the contexts hold: that of `${{ 'text' }}`, the only expression and all of it.
    pub constant: Option<String>,
}

/// Something that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, in bytes from the beginning of the text; the beginning of the expression where no more is known.
    pub offset: usize,
    /// What.
    pub error: EvalError,
}

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

/// Inspects a text.
pub fn inspect(text: &str) -> Inspection {
    let mut inspection = Inspection::default();
    let mut pieces = 0;
    for segment in template::segments(text) {
        pieces += 1;
        match segment {
            Ok(Segment::Literal(_)) => {}
            Ok(Segment::Expression(range)) => {
                inspection.constant = inspection.expression(text, range);
            }
            Err(error) => inspection.add(0, error),
        }
        if inspection.wrong.len() >= MAX_WRONG {
            break;
        }
    }
    if pieces != 1 {
        inspection.constant = None;
    }
    inspection
}

/// Inspects an `if`, which may come without `${{ }}`, and may be empty.
pub fn inspect_condition(text: &str) -> Inspection {
    if text.contains(template::OPEN) {
        return inspect(text);
    }
    let mut inspection = Inspection::default();
    if !text.trim().is_empty() {
        inspection.constant = inspection.expression(text, 0..text.len());
    }
    inspection
}

impl Inspection {
    /// Inspects one expression, and gives the text if it is nothing but one.
    fn expression(&mut self, text: &str, range: Range<usize>) -> Option<String> {
        let start = range.start;
        let node = match Node::parse_all(&text[range]) {
            Ok(node) => node.moved(start),
            Err(wrong) => {
                for error in wrong {
                    self.add(start, error.moved(start));
                }
                return None;
            }
        };
        let before = self.uses.len();
        collect(&node, &mut Vec::new(), &mut self.uses);
        self.uses[before..].sort_by_key(|each| each.offset);
        match node {
            Node::Literal(Value::String(text)) => Some(text.to_string()),
            _ => None,
        }
    }

    fn add(&mut self, start: usize, error: EvalError) {
        if self.wrong.len() < MAX_WRONG {
            let offset = error.offset().unwrap_or(start);
            self.wrong.push(Wrong { offset, error });
        }
    }
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

    fn told(inspection: Inspection) -> String {
        assert_eq!(inspection.wrong, []);
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
        let uses = inspection.uses.into_iter().map(each);
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
        let text = "${{ needs.build.result || needs.* || needs || success() }}";
        let inspection = inspect(text);
        let names: Vec<_> = inspection.uses.iter().map(Use::context_and_name).collect();
        let build = Some((ContextName::Needs, "build"));
        assert_eq!(names, [build, None, None, None]);
    }

    #[test]
    fn what_is_no_expression_is_an_error_with_its_place() {
        let offsets = |text: &str| -> Vec<usize> {
            let inspection = inspect(text);
            inspection.wrong.iter().map(|wrong| wrong.offset).collect()
        };
        assert_eq!(offsets("ab ${{ 1 2 }}"), [9]);
        assert_eq!(
            offsets("${{ x || y.z }} ${{ env.A }} ${{ }} ${{ f() }} ${{"),
            [4, 9, 32, 40, 47]
        );
        assert_eq!(offsets(&"${{ x }}".repeat(1000)).len(), MAX_WRONG);
        let deep = format!("a ${{{{ {}", "!".repeat(60) + "1 }}");
        assert_eq!(offsets(&deep), [5]);
    }

    #[test]
    fn what_is_wrong_with_one_expression_does_not_hide_what_others_use() {
        let inspection = inspect("${{ x }} ${{ env.A }}");
        assert_eq!((inspection.uses.len(), inspection.wrong.len()), (1, 1));
    }

    #[test]
    fn a_text_that_is_nothing_but_a_quoted_text_is_told() {
        let constant = |text| inspect_condition(text).constant;
        assert_eq!(constant("${{ 'it''s' }}").as_deref(), Some("it's"));
        assert_eq!(constant("'no'").as_deref(), Some("no"));
        for text in ["${{ 'a' }} ", "${{ 1 }}", "github.ref", "'a' == 'a'", ""] {
            assert_eq!(constant(text), None, "{text}");
        }
    }
}
