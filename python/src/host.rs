//! vmint on this host.

use crate::machine::Machine;
use crate::operation::{Operation, json};
use crate::owned::Owned;
use crate::pool::{Changed, Pool, Shape, duration};
use crate::{failure, operation};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use vmint::config::Config;
use vmint::{
    ByteSize, ErrorKind, ExecDefaults, Fault, Force, Limits, MachineSpec, Name, NetMode,
    NewMachine, Options, Origin, Silent, Vmint,
};

/// A home that was opened, and the settings it was opened with.
#[derive(Debug)]
pub struct Door {
    /// The library.
    pub vmint: Arc<Vmint>,
    /// From `vmint.toml` and the environment.
    pub config: Config,
}

/// What `vmint.toml` and the environment say, read once.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Settings(Config);

#[pymethods]
impl Settings {
    /// `vmint.toml` is looked for from this folder upwards.
    #[staticmethod]
    fn read(folder: PathBuf) -> PyResult<Self> {
        let config = Config::load(&folder, |name| std::env::var_os(name));
        let config = config.map_err(|e| failure::exception(e.into()))?;
        Ok(Self(config))
    }

    /// What a machine becomes that is asked for so: image, memory in bytes, processors and network.
    fn complete(&self, hardware: Hardware) -> PyResult<(String, u64, u32, String)> {
        let wanted = hardware.complete(&self.0)?;
        let net = wanted.net.to_string();
        Ok((wanted.image, wanted.memory.0, wanted.cpus, net))
    }
}

/// A home, opened by this process.
#[derive(Debug)]
#[pyclass(module = "vmint._native", frozen)]
pub struct Host(pub(crate) Owned<Arc<Door>>);

/// Reads a word of Python's as what it means here.
pub fn read<T>(text: &str) -> PyResult<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let wrong = |e: T::Err| failure::exception(Fault::new(ErrorKind::Usage, e.to_string()));
    text.parse().map_err(wrong)
}

/// What a machine shall be; what is absent is the settings' default.
#[derive(Debug, Default, FromPyObject)]
#[pyo3(from_item_all)]
pub struct Hardware {
    image: Option<String>,
    memory: Option<String>,
    cpus: Option<u32>,
    net: Option<String>,
}

/// The same, read and completed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The image's name.
    pub image: String,
    /// Guest memory.
    pub memory: ByteSize,
    /// Virtual processors.
    pub cpus: u32,
    /// Network.
    pub net: NetMode,
}

impl Hardware {
    /// With what the settings say of the rest.
    pub fn complete(self, config: &Config) -> PyResult<Wanted> {
        let defaults = &config.defaults;
        Ok(Wanted {
            image: self.image.unwrap_or_else(|| defaults.image.to_string()),
            memory: self.memory.as_deref().map_or(Ok(defaults.memory), read)?,
            cpus: self.cpus.unwrap_or(defaults.cpus),
            net: self
                .net
                .as_deref()
                .map_or_else(|| Ok(defaults.net.clone()), read)?,
        })
    }
}

/// How long a machine stays.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// Until it stops, or this process ends.
    Ephemeral,
    /// Until it is removed; it stops when this process ends.
    Owned,
    /// Until it is removed.
    Kept,
}

impl FromPyObject<'_, '_> for Life {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.extract::<String>()?.as_str() {
            "ephemeral" => Ok(Self::Ephemeral),
            "owned" => Ok(Self::Owned),
            "kept" => Ok(Self::Kept),
            other => Err(PyValueError::new_err(format!(
                "{other:?} is no life of a machine"
            ))),
        }
    }
}

#[pymethods]
impl Host {
    /// Opens a home, made if need be, and clears up what others left. `runner` is the program that owns machines.
    #[staticmethod]
    #[pyo3(signature = (home, runner, settings, on_pressure=None))]
    fn open(
        py: Python<'_>,
        home: Option<PathBuf>,
        runner: Option<PathBuf>,
        settings: &Settings,
        on_pressure: Option<&str>,
    ) -> PyResult<Self> {
        let config = settings.0.clone();
        let door = py.detach(|| open(home, runner, config, on_pressure))?;
        Ok(Self(Owned::new(Arc::new(door))))
    }

