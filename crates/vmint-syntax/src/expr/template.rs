//! Text with expressions in it.

use super::error::EvalError;
use super::eval::{Evaluation, check};
use super::scope::Scope;
use super::tree::Node;
use super::value::{Object, Value};
use crate::diagnostic::Spot;
use crate::spec::Map;
use crate::yaml;
use indexmap::IndexMap;
use std::ops::Range;

/// What opens an expression.
pub(super) const OPEN: &str = "${{";

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
    segments(text).collect()
}

/// The same one by one. An expression that is not closed is the last.
pub(super) fn segments(text: &str) -> impl Iterator<Item = Result<Segment, EvalError>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from >= text.len() {
            return None;
        }
        let open = text[from..].find(OPEN).map_or(text.len(), |at| from + at);
        if open > from {
            let literal = Segment::Literal(from..open);
            from = open;
            return Some(Ok(literal));
        }
        let start = open + OPEN.len();
        let Some(length) = closing(&text[start..]) else {
            from = text.len();
            return Some(Err(EvalError::Unclosed { offset: open }));
        };
        from = start + length + "}}".len();
        Some(Ok(Segment::Expression(start..start + length)))
    })
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
            let mut values = Vec::with_capacity(items.len());
            for item in items {
                let value = node_value(item, evaluation)?;
                match (value, &item.data) {
                    // A list by an expression is spread in the list that it stands in.
                    (Value::Array(spread), yaml::Data::String(_)) => {
                        values.extend(spread.iter().cloned());
                    }
                    (value, _) => values.push(value),
                }
            }
            Ok(values.into())
        }
        yaml::Data::Mapping(entries) => {
            let mut mapping = Mapping::default();
            for (key, value) in entries {
                let value = node_value(value, evaluation)?;
                mapping
                    .add(&key.text, value, evaluation)
                    .map_err(at(key.spot))?;
            }
            Ok(mapping.0.into_iter().collect::<Object>().into())
        }
        yaml::Data::Null | yaml::Data::Bool(_) | yaml::Data::Number(..) => Ok(node.into()),
    }
}

/// Whether a key is an expression: it is evaluated, or stands for the entries of its value.
pub fn is_computed(key: &str) -> bool {
    key.contains(OPEN)
}

/// Whether a key is `${{ insert }}`: the entries of its value take its place.
pub fn is_insert(key: &str) -> bool {
    let inner = key.trim().strip_prefix(OPEN);
    let inner = inner.and_then(|text| text.strip_suffix("}}"));
    inner.is_some_and(|text| text.trim().eq_ignore_ascii_case("insert"))
}

/// The entries of a mapping, each with the type of its value.
///
/// # Errors
/// When a text cannot be evaluated, when what should be a mapping is none, or when a key comes twice.
pub fn evaluate_map(map: &Map, scope: &Scope) -> Result<IndexMap<String, Value>, EvalError> {
    let entries = match map {
        Map::Entries(entries) => entries,
        Map::Expression(text) => {
            let value = evaluate_text(&text.text, scope)?;
            return entries_of(&value, &text.text);
        }
    };
    let mut mapping = Mapping::default();
    for (key, text) in entries {
        let mut evaluation = Evaluation::new(scope);
        let value = Template::parse(&text.text)?.evaluate(&mut evaluation)?;
        mapping.add(key, value, &mut evaluation)?;
    }
    Ok(mapping.0)
}

/// A mapping that is made.
#[derive(Default)]
struct Mapping(IndexMap<String, Value>);

impl Mapping {
    /// Adds what stands at a key of the file.
    fn add(
        &mut self,
        key: &str,
        value: Value,
        evaluation: &mut Evaluation<'_>,
    ) -> Result<(), EvalError> {
        if is_insert(key) {
            for (key, value) in entries_of(&value, key)? {
                self.add_once(key, value)?;
            }
            return Ok(());
        }
        if !is_computed(key) {
            return self.add_once(key.to_owned(), value);
        }
        let key = Template::parse(key)?.evaluate(evaluation)?;
        self.add_once(key.to_text().into_owned(), value)
    }

    /// The file itself has no key twice; one that is computed may be there already.
    fn add_once(&mut self, key: String, value: Value) -> Result<(), EvalError> {
        if self.0.keys().any(|known| known.eq_ignore_ascii_case(&key)) {
            return Err(EvalError::KeyTwice { key });
        }
        self.0.insert(key, value);
        Ok(())
    }
}

