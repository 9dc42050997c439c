//! Settings: what commands do when their flags do not say otherwise.
//!
//! Flags win over the environment (`VMINT_*`), the environment over `vmint.toml` in the working directory or the nearest
//! folder above it, that file over the defaults. Nothing in the file is ignored: an unknown key is an error that names
//! the nearest known one, and every other mistake is told with its line.
//!
//! * `document`: finds the file, reads it, and knows where in it everything is.
//! * [`keys`]: every table and key, with what it is for; `docs/configuration.md` is made of it.
//! * `sections`: the tables and their keys; `admission`, `workflow`: those of these tables.
//! * `parse`: what a single value may be; the same in the file and in the environment.
//! * `trust`: how far a file is believed.
//! * `setting`: a setting and where it comes from, for `vmint config show`.

mod admission;
mod document;
mod error;
#[cfg(test)]
mod key_tests;
pub mod keys;
mod parse;
mod sections;
mod setting;
#[cfg(test)]
mod tests;
mod trust;
mod workflow;

pub use error::{ConfigError, Place};
pub use setting::{Setting, Source, Value};
pub use trust::{Trust, VARIABLE as TRUST_VARIABLE};
pub use workflow::WorkflowSettings;

use document::Document;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_image::{ImageName, ImportOptions, ImportSource, Recipe};
use vmint_model::{Accelerator, ByteSize, Confine, Limits, Name, NetMode};

/// All settings, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The `vmint.toml` that was read, if there is one.
    pub file: Option<PathBuf>,
    /// How far that file is believed.
    pub trust: Trust,
    /// What executes guests.
    pub accelerator: AcceleratorChoice,
    /// `VMINT_CONFINE`: how strictly hypervisors are fenced in. The file cannot turn it off: a checkout brings its own file.
    pub confine: Confine,
    /// For machines.
    pub defaults: Defaults,
    /// For snapshots.
    pub snapshots: Snapshots,
    /// For what is started.
    pub admission: crate::Admission,
    /// Images that the file declares.
    pub images: BTreeMap<ImageName, ImageDefinition>,
    /// Of those that name one: the program in the image that runs JavaScript actions.
    pub nodes: BTreeMap<ImageName, String>,
    /// Pools that the file declares.
    pub pools: BTreeMap<Name, PoolDefinition>,
    /// For workflows.
    pub workflow: WorkflowSettings,
    settings: Vec<Setting>,
}

/// What a machine is unless flags say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `VMINT_IMAGE`.
    pub image: ImageName,
    /// `VMINT_MEMORY`. Whole MiB, at least [`LEAST_MEMORY`].
    pub memory: ByteSize,
    /// `VMINT_CPUS`. At least one.
    pub cpus: u32,
    /// `VMINT_NET`.
    pub net: NetMode,
    /// `VMINT_CPU_LIMIT`, `VMINT_IO_LIMIT`, `VMINT_DISK_LIMIT`.
    pub limits: Limits,
    /// How long a machine may take to start; vmint's own deadline for the accelerator when absent.
    pub start_timeout: Option<Duration>,
}

pub use vmint_model::spec::LEAST_MEMORY;

/// What executes guests, as the user wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// KVM if a probe guest comes up with it, else emulation.
    #[default]
    Auto,
    /// This one or none.
    Only(Accelerator),
}

/// How snapshots are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// `VMINT_SNAPSHOT_FULL`: save all of a machine's memory, not only what changed.
    pub full: bool,
}

/// An image that the file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageDefinition {
    /// Built from a recipe.
    Build(Recipe),
    /// Imported.
    Import {
        /// From where.
        source: ImportSource,
        /// How.
        options: ImportOptions,
    },
}

/// A pool that the file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDefinition {
    /// The image of its machines.
    pub image: ImageName,
    /// Machines kept ready; at most `max`.
    pub min: u32,
    /// Machines that may exist at once; at least one.
    pub max: u32,
    /// Parked forks beyond those in use, for a quick reset.
    pub standby: u32,
    /// Guest memory; the file's default unless given. The environment does not change a pool.
    pub memory: ByteSize,
    /// Virtual processors; likewise.
    pub cpus: u32,
    /// Network; likewise.
    pub net: NetMode,
    /// What each may take of its host; likewise.
    pub limits: Limits,
    /// How long a lease lasts.
    pub ttl: Duration,
    /// After how many leases a machine is replaced; never when absent.
    pub max_uses: Option<u32>,
}

/// The settings of admission where there is no file.
///
/// # Errors
/// The first mistake in the environment.
pub fn admission_from_environment() -> Result<crate::Admission, ConfigError> {
    admission::from_environment(&|name| std::env::var_os(name))
}

/// The variable that says how strictly hypervisors are fenced in.
pub const CONFINE: &str = "VMINT_CONFINE";

/// How strictly hypervisors are fenced in, as the environment says.
pub fn confine_from_environment() -> Result<Confine, ConfigError> {
    let confine = sections::confine(&|name| std::env::var_os(name))?;
    Ok(confine.unwrap_or_default())
}

/// The variable that says which user hypervisors run as.
pub const RUN_AS: &str = "VMINT_RUN_AS";

/// The user that hypervisors run as, as the environment says. An empty name is none.
pub fn run_as_from_environment() -> Option<String> {
    let name = std::env::var_os(RUN_AS)?.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

impl PoolDefinition {
    /// What the pool consists of.
    pub fn spec(&self) -> vmint_model::PoolSpec {
        vmint_model::PoolSpec {
            image: self.image.to_string(),
            memory: self.memory,
            cpus: self.cpus,
            net: self.net.clone(),
            limits: self.limits,
            min: self.min,
            max: self.max,
            standby: self.standby,
            ttl_ms: Some(self.ttl.as_millis() as u64),
            max_uses: self.max_uses,
        }
    }
}

impl Config {
    /// Reads the settings of a process that works in `cwd` (an absolute path) and whose environment is `env`. A variable
    /// that is empty counts as unset.
    ///
    /// # Errors
    /// The first mistake in the environment or the file, with its place.
    pub fn load(cwd: &Path, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let Some((path, folder)) = document::find(cwd)? else {
            return sections::config(None, &env);
        };
        let trust = trust::of(&path, folder, &env)?;
        let document = Document::read(path)?;
        let config = sections::config(Some(&document), &env)?;
        Ok(Self { trust, ..config })
    }

    /// Every setting with its value and where that comes from, in the order of the file's description.
    pub fn show(&self) -> Vec<Setting> {
        self.settings.clone()
    }
}
