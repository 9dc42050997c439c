//! What is printed of machines, snapshots, images and templates: a contract with scripts.

#[cfg(test)]
use crate::commands::schema::foreign;
use crate::output::{self, age, list, ms, table, time};
use serde::Serialize;
use vmint::{Fault, LeaseRecord, MachineRecord, Origin, Publish, SnapshotRecord};

/// What became of one of several things that were named, or are listed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(untagged)]
pub enum Each<T> {
    Done(T),
    Failed(Failed),
}

/// What could not be done to one of several, or one that cannot be used.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failed {
    /// As it was named.
    pub name: String,
    /// Why not.
    #[cfg_attr(test, schemars(with = "foreign::Fault"))]
    pub error: Fault,
}

/// What is gone.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Removed {
    /// As it was named.
    name: String,
    /// Always true.
    removed: bool,
}

impl Removed {
    /// The thing that was named so.
    pub fn of(name: String) -> Self {
        Self {
            name,
            removed: true,
        }
    }
}

/// A machine.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine<'a> {
    id: &'a str,
    name: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::MachineState"))]
    state: &'static str,
    generation: u64,
    image: &'a str,
    image_digest: Option<&'a str>,
    /// The snapshot that it was created from.
    snapshot: Option<&'a str>,
    /// The snapshot that it was last brought back to, until it is reset.
    restored: Option<&'a str>,
    /// The fingerprint of the template that it is made from.
    template: Option<&'a str>,
    backend: &'static str,
    #[cfg_attr(test, schemars(with = "Option<foreign::Accelerator>"))]
    accelerator: Option<&'static str>,
    #[cfg_attr(test, schemars(with = "Option<foreign::Confinement>"))]
    confinement: Option<vmint::Confinement>,
    #[cfg_attr(test, schemars(with = "Option<foreign::Confinement>"))]
    runner_confinement: Option<vmint::Confinement>,
    run_as: Option<String>,
    pool: Option<&'a str>,
    lease: Option<&'a str>,
    memory: u64,
    cpus: u32,
    #[cfg_attr(test, schemars(with = "Option<foreign::Limits>"))]
    limits: Option<vmint::Limits>,
    #[cfg_attr(test, schemars(with = "foreign::NetMode"))]
    net: &'a vmint::NetMode,
    #[cfg_attr(test, schemars(with = "foreign::DiskCache"))]
    disk_cache: &'static str,
    /// How often its allow list allowed and refused, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "foreign::Totals"))]
    network: Option<vmint::qemu::egress::Totals>,
    addresses: &'a [String],
    #[cfg_attr(test, schemars(with = "Vec<foreign::Publish>"))]
    ports: &'a [Publish],
    runner_pid: Option<u32>,
    hypervisor_pid: Option<u32>,
    ephemeral: bool,
    reason: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    created_at: String,
    ready_ms: Option<f64>,
}

/// A machine that was stopped.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoppedMachine<'a> {
    #[serde(flatten)]
    pub machine: Machine<'a>,
    /// Whether its power was cut.
    pub forced: bool,
}

impl Machine<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        self.name.to_owned()
    }
}

impl<'a> From<&'a MachineRecord> for Machine<'a> {
    fn from(record: &'a MachineRecord) -> Self {
        Self {
            id: record.id.as_str(),
            name: record.name.as_str(),
            state: record.state.as_str(),
            generation: record.generation.0,
            image: &record.spec.image,
            image_digest: record.image_digest.as_deref(),
            snapshot: record.spec.origin.snapshot().map(vmint::Name::as_str),
            restored: record.restored.as_ref().map(vmint::Name::as_str),
            template: record.template.as_deref(),
            backend: "qemu",
            accelerator: record.accelerator.map(vmint::Accelerator::as_str),
            confinement: record.confinement,
            runner_confinement: record.runner_confinement,
            run_as: record.run_as.clone(),
            pool: record.pool.as_ref().map(vmint::Name::as_str),
            lease: None,
            memory: record.spec.memory.0,
            cpus: record.spec.cpus,
            limits: Some(record.spec.limits).filter(|limits| !limits.is_none()),
            net: &record.spec.net,
            disk_cache: record.disk_cache().as_str(),
            network: None,
            addresses: &record.addresses,
            ports: &record.ports,
            runner_pid: record.runner.as_ref().map(|p| p.pid),
            hypervisor_pid: record.hypervisor.as_ref().map(|p| p.pid),
            ephemeral: record.ephemeral,
            reason: record.reason.as_deref(),
            created_at: time(record.created_at_ms),
            ready_ms: record.ready_ms.map(|ms| (ms * 10.0).round() / 10.0),
        }
    }
}

