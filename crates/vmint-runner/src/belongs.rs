//! Whose process a process is, by its arguments. A record may have been copied with its home, and then names processes of
//! the original; their arguments name the home that they belong to.
//!
//! * A runner has the folder of its home's sockets among its arguments, which is named after the home's id.
//! * A hypervisor has the same id in its name.
//!
//! Those that an older vmint has started have the folder, and a name without an id. So its runners can be killed, and with
//! them go their hypervisors.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vmint_model::{Home, MachineDir, MachineId, MachineRecord, Name};
use vmint_store::process::{self, Killed};

/// The name of a machine's hypervisor, as `ps` shows it.
pub fn hypervisor_name(name: &Name, dir: &MachineDir) -> String {
    format!("vmint-{name} {}", dir.tag())
}

/// The name of the control group of a machine's hypervisors.
pub fn group_name(dir: &MachineDir) -> String {
    dir.tag().replace('/', "-")
}

/// Whether these are the arguments, the program first, of the runner or of a hypervisor of this machine in this home.
pub fn is_of(home: &Home, id: &MachineId, args: &[&[u8]]) -> bool {
    is_runner_of(home, id, args) || is_hypervisor_of(home, id, args)
}

fn is_runner_of(home: &Home, id: &MachineId, args: &[&[u8]]) -> bool {
    let [_, word, _, runtime, of] = args else {
        return false;
    };
    let folder = Path::new(OsStr::from_bytes(runtime)).file_name();
    *word == b"runner" && *of == id.as_str().as_bytes() && folder == Some(home.mark())
}

fn is_hypervisor_of(home: &Home, id: &MachineId, args: &[&[u8]]) -> bool {
    let tag = format!(" {}", home.machine(id).tag());
    let mut pairs = args.windows(2);
    pairs.any(|pair| pair[0] == b"-name" && pair[1].ends_with(tag.as_bytes()))
}

/// Kills what is left of a machine without a runner, and says so in the log. What a record names and what is not of this
/// machine and home is left alone.
pub fn kill_left_over(home: &Home, record: &MachineRecord) {
    for process in record.hypervisor.iter().chain(&record.runner) {
        let (pid, machine) = (process.pid, &record.name);
        match process::kill(process, |args| is_of(home, &record.id, args)) {
            Ok(Killed::Now) => tracing::warn!(pid, %machine, "killed a left-over process"),
            Ok(Killed::Before) => {}
            Ok(Killed::Spared) => {
                tracing::warn!(pid, %machine, "left a process alone that is not of this home");
            }
            Err(e) => tracing::warn!("cannot kill process {pid}: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_the_home_and_the_machine_that_its_arguments_name() {
        let (home, copy) = (
            Home::new("/h", "/run/vmint/0123abcd"),
            Home::new("/h", "/run/vmint/ffffffff"),
        );
        let (id, other) = (MachineId::from_bits(1), MachineId::from_bits(2));
        let runtime = home.runtime().to_str().unwrap();
        let runner = [
            "/usr/bin/vmint",
            "runner",
            "/elsewhere",
            runtime,
            id.as_str(),
        ];
        let name = hypervisor_name(&"box".parse().unwrap(), &home.machine(&id));
        let hypervisor = ["qemu-system-x86_64", "-name", &name, "-nodefaults"];
        let of_before = ["qemu-system-x86_64", "-name", "vmint-box", "-nodefaults"];
        let shell = ["sh", "-c", "vmint runner", runtime, id.as_str()];
        let bytes = |args: &[&str]| {
            args.iter()
                .map(|a| a.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        let is = |home: &Home, id: &MachineId, args: &[&str]| {
            let args = bytes(args);
            is_of(
                home,
                id,
                &args.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            )
        };
        for args in [runner.as_slice(), &hypervisor] {
            assert!(is(&home, &id, args), "{args:?}");
            assert!(!is(&copy, &id, args), "{args:?}");
            assert!(!is(&home, &other, args), "{args:?}");
        }
        for args in [of_before.as_slice(), &shell, &["-name"], &[""], &[]] {
            assert!(!is(&home, &id, args), "{args:?}");
        }
    }
}
