//! A Debian, made by mmdebstrap.

use super::customize;
use super::mirror;
use super::tree::Tree;
use super::unpack::{self, Budget, UnpackError, Whiteouts};
use crate::command::{CommandError, Program};
use crate::fsx::{FileError, OnFile};
use crate::kernel::Kernel;
use crate::progress::Progress;
use crate::recipe::{Debian, Recipe};
use rustix::process::Signal;
use std::path::Path;
use vmint_model::{ErrorKind, Explained};

/// What every Debian image has beyond `minbase`: an init, devices, and what people type first.
const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "sudo",
    "procps",
    "less",
    "ca-certificates",
];

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg",
];

/// A Debian could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A string that cannot be a package's name.
    #[error("{0:?} is not the name of a package")]
    PackageName(String),
    /// Debian has no such package.
    #[error("Debian {release} has no package {package}")]
    NoSuchPackage {
        /// Its name.
        package: String,
        /// The release's number.
        release: &'static str,
    },
    /// Debian's keys are not on this host.
    #[error("Debian's archive keys are not installed")]
    NoKeyring,
    /// A plain user may not make user namespaces here.
    #[error("mmdebstrap cannot work without root here")]
    NoNamespaces(#[source] CommandError),
    /// mmdebstrap failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What it made cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Explained for DebianError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::PackageName(_) | Self::NoSuchPackage { .. } => ErrorKind::Usage,
            Self::NoKeyring | Self::NoNamespaces(_) => ErrorKind::Host,
            Self::Command(e) => e.kind(),
            Self::Unpack(e) if e.is_no_space() => ErrorKind::NoSpace,
            Self::Unpack(_) => ErrorKind::Image,
            Self::File(e) => e.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::PackageName(_) | Self::NoSuchPackage { .. } | Self::Unpack(_) => None,
            Self::NoKeyring => Some("install them: apt-get install debian-archive-keyring".to_owned()),
            Self::NoNamespaces(_) => Some(
                "install the package uidmap, give your user a range in /etc/subuid and /etc/subgid \
                 (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER), and allow user namespaces; or build as root"
                    .to_owned(),
            ),
            Self::Command(CommandError::Failed { stderr, .. }) if stderr.contains("Could not resolve") || stderr.contains("Failed to fetch") => {
                Some("the mirror cannot be reached: check the network, or name another one in VMINT_DEBIAN_MIRROR".to_owned())
            }
            Self::Command(e) => e.hint(),
            Self::File(e) => e.hint(),
        }
    }
}

