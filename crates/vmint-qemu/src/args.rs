//! QEMU's command line, from pure functions. What depends on the machine's [`Shape`] comes first and alone enters the
//! fingerprint; paths and descriptors, which a fork may have others of, come after it.

use crate::disk::{Cache, Layer};
use crate::listen::Port;
use crate::platform::PanicDevice;
use crate::shape::{MachineType, Shape};
use std::ffi::OsString;
use std::path::Path;
use vmint_model::{Accelerator, Link};

/// Descriptor of the QMP socket in the child.
pub const FD_QMP: i32 = 3;
/// Descriptor of the agent's socket in the child.
pub const FD_AGENT: i32 = 4;
/// Descriptor of the device state to load in the child.
pub const FD_STATE: i32 = 5;
/// Descriptor of the console's pipe in the child.
pub const FD_CONSOLE: i32 = 6;

/// The first of those that only a QEMU of another user is given: what it boots, and the layers of its disk.
pub const FD_OPENED: i32 = 16;

/// The set of descriptors with that pipe; later ones have higher numbers.
pub const SET_CONSOLE: u64 = 1;

/// The guest's hardware on this board, without the processor's features that are hidden from it: equal, argument by argument, for a
/// frozen machine and all of its forks by the same QEMU. Which board, and what to hide, is said by
/// [`platform`](crate::platform).
pub fn hardware(shape: &Shape, board: &str, hidden: &[&str]) -> Vec<String> {
    let mut args = strings(&[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    // Without a machine description and without a configuration section, device state saved alone can be loaded by an
    // ordinary incoming migration (FACTS.md, “Branching a running fork”).
    args.extend(strings(&["-global", "migration.send-configuration=off"]));
    args.extend(["-machine".into(), machine(shape, board)]);
    args.extend(["-accel".into(), accelerator(shape.accelerator).into()]);
    let mut cpu = cpu(shape.accelerator).to_owned();
    for feature in hidden {
        cpu.push_str(",-");
        cpu.push_str(feature);
    }
    args.extend(["-cpu".into(), cpu]);
    args.extend(["-smp".into(), shape.cpus.to_string()]);
    args.extend(["-m".into(), format!("{}M", shape.memory.as_mib())]);
    args.extend(strings(&["-rtc", "base=utc,clock=host"]));
    // The generation id changes with each fork: a guest kernel that knows it reseeds before anyone asks.
    args.extend(strings(&["-device", "vmgenid,guid=auto"]));
    args.extend(strings(&[
        "-device",
        "virtio-serial-pci,id=serial,addr=0x4,max_ports=2",
    ]));
    args.extend(strings(&[
        "-device",
        "virtserialport,bus=serial.0,nr=1,chardev=agent,name=vmint.agent",
    ]));
    if shape.disk {
        args.extend(strings(&[
            "-device",
            "virtio-blk-pci,id=disk,drive=disk,addr=0x5",
        ]));
    }
    if shape.net == Link::Nat {
        args.extend(strings(&[
            "-device",
            "virtio-net-pci,id=nic,netdev=net,addr=0x6,romfile=,mac=52:54:00:76:6d:01",
        ]));
    }
    args
}

/// The device by which the guest's kernel tells of a panic. After such a word QEMU ends the guest, as the kernel itself would.
pub fn panic(device: PanicDevice) -> Vec<String> {
    match device {
        PanicDevice::Absent => Vec::new(),
        PanicDevice::Pvpanic => strings(&["-device", "pvpanic", "-action", "panic=shutdown"]),
    }
}

fn machine(shape: &Shape, board: &str) -> String {
    let options = match shape.machine {
        MachineType::Microvm => "rtc=on,pcie=on",
        MachineType::Q35 => "hpet=off,smm=off,sata=off,usb=off,vmport=off,smbus=off",
    };
    // A core of QEMU, should there be one, is without the guest's memory.
    format!("{board},{options},memory-backend=ram,suppress-vmdesc=on,dump-guest-core=off")
}

fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        // The buffer of translated code is address space; only what is used of it costs memory.
        Accelerator::Tcg => "tcg,thread=multi",
    }
}

fn cpu(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host,migratable=on",
        // With `erms` or `fsrm` the guest's kernel copies and clears memory by `rep movsb`, which QEMU emulates byte by
        // byte. Without them it uses 8-byte moves: reading /dev/zero went from 0.8 to 3.4 GB/s.
        Accelerator::Tcg => "max,-erms,-fsrm",
    }
}

