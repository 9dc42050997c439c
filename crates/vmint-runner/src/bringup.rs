//! From a launch to a guest that can be used: a session with its agent, an identity, an init that has come up.

use crate::identity;
use crate::session::{Session, SessionError};
use crate::start::BootSpec;
use std::time::Duration;
use tokio::time::Instant;
use vmint_model::{Accelerator, ByteSize, ErrorKind, Fault};
use vmint_protocol::{ExecSpec, FromGuest, Prepare, Reply, Request};
use vmint_qemu::qmp::Event;
use vmint_qemu::{Exit, Hypervisor, Launch, Notice};

/// A guest that can be used.
#[derive(Debug)]
pub struct Live {
    /// Its hypervisor.
    pub hypervisor: Hypervisor,
    /// The session with its agent.
    pub session: Session,
}

/// With less, some kernels do not come up: that of Debian 12 needs 80 MiB.
const ENOUGH: ByteSize = ByteSize::mib(128);

/// How long one QMP command may take.
pub fn qmp_deadline(accelerator: Accelerator) -> Duration {
    Duration::from_secs(10) * accelerator.patience()
}

/// Launches a guest, greets its agent and gives it its identity, all before `deadline`.
pub async fn bring_up(
    launch: Launch<'_>,
    prepare: Prepare,
    deadline: Instant,
) -> Result<Live, Fault> {
    let console = launch.console.to_owned();
    let remaining = |what: &str| {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(Fault::new(
                ErrorKind::TimedOut,
                format!("no time was left to {what}"),
            ))
        } else {
            Ok(left)
        }
    };
    let began = Instant::now();
    let mut hypervisor = launch
        .run(remaining("start QEMU")?.min(qmp_deadline(launch.shape.accelerator)))
        .await?;
    let socket = hypervisor.take_agent().expect("taken here first");
    let running = began.elapsed();
    let (what, limit) = ("take its identity", remaining("greet the guest")?);
    let prepare = move || {
        // The clock is read as late as possible.
        Request::Prepare(Box::new(Prepare {
            realtime_ns: identity::now_ns(),
            ..prepare.clone()
        }))
    };
    let session = if let vmint_qemu::Start::Load(_) = launch.start {
        // It is there as soon as it runs, and is told all at once.
        let asked = Instant::now();
        let greeting = Session::greet_asking(socket, prepare(), limit);
        let (session, mut answer) = watched(&mut hypervisor, greeting, &console).await?;
        let prepared = tokio::time::timeout(limit, answer.outcome());
        let prepared = async {
            let timed_out = |_| SessionError::TimedOut { what, after: limit };
            prepared.await.map_err(timed_out)?
        };
        expect_prepared(watched(&mut hypervisor, prepared, &console).await?)?;
        if asked.elapsed() > LATE {
            let clock = Request::SetClock(identity::now_ns());
            let set = session.call(clock, "set its clock", limit);
            watched(&mut hypervisor, set, &console).await?;
        }
        session
    } else {
        // It boots, which takes its time: the greeting is answered when that is over.
        let greeting = Session::greet(socket, limit);
        let greeted = watched(&mut hypervisor, greeting, &console).await;
        let session = greeted.map_err(|fault| suspect_memory(fault, &launch))?;
        let prepared = session.call(prepare(), what, remaining("prepare")?);
        let reply = watched(&mut hypervisor, prepared, &console).await?;
        expect_prepared(FromGuest::Reply(reply))?;
        session
    };
    tracing::info!(?running, prepared = ?began.elapsed(), "up");
    Ok(Live {
        hypervisor,
        session,
    })
}

/// With an answer later than this the time that was told with the question is told once more.
const LATE: Duration = Duration::from_millis(100);

fn expect_prepared(message: FromGuest) -> Result<(), SessionError> {
    match message {
        FromGuest::Reply(Reply::Prepared) => Ok(()),
        FromGuest::Failed(e) => Err(SessionError::Guest(e)),
        other => Err(SessionError::Unexpected(format!("{other:?}"))),
    }
}

/// A kernel that finds too little memory resets or panics, some before they have a console to say so.
fn suspect_memory(fault: Fault, launch: &Launch<'_>) -> Fault {
    let boots = !matches!(launch.start, vmint_qemu::Start::Load(_));
    // Or it stands still without a word, as under KVM.
    let failed = matches!(
        fault.kind,
        ErrorKind::MachineLost | ErrorKind::Image | ErrorKind::TimedOut
    );
    if boots && failed && launch.shape.memory < ENOUGH {
        let memory = launch.shape.memory;
        let message = format!("{} ({memory} of memory may be too little)", fault.message);
        return Fault { message, ..fault }.hint(format!("try --memory {}M", ENOUGH.0 >> 20));
    }
    fault
}

