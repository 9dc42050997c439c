//! Handles that belong to one process.
//!
//! A forked child inherits memory, and with it handles of connections, leases and databases that are its parent's.
//! To use one there is an error, and to drop it does nothing: a lease that the child forgets is still the parent's.

use crate::{failure, runtime};
use pyo3::PyResult;
use std::mem::ManuallyDrop;
use std::process;
use vmint::{ErrorKind, Fault};

/// A value of the process that made it.
#[derive(Debug)]
pub struct Owned<T> {
    pid: u32,
    value: ManuallyDrop<T>,
}

impl<T> Owned<T> {
    /// A value of this process.
    pub fn new(value: T) -> Self {
        Self {
            pid: process::id(),
            value: ManuallyDrop::new(value),
        }
    }

    /// The value, in the process that made it; an exception in any other.
    pub fn get(&self) -> PyResult<&T> {
        let here = process::id();
        if self.pid == here {
            return Ok(&self.value);
        }
        let message = format!(
            "this handle belongs to process {}, and process {here} is a fork of it",
            self.pid
        );
        let fault = Fault::new(ErrorKind::Usage, message);
        Err(failure::exception(fault.hint(
            "open vmint anew in the child, or start it by `spawn`",
        )))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.pid != process::id() {
            return;
        }
        // What is dropped may have something to say to a runner.
        let handle = runtime::handle();
        let _within = handle.as_ref().ok().map(tokio::runtime::Handle::enter);
        // SAFETY: dropped here alone, and never used after.
        unsafe { ManuallyDrop::drop(&mut self.value) }
    }
}
