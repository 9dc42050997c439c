//! What a frozen machine and its forks must have in common, to the last device.

use serde::{Deserialize, Serialize};
use vmint_model::{Accelerator, ByteSize, Link};

/// The board. Chosen by measurement; see ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineType {
    /// A board without a past: few devices, PCI Express, ACPI.
    Microvm,
    /// The PC.
    Q35,
}

impl MachineType {
    /// As QEMU names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microvm => "microvm",
            Self::Q35 => "q35",
        }
    }
}

/// A machine's hardware as far as its guest can see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// The board.
    pub machine: MachineType,
    /// What executes it.
    pub accelerator: Accelerator,
    /// Guest memory.
    pub memory: ByteSize,
    /// Virtual processors.
    pub cpus: u32,
    /// Whether it has a network interface.
    pub net: Link,
    /// Whether it has a disk.
    pub disk: bool,
}
