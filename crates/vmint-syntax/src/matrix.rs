//! `strategy.matrix`: from its value to the combinations that jobs are made for, by GitHub's rules.
//!
//! 1. Every combination of the dimensions' values, the last dimension fastest.
//! 2. Without those that an `exclude` matches: each of its values, to the leaves, equals the combination's.
//! 3. Every `include` adds what it has beyond the dimensions to each combination with whose own values it agrees.
//! 4. An `include` that agreed with none is a combination of its own, after the others.
//!
//! Values are compared as `==` of expressions compares them: texts whatever their case, numbers with texts by value.
//! Lists and objects, which are never equal there, are compared leaf by leaf.

use crate::expr::{Object, Value};
use std::collections::HashSet;
use thiserror::Error;

/// Jobs that a matrix may make.
pub const MOST: usize = 256;
/// GitHub cuts longer names of jobs.
const LONGEST_NAME: usize = 100;

/// One combination.
#[derive(Clone, Debug)]
pub struct Combination {
    /// The `matrix` context.
    pub values: Object,
    /// What tells it from the others in names: its values without those that were added by `include`.
    shown: Vec<String>,
}

/// Why a matrix makes no jobs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MatrixError {
    /// Not an object.
    #[error("the matrix must be a mapping of names to lists, not {found}")]
    NoMapping {
        /// What it is.
        found: &'static str,
    },
    /// Nothing in it.
    #[error("Matrix must define at least one vector")]
    Empty,
    /// A dimension that is no list.
    #[error("`{name}` of the matrix must be a list, not {found}")]
    NoList {
        /// Its name.
        name: String,
        /// What it is.
        found: &'static str,
    },
    /// A dimension without values.
    #[error("Matrix vector '{name}' does not contain any values")]
    NoValues {
        /// Its name.
        name: String,
    },
    /// An entry of `include` or `exclude` that is no object.
    #[error("entry {number} of `{list}` must be a mapping, not {found}")]
    NoEntry {
        /// `include` or `exclude`.
        list: &'static str,
        /// Which, from 1.
        number: usize,
        /// What it is.
        found: &'static str,
    },
    /// An entry of `include` or `exclude` with nothing in it.
    #[error("entry {number} of `{list}` is empty")]
    EmptyEntry {
        /// `include` or `exclude`.
        list: &'static str,
        /// Which, from 1.
        number: usize,
    },
    /// `exclude` names what is no dimension.
    #[error("Matrix exclude key '{name}' does not match any key within the matrix")]
    UnknownExclude {
        /// The name.
        name: String,
    },
    /// Everything is excluded.
    #[error("the matrix makes no job: all its {count} combinations are excluded")]
    AllExcluded {
        /// So many.
        count: usize,
    },
    /// Too many combinations.
    #[error("the matrix makes {count} jobs, and GitHub allows {MOST}")]
    TooMany {
        /// So many.
        count: usize,
    },
    /// Too much to compare, whatever is left then.
    #[error(
        "the matrix has {count} combinations before any is excluded, which are too many to hold against `include` and `exclude`"
    )]
    TooLarge {
        /// So many; the largest number when there are more.
        count: usize,
    },
    /// A filter of the command line that leaves nothing.
    #[error("no job of the matrix has {asked}; there are: {}", .there.join("; "))]
    NothingLeft {
        /// The filters.
        asked: String,
        /// The combinations that there are.
        there: Vec<String>,
    },
}

/// Combinations that are looked at before `exclude` may bring them below [`MOST`].
const MOST_BEFORE_EXCLUDE: usize = 65_536;
/// Times that an `include` or `exclude` may be held against a combination.
const MOST_COMPARISONS: usize = 10_000_000;