/// Waits until the image's init has come up, and warms up what every first command needs.
pub async fn settle(
    live: &mut Live,
    spec: &BootSpec,
    console: &std::path::Path,
    deadline: Instant,
) -> Result<(), Fault> {
    if spec.settle {
        let session = live.session.clone();
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting = async {
            let what = "finish starting its services";
            let up = tokio::time::timeout(left, services_up(&session));
            up.await
                .map_err(|_| SessionError::TimedOut { what, after: left })?
        };
        watched(&mut live.hypervisor, waiting, console).await?;
    }
    warm_up(live, console, deadline).await
}

/// The command that warms a guest up. It has a name and no path, as users' commands have: the search through `PATH` is half of what
/// the first `true` would otherwise have translated (median of 12, tiny: 230 blocks after `/bin/sh`, 130 after `sh`).
const WARM_UP: [&str; 3] = ["sh", "-c", ":"];

/// Has the guest run a shell once, so that its user's first command finds translated what all commands need.
pub async fn warm_up(
    live: &mut Live,
    console: &std::path::Path,
    deadline: Instant,
) -> Result<(), Fault> {
    let session = live.session.clone();
    let after = deadline.saturating_duration_since(Instant::now());
    let warm = async {
        let run = session.exec(command(&WARM_UP), |_, _| {});
        let what = "run a shell";
        let done = tokio::time::timeout(after, run).await;
        done.map_err(|_| SessionError::TimedOut { what, after })?
    };
    // An image without a shell is none the worse for it.
    match watched(&mut live.hypervisor, warm, console).await {
        Err(fault) if fault.kind != ErrorKind::Guest => Err(fault),
        _ => Ok(()),
    }
}

/// Waits until systemd says that it is up. “degraded” means that a service of the image's failed, which is the image's
/// business. Before systemd listens, `systemctl` fails, and there is nothing to wait on but to ask again.
async fn services_up(session: &Session) -> Result<(), SessionError> {
    let mut pause = Duration::from_millis(50);
    loop {
        let mut said = String::new();
        let spec = command(&["systemctl", "is-system-running", "--wait"]);
        let status = session
            .exec(spec, |channel, bytes| {
                // One word is awaited; an image that says more is not listened to.
                if channel == vmint_protocol::Channel::Output && said.len() < 256 {
                    said.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(256)]));
                }
            })
            .await?;
        tracing::debug!(?status, said = said.trim(), "systemd");
        if matches!(said.trim(), "running" | "degraded") {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Has the journal of a machine that stays outlive its reboots, where its image leaves that open (`Storage=auto`). One that was
/// forked has been made another machine while its journald ran: that writes into the folder of the one it was, which nobody would
/// find later, so it is started anew. Nothing waits for this.
pub async fn keep_journal(session: Session) {
    const KEEP: &str = "\
        [ -d /run/systemd/system ] || exit 0
        own=/var/log/journal/$(cat /etc/machine-id)
        [ -e $own/system.journal ] && exit 0
        mkdir -p /var/log/journal && systemctl restart systemd-journald && journalctl --flush";
    let run = session.exec(command(&["/bin/sh", "-c", KEEP]), |_, _| {});
    if let Err(e) = run.await {
        tracing::info!("the journal is kept in memory: {e}");
    }
}

fn command(argv: &[&str]) -> ExecSpec {
    ExecSpec {
        argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        ..ExecSpec::default()
    }
}

/// Awaits something that the guest does, and meanwhile whether the guest still lives.
async fn watched<T>(
    hypervisor: &mut Hypervisor,
    work: impl Future<Output = Result<T, SessionError>>,
    console: &std::path::Path,
) -> Result<T, Fault> {
    tokio::pin!(work);
    let mut story = Story::default();
    loop {
        tokio::select! {
            done = &mut work => match done {
                // The hang-up is the consequence; how the hypervisor ended is the cause.
                Err(SessionError::Lost { .. }) => {
                    let end = tokio::time::timeout(Duration::from_secs(5), ended(hypervisor, &mut story));
                    return Err(match end.await {
                        Ok(exit) => story.fault(&exit, console),
                        Err(_) => Fault::from(SessionError::Lost { reason: None }),
                    });
                }
                Err(e @ (SessionError::Silent { .. } | SessionError::TimedOut { .. })) => {
                    let fault = Fault::from(e);
                    let tail = vmint_qemu::log::tail(console);
                    let last = tail.lines().next_back().unwrap_or("nothing").trim();
                    let message = format!("{}; the last line on its console was {last:?}", fault.message);
                    return Err(Fault { message, ..fault });
                }
                other => return Ok(other?),
            },
            notice = hypervisor.notice() => match notice {
                Ok(Notice::Event(event)) => story.note(&event),
                Ok(Notice::Exited(exit)) => return Err(story.fault(&exit, console)),
                Err(e) => return Err(Fault::from_error(ErrorKind::Host, &e)),
            },
        }
    }
}

async fn ended(hypervisor: &mut Hypervisor, story: &mut Story) -> Exit {
    loop {
        match hypervisor.notice().await {
            Ok(Notice::Exited(exit)) => return exit,
            Ok(Notice::Event(event)) => story.note(&event),
            Err(_) => std::future::pending().await,
        }
    }
}

/// What a hypervisor met before it ended, beside what its [`Exit`] says.
#[derive(Clone, Debug, Default)]
pub struct Story {
    no_space: bool,
}

/// Why a hypervisor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest shut down.
    Shutdown,
    /// The guest asked for a reboot.
    Reboot,
    /// The guest's kernel panicked, or its agent gave up.
    Panic,
    /// Somebody or something on the host ended it: the guest had no part in that.
    Killed,
    /// It ended by itself: a failure, or a status that says nothing. Whether the guest had a part in it is not known.
    Ended,
}