/// Makes the root file system in `tree`.
pub(crate) fn bootstrap(
    tree: &mut Tree,
    release: Debian,
    recipe: &Recipe,
    kernel: &Kernel,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<(), DebianError> {
    if let Some(bad) = recipe.packages.iter().find(|name| !is_package_name(name)) {
        return Err(DebianError::PackageName(bad.chars().take(80).collect()));
    }
    if !KEYRINGS.iter().any(|path| Path::new(path).exists()) {
        return Err(DebianError::NoKeyring);
    }
    progress.stage(&format!(
        "installing Debian {} (mmdebstrap)",
        number(release)
    ));
    let include = PACKAGES
        .iter()
        .copied()
        .chain(recipe.packages.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(",");
    let version = &kernel.manifest().version;
    // mmdebstrap's tar takes the path as it is, and packs a symbolic link as one.
    let modules = kernel.modules_dir();
    let modules = modules.canonicalize().unwrap_or(modules);
    let in_image = format!("/usr/lib/modules/{version}");
    let is_root = rustix::process::geteuid().is_root();
    let program = if is_root {
        // Namespaces of its own, so that whatever mmdebstrap mounts or starts goes when it goes, however it goes; and
        // what it leaves is in our folder.
        // unshare blocks SIGTERM while it waits, so the signal that ends it with us is the other one; then the kernel
        // ends everything in the namespace.
        let program = Program::new("unshare").ended_by(Signal::KILL);
        program.env("TMPDIR", scratch).args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            "mmdebstrap",
            "--mode=root",
        ])
    } else {
        // It works as another user of its namespace, to whom our folder is closed: in /tmp, which it clears up itself.
        Program::new("mmdebstrap").arg("--mode=unshare")
    };
    let mut program = program
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--include={include}"))
        // The kernel's modules, and the index that modprobe and udev want, made by the image's own depmod.
        .arg(format!("--customize-hook=mkdir -p \"$1{in_image}\""))
        .arg(format!(
            "--customize-hook=sync-in {} {in_image}",
            quoted(&modules.to_string_lossy())
        ))
        .arg(format!("--customize-hook=chroot \"$1\" depmod {version}"));
    if let Some(proxy) = mirror::proxy() {
        program = program.arg(format!("--aptopt=Acquire::http::Proxy \"{proxy}\""));
    }
    program = program
        .args([release.codename(), "-"])
        .args(mirror::sources(release));
    let unpacked = program.stream(progress, |stream| {
        unpack::unpack(stream, tree, Whiteouts::Keep, &mut Budget::new(u64::MAX))
    });
    match unpacked {
        Err(CommandError::Failed {
            command,
            status,
            stderr,
        }) => {
            if let Some(package) = missing_package(&stderr) {
                return Err(DebianError::NoSuchPackage {
                    package,
                    release: number(release),
                });
            }
            let namespaces = ["subuid", "newuidmap", "unshare", "user namespace"]
                .iter()
                .any(|s| stderr.contains(s));
            let error = CommandError::Failed {
                command,
                status,
                stderr,
            };
            return Err(if namespaces && !is_root {
                DebianError::NoNamespaces(error)
            } else {
                error.into()
            });
        }
        // An empty stream is no archive, but what is of interest then is why mmdebstrap wrote none.
        result => result??,
    }
    tree.give_to_root(&in_image)
        .on("set the owners in", tree.path())?;
    progress.stage("making it a guest");
    customize::debian(tree).on("set up the files in", tree.path())?;
    Ok(())
}

fn number(release: Debian) -> &'static str {
    match release {
        Debian::Bookworm => "12",
        Debian::Trixie => "13",
    }
}

/// As apt reads it, with `=VERSION`, `/SUITE` and `:ARCH`; never an option, and never two.
fn is_package_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+-.:=~_/".contains(&b);
    name.len() >= 2
        && name.len() < 200
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(legal)
}

fn missing_package(stderr: &str) -> Option<String> {
    let line = stderr.lines().find_map(|line| {
        line.split_once("Unable to locate package ").or_else(|| {
            line.split_once("has no installation candidate")
                .map(|(a, _)| ("", a))
        })
    })?;
    let word = line
        .1
        .split_whitespace()
        .find(|word| !["E:", "Package"].contains(word))?;
    Some(word.trim_matches('\'').to_owned())
}

/// For mmdebstrap's own splitting of a hook into words.
fn quoted(path: &str) -> String {
    let mut text = String::from("\"");
    for c in path.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(c);
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_s_name_is_never_an_option_or_two() {
        for good in [
            "python3",
            "g++",
            "libc6:amd64",
            "vim=2:9.0",
            "linux-image-6.1",
        ] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "-y",
            "a,b",
            "a b",
            "a;b",
            "a\nb",
            "../x",
            "?essential",
            "--hook=x",
            "ä1",
        ] {
            assert!(!is_package_name(bad), "{bad}");
        }
    }

    #[test]
    fn apt_s_complaints_are_understood() {
        let locate = "E: Unable to locate package nope\nE: mmdebstrap failed";
        assert_eq!(missing_package(locate).as_deref(), Some("nope"));
        assert_eq!(
            missing_package("E: Package 'nope' has no installation candidate").as_deref(),
            Some("nope")
        );
        assert_eq!(missing_package("E: something else"), None);
    }
}
