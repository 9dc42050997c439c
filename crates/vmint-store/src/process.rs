//! Which process a [`ProcessRef`] names, and whether it lives.
//!
//! A process that has ended is nobody here, even while its parent has not reaped it: [`of`] does not find it,
//! [`is_alive`] denies it, [`open_pidfd`] does not open it.
//!
//! An id counts in a PID namespace. A process of a container that shares a home with its host is found from the host by its
//! id, start and namespace together; from beside or below it cannot be seen, and then nobody says that it has ended.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use vmint_model::ProcessRef;

/// Takes the place of the kernel's boot id: how a test reboots the host.
const BOOT_ID_VARIABLE: &str = "VMINT_BOOT_ID";

/// This boot of the host. Read once; `VMINT_BOOT_ID` in the environment overrides it.
pub fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id);
    }
    let id = match std::env::var(BOOT_ID_VARIABLE) {
        Ok(id) if !id.is_empty() => id,
        _ => std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned(),
    };
    Ok(BOOT_ID.get_or_init(|| id))
}

/// The inode of the first PID namespace of a host: `PROC_PID_INIT_INO` of the kernel's `include/linux/proc_ns.h`.
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The PID namespace in which this process counts; `None` for the first one of the host. An error if `/proc` shows another
/// one: then its numbers are not those that this process knows others by.
fn namespace() -> io::Result<Option<u64>> {
    static NAMESPACE: OnceLock<Option<u64>> = OnceLock::new();
    if let Some(namespace) = NAMESPACE.get() {
        return Ok(*namespace);
    }
    let shown = std::fs::read_link("/proc/self")?;
    if shown.to_str() != Some(&std::process::id().to_string()) {
        return Err(io::Error::other(format!(
            "/proc shows another PID namespace than that of this process, which is {} here and {} there: mount a /proc of \
             its own (unshare --mount-proc)",
            std::process::id(),
            shown.display()
        )));
    }
    let inode = std::fs::metadata("/proc/self/ns/pid")?.ino();
    let namespace = (inode != FIRST_NAMESPACE).then_some(inode);
    Ok(*NAMESPACE.get_or_init(|| namespace))
}

/// The calling process.
pub fn current() -> io::Result<ProcessRef> {
    of(std::process::id())?.ok_or_else(|| io::Error::other("/proc does not show this process"))
}

/// The process that has this id now; `None` if there is none, or if it has ended. An error if there is one that cannot be
/// seen.
pub fn of(pid: u32) -> io::Result<Option<ProcessRef>> {
    let namespace = namespace()?;
    let stat = match read_stat(pid)? {
        None => read_hidden(pid)?,
        stat => stat,
    };
    let Some(stat) = stat.filter(|stat| !stat.has_ended()) else {
        return Ok(None);
    };
    Ok(Some(ProcessRef {
        pid,
        start_time: stat.start_time,
        boot_id: boot_id()?.to_owned(),
        namespace,
    }))
}

/// A process that is not in `/proc` although the kernel has it: with the option `hidepid`, one of another user.
fn read_hidden(pid: u32) -> io::Result<Option<Stat>> {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    if pidfd_open(id, PidfdFlags::empty()).is_err() {
        return Ok(None);
    }
    // It may have come into being since.
    match read_stat(pid)? {
        None => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("process {pid} exists, and /proc hides it (hidepid)"),
        )),
        stat => Ok(stat),
    }
}

/// The process that started this one, or that it was given to when that one ended.
pub fn parent(process: &ProcessRef) -> Option<ProcessRef> {
    let stat = read_stat(process.pid).ok()??;
    (stat.start_time == process.start_time)
        .then(|| of(stat.parent).ok()?)
        .flatten()
}

