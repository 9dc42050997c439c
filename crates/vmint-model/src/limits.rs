//! What a machine may take of its host, held from outside of it: no guest, and no hypervisor that was taken over, can raise it.

use crate::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Limits of a machine. What is not limited is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Processors of the host, in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuLimit>,
    /// Bytes a second that it may read from the host's disk, and as many that it may write to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<IoLimit>,
    /// Bytes that the layer which it writes of its disk may grow to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskLimit>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the host's control groups are needed for it.
    pub fn need_group(&self) -> bool {
        self.cpu.is_some() || self.io.is_some()
    }

    /// What is said here, and for the rest what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.or(other.cpu),
            io: self.io.or(other.io),
            disk: self.disk.or(other.disk),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.map(|cpu| format!("{cpu} processors"));
        let io = self.io.map(|io| format!("{io} from and to disk"));
        let disk = self.disk.map(|disk| format!("{disk} of disk"));
        let all: Vec<String> = [cpu, io, disk].into_iter().flatten().collect();
        f.write_str(&all.join(", "))
    }
}

/// Thousandths of a processor. Written and stored as a number of processors, such as `0.5` or `2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct CpuLimit(u32);

impl CpuLimit {
    /// Thousandths of a processor.
    pub fn thousandths(self) -> u32 {
        self.0
    }
}

/// A number of processors that nobody can be limited to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a limit of processors: write a number from 0.05 to 1024, such as 0.5 or 2")]
pub struct InvalidCpuLimit(String);

impl TryFrom<f64> for CpuLimit {
    type Error = InvalidCpuLimit;

    fn try_from(n: f64) -> Result<Self, InvalidCpuLimit> {
        if (0.05..=1024.0).contains(&n) {
            Ok(Self((n * 1000.0).round() as u32))
        } else {
            Err(InvalidCpuLimit(n.to_string()))
        }
    }
}

impl From<CpuLimit> for f64 {
    fn from(limit: CpuLimit) -> Self {
        Self::from(limit.0) / 1000.0
    }
}

impl FromStr for CpuLimit {
    type Err = InvalidCpuLimit;

    fn from_str(s: &str) -> Result<Self, InvalidCpuLimit> {
        let n: f64 = s.parse().map_err(|_| {
            InvalidCpuLimit(format!("{:?}", s.chars().take(40).collect::<String>()))
        })?;
        n.try_into()
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f64::from(*self).fmt(f)
    }
}

/// A size that is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimit {
    /// It is no size.
    #[error("{0:?} is not a limit: write {1}")]
    NoSize(String, &'static str),
    /// Less than a machine can do with.
    #[error("{given} is too little for a machine; the minimum is {least}")]
    TooLittle {
        /// What was asked for.
        given: ByteSize,
        /// The least.
        least: ByteSize,
    },
}

macro_rules! limit_in_bytes {
    ($(#[$doc:meta])* $name:ident, least $least:expr, suffix $suffix:literal, example $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "ByteSize", into = "ByteSize")]
        pub struct $name(ByteSize);

        impl $name {
            /// In bytes.
            pub fn bytes(self) -> u64 {
                self.0.0
            }
        }

        impl TryFrom<ByteSize> for $name {
            type Error = InvalidLimit;

            fn try_from(given: ByteSize) -> Result<Self, InvalidLimit> {
                let least = $least;
                if given < least {
                    return Err(InvalidLimit::TooLittle { given, least });
                }
                Ok(Self(given))
            }
        }

        impl From<$name> for ByteSize {
            fn from(limit: $name) -> Self {
                limit.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidLimit;

            fn from_str(s: &str) -> Result<Self, InvalidLimit> {
                let size = s.strip_suffix($suffix).unwrap_or(s).parse::<ByteSize>();
                let none = |_| InvalidLimit::NoSize(s.chars().take(40).collect(), $example);
                size.map_err(none)?.try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", self.0, $suffix)
            }
        }
    };
}

limit_in_bytes!(
    /// Bytes a second. Written `20M`, `20M/s` or as a plain number of bytes; in JSON, bytes.
    IoLimit,
    least ByteSize(64 << 10),
    suffix "/s",
    example "20M, 1G or a number of bytes a second"
);
limit_in_bytes!(
    /// Bytes. Written `512M`, `4G` or as a plain number of bytes; in JSON, bytes.
    DiskLimit,
    least ByteSize::mib(16),
    suffix "",
    example "512M, 4G or a number of bytes"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_people_write_them() {
        for (text, thousandths) in [("1", 1000), ("0.5", 500), ("2.25", 2250), ("0.05", 50)] {
            let limit: CpuLimit = text.parse().unwrap();
            assert_eq!(limit.thousandths(), thousandths);
            assert_eq!(limit.to_string(), text);
        }
        for text in ["", "0", "0.01", "-1", "NaN", "inf", "1025", "two", "1e9"] {
            let message = text.parse::<CpuLimit>().unwrap_err().to_string();
            assert!(message.contains("0.05 to 1024"), "{message}");
        }
        for text in ["20M", "20M/s", "20971520"] {
            assert_eq!(text.parse::<IoLimit>().unwrap().bytes(), 20 << 20);
        }
        assert_eq!("1G".parse::<DiskLimit>().unwrap().to_string(), "1 GiB");
        for (text, message) in [
            (
                "1G/s",
                "\"1G/s\" is not a limit: write 512M, 4G or a number of bytes",
            ),
            (
                "1M",
                "1 MiB is too little for a machine; the minimum is 16 MiB",
            ),
        ] {
            assert_eq!(text.parse::<DiskLimit>().unwrap_err().to_string(), message);
        }
        assert!("1K".parse::<IoLimit>().is_err());
    }

    #[test]
    fn limits_are_stored_and_unlimited_is_not_written() {
        let limits = Limits {
            cpu: Some("0.5".parse().unwrap()),
            io: Some("20M".parse().unwrap()),
            disk: None,
        };
        let stored = serde_json::to_string(&limits).unwrap();
        assert_eq!(stored, r#"{"cpu":0.5,"io":20971520}"#);
        assert_eq!(serde_json::from_str::<Limits>(&stored).unwrap(), limits);
        assert_eq!(
            serde_json::from_str::<Limits>("{}").unwrap(),
            Limits::default()
        );
        assert!(serde_json::from_str::<Limits>(r#"{"cpu":-1}"#).is_err());
        assert_eq!(
            limits.to_string(),
            "0.5 processors, 20 MiB/s from and to disk"
        );
        let more: Limits = Limits {
            disk: Some("1G".parse().unwrap()),
            ..Limits::default()
        };
        assert_eq!(limits.or(more).disk, more.disk);
    }
}