/// Whether a property of QEMU's processors that can be on or off is something that a guest sees, and that can be hidden from it.
/// The others are QEMU's own business: how it is made, checked, and migrated.
pub(crate) fn is_feature(property: &str) -> bool {
    const OWN: &[&str] = &[
        "check",
        "cpuid-0xb",
        "enforce",
        "fill-mtrr-mask",
        "full-cpuid-auto-level",
        "host-cache-info",
        "hotpluggable",
        "hotplugged",
        "l3-cache",
        "legacy-cache",
        "legacy-multi-node",
        "lmce",
        "migratable",
        "pmu",
        "realized",
        "start-powered-off",
        "tcg-cpuid",
        "topoext",
        "vmware-cpuid-freq",
    ];
    const KINDS: &[&str] = &["hv-", "kvm", "x-", "xen", "legacy-", "vmx-"];
    // What vmint turns off in any case; and what QEMU 7.2 shows and later ones do not know, as no processor was ever made with it.
    const OFF: &[&str] = &["erms", "fsrm", "pcommit"];
    let is_plain = property
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    is_plain
        && !OWN.contains(&property)
        && !OFF.contains(&property)
        && !KINDS.iter().any(|kind| property.starts_with(kind))
}

/// What becomes of what the guest writes to its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It goes into the file, which becomes the template's RAM.
    ToFile,
    /// It stays with this process: a fork's.
    Private,
}

/// Guest memory from a file.
pub fn memory(shape: &Shape, ram: &Path, writes: Writes) -> Vec<OsString> {
    let share = match writes {
        Writes::ToFile => "on",
        Writes::Private => "off",
    };
    let mut object = OsString::from(format!(
        "memory-backend-file,id=ram,size={}M,share={share},mem-path=",
        shape.memory.as_mib()
    ));
    object.push(escape(ram));
    vec!["-object".into(), object]
}

/// The pipe and the sockets that the child inherits. Connected pairs: nothing to listen on, nothing in a file system that
/// could be left behind or would grow, nothing that another process could connect to.
pub fn channels() -> Vec<String> {
    let mut args = Vec::new();
    for (option, value) in [
        ("-add-fd", format!("fd={FD_CONSOLE},set={SET_CONSOLE}")),
        // A descriptor has no path but this; `file` means “written only”.
        (
            "-chardev",
            format!("file,id=console,append=on,path=/dev/fdset/{SET_CONSOLE}"),
        ),
        ("-serial", "chardev:console".to_owned()),
        ("-chardev", format!("socket,id=agent,fd={FD_AGENT}")),
        ("-chardev", format!("socket,id=qmp,fd={FD_QMP}")),
        ("-mon", "chardev=qmp,mode=control".to_owned()),
    ] {
        args.push(option.to_owned());
        args.push(value);
    }
    args
}

/// The layers of the disk, each named, from the lowest to the one that is written. All must be named: QEMU drops the
/// host's page cache of every other file after a load, for all forks at once.
pub fn disk(layers: &[Layer], cache: Cache) -> Vec<OsString> {
    let mut args = Vec::new();
    for n in 0..layers.len() {
        let place = if n + 1 == layers.len() {
            Place::Top
        } else {
            Place::Below
        };
        for node in blockdev(layers, n, place, cache) {
            args.push("-blockdev".into());
            args.push(node.to_string().into());
        }
    }
    args
}

/// Where a layer is in its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The guest writes to it.
    Top,
    /// It is read alone.
    Below,
}

/// The two block nodes, of file and of format, of layer `n`.
pub(crate) fn blockdev(
    layers: &[Layer],
    n: usize,
    place: Place,
    cache: Cache,
) -> [serde_json::Value; 2] {
    let layer = &layers[n];
    let top = place == Place::Top;
    let cache = serde_json::json!({"direct": false, "no-flush": cache == Cache::Unsafe});
    let file = serde_json::json!({
        "driver": "file", "node-name": format!("file{n}"), "filename": layer.path.to_string_lossy(),
        "read-only": !top, "drop-cache": false, "cache": cache,
    });
    let mut format = serde_json::json!({
        "driver": layer.format.as_str(), "node-name": if top { "disk".into() } else { format!("layer{n}") },
        "file": format!("file{n}"), "read-only": !top, "cache": cache,
    });
    if top && layer.format == crate::disk::Format::Qcow2 {
        format["discard"] = "unmap".into();
    }
    if layer.format == crate::disk::Format::Qcow2 {
        format["backing"] = if n == 0 {
            serde_json::Value::Null
        } else {
            format!("layer{}", n - 1).into()
        };
    }
    [file, format]
}

/// User-mode networking, when the machine has an interface. QEMU is told to listen on the ports that are published; the guard gives
/// it the sockets that listen there.
pub fn network(shape: &Shape, publish: &[Port]) -> Vec<String> {
    if shape.net != Link::Nat {
        return Vec::new();
    }
    let mut netdev = String::from("user,id=net,net=10.0.2.0/24,ipv6=off");
    for p in publish.iter().map(Port::publish) {
        netdev.push_str(&format!(
            ",hostfwd=tcp:127.0.0.1:{}-10.0.2.15:{}",
            p.host, p.guest
        ));
    }
    strings(&["-netdev", &netdev])
}

/// What QEMU itself must never do: start a program, gain rights, change its priorities.
pub fn sandbox() -> Vec<String> {
    strings(&[
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ])
}

