//! Text with expressions in it.

use super::error::EvalError;
use super::eval::{Evaluation, check};
use super::scope::Scope;
use super::tree::Node;
use super::value::{Object, Value};
use crate::diagnostic::Spot;
use crate::yaml;
use std::ops::Range;

/// What opens an expression.
const OPEN: &str = "${{";

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// As it stands: its bytes in the text.
    Literal(Range<usize>),
    /// What is between `${{` and `}}`.
    Expression(Range<usize>),
}

/// Splits a text into what stands and what is evaluated. A `}}` within quotes does not end an expression.
pub fn split(text: &str) -> Result<Vec<Segment>, EvalError> {
    let mut segments = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find(OPEN) {
        let open = from + found;
        if open > from {
            segments.push(Segment::Literal(from..open));
        }
        let start = open + OPEN.len();
        let length = closing(&text[start..]).ok_or_else(|| EvalError::Syntax {
            message: "`${{` is not closed: a `}}` outside of quotes is expected".to_owned(),
            offset: open,
        })?;
        segments.push(Segment::Expression(start..start + length));
        from = start + length + "}}".len();
    }
    if from < text.len() {
        segments.push(Segment::Literal(from..text.len()));
    }
    Ok(segments)
}

/// Where `}}` is, outside of quotes. `''` within quotes ends them and begins them again.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut after_brace) = (false, false);
    for (offset, byte) in text.bytes().enumerate() {
        quoted ^= byte == b'\'';
        let brace = byte == b'}' && !quoted;
        if brace && after_brace {
            return Some(offset - 1);
        }
        after_brace = brace;
    }
    None
}

/// A text that was parsed.
pub(super) enum Template<'t> {
    /// Without expressions.
    Plain(&'t str),
    /// Exactly one expression, and nothing around it.
    Single(Node),
    /// Both, in order.
    Mixed(Vec<Piece<'t>>),
}

pub(super) enum Piece<'t> {
    Literal(&'t str),
    Expression(Node),
}

impl<'t> Template<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, EvalError> {
        if !text.contains(OPEN) {
            return Ok(Self::Plain(text));
        }
        let segments = split(text)?;
        if let [Segment::Expression(range)] = &*segments {
            return Ok(Self::Single(parse_at(text, range.clone())?));
        }
        let pieces = segments.into_iter().map(|segment| match segment {
            Segment::Literal(range) => Ok(Piece::Literal(&text[range])),
            Segment::Expression(range) => parse_at(text, range).map(Piece::Expression),
        });
        pieces.collect::<Result<_, _>>().map(Self::Mixed)
    }

    /// Its expressions, in order.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Node> {
        let (single, pieces) = match self {
            Self::Plain(_) => (None, None),
            Self::Single(node) => (Some(node), None),
            Self::Mixed(pieces) => (None, Some(pieces)),
        };
        let in_pieces = pieces
            .into_iter()
            .flatten()
            .filter_map(|piece| match piece {
                Piece::Literal(_) => None,
                Piece::Expression(node) => Some(node),
            });
        single.into_iter().chain(in_pieces)
    }

    /// Its value: text, unless it is a single expression.
    pub(super) fn evaluate(&self, evaluation: &mut Evaluation<'_>) -> Result<Value, EvalError> {
        for node in self.expressions() {
            check(node, evaluation.scope)?;
        }
        match self {
            Self::Plain(text) => Ok((*text).into()),
            Self::Single(node) => evaluation.value(node),
            Self::Mixed(pieces) => {
                let mut out = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => out.push_str(text),
                        Piece::Expression(node) => {
                            let value = evaluation.value(node)?;
                            let text = value.to_text();
                            evaluation.budget.take(text.len())?;
                            out.push_str(&text);
                        }
                    }
                }
                Ok(out.into())
            }
        }
    }
}

fn parse_at(text: &str, range: Range<usize>) -> Result<Node, EvalError> {
    let start = range.start;
    Node::parse(&text[range])
        .map(|node| node.moved(start))
        .map_err(|error| error.moved(start))
}

/// The text with its expressions replaced by their values, as text.
pub fn interpolate(text: &str, scope: &Scope) -> Result<String, EvalError> {
    let value = Template::parse(text)?.evaluate(&mut Evaluation::new(scope))?;
    Ok(value.to_text().into_owned())
}

/// The value of a text: that of the expression where it is exactly one, with its type; else the text with its expressions
/// replaced.
pub fn evaluate_text(text: &str, scope: &Scope) -> Result<Value, EvalError> {
    Template::parse(text)?.evaluate(&mut Evaluation::new(scope))
}

/// A text of a tree that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NodeError {
    /// Where the text, or the key, begins.
    pub spot: Spot,
    /// Why.
    pub error: EvalError,
}

/// The value of a tree: all its texts are evaluated, each as [`evaluate_text`] does it.
pub fn evaluate_node(node: &yaml::Node, scope: &Scope) -> Result<Value, NodeError> {
    node_value(node, &mut Evaluation::new(scope))
}

fn node_value(node: &yaml::Node, evaluation: &mut Evaluation<'_>) -> Result<Value, NodeError> {
    let at = |spot| move |error| NodeError { spot, error };
    match &node.data {
        yaml::Data::String(text) => Template::parse(text)
            .and_then(|template| template.evaluate(evaluation))
            .map_err(at(node.spot)),
        yaml::Data::Sequence(items) => {
            let items = items.iter().map(|item| node_value(item, evaluation));
            Ok(items.collect::<Result<Vec<_>, _>>()?.into())
        }
        yaml::Data::Mapping(entries) => {
            let mut object = Object::new();
            for (key, value) in entries {
                if key.text.contains(OPEN) {
                    let key_text = key.text.clone();
                    return Err(at(key.spot)(EvalError::KeyIsExpression { key: key_text }));
                }
                object.insert(&*key.text, node_value(value, evaluation)?);
            }
            Ok(object.into())
        }
        yaml::Data::Null | yaml::Data::Bool(_) | yaml::Data::Number(..) => Ok(node.into()),
    }
}
