//! What there is to see.

use super::memory::{self, Family, Memory};
use crate::commands::care::EventView;
#[cfg(test)]
use crate::commands::schema::foreign;
use crate::output::time;
use serde::Serialize;
use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};
use vmint::{
    ErrorKind, Fault, HostMemory, LeaseRecord, MachineId, MachineRecord, Owner, PoolStatus, Slot,
    Vmint, now_ms,
};

/// So many events are shown.
const EVENTS: usize = 40;
/// Memory of processes is read this often: the kernel walks all their pages for it.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

/// One moment.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Top"))]
pub struct Snapshot {
    /// When.
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub at: String,
    /// The host.
    pub host: HostView,
    /// All pools, by name.
    pub pools: Vec<PoolView>,
    /// All machines, those of a pool together.
    pub machines: Vec<MachineView>,
    /// Leases that have not ended, the oldest first.
    pub leases: Vec<LeaseView>,
    /// Who waits in line, the first first.
    pub waiters: Vec<WaiterView>,
    /// The last events, the newest last.
    pub events: Vec<EventLine>,
}

/// The host.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopHost"))]
pub struct HostView {
    /// Bytes that there are, under the limit of the control group.
    pub memory_total: Option<u64>,
    /// Bytes that can be had.
    pub memory_available: Option<u64>,
    /// Swap in use, in percent; nothing where there is none.
    pub swap_percent: Option<f64>,
    /// How much of the last ten seconds some task waited for memory, in percent.
    pub pressure: Option<f64>,
    /// The load average of the last minute.
    pub load: Option<f64>,
    /// What executes machines.
    #[cfg_attr(test, schemars(with = "Vec<foreign::Accelerator>"))]
    pub accelerators: Vec<&'static str>,
    /// How their hypervisors and runners are fenced in, in brief.
    pub confinements: Vec<String>,
}

/// A pool.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopPool"))]
pub struct PoolView {
    pub name: String,
    #[cfg_attr(test, schemars(with = "foreign::PoolState"))]
    pub state: &'static str,
    pub image: String,
    pub memory: u64,
    pub min: u32,
    pub max: u32,
    pub alive: u32,
    pub ready: u32,
    pub leased: u32,
    pub filling: u32,
    pub resetting: u32,
    pub retiring: u32,
    pub waiting: u32,
}

/// A machine.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopMachine"))]
pub struct MachineView {
    pub name: String,
    /// Of its slot, if it has one; else its own.
    #[cfg_attr(test, schemars(with = "foreign::EitherState"))]
    pub state: &'static str,
    #[cfg_attr(test, schemars(with = "Option<foreign::MachineState>"))]
    pub machine_state: Option<&'static str>,
    pub pool: Option<String>,
    pub generation: u64,
    #[cfg_attr(test, schemars(with = "Option<foreign::Accelerator>"))]
    pub accelerator: Option<&'static str>,
    /// How its hypervisor is fenced in.
    pub confinement: Option<String>,
    /// How its runner is.
    pub runner_confinement: Option<String>,
    #[serde(skip)]
    pub confined: Option<String>,
    pub uses: Option<u32>,
    pub lease: Option<String>,
    #[cfg_attr(test, schemars(with = "Option<foreign::Owner>"))]
    pub owner: Option<Owner>,
    pub label: Option<String>,
    /// What was promised to it.
    pub memory: u64,
    /// What its runner, its hypervisor and its standby really take.
    pub used: Option<Memory>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub created_at: String,
    #[serde(skip)]
    pub created_at_ms: i64,
    /// Since when it is in this state, where that is known.
    #[cfg_attr(test, schemars(with = "Option<foreign::Time>"))]
    pub since: Option<String>,
    #[serde(skip)]
    pub since_ms: Option<i64>,
}

