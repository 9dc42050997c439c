//! How machines end: stop, restart, remove. By their runners where those can be reached, else by the store.

use crate::Vmint;
use crate::folders::{SHORT, remove_folder, try_lock};
use crate::reach::Reach;
use std::time::Duration;
use tokio::time::Instant;
use vmint_image::Progress;
use vmint_model::{
    Cause, ErrorKind, Fault, Force, Generation, MachineDir, MachineId, MachineRecord, MachineState,
};
use vmint_runner::machine::FORCED;
use vmint_runner::{api, watch};
use vmint_store::{FileLock, StopRequest};

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOptions {
    /// What the guest is given.
    pub how: StopHow,
    /// How long it has.
    pub timeout: Duration,
}

/// What a guest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    /// It is asked to shut down, and forced when its time is over.
    Ask,
    /// It is asked to shut down, and never forced.
    AskOnly,
    /// Nothing: its power is cut at once.
    Force,
}

/// How long systemd gives its services, unless an image says otherwise.
const LIKE_SYSTEMD: Duration = Duration::from_secs(90);

impl Default for StopOptions {
    fn default() -> Self {
        Self {
            how: StopHow::Ask,
            timeout: LIKE_SYSTEMD,
        }
    }
}

/// A machine that is down.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    /// The machine.
    pub machine: MachineRecord,
    /// Whether its power was cut: at once, or because the guest had not shut down in time.
    pub forced: bool,
}