/// By which id this very process goes here; `None` if it has ended. An error if that cannot be told: one that counts in
/// another PID namespace is seen from the namespaces above its own, and from nowhere else.
fn locate(process: &ProcessRef) -> io::Result<Option<u32>> {
    if process.boot_id != boot_id()? {
        return Ok(None);
    }
    let here = namespace()?;
    if process.namespace == here {
        let now = of(process.pid)?;
        return Ok((now.as_ref() == Some(process)).then_some(process.pid));
    }
    let found = find_below(process)?;
    // All processes are seen from the first namespace, so what is not there has ended; unless some are hidden.
    if found.is_none() && (here.is_some() || !Path::new("/proc/1/stat").exists()) {
        return Err(io::Error::other(format!(
            "process {} counts in another PID namespace, which cannot be seen from here",
            process.pid
        )));
    }
    Ok(found)
}

/// The process of a namespace below this one that is called so there. An error if there are two: a process that is fenced in cannot
/// see which namespace another one is in.
fn find_below(process: &ProcessRef) -> io::Result<Option<u32>> {
    let mut found = None;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && is_called(pid, process)?
            && let Some(other) = found.replace(pid)
        {
            return Err(io::Error::other(format!(
                "process {} of another PID namespace may be {other} or {pid} here",
                process.pid
            )));
        }
    }
    Ok(found)
}

/// Whether the process that is `pid` here is that one of a namespace below. `NSpid` lists its ids from here on down.
fn is_called(pid: u32, process: &ProcessRef) -> io::Result<bool> {
    let Some(stat) = read_stat(pid)? else {
        return Ok(false);
    };
    if stat.has_ended() || stat.start_time != process.start_time {
        return Ok(false);
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return Ok(false);
    };
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let ids: Vec<u32> = ids
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect();
    let below = ids.get(1..).unwrap_or_default();
    if below.last() == Some(&process.pid) {
        let own = std::fs::metadata(format!("/proc/{pid}/ns/pid"));
        return Ok(own.map_or(true, |own| Some(own.ino()) == process.namespace));
    }
    // Further down still, and called so by a namespace in between.
    Ok(below.contains(&process.pid))
}

/// Whether this very process lives. A process that `/proc` cannot tell about counts as alive: to take a living
/// process for dead would be the worse mistake.
pub fn is_alive(process: &ProcessRef) -> bool {
    match locate(process) {
        Ok(found) => found.is_some(),
        Err(_) => true,
    }
}

/// Whether whoever counts in `watcher`'s PID namespace can watch `process`: it sees its own namespace, and, from the first
/// one, all.
pub fn can_watch(watcher: &ProcessRef, process: &ProcessRef) -> bool {
    watcher.namespace.is_none() || watcher.namespace == process.namespace
}

/// A descriptor of this very process, readable when it ends; `None` if it has ended. An error if it cannot be watched.
pub fn open_pidfd(process: &ProcessRef) -> io::Result<Option<OwnedFd>> {
    let Some(here) = locate(process)? else {
        return Ok(None);
    };
    let Some(pid) = i32::try_from(here).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // The last two are a thread's id, which is no process's.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    // In this order there is no race: a process that has the id and the start now, and had them when the reference was
    // made, had them in between, when the descriptor was opened.
    let is_still = if process.namespace == namespace()? {
        of(here)?.as_ref() == Some(process)
    } else {
        is_called(here, process)?
    };
    Ok(is_still.then_some(pidfd))
}

/// The arguments of a process, the program first; none if it has ended.
pub fn arguments(process: &ProcessRef) -> Vec<Vec<u8>> {
    let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// What became of a process that was to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// It was killed.
    Now,
    /// It had ended before.
    Before,
    /// It lives: its arguments are not those of the process that was meant.
    Spared,
}

/// Kills this very process, never another that has its id now, and only if its arguments, the program first, are those of
/// the process that is meant. A record alone proves nothing: it may have been copied from another home.
pub fn kill(process: &ProcessRef, is_meant: impl FnOnce(&[&[u8]]) -> bool) -> io::Result<Killed> {
    let Some(pidfd) = open_pidfd(process)? else {
        return Ok(Killed::Before);
    };
    // Read after the descriptor was opened: should the process end and its id be used again in between, the arguments are
    // another's, but what is killed is not.
    let line = match std::fs::read(format!("/proc/{}/cmdline", process.pid)) {
        Ok(line) => line,
        Err(e) if is_gone(&e) => return Ok(Killed::Before),
        Err(e) => return Err(e),
    };
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let args: Vec<_> = line.split(|byte| *byte == 0).collect();
    if !is_meant(&args) {
        return Ok(Killed::Spared);
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => Ok(Killed::Now),
        Err(Errno::SRCH) => Ok(Killed::Before),
        Err(e) => Err(e.into()),
    }
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    parent: u32,
    threads: u32,
    start_time: u64,
}

