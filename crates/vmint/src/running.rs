//! What a machine that runs is asked for, through its runner: pause, reset, QMP, a sign of life. And waiting for a state.

use crate::Vmint;
use std::time::Duration;
use tokio::time::Instant;
use vmint_model::{ErrorKind, Fault, MachineRecord, MachineState};
use vmint_runner::api;
use vmint_store::FileLock;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// A command can be executed.
    Ready,
    /// It is down.
    Stopped,
}

impl Vmint {
    /// How often a machine's allow list has allowed and refused something; `None` without a list.
    pub fn network_totals(&self, record: &MachineRecord) -> Option<vmint_qemu::egress::Totals> {
        record.spec.net.allowed()?;
        let log = self.home().machine(&record.id).network_log();
        let end = vmint_qemu::log::tail(&log);
        Some(vmint_qemu::egress::Totals::of_log(&end))
    }

    /// Halts a machine's processors.
    pub async fn pause(&self, name: &str) -> Result<(), Fault> {
        let (record, client) = self.reach(name)?;
        let paused = client.pause().await;
        paused.map_err(|fault| self.explain(&record, fault))
    }

    /// Lets them go on.
    pub async fn resume(&self, name: &str) -> Result<(), Fault> {
        let (record, client) = self.reach(name)?;
        let resumed = client.resume().await;
        resumed.map_err(|fault| self.explain(&record, fault))
    }

    /// A fork anew in the place of the machine; everything in it is gone.
    pub async fn reset(&self, name: &str) -> Result<MachineRecord, Fault> {
        self.reset_from(
            name,
            api::Reset {
                from: None,
                snapshot: None,
            },
        )
        .await
    }

    pub(crate) async fn reset_from(
        &self,
        name: &str,
        reset: api::Reset,
    ) -> Result<MachineRecord, Fault> {
        let (record, client) = self.reach(name)?;
        let answer = client.reset(&reset).await;
        answer.map_err(|fault| self.explain(&record, fault))
    }

    /// Executes a QMP command.
    pub async fn qmp(
        &self,
        name: &str,
        command: &str,
        arguments: serde_json::Value,
    ) -> Result<serde_json::Value, Fault> {
        let (record, client) = self.reach(name)?;
        let body = api::Qmp {
            command: command.to_owned(),
            arguments,
        };
        client
            .qmp(&body)
            .await
            .map_err(|fault| self.explain(&record, fault))
    }

    /// Whether a machine's runner answers.
    pub async fn ping(&self, name: &str) -> Result<api::Pong, Fault> {
        let record = self.live(name)?;
        self.client(&record)
            .ping()
            .await
            .map_err(|fault| self.explain(&record, fault))
    }

    /// Makes of a connection's failure what it means for the machine.
    pub(crate) fn explain(&self, record: &MachineRecord, fault: Fault) -> Fault {
        if !matches!(fault.kind, ErrorKind::Runner | ErrorKind::MachineLost) {
            return fault;
        }
        let dir = self.home.machine(&record.id);
        if fault.kind == ErrorKind::Runner && FileLock::is_held(&dir.lock()).unwrap_or(false) {
            let name = &record.name;
            let message = format!(
                "the runner of machine {name} lives, but cannot be reached: {}",
                fault.message
            );
            return Fault::new(ErrorKind::Runner, message)
                .hint(format!("vmint stop {name} reaches it through the store"));
        }
        let _ = self.sweep_one(record);
        let ended = self
            .store()
            .get(&record.id)
            .ok()
            .flatten()
            .and_then(|r| r.reason);
        let why = ended.unwrap_or_else(|| fault.message.clone());
        Fault::new(
            ErrorKind::MachineLost,
            format!("machine {} was lost: {why}", record.name),
        )
    }

    /// Waits for a state.
    pub async fn wait(
        &self,
        name: &str,
        wanted: WaitFor,
        timeout: Duration,
    ) -> Result<MachineRecord, Fault> {
        let (end, mut pause) = (Instant::now() + timeout, Duration::from_millis(5));
        let id = self.machine(name)?.id;
        loop {
            self.sweep()?;
            let record = self.machine(id.as_str())?;
            let reached = match wanted {
                WaitFor::Ready => record.state == MachineState::Running,
                WaitFor::Stopped => !record.state.has_runner(),
            };
            if reached {
                return Ok(record);
            }
            if Instant::now() >= end {
                let what = if wanted == WaitFor::Ready {
                    "ready"
                } else {
                    "stopped"
                };
                let message = format!(
                    "machine {name} was not {what} within {}; it is {}",
                    vmint_model::span(timeout),
                    record.state
                );
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            // The store has no events across processes; this asks ever less often.
            tokio::time::sleep(pause.min(end - Instant::now())).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }
}
