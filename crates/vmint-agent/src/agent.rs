//! The agent's loop: one thread, one `epoll`, everything edge-triggered.
//!
//! ```text
//!            readv                     Decoder            units
//!   port ───────────▶ Inbox ──▶ session ─────▶ requests ──▶ Exec, Unpack, Pack, Flush
//!   port ◀─────────── Outbox ◀── frames ◀── sources in line ◀──┘   (pipes are spliced past the Outbox)
//! ```
//!
//! Invariants:
//! * Between a data frame's header and its last byte nothing else is written to the port ([`Outbox`]).
//! * A unit without a stream is detached: its session has ended. It runs on, unheard, its output thrown away.
//! * The port edge-triggers: the kernel wakes us when a host connects, sends, or makes room, and never in between, so a
//!   port without a host costs nothing although it reports a hang-up for as long as that lasts.

use crate::boot::Handover;
use crate::connections::{self, Connection};
use crate::exec::{Exec, Surroundings};
use crate::init::{self, End, Requests};
use crate::pack::Pack;
use crate::port::{Inbox, Outbox, Port};
use crate::source::Source;
use crate::spawn::Spawner;
use crate::unpack::Unpack;
use crate::{console, sys};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::process::{WaitOptions, WaitStatus};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use vmint_protocol::{Decoder, ExitStatus, ToGuest};

/// A host that is gone for this long has ended its session. Not at once: when one host hangs up and another connects,
/// the other's first bytes can arrive before the kernel has told us of either.
const GONE: Duration = Duration::from_secs(1);
/// How long the rest of a `Hello` may take to arrive before its start is taken for something else.
const HELD: Duration = Duration::from_millis(100);
/// How long commands may take to end, and the host to read how, when the guest turns itself off: whoever typed `poweroff` shall see that
/// it has worked.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long after a fork connections of before are reset. Not at once: that is code which the fork has never run, and under emulation
/// it takes 20 ms, for which nobody's first command should wait.
const STALE: Duration = Duration::from_millis(250);

const PORT: u64 = 0;
const SIGNALS: u64 = 1;
const REQUESTS: u64 = 2;
/// Tokens of units are their number times this, plus a slot.
const SLOTS: u64 = 8;
/// The slot of a sink, and of a terminal; sources follow.
const SINK: u64 = 0;

/// What the agent is to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// PID 1 for good.
    Init,
    /// A child of the image's own init.
    Daemon,
}

/// The conversation with the host.
#[derive(Debug)]
pub enum Link {
    /// No session, or one that cannot go on: everything up to the next `Hello` is ignored.
    Down,
    /// A session.
    Up(Decoder<ToGuest>),
}

/// Something that a stream asked for and that takes time.
#[derive(Debug)]
pub enum Work {
    /// A command.
    Exec(Box<Exec>),
    /// A tar stream on its way in.
    Unpack(Box<Unpack>),
    /// A tar stream on its way out.
    Pack(Pack),
    /// A process that calls `sync`.
    Flush(i32),
}

/// Work, and whom to tell about it.
#[derive(Debug)]
pub struct Unit {
    /// Its stream; `None` when its session has ended.
    pub stream: Option<u32>,
    /// What it does.
    pub work: Work,
}

impl Unit {
    /// Its ways to the host.
    pub fn sources(&mut self) -> &mut [Source] {
        match &mut self.work {
            Work::Exec(exec) => &mut exec.sources,
            Work::Pack(pack) => std::slice::from_mut(&mut pack.source),
            Work::Unpack(_) | Work::Flush(_) => &mut [],
        }
    }

    /// Whether it is a command on a terminal.
    pub fn has_terminal(&self) -> bool {
        matches!(&self.work, Work::Exec(exec) if exec.terminal.is_some())
    }

