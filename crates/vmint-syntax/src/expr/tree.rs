//! An expression that was parsed: names are resolved, arguments counted, the depth is bounded.
//!
//! This is where `github-actions-expressions` ends. Its own tree is as deep as the expression is long (`1 < 1 < 1 < …`); here
//! it is taken apart without recursion along such chains.

use super::error::{EvalError, MAX_DEPTH, MAX_LENGTH};
use super::names::{ContextName, Function};
use super::value::Value;
use github_actions_expressions as parser;
use parser::literal::Literal;
use parser::op::{BinExpr, BinOp};
use parser::{Expr, SpannedExpr};

/// A piece of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Value),
    Context(ContextName, usize),
    /// `value[index]`; also `value.name`.
    Index(Box<Node>, Box<Node>),
    /// `value.*`.
    Filter(Box<Node>),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>, usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Node {
    /// Parses an expression.
    pub(super) fn parse(text: &str) -> Result<Self, EvalError> {
        Self::parse_all(text).map_err(|mut wrong| wrong.swap_remove(0))
    }

    /// The same, with all contexts that there are not. Never an empty list.
    pub(super) fn parse_all(text: &str) -> Result<Self, Vec<EvalError>> {
        let mut lowering = Lowering {
            text,
            unknown: Vec::new(),
        };
        let lowered = Self::tree(text).and_then(|tree| lowering.lower(tree));
        match lowered {
            Ok(lowered) if lowering.unknown.is_empty() => Ok(lowered.node),
            Ok(_) => Err(lowering.unknown),
            Err(error) => {
                lowering.unknown.push(error);
                Err(lowering.unknown)
            }
        }
    }

    fn tree(text: &str) -> Result<SpannedExpr<'_>, EvalError> {
        if text.len() > MAX_LENGTH && text.chars().count() > MAX_LENGTH {
            return Err(EvalError::TooLong);
        }
        if operators(text) > MAX_OPERATORS {
            return Err(EvalError::TooDeep);
        }
        Expr::parse(text).map_err(|error| from_parser(error, text))
    }

    /// The same, of a text in which the expression begins at the offset.
    pub(super) fn moved(mut self, by: usize) -> Self {
        self.shift(by);
        self
    }

    fn shift(&mut self, by: usize) {
        match self {
            Self::Literal(_) => {}
            Self::Context(_, offset) => *offset += by,
            Self::Filter(inner) | Self::Not(inner) => inner.shift(by),
            Self::Index(left, right) | Self::Compare(_, left, right) => {
                left.shift(by);
                right.shift(by);
            }
            Self::All(nodes) | Self::Any(nodes) => {
                for node in nodes {
                    node.shift(by);
                }
            }
            Self::Call(_, arguments, offset) => {
                *offset += by;
                for node in arguments {
                    node.shift(by);
                }
            }
        }
    }

    /// Visits this and all below, in the order of the text.
    pub(super) fn visit<'n>(&'n self, see: &mut impl FnMut(&'n Node)) {
        see(self);
        match self {
            Self::Literal(_) | Self::Context(..) => {}
            Self::Filter(inner) | Self::Not(inner) => inner.visit(see),
            Self::Index(left, right) | Self::Compare(_, left, right) => {
                left.visit(see);
                right.visit(see);
            }
            Self::All(nodes) | Self::Any(nodes) | Self::Call(_, nodes, _) => {
                for node in nodes {
                    node.visit(see);
                }
            }
        }
    }
}

/// More operators than this are refused before parsing: the parser drops its tree by recursion, a level per operator, which
/// takes about 400 bytes of stack each. A test's thread has 2 MB.
const MAX_OPERATORS: usize = 1_000;

/// At most how many binary operators there are.
fn operators(text: &str) -> usize {
    let is_operator = |b: u8| matches!(b, b'&' | b'|' | b'=' | b'<' | b'>');
    let (mut count, mut quoted, mut before) = (0, false, false);
    for byte in text.bytes() {
        quoted ^= byte == b'\'';
        let now = !quoted && is_operator(byte);
        count += usize::from(now && !before);
        before = now;
    }
    count
}

