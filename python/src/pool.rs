//! Pools to lend from, and how they are made and changed.

use crate::failure;
use crate::host::{Door, Wanted, read};
use crate::lease::Lease;
use crate::operation::{Operation, json};
use crate::owned::Owned;
use pyo3::prelude::*;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use vmint::{Acquire, ErrorKind, Fault, Filled, PoolSpec, PoolStatus};

/// Seconds as Python has them.
pub fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|e| {
        failure::exception(Fault::new(
            ErrorKind::Usage,
            format!("{seconds} seconds: {e}"),
        ))
    })
}

/// A pool as it became, and what could not be made.
#[derive(Debug, Serialize)]
pub struct Changed {
    status: PoolStatus,
    failed: Vec<Fault>,
}

impl From<(PoolStatus, Filled)> for Changed {
    fn from((status, filled): (PoolStatus, Filled)) -> Self {
        Self {
            status,
            failed: filled.failed,
        }
    }
}

/// How many machines a pool has, and for how long.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub struct Shape {
    min: u32,
    max: u32,
    standby: u32,
    ttl: Option<f64>,
    max_uses: Option<u32>,
}

impl Shape {
    /// With what the machines are.
    pub fn spec(self, wanted: Wanted) -> PyResult<PoolSpec> {
        let ttl = self.ttl.map(duration).transpose()?;
        Ok(PoolSpec {
            memory: wanted.memory,
            cpus: wanted.cpus,
            net: wanted.net,
            min: self.min,
            max: self.max,
            standby: self.standby,
            ttl_ms: ttl.map(|ttl| ttl.as_millis() as u64),
            max_uses: self.max_uses,
            ..PoolSpec::of(wanted.image)
        })
    }
}

impl Pool {
    /// A pool of this door.
    pub fn new(door: Arc<Door>, pool: vmint::Pool) -> Self {
        Self {
            name: pool.name().to_string(),
            held: Owned::new((door, pool)),
        }
    }
}

/// A pool to lend from.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Pool {
    held: Owned<(Arc<Door>, vmint::Pool)>,
    #[pyo3(get)]
    name: String,
}

#[pymethods]
impl Pool {
    /// The pool as it is.
    fn status(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (_, pool) = self.held.get()?;
        let status = py.detach(|| pool.status()).map_err(failure::exception)?;
        json(py, &status)
    }

    /// Lends a machine; this process is the owner.
    fn acquire(
        &self,
        label: Option<String>,
        timeout: f64,
        ttl: Option<f64>,
        wait: bool,
        keep_lost: Option<String>,
    ) -> PyResult<Operation> {
        let (door, pool) = self.held.get()?.clone();
        let how = Acquire {
            label,
            timeout: duration(timeout)?,
            ttl: ttl.map(duration).transpose()?,
            wait,
            keep_lost: keep_lost.as_deref().map(read).transpose()?,
            ..Acquire::default()
        };
        let work = async move {
            let lease = pool.acquire(how).await?;
            Ok(Lease::new(door.vmint.clone(), lease))
        };
        Ok(Operation::new(work, |py, lease| {
            Ok(Py::new(py, lease)?.into_any())
        }))
    }
}
