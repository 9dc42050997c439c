//! The same for programs that do not wait for futures: methods of the same names, which return when it is done.
//!
//! ```no_run
//! use vmint::blocking::Vmint;
//! use vmint::{Acquire, Command, PoolSpec};
//!
//! # fn main() -> Result<(), vmint::Fault> {
//! let vmint = Vmint::open(vmint::Options::from_environment()?)?;
//! vmint.create_pool(&"ci".parse().unwrap(), PoolSpec::of("tiny"), &vmint::Silent)?;
//! let lease = vmint.pool("ci")?.acquire(Acquire::default())?;
//! let output = lease.output(Command::new(["uname", "-r"]))?;
//! println!("{}", String::from_utf8_lossy(&output.stdout));
//! lease.release()?; // or drop it, or die: the machine is made fresh for the next one
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here needs a machine until one is asked for:
//!
//! ```
//! use vmint::blocking::Vmint;
//! use vmint::{ErrorKind, Options};
//!
//! let home = tempfile::tempdir().unwrap();
//! let options = Options {
//!     home: home.path().join("home"),
//!     ..Options::with_runner("/usr/local/bin/vmint".into()).unwrap()
//! };
//! let vmint = Vmint::open(options).unwrap();
//! assert!(vmint.pools().unwrap().is_empty());
//! let fault = vmint.pool("ci").unwrap_err();
//! assert_eq!(fault.kind, ErrorKind::NotFound);
//! ```
//!
//! A thread of its own drives what waits for sockets and clocks, so any thread may call, several at once too, and one
//! that runs tasks of another runtime as well: it is blocked, as by any call that blocks, and never panics.

