//! Whole processes timed; what processes and the host use.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{File, read_to_string};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vmint_model::{ByteSize, ErrorKind, Fault, ProcessRef};

/// No process that is timed here takes longer, under emulation and on a busy host either.
const DEADLINE: Timespec = Timespec {
    tv_sec: 300,
    tv_nsec: 0,
};

/// Milliseconds of a duration.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// How long a whole process takes, from its start until it was reaped, in milliseconds. It must succeed; what it says
/// on standard error goes to `log`.
pub(crate) fn time(command: &mut Command, log: &Path) -> Result<f64, Fault> {
    let name = command.get_program().to_string_lossy().into_owned();
    let fault = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e).context(format!("cannot time {name}"))
    };
    let stderr = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(fault)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let began = Instant::now();
    let mut child = command.spawn().map_err(fault)?;
    let pidfd =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|e| fault(e.into()))?;
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&DEADLINE));
    if !matches!(ended, Ok(1)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(fault)?;
    let elapsed = ms(began.elapsed());
    if status.success() {
        return Ok(elapsed);
    }
    let said = vmint_qemu::log::tail(log);
    let last = said.lines().next_back().unwrap_or("nothing");
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    let message = format!(
        "{name} {} failed ({status}); it last said {last:?}",
        arguments.join(" ")
    );
    Err(Fault::new(ErrorKind::Internal, message))
}

fn read(path: &str) -> Result<String, Fault> {
    read_to_string(path)
        .map_err(|e| Fault::from_error(ErrorKind::Host, &e).context(format!("cannot read {path}")))
}

fn strange(path: &str) -> Fault {
    Fault::new(
        ErrorKind::Host,
        format!("{path} does not read as it should"),
    )
}

/// Processor time that a process has used so far, in milliseconds. `stat` counts all of its threads, those that ended
/// too, but rounds user and system time down to ticks of 10 ms; `schedstat` counts in nanoseconds, for those that live.
/// Both are lower bounds.
pub(crate) fn cpu(process: &ProcessRef) -> Result<f64, Fault> {
    let path = format!("/proc/{}/stat", process.pid);
    let ticks = cpu_ticks(&read(&path)?).ok_or_else(|| strange(&path))?;
    let whole_ticks = ticks as f64 * 1e3 / rustix::param::clock_ticks_per_second() as f64;
    Ok(whole_ticks.max(cpu_of_threads(process.pid)))
}

/// 0 where the kernel keeps no such figures.
fn cpu_of_threads(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let ns = threads.filter_map(|thread| {
        let text = read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e6
}

/// Fields 14 and 15, counted from the last parenthesis: the name before it may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat
        .get(stat.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// What a process takes of the host's memory and shares with nobody, in bytes, as the kernel accounts for it: its
/// private pages, and its part of anonymous ones that it shares.
pub(crate) fn own_memory(process: &ProcessRef) -> Result<u64, Fault> {
    let path = format!("/proc/{}/smaps_rollup", process.pid);
    let text = read(&path)?;
    let get = |key| kilobytes(&text, key).ok_or_else(|| strange(&path));
    // Private pages of files are among neither: they are cache, and there for whoever needs the memory.
    Ok((get("Pss_Anon")?.max(get("Private_Dirty")?)) * 1024)
}

/// The most memory that a process has had, shared pages included, in bytes.
pub(crate) fn peak_memory(pid: u32) -> Result<u64, Fault> {
    let path = format!("/proc/{pid}/status");
    kilobytes(&read(&path)?, "VmHWM")
        .map(|kb| kb * 1024)
        .ok_or_else(|| strange(&path))
}

/// `MemAvailable`, in bytes.
pub(crate) fn memory_available() -> Result<u64, Fault> {
    let path = "/proc/meminfo";
    kilobytes(&read(path)?, "MemAvailable")
        .map(|kb| kb * 1024)
        .ok_or_else(|| strange(path))
}

/// Refuses what the host's memory does not carry.
pub(crate) fn expect_memory(wanted: u64) -> Result<(), Fault> {
    let available = memory_available()?;
    if available >= wanted {
        return Ok(());
    }
    let (wanted, available) = (ByteSize(wanted), ByteSize(available));
    let message = format!("it takes {wanted} of memory, and {available} are available");
    Err(Fault::new(ErrorKind::Refused, message))
}

/// `MemTotal`.
pub(crate) fn memory_total() -> Result<ByteSize, Fault> {
    let path = "/proc/meminfo";
    kilobytes(&read(path)?, "MemTotal")
        .map(|kb| ByteSize(kb * 1024))
        .ok_or_else(|| strange(path))
}

/// The number of `KEY:   NUMBER kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Processors that this process may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The model of the first processor.
pub(crate) fn processor() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_owned())
}

/// Load average over the last minute.
pub(crate) fn load() -> Result<f64, Fault> {
    let path = "/proc/loadavg";
    let text = read(path)?;
    text.split_ascii_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| strange(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_blanks_and_parentheses() {
        let stat = "42 (a ) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 17 4 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(21));
        assert_eq!(cpu_ticks("42 (a"), None);
        assert_eq!(cpu_ticks("42 (a) S 1 2"), None);
    }

    #[test]
    fn a_key_is_the_whole_word() {
        let text = "MemTotal:       100 kB\nPss_Anon:        7 kB\nPss:             9 kB\nHugePages_Total:   3\n";
        assert_eq!(kilobytes(text, "Pss"), Some(9));
        assert_eq!(kilobytes(text, "Pss_Anon"), Some(7));
        assert_eq!(kilobytes(text, "HugePages_Total"), None);
        assert_eq!(kilobytes(text, "Mem"), None);
    }

    #[test]
    fn a_process_that_fails_is_a_fault_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut good = Command::new("/bin/sh");
        assert!(time(good.args(["-c", "exit 0"]), &log).unwrap() > 0.0);
        let mut bad = Command::new("/bin/sh");
        let fault = time(
            bad.args(["-c", "echo first >&2; echo last words >&2; exit 3"]),
            &log,
        )
        .unwrap_err();
        assert!(
            fault.message.contains("last words") && fault.message.contains('3'),
            "{fault}"
        );
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let own = vmint_store::process::current().unwrap();
        let before = cpu(&own).unwrap();
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end {
            std::hint::black_box(0);
        }
        assert!(cpu(&own).unwrap() > before);
        assert!(own_memory(&own).unwrap() > 100_000);
        assert!(peak_memory(own.pid).unwrap() > 100_000);
        assert!(memory_available().unwrap() < memory_total().unwrap().0);
        assert!(cpus() > 0 && load().unwrap() >= 0.0);
    }
}
