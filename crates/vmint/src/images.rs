//! Images, templates, and what executes machines here.

use crate::Vmint;
use crate::admit::Boots;
use crate::snapshots::alone;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use vmint_confine::{NoUser, User};
use vmint_image::{BootFiles, Built, Draft, Image, Progress, Recipe};
use vmint_model::{Accelerator, ErrorKind, Explained, Fault, MachineRecord, MachineSpec};
use vmint_protocol::{Channel, ExecSpec, ExitStatus, Reply, Request};
use vmint_qemu::host::kvm_obstacle;
use vmint_qemu::hypervisor::Held;
use vmint_qemu::{Boot, Frozen, Host, Launch, Qemu, Shape, Start};
use vmint_runner::bringup::{bring_up, settle};
use vmint_runner::template::{Wanted, boot_deadline, boot_spec, create_ram};
use vmint_runner::{identity, probe};
use vmint_store::FileLock;

/// What is remembered of QEMU, as long as its program is the same.
const QEMU: &str = "qemu";
/// What is remembered of the host.
const HOST: &str = "host";

/// Which accelerator works, and for how long that is taken for true.
#[derive(Serialize, Deserialize)]
struct Remembered {
    host: Host,
    boot_id: String,
    kvm_obstacle: Option<String>,
}

impl Vmint {
    /// What executes machines here; found out once for this QEMU and this boot of the host.
    pub async fn host(&self, progress: &dyn Progress) -> Result<Host, Fault> {
        let user = self.user()?;
        let host = self.found_host(progress).await?;
        Ok(Host { user, ..host })
    }

    /// The user that hypervisors shall run as.
    fn user(&self) -> Result<Option<User>, Fault> {
        let user = self.options.run_as.as_deref().map(User::find).transpose();
        user.map_err(|e| {
            let fault = Fault::from_error(ErrorKind::Usage, &e);
            match e {
                NoUser::Unknown { .. } => {
                    fault.hint("`getent passwd` lists the users of this host")
                }
                NoUser::NotRoot { .. } => fault.hint("leave --run-as and VMINT_RUN_AS out"),
                NoUser::Root { .. } => fault.hint("name a user that owns nothing, such as nobody"),
                _ => fault,
            }
        })
    }

    async fn found_host(&self, progress: &dyn Progress) -> Result<Host, Fault> {
        let qemu = self.found_qemu().await?;
        if let Some(accelerator) = self.options.accelerator {
            return Ok(self.chosen(qemu, accelerator));
        }
        let boot_id =
            vmint_store::process::boot_id().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        if let Some(found) = self.remembered::<Remembered>(HOST)?
            && found.host.qemu.stamp == qemu.stamp
            && found.boot_id == boot_id
            // A host with KVM in sight, or out of it, is another host.
            && found.kvm_obstacle == kvm_obstacle()
        {
            return Ok(self.confined(found.host));
        }
        self.find_accelerator(&qemu, progress).await
    }

    /// QEMU here; asked for what it can do once for this program, whoever names the accelerator and whoever has it found.
    async fn found_qemu(&self) -> Result<Qemu, Fault> {
        let (system, img) = Qemu::locate()?;
        let stamp = Qemu::stamp(&system)?;
        if let Some(qemu) = self.remembered::<Qemu>(QEMU)?
            && qemu.stamp == stamp
        {
            return Ok(Qemu { img, ..qemu });
        }
        let qemu = Qemu::query(system, img).await?;
        self.remember(QEMU, &qemu)?;
        Ok(qemu)
    }

    /// What an earlier command found out; nothing if it was an older vmint's, in another form.
    fn remembered<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Fault> {
        let json = self.store().setting(key)?;
        Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
    }

    fn remember(&self, key: &str, what: &impl Serialize) -> Result<(), Fault> {
        let json = serde_json::to_string(what)
            .map_err(|e| Fault::new(ErrorKind::Internal, e.to_string()))?;
        Ok(self.store().set_setting(key, &json)?)
    }

    fn chosen(&self, qemu: Qemu, accelerator: Accelerator) -> Host {
        let reason = (accelerator == Accelerator::Tcg).then(|| "asked for".to_owned());
        Host {
            qemu,
            accelerator,
            accelerator_reason: reason,
            confine: self.options.confine,
            user: None,
        }
    }

    /// What is remembered of a host says nothing of how its hypervisors are fenced in: that is this process's setting.
    fn confined(&self, host: Host) -> Host {
        Host {
            confine: self.options.confine,
            ..host
        }
    }

