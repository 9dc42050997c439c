//! Pools, and what their changes mean for their slots.

use super::{Moment, Refusal, json, leases, line, parse, slots};
use crate::Store;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use vmint_model::{
    Counts, LeaseEnd, LedgerError, Name, Now, PoolChange, PoolRecord, PoolState, PoolStatus, Ring,
    SlotState,
};

impl Store {
    /// Adds a pool.
    pub fn create_pool(&mut self, pool: &PoolRecord) -> Result<(), LedgerError> {
        self.ledger("create_pool", |t| {
            if find(t, &pool.name)?.is_some() {
                return Err(LedgerError::PoolExists(pool.name.clone()).into());
            }
            t.prepare_cached(
                "INSERT INTO pools (name, state, created_at_ms, spec) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                pool.name.as_str(),
                pool.state.as_str(),
                pool.created_at_ms,
                json(&pool.spec),
            ])?;
            Ok(())
        })
    }

    /// A pool and its counts.
    pub fn pool(&mut self, name: &Name) -> Result<PoolStatus, LedgerError> {
        self.look(|t| known(t, name))
    }

    /// All pools, by name.
    pub fn pools(&mut self) -> Result<Vec<PoolStatus>, LedgerError> {
        self.look(all)
    }

    /// Changes a pool, and sends those of its machines off that are not wanted any more.
    pub fn change_pool(
        &mut self,
        name: &Name,
        change: PoolChange,
        moment: Moment<'_>,
    ) -> Result<(PoolStatus, Vec<Ring>), LedgerError> {
        self.ledger("change_pool", |t| {
            let mut pool = known(t, name)?.pool;
            if pool.state == PoolState::Removing && change.state != Some(PoolState::Removing) {
                let (name, state) = (pool.name, pool.state);
                return Err(LedgerError::PoolClosed { name, state }.into());
            }
            pool.spec.min = change.min.unwrap_or(pool.spec.min);
            pool.spec.max = change.max.unwrap_or(pool.spec.max);
            pool.state = change.state.unwrap_or(pool.state);
            t.prepare_cached("UPDATE pools SET state = ?2, spec = ?3 WHERE name = ?1")?
                .execute(params![
                    name.as_str(),
                    pool.state.as_str(),
                    json(&pool.spec)
                ])?;
            let mut rings = Vec::new();
            if pool.state == PoolState::Removing && change.force {
                for lease in leases::held(t, Some(name))? {
                    let how = LeaseEnd::PoolRemoved;
                    leases::finish(t, lease, how, None, moment.now, &mut rings)?;
                }
            }
            match pool.state {
                PoolState::Open => {
                    let surplus = known(t, name)?.counts.alive().saturating_sub(pool.spec.max);
                    slots::send_off(t, name, surplus, moment.now, &mut rings)?;
                    line::serve(t, name, moment, &mut rings)?;
                    // Who waits may make machines now.
                    line::wake(t, name, &mut rings)?;
                }
                PoolState::Drained | PoolState::Removing => {
                    slots::send_off(t, name, u32::MAX, moment.now, &mut rings)?;
                    line::dissolve(t, name, &mut rings)?;
                }
            }
            let status = known(t, name)?;
            forget_if_empty(t, name)?;
            Ok((status, rings))
        })
    }
}

/// A pool that is being removed goes with its last machine.
pub(super) fn forget_if_empty(t: &Transaction<'_>, name: &Name) -> Result<(), Refusal> {
    if let Some(status) = find(t, name)?
        && status.pool.state == PoolState::Removing
        && status.counts.alive() == 0
    {
        line::dissolve(t, name, &mut Vec::new())?;
        t.prepare_cached("DELETE FROM pools WHERE name = ?1")?
            .execute([name.as_str()])?;
    }
    Ok(())
}

const COLUMNS: &str =
    "name, state, created_at_ms, spec, filling, ready, leased, resetting, retiring, waiting";

struct PoolRow {
    name: String,
    state: String,
    created_at_ms: i64,
    spec: String,
    counts: Counts,
}

impl PoolRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            state: row.get(1)?,
            created_at_ms: row.get(2)?,
            spec: row.get(3)?,
            counts: Counts {
                filling: row.get(4)?,
                ready: row.get(5)?,
                leased: row.get(6)?,
                resetting: row.get(7)?,
                retiring: row.get(8)?,
                waiting: row.get(9)?,
            },
        })
    }

    fn parse(self) -> Result<PoolStatus, Refusal> {
        let what = || format!("pool {:?}", self.name);
        let name: Name = self
            .name
            .parse()
            .map_err(|e: vmint_model::InvalidName| Refusal::unreadable(what(), e))?;
        let state = self
            .state
            .parse()
            .map_err(|e: vmint_model::pool::UnknownPoolState| Refusal::unreadable(what(), e))?;
        Ok(PoolStatus {
            pool: PoolRecord {
                name,
                state,
                spec: parse(&what(), &self.spec)?,
                created_at_ms: self.created_at_ms,
            },
            counts: self.counts,
        })
    }
}

/// A pool, if there is one of this name.
pub(super) fn find(t: &Transaction<'_>, name: &Name) -> Result<Option<PoolStatus>, Refusal> {
    t.prepare_cached(&format!("SELECT {COLUMNS} FROM pools WHERE name = ?1"))?
        .query_row([name.as_str()], PoolRow::read)
        .optional()?
        .map(PoolRow::parse)
        .transpose()
}

/// A pool that must be there.
pub(super) fn known(t: &Transaction<'_>, name: &Name) -> Result<PoolStatus, Refusal> {
    find(t, name)?.ok_or_else(|| LedgerError::NoPool(name.to_string()).into())
}

/// A pool that lends.
pub(super) fn open(t: &Transaction<'_>, name: &Name) -> Result<PoolStatus, Refusal> {
    let status = known(t, name)?;
    match status.pool.state {
        PoolState::Open => Ok(status),
        state => Err(LedgerError::PoolClosed {
            name: name.clone(),
            state,
        }
        .into()),
    }
}

pub(super) fn all(t: &Transaction<'_>) -> Result<Vec<PoolStatus>, Refusal> {
    let mut statement = t.prepare_cached(&format!("SELECT {COLUMNS} FROM pools ORDER BY name"))?;
    let rows = statement.query_map([], PoolRow::read)?;
    rows.map(|row| row?.parse()).collect()
}

/// How long a ready machine above the minimum is kept: who needed it may come back.
pub const SURPLUS_AFTER_MS: i64 = 60_000;

/// Whether nobody has needed this ready machine for long, and the pool has enough without it.
pub(super) fn is_surplus(status: &PoolStatus, slot: &vmint_model::Slot, now: Now) -> bool {
    status.counts.ready > status.pool.spec.min
        && now.steady_ms.saturating_sub(slot.since_ms) >= SURPLUS_AFTER_MS
}

/// Whether a machine of this age and use, not lent any more, is to go.
pub(super) fn is_done(status: &PoolStatus, slot: &vmint_model::Slot, now: Now) -> bool {
    let (pool, spec) = (&status.pool, &status.pool.spec);
    let aged = |ttl: u64| now.steady_ms.saturating_sub(slot.born_at_ms) >= ttl as i64;
    pool.state != PoolState::Open
        || spec.ttl_ms.is_some_and(aged)
        || spec.max_uses.is_some_and(|most| slot.uses >= most)
        // Those that retire are on their way out already, and count no more than those that come after them.
        || slot.state != SlotState::Retiring && status.counts.alive() - status.counts.retiring > spec.max
}
