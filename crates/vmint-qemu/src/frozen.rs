//! The folder of a frozen machine: its manifest, its integrity, and its links into the folders of forks.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | [`Manifest`]; written last, so a folder without one is nothing |
//! | `ram` | the file that memory is mapped from, privately |
//! | `delta` | the pages that differ from it; a template has none |
//! | `state` | the devices' state (and all of memory, when `full`) |
//! | `disk.N.*`, `disk.blank` | the disk's layers, and an empty one to put on top |
//! | `NAME.seen` | up to which change the content of `ram`, `state` or `delta` is known; see `seen` |
//!
//! * `stamp`: what a file was when it was frozen.
//! * `rescue`: a stamp that was wrong from the beginning.

mod rescue;
mod stamp;

pub use rescue::{Rescue, rescue};
pub use stamp::FileStamp;

use crate::disk;
use crate::platform::Platform;
use crate::seen::{self, Seen};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vmint_model::{ErrorKind, Fault};

/// Version of the layout. Another one is not used, but made anew.
pub const VERSION: u32 = 1;

/// What a frozen machine is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Digest over everything that it was made from: hardware, kernel, initramfs, disk.
    pub fingerprint: String,
    /// Digest over what vmint has asked QEMU for; see [`Host::hardware`](crate::Host::hardware).
    pub hardware: String,
    /// What its guest sees of QEMU besides. An older vmint did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its hardware.
    pub shape: Shape,
    /// The image's name.
    pub image: String,
    /// The image's digest.
    pub image_digest: String,
    /// QEMU that froze it.
    pub qemu: String,
    /// Whether `state` holds all of memory.
    pub full: bool,
    /// Number of disk layers.
    pub layers: usize,
    /// The files that a bit flip would make another machine of.
    pub files: Vec<FileStamp>,
    /// Milliseconds since 1970 in UTC.
    pub created_at_ms: i64,
    /// How long the machine took from QEMU's start until it was ready to be frozen; absent for snapshots.
    pub boot_ms: Option<f64>,
}

/// A frozen machine's folder.
#[derive(Clone, Debug)]
pub struct Frozen {
    folder: PathBuf,
    manifest: Manifest,
}

/// A frozen machine that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrozenError {
    /// There is none.
    #[error("{folder:?} holds no frozen machine")]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The manifest is no manifest.
    #[error("{file:?} is damaged: {reason}")]
    Manifest {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file is not what it was.
    #[error("{file:?} is damaged: {what}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// In which way.
        what: String,
    },
    /// A file cannot be read or linked.
    #[error("cannot use {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<FrozenError> for Fault {
    fn from(e: FrozenError) -> Self {
        let kind = match e {
            FrozenError::Io { .. } => ErrorKind::Host,
            FrozenError::Missing { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Corrupt,
        };
        Fault::from_error(kind, &e)
    }
}

impl Frozen {
    /// File name of the manifest.
    pub const MANIFEST: &str = "manifest.json";
    /// File name of the memory.
    pub const RAM: &str = "ram";
    /// File name of the changed pages.
    pub const DELTA: &str = "delta";
    /// File name of the devices' state.
    pub const STATE: &str = "state";

