//! Memory, swap, pressure.

use super::check::Check;
use crate::memory::{HostMemory, MemInfo, Room};
use vmint_model::ByteSize;

/// With less a default machine does not fit.
const TOO_LITTLE: ByteSize = ByteSize::mib(512);
/// With less there is room for a few machines only.
const LITTLE: ByteSize = ByteSize::mib(2048);
/// Of swap in use, in percent.
const SWAPPING: u64 = 80;
/// Of the time that some task waits for memory, in percent.
const PRESSED: f64 = 10.0;

const LESS: &str = "end what needs memory, or give machines less: --memory 256M";

/// Asked once for the three checks.
pub(super) struct Asked(HostMemory);

impl Asked {
    pub(super) fn now() -> Self {
        Self(HostMemory::read())
    }

    pub(super) fn memory(&self) -> Check {
        judge_memory(&self.0.info, self.0.room.as_ref())
    }

    pub(super) fn swap(&self) -> Check {
        judge_swap(&self.0.info)
    }

    pub(super) fn pressure(&self) -> Check {
        judge_pressure(self.0.pressure)
    }
}

fn judge_memory(info: &MemInfo, room: Option<&Room>) -> Check {
    const NAME: &str = "memory";
    let of_host = info.available.map(|available| {
        let total = info
            .total
            .map_or(String::new(), |total| format!(" of {}", ByteSize(total)));
        (
            available,
            format!("{} available{total}", ByteSize(available)),
        )
    });
    let of_group = room.map(|room| {
        let (available, limit) = (ByteSize(room.available), ByteSize(room.limit));
        let group = room.group.display();
        (
            room.available,
            format!("{available} available of the {limit} that the control group {group} allows"),
        )
    });
    let Some((available, summary)) = of_host.into_iter().chain(of_group).min_by_key(|(n, _)| *n)
    else {
        return Check::warning(
            NAME,
            "/proc/meminfo does not say what is available",
            "mount /proc",
        );
    };
    if available < TOO_LITTLE.0 {
        Check::failure(NAME, summary, LESS)
    } else if available < LITTLE.0 {
        Check::warning(NAME, summary, LESS)
    } else {
        Check::ok(NAME, summary)
    }
}

fn judge_swap(info: &MemInfo) -> Check {
    const NAME: &str = "swap";
    let (Some(total), Some(free)) = (info.swap_total, info.swap_free) else {
        return Check::ok(NAME, "not known");
    };
    if total == 0 {
        return Check::ok(NAME, "no swap");
    }
    let used = total.saturating_sub(free);
    let percent = (u128::from(used) * 100 / u128::from(total)) as u64;
    let summary = format!(
        "{} of {} in use ({percent} %)",
        ByteSize(used),
        ByteSize(total)
    );
    if percent > SWAPPING {
        Check::warning(
            NAME,
            summary,
            "machines may be slow: end what needs memory, or add swap",
        )
    } else {
        Check::ok(NAME, summary)
    }
}

fn judge_pressure(percent: Option<f64>) -> Check {
    const NAME: &str = "memory-pressure";
    match percent {
        None => Check::ok(
            NAME,
            "not known: the kernel does not measure it (psi=1 on its command line does)",
        ),
        Some(percent) if percent > PRESSED => Check::warning(
            NAME,
            format!("{percent} % of the last 10 s some task waited for memory"),
            LESS,
        ),
        Some(percent) => Check::ok(NAME, format!("{percent} % of the last 10 s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    const GIB: u64 = 1 << 30;

    fn available(bytes: u64) -> MemInfo {
        MemInfo {
            available: Some(bytes),
            total: Some(64 * GIB),
            ..MemInfo::default()
        }
    }

    #[test]
    fn little_memory_is_a_warning_and_too_little_a_failure() {
        for (bytes, status) in [
            (2 * GIB, Status::Ok),
            (2 * GIB - 1, Status::Warning),
            (GIB / 2, Status::Warning),
            (GIB / 2 - 1, Status::Failure),
            (0, Status::Failure),
        ] {
            let check = judge_memory(&available(bytes), None);
            assert_eq!(check.status, status, "{check:?}");
        }
        assert_eq!(
            judge_memory(&MemInfo::default(), None).status,
            Status::Warning
        );
    }

    #[test]
    fn the_tighter_of_host_and_control_group_counts() {
        let room = |available| Room {
            available,
            limit: 4 * GIB,
            group: "/sys/fs/cgroup/x".into(),
        };
        let check = judge_memory(&available(32 * GIB), Some(&room(GIB)));
        assert_eq!(check.status, Status::Warning);
        assert!(check.summary.contains("/sys/fs/cgroup/x"), "{check:?}");
        let check = judge_memory(&available(GIB / 4), Some(&room(GIB)));
        assert_eq!(check.summary, "256 MiB available of 64 GiB");
        // Where /proc hides the host's memory the group's is known.
        assert_eq!(
            judge_memory(&MemInfo::default(), Some(&room(3 * GIB))).status,
            Status::Ok
        );
    }

    #[test]
    fn no_swap_is_no_pressure() {
        let swap = |total, free| {
            let info = MemInfo {
                swap_total: Some(total),
                swap_free: Some(free),
                ..MemInfo::default()
            };
            judge_swap(&info)
        };
        assert_eq!(swap(0, 0), Check::ok("swap", "no swap"));
        assert_eq!(swap(GIB, GIB / 2).status, Status::Ok);
        assert_eq!(swap(100, 20).status, Status::Ok);
        assert_eq!(swap(100, 19).status, Status::Warning);
        assert_eq!(swap(100, 200).status, Status::Ok);
        assert_eq!(judge_swap(&MemInfo::default()).status, Status::Ok);
    }

    #[test]
    fn pressure_is_told_when_the_kernel_measures_it() {
        assert_eq!(judge_pressure(Some(10.0)).status, Status::Ok);
        assert_eq!(judge_pressure(Some(10.01)).status, Status::Warning);
        let unknown = judge_pressure(None);
        assert_eq!(unknown.status, Status::Ok);
        assert!(unknown.summary.starts_with("not known"), "{unknown:?}");
    }
}
