//! A machine that is lent.

use crate::command::{Asked, Gathered, gather};
use crate::failure;
use crate::host::read;
use crate::operation::{self, Operation, json};
use crate::owned::Owned;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use vmint::{ErrorKind, Fault, Force, LeaseEnd, LeaseId, Name, Silent, Vmint};

/// A lease. It ends when it is released, when this is forgotten, and when the process ends.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Lease {
    held: Owned<Held>,
    #[pyo3(get)]
    machine_id: String,
    id: LeaseId,
}

#[derive(Debug)]
struct Held {
    vmint: Arc<Vmint>,
    /// Nothing, once it was released.
    lease: Mutex<Option<Arc<vmint::Lease>>>,
}

impl Lease {
    /// A lease that was just granted.
    pub fn new(vmint: Arc<Vmint>, lease: vmint::Lease) -> Self {
        let record = lease.record();
        Self {
            held: Owned::new(Held {
                vmint,
                lease: Mutex::new(Some(Arc::new(lease))),
            }),
            machine_id: record.machine.to_string(),
            id: record.id,
        }
    }

    fn lease(&self) -> PyResult<Arc<vmint::Lease>> {
        let slot = self
            .held
            .get()?
            .lease
            .lock()
            .expect("nobody panics with the lock");
        let released = || failure::exception(ended(&self.id, LeaseEnd::Released.tell(), None));
        slot.clone().ok_or_else(released)
    }

    fn parts(&self) -> PyResult<(Arc<Vmint>, Arc<vmint::Lease>)> {
        Ok((self.held.get()?.vmint.clone(), self.lease()?))
    }
}

fn ended(id: &LeaseId, how: &str, detail: Option<&str>) -> Fault {
    let detail = detail.map(|d| format!(" ({d})")).unwrap_or_default();
    let message = format!("lease {id} has ended: {how}{detail}");
    Fault::new(ErrorKind::LeaseLost, message)
}

#[pymethods]
impl Lease {
    /// Its id.
    #[getter]
    fn lease_id(&self) -> String {
        self.id.to_string()
    }

    /// The machine's name.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        let (vmint, _) = self.parts()?;
        let record = py
            .detach(|| vmint.machine(&self.machine_id))
            .map_err(failure::exception)?;
        Ok(record.name.to_string())
    }

    /// The machine's generation that this lease is of.
    #[getter]
    fn generation(&self) -> PyResult<u64> {
        Ok(self.lease()?.generation().0)
    }

    /// What the ledger has of it, also when it has ended.
    fn record(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let vmint = self.held.get()?.vmint.clone();
        let record = py
            .detach(|| vmint.lease(&self.id))
            .map_err(failure::exception)?;
        json(py, &record)
    }

    /// The machine's record.
    fn info(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (vmint, lease) = self.parts()?;
        operation::wait(py, async {
            match vmint.machine(&lease.handle()) {
                Err(fault) => Err(vmint.blame_lease(&self.id, &lease.handle(), fault).await),
                record => record,
            }
        })
        .and_then(|record| json(py, &record))
    }

    /// Runs a command to its end.
    fn exec(&self, asked: Asked) -> PyResult<Operation> {
        let (vmint, lease) = self.parts()?;
        let (command, input) = asked.split();
        let work = async move {
            let gathered = async { gather(lease.exec(command).await?, input).await };
            let gathered = gathered.await;
            match gathered {
                Err(fault) => Err(vmint.blame_lease(&lease.id(), &lease.handle(), fault).await),
                done => done,
            }
        };
        Ok(Operation::new(work, |py, done: Gathered| {
            done.into_python(py)
        }))
    }

    /// Copies a file or folder of this host into the machine.
    fn copy_in(&self, source: PathBuf, target: String) -> PyResult<Operation> {
        let lease = self.lease()?;
        Ok(Operation::nothing(async move {
            lease.copy_in(&source, &target).await
        }))
    }

    /// Copies a file or folder of the machine to this host.
    fn copy_out(&self, source: String, target: PathBuf) -> PyResult<Operation> {
        let lease = self.lease()?;
        Ok(Operation::nothing(async move {
            lease.copy_out(&source, &target).await
        }))
    }

    /// Freezes this moment of the machine.
    fn snapshot(&self, name: &str) -> PyResult<Operation> {
        let lease = self.lease()?;
        let name: Name = read(name)?;
        Ok(Operation::json(async move { lease.snapshot(&name).await }))
    }

    /// Starts another machine from this moment of it.
    fn fork(&self, new: &str) -> PyResult<Operation> {
        let (vmint, lease) = self.parts()?;
        let new: Name = read(new)?;
        let work = async move {
            match vmint.fork(&lease.handle(), &new, 1, &Silent).await {
                Err(fault) => Err(vmint.blame_lease(&lease.id(), &lease.handle(), fault).await),
                Ok(forked) => {
                    let undo = forked.iter().map(|m| vmint.until_claimed(&m.id));
                    let undo = undo.collect();
                    Ok((forked, undo))
                }
            }
        };
        Ok(Operation::making(work, |py, forked| json(py, &forked)))
    }

    /// Makes the machine fresh, and keeps it.
    fn reset(&self) -> PyResult<Operation> {
        let lease = self.lease()?;
        Ok(Operation::json(async move { lease.reset().await }))
    }

    /// Begins the lease's time anew.
    fn renew(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let lease = self.lease()?;
        let record = py.detach(|| lease.renew()).map_err(failure::exception)?;
        json(py, &record)
    }

    /// What the machine has said on its console.
    fn console(&self, py: Python<'_>) -> PyResult<String> {
        let lease = self.lease()?;
        py.detach(|| lease.console()).map_err(failure::exception)
    }

    /// Gives the machine back. A lease that has ended by itself, or was given back before, is an exception.
    fn release(&self) -> PyResult<Operation> {
        let held = self.held.get()?;
        let lease = self.lease()?;
        held.lease
            .lock()
            .expect("nobody panics with the lock")
            .take();
        let vmint = held.vmint.clone();
        Ok(Operation::nothing(async move {
            match Arc::try_unwrap(lease) {
                Ok(lease) => lease.release(),
                // Something is still being done with it, and is told that the lease has ended.
                Err(lease) => vmint.release_lease(&lease.id(), Force::No).map(drop),
            }
        }))
    }
}
