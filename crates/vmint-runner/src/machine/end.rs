//! How a machine ends, and what is left of it: nothing, or what it was and why it is not up any more.
//!
//! Invariants:
//! * QEMU is gone before the store says that the machine is down.
//! * The folder goes before the record, so that a failure is tried again by the next command.

use super::fork::Fork;
use super::{Ask, Asked, Machine, Stops};
use crate::api;
use crate::bringup::{End, Live};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vmint_model::{Cause, ErrorKind, Fault, MachineState};
use vmint_protocol::Request;
use vmint_protocol::host::Breach;
use vmint_qemu::{Exit, Notice};

/// How the loop ended, and what is still to do.
pub(super) enum Over {
    /// The machine is down; this is why.
    Down {
        cause: Cause,
        to: MachineState,
        reason: Option<String>,
        remove: bool,
    },
    /// Its folder is gone, or the record of one that goes with its owner.
    Deleted,
}

impl Machine {
    /// Asks the guest to shut down, and ends it when it does not in time. While it waits, another stop may force it.
    pub(super) async fn stop(
        &mut self,
        stop: api::Stop,
        cause: Cause,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
    ) -> Over {
        let mut remove = stop.remove || self.record.ephemeral;
        let mut reason = None;
        let Fork { mut live, .. } = *self.fork.take().expect("served while it is up");
        if stop.force {
            if cause == Cause::OwnerEnded {
                reason = Some("its owner ended".to_owned());
            }
        } else {
            let changed = self.store.transition(
                &self.record.id,
                None,
                MachineState::Stopping,
                cause,
                None,
                |_| {},
            );
            match changed {
                Ok(record) => self.record = record,
                Err(e) => tracing::warn!("the store cannot be written: {e}"),
            }
            self.view.set(self.record.clone(), None);
            let timeout = Duration::from_millis(stop.timeout_ms);
            if !self
                .shut_down(&mut live, timeout, asks, answers, &mut remove)
                .await
            {
                reason = Some(format!(
                    "the guest did not shut down within {timeout:?} and was forced"
                ));
            }
        }
        self.view.set(self.record.clone(), None);
        if let Err(e) = live.hypervisor.kill().await {
            tracing::warn!("cannot kill QEMU: {e}");
        }
        Over::Down {
            cause,
            to: MachineState::Stopped,
            reason,
            remove,
        }
    }

