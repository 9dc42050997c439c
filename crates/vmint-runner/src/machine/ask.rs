//! What is in the queue of the task that owns a machine.

use crate::api;
use crate::policy::{Tenure, Verb};
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::Span;
use vmint_model::{Fault, Generation, MachineRecord};

/// A request and where its answer goes.
#[derive(Debug)]
pub enum Ask {
    /// Stop, and perhaps remove.
    Stop(api::Stop, oneshot::Sender<Result<api::Stopped, Fault>>),
    /// Shut down, and wait.
    Shutdown(api::Shutdown, oneshot::Sender<Result<api::Stopped, Fault>>),
    /// Halt the processors.
    Pause(oneshot::Sender<Result<(), Fault>>),
    /// Let them go on.
    Resume(oneshot::Sender<Result<(), Fault>>),
    /// Fork anew.
    Reset(api::Reset, oneshot::Sender<Result<MachineRecord, Fault>>),
    /// Freeze this moment.
    Snapshot(
        api::Snapshot,
        oneshot::Sender<Result<api::Snapshotted, Fault>>,
    ),
    /// A QMP command.
    Qmp(api::Qmp, oneshot::Sender<Result<Value, Fault>>),
    /// The guest of this generation has answered.
    Checked(Generation, oneshot::Sender<Result<(), Fault>>),
}

/// A request in the queue.
#[derive(Debug)]
pub struct Asked {
    /// The generation that is meant, if one was named.
    pub meant: Option<Generation>,
    /// The request.
    pub ask: Ask,
    /// What it is done as a part of.
    pub span: Span,
}

impl Ask {
    /// What is asked for. `tenure` tells who has the machine, where that matters.
    pub(super) fn verb(
        &self,
        tenure: impl FnOnce() -> Result<Tenure, Fault>,
    ) -> Result<Verb, Fault> {
        Ok(match self {
            Self::Stop(..) | Self::Shutdown(..) => Verb::Stop,
            Self::Pause(_) => Verb::Pause,
            Self::Resume(_) => Verb::Resume,
            Self::Reset(..) => Verb::Reset(tenure()?),
            Self::Snapshot(..) => Verb::Snapshot,
            Self::Qmp(..) => Verb::Qmp,
            Self::Checked(..) => Verb::Note,
        })
    }

    /// Answers that it is not served.
    pub(super) fn refuse(self, fault: Fault) {
        match self {
            Self::Stop(_, a) | Self::Shutdown(_, a) => drop(a.send(Err(fault))),
            Self::Pause(a) | Self::Resume(a) | Self::Checked(_, a) => drop(a.send(Err(fault))),
            Self::Reset(_, a) => drop(a.send(Err(fault))),
            Self::Snapshot(_, a) => drop(a.send(Err(fault))),
            Self::Qmp(_, a) => drop(a.send(Err(fault))),
        }
    }
}
