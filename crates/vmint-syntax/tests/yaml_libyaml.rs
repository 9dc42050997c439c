//! Files that people write are read as libyaml reads them, which most tools go by: the same tree, and none refused.

use proptest::prelude::*;
use std::path::Path;
use vmint_syntax::yaml::{Data, Node, parse};
use yaml_serde::Value;

/// The tree as text, by this crate's reader.
fn ours(node: &Node) -> String {
    match &node.data {
        Data::Null => "null".to_owned(),
        Data::Bool(value) => value.to_string(),
        Data::Number(_, text) => format!("n {text}"),
        Data::String(text) => format!("{text:?}"),
        Data::Sequence(items) => {
            let items: Vec<String> = items.iter().map(ours).collect();
            format!("[{}]", items.join(", "))
        }
        Data::Mapping(entries) => {
            let entries = entries.iter();
            let entries: Vec<String> = entries
                .map(|(key, value)| format!("{:?}: {}", key.text, ours(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// The same by libyaml.
fn theirs(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("n {number}"),
        Value::String(text) => format!("{text:?}"),
        Value::Sequence(items) => {
            let items: Vec<String> = items.iter().map(theirs).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Mapping(entries) => {
            let entries = entries.iter();
            let entries: Vec<String> = entries
                .map(|(key, value)| {
                    let key = match key {
                        Value::String(text) => text.clone(),
                        other => theirs(other).trim_start_matches("n ").to_owned(),
                    };
                    format!("{key:?}: {}", theirs(value))
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Tagged(tagged) => theirs(&tagged.value),
    }
}

/// What is wrong with how a text is read; nothing when libyaml does not take it either.
fn differs(text: &str) -> Option<String> {
    let expected = theirs(&yaml_serde::from_str::<Value>(text).ok()?);
    match parse(Path::new("x.yml"), text.as_bytes()) {
        Err(wrong) => Some(format!("{text}\nis refused: {wrong}\nand is {expected}")),
        Ok(node) if ours(&node) != expected => Some(format!(
            "{text}\nis read as {}\nand is {expected}",
            ours(&node)
        )),
        Ok(_) => None,
    }
}

/// Ways of writing that are found in workflows of well-known projects, in small.
const CORPUS: &[&str] = &[
    "on:\n  push:\n    branches: [\n      'a',\n      \"b\"\n    ]\n  pull_request:\n",
    "on:\n  push:\n    branches:\n    - main\n    tags: [\n    \"v*\"\n    ]\n",
    "a:\n  b: [\n    'x',\n  ]\n  c: {\n    d: 'e',\n  }\n  f: 1\n",
    "a:\n  b: [ 'x'\n  ]\n",
    "a:\n  b: [ x\n  ]\n",
    "a: [\n'x'\n]\n",
    "a: {\n'x': 'y'\n}\n",
    "a:\n  - [\n    'x'\n  ]\n  - {\n    y: \"z\"\n  }\n",
    "a:\n  b: [{c: 'd'},\n  {c: \"e\"}\n  ]\n",
    "a:\n  b: [\n    # why\n    'x', # because\n  ]\n",
    "a:\n  b: ['x',\n\n  'y',\n\n  ]\n",
    "a:\n  b: [[\n    'x'\n  ],[\n    y\n  ]]\n",
    "a:\n  b: [\n    *one\n  ]\nc: 1\n",
    "o: &one 'x'\na:\n  b: [\n    *one\n  ]\nc: 1\n",
    "a:\n  b: [\n    'x'\n  ]  # end\nc: \"two\n  lines\"\n",
    "a:\n  b: \"two\n  lines\"\n",
    "a:\n  b: 'two\n\n  lines'\n",
    "a:\n  b: two\n    lines\n  c: 1\n",
    "a: |\n  x\n   y\n\n  z\nb: >-\n  x\n  y\n",
    "- 'a': 'b'\n  \"c\": [\n    'd'\n  ]\n- e\n",
    "a:\n- b:\n  - 'c'\n- d\n",
    "a: {b: 'c', d: \"e\", f: [g, 'h']}\n",
    "a:\n    'b': [\n        'c'\n    ]\n    d: e\n",
    "jobs: {\n  a: {\n    runs-on: 'x',\n    steps: [\n      {run: 'y'}\n    ]\n  }\n}\n",
    "a:\t'b'\nc:  [\t'd'\t]\n",
    "a: 'b'   \nc: [ 'd' ,'e' ]   \n",
    "? 'a'\n: 'b'\n",
    "a:\n  b: [ 'x', 'y' ] \n  c:\n    [\n      'z'\n    ]\n  d:\n    {\n    e: 'f'\n    }\n",
];

#[test]
fn what_projects_write_is_read_as_libyaml_reads_it() {
    let wrong: Vec<String> = CORPUS.iter().filter_map(|text| differs(text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

#[test]
fn places_are_those_of_the_file() {
    let text = "a:\n  b: [\n    'x',\n  'y' ]\n  c: \"two\n  lines\"\n  d: [\n  'z'\n  ]\n  e: f\n";
    let node = parse(Path::new("x.yml"), text.as_bytes()).unwrap();
    let inner = node.get("a").unwrap();
    let at = |node: &Node| (node.spot.line, node.spot.column);
    let b = inner.get("b").unwrap();
    assert_eq!(
        b.items().iter().map(at).collect::<Vec<_>>(),
        [(3, 5), (4, 3)]
    );
    assert_eq!(at(inner.get("c").unwrap()), (5, 6));
    assert_eq!(at(&inner.get("d").unwrap().items()[0]), (8, 3));
    assert_eq!(at(inner.get("e").unwrap()), (10, 6));
    // What is wrong besides is told where it stands.
    let wrong = parse(Path::new("x.yml"), format!("{text}  g: h: i\n").as_bytes()).unwrap_err();
    assert_eq!(
        (wrong.0[0].spot.line, wrong.0[0].spot.column),
        (11, 7),
        "{wrong}"
    );
}

#[test]
fn a_file_of_mended_lines_costs_no_more_than_is_allowed() {
    let text = format!("a:\n  b: [\n{}  ]\n", "  'x',\n".repeat(200_000));
    let _ = parse(Path::new("x.yml"), text.as_bytes());
    let text = format!("a:\n  b: '\n{}  '\n", "  x\n".repeat(200_000));
    let _ = parse(Path::new("x.yml"), text.as_bytes());
}

/// A value, as people lay it out.
#[derive(Clone, Debug)]
enum Laid {
    Scalar(String),
    /// In brackets: the items, and how each line and the end are indented, from the left edge.
    Brackets(Vec<Laid>, usize, usize),
    Braces(Vec<(String, Laid)>, usize, usize),
    /// As a block.
    List(Vec<Laid>),
    Mapping(Vec<(String, Laid)>),
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        "'[a-z #:\\[\\]{},-]{0,5}'",
        "\"[a-z #:\\[\\]{},-]{0,5}\"",
        "'[a-z]{1,3}\n {0,6}[a-z]{1,3}'",
        "\"[a-z]{1,3} ?\n\n {0,6}[a-z]{1,3}\"",
        Just("1".to_owned()),
        Just("true".to_owned()),
        Just("''".to_owned()),
    ]
}

fn laid() -> impl Strategy<Value = Laid> {
    let flow = scalar()
        .prop_map(Laid::Scalar)
        .prop_recursive(3, 12, 4, |inner| {
            let key = "[a-z]{1,2}|'[a-z]{1,2}'";
            prop_oneof![
                (
                    prop::collection::vec(inner.clone(), 0..4),
                    0..8_usize,
                    0..8_usize
                )
                    .prop_map(|(items, line, end)| Laid::Brackets(items, line, end)),
                (
                    prop::collection::vec((key, inner), 0..3),
                    0..8_usize,
                    0..8_usize
                )
                    .prop_map(|(entries, line, end)| Laid::Braces(entries, line, end)),
            ]
        });
    flow.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Laid::List),
            prop::collection::vec(("[a-z]{1,2}", inner), 1..4).prop_map(Laid::Mapping),
        ]
    })
}

/// Writes a value behind a key or a `-` at this indentation.
fn write(value: &Laid, indent: usize, out: &mut String) {
    let blanks = |n: usize| " ".repeat(n);
    match value {
        Laid::Scalar(text) => out.push_str(&format!(" {text}\n")),
        Laid::Brackets(..) | Laid::Braces(..) => {
            out.push(' ');
            flow(value, out);
            out.push('\n');
        }
        Laid::List(items) => {
            out.push('\n');
            for item in items {
                out.push_str(&format!("{}-", blanks(indent + 2)));
                write(item, indent + 2, out);
            }
        }
        Laid::Mapping(entries) => {
            out.push('\n');
            for (n, (key, value)) in entries.iter().enumerate() {
                out.push_str(&format!("{}{key}{n}:", blanks(indent + 2)));
                write(value, indent + 2, out);
            }
        }
    }
}

fn flow(value: &Laid, out: &mut String) {
    let line = |n: usize| match n {
        0 => String::new(),
        n => format!("\n{}", " ".repeat(n)),
    };
    match value {
        Laid::Scalar(text) => out.push_str(text),
        Laid::Brackets(items, indent, end) => {
            out.push('[');
            for item in items {
                out.push_str(&line(*indent));
                flow(item, out);
                out.push(',');
            }
            out.push_str(&line(*end));
            out.push(']');
        }
        Laid::Braces(entries, indent, end) => {
            out.push('{');
            for (n, (key, item)) in entries.iter().enumerate() {
                let key = match key.strip_suffix('\'') {
                    Some(key) => format!("{key}{n}'"),
                    None => format!("{key}{n}"),
                };
                out.push_str(&format!("{}{key}: ", line(*indent)));
                flow(item, out);
                out.push_str(", ");
            }
            out.push_str(&line(*end));
            out.push('}');
        }
        Laid::List(_) | Laid::Mapping(_) => out.push_str("''"),
    }
}

#[test]
fn a_file_that_ends_within_a_block_of_text_is_read_the_same() {
    for header in ["|", ">", "|-", "|+", ">+"] {
        for body in ["  x", "  x\n", "  x\n  y", "  x\n\n"] {
            for rest in ["", " ", "  ", "   ", "    ", "\n  ", "  \n", "   \n  "] {
                let text = format!("a:\n b: {header}\n{body}{rest}");
                assert_eq!(differs(&text), None, "{text:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_libyaml_takes_is_read_the_same(value in laid()) {
        let mut text = "top:".to_owned();
        write(&value, 0, &mut text);
        prop_assert_eq!(differs(&text), None);
    }
}
