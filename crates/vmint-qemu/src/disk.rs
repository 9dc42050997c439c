//! The layers of a disk: files `disk.0.raw`, `disk.1.qcow2`, … in one folder, each on top of the one before.
//!
//! A machine's folder links every layer below its own, so nothing outside of it is needed to run it. Layers name
//! the one below relative to their own folder, which therefore reads the same in whichever folder they are linked.

use crate::fence;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use vmint_confine::{ConfineError, Fence};
use vmint_model::Confine;

/// Format of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Plain bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl Format {
    /// As QEMU names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// One file of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
}

/// The empty layer that is copied for each fork; made once, since starting `qemu-img` costs 10 ms.
pub const BLANK: &str = "disk.blank";

/// File name of layer `n`: the lowest is the image's raw disk.
pub fn layer_name(n: usize) -> String {
    if n == 0 {
        "disk.0.raw".into()
    } else {
        format!("disk.{n}.qcow2")
    }
}

/// The layers in `folder`, from the lowest.
pub fn layers(folder: &Path) -> Vec<Layer> {
    let mut layers = Vec::new();
    loop {
        let n = layers.len();
        let path = folder.join(layer_name(n));
        if !path.exists() {
            return layers;
        }
        let format = if n == 0 { Format::Raw } else { Format::Qcow2 };
        layers.push(Layer { path, format });
    }
}

/// Removes the layers of `folder` from number `keep` on.
pub fn remove_from(folder: &Path, keep: usize) -> io::Result<()> {
    for layer in layers(folder).into_iter().skip(keep).rev() {
        std::fs::remove_file(layer.path)?;
    }
    Ok(())
}

/// A failure to make a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// `qemu-img` could not be started.
    #[error("cannot start {program:?}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `qemu-img` failed.
    #[error("qemu-img could not create {path:?}: {stderr}")]
    Create {
        /// The layer.
        path: PathBuf,
        /// What it said.
        stderr: String,
    },
    /// It cannot be fenced in, and must be.
    #[error("cannot confine qemu-img")]
    Confine(#[from] ConfineError),
    /// A file could not be written.
    #[error("cannot write {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What makes layers: `qemu-img`, which reads what guests wrote, inside a fence of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// The program.
    pub program: PathBuf,
    /// How strictly it is fenced in.
    pub confine: Confine,
}

impl Maker {
    /// Makes an empty layer `file` in `folder`, on top of layer `below`.
    pub async fn create(
        &self,
        folder: &Path,
        file: &str,
        below: usize,
    ) -> Result<PathBuf, DiskError> {
        let path = folder.join(file);
        // It is allowed a file, not the folder to make one in.
        empty(&path).map_err(|source| DiskError::Io {
            path: path.clone(),
            source,
        })?;
        let lower: Vec<_> = (0..=below).map(|n| folder.join(layer_name(n))).collect();
        let rules = fence::layer(&self.program, &path, &lower);
        let fence = Fence::build(&rules, self.confine)?;
        let format = if below == 0 { "raw" } else { "qcow2" };
        let mut command = vmint_spawn::command(&self.program);
        command
            .current_dir(folder)
            .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
            .args([&layer_name(below), file])
            .stdin(Stdio::null());
        if let Some(mut fence) = fence {
            // SAFETY: `enter` is async-signal-safe.
            unsafe { command.pre_exec(move || fence.enter()) };
        }
        let mut command = tokio::process::Command::from(command);
        let output = command.kill_on_drop(true).output().await;
        let failed = |stderr| {
            // What is empty is no layer.
            let _ = std::fs::remove_file(&path);
            DiskError::Create {
                path: path.clone(),
                stderr,
            }
        };
        let output = output.map_err(|source| DiskError::Start {
            program: self.program.clone(),
            source,
        })?;
        if !output.status.success() {
            return Err(failed(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ));
        }
        Ok(path)
    }
}

/// An empty file in the place of what is there, which only its owner may read.
fn empty(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Copies the blank layer of `folder` to layer `n`. Its mode is not copied: the blank one is frozen.
pub fn copy_blank(folder: &Path, n: usize) -> Result<(), DiskError> {
    let path = folder.join(layer_name(n));
    let copied = File::open(folder.join(BLANK))
        .and_then(|mut blank| io::copy(&mut blank, &mut empty(&path)?));
    copied
        .map(drop)
        .map_err(|source| DiskError::Io { path, source })
}
