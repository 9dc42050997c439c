//! The folder of a home's images: names, locks, and what they lead to.

use super::file::{Ref, read_manifest, write_manifest};
use super::image::Image;
use super::{SCHEMA, StoreError};
use crate::busybox::Busybox;
use crate::digest::Digest;
use crate::fsx::{self, OnFile};
use crate::kernel::Kernel;
use crate::kit::Kit;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::recipe::ImageName;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_model::{Confine, ErrorKind, Explained, Home};

/// How long one process waits for another one that does the same work.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The images of one home.
#[derive(Clone, Debug)]
pub struct ImageStore {
    pub(super) root: PathBuf,
    /// How strictly programs that read what images hold are fenced in.
    pub(crate) confine: Confine,
    /// Parts of guests that came with vmint.
    pub(crate) kit: Option<Kit>,
}

impl ImageStore {
    /// The same, where programs that read what images hold are fenced in so strictly.
    #[must_use]
    pub fn confined(self, confine: Confine) -> Self {
        Self { confine, ..self }
    }

    /// The same, where what came with vmint is taken before a distribution's packages are asked for it.
    #[must_use]
    pub fn with_kit(self, kit: Option<Kit>) -> Self {
        Self { kit, ..self }
    }

    /// Opens a home's images, creating the folders, and clears up what killed builders left.
    pub fn open(home: &Home) -> Result<Self, StoreError> {
        let store = Self {
            root: home.images(),
            confine: Confine::Best,
            kit: None,
        };
        fsx::create_private_dir(&store.root)?;
        for name in fsx::names(&store.root)? {
            if name.starts_with(".tmp-") {
                // What cannot be cleared up now, because a child of the builder's still dies, is the next command's.
                if let Err(e) = store.clear_abandoned(&store.root.join(&name)) {
                    tracing::warn!("left for the next command: {e}");
                }
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

    pub(super) fn refs(&self) -> PathBuf {
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

    /// The image of this digest, whether or not a name still means it; `None` if it is not here. It is called `name`.
    pub fn find_digest(&self, name: &str, digest: Digest) -> Result<Option<Image>, StoreError> {
        let Ok(name) = name.parse::<ImageName>() else {
            return Ok(None);
        };
        if !self.image_dir(digest).exists() {
            return Ok(None);
        }
        Image::open(self, name, digest).map(Some)
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