/// The combinations of a matrix, in the order in which GitHub makes them.
pub fn combinations(matrix: &Value) -> Result<Vec<Combination>, MatrixError> {
    let Value::Object(matrix) = matrix else {
        let found = kind(matrix);
        return Err(MatrixError::NoMapping { found });
    };
    let mut dimensions: Vec<(&str, &[Value])> = Vec::new();
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    for (name, value) in matrix.iter() {
        let Value::Array(list) = value else {
            return Err(MatrixError::NoList {
                name: name.to_owned(),
                found: kind(value),
            });
        };
        if name.eq_ignore_ascii_case("include") {
            include = entries("include", list)?;
        } else if name.eq_ignore_ascii_case("exclude") {
            exclude = entries("exclude", list)?;
        } else if list.is_empty() {
            let name = name.to_owned();
            return Err(MatrixError::NoValues { name });
        } else {
            dimensions.push((name, list));
        }
    }
    let names: HashSet<String> = dimensions
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    let is_dimension = |name: &str| names.contains(&name.to_lowercase());
    for (name, _) in exclude.iter().flat_map(|entry| entry.iter()) {
        if !is_dimension(name) {
            let name = name.to_owned();
            return Err(MatrixError::UnknownExclude { name });
        }
    }
    let mut rules: Vec<Include<'_>> = include
        .into_iter()
        .map(|entry| Include::new(entry, is_dimension))
        .collect();
    let count = product(&dimensions);
    let comparisons = count.saturating_mul(exclude.len() + rules.len());
    if count > MOST_BEFORE_EXCLUDE || comparisons > MOST_COMPARISONS {
        return Err(MatrixError::TooLarge { count });
    }
    if count == 0 && rules.is_empty() {
        return Err(MatrixError::Empty);
    }

    let mut made = Vec::new();
    let mut number = 0;
    for index in 0..count {
        let own = combine(&dimensions, index, count);
        let out = |entry: &&Object| {
            entry
                .iter()
                .all(|(name, value)| agrees(value, own.get(name)))
        };
        if exclude.iter().any(out) {
            continue;
        }
        number += 1;
        // Beyond the limit only their number matters.
        let mut values = own.clone();
        for rule in &mut rules {
            if rule
                .filter
                .iter()
                .all(|(name, value)| agrees(value, own.get(name)))
            {
                rule.used = true;
                for (name, value) in &rule.extra {
                    values.insert(*name, (*value).clone());
                }
            }
        }
        if made.len() < MOST {
            let shown = shown(&own);
            made.push(Combination { values, shown });
        }
    }
    for rule in rules.iter().filter(|rule| !rule.used) {
        number += 1;
        if made.len() < MOST {
            let parts = rule.filter.iter().chain(&rule.extra);
            let values: Object = parts
                .map(|(name, value)| (*name, (*value).clone()))
                .collect();
            let shown = shown(&values);
            made.push(Combination { values, shown });
        }
    }
    match number {
        0 => Err(MatrixError::AllExcluded { count }),
        1..=MOST => Ok(made),
        count => Err(MatrixError::TooMany { count }),
    }
}

/// Keeps the combinations in which every name has the value given, as text. Names are found whatever their case.
pub fn keep(
    combinations: Vec<Combination>,
    asked: &[(String, String)],
) -> Result<Vec<Combination>, MatrixError> {
    let matches = |combination: &Combination| {
        asked.iter().all(|(name, value)| {
            let own = combination.values.get(name);
            own.is_some_and(|own| leaves(own).join(", ") == *value)
        })
    };
    let there = || combinations.iter().map(Combination::describe).collect();
    if !combinations.iter().any(matches) {
        let asked = asked.iter().map(|(name, value)| format!("{name}={value}"));
        return Err(MatrixError::NothingLeft {
            asked: asked.collect::<Vec<_>>().join(" and "),
            there: there(),
        });
    }
    Ok(combinations.into_iter().filter(matches).collect())
}

