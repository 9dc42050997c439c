//! From what QEMU is to be to a QEMU that answers: its arguments, descriptors, fence, guard and first words.

use super::{Hypervisor, Logs};
use crate::args;
use crate::disk::{Cache, Layer, Maker};
use crate::egress::{Allow, Gate};
use crate::error::{LaunchError, QmpError};
use crate::fence::{self, Memory};
use crate::frozen::Frozen;
use crate::host::Qemu;
use crate::listen::Port;
use crate::netguard::{self, MemoryFile, Watch};
use crate::opened::Opened;
use crate::platform::{self, Platform};
use crate::qmp::{Event, Qmp};
use crate::shape::Shape;
use crate::spawn::{self, BeforeExec, Child, Pass};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use vmint_confine::{ConfineError, Fence, Group, User};
use vmint_model::{Accelerator, Confine, Confinement, Link};

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
}

/// A machine's first moment.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// A boot whose memory becomes a template's.
    BootShared(&'a Boot),
    /// A boot with memory of its own.
    Boot(&'a Boot),
    /// A moment that was frozen.
    Load(&'a Frozen),
}

/// What holds a hypervisor from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// The control group that it is in.
    pub group: Option<&'a Group>,
    /// Bytes that a file which it writes may grow to: the uppermost layer of its disk.
    pub file: Option<u64>,
}

/// A hypervisor to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The program.
    pub qemu: &'a Qemu,
    /// The hardware.
    pub shape: &'a Shape,
    /// The process's name in `ps`.
    pub name: &'a str,
    /// The first moment.
    pub start: Start<'a>,
    /// The file that memory is mapped from.
    pub ram: &'a Path,
    /// The disk's layers; the last is written.
    pub layers: &'a [Layer],
    /// Ports that are open on the host's loopback.
    pub publish: &'a [Port],
    /// Whether what the guest has its disk written to reaches the host's.
    pub cache: Cache,
    /// The console's log; gone on with.
    pub console: &'a Path,
    /// The log of QEMU's standard error; gone on with.
    pub log: &'a Path,
    /// How strictly QEMU is to be fenced in.
    pub confine: Confine,
    /// Whom it shall run as, if not as this process's user.
    pub user: Option<&'a User>,
    /// What of its network it may reach; all of it when absent.
    pub allow: Option<Allow<'a>>,
    /// What holds it from outside.
    pub held: Held<'a>,
}