    /// Returns whether the guest shut itself down in time, or a force made that moot.
    async fn shut_down(
        &mut self,
        live: &mut Live,
        timeout: Duration,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
        remove: &mut bool,
    ) -> bool {
        let end = Instant::now() + timeout;
        // A guest that stands still cannot shut down.
        let _ = live.hypervisor.resume().await;
        let session = live.session.clone();
        let request =
            tokio::spawn(
                async move { session.call(Request::Shutdown, "shut down", timeout).await },
            );
        let down = loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => break false,
                notice = live.hypervisor.notice() => match notice {
                    Ok(Notice::Event(event)) => self.story.note(event),
                    Ok(Notice::Exited(_)) => break true,
                    Err(_) => break false,
                },
                Some(asked) = asks.recv() => match asked.ask {
                    Ask::Stop(stop, answer) if asked.meant.is_none_or(|g| g == self.record.generation) => {
                        answers.push(answer);
                        *remove |= stop.remove;
                        if stop.force {
                            break true;
                        }
                    }
                    other => {
                        let message = format!("machine {} is being stopped", self.record.name);
                        other.refuse(Fault::new(ErrorKind::WrongState, message));
                    }
                },
            }
        };
        request.abort();
        down
    }

    pub(super) fn exited(&self, exit: &Exit) -> Over {
        let fork = self.fork.as_ref().expect("served while it is up");
        let console = fork.files.console();
        let told = self.story.tell(exit, &console);
        let (cause, to) = match self.story.end(exit, &console) {
            End::Shutdown | End::Reboot => (Cause::GuestShutdown, MachineState::Stopped),
            End::Panic => (Cause::GuestPanicked, MachineState::Failed),
            End::Died => (Cause::HypervisorDied, MachineState::Failed),
        };
        Over::Down {
            cause,
            to,
            reason: Some(told),
            remove: self.record.ephemeral,
        }
    }

    pub(super) fn died(&self, reason: String) -> Over {
        let (cause, to) = (Cause::Fault, MachineState::Failed);
        Over::Down {
            cause,
            to,
            reason: Some(reason),
            remove: self.record.ephemeral,
        }
    }

    /// The guest broke the protocol.
    pub(super) fn broken(&self, breach: &Breach) -> Over {
        Over::Down {
            cause: Cause::ProtocolBroken,
            to: MachineState::Failed,
            reason: Some(format!("the guest broke the protocol: it {breach}")),
            remove: self.record.ephemeral,
        }
    }

    /// Records that bringing the machine up failed, and leaves nothing behind.
    pub async fn fail(mut self, fault: &Fault) {
        let reason = Some(fault.message.clone());
        let remove = self.record.ephemeral;
        let (cause, to) = match fault.kind {
            ErrorKind::PoolClosed => (Cause::Requested, MachineState::Stopped),
            _ => (Cause::Fault, MachineState::Failed),
        };
        self.finish(Over::Down {
            cause,
            to,
            reason,
            remove,
        })
        .await;
    }

    pub(super) async fn finish(&mut self, over: Over) {
        // QEMU first: whoever reads “stopped” may rely on it.
        if let Some(fork) = self.fork.take() {
            let _ = fork.live.hypervisor.kill().await;
        }
        let standby = self.standby.end();
        if self.ground.has_moved {
            // It is killed when it is dropped. Its files are where the folder is now, and by their old path there may be
            // those of another home.
            drop(standby);
        } else {
            self.clear_away(standby);
        }
        while self.clearing.join_next().await.is_some() {}
        if let Some(group) = self.plan.group() {
            group.end();
        }
        let mut remove_folder = true;
        let mut why = None;
        if let Over::Down {
            cause,
            to,
            reason,
            remove,
        } = over
        {
            why = Some(reason.clone().unwrap_or_else(|| "it was stopped".into()));
            let reason = reason.as_deref();
            let mut recorded = self.record_end(to, cause, reason);
            if recorded.is_err() {
                // The store may be on a disk that is full.
                self.reserve.give_up();
                recorded = self.record_end(to, cause, reason);
            }
            if let Err(e) = recorded {
                tracing::error!("the machine's end could not be recorded: {e}");
            }
            remove_folder = remove;
            if remove {
                let to = MachineState::Removing;
                let _ = self
                    .store
                    .transition(&self.record.id, None, to, cause, None, |_| {});
            }
        }
        self.view.set(self.record.clone(), None);
        let _ = std::fs::remove_file(self.dir.socket());
        if remove_folder {
            // The folder goes before the record, so that a failure is tried again by the next command.
            vmint_qemu::frozen::release(self.dir.path());
            if let Err(e) = vmint_store::remove_folder(self.dir.path()) {
                tracing::error!("cannot remove {}: {e}", self.dir.path().display());
                return;
            }
            self.leave_pool(why.as_deref());
            let _ = self.store.delete(&self.record.id, Cause::Completed);
        }
    }

    fn record_end(
        &mut self,
        to: MachineState,
        cause: Cause,
        reason: Option<&str>,
    ) -> Result<(), vmint_store::StoreError> {
        let changed = self
            .store
            .transition(&self.record.id, None, to, cause, reason, |r| {
                r.runner = None;
                r.hypervisor = None;
                r.confinement = None;
                r.runner_confinement = None;
                r.run_as = None;
                r.addresses = Vec::new();
                r.ports = Vec::new();
                r.reason = reason.map(str::to_owned);
            });
        changed.map(drop)
    }
}
