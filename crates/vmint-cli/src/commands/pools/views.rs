//! Pools, slots, leases and lines as they are printed.

#[cfg(test)]
use crate::commands::schema::foreign;
use crate::output::{self, age, table, time};
use serde::Serialize;
use vmint::{ByteSize, InLine, LeaseRecord, Owner, PoolStatus, Slot, Vmint};

/// A pool.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Pool"))]
pub(in crate::commands) struct PoolView<'a> {
    pub(super) name: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::PoolState"))]
    pub(super) state: &'static str,
    pub(super) image: &'a str,
    #[cfg_attr(test, schemars(with = "Option<foreign::Accelerator>"))]
    pub(super) accelerator: Option<&'static str>,
    pub(super) memory: u64,
    pub(super) cpus: u32,
    #[cfg_attr(test, schemars(with = "Option<foreign::Limits>"))]
    pub(super) limits: Option<vmint::Limits>,
    #[cfg_attr(test, schemars(with = "foreign::NetMode"))]
    pub(super) net: &'a vmint::NetMode,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) standby: u32,
    pub(super) ttl_ms: Option<u64>,
    pub(super) max_uses: Option<u32>,
    pub(super) alive: u32,
    pub(super) ready: u32,
    pub(super) leased: u32,
    pub(super) resetting: u32,
    pub(super) filling: u32,
    pub(super) retiring: u32,
    pub(super) waiting: u32,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub(super) created_at: String,
}

impl<'a> PoolView<'a> {
    pub(super) fn of(status: &'a PoolStatus, vmint: &Vmint) -> Self {
        let (pool, spec, counts) = (&status.pool, &status.pool.spec, &status.counts);
        let machines = vmint.machines().unwrap_or_default();
        let mut mine = machines
            .iter()
            .filter(|m| m.pool.as_ref() == Some(&pool.name));
        Self {
            name: pool.name.as_str(),
            state: pool.state.as_str(),
            image: &spec.image,
            accelerator: mine
                .find_map(|m| m.accelerator)
                .map(vmint::Accelerator::as_str),
            memory: spec.memory.0,
            cpus: spec.cpus,
            limits: Some(spec.limits).filter(|limits| !limits.is_none()),
            net: &spec.net,
            min: spec.min,
            max: spec.max,
            standby: spec.standby,
            ttl_ms: spec.ttl_ms,
            max_uses: spec.max_uses,
            alive: counts.alive(),
            ready: counts.ready,
            leased: counts.leased,
            resetting: counts.resetting,
            filling: counts.filling,
            retiring: counts.retiring,
            waiting: counts.waiting,
            created_at: time(pool.created_at_ms),
        }
    }

    pub(super) fn text(&self) -> String {
        let accelerator = self
            .accelerator
            .map(|a| format!(", {a}"))
            .unwrap_or_default();
        format!(
            "pool {} of {} ({}{accelerator}): {} of at most {} machines, {} ready, {} leased, {} waiting",
            self.name,
            self.image,
            self.state,
            self.alive,
            self.max,
            self.ready,
            self.leased,
            self.waiting
        )
    }
}

pub(super) fn pool_rows(views: &[PoolView<'_>]) -> String {
    let headings = [
        "POOL",
        "STATE",
        "IMAGE",
        "ACCELERATOR",
        "MEMORY",
        "MIN",
        "MAX",
        "READY",
        "LENT",
        "RESETTING",
        "FILLING",
        "WAITING",
        "CREATED",
    ];
    let row = |v: &PoolView<'_>| {
        [
            v.name.to_owned(),
            v.state.to_owned(),
            v.image.to_owned(),
            v.accelerator.unwrap_or_default().to_owned(),
            ByteSize(v.memory).to_string(),
            v.min.to_string(),
            v.max.to_string(),
            v.ready.to_string(),
            v.leased.to_string(),
            v.resetting.to_string(),
            v.filling.to_string(),
            v.waiting.to_string(),
            v.created_at.clone(),
        ]
    };
    table(headings, views.iter().map(row))
}

/// A machine of a pool.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Slot"))]
pub(in crate::commands) struct SlotView<'a> {
    pub(super) machine: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::SlotState"))]
    pub(super) state: &'static str,
    pub(super) generation: u64,
    pub(super) uses: u32,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub(super) since: String,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub(super) created_at: String,
    pub(super) lease: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "Option<foreign::Owner>"))]
    pub(super) owner: Option<&'a Owner>,
    pub(super) label: Option<&'a str>,
}

