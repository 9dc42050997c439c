//! QEMU, accelerator, confinement, network guard, the search for changed memory.

use super::ask;
use super::check::Check;
use crate::config::AcceleratorChoice;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_confine::{Ground, NoGroup};
use vmint_model::{Accelerator, Confine, Confinement, ErrorKind, Fault, Limits};
use vmint_qemu::Host;
use vmint_qemu::fence::ConfineError;
use vmint_qemu::host::{Qemu, QemuError};
use vmint_qemu::netguard::{self, Unsupported};

const INSTALL_QEMU: &str = "install QEMU 7.2 or later (Debian, Ubuntu: apt-get install qemu-system-x86), or run make setup";
const INSTALL_IMG: &str =
    "install qemu-img (Debian, Ubuntu: apt-get install qemu-utils), or run make setup";
/// How long QEMU may take to say its version; it takes 20 ms.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) async fn qemu() -> Check {
    const NAME: &str = "qemu";
    let (system, img) = match Qemu::locate() {
        Ok(both) => both,
        // qemu-img has a check of its own.
        Err(QemuError::Missing { program }) if program == "qemu-img" => {
            let named = std::env::var_os("VMINT_QEMU").map(PathBuf::from);
            let Some(system) = named.or_else(|| ask::find("qemu-system-x86_64")) else {
                return Check::failure(NAME, "qemu-system-x86_64 is not installed", INSTALL_QEMU);
            };
            (system, PathBuf::new())
        }
        Err(e) => return Check::failure(NAME, Fault::from(e).message, INSTALL_QEMU),
    };
    let path = system.display().to_string();
    match tokio::time::timeout(DEADLINE, Qemu::query(system, img)).await {
        Ok(Ok(qemu)) => {
            let (major, minor, micro) = qemu.version;
            Check::ok(NAME, format!("QEMU {major}.{minor}.{micro} ({path})"))
        }
        Ok(Err(e)) => Check::failure(NAME, Fault::from(e).message, INSTALL_QEMU),
        Err(_) => Check::failure(
            NAME,
            format!(
                "{path} did not say its version within {} s",
                DEADLINE.as_secs()
            ),
            INSTALL_QEMU,
        ),
    }
}

pub(super) async fn qemu_img() -> Check {
    const NAME: &str = "qemu-img";
    let Some(path) = ask::find("qemu-img") else {
        return Check::failure(NAME, "qemu-img is not installed", INSTALL_IMG);
    };
    match ask::output(&path, &["--version"]).await {
        Ok(text) => {
            let banner = text.lines().next().unwrap_or_default();
            Check::ok(NAME, format!("{banner} ({})", path.display()))
        }
        Err(why) => Check::failure(NAME, why, INSTALL_IMG),
    }
}

/// What stands in the way of `/dev/kvm`, as the remedies tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KvmDevice {
    Absent,
    Forbidden,
    Opens,
    Broken,
}

fn kvm_device() -> KvmDevice {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => KvmDevice::Opens,
        Err(e) if e.kind() == io::ErrorKind::NotFound => KvmDevice::Absent,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => KvmDevice::Forbidden,
        Err(_) => KvmDevice::Broken,
    }
}

pub(super) fn accelerator(host: Result<&Host, &Fault>, choice: AcceleratorChoice) -> Check {
    judge_accelerator(host, choice, kvm_device())
}

fn judge_accelerator(
    host: Result<&Host, &Fault>,
    choice: AcceleratorChoice,
    device: KvmDevice,
) -> Check {
    const NAME: &str = "accelerator";
    let host = match host {
        Ok(host) => host,
        Err(fault) => {
            return Check::fault(
                NAME,
                fault,
                "see the other checks: a probe guest needs QEMU and a kernel",
            );
        }
    };
    if choice == AcceleratorChoice::Only(Accelerator::Kvm) {
        return match device {
            KvmDevice::Opens => Check::ok(NAME, "KVM, as the settings say: it was not tried"),
            KvmDevice::Absent | KvmDevice::Forbidden | KvmDevice::Broken => Check::failure(
                NAME,
                "the settings say KVM, and /dev/kvm cannot be opened",
                format!("no machine will start. {}", remedy(device)),
            ),
        };
    }
    if host.accelerator == Accelerator::Kvm {
        return Check::ok(NAME, "KVM (a probe guest came up with it)");
    }
    if choice == AcceleratorChoice::Only(Accelerator::Tcg) {
        return Check::warning(
            NAME,
            "emulation (TCG), as the settings say: KVM was not tried",
            "run `vmint config show` to see where that is set; accelerator = \"auto\" tries KVM",
        );
    }
    let why = host
        .accelerator_reason
        .as_deref()
        .unwrap_or("no reason is known");
    Check::warning(
        NAME,
        format!("emulation (TCG), not KVM: {why}"),
        format!("machines work, but are slower. {}", remedy(device)),
    )
}

