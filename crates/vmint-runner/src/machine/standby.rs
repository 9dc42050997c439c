//! The standby: a fork that is up, has its identity, is warm, and stands still until the machine is reset.
//!
//! ```text
//! Off      Wanted ─▶ Making ─▶ Parked ─▶ (taken)
//!             ▲         │         │
//!             └─────────┴─────────┘  failed, died: again, ever later
//! ```
//!
//! Invariants:
//! * It is prepared for the next generation, and is never taken for another one.
//! * It is a child of this process as the machine itself is, and its files lie in the machine's folder.
//! * Whatever happens to it, the machine is none the worse: it is then forked anew when it is reset.

use super::fork::{Files, Fork, Plan, Who};
use crate::bringup::{qmp_deadline, warm_up};
use crate::identity;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vmint_model::{ErrorKind, Fault, Generation};
use vmint_protocol::Request;
use vmint_qemu::{Frozen, Notice};

/// How long after a first failure the next attempt is made; then twice as long each time.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// A machine's standby, if it keeps one.
#[derive(Debug, Default)]
pub(super) struct Standby {
    state: State,
    failures: u32,
}

#[derive(Debug, Default)]
enum State {
    /// None is kept.
    #[default]
    Off,
    /// One is to be made.
    Wanted(Instant),
    /// One is being made.
    Making(Making),
    /// There is one.
    Parked(Box<Fork>),
}

/// A standby under way.
#[derive(Debug)]
struct Making {
    task: JoinHandle<Result<Fork, Fault>>,
    files: Files,
    generation: Generation,
}

/// What a standby did.
#[derive(Debug)]
pub(super) enum Change {
    /// It is time to make one.
    Due,
    /// One is made, or not.
    Made(Result<Box<Fork>, Fault>),
    /// It died.
    Died(String),
}

impl Standby {
    /// From now on one is kept.
    pub(super) fn want(&mut self) {
        self.state = State::Wanted(Instant::now());
    }

    /// The next thing that happens to it. Can be cancelled.
    pub(super) async fn change(&mut self) -> Change {
        match &mut self.state {
            State::Off => std::future::pending().await,
            State::Wanted(at) => {
                tokio::time::sleep_until(*at).await;
                Change::Due
            }
            State::Making(making) => Change::Made(made(&mut making.task).await.map(Box::new)),
            State::Parked(fork) => loop {
                match fork.live.hypervisor.notice().await {
                    Ok(Notice::Event(_)) => {}
                    Ok(Notice::Exited(exit)) => {
                        return Change::Died(format!("{}: {}", exit.status, exit.stderr));
                    }
                    Err(e) => return Change::Died(e.to_string()),
                }
            },
        }
    }

    /// Acts on a change. What is left over of a fork is given back, to be cleared away.
    pub(super) fn tend(
        &mut self,
        change: Change,
        plan: &Arc<Plan>,
        next: Generation,
    ) -> Option<Leftover> {
        match change {
            Change::Due => {
                self.begin(plan, next);
                None
            }
            Change::Made(Ok(fork)) => {
                self.failures = 0;
                self.state = State::Parked(fork);
                None
            }
            Change::Made(Err(fault)) => self.failed(&fault),
            Change::Died(why) => {
                tracing::warn!("the standby died: {why}");
                leftover(self.again())
            }
        }
    }

    /// Begins to make one in the background.
    fn begin(&mut self, plan: &Arc<Plan>, generation: Generation) {
        let (plan, files) = (plan.clone(), plan.place());
        let task = tokio::spawn(make(plan, files.clone(), generation));
        self.state = State::Making(Making {
            task,
            files,
            generation,
        });
    }

    /// One could not be made; its task has ended.
    fn failed(&mut self, fault: &Fault) -> Option<Leftover> {
        tracing::warn!("no standby: {fault}");
        match self.again() {
            State::Making(making) => Some(Leftover::Files(making.files)),
            other => leftover(other),
        }
    }

    /// Another one shall be made after a while. Gives back what there was.
    fn again(&mut self) -> State {
        let pause = PAUSE * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let next = State::Wanted(Instant::now() + pause.min(LONGEST));
        std::mem::replace(&mut self.state, next)
    }

