//! What tests of the runner need: a machine that is nobody's.

use vmint_model::{
    ByteSize, ExecDefaults, Generation, Limits, MachineId, MachineRecord, MachineSpec,
    MachineState, NetMode, Origin,
};

/// A machine that runs, at its third generation.
pub(crate) fn record() -> MachineRecord {
    let id = MachineId::random();
    MachineRecord {
        generation: Generation(3),
        ..MachineRecord::new(
            id.clone(),
            format!("m-{id}").parse().unwrap(),
            MachineState::Running,
            MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(128),
                cpus: 1,
                net: NetMode::None,
                publish: Vec::new(),
                limits: Limits::default(),
                origin: Origin::Template,
                disk_cache: None,
                defaults: ExecDefaults::default(),
            },
        )
    }
}
