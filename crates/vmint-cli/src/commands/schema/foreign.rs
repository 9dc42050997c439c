//! How types of other crates look as JSON: words and small things, of which answers consist.
//!
//! These crates are not to know of schemas, so each type stands here once more; [`conform`](super::conform) holds them
//! against values of the real ones.

#![expect(dead_code, reason = "described, never made")]

use schemars::JsonSchema;

/// A moment, RFC 3339 in UTC with milliseconds.
#[derive(JsonSchema)]
#[schemars(extend("format" = "date-time"))]
pub struct Time(String);

/// What kind of failure; what a program may decide by.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ErrorKind {
    Usage,
    NotFound,
    AlreadyExists,
    Refused,
    Pressure,
    TimedOut,
    WrongState,
    StaleGeneration,
    MachineLost,
    LeaseLost,
    NotOwner,
    PoolClosed,
    CommandNotFound,
    CommandNotExecutable,
    Guest,
    Image,
    Hypervisor,
    Runner,
    Corrupt,
    NoSpace,
    Host,
    Interrupted,
    Internal,
}

/// A failure.
#[derive(JsonSchema)]
pub struct Fault {
    kind: ErrorKind,
    /// What happened.
    message: String,
    /// What to do.
    #[schemars(skip_serializing_if = "absent")]
    hint: String,
}

/// What any command prints when it fails: on standard output, or on standard error where that is another program's.
#[derive(JsonSchema)]
pub struct ErrorBody {
    error: Fault,
}

/// The state of a machine.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum MachineState {
    Created,
    Starting,
    Running,
    Paused,
    Stopping,
    Stopped,
    Failed,
    Removing,
}

/// The state of a machine in its pool.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum SlotState {
    Filling,
    Ready,
    Leased,
    Resetting,
    Retiring,
}

/// The state of a machine in its pool, or of one that is in none.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
pub enum EitherState {
    Machine(MachineState),
    Slot(SlotState),
}

/// Whether a pool lends.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum PoolState {
    Open,
    Drained,
    Removing,
}

/// What kind of thing a run does.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Doing {
    Run,
    Job,
    Step,
    Command,
    ContainerCall,
    Transfer,
    Snapshot,
    Wait,
}

/// How a lease ended.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum LeaseEnd {
    Released,
    OwnerEnded,
    OwnerUnseen,
    Expired,
    Silent,
    MachineLost,
    PoolRemoved,
}

/// What an event tells of.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum ChangeOf {
    Machine,
    Slot,
}

/// What executes the guest's instructions.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// The board.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum MachineType {
    Microvm,
    Q35,
}

/// What a guest's programs are compiled for.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Arch {
    X86_64,
    Aarch64,
}

/// What runs as process 1.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum InitKind {
    Agent,
    Systemd,
    Other,
}

/// Whether what a guest asks its disk to keep is kept by the host's.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum DiskCache {
    Writeback,
    Unsafe,
}

/// Whether there is a network interface.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Link {
    None,
    Nat,
}

/// What can be reached: `none`, `nat`, or `allow:` and a list.
#[derive(JsonSchema)]
#[schemars(extend("pattern" = "^(none|nat|allow:.+)$"))]
pub struct NetMode(String);

/// A TCP port of the guest, opened on the host's loopback.
#[derive(JsonSchema)]
pub struct Publish {
    host: u16,
    guest: u16,
}

/// What a machine may take of its host; what is absent is not limited.
#[derive(JsonSchema)]
pub struct Limits {
    /// Processors.
    #[schemars(skip_serializing_if = "absent")]
    cpu: f64,
    /// Bytes a second.
    #[schemars(skip_serializing_if = "absent")]
    io: u64,
    /// Bytes.
    #[schemars(skip_serializing_if = "absent")]
    disk: u64,
}

/// What holds of a fence.
#[derive(JsonSchema)]
pub struct Confinement {
    /// Version of the kernel's Landlock interface; 0 when there is none.
    landlock: u32,
    files: bool,
    memory: bool,
    ports: bool,
    devices: bool,
    signals: bool,
    calls: bool,
    no_capabilities: bool,
}

/// How often an allow list allowed and refused.
#[derive(JsonSchema)]
pub struct Totals {
    allowed: u64,
    refused: u64,
}

/// A process of this host.
#[derive(JsonSchema)]
pub struct Process {
    pid: u32,
    /// In clock ticks after the host's boot.
    start_time: u64,
    boot_id: String,
    /// The PID namespace, by its inode; the first one of the host when absent.
    #[schemars(skip_serializing_if = "absent")]
    namespace: u64,
}

/// Who holds a lease.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Owner {
    Process(Process),
    Client { name: String, heartbeat_ms: u64 },
}