    /// Reads the manifest in `folder`.
    pub fn open(folder: &Path) -> Result<Self, FrozenError> {
        let file = folder.join(Self::MANIFEST);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(FrozenError::Missing {
                    folder: folder.into(),
                });
            }
            Err(source) => return Err(FrozenError::Io { path: file, source }),
        };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|e| FrozenError::Manifest {
                file: file.clone(),
                reason: e.to_string(),
            })?;
        if manifest.version != VERSION {
            let reason = format!("layout version {}, not {VERSION}", manifest.version);
            return Err(FrozenError::Manifest { file, reason });
        }
        Ok(Self {
            folder: folder.into(),
            manifest,
        })
    }

    /// Writes the manifest; from then on `folder` is a frozen machine. What the manifest says of a file already is held against
    /// the file first: sealed is what is there.
    pub fn seal(folder: &Path, mut manifest: Manifest) -> Result<Self, FrozenError> {
        let path = folder.join(Self::MANIFEST);
        let fail = |source| FrozenError::Io {
            path: path.clone(),
            source,
        };
        for stamp in &manifest.files {
            stamp.check(folder)?;
        }
        for name in [Self::RAM, Self::DELTA, Self::STATE] {
            let known = manifest.files.iter().any(|f| f.name == name);
            if !known && folder.join(name).exists() {
                let seen = Seen::lock_or_make(folder, name);
                // Before it is looked at: this is a change, too.
                freeze(&folder.join(name)).map_err(fail)?;
                let (stamp, changed_ns) = FileStamp::of(folder, name).map_err(fail)?;
                manifest.files.push(stamp);
                if let Some(seen) = seen {
                    seen.note(changed_ns);
                }
            }
        }
        for layer in disk::layers(folder).into_iter().take(manifest.layers) {
            freeze(&layer.path).map_err(fail)?;
        }
        if manifest.layers > 0 {
            freeze(&folder.join(disk::BLANK)).map_err(fail)?;
        }
        write_manifest(folder, &manifest).map_err(fail)?;
        Ok(Self {
            folder: folder.into(),
            manifest,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the memory was when it was frozen.
    pub fn ram_stamp(&self) -> Option<FileStamp> {
        let mut files = self.manifest.files.iter();
        files.find(|f| f.name == Self::RAM).cloned()
    }

    /// The memory.
    pub fn ram(&self) -> PathBuf {
        self.folder.join(Self::RAM)
    }

    /// The devices' state.
    pub fn state(&self) -> PathBuf {
        self.folder.join(Self::STATE)
    }

    /// The changed pages, if there are any.
    pub fn delta(&self) -> Option<PathBuf> {
        let has = self.manifest.files.iter().any(|f| f.name == Self::DELTA);
        has.then(|| self.folder.join(Self::DELTA))
    }

    /// Checks that every file is what it was frozen as: by size and times, and by content where a time differs.
    pub fn check(&self) -> Result<(), FrozenError> {
        self.check_with_disk(&self.folder)
    }

    /// The same for one that [`link_into`](Self::link_into) has put into a machine's folder, where the disk's layers are
    /// a floor above its other files.
    pub fn check_linked(&self) -> Result<(), FrozenError> {
        self.check_with_disk(self.folder.parent().unwrap_or(&self.folder))
    }

    fn check_with_disk(&self, layers: &Path) -> Result<(), FrozenError> {
        for stamp in &self.manifest.files {
            stamp.check(&self.folder)?;
        }
        self.check_layers(layers)
    }

    fn check_layers(&self, layers: &Path) -> Result<(), FrozenError> {
        for n in 0..self.manifest.layers {
            let file = layers.join(disk::layer_name(n));
            if !file.exists() {
                return Err(FrozenError::Damaged {
                    file,
                    what: "it is missing".into(),
                });
            }
        }
        Ok(())
    }

    /// Reads every file whose digest is known, whatever its times, and tells which are not what they were frozen as.
    pub fn verify(&self) -> Vec<FrozenError> {
        let stamps = self.manifest.files.iter();
        let mut wrong: Vec<_> = stamps
            .filter_map(|stamp| stamp.verify(&self.folder).err())
            .collect();
        wrong.extend(self.check_layers(&self.folder).err());
        wrong
    }

    /// Links everything into `folder`, so that it can be forked from there whatever becomes of this one: the frozen
    /// files into `folder/origin`, the disk's layers into `folder` itself, where a machine puts its own on top.
    pub fn link_into(&self, folder: &Path) -> Result<Self, FrozenError> {
        let origin = folder.join("origin");
        std::fs::create_dir(&origin).map_err(|source| FrozenError::Io {
            path: origin.clone(),
            source,
        })?;
        for stamp in &self.manifest.files {
            link(&self.folder, &origin, &stamp.name)?;
        }
        link(&self.folder, &origin, Self::MANIFEST)?;
        self.link_disk(folder)?;
        Ok(Self {
            folder: origin,
            manifest: self.manifest.clone(),
        })
    }

    /// Links everything into `folder`, a new one, where it then is as it is here.
    pub fn link_whole(&self, folder: &Path) -> Result<Self, FrozenError> {
        self.link_whole_from(&self.folder, folder)
    }

    /// The same for one whose disk's layers lie in another folder, as [`link_into`](Self::link_into) puts them.
    pub fn link_whole_from(&self, layers: &Path, folder: &Path) -> Result<Self, FrozenError> {
        std::fs::create_dir(folder).map_err(|source| FrozenError::Io {
            path: folder.into(),
            source,
        })?;
        for stamp in &self.manifest.files {
            link(&self.folder, folder, &stamp.name)?;
        }
        self.link_disk_from(layers, folder)?;
        // Last, as always: until then the folder is nothing.
        link(&self.folder, folder, Self::MANIFEST)?;
        Ok(Self {
            folder: folder.into(),
            manifest: self.manifest.clone(),
        })
    }

    /// Links the disk's layers into `folder`.
    pub fn link_disk(&self, folder: &Path) -> Result<(), FrozenError> {
        self.link_disk_from(&self.folder, folder)
    }

    fn link_disk_from(&self, layers: &Path, folder: &Path) -> Result<(), FrozenError> {
        for n in 0..self.manifest.layers {
            link(layers, folder, &disk::layer_name(n))?;
        }
        if self.manifest.layers > 0 {
            link(layers, folder, disk::BLANK)?;
        }
        Ok(())
    }

    /// What the folder takes on disk that it shares with no other, in bytes.
    pub fn own_size(&self) -> io::Result<u64> {
        let mut sum = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let meta = entry?.metadata()?;
            if meta.is_file() && meta.nlink() == 1 {
                sum += meta.blocks() * 512;
            }
        }
        Ok(sum)
    }
}

/// Puts the manifest in its place, in one step.
fn write_manifest(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let temporary = folder.join(".manifest");
    let json =
        serde_json::to_vec_pretty(manifest).expect("a manifest can always be written as JSON");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::write(&temporary, json)?;
    freeze(&temporary)?;
    std::fs::rename(&temporary, folder.join(Frozen::MANIFEST))
}

/// Lets nobody write to a frozen file any more but a process with the capability to: forks, and snapshots, have links to it, and
/// a process inside a fence has no capability and cannot change a mode back. An image's disk, which is frozen already, may be read by
/// others.
fn freeze(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o222 == 0 {
        return Ok(());
    }
    rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR).map_err(Into::into)
}

