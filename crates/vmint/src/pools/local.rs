//! This host as a backend of pools: machines of the `qemu` backend, processes, sockets and the clock.

use super::tend;
use crate::admit::Terms;
use crate::{NewMachine, Vmint};
use futures_util::FutureExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixDatagram;
use vmint_image::Silent;
use vmint_model::{
    Accelerator, Backend, Bell, ErrorKind, Fault, Force, Generation, Home, Listen, MachineId, Name,
    Now, Origin, PoolRecord, ProcessRef, Ring, World,
};
use vmint_runner::watch;
use vmint_store::bell::{self, BellSocket};
use vmint_store::{FileLock, process};

/// By how much admission's own deadline, which says what was waited for, comes before this one.
const GRACE: Duration = Duration::from_millis(20);

/// Machines on this host.
#[derive(Debug)]
pub struct LocalBackend {
    pub(super) vmint: Arc<Vmint>,
}

impl Backend for LocalBackend {
    async fn create(
        &self,
        pool: &PoolRecord,
        machine: &MachineId,
        deadline_ms: i64,
    ) -> Result<(), Fault> {
        let spec = &pool.spec;
        let new = NewMachine {
            name: None,
            image: spec.image.clone(),
            memory: spec.memory,
            cpus: spec.cpus,
            net: spec.net.clone(),
            limits: spec.limits,
            publish: Vec::new(),
            origin: Origin::Template,
            disk_cache: None,
            ephemeral: true,
            slot: Some((pool.name.clone(), machine.clone())),
            owner: None,
        };
        let left = Duration::from_millis((deadline_ms - vmint_store::steady_ms()).max(0) as u64);
        // Who waits for the machine waits no longer for the memory than for all of it.
        let terms = Terms {
            timeout: left,
            ..self.vmint.options.admission.terms
        };
        let made = self.vmint.create_running_on(new, Some(terms), &Silent);
        let made = tokio::time::timeout(left + GRACE, made).await;
        let late = |_| {
            let message = format!(
                "machine {machine} was not ready within {}",
                vmint_model::span(left)
            );
            Err(Fault::new(ErrorKind::TimedOut, message))
        };
        made.unwrap_or_else(late).map(drop)
    }

    async fn is_alive(&self, machine: &MachineId) -> bool {
        // Who cannot tell, because it has no more files to open, must not take the living for dead: they would be cleared up.
        FileLock::is_held(&self.vmint.home.machine(machine).lock()).unwrap_or(true)
    }

    async fn is_up(&self, machine: &MachineId) -> bool {
        if !self.is_alive(machine).await {
            return false;
        }
        // The same holds for a store that cannot be read at the moment.
        let Ok(record) = self.vmint.store().get(machine) else {
            return true;
        };
        let hypervisor = record.and_then(|r| r.hypervisor);
        hypervisor.is_some_and(|h| process::is_alive(&h))
    }

    async fn check(&self, machine: &MachineId, generation: Generation) -> Result<(), Fault> {
        let record = self.vmint.live(machine.as_str())?;
        let accelerator = record.accelerator.unwrap_or(Accelerator::Kvm);
        let client = self.vmint.client(&record).with_generation(generation);
        client.check(accelerator).await
    }

    async fn ring(&self, machine: &MachineId) {
        watch::tell(&self.vmint.home, [&Ring::Machine(machine.clone())]);
    }

    async fn destroy(&self, machine: &MachineId) -> Result<(), Fault> {
        match self.vmint.remove(machine.as_str(), Force::Yes).await {
            Err(fault) if fault.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// What the code of pools does in the ledger alone. The ledger of this host blocks, and so is never waited for.
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never()
        .expect("the ledger of this host answers at once")
}

/// The clock, the processes and the sockets of this host.
#[derive(Debug)]
pub struct HostWorld {
    pub(super) home: Home,
    pub(super) program: PathBuf,
}

impl World for HostWorld {
    type Listener = HostListener;

    fn now(&self) -> Now {
        vmint_store::now()
    }

    async fn sleep_until(&self, at_ms: i64) {
        let left = (at_ms - vmint_store::steady_ms()).max(0);
        tokio::time::sleep(Duration::from_millis(left as u64)).await;
    }

    fn bits(&self) -> u64 {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        u64::from_be_bytes(bytes)
    }

    fn process(&self) -> Result<ProcessRef, Fault> {
        process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))
    }

    fn lives(&self, process: &ProcessRef) -> bool {
        process::is_alive(process)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // What is dropped outside of a runtime has nobody to do it; whoever touches the pool next will.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(task);
        }
    }

    fn tend(&self, pool: &Name) {
        tend::start(&self.program, self.home.root(), pool);
    }

    fn listen(&self) -> Result<HostListener, Fault> {
        let fault = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot wait for a machine")
        };
        let bell = BellSocket::bind(&self.home).map_err(fault)?;
        let socket = bell.socket().try_clone().map_err(fault)?;
        let socket = UnixDatagram::from_std(socket).map_err(fault)?;
        Ok(HostListener { bell, socket })
    }

    fn ring(&self, bell: &Bell) {
        bell::ring(bell);
    }
}

/// A bell on this host.
#[derive(Debug)]
pub struct HostListener {
    bell: BellSocket,
    socket: UnixDatagram,
}

impl Listen for HostListener {
    fn bell(&self) -> Bell {
        self.bell.bell()
    }

    async fn rung(&self) {
        let mut byte = [0; 1];
        if self.socket.recv(&mut byte).await.is_ok() {
            while self.socket.try_recv(&mut byte).is_ok() {}
        } else {
            // A socket that cannot be read rings nobody; whoever waits looks by itself.
            std::future::pending::<()>().await;
        }
    }
}
