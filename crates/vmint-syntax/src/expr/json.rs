//! Values as JSON, and JSON as values.

use super::number::{self, as_whole};
use super::value::{Object, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// The text grew beyond its limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Value {
    /// What `toJSON` gives: GitHub's format, two spaces a level.
    pub fn to_json_pretty(&self) -> String {
        let mut out = String::new();
        // Without a limit there is no other end.
        let _ = self.write_json(&mut out, usize::MAX);
        out
    }

    /// Appends what `toJSON` gives, as long as `out` is not longer than the limit.
    pub(super) fn write_json(&self, out: &mut String, limit: usize) -> Result<(), TooLong> {
        write_value(self, 0, out, limit)
    }

    /// Reads JSON: one value and nothing behind it, nested at most 128 deep.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

fn write_value(value: &Value, level: usize, out: &mut String, limit: usize) -> Result<(), TooLong> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(_) => out.push_str(&value.to_text()),
        Value::Number(number) => out.push_str(&number::to_text(*number)),
        Value::String(text) => write_text(text, out),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                new_line(index, level + 1, out);
                write_value(item, level + 1, out, limit)?;
            }
            new_line(0, level, out);
            out.push(']');
        }
        Value::Object(object) if object.is_empty() => out.push_str("{}"),
        Value::Object(object) => {
            out.push('{');
            for (index, (key, item)) in object.iter().enumerate() {
                new_line(index, level + 1, out);
                write_text(key, out);
                out.push_str(": ");
                write_value(item, level + 1, out, limit)?;
            }
            new_line(0, level, out);
            out.push('}');
        }
    }
    if out.len() > limit {
        return Err(TooLong);
    }
    Ok(())
}

fn new_line(before: usize, level: usize, out: &mut String) {
    out.push_str(if before == 0 { "\n" } else { ",\n" });
    out.extend(std::iter::repeat_n("  ", level));
}

/// A string with the escapes of Newtonsoft's JSON, which the runner uses.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

impl Serialize for Value {
    /// Whole numbers have no fraction; `NaN` and the infinities become `null`, as in any JSON.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => match as_whole(*value) {
                Some(whole) => serializer.serialize_i64(whole),
                None => serializer.serialize_f64(*value),
            },
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => serializer.collect_seq(items.iter()),
            Self::Object(object) => serializer.collect_map(object.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

#[expect(
    clippy::cast_precision_loss,
    reason = "all of GitHub's numbers are double-precision"
)]
impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element::<Value>()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

impl From<&Value> for serde_json::Value {
    /// Numbers that JSON does not know become `null`.
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => as_whole(*value).map_or_else(|| Self::from(*value), Self::from),
            Value::String(value) => Self::from(&**value),
            Value::Array(items) => items.iter().map(Self::from).collect(),
            Value::Object(object) => object
                .iter()
                .map(|(key, value)| (key.to_owned(), Self::from(value)))
                .collect(),
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(value) => Self::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(value) => Self::from(&**value),
            serde_json::Value::Array(items) => {
                Self::from(items.iter().map(Self::from).collect::<Vec<_>>())
            }
            serde_json::Value::Object(entries) => Self::from(
                entries
                    .iter()
                    .map(|(key, value)| (&**key, Self::from(value)))
                    .collect::<Object>(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::random;
    use proptest::prelude::*;

    #[test]
    fn json_keeps_the_order_of_keys_and_is_set_as_github_does() {
        let value =
            Value::from_json(r#"{"z": [1, 2.5, {}, []], "a": {"Q\"": null}, "m": "\u2028\u0001"}"#)
                .unwrap();
        insta::assert_snapshot!(value.to_json_pretty(), @r#"
        {
          "z": [
            1,
            2.5,
            {},
            []
          ],
          "a": {
            "Q\"": null
          },
          "m": "\u2028\u0001"
        }
        "#);
        let compact = serde_json::to_string(&value).unwrap();
        assert!(
            compact.starts_with(r#"{"z":[1,2.5,{},[]],"a""#),
            "{compact}"
        );
    }

    #[test]
    fn json_that_is_none_or_too_deep_is_refused() {
        let deep = "[".repeat(200);
        for text in ["", "{", "[1] 2", "'a'", "NaN", &deep] {
            assert!(Value::from_json(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_ends_the_writing() {
        let value: Value = vec![Value::from("abcdefgh"); 1000].into();
        let mut out = String::new();
        assert_eq!(value.write_json(&mut out, 100), Err(TooLong));
        assert!(out.len() < 200);
    }

    proptest! {
        #[test]
        fn json_read_again_is_the_same_json(value in random::value()) {
            let pretty = value.to_json_pretty();
            let compact = serde_json::to_string(&value).unwrap();
            for text in [&pretty, &compact] {
                prop_assert_eq!(&Value::from_json(text).unwrap().to_json_pretty(), &pretty);
            }
            let through = serde_json::Value::from(&value);
            prop_assert_eq!(serde_json::Value::from(&Value::from(&through)), through);
        }
    }
}
