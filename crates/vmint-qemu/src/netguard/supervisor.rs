//! The loop that decides and carries out the stopped calls.

use super::address::{self, Destination, MAX_LENGTH};
use super::notify::{Listener, Notification};
use super::policy::{Host, Policy, Protocol, Reason, Verdict};
use super::process::{self, Sockets};
use crate::egress::Gate;
use crate::listen::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sockopt};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What a guard has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// System calls that were stopped.
    pub stopped: u64,
    /// Destinations allowed, whatever the network then said.
    pub allowed: u64,
    /// Destinations denied by the policy.
    pub denied: u64,
    /// Calls refused because they could not be judged: another address family, a bad address, a process that cannot
    /// be looked into.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    stopped: AtomicU64,
    allowed: AtomicU64,
    denied: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn read(&self) -> Stats {
        Stats {
            stopped: self.stopped.load(Ordering::Relaxed),
            allowed: self.allowed.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A supervised process. Its thread lives exactly as long as the process and its descendants do (on kernels before
/// 6.11: until they have been waited for), also when this is dropped.
#[derive(Debug)]
pub struct Guard {
    thread: JoinHandle<io::Result<()>>,
    counters: Arc<Counters>,
}

impl Guard {
    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Whether its thread has ended. While the process lives that means a fault: its connects fail with `ENOSYS`.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the process and its descendants.
    pub fn wait(self) -> io::Result<Stats> {
        match self.thread.join() {
            Ok(result) => result.map(|()| self.counters.read()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Enough for a log line; pages that are not touched cost nothing.
const STACK: usize = 256 * 1024;

impl Listener {
    /// Starts the thread that serves the process until it ends.
    ///
    /// The thread judges by the network namespace that the caller is in, which must be the process's.
    pub fn guard<H: Host + Send + 'static>(self, policy: Policy<H>) -> io::Result<Guard> {
        self.guard_with(policy, None, None, Vec::new())
    }

    /// Like [`guard`](Self::guard), with a file that is opened for reading alone, an allow list's gate, and published ports.
    pub(crate) fn guard_with<H: Host + Send + 'static>(
        self,
        policy: Policy<H>,
        memory: Option<MemoryFile>,
        gate: Option<Gate>,
        ports: Vec<Port>,
    ) -> io::Result<Guard> {
        let counters = Arc::new(Counters::default());
        let mut supervisor = Supervisor::new(self, policy, Arc::clone(&counters));
        supervisor.memory = memory;
        supervisor.gate = gate;
        supervisor.ports = ports;
        let thread = std::thread::Builder::new().name("netguard".into()).stack_size(STACK).spawn(move || {
            let result = supervisor.run();
            if let Err(error) = &result {
                tracing::error!(%error, "the network guard ended; the machine's network is cut");
            }
            result
        })?;
        Ok(Guard { thread, counters })
    }

    /// Serves one call on this thread, waiting for it no longer than `patience`. Later calls fail.
    pub(super) fn serve_once<H: Host>(
        self,
        policy: Policy<H>,
        patience: Timespec,
    ) -> io::Result<Stats> {
        let mut supervisor = Supervisor::new(self, policy, Arc::default());
        supervisor.turn(Some(&patience))?;
        Ok(supervisor.counters.read())
    }
}

pub(super) struct Supervisor<H> {
    pub(super) listener: Listener,
    pub(super) policy: Policy<H>,
    sockets: Sockets,
    parked: Vec<Parked>,
    pub(super) payload: Vec<u8>,
    memory: Option<MemoryFile>,
    /// Under an allow list.
    pub(super) gate: Option<Gate>,
    ports: Vec<Port>,
    counters: Arc<Counters>,
}

/// Files that the process opens to read and write them, and gets as they were opened for it: a fork's memory for reading alone.
#[derive(Debug)]
pub struct MemoryFile {
    files: Vec<(Vec<u8>, File)>,
}

impl MemoryFile {
    /// Opens it for reading. `path` is what the process will name it by.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { files: Vec::new() }.also(path, File::open(path)?))
    }

    /// What is open already, however it is.
    pub fn opened(path: &Path, file: File) -> Self {
        Self { files: Vec::new() }.also(path, file)
    }

    /// And another file.
    #[must_use]
    pub fn also(mut self, path: &Path, file: File) -> Self {
        self.files
            .push((path.as_os_str().as_bytes().to_vec(), file));
        self
    }
}

/// A call on a blocking socket that waits for the network. Its thread waits with it, so there are never more of these
/// than the process has threads.
struct Parked {
    id: u64,
    socket: OwnedFd,
    call: Call,
}

/// What is to be done on the process's behalf: a call that was judged, with copies of all it points to.
pub(super) enum Call {
    Connect(SocketAddr),
    Send {
        to: SocketAddr,
        payload: Vec<u8>,
        flags: SendFlags,
    },
}

pub(super) enum Outcome {
    Answer(Result<u64, Errno>),
    Park(OwnedFd, Call),
    /// Done, with another socket in the place of the caller's descriptor.
    Replace(i32, OwnedFd),
    /// A copy of the descriptor of this one of the memory files.
    Memory(usize),
    /// The call itself.
    GoOn,
    /// Nobody waits for an answer any more.
    Gone,
}

/// After a turn.
#[derive(PartialEq, Eq)]
enum Process {
    Alive,
    Ended,
}

impl<H: Host> Supervisor<H> {
    fn new(listener: Listener, policy: Policy<H>, counters: Arc<Counters>) -> Self {
        Self {
            listener,
            policy,
            sockets: Sockets::default(),
            parked: Vec::new(),
            payload: Vec::new(),
            memory: None,
            gate: None,
            ports: Vec::new(),
            counters,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        while self.turn(None)? == Process::Alive {}
        Ok(())
    }

    fn turn(&mut self, patience: Option<&Timespec>) -> io::Result<Process> {
        let mut waits = vec![PollFd::new(&self.listener, PollFlags::IN)];
        waits.extend(
            self.parked
                .iter()
                .map(|parked| PollFd::new(&parked.socket, PollFlags::OUT)),
        );
        match poll(&mut waits, patience) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Process::Alive),
            Err(errno) => return Err(errno.into()),
        }
        let listener = waits[0].revents();
        let ready: Vec<usize> = (0..self.parked.len())
            .filter(|&i| !waits[i + 1].revents().is_empty())
            .collect();
        drop(waits);
        for i in ready.into_iter().rev() {
            let parked = self.parked.swap_remove(i);
            let outcome = attempt(parked.socket, parked.call);
            self.conclude(parked.id, outcome)?;
        }
        if listener.contains(PollFlags::IN) {
            if let Some(notification) = self.listener.next()? {
                count(&self.counters.stopped);
                let outcome = self.handle(&notification).unwrap_or_else(|errno| {
                    count(&self.counters.refused);
                    Outcome::Answer(Err(errno))
                });
                self.conclude(notification.id, outcome)?;
            }
            // A caller that was killed while its call was parked is noticed here, at the latest at its process's end.
            self.parked
                .retain(|parked| self.listener.is_waiting(parked.id));
        } else if listener.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(Process::Ended);
        }
        Ok(Process::Alive)
    }

    fn conclude(&mut self, id: u64, outcome: Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Answer(result) => {
                self.listener.answer(id, result)?;
            }
            Outcome::Memory(which) => {
                if let Some((_, file)) = self.memory.as_ref().and_then(|m| m.files.get(which)) {
                    self.listener.answer_with(id, file.as_fd())?;
                }
            }
            Outcome::GoOn => {
                self.listener.go_on(id)?;
            }
            Outcome::Replace(number, socket) => {
                if let Err(error) = self.listener.replace(id, number, socket.as_fd()) {
                    tracing::warn!(%error, "refused: the caller's descriptor cannot be replaced");
                    self.listener.answer(id, Err(Errno::CONNREFUSED))?;
                }
            }
            Outcome::Park(socket, call) => self.parked.push(Parked { id, socket, call }),
            Outcome::Gone => {}
        }
        Ok(())
    }

    /// Judges a stopped call and, when it is allowed, does it. An error is one of judging.
    fn handle(&mut self, notification: &Notification) -> Result<Outcome, Errno> {
        let [fd, ..] = notification.args;
        if notification.call == libc::SYS_openat {
            return Ok(self.opened(notification));
        }
        if notification.call == libc::SYS_recvfrom {
            return self.received(notification);
        }
        if notification.call == libc::SYS_bind {
            return self.bound(notification);
        }
        if notification.call == libc::SYS_listen {
            // What was put in the place of a published port's socket listens already, and nothing else is to.
            return Ok(Outcome::Answer(Ok(0)));
        }
        let (address, length) = match notification.call {
            libc::SYS_connect => (notification.args[1], notification.args[2]),
            libc::SYS_sendto => (notification.args[4], notification.args[5]),
            _ => return Err(Errno::NOSYS),
        };
        let destination = destination(notification.thread, address, length)?;
        let socket = self.socket(notification.thread, fd)?;
        let send = match notification.call {
            libc::SYS_sendto => Some(self.copy_payload(notification)?),
            _ => None,
        };
        // All above was read from a thread number. If the call is still waiting, the number is still that thread's.
        if !self.listener.is_waiting(notification.id) {
            return Ok(Outcome::Gone);
        }
        let protocol = protocol(&socket)?;
        let to = match destination {
            Destination::Inet(to) => to,
            Destination::Unspecified if send.is_none() => {
                count(&self.counters.allowed);
                return Ok(Outcome::Answer(
                    rustix::net::connect_unspec(&socket).map(|()| 0),
                ));
            }
            Destination::Unspecified | Destination::Other(_) => return Err(Errno::AFNOSUPPORT),
        };
        if self.gate.is_some() {
            return self.through_gate(fd as i32, socket, to, protocol, send);
        }
        let to = match self.policy.decide(to, protocol) {
            Verdict::Allow(to) => to,
            Verdict::Deny(reason) => return Ok(self.deny(to, protocol, reason)),
        };
        count(&self.counters.allowed);
        tracing::trace!(%to, ?protocol, "allowed");
        Ok(match send {
            None => attempt(socket, Call::Connect(to)),
            // POSIX allows this for a connected stream; on another one it would connect (MSG_FASTOPEN).
            Some(_) if protocol == Protocol::Tcp => Outcome::Answer(Err(Errno::ISCONN)),
            Some(flags) => self.send(socket, to, flags),
        })
    }

    /// A file that is opened to read and write it. That it is the memory file is seen by the name that QEMU was given for it; under
    /// any other name it is opened as asked for, which the fence then refuses.
    fn opened(&self, notification: &Notification) -> Outcome {
        let Some(memory) = &self.memory else {
            return Outcome::GoOn;
        };
        let [_, address, ..] = notification.args;
        let is_named = |path: &[u8]| {
            // With the zero behind it, so that a longer name is not taken for this one.
            let mut name = vec![1; path.len() + 1];
            let read = process::read_memory(notification.thread, address, &mut name);
            read.is_ok() && name.split_last() == Some((&0, path))
        };
        match memory.files.iter().position(|(path, _)| is_named(path)) {
            Some(which) => Outcome::Memory(which),
            None => Outcome::GoOn,
        }
    }

    /// An address that is bound. A published port's socket is put in the place of the caller's; any other address is bound as asked
    /// for, which the fence then refuses.
    fn bound(&self, notification: &Notification) -> Result<Outcome, Errno> {
        let [fd, address, length, ..] = notification.args;
        let Destination::Inet(at) = destination(notification.thread, address, length)? else {
            return Ok(Outcome::GoOn);
        };
        let Some(port) = self.ports.iter().find(|port| port.is_at(at)) else {
            return Ok(Outcome::GoOn);
        };
        let socket = port
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
        tracing::debug!(%at, "a published port");
        Ok(Outcome::Replace(fd as i32, socket))
    }

    pub(super) fn count_allowed(&self) {
        count(&self.counters.allowed);
    }

    pub(super) fn deny(&self, to: SocketAddr, protocol: Protocol, reason: Reason) -> Outcome {
        count(&self.counters.denied);
        tracing::debug!(%to, ?protocol, %reason, "denied");
        Outcome::Answer(Err(reason.errno(protocol)))
    }

    pub(super) fn socket(&mut self, thread: i32, fd: u64) -> Result<OwnedFd, Errno> {
        let fd = fd as i32;
        if fd < 0 {
            return Err(Errno::BADF);
        }
        self.sockets
            .duplicate(thread, fd)
            .map_err(|errno| cannot_look(errno, "its descriptors"))
    }

    fn copy_payload(&mut self, notification: &Notification) -> Result<SendFlags, Errno> {
        let [_, address, length, flags, ..] = notification.args;
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= MAX_DATAGRAM)
            .ok_or(Errno::MSGSIZE)?;
        self.payload.resize(length, 0);
        process::read_memory(notification.thread, address, &mut self.payload)
            .map_err(|errno| cannot_look(errno, "its memory"))?;
        Ok(SendFlags::from_bits_retain(flags as u32))
    }

    fn send(&mut self, socket: OwnedFd, to: SocketAddr, flags: SendFlags) -> Outcome {
        match send_now(&socket, &self.payload, flags, to) {
            Err(Errno::AGAIN) if !flags.contains(SendFlags::DONTWAIT) && is_blocking(&socket) => {
                Outcome::Park(
                    socket,
                    Call::Send {
                        to,
                        payload: self.payload.clone(),
                        flags,
                    },
                )
            }
            result => Outcome::Answer(result),
        }
    }
}

