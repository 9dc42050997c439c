//! A machine by its id.

use crate::command::{Asked, Gathered, gather};
use crate::failure;
use crate::host::read;
use crate::operation::{self, Operation, json};
use crate::owned::Owned;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use vmint::{Fault, Force, MachineRecord, Name, Silent, StopHow, StopOptions, Vmint};

/// A machine. It is spoken of by its id, so that no other one of the same name is ever meant.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Machine {
    held: Owned<Arc<Vmint>>,
    #[pyo3(get, name = "machine_id")]
    id: String,
    #[pyo3(get)]
    name: String,
}

impl Machine {
    /// The machine of a record.
    pub fn new(vmint: Arc<Vmint>, record: &MachineRecord) -> Self {
        Self {
            held: Owned::new(vmint),
            id: record.id.to_string(),
            name: record.name.to_string(),
        }
    }

    fn parts(&self) -> PyResult<(Arc<Vmint>, String)> {
        Ok((self.held.get()?.clone(), self.id.clone()))
    }
}

/// Has a failure say that the machine was lost, if it was, whichever way that was met.
async fn blamed<T>(
    vmint: &Vmint,
    id: &str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match work.await {
        Err(fault) => Err(match id.parse() {
            Ok(id) => vmint.blame_machine(&id, fault).await,
            Err(_) => fault,
        }),
        done => done,
    }
}

#[pymethods]
impl Machine {
    /// Its record.
    fn info(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let vmint = self.held.get()?;
        let found = async { vmint.machine(&self.id) };
        let record = operation::wait(py, blamed(vmint, &self.id, found))?;
        json(py, &record)
    }

    /// Runs a command to its end.
    fn exec(&self, asked: Asked) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        let (command, input) = asked.split();
        let work = async move {
            let done = async { gather(vmint.exec(&id, command).await?, input).await };
            blamed(&vmint, &id, done).await
        };
        Ok(Operation::new(work, |py, done: Gathered| {
            done.into_python(py)
        }))
    }

    /// Copies a file or folder of this host into it.
    fn copy_in(&self, source: PathBuf, target: String) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        Ok(Operation::nothing(async move {
            let copied = vmint.copy_in(&source, &id, &target);
            blamed(&vmint, &id, copied).await.map(drop)
        }))
    }

    /// Copies a file or folder of it to this host.
    fn copy_out(&self, source: String, target: PathBuf) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        Ok(Operation::nothing(async move {
            let copied = vmint.copy_out(&id, &source, &target);
            blamed(&vmint, &id, copied).await.map(drop)
        }))
    }

    /// Freezes this moment of it.
    fn snapshot(&self, name: &str) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        let name: Name = read(name)?;
        Ok(Operation::json(async move {
            blamed(&vmint, &id, vmint.snapshot(&id, &name)).await
        }))
    }

    /// Brings it to the moment of a snapshot.
    fn restore(&self, name: &str) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        let name: Name = read(name)?;
        Ok(Operation::json(async move {
            blamed(&vmint, &id, vmint.restore(&id, &name)).await
        }))
    }

    /// Starts another machine from this moment of it.
    fn fork(&self, new: &str) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        let new: Name = read(new)?;
        let work = async move {
            let forked = blamed(&vmint, &id, vmint.fork(&id, &new, 1, &Silent)).await?;
            let undo = forked.iter().map(|m| vmint.until_claimed(&m.id));
            let undo = undo.collect();
            Ok((forked, undo))
        };
        Ok(Operation::making(work, |py, forked| json(py, &forked)))
    }

    /// A fork anew in its place.
    fn reset(&self) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        Ok(Operation::json(async move {
            blamed(&vmint, &id, vmint.reset(&id)).await
        }))
    }

    /// Starts it, if it is down.
    fn start(&self) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        Ok(Operation::json(
            async move { vmint.start(&id, &Silent).await },
        ))
    }

    /// Stops it, if it is up.
    #[pyo3(signature = (*, force=false))]
    fn stop(&self, force: bool) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        let how = if force { StopHow::Force } else { StopHow::Ask };
        let options = StopOptions {
            how,
            ..StopOptions::default()
        };
        Ok(Operation::json(async move {
            let stopped = vmint.stop(&id, options).await?;
            Ok(stopped.machine)
        }))
    }

    /// Destroys it. One that is gone is left at that.
    fn remove(&self) -> PyResult<Operation> {
        let (vmint, id) = self.parts()?;
        Ok(Operation::nothing(async move {
            match vmint.remove(&id, Force::Yes).await {
                Err(fault) if fault.kind == vmint::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        }))
    }

    /// What it has said on its console.
    fn console(&self, py: Python<'_>) -> PyResult<String> {
        let vmint = self.held.get()?;
        let path = vmint
            .machine(&self.id)
            .map(|record| vmint.home().machine(&record.id).console_log());
        let path = path.map_err(failure::exception)?;
        let bytes = py.detach(|| vmint::qemu::log::read_settled(&path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
