//! What was left by those that died. Every command looks, before it does anything else.
//!
//! A machine whose record says that it has a runner, and whose lock is free, has none: the runner died with `SIGKILL`,
//! or the host was rebooted. Its hypervisor died with it; that is made sure of. Machines that go away with their
//! owner go away now; the others are recorded as failed, with the reason. Runs of workflows whose process is gone are
//! recorded as abandoned. What the database does not know is [`strays`](crate::strays)' business.

use crate::Vmint;
use crate::folders::{NEW_FOLDER, remove_folder};
use std::collections::HashSet;
use vmint_model::{Cause, Fault, MachineRecord, MachineState, Name};
use vmint_runner::belongs;
use vmint_runner::salvage::{Salvaged, salvage};
use vmint_store::ledger::leases::CONSOLE;
use vmint_store::{FileLock, MachineFilter, Moment, process};

/// Something that was found dead, and cleared up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: Name,
    /// What was found and done.
    pub message: String,
}

impl Vmint {
    /// Looks for what was left, and clears it up. Looking costs a few microseconds for each machine.
    pub fn sweep(&self) -> Result<Vec<Found>, Fault> {
        let mut found = self.adopted();
        let all = self.store().list(MachineFilter::All)?;
        for record in &all {
            let unfinished = record.state.has_runner()
                || record.state == MachineState::Removing
                || record.ephemeral;
            if unfinished && let Some(one) = self.sweep_one(record)? {
                found.push(one);
            }
        }
        found.extend(self.sweep_folders(&all));
        self.sweep_slots(&all)?;
        found.extend(self.sweep_snapshots()?);
        found.extend(self.sweep_runs()?);
        self.sweep_lost_snapshots()?;
        Ok(found)
    }

    /// Removes a machine whose processes are gone, and whose lock nobody has, without asking a runner: for a caller that is about to end
    /// itself.
    pub fn put_away(&self, record: &MachineRecord) -> Result<(), Fault> {
        self.sweep_one(record)?;
        // A function of its own, so that the store is free again.
        match self.current(record)? {
            Some(record) => self.erase(&record, Cause::Requested),
            None => Ok(()),
        }
    }

    fn current(&self, record: &MachineRecord) -> Result<Option<MachineRecord>, Fault> {
        Ok(self.store().get(&record.id)?)
    }

    /// Clears up one machine if its lock is free.
    pub(crate) fn sweep_one(&self, record: &MachineRecord) -> Result<Option<Found>, Fault> {
        let dir = self.home.machine(&record.id);
        let lock = if dir.path().exists() {
            match FileLock::try_acquire(&dir.lock()) {
                Ok(Some(lock)) => Some(lock),
                Ok(None) => return Ok(None),
                Err(e) if !dir.path().exists() => {
                    tracing::debug!("{e}");
                    None
                }
                Err(e) => return Err(Fault::from(e)),
            }
        } else {
            None
        };
        // Under the lock, the record is what it is; it may have changed since it was listed.
        let Some(record) = self.store().get(&record.id)? else {
            return Ok(None);
        };
        belongs::kill_left_over(&self.home, &record);
        let _ = std::fs::remove_file(dir.socket());
        if record.spec.limits.need_group() {
            vmint_confine::group::remove(&belongs::group_name(&dir));
        }
        let found = if record.state == MachineState::Removing
            || record.ephemeral
            || lock.is_none() && record.state.has_runner()
        {
            self.sweep_away(&record)?
        } else if record.state.has_runner() {
            Some(self.sweep_failed(&record)?)
        } else {
            None
        };
        drop(lock);
        Ok(found)
    }

    fn sweep_failed(&self, record: &MachineRecord) -> Result<Found, Fault> {
        let (cause, why) = why(record);
        let changed = self.store().transition(
            &record.id,
            None,
            MachineState::Failed,
            cause,
            Some(&why),
            |r| {
                r.runner = None;
                r.hypervisor = None;
                r.confinement = None;
                r.runner_confinement = None;
                r.run_as = None;
                r.addresses = Vec::new();
                r.ports = Vec::new();
                r.reason = Some(why.clone());
            },
        );
        changed?;
        let message = format!("machine {} has failed: {why}", record.name);
        Ok(Found {
            name: record.name.clone(),
            message,
        })
    }

