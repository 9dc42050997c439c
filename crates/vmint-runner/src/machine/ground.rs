//! What a machine stands on: its folder and its home's database, either of which somebody may take away while it is up.
//!
//! * A folder that was deleted takes its machine along.
//! * A folder that was moved, with its home, keeps its machine's disk; but QEMU and the forks to come have paths to where it
//!   was, where there may be another home by now. So the machine ends, is recorded as failed where the folder is now, and
//!   can be started there. Nothing at the old place is touched.
//! * A database that was replaced gets the machine's record. One that is missing is waited for, and not made: somebody may be
//!   about to put another one in its place.

use super::Machine;
use super::end::{Forced, Over};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, open, stat, statat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use vmint_model::{Cause, Home, MachineDir, MachineState};
use vmint_store::{Known, Store};

/// Which file a path leads to.
type FileId = (u64, u64);

/// The folder and the database that the machine came up with.
#[derive(Debug)]
pub(super) struct Ground {
    folder: Option<OwnedFd>,
    database: Option<FileId>,
    /// Another database that was seen in the first one's place, not to be touched while it is still being written.
    newcomer: Option<(FileId, u64, i64)>,
    /// That the new database cannot be used is told once.
    is_told: bool,
    /// Whether nothing may be touched any more at the paths that the machine came up with.
    pub(super) has_moved: bool,
}

/// Where the machine's folder is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Here,
    Moved(PathBuf),
    Deleted,
}

impl Ground {
    /// What is there now.
    pub(super) fn of(dir: &MachineDir, store: &Store) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            folder: open(dir.path(), flags, Mode::empty()).ok(),
            database: file_id(store.path()).map(|(id, ..)| id),
            newcomer: None,
            is_told: false,
            has_moved: false,
        }
    }

    fn place(&self, dir: &MachineDir) -> Place {
        let Some(folder) = &self.folder else {
            return if dir.lock().exists() {
                Place::Here
            } else {
                Place::Deleted
            };
        };
        let here = stat(dir.path()).ok();
        let Ok(mine) = fstat(folder) else {
            return Place::Here;
        };
        let has_lock = || statat(folder, "lock", AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !has_lock() {
            return Place::Deleted;
        }
        if here.is_some_and(|here| (here.st_dev, here.st_ino) == (mine.st_dev, mine.st_ino)) {
            return Place::Here;
        }
        match std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())) {
            Ok(path) => Place::Moved(path),
            Err(_) => Place::Deleted,
        }
    }

    /// Whether another database is in the place of the machine's, and nobody has changed it since the last look.
    fn is_replaced(&mut self, database: &Path) -> bool {
        let now = file_id(database);
        let is_other = now.is_some_and(|(id, ..)| Some(id) != self.database);
        let is_quiet = is_other && now == self.newcomer;
        self.newcomer = now.filter(|_| is_other);
        is_quiet
    }
}

impl Machine {
    /// Looks whether the machine still stands on what it came up with, and what it comes to if it does not.
    pub(super) fn stand(&mut self) -> Option<Over> {
        match self.ground.place(&self.dir) {
            Place::Here => {}
            Place::Deleted => return Some(Over::Deleted),
            Place::Moved(folder) => return Some(self.moved(&folder)),
        }
        if self.ground.is_replaced(self.store.path()) {
            self.change_store();
        }
        None
    }

    /// Ends the machine where its folder is now.
    fn moved(&mut self, folder: &Path) -> Over {
        self.ground.has_moved = true;
        let root = folder.ancestors().nth(2).unwrap_or(folder);
        tracing::warn!("the home has moved to {}", root.display());
        self.home = Home::new(root, self.home.runtime());
        self.dir = self.home.machine(&self.record.id);
        // The database went along; by its old path, something else might be found.
        match Store::open_current(&self.home) {
            Ok(store) => self.store = store,
            Err(e) => tracing::error!("{e}"),
        }
        Over::Down {
            cause: Cause::HomeChanged,
            to: MachineState::Failed,
            reason: Some(format!(
                "its home was moved to {} while it was up",
                root.display()
            )),
            remove: self.record.ephemeral,
            forced: Forced::No,
        }
    }

