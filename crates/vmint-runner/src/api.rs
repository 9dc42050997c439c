//! What can be asked of a runner over its socket. HTTP/1.1, JSON bodies; errors are
//! [`ErrorBody`](vmint_model::ErrorBody) with a status that follows their kind.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/ping` | | [`Pong`] |
//! | `GET /v1/machine` | | [`MachineRecord`](vmint_model::MachineRecord) |
//! | `POST /v1/stop` | [`Stop`] | [`Stopped`] when the machine is down |
//! | `POST /v1/shutdown` | [`Shutdown`] | [`Stopped`] when the machine is down; it is not forced |
//! | `POST /v1/pause`, `POST /v1/resume` | | `{}` |
//! | `POST /v1/reset` | [`Reset`] | [`MachineRecord`](vmint_model::MachineRecord) |
//! | `POST /v1/snapshot` | [`Snapshot`] | [`Snapshotted`] |
//! | `POST /v1/check` | | `{}` when the guest has answered |
//! | `POST /v1/qmp` | [`Qmp`] | QEMU's answer |
//! | `POST /v1/stream`, `Upgrade: vmint` | | a protocol session, without the greeting |
//!
//! A request with the header `vmint-generation` is refused when the machine has another one.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use vmint_model::{ErrorKind, Generation, MachineId};

/// Where each request goes, for the socket's two ends.
pub(crate) mod route {
    pub(crate) const PING: &str = "/v1/ping";
    pub(crate) const MACHINE: &str = "/v1/machine";
    pub(crate) const STREAM: &str = "/v1/stream";
    pub(crate) const STOP: &str = "/v1/stop";
    pub(crate) const SHUTDOWN: &str = "/v1/shutdown";
    pub(crate) const PAUSE: &str = "/v1/pause";
    pub(crate) const RESUME: &str = "/v1/resume";
    pub(crate) const RESET: &str = "/v1/reset";
    pub(crate) const SNAPSHOT: &str = "/v1/snapshot";
    pub(crate) const CHECK: &str = "/v1/check";
    pub(crate) const QMP: &str = "/v1/qmp";
}

/// The header that names the generation that a caller means.
pub const GENERATION: &str = "vmint-generation";
/// How long a guest that is well takes at most to answer, under KVM; [`Accelerator::patience`] times as long elsewhere.
///
/// [`Accelerator::patience`]: vmint_model::Accelerator::patience
pub const CHECK: Duration = Duration::from_secs(2);
/// The protocol that `/v1/stream` is upgraded to.
pub const UPGRADE: &str = "vmint";

/// A runner lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Its machine.
    pub machine: MachineId,
    /// The machine's generation.
    pub generation: Generation,
    /// The runner's version.
    pub version: String,
    /// The runner's process.
    pub pid: u32,
}

/// Stop the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// At once, instead of asking the guest.
    #[serde(default)]
    pub force: bool,
    /// How long the guest has; then it is forced.
    pub timeout_ms: u64,
    /// Remove the machine too.
    #[serde(default)]
    pub remove: bool,
}

/// Ask the guest to shut down, and leave it at that. A request of its own: a runner that is older than this one knows no other stop
/// than one that forces in the end, and must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// How long whoever asks waits for it.
    pub timeout_ms: u64,
}

/// The machine is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether its power was cut.
    #[serde(default)]
    pub forced: bool,
}

/// Start the machine anew, with the next generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// From this frozen machine; from its origin when absent.
    #[serde(default)]
    pub from: Option<PathBuf>,
    /// The snapshot's name, for the record.
    #[serde(default)]
    pub snapshot: Option<vmint_model::Name>,
}

/// Freeze this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// An empty folder to put it into.
    pub folder: PathBuf,
    /// Save all of memory, not only what changed.
    #[serde(default)]
    pub full: bool,
}

/// A moment was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshotted {
    /// How long the guest stood still.
    pub pause_ms: f64,
    /// Bytes of changed memory; 0 when all was saved.
    pub changed: u64,
    /// Whether all of memory was saved.
    pub full: bool,
}

/// A QMP command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qmp {
    /// Its name.
    pub command: String,
    /// Its arguments, an object.
    #[serde(default)]
    pub arguments: serde_json::Value,
}

/// The HTTP status of a kind of failure.
pub fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Usage => 400,
        ErrorKind::NotFound => 404,
        ErrorKind::AlreadyExists | ErrorKind::WrongState | ErrorKind::StaleGeneration => 409,
        ErrorKind::MachineLost => 410,
        ErrorKind::Refused => 429,
        ErrorKind::TimedOut => 504,
        ErrorKind::NoSpace => 507,
        _ => 500,
    }
}
