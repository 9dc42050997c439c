//! The door: opened once per process.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Weak};
use vmint_image::ImageStore;
use vmint_model::{ErrorKind, Fault, Home, LeaseId, MachineRecord};
use vmint_runner::Client;
use vmint_runner::machine::store_fault;
use vmint_store::Store;

/// How to open a [`Vmint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `VMINT_HOME`.
    pub home: PathBuf,
    /// The program whose `runner` command owns machines: `vmint` itself.
    pub runner: PathBuf,
    /// Use this accelerator instead of finding out.
    pub accelerator: Option<vmint_model::Accelerator>,
    /// How strictly hypervisors are fenced in.
    pub confine: vmint_model::Confine,
    /// Snapshots save all of memory, not only what changed.
    pub full_snapshots: bool,
    /// The machine that `vmint with` has lent to this process, and the lease: `VMINT_MACHINE` and `VMINT_LEASE`.
    pub lent: Option<(String, LeaseId)>,
    /// How long a machine's start may take, instead of what this accelerator usually needs.
    pub start_timeout: Option<std::time::Duration>,
    /// When a machine may start, and how it waits until it may.
    pub admission: crate::Admission,
}

impl Options {
    /// As the environment says: `VMINT_HOME` or the XDG state directory; the runner is `VMINT_RUNNER`, else a program
    /// `vmint` next to this one, else `vmint` in `PATH`. `VMINT_ADMISSION_*` are read here too.
    pub fn from_environment() -> Result<Self, Fault> {
        Self::with_runner(find_runner()?)
    }

    /// The same, with this runner, for those who carry one along.
    pub fn with_runner(runner: PathBuf) -> Result<Self, Fault> {
        let home = vmint_store::default_root().map_err(home_fault)?;
        Ok(Self {
            home,
            runner,
            accelerator: None,
            confine: crate::config::confine_from_environment()?,
            full_snapshots: false,
            lent: lent(),
            start_timeout: None,
            admission: crate::config::admission_from_environment()?,
        })
    }
}

fn home_fault(e: vmint_store::HomeError) -> Fault {
    let (kind, hint) = (e.kind(), e.hint());
    Fault {
        hint,
        ..Fault::from_error(kind, &e)
    }
}

fn lent() -> Option<(String, LeaseId)> {
    let machine = std::env::var("VMINT_MACHINE").ok()?;
    let lease = std::env::var("VMINT_LEASE").ok()?.parse().ok()?;
    Some((machine, lease))
}

fn find_runner() -> Result<PathBuf, Fault> {
    if let Some(path) = std::env::var_os("VMINT_RUNNER") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A test's program lies in `deps`, one below the folder of programs.
    let near = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("vmint"));
    let found = near
        .chain(std::env::split_paths(&path).map(|folder| folder.join("vmint")))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        Fault::new(
            ErrorKind::Host,
            "the program vmint is neither next to this program nor in PATH",
        )
        .hint("install vmint, or set VMINT_RUNNER to its path")
    })
}

/// vmint on this host, for this user.
#[derive(Debug)]
pub struct Vmint {
    pub(crate) home: Home,
    pub(crate) options: Options,
    pub(crate) images: ImageStore,
    store: Mutex<Store>,
    /// The code of pools, while somebody uses it.
    pub(crate) here: Mutex<Weak<crate::pools::Here>>,
}

impl Vmint {
    /// Opens the home, made if need be.
    pub fn open(options: Options) -> Result<Self, Fault> {
        let home = Self::open_home(&options)?;
        let store = Store::open(&home).map_err(store_fault)?;
        let images = ImageStore::open(&home).map_err(|e| {
            let (kind, hint) = (e.kind(), e.hint());
            Fault {
                hint,
                ..Fault::from_error(kind, &e)
            }
        })?;
        Ok(Self {
            home,
            options,
            images,
            store: Mutex::new(store),
            here: Mutex::default(),
        })
    }

    /// Makes the home's folders, and nothing else.
    pub fn open_home(options: &Options) -> Result<Home, Fault> {
        vmint_store::open_home(&options.home).map_err(home_fault)
    }

    /// Its folders.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its record. Never held across an await.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panics with the lock")
    }

    /// Its images.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// A machine by name or id; as `NAME@GENERATION` only while it is of this generation.
    pub fn machine(&self, name: &str) -> Result<MachineRecord, Fault> {
        let (name, generation) = match name.split_once('@') {
            Some((name, generation)) => (name, Some(generation)),
            None => (name, None),
        };
        let record = self.store().by_name_or_id(name).map_err(store_fault);
        self.check_bound(name, &record)?;
        let record = record?;
        match generation {
            Some(wanted) if wanted != record.generation.to_string() => {
                let message = format!(
                    "machine {name} is at generation {}, not {wanted}",
                    record.generation
                );
                Err(Fault::new(ErrorKind::StaleGeneration, message))
            }
            _ => Ok(record),
        }
    }

    /// A command that `vmint with` has started means the machine that was lent to it, not one that has it now.
    fn check_bound(&self, name: &str, record: &Result<MachineRecord, Fault>) -> Result<(), Fault> {
        let Some((machine, lease)) = &self.options.lent else {
            return Ok(());
        };
        if machine != name {
            return Ok(());
        }
        let lease = self.store().lease(lease)?;
        if let Some(ended) = lease.ended {
            let id = lease.id;
            return Err(vmint_model::LedgerError::LeaseEnded { id, ended }.into());
        }
        match record {
            Ok(record) if record.generation > lease.generation => {
                let message = format!(
                    "machine {name} is at generation {}, and lease {} is of {}",
                    record.generation, lease.id, lease.generation
                );
                Err(Fault::new(ErrorKind::StaleGeneration, message))
            }
            _ => Ok(()),
        }
    }

    /// All machines, oldest first.
    pub fn machines(&self) -> Result<Vec<MachineRecord>, Fault> {
        self.store()
            .list(vmint_store::MachineFilter::All)
            .map_err(store_fault)
    }

    /// Events after number `after`, at most `limit`.
    pub fn events(&self, after: i64, limit: usize) -> Result<Vec<vmint_model::Event>, Fault> {
        self.store().events(after, limit).map_err(store_fault)
    }

    /// A client of a machine's runner.
    pub fn client(&self, machine: &MachineRecord) -> Client {
        Client::new(&self.home.machine(&machine.id))
    }
}