/// QEMU's words for an end that the host has ordered.
const ORDERED: [&str; 3] = ["host-signal", "host-qmp-quit", "host-ui"];

impl End {
    /// Why, by what a hypervisor said, how its process ended, and what its guest said last. A word of the guest's own end wins over all
    /// that came after it.
    pub fn of(exit: &Exit) -> Self {
        use rustix::process::Signal;
        use std::os::unix::process::ExitStatusExt;
        let outside = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
        match &exit.heard.shutdown {
            _ if exit.heard.panicked || exit.last_words.is_some() => Self::Panic,
            Some((true, reason)) if reason == "guest-reset" => Self::Reboot,
            Some((true, reason)) if reason == "guest-panic" => Self::Panic,
            Some((true, _)) => Self::Shutdown,
            Some((false, reason)) if ORDERED.contains(&reason.as_str()) => Self::Killed,
            _ if exit.status.signal().is_some_and(|s| outside.contains(&s)) => Self::Killed,
            _ => Self::Ended,
        }
    }
}

impl Story {
    /// Takes note of an event.
    pub fn note(&mut self, event: &Event) {
        if let Event::BlockError { no_space, .. } = event {
            self.no_space |= no_space;
        }
    }

    /// For a reader.
    pub fn tell(&self, exit: &Exit, console: &std::path::Path) -> String {
        let status = exit.status;
        match End::of(exit) {
            End::Shutdown => "the guest shut itself down".into(),
            End::Reboot => "the guest asked for a reboot, and vmint stops machines that do".into(),
            End::Panic => {
                let why = exit.last_words.as_deref().unwrap_or("see its console");
                let what = if OUT_OF_MEMORY.iter().any(|text| why.contains(text)) {
                    "the guest ran out of memory, and its kernel panicked"
                } else {
                    "the guest's kernel panicked"
                };
                format!("{what}: {why}")
            }
            End::Killed if status.success() => {
                let reason = exit
                    .heard
                    .shutdown
                    .as_ref()
                    .map(|(_, reason)| reason.as_str());
                format!(
                    "QEMU was told to end ({})",
                    reason.unwrap_or("by whom is unknown")
                )
            }
            End::Ended if self.no_space => "the host's disk is full, and QEMU ended".into(),
            End::Ended if is_bus_error(exit) => {
                let folder = console.parent().unwrap_or(console);
                if is_full(folder) {
                    format!(
                        "no space is left in {} for the guest's memory",
                        folder.display()
                    )
                } else {
                    "the file that the guest's memory comes from cannot be read".into()
                }
            }
            // A QEMU that its guest or somebody has ended says so before.
            End::Ended if status.success() => "QEMU ended, and did not say why".into(),
            End::Killed | End::Ended => match exit.stderr.lines().next_back() {
                Some(last) => format!("QEMU died ({status}): {last}"),
                None => format!("QEMU died ({status})"),
            },
        }
    }

