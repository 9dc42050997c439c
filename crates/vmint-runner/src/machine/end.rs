//! How a machine ends, and what is left of it: nothing, or what it was and why it is not up any more.
//!
//! Invariants:
//! * QEMU is gone before the store says that the machine is down.
//! * The folder goes before the record, so that a failure is tried again by the next command.

use super::fork::Fork;
use super::stop::{Ending, Patience, Stop, Stops};
use super::{Ask, Asked, Machine};
use crate::bringup::{End, Live};
use crate::policy::{self, Question, Refusal, Standing, Tenure, Verdict};
use crate::salvage::{Salvaged, salvage};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vmint_model::{Cause, ErrorKind, Fault, MachineState};
use vmint_protocol::Request;
use vmint_protocol::host::Breach;
use vmint_qemu::{Exit, Notice};
use vmint_store::ledger::leases::CONSOLE as LEAVE;

/// What the reason of a machine ends with whose guest was given no more time.
pub const FORCED: &str = "and was forced";

/// How long a guest may take to answer that it will shut down. It takes longer to do it.
const ANSWER: Duration = Duration::from_secs(60);

/// How the loop ended, and what is still to do.
pub(super) enum Over {
    /// The machine is down; this is why.
    Down {
        cause: Cause,
        to: MachineState,
        reason: Option<String>,
        remove: bool,
        forced: Forced,
    },
    /// Its folder is gone, or the record of one that goes with its owner.
    Deleted,
}

impl Over {
    /// Whether its power was cut.
    pub(super) fn is_forced(&self) -> bool {
        matches!(
            self,
            Self::Down {
                forced: Forced::Yes,
                ..
            }
        )
    }
}

/// Whether a machine's power was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forced {
    Yes,
    No,
}

/// How a guest that was asked to shut down came to its end.
enum Went {
    /// By itself.
    Down,
    /// It was given no more time; so much it had.
    Late(Duration),
    /// Somebody would not wait any longer.
    Cut,
}

impl Machine {
    /// Asks the guest to shut down, and ends it when it does not in time. While it waits, another stop may force it.
    pub(super) async fn stop(
        &mut self,
        stop: Stop,
        cause: Cause,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
    ) -> Over {
        let mut remove = stop.remove || self.record.ephemeral;
        let mut reason = None;
        let Fork { mut live, .. } = *self.fork.take().expect("served while it is up");
        let went = if let Ending::AtOnce = stop.end {
            if cause == Cause::OwnerEnded {
                reason = Some("its owner ended".to_owned());
            }
            Went::Cut
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
            self.shut_down(&mut live, stop.end, asks, answers, &mut remove)
                .await
        };
        if let Went::Late(limit) = went {
            reason = Some(format!(
                "the guest did not shut down within {limit:?} {FORCED}"
            ));
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
            forced: match went {
                Went::Down => Forced::No,
                Went::Late(_) | Went::Cut => Forced::Yes,
            },
        }
    }