    /// Its folder.
    #[getter]
    fn home(&self) -> PyResult<PathBuf> {
        Ok(self.0.get()?.vmint.home().root().to_owned())
    }

    /// A machine's record.
    fn machine(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let record = py
            .detach(|| door.vmint.machine(name))
            .map_err(failure::exception)?;
        json(py, &record)
    }

    /// All machines' records.
    fn machines(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let records = py
            .detach(|| door.vmint.machines())
            .map_err(failure::exception)?;
        json(py, &records)
    }

    /// The events behind number `after`.
    fn events(&self, py: Python<'_>, after: i64, limit: usize) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let events = py
            .detach(|| door.vmint.events(after, limit))
            .map_err(failure::exception)?;
        json(py, &events)
    }

    /// The number of the last event.
    fn last_event(&self, py: Python<'_>) -> PyResult<i64> {
        let door = self.0.get()?;
        let last = py.detach(|| door.vmint.store().last_sequence());
        last.map_err(|e| failure::exception(Fault::from_error(ErrorKind::Host, &e)))
    }

    /// Clears up what others left; what was found, for readers.
    fn sweep(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let door = self.0.get()?;
        let found = py
            .detach(|| door.vmint.sweep())
            .map_err(failure::exception)?;
        Ok(found.into_iter().map(|found| found.message).collect())
    }

    /// A machine that exists.
    fn attach(&self, py: Python<'_>, name: &str) -> PyResult<Machine> {
        let door = self.0.get()?;
        let record = py
            .detach(|| door.vmint.machine(name))
            .map_err(failure::exception)?;
        Ok(Machine::new(door.vmint.clone(), &record))
    }

    /// Makes and starts a machine.
    #[pyo3(signature = (hardware, *, life, name=None, snapshot=None, cold=false))]
    fn start(
        &self,
        hardware: Hardware,
        life: Life,
        name: Option<&str>,
        snapshot: Option<&str>,
        cold: bool,
    ) -> PyResult<Operation> {
        let door = self.0.get()?.clone();
        let wanted = hardware.complete(&door.config)?;
        let origin = match snapshot {
            Some(name) if cold => Origin::Disk(read(name)?),
            Some(name) => Origin::Snapshot(read(name)?),
            None if cold => Origin::Cold,
            None => Origin::Template,
        };
        let ephemeral = NewMachine::ephemeral(wanted.image);
        let base = match life {
            Life::Ephemeral => ephemeral,
            Life::Owned => NewMachine {
                ephemeral: false,
                ..ephemeral
            },
            Life::Kept => NewMachine {
                ephemeral: false,
                owner: None,
                ..ephemeral
            },
        };
        let new = NewMachine {
            name: name.map(read::<Name>).transpose()?,
            memory: wanted.memory,
            cpus: wanted.cpus,
            net: wanted.net,
            origin,
            ..base
        };
        let work = async move {
            door.vmint
                .ensure_declared(&door.config, &new.image, &Silent)
                .await?;
            let record = door.vmint.create_running(new, &Silent).await?;
            let undo = door.vmint.until_claimed(&record.id);
            Ok((Machine::new(door.vmint.clone(), &record), vec![undo]))
        };
        Ok(Operation::making(work, |py, machine| {
            Ok(Py::new(py, machine)?.into_any())
        }))
    }

    /// A pool to lend from. One that `vmint.toml` declares and that is not there yet is made.
    fn pool(&self, py: Python<'_>, name: &str) -> PyResult<Pool> {
        let door = self.0.get()?;
        let pool = operation::wait(py, async {
            door.vmint
                .ensure_declared_pool(&door.config, name, &Silent)
                .await?;
            door.vmint.pool(name)
        })?;
        Ok(Pool::new(door.clone(), pool))
    }

    /// All pools.
    fn pools(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let pools = py
            .detach(|| door.vmint.pools())
            .map_err(failure::exception)?;
        json(py, &pools)
    }

    /// All leases that have not ended.
    fn leases(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let leases = py
            .detach(|| door.vmint.leases())
            .map_err(failure::exception)?;
        json(py, &leases)
    }

    /// A lease, ended or not.
    fn lease(&self, py: Python<'_>, id: &str) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let id = read(id)?;
        let lease = py
            .detach(|| door.vmint.lease(&id))
            .map_err(failure::exception)?;
        json(py, &lease)
    }