fn entries_of(value: &Value, text: &str) -> Result<IndexMap<String, Value>, EvalError> {
    match value {
        Value::Null => Ok(IndexMap::new()),
        Value::Object(object) => Ok(object
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()),
        other => Err(EvalError::NotMapping {
            text: text.to_owned(),
            kind: other.kind(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::ContextName;
    use super::*;
    use proptest::prelude::*;

    fn scope() -> Scope {
        let env = Object::from_iter([("NAME", "vmint"), ("}}", "braces")]);
        let matrix = Value::from_json(r#"{"os": ["a", "b"], "n": 3, "on": true}"#).unwrap();
        Scope::new()
            .with(ContextName::Env, env)
            .with(ContextName::Matrix, matrix)
    }

    #[test]
    fn expressions_are_replaced_by_their_text() {
        for (text, expected) in [
            ("", ""),
            ("plain $ { }} text", "plain $ { }} text"),
            ("hello ${{ env.NAME }}!", "hello vmint!"),
            ("${{env.NAME}}${{matrix.n}}", "vmint3"),
            ("{0} {{ ${{ 1 }} }}", "{0} {{ 1 }}"),
            ("${{ env['}}'] }}", "braces"),
            ("${{ 'it''s }}' }}.", "it's }}."),
            ("$${{ 1 }}", "$1"),
            (
                "${{ null }}|${{ matrix.os }}|${{ matrix }}",
                "|Array|Object",
            ),
            ("${{ '${{' }}", "${{"),
            ("${{\n  matrix.on\n}}", "true"),
            ("ä ${{ 'ö' }} ü", "ä ö ü"),
        ] {
            assert_eq!(interpolate(text, &scope()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_single_expression_keeps_its_type() {
        let json = |text| evaluate_text(text, &scope()).unwrap().to_json_pretty();
        assert_eq!(json("${{ matrix.n }}"), "3");
        assert_eq!(json("${{ matrix.on }}"), "true");
        assert_eq!(json("${{ matrix.nothing }}"), "null");
        assert_eq!(json("${{ matrix.n }} "), "\"3 \"");
        assert_eq!(json("3"), "\"3\"");
    }

    #[test]
    fn errors_say_where_in_the_text_they_are() {
        let message = |text| interpolate(text, &scope()).unwrap_err().to_string();
        insta::assert_snapshot!(message("a ${{ env.NAME"), @"`${{` is not closed: a `}}` outside of quotes is expected, at offset 2 of the text");
        insta::assert_snapshot!(message("a ${{ 'x }}"), @"`${{` is not closed: a `}}` outside of quotes is expected, at offset 2 of the text");
        insta::assert_snapshot!(message("a ${{ }} b"), @"an expression is expected, at offset 5 of the text");
        insta::assert_snapshot!(message("a ${{ 1 }} ${{ nope.x }}"), @"there is no context `nope`, at offset 15 of the text");
        insta::assert_snapshot!(message("${{ 1 }}${{ 1 && secrets.X }}"), @"the context `secrets` is not available here, at offset 17 of the text");
        insta::assert_snapshot!(message("x${{ hashFiles('a') }}"), @"the function `hashFiles` is not available here, at offset 5 of the text");
        insta::assert_snapshot!(message("x${{ 1 +}}"), @"invalid numeric literal, at offset 7 of the text");
    }

    fn node(data: yaml::Data) -> yaml::Node {
        let spot = Spot { line: 3, column: 7 };
        yaml::Node { spot, data }
    }

    fn text(text: &str) -> yaml::Node {
        node(yaml::Data::String(text.to_owned()))
    }

    fn mapping(key: &str, value: yaml::Node) -> yaml::Node {
        let spot = Spot { line: 2, column: 1 };
        let text = key.to_owned();
        node(yaml::Data::Mapping(vec![(yaml::Key { text, spot }, value)]))
    }

    #[test]
    fn a_tree_is_evaluated_in_all_its_texts() {
        let number = node(yaml::Data::Number(1.5, "1.50".to_owned()));
        let items = vec![text("${{ matrix.os }}"), text("a-${{ matrix.n }}"), number];
        let tree = mapping("k", node(yaml::Data::Sequence(items)));
        let value = evaluate_node(&tree, &scope()).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&value).unwrap(), @r#"{"k":["a","b","a-3",1.5]}"#);
    }

    #[test]
    fn a_tree_says_where_it_is_wrong() {
        let error = evaluate_node(&mapping("k", text("${{ frob() }}")), &scope()).unwrap_err();
        assert_eq!(error.spot, Spot { line: 3, column: 7 });
        let error = evaluate_node(&mapping("${{ insert }}", text("x")), &scope()).unwrap_err();
        assert_eq!(error.spot, Spot { line: 2, column: 1 });
        insta::assert_snapshot!(error, @"`${{ insert }}` gives a string, and a mapping is expected");
    }

    #[test]
    fn keys_are_evaluated_and_inserted_mappings_take_the_place_of_theirs() {
        let spot = Spot { line: 1, column: 1 };
        let entry = |(key, value): (&str, &str)| {
            let text = value.to_owned();
            (key.to_owned(), crate::spec::Text { text, spot })
        };
        let evaluated = |entries: &[(&str, &str)]| {
            let map = Map::Entries(entries.iter().copied().map(entry).collect());
            let map = evaluate_map(&map, &scope())?;
            let map: Object = map.into_iter().collect();
            Ok::<_, EvalError>(serde_json::to_string(&Value::from(map)).unwrap())
        };
        let all = [
            ("A", "1"),
            ("x-${{ matrix.n }}", "${{ matrix.n }}"),
            ("${{insert}}", "${{ env }}"),
            ("Z", "z"),
        ];
        assert_eq!(
            evaluated(&all).unwrap(),
            r#"{"A":"1","x-3":3,"NAME":"vmint","}}":"braces","Z":"z"}"#
        );
        let twice = [("name", "1"), ("${{ insert }}", "${{ env }}")];
        insta::assert_snapshot!(evaluated(&twice).unwrap_err(), @"the key `NAME` comes twice");
        let list = [("${{ insert }}", "${{ matrix.os }}")];
        insta::assert_snapshot!(evaluated(&list).unwrap_err(), @"`${{ insert }}` gives an array, and a mapping is expected");
    }

    #[test]
    fn all_texts_of_a_tree_share_one_limit() {
        let scope = scope().with(
            ContextName::Inputs,
            vec![Value::from("x".repeat(1 << 20)); 2],
        );
        let of = |count| {
            node(yaml::Data::Sequence(vec![
                text("${{ join(inputs) }}");
                count
            ]))
        };
        assert!(evaluate_node(&of(2), &scope).is_ok());
        let error = evaluate_node(&of(20), &scope).unwrap_err();
        assert_eq!(error.error, EvalError::TooLarge);
    }

    proptest! {
        #[test]
        fn text_without_expressions_stays_as_it_is(text in "(\\PC|[${} '\n]){0,40}") {
            prop_assume!(!text.contains(OPEN));
            prop_assert_eq!(&interpolate(&text, &scope()).unwrap(), &text);
            let value = evaluate_text(&text, &scope()).unwrap();
            prop_assert_eq!(value.as_str(), Some(&*text));
        }

        #[test]
        fn segments_cover_the_text_but_for_its_braces(text in "(\\PC|\\$\\{\\{|\\}\\}|'|[ a-z]){0,20}") {
            if let Ok(segments) = split(&text) {
                let again: String = segments.into_iter().map(|segment| match segment {
                    Segment::Literal(range) => text[range].to_owned(),
                    Segment::Expression(range) => format!("${{{{{}}}}}", &text[range]),
                }).collect();
                prop_assert_eq!(again, text);
            }
        }

        #[test]
        fn any_text_can_be_quoted(value in "\\PC{0,20}", before in "[a-z}{ ]{0,5}", after in "[a-z}{ ]{0,5}") {
            let text = format!("{before}${{{{ '{}' }}}}{after}", value.replace('\'', "''"));
            prop_assert_eq!(interpolate(&text, &scope()).unwrap(), format!("{before}{value}{after}"));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\$\\{\\{|\\}\\}|'|env|matrix|\\PC|[ .*()\\[\\]!&|=]){0,30}") {
            if let Err(error) = interpolate(&text, &scope()) {
                prop_assert!(error.offset().is_none_or(|offset| text.is_char_boundary(offset)));
            }
        }
    }
}
