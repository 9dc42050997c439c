//! What tests of the runner need: a machine that is nobody's.

use vmint_model::{
    ByteSize, ExecDefaults, Generation, Limits, MachineId, MachineRecord, MachineSpec,
    MachineState, NetMode, Origin,
};

/// A machine that runs, at its third generation.
pub(crate) fn record() -> MachineRecord {
    let id = MachineId::random();
    MachineRecord {
        name: format!("m-{id}").parse().unwrap(),
        id,
        state: MachineState::Running,
        generation: Generation(3),
        spec: MachineSpec {
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
        created_at_ms: 0,
        ready_ms: None,
    }
}
