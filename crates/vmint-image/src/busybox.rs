//! The static busybox that `tiny` consists of, and the names of what it can do.

use crate::apt::{self, PackageError};
use crate::arch::Arch;
use crate::command::Program;
use crate::digest::Digest;
use crate::fsx::{self, OnFile};
use crate::kernel::KernelError;
use crate::kit::Kit;
use crate::progress::Progress;
use crate::store::{ImageStore, StoreError};
use std::fs;
use std::path::{Path, PathBuf};

const PACKAGE: &str = "busybox-static";

/// A busybox in the store: `busybox`, and `applets` with a name per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Busybox {
    dir: PathBuf,
    digest: Digest,
}

impl Busybox {
    pub(crate) fn open(dir: PathBuf, digest: Digest) -> Result<Self, StoreError> {
        for file in ["busybox", "applets"] {
            if !dir.join(file).is_file() {
                return Err(StoreError::Damaged {
                    path: dir.join(file),
                    what: "it is missing",
                });
            }
        }
        Ok(Self { dir, digest })
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn program(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.dir.join("busybox");
        let bytes = fs::read(&path).on("read", &path)?;
        if Digest::of(&bytes) == self.digest {
            Ok(bytes)
        } else {
            Err(StoreError::Damaged {
                path,
                what: "its content is not what was stored",
            })
        }
    }

    pub(crate) fn applets(&self) -> Result<Vec<String>, StoreError> {
        let path = self.dir.join("applets");
        let text = fs::read_to_string(&path).on("read", &path)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// Puts busybox into the store, if it is not there already.
pub(crate) fn obtain(store: &ImageStore, progress: &dyn Progress) -> Result<Busybox, KernelError> {
    if let Some(busybox) = store.default_busybox()? {
        return Ok(busybox);
    }
    let _lock = store.work_lock(
        "busybox",
        progress,
        "waiting for another process that fetches busybox",
    )?;
    if let Some(busybox) = store.default_busybox()? {
        return Ok(busybox);
    }
    let temp = store.temp_dir()?;
    let dir = temp.path().join("busybox");
    fsx::create_private_dir(&dir)?;
    let target = dir.join("busybox");
    let kits = store.kit.as_ref().map(Kit::busybox);
    let installed = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let mut there = kits.into_iter().chain(installed);
    if let Some(path) = there.find(|path| is_static(path)) {
        fs::copy(&path, &target).on("copy", &path)?;
    } else {
        progress.stage(&format!("downloading {PACKAGE}"));
        let deb = apt::download(PACKAGE, &temp.path().join("deb"), progress)?;
        apt::unpack(&deb, progress, &mut |path| {
            path.ends_with("bin/busybox").then(|| target.clone())
        })?;
    }
    if !is_static(&target) {
        return Err(PackageError::Incomplete {
            package: PACKAGE.to_owned(),
            what: "static bin/busybox",
        }
        .into());
    }
    fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .on("make executable", &target)?;
    let listed = Program::new(target.to_str().unwrap_or("busybox"))
        .arg("--list")
        .output()
        .map_err(PackageError::from)?;
    // `init` and `linuxrc` would be taken for an init of the image's own.
    let mut applets: Vec<_> = String::from_utf8_lossy(&listed)
        .lines()
        .filter(|name| !["init", "linuxrc", "busybox", ""].contains(name) && !name.contains('/'))
        .map(str::to_owned)
        .collect();
    applets.sort_unstable();
    applets.dedup();
    fsx::replace(&dir.join("applets"), (applets.join("\n") + "\n").as_bytes())?;
    fsx::sync(&target)?;
    let digest = Digest::of_file(&target).on("read", &target)?;
    let busybox = Busybox::open(store.adopt(&dir, &store.busyboxes(), digest)?, digest)?;
    fsx::replace(
        &store.busyboxes().join("default"),
        format!("{digest}\n").as_bytes(),
    )?;
    Ok(busybox)
}

/// Whether a file is a program for this host that needs no other file: ELF, without an interpreter.
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else {
        return false;
    };
    if Arch::of_elf(&bytes) != Some(Ok(Arch::HOST)) {
        return false;
    }
    let number = |at: usize, len: usize| {
        bytes.get(at..at + len).map_or(0, |b| {
            b.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b))
        })
    };
    let (start, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    // PT_INTERP is 3.
    (0..count).all(|i| number(start.saturating_add(i * size), 4) != 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_is_told_from_a_dynamic_one() {
        assert!(!is_static(&std::env::current_exe().unwrap()));
        assert!(!is_static(Path::new("/etc/passwd")));
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, crate::AGENT).unwrap();
        assert!(is_static(&agent));
    }
}
