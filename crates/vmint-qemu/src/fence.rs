//! What a QEMU needs of its host, as the rules of its fence.
//!
//! It needs its program with libraries and firmware, its memory file, the layers of its disk, and the files that it is told to
//! boot. The folders that these lie in are not in the rules: what is made later (a layer, a snapshot's state) is handed over as an
//! open descriptor, by `add-fd`.

use crate::args;
use crate::hypervisor::{Launch, Start};
pub use vmint_confine::ConfineError;

use std::path::{Path, PathBuf};
use vmint_confine::{Access, Fence, Network, Rules};

use vmint_model::{Accelerator, Confine, Confinement, Link};

/// Firmware.
const FIRMWARE: &[&str] = &[
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/share/ipxe",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/AAVMF",
];
/// Where user-mode networking finds the name servers that it passes the guest's questions to.
pub const NAME_SERVERS: &str = "/etc/resolv.conf";

/// How this host would fence a fork's QEMU in.
pub fn here(confine: Confine) -> Result<Confinement, ConfineError> {
    let fence = Fence::build(&Rules::new(Network::None), confine)?;
    Ok(fence.map_or(Confinement::OFF, |fence| Confinement {
        memory: crate::netguard::usable(),
        ..fence.level()
    }))
}

/// How QEMU comes by the file that its memory is mapped from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The guard hands it over: a fork's for reading alone.
    HandedOver,
    /// It opens the file itself, to read and write.
    Opened,
}

/// What QEMU and `qemu-img` need to start, and their firmware.
pub fn programs(rules: Rules, programs: &[&Path]) -> Rules {
    FIRMWARE.iter().fold(rules.programs(programs), Rules::read)
}

/// What `qemu-img` needs to make a layer: that file, which exists, and those below it.
pub(crate) fn layer(program: &Path, layer: &Path, below: &[PathBuf]) -> Rules {
    let rules = Rules::new(Network::None)
        .programs(&[program])
        .allow(layer, Access::Own);
    below.iter().fold(rules, Rules::read)
}

/// Whether the guard hands a fork's QEMU the memory file that it shares with others. Not to root's without a fence, which could open the
/// file in any case.
pub fn hands_memory_over(confine: Confine) -> bool {
    let is_free = confine == Confine::Off && rustix::process::geteuid().is_root();
    !is_free && crate::netguard::usable()
}

/// Whether a fork's QEMU can open its memory file, to read and write it, only if its mode lets it.
pub fn needs_memory_writable(confine: Confine) -> bool {
    let is_free = confine == Confine::Off && rustix::process::geteuid().is_root();
    !is_free && !crate::netguard::usable()
}

/// The rules for one launch.
pub(crate) fn rules(launch: &Launch<'_>, memory: Memory) -> Rules {
    let program = &launch.qemu.system;
    let network = match launch.shape.net {
        Link::None => Network::None,
        Link::Nat => Network::Inet {
            // The guard gives it the sockets of published ports.
            bind: Vec::new(),
            given: vec![args::FD_QMP, args::FD_AGENT],
        },
    };
    let mut rules = programs(Rules::new(network), &[program]);
    if launch.shape.accelerator == Accelerator::Kvm {
        rules = rules.write("/dev/kvm");
    }
    if launch.shape.net == Link::Nat {
        rules = rules.read(NAME_SERVERS);
    }
    if let Start::Boot(boot) | Start::BootShared(boot) = launch.start {
        rules = rules.read(&boot.kernel).read(&boot.initramfs);
    }
    rules = match memory {
        Memory::HandedOver => rules,
        Memory::Opened => rules.write(launch.ram),
    };
    if launch.user.is_some() {
        // It could open none of them by their paths, and has them open.
        return rules;
    }
    for (n, layer) in launch.layers.iter().enumerate() {
        let top = n + 1 == launch.layers.len();
        // A layer grows; to shorten it is part of `discard`.
        rules = rules.allow(&layer.path, if top { Access::Own } else { Access::Read });
    }
    rules
}
