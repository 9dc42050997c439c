//! Figures, targets, and whether they were met.

use serde::Serialize;
use std::fmt;
use vmint_model::{Accelerator, ByteSize, Fault};

/// What one run of the benchmarks found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where it ran: no figure means anything without this.
    pub host: HostFacts,
    /// The figures.
    pub rows: Vec<Row>,
    /// Benchmarks that could not be carried out.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether every target was met, and nothing failed.
    pub fn met(&self) -> bool {
        self.failures.is_empty() && self.rows.iter().all(|row| row.met != Some(false))
    }
}

/// What is told while benchmarks run, so that one who stops them has what was known by then.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// Where they run; first of all.
    Host(&'a HostFacts),
    /// A figure.
    Row(&'a Row),
    /// A benchmark could not be carried out.
    Failure(&'a Failure),
}

/// Takes figures, and tells each as soon as it is known.
pub(super) struct Rows<'a> {
    known: Vec<Row>,
    tell: &'a dyn Fn(Told<'_>),
}

impl<'a> Rows<'a> {
    pub(super) fn new(tell: &'a dyn Fn(Told<'_>)) -> Self {
        Self {
            known: Vec::new(),
            tell,
        }
    }

    pub(super) fn push(&mut self, row: Row) {
        (self.tell)(Told::Row(&row));
        self.known.push(row);
    }

    pub(super) fn into_rows(self) -> Vec<Row> {
        self.known
    }
}

/// The host and the programs that were measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostFacts {
    /// What executed the guests.
    pub accelerator: Accelerator,
    /// Why not KVM, when it was not.
    pub accelerator_reason: Option<String>,
    /// QEMU, as it names itself.
    pub qemu: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Their model.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// The host's memory.
    pub memory: ByteSize,
    /// Load average over the minute before the run: on a busy host ratios hold better than times.
    pub load: f64,
    /// vmint's version.
    pub version: &'static str,
    /// `release` or `debug`; figures of the latter say little.
    pub build: &'static str,
    /// Whether fewer samples were taken than usual.
    pub quick: bool,
}

/// A benchmark that could not be carried out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The benchmark.
    pub name: &'static str,
    /// Why not.
    pub error: Fault,
}

/// One measured thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The benchmark that it belongs to.
    pub name: &'static str,
    /// What was measured.
    pub what: String,
    /// In which unit.
    pub unit: Unit,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// What it is held against.
    pub floor: Option<Floor>,
    /// Its median by the floor's.
    pub ratio: Option<f64>,
    /// What it should come to.
    pub target: Option<Target>,
    /// Whether it did; nothing where there is no target, or where the measurement was disturbed, as the note says.
    pub met: Option<bool>,
    /// What else there is to say.
    pub note: Option<String>,
}

/// What a figure is held against.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Floor {
    /// What was measured.
    pub what: String,
    /// The figures, in the row's unit.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Units of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Millions of bytes.
    #[serde(rename = "MB")]
    Megabytes,
    /// Millions of bytes in a second.
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    /// Things that are counted.
    #[serde(rename = "count")]
    Count,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::MegabytesPerSecond => "MB/s",
            Self::Count => "count",
        })
    }
}

/// A figure for people: whole, or with two decimals below ten.
pub fn number(n: f64) -> String {
    if n < 10.0 {
        format!("{n:.2}")
    } else {
        format!("{n:.0}")
    }
}

/// Percentiles of samples, each of them a sample (nearest rank). They run from good to bad: of a rate, `p99` is what
/// all but one in a hundred exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// How many samples.
    pub n: usize,
    /// The median.
    pub p50: f64,
    /// What 95 of 100 do not fall short of.
    pub p95: f64,
    /// What 99 of 100 do not fall short of.
    pub p99: f64,
}

impl Figures {
    /// Of samples in `unit`.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn of(unit: Unit, samples: &[f64]) -> Self {
        assert!(!samples.is_empty(), "a benchmark takes samples");
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        if unit == Unit::MegabytesPerSecond {
            sorted.reverse();
        }
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
        Self {
            n: sorted.len(),
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
        }
    }
}

/// What a figure should come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Of which number.
    pub of: Of,
    /// In which direction.
    pub bound: Bound,
    /// How far.
    pub value: f64,
}

/// The number that a target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The ratio to the floor.
    Ratio,
    /// The median itself.
    Median,
}

/// The direction of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or less.
    AtMost,
    /// This or more.
    AtLeast,
}

impl Target {
    /// The ratio must not exceed `value`.
    pub const fn ratio_at_most(value: f64) -> Self {
        Self {
            of: Of::Ratio,
            bound: Bound::AtMost,
            value,
        }
    }

