//! Pools on this host: made, changed, looked at, lent from.
//!
//! ```no_run
//! # async fn example() -> Result<(), vmint::Fault> {
//! use std::sync::Arc;
//! use vmint::{Acquire, Command, PoolSpec, Vmint};
//!
//! let vmint = Arc::new(Vmint::open(vmint::Options::from_environment()?)?);
//! vmint.create_pool(&"ci".parse().unwrap(), PoolSpec::of("tiny"), &vmint::Silent).await?;
//! let pool = vmint.pool("ci")?;
//! let lease = pool.acquire(Acquire::default()).await?;
//! let output = lease.output(Command::new(["uname", "-r"])).await?;
//! println!("{}", String::from_utf8_lossy(&output.stdout));
//! lease.release()?; // or drop it, or die: the machine is made fresh for the next one
//! # Ok(())
//! # }
//! ```
//!
//! * [`lease`]: what one may do with a machine that is lent.
//! * `local`: this host as the backend of `vmint-pool`; `tend`: filling on the side.

mod blame;
pub mod lease;
mod local;
pub(crate) mod suit;
mod tend;

pub use lease::Lease;
pub use local::{HostWorld, LocalBackend};
pub use tend::{detach_tending, wait_for_tenders};

use crate::Vmint;
use crate::undo::Undo;
use local::at_once;
use std::sync::Arc;
use std::time::Duration;
use vmint_image::Progress;
use vmint_model::{
    By, ErrorKind, Fault, Force, LeaseEnd, LeaseId, LeaseRecord, LedgerError, Name, Origin, Owner,
    PoolChange, PoolRecord, PoolSpec, PoolState, PoolStatus, ProcessRef, Ring, Slot,
};
use vmint_pool::{Filled, Pools};
use vmint_runner::watch;
use vmint_store::{InLine, LocalLedger, Store, process};

/// Pools over this host.
pub type Here = Pools<LocalBackend, LocalLedger, HostWorld>;

/// How many forks a machine keeps parked at most. Each costs some 25 MB, and 64 MiB are booked for it.
const MOST_STANDBYS: u32 = 8;

/// How long filling a pool may take, once its image and template are there.
const FILL: Duration = Duration::from_secs(600);

/// How to acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// What for, for whoever looks at the leases.
    pub label: Option<String>,
    /// How long to wait at most.
    pub timeout: Duration,
    /// After this long the lease ends, unless it is renewed.
    pub ttl: Option<Duration>,
    /// Who holds the lease; the calling process when absent.
    pub owner: Option<Owner>,
    /// Whether to wait in line when the pool may have no more machines.
    pub wait: bool,
    /// If the machine is lost while it is lent, what is left of it is kept under this name: [`Lease::keep_if_lost`].
    pub keep_lost: Option<Name>,
}

impl Default for Acquire {
    fn default() -> Self {
        Self {
            label: None,
            timeout: Duration::from_secs(60),
            ttl: None,
            owner: None,
            wait: true,
            keep_lost: None,
        }
    }
}

impl Vmint {
    /// The code of pools over this host.
    pub fn local_pools(self: &Arc<Self>) -> Result<Arc<Here>, Fault> {
        let mut known = self.here.lock().expect("nobody panics with the lock");
        if let Some(here) = known.upgrade() {
            return Ok(here);
        }
        let store = Store::open(&self.home)?;
        let parallel = std::thread::available_parallelism().map_or(2, usize::from);
        let here = Arc::new(Pools {
            backend: LocalBackend {
                vmint: self.clone(),
            },
            ledger: LocalLedger::new(store),
            world: HostWorld {
                home: self.home.clone(),
                program: self.options.runner.clone(),
            },
            parallel: parallel as u32,
        });
        *known = Arc::downgrade(&here);
        Ok(here)
    }

    /// Makes a pool and fills it. What could not be made does not undo the rest; it is in [`Filled::failed`]. If this future is dropped
    /// before it is done, the pool is not left behind.
    pub async fn create_pool(
        self: &Arc<Self>,
        name: &Name,
        spec: PoolSpec,
        progress: &dyn Progress,
    ) -> Result<(PoolStatus, Filled), Fault> {
        check_spec(&spec)?;
        if self.pool_status(name).is_ok() {
            return Err(LedgerError::PoolExists(name.clone()).into());
        }
        self.prepare_pool(&spec, progress).await?;
        let here = self.local_pools()?;
        let now = vmint_store::now();
        let record = PoolRecord::new(name.clone(), spec, now.wall_ms);
        let deadline = now.steady_ms + FILL.as_millis() as i64;
        {
            // From here on the image stays, for there is a pool that needs it.
            let _lock = self.lock_images_of_pools()?;
            self.expect_image(&record.spec.image)?;
            here.declare(&record).await?;
        }
        let undo = Undo::pool(self, name);
        let filled = here.fill(name, deadline).await;
        undo.claim();
        Ok((self.pool_status(name)?, filled?))
    }

