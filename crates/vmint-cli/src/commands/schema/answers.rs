//! How types of other crates look as JSON: answers that commands print whole.

#![expect(dead_code, reason = "described, never made")]

use super::foreign::{Accelerator, Fault, Totals};
use schemars::JsonSchema;

/// What one check of `vmint doctor` found.
#[derive(JsonSchema)]
pub struct Check {
    /// The same in every version of vmint.
    name: String,
    status: CheckStatus,
    summary: String,
    /// What to do.
    #[schemars(skip_serializing_if = "absent")]
    remedy: String,
}

/// How a check ended.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum CheckStatus {
    Ok,
    Warning,
    Failure,
}

/// What `vmint doctor --repair` found and did.
#[derive(JsonSchema)]
pub struct Repaired {
    /// What was wrong with the database.
    damage: Option<String>,
    /// Where the damaged database is now.
    aside: Option<String>,
    found: Vec<String>,
    machines: usize,
    snapshots: usize,
}

/// What `vmint gc` removed, or would.
#[derive(JsonSchema)]
pub struct Garbage {
    swept: Vec<String>,
    runs: Vec<String>,
    snapshots: Vec<String>,
    /// Fingerprints.
    templates: Vec<String>,
    /// Digests of images and kernels.
    images: Vec<String>,
    /// Paths.
    lost: Vec<String>,
    /// Bytes.
    freed: u64,
}

/// A setting.
#[derive(JsonSchema)]
pub struct Setting {
    key: String,
    value: Option<Plain>,
    /// What a number counts, where that is not things.
    unit: Option<SettingUnit>,
    source: SettingSource,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub enum SettingUnit {
    Bytes,
    Ms,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub enum Plain {
    Text(String),
    List(Vec<String>),
    Number(f64),
    Flag(bool),
}

/// Who says what a setting is.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", tag = "kind")]
pub enum SettingSource {
    Default,
    File { path: String, line: usize },
    Environment { name: String },
}

/// One thing that is wrong with a workflow.
#[derive(JsonSchema)]
pub struct Diagnostic {
    severity: Severity,
    file: String,
    /// From 1.
    line: u32,
    /// From 1, in characters.
    column: u32,
    message: String,
    /// What to do.
    #[schemars(skip_serializing_if = "absent")]
    help: String,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Severity {
    Note,
    Warning,
    Error,
}

/// A line of `vmint logs --network`.
#[derive(JsonSchema)]
pub struct NetworkEntry {
    /// Milliseconds since 1970.
    time_ms: i64,
    what: Wanted,
    #[schemars(skip_serializing_if = "absent")]
    name: String,
    #[schemars(skip_serializing_if = "absent")]
    address: String,
    verdict: Verdict,
    /// Why it was refused.
    #[schemars(skip_serializing_if = "absent")]
    why: String,
    /// Lines before this one.
    #[schemars(skip_serializing_if = "absent")]
    left_out: u64,
    #[schemars(flatten)]
    totals: Totals,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Wanted {
    Dns,
    Tcp,
    Udp,
    Icmp,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Verdict {
    Allowed,
    Refused,
}

/// What `vmint bench` measured.
#[derive(JsonSchema)]
pub struct Bench {
    host: BenchHost,
    rows: Vec<BenchRow>,
    failures: Vec<BenchFailure>,
}

/// Where it was measured.
#[derive(JsonSchema)]
pub struct BenchHost {
    accelerator: Accelerator,
    /// Why not KVM.
    accelerator_reason: Option<String>,
    qemu: String,
    cpus: usize,
    processor: String,
    kernel: String,
    memory: u64,
    load: f64,
    version: String,
    build: String,
    quick: bool,
}

/// One measured thing.
#[derive(JsonSchema)]
pub struct BenchRow {
    name: String,
    what: String,
    unit: Unit,
    #[schemars(flatten)]
    figures: Figures,
    /// What it is held against.
    floor: Option<BenchFloor>,
    /// Its median by the floor's.
    ratio: Option<f64>,
    target: Option<BenchTarget>,
    met: Option<bool>,
    note: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(inline)]
pub enum Unit {
    #[schemars(rename = "ms")]
    Milliseconds,
    #[schemars(rename = "MB")]
    Megabytes,
    #[schemars(rename = "MB/s")]
    MegabytesPerSecond,
    #[schemars(rename = "count")]
    Count,
}

#[derive(JsonSchema)]
pub struct Figures {
    n: usize,
    p50: f64,
    p95: f64,
    p99: f64,
}

/// What a figure is held against.
#[derive(JsonSchema)]
pub struct BenchFloor {
    what: String,
    #[schemars(flatten)]
    figures: Figures,
}

/// What a figure should come to.
#[derive(JsonSchema)]
pub struct BenchTarget {
    of: TargetOf,
    bound: TargetBound,
    value: f64,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub enum TargetOf {
    Ratio,
    Median,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
pub enum TargetBound {
    AtMost,
    AtLeast,
}

/// What could not be measured.
#[derive(JsonSchema)]
pub struct BenchFailure {
    name: String,
    error: Fault,
}