/// Lets a file of memory be opened for writing, for a QEMU that opens it itself, as [`Memory::Opened`](crate::fence) says, and is
/// not root's: it opens the file to read and write it although it maps it privately.
pub fn thaw(ram: &Path) -> io::Result<()> {
    let file = File::open(ram)?;
    if file.metadata()?.mode() & 0o200 != 0 {
        return Ok(());
    }
    let (folder, name) = (ram.parent(), ram.file_name());
    let (Some(folder), Some(name)) = (folder, name.and_then(|name| name.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    seen::change(folder, name, || {
        rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .map_err(Into::into)
    })
}

/// Takes the frozen files out of a folder, be it a frozen machine's, a machine's or that of one of its forks, before the
/// folder is removed: what others have linked of them stays known. Without this the next fork reads them all, once.
pub fn release(folder: &Path) {
    let parts = ["origin", "base", "source"].map(|part| folder.join(part));
    let mut folders = vec![folder.to_owned()];
    folders.extend(parts);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("fork-") {
            folders.push(entry.path().join("origin"));
        }
    }
    for folder in folders.iter().filter(|f| f.join(Frozen::MANIFEST).exists()) {
        // First, so that nobody takes what is half gone for damaged.
        let removed = std::fs::remove_file(folder.join(Frozen::MANIFEST)).and_then(|()| {
            [Frozen::RAM, Frozen::DELTA, Frozen::STATE]
                .iter()
                .try_for_each(|name| seen::unlink(folder, name))
        });
        if let Err(e) = removed {
            tracing::debug!("cannot take frozen files out of {}: {e}", folder.display());
        }
    }
}

/// Links file `name` of one folder into another, with what is known of its content.
pub fn link(from: &Path, to: &Path, name: &str) -> Result<(), FrozenError> {
    seen::link(from, to, name).map_err(|source| FrozenError::Io {
        path: from.join(name),
        source,
    })
}

/// Digest of parts, in order.
pub fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize())[..32].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |s, b| {
            s + &format!("{b:02x}")
        })
}
