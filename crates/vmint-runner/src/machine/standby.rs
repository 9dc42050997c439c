//! The standbys: forks that are up, have their identities, are warm, and stand still until the machine is reset.
//!
//! ```text
//! Off      Wanted ─▶ Making ─▶ (parked, one behind the other)     the first of them is taken at a reset
//!             ▲         │         │
//!             └─────────┴─────────┘  failed, died: again, ever later; one taken: at once
//! ```
//!
//! *How many.* One is enough where a reset is seldom: it is made while the machine is used. Where resets come faster than a standby
//! can be made, that is no time for it; so more are kept, up to what the pool allows, which has been booked for them. They are made
//! in the pauses between such bursts, and there for the next. When none has been taken for a while, their number falls again.
//!
//! Invariants:
//! * Each is prepared for one generation, the first for the next one, and is never taken for another.
//! * They are children of this process as the machine itself is, and their files lie in the machine's folder.
//! * Whatever happens to them, the machine is none the worse: it is then forked anew when it is reset.

use super::fork::{Files, Fork, Plan, Who};
use crate::bringup::{qmp_deadline, warm_up};
use crate::identity;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
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
/// After how long without a reset half of the standbys are too many.
const QUIET: Duration = Duration::from_secs(60);

/// A machine's standbys, if it keeps any.
#[derive(Debug, Default)]
pub(super) struct Standby {
    size: Size,
    /// Those that there are, the next one first.
    parked: VecDeque<Box<Fork>>,
    step: Step,
    failures: u32,
}

/// What becomes of the next one.
#[derive(Debug, Default)]
enum Step {
    /// None is kept.
    #[default]
    Off,
    /// There are as many as are wanted.
    Enough,
    /// One is to be made.
    Wanted(Instant),
    /// One is being made.
    Making(Making),
}

/// A standby under way.
#[derive(Debug)]
struct Making {
    task: JoinHandle<Result<Fork, Fault>>,
    files: Files,
    generation: Generation,
    began: Instant,
}

/// How many are kept, by the pace at which they are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    most: usize,
    wanted: usize,
    taken: Option<Instant>,
    /// How long the last one took to be made.
    making: Duration,
}

impl Size {
    fn up_to(most: u32) -> Self {
        Self {
            most: most as usize,
            wanted: 1.min(most as usize),
            ..Self::default()
        }
    }

    /// One was taken. In a burst there is hardly more time between two resets than the next standby takes to be made: with one, who
    /// resets waits for it.
    fn taken(&mut self, now: Instant) {
        let is_burst = self
            .taken
            .is_some_and(|before| now.duration_since(before) < 2 * self.making);
        if is_burst {
            self.wanted = (self.wanted * 2).min(self.most);
        }
        self.taken = Some(now);
    }

    /// When there are too many, unless one is taken before.
    fn quiet_at(&self) -> Option<Instant> {
        let taken = self.taken.filter(|_| self.wanted > 1)?;
        Some(taken + QUIET)
    }

    /// None was taken for long.
    fn quiet(&mut self, now: Instant) {
        self.wanted = (self.wanted / 2).max(1);
        self.taken = Some(now);
    }
}

/// What the standbys did.
#[derive(Debug)]
pub(super) enum Change {
    /// It is time to make one.
    Due,
    /// One is made, or not.
    Made(Result<Box<Fork>, Fault>),
    /// This one died.
    Died(usize, String),
    /// None was taken for long.
    Quiet,
}

impl Standby {
    /// From now on so many are kept at most.
    pub(super) fn want(&mut self, most: u32) {
        self.size = Size::up_to(most);
        self.step = Step::Wanted(Instant::now());
    }