    /// Ends a lease, which must be this process's or that of one it descends from, unless forced.
    #[pyo3(signature = (id, *, force=false))]
    fn release_lease(&self, py: Python<'_>, id: &str, force: bool) -> PyResult<Py<PyAny>> {
        let door = self.0.get()?;
        let id = read(id)?;
        let ended = py.detach(|| door.vmint.release_lease(&id, Force::when(force)));
        json(py, &ended.map_err(failure::exception)?)
    }

    /// Makes a pool and fills it.
    fn create_pool(&self, name: &str, hardware: Hardware, shape: Shape) -> PyResult<Operation> {
        let door = self.0.get()?.clone();
        let name: Name = read(name)?;
        let wanted = hardware.complete(&door.config)?;
        let spec = shape.spec(wanted)?;
        Ok(Operation::json(async move {
            door.vmint
                .ensure_declared(&door.config, &spec.image, &Silent)
                .await?;
            let made = door.vmint.create_pool(&name, spec, &Silent).await?;
            Ok(Changed::from(made))
        }))
    }

    /// Changes how many machines a pool has, and opens it again if it was drained.
    fn resize_pool(&self, name: &str, min: Option<u32>, max: Option<u32>) -> PyResult<Operation> {
        let door = self.0.get()?.clone();
        let name: Name = read(name)?;
        Ok(Operation::json(async move {
            let changed = door.vmint.resize_pool(&name, min, max, &Silent).await?;
            Ok(Changed::from(changed))
        }))
    }

    /// Has a pool lend nothing more.
    fn drain_pool(&self, name: &str, timeout: Option<f64>) -> PyResult<Operation> {
        let door = self.0.get()?.clone();
        let name: Name = read(name)?;
        let wait = timeout.map(duration).transpose()?;
        Ok(Operation::json(async move {
            door.vmint.drain_pool(&name, wait).await
        }))
    }

    /// Removes a pool and its machines.
    fn remove_pool(&self, name: &str, force: bool, timeout: f64) -> PyResult<Operation> {
        let door = self.0.get()?.clone();
        let (name, timeout): (Name, _) = (read(name)?, duration(timeout)?);
        Ok(Operation::nothing(async move {
            door.vmint
                .remove_pool(&name, Force::when(force), timeout)
                .await
        }))
    }

    /// Makes sure of a template. `None`, or how many milliseconds its boot took, and what executes it.
    fn template(
        &self,
        py: Python<'_>,
        hardware: Hardware,
    ) -> PyResult<(Option<f64>, &'static str)> {
        let door = self.0.get()?.clone();
        let wanted = hardware.complete(&door.config)?;
        let spec = MachineSpec {
            image: wanted.image.clone(),
            memory: wanted.memory,
            cpus: wanted.cpus,
            net: wanted.net,
            limits: Limits::default(),
            publish: Vec::new(),
            origin: Origin::Template,
            disk_cache: None,
            defaults: ExecDefaults::default(),
        };
        operation::wait(py, async {
            door.vmint
                .ensure_declared(&door.config, &wanted.image, &Silent)
                .await?;
            let image = door.vmint.ensure_image(&wanted.image, &Silent).await?;
            let frozen = door.vmint.ensure_template(&image, &spec, &Silent).await?;
            let manifest = frozen.manifest();
            Ok((manifest.boot_ms, manifest.shape.accelerator.as_str()))
        })
    }
}

fn open(
    home: Option<PathBuf>,
    runner: Option<PathBuf>,
    config: Config,
    on_pressure: Option<&str>,
) -> PyResult<Door> {
    let options = match runner {
        Some(runner) => Options::with_runner(runner),
        None => Options::from_environment(),
    };
    let mut options = options.map_err(failure::exception)?.configured(&config);
    if let Some(policy) = on_pressure {
        options.admission.terms.on_pressure = read(policy)?;
    }
    if let Some(home) = home {
        options.home = home;
    }
    let vmint = Vmint::open(options).and_then(|vmint| vmint.sweep().map(|_| vmint));
    Ok(Door {
        vmint: Arc::new(vmint.map_err(failure::exception)?),
        config,
    })
}
