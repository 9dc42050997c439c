//! What memory the host has, as the kernel says it. What it does not say is not known, and nothing is held against it.
//!
//! * `cgroup`: what a control group leaves of it.

mod cgroup;

pub use cgroup::Room;
use std::path::Path;

/// Memory, swap and pressure of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostMemory {
    /// `/proc/meminfo`.
    pub info: MemInfo,
    /// What the tightest control group leaves of it, if one has a limit.
    pub room: Option<Room>,
    /// How much of the last ten seconds some task waited for memory, in percent.
    pub pressure: Option<f64>,
}

impl HostMemory {
    /// Asks the kernel: some reads in `/proc` and in the control groups.
    pub fn read() -> Self {
        let info = parse_meminfo(&text("/proc/meminfo").unwrap_or_default());
        let groups = text("/proc/self/cgroup").unwrap_or_default();
        let mounts = text("/proc/self/mountinfo").unwrap_or_default();
        Self {
            info,
            room: cgroup::room(&groups, &mounts, |path| text(path)),
            pressure: text("/proc/pressure/memory").and_then(|text| parse_pressure(&text)),
        }
    }

    /// Bytes that can be had: the host's, or less if the control group leaves less.
    pub fn available(&self) -> Option<u64> {
        let room = self.room.as_ref().map(|room| room.available);
        self.info.available.into_iter().chain(room).min()
    }

    /// Bytes that there are at all.
    pub fn total(&self) -> Option<u64> {
        let room = self.room.as_ref().map(|room| room.limit);
        self.info.total.into_iter().chain(room).min()
    }
}

/// What is of interest in `/proc/meminfo`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// `MemTotal`.
    pub total: Option<u64>,
    /// `MemAvailable`.
    pub available: Option<u64>,
    /// `SwapTotal`.
    pub swap_total: Option<u64>,
    /// `SwapFree`.
    pub swap_free: Option<u64>,
}

impl MemInfo {
    /// Swap in use, in percent; none where there is no swap.
    pub fn swap_percent(&self) -> Option<f64> {
        let (total, free) = (self.swap_total?, self.swap_free?);
        (total > 0).then(|| total.saturating_sub(free) as f64 * 100.0 / total as f64)
    }
}

/// Reads `/proc/meminfo`.
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

/// `avg10` of the line `some` of `/proc/pressure/memory`, in percent.
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

/// The private memory that a process has now, in bytes; 0 if there is no such process. What it has mapped of files, such
/// as the memory of its template, is not its own.
pub(crate) fn private_memory(pid: u32) -> u64 {
    text(format!("/proc/{pid}/statm"))
        .and_then(|text| parse_statm(&text))
        .unwrap_or(0)
        .saturating_mul(page_size())
}

/// Resident pages less those of files and of shared memory.
fn parse_statm(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let mut number = || words.next()?.parse::<u64>().ok();
    let (resident, shared) = (number()?, number()?);
    Some(resident.saturating_sub(shared))
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// A file's text, if it can be read.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn no_swap_has_no_percentage() {
        let swap = |total, free| {
            let info = MemInfo {
                swap_total: Some(total),
                swap_free: Some(free),
                ..MemInfo::default()
            };
            info.swap_percent()
        };
        assert_eq!(swap(0, 0), None);
        assert_eq!(swap(200, 100), Some(50.0));
        assert_eq!(swap(100, 200), Some(0.0));
        assert_eq!(MemInfo::default().swap_percent(), None);
    }

    #[test]
    fn pressure_is_the_share_of_the_last_ten_seconds() {
        let text = "some avg10=12.34 avg60=99.00 avg300=0.00 total=7\nfull avg10=50.00 avg60=0 avg300=0 total=0\n";
        assert_eq!(parse_pressure(text), Some(12.34));
        for odd in [
            "",
            "full avg10=99 avg60=0",
            "some avg60=99",
            "some avg10=NaN",
            "some avg10=",
        ] {
            assert_eq!(parse_pressure(odd), None, "{odd}");
        }
    }

    #[test]
    fn private_memory_is_what_was_written_and_no_file() {
        assert_eq!(parse_statm("1000 300 120 5 0 200 0\n"), Some(180));
        assert_eq!(parse_statm("1000 300"), None);
        assert_eq!(parse_statm("a b c"), None);
        let me = std::process::id();
        let before = private_memory(me);
        let mut written = vec![0_u8; 64 << 20];
        written.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let grown = private_memory(me).saturating_sub(before);
        assert!(grown > 48 << 20, "{before} and {grown} more");
        assert_eq!(written[4096], 1);
        assert_eq!(private_memory(u32::MAX), 0);
    }

    #[test]
    fn this_host_s_memory_is_known() {
        let host = HostMemory::read();
        let (available, total) = (host.available().unwrap(), host.total().unwrap());
        assert!(0 < available && available <= total, "{host:?}");
    }

    #[test]
    fn the_tighter_of_host_and_control_group_counts() {
        let host = |room: Option<(u64, u64)>| HostMemory {
            info: MemInfo {
                total: Some(100),
                available: Some(60),
                ..MemInfo::default()
            },
            room: room.map(|(available, limit)| Room {
                available,
                limit,
                group: "/g".into(),
            }),
            pressure: None,
        };
        let both = |room| (host(room).available(), host(room).total());
        assert_eq!(both(None), (Some(60), Some(100)));
        assert_eq!(both(Some((10, 20))), (Some(10), Some(20)));
        assert_eq!(both(Some((70, 200))), (Some(60), Some(100)));
        assert_eq!(HostMemory::default().available(), None);
    }
}