/// Boot of a kernel.
pub fn boot(kernel: &Path, initramfs: &Path, cmdline: &str) -> Vec<OsString> {
    vec![
        "-kernel".into(),
        kernel.into(),
        "-initrd".into(),
        initramfs.into(),
        "-append".into(),
        cmdline.into(),
    ]
}

/// Start from saved state. Neither kernel nor initramfs: a fork never boots, and QEMU would keep both in its memory,
/// 14 MB of it for each fork.
pub fn incoming() -> Vec<String> {
    strings(&["-incoming", "defer"])
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|&s| s.to_owned()).collect()
}

/// In QEMU's option lists a comma is written twice.
fn escape(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = Vec::with_capacity(path.as_os_str().len());
    for &b in path.as_os_str().as_bytes() {
        out.push(b);
        if b == b',' {
            out.push(b',');
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Format;
    use vmint_model::ByteSize;

    fn hardware(shape: &Shape) -> Vec<String> {
        super::hardware(shape, "pc-q35-7.2", &[])
    }

    fn shape() -> Shape {
        Shape {
            machine: MachineType::Q35,
            accelerator: Accelerator::Tcg,
            memory: ByteSize::mib(256),
            cpus: 1,
            net: Link::None,
            disk: false,
        }
    }

    #[test]
    fn a_machine_without_disk_and_network_has_neither_device() {
        let args = hardware(&shape()).join(" ");
        assert!(!args.contains("blk") && !args.contains("net"), "{args}");
        assert!(network(&shape(), &[]).is_empty());
    }

    #[test]
    fn hardware_names_no_path_and_no_descriptor() {
        let all = Shape {
            net: Link::Nat,
            disk: true,
            ..shape()
        };
        let args = hardware(&all).join(" ");
        assert!(!args.contains('/') && !args.contains("fd="), "{args}");
    }

    #[test]
    fn what_is_hidden_from_a_guest_is_turned_off_and_qemus_own_business_is_no_feature() {
        let args = super::hardware(&shape(), "pc-q35-9.9", &["avx512f", "sse4.1"]).join(" ");
        assert!(
            args.contains("-cpu max,-erms,-fsrm,-avx512f,-sse4.1"),
            "{args}"
        );
        assert!(args.contains("-machine pc-q35-9.9,hpet=off"), "{args}");
        for (property, is) in [
            ("avx2", true),
            ("sse4.1", true),
            ("migratable", false),
            ("hv-relaxed", false),
            ("kvm-pv-eoi", false),
            ("erms", false),
            ("a,b", false),
        ] {
            assert_eq!(is_feature(property), is, "{property}");
        }
    }

    #[test]
    fn whether_a_flush_reaches_the_host_is_said_for_every_node() {
        let layers = [Layer {
            path: "/i/0".into(),
            format: Format::Raw,
        }];
        for (cache, is_skipped) in [(Cache::Writeback, false), (Cache::Unsafe, true)] {
            for node in blockdev(&layers, 0, Place::Top, cache) {
                assert_eq!(node["cache"]["no-flush"], is_skipped, "{node}");
            }
        }
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let args = memory(&shape(), Path::new("/a,b/ram"), Writes::Private);
        assert_eq!(
            args[1],
            "memory-backend-file,id=ram,size=256M,share=off,mem-path=/a,,b/ram"
        );
    }

    #[test]
    fn only_the_top_layer_can_be_written() {
        let layer = |path: &str, format| Layer {
            path: path.into(),
            format,
        };
        let layers = [
            layer("/i/0", Format::Raw),
            layer("/t/1", Format::Qcow2),
            layer("/m/2", Format::Qcow2),
        ];
        let args = disk(&layers, Cache::Unsafe);
        let nodes: Vec<serde_json::Value> = args
            .iter()
            .filter(|a| *a != "-blockdev")
            .map(|a| serde_json::from_str(a.to_str().unwrap()).unwrap())
            .collect();
        let writable: Vec<_> = nodes
            .iter()
            .filter(|n| n["read-only"] == false)
            .map(|n| &n["node-name"])
            .collect();
        assert_eq!(writable, ["file2", "disk"]);
        assert!(
            nodes
                .iter()
                .filter(|n| n["driver"] == "file")
                .all(|n| n["drop-cache"] == false)
        );
        assert_eq!(nodes[5]["backing"], "layer1");
        assert_eq!(nodes[3]["backing"], "layer0");
    }

    #[test]
    fn ports_are_opened_on_loopback_alone() {
        let nat = Shape {
            net: Link::Nat,
            ..shape()
        };
        let wanted = vmint_model::Publish { host: 0, guest: 80 };
        let port = Port::open(wanted, None).unwrap();
        let host = port.publish().host;
        assert_ne!(host, 0);
        let args = network(&nat, &[port]);
        assert_eq!(
            args[1],
            format!(
                "user,id=net,net=10.0.2.0/24,ipv6=off,hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:80"
            )
        );
    }
}
