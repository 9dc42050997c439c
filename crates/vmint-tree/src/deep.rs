//! Paths of any length. The kernel takes 4,095 bytes in one call; a tree may be deeper, and is opened in steps.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of a path in one step.
const STEP: usize = 4000;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// How all steps but the first are resolved: what `..` or a link could mean depends on the whole path.
const FURTHER: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens what is below `root`, resolved as `how` says. Of a path of more than 4,000 bytes, only the first of them may lead
/// through links.
pub fn open(
    root: BorrowedFd<'_>,
    mut path: &[u8],
    flags: OFlags,
    mut how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut folder: Option<OwnedFd> = None;
    loop {
        let at = folder.as_ref().map_or(root, |folder| folder.as_fd());
        if path.len() <= STEP {
            let path = if path.is_empty() { b"." } else { path };
            return open2(at, path, flags, how);
        }
        let Some(end) = path[..=STEP].iter().rposition(|&b| b == b'/') else {
            return Err(Errno::NAMETOOLONG);
        };
        folder = Some(open2(at, &path[..end], FOLDER, how)?);
        path = &path[end + 1..];
        how = FURTHER;
    }
}

fn open2(
    at: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat2(at, path, flags, Mode::empty(), how) {
            // A rename elsewhere raced with the look-up; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}
