//! What executes guests on this host: found by booting one.
//!
//! That `/dev/kvm` opens, and even that a virtual processor can be made, proves nothing: there are hosts where a
//! kernel then dies within a second (FACTS.md). So `tiny` is booted with KVM, and has a few seconds for its agent to
//! answer. The answer is kept for this QEMU, this kernel and this boot of the host.

use crate::bringup::bring_up;
use crate::identity;
use crate::template::{boot_spec, create_ram};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use vmint_image::BootFiles;
use vmint_model::{Accelerator, ByteSize, Fault, Link};
use vmint_qemu::host::kvm_obstacle;
use vmint_qemu::hypervisor::Held;
use vmint_qemu::{Boot, Host, Launch, MachineType, Qemu, Shape, Start};

/// How long a guest has to come up under KVM. It takes well under a second where KVM works.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What that guest gets.
pub const MEMORY: ByteSize = ByteSize::mib(128);

/// The hardware of a machine on this host, without a disk.
pub fn shape(accelerator: Accelerator, memory: ByteSize, cpus: u32, net: Link) -> Shape {
    Shape {
        machine: MachineType::Q35,
        accelerator,
        memory,
        cpus,
        net,
        disk: false,
    }
}

/// Decides what executes guests. `scratch` is a folder for the probe's files.
pub async fn probe(qemu: &Qemu, tiny: &BootFiles, scratch: &Path) -> Host {
    let host = |accelerator, accelerator_reason| Host {
        qemu: qemu.clone(),
        accelerator,
        accelerator_reason,
        confine: vmint_model::Confine::Best,
        user: None,
    };
    if let Some(obstacle) = kvm_obstacle() {
        return host(Accelerator::Tcg, Some(obstacle));
    }
    match boots(qemu, tiny, scratch).await {
        Ok(()) => host(Accelerator::Kvm, None),
        Err(fault) => {
            let reason =
                format!("/dev/kvm exists, but a probe guest did not come up with it: {fault}");
            host(Accelerator::Tcg, Some(reason))
        }
    }
}

async fn boots(qemu: &Qemu, tiny: &BootFiles, scratch: &Path) -> Result<(), Fault> {
    let shape = shape(Accelerator::Kvm, MEMORY, 1, Link::None);
    let spec = boot_spec(tiny, Accelerator::Kvm);
    let boot = Boot {
        kernel: spec.kernel,
        initramfs: spec.initramfs,
        cmdline: spec.cmdline,
    };
    let ram = scratch.join("ram");
    create_ram(&ram, shape.memory.0)?;
    let launch = Launch {
        qemu,
        shape: &shape,
        name: "vmint-probe",
        start: Start::Boot(&boot),
        ram: &ram,
        layers: &[],
        publish: &[],
        cache: vmint_model::DiskCache::Unsafe,
        console: &scratch.join("console.log"),
        confine: vmint_model::Confine::Best,
        user: None,
        allow: None,
        held: Held::default(),
        log: &scratch.join("qemu.log"),
    };
    let live = bring_up(
        launch,
        identity::template(Link::None)?,
        Instant::now() + DEADLINE,
    )
    .await?;
    drop(live);
    Ok(())
}
