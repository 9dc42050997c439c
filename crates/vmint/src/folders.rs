//! Folders of machines and snapshots: made with their lock, locked, and removed.

use std::path::Path;
use std::time::Duration;
use vmint_model::{ErrorKind, Fault, MachineDir};
use vmint_store::FileLock;

/// How long the things take that touch no guest.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// What the names of folders in the making begin with; they end in the maker's process id.
pub(crate) const NEW_FOLDER: &str = ".new-";

/// Makes the machine's folder, with its lock taken. It is made under another name and then renamed, so that there is no
/// moment in which it could be found without its lock, and be taken for a left-over.
pub(crate) fn make_folder(dir: &MachineDir) -> Result<FileLock, Fault> {
    use std::os::unix::fs::DirBuilderExt;
    let fault = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e)
            .context(format!("cannot create {}", dir.path().display()))
    };
    let id = dir.path().file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{NEW_FOLDER}{id}-{}", std::process::id());
    let temporary = dir.path().with_file_name(name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&temporary)
        .map_err(fault)?;
    let locked = FileLock::try_acquire(&temporary.join("lock"));
    let lock = locked?;
    let lock = lock.ok_or_else(|| {
        let message = format!("the lock of {} is held by another", temporary.display());
        Fault::new(ErrorKind::Host, message)
    })?;
    if let Err(e) = std::fs::rename(&temporary, dir.path()) {
        let _ = std::fs::remove_dir_all(&temporary);
        return Err(fault(e));
    }
    FileLock::from_fd(lock.into_fd(), &dir.lock()).map_err(Fault::from)
}

/// The lock of a machine's folder, unless another has it or the folder is gone.
pub(crate) fn try_lock(dir: &MachineDir) -> Result<Option<FileLock>, Fault> {
    match FileLock::try_acquire(&dir.lock()) {
        Err(_) if !dir.path().exists() => Ok(None),
        other => other.map_err(Fault::from),
    }
}

/// Removes a folder with all that is in it, and what is known of its frozen files.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Fault> {
    vmint_qemu::frozen::release(path);
    vmint_store::remove_folder(path).map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context(format!("cannot remove {}", path.display()))
    })
}
