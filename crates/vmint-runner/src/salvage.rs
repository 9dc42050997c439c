//! What is left of a pool's machine that was lost while it was lent: its disk and its logs, as those of an ordinary machine.
//!
//! Asked for by the lease's holder beforehand ([`Store::keep_if_lost`](vmint_store::Store::keep_if_lost)): else nothing of a pool's machine
//! outlives it. Its runner does it, or whoever finds that the runner has died.
//!
//! Invariants:
//! * Only the fork that was lent is kept, known by the console's log that is shown as the machine's: a standby or an older fork never is.
//! * Every step can be taken again: who was killed halfway is followed by the next command.
//! * The files first, then the ledger: a machine that is said to be kept has its disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vmint_model::{Cause, MachineDir, MachineId, MachineRecord, Name, Ring};
use vmint_qemu::disk;
use vmint_store::Store;

/// What became of a machine whose lease's holder might want what is left of it.
#[derive(Debug)]
pub enum Salvaged {
    /// It is an ordinary machine of this name now; these are to be told that a pool has a slot free.
    Kept(Name, Vec<Ring>),
    /// It is to be removed: nobody wants it, or there is nothing to be kept.
    Nothing,
}

/// Keeps what is left of `record`, whose QEMU is gone, if its lease's holder has asked for that. What stands in the way is logged: the
/// machine goes then, as others do.
pub fn salvage(
    store: &mut Store,
    dir: &MachineDir,
    record: &MachineRecord,
    cause: Cause,
) -> Salvaged {
    if record.pool.is_none() || cause == Cause::Requested {
        return Salvaged::Nothing;
    }
    match keep(store, dir, &record.id) {
        Ok(Some((name, rings))) => Salvaged::Kept(name, rings),
        Ok(None) => Salvaged::Nothing,
        Err(why) => {
            tracing::warn!("what is left of machine {} is not kept: {why}", record.name);
            Salvaged::Nothing
        }
    }
}

fn keep(
    store: &mut Store,
    dir: &MachineDir,
    machine: &MachineId,
) -> Result<Option<(Name, Vec<Ring>)>, String> {
    let lease = store.lease_of_machine(machine).map_err(|e| e.to_string())?;
    if lease.is_none_or(|lease| lease.keep_lost.is_none()) {
        return Ok(None);
    }
    let moved = take_disk(dir).map_err(|e| format!("its disk cannot be moved: {e}"))?;
    if !moved {
        // Its console is with the lease; there is nothing else.
        return Ok(None);
    }
    let why = store.get(machine).ok().flatten().and_then(|r| r.reason);
    let kept = store.keep_lost(machine, why.as_deref(), vmint_store::now());
    let kept = kept.map_err(|e| e.to_string())?;
    // Memory, and what older forks have left.
    clear(dir);
    Ok(kept)
}

/// Moves the layers and the logs of the fork that was lent into the machine's folder. Whether there is a disk.
fn take_disk(dir: &MachineDir) -> io::Result<bool> {
    if let Some(fork) = lent(dir)? {
        for layer in disk::layers(&fork) {
            let name = layer.path.file_name().unwrap_or_default();
            fs::rename(&layer.path, dir.path().join(name))?;
        }
    }
    Ok(!disk::layers(dir.path()).is_empty())
}

/// The folder of the fork whose console is shown as the machine's.
fn lent(dir: &MachineDir) -> io::Result<Option<PathBuf>> {
    let shown = match fs::symlink_metadata(dir.console_log()) {
        Ok(shown) => (shown.dev(), shown.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for fork in forks(dir.path())? {
        if let Ok(log) = fs::symlink_metadata(fork.join("console.log"))
            && (log.dev(), log.ino()) == shown
        {
            return Ok(Some(fork));
        }
    }
    Ok(None)
}

fn forks(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut forks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_fork = entry.file_name().as_encoded_bytes().starts_with(b"fork-");
        if is_fork && entry.file_type()?.is_dir() {
            forks.push(entry.path());
        }
    }
    Ok(forks)
}

/// Removes what an ordinary machine that boots from its disk does not have. Only space is lost if that fails.
fn clear(dir: &MachineDir) {
    let forks = forks(dir.path()).unwrap_or_default().into_iter();
    for folder in forks.chain([dir.path().join("origin")]) {
        vmint_qemu::frozen::release(&folder);
        if let Err(e) = vmint_store::remove_folder(&folder) {
            tracing::warn!("{} is not removed: {e}", folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint_model::Home;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_fork_that_was_lent_is_kept_and_no_other_also_at_a_second_try() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Home::new(temp.path(), temp.path()).machine(&MachineId::random());
        for n in 1..=3 {
            for file in ["disk.0.raw", "disk.1.qcow2", "console.log"] {
                write(
                    &dir.path().join(format!("fork-{n}/{file}")),
                    &format!("{file} {n}"),
                );
            }
        }
        fs::hard_link(dir.path().join("fork-2/console.log"), dir.console_log()).unwrap();
        for _ in 0..2 {
            assert!(take_disk(&dir).unwrap());
            let top = fs::read_to_string(dir.path().join("disk.1.qcow2")).unwrap();
            assert_eq!(top, "disk.1.qcow2 2");
        }
        write(&dir.path().join("origin/ram"), "memory");
        clear(&dir);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["console.log", "disk.0.raw", "disk.1.qcow2"]);
    }

    #[test]
    fn a_machine_without_a_disk_has_nothing_to_keep() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Home::new(temp.path(), temp.path()).machine(&MachineId::random());
        write(&dir.path().join("fork-1/console.log"), "said");
        fs::hard_link(dir.path().join("fork-1/console.log"), dir.console_log()).unwrap();
        assert!(!take_disk(&dir).unwrap());
    }
}
