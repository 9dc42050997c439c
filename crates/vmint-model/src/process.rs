//! A process named so that no other can be mistaken for it.

use serde::{Deserialize, Serialize};

/// A process of this host. A process id alone is used again; together with the moment of its start and the boot of
/// the host it is not. In another PID namespace it is another process's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: the start in clock ticks after boot.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The PID namespace in which the id is counted, by its inode; the first one of the host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
}
