//! How a fork is made, and where its files are.
//!
//! ```text
//! an ordinary machine            a pool's machine
//! ID/origin/  frozen files       ID/origin/    what every fork begins with, the disk's layers too
//! ID/disk.*   layers             ID/fork-N/    one for each fork: origin/, disk.*, console.log, qemu.log
//! ID/*.log                       ID/*.log      links to those of the fork that is the machine now
//! ```
//!
//! Where an ordinary machine comes from, and goes back to, is in [`origin`](super::origin).
//!
//! Invariants:
//! * Everything that a fork writes lies in the folder of its [`Files`], and no other fork is ever given a file from
//!   there. A pool's forks have a folder each, so what one lease wrote is out of the reach of the next even while the
//!   old fork is still being cleared away.
//! * A pool's machine always goes back to the origin that it began with, whatever an owner restored in between.

use super::origin::{self, host, prepare, remove_file_if_there, remove_if_there};
use crate::belongs;
use crate::bringup::{Live, bring_up, settle};
use crate::identity::Identity;
use crate::start::{BootSpec, From, StartRequest};
use crate::template;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;
use vmint_confine::{Bounds, Ground, Group, NoGroup};
use vmint_model::{
    Accelerator, DiskCache, DiskLimit, ErrorKind, Fault, Generation, Home, Limits, MachineDir,
    MachineRecord, Name, NetMode, Publish,
};
use vmint_qemu::disk::{self, Layer};
use vmint_qemu::egress::Allow;
use vmint_qemu::hypervisor::Held;
use vmint_qemu::{Boot, Frozen, Launch, Manifest, Platform, Port, Start};
use vmint_store::process;

/// Where the files of one fork are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    folder: PathBuf,
    /// Whether the folder is this fork's alone.
    own: bool,
}

impl Files {
    /// The folder that holds them.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes them, unless the folder is the machine's.
    pub(crate) fn discard(&self) -> io::Result<()> {
        if self.own {
            vmint_qemu::frozen::release(&self.folder);
            vmint_store::remove_folder(&self.folder)?;
        }
        Ok(())
    }

    /// The frozen machine that it was forked from.
    pub(crate) fn origin(&self) -> PathBuf {
        self.folder.join("origin")
    }

    /// The layers of its disk.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        disk::layers(&self.folder)
    }

    /// Its console's log.
    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The log of its QEMU.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("qemu.log")
    }

    /// The log of what its guest may reach.
    pub(crate) fn network_log(&self) -> PathBuf {
        self.folder.join("network.log")
    }

    /// Replaces what it wrote by an empty layer on top of `below` frozen ones.
    pub(super) fn fresh_disk(&self, below: usize) -> Result<(), Fault> {
        disk::remove_from(&self.folder, below).map_err(|e| host(&e))?;
        if below > 0 {
            disk::copy_blank(&self.folder, below).map_err(|e| host(&e))?;
        }
        Ok(())
    }
}

/// A guest that can be used, and its files.
#[derive(Debug)]
pub(crate) struct Fork {
    /// Hypervisor and session.
    pub(crate) live: Live,
    /// Its files.
    pub(crate) files: Files,
    /// What it was told that it is.
    pub(crate) generation: Generation,
    /// Who it was told that it is.
    pub(crate) identity: Identity,
    /// What it was loaded from; nothing if it has booted.
    pub(crate) loaded: Option<Manifest>,
    /// Its open ports.
    pub(crate) ports: Vec<Publish>,
}

/// Who a fork shall be.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// Nobody that there was before.
    New,
    /// This one, as before.
    Same(Identity),
}

/// Where forks are put.
#[derive(Debug)]
enum Layout {
    /// Into the machine's folder, one after the other.
    InPlace,
    /// Into a folder each; the number of the next.
    Apart(AtomicU64),
}

/// What all forks of one machine have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) dir: MachineDir,
    pub(crate) request: StartRequest,
    name: Name,
    net: NetMode,
    /// What is to be published, and what the host chose for it before.
    publish: Vec<(Publish, Option<u16>)>,
    ports: OnceLock<Vec<Port>>,
    cache: DiskCache,
    limits: Limits,
    layout: Layout,
    /// The control group of its hypervisors, if they are to be limited.
    group: OnceLock<Group>,
}

impl Plan {
    /// The plan of a machine's runner.
    pub(crate) fn new(dir: MachineDir, request: StartRequest, record: &MachineRecord) -> Self {
        let apart = record.pool.is_some() && matches!(request.from, From::Frozen(_));
        Self {
            dir,
            request,
            name: record.name.clone(),
            net: record.spec.net.clone(),
            publish: wanted_ports(record),
            ports: OnceLock::new(),
            cache: record.disk_cache(),
            limits: record.spec.limits,
            group: OnceLock::new(),
            layout: if apart {
                Layout::Apart(AtomicU64::new(1))
            } else {
                Layout::InPlace
            },
        }
    }