/// Reads where the call wants to go.
fn destination(thread: i32, address: u64, length: u64) -> Result<Destination, Errno> {
    // The kernel takes it for an int.
    let length = usize::try_from(length as i32).map_err(|_| Errno::INVAL)?;
    let mut bytes = [0; MAX_LENGTH];
    let bytes = bytes.get_mut(..length).ok_or(Errno::INVAL)?;
    process::read_memory(thread, address, bytes)
        .map_err(|errno| cannot_look(errno, "its memory"))?;
    match address::parse(bytes)? {
        // A Unix socket of the host's, netlink, vsock: none of a machine's business.
        Destination::Other(family) => {
            tracing::debug!(family, "refused: not IPv4 or IPv6");
            Err(Errno::ACCESS)
        }
        destination => Ok(destination),
    }
}

/// No datagram is longer, headers included.
const MAX_DATAGRAM: usize = 65_535;

/// Does the call without waiting; on a blocking socket, what would wait is parked.
pub(super) fn attempt(socket: OwnedFd, call: Call) -> Outcome {
    match call {
        Call::Connect(to) => match connect_now(&socket, to) {
            Err(Errno::INPROGRESS | Errno::ALREADY) if is_blocking(&socket) => {
                Outcome::Park(socket, Call::Connect(to))
            }
            result => Outcome::Answer(result.map(|()| 0)),
        },
        Call::Send { to, payload, flags } => match send_now(&socket, &payload, flags, to) {
            Err(Errno::AGAIN) => Outcome::Park(socket, Call::Send { to, payload, flags }),
            result => Outcome::Answer(result),
        },
    }
}