impl Combination {
    /// The name of the combination's job when the job's own has no expression: `test (3.12, ubuntu)`.
    pub fn name(&self, job: &str) -> String {
        let name = match &self.shown[..] {
            [] => job.to_owned(),
            shown => format!("{job} ({})", shown.join(", ")),
        };
        // GitHub counts UTF-16 units; a name is never cut within a character here.
        if name.chars().count() <= LONGEST_NAME {
            return name;
        }
        let cut: String = name.chars().take(LONGEST_NAME - 3).collect();
        format!("{cut}...")
    }

    /// `os=ubuntu, version=3`, for messages.
    pub fn describe(&self) -> String {
        let part = |(name, value): (&str, &Value)| format!("{name}={}", leaves(value).join(", "));
        self.values.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

/// An entry of `include`.
struct Include<'a> {
    /// Its values for dimensions.
    filter: Vec<(&'a str, &'a Value)>,
    /// What it adds.
    extra: Vec<(&'a str, &'a Value)>,
    /// Whether it agreed with a combination.
    used: bool,
}

impl<'a> Include<'a> {
    fn new(entry: &'a Object, is_dimension: impl Fn(&str) -> bool) -> Self {
        let (filter, extra) = entry.iter().partition(|(name, _)| is_dimension(name));
        Self {
            filter,
            extra,
            used: false,
        }
    }
}

fn entries<'a>(list: &'static str, values: &'a [Value]) -> Result<Vec<&'a Object>, MatrixError> {
    let entry = |(index, value): (usize, &'a Value)| {
        let number = index + 1;
        match value {
            Value::Object(entry) if entry.is_empty() => {
                Err(MatrixError::EmptyEntry { list, number })
            }
            Value::Object(entry) => Ok(&**entry),
            other => {
                let found = kind(other);
                Err(MatrixError::NoEntry {
                    list,
                    number,
                    found,
                })
            }
        }
    };
    values.iter().enumerate().map(entry).collect()
}

/// How many combinations the dimensions have; none without dimensions.
fn product(dimensions: &[(&str, &[Value])]) -> usize {
    let sizes = dimensions.iter().map(|(_, values)| values.len());
    sizes.reduce(usize::saturating_mul).unwrap_or(0)
}

fn combine(dimensions: &[(&str, &[Value])], index: usize, count: usize) -> Object {
    let mut block = count;
    let mut own = Object::new();
    for (name, values) in dimensions {
        block /= values.len();
        own.insert(*name, values[index / block % values.len()].clone());
    }
    own
}

/// Whether every leaf of a filter equals what stands at its place.
fn agrees(filter: &Value, own: Option<&Value>) -> bool {
    match (filter, own.unwrap_or(&Value::Null)) {
        (Value::Object(filter), Value::Object(own)) => filter
            .iter()
            .all(|(name, value)| agrees(value, own.get(name))),
        (Value::Array(filter), Value::Array(own)) => {
            let leaf = |(index, value)| agrees(value, own.get(index));
            filter.iter().enumerate().all(leaf)
        }
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => false,
        (filter, own) => equal(filter, own),
    }
}

/// `==` of expressions, for what is neither list nor object.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::String(one), Value::String(other)) => one.to_uppercase() == other.to_uppercase(),
        (one, other) => {
            let (one, other) = (number(one), number(other));
            #[expect(clippy::float_cmp, reason = "expressions compare numbers exactly")]
            let equal = one == other;
            equal
        }
    }
}

/// A value as a number, as comparisons of different types see it.
fn number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Number(number) => *number,
        Value::String(text) => match text.trim() {
            "" => 0.0,
            text => match text.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).map_or(f64::NAN, f64::from),
                None => text.parse().unwrap_or(f64::NAN),
            },
        },
        Value::Array(_) | Value::Object(_) => f64::NAN,
    }
}

fn shown(values: &Object) -> Vec<String> {
    values
        .iter()
        .flat_map(|(_, value)| leaves(value))
        .filter(|text| !text.is_empty())
        .collect()
}