/// What to do for KVM.
fn remedy(device: KvmDevice) -> &'static str {
    match device {
        KvmDevice::Absent => {
            "Turn on virtualisation in the firmware, or nested virtualisation if this is \
             a virtual machine itself, and load the module: modprobe kvm-intel or kvm-amd"
        }
        KvmDevice::Forbidden => {
            "Add yourself to the group of /dev/kvm (sudo usermod -aG kvm \"$USER\") and log in again"
        }
        KvmDevice::Opens | KvmDevice::Broken => {
            "If this is a virtual machine itself, turn on nested virtualisation on its \
             host; otherwise dmesg says more"
        }
    }
}

pub(super) fn confinement(host: Result<&Host, &Fault>) -> Check {
    let wanted = host.map_or(Confine::Best, |host| host.confine);
    judge_confinement(wanted, vmint_qemu::fence::here(wanted))
}

pub(super) fn runner_confinement(host: Result<&Host, &Fault>) -> Check {
    let wanted = host.map_or(Confine::Best, |host| host.confine);
    judge_runner(wanted, vmint_runner::fence::here(wanted))
}

/// What machines can be limited to from outside.
pub(super) fn limits(root: &Path) -> Check {
    judge_limits(Ground::find(), |ground, limits| ground.offers(limits, root))
}

fn judge_limits(
    ground: Result<Ground, NoGroup>,
    offers: impl Fn(&Ground, &Limits) -> Result<(), NoGroup>,
) -> Check {
    const NAME: &str = "limits";
    // A host without them is as it should be for all who limit nothing.
    let without = |what: &str, e: &NoGroup| {
        Check::ok(NAME, format!("no {what}: {e}; to have them, {}", e.hint()))
    };
    let ground = match ground {
        Ok(ground) => ground,
        Err(e) => return without("--cpu-limit and --io-limit", &e),
    };
    let cpu = Limits {
        cpu: "1".parse().ok(),
        ..Limits::default()
    };
    if let Err(e) = offers(&ground, &cpu) {
        return without("--cpu-limit and --io-limit", &e);
    }
    let io = Limits {
        io: "1M".parse().ok(),
        ..Limits::default()
    };
    if let Err(e) = offers(&ground, &io) {
        return without("--io-limit", &e);
    }
    let groups = ground.groups();
    Check::ok(
        NAME,
        format!(
            "--disk-limit, --cpu-limit and --io-limit, by groups in {}",
            groups.display()
        ),
    )
}

/// What has all of a fence.
const NEWER: &str =
    "Linux 6.12 or later, with Landlock in its list of security modules, has all of it";

/// What both checks of a fence say alike: the level, unless there is none to judge.
fn judge_fence(
    name: &'static str,
    who: &str,
    wanted: Confine,
    here: Result<Confinement, ConfineError>,
) -> Result<Confinement, Check> {
    let level =
        here.map_err(|e| Check::fault(name, &Fault::from_error(ErrorKind::Host, &e), NEWER))?;
    if wanted == Confine::Off {
        let remedy = format!(
            "unset VMINT_CONFINE: a {who} that a guest has taken over can do what you can do"
        );
        return Err(Check::warning(name, "off, as the settings say", remedy));
    }
    Ok(level)
}

fn lacks(name: &'static str, level: Confinement, missing: &str, remedy: &str) -> Check {
    Check::warning(name, format!("{level}; it lacks {missing}"), remedy)
}

fn judge_runner(wanted: Confine, here: Result<Confinement, ConfineError>) -> Check {
    const NAME: &str = "runner-confinement";
    let level = match judge_fence(NAME, "runner", wanted, here) {
        Ok(level) => level,
        Err(check) => return check,
    };
    match level.missing_of_runner() {
        None => Check::ok(NAME, level.to_string()),
        Some(missing) => lacks(NAME, level, missing, NEWER),
    }
}

