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
mod error;
mod file;
mod folder;
mod image;
mod prune;
mod workspace;

pub use draft::{Built, Draft};
pub(crate) use draft::{CONTENT, DISK, NewDraft};
pub use error::StoreError;
pub(crate) use file::{check_size, read_manifest, write_manifest};
pub use folder::{ImageStore, Listed};
pub use image::{BootDisk, BootFiles, Image};
pub use prune::Pruned;
use workspace::Workspace;

/// The form of all files that this version writes. Files of a later one are refused.
pub(crate) const SCHEMA: u32 = 1;