    /// Boots a guest to find out what executes guests, and remembers it.
    pub async fn find_accelerator(
        &self,
        qemu: &Qemu,
        progress: &dyn Progress,
    ) -> Result<Host, Fault> {
        let obstacle = kvm_obstacle();
        let host = if let Some(reason) = &obstacle {
            Host {
                qemu: qemu.clone(),
                accelerator: Accelerator::Tcg,
                accelerator_reason: Some(reason.clone()),
                confine: self.options.confine,
                user: None,
            }
        } else {
            // Boxed: an image's commands are run on a host, and a host is found with an image.
            let tiny = Box::pin(self.ensure_image("tiny", progress)).await?;
            // Boxed too: a sweep waits in it, and is no small future.
            let boots = Boots::unnamed("the guest that shows whether KVM works", probe::MEMORY);
            let _permit = Box::pin(self.admit(&boots, None, progress)).await?;
            progress.stage("booting a guest to see whether KVM works");
            let scratch = Scratch::new(self.home.root())?;
            self.confined(probe::probe(qemu, &Self::boot_files(&tiny)?, &scratch.0).await)
        };
        if let Some(reason) = &host.accelerator_reason {
            progress.stage(&format!("machines are emulated (tcg): {reason}"));
        }
        let boot_id = vmint_store::process::boot_id()
            .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?
            .to_owned();
        let remembered = Remembered {
            host: host.clone(),
            boot_id,
            kvm_obstacle: obstacle,
        };
        self.remember(HOST, &remembered)?;
        Ok(host)
    }

    /// The hardware of a machine.
    pub(crate) fn shape(host: &Host, spec: &MachineSpec, disk: bool) -> Shape {
        let without = probe::shape(host.accelerator, spec.memory, spec.cpus, spec.net.link());
        Shape { disk, ..without }
    }

