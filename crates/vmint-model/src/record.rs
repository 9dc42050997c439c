//! What is known of a machine and of a snapshot.

use crate::{
    Accelerator, ByteSize, Confinement, DiskCache, Generation, MachineId, MachineSpec,
    MachineState, Name, ProcessRef, Publish, RunId,
};
use serde::{Deserialize, Serialize};

/// What the store knows of a machine: a hint while its runner lives, the truth otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Its id.
    pub id: MachineId,
    /// Its name; machines of `vmint run` are named after their id.
    pub name: Name,
    /// Its state.
    pub state: MachineState,
    /// Raised by every reset and restore.
    pub generation: Generation,
    /// What it was asked to be.
    pub spec: MachineSpec,
    /// Digest of the image, once known.
    pub image_digest: Option<String>,
    /// Fingerprint of the template that it is made from, once known; of a fork of a snapshot, the template behind that.
    pub template: Option<String>,
    /// The snapshot that it was last brought back to, until it is reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Name>,
    /// What executes it, once known.
    pub accelerator: Option<Accelerator>,
    /// How its hypervisor is fenced in, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
    /// How its runner is fenced in, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_confinement: Option<Confinement>,
    /// The user that its hypervisor runs as, if not as its runner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Whether it goes away when it stops or when its owner ends, as a machine of `vmint run` does.
    pub ephemeral: bool,
    /// The pool that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// The process with whose end the machine ends.
    pub owner: Option<ProcessRef>,
    /// The runner, while there is one.
    pub runner: Option<ProcessRef>,
    /// The hypervisor, while there is one.
    pub hypervisor: Option<ProcessRef>,
    /// The guest's addresses.
    pub addresses: Vec<String>,
    /// Open ports on the host's loopback.
    pub ports: Vec<Publish>,
    /// Those that were open when it was last up: what the host chose then is asked for again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_ports: Vec<Publish>,
    /// Why it is in this state, when that was not simply asked for.
    pub reason: Option<String>,
    /// Milliseconds since 1970 in UTC.
    pub created_at_ms: i64,
    /// From the request to the first moment when a command could be executed, at the last start.
    pub ready_ms: Option<f64>,
}

impl MachineRecord {
    /// Of a machine that nothing is known of but what it shall be: it belongs to nobody, and nothing of it is up.
    pub fn new(id: MachineId, name: Name, state: MachineState, spec: MachineSpec) -> Self {
        Self {
            id,
            name,
            state,
            generation: Generation(1),
            spec,
            image_digest: None,
            template: None,
            restored: None,
            accelerator: None,
            confinement: None,
            runner_confinement: None,
            run_as: None,
            ephemeral: false,
            pool: None,
            owner: None,
            runner: None,
            hypervisor: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            last_ports: Vec::new(),
            reason: None,
            created_at_ms: 0,
            ready_ms: None,
        }
    }

    /// What its disk keeps: of a machine that goes away with its owner or pool nothing outlives the host anyway.
    pub fn disk_cache(&self) -> DiskCache {
        let usual = if self.ephemeral {
            DiskCache::Unsafe
        } else {
            DiskCache::Writeback
        };
        self.spec.disk_cache.unwrap_or(usual)
    }
}

/// What the store knows of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its name.
    pub name: Name,
    /// The machine that it was taken of.
    pub machine: Name,
    /// That machine's spec then.
    pub spec: MachineSpec,
    /// Digest of the image.
    pub image_digest: Option<String>,
    /// What executed the machine.
    pub accelerator: Accelerator,
    /// How long the machine stood still.
    pub pause_ms: f64,
    /// What the snapshot takes on disk beyond what it shares.
    pub size: ByteSize,
    /// Whether only changed memory was saved, or, where the hypervisor cannot do that, all of it.
    pub full: bool,
    /// Made by `vmint fork` for its children alone, which goes with the last of them, or by a workflow's run.
    pub implicit: bool,
    /// The run that it belongs to, and goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Milliseconds since 1970 in UTC.
    pub created_at_ms: i64,
}