impl Launch<'_> {
    /// Starts QEMU, and returns when the guest runs. Every answer of QEMU has `deadline` to come.
    pub async fn run(self, deadline: Duration) -> Result<Hypervisor, LaunchError> {
        let mut hypervisor = Box::pin(self.start_only(deadline)).await?;
        if let Start::Load(frozen) = self.start {
            hypervisor.load(frozen, deadline).await?;
        }
        Ok(hypervisor)
    }

    /// Starts QEMU, and returns when QMP answers; loads nothing. What a fork cannot cost less than.
    pub async fn start_only(self, deadline: Duration) -> Result<Hypervisor, LaunchError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| LaunchError::Io { path, source }
        };
        let (qmp, qmp_theirs) = StdUnixStream::pair().map_err(io_error(Path::new("a socket")))?;
        let (agent, agent_theirs) =
            StdUnixStream::pair().map_err(io_error(Path::new("a socket")))?;
        let mut fds = vec![
            Pass {
                fd: qmp_theirs.into(),
                number: args::FD_QMP,
            },
            Pass {
                fd: agent_theirs.into(),
                number: args::FD_AGENT,
            },
        ];
        if let Start::Load(frozen) = self.start {
            let state = File::open(frozen.state()).map_err(io_error(&frozen.state()))?;
            fds.push(Pass {
                fd: state.into(),
                number: args::FD_STATE,
            });
        }
        let begun = Logs::begin(self.console, self.log);
        let (mut logs, console, stderr) = begun.map_err(io_error(self.log))?;
        fds.push(Pass {
            fd: console,
            number: args::FD_CONSOLE,
        });
        let opened = self.user.map(|_| self.open_all()).transpose()?;
        let mut command = vmint_spawn::command(&self.qemu.system);
        command
            .args(self.arguments(opened.as_ref()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(stderr));
        // What QEMU has no use for, it does not get. One arena: its threads allocate little, and each arena more is
        // memory for every fork.
        command.env_clear().env("MALLOC_ARENA_MAX", "1");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let next_set = opened
            .as_ref()
            .map_or(args::SET_CONSOLE + 1, |o| o.next_set);
        fds.extend(opened.into_iter().flat_map(|opened| opened.fds));
        let memory = self.memory_file()?;
        let how = memory
            .as_ref()
            .map_or(Memory::Opened, |_| Memory::HandedOver);
        let fence = Fence::build(&fence::rules(&self, how), self.confine)?;
        let confinement = fence
            .as_ref()
            .map_or(Confinement::OFF, |fence| Confinement {
                // What boots has a file of its own.
                memory: memory.is_some() || !matches!(self.start, Start::Load(_)),
                ..fence.level()
            });
        if self.confine == Confine::Require && !confinement.memory {
            let what = "the memory that forks share (seccomp user notification, from Linux 5.9)";
            return Err(ConfineError::Missing { what }.into());
        }
        let (guard_hook, guard) = self.guard(memory.as_ref()).map_err(LaunchError::Guard)?;
        let entrance = self.held.group.map(Group::entrance).transpose();
        let entrance = entrance.map_err(io_error(Path::new("a control group")))?;
        let fence_in = before_exec(guard_hook, self.user.cloned(), fence);
        let before_exec = hold(entrance, self.held.file, fence_in);
        let spawned = spawn::spawn(command, fds, before_exec).await;
        let mut child = spawned.map_err(|source| LaunchError::Spawn {
            program: self.qemu.system.clone(),
            source,
        })?;
        if let Some(handover) = guard {
            let gate = self.allow.map(Gate::open).transpose();
            let gate = gate.map_err(LaunchError::Guard)?;
            logs.network = gate.as_ref().map(|gate| gate.journal().clone());
            // Its thread ends with QEMU.
            let guard = handover.supervise_with(memory, gate, self.publish.to_vec());
            guard.map_err(LaunchError::Guard)?;
        }
        let connected = connect(qmp, deadline).await;
        let (qmp, events) = match connected {
            Ok(connected) => connected,
            // It ended before it spoke: its last words say more than the broken connection.
            Err(QmpError::Closed { .. } | QmpError::Io(_)) => {
                return Err(exited(&mut child, &logs).await);
            }
            Err(e) => return Err(e.into()),
        };
        agent
            .set_nonblocking(true)
            .map_err(io_error(Path::new("a socket")))?;
        let agent = UnixStream::from_std(agent).map_err(io_error(Path::new("a socket")))?;
        Ok(Hypervisor {
            child,
            qmp: Arc::new(qmp),
            events,
            agent: Some(agent),
            ram: self.ram.to_owned(),
            ram_stamp: match self.start {
                Start::Load(frozen) => frozen.ram_stamp(),
                Start::Boot(_) | Start::BootShared(_) => None,
            },
            cache: self.cache,
            folder: self
                .layers
                .last()
                .and_then(|l| l.path.parent())
                .map(Path::to_owned),
            layers: self.layers.len(),
            top: "disk".into(),
            maker: Maker {
                program: self.qemu.img.clone(),
                confine: self.confine,
            },
            device_state: self.qemu.device_state,
            logs,
            confinement,
            next_set,
        })
    }

    /// What the guest sees of this QEMU: what it has seen of another one, if it was frozen.
    fn platform(&self) -> Platform {
        let seen = match self.start {
            Start::Load(frozen) => Platform::of(frozen.manifest()),
            Start::Boot(_) | Start::BootShared(_) => None,
        };
        seen.unwrap_or_else(|| Platform {
            board: self.qemu.board.clone(),
            features: platform::baseline(&self.qemu.features),
            panic: self.qemu.panic,
        })
    }

    /// The whole command line.
    fn arguments(&self, opened: Option<&Opened>) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["-name".into(), self.name.into()];
        let platform = self.platform();
        let hidden = match self.shape.accelerator {
            Accelerator::Tcg => platform.hidden(&self.qemu.features),
            Accelerator::Kvm => Vec::new(),
        };
        let hardware = args::hardware(self.shape, &platform.board, &hidden);
        all.extend(hardware.into_iter().map(Into::into));
        all.extend(args::panic(platform.panic).into_iter().map(Into::into));
        if self.held.file.is_some() && self.shape.disk {
            // It stands still, as on a full disk of the host, instead of telling the guest of a broken disk.
            all.extend(["-global".into(), "virtio-blk-device.werror=stop".into()]);
        }
        let writes = match self.start {
            Start::BootShared(_) => args::Writes::ToFile,
            _ => args::Writes::Private,
        };
        all.extend(args::memory(self.shape, self.ram, writes));
        all.extend(args::channels().into_iter().map(Into::into));
        all.extend(opened.into_iter().flat_map(Opened::sets));
        let layers = opened.map_or(self.layers, |o| &o.layers);
        all.extend(args::disk(layers, self.cache));
        all.extend(
            args::network(self.shape, self.publish)
                .into_iter()
                .map(Into::into),
        );
        all.extend(args::sandbox().into_iter().map(Into::into));
        match self.start {
            Start::Boot(boot) | Start::BootShared(boot) => {
                let (kernel, initramfs) = opened
                    .and_then(|o| o.boot.as_ref())
                    .map_or((&boot.kernel, &boot.initramfs), |(k, i)| (k, i));
                all.extend(args::boot(kernel, initramfs, &boot.cmdline));
            }
            Start::Load(_) => all.extend(args::incoming().into_iter().map(Into::into)),
        }
        all
    }

    /// Opens what a QEMU of another user cannot open.
    fn open_all(&self) -> Result<Opened, LaunchError> {
        Opened::of(self).map_err(|(path, source)| LaunchError::Io { path, source })
    }

    /// The files of memory that QEMU does not open itself: a fork's, which it shares with all other forks, so that it gets it for
    /// reading alone; and, when it is another user's, whatever it would open for reading and writing.
    fn memory_file(&self) -> Result<Option<MemoryFile>, LaunchError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LaunchError::Io { path, source }
        };
        if self.user.is_some() {
            if !netguard::usable() {
                let what = "a QEMU of another user (seccomp user notification, from Linux 5.9)";
                return Err(ConfineError::Missing { what }.into());
            }
            let shared = matches!(self.start, Start::BootShared(_));
            let ram = File::options().read(true).write(shared).open(self.ram);
            let files = MemoryFile::opened(self.ram, ram.map_err(failed(self.ram))?);
            if self.shape.accelerator != Accelerator::Kvm {
                return Ok(Some(files));
            }
            let device = Path::new("/dev/kvm");
            let kvm = File::options().read(true).write(true).open(device);
            return Ok(Some(files.also(device, kvm.map_err(failed(device))?)));
        }
        let shared = matches!(self.start, Start::Load(_));
        let opened = (shared && fence::hands_memory_over(self.confine))
            .then(|| MemoryFile::open(self.ram))
            .transpose();
        opened.map_err(failed(self.ram))
    }

    /// The guard, if there is something to watch.
    fn guard(
        &self,
        memory: Option<&MemoryFile>,
    ) -> io::Result<(Option<BeforeExec>, Option<netguard::Handover>)> {
        let mut watch = match (self.shape.net, self.allow) {
            (Link::None, _) => Watch::NOTHING,
            (Link::Nat, None) => Watch::NETWORK,
            (Link::Nat, Some(_)) => Watch::NETWORK.and_senders(),
        };
        if self.shape.net == Link::Nat && !self.publish.is_empty() {
            watch = watch.and_ports();
        }
        if memory.is_some() {
            watch = watch.and_memory();
        }
        if watch == Watch::NOTHING {
            return Ok((None, None));
        }
        let (hook, handover) = netguard::before_exec(watch)?;
        Ok((Some(Box::new(hook)), Some(handover)))
    }
}

