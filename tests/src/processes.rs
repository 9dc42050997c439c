//! What a home's machines are on the host: runners and hypervisors, found by their command lines.

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A process that belongs to a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its arguments, the program first.
    pub argv: Vec<String>,
}

impl Process {
    /// Whether it is a QEMU.
    pub fn is_hypervisor(&self) -> bool {
        self.argv[0].contains("qemu-system")
    }

    /// Whether it is a runner.
    pub fn is_runner(&self) -> bool {
        self.argv.get(1).is_some_and(|word| word == "runner")
    }
}

/// All hypervisors and runners of the home at `root`. A process that has ended, and was not yet waited for, has no
/// command line any more, and is not found.
pub fn of_home(root: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may end at any moment.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if !contains(&line, root.as_os_str().as_bytes()) {
            continue;
        }
        let argv = line
            .split(|&b| b == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned());
        let process = Process {
            pid,
            argv: argv.collect(),
        };
        if process.is_hypervisor() || process.is_runner() {
            found.push(process);
        }
    }
    found
}

/// Whether a process of this id is there and has not ended. One whose first thread has ended lives, and holds its locks,
/// as long as another does.
pub fn lives(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // Fields are counted behind the name, which may hold blanks: the third and the twentieth.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = |number: usize| {
        rest.split_ascii_whitespace()
            .nth(number - 3)
            .unwrap_or_default()
    };
    let threads: u32 = field(20).parse().unwrap_or(0);
    !(matches!(field(3), "Z" | "X") && threads <= 1)
}

/// The most memory that a process had until now, in bytes; `None` when it is gone.
pub fn most_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// Sends a signal. A process that has ended is none the worse for it.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// `SIGKILL`.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_only_names_the_home_is_not_taken_for_one_of_its_machines() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exec sleep 1000", "sh"])
            .arg(dir.path())
            .spawn()
            .unwrap();
        let found = of_home(dir.path());
        let lived = lives(child.id());
        child.kill().unwrap();
        assert!(lived);
        crate::until(std::time::Duration::from_secs(5), "it has ended", || {
            !lives(child.id())
        });
        child.wait().unwrap();
        assert_eq!(found, []);
    }
}
