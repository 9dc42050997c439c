//! What a machine shall be, as it is asked for.

use vmint_model::spec::{check_cpus, check_memory};
use vmint_model::{
    ByteSize, DiskCache, ErrorKind, Fault, Limits, MachineId, MachineRecord, MachineSpec,
    MachineState, Name, NetMode, Origin, ProcessRef, Publish,
};
use vmint_runner::identity;
use vmint_store::process;

/// A machine to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMachine {
    /// Its name; its id when absent.
    pub name: Option<Name>,
    /// The image.
    pub image: String,
    /// Guest memory.
    pub memory: ByteSize,
    /// Virtual processors.
    pub cpus: u32,
    /// Network.
    pub net: NetMode,
    /// What it may take of its host.
    pub limits: Limits,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// Where it starts; image, memory, processors and network of a snapshot are the snapshot's.
    pub origin: Origin,
    /// What its disk keeps; by whether it stays when absent.
    pub disk_cache: Option<DiskCache>,
    /// Whether it goes away when it stops.
    pub ephemeral: bool,
    /// The pool that has reserved a slot for it, and the id that the slot is reserved for.
    pub slot: Option<(Name, MachineId)>,
    /// The process with whose end it ends.
    pub owner: Option<ProcessRef>,
}

impl NewMachine {
    /// A machine of `image` with 512 MiB, one processor and no network.
    pub fn of(image: impl Into<String>) -> Self {
        Self {
            name: None,
            image: image.into(),
            memory: ByteSize::mib(512),
            cpus: 1,
            net: NetMode::None,
            limits: Limits::default(),
            publish: Vec::new(),
            origin: Origin::Template,
            disk_cache: None,
            ephemeral: false,
            slot: None,
            owner: None,
        }
    }

    /// One that ends with this process and leaves nothing.
    pub fn ephemeral(image: impl Into<String>) -> Self {
        Self {
            ephemeral: true,
            owner: process::current().ok(),
            ..Self::of(image)
        }
    }

    pub(super) fn validate(&self) -> Result<(), Fault> {
        check_hardware(self.memory, self.cpus)?;
        if self.net == NetMode::None && !self.publish.is_empty() {
            return Err(Fault::new(
                ErrorKind::Usage,
                "a machine without a network has no ports to publish",
            )
            .hint("give it one with `--net nat` or `--net allow:DOMAIN`"));
        }
        Ok(())
    }
}

/// What no machine can have is wrong; what this host could never carry is refused.
pub(crate) fn check_hardware(memory: ByteSize, cpus: u32) -> Result<(), Fault> {
    let usage = |message| Fault::new(ErrorKind::Usage, message);
    check_memory(memory).map_err(usage)?;
    check_cpus(cpus).map_err(usage)?;
    let host = rustix::system::sysinfo();
    let host = ByteSize((host.totalram + host.totalswap) * u64::from(host.mem_unit));
    if memory > host {
        return Err(Fault::new(
            ErrorKind::Refused,
            format!("{memory} of memory is more than this host has: {host}, swap included"),
        )
        .hint("ask for less with --memory"));
    }
    Ok(())
}

/// The record of a machine that is not in the store yet.
pub(super) fn record_of(
    new: NewMachine,
    spec: MachineSpec,
    digest: String,
    state: MachineState,
) -> MachineRecord {
    let (pool, id) = match new.slot {
        Some((pool, id)) => (Some(pool), id),
        None => (None, MachineId::random()),
    };
    MachineRecord {
        image_digest: Some(digest),
        ephemeral: new.ephemeral,
        pool,
        owner: new.owner,
        ..MachineRecord::new(
            id.clone(),
            new.name.unwrap_or_else(|| identity::default_name(&id)),
            state,
            spec,
        )
    }
}