fn judge_confinement(wanted: Confine, here: Result<Confinement, ConfineError>) -> Check {
    const NAME: &str = "confinement";
    const FOR_MEMORY: &str = "this needs seccomp user notification, which a container's manager may have taken for itself";
    let level = match judge_fence(NAME, "QEMU", wanted, here) {
        Ok(level) => level,
        Err(check) => return check,
    };
    match level.missing() {
        None if level.memory => Check::ok(NAME, level.to_string()),
        None => lacks(NAME, level, "the memory that forks share", FOR_MEMORY),
        Some(missing) => lacks(NAME, level, missing, NEWER),
    }
}

pub(super) async fn network_guard() -> Check {
    let support = ask::blocking("trying the network guard", netguard::support).await;
    judge_network_guard(support)
}

fn judge_network_guard(support: Result<Result<(), Unsupported>, String>) -> Check {
    const NAME: &str = "network-guard";
    let (why, remedy) = match support {
        Ok(Ok(())) => return Check::ok(NAME, "works: machines may have --net nat"),
        Ok(Err(e)) => {
            let remedy = match &e {
                Unsupported::Kernel { .. } => "use Linux 5.9 or later",
                Unsupported::Filter(_) => {
                    "in a container allow seccomp (docker run --security-opt seccomp=unconfined), or work outside of it"
                }
                Unsupported::Inspection => {
                    "in a container add the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE); elsewhere \
                     sysctl kernel.yama.ptrace_scope=1"
                }
                Unsupported::Trial(_) => "try again; work without --net nat meanwhile",
            };
            (e.to_string(), remedy)
        }
        Err(why) => (why, "try again; work without --net nat meanwhile"),
    };
    Check::warning(NAME, format!("--net nat will be refused: {why}"), remedy)
}

pub(super) fn changed_memory() -> Check {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    judge_changed_memory(&release)
}

fn judge_changed_memory(release: &str) -> Check {
    const NAME: &str = "pagemap-scan";
    if version(release).is_some_and(|version| version >= (6, 7)) {
        Check::ok(
            NAME,
            format!("Linux {release} finds changed memory by PAGEMAP_SCAN"),
        )
    } else {
        Check::ok(
            NAME,
            format!(
                "Linux {release} has no PAGEMAP_SCAN (6.7 has): snapshots fall back to /proc/PID/pagemap"
            ),
        )
    }
}

