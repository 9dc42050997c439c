//! Starting a runner: what it is told, how it is started, what it answers.
//!
//! The caller holds the machine's lock and hands it over as the runner's standard input: there is no moment at which
//! nobody holds it, so nobody takes the machine for dead. What to start stands in `start.json` in the machine's
//! folder. The runner's standard output is a pipe on which it says, once, that the machine is ready or why not. Its
//! standard error is its log. It then leaves the caller's terminal and session.

use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use vmint_model::{ErrorBody, ErrorKind, Fault, Home, MachineDir, MachineId, MachineRecord};
use vmint_qemu::{Host, Shape};
use vmint_store::FileLock;

/// What a machine starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// A fork of the frozen machine in this folder. What the machine had before is gone.
    Frozen(PathBuf),
    /// A boot. What is on the machine's disk stays.
    Boot(BootSpec),
}

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
    /// The image's disk, if it has one.
    pub disk: Option<PathBuf>,
    /// Whether the image's init must have come up before the machine is ready.
    pub settle: bool,
}

/// All that a runner is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// What executes machines here.
    pub host: Host,
    /// The machine's hardware.
    pub shape: Shape,
    /// What it starts from.
    pub from: From,
    /// Digest over what it was made from.
    pub fingerprint: String,
    /// Digest of the image.
    pub image_digest: String,
    /// How long all of it may take.
    pub deadline_ms: u64,
    /// When the caller asked, in milliseconds since 1970; `ready_ms` counts from it.
    pub asked_at_ms: f64,
    /// What the start is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// When whoever asks now asks, for [`StartRequest::asked_at_ms`].
pub fn asked_now() -> f64 {
    crate::identity::now_ns() as f64 / 1e6
}

impl StartRequest {
    const FILE: &str = "start.json";

    /// Writes it into the machine's folder.
    pub fn write(&self, dir: &MachineDir) -> io::Result<()> {
        std::fs::write(dir.path().join(Self::FILE), serde_json::to_vec(self)?)
    }

    /// Reads it from the machine's folder.
    pub fn read(dir: &MachineDir) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(
            dir.path().join(Self::FILE),
        )?)?)
    }
}

/// What a runner says once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Started {
    /// The machine is ready.
    Ready(Box<MachineRecord>),
    /// It is not, and why.
    Failed(ErrorBody),
}

/// A runner that was started, and has not said yet what became of its machine.
#[derive(Debug)]
pub struct Starting {
    id: MachineId,
    dir: MachineDir,
    pipe: pipe::Receiver,
    process: Option<OwnedFd>,
}

fn host(e: io::Error) -> Fault {
    Fault::from_error(ErrorKind::Host, &e).context("cannot start the runner")
}

/// Starts the runner of machine `id`, whose lock is `lock`.
pub fn start_runner(
    program: &Path,
    home: &Home,
    id: &MachineId,
    lock: FileLock,
) -> Result<Starting, Fault> {
    let dir = home.machine(id);
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.runner_log())
        .map_err(host)?;
    let mut child = vmint_spawn::command(program)
        .arg("runner")
        .arg(home.root())
        .arg(home.runtime())
        .arg(id.as_str())
        .stdin(Stdio::from(lock.into_fd()))
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .map_err(|e| host(e).context(program.display()))?;
    tracing::debug!(machine = %id, process = child.id(), "a runner is started");
    let pipe = child.stdout.take().expect("piped above");
    // Before anybody could reap it: the id is its own. A kernel without pidfds leaves the process to its record.
    let pid = rustix::process::Pid::from_child(&child);
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
    // Whoever lives longer than the runner must reap it.
    std::thread::Builder::new()
        .name("reaper".into())
        .stack_size(64 << 10)
        .spawn(move || child.wait())
        .map_err(host)?;
    let pipe = pipe::Receiver::from_owned_fd(pipe.into()).map_err(host)?;
    Ok(Starting {
        id: id.clone(),
        dir,
        pipe,
        process,
    })
}

impl Starting {
    /// Its process.
    pub fn take_process(&mut self) -> Option<OwnedFd> {
        self.process.take()
    }

    /// Waits until it says that the machine is ready, or why not.
    pub async fn ready(self, deadline: Duration) -> Result<MachineRecord, Fault> {
        let Self {
            id, dir, mut pipe, ..
        } = self;
        let mut said = Vec::new();
        let read = tokio::time::timeout(deadline, pipe.read_to_end(&mut said));
        let Ok(read) = read.await else {
            let message = format!(
                "machine {id} was not ready within {}; its runner said nothing",
                vmint_model::span(deadline)
            );
            return Err(
                Fault::new(ErrorKind::TimedOut, message).hint(format!("vmint logs {id} --runner"))
            );
        };
        read.map_err(host)?;
        match serde_json::from_slice(&said) {
            Ok(Started::Ready(record)) => {
                tracing::debug!(machine = %id, "the machine is up, its runner says");
                Ok(*record)
            }
            Ok(Started::Failed(body)) => Err(body.error),
            Err(_) => {
                let log = vmint_qemu::log::tail(&dir.runner_log());
                let message =
                    format!("the runner of machine {id} died before the machine was ready");
                Err(Fault::new(
                    ErrorKind::Runner,
                    if log.is_empty() {
                        message
                    } else {
                        format!("{message}: {log}")
                    },
                ))
            }
        }
    }
}
