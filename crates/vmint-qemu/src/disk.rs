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

pub use vmint_model::DiskCache as Cache;

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
        let made = path.clone();
        let unfinished = Unfinished(&made);
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
        let output = output.map_err(|source| DiskError::Start {
            program: self.program.clone(),
            source,
        })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(DiskError::Create { path, stderr });
        }
        unfinished.keep();
        Ok(path)
    }
}

/// A file that goes unless it is done: what is empty is no layer.
struct Unfinished<'a>(&'a Path);

impl Unfinished<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A `qemu-img` that was taken over: it writes into its layer what it finds in files that are none of its business.
    fn taken_over(folder: &Path) -> PathBuf {
        let program = folder.join("qemu-img");
        let script = "#!/bin/sh\nfor last; do :; done\n\
            { cat lower other/key; echo x >other/made && echo made; } >\"$last\" 2>/dev/null\nexit 0\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    async fn found(confine: Confine) -> String {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        std::fs::create_dir(folder.join("other")).unwrap();
        std::fs::write(folder.join("other/key"), "secret ").unwrap();
        std::fs::write(folder.join(layer_name(0)), "below ").unwrap();
        std::os::unix::fs::symlink(layer_name(0), folder.join("lower")).unwrap();
        let program = taken_over(folder);
        let maker = Maker { program, confine };
        let made = maker.create(folder, &layer_name(1), 0).await.unwrap();
        let mode = made.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::read_to_string(made).unwrap()
    }

    #[tokio::test]
    async fn qemu_img_reaches_the_layers_and_nothing_else() {
        if vmint_confine::paths::version() == 0 {
            println!("NOT TESTED: this kernel has no Landlock");
            return;
        }
        assert_eq!(found(Confine::Off).await, "below secret made\n");
        assert_eq!(found(Confine::Best).await, "below ");
    }

    #[tokio::test]
    async fn what_it_could_not_make_is_no_layer() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(layer_name(0)), "below").unwrap();
        for program in ["false", "/no/qemu-img"] {
            let maker = Maker {
                program: program.into(),
                confine: Confine::Off,
            };
            let made = maker.create(dir.path(), &layer_name(1), 0).await;
            assert!(made.is_err());
            assert_eq!(layers(dir.path()).len(), 1);
        }
    }

    #[test]
    fn a_layer_can_be_written_though_the_blank_one_is_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let blank = dir.path().join(BLANK);
        std::fs::write(&blank, "blank").unwrap();
        std::fs::set_permissions(&blank, std::fs::Permissions::from_mode(0o400)).unwrap();
        for _ in 0..2 {
            copy_blank(dir.path(), 1).unwrap();
            let copy = dir.path().join(layer_name(1));
            assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(std::fs::read(copy).unwrap(), b"blank");
        }
    }
}
