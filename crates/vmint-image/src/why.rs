//! Which kind of failure the small errors are that the large ones are made of, and what to do about them.

use crate::apt::PackageError;
use crate::command::CommandError;
use crate::fsx::FileError;
use crate::rootfs::ext4::DiskError;
use std::io;
use vmint_model::{ErrorKind, Explained};

const FREE_SPACE: &str = "free some disk space (`vmint image prune` deletes unused images), or set VMINT_HOME to a larger disk";

impl Explained for FileError {
    fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            _ if self.is_no_space() => ErrorKind::NoSpace,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        self.is_no_space().then(|| FREE_SPACE.to_owned())
    }
}

impl Explained for CommandError {
    fn kind(&self) -> ErrorKind {
        if self.is_no_space() {
            ErrorKind::NoSpace
        } else {
            ErrorKind::Host
        }
    }

    fn hint(&self) -> Option<String> {
        if self.is_no_space() {
            return Some(FREE_SPACE.to_owned());
        }
        self.package()
            .map(|package| format!("install it: apt-get install {package}"))
    }
}

impl Explained for PackageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown(_) => ErrorKind::Host,
            Self::Command(e) => e.kind(),
            Self::File(e) => e.kind(),
            Self::Incomplete { .. } => ErrorKind::Image,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Command(CommandError::Missing { program }) if program.starts_with("apt") => {
                Some("install the package vmint-tiny, which brings a kernel and busybox, or give a kernel with --kernel and install a static busybox".to_owned())
            }
            Self::Command(e @ CommandError::Failed { .. }) if !e.is_no_space() => {
                Some("run `apt-get update` as root: the package lists may be empty or old".to_owned())
            }
            Self::Unknown(_) => Some("run `apt-get update` as root: the package lists may be empty or old".to_owned()),
            Self::Command(e) => e.hint(),
            Self::File(e) => e.hint(),
            Self::Incomplete { .. } => None,
        }
    }
}

impl Explained for DiskError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooSmall { .. } => ErrorKind::Usage,
            Self::Command(e) => e.kind(),
            Self::File(e) => e.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::TooSmall { content, .. } => {
                let gib = (content + (content >> 1)).div_ceil(1 << 30) + 1;
                Some(format!(
                    "give a larger --size, such as {gib}G; the file takes only the space that is used"
                ))
            }
            Self::Command(e) => e.hint(),
            Self::File(e) => e.hint(),
        }
    }
}
