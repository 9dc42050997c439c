//! A setting and where it comes from.

use super::AcceleratorChoice;
use crate::OnPressure;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use vmint_image::{CopyIn, ImageName, ImportSource};
use vmint_model::{ByteSize, Confine, CpuLimit, DiskLimit, IoLimit, NetMode};
use vmint_pool::admission::Factor;
use vmint_workflow::replace::{Choice, StandIn};

/// One line of `vmint config show`.
///
/// In JSON `{"key", "value", "unit", "source"}`; the unit is `bytes` for a size, `ms` for a duration, and null for all else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As in the file, with its table: `defaults.memory`.
    pub key: String,
    /// What it is.
    pub value: Value,
    /// Who says so.
    pub source: Source,
}

/// Who says what a setting is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Source {
    /// vmint.
    Default,
    /// `vmint.toml`.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A variable.
    Environment {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.pad("default"),
            Self::File { path, line } => f.pad(&format!("{}:{line}", path.display())),
            Self::Environment { name } => f.pad(name),
        }
    }
}

/// What a setting is. Shown as it could be written in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    Unset,
    /// A text.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// A number.
    Number(u64),
    /// A number that need not be whole.
    Factor(Factor),
    /// A number of processors.
    Processors(CpuLimit),
    /// Yes or no.
    Flag(bool),
    /// A size.
    Size(ByteSize),
    /// A duration.
    Duration(Duration),
}

impl Value {
    /// What a number in JSON counts, where that is not things.
    fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Size(_) => Some("bytes"),
            Self::Duration(_) => Some("ms"),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let text = match self {
            Self::Unset => "-".to_owned(),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Number(n) => n.to_string(),
            Self::Factor(factor) => factor.to_string(),
            Self::Processors(limit) => limit.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Size(size) => quoted(&size_text(*size)),
            Self::Duration(duration) => quoted(&duration_text(*duration)),
        };
        f.pad(&text)
    }
}

/// Exact, unlike the size's own text.
fn size_text(size: ByteSize) -> String {
    match size.0 {
        n if n > 0 && n.is_multiple_of(1 << 30) => format!("{}G", n >> 30),
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{}M", n >> 20),
        n => n.to_string(),
    }
}

/// In the largest unit that leaves a whole number.
fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("key", &self.key)?;
        match &self.value {
            Value::Unset => map.serialize_entry("value", &())?,
            Value::Text(text) => map.serialize_entry("value", text)?,
            Value::List(items) => map.serialize_entry("value", items)?,
            Value::Number(n) => map.serialize_entry("value", n)?,
            Value::Factor(factor) => map.serialize_entry("value", &factor.as_f64())?,
            Value::Processors(limit) => map.serialize_entry("value", limit)?,
            Value::Flag(flag) => map.serialize_entry("value", flag)?,
            Value::Size(size) => map.serialize_entry("value", size)?,
            Value::Duration(d) => map.serialize_entry("value", &(d.as_millis() as u64))?,
        }
        map.serialize_entry("unit", &self.value.unit())?;
        map.serialize_entry("source", &self.source)?;
        map.end()
    }
}

/// What can be the value of a setting.
pub(super) trait ToValue {
    fn to_value(&self) -> Value;
}

macro_rules! values {
    ($($type:ty: |$x:ident| $value:expr;)*) => {
        $(impl ToValue for $type {
            fn to_value(&self) -> Value {
                let $x = self;
                $value
            }
        })*
    };
}

values! {
    String: |x| Value::Text(x.clone());
    ImageName: |x| Value::Text(x.to_string());
    ImportSource: |x| Value::Text(x.to_string());
    NetMode: |x| Value::Text(x.to_string());
    PathBuf: |x| Value::Text(x.display().to_string());
    Factor: |x| Value::Factor(*x);
    OnPressure: |x| Value::Text(x.to_string());
    u32: |x| Value::Number(u64::from(*x));
    bool: |x| Value::Flag(*x);
    ByteSize: |x| Value::Size(*x);
    CpuLimit: |x| Value::Processors(*x);
    IoLimit: |x| Value::Size((*x).into());
    DiskLimit: |x| Value::Size((*x).into());
    Duration: |x| Value::Duration(*x);
    Vec<String>: |x| Value::List(x.clone());
    Vec<CopyIn>: |x| Value::List(
        x.iter().map(|copy| format!("{}:{}", copy.source.display(), copy.target)).collect()
    );
    Confine: |x| Value::Text(x.to_string());
    Choice: |x| Value::Text(match x {
        Choice::Itself => "itself".to_owned(),
        Choice::Replaced(StandIn::Nothing) => "nothing".to_owned(),
        Choice::Replaced(StandIn::Run(script)) => format!("run: {script}"),
    });
    AcceleratorChoice: |x| Value::Text(match x {
        AcceleratorChoice::Auto => "auto".to_owned(),
        AcceleratorChoice::Only(accelerator) => accelerator.to_string(),
    });
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, ToValue::to_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint_model::parse_duration;

    #[test]
    fn sizes_and_durations_are_shown_exactly_and_read_back() {
        for bytes in [0, 1, 1 << 20, 1100 << 20, 1 << 30, (1 << 30) + 1] {
            let size = ByteSize(bytes);
            assert_eq!(size_text(size).parse(), Ok(size));
        }
        for ms in [0, 1, 999, 1000, 1500, 60_000, 61_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
    }

    #[test]
    fn json_has_bytes_and_milliseconds() {
        let setting = |value, source| Setting {
            key: "k".into(),
            value,
            source,
        };
        let file = Source::File {
            path: "/w/vmint.toml".into(),
            line: 3,
        };
        for (setting, expected) in [
            (
                setting(Value::Size(ByteSize::mib(1)), Source::Default),
                r#"{"key":"k","value":1048576,"unit":"bytes","source":{"kind":"default"}}"#,
            ),
            (
                setting(Value::Duration(Duration::from_secs(1)), file),
                r#"{"key":"k","value":1000,"unit":"ms","source":{"kind":"file","path":"/w/vmint.toml","line":3}}"#,
            ),
            (
                setting(Value::Unset, Source::Environment { name: "VMINT_NET" }),
                r#"{"key":"k","value":null,"unit":null,"source":{"kind":"environment","name":"VMINT_NET"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&setting).unwrap(), expected);
        }
    }

    #[test]
    fn texts_are_quoted_as_toml_wants_them() {
        let list = Value::List(vec!["a".into(), "say \"hi\"\n".into()]);
        let text = format!("x = {list}");
        let read: toml::Table = text.parse().expect(&text);
        assert_eq!(read["x"][1].as_str(), Some("say \"hi\"\n"));
    }
}
