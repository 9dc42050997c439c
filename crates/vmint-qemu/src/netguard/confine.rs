//! From a [`Command`] to a supervised child.

use super::filter::{Program, Watch, install};
use super::host::LiveHost;
use super::notify::Listener;
use super::policy::Policy;
use super::supervisor::{Guard, MemoryFile};
use crate::egress::Gate;
use crate::listen::Port;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the child hands over its listener.
#[derive(Debug)]
pub struct Handover {
    parent: OwnedFd,
}

/// Above the numbers at which a child is given its descriptors: a hook that puts them there must not close this one.
const ABOVE_GIVEN: i32 = 128;

/// For one spawn: what the child runs between fork and exec, and where its listener then is. The hook belongs into
/// [`CommandExt::pre_exec`] and is async-signal-safe; run anywhere else, it confines whoever runs it.
pub fn before_exec(
    watch: Watch,
) -> io::Result<(
    impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    Handover,
)> {
    let (parent, child) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&parent, true)?;
    let child = rustix::io::fcntl_dupfd_cloexec(child, ABOVE_GIVEN)?;
    let mut program = Program::new(watch);
    let hook = move || {
        // SAFETY: the closure owns `child`, so it is open; its caller confines itself on purpose.
        unsafe { install(child.as_raw_fd(), &mut program) }
    };
    Ok((hook, Handover { parent }))
}

/// Lets what `command` starts run under the filter. Afterwards, for one spawn:
///
/// ```no_run
/// use vmint_qemu::netguard::{LiveHost, Policy, confine};
///
/// let mut command = std::process::Command::new("qemu-system-x86_64");
/// let handover = confine(&mut command)?;
/// let mut child = command.spawn()?;
/// let guard = handover.receive()?.guard(Policy::new(LiveHost::new()))?;
/// child.wait()?;
/// println!("{:?}", guard.wait());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The spawn fails with the error of [`install`]. Between the spawn and the guard the child's connects wait.
pub fn confine(command: &mut Command) -> io::Result<Handover> {
    confine_to(command, Watch::NETWORK)
}

/// The same, watched for more.
pub fn confine_to(command: &mut Command, watch: Watch) -> io::Result<Handover> {
    let (hook, handover) = before_exec(watch)?;
    // SAFETY: the hook is async-signal-safe: three system calls and some writes to its own stack.
    unsafe { command.pre_exec(hook) };
    Ok(handover)
}

impl Handover {
    /// The listener of the child. To be called when `spawn` has returned; it does not wait.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing was spawned.
    pub fn receive(self) -> io::Result<Listener> {
        Listener::receive(self.parent)
    }

    /// Receives the listener and serves it by the policy for machines on this host.
    pub fn supervise(self) -> io::Result<Guard> {
        supervise(self.parent)
    }

    /// Like [`supervise`](Self::supervise), and whoever binds one of these ports gets the socket that listens there. Nobody listens
    /// anywhere else. The child must have been started to be watched for ports.
    pub fn supervise_ports(self, ports: Vec<Port>) -> io::Result<Guard> {
        self.supervise_with(None, None, ports)
    }

    /// Like [`supervise`](Self::supervise), and whoever opens this file to read and write it gets it for reading alone; under an
    /// allow list, its gate decides what may be reached beyond the host; and whoever binds one of these ports gets its socket.
    pub(crate) fn supervise_with(
        self,
        memory: Option<MemoryFile>,
        gate: Option<Gate>,
        ports: Vec<Port>,
    ) -> io::Result<Guard> {
        let listener = Listener::receive(self.parent)?;
        listener.guard_with(Policy::new(LiveHost::new()), memory, gate, ports)
    }
}

/// Receives what [`install`] sent to the other end of `sock`, and serves it by the policy for machines on this host.
pub fn supervise(sock: impl AsFd) -> io::Result<Guard> {
    Listener::receive(sock)?.guard(Policy::new(LiveHost::new()))
}