    /// Goes over to the database that is there now, which gets the machine's record: no command would find the machine in
    /// the old one.
    fn change_store(&mut self) {
        let detail = "its home's database was replaced while it was up";
        let taken = Store::open_current(&self.home).and_then(|mut store| {
            let record = store.take_up(&self.record, Known::Replace, detail)?;
            Ok((store, record))
        });
        match taken {
            Ok((store, record)) => {
                tracing::warn!("{} is another file now", store.path().display());
                self.ground.database = file_id(store.path()).map(|(id, ..)| id);
                self.ground.is_told = false;
                (self.store, self.record) = (store, record);
                self.show();
            }
            Err(e) if self.ground.is_told => tracing::debug!("{e}"),
            Err(e) => {
                tracing::warn!("the database is another file, which cannot be used: {e}");
                self.ground.is_told = true;
            }
        }
    }

    /// The record is gone from the database that the machine came up with. Nobody deletes that of a machine that is up; so
    /// the machine ends, as nobody can know of it, and what it has on its disk stays, under a record of its own.
    pub(super) fn unrecorded(&mut self) -> Over {
        if self.record.ephemeral {
            return Over::Deleted;
        }
        let reason = "its record disappeared while it was up";
        match self.store.take_up(&self.record, Known::Keep, reason) {
            Ok(record) => self.record = record,
            Err(e) => tracing::error!("{e}"),
        }
        Over::Down {
            cause: Cause::HomeChanged,
            to: MachineState::Failed,
            reason: Some(reason.to_owned()),
            remove: false,
            forced: Forced::No,
        }
    }
}

fn file_id(path: &Path) -> Option<(FileId, u64, i64)> {
    let found: io::Result<_> = std::fs::metadata(path);
    let found = found.ok()?;
    Some(((found.dev(), found.ino()), found.len(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vmint_model::MachineId;

    #[test]
    fn a_folder_is_found_where_it_was_moved_and_what_took_its_place_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("home");
        let home = Home::new(&root, dir.path());
        let machine = home.machine(&MachineId::random());
        fs::create_dir_all(machine.path()).unwrap();
        fs::write(machine.lock(), "").unwrap();
        let store = Store::open(&home).unwrap();
        let ground = Ground::of(&machine, &store);
        assert_eq!(ground.place(&machine), Place::Here);

        let other = root.with_file_name("other");
        fs::rename(&root, &other).unwrap();
        let there = Home::new(&other, dir.path()).machine(&machine_id(&machine));
        assert_eq!(
            ground.place(&machine),
            Place::Moved(there.path().to_owned())
        );
        // By a link, the old path leads to the same folder again.
        std::os::unix::fs::symlink(&other, &root).unwrap();
        assert_eq!(ground.place(&machine), Place::Here);
        fs::remove_file(&root).unwrap();
        // A copy in its place.
        fs::create_dir_all(machine.path()).unwrap();
        fs::write(machine.lock(), "").unwrap();
        assert_eq!(
            ground.place(&machine),
            Place::Moved(there.path().to_owned())
        );
        fs::remove_dir_all(there.path()).unwrap();
        assert_eq!(ground.place(&machine), Place::Deleted);
    }

    fn machine_id(machine: &MachineDir) -> MachineId {
        let name = machine.path().file_name().unwrap();
        name.to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn a_database_that_is_missing_or_being_written_is_not_gone_over_to() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), dir.path());
        let machine = home.machine(&MachineId::random());
        let store = Store::open(&home).unwrap();
        let mut ground = Ground::of(&machine, &store);
        let path = home.database();
        assert!(!ground.is_replaced(&path));
        fs::rename(&path, dir.path().join("aside")).unwrap();
        assert!(!ground.is_replaced(&path) && !ground.is_replaced(&path));
        for size in 1..4 {
            fs::write(&path, vec![0; size]).unwrap();
            assert!(!ground.is_replaced(&path), "it has just changed");
        }
        assert!(ground.is_replaced(&path));
    }
}
