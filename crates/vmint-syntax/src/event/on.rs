//! `on` of a workflow file, read from the file's tree.
//!
//! A filter may be one text instead of a list (`branches: main`), inputs keep their defaults, and what is wrong has a place.

use super::pattern::{PatternError, Patterns};
use crate::diagnostic::Spot;
use crate::yaml::{Data, Node};
use indexmap::IndexMap;
use thiserror::Error;

/// The events that start a workflow, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct On {
    events: IndexMap<String, Filters>,
}

/// Which of an event's occurrences count. Nothing given: all.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// `types`; empty when not given.
    pub types: Vec<String>,
    /// `branches` or `branches-ignore`.
    pub branches: Option<Filter>,
    /// `tags` or `tags-ignore`.
    pub tags: Option<Filter>,
    /// `paths` or `paths-ignore`.
    pub paths: Option<Filter>,
    /// `workflows` of `workflow_run`; empty when not given.
    pub workflows: Vec<String>,
    /// `cron` of `schedule`.
    pub crons: Vec<String>,
    /// `inputs` of `workflow_dispatch` and `workflow_call`; see [`super::inputs`].
    pub inputs: Option<Node>,
}

/// A filter by name.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Its key.
    pub key: &'static str,
    /// Its patterns as they stand in the file, for messages.
    pub source: Vec<String>,
    /// The same, read.
    pub patterns: Patterns,
    /// What they are for.
    pub sense: Sense,
}

/// What a filter's patterns are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// What matches counts.
    Only,
    /// What matches does not count.
    Ignore,
}

impl Filter {
    /// Whether a name passes.
    pub fn passes(&self, name: &str) -> bool {
        match self.sense {
            Sense::Only => self.patterns.matches(name),
            Sense::Ignore => !self.patterns.matches(name),
        }
    }
}

/// What is wrong with `on`, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{problem}")]
pub struct OnError {
    /// Where.
    pub spot: Spot,
    /// What.
    pub problem: OnProblem,
}

/// What can be wrong with `on`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OnProblem {
    /// Not an event, list or mapping.
    #[error("`on` must be the name of an event, a list of names, or a mapping of names to filters")]
    Shape,
    /// No event at all.
    #[error("`on` names no event, so nothing can start this workflow")]
    Empty,
    /// Filters that are no mapping.
    #[error("`on.{event}` must be a mapping or empty")]
    FiltersShape {
        /// The event.
        event: String,
    },
    /// A filter of another form.
    #[error("`on.{event}.{key}` must be a text or a list of texts")]
    List {
        /// The event.
        event: String,
        /// The filter.
        key: String,
    },
    /// `schedule` of another form.
    #[error("`on.schedule` must be a list of `cron: '…'`")]
    Schedule,
    /// Both forms of a filter.
    #[error(
        "`on.{event}` has both `{key}` and `{key}-ignore`; use only `{key}`, with `!` before what to exclude"
    )]
    Both {
        /// The event.
        event: String,
        /// The filter.
        key: &'static str,
    },
    /// A bad pattern.
    #[error("`on.{event}.{key}`: {why}")]
    Pattern {
        /// The event.
        event: String,
        /// The filter.
        key: &'static str,
        /// Why.
        why: PatternError,
    },
}

fn wrong(node: &Node, problem: OnProblem) -> OnError {
    OnError {
        spot: node.spot,
        problem,
    }
}

impl On {
    /// Reads the node below `on`.
    pub fn read(node: &Node) -> Result<Self, OnError> {
        let mut events = IndexMap::new();
        match &node.data {
            Data::String(name) => {
                events.insert(name.clone(), Filters::default());
            }
            Data::Sequence(names) => {
                for name in names {
                    let Data::String(text) = &name.data else {
                        return Err(wrong(name, OnProblem::Shape));
                    };
                    events.insert(text.clone(), Filters::default());
                }
            }
            Data::Mapping(entries) => {
                for (key, value) in entries {
                    events.insert(key.text.clone(), Filters::read(&key.text, value)?);
                }
            }
            Data::Null | Data::Bool(_) | Data::Number(..) => {
                return Err(wrong(node, OnProblem::Shape));
            }
        }
        if events.is_empty() {
            return Err(wrong(node, OnProblem::Empty));
        }
        Ok(Self { events })
    }

    /// The filters of an event; absent when it starts nothing.
    pub fn get(&self, event: &str) -> Option<&Filters> {
        self.events.get(event)
    }

    /// The events' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(String::as_str)
    }
}

impl Filters {
    fn read(event: &str, node: &Node) -> Result<Self, OnError> {
        let mut filters = Self::default();
        if event == "schedule" {
            filters.crons = crons(node)?;
            return Ok(filters);
        }
        let entries = match &node.data {
            Data::Null => return Ok(filters),
            Data::Mapping(entries) => entries,
            _ => {
                let event = event.to_owned();
                return Err(wrong(node, OnProblem::FiltersShape { event }));
            }
        };
        let find = |name: &str| entries.iter().find(|(k, _)| k.text == name).map(|(_, v)| v);
        let filter = |only: &'static str, ignore: &'static str| match (find(only), find(ignore)) {
            (None, None) => Ok(None),
            (Some(node), None) => Filter::read(event, only, Sense::Only, node, ignore).map(Some),
            (None, Some(node)) => {
                Filter::read(event, ignore, Sense::Ignore, node, ignore).map(Some)
            }
            (Some(_), Some(node)) => {
                let event = event.to_owned();
                Err(wrong(node, OnProblem::Both { event, key: only }))
            }
        };
        filters.branches = filter("branches", "branches-ignore")?;
        filters.tags = filter("tags", "tags-ignore")?;
        filters.paths = filter("paths", "paths-ignore")?;
        if let Some(workflows) = find("workflows") {
            filters.workflows = texts(event, "workflows", workflows)?;
        }
        if let Some(types) = find("types") {
            filters.types = texts(event, "types", types)?;
        }
        filters.inputs = find("inputs").cloned();
        Ok(filters)
    }
}

