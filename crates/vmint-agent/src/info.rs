//! The guest's figures.

use crate::agent::Role;
use crate::{net, sys};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use vmint_protocol::{GuestInfo, Init};

/// Gathers them. What cannot be read is empty or zero: one figure that is missing is no reason to withhold the others.
pub fn gather(role: Role) -> GuestInfo {
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let (realtime, uptime) = (
        clock_gettime(ClockId::Realtime),
        clock_gettime(ClockId::Boottime),
    );
    let memory = sys::read_file("/proc/meminfo", 16 << 10).unwrap_or_default();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    GuestInfo {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: text(uname.release()),
        boot_id: boot_id.trim_end().to_owned(),
        hostname: text(uname.nodename()),
        init: match role {
            Role::Init => Init::Agent,
            Role::Daemon if Path::new("/run/systemd/system").exists() => Init::Systemd,
            Role::Daemon => Init::Other,
        },
        realtime_ns: realtime.tv_sec as u64 * 1_000_000_000 + realtime.tv_nsec as u64,
        uptime_ms: uptime.tv_sec as u64 * 1000 + uptime.tv_nsec as u64 / 1_000_000,
        memory_total: meminfo(&memory, "MemTotal:"),
        memory_available: meminfo(&memory, "MemAvailable:"),
        addresses: net::addresses(),
    }
}

/// One line of `/proc/meminfo` in bytes.
fn meminfo(file: &[u8], key: &str) -> u64 {
    let text = String::from_utf8_lossy(file);
    let line = text.lines().find_map(|l| l.strip_prefix(key));
    let kib: Option<u64> = line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_bytes() {
        let file =
            b"MemTotal:         502864 kB\nMemFree:          1 kB\nMemAvailable:     400000 kB\n";
        assert_eq!(meminfo(file, "MemTotal:"), 502_864 * 1024);
        assert_eq!(meminfo(file, "MemAvailable:"), 400_000 * 1024);
        assert_eq!(meminfo(file, "Other:"), 0);
    }
}
