//! Guest kernels: from a file, or from the distribution's package without installing it.
//!
//! A kernel is kept under its digest as `vmlinuz`, `modules/` (what `/lib/modules/VERSION` holds) and `manifest.json`.
//! The first one that is fetched becomes the default and serves all images; later builds do not ask the distribution.

mod elf;
mod modules;
mod obtain;
mod stored;

pub(crate) use modules::ModuleTree;
pub use modules::ModulesError;
pub(crate) use obtain::obtain;
pub use stored::{Kernel, KernelError, KernelManifest, KernelSource};
