//! Parts of guests that were installed beside vmint: the package `vmint-tiny`.
//!
//! ```text
//! PREFIX/bin/vmint
//! PREFIX/lib/vmint/tiny/architecture       as dpkg names it
//!                       vmlinuz            the kernel
//!                       modules/           what /lib/modules/VERSION holds
//!                       busybox            static
//!                       PACKAGES           what they are of: a line `NAME VERSION SOURCE SOURCE-VERSION` each
//! ```
//!
//! It is looked for beside the program alone, so it is as trusted as that, whoever installed both. What is in it goes into the
//! home's store like what a distribution's package holds, and is checked like that; the store does not need it again.

use crate::arch::Arch;
use crate::fsx::{FileError, OnFile};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with parts of guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kit {
    folder: PathBuf,
}

impl Kit {
    /// The one beside this program, if there is one for this architecture.
    pub fn beside(program: &Path) -> Option<Self> {
        let program = fs::canonicalize(program).ok()?;
        let prefix = program.parent()?.parent()?;
        let folder = prefix.join("lib/vmint/tiny");
        let architecture = fs::read_to_string(folder.join("architecture")).ok()?;
        (architecture.trim() == Arch::HOST.debian()).then_some(Self { folder })
    }

    pub(crate) fn vmlinuz(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }

    pub(crate) fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The kernel's package, for whoever asks where it is from.
    pub fn kernel(&self) -> Result<String, FileError> {
        let path = self.folder.join("PACKAGES");
        let packages = fs::read_to_string(&path).on("read", &path)?;
        let kernel = packages.lines().find(|line| line.starts_with("linux-"));
        let named = kernel.and_then(|line| line.split(' ').next());
        Ok(named.unwrap_or("vmint-tiny").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_is_found_beside_the_program_that_a_link_leads_to_and_for_its_architecture_alone() {
        let prefix = tempfile::tempdir().unwrap();
        let (bin, tiny) = (
            prefix.path().join("bin"),
            prefix.path().join("lib/vmint/tiny"),
        );
        for folder in [&bin, &tiny] {
            fs::create_dir_all(folder).unwrap();
        }
        let program = bin.join("vmint");
        fs::write(&program, "").unwrap();
        assert_eq!(Kit::beside(&program), None);
        fs::write(tiny.join("architecture"), "riscv64\n").unwrap();
        assert_eq!(Kit::beside(&program), None);
        fs::write(
            tiny.join("architecture"),
            format!("{}\n", Arch::HOST.debian()),
        )
        .unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("vmint");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        let kit = Kit::beside(&link).expect("it is there");
        assert!(kit.kernel().is_err());
        fs::write(
            tiny.join("PACKAGES"),
            "linux-image-6.1.0-1-cloud-amd64 6.1-1 linux 6.1-1\n",
        )
        .unwrap();
        assert_eq!(kit.kernel().unwrap(), "linux-image-6.1.0-1-cloud-amd64");
    }
}
