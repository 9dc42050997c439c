//! Work to wait for or to await.
//!
//! Waiting polls the work on the caller's thread, without the interpreter's lock, and looks for signals now and then: Ctrl-C
//! drops the work, which ends what it does in the guest or takes it out of a line. Awaiting does not occupy a thread:
//! with one thread for each call, a few that wait in line for a machine would keep those from running that
//! give machines back.

use crate::{failure, runtime};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use tokio::task::AbortHandle;
use vmint::{Fault, Undo};

/// How long a signal may go unnoticed.
const SIGNALS: Duration = Duration::from_millis(50);

/// How long something may go on that was cancelled.
const CANCELLED: Duration = Duration::from_secs(2);

/// Makes a Python object of what the work has come to.
type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Result<(Outcome, Vec<Undo>), Fault>> + Send>>;

/// Work that has not begun.
#[pyclass(module = "vmint._native", frozen)]
pub struct Operation(Mutex<Option<Work>>);

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}

impl Operation {
    /// `work`, and what makes a Python object of its result.
    pub fn new<T, F, C>(work: F, convert: C) -> Self
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        C: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
        T: Send + 'static,
    {
        Self::making(async move { Ok((work.await?, Vec::new())) }, convert)
    }

    /// Work that makes something, which is taken back unless its result is claimed.
    pub fn making<T, F, C>(work: F, convert: C) -> Self
    where
        F: Future<Output = Result<(T, Vec<Undo>), Fault>> + Send + 'static,
        C: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
        T: Send + 'static,
    {
        let work = async move {
            let (value, undo) = work.await?;
            let outcome: Outcome = Box::new(move |py: Python<'_>| convert(py, value));
            Ok((outcome, undo))
        };
        Self(Mutex::new(Some(Box::pin(work))))
    }

    /// Work whose result is given to Python as the JSON that it is elsewhere.
    pub fn json<T, F>(work: F) -> Self
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        T: serde::Serialize + Send + 'static,
    {
        Self::new(work, |py, value| json(py, &value))
    }

    /// Work without a result.
    pub fn nothing<F>(work: F) -> Self
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        Self::new(work, |py, ()| Ok(py.None()))
    }

    fn take(&self) -> PyResult<Work> {
        let mut slot = self.0.lock().expect("nobody panics with the lock");
        let again = || PyRuntimeError::new_err("an operation is waited for once");
        slot.take().ok_or_else(again)
    }
}

/// A value as Python reads it from JSON.
pub fn json(py: Python<'_>, value: &impl serde::Serialize) -> PyResult<Py<PyAny>> {
    let text = serde_json::to_string(value).map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    Ok(py.import("json")?.call_method1("loads", (text,))?.unbind())
}

/// Waits for a future on this thread; a signal whose handler raises ends it.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method itself is of one lifetime"
)]
pub fn wait<T: Send>(
    py: Python<'_>,
    work: impl Future<Output = Result<T, Fault>> + Send,
) -> PyResult<T> {
    let handle = runtime::handle()?;
    let result = py.detach(|| {
        handle.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    result = &mut work => return Ok(result),
                    () = tokio::time::sleep(SIGNALS) => Python::attach(|py| py.check_signals())?,
                }
            }
        })
    });
    result.and_then(|result: Result<T, Fault>| result.map_err(failure::exception))
}

#[pymethods]
impl Operation {
    /// Waits for it.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let work = self.take()?;
        let (make, undo) = wait(py, work)?;
        let value = make(py)?;
        // A signal that came just before the result is handled as soon as this returns; if its handler raises, nobody gets the value.
        py.check_signals()?;
        undo.into_iter().for_each(Undo::claim);
        Ok(value)
    }

    /// Starts it; when it is done, `event_loop` calls `settle(future, value, claim, exception)`. What was made is taken back
    /// unless `claim` is called.
    fn start(&self, event_loop: Py<PyAny>, future: Py<PyAny>, settle: Py<PyAny>) -> PyResult<Task> {
        let work = self.take()?;
        let deliver = move |result: Result<(Outcome, Vec<Undo>), Fault>| {
            // Nobody waits any more when the interpreter is being taken down.
            Python::try_attach(|py| {
                let made = result.map_err(failure::exception).and_then(|(make, undo)| {
                    let claim = Py::new(py, Claim(Mutex::new(undo)))?;
                    Ok((make(py)?, claim))
                });
                let (value, claim, error) = match made {
                    Ok((value, claim)) => (value, Some(claim), None),
                    Err(e) => (py.None(), None, Some(e.into_value(py))),
                };
                // A loop that is closed has nobody who waits either.
                let _ = event_loop.call_method1(
                    py,
                    "call_soon_threadsafe",
                    (settle, future, value, claim, error),
                );
            });
        };
        let (dropped, over) = mpsc::channel();
        let task = runtime::handle()?.spawn(async move {
            // Dropped behind the work, whichever way that ends.
            let _dropped: mpsc::Sender<()> = dropped;
            let result = work.await;
            // Not on the thread that drives everybody's work: the interpreter's lock may take a while to get.
            tokio::task::spawn_blocking(move || deliver(result));
        });
        Ok(Task(task.abort_handle(), Mutex::new(over)))
    }
}

/// What was made for a result. Called, it is its receiver's; dropped before, it is taken back.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Claim(Mutex<Vec<Undo>>);

#[pymethods]
impl Claim {
    fn __call__(&self) {
        let made = std::mem::take(&mut *self.0.lock().expect("nobody panics with the lock"));
        made.into_iter().for_each(Undo::claim);
    }
}

/// Work under way.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Task(AbortHandle, Mutex<mpsc::Receiver<()>>);

#[pymethods]
impl Task {
    /// Drops it, unless it is done. When this returns, it does nothing any more.
    fn cancel(&self, py: Python<'_>) {
        self.0.abort();
        // The thread that drives it is at one of its awaits soon, and then it is gone: nothing is ever said here.
        py.detach(|| {
            let over = self.1.lock().expect("nobody panics with the lock");
            let _ = over.recv_timeout(CANCELLED);
        });
    }
}
