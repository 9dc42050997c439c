//! What a QEMU needs of its host, as the rules of its fence.
//!
//! It needs its program with libraries and firmware, its memory file, the layers of its disk, and the files that it is told to
//! boot. The folders that these lie in are not in the rules: what is made later (a layer, a snapshot's state) is handed over as an
//! open descriptor, by `add-fd`.

use crate::args;
use crate::hypervisor::{Launch, Start};
pub use vmint_confine::ConfineError;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use vmint_confine::{Access, Fence, Network, Rules};

use vmint_model::{Accelerator, Confine, Confinement, Link};

/// Programs and libraries, wherever distributions put them.
const LIBRARIES: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/libexec"];
/// What a script may call that starts the real QEMU, as some distributions have one.
const PROGRAMS: &[&str] = &["/bin", "/usr/bin", "/usr/local/bin", "/nix/store"];
/// Firmware, and what the C library reads when a program starts.
const DATA: &[&str] = &[
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/share/ipxe",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/AAVMF",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system",
];
/// Where user-mode networking finds the name servers that it passes the guest's questions to.
const NAME_SERVERS: &str = "/etc/resolv.conf";

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
    /// The guard hands it over, for reading alone.
    HandedOver,
    /// It opens the file itself, to read and write.
    Opened,
}

/// The rules for one launch.
pub(crate) fn rules(launch: &Launch<'_>, memory: Memory) -> Rules {
    let program = &launch.qemu.system;
    let network = match launch.shape.net {
        Link::None => Network::None,
        Link::Nat => Network::Inet {
            bind: launch.publish.iter().map(|port| port.host).collect(),
            given: vec![args::FD_QMP, args::FD_AGENT],
        },
    };
    let mut rules = Rules::new(network).run(program);
    for folder in LIBRARIES {
        rules = rules.run(folder);
    }
    if is_script(program) {
        for folder in PROGRAMS {
            rules = rules.run(folder);
        }
    }
    for folder in beside(program) {
        rules = rules.run(folder);
    }
    for path in DATA {
        rules = rules.read(path);
    }
    for device in ["/dev/null", "/dev/zero"] {
        rules = rules.write(device);
    }
    for device in ["/dev/random", "/dev/urandom"] {
        rules = rules.read(device);
    }
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
    for (n, layer) in launch.layers.iter().enumerate() {
        let top = n + 1 == launch.layers.len();
        // A layer grows; to shorten it is part of `discard`.
        rules = rules.allow(&layer.path, if top { Access::Own } else { Access::Read });
    }
    rules
}

fn is_script(program: &Path) -> bool {
    let mut begin = [0; 2];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"#!"
}

/// Libraries and firmware of a QEMU that is not the distribution's: `PREFIX/bin` has `PREFIX/lib` and `PREFIX/share/qemu`
/// beside it.
fn beside(program: &Path) -> Vec<PathBuf> {
    let program = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let prefix = program.parent().and_then(Path::parent);
    let prefix = prefix.filter(|prefix| *prefix != Path::new("/usr") && *prefix != Path::new("/"));
    let folders = ["lib", "lib64", "libexec", "share/qemu"];
    prefix.map_or_else(Vec::new, |prefix| {
        folders.map(|name| prefix.join(name)).into()
    })
}
