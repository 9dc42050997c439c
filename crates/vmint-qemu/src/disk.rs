//! The layers of a disk: files `disk.0.raw`, `disk.1.qcow2`, … in one folder, each on top of the one before.
//!
//! A machine's folder links every layer below its own, so nothing outside of it is needed to run it. Layers name
//! the one below relative to their own folder, which therefore reads the same in whichever folder they are linked.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

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

/// Makes an empty layer `file` in `folder`, on top of layer `below`.
pub async fn create(
    qemu_img: &Path,
    folder: &Path,
    file: &str,
    below: usize,
) -> Result<PathBuf, DiskError> {
    let path = folder.join(file);
    let format = if below == 0 { "raw" } else { "qcow2" };
    let mut command = tokio::process::Command::from(vmint_spawn::command(qemu_img));
    command
        .current_dir(folder)
        .args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            format,
            "-b",
            &layer_name(below),
            file,
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|source| DiskError::Start {
        program: qemu_img.into(),
        source,
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(DiskError::Create { path, stderr });
    }
    Ok(path)
}

/// Copies the blank layer of `folder` to layer `n`.
pub fn copy_blank(folder: &Path, n: usize) -> Result<(), DiskError> {
    let path = folder.join(layer_name(n));
    std::fs::copy(folder.join(BLANK), &path)
        .map(drop)
        .map_err(|source| DiskError::Io { path, source })
}