    /// Whether there is one for this generation, or will be shortly.
    pub(super) fn is_coming(&self, generation: Generation) -> bool {
        match &self.state {
            State::Off | State::Wanted(_) => false,
            State::Making(making) => making.generation == generation,
            State::Parked(fork) => fork.generation == generation,
        }
    }

    /// Takes it if it is there already.
    pub(super) fn take_parked(&mut self, generation: Generation) -> Option<Box<Fork>> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Parked(fork) if fork.generation == generation => {
                self.want();
                Some(fork)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Waits for one that is under way, which takes less time than another fork from its beginning; but no longer than
    /// `limit`.
    pub(super) async fn wait(&mut self, limit: Duration) -> Option<Leftover> {
        let State::Making(making) = &mut self.state else {
            return None;
        };
        match tokio::time::timeout(limit, made(&mut making.task)).await {
            Ok(Ok(fork)) => {
                self.failures = 0;
                self.state = State::Parked(Box::new(fork));
                None
            }
            Ok(Err(fault)) => self.failed(&fault),
            Err(_) => {
                tracing::warn!("the standby has not come up within {limit:?}, and is given up");
                leftover(self.again())
            }
        }
    }

    /// Gives up the one there is, because it will not fit, and begins anew.
    pub(super) fn replace(&mut self) -> Option<Leftover> {
        if matches!(self.state, State::Off | State::Wanted(_)) {
            return None;
        }
        let next = State::Wanted(Instant::now());
        leftover(std::mem::replace(&mut self.state, next))
    }

    /// Keeps none any more.
    pub(super) fn end(&mut self) -> Option<Leftover> {
        leftover(std::mem::take(&mut self.state))
    }
}

async fn made(task: &mut JoinHandle<Result<Fork, Fault>>) -> Result<Fork, Fault> {
    task.await.unwrap_or_else(|e| {
        let message = format!("making a standby ended: {e}");
        Err(Fault::new(ErrorKind::Internal, message))
    })
}

/// A fork that is nobody's machine any more.
#[derive(Debug)]
pub(super) enum Leftover {
    /// It is up, or was.
    Fork(Box<Fork>),
    /// It was being made.
    Making(JoinHandle<Result<Fork, Fault>>, Files),
    /// It never was.
    Files(Files),
}

fn leftover(state: State) -> Option<Leftover> {
    match state {
        State::Off | State::Wanted(_) => None,
        State::Making(making) => {
            making.task.abort();
            Some(Leftover::Making(making.task, making.files))
        }
        State::Parked(fork) => Some(Leftover::Fork(fork)),
    }
}

impl Leftover {
    /// Waits until nothing of it runs, and removes the files that were its alone.
    pub(super) async fn clear(self) {
        let (fork, files) = match self {
            Self::Fork(fork) => (Some(*fork), None),
            // It may have been done before it could be given up.
            Self::Making(task, files) => (task.await.ok().and_then(Result::ok), Some(files)),
            Self::Files(files) => (None, Some(files)),
        };
        let files = match fork {
            None => files,
            Some(Fork { live, files, .. }) => {
                drop(live.session);
                if let Err(e) = live.hypervisor.kill().await {
                    tracing::warn!("cannot wait for QEMU's end: {e}");
                }
                Some(files)
            }
        };
        if let Some(files) = files {
            let removed = tokio::task::spawn_blocking(move || files.discard());
            if let Ok(Err(e)) = removed.await {
                tracing::warn!("cannot remove a fork's files: {e}");
            }
        }
    }
}

/// Brings a fork up wholly, and halts it.
async fn make(plan: Arc<Plan>, files: Files, generation: Generation) -> Result<Fork, Fault> {
    let (began, deadline) = (Instant::now(), plan.deadline());
    let source = Frozen::open(&plan.origin())?;
    source.check()?;
    let mut fork = plan
        .fork(&source, files, generation, Who::New, deadline)
        .await?;
    let console = fork.files.console();
    warm_up(&mut fork.live, &console, deadline).await?;
    // What it will do first when it is swapped in.
    let session = fork.live.session.clone();
    let limit = qmp_deadline(plan.request.host.accelerator);
    session
        .call(
            Request::SetClock(identity::now_ns()),
            "set its clock",
            limit,
        )
        .await?;
    fork.live.hypervisor.pause().await?;
    tracing::info!(%generation, took = ?began.elapsed(), "a standby is parked");
    Ok(fork)
}
