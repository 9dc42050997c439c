//! What the tests of the store share.

use std::path::PathBuf;
use std::time::Duration;
use vmint_model::{ByteSize, MachineId, MachineRecord, MachineSpec, MachineState, NetMode, Origin};
use vmint_store::Store;

/// A folder with a database, gone with the test.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn database(&self) -> PathBuf {
        self.0.path().join("vmint.db")
    }

    pub fn store(&self) -> Store {
        Store::open_file(&self.database(), Duration::from_secs(60)).unwrap()
    }
}

pub fn spec() -> MachineSpec {
    MachineSpec {
        image: "tiny".into(),
        memory: ByteSize::mib(256),
        cpus: 1,
        net: NetMode::None,
        publish: Vec::new(),
        limits: vmint_model::Limits::default(),
        origin: Origin::Template,
        disk_cache: None,
        defaults: vmint_model::ExecDefaults::default(),
    }
}

pub fn machine(name: &str) -> MachineRecord {
    MachineRecord {
        created_at_ms: vmint_store::now_ms(),
        ..MachineRecord::new(
            MachineId::random(),
            name.parse().unwrap(),
            MachineState::Created,
            spec(),
        )
    }
}
