//! A QEMU process from launch to exit.
//!
//! ```text
//! Launch ─ spawn ─ QMP greeting ─┬─ Boot: runs from its first instruction
//!                                └─ Load: changed memory ─ migrate-incoming ─ RESUME
//!        ─▶ Hypervisor: pause, resume, branch, notices ─▶ Exit
//! ```

use crate::args;
use crate::disk::{self, Layer, Maker};
use crate::egress::{Allow, Gate, Journal};
use crate::error::{BranchError, LaunchError, QmpError};
use crate::fence::{self, Memory};
use crate::frozen::{self, Frozen};
use crate::host::{DeviceState, Qemu};
use crate::log::{self, Keeper, Kept, Log};
use crate::memory::{GuestMemory, Method};
use crate::netguard::{self, MemoryFile, Watch};
use crate::opened::Opened;
use crate::qmp::{Event, Qmp};
use crate::shape::Shape;
use crate::spawn::{self, BeforeExec, Child, Pass};
use qapi::qmp;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use vmint_confine::{ConfineError, Fence, User};
use vmint_model::{Accelerator, Confine, Confinement, Link, Publish};

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
    /// Ports to open on the host's loopback.
    pub publish: &'a [Publish],
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
}

/// A running QEMU. Killed when dropped.
#[derive(Debug)]
pub struct Hypervisor {
    child: Child,
    qmp: Arc<Qmp>,
    events: mpsc::Receiver<Event>,
    agent: Option<UnixStream>,
    ram: PathBuf,
    folder: Option<PathBuf>,
    layers: usize,
    top: String,
    maker: Maker,
    confinement: Confinement,
    /// The number of the next set of descriptors that QEMU is given.
    next_set: u64,
    device_state: DeviceState,
    logs: Logs,
}

/// What a hypervisor and its guest say, and who keeps it.
#[derive(Debug)]
struct Logs {
    console: Kept,
    stderr: Kept,
    /// The path of the latter.
    path: PathBuf,
    keeper: Keeper,
    /// Under an allow list.
    network: Option<Journal>,
}

impl Logs {
    /// Logs, and the writing ends of the console's pipe and of that of QEMU's standard error.
    fn begin(console: &Path, stderr: &Path) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let open = |path, size| Log::open(path, size).map(|log| Arc::new(Mutex::new(log)));
        let (kept_console, kept_stderr) =
            (open(console, log::CONSOLE)?, open(stderr, log::PROGRAM)?);
        let (console_in, console_out) = log::pipe()?;
        let (stderr_in, stderr_out) = log::pipe()?;
        let keeper = log::keep(vec![
            (console_in, kept_console.clone()),
            (stderr_in, kept_stderr.clone()),
        ])?;
        let logs = Self {
            console: kept_console,
            stderr: kept_stderr,
            path: stderr.to_owned(),
            keeper,
            network: None,
        };
        Ok((logs, console_out, stderr_out))
    }

    /// The end of what QEMU said, which is dead.
    async fn last_words(&self) -> String {
        self.keeper.done().await;
        log::tail(&self.path)
    }
}

/// Something that a hypervisor did on its own.
#[derive(Debug)]
pub enum Notice {
    /// An event.
    Event(Event),
    /// It ended.
    Exited(Exit),
}

/// How a hypervisor ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Its status.
    pub status: ExitStatus,
    /// The end of what it said.
    pub stderr: String,
}

/// What a branch cost.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    /// How long the guest stood still.
    pub pause: Duration,
    /// Bytes of memory that differ from the RAM file.
    pub changed: u64,
    /// How they were found; absent when all of memory was saved.
    pub method: Option<Method>,
    /// Number of disk layers that belong to the branch.
    pub layers: usize,
}

/// How to save memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    /// What differs from the RAM file; all of it where this QEMU cannot.
    Changed,
    /// All of it.
    Full,
}

/// What the guest does after a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It goes on.
    Run,
    /// It stands still, as it did before.
    StayPaused,
}

