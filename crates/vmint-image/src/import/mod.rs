//! Root file systems made by others, taken as they are.
//!
//! ```text
//! rootfs.tar[.gz|.xz|.zst] ───────────────────────────────────┐
//! docker://REF ─ registry ─┐                                  ▼
//! oci-archive:FILE ─ archive ─▶ a layout folder ─ oci ─▶ layers, one over the other, in a tree ─▶ a disk
//! oci:DIR ─────────────────────▲
//! ```
//!
//! * `source`: what can be named.
//! * `registry`, `archive`: into a layout folder. Without the feature `registry`, `no_registry` says what is missing.
//! * `oci`: from a layout to its layers and its configuration.
//! * `inspect`: what a root file system is: its architecture, its init.

mod archive;
mod error;
mod inspect;
#[cfg(any(test, not(feature = "registry")))]
#[cfg_attr(
    feature = "registry",
    expect(unreachable_pub, reason = "its tests are all that uses it")
)]
mod no_registry;
mod oci;
#[cfg(feature = "registry")]
mod registry;
mod run;
mod source;

#[cfg(fuzzing)]
pub(crate) use archive::extract as extract_archive;
pub use error::ImportError;
#[cfg(not(feature = "registry"))]
use no_registry as registry;
pub use registry::Reference;
pub use run::ImportOptions;
pub use source::{ImportSource, InvalidSource};