    fn pid(&self) -> Option<i32> {
        match &self.work {
            Work::Exec(exec) => Some(exec.pid),
            Work::Pack(pack) => pack.pid,
            Work::Flush(pid) => Some(*pid),
            Work::Unpack(_) => None,
        }
    }
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    pub(crate) port: Port,
    pub(crate) inbox: Inbox,
    pub(crate) out: Outbox,
    pub(crate) link: Link,
    pub(crate) units: BTreeMap<u64, Unit>,
    pub(crate) streams: BTreeMap<u32, u64>,
    /// Sources that may have something for the host: unit and index. Served in turn.
    pub(crate) line: VecDeque<(u64, usize)>,
    pub(crate) role: Role,
    /// The image's init, until it is started.
    pub(crate) handover: Option<Handover>,
    /// Who this machine is, as it was told last.
    pub(crate) prepared: Option<Box<vmint_protocol::Prepare>>,
    /// Set by a shutdown request, acted upon once the answer is on its way.
    pub(crate) shutting_down: bool,
    /// What the guest has asked of its PID 1, and until when commands are heard out.
    ending: Option<(End, Instant)>,
    /// Connections that are to be reset, and when.
    stale: Option<(Vec<Connection>, Instant)>,
    epoll: OwnedFd,
    /// Children that have ended; where the agent is the init for good, what is asked of it.
    signals: OwnedFd,
    requests: Option<Requests>,
    null: OwnedFd,
    spawner: Spawner,
    oom_score: Option<&'static CStr>,
    next_unit: u64,
    gone_at: Option<Instant>,
    held_at: Option<Instant>,
}

impl Agent {
    /// An agent on an open port. With a `handover` it starts the image's init when the host has prepared the machine.
    pub fn new(port: Port, handover: Option<Handover>) -> Result<Self> {
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let is_init = handover.is_none();
        let wanted = init::signals().filter(|_| is_init);
        let (epoll, signals) = watch(&port, wanted)?;
        let requests = is_init.then(Requests::listen).and_then(|listening| {
            listening
                .inspect_err(|e| console::say(&format!("cannot make /run/initctl: {e}")))
                .ok()
        });
        if let Some(requests) = &requests {
            let data = EventData::new_u64(REQUESTS);
            epoll::add(&epoll, requests, data, EventFlags::IN | EventFlags::ET)?;
        }
        Ok(Self {
            port,
            inbox: Inbox::default(),
            out: Outbox::new()?,
            link: Link::Down,
            units: BTreeMap::new(),
            streams: BTreeMap::new(),
            line: VecDeque::new(),
            role: Role::Init,
            handover,
            prepared: None,
            shutting_down: false,
            ending: None,
            stale: None,
            epoll,
            signals,
            requests,
            null,
            spawner: Spawner::default(),
            oom_score: None,
            next_unit: 1,
            gone_at: None,
            held_at: None,
        })
    }

    /// Goes on as a child of the init that was just started. What `epoll` and the signals' descriptor tell is bound to
    /// the process that set them up, so they are set up again.
    pub(crate) fn become_daemon(&mut self) -> Result<()> {
        self.role = Role::Daemon;
        (self.epoll, self.signals) = watch(&self.port, std::iter::empty())?;
        // The agent is the last to go when memory runs out; what it starts is not.
        if std::fs::write("/proc/self/oom_score_adj", "-1000").is_ok() {
            self.oom_score = Some(c"0");
        }
        Ok(())
    }

    /// Serves the host until it, or the guest, asks for an end.
    pub fn run(&mut self) -> Result<End> {
        let mut events = Vec::with_capacity(64);
        loop {
            // A bound, so that a host that never stops sending cannot keep us from everything else.
            for _ in 0..8 {
                if !self.port.readable || self.out.is_congested() {
                    break;
                }
                self.receive()?;
            }
            let more = self.send()?;
            let is_told = self.out.is_empty() || !self.port.writable;
            if self.shutting_down && is_told {
                return Ok(End::PowerOff);
            }
            if let Some((end, deadline)) = self.ending
                && ((self.units.is_empty() && is_told) || deadline <= Instant::now())
            {
                return Ok(end);
            }
            let busy = more || (self.port.readable && !self.out.is_congested());
            self.held_at = self
                .inbox
                .is_holding()
                .then(|| self.held_at.unwrap_or_else(|| Instant::now() + HELD));
            let timeout = if busy {
                Some(Duration::ZERO)
            } else {
                self.until_next_timer()
            };
            let timeout = timeout.map(|t| rustix::event::Timespec {
                tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(t.subsec_nanos()),
            });
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
            for event in events.drain(..) {
                self.woken(event.data.u64(), event.flags);
            }
            self.expire()?;
        }
    }

