//! Folders of machines and snapshots that the database does not know. It may be new, older than they are, or another
//! home's; so what they are is asked of themselves.
//!
//! ```text
//! the folder says                                it is
//! a machine or snapshot that was to stay         taken up again
//! to go with its owner or pool, which is gone,   removed: a command died before it could
//! and in this home
//! nothing, and holds nothing                     removed: a command died before it put anything there
//! nothing, or of a run that is not known         moved to lost+found, where only `vmint gc` deletes it, by its age
//! ```
//!
//! Whether a machine lives is said by its lock, as always. One that does is taken up as it is.

use crate::Vmint;
use crate::folders::remove_folder;
use crate::snapshots::IN_USE;
use crate::sweep::Found;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use vmint_model::{
    ByteSize, ErrorKind, Fault, MachineId, MachineRecord, MachineState, Name, SnapshotRecord,
};
use vmint_runner::belongs;
use vmint_store::description::{self, Description};
use vmint_store::{FileLock, Known, adopt, process};

/// How long what was moved to `lost+found` stays there, unless `vmint gc` is told otherwise.
pub const LOST_AGE: Duration = Duration::from_secs(30 * 86_400);

/// What the names in `lost+found` begin with.
const MACHINE: &str = "machine-";
const SNAPSHOT: &str = "snapshot-";
pub(crate) const RUN: &str = "run-";

/// Something in `lost+found`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it is.
    pub path: PathBuf,
    /// Room that it takes on disk and shares with nothing.
    pub size: ByteSize,
}

impl Vmint {
    /// Settles what becomes of the folder of a machine without a record.
    pub(crate) fn settle_machine(&self, id: &MachineId) -> Result<Option<Found>, Fault> {
        let dir = self.home.machine(id);
        let Ok(lock) = FileLock::try_acquire(&dir.lock()) else {
            // Gone by now, or not a machine's folder at all.
            return Ok(None);
        };
        // Under the lock: whoever makes a machine has it from before there is a folder until there is a record.
        if self.store().get(id)?.is_some() {
            return Ok(None);
        }
        let said = description::machine(dir.path());
        let Some(_lock) = lock else {
            return match said {
                Ok(said) if self.is_up_here(id, &said) => self.take_up(said.record).map(Some),
                // Somebody makes it; or its runner is about to say itself what it is.
                _ => Ok(None),
            };
        };
        match said {
            Ok(said)
                if said.record.ephemeral && said.is_of(&self.home) && said.record.id == *id =>
            {
                if said.record.owner.as_ref().is_some_and(process::is_alive) {
                    // It clears up itself.
                    return Ok(None);
                }
                tracing::info!("removing machine {id}, which was to go with its owner");
                let _ = std::fs::remove_file(dir.socket());
                remove_folder(dir.path()).map(|()| None)
            }
            Ok(said) => self.take_up(down(id, said, &self.home)).map(Some),
            Err(_) if is_bare(dir.path()) => {
                let _ = std::fs::remove_file(dir.socket());
                remove_folder(dir.path()).map(|()| None)
            }
            Err(e) => {
                let name = format!("{MACHINE}{id}");
                let id = id.as_str().parse().expect("an id is a legal name");
                self.lose(id, dir.path(), &name, &e.to_string()).map(Some)
            }
        }
    }

    /// Whether it is a machine of this home that is up and whose record is worth having. One of a pool that does not know
    /// it goes away by itself.
    fn is_up_here(&self, id: &MachineId, said: &Description<MachineRecord>) -> bool {
        let is_runner = |process| {
            let args = process::arguments(process);
            let args = args.iter().map(Vec::as_slice).collect::<Vec<_>>();
            process::is_alive(process) && belongs::is_of(&self.home, id, &args)
        };
        said.is_of(&self.home)
            && said.record.id == *id
            && said.record.pool.is_none()
            && said.record.state.has_runner()
            && said.record.runner.as_ref().is_some_and(is_runner)
    }

    fn take_up(&self, record: MachineRecord) -> Result<Found, Fault> {
        let why = "it was not in the database, and was taken up again by what its folder says";
        let taken = self.store().take_up(&record, Known::Keep, why);
        let record = taken?;
        let (name, state) = (record.name, record.state);
        Ok(Found {
            message: format!(
                "machine {name} was not in the database, and is taken up again: it is {state}"
            ),
            name,
        })
    }