impl<'a> Machine<'a> {
    /// With the lease on it, if there is one among these.
    pub fn lent(record: &'a MachineRecord, leases: &'a [LeaseRecord]) -> Self {
        let lease = leases.iter().find(|l| l.machine == record.id);
        Self {
            lease: lease.map(|l| l.id.as_str()),
            ..Self::from(record)
        }
    }

    /// With what its allow list did.
    pub fn counted(self, network: Option<vmint::qemu::egress::Totals>) -> Self {
        Self { network, ..self }
    }
}

fn ports(record: &MachineRecord) -> String {
    let ports: Vec<_> = record.ports.iter().map(ToString::to_string).collect();
    ports.join(" ")
}

fn accelerator(record: &MachineRecord) -> String {
    record
        .accelerator
        .map(|a| a.to_string())
        .unwrap_or_default()
}

/// Machines, a line for each.
pub fn machines(records: &[MachineRecord]) -> String {
    let headings = [
        "NAME",
        "STATE",
        "GEN",
        "IMAGE",
        "ACCELERATOR",
        "MEMORY",
        "CPUS",
        "ADDRESS",
        "PORTS",
        "READY",
        "CREATED",
    ];
    let row = |record: &MachineRecord| {
        [
            record.name.to_string(),
            record.state.to_string(),
            record.generation.to_string(),
            record.spec.image.clone(),
            accelerator(record),
            record.spec.memory.to_string(),
            record.spec.cpus.to_string(),
            record.addresses.join(" "),
            ports(record),
            record.ready_ms.map(ms).unwrap_or_default(),
            format!("{} ago", age(record.created_at_ms)),
        ]
    };
    table(headings, records.iter().map(row))
}

/// A machine's network in half a line.
fn network(record: &MachineRecord, totals: Option<vmint::qemu::egress::Totals>) -> String {
    let Some(list) = record.spec.net.allowed() else {
        return record.spec.net.to_string();
    };
    let (entries, totals) = (list.len(), totals.unwrap_or_default());
    let plural = if entries == 1 { "entry" } else { "entries" };
    format!(
        "allow ({entries} {plural}), {} allowed, {} refused",
        totals.allowed, totals.refused
    )
}