    fn expect_image(&self, name: &str) -> Result<(), Fault> {
        if self.images().find(name).is_ok_and(|found| found.is_some()) {
            return Ok(());
        }
        let message = format!("image {name} was removed while the pool was made");
        Err(Fault::new(ErrorKind::NotFound, message))
    }

    /// Makes sure of what the pool's machines are forked from, so that no creation has to wait for it.
    async fn prepare_pool(&self, spec: &PoolSpec, progress: &dyn Progress) -> Result<(), Fault> {
        let new = crate::NewMachine {
            memory: spec.memory,
            cpus: spec.cpus,
            net: spec.net.clone(),
            limits: spec.limits,
            origin: Origin::Template,
            ..crate::NewMachine::of(&spec.image)
        };
        self.plan(&new, progress).await.map(drop)
    }

    /// Makes what a pool lacks. At most one process does it at a time: another one finds nothing to do.
    pub async fn fill_pool(
        self: &Arc<Self>,
        name: &Name,
        progress: &dyn Progress,
    ) -> Result<Filled, Fault> {
        let spec = self.pool_status(name)?.pool.spec;
        self.prepare_pool(&spec, progress).await?;
        let deadline = vmint_store::steady_ms() + FILL.as_millis() as i64;
        self.local_pools()?.fill(name, deadline).await
    }

    /// A pool to lend from.
    pub fn pool(self: &Arc<Self>, name: &str) -> Result<Pool, Fault> {
        let name = pool_name(name)?;
        self.pool_status(&name)?;
        Ok(Pool {
            vmint: self.clone(),
            here: self.local_pools()?,
            name,
        })
    }

    /// A pool as it is.
    pub fn pool_status(&self, name: &Name) -> Result<PoolStatus, Fault> {
        Ok(self.store().pool(name)?)
    }

    /// All pools, by name.
    pub fn pools(&self) -> Result<Vec<PoolStatus>, Fault> {
        Ok(self.store().pools()?)
    }

    /// The slots of a pool, or of all.
    pub fn slots(&self, pool: Option<&Name>) -> Result<Vec<Slot>, Fault> {
        let now = vmint_store::now();
        let slots = self.store().slots(pool)?.into_iter();
        Ok(slots.map(|slot| slot.shown(now)).collect())
    }