    /// Settles what becomes of the folder of a snapshot without a record.
    pub(crate) fn settle_snapshot(&self, name: &Name) -> Result<Option<Found>, Fault> {
        let folder = self.home.snapshot(name);
        // The record comes before the folder; so it is known by now if it is to be.
        if self.store().snapshot(name)?.is_some() || !folder.is_dir() {
            return Ok(None);
        }
        let said = match description::snapshot(&folder) {
            Ok(said) => said,
            Err(e) => {
                return self
                    .lose(
                        name.clone(),
                        &folder,
                        &format!("{SNAPSHOT}{name}"),
                        &e.to_string(),
                    )
                    .map(Some);
            }
        };
        let record = SnapshotRecord {
            name: name.clone(),
            ..said.record.clone()
        };
        if let Some(run) = &record.run {
            if !self.store().has_run(run)? {
                let why = format!("it is of run {run}, which is not in the database");
                return self
                    .lose(name.clone(), &folder, &format!("{SNAPSHOT}{name}"), &why)
                    .map(Some);
            }
        } else if record.implicit && said.is_of(&self.home) {
            // For the children of a fork alone, which have links of their own to it.
            if !FileLock::is_held(&folder.join(IN_USE)).unwrap_or(true) {
                tracing::info!("removing snapshot {name}, which a fork left");
                remove_folder(&folder)?;
            }
            return Ok(None);
        }
        match self.store().insert_snapshot(&record) {
            Ok(()) | Err(vmint_store::StoreError::SnapshotExists { .. }) => Ok(Some(Found {
                name: name.clone(),
                message: format!("snapshot {name} was not in the database, and is taken up again"),
            })),
            Err(e) => Err(Fault::from(e)),
        }
    }

    /// Moves a folder to `lost+found`.
    fn lose(&self, name: Name, folder: &Path, to: &str, why: &str) -> Result<Found, Fault> {
        let place = adopt::put_away(&self.home, folder, to).map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e)
                .context(format!("cannot move {} to lost+found", folder.display()))
        })?;
        let days = LOST_AGE.as_secs() / 86_400;
        Ok(Found {
            name,
            message: format!(
                "{} has no record and cannot be taken up: {why}; moved to {}, where `vmint gc` deletes it after {days} days",
                folder.display(),
                place.display()
            ),
        })
    }

    /// What has been in `lost+found` for longer than `age`, the oldest first.
    pub fn lost(&self, age: Duration) -> Vec<Lost> {
        let entries = std::fs::read_dir(self.home.lost_and_found());
        let mut lost: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                // A home may be the root of a file system, which has a folder of this name for its own purposes.
                let name = entry.file_name();
                let name = name.to_str()?;
                if ![MACHINE, SNAPSHOT, RUN]
                    .iter()
                    .any(|kind| name.starts_with(kind))
                {
                    return None;
                }
                let since = entry.metadata().and_then(|meta| meta.modified()).ok()?;
                let path = entry.path();
                // A time to come is no age.
                (SystemTime::now().duration_since(since).ok()? >= age).then_some((since, path))
            })
            .collect();
        lost.sort();
        lost.into_iter()
            .map(|(_, path)| Lost {
                size: ByteSize(own_size(&path)),
                path,
            })
            .collect()
    }
}

/// The record of a machine without a runner, by what its folder says.
fn down(
    id: &MachineId,
    said: Description<MachineRecord>,
    home: &vmint_model::Home,
) -> MachineRecord {
    let is_ours = said.is_of(home);
    let record = said.record;
    let was_up = record.state.has_runner();
    MachineRecord {
        id: id.clone(),
        state: match record.state {
            MachineState::Created | MachineState::Stopped => record.state,
            _ => MachineState::Failed,
        },
        // What another home says of it is not acted on.
        ephemeral: record.ephemeral && is_ours,
        pool: record.pool.filter(|_| is_ours),
        owner: record.owner.filter(|_| is_ours),
        runner: None,
        hypervisor: None,
        addresses: Vec::new(),
        ports: Vec::new(),
        reason: if was_up {
            Some("it was up when its record was lost".into())
        } else {
            record.reason
        },
        ..record
    }
}

/// Whether a machine's folder holds its lock and nothing else.
fn is_bare(folder: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lock"))
}

/// What a file or folder takes on disk and shares with no other, in bytes.
fn own_size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    if !meta.is_dir() {
        return if meta.nlink() == 1 {
            meta.blocks() * 512
        } else {
            0
        };
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| own_size(&entry.path())).sum()
}