impl Launch<'_> {
    /// Starts QEMU, and returns when the guest runs. Every answer of QEMU has `deadline` to come.
    pub async fn run(self, deadline: Duration) -> Result<Hypervisor, LaunchError> {
        let mut hypervisor = self.start_only(deadline).await?;
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
        let before_exec = before_exec(guard_hook, self.user.cloned(), fence);
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
            let guard = handover.supervise_with(memory, gate);
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

    /// The whole command line.
    fn arguments(&self, opened: Option<&Opened>) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["-name".into(), self.name.into()];
        all.extend(args::hardware(self.shape).into_iter().map(Into::into));
        all.extend(args::memory(
            self.shape,
            self.ram,
            matches!(self.start, Start::BootShared(_)),
        ));
        all.extend(args::channels().into_iter().map(Into::into));
        all.extend(opened.into_iter().flat_map(Opened::sets));
        all.extend(args::disk(opened.map_or(self.layers, |o| &o.layers)));
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
        let low = self.publish.iter().find(|p| (1..1024).contains(&p.host));
        if let Some(port) = low {
            return Err(LaunchError::LowPort { port: port.host });
        }
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
        let watch = match (self.shape.net, memory, self.allow) {
            (Link::None, None, _) => return Ok((None, None)),
            (Link::None, Some(_), _) => Watch::Memory,
            (Link::Nat, None, None) => Watch::Network,
            (Link::Nat, Some(_), None) => Watch::Both,
            (Link::Nat, None, Some(_)) => Watch::Peers,
            (Link::Nat, Some(_), Some(_)) => Watch::PeersAndMemory,
        };
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

async fn exited(child: &mut Child, logs: &Logs) -> LaunchError {
    let status = match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => "it hung up, but lives".into(),
    };
    LaunchError::Exited {
        status,
        stderr: logs.last_words().await,
    }
}

impl Hypervisor {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its QMP connection.
    pub fn qmp(&self) -> &Arc<Qmp> {
        &self.qmp
    }

    /// How it is fenced in.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// The connection to the guest's agent; it can be taken once.
    pub fn take_agent(&mut self) -> Option<UnixStream> {
        self.agent.take()
    }

    /// Shows its logs at these paths too, in the place of what is there.
    pub fn show_logs(&self, console: &Path, stderr: &Path, network: &Path) -> io::Result<()> {
        if let Some(journal) = &self.logs.network {
            journal.show_at(network)?;
        }
        for (kept, path) in [(&self.logs.console, console), (&self.logs.stderr, stderr)] {
            let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
            log.show_at(path)?;
        }
        Ok(())
    }

    /// Leaves those paths to another hypervisor.
    pub fn show_logs_no_more(&self) {
        if let Some(journal) = &self.logs.network {
            journal.show_no_more();
        }
        for kept in [&self.logs.console, &self.logs.stderr] {
            let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
            log.show_no_more();
        }
    }

    /// Stops the guest's processors.
    pub async fn pause(&self) -> Result<(), QmpError> {
        self.qmp.execute(qmp::stop {}).await.map(drop)
    }

    /// Lets the guest's processors go on.
    pub async fn resume(&self) -> Result<(), QmpError> {
        self.qmp.execute(qmp::cont {}).await.map(drop)
    }

    /// The next thing that QEMU does on its own. Can be cancelled.
    pub async fn notice(&mut self) -> io::Result<Notice> {
        let status = tokio::select! {
            biased;
            Some(event) = self.events.recv() => return Ok(Notice::Event(event)),
            status = self.child.wait() => status?,
        };
        let stderr = self.logs.last_words().await;
        Ok(Notice::Exited(Exit { status, stderr }))
    }