    /// The next thing that happens to them. Can be cancelled.
    pub(super) async fn change(&mut self) -> Change {
        let quiet = self.size.quiet_at();
        let quiet = async {
            match quiet {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let step = async {
            match &mut self.step {
                Step::Off | Step::Enough => std::future::pending().await,
                Step::Wanted(at) => {
                    tokio::time::sleep_until(*at).await;
                    Change::Due
                }
                Step::Making(making) => Change::Made(made(&mut making.task).await.map(Box::new)),
            }
        };
        tokio::select! {
            change = step => change,
            (at, why) = first_dead(&mut self.parked) => Change::Died(at, why),
            () = quiet => Change::Quiet,
        }
    }

    /// Acts on a change. What is left over of forks is given back, to be cleared away.
    pub(super) fn tend(
        &mut self,
        change: Change,
        plan: &Arc<Plan>,
        next: Generation,
    ) -> Vec<Leftover> {
        match change {
            Change::Due => {
                let mut generation = next;
                for _ in &self.parked {
                    generation = generation.next();
                }
                self.begin(plan, generation);
                Vec::new()
            }
            Change::Made(Ok(fork)) => {
                self.park(fork);
                Vec::new()
            }
            Change::Made(Err(fault)) => self.failed(&fault),
            Change::Died(at, why) => {
                tracing::warn!("a standby died: {why}");
                // Those behind it would be of generations that do not come next.
                let gone = self.parked.split_off(at).into_iter().map(Leftover::Fork);
                let gone: Vec<_> = gone.collect();
                gone.into_iter().chain(leftover(self.again())).collect()
            }
            Change::Quiet => {
                self.size.quiet(Instant::now());
                let keep = self.size.wanted.min(self.parked.len());
                let gone = self.parked.split_off(keep).into_iter();
                gone.map(Leftover::Fork).collect()
            }
        }
    }

    /// Begins to make one in the background.
    fn begin(&mut self, plan: &Arc<Plan>, generation: Generation) {
        let (plan, files) = (plan.clone(), plan.place());
        let task = tokio::spawn(make(plan, files.clone(), generation));
        self.step = Step::Making(Making {
            task,
            files,
            generation,
            began: Instant::now(),
        });
    }

    /// One is made.
    fn park(&mut self, fork: Box<Fork>) {
        self.failures = 0;
        if let Step::Making(making) = &self.step {
            self.size.making = making.began.elapsed();
        }
        self.parked.push_back(fork);
        self.go_on();
    }

    /// Has another one made, if there shall be more.
    fn go_on(&mut self) {
        self.step = if self.parked.len() < self.size.wanted {
            Step::Wanted(Instant::now())
        } else {
            Step::Enough
        };
    }

    /// One could not be made; its task has ended.
    fn failed(&mut self, fault: &Fault) -> Vec<Leftover> {
        tracing::warn!("no standby: {fault}");
        match self.again() {
            Step::Making(making) => vec![Leftover::Files(making.files)],
            other => leftover(other).into_iter().collect(),
        }
    }

    /// Another one shall be made after a while. Gives back what was done.
    fn again(&mut self) -> Step {
        let pause = PAUSE * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let next = Step::Wanted(Instant::now() + pause.min(LONGEST));
        std::mem::replace(&mut self.step, next)
    }

    /// Whether there is one for this generation, or will be shortly.
    pub(super) fn is_coming(&self, generation: Generation) -> bool {
        match (self.parked.front(), &self.step) {
            (Some(fork), _) => fork.generation == generation,
            (None, Step::Making(making)) => making.generation == generation,
            (None, _) => false,
        }
    }

    /// Takes it if it is there already.
    pub(super) fn take_parked(&mut self, generation: Generation) -> Option<Box<Fork>> {
        let front = self.parked.front();
        if front.is_none_or(|fork| fork.generation != generation) {
            return None;
        }
        self.size.taken(Instant::now());
        let fork = self.parked.pop_front();
        if let Step::Enough = self.step {
            self.go_on();
        }
        fork
    }

    /// Waits for one that is under way, which takes less time than another fork from its beginning; but no longer than
    /// `limit`.
    pub(super) async fn wait(&mut self, limit: Duration) -> Vec<Leftover> {
        if !self.parked.is_empty() {
            return Vec::new();
        }
        let Step::Making(making) = &mut self.step else {
            return Vec::new();
        };
        match tokio::time::timeout(limit, made(&mut making.task)).await {
            Ok(Ok(fork)) => {
                self.park(Box::new(fork));
                Vec::new()
            }
            Ok(Err(fault)) => self.failed(&fault),
            Err(_) => {
                tracing::warn!("the standby has not come up within {limit:?}, and is given up");
                leftover(self.again()).into_iter().collect()
            }
        }
    }

    /// Gives up those there are, because they will not fit, and begins anew.
    pub(super) fn replace(&mut self) -> Vec<Leftover> {
        if let Step::Off = self.step {
            return Vec::new();
        }
        let gone = std::mem::take(&mut self.parked);
        let step = match std::mem::replace(&mut self.step, Step::Wanted(Instant::now())) {
            // It would have waited after a failure.
            Step::Wanted(at) => {
                self.step = Step::Wanted(at);
                None
            }
            other => leftover(other),
        };
        let gone = gone.into_iter().map(Leftover::Fork);
        gone.chain(step).collect()
    }

    /// Keeps none any more.
    pub(super) fn end(&mut self) -> Vec<Leftover> {
        let Self { parked, step, .. } = std::mem::take(self);
        let gone = parked.into_iter().map(Leftover::Fork);
        gone.chain(leftover(step)).collect()
    }
}

/// The first of them that dies, and why. Can be cancelled.
async fn first_dead(parked: &mut VecDeque<Box<Fork>>) -> (usize, String) {
    let mut watched: Vec<_> = parked
        .iter_mut()
        .map(|fork| Box::pin(end_of(fork)))
        .collect();
    std::future::poll_fn(|context| {
        for (at, end) in watched.iter_mut().enumerate() {
            if let Poll::Ready(why) = end.as_mut().poll(context) {
                return Poll::Ready((at, why));
            }
        }
        Poll::Pending
    })
    .await
}

async fn end_of(fork: &mut Fork) -> String {
    loop {
        match pin!(fork.live.hypervisor.notice()).await {
            Ok(Notice::Event(_)) => {}
            Ok(Notice::Exited(exit)) => return format!("{}: {}", exit.status, exit.stderr),
            Err(e) => return e.to_string(),
        }
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

fn leftover(step: Step) -> Option<Leftover> {
    match step {
        Step::Off | Step::Enough | Step::Wanted(_) => None,
        Step::Making(making) => {
            making.task.abort();
            Some(Leftover::Making(making.task, making.files))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn resets_that_come_faster_than_standbys_are_made_have_more_kept_until_it_is_quiet() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut size = Size::up_to(4);
        size.making = Duration::from_millis(100);
        // At 1110, who resets has waited for the one that was being made.
        for (ms, wanted) in [(0, 1), (500, 1), (1000, 1), (1110, 2), (1150, 4), (1160, 4)] {
            size.taken(at(ms));
            assert_eq!(size.wanted, wanted, "at {ms}");
        }
        assert_eq!(size.quiet_at(), Some(at(1160) + QUIET));
        size.quiet(at(61_160));
        assert_eq!(size.wanted, 2);
        size.quiet(at(121_160));
        assert_eq!((size.wanted, size.quiet_at()), (1, None));
    }

    proptest! {
        /// Never more than the pool allows, which is what is booked; never none where one is allowed.
        #[test]
        fn there_are_never_more_than_are_booked(
            most in 0u32..9,
            steps in proptest::collection::vec((0u64..300, any::<bool>(), 0u64..200), 0..200),
        ) {
            let (mut now, mut size) = (Instant::now(), Size::up_to(most));
            for (ms, is_taken, making) in steps {
                now += Duration::from_millis(ms);
                size.making = Duration::from_millis(making);
                if is_taken {
                    size.taken(now);
                } else if size.quiet_at().is_some() {
                    size.quiet(now);
                }
                prop_assert!(size.wanted <= most as usize && size.wanted >= 1.min(most as usize));
            }
        }
    }
}