impl Stat {
    /// The name, the second field, may hold blanks and parentheses and need not be UTF-8: the fields are counted from
    /// the last closing parenthesis.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|b| *b == b')')?;
        let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
        })
    }

    /// The first thread of a process may have ended, and be shown as a zombie, while others of it live.
    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

fn read_stat(pid: u32) -> io::Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    // Whole in one read: the kernel makes it at the first one, and it is half as long at most. `fs::read` would ask for its length, and
    // then read it in six pieces.
    let mut buffer = [0; 2048];
    match File::open(&path).and_then(|mut file| file.read(&mut buffer)) {
        Ok(n) => Stat::parse(&buffer[..n]).map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} cannot be understood"),
            )
        }),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a file of `/proc` cannot be read because the process has ended. ESRCH: between the opening and the reading.
fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Turn;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command};

    /// A child that is killed and reaped with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(program: impl AsRef<std::ffi::OsStr>) -> Self {
            Self(Turn::take().spawn(Command::new(program).arg("1000")))
        }

        fn reference(&self) -> ProcessRef {
            of(self.0.id()).unwrap().expect("a child that sleeps")
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn wait_until_readable(fd: &OwnedFd) -> bool {
        let limit = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
    }

    #[test]
    fn this_process_is_alive() {
        let me = current().unwrap();
        assert_eq!(me.pid, std::process::id());
        assert!(is_alive(&me));
    }

    #[test]
    fn a_process_of_another_start_or_boot_is_not_taken_for_the_one_that_has_its_id() {
        let child = Sleeper::start("sleep");
        let living = child.reference();
        let reused = ProcessRef {
            start_time: living.start_time + 1,
            ..living.clone()
        };
        let rebooted = ProcessRef {
            boot_id: "another".into(),
            ..living.clone()
        };
        for other in [reused, rebooted] {
            assert!(!is_alive(&other));
            assert!(open_pidfd(&other).unwrap().is_none());
            assert_eq!(kill(&other, |_| true).unwrap(), Killed::Before);
        }
        assert!(is_alive(&living), "it must have survived the three kills");
    }

    #[test]
    fn a_killed_process_is_dead_before_and_after_it_is_reaped() {
        let mut child = Sleeper::start("sleep");
        let process = child.reference();
        let pidfd = open_pidfd(&process).unwrap().expect("it lives");
        assert_eq!(kill(&process, |_| true).unwrap(), Killed::Now);
        assert!(
            wait_until_readable(&pidfd),
            "the descriptor says that it ended"
        );
        for _ in 0..2 {
            assert!(!is_alive(&process));
            assert_eq!(of(process.pid).unwrap(), None);
            assert!(open_pidfd(&process).unwrap().is_none());
            assert_eq!(kill(&process, |_| true).unwrap(), Killed::Before);
            child.0.wait().unwrap();
        }
    }

    /// A process of a PID namespace of its own, as in a container: the one that is called 1 there.
    #[test]
    fn a_process_of_a_namespace_below_is_found_and_no_other_is_taken_for_it() {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--pid", "--fork", "--kill-child", "--", "sleep", "1000"]);
        let container = Sleeper(Turn::take().spawn(&mut command));
        let outer = container.0.id();
        let children = format!("/proc/{outer}/task/{outer}/children");
        let below: u32 = loop {
            let listed = std::fs::read_to_string(&children).unwrap();
            let child = listed.split_ascii_whitespace().next();
            if let Some(child) = child.and_then(|child| child.parse().ok()) {
                break child;
            }
        };
        let here = of(below).unwrap().expect("it sleeps");
        let inode = std::fs::metadata(format!("/proc/{below}/ns/pid")).unwrap();
        let there = ProcessRef {
            pid: 1,
            namespace: Some(inode.ino()),
            ..here.clone()
        };
        assert!(is_alive(&there));
        let pidfd = open_pidfd(&there).unwrap().expect("it lives");
        let elsewhere = ProcessRef {
            namespace: Some(inode.ino() + 1),
            ..there.clone()
        };
        let later = ProcessRef {
            start_time: there.start_time + 1,
            ..there.clone()
        };
        let me = current().unwrap();
        assert!(can_watch(&there, &there) && !can_watch(&elsewhere, &there));
        assert!(!can_watch(&there, &here));
        if me.namespace.is_none() {
            // All processes are seen from here.
            assert!(can_watch(&me, &there));
            assert!(!is_alive(&elsewhere) && !is_alive(&later));
        } else {
            assert!(is_alive(&elsewhere), "nobody here can tell");
            assert!(open_pidfd(&elsewhere).is_err());
        }
        assert_eq!(kill(&there, |_| true).unwrap(), Killed::Now);
        assert!(wait_until_readable(&pidfd));
        assert!(!lives_here(&here));
    }

    fn lives_here(process: &ProcessRef) -> bool {
        of(process.pid).unwrap().as_ref() == Some(process)
    }

    #[test]
    fn ids_that_no_process_can_have_are_nobody() {
        for pid in [0, u32::MAX, i32::MAX as u32] {
            assert_eq!(of(pid).unwrap(), None, "{pid}");
            let process = ProcessRef {
                pid,
                ..current().unwrap()
            };
            assert!(!is_alive(&process));
            assert_eq!(kill(&process, |_| true).unwrap(), Killed::Before);
        }
    }

    #[test]
    fn a_process_with_other_arguments_than_expected_is_spared() {
        let child = Sleeper::start("sleep");
        let process = child.reference();
        // It has its new name a moment before it has its arguments.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while arguments(&process) == [b""] {
            assert!(std::time::Instant::now() < deadline, "it has no arguments");
        }
        let seen = kill(&process, |args| {
            assert_eq!(args, [b"sleep".as_slice(), b"1000"]);
            false
        });
        assert_eq!(seen.unwrap(), Killed::Spared);
        assert!(is_alive(&process));
    }

    #[test]
    fn a_process_whose_name_looks_like_more_fields_is_read_right() {
        let dir = tempfile::tempdir().unwrap();
        let sleep = ["/bin/sleep", "/usr/bin/sleep"]
            .iter()
            .find(|p| std::path::Path::new(p).exists());
        for name in [") (", "a) Z 1 (", "x\n) 1 2", ")))", " ( "] {
            let path = dir.path().join(name);
            symlink(sleep.expect("coreutils"), &path).unwrap();
            let child = Sleeper::start(&path);
            let shown = std::fs::read_to_string(format!("/proc/{}/comm", child.0.id())).unwrap();
            assert_eq!(
                shown.trim_end_matches('\n'),
                name,
                "the kernel shows the name"
            );
            let process = child.reference();
            assert!(is_alive(&process), "{name:?}");
            let me = current().unwrap();
            assert!(process.start_time >= me.start_time, "{name:?}: {process:?}");
        }
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_lives_while_others_do() {
        let line = |state, threads| {
            format!("7 (q) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0")
        };
        for (state, threads, ended) in [
            ("Z", 1, true),
            ("X", 0, true),
            ("Z", 3, false),
            ("S", 1, false),
        ] {
            let stat = Stat::parse(line(state, threads).as_bytes()).unwrap();
            assert_eq!(stat.start_time, 4711);
            assert_eq!(stat.has_ended(), ended, "{state} {threads}");
        }
        for broken in ["", "7 (q", "7 (q) S 1 2", "7 (q) S x"] {
            assert_eq!(Stat::parse(broken.as_bytes()), None, "{broken:?}");
        }
    }
}