    /// Kills it, and does not wait: whoever kills it has better to do. When this returns, the guest executes nothing any
    /// more: the kernel interrupts the processors that run its threads, and none of them leaves the kernel again.
    ///
    /// To give back its memory takes the kernel milliseconds of a processor. That is done by its own dying threads, so
    /// they are put behind everybody else first.
    pub fn abandon(&self) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        for thread in threads.into_iter().flatten().flatten() {
            let id = thread.file_name().to_string_lossy().parse().ok();
            if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
                // Only for speed.
                let _ = rustix::process::setpriority_process(Some(id), 19);
            }
        }
        self.child.kill();
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill();
        self.child.wait().await.map(drop)
    }

    /// Loads what was frozen, and waits until the guest runs.
    async fn load(&mut self, frozen: &Frozen, deadline: Duration) -> Result<(), LaunchError> {
        if let Some(path) = frozen.delta() {
            let mut delta = File::open(&path).map_err(|source| LaunchError::Io { path, source })?;
            let memory = GuestMemory::of(self.pid(), &self.ram).map_err(LaunchError::Memory)?;
            memory.load(&mut delta).map_err(LaunchError::Memory)?;
        }
        // The answer says that loading has begun. The guest runs when RESUME comes; QEMU ends when loading fails.
        let uri = serde_json::json!({ "uri": format!("fd:{}", args::FD_STATE) });
        match self.qmp.execute_raw("migrate-incoming", uri).await {
            Ok(_) => {}
            Err(QmpError::Closed { .. } | QmpError::Io(_)) => {
                return Err(exited(&mut self.child, &self.logs).await);
            }
            Err(e) => return Err(e.into()),
        }
        let end = tokio::time::Instant::now() + deadline;
        if frozen.manifest().full {
            // A full save remembers that the guest stood still, so QEMU does not let it go on by itself.
            self.wait_loaded(end).await?;
            self.qmp.execute(qmp::cont {}).await?;
        }
        loop {
            match tokio::time::timeout_at(end, self.notice()).await {
                Ok(Ok(Notice::Event(Event::Resume))) => return Ok(()),
                Ok(Ok(Notice::Event(_))) => {}
                Ok(Ok(Notice::Exited(exit))) => {
                    return Err(LaunchError::Exited {
                        status: exit.status.to_string(),
                        stderr: exit.stderr,
                    });
                }
                Ok(Err(source)) => return Err(LaunchError::Memory(source)),
                Err(_) => {
                    let status = self
                        .qmp
                        .execute_raw("query-status", serde_json::json!({}))
                        .await;
                    let status = status.map_or_else(|e| e.to_string(), |s| s["status"].to_string());
                    return Err(LaunchError::Load {
                        after: deadline,
                        status,
                    });
                }
            }
        }
    }

    /// Waits until a full save is loaded. There is no event for it without a capability, so this asks, ever less often.
    async fn wait_loaded(&mut self, end: tokio::time::Instant) -> Result<(), LaunchError> {
        let began = tokio::time::Instant::now();
        let mut wait = Duration::from_millis(1);
        loop {
            let status = match self
                .qmp
                .execute_raw("query-status", serde_json::json!({}))
                .await
            {
                Ok(status) => status["status"].as_str().unwrap_or_default().to_owned(),
                Err(QmpError::Closed { .. } | QmpError::Io(_)) => {
                    return Err(exited(&mut self.child, &self.logs).await);
                }
                Err(e) => return Err(e.into()),
            };
            if status != "inmigrate" {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                return Err(LaunchError::Load {
                    after: end - began,
                    status,
                });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(50));
        }
    }

    /// Freezes the guest at this moment into `into`, an empty folder, and lets it go on. Writes `ram` (a link),
    /// `state`, `delta` and the disk's layers (links); not the manifest.
    ///
    /// Memory and disk are of one instant: the guest stands still while its device state and changed pages are
    /// written and a new layer is put on its disk.
    pub async fn branch(
        &mut self,
        into: &Path,
        save: Save,
        afterwards: Afterwards,
    ) -> Result<Branch, BranchError> {
        let from = self.ram.parent().unwrap_or(Path::new("/"));
        frozen::link(from, into, Frozen::RAM)?;
        let overlay = self.add_overlay().await?;
        let began = Instant::now();
        self.pause().await?;
        let frozen = self.freeze_paused(into, save, overlay.as_deref()).await;
        // Whatever happened, the guest must not be left standing still.
        if afterwards == Afterwards::Run {
            self.resume().await?;
        }
        let pause = began.elapsed();
        let (changed, method) = frozen?;
        let layers = match &self.folder {
            None => 0,
            Some(folder) => {
                let own = self.layers - 1;
                for n in 0..own {
                    let name = disk::layer_name(n);
                    std::fs::hard_link(folder.join(&name), into.join(&name)).map_err(|source| {
                        BranchError::Io {
                            path: into.join(&name),
                            source,
                        }
                    })?;
                }
                self.maker.create(into, disk::BLANK, own - 1).await?;
                own
            }
        };
        Ok(Branch {
            pause,
            changed,
            method,
            layers,
        })
    }

    /// Prepares an empty layer for the disk, if there is one, and returns its node.
    async fn add_overlay(&mut self) -> Result<Option<String>, BranchError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(None);
        };
        let n = self.layers;
        self.maker
            .create(&folder, &disk::layer_name(n), n - 1)
            .await?;
        let layers = disk::layers(&folder);
        let [mut file, mut format] = args::blockdev(&layers, n, true);
        // The layer below becomes its backing file when the snapshot is taken, not before.
        format["backing"] = serde_json::Value::Null;
        format["node-name"] = format!("overlay{n}").into();
        file["node-name"] = format!("overlay-file{n}").into();
        format["file"] = file["node-name"].clone();
        // For reading alone, too: it will be opened so when the next layer is put on it.
        let mut read = File::options();
        let mut write = File::options();
        let how = [read.read(true), write.read(true).write(true)];
        file["filename"] = self.hand_over(&layers[n].path, how).await?.into();
        self.qmp.execute_raw("blockdev-add", file).await?;
        self.qmp.execute_raw("blockdev-add", format).await?;
        Ok(Some(format!("overlay{n}")))
    }

    /// Opens a file for QEMU, in each of these ways, and returns the name by which QEMU opens it: the fence keeps it from the
    /// file itself.
    async fn hand_over<const N: usize>(
        &mut self,
        path: &Path,
        ways: [&mut OpenOptions; N],
    ) -> Result<String, BranchError> {
        let set = self.next_set;
        self.next_set += 1;
        for way in ways {
            let opened = way.open(path).map_err(|source| BranchError::Io {
                path: path.to_owned(),
                source,
            })?;
            self.qmp.add_descriptor(set, opened.as_fd()).await?;
        }
        Ok(format!("/dev/fdset/{set}"))
    }

    /// Saves the devices' state without memory. That this QEMU can do it was found out before, so a failure is a failure.
    async fn save_devices(&mut self, state: &Path) -> Result<(), BranchError> {
        let mut new = File::options();
        let new = new.write(true).create(true).truncate(true);
        let filename = self.hand_over(state, [new]).await?;
        let live = Some(true);
        let save = qmp::xen_save_devices_state { filename, live };
        match self.qmp.execute(save).await {
            Ok(_) => Ok(()),
            Err(e) => Err(explained(e, state)),
        }
    }

    async fn freeze_paused(
        &mut self,
        into: &Path,
        save: Save,
        overlay: Option<&str>,
    ) -> Result<(u64, Option<Method>), BranchError> {
        let state = into.join(Frozen::STATE);
        let saved = match (save, self.device_state) {
            (Save::Changed, DeviceState::Alone) => {
                self.save_devices(&state).await?;
                Some(self.save_changed(into)?)
            }
            (Save::Full, _) | (_, DeviceState::WithMemory) => {
                self.save_all(&state).await?;
                None
            }
        };
        if let Some(overlay) = overlay {
            let arguments = serde_json::json!({ "node": self.top, "overlay": overlay });
            self.qmp.execute_raw("blockdev-snapshot", arguments).await?;
            overlay.clone_into(&mut self.top);
            self.layers += 1;
        }
        Ok(saved.map_or((0, None), |(changed, method)| (changed, Some(method))))
    }

    fn save_changed(&self, into: &Path) -> Result<(u64, Method), BranchError> {
        let memory = GuestMemory::of(self.pid(), &self.ram).map_err(BranchError::Memory)?;
        let (runs, method) = memory.changed().map_err(BranchError::Memory)?;
        let path = into.join(Frozen::DELTA);
        let fail = |source| BranchError::Io {
            path: path.clone(),
            source,
        };
        let mut delta = File::options()
            .create_new(true)
            .write(true)
            .read(true)
            .open(&path)
            .map_err(fail)?;
        let bytes = memory.save(&runs, &mut delta).map_err(fail)?;
        Ok((bytes, method))
    }

    /// Saves device state and all of memory by an ordinary migration, into a descriptor since QEMU may start nothing.
    async fn save_all(&self, state: &Path) -> Result<(), BranchError> {
        let fail = |source| BranchError::Io {
            path: state.to_owned(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(state)
            .map_err(fail)?;
        self.qmp.give_descriptor("state", file.as_fd()).await?;
        self.qmp
            .execute_raw("migrate", serde_json::json!({ "uri": "fd:state" }))
            .await?;
        // QEMU offers an event only with a capability that its forks would have to share; so ask, ever less often.
        let mut wait = Duration::from_millis(2);
        loop {
            let status = self
                .qmp
                .execute_raw("query-migrate", serde_json::json!({}))
                .await?;
            match status["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let description = status["error-desc"]
                        .as_str()
                        .unwrap_or("no reason given")
                        .to_owned();
                    let (command, class) = ("migrate".to_owned(), "GenericError".to_owned());
                    let refused = QmpError::Refused {
                        command,
                        class,
                        description,
                    };
                    return Err(explained(refused, state));
                }
                _ => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(Duration::from_millis(50));
        }
    }

    /// Freezes a guest whose memory is shared with its file, for ever: writes `state`, and ends QEMU.
    pub async fn freeze(mut self, into: &Path) -> Result<Duration, BranchError> {
        let began = Instant::now();
        self.pause().await?;
        let state = into.join(Frozen::STATE);
        match self.device_state {
            DeviceState::Alone => self.save_devices(&state).await?,
            DeviceState::WithMemory => self.save_all(&state).await?,
        }
        let elapsed = began.elapsed();
        self.kill().await.map_err(|source| BranchError::Io {
            path: state,
            source,
        })?;
        Ok(elapsed)
    }
}

/// QEMU says “an IO error has occurred” of a disk that is full. Whether a file can be written there tells more.
fn explained(refused: QmpError, state: &Path) -> BranchError {
    if !matches!(refused, QmpError::Refused { .. }) {
        return refused.into();
    }
    // What QEMU has written of the state stays while this is tried, so there is no more room than there was for it.
    let trial = state.with_extension("trial");
    let written = std::fs::write(&trial, vec![1; 1 << 20]);
    let _ = std::fs::remove_file(&trial);
    match written {
        Ok(()) => refused.into(),
        Err(source) => BranchError::Io {
            path: state.to_owned(),
            source,
        },
    }
}
