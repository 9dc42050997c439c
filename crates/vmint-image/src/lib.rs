//! Images: built, imported, kept. Nothing is booted here.
//!
//! An image is a kernel and a root file system. `tiny` has its root in the initramfs; all others have a disk. The way of
//! an image:
//!
//! ```text
//! Recipe ─ ImageStore::build ─┐                                        ┌─▶ Image ─ boot_files ─▶ a hypervisor
//! source ─ ImageStore::import ┴─▶ Draft ─ its commands, run by others ─┴ commit
//! ```
//!
//! * [`store`]: what is kept and how it stays whole; [`Image`], [`Draft`].
//! * [`recipe`], [`build`], [`import`]: how an image is made.
//! * [`kernel`], [`initramfs`], [`cpio`]: what a guest boots before it has a disk.
//! * [`progress`]: how long operations tell what they do.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

mod apt;
pub mod arch;
pub mod build;
mod busybox;
mod command;
pub mod cpio;
mod decompress;
pub mod digest;
mod fsx;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod import;
pub mod initramfs;
pub mod kernel;
mod kit;
mod lock;
pub mod manifest;
pub mod progress;
pub mod recipe;
mod rootfs;
pub mod store;
mod why;

pub use apt::PackageError;
pub use arch::Arch;
pub use build::BuildError;
pub use command::CommandError;
pub use digest::Digest;
pub use fsx::FileError;
pub use import::{ImportError, ImportOptions, ImportSource};
pub use kernel::{KernelError, KernelSource};
pub use kit::Kit;
pub use lock::LockError;
pub use manifest::{Defaults, InitKind, Manifest};
pub use progress::{Progress, Silent};
pub use recipe::{Base, CopyIn, Debian, ImageName, Recipe};
pub use rootfs::debian::DebianError;
pub use rootfs::ext4::DiskError;
pub use rootfs::unpack::UnpackError;
pub use store::{BootFiles, Built, Draft, Image, ImageStore, StoreError};

/// The guest's agent: a static program for this host's architecture.
pub const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vmint-agent"));

/// The agent's SHA-256 as 64 hexadecimal digits.
pub const AGENT_DIGEST: &str = env!("VMINT_AGENT_DIGEST");