use crate::{
    Acquire, Command, Fault, Force, NewMachine, Options, Output, PoolSpec, StopOptions, Stopped,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use vmint_files::Unpacked;
use vmint_image::Progress;
use vmint_model::{
    ErrorKind, Generation, LeaseId, LeaseRecord, MachineId, MachineRecord, Name, PoolStatus,
    SnapshotRecord,
};
use vmint_pool::Filled;

/// What drives the futures. The thread ends when the last of those who use it is gone.
#[derive(Debug)]
struct Driver {
    handle: Handle,
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Driver {
    fn start() -> Result<Arc<Self>, Fault> {
        let fault = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot set up a runtime")
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(fault)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let drive = move || {
            let _ = runtime.block_on(stopped);
            // Dropped here, where no runtime minds; what still reads a file does not keep us.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("vmint".into());
        thread.spawn(drive).map_err(fault)?;
        Ok(Arc::new(Self {
            handle,
            _stop: stop,
        }))
    }

    /// Waits for a future. In a thread that belongs to another runtime tokio refuses to; then another thread does it.
    fn wait<F>(&self, work: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        if Handle::try_current().is_err() {
            return self.handle.block_on(work);
        }
        let waited = std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.handle.block_on(work));
            thread.join()
        });
        waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// vmint on this host, for this user.
#[derive(Clone, Debug)]
pub struct Vmint {
    vmint: Arc<crate::Vmint>,
    driver: Arc<Driver>,
}

impl Vmint {
    /// Opens the home, made if need be.
    pub fn open(options: Options) -> Result<Self, Fault> {
        Self::over(Arc::new(crate::Vmint::open(options)?))
    }

    /// The same door for callers that block.
    pub fn over(vmint: Arc<crate::Vmint>) -> Result<Self, Fault> {
        let driver = Driver::start()?;
        Ok(Self { vmint, driver })
    }

    /// The door itself, with all that does not wait.
    pub fn inner(&self) -> &Arc<crate::Vmint> {
        &self.vmint
    }

    /// Waits for what begins when it is polled: a socket or timer that was made before belongs to the caller's runtime,
    /// which stands still.
    pub(crate) fn wait<F>(&self, work: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.driver.wait(work)
    }

    /// Creates a machine and starts it.
    pub fn create_running(
        &self,
        new: NewMachine,
        progress: &dyn Progress,
    ) -> Result<MachineRecord, Fault> {
        self.wait(self.vmint.create_running(new, progress))
    }

    /// A machine by name or id; as `NAME@GENERATION` only while it is of this generation.
    pub fn machine(&self, name: &str) -> Result<MachineRecord, Fault> {
        self.vmint.machine(name)
    }

    /// All machines, oldest first.
    pub fn machines(&self) -> Result<Vec<MachineRecord>, Fault> {
        self.vmint.machines()
    }

    /// Starts a command in a running machine.
    pub fn exec(&self, name: &str, command: Command) -> Result<Running<'_>, Fault> {
        let running = self.wait(self.vmint.exec(name, command))?;
        Ok(Running {
            running,
            driver: &self.driver,
        })
    }

    /// Runs a command to its end and gathers what it says.
    pub fn output(&self, name: &str, command: Command) -> Result<Output, Fault> {
        self.wait(self.vmint.output(name, command))
    }

    /// Copies a file or folder into a machine.
    pub fn copy_in(&self, source: &Path, name: &str, target: &str) -> Result<(), Fault> {
        let sent = self.wait(self.vmint.copy_in(source, name, target));
        sent.map(drop)
    }

    /// Copies a file or folder out of a machine.
    pub fn copy_out(&self, name: &str, source: &str, target: &Path) -> Result<Unpacked, Fault> {
        self.wait(self.vmint.copy_out(name, source, target))
    }

    /// Freezes this moment of a machine.
    pub fn snapshot(&self, machine: &str, name: &Name) -> Result<SnapshotRecord, Fault> {
        self.wait(self.vmint.snapshot(machine, name))
    }

    /// Starts `count` machines from a machine as it is now, or from a snapshot.
    pub fn fork(
        &self,
        source: &str,
        name: &Name,
        count: u32,
        progress: &dyn Progress,
    ) -> Result<Vec<MachineRecord>, Fault> {
        self.wait(self.vmint.fork(source, name, count, progress))
    }

    /// A fork anew in the place of a machine; everything in it is gone.
    pub fn reset(&self, name: &str) -> Result<MachineRecord, Fault> {
        self.wait(self.vmint.reset(name))
    }

    /// Stops a machine. One that is down is left as it is.
    pub fn stop(&self, name: &str, options: StopOptions) -> Result<Stopped, Fault> {
        self.wait(self.vmint.stop(name, options))
    }

    /// Removes a machine; one that is up only by force.
    pub fn remove(&self, name: &str, force: Force) -> Result<(), Fault> {
        self.wait(self.vmint.remove(name, force))
    }

    /// Makes a pool and fills it.
    pub fn create_pool(
        &self,
        name: &Name,
        spec: PoolSpec,
        progress: &dyn Progress,
    ) -> Result<(PoolStatus, Filled), Fault> {
        self.wait(self.vmint.create_pool(name, spec, progress))
    }

    /// A pool to lend from.
    pub fn pool(&self, name: &str) -> Result<Pool, Fault> {
        Ok(Pool {
            pool: self.vmint.pool(name)?,
            driver: self.driver.clone(),
        })
    }

    /// All pools, by name.
    pub fn pools(&self) -> Result<Vec<PoolStatus>, Fault> {
        self.vmint.pools()
    }

    /// All leases that have not ended.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>, Fault> {
        self.vmint.leases()
    }

    /// Changes how many machines a pool has, and opens it again if it was drained. Fills it.
    pub fn resize_pool(
        &self,
        name: &Name,
        min: Option<u32>,
        max: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<(PoolStatus, Filled), Fault> {
        self.wait(self.vmint.resize_pool(name, min, max, progress))
    }

    /// Has a pool lend nothing more; with `wait`, returns when nothing is left.
    pub fn drain_pool(&self, name: &Name, wait: Option<Duration>) -> Result<PoolStatus, Fault> {
        self.wait(self.vmint.drain_pool(name, wait))
    }

    /// Removes a pool, and by force what is lent of it, too.
    pub fn remove_pool(&self, name: &Name, force: Force, timeout: Duration) -> Result<(), Fault> {
        self.wait(self.vmint.remove_pool(name, force, timeout))
    }
}

/// A pool to lend from.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: crate::Pool,
    driver: Arc<Driver>,
}

impl Pool {
    /// Its name.
    pub fn name(&self) -> &Name {
        self.pool.name()
    }

    /// The pool as it is.
    pub fn status(&self) -> Result<PoolStatus, Fault> {
        self.pool.status()
    }

    /// Lends a machine: one that is ready, or else the first that gets ready or can be made, first come first served.
    pub fn acquire(&self, how: Acquire) -> Result<Lease, Fault> {
        self.acquire_saying(how, &|_| {})
    }

    /// The same; `say` gets a line for the user about what is being waited for.
    pub fn acquire_saying(
        &self,
        how: Acquire,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Lease, Fault> {
        let lease = self.driver.wait(self.pool.acquire_saying(how, say))?;
        Ok(Lease {
            lease: Arc::new(lease),
            driver: self.driver.clone(),
        })
    }
}

/// The right to one machine at one generation; see [`crate::Lease`]. It is given back when the last clone is dropped, and
/// also when the process ends, however it does.
#[derive(Clone, Debug)]
pub struct Lease {
    lease: Arc<crate::Lease>,
    driver: Arc<Driver>,
}

impl Lease {
    /// The lease itself, for tasks.
    pub fn inner(&self) -> &Arc<crate::Lease> {
        &self.lease
    }

