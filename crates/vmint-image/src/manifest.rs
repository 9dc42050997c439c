//! What an image is: a manifest, and, unless it lives in memory, a disk.

use crate::arch::Arch;
use crate::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// What an image is; `manifest.json` in its folder. Never changed once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this file's form.
    pub schema: u32,
    /// Of everything that the guest can see: kernel, disk, init and defaults.
    pub digest: Digest,
    /// The name it was first built or imported as.
    pub name: String,
    /// What its programs are compiled for.
    pub architecture: Arch,
    /// Its kernel.
    pub kernel: KernelRef,
    /// Its busybox, in the initramfs.
    pub busybox: Digest,
    /// Its root file system; absent when that is the initramfs.
    pub disk: Option<DiskInfo>,
    /// What runs as PID 1.
    pub init: InitKind,
    /// What commands get unless they say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// How it was made, for people.
    pub origin: String,
    /// Milliseconds since 1970 in UTC.
    pub created_at_ms: i64,
}

/// A kernel of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRef {
    /// Of kernel and modules.
    pub digest: Digest,
    /// As `uname -r` says.
    pub version: String,
}

/// A raw disk that holds a file system, without partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// In the image's folder.
    pub file: String,
    /// The disk's size in bytes; the file is sparse.
    pub size: u64,
    /// See [`Digest::of_sparse_file`].
    pub digest: Digest,
    /// When the file was last written, in nanoseconds since 1970. Another time makes the content suspect.
    pub mtime_ns: i64,
    /// Of the file system in it.
    pub file_system: String,
}

/// What runs as PID 1 in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitKind {
    /// The agent.
    Agent,
    /// systemd.
    Systemd,
    /// Another init that the image has.
    Other,
}

/// What commands get unless they say otherwise; an OCI image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment as `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// What comes before the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The command when none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
}

impl Manifest {
    /// The digest of what the guest can see. Names, times and origins are no part of it, and neither is the initramfs:
    /// a new vmint brings a new agent into the same image.
    pub(crate) fn content_digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.field(&self.schema.to_le_bytes());
        hasher.field(self.architecture.as_str().as_bytes());
        hasher
            .field(self.kernel.digest.as_bytes())
            .field(self.busybox.as_bytes());
        match &self.disk {
            None => hasher.field(b"memory"),
            Some(disk) => hasher
                .field(b"disk")
                .field(disk.digest.as_bytes())
                .field(disk.file_system.as_bytes()),
        };
        let rest =
            serde_json::to_vec(&(self.init, &self.defaults)).expect("plain data becomes JSON");
        hasher.field(&rest);
        hasher.finish()
    }
}
