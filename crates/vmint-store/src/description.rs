//! What the folder of a machine or of a snapshot says of itself: `machine.json`, `snapshot.json`.
//!
//! The store is a hint, and may be lost, or be an older one. So each folder holds a copy of its record, written whenever
//! that changes, and the id of the home that it was written in. A folder without a record is taken up again by what it
//! says. Only what says that it is disposable, and says it of this very home, may be deleted.
//!
//! Nothing here waits for the disk, and a failure to write changes nothing: the record is what counts while there is one.

use crate::identity::{read_small, replace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use vmint_model::{Home, MachineRecord, SnapshotRecord};

/// Of what is written here. A reader takes what it knows, and leaves what it does not know alone.
const VERSION: u32 = 1;

/// What a folder says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description<R> {
    version: u32,
    /// The id of the home that it was written in.
    pub home: String,
    /// The record, when it was written.
    pub record: R,
}

/// A folder that does not say what it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Undescribed {
    /// It says nothing.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file that should say it.
        path: PathBuf,
    },
    /// What it says cannot be understood.
    #[error("{} cannot be understood: {reason}", path.display())]
    Unreadable {
        /// The file that should say it.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl<R: Serialize + DeserializeOwned> Description<R> {
    fn write(home: &Home, path: &Path, record: &R) -> io::Result<()> {
        let description = Description {
            version: VERSION,
            home: home.mark().to_string_lossy().into_owned(),
            record,
        };
        replace(
            path,
            &serde_json::to_vec(&description).expect("a record has no keys but strings"),
        )
    }

    fn read(path: PathBuf) -> Result<Self, Undescribed> {
        let unreadable = |reason: String| Undescribed::Unreadable {
            path: path.clone(),
            reason,
        };
        let bytes = match read_small(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Undescribed::Missing { path }),
            Err(e) => return Err(unreadable(e.to_string())),
        };
        let found: Self = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
        if found.version == VERSION {
            Ok(found)
        } else {
            Err(unreadable(format!("version {}", found.version)))
        }
    }

    /// Whether it was written in this home.
    pub fn is_of(&self, home: &Home) -> bool {
        home.mark().to_str() == Some(self.home.as_str())
    }
}

/// Writes down what the folder of a machine is. One that has no folder needs no description.
pub fn describe_machine(home: &Home, record: &MachineRecord) {
    let _ = Description::write(home, &home.machine(&record.id).description(), record);
}

/// What the folder of a machine says.
pub fn machine(folder: &Path) -> Result<Description<MachineRecord>, Undescribed> {
    Description::read(folder.join("machine.json"))
}

/// Writes down what the folder of a snapshot is, be it in its place or not yet.
pub fn describe_snapshot(home: &Home, folder: &Path, record: &SnapshotRecord) {
    let _ = Description::write(home, &folder.join("snapshot.json"), record);
}

/// What the folder of a snapshot says.
pub fn snapshot(folder: &Path) -> Result<Description<SnapshotRecord>, Undescribed> {
    Description::read(folder.join("snapshot.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vmint_model::{Accelerator, ByteSize, MachineSpec, NetMode, Origin};

    fn snapshot_record() -> SnapshotRecord {
        SnapshotRecord {
            name: "s".parse().unwrap(),
            machine: "box".parse().unwrap(),
            spec: MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(64),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: vmint_model::Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: vmint_model::ExecDefaults::default(),
            },
            image_digest: None,
            accelerator: Accelerator::Tcg,
            pause_ms: 1.0,
            size: ByteSize(1),
            full: false,
            implicit: false,
            run: None,
            created_at_ms: 1,
        }
    }

    #[test]
    fn a_folder_says_what_it_is_and_of_which_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), "/run/0123abcd");
        let copy = Home::new(dir.path(), "/run/ffffffff");
        let record = snapshot_record();
        describe_snapshot(&home, dir.path(), &record);
        let said = snapshot(dir.path()).unwrap();
        assert_eq!(said.record, record);
        assert!(said.is_of(&home) && !said.is_of(&copy));
        // Where there is no folder, none is made.
        describe_snapshot(&home, &dir.path().join("gone"), &record);
        assert!(!dir.path().join("gone").exists());
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.json");
        let found = snapshot(dir.path());
        assert!(
            matches!(found, Err(Undescribed::Missing { .. })),
            "{found:?}"
        );
        let home = Home::new(dir.path(), "/run/0123abcd");
        describe_snapshot(&home, dir.path(), &snapshot_record());
        let whole = fs::read_to_string(&path).unwrap();
        let newer = whole.replacen("\"version\":1", "\"version\":2", 1);
        for text in [&whole[..whole.len() / 2], "", "null", "{}", &newer] {
            fs::write(&path, text).unwrap();
            let found = snapshot(dir.path());
            assert!(
                matches!(found, Err(Undescribed::Unreadable { .. })),
                "{text}"
            );
        }
        // What another program put there is not followed.
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("elsewhere"), whole).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(snapshot(dir.path()).is_err());
    }
}