fn from_parser(error: parser::Error, text: &str) -> EvalError {
    match error {
        parser::Error::Syntax(error) if text.trim().is_empty() => EvalError::Empty {
            offset: error.offset,
        },
        parser::Error::Syntax(error) => EvalError::Syntax {
            message: error.message.to_owned(),
            offset: error.offset,
        },
        parser::Error::Depth => EvalError::TooDeep,
        parser::Error::Call(parser::call::Error::UnknownFunction(name)) => {
            EvalError::UnknownFunction {
                offset: offset_of_call(&name, text),
                name,
            }
        }
        parser::Error::Call(parser::call::Error::Arity(function, expected)) => {
            let function = Function::from(function);
            EvalError::WrongArguments {
                function,
                expected: expected.to_owned(),
                offset: offset_of_call(function.as_str(), text),
            }
        }
    }
}

/// Where a function is called for the first time; the parser does not say.
fn offset_of_call(name: &str, text: &str) -> usize {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let (mut quoted, mut within) = (false, false);
    for (offset, byte) in text.bytes().enumerate() {
        quoted ^= byte == b'\'';
        let begins = !quoted && !within;
        within = is_part(&byte);
        let called = || {
            let (called, rest) = text.get(offset..)?.split_at_checked(name.len())?;
            let called = called.eq_ignore_ascii_case(name) && rest.trim_start().starts_with('(');
            Some(called)
        };
        if begins && called() == Some(true) {
            return offset;
        }
    }
    0
}

/// A piece and how deep it is.
struct Lowered {
    node: Node,
    depth: usize,
}

impl Lowered {
    fn leaf(node: Node) -> Self {
        Self { node, depth: 1 }
    }

    /// What is made of pieces of at most this depth.
    fn above(depth: usize, node: Node) -> Result<Self, EvalError> {
        if depth >= MAX_DEPTH {
            return Err(EvalError::TooDeep);
        }
        Ok(Self {
            node,
            depth: depth + 1,
        })
    }
}

struct Lowering<'t> {
    text: &'t str,
    /// What is no context.
    unknown: Vec<EvalError>,
}