    pub(crate) fn wanted<'a>(
        &'a self,
        host: &'a Host,
        image: &'a Image,
        boot: &'a BootFiles,
        shape: &'a Shape,
    ) -> Wanted<'a> {
        Wanted {
            home: &self.home,
            host,
            image,
            boot,
            shape,
        }
    }

    pub(crate) fn boot_files(image: &Image) -> Result<BootFiles, Fault> {
        image.boot_files().map_err(Fault::from)
    }

    /// The image that a name means, built now if vmint knows how.
    pub async fn ensure_image(&self, name: &str, progress: &dyn Progress) -> Result<Image, Fault> {
        match self.images.find(name) {
            Ok(Some(image)) => return Ok(image),
            Ok(None) => {}
            // Damaged: what can be built again is.
            Err(e) if e.kind() == ErrorKind::Corrupt && Recipe::for_name(name).is_some() => {
                progress.stage(&format!("image {name} cannot be used and is rebuilt: {e}"));
            }
            Err(e) => return Err(Fault::from(e)),
        }
        let Some(recipe) = Recipe::for_name(name) else {
            let shown: String = name.chars().take(80).collect();
            return Err(Fault::new(ErrorKind::NotFound, format!("there is no image {shown:?}"))
                .hint("run `vmint image ls` to list images; tiny, debian:12 and debian:13 are built on first use"));
        };
        self.build_image(name, &recipe, progress).await
    }

    /// The image that a machine was made from, also when its name is gone or means another one by now.
    pub(crate) async fn image_of(
        &self,
        record: &MachineRecord,
        progress: &dyn Progress,
    ) -> Result<Image, Fault> {
        let name = &record.spec.image;
        let digest = record.image_digest.as_deref().and_then(|d| d.parse().ok());
        match digest.map(|digest| self.images.find_digest(name, digest)) {
            Some(Ok(Some(image))) => Ok(image),
            // Gone or damaged: what the name means now may do.
            _ => self.ensure_image(name, progress).await,
        }
    }

    /// Builds an image; its commands are executed in the booted guest, and a failure of one fails the build.
    pub async fn build_image(
        &self,
        name: &str,
        recipe: &Recipe,
        progress: &dyn Progress,
    ) -> Result<Image, Fault> {
        // Programs run for minutes in there; nothing else waits on this thread meanwhile.
        match self.images.build(name, recipe, progress)? {
            Built::Existing(image) => Ok(image),
            Built::Draft(draft) => self.finish(draft, progress).await,
        }
    }

    /// Runs a draft's commands and makes it an image.
    pub async fn finish(&self, draft: Draft, progress: &dyn Progress) -> Result<Image, Fault> {
        if !draft.commands().is_empty() {
            self.run_in(&draft, progress).await?;
        }
        draft.commit().map_err(Fault::from)
    }

    async fn run_in(&self, draft: &Draft, progress: &dyn Progress) -> Result<(), Fault> {
        // Before the draft's scratch is used: finding the host may need to build tiny.
        let host = self.host(progress).await?;
        let files = draft.boot_files()?;
        let spec = boot_spec(&files, host.accelerator);
        let memory = vmint_model::ByteSize::mib(1024);
        let net = vmint_model::Link::Nat;
        let shape = Shape {
            disk: files.disk.is_some(),
            ..probe::shape(host.accelerator, memory, 1, net)
        };
        let what = format!("the guest that runs the commands of {}", draft.name());
        let boots = Boots::unnamed(what, memory);
        let _permit = self.admit(&boots, None, progress).await?;
        let scratch = draft.scratch();
        let (ram, console, log) = (
            scratch.join("ram"),
            scratch.join("console.log"),
            scratch.join("qemu.log"),
        );
        create_ram(&ram, memory.0)?;
        // The draft's disk itself is written: it is nobody's yet.
        let layers: Vec<_> = files
            .disk
            .iter()
            .map(|d| vmint_qemu::disk::Layer {
                path: d.path.clone(),
                format: vmint_qemu::disk::Format::Raw,
            })
            .collect();
        let boot = Boot {
            kernel: spec.kernel.clone(),
            initramfs: spec.initramfs.clone(),
            cmdline: spec.cmdline.clone(),
        };
        let launch = Launch {
            qemu: &host.qemu,
            shape: &shape,
            name: "vmint-build",
            start: Start::Boot(&boot),
            ram: &ram,
            layers: &layers,
            publish: &[],
            cache: vmint_model::DiskCache::Unsafe,
            console: &console,
            confine: host.confine,
            user: host.user.as_ref(),
            allow: None,
            held: Held::default(),
            log: &log,
        };
        progress.stage(&format!(
            "booting it to run {} command(s), {}",
            draft.commands().len(),
            host.accelerator
        ));
        let deadline = tokio::time::Instant::now() + boot_deadline(host.accelerator);
        let mut live = bring_up(launch, identity::template(net)?, deadline).await?;
        settle(&mut live, &spec, &console, deadline).await?;
        for command in draft.commands() {
            progress.stage(&format!("running {command}"));
            let argv = ["/bin/sh", "-c", command]
                .map(|a| a.as_bytes().to_vec())
                .to_vec();
            let mut lines = Lines {
                progress,
                partial: Vec::new(),
            };
            let ran = live
                .session
                .exec(
                    ExecSpec {
                        argv,
                        ..ExecSpec::default()
                    },
                    |_: Channel, b| lines.push(b),
                )
                .await?;
            lines.end();
            if ran != ExitStatus::Code(0) {
                let how = match ran {
                    ExitStatus::Code(code) => format!("exited with {code}"),
                    ExitStatus::Signal(n) => format!("was killed by signal {n}"),
                    ExitStatus::TimedOut => "timed out".into(),
                };
                return Err(Fault::new(
                    ErrorKind::Image,
                    format!("the command {command:?} {how}; no image was made"),
                ));
            }
        }
        // What identity the guest had is no part of the image; neither is what boots only.
        let strip = "rm -f /etc/ssh/ssh_host_*_key* /var/lib/dbus/machine-id /var/lib/systemd/random-seed; \
            : > /etc/machine-id; : > /etc/resolv.conf; echo localhost > /etc/hostname";
        let argv = ["/bin/sh", "-c", strip]
            .map(|a| a.as_bytes().to_vec())
            .to_vec();
        live.session
            .exec(
                ExecSpec {
                    argv,
                    ..ExecSpec::default()
                },
                |_, _| {},
            )
            .await?;
        progress.stage("shutting it down");
        let patience = boot_deadline(host.accelerator);
        match live
            .session
            .call(Request::Shutdown, "shut down", patience)
            .await?
        {
            Reply::ShuttingDown => {}
            other => {
                return Err(Fault::new(
                    ErrorKind::Internal,
                    format!("unexpected answer {other:?}"),
                ));
            }
        }
        let down = async {
            loop {
                match live.hypervisor.notice().await {
                    Ok(vmint_qemu::Notice::Event(_)) => {}
                    Ok(vmint_qemu::Notice::Exited(exit)) => return Ok(exit),
                    Err(e) => return Err(Fault::from_error(ErrorKind::Host, &e)),
                }
            }
        };
        let message = || {
            Fault::new(
                ErrorKind::TimedOut,
                format!(
                    "the guest did not shut down within {}",
                    vmint_model::span(patience)
                ),
            )
        };
        tokio::time::timeout(patience, down)
            .await
            .map_err(|_| message())??;
        for file in [ram, console, log] {
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }

    /// The template of a machine's image and hardware, made now if there is none.
    pub async fn ensure_template(
        &self,
        image: &Image,
        spec: &MachineSpec,
        progress: &dyn Progress,
    ) -> Result<Frozen, Fault> {
        crate::machines::check_hardware(spec.memory, spec.cpus)?;
        let host = self.host(progress).await?;
        let files = Self::boot_files(image)?;
        let shape = Self::shape(&host, spec, files.disk.is_some());
        let what = format!("the template of {}", image.name());
        let boots = Boots::unnamed(what, spec.memory);
        self.wanted(&host, image, &files, &shape)
            .find_or_make(self.admit(&boots, None, progress), progress)
            .await
    }

    /// Forgets an image's name; what nothing needs any more then goes with [`prune_images`](Self::prune_images). One that a pool's
    /// machines are made of is kept: the pool could never grow again.
    pub fn remove_image(&self, name: &str) -> Result<(), Fault> {
        let _lock = self.lock_images_of_pools()?;
        let pools = self.pools()?;
        if let Some(user) = pools.iter().find(|status| status.pool.spec.image == name) {
            let pool = &user.pool.name;
            let message = format!("image {name} is used by pool {pool}");
            return Err(Fault::new(ErrorKind::WrongState, message)
                .hint(format!("remove the pool first: `vmint pool rm {pool}`")));
        }
        self.images.remove(name).map(drop).map_err(Fault::from)
    }

    /// Held while a pool comes into being whose image is there, and while an image goes that no pool has.
    pub(crate) fn lock_images_of_pools(&self) -> Result<FileLock, Fault> {
        let path = self.home.root().join("pool-images.lock");
        let deadline = std::time::Instant::now() + crate::folders::SHORT;
        FileLock::acquire_until(&path, deadline).map_err(Fault::from)
    }

    /// All templates.
    pub fn templates(&self) -> Vec<Frozen> {
        vmint_runner::template::list(&self.home)
    }

    /// Removes the templates that `which` chooses, and whatever killed builds left; returns how many. Machines that
    /// were forked from one keep what they need.
    pub fn remove_templates(&self, which: impl Fn(&Frozen) -> bool) -> Result<usize, Fault> {
        let mut removed = 0;
        for frozen in self.templates().into_iter().filter(|f| which(f)) {
            let fingerprint: String = frozen.manifest().fingerprint.chars().take(12).collect();
            // Who forks it takes what he needs first.
            let alone = alone(frozen.folder(), &format!("template {fingerprint}"))?;
            crate::folders::remove_folder(frozen.folder())?;
            drop(alone);
            removed += 1;
        }
        self.remove_template_leftovers();
        Ok(removed)
    }

    fn remove_template_leftovers(&self) {
        let Ok(entries) = std::fs::read_dir(self.home.templates()) else {
            return;
        };
        for path in entries.flatten().map(|e| e.path()) {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let Some(fingerprint) = name
                .strip_prefix(".tmp-")
                .or_else(|| name.strip_suffix(".lock"))
            else {
                continue;
            };
            let lock_path = self.home.templates().join(format!("{fingerprint}.lock"));
            // Held by whoever is making it right now.
            let Ok(Some(_lock)) = vmint_store::FileLock::try_acquire(&lock_path) else {
                continue;
            };
            let _ =
                std::fs::remove_dir_all(self.home.templates().join(format!(".tmp-{fingerprint}")));
            let _ = std::fs::remove_file(&lock_path);
        }
    }
}

/// A folder for a probe; deleted when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(root: &Path) -> Result<Self, Fault> {
        let path = root.join(format!(".probe-{}", std::process::id()));
        let fault = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot make the probe's folder")
        };
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(fault)?;
        }
        std::fs::create_dir(&path).map_err(fault)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Output, line by line.
struct Lines<'a> {
    progress: &'a dyn Progress,
    partial: Vec<u8>,
}

impl Lines<'_> {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > 8192 {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if !self.partial.is_empty() {
            self.progress
                .output(String::from_utf8_lossy(&self.partial).trim_end());
            self.partial.clear();
        }
    }
}
