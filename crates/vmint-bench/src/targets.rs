//! What figures should come to: the one home of each number. SPECIFICATION.md has a row for each, with its name in front, and a test compares
//! the two.

use super::report::Target;

macro_rules! targets {
    ($($(#[doc = $doc:literal])* $name:ident = $key:literal, $target:expr;)*) => {
        $($(#[doc = $doc])* pub(super) const $name: Target = $target;)*

        /// All of them, by the names that they have in SPECIFICATION.md.
        pub const ALL: &[(&str, Target)] = &[$(($key, $name)),*];
    };
}

targets! {
    /// Against a bare QEMU.
    FORK = "fork", Target::ratio_at_most(1.25);
    /// How many times as long a boot takes.
    BOOT_TINY = "boot-tiny", Target::ratio_at_least(15.0);
    /// The same of Debian with systemd.
    BOOT_DEBIAN = "boot-debian", Target::ratio_at_least(40.0);
    /// 4 GiB against 256 MiB.
    SIZE = "size", Target::ratio_at_most(1.15);
    /// The program against the library.
    RUN = "run", Target::ratio_at_most(1.15);
    /// The program against the agent's round trip.
    EXEC = "exec", Target::ratio_at_most(2.0);
    /// Against `git --version`.
    CLI = "cli", Target::ratio_at_most(3.0);
    /// In MB, without a runner.
    MEMORY_FORK = "memory-fork", Target::at_most(40.0);
    /// In MB, with its runner.
    MEMORY = "memory", Target::at_most(48.0);
    /// In MB.
    MEMORY_RUNNER = "memory-runner", Target::at_most(8.0);
    /// Against the processor time of as many single ones.
    MANY = "many", Target::ratio_at_most(1.5);
    /// A snapshot's pause against a fork.
    BRANCH = "branch", Target::ratio_at_most(0.5);
    /// 4 GiB against 256 MiB; asked for is “flat”.
    BRANCH_SIZE = "branch-size", Target::ratio_at_most(1.15);
    /// Against a fork.
    RESTORE = "restore", Target::ratio_at_most(2.0);
    /// With a first command, against `loadvm` with one.
    RESTORE_LOADVM = "restore-loadvm", Target::ratio_at_most(0.4);
    /// Against a raw port.
    STREAM_OUT = "stream-out", Target::ratio_at_least(0.6);
    /// Against a raw port.
    STREAM_IN = "stream-in", Target::ratio_at_least(0.4);
    /// Against tar on a raw port.
    FILES = "files", Target::ratio_at_most(2.0);
    /// Against an empty transaction.
    ACQUIRE = "acquire", Target::ratio_at_most(5.0);
    /// In ms.
    ACQUIRE_TIME = "acquire-time", Target::at_most(1.0);
    /// Against the median of the empty transaction.
    ACQUIRE_P99 = "acquire-p99", Target::ratio_at_most(20.0);
    /// In ms.
    ACQUIRE_P99_TIME = "acquire-p99-time", Target::at_most(5.0);
    /// Against a machine that is held.
    FIRST_RESULT = "first-result", Target::ratio_at_most(1.3);
    /// Against a round trip.
    RESET = "reset", Target::ratio_at_most(2.5);
    /// In ms.
    RESET_TIME = "reset-time", Target::at_most(15.0);
    /// Against a fork that is warmed up.
    RESET_ALONE = "reset-alone", Target::ratio_at_most(1.2);
    /// How many times as long one after the other takes.
    FILL = "fill", Target::ratio_at_least(1.6);
    /// Against the median wait.
    CROWD = "crowd", Target::ratio_at_most(3.0);
    /// In ms, p99.
    CLAIM = "claim", Target::at_most(5.0);
    /// From 100 machines in the ledger to 1,000.
    CLAIM_GROWTH = "claim-growth", Target::ratio_at_most(1.5);
    /// From 100 machines in the ledger to 10,000.
    CLAIM_GROWTH_MOST = "claim-growth-most", Target::ratio_at_most(2.0);
    /// Machines given twice, and lost without a cause.
    SOAK_FAULTS = "soak-faults", Target::at_most(0.0);
    /// Processes, files and records.
    SOAK_LEFT = "soak-left", Target::at_most(0.0);
    /// A runner's memory, late against early.
    SOAK_MEMORY = "soak-memory", Target::ratio_at_most(1.1);
    /// In ms.
    WORKFLOW_FIRST = "workflow-first", Target::at_most(50.0);
    /// In ms.
    WORKFLOW_STEP = "workflow-step", Target::at_most(15.0);
    /// In ms.
    WORKFLOW_SNAPSHOT = "workflow-snapshot", Target::at_most(60.0);
    /// After 100 steps against after 10.
    WORKFLOW_MEMORY = "workflow-memory", Target::ratio_at_most(1.05);
    /// In MB.
    WORKFLOW_LOG = "workflow-log", Target::at_most(10.0);
    /// In ms.
    WORKFLOW_CHECK = "workflow-check", Target::at_most(50.0);
}

#[cfg(test)]
mod tests {
    use super::ALL;
    use std::collections::HashMap;

    /// What the page says of each target, by the names in front of its rows.
    fn said(page: &str) -> HashMap<&str, &str> {
        let (_, figures) = page
            .split_once("\n## Figures\n")
            .expect("the page has figures");
        let figures = figures
            .split_once("\n## ")
            .map_or(figures, |(figures, _)| figures);
        let rows = figures.lines().filter_map(|line| line.strip_prefix("| "));
        let named = rows.filter_map(|row| {
            let (what, rest) = row.split_once(" | ")?;
            let (names, _) = what.split_once(": ")?;
            let (target, _) = rest.split_once(" | ")?;
            let names = names
                .split(", ")
                .map(|name| name.strip_prefix('`')?.strip_suffix('`'));
            Some(names.flatten().map(move |name| (name, target)))
        });
        named.flatten().collect()
    }

    #[test]
    fn the_specification_has_each_target_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../SPECIFICATION.md");
        let page = std::fs::read_to_string(path).unwrap();
        let mut said = said(&page);
        let mut wrong = Vec::new();
        for (name, target) in ALL {
            // “≤ 1.25 ×”, “≤ 48” with a unit behind it, or a plain 0.
            let text = match target.value {
                0.0 => "0".to_owned(),
                _ => target.to_string(),
            };
            match said.remove(name) {
                Some(cell)
                    if cell
                        .split(&text)
                        .skip(1)
                        .any(|rest| !rest.starts_with(['.', ','])) => {}
                Some(cell) => {
                    wrong.push(format!("{name}: the page says “{cell}”, and it is {text}"));
                }
                None => wrong.push(format!("{name} has no row")),
            }
        }
        wrong.extend(said.keys().map(|name| format!("there is no target {name}")));
        assert_eq!(wrong, [] as [String; 0]);
    }
}
