//! What a machine that is forked in place comes from, and what it goes back to.
//!
//! ```text
//! ID/origin/        frozen files of what it was forked from last: its template or snapshot, or one that it was brought back to
//! ID/disk.*         the layers of its disk, those below its own linked from there
//! ID/base/          what it goes back to at a reset, while that is not the origin: a frozen machine, the disk's layers too;
//!                   or layers alone, for one that boots from them
//! ID/source/        the snapshot that it is to be forked from first: put there when it was created, so that the snapshot can go
//! ```
//!
//! Invariants:
//! * A restore changes where a machine is, not where it comes from: before its origin is replaced, what a reset goes back to is in
//!   `base`, complete in itself.
//! * What is in `base` is put there in one step, and is never replaced by another restore.

use super::fork::Files;
use crate::template;
use std::io;
use std::path::Path;
use vmint_model::{ErrorKind, Fault, MachineDir};
use vmint_qemu::frozen::{FrozenError, link, release};
use vmint_qemu::{Frozen, Host, disk};

/// What a fork is made of, looked at before anything is given up for it.
#[derive(Debug)]
pub(super) enum Source {
    /// A frozen machine, whose files are as they were frozen and which can be loaded here.
    Frozen(Box<Frozen>),
    /// A boot, from the lowest layers of the disk.
    Boot,
}

impl Source {
    /// Looks at a frozen machine in a folder of its own.
    pub(super) fn of(frozen: Frozen, host: &Host) -> Result<Self, Fault> {
        frozen.check()?;
        Self::fitting(frozen, host)
    }

    /// What a machine that is forked in place goes back to.
    pub(super) fn of_reset(dir: &MachineDir, host: &Host) -> Result<Self, Fault> {
        let (base, origin) = (dir.base(), dir.path().join("origin"));
        match Frozen::open(&base) {
            Ok(frozen) => return Self::of(frozen, host),
            Err(FrozenError::Missing { .. }) if base.exists() => return Ok(Self::Boot),
            Err(FrozenError::Missing { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        match Frozen::open(&origin) {
            Ok(frozen) => {
                frozen.check_linked()?;
                Self::fitting(frozen, host)
            }
            Err(FrozenError::Missing { .. }) => Ok(Self::Boot),
            Err(e) => Err(e.into()),
        }
    }

    fn fitting(frozen: Frozen, host: &Host) -> Result<Self, Fault> {
        host.fits(frozen.manifest())?;
        Ok(Self::Frozen(Box::new(frozen)))
    }
}

/// Before a restore: keeps what a reset goes back to.
pub(super) fn keep_base(files: &Files, dir: &MachineDir) -> Result<(), Fault> {
    let base = dir.base();
    if base.exists() {
        return Ok(());
    }
    let temporary = dir.path().join(".base");
    remove_if_there(&temporary).map_err(|e| prepare(&e))?;
    match Frozen::open(&files.origin()) {
        Ok(frozen) => drop(frozen.link_whole_from(files.folder(), &temporary)?),
        // It has booted, from the lowest layer.
        Err(FrozenError::Missing { .. }) => {
            std::fs::create_dir(&temporary).map_err(|e| prepare(&e))?;
            if let Some(lowest) = files.layers().first() {
                let name = lowest.path.file_name().unwrap_or_default();
                link(files.folder(), &temporary, &name.to_string_lossy())?;
            }
        }
        Err(e) => return Err(e.into()),
    }
    std::fs::rename(&temporary, &base).map_err(|e| prepare(&e))
}

/// Makes `frozen`, which was looked at, the origin of a machine that is forked in place, with an empty layer on its disk.
pub(super) fn adopt(frozen: &Frozen, files: &Files, dir: &MachineDir) -> Result<(), Fault> {
    if is_staged(frozen, dir) {
        // A command put it there for this machine alone: it need not be linked once more.
        move_in_place(frozen, files)?;
    } else if frozen.folder() != files.origin() {
        link_in_place(frozen, files)?;
    }
    if frozen.folder() == dir.base() {
        // It is where it comes from again.
        remove_if_there(frozen.folder()).map_err(|e| prepare(&e))?;
    }
    files.fresh_disk(frozen.manifest().layers)
}

/// Puts the disk back that a machine without an origin boots from: only the layers below its own.
pub(super) fn forget_disk(files: &Files, dir: &MachineDir) -> Result<(), Fault> {
    let base = dir.base();
    if !base.exists() {
        return disk::remove_from(files.folder(), 1).map_err(|e| host(&e));
    }
    remove_if_there(&files.origin()).map_err(|e| prepare(&e))?;
    disk::remove_from(files.folder(), 0).map_err(|e| prepare(&e))?;
    for layer in disk::layers(&base) {
        let name = layer.path.file_name().unwrap_or_default();
        link(&base, files.folder(), &name.to_string_lossy())?;
    }
    Ok(())
}

/// Takes a frozen machine into the machine's folder, in the place of what it came from before, if that is another one.
pub(super) fn take_in(frozen: &Frozen, files: &Files, dir: &MachineDir) -> Result<(), Fault> {
    if frozen.folder() == files.origin() {
        return Ok(());
    }
    // It is checked when it is forked.
    link_in_place(frozen, files)?;
    remove_if_there(&dir.base()).map_err(|e| prepare(&e))?;
    let source = dir.source();
    if frozen.folder() == source {
        remove_if_there(&source).map_err(|e| prepare(&e))?;
    }
    Ok(())
}

/// Links the disk that a machine boots from, and has the layer below its own be one that nobody writes to.
pub(super) fn take_in_disk(files: &Files, image_disk: Option<&Path>) -> Result<(), Fault> {
    match image_disk {
        Some(disk) => template::link_boot_disk(files.folder(), disk),
        None => Ok(()),
    }
}

fn link_in_place(frozen: &Frozen, files: &Files) -> Result<(), Fault> {
    make_room(files).map_err(|e| prepare(&e))?;
    frozen.link_into(files.folder())?;
    Ok(())
}

/// Whether it is what a command has put into the machine's folder, for it to take.
fn is_staged(frozen: &Frozen, dir: &MachineDir) -> bool {
    let (folder, name) = (frozen.folder().parent(), frozen.folder().file_name());
    folder == Some(dir.path()) && name.is_some_and(|name| MachineDir::staged_by(name).is_some())
}

fn move_in_place(frozen: &Frozen, files: &Files) -> Result<(), Fault> {
    let (origin, layers) = (files.origin(), frozen.manifest().layers);
    let moved = || -> io::Result<()> {
        make_room(files)?;
        std::fs::rename(frozen.folder(), &origin)?;
        let names = (0..layers).map(disk::layer_name);
        let blank = (layers > 0).then(|| disk::BLANK.to_owned());
        for name in names.chain(blank) {
            std::fs::rename(origin.join(&name), files.folder().join(&name))?;
        }
        Ok(())
    };
    moved().map_err(|e| prepare(&e))
}

/// Takes away what the machine came from before, and its disk.
fn make_room(files: &Files) -> io::Result<()> {
    remove_if_there(&files.origin())?;
    disk::remove_from(files.folder(), 0)?;
    remove_file_if_there(&files.folder().join(disk::BLANK))
}

pub(super) fn remove_file_if_there(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn remove_if_there(folder: &Path) -> io::Result<()> {
    release(folder);
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn host(e: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::from_error(ErrorKind::Host, e)
}

pub(super) fn prepare(e: &io::Error) -> Fault {
    Fault::from_error(ErrorKind::Host, e).context("cannot prepare the machine's folder")
}