/// The first two numbers of `uname -r`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use vmint_model::ErrorKind;

    const AUTO: AcceleratorChoice = AcceleratorChoice::Auto;

    fn host(accelerator: Accelerator, reason: Option<&str>) -> Host {
        let qemu = Qemu {
            system: "/usr/bin/qemu-system-x86_64".into(),
            img: "/usr/bin/qemu-img".into(),
            version: (10, 0, 2),
            banner: String::new(),
            stamp: String::new(),
            device_state: vmint_qemu::DeviceState::Alone,
            board: String::new(),
            boards: Vec::new(),
            features: Vec::new(),
            panic: vmint_qemu::PanicDevice::Pvpanic,
        };
        let accelerator_reason = reason.map(str::to_owned);
        Host {
            qemu,
            accelerator,
            accelerator_reason,
            confine: Confine::Best,
            user: None,
        }
    }

    #[test]
    fn what_a_fence_lacks_is_a_warning_with_a_remedy() {
        let whole = Confinement {
            landlock: 6,
            files: true,
            memory: true,
            ports: true,
            devices: true,
            signals: true,
            calls: true,
            no_capabilities: true,
        };
        assert_eq!(
            judge_confinement(Confine::Best, Ok(whole)).status,
            Status::Ok
        );
        for (level, lacks) in [
            (
                Confinement {
                    landlock: 0,
                    files: false,
                    ..whole
                },
                "it lacks files",
            ),
            (
                Confinement {
                    memory: false,
                    ..whole
                },
                "it lacks the memory",
            ),
        ] {
            let check = judge_confinement(Confine::Best, Ok(level));
            assert_eq!(check.status, Status::Warning);
            assert!(check.summary.contains(lacks), "{check:?}");
            assert!(check.remedy.is_some(), "{check:?}");
        }
        let off = judge_confinement(Confine::Off, Ok(Confinement::OFF));
        assert_eq!(off.status, Status::Warning);
        let what = "files (Landlock, from Linux 5.13)";
        let missing = judge_confinement(Confine::Require, Err(ConfineError::Missing { what }));
        assert_eq!(missing.status, Status::Failure);
        assert!(missing.summary.contains(what), "{missing:?}");
    }

    #[test]
    fn emulation_is_announced_with_its_reason_and_a_remedy_that_fits() {
        let kvm = host(Accelerator::Kvm, None);
        assert_eq!(
            judge_accelerator(Ok(&kvm), AUTO, KvmDevice::Opens).status,
            Status::Ok
        );
        let tcg = host(Accelerator::Tcg, Some("because"));
        for (device, word) in [
            (KvmDevice::Absent, "modprobe"),
            (KvmDevice::Forbidden, "usermod"),
            (KvmDevice::Opens, "nested"),
            (KvmDevice::Broken, "nested"),
        ] {
            let check = judge_accelerator(Ok(&tcg), AUTO, device);
            assert_eq!(check.status, Status::Warning);
            assert!(check.summary.ends_with(": because"), "{check:?}");
            assert!(check.remedy.as_ref().unwrap().contains(word), "{check:?}");
        }
    }

    #[test]
    fn emulation_that_was_asked_for_is_not_the_hosts_fault() {
        let tcg = host(Accelerator::Tcg, Some("because"));
        let choice = AcceleratorChoice::Only(Accelerator::Tcg);
        let check = judge_accelerator(Ok(&tcg), choice, KvmDevice::Opens);
        assert_eq!(check.status, Status::Warning);
        assert!(check.remedy.unwrap().contains("config show"));
    }

    #[test]
    fn kvm_that_was_asked_for_is_not_said_to_have_been_tried() {
        let kvm = host(Accelerator::Kvm, None);
        let choice = AcceleratorChoice::Only(Accelerator::Kvm);
        let opens = judge_accelerator(Ok(&kvm), choice, KvmDevice::Opens);
        assert_eq!(opens.status, Status::Ok);
        assert!(opens.summary.contains("not tried"), "{opens:?}");
        for device in [KvmDevice::Absent, KvmDevice::Forbidden, KvmDevice::Broken] {
            let check = judge_accelerator(Ok(&kvm), choice, device);
            assert_eq!(check.status, Status::Failure, "{check:?}");
        }
    }

    #[test]
    fn a_probe_that_failed_is_a_failure_with_its_own_advice() {
        let fault = Fault::new(ErrorKind::Image, "no kernel").hint("get one");
        let check = judge_accelerator(Err(&fault), AUTO, KvmDevice::Opens);
        assert_eq!(
            (check.status, check.remedy.as_deref()),
            (Status::Failure, Some("get one"))
        );
        let check = judge_accelerator(
            Err(&Fault::new(ErrorKind::Image, "x")),
            AUTO,
            KvmDevice::Opens,
        );
        assert!(check.remedy.is_some(), "a failure without advice");
    }

    #[test]
    fn without_the_guard_only_networking_is_missing() {
        assert_eq!(judge_network_guard(Ok(Ok(()))).status, Status::Ok);
        for support in [
            Ok(Err(Unsupported::Inspection)),
            Ok(Err(Unsupported::Kernel {
                release: "5.4".into(),
            })),
            Ok(Err(Unsupported::Filter(io::Error::from_raw_os_error(1)))),
            Err("it took more than 20 s".to_owned()),
        ] {
            let check = judge_network_guard(support);
            assert_eq!(check.status, Status::Warning, "{check:?}");
            assert!(check.remedy.is_some());
        }
    }

    #[test]
    fn kernels_without_pagemap_scan_have_another_way() {
        for (release, by) in [
            ("6.7.0", "by PAGEMAP_SCAN"),
            ("6.18.44-custom", "by PAGEMAP_SCAN"),
            ("10.0", "by PAGEMAP_SCAN"),
            ("6.1.0-30-amd64", "fall back"),
            ("5.15", "fall back"),
            ("", "fall back"),
            ("odd", "fall back"),
        ] {
            let check = judge_changed_memory(release);
            assert_eq!(check.status, Status::Ok);
            assert!(check.summary.contains(by), "{check:?}");
        }
    }
}
