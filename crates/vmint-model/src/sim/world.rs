//! Clock, bells and liveness as the code of pools sees them.

use super::Process;
use crate::{Bell, Fault, Listen, Name, Now, ProcessRef, World};
use std::future::{Future, poll_fn};
use std::sync::Arc;

/// Starts what fills a pool, in this new process.
type Tend = dyn Fn(Process, Name) + Send + Sync;

/// The world of one simulated process.
#[derive(Clone)]
pub struct SimWorld {
    process: Process,
    tend: Arc<Tend>,
}

impl std::fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimWorld({:?})", self.process)
    }
}

impl SimWorld {
    /// The world of `process`; `tend` is to start what fills a pool, for this module knows of no pools.
    pub fn new(process: Process, tend: Arc<Tend>) -> Self {
        Self { process, tend }
    }
}

impl World for SimWorld {
    type Listener = SimListener;

    fn now(&self) -> Now {
        self.process.sim().now()
    }

    async fn sleep_until(&self, at_ms: i64) {
        self.process.sleep_until(at_ms).await;
    }

    fn bits(&self) -> u64 {
        self.process.sim().draw(super::Random::bits)
    }

    fn process(&self) -> Result<ProcessRef, Fault> {
        Ok(self.process.reference())
    }

    fn lives(&self, process: &ProcessRef) -> bool {
        self.process.sim().lives(process)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.process.spawn(task);
    }

    fn tend(&self, pool: &Name) {
        if self.process.lives() {
            (self.tend)(self.process.sim().process(), pool.clone());
        }
    }

    fn listen(&self) -> Result<SimListener, Fault> {
        let listener = SimListener::hang(&self.process, None);
        Ok(listener.expect("its name is new"))
    }

    fn ring(&self, bell: &Bell) {
        if self.process.lives() {
            self.process.sim().ring(&bell.0);
        }
    }
}

/// A place to be rung.
#[derive(Debug)]
pub struct SimListener {
    process: Process,
    name: String,
}

impl SimListener {
    /// Hangs up a bell of this name, or of one that is new; `None` if there is one.
    pub(super) fn hang(process: &Process, name: Option<String>) -> Option<Self> {
        Some(Self {
            name: process.sim().hang(name)?,
            process: process.clone(),
        })
    }
}

impl Listen for SimListener {
    fn bell(&self) -> Bell {
        Bell(self.name.clone())
    }

    async fn rung(&self) {
        poll_fn(|context| self.process.sim().poll_rung(&self.name, context)).await;
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.process.sim().unhang(&self.name);
    }
}
