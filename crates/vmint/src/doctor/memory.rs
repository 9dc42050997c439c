//! Memory, swap, pressure.

use super::ask;
use super::cgroup::{self, Room};
use super::check::Check;
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

pub(super) fn memory() -> Check {
    let meminfo = ask::text("/proc/meminfo").unwrap_or_default();
    let cgroup = ask::text("/proc/self/cgroup").unwrap_or_default();
    let mounts = ask::text("/proc/self/mountinfo").unwrap_or_default();
    let room = cgroup::room(&cgroup, &mounts, |path| ask::text(path));
    judge_memory(&parse_meminfo(&meminfo), room.as_ref())
}

pub(super) fn swap() -> Check {
    let meminfo = ask::text("/proc/meminfo").unwrap_or_default();
    judge_swap(&parse_meminfo(&meminfo))
}

pub(super) fn pressure() -> Check {
    judge_pressure(ask::text("/proc/pressure/memory").as_deref())
}

/// What is of interest in `/proc/meminfo`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MemInfo {
    total: Option<u64>,
    available: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
}

fn parse_meminfo(text: &str) -> MemInfo {
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut words = value.split_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        match words.next() {
            Some("kB") => number.checked_mul(1024),
            None => Some(number),
            Some(_) => None,
        }
    };
    MemInfo {
        total: field("MemTotal"),
        available: field("MemAvailable"),
        swap_total: field("SwapTotal"),
        swap_free: field("SwapFree"),
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

/// `avg10` of the line `some`, in percent.
fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = some
        .split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?;
    value
        .parse()
        .ok()
        .filter(|percent: &f64| percent.is_finite())
}

fn judge_pressure(text: Option<&str>) -> Check {
    const NAME: &str = "memory-pressure";
    match text.and_then(parse_pressure) {
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
    fn meminfo_is_read_as_kernels_write_it() {
        let text = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   2048 kB\nSwapTotal:  0 kB\nSwapFree:   0 kB\n";
        let info = parse_meminfo(text);
        assert_eq!(info.available, Some(2048 * 1024));
        assert_eq!((info.swap_total, info.swap_free), (Some(0), Some(0)));
        for odd in [
            "",
            "MemAvailable",
            "MemAvailable: x kB",
            "MemAvailable: 1 MB",
            "MemAvailableX: 1 kB",
            "MemAvailable: 99999999999999999999 kB",
        ] {
            assert_eq!(parse_meminfo(odd).available, None, "{odd}");
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
    fn pressure_is_the_share_of_the_last_ten_seconds() {
        let text = |avg10| {
            format!(
                "some avg10={avg10} avg60=99.00 avg300=0.00 total=7\nfull avg10=50.00 avg60=0 avg300=0 total=0\n"
            )
        };
        assert_eq!(parse_pressure(&text("0.00")), Some(0.0));
        assert_eq!(judge_pressure(Some(&text("10.00"))).status, Status::Ok);
        assert_eq!(judge_pressure(Some(&text("10.01"))).status, Status::Warning);
        for odd in [
            None,
            Some(""),
            Some("full avg10=99 avg60=0"),
            Some("some avg60=99"),
            Some("some avg10=NaN"),
            Some("some avg10="),
        ] {
            let check = judge_pressure(odd);
            assert_eq!(check.status, Status::Ok, "{check:?}");
            assert!(check.summary.starts_with("not known"), "{check:?}");
        }
    }
}