    /// Whether each fork has a folder of its own, so that there can be two at a time.
    pub(crate) fn is_apart(&self) -> bool {
        matches!(self.layout, Layout::Apart(_))
    }

    /// What the machine is forked from at a reset.
    pub(crate) fn origin(&self) -> PathBuf {
        self.dir.path().join("origin")
    }

    /// When what begins now must be done.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + std::time::Duration::from_millis(self.request.deadline_ms)
    }

    /// Files for one more fork.
    pub(crate) fn place(&self) -> Files {
        match &self.layout {
            Layout::InPlace => Files {
                folder: self.dir.path().to_owned(),
                own: false,
            },
            Layout::Apart(next) => {
                let n = next.fetch_add(1, Ordering::Relaxed);
                Files {
                    folder: self.dir.path().join(format!("fork-{n}")),
                    own: true,
                }
            }
        }
    }

    /// Takes into the machine's folder whatever of what it starts from lies outside, by links, and opens its ports. From then on
    /// the runner needs nothing outside.
    pub(crate) fn take_in(&self) -> Result<(), Fault> {
        self.remove_staged();
        let opened: Result<Vec<_>, _> = self
            .publish
            .iter()
            .map(|(wanted, before)| Port::open(*wanted, *before))
            .collect();
        let _ = self.ports.set(opened?);
        match &self.request.from {
            From::Boot(spec) => origin::take_in_disk(&self.place(), spec.disk.as_deref()),
            From::Frozen(folder) => {
                let frozen = Frozen::open(folder)?;
                let origin = self.origin();
                if !self.is_apart() {
                    origin::take_in(&frozen, &self.place(), &self.dir)?;
                } else if frozen.folder() != origin {
                    frozen.check()?;
                    remove_if_there(&origin).map_err(|e| prepare(&e))?;
                    frozen.link_whole(&origin)?;
                }
                self.open_up(&origin)
            }
        }
    }

    /// Makes the control group of what the machine is limited to.
    pub(crate) fn hold(&self, home: &Home) -> Result<(), Fault> {
        if !self.limits.need_group() {
            return Ok(());
        }
        let forks = if self.is_apart() { 2 } else { 1 };
        let each = self.request.shape.memory.0 + overhead(self.request.host.accelerator);
        let bounds = Bounds {
            limits: &self.limits,
            memory: each * forks,
            tasks: (MOST_TASKS + self.request.shape.cpus) * forks as u32,
            home: home.root(),
        };
        let name = belongs::group_name(&self.dir);
        let group = Ground::find().and_then(|ground| Group::create(&ground, &name, &bounds));
        let group = group.map_err(|e| unlimitable(&e))?;
        let _ = self.group.set(group);
        Ok(())
    }

    /// The control group, when there is one.
    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.get()
    }

    fn ports(&self) -> &[Port] {
        self.ports.get().map_or(&[], Vec::as_slice)
    }

    /// What a guest sees that was loaded from this, or has booted.
    pub(crate) fn platform(&self, loaded: Option<&Manifest>) -> Platform {
        let here = self.request.host.platform();
        let Some(seen) = loaded.and_then(Platform::of) else {
            return here;
        };
        let is_hidden = self.request.shape.accelerator == vmint_model::Accelerator::Tcg
            && !seen.features.is_empty();
        Platform {
            board: seen.board,
            features: if is_hidden {
                seen.features
            } else {
                here.features
            },
            panic: seen.panic,
        }
    }

    /// A QEMU that opens its memory itself must be able to.
    fn open_up(&self, origin: &Path) -> Result<(), Fault> {
        let host = &self.request.host;
        if host.user.is_none() && vmint_qemu::fence::needs_memory_writable(host.confine) {
            let thawed = vmint_qemu::frozen::thaw(&origin.join(Frozen::RAM));
            thawed.map_err(|e| prepare(&e))?;
        }
        Ok(())
    }

    /// Removes what commands that were killed had put into the machine's folder, or were waiting for.
    pub(crate) fn remove_staged(&self) {
        let entries = std::fs::read_dir(self.dir.path());
        for entry in entries.into_iter().flatten().flatten() {
            let by = MachineDir::staged_by(&entry.file_name());
            if by.is_some_and(|pid| matches!(process::of(pid), Ok(None)))
                && let Err(e) = remove_if_there(&entry.path())
            {
                tracing::warn!("cannot remove {}: {e}", entry.path().display());
            }
        }
    }

    /// Forks `source`, which was looked at, into `files`.
    pub(crate) async fn fork(
        &self,
        source: &Frozen,
        files: Files,
        generation: Generation,
        who: Who,
        deadline: Instant,
    ) -> Result<Fork, Fault> {
        match self.layout {
            Layout::InPlace => origin::adopt(source, &files, &self.dir)?,
            Layout::Apart(_) => {
                remove_if_there(files.folder())
                    .and_then(|()| std::fs::create_dir(files.folder()))
                    .map_err(|e| prepare(&e))?;
                source.link_into(files.folder())?;
                files.fresh_disk(source.manifest().layers)?;
            }
        }
        let frozen = Frozen::open(&files.origin())?;
        let (ram, layers) = (frozen.ram(), files.layers());
        let start = Start::Load(&frozen);
        self.launch(start, &ram, &layers, files, generation, who, deadline)
            .await
    }

    /// Boots, on the disk that the machine has.
    pub(crate) async fn boot(
        &self,
        spec: &BootSpec,
        generation: Generation,
        who: Who,
        deadline: Instant,
    ) -> Result<Fork, Fault> {
        let files = self.place();
        let ram = files.folder().join("ram");
        // One that a snapshot shares is frozen. There is nothing in it: it is mapped privately.
        remove_file_if_there(&ram).map_err(|e| prepare(&e))?;
        template::create_ram(&ram, self.request.shape.memory.0)?;
        let layers = match &spec.disk {
            None => Vec::new(),
            Some(_) => {
                template::prepare_boot_disk(&self.request.host.maker(), files.folder()).await?
            }
        };
        let boot = Boot {
            kernel: spec.kernel.clone(),
            initramfs: spec.initramfs.clone(),
            cmdline: spec.cmdline.clone(),
        };
        let start = Start::Boot(&boot);
        let mut fork = self
            .launch(start, &ram, &layers, files, generation, who, deadline)
            .await?;
        let console = fork.files.console();
        settle(&mut fork.live, spec, &console, deadline).await?;
        Ok(fork)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is another thing that two kinds of start have in common"
    )]
    async fn launch(
        &self,
        start: Start<'_>,
        ram: &Path,
        layers: &[Layer],
        files: Files,
        generation: Generation,
        who: Who,
        deadline: Instant,
    ) -> Result<Fork, Fault> {
        let identity = match who {
            Who::New => Identity::new(&self.name)?,
            Who::Same(identity) => identity,
        };
        let prepare = identity.prepare(&self.name, generation, self.net.link())?;
        let name = belongs::hypervisor_name(&self.name, &self.dir);
        let (console, log, network) = (files.console(), files.log(), files.network_log());
        let launch = Launch {
            qemu: &self.request.host.qemu,
            shape: &self.request.shape,
            name: &name,
            start,
            ram,
            layers,
            publish: self.ports(),
            cache: self.cache,
            console: &console,
            confine: self.request.host.confine,
            user: self.request.host.user.as_ref(),
            log: &log,
            allow: self.net.allowed().map(|list| Allow {
                list,
                log: &network,
            }),
            held: Held {
                group: self.group(),
                file: self.limits.disk.map(DiskLimit::bytes),
            },
        };
        let live = bring_up(launch, prepare, deadline).await?;
        Ok(Fork {
            live,
            files,
            generation,
            identity,
            loaded: match start {
                Start::Load(frozen) => Some(frozen.manifest().clone()),
                Start::Boot(_) | Start::BootShared(_) => None,
            },
            ports: self.ports().iter().map(Port::publish).collect(),
        })
    }
}