/// A lease.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Lease"))]
pub(in crate::commands) struct LeaseView<'a> {
    pub(super) lease: &'a str,
    pub(super) pool: &'a str,
    pub(super) machine: &'a str,
    pub(super) generation: u64,
    /// What names the machine at this generation and no other.
    pub(super) handle: String,
    #[cfg_attr(test, schemars(with = "foreign::Owner"))]
    pub(super) owner: &'a Owner,
    pub(super) label: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    pub(super) granted_at: String,
    pub(super) waited_ms: i64,
    #[cfg_attr(test, schemars(with = "Option<foreign::Time>"))]
    pub(super) expires_at: Option<String>,
    pub(super) ended: Option<EndView<'a>>,
    /// What is left of its machine, which was lost.
    pub(super) kept: Option<&'a str>,
}

/// How a lease ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "LeaseEnded"))]
pub(in crate::commands) struct EndView<'a> {
    #[cfg_attr(test, schemars(with = "foreign::LeaseEnd"))]
    how: &'static str,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    at: String,
    detail: Option<&'a str>,
}

impl<'a> From<&'a LeaseRecord> for LeaseView<'a> {
    fn from(lease: &'a LeaseRecord) -> Self {
        Self {
            lease: lease.id.as_str(),
            pool: lease.pool.as_str(),
            machine: lease.machine.as_str(),
            generation: lease.generation.0,
            handle: lease.handle(),
            owner: &lease.owner,
            label: lease.label.as_deref(),
            granted_at: time(lease.granted_at_ms),
            waited_ms: lease.waited_ms,
            expires_at: lease.expires_at_ms.map(time),
            ended: lease.ended.as_ref().map(|e| EndView {
                how: e.how.as_str(),
                at: time(e.at_ms),
                detail: e.detail.as_deref(),
            }),
            kept: lease.kept.as_ref().map(vmint::Name::as_str),
        }
    }
}

/// Somebody in line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Waiter"))]
pub(in crate::commands) struct WaiterView<'a> {
    lease: &'a str,
    #[cfg_attr(test, schemars(with = "foreign::Owner"))]
    owner: &'a Owner,
    label: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    since: String,
    #[cfg_attr(test, schemars(with = "foreign::Time"))]
    deadline: String,
}

impl<'a> From<&'a InLine> for WaiterView<'a> {
    fn from(waiter: &'a InLine) -> Self {
        Self {
            lease: waiter.lease.as_str(),
            owner: &waiter.owner,
            label: waiter.label.as_deref(),
            since: time(waiter.since_ms),
            deadline: time(waiter.deadline_ms),
        }
    }
}

/// A pool with its machines, and who waits for one.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PoolStatus"))]
pub(in crate::commands) struct StatusView<'a> {
    #[serde(flatten)]
    pub(super) pool: PoolView<'a>,
    pub(super) machines: Vec<SlotView<'a>>,
    /// The first in line first.
    pub(super) waiters: Vec<WaiterView<'a>>,
}

pub(super) fn slot_rows(rows: &[(Slot, Option<LeaseRecord>)]) -> String {
    let headings = [
        "MACHINE", "STATE", "FOR", "GEN", "USES", "AGE", "LEASE", "OWNER", "LABEL",
    ];
    let row = |(slot, lease): &(Slot, Option<LeaseRecord>)| {
        let lease = lease.as_ref();
        [
            slot.machine.to_string(),
            slot.state.to_string(),
            age(slot.since_ms),
            slot.generation.to_string(),
            slot.uses.to_string(),
            age(slot.born_at_ms),
            lease.map(|l| l.id.to_string()).unwrap_or_default(),
            lease.map(|l| l.owner.to_string()).unwrap_or_default(),
            label(lease.and_then(|l| l.label.as_deref())),
        ]
    };
    table(headings, rows.iter().map(row))
}

pub(super) fn waiter_rows(waiters: &[&InLine]) -> String {
    let row = |w: &&InLine| {
        [
            w.owner.to_string(),
            age(w.since_ms),
            label(w.label.as_deref()),
        ]
    };
    table(["OWNER", "WAITS FOR", "LABEL"], waiters.iter().map(row))
}

/// A user's words, as a terminal may show them.
pub(super) fn label(text: Option<&str>) -> String {
    text.map(output::printable).unwrap_or_default()
}
