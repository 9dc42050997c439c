//! The door: opened once per process.

use crate::config::{AcceleratorChoice, Config};
use crate::sweep::Found;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Weak};
use vmint_image::{ImageStore, Kit};
use vmint_model::{ErrorKind, Fault, Home, LeaseId, MachineRecord};
use vmint_runner::Client;
use vmint_store::adopt::Adopted;
use vmint_store::{Settled, Store};

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
    /// The user that hypervisors run as, if not as this process's: root's alone.
    pub run_as: Option<String>,
    /// Snapshots save all of memory, not only what changed.
    pub full_snapshots: bool,
    /// The lease on whose behalf this process reaches a machine of a pool: `VMINT_LEASE`, as `vmint with` sets it.
    pub lease: Option<LeaseId>,
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

    /// As these settings say, and where they say nothing, the environment.
    pub fn from_config(config: &Config) -> Result<Self, Fault> {
        Ok(Self::from_environment()?.configured(config))
    }

    /// The same way to open it, with these settings.
    pub fn configured(self, config: &Config) -> Self {
        Self {
            accelerator: match config.accelerator {
                AcceleratorChoice::Auto => None,
                AcceleratorChoice::Only(accelerator) => Some(accelerator),
            },
            confine: config.confine,
            full_snapshots: config.snapshots.full,
            start_timeout: config.defaults.start_timeout,
            admission: config.admission,
            ..self
        }
    }

    /// The same, with this runner, for those who carry one along.
    pub fn with_runner(runner: PathBuf) -> Result<Self, Fault> {
        let home = vmint_store::default_root()?;
        Ok(Self {
            home,
            runner,
            accelerator: None,
            confine: crate::config::confine_from_environment()?,
            run_as: crate::config::run_as_from_environment(),
            full_snapshots: false,
            lease: lease_from_environment(),
            start_timeout: None,
            admission: crate::config::admission_from_environment()?,
        })
    }
}

/// What there is to tell of what was adopted. Of a copy that holds nothing but images and templates there is nothing.
fn found(adopted: &Adopted) -> Option<Found> {
    let (lost, kept) = (adopted.lost.len(), adopted.kept);
    if lost + kept + adopted.leases == 0 {
        return None;
    }
    let what = match &adopted.copy_of {
        Some(_) => format!("this home is a copy of {}", adopted.origin()),
        None => "the database of this home is another home's".to_owned(),
    };
    let mut message = format!("{what}, of which nothing was touched");
    if lost > 0 {
        let names = adopted.lost.join(", ");
        message.push_str(&format!(
            "; machines lost in here, which `vmint start` starts from their disks: {names}"
        ));
    }
    if kept > 0 {
        message.push_str(&format!("; other machines, as they were: {kept}"));
    }
    if adopted.leases > 0 {
        message.push_str(&format!("; leases ended in here: {}", adopted.leases));
    }
    Some(Found {
        name: "home".parse().expect("a legal name"),
        message,
    })
}

fn lease_from_environment() -> Option<LeaseId> {
    std::env::var("VMINT_LEASE").ok()?.parse().ok()
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
    /// What was adopted with the home or its database, until it is told.
    adopted: Mutex<Option<Adopted>>,
    /// The code of pools, while somebody uses it.
    pub(crate) here: Mutex<Weak<crate::pools::Here>>,
}

impl Vmint {
    /// Opens the home, made if need be.
    pub fn open(options: Options) -> Result<Self, Fault> {
        let home = Self::open_home(&options)?;
        let mut store = Store::open(&home)?;
        let adopted = match store.settle(&home)? {
            Settled::Adopted(adopted) => Some(adopted),
            Settled::Known | Settled::New => None,
        };
        let images = ImageStore::open(&home)?;
        let images = images
            .confined(options.confine)
            .with_kit(Kit::beside(&options.runner));
        let is_adopted = adopted.is_some();
        let vmint = Self {
            home,
            options,
            images,
            store: Mutex::new(store),
            adopted: Mutex::new(adopted),
            here: Mutex::default(),
        };
        if is_adopted {
            // They go on in the other home, if at all.
            vmint.end_runs(|_| true)?;
        }
        Ok(vmint)
    }

    /// What was adopted when the home was opened; told once.
    pub(crate) fn adopted(&self) -> Vec<Found> {
        let mut adopted = self.adopted.lock().expect("nobody panics with the lock");
        adopted.take().iter().filter_map(found).collect()
    }

    /// Makes the home's folders, and nothing else.
    pub fn open_home(options: &Options) -> Result<Home, Fault> {
        vmint_store::open_home(&options.home).map_err(Fault::from)
    }

    /// Its folders.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// How it was opened.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its record. Never held across an await.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panics with the lock")
    }

    /// Its images.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// All machines, oldest first.
    pub fn machines(&self) -> Result<Vec<MachineRecord>, Fault> {
        self.store()
            .list(vmint_store::MachineFilter::All)
            .map_err(Fault::from)
    }

    /// Events after number `after`, at most `limit`.
    pub fn events(&self, after: i64, limit: usize) -> Result<Vec<vmint_model::Event>, Fault> {
        self.store().events(after, limit).map_err(Fault::from)
    }

    /// A client of a machine's runner.
    pub fn client(&self, machine: &MachineRecord) -> Client {
        Client::new(&self.home.machine(&machine.id))
    }
}
