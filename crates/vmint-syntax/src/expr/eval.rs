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
            Node::Call(Function::Case, arguments, offset) => return self.case(arguments, *offset),
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

    fn case(&mut self, arguments: &[Node], offset: usize) -> Result<Found, EvalError> {
        let wrong = |expected: String| EvalError::WrongArguments {
            function: Function::Case,
            expected,
            offset,
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
        let of_context = match left {
            Node::Context(context, offset) => Some((*context, *offset)),
            _ => None,
        };
        let left = self.find(left)?;
        // GitHub evaluates no index into what is neither a list nor a mapping.
        if matches!(&left, Found::One(value) if value.is_primitive()) {
            return Ok(Found::One(Value::Null));
        }
        let index = self.value(index)?;
        if let (Some((context, offset)), true) = (of_context, index.is_primitive()) {
            let name = index.to_text();
            if self.scope.lacks(context, &name) {
                return Err(EvalError::NotKnownYet {
                    context,
                    name: name.into_owned(),
                    offset,
                });
            }
        }
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

#[cfg(test)]
mod tests {
    use super::super::names::ContextName;
    use super::super::random;
    use super::super::scope::Status;
    use super::*;
    use proptest::prelude::*;

    fn scope() -> Scope {
        Scope::new().with_status(Status::Success).with_hash_files()
    }

    #[test]
    fn what_grows_beyond_its_limit_is_refused_and_not_made() {
        let tenfold = |inner: &str| format!("format('{}', {inner})", "{0}".repeat(10));
        let bomb = (0..9).fold("'0123456789'".to_owned(), |inner, _| tenfold(&inner));
        assert_eq!(evaluate(&bomb, &scope()).unwrap_err(), EvalError::TooLarge);

        let big = Value::from("x".repeat(4 << 20));
        let list = Value::from(vec![Value::from(vec![Value::Null; 100_000]); 10]);
        let scope = scope()
            .with(ContextName::Inputs, vec![big; 3])
            .with(ContextName::Matrix, list);
        for text in [
            "toJSON(inputs)",
            "join(inputs)",
            "fromJSON(inputs[0])",
            "matrix.*.*",
            "toJSON(inputs[0]) && toJSON(inputs[0]) && toJSON(inputs[0])",
        ] {
            assert_eq!(
                evaluate(text, &scope).unwrap_err(),
                EvalError::TooLarge,
                "{text}"
            );
        }
        assert!(evaluate("contains(inputs[0], 'y')", &scope).is_ok());
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        for end in ["", " ?"] {
            for link in ["1<", "1==", "1||", "0||", "1&&", "''!="] {
                let long = format!("{}1{end}", link.repeat(7_000));
                assert!(evaluate(&long, &scope()).is_err(), "{link}");
                let longest = format!("{}1{end}", link.repeat(MAX_LINKS));
                let _ = evaluate(&longest, &scope());
            }
        }
        let all = format!("{}7", "0||".repeat(MAX_LINKS));
        assert_eq!(evaluate(&all, &scope()).unwrap().to_text(), "7");
    }
    const MAX_LINKS: usize = 1_000;

    #[test]
    fn an_expression_may_have_as_many_characters_as_on_github() {
        let of = |length: usize| format!("'{}'", "ä".repeat(length - 2));
        assert!(evaluate(&of(21_000), &scope()).is_ok());
        assert_eq!(
            evaluate(&of(21_001), &scope()).unwrap_err(),
            EvalError::TooLong
        );
    }

    #[test]
    fn an_evaluation_ends_where_a_digest_is_missing_and_goes_on_with_it() {
        let mut scope = scope();
        let text = "format('{0}-{1}', hashFiles('a', 'b'), hashFiles('c'))";
        let wanted = |patterns: &[&str]| {
            EvalError::HashPending(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
        };
        assert_eq!(evaluate(text, &scope).unwrap_err(), wanted(&["a", "b"]));
        scope.remember_hash(vec!["a".into(), "b".into()], "12");
        assert_eq!(evaluate(text, &scope).unwrap_err(), wanted(&["c"]));
        scope.remember_hash(vec!["c".into()], "");
        assert_eq!(evaluate(text, &scope).unwrap().to_text(), "12-");
    }

    #[test]
    fn what_is_not_known_yet_is_an_error_and_never_nothing() {
        let github = Value::from_json(r#"{"ref": "r", "workspace": null}"#).unwrap();
        let known = scope().with(ContextName::Github, github);
        let scope = known.clone().without(&["workspace"]);
        for text in [
            "github.workspace",
            "github['WorkSpace']",
            "github[format('work{0}', 'space')]",
            "!github.workspace.x",
        ] {
            let error = evaluate(text, &scope).unwrap_err();
            assert!(
                matches!(error, EvalError::NotKnownYet { .. }),
                "{text}: {error}"
            );
            assert!(evaluate(text, &known).is_ok(), "{text}");
        }
        for text in ["github.ref", "false && github.workspace", "toJSON(github)"] {
            assert!(evaluate(text, &scope).is_ok(), "{text}");
        }
    }

    #[test]
    fn functions_that_are_not_offered_are_refused() {
        for (text, function) in [
            ("1 && always()", Function::Always),
            ("true || hashFiles('a')", Function::HashFiles),
        ] {
            let error = evaluate(text, &Scope::new()).unwrap_err();
            let offset = text.find(function.as_str()).unwrap();
            assert_eq!(error, EvalError::FunctionNotAvailable { function, offset });
        }
    }

    proptest! {
        #[test]
        fn no_expression_makes_it_panic(text in random::expression(), github in random::value(), steps in random::value()) {
            let mut scope = scope()
                .with(ContextName::Github, github)
                .with(ContextName::Steps, steps)
                .with(ContextName::Env, Value::Null)
                .with(ContextName::Matrix, vec![Value::from("a"); 3])
                .with(ContextName::Inputs, true);
            let mut rounds = 0;
            let result = loop {
                match evaluate(&text, &scope) {
                    Err(EvalError::HashPending(patterns)) if rounds < 100 => scope.remember_hash(patterns, "0"),
                    result => break result,
                }
                rounds += 1;
            };
            let known = matches!(
                result,
                Ok(_)
                    | Err(EvalError::Json { .. }
                        | EvalError::Format { .. }
                        | EvalError::WrongArguments { .. }
                        | EvalError::TooDeep)
            );
            prop_assert!(known, "{}: {:?}", text, result);
        }

        #[test]
        fn no_garbage_makes_it_panic(text in "(\\PC|[a-z.()\\[\\]'*!<>=&|, 0-9{}$\n]){0,60}") {
            if let Err(error) = evaluate(&text, &scope()) {
                prop_assert!(error.offset().is_none_or(|offset| text.is_char_boundary(offset)), "{text}: {error}");
            }
        }

        #[test]
        fn json_of_a_value_is_read_as_that_value(value in random::value()) {
            let scope = scope().with(ContextName::Github, value);
            let again = evaluate("toJSON(fromJSON(toJSON(github))) == toJSON(github)", &scope);
            prop_assert!(again.unwrap().is_truthy());
        }

        #[test]
        fn the_negation_of_a_comparison_is_its_opposite(a in random::value(), b in random::value()) {
            let scope = scope().with(ContextName::Github, a).with(ContextName::Steps, b);
            for law in [
                "(github == steps) != (github != steps)",
                "(github == steps) == (steps == github)",
                "(github < steps) == (steps > github)",
                "(github <= steps) == ((github < steps) || (github == steps))",
            ] {
                prop_assert!(evaluate(law, &scope).unwrap().is_truthy(), "{law}");
            }
        }
    }
}