impl Lowering<'_> {
    fn lower(&mut self, tree: SpannedExpr<'_>) -> Result<Lowered, EvalError> {
        let span = tree.origin.span;
        match tree.inner {
            Expr::Literal(literal) => Ok(Lowered::leaf(Node::Literal(value(&literal)))),
            Expr::Identifier(name) => Ok(self.context(name.as_str(), span.start)),
            Expr::Context(context) => self.path(context.parts),
            Expr::Call(call) => self.call(call, span.start, span.end),
            Expr::BinExpr(first) => self.chain(first),
            Expr::UnExpr { expr, .. } => {
                let inner = self.lower(*expr)?;
                Lowered::above(inner.depth, Node::Not(Box::new(inner.node)))
            }
            // The parser has these only within a context.
            Expr::Star | Expr::Index(_) => Err(unexpected(span.start)),
        }
    }

    fn context(&mut self, name: &str, offset: usize) -> Lowered {
        let Some(context) = ContextName::parse(name) else {
            let name = name.to_owned();
            let error = EvalError::UnknownContext { name, offset };
            self.unknown.push(error);
            return Lowered::leaf(Node::Literal(Value::Null));
        };
        Lowered::leaf(Node::Context(context, offset))
    }

    /// `a.b[c].*`.
    fn path(&mut self, parts: Vec<SpannedExpr<'_>>) -> Result<Lowered, EvalError> {
        let mut parts = parts.into_iter();
        let head = parts.next().ok_or_else(|| unexpected(0))?;
        let mut left = self.lower(head)?;
        for part in parts {
            let index = match part.inner {
                Expr::Star => None,
                Expr::Identifier(name) => Some(Lowered::leaf(Node::Literal(name.as_str().into()))),
                Expr::Index(inner) if matches!(inner.inner, Expr::Star) => None,
                Expr::Index(inner) => Some(self.lower(*inner)?),
                _ => return Err(unexpected(part.origin.span.start)),
            };
            left = match index {
                None => Lowered::above(left.depth, Node::Filter(Box::new(left.node)))?,
                Some(index) => Lowered::above(
                    left.depth.max(index.depth),
                    Node::Index(Box::new(left.node), Box::new(index.node)),
                )?,
            };
        }
        Ok(left)
    }

    fn call(
        &mut self,
        call: parser::call::Call<'_>,
        start: usize,
        end: usize,
    ) -> Result<Lowered, EvalError> {
        let function = Function::from(call.func);
        if function == Function::Format && call.args.is_empty() {
            return Err(EvalError::WrongArguments {
                function,
                expected: "at least 1 argument".to_owned(),
                offset: start,
            });
        }
        // The parser takes `join(a,)`; GitHub does not.
        if let Some(last) = call.args.last() {
            let behind = last.origin.span.end;
            if let Some(comma) = self.text.get(behind..end).and_then(|rest| rest.find(',')) {
                return Err(unexpected(behind + comma));
            }
        }
        let mut depth = 0;
        let mut arguments = Vec::with_capacity(call.args.len());
        for argument in call.args {
            let argument = self.lower(argument)?;
            depth = depth.max(argument.depth);
            arguments.push(argument.node);
        }
        Lowered::above(depth, Node::Call(function, arguments, start))
    }

    /// Binary operators, taken apart from the right; GitHub counts `a || b || c` as one level.
    fn chain(&mut self, first: BinExpr<'_>) -> Result<Lowered, EvalError> {
        let mut operations = Vec::new();
        let mut current = first;
        let mut left = loop {
            operations.push((current.op, *current.rhs));
            let lhs = *current.lhs;
            match lhs.inner {
                Expr::BinExpr(next) => current = next,
                inner => break self.lower(SpannedExpr { inner, ..lhs })?,
            }
        };
        while let Some((operator, right)) = operations.pop() {
            let right = self.lower(right)?;
            left = join(left, &operator, right)?;
        }
        Ok(left)
    }
}

fn join(left: Lowered, operator: &BinOp, right: Lowered) -> Result<Lowered, EvalError> {
    let depth = left.depth.max(right.depth);
    let comparison = match operator {
        BinOp::And => {
            return join_logic(left, right, Node::All, |node| match node {
                Node::All(nodes) => Ok(nodes),
                other => Err(other),
            });
        }
        BinOp::Or => {
            return join_logic(left, right, Node::Any, |node| match node {
                Node::Any(nodes) => Ok(nodes),
                other => Err(other),
            });
        }
        BinOp::Eq => Comparison::Equal,
        BinOp::Neq => Comparison::NotEqual,
        BinOp::Gt => Comparison::Greater,
        BinOp::Ge => Comparison::GreaterOrEqual,
        BinOp::Lt => Comparison::Less,
        BinOp::Le => Comparison::LessOrEqual,
    };
    let (left, right) = (Box::new(left.node), Box::new(right.node));
    Lowered::above(depth, Node::Compare(comparison, left, right))
}

fn join_logic(
    left: Lowered,
    right: Lowered,
    make: impl Fn(Vec<Node>) -> Node,
    same: impl Fn(Node) -> Result<Vec<Node>, Node>,
) -> Result<Lowered, EvalError> {
    match same(left.node) {
        Ok(mut nodes) => {
            nodes.push(right.node);
            Lowered::above((left.depth - 1).max(right.depth), make(nodes))
        }
        Err(node) => Lowered::above(left.depth.max(right.depth), make(vec![node, right.node])),
    }
}

fn value(literal: &Literal<'_>) -> Value {
    match literal {
        Literal::Number(number) => Value::Number(*number),
        Literal::String(text) => Value::from(&**text),
        Literal::Boolean(value) => Value::Bool(*value),
        Literal::Null => Value::Null,
    }
}

fn unexpected(offset: usize) -> EvalError {
    EvalError::Syntax {
        message: "unexpected symbol".to_owned(),
        offset,
    }
}