/// A lease.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopLease"))]
pub struct LeaseView {
    pub lease: String,
    pub pool: String,
    pub machine: String,
    pub generation: u64,
    #[cfg_attr(test, schemars(with = "foreign::Owner"))]
    pub owner: Owner,
    pub label: Option<String>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub granted_at: String,
    #[serde(skip)]
    pub granted_at_ms: i64,
    pub waited_ms: i64,
    #[cfg_attr(test, schemars(with = "Option<foreign::Time>"))]
    pub expires_at: Option<String>,
}

/// Somebody in line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopWaiter"))]
pub struct WaiterView {
    pub pool: String,
    #[cfg_attr(test, schemars(with = "foreign::Owner"))]
    pub owner: Owner,
    pub label: Option<String>,
    pub pid: u32,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub since: String,
    #[serde(skip)]
    pub since_ms: i64,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub deadline: String,
}

/// An event.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TopEvent"))]
pub struct EventLine {
    pub sequence: i64,
    /// As `vmint events` prints it.
    pub text: String,
}

/// Looks again and again.
#[derive(Debug)]
pub struct Watcher {
    vmint: Vmint,
    seen: Option<i64>,
    memory: HashMap<MachineId, Memory>,
    memory_at: Option<Instant>,
}

impl Watcher {
    /// Looks at what this opens.
    pub fn new(vmint: Vmint) -> Self {
        Self {
            vmint,
            seen: None,
            memory: HashMap::new(),
            memory_at: None,
        }
    }

    /// Whether somebody has changed the store since this was asked last.
    pub fn has_changed(&mut self) -> Result<bool, Fault> {
        let version = self.vmint.store().data_version().map_err(host)?;
        Ok(self.seen.replace(version) != Some(version))
    }

    /// This moment.
    pub fn look(&mut self) -> Result<Snapshot, Fault> {
        let vmint = &self.vmint;
        let (pools, slots, leases) = (vmint.pools()?, vmint.slots(None)?, vmint.leases()?);
        let (waiters, machines) = (vmint.waiters()?, vmint.machines()?);
        let last = vmint.store().last_sequence().map_err(host)?;
        let events = vmint.events((last - EVENTS as i64).max(0), EVENTS)?;
        if self.memory_at.is_none_or(|at| at.elapsed() >= MEMORY_EVERY) {
            let family = Family::read();
            let of = |m: &MachineRecord| {
                let runner = m.runner.as_ref()?;
                Some((m.id.clone(), memory::of_family(&family, runner.pid)?))
            };
            self.memory = machines.iter().filter_map(of).collect();
            self.memory_at = Some(Instant::now());
        }
        let mut accelerators: Vec<_> = machines
            .iter()
            .filter_map(|m| m.accelerator.map(vmint::Accelerator::as_str))
            .collect();
        accelerators.sort_unstable();
        accelerators.dedup();
        let mut confinements: Vec<_> = machines.iter().filter_map(confined).collect();
        confinements.sort_unstable();
        confinements.dedup();
        Ok(Snapshot {
            at: time(now_ms()),
            host: host_view(accelerators, confinements),
            pools: pools.iter().map(pool).collect(),
            machines: self.machines(&machines, &slots, &leases),
            leases: leases.iter().map(lease).collect(),
            waiters: waiters
                .iter()
                .map(|w| WaiterView {
                    pool: w.pool.to_string(),
                    owner: w.owner.clone(),
                    label: w.label.clone(),
                    pid: w.process.pid,
                    since: time(w.since_ms),
                    since_ms: w.since_ms,
                    deadline: time(w.deadline_ms),
                })
                .collect(),
            events: events
                .iter()
                .map(|event| EventLine {
                    sequence: event.sequence,
                    text: EventView::from(event).text(),
                })
                .collect(),
        })
    }