    fn sweep_away(&self, record: &MachineRecord) -> Result<Option<Found>, Fault> {
        let (cause, why) = why(record);
        let had_runner = record.state.has_runner();
        if had_runner {
            let failed = MachineState::Failed;
            self.store()
                .transition(&record.id, None, failed, cause, Some(&why), |r| {
                    r.reason = Some(why.clone());
                })?;
        }
        self.erase(record, cause)?;
        Ok(had_runner.then(|| {
            let message = format!(
                "machine {} was left by a command that is gone, and is removed: {why}",
                record.name
            );
            Found {
                name: record.name.clone(),
                message,
            }
        }))
    }

    /// Removes folder and record of a machine without a runner. The folder goes first, so that what fails is tried
    /// again.
    pub(crate) fn erase(&self, record: &MachineRecord, cause: Cause) -> Result<(), Fault> {
        let dir = self.home.machine(&record.id);
        if record.state != MachineState::Removing {
            let salvaged = salvage(&mut self.store(), &dir, record, cause);
            if let Salvaged::Kept(name, rings) = salvaged {
                self.ring(rings);
                tracing::info!("what is left of machine {} is kept as {name}", record.name);
                return Ok(());
            }
            let to = MachineState::Removing;
            self.store()
                .transition(&record.id, None, to, cause, None, |_| {})?;
        }
        let _ = std::fs::remove_file(dir.socket());
        if record.pool.is_some() {
            let console = vmint_qemu::log::last(&dir.console_log(), CONSOLE);
            self.store().leave_console(&record.id, &console)?;
        }
        remove_folder(dir.path())?;
        if record.pool.is_some() {
            let why = self
                .store()
                .get(&record.id)
                .ok()
                .flatten()
                .and_then(|r| r.reason);
            let now = vmint_store::now();
            let rings = self.store().slot_gone(&record.id, why.as_deref(), now)?;
            self.ring(rings);
        }
        match self.store().delete(&record.id, cause) {
            Ok(_) | Err(vmint_store::StoreError::NoMachine { .. }) => Ok(()),
            Err(e) => Err(Fault::from(e)),
        }
    }

    /// Slots of machines that do not exist and that nobody alive makes; and those who wait in line, or are dead in it.
    fn sweep_slots(&self, known: &[MachineRecord]) -> Result<(), Fault> {
        let slots = self.store().slots(None)?;
        for slot in &slots {
            let maker_lives = slot.maker.as_ref().is_some_and(process::is_alive);
            if maker_lives || known.iter().any(|r| r.id == slot.machine) {
                continue;
            }
            // It may have come into being since the machines were listed, or be on its way without a record.
            let now = self.store().get(&slot.machine)?;
            if now.is_none()
                && !FileLock::is_held(&self.home.machine(&slot.machine).lock()).unwrap_or(false)
            {
                let why = Some("the process that created it died");
                let rings = self
                    .store()
                    .slot_gone(&slot.machine, why, vmint_store::now())?;
                self.ring(rings);
            }
        }
        let rings = self.store().tidy(Moment::now())?;
        self.ring(rings);
        if !slots.is_empty() {
            vmint_store::bell::sweep(self.home.runtime());
        }
        Ok(())
    }

    /// Folders without a record, and those that were never finished.
    fn sweep_folders(&self, known: &[MachineRecord]) -> Vec<Found> {
        let known: HashSet<&str> = known.iter().map(|r| r.id.as_str()).collect();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.home.machines())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(rest) = name.strip_prefix(NEW_FOLDER) {
                // It holds nothing but a lock.
                let pid = rest.rsplit('-').next().and_then(|pid| pid.parse().ok());
                if pid.is_some_and(|pid| matches!(process::of(pid), Ok(None))) {
                    let _ = remove_folder(&entry.path());
                }
            } else if !known.contains(name)
                && let Ok(id) = name.parse()
            {
                // One folder that cannot be settled is left as it is, and keeps no command from its work.
                match self.settle_machine(&id) {
                    Ok(settled) => found.extend(settled),
                    Err(e) => tracing::warn!("{e}"),
                }
            }
        }
        found
    }
}

fn why(record: &MachineRecord) -> (Cause, String) {
    let recorded = record.runner.as_ref().or(record.hypervisor.as_ref());
    let rebooted = recorded.is_some_and(|p| process::boot_id().is_ok_and(|now| now != p.boot_id));
    if rebooted {
        return (
            Cause::HostRebooted,
            "the host was rebooted while it was up".into(),
        );
    }
    let pid = record
        .runner
        .as_ref()
        .map(|r| format!(" (process {})", r.pid))
        .unwrap_or_default();
    (
        Cause::RunnerDied,
        format!("its runner{pid} died unexpectedly, and its hypervisor with it"),
    )
}
