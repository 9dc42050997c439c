//! What the tests of the store share.

use std::path::PathBuf;
use std::time::Duration;
use vmint_model::{
    ByteSize, Generation, MachineId, MachineRecord, MachineSpec, MachineState, NetMode, Origin,
};
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
        id: MachineId::random(),
        name: name.parse().unwrap(),
        state: MachineState::Created,
        generation: Generation(1),
        spec: spec(),
        image_digest: None,
        template: None,
        restored: None,
        last_ports: Vec::new(),
        accelerator: None,
        confinement: None,
        runner_confinement: None,
        run_as: None,
        ephemeral: false,
        pool: None,
        owner: None,
        runner: None,
        hypervisor: None,
        addresses: Vec::new(),
        ports: Vec::new(),
        reason: None,
        created_at_ms: vmint_store::now_ms(),
        ready_ms: None,
    }
}