    fn fault(&self, exit: &Exit, console: &std::path::Path) -> Fault {
        let lacks_space =
            self.no_space || is_bus_error(exit) && console.parent().is_some_and(is_full);
        let kind = match End::of(exit) {
            End::Ended if lacks_space => ErrorKind::NoSpace,
            End::Killed | End::Ended => ErrorKind::Hypervisor,
            End::Panic => ErrorKind::Image,
            End::Shutdown | End::Reboot => ErrorKind::MachineLost,
        };
        let fault = Fault::new(
            kind,
            format!(
                "the machine ended before it was ready: {}",
                self.tell(exit, console)
            ),
        );
        match kind {
            ErrorKind::NoSpace => {
                fault.hint("free some space, or set VMINT_HOME to a folder on another disk")
            }
            _ => fault,
        }
    }
}

/// How a kernel says that it has no memory for its own init: nothing is left to be killed, which is how a tmpfs that is full of files ends
/// that no limit holds; or it was asked to panic rather than kill.
const OUT_OF_MEMORY: [&str; 2] = ["System is deadlocked on memory", "out of memory"];

/// `SIGBUS` is how a process learns that the file its memory is mapped from can give or take no more.
fn is_bus_error(exit: &Exit) -> bool {
    use std::os::unix::process::ExitStatusExt;
    exit.status.signal() == Some(rustix::process::Signal::BUS.as_raw())
}

/// Whether not even a page more can be written there.
fn is_full(folder: &std::path::Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|fs| fs.f_bavail * fs.f_frsize < 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use vmint_qemu::Heard;

    fn exit(wait: i32, shutdown: Option<(bool, &str)>) -> Exit {
        Exit {
            status: ExitStatus::from_raw(wait),
            stderr: String::new(),
            heard: Heard {
                panicked: false,
                shutdown: shutdown.map(|(guest, reason)| (guest, reason.to_owned())),
            },
            last_words: None,
        }
    }

    const CLEAN: i32 = 0;
    const FAILED: i32 = 1 << 8;
    const KILL: i32 = 9;
    const ABORT: i32 = 6;
    const SEGV: i32 = 11;

    #[test]
    fn a_panic_is_told_as_such_whatever_else_was_heard_or_not() {
        let heard = [
            None,
            Some((true, "guest-reset")),
            Some((true, "guest-panic")),
            Some((true, "guest-shutdown")),
            Some((false, "host-signal")),
        ];
        for wait in [CLEAN, FAILED, KILL, ABORT] {
            for shutdown in heard {
                let said = Exit {
                    last_words: Some("Kernel panic - not syncing: x".into()),
                    ..exit(wait, shutdown)
                };
                assert_eq!(End::of(&said), End::Panic, "{said:?}");
                let mut told = exit(wait, shutdown);
                told.heard.panicked = true;
                assert_eq!(End::of(&told), End::Panic, "{told:?}");
            }
        }
    }

    #[test]
    fn only_an_end_in_which_the_guest_had_no_part_is_told_as_one_from_outside() {
        for (wait, shutdown, expected) in [
            (CLEAN, Some((true, "guest-shutdown")), End::Shutdown),
            (ABORT, Some((true, "guest-shutdown")), End::Shutdown),
            (KILL, Some((true, "guest-reset")), End::Reboot),
            (CLEAN, Some((true, "guest-panic")), End::Panic),
            (CLEAN, Some((false, "host-signal")), End::Killed),
            (CLEAN, Some((false, "host-qmp-quit")), End::Killed),
            (KILL, None, End::Killed),
            // Nothing was heard: it is no death, and nobody knows whose doing it was.
            (CLEAN, None, End::Ended),
            (FAILED, None, End::Ended),
            (ABORT, None, End::Ended),
            (SEGV, None, End::Ended),
            (CLEAN, Some((false, "host-error")), End::Ended),
        ] {
            let exit = exit(wait, shutdown);
            assert_eq!(End::of(&exit), expected, "{exit:?}");
            let told = Story::default().tell(&exit, std::path::Path::new("/console"));
            let is_death = told.contains("died");
            assert_eq!(is_death, wait != CLEAN && shutdown.is_none(), "{told}");
        }
    }

    /// Of what a guest with a path would not have done yet, most belongs to that search.
    #[test]
    fn a_guest_is_warmed_up_by_a_command_that_is_searched_for_as_those_of_users_are() {
        assert!(!WARM_UP[0].contains('/'), "{WARM_UP:?}");
    }
}
