//! Where images are kept.
//!
//! ```text
//! images/
//!   sha256-…/            an image: manifest.json, and disk.raw unless it lives in memory
//!   refs/NAME            which image a name means, and the recipe that made it
//!   kernels/sha256-…/    kernels; `default` names one
//!   busybox/sha256-…/    the same for busybox
//!   initramfs/…cpio      made when needed, deleted at will
//!   locks/               one file for each piece of work that must not be done twice at once
//!   .tmp-…/              work in progress; its builder holds `lock` in it
//! ```
//!
//! What is in the store is whole: it is made in a `.tmp-` folder, written to disk, and renamed into place as the last
//! step. A `.tmp-` folder whose lock nobody holds is what a killed builder left, and goes with the next open. Folders
//! under a digest never change; a name's file is replaced in one step.

mod draft;
mod image;
mod prune;

pub use draft::{Built, Draft};
pub(crate) use draft::{CONTENT, DISK, NewDraft};
pub use image::{BootDisk, BootFiles, Image};
pub use prune::Pruned;

use crate::busybox::Busybox;
use crate::digest::Digest;
use crate::fsx::{self, FileError, OnFile};
use crate::kernel::Kernel;
use crate::lock::{Lock, LockError};
use crate::progress::Progress;
use crate::recipe::{ImageName, InvalidImageName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_model::{ErrorKind, Home};

/// The form of all files that this version writes. Files of a later one are refused.
pub(crate) const SCHEMA: u32 = 1;

/// How long one process waits for another one that does the same work.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The images of one home.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
}

/// The store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A string that cannot be an image's name.
    #[error(transparent)]
    Name(#[from] InvalidImageName),
    /// There is no image of this name.
    #[error("there is no image {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A file of the store is not what it was.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        what: &'static str,
    },
    /// A manifest cannot be read.
    #[error("{} is damaged", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest of a later version.
    #[error("{} was written by a newer vmint (form {found}, this one knows {SCHEMA})", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// Another process does the same work, and does not finish.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl StoreError {
    /// What kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) => ErrorKind::Usage,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } | Self::Unreadable { .. } | Self::TooNew { .. } => {
                ErrorKind::Corrupt
            }
            Self::Lock(LockError::TimedOut { .. }) => ErrorKind::TimedOut,
            Self::Lock(LockError::File(e)) | Self::File(e) => e.kind(),
        }
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name(_) => None,
            Self::NotFound { .. } => Some("`vmint image ls` lists those there are; tiny, debian:12 and debian:13 are built on first use".to_owned()),
            Self::Damaged { path, .. } | Self::Unreadable { path, .. } => {
                let name = path.parent().unwrap_or(path).display();
                Some(format!("remove the image with `vmint image rm` and build it again, or delete {name}"))
            }
            Self::TooNew { .. } => Some("use the newer vmint, or another VMINT_HOME".to_owned()),
            Self::Lock(LockError::TimedOut { .. }) => Some("look for a vmint process that hangs".to_owned()),
            Self::Lock(LockError::File(e)) | Self::File(e) => e.hint(),
        }
    }
}

/// What a name's file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ref {
    pub(crate) schema: u32,
    pub(crate) digest: Digest,
    /// Of the recipe that made it; absent for imports.
    #[serde(default)]
    pub(crate) recipe: Option<Digest>,
}

impl ImageStore {
    /// Opens a home's images, creating the folders, and clears up what killed builders left.
    pub fn open(home: &Home) -> Result<Self, StoreError> {
        let store = Self {
            root: home.images(),
        };
        fsx::create_private_dir(&store.root)?;
        for name in fsx::names(&store.root)? {
            if name.starts_with(".tmp-") {
                store.clear_abandoned(&store.root.join(name))?;
            }
        }
        Ok(store)
    }

    pub(crate) fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    pub(crate) fn busyboxes(&self) -> PathBuf {
        self.root.join("busybox")
    }

    pub(crate) fn initramfs_cache(&self) -> PathBuf {
        self.root.join("initramfs")
    }

    fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub(crate) fn image_dir(&self, digest: Digest) -> PathBuf {
        self.root.join(digest.file_name())
    }

    /// The lock for what must be seen as one step; held for moments.
    pub(crate) fn step_lock(&self) -> Result<Lock, StoreError> {
        Ok(Lock::take(
            &self.root.join("lock"),
            Duration::from_secs(60),
            || (),
        )?)
    }

