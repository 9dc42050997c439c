//! What this host has and lacks, and what to do about it.
//!
//! Every check says what was found in one line, and what to do in another when something is to be done. Where a claim can
//! be tried it is tried: QEMU is asked for its version, a socket is bound, a file is linked, the network guard stops a
//! call. What can hang has a deadline, and no check ends the others.
//!
//! Each check has two halves: one asks the system, the other judges the answer and is tested with answers of other
//! systems.
//!
//! * `check`: a check's result.
//! * `hypervisor`: QEMU, accelerator, confinement, network guard, the search for changed memory.
//! * `network`: what a guest's network can.
//! * `images`: where kernels and root file systems come from.
//! * `memory`: memory, swap, pressure.
//! * `files`: `VMINT_HOME`, its links, its sockets; open files; `disk`: what it is on.
//! * `ask`: programs and files of the host.

mod ask;
mod check;
mod disk;
mod files;
mod hypervisor;
mod images;
mod memory;
mod network;

pub use check::{Check, Status, worst};

use crate::config::AcceleratorChoice;
use std::path::Path;
use vmint_image::Kit;
use vmint_model::{Fault, Home};
use vmint_qemu::Host;

/// What the caller has found out already: opening what a command opens anyway is a check in itself.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Where `VMINT_HOME` is, whether or not it could be opened.
    pub root: &'a Path,
    /// The home, opened.
    pub home: Result<&'a Home, &'a Fault>,
    /// Whether the store could be opened.
    pub store: Result<(), &'a Fault>,
    /// What executes machines here, found by booting one.
    pub host: Result<&'a Host, &'a Fault>,
    /// What the settings say should execute them.
    pub accelerator: AcceleratorChoice,
    /// Parts of guests that came with vmint.
    pub kit: Option<&'a Kit>,
    /// What was left by machines that died, a line for each; cleared up by now.
    pub swept: &'a [String],
}

/// Checks everything. Always the same checks in the same order, however they end.
pub async fn doctor(input: &Input<'_>) -> Vec<Check> {
    let home = input.home.ok();
    let stored = images::stored(home).await;
    let asked = memory::Asked::now();
    let mut checks = vec![
        hypervisor::qemu().await,
        hypervisor::qemu_img().await,
        hypervisor::accelerator(input.host, input.accelerator),
        hypervisor::confinement(input.host),
        hypervisor::runner_confinement(input.host),
        hypervisor::limits(input.root),
        hypervisor::network_guard().await,
        network::ping(),
        hypervisor::changed_memory(),
        images::images(&stored),
        images::kernel(&stored, input.kit).await,
        images::busybox(&stored, input.kit).await,
        images::disks(),
        images::debian(),
        images::user_namespaces(),
        asked.memory(),
        asked.swap(),
        asked.pressure(),
        files::home(input.root, input.home),
        disk::file_system(input.root),
        disk::disk_space(input.root),
        files::hard_links(home),
        files::sockets(home),
        files::store(input.store),
        files::open_files(),
        files::stale_machines(input.swept),
    ];
    for check in &mut checks {
        check.tidy();
    }
    checks
}

#[cfg(test)]
mod tests;
