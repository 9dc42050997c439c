//! The target folder, and what can be opened below it.

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Opens a folder to walk through it.
pub(crate) const WALK: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Opens a folder to change it.
pub(crate) const CHANGE: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Opens whatever has the name, without touching it.
pub(crate) const NAMED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder below which everything happens.
#[derive(Debug)]
pub(crate) struct Target(OwnedFd);

impl Target {
    pub(crate) fn new(folder: OwnedFd) -> Self {
        Self(folder)
    }

    /// Opens what is below, in one step of the kernel's, or in few if the path is very long: no component may be a link, not even the last, and none may
    /// lead out. An empty path is the target itself.
    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        vmint_tree::deep::open(self.0.as_fd(), path, flags, how)
    }
}

/// Device and inode: what a descriptor stands for, as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    pub(crate) fn of(file: &OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self(stat.st_dev, stat.st_ino))
    }
}