    /// Waits until the guest has shut itself down, or is not to be waited for any longer.
    async fn shut_down(
        &mut self,
        live: &mut Live,
        end: Ending,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
        remove: &mut bool,
    ) -> Went {
        let mut patience = Patience::of(end, Instant::now());
        // A guest that stands still cannot shut down.
        let _ = live.hypervisor.resume().await;
        let session = live.session.clone();
        let request = tokio::spawn(async move {
            // It answers, or its end is the answer: there is nothing to do about it here.
            let _ = session
                .call(Request::Shutdown, "shut down", ANSWER)
                .await
                .inspect_err(|e| tracing::info!("the guest was asked to shut down: {e}"));
        });
        let went = loop {
            let next = patience.until().into_iter().chain(answers.next()).min();
            let time = async {
                match next {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => {
                    if let Some(limit) = patience.spent(Instant::now()) {
                        break Went::Late(limit);
                    }
                    answers.give_up(self.record.name.as_str());
                }
                notice = live.hypervisor.notice() => match notice {
                    Ok(Notice::Event(event)) => self.story.note(&event),
                    Ok(Notice::Exited(_)) => break Went::Down,
                    Err(_) => break Went::Cut,
                },
                Some(asked) = asks.recv() => match self.while_stopping(asked) {
                    Some(Ask::Stop(stop, answer)) => {
                        answers.wait(answer);
                        *remove |= stop.remove;
                        if stop.force {
                            break Went::Cut;
                        }
                        patience.shorten(Duration::from_millis(stop.timeout_ms), Instant::now());
                    }
                    Some(Ask::Shutdown(shutdown, answer)) => {
                        answers.wait_until(shutdown.timeout_ms, answer);
                    }
                    _ => {}
                },
            }
        };
        request.abort();
        went
    }

    /// What is still served of a machine that is being stopped; the rest is refused.
    fn while_stopping(&self, Asked { meant, ask, .. }: Asked) -> Option<Ask> {
        // The record may say otherwise, where the store could not be written.
        let standing = Standing {
            state: MachineState::Stopping,
            ..Standing::of(&self.record)
        };
        // Whoever has it, it goes.
        let verb = ask.verb(|| Ok(Tenure::Own)).ok()?;
        match policy::decide(standing, Question { verb, meant }) {
            Verdict::Serve => return Some(ask),
            Verdict::Refuse(refusal) => ask.refuse(refusal.fault(&self.record)),
            Verdict::Done | Verdict::Wait => {
                let state = standing.state;
                ask.refuse(Refusal::State { verb, state }.fault(&self.record));
            }
        }
        None
    }

    pub(super) fn exited(&self, exit: &Exit) -> Over {
        let fork = self.fork.as_ref().expect("served while it is up");
        let console = fork.files.console();
        let told = self.story.tell(exit, &console);
        let (cause, to) = match End::of(exit) {
            End::Shutdown | End::Reboot => (Cause::GuestShutdown, MachineState::Stopped),
            End::Panic => (Cause::GuestPanicked, MachineState::Failed),
            End::Killed => (Cause::HypervisorDied, MachineState::Failed),
            End::Ended => (Cause::HypervisorEnded, MachineState::Failed),
        };
        Over::Down {
            cause,
            to,
            reason: Some(told),
            remove: self.record.ephemeral,
            forced: Forced::No,
        }
    }

    pub(super) fn died(&self, reason: String) -> Over {
        let (cause, to) = (Cause::Fault, MachineState::Failed);
        Over::Down {
            cause,
            to,
            reason: Some(reason),
            remove: self.record.ephemeral,
            forced: Forced::No,
        }
    }

    /// The guest broke the protocol.
    pub(super) fn broken(&self, breach: &Breach) -> Over {
        Over::Down {
            cause: Cause::ProtocolBroken,
            to: MachineState::Failed,
            reason: Some(format!("the guest broke the protocol: it {breach}")),
            remove: self.record.ephemeral,
            forced: Forced::No,
        }
    }

    /// The guest has told of panics without end.
    pub(super) fn flooded(&self) -> Over {
        Over::Down {
            cause: Cause::ProtocolBroken,
            to: MachineState::Failed,
            reason: Some("the guest told of panics without end".into()),
            remove: self.record.ephemeral,
            forced: Forced::No,
        }
    }

    /// Records that bringing the machine up failed, and leaves nothing behind.
    pub async fn fail(mut self, fault: &Fault) {
        let reason = Some(fault.message.clone());
        let remove = self.record.ephemeral;
        let (cause, to) = match fault.kind {
            ErrorKind::PoolClosed => (Cause::Requested, MachineState::Stopped),
            // By its own guest, before it was ready.
            ErrorKind::Image => (Cause::GuestPanicked, MachineState::Failed),
            ErrorKind::MachineLost => (Cause::HypervisorEnded, MachineState::Failed),
            _ => (Cause::Fault, MachineState::Failed),
        };
        self.finish(Over::Down {
            cause,
            to,
            reason,
            remove,
            forced: Forced::No,
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
            ..
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
            remove_folder = remove && !self.is_kept(cause);
            if remove_folder {
                let to = MachineState::Removing;
                let _ = self
                    .store
                    .transition(&self.record.id, None, to, cause, None, |_| {});
            }
        }
        self.view.set(self.record.clone(), None);
        let _ = std::fs::remove_file(self.dir.socket());
        if remove_folder {
            if self.record.pool.is_some() {
                let console = vmint_qemu::log::last(&self.dir.console_log(), LEAVE);
                if let Err(e) = self.store.leave_console(&self.record.id, &console) {
                    tracing::warn!("its console is not kept for its lease: {e}");
                }
            }
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

    /// Whether what is left of the machine stays, as its lease's holder has asked.
    fn is_kept(&mut self, cause: Cause) -> bool {
        match salvage(&mut self.store, &self.dir, &self.record, cause) {
            Salvaged::Kept(name, rings) => {
                self.ring(&rings);
                tracing::info!(
                    "what is left of machine {} is kept as {name}",
                    self.record.name
                );
                true
            }
            Salvaged::Nothing => false,
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
