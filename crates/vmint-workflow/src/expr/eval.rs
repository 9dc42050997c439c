//! One expression, evaluated.

use super::error::{Budget, EvalError};
use super::functions;
use super::names::Function;
use super::scope::Scope;
use super::tree::{Comparison, Node};
use super::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

/// Evaluates an expression, without `${{ }}`.
pub fn evaluate(text: &str, scope: &Scope) -> Result<Value, EvalError> {
    let node = Node::parse(text)?;
    check(&node, scope)?;
    Evaluation::new(scope).value(&node)
}

/// Whether all that an expression names is available; also what would not be reached.
pub(super) fn check(node: &Node, scope: &Scope) -> Result<(), EvalError> {
    let mut result = Ok(());
    node.visit(&mut |node| {
        let error = match *node {
            Node::Context(context, offset) if scope.get(context).is_none() => {
                EvalError::ContextNotAvailable { context, offset }
            }
            Node::Call(function, _, offset) if !scope.offers(function) => {
                EvalError::FunctionNotAvailable { function, offset }
            }
            _ => return,
        };
        if result.is_ok() {
            result = Err(error);
        }
    });
    result
}

/// What a piece gives. What `.*` has gathered goes on being gathered by the indexes behind it.
#[derive(Clone, Debug)]
enum Found {
    One(Value),
    Gathered(Vec<Value>),
}

impl Found {
    fn into_value(self) -> Value {
        match self {
            Self::One(value) => value,
            Self::Gathered(items) => items.into(),
        }
    }
}

/// The evaluation of one text.
pub(super) struct Evaluation<'s> {
    pub(super) scope: &'s Scope,
    pub(super) budget: Budget,
}

impl<'s> Evaluation<'s> {
    pub(super) fn new(scope: &'s Scope) -> Self {
        Self {
            scope,
            budget: Budget::new(),
        }
    }

    pub(super) fn value(&mut self, node: &Node) -> Result<Value, EvalError> {
        self.find(node).map(Found::into_value)
    }

    fn find(&mut self, node: &Node) -> Result<Found, EvalError> {
        let value = match node {
            Node::Literal(value) => value.clone(),
            Node::Context(name, offset) => match self.scope.get(*name) {
                Some(value) => value.clone(),
                None => {
                    return Err(EvalError::ContextNotAvailable {
                        context: *name,
                        offset: *offset,
                    });
                }
            },
            Node::Not(inner) => Value::Bool(!self.is_truthy(inner)?),
            Node::Compare(comparison, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Value::Bool(holds(*comparison, &left, &right))
            }
            Node::All(nodes) => return self.first_that(nodes, Truth::Falsy),
            Node::Any(nodes) => return self.first_that(nodes, Truth::Truthy),
            Node::Call(Function::Case, arguments, _) => return self.case(arguments),
            Node::Call(function, arguments, offset) => {
                functions::call(self, *function, arguments, *offset)?
            }
            Node::Filter(inner) => return self.filter(inner),
            Node::Index(left, index) => return self.index(left, index),
        };
        Ok(Found::One(value))
    }

    fn is_truthy(&mut self, node: &Node) -> Result<bool, EvalError> {
        Ok(self.find(node)?.is_truthy())
    }

    /// The operand that decides, or the last. Those behind it are not evaluated.
    fn first_that(&mut self, nodes: &[Node], decides: Truth) -> Result<Found, EvalError> {
        let mut last = Found::One(Value::Null);
        for node in nodes {
            last = self.find(node)?;
            if last.is_truthy() == (decides == Truth::Truthy) {
                break;
            }
        }
        Ok(last)
    }

    fn case(&mut self, arguments: &[Node]) -> Result<Found, EvalError> {
        let wrong = |expected: String| EvalError::WrongArguments {
            function: Function::Case,
            expected,
        };
        let (pairs, default) = arguments.as_chunks::<2>();
        for [predicate, value] in pairs {
            match self.value(predicate)? {
                Value::Bool(true) => return self.find(value),
                Value::Bool(false) => {}
                other => {
                    let kind = other.kind();
                    return Err(wrong(format!(
                        "booleans as predicates, and was given {kind}"
                    )));
                }
            }
        }
        match default {
            [default] => self.find(default),
            _ => Err(wrong("an odd number of arguments".to_owned())),
        }
    }

    /// `value.*`.
    fn filter(&mut self, inner: &Node) -> Result<Found, EvalError> {
        let mut gathered = Vec::new();
        match self.find(inner)? {
            Found::One(value) => gather_all(&value, &mut gathered),
            Found::Gathered(items) => items
                .iter()
                .for_each(|item| gather_all(item, &mut gathered)),
        }
        self.gathered(gathered)
    }

    /// `value[index]`.
    fn index(&mut self, left: &Node, index: &Node) -> Result<Found, EvalError> {
        let left = self.find(left)?;
        // GitHub evaluates no index into what is neither a list nor a mapping.
        if matches!(&left, Found::One(value) if value.is_primitive()) {
            return Ok(Found::One(Value::Null));
        }
        let index = self.value(index)?;
        match left {
            Found::One(value) => Ok(Found::One(item(&value, &index).unwrap_or_default())),
            Found::Gathered(items) => {
                let items = items.iter().filter_map(|value| item(value, &index));
                self.gathered(items.collect())
            }
        }
    }

    fn gathered(&mut self, items: Vec<Value>) -> Result<Found, EvalError> {
        self.budget.take(items.len() * size_of::<Value>())?;
        Ok(Found::Gathered(items))
    }
}

/// What ends a chain of `&&` or `||`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    Truthy,
    Falsy,
}

impl Found {
    fn is_truthy(&self) -> bool {
        match self {
            Self::One(value) => value.is_truthy(),
            Self::Gathered(_) => true,
        }
    }
}

fn holds(comparison: Comparison, left: &Value, right: &Value) -> bool {
    let order = || left.loosely_ordered(right);
    match comparison {
        Comparison::Equal => left.loosely_equals(right),
        Comparison::NotEqual => !left.loosely_equals(right),
        Comparison::Greater => order() == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
        Comparison::Less => order() == Some(Ordering::Less),
        Comparison::LessOrEqual => order().is_some_and(Ordering::is_le),
    }
}

fn gather_all(value: &Value, gathered: &mut Vec<Value>) {
    match value {
        Value::Array(items) => gathered.extend(items.iter().cloned()),
        Value::Object(object) => gathered.extend(object.iter().map(|(_, value)| value.clone())),
        _ => {}
    }
}

/// What an index finds. A list or a mapping is no index.
fn item(value: &Value, index: &Value) -> Option<Value> {
    match value {
        _ if !index.is_primitive() => None,
        Value::Object(object) => object.get(&index.to_text()).cloned(),
        Value::Array(items) => position(items, index).cloned(),
        _ => None,
    }
}

fn position<'a>(items: &'a Arc<Vec<Value>>, index: &Value) -> Option<&'a Value> {
    let index = index.to_number();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and what is too large ends at the largest"
    )]
    (index >= 0.0)
        .then_some(index as usize)
        .and_then(|index| items.get(index))
}