/// All of a machine.
pub fn machine(record: &MachineRecord, totals: Option<vmint::qemu::egress::Totals>) -> String {
    let pid = |process: &Option<vmint::ProcessRef>| {
        process
            .as_ref()
            .map(|p| p.pid.to_string())
            .unwrap_or_default()
    };
    list([
        ("name", record.name.to_string()),
        ("id", record.id.to_string()),
        ("state", record.state.to_string()),
        ("reason", record.reason.clone().unwrap_or_default()),
        ("generation", record.generation.to_string()),
        ("image", record.spec.image.clone()),
        (
            "image digest",
            record.image_digest.clone().unwrap_or_default(),
        ),
        (
            "started from",
            match &record.spec.origin {
                Origin::Template => "template".to_owned(),
                Origin::Cold => "boot".to_owned(),
                Origin::Snapshot(name) => format!("snapshot {name}"),
                Origin::Disk(name) => format!("boot from the disk of snapshot {name}"),
            },
        ),
        (
            "restored to",
            record
                .restored
                .as_ref()
                .map(|name| format!("snapshot {name}"))
                .unwrap_or_default(),
        ),
        ("template", record.template.clone().unwrap_or_default()),
        ("backend", "qemu".to_owned()),
        ("accelerator", accelerator(record)),
        (
            "confinement",
            record
                .confinement
                .map(|level| level.to_string())
                .unwrap_or_default(),
        ),
        (
            "runner confinement",
            record
                .runner_confinement
                .map(|level| level.to_string())
                .unwrap_or_default(),
        ),
        ("runs as", record.run_as.clone().unwrap_or_default()),
        ("memory", record.spec.memory.to_string()),
        ("cpus", record.spec.cpus.to_string()),
        ("limits", record.spec.limits.to_string()),
        ("disk cache", record.disk_cache().to_string()),
        ("network", network(record, totals)),
        (
            "allowed",
            record
                .spec
                .net
                .allowed()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("addresses", record.addresses.join(" ")),
        ("ports", ports(record)),
        ("runner", pid(&record.runner)),
        ("hypervisor", pid(&record.hypervisor)),
        (
            "ephemeral",
            if record.ephemeral { "yes" } else { "no" }.to_owned(),
        ),
        ("created", time(record.created_at_ms)),
        ("ready in", record.ready_ms.map(ms).unwrap_or_default()),
    ])
}

/// A machine in half a line: what it is by now, and by what.
pub fn brief(record: &MachineRecord) -> String {
    let mut text = format!("{} is {}", record.name, record.state);
    if let (Some(accelerator), true) = (record.accelerator, record.state.has_runner()) {
        let ready = record
            .ready_ms
            .map(|t| format!(", ready in {}", ms(t)))
            .unwrap_or_default();
        text += &format!(" ({accelerator}{ready})");
    }
    let ports: Vec<_> = record
        .ports
        .iter()
        .map(|p| format!("127.0.0.1:{} to {}", p.host, p.guest))
        .collect();
    if !ports.is_empty() {
        text += &format!(", {}", ports.join(", "));
    }
    text
}

/// A snapshot.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot<'a> {
    name: &'a str,
    machine: &'a str,
    image: &'a str,
    image_digest: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "foreign::Accelerator"))]
    accelerator: &'static str,
    memory: u64,
    cpus: u32,
    #[cfg_attr(test, schemars(with = "foreign::NetMode"))]
    net: &'a vmint::NetMode,
    size: u64,
    full: bool,
    pause_ms: f64,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    created_at: String,
}

impl Snapshot<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        self.name.to_owned()
    }
}

impl<'a> From<&'a SnapshotRecord> for Snapshot<'a> {
    fn from(record: &'a SnapshotRecord) -> Self {
        Self {
            name: record.name.as_str(),
            machine: record.machine.as_str(),
            image: &record.spec.image,
            image_digest: record.image_digest.as_deref(),
            accelerator: record.accelerator.as_str(),
            memory: record.spec.memory.0,
            cpus: record.spec.cpus,
            net: &record.spec.net,
            size: record.size.0,
            full: record.full,
            pause_ms: (record.pause_ms * 10.0).round() / 10.0,
            created_at: time(record.created_at_ms),
        }
    }
}

/// Snapshots, a line for each.
pub fn snapshots(records: &[SnapshotRecord]) -> String {
    let headings = [
        "NAME",
        "MACHINE",
        "IMAGE",
        "ACCELERATOR",
        "MEMORY",
        "SIZE",
        "PAUSE",
        "SAVED",
        "CREATED",
    ];
    let row = |record: &SnapshotRecord| {
        [
            record.name.to_string(),
            record.machine.to_string(),
            record.spec.image.clone(),
            record.accelerator.to_string(),
            record.spec.memory.to_string(),
            record.size.to_string(),
            ms(record.pause_ms),
            if record.full {
                "all memory"
            } else {
                "what changed"
            }
            .to_owned(),
            format!("{} ago", age(record.created_at_ms)),
        ]
    };
    table(headings, records.iter().map(row))
}