    /// The lock for a piece of work that may take minutes.
    pub(crate) fn work_lock(
        &self,
        work: &str,
        progress: &dyn Progress,
        waiting: &str,
    ) -> Result<Lock, StoreError> {
        let dir = self.root.join("locks");
        fsx::create_private_dir(&dir)?;
        Ok(Lock::take(&dir.join(work), PATIENCE, || {
            progress.stage(waiting);
        })?)
    }

    /// A folder for work in progress. Who finds it without its lock held may delete it.
    pub(crate) fn temp_dir(&self) -> Result<Workspace, StoreError> {
        let _step = self.step_lock()?;
        let dir = tempfile::Builder::new()
            .prefix(".tmp-")
            .tempdir_in(&self.root)
            .on("create a folder in", &self.root)?;
        let lock_path = dir.path().join("lock");
        let lock = Lock::try_take(&lock_path)?;
        let lock = lock.ok_or(StoreError::Damaged {
            path: lock_path,
            what: "somebody else holds a new lock",
        })?;
        Ok(Workspace { dir, _lock: lock })
    }

    /// Deletes a temporary folder unless its builder lives.
    fn clear_abandoned(&self, path: &Path) -> Result<bool, StoreError> {
        let _step = self.step_lock()?;
        if !path.is_dir() {
            return Ok(false);
        }
        let Some(_lock) = Lock::try_take(&path.join("lock"))? else {
            return Ok(false);
        };
        tracing::info!(path = %path.display(), "deleting what an interrupted build left");
        fsx::remove(path)?;
        Ok(true)
    }

    /// Moves a finished folder to where its digest says, unless an equal one is there already.
    pub(crate) fn adopt(
        &self,
        dir: &Path,
        parent: &Path,
        digest: Digest,
    ) -> Result<PathBuf, StoreError> {
        fsx::create_private_dir(parent)?;
        let target = parent.join(digest.file_name());
        sync_tree(dir)?;
        let _step = self.step_lock()?;
        if target.is_dir() {
            // An equal one, or one that was damaged since. Exchanged in one step, for others may be reading it.
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, dir, rustix::fs::CWD, &target, flags)
                .on("replace", &target)?;
        } else {
            fs::rename(dir, &target).on("rename a temporary folder to", &target)?;
        }
        fsx::sync(parent)?;
        Ok(target)
    }

    pub(crate) fn default_kernel(&self) -> Result<Option<Kernel>, StoreError> {
        let opened = default_of(&self.kernels())?
            .map(|(dir, _)| Kernel::open(dir))
            .transpose();
        unless_damaged(opened)
    }

    pub(crate) fn default_busybox(&self) -> Result<Option<Busybox>, StoreError> {
        let opened = default_of(&self.busyboxes())?
            .map(|(dir, digest)| Busybox::open(dir, digest))
            .transpose();
        unless_damaged(opened)
    }

    pub(crate) fn kernel(&self, digest: Digest) -> Result<Kernel, StoreError> {
        Kernel::open(self.kernels().join(digest.file_name()))
    }

    pub(crate) fn busybox(&self, digest: Digest) -> Result<Busybox, StoreError> {
        Busybox::open(self.busyboxes().join(digest.file_name()), digest)
    }

    pub(crate) fn read_ref(&self, name: &ImageName) -> Result<Option<Ref>, StoreError> {
        let path = self.refs().join(name.file_name());
        if path.is_file() {
            read_manifest(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn write_ref(
        &self,
        name: &ImageName,
        digest: Digest,
        recipe: Option<Digest>,
    ) -> Result<(), StoreError> {
        fsx::create_private_dir(&self.refs())?;
        write_manifest(
            &self.refs().join(name.file_name()),
            &Ref {
                schema: SCHEMA,
                digest,
                recipe,
            },
        )
    }

    /// The image that a name means; `None` if there is none. An image whose files are missing or have changed is an
    /// error.
    pub fn find(&self, name: &str) -> Result<Option<Image>, StoreError> {
        let Ok(name) = name.parse::<ImageName>() else {
            return Ok(None);
        };
        let Some(its) = self.read_ref(&name)? else {
            return Ok(None);
        };
        Image::open(self, name, its.digest).map(Some)
    }

    /// The image that this recipe made before; gives it this name too if it has another. A damaged one does not count: it
    /// is built again.
    pub(crate) fn built_by(
        &self,
        name: &ImageName,
        recipe: Digest,
    ) -> Result<Option<Image>, StoreError> {
        let others = fsx::names(&self.refs())?;
        let others = others
            .iter()
            .filter_map(|file| ImageName::from_file_name(file))
            .filter(|other| other != name);
        for candidate in std::iter::once(name.clone()).chain(others) {
            let Ok(Some(its)) = self.read_ref(&candidate) else {
                continue;
            };
            if its.recipe != Some(recipe) {
                continue;
            }
            match Image::open(self, name.clone(), its.digest) {
                Ok(image) => {
                    if candidate != *name {
                        let _step = self.step_lock()?;
                        self.write_ref(name, its.digest, its.recipe)?;
                    }
                    return Ok(Some(image));
                }
                Err(e) => tracing::warn!(image = %candidate, "not used as it is: {e}"),
            }
        }
        Ok(None)
    }

    /// Like [`find`](Self::find), but no such image is an error.
    pub fn inspect(&self, name: &str) -> Result<Image, StoreError> {
        self.find(name)?.ok_or_else(|| StoreError::NotFound {
            name: name.chars().take(80).collect(),
        })
    }

    /// All images by name; each with the error if it is damaged.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut images = Vec::new();
        for name in fsx::names(&self.refs())?
            .iter()
            .filter_map(|file| ImageName::from_file_name(file))
        {
            match self.find(name.as_str()) {
                Ok(Some(image)) => images.push(Listed {
                    name,
                    image: Ok(image),
                }),
                // Removed while we looked.
                Ok(None) => {}
                Err(e) => images.push(Listed {
                    name,
                    image: Err(e),
                }),
            }
        }
        Ok(images)
    }

    /// Forgets a name. The image's files go with [`prune`](Self::prune), when nothing needs them any more.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let not_found = || StoreError::NotFound {
            name: name.chars().take(80).collect(),
        };
        let parsed: ImageName = name.parse().map_err(|_| not_found())?;
        let _step = self.step_lock()?;
        let path = self.refs().join(parsed.file_name());
        match fs::remove_file(&path) {
            Ok(()) => Ok(fsx::sync(&self.refs())?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(not_found()),
            Err(e) => Err(e).on("delete", &path)?,
        }
    }
}

