//! Turning the machine off in order.

use crate::agent::{Agent, Role};
use crate::console;
use crate::init::End;
use crate::spawn::{Launch, Spawner, Terminal};
use crate::sys;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::WaitOptions;
use rustix::system::RebootCommand;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes have between `SIGTERM` and `SIGKILL`, unless the host's own limit ends first: as long as containers have.
const GRACE: Duration = Duration::from_secs(10);

/// How long they may take to be gone after `SIGKILL`.
const LAST: Duration = Duration::from_secs(2);

/// Begins the shutdown. Returns when the image's init does it, and the agent goes on serving until it is told to end
/// with everything else.
pub fn begin(agent: &mut Agent, end: End) {
    match agent.role {
        Role::Init => {
            // An interactive shell ignores SIGTERM, and ends with its terminal.
            agent.units.retain(|_, unit| !unit.has_terminal());
            finish(end)
        }
        Role::Daemon => {
            agent.shutting_down = false;
            if Path::new("/run/systemd/system").exists() {
                // systemd(1): SIGRTMIN+4 starts poweroff.target.
                if sys::kill(1, libc::SIGRTMIN() + 4).is_ok() {
                    return;
                }
            } else if ask_other_init(agent) {
                return;
            }
            finish(end)
        }
    }
}

/// Any other init has its own way, and a command for it.
fn ask_other_init(agent: &mut Agent) -> bool {
    let paths = [
        c"/sbin/poweroff".into(),
        c"/usr/sbin/poweroff".into(),
        c"/bin/poweroff".into(),
    ];
    let null = agent.null();
    let launch = Launch {
        candidates: &paths,
        argv: &[c"poweroff".into()],
        env: &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()],
        cwd: c"/",
        fallback_cwd: None,
        stdio: [null.as_fd(); 3],
        terminal: Terminal::None,
        ids: None,
        oom_score: None,
    };
    Spawner::default().spawn(&launch).is_ok()
}

/// Ends everything, and turns the machine off or resets it.
fn finish(end: End) -> ! {
    // To everyone but PID 1 and the caller.
    let _ = sys::kill(-1, libc::SIGTERM);
    let _ = sys::kill(-1, libc::SIGCONT);
    if !wait_for_children(GRACE) {
        let seconds = GRACE.as_secs();
        console::tell(&format!(
            "some processes have not ended {seconds} s after SIGTERM, and are killed"
        ));
        let _ = sys::kill(-1, libc::SIGKILL);
        wait_for_children(LAST);
    }
    rustix::fs::sync();
    release_file_systems();
    let command = match end {
        End::PowerOff => RebootCommand::PowerOff,
        End::Reboot => RebootCommand::Restart,
    };
    let _ = rustix::system::reboot(command);
    console::fatal("the kernel does not turn the machine off")
}

/// Reaps until no child is left or the time is up; returns whether none is left.
fn wait_for_children(limit: Duration) -> bool {
    let Ok(signals) = sys::signals([libc::SIGCHLD]) else {
        return false;
    };
    let deadline = Instant::now() + limit;
    loop {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // No children: every process is a descendant of PID 1 and has been reaped.
                Err(_) => return true,
            }
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return false;
        };
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [rustix::event::PollFd::new(
            &signals,
            rustix::event::PollFlags::IN,
        )];
        // Interrupted or not, the loop looks again.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        let _ = rustix::io::read(&signals, &mut [0; 128]);
    }
}

/// Unmounts what can be unmounted, last mounted first, and makes the rest read-only.
fn release_file_systems() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ');
        let (Some(device), Some(target)) = (fields.next(), fields.next()) else {
            continue;
        };
        // Only these hold anything that outlives the machine.
        if device.starts_with("/dev/") && unmount(target, UnmountFlags::empty()).is_err() {
            let _ = mount_remount(target, MountFlags::RDONLY, c"");
        }
    }
}