    fn machines(
        &self,
        machines: &[MachineRecord],
        slots: &[Slot],
        leases: &[LeaseRecord],
    ) -> Vec<MachineView> {
        let mut views = Vec::with_capacity(machines.len().max(slots.len()));
        for slot in slots {
            let record = machines.iter().find(|m| m.id == slot.machine);
            let lease = leases.iter().find(|l| l.machine == slot.machine);
            views.push(MachineView {
                name: record.map_or_else(|| slot.machine.to_string(), |m| m.name.to_string()),
                state: slot.state.as_str(),
                machine_state: record.map(|m| m.state.as_str()),
                pool: Some(slot.pool.to_string()),
                generation: slot.generation.0,
                accelerator: record
                    .and_then(|m| m.accelerator)
                    .map(vmint::Accelerator::as_str),
                confinement: record.and_then(|m| Some(m.confinement?.to_string())),
                runner_confinement: record.and_then(|m| Some(m.runner_confinement?.to_string())),
                confined: record.and_then(confined),
                uses: Some(slot.uses),
                lease: lease.map(|l| l.id.to_string()),
                owner: lease.map(|l| l.owner.clone()),
                label: lease.and_then(|l| l.label.clone()),
                memory: record.map_or(0, |m| m.spec.memory.0),
                used: self.memory.get(&slot.machine).copied(),
                created_at: time(slot.born_at_ms),
                created_at_ms: slot.born_at_ms,
                since: Some(time(slot.since_ms)),
                since_ms: Some(slot.since_ms),
            });
        }
        let alone = |m: &&MachineRecord| !slots.iter().any(|slot| slot.machine == m.id);
        for record in machines.iter().filter(alone) {
            views.push(MachineView {
                name: record.name.to_string(),
                state: record.state.as_str(),
                machine_state: Some(record.state.as_str()),
                pool: record.pool.as_ref().map(ToString::to_string),
                generation: record.generation.0,
                accelerator: record.accelerator.map(vmint::Accelerator::as_str),
                confinement: record.confinement.map(|level| level.to_string()),
                runner_confinement: record.runner_confinement.map(|level| level.to_string()),
                confined: confined(record),
                uses: None,
                lease: None,
                owner: record.owner.clone().map(Owner::Process),
                label: None,
                memory: record.spec.memory.0,
                used: self.memory.get(&record.id).copied(),
                created_at: time(record.created_at_ms),
                created_at_ms: record.created_at_ms,
                since: None,
                since_ms: None,
            });
        }
        views
    }
}

/// How hypervisor and runner are fenced in, in brief: once where it is the same.
fn confined(record: &MachineRecord) -> Option<String> {
    let hypervisor = record.confinement?.brief();
    let runner = record.runner_confinement.map(|level| level.brief());
    Some(match runner {
        Some(runner) if runner != hypervisor => format!("{hypervisor}, runner {runner}"),
        _ => hypervisor,
    })
}

fn pool(status: &PoolStatus) -> PoolView {
    let (pool, counts) = (&status.pool, &status.counts);
    PoolView {
        name: pool.name.to_string(),
        state: pool.state.as_str(),
        image: pool.spec.image.clone(),
        memory: pool.spec.memory.0,
        min: pool.spec.min,
        max: pool.spec.max,
        alive: counts.alive(),
        ready: counts.ready,
        leased: counts.leased,
        filling: counts.filling,
        resetting: counts.resetting,
        retiring: counts.retiring,
        waiting: counts.waiting,
    }
}

fn lease(lease: &LeaseRecord) -> LeaseView {
    LeaseView {
        lease: lease.id.to_string(),
        pool: lease.pool.to_string(),
        machine: lease.machine.to_string(),
        generation: lease.generation.0,
        owner: lease.owner.clone(),
        label: lease.label.clone(),
        granted_at: time(lease.granted_at_ms),
        granted_at_ms: lease.granted_at_ms,
        waited_ms: lease.waited_ms,
        expires_at: lease.expires_at_ms.map(time),
    }
}

fn host_view(accelerators: Vec<&'static str>, confinements: Vec<String>) -> HostView {
    let memory = HostMemory::read();
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    HostView {
        memory_total: memory.total(),
        memory_available: memory.available(),
        swap_percent: memory.info.swap_percent(),
        pressure: memory.pressure,
        load,
        accelerators,
        confinements,
    }
}

fn host(e: impl std::error::Error + 'static) -> Fault {
    Fault::from_error(ErrorKind::Host, &e).context("cannot read the store")
}
