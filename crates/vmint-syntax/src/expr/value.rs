//! What an expression gives.

use super::number;
use crate::yaml::{Data, Node};
use indexmap::IndexMap;
use std::borrow::Cow;
use std::sync::Arc;

/// A value. Cheap to clone.
///
/// There is no `PartialEq`: GitHub's `==` is [`loosely_equals`](Value::loosely_equals), which is not reflexive.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// `null`; also what is not there.
    #[default]
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// A mapping.
    Object(Arc<Object>),
}

impl Value {
    /// Whether a condition that gives this holds: all but `null`, `false`, `0`, `NaN` and `''`.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::String(value) => !value.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// As a number: `NaN` for text that is none, and for lists and mappings.
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(value) => *value,
            Self::String(value) => number::from_text(value),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// As text: nothing for `null`, `Array` for lists and `Object` for mappings.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Number(value) => Cow::Owned(number::to_text(*value)),
            Self::String(value) => Cow::Borrowed(value),
            Self::Array(_) => Cow::Borrowed("Array"),
            Self::Object(_) => Cow::Borrowed("Object"),
        }
    }

    /// Whether it is neither a list nor a mapping.
    pub fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// What it is, in a word for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The mapping, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The text, if it is text; nothing is converted.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What `.key` gives: `null` where there is none.
    #[must_use]
    pub fn member(&self, key: &str) -> Value {
        self.as_object()
            .and_then(|object| object.get(key))
            .cloned()
            .unwrap_or_default()
    }
}

/// Whether keys that differ only in case are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keys {
    #[default]
    AnyCase,
    Exact,
}

/// A mapping whose keys keep their order and their case. They are found whatever the case, unless it was made
/// [case-sensitive](Object::case_sensitive).
#[derive(Clone, Debug, Default)]
pub struct Object {
    keys: Keys,
    /// By the key as it is looked up: the key as it was given, and the value.
    entries: IndexMap<String, (String, Value)>,
}

impl Object {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that tells `PATH` from `Path`: `env`, where the machine runs Linux.
    pub fn case_sensitive() -> Self {
        Self {
            keys: Keys::Exact,
            entries: IndexMap::new(),
        }
    }

    fn fold<'k>(&self, key: &'k str) -> Cow<'k, str> {
        let plain = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
        if self.keys == Keys::Exact || key.bytes().all(plain) {
            Cow::Borrowed(key)
        } else {
            Cow::Owned(key.to_lowercase())
        }
    }

    /// Sets a value. A key that is found by the same name is replaced, and keeps its place.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        self.entries
            .insert(self.fold(&key).into_owned(), (key, value.into()));
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries
            .get(self.fold(key).as_ref())
            .map(|(_, value)| value)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.values().map(|(key, value)| (&**key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn extended<K: Into<String>, V: Into<Value>>(
        mut self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.extend(entries);
        self
    }
}

impl<K: Into<String>, V: Into<Value>> Extend<(K, V)> for Object {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::new().extended(entries)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Self::Object(Arc::new(value))
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Self::Array(Arc::new(value))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&Node> for Value {
    /// As it stands; expressions in it stay text.
    fn from(node: &Node) -> Self {
        match &node.data {
            Data::Null => Self::Null,
            Data::Bool(value) => Self::Bool(*value),
            Data::Number(value, _) => Self::Number(*value),
            Data::String(value) => Self::from(&**value),
            Data::Sequence(items) => Self::from(items.iter().map(Self::from).collect::<Vec<_>>()),
            Data::Mapping(entries) => Self::from(
                entries
                    .iter()
                    .map(|(key, value)| (&*key.text, Self::from(value)))
                    .collect::<Object>(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_whatever_the_case_and_keep_theirs() {
        let mut object = Object::new();
        object.insert("Key", "a");
        object.insert("Größe", "b");
        object.insert("KEY", "c");
        assert_eq!(object.len(), 2);
        assert_eq!(object.get("kEy").unwrap().as_str(), Some("c"));
        assert_eq!(object.get("GRÖßE").unwrap().as_str(), Some("b"));
        let keys: Vec<_> = object.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["KEY", "Größe"]);
    }

    #[test]
    fn a_case_sensitive_mapping_tells_keys_apart() {
        let mut env = Object::case_sensitive();
        env.insert("PATH", "a");
        env.insert("Path", "b");
        assert_eq!(env.len(), 2);
        assert_eq!(env.get("PATH").unwrap().as_str(), Some("a"));
        assert!(env.get("path").is_none());
    }

    #[test]
    fn truth_is_what_is_not_empty() {
        let object = Value::from(Object::new());
        for truthy in [
            true.into(),
            Value::from(-1.0),
            "false".into(),
            "0".into(),
            vec![].into(),
            object,
        ] {
            assert!(truthy.is_truthy(), "{truthy:?}");
        }
        for falsy in [
            Value::Null,
            false.into(),
            0.0.into(),
            (-0.0).into(),
            f64::NAN.into(),
            "".into(),
        ] {
            assert!(!falsy.is_truthy(), "{falsy:?}");
        }
    }
}
