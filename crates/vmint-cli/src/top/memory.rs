//! What a machine's processes really take of the host's memory: their proportional set size, in which a page that ten
//! forks share counts a tenth for each; where the kernel does not tell it, their resident set.

use serde::Serialize;
use std::collections::HashMap;
use std::fs;

/// Memory of some processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopMemory"))]
pub struct Memory {
    /// In bytes.
    pub bytes: u64,
    /// Whether shared pages count in part (PSS) or in full (RSS).
    pub proportional: bool,
}

/// A process and all that it has started.
pub fn of_family(family: &Family, pid: u32) -> Option<Memory> {
    let mut all = Memory {
        bytes: 0,
        proportional: true,
    };
    let mut found = false;
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        if let Some(memory) = of(pid) {
            found = true;
            all.bytes += memory.bytes;
            all.proportional &= memory.proportional;
        }
        open.extend(family.children.get(&pid).into_iter().flatten());
    }
    found.then_some(all)
}

/// Which process has which children.
#[derive(Debug, Default)]
pub struct Family {
    children: HashMap<u32, Vec<u32>>,
}

impl Family {
    /// Of all processes.
    pub fn read() -> Self {
        let mut family = Self::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
            let stat =
                pid.and_then(|pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
            if let (Some(pid), Some(parent)) = (pid, stat.and_then(|stat| parent(&stat))) {
                family.children.entry(parent).or_default().push(pid);
            }
        }
        family
    }
}

/// The fourth field, counted from the last parenthesis: the name before it may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let rest = stat.get(stat.rfind(')')? + 1..)?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn of(pid: u32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    if let Some(bytes) = rollup.and_then(|text| kilobytes(&text, "Pss")) {
        return Some(Memory {
            bytes,
            proportional: true,
        });
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory {
        bytes: kilobytes(&status, "VmRSS")?,
        proportional: false,
    })
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let number: u64 = rest.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("42 (a ) b (c) S 7 42 42 0"), Some(7));
        assert_eq!(parent("42 (a"), None);
    }

    #[test]
    fn a_family_counts_its_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let family = Family::read();
        let own = std::process::id();
        let (all, alone) = (of_family(&family, own).unwrap(), of(own).unwrap());
        assert!(family.children[&own].contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            all.bytes > alone.bytes / 2 && all.bytes > 0,
            "{all:?} {alone:?}"
        );
    }

    #[test]
    fn a_process_that_is_gone_has_no_memory() {
        assert_eq!(of_family(&Family::default(), u32::MAX), None);
    }
}
