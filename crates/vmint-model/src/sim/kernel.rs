//! Processes, their tasks, and a clock that stands still while anybody has something to do.

use super::{Random, Weather};
use crate::{Now, ProcessRef};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// When simulations begin: a moment like any other, but 0, which nobody may mistake for “never”.
const BEGINNING_MS: i64 = 1_000_000;
/// How many process ids there are. Few, so that they are soon used again, and a pid alone proves nothing.
const PIDS: u64 = 50;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A simulated host. A handle; clones are of the same one.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
    ready: Arc<Ready>,
}

/// The tasks that can go on.
type Ready = Mutex<Vec<u64>>;

struct State {
    now_ms: i64,
    /// By how much the wall clock is ahead of the steady one, or behind.
    ahead_ms: i64,
    random: Random,
    weather: Weather,
    /// Without the future while it is being polled.
    tasks: BTreeMap<u64, (u64, Option<Task>, Arc<Knock>)>,
    timers: BTreeMap<(i64, u64), Waker>,
    living: BTreeMap<u64, Living>,
    /// When those ended that have.
    dead: BTreeMap<u64, i64>,
    bells: BTreeMap<String, Bell>,
    /// Counts tasks, timers, processes and bells.
    next: u64,
    steps: u64,
    boot_id: String,
    log: Option<Log>,
}

/// Where a run is written down.
type Log = Box<dyn Fn(&str) + Send>;

#[derive(Default)]
struct Living {
    /// Who is to be told of its end.
    mourners: Vec<Waker>,
    /// From when to when its calls were put off.
    delays: Vec<(i64, i64)>,
}

#[derive(Default)]
struct Bell {
    rung: bool,
    waker: Option<Waker>,
}

/// Makes a task one of those that can go on.
struct Knock {
    task: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push(self.task);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One thread; whoever panicked has ended the run.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(f, "Sim({} ms, step {})", state.now_ms, state.steps)
    }
}

