//! Faults as exceptions. The classes are Python's own, in `vmint._errors`, which chooses one by the fault's kind.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use vmint::Fault;

/// The exception for a fault.
pub fn exception(fault: Fault) -> PyErr {
    Python::attach(|py| {
        let make = || {
            let errors = py.import("vmint._errors")?;
            // A traceback is shown on a terminal.
            let message = vmint::printable_lines(&fault.message);
            let hint = fault.hint.as_deref().map(vmint::printable_lines);
            errors.call_method1("from_fault", (fault.kind.as_str(), message, hint))
        };
        match make() {
            Ok(exception) => PyErr::from_value(exception),
            Err(e) => {
                let message = format!("{fault} (and its exception cannot be made: {e})");
                PyRuntimeError::new_err(message)
            }
        }
    })
}