/// What `default` in a folder names, if that is there.
fn default_of(dir: &Path) -> Result<Option<(PathBuf, Digest)>, StoreError> {
    let path = dir.join("default");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let damaged = |_| StoreError::Damaged {
                path: path.clone(),
                what: "it holds no digest",
            };
            let digest: Digest = text.trim().parse().map_err(damaged)?;
            Ok(Some((dir.join(digest.file_name()), digest)).filter(|(dir, _)| dir.is_dir()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).on("read", &path)?,
    }
}

/// What can be fetched again is no loss.
fn unless_damaged<T>(opened: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match opened {
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            tracing::warn!("fetching it again: {e}");
            Ok(None)
        }
        opened => opened,
    }
}

/// A name, and the image that it means.
#[derive(Debug)]
pub struct Listed {
    /// The name.
    pub name: ImageName,
    /// The image, or in what way it is damaged.
    pub image: Result<Image, StoreError>,
}

/// A folder for work in progress; deleted on drop.
#[derive(Debug)]
pub(crate) struct Workspace {
    // Before the lock: as long as the folder is there, the lock is held.
    dir: tempfile::TempDir,
    _lock: Lock,
}

impl Workspace {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Writes every file and folder below a folder to the disk.
fn sync_tree(dir: &Path) -> Result<(), FileError> {
    // One call for the file system beats thousands for its files.
    let file = fs::File::open(dir).on("open", dir)?;
    rustix::fs::syncfs(&file).on("write to disk", dir)
}

/// Reads a JSON file of the store; refuses one of a later form before it looks at the rest.
pub(crate) fn read_manifest<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct Form {
        schema: u32,
    }
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                what: "it is missing",
            });
        }
        result => result.on("read", path)?,
    };
    let unreadable = |source| StoreError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let form: Form = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if form.schema > SCHEMA {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: form.schema,
        });
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

pub(crate) fn write_manifest(path: &Path, manifest: &impl Serialize) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(manifest).expect("plain data becomes JSON");
    bytes.push(b'\n');
    Ok(fsx::replace(path, &bytes)?)
}

/// Checks that a file is there and has its size.
pub(crate) fn check_size(path: &Path, size: u64) -> Result<(), StoreError> {
    let damaged = |what| StoreError::Damaged {
        path: path.to_owned(),
        what,
    };
    match fs::metadata(path) {
        Ok(meta) if meta.len() == size => Ok(()),
        Ok(_) => Err(damaged("it has another size than it was written with")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(damaged("it is missing")),
        Err(e) => Err(e).on("read", path)?,
    }
}
