//! Packages of the host's distribution, fetched and unpacked without being installed, and without root.

use crate::command::{CommandError, Program};
use crate::fsx::{self, FileError, OnFile};
use crate::progress::Progress;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vmint_protocol::archive::{EntryKind, Reader};

/// A package could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// apt does not know it.
    #[error("apt has no package {0}")]
    Unknown(String),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A package does not hold what it should.
    #[error("the package {package} holds no {what}")]
    Incomplete {
        /// Its name.
        package: String,
        /// What is missing.
        what: &'static str,
    },
}

/// What a package depends on, first level only; `None` if apt does not know it.
pub(crate) fn dependencies(package: &str) -> Result<Option<Vec<String>>, PackageError> {
    // apt-cache succeeds, and says nothing, for a name that it knows only from other packages' dependencies.
    match Program::new("apt-cache")
        .args(["depends", "--important", package])
        .output()
    {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output).into_owned();
            if text
                .lines()
                .next()
                .is_none_or(|first| first.trim() != package)
            {
                return Ok(None);
            }
            let depends = text.lines().filter_map(|line| {
                line.trim()
                    .trim_start_matches('|')
                    .strip_prefix("Depends: ")
            });
            Ok(Some(depends.map(str::to_owned).collect()))
        }
        Err(CommandError::Failed { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Downloads a package's `.deb` into an empty folder.
pub(crate) fn download(
    package: &str,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, PackageError> {
    fsx::create_private_dir(dir)?;
    // As root apt would fetch as its own user, who may not enter a private folder, and say so each time.
    let user = format!(
        "APT::Sandbox::User={}",
        if rustix::process::geteuid().is_root() {
            "root"
        } else {
            ""
        }
    );
    let download = Program::new("apt-get")
        .args(["download", "-q", "-o", &user, package])
        .dir(dir);
    let result = download.stream(progress, |output| {
        std::io::copy(output, &mut std::io::sink())
    })?;
    result.on("read apt-get's output in", dir)?;
    let deb = fsx::names(dir)?
        .into_iter()
        .find(|name| Path::new(name).extension().is_some_and(|e| e == "deb"));
    let deb = deb.ok_or_else(|| PackageError::Unknown(package.to_owned()))?;
    Ok(dir.join(deb))
}

/// Unpacks the regular files of a `.deb` for which `place` names a file; folders are made as needed.
pub(crate) fn unpack(
    deb: &Path,
    progress: &dyn Progress,
    place: &mut dyn FnMut(&Path) -> Option<PathBuf>,
) -> Result<(), PackageError> {
    let unpack = |stream: &mut dyn Read| -> Result<(), FileError> {
        let mut archive = Reader::new(stream);
        while let Some(entry) = archive.next_entry().on("read", deb)? {
            let path = Path::new(OsStr::from_bytes(&entry.path));
            let path = path.strip_prefix(".").unwrap_or(path);
            let plain = path
                .components()
                .all(|c| matches!(c, std::path::Component::Normal(_)));
            if entry.kind != EntryKind::File || !plain {
                continue;
            }
            if let Some(target) = place(path) {
                fsx::create_private_dir(target.parent().expect("a target is in a folder"))?;
                let mut file = std::fs::File::create(&target).on("create", &target)?;
                std::io::copy(&mut archive.content(), &mut file).on("write", &target)?;
            }
        }
        // dpkg-deb must be able to write the end of the archive.
        archive.drain().on("read", deb)?;
        Ok(())
    };
    Program::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stream(progress, unpack)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_package_is_told_from_one_that_depends_on_something() {
        assert_eq!(dependencies("no-such-package-anywhere").unwrap(), None);
        let needs = dependencies("apt").unwrap().expect("apt knows itself");
        assert!(
            needs.iter().any(|n| n.starts_with("libapt-pkg")),
            "{needs:?}"
        );
    }
}
