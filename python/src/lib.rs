//! `vmint._native`: the library, for Python.
//!
//! The package `vmint` beside this crate is what users import; it is written in Python, over what is here. Whatever takes time is
//! an [`operation::Operation`], which Python either waits for, or awaits: the two faces of the package are one.
//!
//! * [`runtime`]: one runtime for each process, also behind a fork; [`owned`]: handles that are not inherited.
//! * [`operation`]: work to wait for or to await; [`failure`]: faults as exceptions.
//! * [`host`]: vmint on this host; [`machine`]: a machine of one's own; [`command`]: commands in machines.
//! * [`pool`] and [`lease`]: pools, and machines that are lent.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod command;
pub mod failure;
pub mod host;
pub mod lease;
pub mod machine;
pub mod operation;
pub mod owned;
pub mod pool;
pub mod runtime;

use pyo3::prelude::*;

/// A size such as `512M` in bytes.
#[pyfunction]
fn bytes(size: &str) -> PyResult<u64> {
    Ok(host::read::<vmint::ByteSize>(size)?.0)
}

/// Text of a guest, made fit to be shown on a terminal.
#[pyfunction]
fn printable_lines(text: &str) -> String {
    vmint::printable_lines(text).into_owned()
}

/// Seconds on a clock that nobody can set, and that no test freezes.
#[pyfunction]
fn steady() -> f64 {
    static BEGAN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    BEGAN.elapsed().as_secs_f64()
}

/// Seconds since 1970, of the host's clock and not of a test's.
#[pyfunction]
fn wall() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// The module.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(bytes, module)?)?;
    module.add_function(wrap_pyfunction!(printable_lines, module)?)?;
    module.add_function(wrap_pyfunction!(steady, module)?)?;
    module.add_function(wrap_pyfunction!(wall, module)?)?;
    module.add_class::<host::Settings>()?;
    module.add_class::<host::Host>()?;
    module.add_class::<machine::Machine>()?;
    module.add_class::<pool::Pool>()?;
    module.add_class::<lease::Lease>()?;
    module.add_class::<operation::Operation>()?;
    module.add_class::<operation::Task>()?;
    module.add_class::<operation::Claim>()?;
    Ok(())
}
