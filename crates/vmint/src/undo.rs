//! What was begun, and what nobody holds any more, is undone.
//!
//! A future may be dropped at every await, by a time limit, a signal, a task that is aborted. What it has made by then would stay and
//! be nobody's: its id was to be the answer. So whoever makes something holds an [`Undo`] from the moment that it is there until
//! the answer is given.
//!
//! ```text
//! made ─▶ Undo ─┬─ claimed: it is the caller's
//!               └─ dropped: marked as nobody's, its runner killed; then cleared up, on a thread of its own
//! ```
//!
//! *Why a mark and a kill.* To drop must not wait. Both take a millisecond, and what they leave is what a killed command leaves:
//! should this process end before the thread is done, the next command of any kind clears it up.

use crate::{Options, Vmint};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use vmint_model::{Force, Home, MachineId, Name};
use vmint_runner::belongs;
use vmint_store::{FileLock, Store, process};

/// How long the thread waits for a killed runner's lock. The kernel takes milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// How long the removal of a pool that nobody wants may take.
const EMPTY: Duration = Duration::from_secs(60);

/// Takes back what was made, unless it is claimed.
#[derive(Debug)]
#[must_use = "dropped, it takes back what was made"]
pub struct Undo(Option<Made>);

#[derive(Debug)]
struct Made {
    what: What,
    options: Options,
    home: Home,
    /// A forked child has no part in what its parent makes.
    pid: u32,
}

#[derive(Debug)]
enum What {
    Machine(MachineId, Option<OwnedFd>),
    Pool(Name),
}

impl Undo {
    fn of(vmint: &Vmint, what: What) -> Self {
        Self(Some(Made {
            what,
            options: vmint.options.clone(),
            home: vmint.home.clone(),
            pid: std::process::id(),
        }))
    }

    /// Of a machine that has a record.
    pub(crate) fn machine(vmint: &Vmint, id: &MachineId) -> Self {
        Self::of(vmint, What::Machine(id.clone(), None))
    }

    /// Of a pool that was declared.
    pub(crate) fn pool(vmint: &Vmint, name: &Name) -> Self {
        Self::of(vmint, What::Pool(name.clone()))
    }

    /// The machine's runner was started; it does not say who it is before it has begun.
    pub(crate) fn runs(&mut self, started: Option<OwnedFd>) {
        if let Some(Made {
            what: What::Machine(_, runner),
            ..
        }) = &mut self.0
        {
            *runner = started;
        }
    }

    /// It is somebody's from now on.
    pub fn claim(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(made) = self.0.take() else { return };
        if made.pid != std::process::id() {
            return;
        }
        made.disown();
        let thread = std::thread::Builder::new().name("undo".into());
        // Without a thread, the next command does it.
        let _ = thread.spawn(move || made.clear());
    }
}

impl Made {
    /// So that whoever looks from now on clears it up.
    fn disown(&self) {
        let What::Machine(id, runner) = &self.what else {
            return;
        };
        let record = Store::open(&self.home).and_then(|mut store| {
            store.update(id, |record| {
                record.ephemeral = true;
                record.reason = Some("its creation was abandoned".into());
            })
        });
        if let Some(runner) = runner {
            let _ = rustix::process::pidfd_send_signal(runner, rustix::process::Signal::KILL);
        } else if let Ok(record) = record
            && let Some(runner) = &record.runner
        {
            let _ = process::kill(runner, |args| belongs::is_of(&self.home, id, args));
        }
    }

    fn clear(self) {
        match Vmint::open(self.options) {
            Ok(vmint) => match self.what {
                What::Machine(id, _) => clear_machine(&vmint, &id),
                What::Pool(name) => clear_pool(vmint, &name),
            },
            Err(e) => tracing::warn!("leftovers could not be removed yet: {e}"),
        }
    }
}

fn clear_machine(vmint: &Vmint, id: &MachineId) {
    let (end, dir) = (Instant::now() + SOON, vmint.home.machine(id));
    while FileLock::is_held(&dir.lock()).unwrap_or(false) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    let record = vmint.store().get(id);
    if let Ok(Some(record)) = record
        && let Err(e) = vmint.sweep_one(&record)
    {
        tracing::warn!("machine {} is not cleared up yet: {e}", record.name);
    }
    vmint.wake_admissions();
}

fn clear_pool(vmint: Vmint, name: &Name) {
    let vmint = std::sync::Arc::new(vmint);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let removed =
        runtime.map(|runtime| runtime.block_on(vmint.remove_pool(name, Force::Yes, EMPTY)));
    if let Ok(Err(e)) = removed {
        tracing::warn!("pool {name} is not cleared up yet: {e}");
    }
}