impl Vmint {
    /// Stops a machine. One that is down is left as it is.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::Guest`] if it was only to be asked, and was not down in time; it may still come to that.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<Stopped, Fault> {
        let reach = self.serving(name)?;
        if !reach.record.state.has_runner() {
            return Ok(Stopped {
                machine: reach.record,
                forced: false,
            });
        }
        let forced = self.stop_running(&reach, options, Fate::Stays).await?;
        let record = reach.record;
        self.wake_admissions();
        let machine = match self.machine(record.id.as_str()) {
            // A machine that goes away when it stops has gone.
            Err(fault) if fault.kind == ErrorKind::NotFound => MachineRecord {
                state: MachineState::Stopped,
                ..record
            },
            other => other?,
        };
        Ok(Stopped { machine, forced })
    }

    /// Returns whether it was forced.
    async fn stop_running(
        &self,
        Reach { record, generation }: &Reach,
        options: StopOptions,
        fate: Fate,
    ) -> Result<bool, Fault> {
        let timeout_ms = options.timeout.as_millis() as u64;
        let before = self.store().last_sequence()?;
        let client = match generation {
            Some(generation) => self.client(record).with_generation(*generation),
            None => self.client(record),
        };
        let answer = if options.how == StopHow::AskOnly {
            let shutdown = api::Shutdown { timeout_ms };
            client.shutdown(&shutdown).await
        } else {
            let stop = api::Stop {
                force: options.how == StopHow::Force,
                timeout_ms,
                remove: fate == Fate::Goes,
            };
            client.stop(&stop).await
        };
        match answer {
            Ok(stopped) => Ok(stopped.forced),
            // A word left in the store names no generation: by the time that it is read it could be another lease's. And it
            // forces in the end.
            Err(fault) if generation.is_some() || options.how == StopHow::AskOnly => {
                Err(self.explain(record, fault))
            }
            Err(fault) if matches!(fault.kind, ErrorKind::Runner | ErrorKind::MachineLost) => {
                self.stop_by_store(record, options, before).await?;
                let now = self.store().get(&record.id)?;
                let reason = now.and_then(|record| record.reason).unwrap_or_default();
                Ok(options.how == StopHow::Force || reason.ends_with(FORCED))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Leaves word in the store for a runner that cannot be reached, and waits until it lets go of the lock, or until
    /// the machine has been down since the event `before`.
    async fn stop_by_store(
        &self,
        record: &MachineRecord,
        options: StopOptions,
        before: i64,
    ) -> Result<(), Fault> {
        let dir = self.home.machine(&record.id);
        let deadline_ms = vmint_store::steady_ms() + options.timeout.as_millis() as i64;
        let request = StopRequest {
            force: options.how == StopHow::Force,
            deadline_ms,
        };
        match self.store().request_stop(&record.id, request) {
            Ok(_) | Err(vmint_store::StoreError::NoMachine { .. }) => {}
            Err(e) => return Err(Fault::from(e)),
        }
        // Without a doorbell it looks by itself, within a second.
        let _ = watch::ring(&dir);
        let was_down = || {
            let events = self.store().events(before, usize::MAX);
            events.is_ok_and(|all| all.iter().any(|e| e.machine == record.id && e.is_end()))
        };
        self.wait_until_free(&dir, options.timeout + SHORT, was_down)
            .await?;
        self.sweep_one(record).map(drop)
    }

    /// Waits until no runner holds the machine's lock.
    pub(crate) async fn wait_unlocked(
        &self,
        dir: &MachineDir,
        timeout: Duration,
    ) -> Result<(), Fault> {
        self.wait_until_free(dir, timeout, || false).await
    }

    /// The same, but not for the runner of another command that has started the machine anew: that is `other`'s to
    /// tell.
    async fn wait_until_free(
        &self,
        dir: &MachineDir,
        timeout: Duration,
        other: impl Fn() -> bool,
    ) -> Result<(), Fault> {
        let (end, mut pause) = (Instant::now() + timeout, Duration::from_millis(1));
        while FileLock::is_held(&dir.lock()).unwrap_or(false) && !other() {
            if Instant::now() > end {
                let message = format!(
                    "the runner did not end within {}, and cannot be reached",
                    vmint_model::span(timeout)
                );
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Stops and starts a machine.
    pub async fn restart(
        &self,
        name: &str,
        options: StopOptions,
        progress: &dyn Progress,
    ) -> Result<MachineRecord, Fault> {
        self.stop(name, options).await?;
        // Waits for the lock, if the old runner has it still.
        self.start(name, progress).await
    }

    /// Removes a machine; one that is up, or that another holds, only by force.
    pub async fn remove(&self, name: &str, force: Force) -> Result<(), Fault> {
        let (id, generation) = if force == Force::Yes {
            (self.machine(name)?.id, None)
        } else {
            let Reach { record, generation } = self.serving(name)?;
            (record.id, generation)
        };
        let end = Instant::now() + SHORT;
        loop {
            match self.remove_once(&id, generation, force).await {
                // Another command has started it since it was stopped.
                Err(fault)
                    if force == Force::Yes
                        && fault.kind == ErrorKind::WrongState
                        && Instant::now() < end => {}
                // Another command was faster.
                Err(fault) if force == Force::Yes && fault.kind == ErrorKind::NotFound => {
                    return Ok(());
                }
                other => {
                    self.wake_admissions();
                    return other;
                }
            }
        }
    }

    async fn remove_once(
        &self,
        id: &MachineId,
        generation: Option<Generation>,
        force: Force,
    ) -> Result<(), Fault> {
        let record = self.machine(id.as_str())?;
        let dir = self.home.machine(&record.id);
        if record.state.has_runner() {
            if force == Force::No && !record.ephemeral {
                let message = format!("machine {} is {}", record.name, record.state);
                return Err(Fault::new(ErrorKind::WrongState, message)
                    .hint("stop it first, or use --force"));
            }
            let options = StopOptions {
                how: StopHow::Force,
                timeout: Duration::ZERO,
            };
            let reach = Reach { record, generation };
            self.stop_running(&reach, options, Fate::Goes).await?;
        }
        // The runner has removed it, unless it could not be reached.
        let Some(record) = self.store().get(id)? else {
            return Ok(());
        };
        let restarted = || {
            let now = self.store().get(&record.id);
            now.is_ok_and(|record| record.is_some_and(|record| record.state.has_runner()))
        };
        self.wait_until_free(&dir, SHORT, restarted).await?;
        if !dir.path().exists() {
            return self.erase(&record, Cause::Requested);
        }
        let lock = try_lock(&dir)?;
        let Some(record) = self.store().get(&record.id)? else {
            drop(lock);
            return remove_folder(dir.path());
        };
        if lock.is_none() || record.state.has_runner() {
            let message = format!(
                "machine {} is being started by another command",
                record.name
            );
            return Err(Fault::new(ErrorKind::WrongState, message));
        }
        self.erase(&record, Cause::Requested)
    }
}

/// What becomes of a machine that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It can be started again.
    Stays,
    /// Nothing of it is left.
    Goes,
}