/// What the child runs before QEMU. The guard's hook hands a descriptor over, which needs a socket, and so comes before the
/// fence; and to become another user takes capabilities, which the fence takes away.
fn before_exec(
    mut guard: Option<BeforeExec>,
    user: Option<User>,
    mut fence: Option<Fence>,
) -> Option<BeforeExec> {
    if guard.is_none() && fence.is_none() && user.is_none() {
        return None;
    }
    let parent = std::process::id();
    Some(Box::new(move || {
        guard.as_mut().map_or(Ok(()), |hook| hook())?;
        if let Some(user) = &user {
            user.become_it()?;
            spawn::end_with(parent)?;
        }
        fence.as_mut().map_or(Ok(()), Fence::enter)
    }))
}

/// What the child does first: it comes to be held from outside.
fn hold(
    mut entrance: Option<impl FnMut() -> io::Result<()> + Send + Sync + 'static>,
    file: Option<u64>,
    mut then: Option<BeforeExec>,
) -> Option<BeforeExec> {
    if entrance.is_none() && file.is_none() {
        return then;
    }
    Some(Box::new(move || {
        entrance.as_mut().map_or(Ok(()), |enter| enter())?;
        file.map_or(Ok(()), limit_files)?;
        then.as_mut().map_or(Ok(()), |hook| hook())
    }))
}

/// Limits the size of each file that the calling process writes. A write beyond it fails, and does not kill. Async-signal-safe.
fn limit_files(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: `limit` outlives the call; to ignore a signal takes no handler.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) != 0
            || libc::signal(libc::SIGXFSZ, libc::SIG_IGN) == libc::SIG_ERR
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

async fn connect(
    socket: StdUnixStream,
    deadline: Duration,
) -> Result<(Qmp, mpsc::Receiver<Event>), QmpError> {
    socket.set_nonblocking(true).map_err(QmpError::Io)?;
    Qmp::connect(
        UnixStream::from_std(socket).map_err(QmpError::Io)?,
        deadline,
    )
    .await
}

/// Why a QEMU that has ended did.
pub(super) async fn exited(child: &mut Child, logs: &Logs) -> LaunchError {
    let status = match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => "it hung up, but lives".into(),
    };
    LaunchError::Exited {
        status,
        stderr: logs.last_words().await.0,
    }
}