/// Connects without waiting. Whether a socket blocks is a property that both processes share; it is changed for the
/// length of the call, while the caller sits in this very call.
fn connect_now(socket: &OwnedFd, to: SocketAddr) -> Result<(), Errno> {
    let flags = fcntl_getfl(socket)?;
    if flags.contains(OFlags::NONBLOCK) {
        return rustix::net::connect(socket, &to);
    }
    fcntl_setfl(socket, flags | OFlags::NONBLOCK)?;
    let result = rustix::net::connect(socket, &to);
    fcntl_setfl(socket, flags)?;
    result
}

fn send_now(
    socket: &OwnedFd,
    payload: &[u8],
    flags: SendFlags,
    to: SocketAddr,
) -> Result<u64, Errno> {
    // The buffer is used again at once, so not MSG_ZEROCOPY; and no signal for the supervisor.
    let kept = flags & (SendFlags::CONFIRM | SendFlags::DONTROUTE | SendFlags::MORE);
    let sent = rustix::net::sendto(
        socket,
        payload,
        kept | SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        &to,
    )?;
    Ok(sent as u64)
}

pub(super) fn is_blocking(socket: &OwnedFd) -> bool {
    fcntl_getfl(socket).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK))
}

/// What the socket speaks. Other than TCP, UDP and ICMP there is nothing that libslirp opens.
fn protocol(socket: &OwnedFd) -> Result<Protocol, Errno> {
    let domain = sockopt::socket_domain(socket)?;
    if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
        return Err(Errno::AFNOSUPPORT);
    }
    match (
        sockopt::socket_type(socket)?,
        sockopt::socket_protocol(socket)?,
    ) {
        (SocketType::STREAM, Some(ipproto::TCP)) => Ok(Protocol::Tcp),
        (SocketType::DGRAM, Some(ipproto::UDP)) => Ok(Protocol::Udp),
        (SocketType::DGRAM, Some(ipproto::ICMP | ipproto::ICMPV6)) => Ok(Protocol::Icmp),
        (kind, protocol) => {
            tracing::debug!(?kind, ?protocol, "refused: not TCP, UDP or ICMP");
            Err(Errno::ACCESS)
        }
    }
}

/// Says it once more than in the errno: a host that forbids to look makes every call fail.
pub(super) fn cannot_look(errno: Errno, what: &str) -> Errno {
    if matches!(errno, Errno::PERM | Errno::NOSYS) {
        tracing::warn!(%errno, "refused: the host does not let the network guard see {what}");
        return Errno::ACCESS;
    }
    errno
}