    /// The lease as it was granted, or last renewed.
    pub fn record(&self) -> LeaseRecord {
        self.lease.record()
    }

    /// Its id.
    pub fn id(&self) -> LeaseId {
        self.lease.id()
    }

    /// Its machine.
    pub fn machine(&self) -> MachineId {
        self.lease.machine()
    }

    /// The generation of its machine.
    pub fn generation(&self) -> Generation {
        self.lease.generation()
    }

    /// The machine at this lease's generation and no other.
    pub fn handle(&self) -> String {
        self.lease.handle()
    }

    /// Starts a command.
    pub fn exec(&self, command: Command) -> Result<Running<'_>, Fault> {
        let running = self.driver.wait(self.lease.exec(command))?;
        Ok(Running {
            running,
            driver: &self.driver,
        })
    }

    /// Runs a command to its end and gathers what it says.
    pub fn output(&self, command: Command) -> Result<Output, Fault> {
        self.driver.wait(self.lease.output(command))
    }

    /// Copies a file or folder into the machine.
    pub fn copy_in(&self, source: &Path, target: &str) -> Result<(), Fault> {
        self.driver.wait(self.lease.copy_in(source, target))
    }

    /// Copies a file or folder out of the machine.
    pub fn copy_out(&self, source: &str, target: &Path) -> Result<(), Fault> {
        self.driver.wait(self.lease.copy_out(source, target))
    }

    /// Freezes this moment of the machine.
    pub fn snapshot(&self, name: &Name) -> Result<SnapshotRecord, Fault> {
        self.driver.wait(self.lease.snapshot(name))
    }

    /// Makes the machine fresh, and keeps it. Its generation rises by one, and the lease's with it.
    pub fn reset(&self) -> Result<Generation, Fault> {
        self.driver.wait(self.lease.reset())
    }

    /// Begins the lease's time anew.
    pub fn renew(&self) -> Result<LeaseRecord, Fault> {
        self.lease.renew()
    }

    /// What is on the machine's console.
    pub fn console(&self) -> Result<String, Fault> {
        self.lease.console()
    }

    /// Gives the machine back. That it is already gone, and why, is an error. Other clones of this lease keep it until
    /// they are dropped; then this does nothing.
    pub fn release(self) -> Result<(), Fault> {
        match Arc::into_inner(self.lease) {
            Some(lease) => lease.release(),
            None => Ok(()),
        }
    }
}

/// A command that was started. Dropped before its end, it is killed.
#[derive(Debug)]
pub struct Running<'a> {
    running: crate::Running<'a>,
    driver: &'a Driver,
}

impl Running<'_> {
    /// What it does next.
    #[expect(
        clippy::should_implement_trait,
        reason = "as the other one is called; it has no end that an iterator could see"
    )]
    pub fn next(&mut self) -> Result<crate::exec::Happening, Fault> {
        self.driver.wait(self.running.next())
    }

    /// Sends input; no more than was granted.
    pub fn send(&self, bytes: &[u8]) {
        self.running.send(bytes);
    }

    /// Ends the input.
    pub fn send_eof(&self) {
        self.running.send_eof();
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: i32) {
        self.running.signal(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmint() -> (tempfile::TempDir, Vmint) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            home: dir.path().join("home"),
            ..Options::with_runner("/nonexistent/vmint".into()).unwrap()
        };
        let vmint = Vmint::open(options).unwrap();
        (dir, vmint)
    }

    /// Sockets and clocks are driven by the thread, not by the caller.
    #[test]
    fn several_threads_wait_at_once() {
        let (_dir, vmint) = vmint();
        let waits = (1..=4).map(|n| {
            let vmint = vmint.clone();
            std::thread::spawn(move || {
                vmint.wait(async move {
                    tokio::time::sleep(Duration::from_millis(n)).await;
                    n
                })
            })
        });
        let waits: Vec<_> = waits.collect();
        let sum: u64 = waits.into_iter().map(|w| w.join().unwrap()).sum();
        assert_eq!(sum, 10);
    }

    #[test]
    fn nothing_panics_within_another_runtime_not_even_the_end() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, vmint) = vmint();
            let unknown = vmint.remove("nobody", Force::Yes).unwrap_err();
            assert_eq!(unknown.kind, ErrorKind::NotFound);
            vmint.wait(async { tokio::time::sleep(Duration::from_millis(1)).await });
            drop(vmint);
        });
    }

    #[test]
    fn a_panic_passes_through() {
        let (_dir, vmint) = vmint();
        let runtime = Builder::new_current_thread().build().unwrap();
        let caught = runtime.block_on(async {
            let work = || vmint.wait(async { panic!("told") });
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"told"));
    }
}