impl Filter {
    fn read(
        event: &str,
        key: &'static str,
        sense: Sense,
        node: &Node,
        instead: &'static str,
    ) -> Result<Self, OnError> {
        let source = texts(event, key, node)?;
        let patterns = Patterns::parse(&source).and_then(|patterns| match sense {
            Sense::Only => patterns.require_positive(instead),
            Sense::Ignore => Ok(patterns),
        });
        let patterns = patterns.map_err(|why| {
            let event = event.to_owned();
            wrong(node, OnProblem::Pattern { event, key, why })
        })?;
        Ok(Self {
            key,
            source,
            patterns,
            sense,
        })
    }
}

fn crons(node: &Node) -> Result<Vec<String>, OnError> {
    let Data::Sequence(entries) = &node.data else {
        return Err(wrong(node, OnProblem::Schedule));
    };
    let cron = |entry: &Node| match &entry.data {
        Data::Mapping(fields) => fields
            .iter()
            .find(|(key, _)| key.text == "cron")
            .and_then(|(_, value)| text(value))
            .ok_or_else(|| wrong(entry, OnProblem::Schedule)),
        _ => Err(wrong(entry, OnProblem::Schedule)),
    };
    entries.iter().map(cron).collect()
}

fn texts(event: &str, key: &str, node: &Node) -> Result<Vec<String>, OnError> {
    let one = |node: &Node| {
        text(node).ok_or_else(|| {
            let (event, key) = (event.to_owned(), key.to_owned());
            wrong(node, OnProblem::List { event, key })
        })
    };
    match &node.data {
        Data::Sequence(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(node)?]),
    }
}

/// A scalar as it was written.
pub(super) fn text(node: &Node) -> Option<String> {
    match &node.data {
        Data::String(text) | Data::Number(_, text) => Some(text.clone()),
        Data::Bool(value) => Some(value.to_string()),
        Data::Null | Data::Sequence(_) | Data::Mapping(_) => None,
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::yaml::Key;

    /// A tree from YAML, without places: the crate's own reader is tested where it stands.
    pub fn node(yaml: &str) -> Node {
        convert(&yaml_serde::from_str(yaml).unwrap())
    }

    fn convert(value: &yaml_serde::Value) -> Node {
        use yaml_serde::Value;
        let spot = Spot::START;
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(b) => Data::Bool(*b),
            Value::Number(n) => Data::Number(n.as_f64().unwrap(), n.to_string()),
            Value::String(s) => Data::String(s.clone()),
            Value::Sequence(items) => Data::Sequence(items.iter().map(convert).collect()),
            Value::Mapping(entries) => {
                let entry = |(key, value): (&Value, &Value)| {
                    let text = key.as_str().unwrap().to_owned();
                    (Key { text, spot }, convert(value))
                };
                Data::Mapping(entries.iter().map(entry).collect())
            }
            Value::Tagged(_) => panic!("tests use no tags"),
        };
        Node { spot, data }
    }

    /// `on` from YAML.
    pub fn on(yaml: &str) -> On {
        On::read(&node(yaml)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{node, on};
    use super::*;

    #[test]
    fn all_three_forms_name_events() {
        for yaml in ["push", "[push]", "{push: }", "{push: {branches: main}}"] {
            assert_eq!(on(yaml).names().collect::<Vec<_>>(), ["push"], "{yaml}");
        }
    }

    #[test]
    fn a_single_text_is_a_filter_too() {
        let on = on("{push: {branches: main, tags: [1.0]}}");
        let push = on.get("push").unwrap();
        assert!(!push.branches.as_ref().unwrap().passes("other"));
        assert_eq!(push.tags.as_ref().unwrap().source, ["1.0"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let errors: Vec<String> = [
            "1",
            "[]",
            "[[push]]",
            "{push: main}",
            "{push: {branches: {a: b}}}",
            "{push: {branches: [a], branches-ignore: [b]}}",
            "{push: {branches: ['!a']}}",
            "{push: {paths: ['a[']}}",
            "{schedule: '* * * * *'}",
            "{schedule: [{timezone: UTC}]}",
        ]
        .iter()
        .map(|yaml| On::read(&node(yaml)).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `on` must be the name of an event, a list of names, or a mapping of names to filters
        `on` names no event, so nothing can start this workflow
        `on` must be the name of an event, a list of names, or a mapping of names to filters
        `on.push` must be a mapping or empty
        `on.push.branches` must be a text or a list of texts
        `on.push` has both `branches` and `branches-ignore`; use only `branches`, with `!` before what to exclude
        `on.push.branches`: all patterns begin with `!`, so nothing can match; add one without, such as `**`, or use `branches-ignore`
        `on.push.paths`: `[` at position 2 of pattern `a[` has no `]`; for the character itself write `\[`
        `on.schedule` must be a list of `cron: '…'`
        `on.schedule` must be a list of `cron: '…'`
        ");
    }
}