/// The texts, numbers and booleans in a value, as texts, in order.
fn leaves(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Bool(value) => vec![value.to_string()],
        Value::Number(number) => vec![number.to_string()],
        Value::String(text) => vec![text.to_string()],
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(_, value)| leaves(value))
            .collect(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A matrix from YAML, which keeps the order of keys.
    fn value(yaml: &str) -> Value {
        fn convert(value: &yaml_serde::Value) -> Value {
            use yaml_serde::Value as Yaml;
            match value {
                Yaml::Null => Value::Null,
                Yaml::Bool(value) => Value::from(*value),
                Yaml::Number(number) => Value::from(number.as_f64().unwrap()),
                Yaml::String(text) => Value::from(text.as_str()),
                Yaml::Sequence(items) => Value::from(items.iter().map(convert).collect::<Vec<_>>()),
                Yaml::Mapping(entries) => {
                    let entry =
                        |(k, v): (&Yaml, &Yaml)| (k.as_str().unwrap().to_owned(), convert(v));
                    Value::from(entries.iter().map(entry).collect::<Object>())
                }
                Yaml::Tagged(_) => panic!("tests use no tags"),
            }
        }
        convert(&yaml_serde::from_str(yaml).unwrap())
    }

    fn made(matrix: &str) -> Vec<String> {
        let made = combinations(&value(matrix)).unwrap();
        let line = |c: &Combination| format!("{{{}}} {}", c.describe(), c.name("job"));
        made.iter().map(line).collect()
    }

    fn error(matrix: &str) -> String {
        combinations(&value(matrix)).unwrap_err().to_string()
    }

    fn pairs(asked: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        asked.iter().map(pair).collect()
    }

    #[test]
    fn the_last_dimension_runs_fastest() {
        let matrix = "{version: [10, 12], os: [ubuntu, windows]}";
        insta::assert_snapshot!(made(matrix).join("\n"), @r"
        {version=10, os=ubuntu} job (10, ubuntu)
        {version=10, os=windows} job (10, windows)
        {version=12, os=ubuntu} job (12, ubuntu)
        {version=12, os=windows} job (12, windows)
        ");
    }

    #[test]
    fn includes_extend_and_add_as_in_the_documentation() {
        let matrix = "
            fruit: [apple, pear]
            animal: [cat, dog]
            include:
              - color: green
              - {color: pink, animal: cat}
              - {fruit: apple, shape: circle}
              - fruit: banana
              - {fruit: banana, animal: cat}
        ";
        insta::assert_snapshot!(made(matrix).join("\n"), @r"
        {fruit=apple, animal=cat, color=pink, shape=circle} job (apple, cat)
        {fruit=apple, animal=dog, color=green, shape=circle} job (apple, dog)
        {fruit=pear, animal=cat, color=pink} job (pear, cat)
        {fruit=pear, animal=dog, color=green} job (pear, dog)
        {fruit=banana} job (banana)
        {fruit=banana, animal=cat} job (banana, cat)
        ");
    }

    #[test]
    fn includes_alone_are_combinations_each() {
        let matrix = "include: [{site: production, dc: a}, {site: staging, dc: b}]";
        insta::assert_snapshot!(made(matrix).join("\n"), @r"
        {site=production, dc=a} job (production, a)
        {site=staging, dc=b} job (staging, b)
        ");
    }

    #[test]
    fn an_exclude_needs_to_match_in_part_only() {
        let matrix = "
            os: [macos, windows]
            version: [12, 14, 16]
            environment: [staging, production]
            exclude:
              - {os: macos, version: 12, environment: production}
              - {os: Windows, version: '16'}
        ";
        let made = made(matrix);
        assert_eq!(made.len(), 9);
        assert!(!made.iter().any(|c| c.contains("os=windows, version=16")));
    }

    #[test]
    fn objects_and_lists_are_compared_by_value() {
        let matrix = "
            node: [{version: 14}, {version: 20, env: A=1}]
            list: [[1, 2], [1, 3]]
            exclude: [{node: {version: 14}, list: [1, 2]}]
            include: [{node: {version: 20}, more: true}]
        ";
        insta::assert_snapshot!(made(matrix).join("\n"), @r"
        {node=14, list=1, 3} job (14, 1, 3)
        {node=20, A=1, list=1, 2, more=true} job (20, A=1, 1, 2)
        {node=20, A=1, list=1, 3, more=true} job (20, A=1, 1, 3)
        ");
    }

    #[test]
    fn what_makes_no_jobs_is_an_error() {
        let many: Vec<u32> = (0..300).collect();
        let errors = [
            error("[]"),
            error("{}"),
            error("include: []"),
            error("os: ubuntu"),
            error("os: []"),
            error("{os: [a], include: [b]}"),
            error("{os: [a], exclude: [{}]}"),
            error("{os: [a], exclude: [{arch: b}]}"),
            error("{os: [a], exclude: [{os: a}]}"),
            error(&format!("{{a: {many:?}, b: [1, 2]}}")),
            error(&format!("{{a: {many:?}, b: {many:?}, c: {many:?}}}")),
        ];
        insta::assert_snapshot!(errors.join("\n"), @r"
        the matrix must be a mapping of names to lists, not a list
        Matrix must define at least one vector
        Matrix must define at least one vector
        `os` of the matrix must be a list, not a text
        Matrix vector 'os' does not contain any values
        entry 1 of `include` must be a mapping, not a text
        entry 1 of `exclude` is empty
        Matrix exclude key 'arch' does not match any key within the matrix
        the matrix makes no job: all its 1 combinations are excluded
        the matrix makes 600 jobs, and GitHub allows 256
        the matrix has 27000000 combinations before any is excluded, which are too many to hold against `include` and `exclude`
        ");
    }

    #[test]
    fn as_many_as_are_allowed_are_made() {
        let side: Vec<u32> = (0..16).collect();
        assert_eq!(made(&format!("{{a: {side:?}, b: {side:?}}}")).len(), MOST);
        let one_more = format!("{{a: {side:?}, b: {side:?}, include: [{{a: 99}}]}}");
        assert_eq!(
            error(&one_more),
            "the matrix makes 257 jobs, and GitHub allows 256"
        );
    }

    #[test]
    fn a_long_name_is_cut() {
        let made = combinations(&value(&format!("a: [{}]", "ä".repeat(200)))).unwrap();
        let name = made[0].name("job");
        assert_eq!(name.chars().count(), 100);
        assert!(name.ends_with("ä..."), "{name}");
    }

    #[test]
    fn combinations_are_kept_by_their_values_as_text() {
        let all = || combinations(&value("{v: [1, 2.5], os: [a, b]}")).unwrap();
        let kept = keep(all(), &pairs(&[("V", "2.5"), ("os", "b")])).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].describe(), "v=2.5, os=b");
        assert_eq!(keep(all(), &[]).unwrap().len(), 4);
        let error = keep(all(), &pairs(&[("v", "1"), ("os", "c")])).unwrap_err();
        insta::assert_snapshot!(error, @"no job of the matrix has v=1 and os=c; there are: v=1, os=a; v=1, os=b; v=2.5, os=a; v=2.5, os=b");
    }

    proptest! {
        #[test]
        fn excluded_and_made_add_up(
            a in proptest::collection::vec(0..4u8, 1..5),
            b in proptest::collection::vec(0..4u8, 1..5),
            out in proptest::collection::vec((0..5u8, 0..5u8), 0..4),
        ) {
            let exclude: Vec<_> = out.iter().map(|(a, b)| format!("{{a: {a}, b: {b}}}")).collect();
            let exclude = exclude.join(", ");
            let matrix = value(&format!("{{a: {a:?}, b: {b:?}, exclude: [{exclude}]}}"));
            let all = a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b)));
            let expected = all.filter(|pair| !out.contains(pair)).count();
            let made = combinations(&matrix).map_or(0, |made| made.len());
            prop_assert_eq!(made, expected);
        }
    }
}
