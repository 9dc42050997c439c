//! A command from its start to its end: its limit is told, and a cancellation passed on.

use super::cancel::Cancel;
use super::end::End;
use crate::guest::{Exit, Happening, Process};
use crate::record::Limit;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use vmint_model::{ErrorKind, Fault};

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What a command that is cancelled gets, and how long it may then still take: as GitHub's own runner does it.
const SIGNALS: [(i32, Duration); 3] = [
    (SIGINT, Duration::from_millis(7500)),
    (SIGTERM, Duration::from_millis(2500)),
    (SIGKILL, Duration::from_secs(10)),
];

/// How much longer than its limit a command may take to be reported as ended by the guest, which is what enforces the limit.
/// A guest that is slow needs some; one that hangs would never say anything.
const SLACK: Duration = Duration::from_secs(30);

/// How long a command may take, and why no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// How long. The guest itself ends what takes longer.
    pub time: Duration,
    /// Whose limit it is.
    pub whose: Limit,
    /// The limit as it was set.
    pub limit: Duration,
}

/// Which cancellations a command obeys.
#[derive(Clone, Debug)]
pub enum Obeys {
    /// Any.
    Cancelling(Cancel),
    /// It runs because of a cancellation, or in spite of one; only haste ends it.
    Haste(Cancel),
}

impl Obeys {
    /// Returns when what obeys is to end.
    pub async fn ended(&self) {
        match self {
            Self::Cancelling(cancel) => drop(cancel.cancelled().await),
            Self::Haste(cancel) => cancel.hastened().await,
        }
    }
}

/// What a supervised command does.
#[derive(Debug)]
pub enum Seen {
    /// It wrote this.
    Output(Bytes),
    /// It ended.
    Ended(End),
}

/// A command that runs under a limit and can be cancelled.
pub struct Supervised<'a> {
    process: Box<dyn Process + 'a>,
    allowed: Allowed,
    obeys: Obeys,
    stage: Stage,
    /// When a guest that has said nothing of the command's end hangs.
    hangs: Instant,
}

/// How far cancelling has come.
enum Stage {
    /// Nobody has asked.
    Running,
    /// So many signals were sent; the next one is due then.
    Ending { sent: usize, next: Instant },
}

impl<'a> Supervised<'a> {
    /// Of a command that was started.
    pub fn new(process: Box<dyn Process + 'a>, allowed: Allowed, obeys: Obeys) -> Self {
        let now = Instant::now();
        Self {
            process,
            allowed,
            obeys,
            stage: Stage::Running,
            // No limit is longer than 35 days.
            hangs: now.checked_add(allowed.time + SLACK).unwrap_or(now),
        }
    }

    /// What it does next. A command that fails is no error; vmint or the machine failing is.
    pub async fn next(&mut self) -> Result<Seen, Fault> {
        loop {
            let signal = next_signal(&self.obeys, &self.stage);
            tokio::select! {
                happening = self.process.next() => return Ok(match happening? {
                    Happening::Output(bytes) => {
                        self.heard();
                        Seen::Output(bytes)
                    }
                    Happening::Exited(exit) => Seen::Ended(self.end(exit)),
                }),
                at = signal => {
                    let Some((signal, wait)) = SIGNALS.get(at) else {
                        return Err(hangs("a command in it was killed, and did not end"));
                    };
                    self.process.signal(*signal);
                    let next = Instant::now() + *wait;
                    self.stage = Stage::Ending { sent: at + 1, next };
                }
                () = sleep_until(self.hangs) => {
                    return Err(hangs("it has not ended a command that ran past its time limit"));
                }
            }
        }
    }

    /// A guest that speaks does not hang. What a command has written before it was ended may take a while to arrive, and
    /// comes before its end.
    fn heard(&mut self) {
        let now = Instant::now();
        self.hangs = self.hangs.max(now + SLACK);
        if let Stage::Ending { sent, next } = &mut self.stage
            && let Some((_, wait)) = SIGNALS.last().filter(|_| *sent == SIGNALS.len())
        {
            *next = now + *wait;
        }
    }

    fn end(&self, exit: Exit) -> End {
        match (exit, &self.stage) {
            (Exit::TimedOut, _) => End::TimedOut {
                whose: self.allowed.whose,
                limit_ms: self.allowed.limit.as_millis() as u64,
            },
            (_, Stage::Ending { .. }) => End::Cancelled,
            (Exit::Code(code), Stage::Running) => End::Exited { code },
            (Exit::Signal(signal), Stage::Running) => End::Killed { signal },
        }
    }
}

/// A machine of which nothing can be expected any more: whatever else is asked of it would be waited for, for ever.
fn hangs(why: &str) -> Fault {
    Fault::new(ErrorKind::MachineLost, format!("the machine hangs: {why}"))
}

/// Returns when a signal is due: which of [`SIGNALS`].
async fn next_signal(obeys: &Obeys, stage: &Stage) -> usize {
    const KILL: usize = SIGNALS.len() - 1;
    let (Obeys::Cancelling(cancel) | Obeys::Haste(cancel)) = obeys;
    match (stage, obeys) {
        (Stage::Running, Obeys::Cancelling(cancel)) => {
            cancel.cancelled().await;
            if cancel.is_hastened() { KILL } else { 0 }
        }
        (Stage::Running, Obeys::Haste(cancel)) => {
            cancel.hastened().await;
            KILL
        }
        (Stage::Ending { sent, next }, _) => tokio::select! {
            () = sleep_until(*next) => *sent,
            () = cancel.hastened(), if *sent <= KILL => KILL,
        },
    }
}
