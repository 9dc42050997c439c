//! Templates: an image booted, come up, and frozen. Made once for each image, amount of memory, number of processors
//! and kind of network; whoever needs one that another process is making waits for it.

use crate::bringup::{bring_up, settle};
use crate::identity;
use crate::start::BootSpec;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
use vmint_image::{BootFiles, Image, InitKind, Progress};
use vmint_model::{Accelerator, DiskCache, ErrorKind, Fault, Home};
use vmint_protocol::{Reply, Request};
use vmint_qemu::disk::{self, Layer, Maker};
use vmint_qemu::hypervisor::Held;
use vmint_qemu::{Boot, DeviceState, Frozen, Host, Launch, Manifest, PanicDevice, Shape, Start};
use vmint_store::{FileLock, InUse};

/// How long those have who are about to fork a template that is damaged.
const LEAVE: Duration = Duration::from_secs(2);

/// A template to find or to make.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Where templates are kept.
    pub home: &'a Home,
    /// What executes machines here.
    pub host: &'a Host,
    /// The image.
    pub image: &'a Image,
    /// Its files.
    pub boot: &'a BootFiles,
    /// The hardware.
    pub shape: &'a Shape,
}

fn host_fault(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Fault {
    let context = format!("cannot {what} {}", path.display());
    move |e| Fault::from_error(ErrorKind::Host, &e).context(&context)
}

impl Wanted<'_> {
    /// Digest over all that a template is made from.
    pub fn fingerprint(&self) -> String {
        let disk = self
            .boot
            .disk
            .as_ref()
            .map(|d| d.digest.map_or_else(String::new, |d| d.to_string()));
        let platform = self.host.platform();
        vmint_qemu::frozen::fingerprint(&[
            // Templates are made for one QEMU: unlike a snapshot, they can be made anew.
            &self.host.hardware(self.shape),
            &self.host.qemu.banner,
            &self.host.qemu.stamp,
            &platform.board,
            &platform.features.join(" "),
            match platform.panic {
                PanicDevice::Absent => "",
                PanicDevice::Pvpanic => "pvpanic",
            },
            &self.boot.kernel_digest.to_string(),
            &self.boot.initramfs_digest.to_string(),
            disk.as_deref().unwrap_or("none"),
            &boot_spec(self.boot, self.host.accelerator).cmdline,
        ])
    }

    fn folder(&self) -> PathBuf {
        self.home.templates().join(self.fingerprint())
    }

    /// The template, if there is one that can be used; the reason why not, if there is one that cannot.
    pub fn find(&self) -> Result<Option<Frozen>, Fault> {
        match Frozen::open(&self.folder()).and_then(|frozen| frozen.check().map(|()| frozen)) {
            Ok(frozen) => Ok(Some(frozen)),
            Err(vmint_qemu::frozen::FrozenError::Missing { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The template, made if need be. `admit` is awaited before it is booted, by the one who makes it, and what that
    /// gives is held as long as it boots.
    pub async fn find_or_make<P>(
        &self,
        admit: impl Future<Output = Result<P, Fault>>,
        progress: &dyn Progress,
    ) -> Result<Frozen, Fault> {
        if let Ok(Some(frozen)) = self.find() {
            return Ok(frozen);
        }
        let folder = self.folder();
        let lock_path = self
            .home
            .templates()
            .join(format!("{}.lock", self.fingerprint()));
        let _lock = self.lock(&lock_path, progress).await?;
        match self.find() {
            Ok(Some(frozen)) => return Ok(frozen),
            // A folder without a manifest: nothing, but in the way.
            Ok(None) if folder.exists() => {
                std::fs::remove_dir_all(&folder).map_err(host_fault("remove", &folder))?;
            }
            Ok(None) => self.explain_rebuild(progress),
            Err(fault) => {
                progress.stage(&format!(
                    "a template cannot be used and is rebuilt: {}",
                    fault.message
                ));
                // Who is about to fork it finds out for himself; forks of it keep their links.
                let alone = InUse::alone_until(&folder, std::time::Instant::now() + LEAVE);
                let _alone = alone.inspect_err(|e| tracing::warn!("{e}"));
                std::fs::remove_dir_all(&folder).map_err(host_fault("remove", &folder))?;
            }
        }
        let temporary = self
            .home
            .templates()
            .join(format!(".tmp-{}", self.fingerprint()));
        if temporary.exists() {
            // Left by a process that was killed: nobody else can be here under the lock.
            std::fs::remove_dir_all(&temporary).map_err(host_fault("remove", &temporary))?;
        }
        let _permit = admit.await?;
        std::fs::create_dir(&temporary).map_err(host_fault("create", &temporary))?;
        let temporary = Temporary(temporary);
        self.make(&temporary.0, progress).await?;
        std::fs::rename(&temporary.0, &folder).map_err(host_fault("create", &folder))?;
        Ok(Frozen::open(&folder)?)
    }

    async fn lock(&self, path: &Path, progress: &dyn Progress) -> Result<FileLock, Fault> {
        if let Some(lock) = FileLock::try_acquire(path)? {
            return Ok(lock);
        }
        progress.stage(&format!(
            "waiting for another process that makes the template of {}",
            self.image.name()
        ));
        let (path, deadline) = (path.to_owned(), std::time::Instant::now() + self.deadline());
        let lock = tokio::task::spawn_blocking(move || FileLock::acquire_until(&path, deadline));
        lock.await
            .expect("acquiring a lock does not panic")
            .map_err(Fault::from)
    }

    /// If there is a template of the same image and hardware under another fingerprint, says what changed.
    fn explain_rebuild(&self, progress: &dyn Progress) {
        let name = self.image.name().to_string();
        let other = list(self.home).into_iter().find(|frozen| {
            let m = frozen.manifest();
            m.image == name && m.shape == *self.shape
        });
        let Some(other) = other else { return };
        let m = other.manifest();
        let why = if m.qemu != self.host.qemu.banner || self.host.fits(m).is_err() {
            format!(
                "it was made with {} and this is {}, or with other hardware",
                m.qemu, self.host.qemu.banner
            )
        } else if m.image_digest == self.image.digest().to_string() {
            "kernel or agent have changed".into()
        } else {
            "the image has changed".into()
        };
        progress.stage(&format!(
            "the template of {name} no longer fits ({why}); rebuilding it"
        ));
    }

    fn deadline(&self) -> Duration {
        boot_deadline(self.host.accelerator)
    }

    async fn make(&self, folder: &Path, progress: &dyn Progress) -> Result<(), Fault> {
        let deadline = Instant::now() + self.deadline();
        let ram = folder.join(Frozen::RAM);
        progress.stage(&format!(
            "booting {} once, {}",
            self.image.name(),
            self.host.accelerator
        ));
        create_ram(&ram, self.shape.memory.0)?;
        let mut layers = Vec::new();
        if let Some(disk) = &self.boot.disk {
            let lowest = folder.join(disk::layer_name(0));
            std::fs::hard_link(&disk.path, &lowest).map_err(host_fault("link", &disk.path))?;
            let qcow2 = self
                .host
                .maker()
                .create(folder, &disk::layer_name(1), 0)
                .await;
            qcow2.map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
            layers = disk::layers(folder);
        }
        let (console, log) = (folder.join("console.log"), folder.join("qemu.log"));
        let spec = boot_spec(self.boot, self.host.accelerator);
        let boot = Boot {
            kernel: spec.kernel.clone(),
            initramfs: spec.initramfs.clone(),
            cmdline: spec.cmdline.clone(),
        };
        let launch = Launch {
            qemu: &self.host.qemu,
            shape: self.shape,
            name: "vmint-template",
            start: Start::BootShared(&boot),
            ram: &ram,
            layers: &layers,
            publish: &[],
            // A template can be made anew.
            cache: DiskCache::Unsafe,
            console: &console,
            confine: self.host.confine,
            user: self.host.user.as_ref(),
            allow: None,
            held: Held::default(),
            log: &log,
        };
        let began = Instant::now();
        let mut live = bring_up(launch, identity::template(self.shape.net)?, deadline).await?;
        if spec.settle {
            progress.stage(&format!(
                "waiting until the services of {} have started",
                self.image.name()
            ));
        }
        settle(&mut live, &spec, &console, deadline).await?;
        let boot_ms = began.elapsed().as_secs_f64() * 1e3;
        progress.stage("freezing it");
        match live
            .session
            .call(Request::Sync, "write its disk", self.deadline())
            .await?
        {
            Reply::Synced => {}
            other => {
                return Err(Fault::new(
                    ErrorKind::Internal,
                    format!("unexpected answer {other:?}"),
                ));
            }
        }
        // No session is open across the freeze.
        drop(live.session);
        live.hypervisor.freeze(folder).await?;
        if !layers.is_empty() {
            let blank = self.host.maker().create(folder, disk::BLANK, 1).await;
            blank.map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        }
        let manifest = Manifest {
            version: vmint_qemu::frozen::VERSION,
            fingerprint: self.fingerprint(),
            hardware: self.host.hardware(self.shape),
            platform: Some(self.host.platform()),
            shape: self.shape.clone(),
            image: self.image.name().to_string(),
            image_digest: self.image.digest().to_string(),
            qemu: self.host.qemu.banner.clone(),
            full: self.host.qemu.device_state == DeviceState::WithMemory,
            layers: layers.len(),
            files: Vec::new(),
            created_at_ms: vmint_store::now_ms(),
            boot_ms: Some(boot_ms),
        };
        Frozen::seal(folder, manifest)?;
        Ok(())
    }
}

/// What there is of a template that is being made. It goes, unless it was renamed: also when nobody waits for it any more.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long a boot may take until the image's services have started.
pub fn boot_deadline(accelerator: Accelerator) -> Duration {
    Duration::from_secs(60) * accelerator.patience()
}

/// What to boot, and how.
pub fn boot_spec(files: &BootFiles, accelerator: Accelerator) -> BootSpec {
    // A panic ends the machine, and so is seen at once. The rest keeps the kernel from looking for hardware that is not
    // there.
    let mut cmdline = String::from(
        "console=ttyS0 quiet panic=-1 oops=panic random.trust_cpu=on pci=lastbus=0 8250.nr_uarts=1 tsc=reliable",
    );
    if accelerator == Accelerator::Tcg {
        // Emulation keeps its translations by virtual address: with randomized addresses, each program that starts is
        // translated anew. The first 20 `/bin/true` in a Debian fork took 42 ms with, and 21 without (medians of one
        // run each). Who needs it there sets kernel.randomize_va_space.
        //
        // On a busy host the kernel's trial of its timer fails under emulation, and it panics (“IO-APIC + timer doesn't work”).
        cmdline.push_str(" norandmaps no_timer_check");
    }
    if let Some(disk) = &files.disk {
        cmdline.push_str(&format!(
            " vmint.root=/dev/vda vmint.rootfstype={}",
            disk.file_system
        ));
        let init = if files.init == InitKind::Agent {
            "none"
        } else {
            "auto"
        };
        cmdline.push_str(&format!(" vmint.init={init}"));
    }
    BootSpec {
        kernel: files.kernel.clone(),
        initramfs: files.initramfs.clone(),
        cmdline,
        disk: files.disk.as_ref().map(|d| d.path.clone()),
        settle: files.init == InitKind::Systemd,
    }
}

/// A sparse file of zeros to map memory from.
pub fn create_ram(path: &Path, size: u64) -> Result<(), Fault> {
    let file = File::options()
        .create_new(true)
        .write(true)
        .open(path)
        .map_err(host_fault("create", path))?;
    file.set_len(size).map_err(host_fault("create", path))
}

/// All templates that can be opened.
pub fn list(home: &Home) -> Vec<Frozen> {
    let Ok(entries) = std::fs::read_dir(home.templates()) else {
        return Vec::new();
    };
    let folders = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir());
    let visible = folders.filter(|p| {
        p.file_name()
            .is_some_and(|n| !n.to_string_lossy().starts_with('.'))
    });
    let mut all: Vec<_> = visible.filter_map(|p| Frozen::open(&p).ok()).collect();
    all.sort_by_key(|f| f.manifest().created_at_ms);
    all
}

/// Links an image's disk into `folder`, as the lowest layer of a machine that boots, unless it has one.
pub fn link_boot_disk(folder: &Path, image_disk: &Path) -> Result<(), Fault> {
    if disk::layers(folder).is_empty() {
        let lowest = folder.join(disk::layer_name(0));
        std::fs::hard_link(image_disk, &lowest).map_err(host_fault("link", image_disk))?;
    }
    Ok(())
}

/// A disk's layers in `folder`, made for a machine that boots from what lies there: on top of those that are frozen, or are an
/// image's, it gets one of its own, unless it has one.
pub async fn prepare_boot_disk(maker: &Maker, folder: &Path) -> Result<Vec<Layer>, Fault> {
    let layers = disk::layers(folder);
    let n = layers.len();
    let is_own = |layer: &Layer| {
        let mode = layer.path.metadata().map(|meta| meta.permissions().mode());
        n > 1 && mode.is_ok_and(|mode| mode & 0o222 != 0)
    };
    if layers.last().is_some_and(|top| !is_own(top)) {
        let made = maker.create(folder, &disk::layer_name(n), n - 1).await;
        made.map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    }
    Ok(disk::layers(folder))
}
