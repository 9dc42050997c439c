//! From a recipe to a draft.

use crate::busybox;
use crate::fsx::{self, FileError, OnFile};
use crate::kernel::{self, KernelError};
use crate::manifest::{Defaults, InitKind};
use crate::progress::Progress;
use crate::recipe::{Base, ImageName, Recipe};
use crate::rootfs::copy;
use crate::rootfs::debian::{self, DebianError};
use crate::rootfs::ext4::{self, DiskError};
use crate::rootfs::tree::Tree;
use crate::store::{Built, CONTENT, DISK, Draft, ImageStore, NewDraft, StoreError};
use vmint_model::{ErrorKind, Explained};

/// An image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The recipe asks for what its base cannot do.
    #[error("`{base}` has no disk; {what} needs one")]
    NoDisk {
        /// The base.
        base: Base,
        /// What was asked for.
        what: &'static str,
    },
    /// The kernel, or busybox, could not be had.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Debian could not be installed.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// The disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Explained for BuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoDisk { .. } => ErrorKind::Usage,
            Self::Kernel(e) => e.kind(),
            Self::Debian(e) => e.kind(),
            Self::Disk(e) => e.kind(),
            Self::Store(e) => e.kind(),
            Self::File(e) => e.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoDisk { .. } => Some("build from debian:12 or debian:13".to_owned()),
            Self::Kernel(e) => e.hint(),
            Self::Debian(e) => e.hint(),
            Self::Disk(e) => e.hint(),
            Self::Store(e) => e.hint(),
            Self::File(e) => e.hint(),
        }
    }
}

impl ImageStore {
    /// Builds an image, unless this name has been built by this recipe before, or another name has: then that image
    /// gets this name too. The draft's [`commands`](Draft::commands) are the caller's to run.
    ///
    /// When another process builds by the same recipe, this waits for it.
    pub fn build(
        &self,
        name: &str,
        recipe: &Recipe,
        progress: &dyn Progress,
    ) -> Result<Built, BuildError> {
        let name: ImageName = name.parse().map_err(StoreError::from)?;
        check(recipe)?;
        let digest = recipe.digest()?;
        if let Some(image) = self.built_by(&name, digest)? {
            return Ok(Built::Existing(image));
        }
        let waiting = format!("waiting for another process that builds {name}");
        let work = self.work_lock(&format!("build-{}", digest.file_name()), progress, &waiting)?;
        if let Some(image) = self.built_by(&name, digest)? {
            return Ok(Built::Existing(image));
        }
        let kernel = kernel::obtain(self, &recipe.kernel, progress)?;
        let busybox = busybox::obtain(self, progress)?;
        let workspace = self.temp_dir()?;
        let content = workspace.path().join(CONTENT);
        fsx::create_private_dir(&content)?;
        if let Base::Debian(release) = recipe.base {
            let root = workspace.path().join("root");
            let mut tree = Tree::create(&root).on("create", &root)?;
            debian::bootstrap(
                &mut tree,
                release,
                recipe,
                &kernel,
                workspace.path(),
                progress,
            )?;
            copy::copy_in(&mut tree, &recipe.copy, progress)?;
            ext4::make(
                &tree,
                &content.join(DISK),
                recipe.size.0,
                self.confine,
                progress,
            )?;
            drop(tree);
            fsx::remove(&root)?;
        }
        let (file_system, init) = match recipe.base {
            Base::Tiny => (None, InitKind::Agent),
            Base::Debian(_) => (Some(ext4::FILE_SYSTEM), InitKind::Systemd),
        };
        let new = NewDraft {
            name,
            kernel: &kernel,
            busybox: busybox.digest(),
            file_system,
            init,
            defaults: Defaults::default(),
            origin: recipe.summary(),
            recipe: Some(digest),
            run: recipe.run.clone(),
        };
        Ok(Built::Draft(Draft::new(self, workspace, work, new)?))
    }
}

fn check(recipe: &Recipe) -> Result<(), BuildError> {
    let no = |what| {
        Err(BuildError::NoDisk {
            base: recipe.base,
            what,
        })
    };
    match recipe.base {
        Base::Tiny if !recipe.packages.is_empty() => no("packages"),
        Base::Tiny if !recipe.run.is_empty() => no("commands"),
        Base::Tiny if !recipe.copy.is_empty() => no("copies"),
        _ => Ok(()),
    }
}
