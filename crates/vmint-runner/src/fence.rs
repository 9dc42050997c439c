//! What a runner needs of its host, as the rules of its fence: it reads what a guest sends.
//!
//! The runner comes under the fence when it has taken in what it starts from, and before there is a guest. From then on it needs
//!
//! * its machine's folder, in which everything lies that it reads and writes. Frozen files in there, which others share, may be
//!   read by their owner alone and written by nobody; and it can change no mode but to that one;
//! * the files of the database that there are; another one in their place is opened for it ([`vmint_store::opener`]);
//! * what QEMU and `qemu-img` need, whose own fences lie inside of this one;
//! * `/proc`, to read: its hypervisor's memory, and whether an owner lives.
//!
//! When it ends, it removes its socket and its machine's folder: so it may remove files in the folder of sockets, and empty folders
//! among the machines, and among the control groups if its hypervisor is in one.
//!
//! What is to come in later (a snapshot to restore) or to go out (a new one), a command links into and out of the machine's folder.

use crate::start::{From, StartRequest};
use std::path::Path;
use vmint_confine::{Capability, ConfineError, Fence, Network, Role, Rules, paths};
use vmint_model::{Accelerator, Confine, Confinement, ErrorKind, Fault, Home, Link, MachineRecord};
use vmint_qemu::fence::{NAME_SERVERS, programs};
use vmint_qemu::netguard;
use vmint_store::opener;

/// Fences the calling process in, which must have one thread; tells what holds.
pub(crate) fn enter(
    home: &Home,
    record: &MachineRecord,
    request: &StartRequest,
    groups: Option<&Path>,
) -> Result<Confinement, Fault> {
    let host = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot confine the runner")
    };
    // Found out now, and remembered: inside, a process would have to be started to try.
    netguard::usable();
    let rules = rules(home, record, request, groups);
    let fence = Fence::build_up_to(&rules, request.host.confine, version()).map_err(refused)?;
    let Some(mut fence) = fence else {
        return Ok(Confinement::OFF);
    };
    let level = fence.level();
    if level.files {
        opener::start(home).map_err(host)?;
    }
    fence.enter().map_err(host)?;
    Ok(level)
}

/// How this host would fence a runner in.
pub fn here(confine: Confine) -> Result<Confinement, ConfineError> {
    let rules = Rules::of(Role::Runner, Network::None);
    let fence = Fence::build_up_to(&rules, confine, version())?;
    Ok(fence.map_or(Confinement::OFF, |fence| fence.level()))
}

fn refused(e: ConfineError) -> Fault {
    let fault = Fault::from_error(ErrorKind::Hypervisor, &e).context("cannot confine the runner");
    match e {
        ConfineError::Missing { .. } => {
            fault.hint("`--confine best` does without; `vmint doctor` shows what this kernel can")
        }
        _ => fault,
    }
}

/// The version of Landlock that can be used. To a process under it, a `/proc` that hides what cannot be traced hides every other
/// process, for it can trace none; and a lease's owner who cannot be seen counts as ended.
fn version() -> u32 {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.lines().any(hides_processes) {
        0
    } else {
        paths::version()
    }
}

/// Whether this line of `mountinfo` is of a `/proc` with the option `hidepid`.
fn hides_processes(line: &str) -> bool {
    let is_proc = line.split(' ').nth(4) == Some("/proc");
    let options = line.rsplit(' ').next().unwrap_or_default().split(',');
    let mut hide = options.filter_map(|option| option.strip_prefix("hidepid="));
    is_proc && hide.any(|how| !matches!(how, "0" | "off"))
}

fn rules(
    home: &Home,
    record: &MachineRecord,
    request: &StartRequest,
    groups: Option<&Path>,
) -> Rules {
    let (host, dir) = (&request.host, home.machine(&record.id));
    let nat = record.spec.net.link() == Link::Nat;
    let network = if nat {
        Network::Inet {
            // Published ports are open by now.
            bind: Vec::new(),
            given: Vec::new(),
        }
    } else {
        Network::None
    };
    let rules = Rules::of(Role::Runner, network);
    let mut rules = programs(rules, &[&host.qemu.system, &host.qemu.img])
        .manage(dir.path())
        .remove_folders(home.machines())
        .remove_files(home.runtime())
        .read("/proc");
    if let Some(groups) = groups {
        rules = rules.remove_folders(groups);
    }
    let database = home.database();
    for suffix in opener::SUFFIXES {
        let mut path = database.clone().into_os_string();
        path.push(suffix);
        rules = rules.own(Path::new(&path));
    }
    if host.accelerator == Accelerator::Kvm {
        rules = rules.write("/dev/kvm");
    }
    if nat {
        rules = rules.read(NAME_SERVERS);
        // Where a resolver replaces the file, the next one lies beside it. All of `/etc` is more than that.
        let beside = std::fs::canonicalize(NAME_SERVERS).ok();
        let beside = beside.as_deref().and_then(Path::parent);
        if let Some(folder) = beside.filter(|folder| folder.starts_with("/run")) {
            rules = rules.read(folder);
        }
    }
    if let From::Boot(boot) = &request.from {
        rules = rules.read(&boot.kernel).read(&boot.initramfs);
    }
    if host.user.is_some() {
        // Its hypervisor is another user's process.
        for capability in [
            // Its memory is a file of that user's, in `/proc`.
            Capability::Read,
            Capability::SetUser,
            Capability::SetGroup,
            Capability::Signal,
            Capability::Trace,
        ] {
            rules = rules.keep(capability);
        }
    } else if traces_as_administrator() {
        rules = rules.keep(Capability::Trace);
    }
    rules
}

/// Whether Yama lets nobody look into a child but with the capability to.
fn traces_as_administrator() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.is_ok_and(|scope| scope.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proc_that_hides_processes_is_told_by_its_options() {
        for (line, hides) in [
            (
                "24 31 0:22 / /proc rw,nosuid shared:13 - proc proc rw",
                false,
            ),
            (
                "24 31 0:22 / /proc rw,nosuid shared:13 - proc proc rw,hidepid=invisible",
                true,
            ),
            ("24 31 0:22 / /proc rw - proc proc rw,gid=4,hidepid=2", true),
            ("24 31 0:22 / /proc rw - proc proc rw,hidepid=off", false),
            ("99 31 0:50 / /jail/proc rw - proc proc rw,hidepid=2", false),
            ("", false),
        ] {
            assert_eq!(hides_processes(line), hides, "{line}");
        }
    }
}