    /// The ratio must reach `value`.
    pub const fn ratio_at_least(value: f64) -> Self {
        Self {
            of: Of::Ratio,
            bound: Bound::AtLeast,
            value,
        }
    }

    /// The median must not exceed `value`.
    pub const fn at_most(value: f64) -> Self {
        Self {
            of: Of::Median,
            bound: Bound::AtMost,
            value,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.bound == Bound::AtMost {
            '≤'
        } else {
            '≥'
        };
        let times = if self.of == Of::Ratio { " ×" } else { "" };
        f.pad(&format!("{sign} {}{times}", self.value))
    }
}

impl Row {
    /// Of `samples`.
    pub(super) fn new(
        name: &'static str,
        what: impl Into<String>,
        unit: Unit,
        samples: &[f64],
    ) -> Self {
        Self {
            name,
            what: what.into(),
            unit,
            figures: Figures::of(unit, samples),
            floor: None,
            ratio: None,
            target: None,
            met: None,
            note: None,
        }
    }

    /// Held against `samples` of something else.
    pub(super) fn floor(mut self, what: impl Into<String>, samples: &[f64]) -> Self {
        let floor = Floor {
            what: what.into(),
            figures: Figures::of(self.unit, samples),
        };
        self.ratio = Some(self.figures.p50 / floor.figures.p50);
        self.floor = Some(floor);
        self.judged()
    }

    /// What it should come to.
    pub(super) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.judged()
    }

    /// Adds what else there is to say.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Something disturbed the measurement, so that it decides nothing.
    pub(super) fn undecided(mut self, note: impl Into<String>) -> Self {
        self.met = None;
        self.note(note)
    }

    fn judged(mut self) -> Self {
        self.met = self.target.and_then(|target| {
            let number = match target.of {
                Of::Ratio => self.ratio?,
                Of::Median => self.figures.p50,
            };
            Some(match target.bound {
                Bound::AtMost => number <= target.value,
                Bound::AtLeast => number >= target.value,
            })
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_the_bad_end_is_the_slow_one() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let times = Figures::of(Unit::Milliseconds, &samples);
        assert_eq!(
            (times.n, times.p50, times.p95, times.p99),
            (100, 50.0, 95.0, 99.0)
        );
        let rates = Figures::of(Unit::MegabytesPerSecond, &samples);
        assert_eq!((rates.p50, rates.p95, rates.p99), (51.0, 6.0, 2.0));
        let one = Figures::of(Unit::Megabytes, &[7.0]);
        assert_eq!((one.n, one.p50, one.p95, one.p99), (1, 7.0, 7.0, 7.0));
    }

    #[test]
    fn a_target_is_judged_by_what_it_is_about() {
        let row = |samples: &[f64]| Row::new("fork", "a fork", Unit::Milliseconds, samples);
        let slow = row(&[30.0])
            .floor("QEMU", &[20.0])
            .target(Target::ratio_at_most(1.25));
        assert_eq!((slow.ratio, slow.met), (Some(1.5), Some(false)));
        let before = row(&[30.0])
            .target(Target::ratio_at_least(1.5))
            .floor("QEMU", &[20.0]);
        assert_eq!(before.met, Some(true));
        assert_eq!(row(&[30.0]).target(Target::at_most(30.0)).met, Some(true));
        assert_eq!(row(&[30.0]).floor("QEMU", &[20.0]).met, None);
        assert_eq!(row(&[30.0]).target(Target::ratio_at_most(1.0)).met, None);
    }

    #[test]
    fn a_row_reads_in_json_as_in_the_table() {
        let row = Row::new("fork", "a fork", Unit::Milliseconds, &[30.0])
            .floor("QEMU", &[20.0])
            .target(Target::ratio_at_most(1.25));
        let json = serde_json::to_value(&row).unwrap();
        let expected = serde_json::json!({
            "name": "fork", "what": "a fork", "unit": "ms", "n": 1, "p50": 30.0, "p95": 30.0, "p99": 30.0,
            "floor": {"what": "QEMU", "n": 1, "p50": 20.0, "p95": 20.0, "p99": 20.0},
            "ratio": 1.5, "target": {"of": "ratio", "bound": "at_most", "value": 1.25}, "met": false, "note": null,
        });
        assert_eq!(json, expected);
        assert_eq!(row.target.unwrap().to_string(), "≤ 1.25 ×");
        assert_eq!(Target::at_most(48.0).to_string(), "≤ 48");
    }
}
