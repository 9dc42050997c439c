//! Looking into a node.

use super::scalar::number_text;
use super::{Data, Key, Node};

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The key and its value, if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        self.entries()
            .iter()
            .find(|(k, _)| k.text == key)
            .map(|(key, value)| (key, value))
    }

    /// What a mapping holds; nothing for all else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.data {
            Data::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// What a sequence holds; nothing for all else.
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::Sequence(items) => items,
            _ => &[],
        }
    }

    /// A scalar as GitHub takes it where text is expected: `1.10` is `1.1`, nothing is the empty text.
    pub fn text(&self) -> Option<String> {
        match &self.data {
            Data::Null => Some(String::new()),
            Data::Bool(value) => Some(value.to_string()),
            Data::Number(value, _) => Some(number_text(*value)),
            Data::String(text) => Some(text.clone()),
            Data::Sequence(_) | Data::Mapping(_) => None,
        }
    }

    /// Whether this is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// What this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Number(..) => "a number",
            Data::String(_) => "text",
            Data::Sequence(_) => "a list",
            Data::Mapping(_) => "a mapping",
        }
    }
}
