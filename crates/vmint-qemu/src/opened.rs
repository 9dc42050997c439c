//! What a QEMU that runs as another user is given open: the home that its files lie in is closed to that user.
//!
//! * The layers of its disk are sets of descriptors (`add-fd`); the one that is written can be had for reading alone, too, for it is
//!   opened so when another one is put on it.
//! * Kernel and initramfs are copies in memory, which QEMU opens as `/proc/self/fd/N`.
//! * Its memory, and `/dev/kvm`, the guard hands over when QEMU opens them.

use crate::args;
use crate::disk::Layer;
use crate::hypervisor::{Launch, Start};
use crate::spawn::Pass;
use rustix::fs::MemfdFlags;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Descriptors, and the names by which QEMU opens them.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// For the child.
    pub(crate) fds: Vec<Pass>,
    /// The layers, by those names.
    pub(crate) layers: Vec<Layer>,
    /// Kernel and initramfs.
    pub(crate) boot: Option<(PathBuf, PathBuf)>,
    /// The first set that is free.
    pub(crate) next_set: u64,
    members: Vec<(RawFd, u64)>,
}

/// A file that cannot be opened, and why.
type Failed = (PathBuf, io::Error);

impl Opened {
    /// Opens all that this launch needs.
    pub(crate) fn of(launch: &Launch<'_>) -> Result<Self, Failed> {
        let mut opened = Self {
            next_set: args::SET_CONSOLE + 1,
            ..Self::default()
        };
        for (n, layer) in launch.layers.iter().enumerate() {
            let is_top = n + 1 == launch.layers.len();
            let set = opened.next_set;
            opened.next_set += 1;
            let mut ways = vec![File::options().read(true).clone()];
            if is_top {
                ways.push(File::options().read(true).write(true).clone());
            }
            for way in ways {
                let file = way.open(&layer.path);
                let number = opened.pass(file.map_err(|e| (layer.path.clone(), e))?);
                opened.members.push((number, set));
            }
            opened.layers.push(Layer {
                path: format!("/dev/fdset/{set}").into(),
                format: layer.format,
            });
        }
        if let Start::Boot(boot) | Start::BootShared(boot) = launch.start {
            let kernel = opened.copy(&boot.kernel)?;
            opened.boot = Some((kernel, opened.copy(&boot.initramfs)?));
        }
        Ok(opened)
    }

    /// The arguments that make sets of the descriptors.
    pub(crate) fn sets(&self) -> Vec<OsString> {
        let option = |(fd, set): &(RawFd, u64)| {
            let member = format!("fd={fd},set={set}");
            [OsString::from("-add-fd"), member.into()]
        };
        self.members.iter().flat_map(option).collect()
    }

    fn pass(&mut self, file: File) -> RawFd {
        let number = args::FD_OPENED + self.fds.len() as RawFd;
        self.fds.push(Pass {
            fd: file.into(),
            number,
        });
        number
    }

    /// A copy that whoever has it can read; its name in the child.
    fn copy(&mut self, path: &Path) -> Result<PathBuf, Failed> {
        let copied = File::open(path).and_then(|mut from| {
            let copy = rustix::fs::memfd_create(c"vmint", MemfdFlags::CLOEXEC)?;
            let mut copy = File::from(copy);
            io::copy(&mut from, &mut copy)?;
            Ok(copy)
        });
        let number = self.pass(copied.map_err(|e| (path.to_owned(), e))?);
        Ok(format!("/proc/self/fd/{number}").into())
    }
}