    /// All leases that have not ended.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>, Fault> {
        let now = vmint_store::now();
        let leases = self.store().leases()?.into_iter();
        Ok(leases.map(|lease| lease.shown(now)).collect())
    }

    /// A lease, ended or not.
    pub fn lease(&self, id: &LeaseId) -> Result<LeaseRecord, Fault> {
        Ok(self.store().lease(id)?.shown(vmint_store::now()))
    }

    /// All that wait in line, the first first.
    pub fn waiters(&self) -> Result<Vec<InLine>, Fault> {
        let now = vmint_store::now();
        let waiters = self.store().waiters()?.into_iter();
        Ok(waiters.map(|waiter| waiter.shown(now)).collect())
    }

    /// Changes how many machines a pool has, and opens it again if it was drained. Fills it.
    pub async fn resize_pool(
        self: &Arc<Self>,
        name: &Name,
        min: Option<u32>,
        max: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<(PoolStatus, Filled), Fault> {
        let old = self.pool_status(name)?.pool.spec;
        let spec = PoolSpec {
            min: min.unwrap_or(old.min),
            max: max.unwrap_or(old.max),
            ..old
        };
        check_spec(&spec)?;
        // What cannot be made is not promised.
        self.prepare_pool(&spec, progress).await?;
        let change = PoolChange {
            min,
            max,
            state: Some(PoolState::Open),
            force: false,
        };
        let here = self.local_pools()?;
        here.change(name, change).await?;
        let deadline = vmint_store::steady_ms() + FILL.as_millis() as i64;
        let filled = here.fill(name, deadline).await?;
        Ok((self.pool_status(name)?, filled))
    }

    /// Has a pool lend nothing more. What is idle goes at once, what is lent when its lease ends. With `wait`, returns
    /// when nothing is left.
    pub async fn drain_pool(
        self: &Arc<Self>,
        name: &Name,
        wait: Option<Duration>,
    ) -> Result<PoolStatus, Fault> {
        let here = self.local_pools()?;
        let change = PoolChange {
            state: Some(PoolState::Drained),
            ..PoolChange::default()
        };
        here.change(name, change).await?;
        if let Some(wait) = wait {
            let deadline = vmint_store::steady_ms() + wait.as_millis() as i64;
            let runners = self.runners_of(name)?;
            here.empty(name, deadline).await?;
            self.outlast(&runners).await;
        }
        self.pool_status(name)
    }

    /// Removes a pool. What is idle goes at once, what is lent when its lease ends, or by force at once too; returns
    /// when nothing is left, or an error after `timeout`.
    pub async fn remove_pool(
        self: &Arc<Self>,
        name: &Name,
        force: Force,
        timeout: Duration,
    ) -> Result<(), Fault> {
        let deadline = vmint_store::steady_ms() + timeout.as_millis() as i64;
        let runners = self.runners_of(name)?;
        self.local_pools()?.remove(name, force, deadline).await?;
        self.outlast(&runners).await;
        Ok(())
    }

    /// The runners of a pool's machines.
    fn runners_of(&self, name: &Name) -> Result<Vec<ProcessRef>, Fault> {
        let machines = self.machines()?.into_iter();
        let mine = machines.filter(|m| m.pool.as_ref() == Some(name));
        Ok(mine.filter_map(|m| m.runner).collect())
    }

    /// Waits until processes that are ending have ended: who hears “removed” looks for them no more.
    async fn outlast(&self, runners: &[ProcessRef]) {
        let end = tokio::time::Instant::now() + Duration::from_secs(2);
        for runner in runners {
            while process::is_alive(runner) && tokio::time::Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Ends a lease on behalf of this process: it must be the owner or be descended from it, or use force.
    pub fn release_lease(
        self: &Arc<Self>,
        id: &LeaseId,
        force: Force,
    ) -> Result<LeaseRecord, Fault> {
        let by = entitled(&self.lease(id)?, force);
        at_once(self.local_pools()?.release(id, by.as_by()))
    }

    /// Renews a lease on behalf of this process, as [`Vmint::release_lease`] ends it.
    pub fn renew_lease(self: &Arc<Self>, id: &LeaseId, force: Force) -> Result<LeaseRecord, Fault> {
        let by = entitled(&self.lease(id)?, force);
        at_once(self.local_pools()?.renew(id, by.as_by()))
    }

    /// Has a pool go, and all its machines with it, and does not wait for that: for a caller that is about to end itself.
    pub fn abandon_pool(&self, name: &Name) -> Result<(), Fault> {
        let change = PoolChange {
            state: Some(PoolState::Removing),
            force: true,
            ..PoolChange::default()
        };
        let (_, rings) = self
            .store()
            .change_pool(name, change, vmint_store::Moment::now())?;
        self.ring(rings);
        Ok(())
    }

    /// Tells those whom a transaction of the ledger concerns.
    pub(crate) fn ring(&self, rings: Vec<Ring>) {
        watch::tell(&self.home, &rings);
    }
}

/// The process with this id, named so that no other can be mistaken for it.
pub fn process(pid: u32) -> Result<Option<ProcessRef>, Fault> {
    process::of(pid).map_err(|e| Fault::from_error(ErrorKind::Host, &e))
}

/// Who this process may speak for.
enum Speaker {
    Owner(Owner),
    Anybody,
}

impl Speaker {
    fn as_by(&self) -> By<'_> {
        match self {
            Self::Owner(owner) => By::Owner(owner),
            Self::Anybody => By::Anybody,
        }
    }
}

/// A process speaks for itself and for those that it descends from: `vmint lease release`, called by a script, for the
/// script. For a client elsewhere speaks whoever knows the lease.
fn entitled(lease: &LeaseRecord, force: Force) -> Speaker {
    let owner = match &lease.owner {
        _ if force == Force::Yes => return Speaker::Anybody,
        Owner::Client { .. } => return Speaker::Anybody,
        Owner::Process(owner) => owner,
    };
    let me = process::current().ok();
    if me.as_ref().is_some_and(|me| descends_from(me, owner)) {
        return Speaker::Anybody;
    }
    me.map_or(Speaker::Anybody, |me| Speaker::Owner(Owner::Process(me)))
}

/// Whether this process is that one, or descends from it.
pub(crate) fn i_descend_from(ancestor: &ProcessRef) -> bool {
    process::current().is_ok_and(|me| descends_from(&me, ancestor))
}

fn descends_from(process: &ProcessRef, ancestor: &ProcessRef) -> bool {
    let mut current = Some(process.clone());
    // No line of descent is that long, and none is a circle.
    for _ in 0..1000 {
        let Some(process) = current else { return false };
        if process == *ancestor {
            return true;
        }
        current = process::parent(&process);
    }
    false
}

fn pool_name(name: &str) -> Result<Name, Fault> {
    name.parse().map_err(|e: vmint_model::InvalidName| {
        Fault::new(
            ErrorKind::NotFound,
            format!("there is no pool {:?}: {e}", e.name),
        )
    })
}

/// What no pool can be.
fn check_spec(spec: &PoolSpec) -> Result<(), Fault> {
    let usage = |message: String| Err(Fault::new(ErrorKind::Usage, message));
    crate::machines::check_hardware(spec.memory, spec.cpus)?;
    if spec.max == 0 || spec.max > 10_000 {
        return usage(format!(
            "a maximum of {}: a pool has 1 to 10000 machines",
            spec.max
        ));
    }
    if spec.min > spec.max {
        let (min, max) = (spec.min, spec.max);
        return usage(format!(
            "a minimum of {min} is more than the maximum, {max}"
        ));
    }
    if spec.standby > MOST_STANDBYS {
        return usage(format!(
            "a pool keeps 0 to {MOST_STANDBYS} standbys for a machine, not {}",
            spec.standby
        ));
    }
    if spec.ttl_ms.is_some_and(|ttl| ttl < 1000) {
        return usage("a machine's time to live is at least 1s".into());
    }
    if spec.max_uses == Some(0) {
        return usage("a machine must be usable for at least one lease, not 0".into());
    }
    Ok(())
}

/// A pool to lend from.
#[derive(Clone, Debug)]
pub struct Pool {
    vmint: Arc<Vmint>,
    here: Arc<Here>,
    name: Name,
}

impl Pool {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The pool as it is.
    pub fn status(&self) -> Result<PoolStatus, Fault> {
        self.vmint.pool_status(&self.name)
    }

    /// Lends a machine: one that is ready, or else the first that gets ready or can be made, first come first served.
    pub async fn acquire(&self, how: Acquire) -> Result<Lease, Fault> {
        self.acquire_saying(how, &|_| {}).await
    }

    /// The same; `say` gets a line for the user about what is being waited for.
    pub async fn acquire_saying(
        &self,
        how: Acquire,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Lease, Fault> {
        let owner = match how.owner {
            Some(owner) => owner,
            None => Owner::Process(
                process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?,
            ),
        };
        if let Some(name) = &how.keep_lost {
            self.vmint.expect_free(name)?;
        }
        let want = vmint_pool::Acquire {
            pool: self.name.clone(),
            owner,
            label: how.label,
            ttl_ms: how.ttl.map(|ttl| ttl.as_millis() as u64),
            deadline_ms: vmint_store::steady_ms() + how.timeout.as_millis() as i64,
            wait: how.wait,
        };
        let record = self.here.acquire(&want, say).await?;
        let lease = Lease::new(self.vmint.clone(), self.here.clone(), record);
        self.expect_watched(&lease)?;
        if let Some(name) = &how.keep_lost {
            lease.keep_if_lost(Some(name))?;
        }
        Ok(lease)
    }

    /// An owner that the machine's runner cannot see would count as ended, or never end: it gets nothing, and is told why.
    fn expect_watched(&self, lease: &Lease) -> Result<(), Fault> {
        let Owner::Process(owner) = lease.record().owner else {
            return Ok(());
        };
        let machine = self.vmint.store().get(&lease.machine());
        let Some(runner) = machine.ok().flatten().and_then(|machine| machine.runner) else {
            // It is on its way out, and says so to whoever uses it.
            return Ok(());
        };
        if process::can_watch(&runner, &owner) {
            return Ok(());
        }
        let message = format!(
            "process {} cannot hold a machine of pool `{}`: it is in another PID namespace than the machine's runner, which \
             cannot see when it ends",
            owner.pid, self.name
        );
        let hint = LeaseEnd::OwnerUnseen.hint();
        Err(Fault::new(ErrorKind::Refused, message).hint(hint.unwrap_or_default()))
    }
}
