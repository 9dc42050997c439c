//! Filling a pool on the side.
//!
//! Who lends the last machine but one has no time to make the next, and may not live long enough. So it starts a process
//! that fills the pool and ends. There is no daemon: a process like this lives while something is missing, and at most
//! one for each pool.

use crate::Vmint;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use vmint_image::Silent;
use vmint_model::{ErrorKind, Fault, Name, PoolState};
use vmint_pool::Filled;
use vmint_store::FileLock;

/// Threads that start such processes.
static STARTING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Has a process fill the pool, and does not wait for it: to start a process takes longer than to lend a machine.
pub(super) fn start(program: &Path, home: &Path, pool: &Name) {
    let mut command = vmint_spawn::command(program);
    command
        .args(["pool", "tend", "--detach", pool.as_str()])
        .env("VMINT_HOME", home)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let tend = move || match command.status() {
        Ok(status) => tracing::debug!("a tender was started: {status}"),
        Err(e) => tracing::warn!("the pool is not being filled: {e}"),
    };
    let thread = std::thread::Builder::new()
        .name("tend".into())
        .stack_size(64 << 10)
        .spawn(tend);
    let mut starting = STARTING.lock().expect("nobody panics with the lock");
    starting.retain(|thread| !thread.is_finished());
    match thread {
        Ok(thread) => starting.push(thread),
        Err(e) => tracing::warn!("the pool is not being filled: {e}"),
    }
}

/// Waits until the processes that are to fill pools have been started: a process that ends or becomes another one takes
/// its threads along.
pub fn wait_for_tenders() {
    let threads = std::mem::take(&mut *STARTING.lock().expect("nobody panics with the lock"));
    for thread in threads {
        let _ = thread.join();
    }
}

/// Starts a process that fills a pool, in a session of its own and nobody's child: whoever asked for it need not reap it.
pub fn detach_tending(pool: &Name) -> Result<(), Fault> {
    let fault =
        |e: io::Error| Fault::from_error(ErrorKind::Host, &e).context("cannot fill the pool");
    let own = std::env::current_exe().map_err(fault)?;
    let mut command = vmint_spawn::command(own);
    command
        .args(["--quiet", "pool", "tend", pool.as_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().map(drop).map_err(fault)
}

impl Vmint {
    /// Has every pool filled that lacks machines: those that died are missed by nobody until somebody looks.
    pub fn tend_missing(&self) -> Result<(), Fault> {
        for status in self.pools()? {
            let (pool, counts) = (&status.pool, &status.counts);
            if pool.state == PoolState::Open && counts.missing(&pool.spec) > 0 {
                start(&self.options.runner, self.home.root(), &pool.name);
            }
        }
        Ok(())
    }

    /// Fills a pool, unless another process is at it.
    pub async fn tend_pool(self: &Arc<Self>, pool: &Name) -> Result<Filled, Fault> {
        let path = self.home.root().join(format!("tend-{pool}.lock"));
        let lock = FileLock::try_acquire(&path)?;
        let Some(lock) = lock else {
            return Ok(Filled::default());
        };
        let filled = self.fill_pool(pool, &Silent).await;
        let _ = std::fs::remove_file(&path);
        drop(lock);
        filled
    }
}