    fn woken(&mut self, token: u64, flags: EventFlags) {
        let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        match token {
            PORT => {
                self.port.readable |= flags.contains(EventFlags::IN);
                self.port.writable |= flags.contains(EventFlags::OUT);
                if hung_up != self.port.hung_up {
                    self.port.hung_up = hung_up;
                    self.gone_at = hung_up.then(|| Instant::now() + GONE);
                }
            }
            SIGNALS => self.signalled(),
            REQUESTS => {
                let asked = self.requests.as_ref().and_then(Requests::read);
                self.asked_to_end(asked);
            }
            token => self.unit_woken(token / SLOTS, token % SLOTS, flags, hung_up),
        }
    }

    fn unit_woken(&mut self, id: u64, slot: u64, flags: EventFlags, hung_up: bool) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        let readable = flags.contains(EventFlags::IN) || hung_up;
        let is_terminal = matches!(&unit.work, Work::Exec(e) if e.terminal.is_some());
        if slot != SINK || is_terminal {
            let index = slot.saturating_sub(1) as usize;
            if readable && let Some(source) = unit.sources().get_mut(index) {
                source.woken(hung_up);
                self.enqueue(id, index);
            }
        }
        if slot == SINK && (flags.contains(EventFlags::OUT) || hung_up) {
            self.drain_sink(id);
        }
    }

    /// Numbers a unit and watches its sources.
    pub(crate) fn adopt(&mut self, stream: u32, work: Work) -> u64 {
        let id = self.next_unit;
        self.next_unit += 1;
        let mut unit = Unit {
            stream: Some(stream),
            work,
        };
        let terminal = match &mut unit.work {
            Work::Exec(exec) => exec.terminal.clone(),
            _ => None,
        };
        if let Some(fd) = terminal {
            // Both directions of a terminal are one descriptor, which can be watched only once.
            self.watch_fd(fd.as_fd(), id, SINK, EventFlags::IN | EventFlags::OUT);
            if let Work::Exec(exec) = &mut unit.work
                && let Some(sink) = &mut exec.sink
            {
                sink.watched = true;
            }
        } else {
            for (slot, source) in (1..).zip(unit.sources()) {
                self.watch_fd(source.fd(), id, slot, EventFlags::IN);
            }
        }
        self.units.insert(id, unit);
        self.streams.insert(stream, id);
        id
    }

    /// Watches one descriptor of a unit.
    pub(crate) fn watch_sink(&self, fd: BorrowedFd<'_>, id: u64) {
        self.watch_fd(fd, id, SINK, EventFlags::OUT);
    }

    fn watch_fd(&self, fd: BorrowedFd<'_>, id: u64, slot: u64, flags: EventFlags) {
        let data = EventData::new_u64(id * SLOTS + slot);
        // Fails only out of memory or watches; then this one descriptor is served when something else happens.
        let _ = epoll::add(&self.epoll, fd, data, flags | EventFlags::ET);
    }

    /// Puts a source in the line, if it has something to say.
    pub(crate) fn enqueue(&mut self, id: u64, index: usize) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        let detached = unit.stream.is_none();
        let Some(source) = unit.sources().get_mut(index) else {
            return;
        };
        let ready = if detached {
            source.readable && !source.has_ended()
        } else {
            source.is_ready()
        };
        if ready && !source.in_line {
            source.in_line = true;
            self.line.push_back((id, index));
        }
    }

    /// What a command is started with.
    pub(crate) fn start(
        &mut self,
        spec: &vmint_protocol::ExecSpec,
    ) -> std::result::Result<Exec, vmint_protocol::GuestError> {
        let around = Surroundings {
            null: self.null.as_fd(),
            oom_score: self.oom_score,
        };
        Exec::start(spec, around, &mut self.spawner)
    }

    /// `/dev/null`.
    pub(crate) fn null(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }

    /// Reads which signals have come: children that have ended, or a wish.
    fn signalled(&mut self) {
        const ONE: usize = size_of::<libc::signalfd_siginfo>();
        // Room for more than one of each that is waited for, but those above SIGRTMIN are counted: read until there is none.
        let mut infos = [0; ONE * 32];
        while let Ok(length) = rustix::io::read(&self.signals, &mut infos) {
            for info in infos[..length].chunks_exact(ONE) {
                let signal = info[..4].try_into().map(i32::from_ne_bytes);
                self.asked_to_end(signal.ok().and_then(init::of_signal));
            }
            if length < infos.len() {
                break;
            }
        }
        self.reap();
    }

    /// The other ends of the connections from these addresses are gone. They are noted now, and reset when there is time.
    pub(crate) fn note_connections_of(&mut self, addresses: &[[u8; 4]]) {
        match connections::of(addresses) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => self.stale = Some((found, Instant::now() + STALE)),
            Err(e) => console::say(&format!("cannot list the connections of before: {e}")),
        }
    }

    /// The guest wants its machine to end. The first word counts.
    fn asked_to_end(&mut self, end: Option<End>) {
        if let Some(end) = end {
            self.ending
                .get_or_insert_with(|| (end, Instant::now() + LAST_WORDS));
        }
    }

    /// Collects children that have ended, orphans of others among them. A signal that is pending is not counted, so they are
    /// asked for until there is none.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(id) = self
                .units
                .iter()
                .find(|(_, u)| u.pid() == Some(pid))
                .map(|(id, _)| *id)
            {
                self.child_ended(id, status);
            }
        }
    }

    fn child_ended(&mut self, id: u64, status: WaitStatus) {
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        match &mut unit.work {
            Work::Exec(exec) => {
                exec.status = Some(match (exec.timed_out, status.terminating_signal()) {
                    (true, _) => ExitStatus::TimedOut,
                    (false, Some(signal)) => ExitStatus::Signal(signal),
                    (false, None) => ExitStatus::Code(status.exit_status().unwrap_or(0) as u8),
                });
                exec.deadline = None;
                for source in &mut exec.sources {
                    source.process_ended();
                }
            }
            Work::Pack(pack) => pack.ended(),
            Work::Flush(_) => return self.flushed(id, status),
            Work::Unpack(_) => {}
        }
        for index in 0..self.units[&id].source_count() {
            self.enqueue(id, index);
        }
        self.settle(id);
    }

    /// The time until something must be done although nothing happened.
    fn until_next_timer(&self) -> Option<Duration> {
        let execs = self.units.values().filter_map(|u| match &u.work {
            Work::Exec(exec) => exec.deadline,
            _ => None,
        });
        let handover = self.handover.as_ref().map(|h| h.deadline);
        let next = execs
            .chain(self.gone_at)
            .chain(self.held_at)
            .chain(handover)
            .chain(self.ending.map(|(_, deadline)| deadline))
            .chain(self.stale.as_ref().map(|(_, at)| *at))
            .min()?;
        // A timer that is due in less than the clock's resolution must not become a loop.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn expire(&mut self) -> Result<()> {
        if self.gone_at.is_none()
            && self.handover.is_none()
            && self.held_at.is_none()
            && self.stale.is_none()
            && self.units.is_empty()
        {
            return Ok(());
        }
        let now = Instant::now();
        if self.gone_at.is_some_and(|at| at <= now) {
            self.gone_at = None;
            if self.port.is_hung_up() {
                self.end_session();
            }
        }
        if self.held_at.is_some_and(|at| at <= now) {
            self.held_at = None;
            self.release_held()?;
        }
        if self.handover.as_ref().is_some_and(|h| h.deadline <= now) {
            console::say("no host has prepared this machine; starting its init without");
            self.hand_over()?;
        }
        if let Some((stale, _)) = self.stale.take_if(|(_, at)| *at <= now) {
            match connections::reset(&stale) {
                Ok(0) => {}
                Ok(count) => console::say(&format!("{count} connections of before are reset")),
                Err(e) => console::say(&format!("cannot reset the connections of before: {e}")),
            }
        }
        for unit in self.units.values_mut() {
            if let Work::Exec(exec) = &mut unit.work
                && exec.deadline.is_some_and(|at| at <= now)
            {
                exec.deadline = None;
                exec.timed_out = true;
                exec.kill();
            }
        }
        Ok(())
    }
}

impl Unit {
    fn source_count(&self) -> usize {
        match &self.work {
            Work::Exec(exec) => exec.sources.len(),
            Work::Pack(_) => 1,
            Work::Unpack(_) | Work::Flush(_) => 0,
        }
    }
}

/// Something that tells of the port and of these signals, beside that of children.
fn watch(port: &Port, wanted: impl IntoIterator<Item = i32>) -> Result<(OwnedFd, OwnedFd)> {
    let signals = sys::signals([libc::SIGCHLD].into_iter().chain(wanted))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(&epoll, port, EventData::new_u64(PORT), both)?;
    epoll::add(
        &epoll,
        &signals,
        EventData::new_u64(SIGNALS),
        EventFlags::IN | EventFlags::ET,
    )?;
    Ok((epoll, signals))
}
