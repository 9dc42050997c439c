//! A QEMU process from launch to exit.
//!
//! ```text
//! Launch ─ spawn ─ QMP greeting ─┬─ Boot: runs from its first instruction
//!                                └─ Load: changed memory ─ migrate-incoming ─ RESUME
//!        ─▶ Hypervisor: pause, resume, branch, notices ─▶ Exit
//! ```

mod launch;
mod logs;

pub use launch::{Boot, Held, Launch, Start};

use self::launch::exited;
use self::logs::Logs;
use crate::args;
use crate::disk::{self, Cache, Maker};
use crate::error::{BranchError, LaunchError, QmpError};
use crate::frozen::{self, FileStamp, Frozen};
use crate::host::DeviceState;
use crate::memory::{GuestMemory, Method};
use crate::qmp::{Event, Heard, Qmp};
use crate::spawn::Child;
use qapi::qmp;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use vmint_model::Confinement;

/// How long the end of a dead QEMU's connection may take to be read, on a busy host.
const LAST_EVENT: Duration = Duration::from_secs(2);

/// A running QEMU. Killed when dropped.
#[derive(Debug)]
pub struct Hypervisor {
    child: Child,
    qmp: Arc<Qmp>,
    events: mpsc::Receiver<Event>,
    agent: Option<UnixStream>,
    ram: PathBuf,
    /// What that file is, if it was frozen. One that was made for a boot is not.
    ram_stamp: Option<FileStamp>,
    cache: Cache,
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
    /// What it said of its guest's end.
    pub heard: Heard,
    /// With what words its guest ended, on the console.
    pub last_words: Option<String>,
}

/// What a branch is, and what it cost.
#[derive(Clone, Debug)]
pub struct Branch {
    /// How long the guest stood still.
    pub pause: Duration,
    /// Bytes of memory that differ from the RAM file.
    pub changed: u64,
    /// How they were found; absent when all of memory was saved.
    pub method: Option<Method>,
    /// Number of disk layers that belong to the branch.
    pub layers: usize,
    /// What the RAM file is, if that is known.
    pub ram: Option<FileStamp>,
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
        // What it said last may not have been read yet: its connection ends after that. Why a guest ended is in it.
        if let Ok(Some(event)) = tokio::time::timeout(LAST_EVENT, self.events.recv()).await {
            return Ok(Notice::Event(event));
        }
        let (stderr, last_words) = self.logs.last_words().await;
        Ok(Notice::Exited(Exit {
            status,
            stderr,
            heard: self.qmp.heard(),
            last_words,
        }))
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
            ram: self.ram_stamp.clone(),
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
        let [mut file, mut format] = args::blockdev(&layers, n, args::Place::Top, self.cache);
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