impl Sim {
    /// A host whose every accident is in this seed. The weather is calm at first.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                now_ms: BEGINNING_MS,
                ahead_ms: 0,
                random: Random::new(seed),
                weather: Weather::CALM,
                tasks: BTreeMap::new(),
                timers: BTreeMap::new(),
                living: BTreeMap::new(),
                dead: BTreeMap::new(),
                bells: BTreeMap::new(),
                next: 1,
                steps: 0,
                boot_id: format!("sim-{seed}"),
                log: None,
            })),
            ready: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Now, on the steady clock.
    pub fn now_ms(&self) -> i64 {
        self.state().now_ms
    }

    /// Now, on both clocks.
    pub fn now(&self) -> Now {
        let state = self.state();
        Now {
            steady_ms: state.now_ms,
            wall_ms: state.now_ms + state.ahead_ms,
        }
    }

    /// Somebody sets the wall clock, by so much forward, or backward.
    pub fn step_wall_clock(&self, by_ms: i64) {
        self.state().ahead_ms += by_ms;
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Has the run written down, for whoever replays a seed.
    pub fn set_log(&self, log: impl Fn(&str) + Send + 'static) {
        self.state().log = Some(Box::new(log));
    }

    /// Writes a line, if the run is written down.
    pub fn note(&self, line: impl FnOnce() -> String) {
        // Who tells what it sees may ask for the state.
        if self.state().log.is_some() {
            let line = line();
            let state = self.state();
            if let Some(log) = &state.log {
                log(&format!("{:>8} {line}", state.now_ms - BEGINNING_MS));
            }
        }
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Draws from the seed.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    /// Whether something strikes now, in this weather.
    pub fn strikes(&self, what: impl FnOnce(&Weather) -> u32) -> bool {
        let mut state = self.state();
        let chance = what(&state.weather);
        state.random.strikes(chance)
    }

    /// Starts a process, which has no task yet.
    pub fn process(&self) -> Process {
        let mut state = self.state();
        let number = state.count();
        state.living.insert(number, Living::default());
        Process {
            sim: self.clone(),
            number,
        }
    }

    /// Whether this very process lives.
    pub fn lives(&self, process: &ProcessRef) -> bool {
        let number = process.start_time;
        let state = self.state();
        state.living.contains_key(&number) && *process == state.reference(number)
    }

    /// Polls one task, or lets time pass until one can go on. `false` if nothing will ever happen any more.
    pub fn step(&self) -> bool {
        let chosen = {
            let mut state = self.state();
            state.steps += 1;
            let mut ready = lock(&self.ready);
            if ready.is_empty() {
                drop(ready);
                return Self::pass(state);
            }
            let n = state.random.below(ready.len() as u64) as usize;
            let task = ready.swap_remove(n);
            let Some((process, future, knock)) = state.tasks.get_mut(&task) else {
                return true;
            };
            knock.queued.store(false, Ordering::Relaxed);
            future.take().map(|f| (task, *process, f, knock.clone()))
        };
        let Some((task, process, mut future, knock)) = chosen else {
            return true;
        };
        let waker = Waker::from(knock);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.state();
        if done.is_pending() && state.living.contains_key(&process) {
            if let Some((_, place, _)) = state.tasks.get_mut(&task) {
                *place = Some(future);
            }
            return true;
        }
        state.tasks.remove(&task);
        // Destructors want the state for themselves.
        drop(state);
        drop(future);
        true
    }

    /// Nobody has anything to do: it gets later.
    fn pass(mut state: MutexGuard<'_, State>) -> bool {
        let Some((&(at_ms, _), _)) = state.timers.first_key_value() else {
            return false;
        };
        state.now_ms = state.now_ms.max(at_ms);
        let later = state.timers.split_off(&(at_ms + 1, 0));
        let due = std::mem::replace(&mut state.timers, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
        true
    }

    /// Ends all processes.
    pub fn end(&self) {
        let living: Vec<_> = self.state().living.keys().copied().collect();
        for number in living {
            let sim = self.clone();
            Process { sim, number }.kill();
        }
    }

    /// Hangs up a bell; `None` if there is one of this name.
    pub(super) fn hang(&self, name: Option<String>) -> Option<String> {
        let mut state = self.state();
        let name = name.unwrap_or_else(|| format!("bell-{}", state.count()));
        if state.bells.contains_key(&name) {
            return None;
        }
        state.bells.insert(name.clone(), Bell::default());
        Some(name)
    }

    pub(super) fn unhang(&self, name: &str) {
        let bell = self.state().bells.remove(name);
        drop(bell);
    }

    pub(super) fn ring(&self, name: &str) {
        let waker = {
            let mut state = self.state();
            let chance = state.weather.deaf;
            if state.random.strikes(chance) {
                return;
            }
            let Some(bell) = state.bells.get_mut(name) else {
                return;
            };
            bell.rung = true;
            bell.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll_rung(&self, name: &str, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let Some(bell) = state.bells.get_mut(name) else {
            return Poll::Pending;
        };
        if std::mem::take(&mut bell.rung) {
            return Poll::Ready(());
        }
        bell.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl State {
    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn reference(&self, number: u64) -> ProcessRef {
        ProcessRef {
            pid: (2 + number % PIDS) as u32,
            start_time: number,
            boot_id: self.boot_id.clone(),
            namespace: None,
        }
    }
}

/// A simulated process: what it does is done by its tasks. A handle, not the process: it may be long dead.
#[derive(Clone)]
pub struct Process {
    sim: Sim,
    number: u64,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.number)
    }
}

impl Process {
    /// The host.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// Its name among processes.
    pub fn reference(&self) -> ProcessRef {
        self.sim.state().reference(self.number)
    }

    /// Whether it lives.
    pub fn lives(&self) -> bool {
        self.sim.state().living.contains_key(&self.number)
    }

    /// When it ended, if it has.
    pub fn ended_at_ms(&self) -> Option<i64> {
        self.sim.state().dead.get(&self.number).copied()
    }

    /// Adds a task to it; not to a dead one.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let knock = {
            let mut state = self.sim.state();
            if !state.living.contains_key(&self.number) {
                // The task is dropped behind the lock.
                drop(state);
                drop(task);
                return;
            }
            let number = state.count();
            let knock = Arc::new(Knock {
                task: number,
                queued: AtomicBool::new(false),
                ready: self.sim.ready.clone(),
            });
            let entry = (
                self.number,
                Some(Box::pin(task) as Task),
                Arc::clone(&knock),
            );
            state.tasks.insert(number, entry);
            knock
        };
        knock.wake();
    }

    /// Kills it, at once and with all of its tasks.
    pub fn kill(&self) {
        let (tasks, mourners) = {
            let mut state = self.sim.state();
            let Some(living) = state.living.remove(&self.number) else {
                return;
            };
            let now = state.now_ms;
            state.dead.insert(self.number, now);
            // The task that is being polled has no future here; `step` drops it.
            let mine = |(task, entry): (&u64, &(u64, Option<Task>, Arc<Knock>))| {
                (entry.0 == self.number).then_some(*task)
            };
            let mine: Vec<u64> = state.tasks.iter().filter_map(mine).collect();
            let tasks = mine.iter().filter_map(|task| state.tasks.remove(task));
            (tasks.collect::<Vec<_>>(), living.mourners)
        };
        drop(tasks);
        mourners.into_iter().for_each(Waker::wake);
    }

    /// Kills itself; the caller goes no further.
    pub async fn die(&self) -> ! {
        self.kill();
        std::future::pending().await
    }

    /// Returns when that process has ended.
    pub async fn outlive(&self, other: &ProcessRef) {
        std::future::poll_fn(|context| {
            if !self.sim.lives(other) {
                return Poll::Ready(());
            }
            if let Some(living) = self.sim.state().living.get_mut(&other.start_time) {
                living.mourners.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Returns at that time.
    pub fn sleep_until(&self, at_ms: i64) -> Sleep {
        Sleep {
            sim: self.sim.clone(),
            at_ms,
            number: None,
        }
    }

    /// Returns so much later.
    pub fn sleep(&self, ms: i64) -> Sleep {
        self.sleep_until(self.sim.now_ms() + ms)
    }

    /// A place where anything may happen: others come first, time passes, the process dies. For the dead it never ends.
    pub async fn falter(&self) {
        if !self.lives() || self.sim.strikes(|w| w.crash) {
            self.die().await;
        }
        self.linger().await;
    }

    /// A place where others may come first, and time may pass.
    pub async fn linger(&self) {
        if self.sim.strikes(|w| w.delay) {
            let (from, longest) = {
                let state = self.sim.state();
                (state.now_ms, state.weather.longest_ms)
            };
            let until = from + self.sim.draw(|r| r.between(0, longest));
            if let Some(living) = self.sim.state().living.get_mut(&self.number) {
                living.delays.push((from, until));
            }
            self.sleep_until(until).await;
        }
    }

    /// For how many milliseconds behind `since_ms` its calls were put off. Delays of tasks side by side all count.
    pub fn delayed_ms(&self, since_ms: i64) -> i64 {
        let state = self.sim.state();
        let delays = state.living.get(&self.number).map(|l| &l.delays);
        let late = |(from, until): &(i64, i64)| (until - since_ms.max(*from)).max(0);
        delays.map_or(0, |all| all.iter().map(late).sum())
    }
}

/// See [`Process::sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    sim: Sim,
    at_ms: i64,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let sleep = &mut *self;
        let mut state = sleep.sim.state();
        if state.now_ms >= sleep.at_ms {
            return Poll::Ready(());
        }
        let number = *sleep.number.get_or_insert_with(|| state.count());
        let waker = context.waker().clone();
        let before = state.timers.insert((sleep.at_ms, number), waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.sim.state().timers.remove(&(self.at_ms, number));
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What three processes do that sleep, wait for one another and are put off.
    fn trace(seed: u64) -> Vec<(i64, u64)> {
        let sim = Sim::new(seed);
        sim.set_weather(Weather {
            delay: 5_000,
            longest_ms: 9,
            ..Weather::CALM
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..3 {
            let (process, seen) = (sim.process(), seen.clone());
            process.clone().spawn(async move {
                for _ in 0..10 {
                    process.falter().await;
                    lock(&seen).push((process.sim.now_ms(), process.number));
                    process.sleep(3).await;
                }
            });
        }
        while sim.step() {}
        Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_run_and_another_one_another() {
        assert_eq!(trace(1), trace(1));
        assert_ne!(trace(1), trace(2));
        assert_eq!(trace(3).len(), 30);
    }

    /// Does something when it is dropped, as a guard would.
    struct Guard(Process, Arc<AtomicBool>);

    impl Drop for Guard {
        fn drop(&mut self) {
            let (process, done) = (self.0.clone(), self.1.clone());
            self.0.spawn(async move {
                process.falter().await;
                done.store(true, Ordering::Relaxed);
            });
        }
    }

    #[test]
    fn the_dead_do_nothing_more_not_even_in_their_destructors() {
        for killed in [false, true] {
            let sim = Sim::new(1);
            let (process, watcher) = (sim.process(), sim.process());
            let done = Arc::new(AtomicBool::new(false));
            let guard = Guard(process.clone(), done.clone());
            let (asleep, reference) = (process.sleep(50), process.reference());
            process.spawn(async move {
                let _guard = guard;
                asleep.await;
            });
            let saw = Arc::new(AtomicBool::new(false));
            let (mourner, seen) = (watcher.clone(), saw.clone());
            watcher.spawn(async move {
                mourner.outlive(&reference).await;
                seen.store(true, Ordering::Relaxed);
            });
            sim.step();
            sim.step();
            if killed {
                process.kill();
            }
            while sim.step() {}
            assert_eq!(done.load(Ordering::Relaxed), !killed);
            assert_eq!(saw.load(Ordering::Relaxed), killed);
            assert_eq!(sim.lives(&process.reference()), !killed);
        }
    }
}
