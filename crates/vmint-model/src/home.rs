//! Where everything is kept.

use crate::{MachineId, Name, RunId};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The folder of one vmint: `VMINT_HOME`. Two of them know nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    runtime: PathBuf,
}

impl Home {
    /// A home at `root` whose sockets live in `runtime`, a short path: a Unix socket's may not exceed 107 bytes.
    pub fn new(root: impl Into<PathBuf>, runtime: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            runtime: runtime.into(),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the sockets.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// What its processes call it: the name of the folder of its sockets, which is its [`HomeId`](crate::HomeId). Every
    /// runner has that folder among its arguments, so by it a process of this home is told from one of a copy.
    pub fn mark(&self) -> &OsStr {
        self.runtime.file_name().unwrap_or_default()
    }

    /// What says which home this is.
    pub fn identity(&self) -> PathBuf {
        self.root.join("home.json")
    }

    /// What has no record and cannot be taken up again. Nothing but `vmint gc` deletes it, and only by age.
    pub fn lost_and_found(&self) -> PathBuf {
        self.root.join("lost+found")
    }

    /// The store.
    pub fn database(&self) -> PathBuf {
        self.root.join("vmint.db")
    }

    /// Images.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Templates.
    pub fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    /// All machines' folders.
    pub fn machines(&self) -> PathBuf {
        self.root.join("machines")
    }

    /// One machine's folder.
    pub fn machine(&self, id: &MachineId) -> MachineDir {
        MachineDir {
            path: self.machines().join(id.as_str()),
            socket: self.runtime.join(format!("{id}.sock")),
        }
    }

    /// All workflow runs' folders.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// One workflow run's folder.
    pub fn run(&self, id: &RunId) -> PathBuf {
        self.runs().join(id.as_str())
    }

    /// Caches of workflows.
    pub fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }

    /// All snapshots' folders.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// One snapshot's folder.
    pub fn snapshot(&self, name: &Name) -> PathBuf {
        self.snapshots().join(name.as_str())
    }
}

const STAGED: &str = "staged-";

/// One machine's folder, and its runner's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineDir {
    path: PathBuf,
    socket: PathBuf,
}

impl MachineDir {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The runner's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What tells its hypervisor from that of a copy: the home's mark and the machine's id.
    pub fn tag(&self) -> String {
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        format!(
            "{}/{}",
            name(self.socket.parent()),
            name(Some(self.path.as_path()))
        )
    }

    /// Locked exactly while a runner lives.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// A folder in the machine's own, in which a command puts something for the runner to take, or the runner something for a command:
    /// nothing else is within a runner's reach. `what` tells it from others, and begins with the command's process id.
    pub fn staged(&self, what: &str) -> PathBuf {
        self.path.join(format!("{STAGED}{what}"))
    }

    /// The process id of the command that has put this entry of the folder there, if it is such a one.
    pub fn staged_by(name: &std::ffi::OsStr) -> Option<u32> {
        let what = name.to_str()?.strip_prefix(STAGED)?;
        what.split('-').next()?.parse().ok()
    }

    /// The snapshot that the machine is to be forked from first, put there when it was created.
    pub fn source(&self) -> PathBuf {
        self.path.join("source")
    }

    /// What the machine goes back to at a reset, while that is not what it was forked from last.
    pub fn base(&self) -> PathBuf {
        self.path.join("base")
    }

    /// What the folder says of itself, should its record be lost.
    pub fn description(&self) -> PathBuf {
        self.path.join("machine.json")
    }

    /// The guest's serial console.
    pub fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// QEMU's standard error.
    pub fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    /// What its guest was allowed and refused to reach.
    pub fn network_log(&self) -> PathBuf {
        self.path.join("network.log")
    }

    /// The runner's log.
    pub fn runner_log(&self) -> PathBuf {
        self.path.join("runner.log")
    }

    /// Touched to tell a runner that the store holds a request for it.
    pub fn doorbell(&self) -> PathBuf {
        self.path.join("doorbell")
    }
}
