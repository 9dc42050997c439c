//! Sizes in bytes and durations, as people write them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A size in bytes. Written `512M`, `4G`, `4GiB`, `1.5G` or as a plain number of bytes; all units are powers of 1024.
/// In JSON, bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// In whole MiB, rounded down.
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }
}

/// A string that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: write 512M, 4G or a number of bytes")]
pub struct InvalidSize(String);

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(s: &str) -> Result<Self, InvalidSize> {
        let fail = || InvalidSize(s.chars().take(40).collect());
        let t = s.trim();
        let digits = t
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(t.len());
        let (number, unit) = t.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(fail()),
        };
        if let Ok(n) = number.parse::<u64>() {
            return n.checked_mul(1 << shift).map(Self).ok_or_else(fail);
        }
        let n: f64 = number.parse().map_err(|_| fail())?;
        let bytes = n * (1u64 << shift) as f64;
        if bytes.is_finite() && bytes < (1u64 << 60) as f64 {
            Ok(Self(bytes as u64))
        } else {
            Err(fail())
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let text = match units.iter().find(|(shift, _)| self.0 >> shift > 0) {
            None => format!("{} B", self.0),
            Some((shift, unit)) if self.0.trailing_zeros() >= *shift => {
                format!("{} {unit}", self.0 >> shift)
            }
            Some((shift, unit)) => format!("{:.1} {unit}", self.0 as f64 / (1u64 << shift) as f64),
        };
        f.pad(&text)
    }
}

/// A string that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write 500ms, 10s, 5m, 1h or a number of seconds")]
pub struct InvalidDuration(String);

/// Reads `500ms`, `10s`, `1.5s`, `5m`, `1h`, `2d` or a plain number of seconds. At most ten years.
pub fn parse_duration(s: &str) -> Result<Duration, InvalidDuration> {
    let fail = || InvalidDuration(s.chars().take(40).collect());
    let t = s.trim();
    let digits = t
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(t.len());
    let (number, unit) = t.split_at(digits);
    let factor = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(fail()),
    };
    let seconds = number.parse::<f64>().map_err(|_| fail())? * factor;
    if seconds <= 10.0 * 366.0 * 86400.0 {
        Duration::try_from_secs_f64(seconds).map_err(|_| fail())
    } else {
        Err(fail())
    }
}

/// A duration for a reader: `0 s`, `250 ms`, `1.5 s`, `90 s`, `2 min 5 s`.
pub fn span(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.as_millis());
    match seconds {
        0 if ms == 0 => "0 s".to_owned(),
        0 => format!("{ms} ms"),
        1..10 if ms % 1000 >= 100 => format!("{}.{} s", seconds, ms % 1000 / 100),
        1..120 => format!("{seconds} s"),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512M", 512 << 20),
            ("4GiB", 4 << 30),
            ("1.5g", 3 << 29),
            (" 2 k ", 2048),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1X",
            "99999999999T",
            "1e3",
            "..",
            "NaN",
            "512 MM",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize::mib(512).to_string(), "512 MiB");
        assert_eq!(ByteSize(1536 << 20).to_string(), "1.5 GiB");
    }

    #[test]
    fn durations_as_people_write_them() {
        for (text, ms) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("3", 3000),
            ("0.5", 500),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for bad in ["", "s", "-1s", "1y", "1e99", "99999999d", "10 s s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(s in ".{0,30}") {
            let _ = s.parse::<ByteSize>();
            let _ = parse_duration(&s);
        }
    }

    #[test]
    fn durations_are_told_as_people_say_them() {
        for (ms, told) in [
            (0, "0 s"),
            (5, "5 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (1500, "1.5 s"),
            (9_940, "9.9 s"),
            (10_500, "10 s"),
            (90_000, "90 s"),
            (120_000, "2 min"),
            (125_900, "2 min 5 s"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), told);
        }
        assert_eq!(span(Duration::from_micros(9)), "0 s");
    }
}
