//! An import, from its source to a draft.

use super::error::ImportError;
use super::source::ImportSource;
use super::{archive, inspect, oci, registry};
use crate::arch::Arch;
use crate::busybox;
use crate::decompress;
use crate::digest::{Digest, DigestReader};
use crate::fsx::{self, OnFile};
use crate::kernel::{self, KernelSource};
use crate::manifest::{Defaults, InitKind};
use crate::progress::Progress;
use crate::recipe::{DEFAULT_DISK, ImageName};
use crate::rootfs::ext4;
use crate::rootfs::tree::Tree;
use crate::rootfs::unpack::{self, Budget, Whiteouts};
use crate::store::{CONTENT, DISK, Draft, ImageStore, NewDraft, StoreError};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use vmint_model::ByteSize;

/// How an import is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// The disk's size; as large as needed, but at least [`DEFAULT_DISK`], when absent.
    pub size: Option<ByteSize>,
    /// What runs as PID 1; found by looking when absent.
    pub init: Option<InitKind>,
    /// The kernel.
    pub kernel: KernelSource,
    /// More bytes of files than this are refused.
    pub limit: ByteSize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            size: None,
            init: None,
            kernel: KernelSource::default(),
            limit: ByteSize::mib(64 << 10),
        }
    }
}

impl ImageStore {
    /// Imports a root file system. Commit the draft to have the image.
    pub fn import(
        &self,
        name: &str,
        source: &ImportSource,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Draft, ImportError> {
        let name: ImageName = name.parse().map_err(StoreError::from)?;
        let work = self.work_lock(
            &format!("import-{}", name.file_name()),
            progress,
            &format!("waiting for another process that imports {name}"),
        )?;
        let workspace = self.temp_dir()?;
        let (content, root) = (
            workspace.path().join(CONTENT),
            workspace.path().join("root"),
        );
        fsx::create_private_dir(&content)?;
        let mut tree = Tree::create(&root).on("create", &root)?;
        let mut budget = Budget::new(options.limit.0);
        let defaults = fill(&mut tree, source, workspace.path(), &mut budget, progress)?;
        inspect::refuse_an_archive_of_an_image(&tree, source)?;
        inspect::check_architecture(&tree, &defaults, source)?;
        let init = options.init.unwrap_or_else(|| inspect::init_of(&tree));
        inspect::add_mount_points(&mut tree).on("create mount points in", &root)?;
        if let Some(dir) = &defaults.workdir {
            // Container engines make it when they start; commands begin there.
            tree.directory_behind_links(dir)
                .on("create its working directory in", &root)?;
        }

        let kernel = kernel::obtain(self, &options.kernel, progress)?;
        let busybox = busybox::obtain(self, progress)?;
        let size = match options.size {
            Some(size) => size.0,
            None => DEFAULT_DISK.0.max(
                tree.content_size()
                    .saturating_mul(2)
                    .next_multiple_of(1 << 30),
            ),
        };
        ext4::make(&tree, &content.join(DISK), size, self.confine, progress)?;
        drop(tree);
        fsx::remove(&root)?;
        let new = NewDraft {
            name,
            kernel: &kernel,
            busybox: busybox.digest(),
            file_system: Some(ext4::FILE_SYSTEM),
            init,
            defaults,
            origin: format!("imported from {source}"),
            recipe: None,
            run: Vec::new(),
        };
        Ok(Draft::new(self, workspace, work, new)?)
    }
}

/// Puts the source's files into the tree; gives the defaults that come with them.
fn fill(
    tree: &mut Tree,
    source: &ImportSource,
    scratch: &Path,
    budget: &mut Budget,
    progress: &dyn Progress,
) -> Result<Defaults, ImportError> {
    let downloaded = scratch.join("layout");
    let image = match source {
        ImportSource::Tar(path) => {
            progress.stage("unpacking");
            let file = ImportError::open(path)?;
            let total = file.metadata().on("read", path)?.len();
            // The decoder may be a thread of its own, which cannot share the progress: it is told by position.
            let stream = decompress::reader(file).on("read", path)?;
            progress.bytes(0, Some(total));
            unpack::unpack(stream, tree, Whiteouts::Keep, budget)?;
            return Ok(Defaults::default());
        }
        ImportSource::OciDir { dir, tag } => oci::open(dir, tag.as_deref(), source)?,
        ImportSource::OciArchive { file, tag } => {
            progress.stage("reading the archive");
            archive::extract(file, &downloaded, budget)?;
            oci::open(&downloaded, tag.as_deref(), source)?
        }
        ImportSource::Registry(reference) => {
            registry::pull(reference, &downloaded, budget.bytes, progress)?;
            oci::open(&downloaded, None, source)?
        }
    };
    if !image.is_for(Arch::HOST) {
        return Err(ImportError::WrongArchitecture {
            source_name: source.to_string(),
            found: image.platform(),
        });
    }
    for (i, layer) in image.layers.iter().enumerate() {
        progress.stage(&format!(
            "unpacking layer {} of {}",
            i + 1,
            image.layers.len()
        ));
        let file = ImportError::open(&layer.path)?;
        unpack_layer(file, layer, tree, budget, &format!("layer {}", i + 1))?;
    }
    Ok(image.defaults())
}

/// Unpacks a layer and compares it with its digest. A wrong one may have been unpacked before that shows; the import fails
/// all the same, and what was unpacked is deleted.
fn unpack_layer(
    mut file: File,
    layer: &oci::Layer,
    tree: &mut Tree,
    budget: &mut Budget,
    what: &str,
) -> Result<(), ImportError> {
    let path = &layer.path;
    let check = |found| match found {
        found if found == layer.digest => Ok(()),
        found => Err(ImportError::WrongDigest {
            what: what.to_owned(),
            expected: layer.digest,
            found,
        }),
    };
    match layer.digested {
        oci::Digested::Compressed => {
            check(Digest::of_reader(&mut file).on("read", path)?)?;
            file.rewind().on("read", path)?;
            Ok(unpack::unpack(
                decompress::reader(file).on("read", path)?,
                tree,
                Whiteouts::Apply,
                budget,
            )?)
        }
        oci::Digested::Plain => {
            let mut stream = DigestReader::new(decompress::reader(file).on("read", path)?);
            unpack::unpack(stream.by_ref(), tree, Whiteouts::Apply, budget)?;
            check(stream.finish().on("read", path)?)
        }
    }
}

impl ImportError {
    pub(super) fn open(path: &Path) -> Result<File, ImportError> {
        let file = File::open(path).on("open", path)?;
        if file.metadata().on("read", path)?.is_dir() {
            return Err(ImportError::IsFolder {
                path: path.to_owned(),
            });
        }
        Ok(file)
    }
}