impl Fork {
    /// Shows its logs as the machine's. Only a reader of logs misses something if that fails.
    pub(crate) fn show_logs(&self, dir: &MachineDir) {
        let hypervisor = &self.live.hypervisor;
        let shown = hypervisor.show_logs(&dir.console_log(), &dir.qemu_log(), &dir.network_log());
        if let Err(e) = shown {
            tracing::warn!("the machine's logs are those of an older fork: {e}");
        }
    }
}

/// Threads that a QEMU may have beside its processors: those that read and write files.
const MOST_TASKS: u32 = 128;

/// What a QEMU may take beside its guest's memory, in bytes.
fn overhead(accelerator: Accelerator) -> u64 {
    match accelerator {
        Accelerator::Kvm => 512 << 20,
        // Its buffer of translated code has 1 GiB.
        Accelerator::Tcg => 1536 << 20,
    }
}

/// A host that cannot hold what was asked for.
pub fn unlimitable(e: &NoGroup) -> Fault {
    Fault::from_error(ErrorKind::Host, e)
        .context("this host cannot hold --cpu-limit and --io-limit")
        .hint(e.hint())
}

/// The ports to publish, each with what the host chose for it when the machine was last up.
fn wanted_ports(record: &MachineRecord) -> Vec<(Publish, Option<u16>)> {
    let before = |n: usize, wanted: &Publish| {
        let last = record.last_ports.get(n)?;
        (last.guest == wanted.guest).then_some(last.host)
    };
    let wanted = record.spec.publish.iter().enumerate();
    wanted
        .map(|(n, wanted)| (*wanted, before(n, wanted)))
        .collect()
}