/// A snapshot in half a line.
pub fn snapshot_brief(record: &SnapshotRecord) -> String {
    let saved = if record.full {
        ", all of its memory was saved"
    } else {
        ""
    };
    let (name, machine, size) = (&record.name, &record.machine, record.size);
    format!(
        "{name} is a snapshot of {machine} ({}, pause {}, {size}{saved})",
        record.accelerator,
        output::ms(record.pause_ms)
    )
}

/// A machine that was restored, in one line.
pub fn restored(record: &MachineRecord, snapshot: &vmint::Name) -> String {
    let accelerator = record
        .accelerator
        .map(|accelerator| format!("{accelerator}, "))
        .unwrap_or_default();
    let (name, generation) = (&record.name, record.generation);
    format!("{name} is back at snapshot {snapshot} ({accelerator}generation {generation})")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vmint::{
        Accelerator, ByteSize, ExecDefaults, Generation, MachineSpec, MachineState, NetMode,
        ProcessRef,
    };

    /// A machine that is up.
    pub(crate) fn record() -> MachineRecord {
        let process = |pid| {
            Some(ProcessRef {
                pid,
                start_time: 1,
                boot_id: "b".into(),
                namespace: None,
            })
        };
        MachineRecord {
            id: "m0123456789ab".parse().unwrap(),
            name: "box".parse().unwrap(),
            state: MachineState::Running,
            generation: Generation(2),
            spec: MachineSpec {
                image: "tiny".into(),
                memory: ByteSize::mib(512),
                cpus: 2,
                net: NetMode::Nat,
                publish: Vec::new(),
                limits: vmint::Limits::default(),
                origin: Origin::Snapshot("clean".parse().unwrap()),
                disk_cache: None,
                defaults: ExecDefaults::default(),
            },
            image_digest: Some("sha256:00".into()),
            template: Some("f00".into()),
            restored: None,
            last_ports: Vec::new(),
            accelerator: Some(Accelerator::Tcg),
            confinement: None,
            runner_confinement: None,
            run_as: None,
            ephemeral: false,
            pool: None,
            owner: None,
            runner: process(7),
            hypervisor: process(8),
            addresses: vec!["10.0.2.15".into()],
            ports: vec![Publish {
                host: 8080,
                guest: 80,
            }],
            reason: None,
            created_at_ms: 1_700_000_000_123,
            ready_ms: Some(42.26),
        }
    }

    #[test]
    fn a_machine_in_json_is_what_the_contract_says() {
        let json = serde_json::to_string(&Machine::from(&record())).unwrap();
        let expected = concat!(
            r#"{"id":"m0123456789ab","name":"box","state":"running","generation":2,"image":"tiny","#,
            r#""image_digest":"sha256:00","snapshot":"clean","restored":null,"template":"f00","backend":"qemu","accelerator":"tcg","confinement":null,"runner_confinement":null,"run_as":null,"#,
            r#""pool":null,"lease":null,"memory":536870912,"cpus":2,"limits":null,"net":"nat","disk_cache":"writeback","addresses":["10.0.2.15"],"#,
            r#""ports":[{"host":8080,"guest":80}],"runner_pid":7,"hypervisor_pid":8,"ephemeral":false,"reason":null,"#,
            r#""created_at":"2023-11-14T22:13:20.123Z","ready_ms":42.3}"#,
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn a_machine_that_is_up_is_never_told_of_without_its_accelerator() {
        assert_eq!(
            brief(&record()),
            "box is running (tcg, ready in 42 ms), 127.0.0.1:8080 to 80"
        );
        let down = MachineRecord {
            state: MachineState::Stopped,
            ports: Vec::new(),
            ..record()
        };
        assert_eq!(brief(&down), "box is stopped");
        let table = machines(&[record()]);
        let mut lines = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap()[4], "ACCELERATOR");
        assert_eq!(
            lines.next().unwrap()[..5],
            ["box", "running", "2", "tiny", "tcg"]
        );
        assert!(
            machine(&record(), None)
                .lines()
                .any(|line| line.split_whitespace().eq(["accelerator", "tcg"]))
        );
    }
}
