//! The machine as its socket shows it: set by the task that owns it, read by whoever serves requests.

use crate::session::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use vmint_model::{MachineRecord, MachineState};

/// How long a request waits for a machine that is coming up. Whoever asks has a deadline of his own, and hangs up.
const COMING_UP: Duration = Duration::from_secs(600);

/// The machine as the socket shows it.
#[derive(Clone, Debug)]
pub struct View(Arc<watch::Sender<Shown>>);

pub(crate) type Shown = (MachineRecord, Option<Session>);

impl View {
    /// A machine that cannot be used yet.
    pub fn new(record: MachineRecord) -> Self {
        Self(Arc::new(watch::Sender::new((record, None))))
    }

    /// Shows another state.
    pub fn set(&self, record: MachineRecord, session: Option<Session>) {
        self.0.send_replace((record, session));
    }

    pub(crate) fn get(&self) -> Shown {
        self.0.borrow().clone()
    }

    /// The machine when it is not coming up, or not any more: while it is started, reset or restored.
    pub(crate) async fn settled(&self) -> Shown {
        let mut changes = self.0.subscribe();
        let settled = changes.wait_for(|(record, _)| record.state != MachineState::Starting);
        match tokio::time::timeout(COMING_UP, settled).await {
            Ok(Ok(shown)) => shown.clone(),
            _ => self.get(),
        }
    }
}
