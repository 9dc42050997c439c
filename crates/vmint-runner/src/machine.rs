//! The task that owns one machine. It alone changes the machine's state, and it is fed by one queue: requests from the
//! socket, notices from QEMU, rings of the doorbell, the owner's end, the pool's timers, the standby.
//!
//! ```text
//! requests ─┐
//! QEMU ─────┤
//! watches ──┼─▶ Machine ─▶ store, socket's view
//! alarms ───┤
//! standby ──┘
//! ```
//!
//! * [`ask`]: what is in the queue.
//! * [`fork`]: how a fork is made, and where its files are; [`origin`]: what it comes from and goes back to.
//! * [`renew`]: how the machine comes up, and is made fresh.
//! * [`standby`]: the fork that waits to take its place.
//! * [`duty`]: what its pool wants of it.
//! * [`ground`]: its folder and the database, which somebody may take away from under it.
//! * [`end`]: how it ends; [`stop`]: what a stop gives the guest.
//!
//! Which requests are served is [`policy`](crate::policy)'s to say.
//!
//! It is enclosed before it comes up: whatever it needs of what lies outside of its folder is linked into that, and then the
//! process is fenced in ([`fence`](crate::fence)).
//!
//! Invariants:
//! * The store says `running` only after a command can be executed, and the runner ends only after the store says
//!   what became of the machine, or the machine's record is gone.
//! * Every QEMU is a child that dies with this process, so no end of this process leaves one behind.
//! * A request that names a generation is served at that generation or refused, however long it was in the queue.

mod ask;
mod duty;
mod end;
mod fork;
mod ground;
mod origin;
mod renew;
mod standby;
mod stop;

use crate::api;
use crate::bringup::{Live, Story};
use crate::fence;
use crate::identity;
use crate::policy::{self, Question, Refusal, Standing, Verdict};
use crate::reserve::Reserve;
use crate::start::StartRequest;
use crate::template;
use crate::trace;
use crate::view::View;
use crate::watch::Watched;
pub use ask::{Ask, Asked};
pub use end::FORCED;
use end::Over;
pub use fork::unlimitable;
use fork::{Fork, Plan};
use ground::Ground;
use standby::Standby;
use std::sync::Arc;
use std::time::Duration;
use stop::{Stop, Stops};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;
use vmint_model::{
    Accelerator, Boot, Cause, Confinement, Fault, Home, MachineDir, MachineRecord, MachineState,
};
use vmint_protocol::Request;
use vmint_qemu::hypervisor::{Afterwards, Save};
use vmint_qemu::qmp::Event;
use vmint_qemu::{Frozen, Manifest, Notice};
use vmint_store::Store;

/// Why a machine stands still that cannot write to its disk.
const FULL_DISK: &str =
    "the host's disk is full: the machine is paused until there is space and it is resumed";

/// Why a machine stands still that may not write to its disk any more.
const FULL_LAYER: &str =
    "its disk has grown to its limit: the machine is paused; a reset or a snapshot makes room";

/// How often a guest may say that its kernel has panicked and goes on in another. Once is what a kernel does; QEMU makes an event of each,
/// and holds what is not read.
const CRASHES: u32 = 100;

/// One machine.
pub struct Machine {
    home: Home,
    dir: MachineDir,
    store: Store,
    ground: Ground,
    record: MachineRecord,
    plan: Arc<Plan>,
    fork: Option<Box<Fork>>,
    standby: Standby,
    /// Forks that were killed, and are not cleared away yet.
    clearing: JoinSet<()>,
    guard: duty::Guard,
    story: Story,
    /// How often the guest has said that it goes on in another kernel.
    crashes: u32,
    reserve: Reserve,
    view: View,
    /// How this process is fenced in.
    fenced: Confinement,
}

impl Machine {
    /// A machine that is not up yet.
    pub fn new(
        home: Home,
        store: Store,
        record: MachineRecord,
        request: StartRequest,
        view: View,
    ) -> Self {
        let dir = home.machine(&record.id);
        let ground = Ground::of(&dir, &store);
        let reserve = Reserve::in_folder(dir.path());
        let plan = Plan::new(dir.clone(), request, &record);
        Self {
            home,
            dir,
            store,
            ground,
            record,
            plan: Arc::new(plan),
            fork: None,
            standby: Standby::default(),
            clearing: JoinSet::new(),
            guard: duty::Guard::default(),
            story: Story::default(),
            crashes: 0,
            reserve,
            view,
            fenced: Confinement::OFF,
        }
    }

    /// Takes in what lies outside of its folder, and then fences this process in for good, which must have one thread.
    pub fn enclose(&mut self) -> Result<(), Fault> {
        self.plan.take_in()?;
        self.plan.hold(&self.home)?;
        let groups = self.plan.group().and_then(|group| group.folder().parent());
        self.fenced = fence::enter(&self.home, &self.record, &self.plan.request, groups)?;
        Ok(())
    }

    /// Its record.
    pub fn record(&self) -> &MachineRecord {
        &self.record
    }

    /// What its start is a part of.
    pub(crate) fn starting(&self) -> tracing::Span {
        let trace = self.plan.request.trace.as_deref();
        trace::serving(trace.and_then(|trace| trace.parse().ok()), "start")
    }

    /// What the socket shows of the machine.
    fn show(&self) {
        let session = self.fork.as_ref().map(|f| f.live.session.clone());
        self.view.set(self.record.clone(), session);
    }

    /// Serves requests until the machine is down, then records what became of it.
    pub async fn serve(
        mut self,
        mut asks: mpsc::Receiver<Asked>,
        mut watches: mpsc::Receiver<Watched>,
    ) {
        let mut answers = Stops::default();
        let over = loop {
            let fork = self
                .fork
                .as_mut()
                .expect("a machine is served while it is up");
            let over = tokio::select! {
                Some(asked) = asks.recv() => {
                    let span = asked.span.clone();
                    self.answer(asked, &mut asks, &mut answers).instrument(span).await
                }
                notice = fork.live.hypervisor.notice() => match notice {
                    Ok(Notice::Event(event)) => self.heard(&event),
                    Ok(Notice::Exited(exit)) => Some(self.exited(&exit)),
                    Err(e) => Some(self.died(format!("QEMU cannot be watched: {e}"))),
                },
                // Nobody could reach the guest any more, and it is no guest to be trusted with another session.
                breach = fork.live.session.broken() => Some(self.broken(&breach)),
                Some(watched) = watches.recv() => self.look(watched, &mut asks, &mut answers).await,
                alarm = self.guard.alarm() => self.alarmed(alarm).await,
                change = self.standby.change() => {
                    let next = self.record.generation.next();
                    let leftover = self.standby.tend(change, &self.plan, next);
                    self.clear_away(leftover);
                    None
                }
            };
            if let Some(over) = over {
                break over;
            }
        };
        let forced = over.is_forced();
        self.finish(over).await;
        answers.tell(api::Stopped { forced });
    }

    async fn answer(
        &mut self,
        Asked { meant, ask, .. }: Asked,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
    ) -> Option<Over> {
        // It was looked at when it came; but the machine may have been made fresh since, and be another owner's now.
        let verb = match ask.verb(|| self.tenure()) {
            Ok(verb) => verb,
            Err(fault) => {
                ask.refuse(fault);
                return None;
            }
        };
        let standing = Standing::of(&self.record);
        let verdict = policy::decide(standing, Question { verb, meant });
        match (verdict, ask) {
            (Verdict::Serve, ask) => return self.serve_one(ask, asks, answers).await,
            (Verdict::Done, Ask::Pause(answer)) => drop(answer.send(Ok(()))),
            (Verdict::Refuse(refusal), ask) => ask.refuse(refusal.fault(&self.record)),
            // The task that brings it up is this one, so none is taken from the queue meanwhile.
            (Verdict::Done | Verdict::Wait, ask) => {
                let state = standing.state;
                ask.refuse(Refusal::State { verb, state }.fault(&self.record));
            }
        }
        None
    }

    /// Does what is asked for, and may be done.
    async fn serve_one(
        &mut self,
        ask: Ask,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
    ) -> Option<Over> {
        match ask {
            Ask::Stop(stop, answer) => {
                answers.wait(answer);
                let stop = Stop::of(stop);
                return Some(self.stop(stop, Cause::Requested, asks, answers).await);
            }
            Ask::Shutdown(shutdown, answer) => {
                answers.wait_until(shutdown.timeout_ms, answer);
                let stop = Stop::gently();
                return Some(self.stop(stop, Cause::Requested, asks, answers).await);
            }
            Ask::Pause(answer) => {
                let _ = answer.send(self.pause().await);
            }
            Ask::Resume(answer) => {
                let _ = answer.send(self.resume().await);
            }
            Ask::Snapshot(snapshot, answer) => {
                let _ = answer.send(self.snapshot(&snapshot).await);
            }
            Ask::Checked(generation, answer) => {
                let _ = answer.send(self.checked(generation));
            }
            Ask::Qmp(command, answer) => {
                let qmp = self.live().hypervisor.qmp().clone();
                // Not awaited here: a slow command must not keep the machine from being stopped.
                tokio::spawn(async move {
                    let arguments = if command.arguments.is_null() {
                        serde_json::json!({})
                    } else {
                        command.arguments
                    };
                    let _ = answer.send(
                        qmp.execute_raw(&command.command, arguments)
                            .await
                            .map_err(Into::into),
                    );
                });
            }
            Ask::Reset(reset, answer) => match self.reset(&reset).await {
                Ok(()) => {
                    let _ = answer.send(Ok(self.record.clone()));
                }
                Err(fault) => {
                    let reason = fault.message.clone();
                    let _ = answer.send(Err(fault));
                    if self.fork.is_none() {
                        return Some(self.died(reason));
                    }
                }
            },
        }
        None
    }

    async fn look(
        &mut self,
        watched: Watched,
        asks: &mut mpsc::Receiver<Asked>,
        answers: &mut Stops,
    ) -> Option<Over> {
        if watched == Watched::OwnerEnded {
            let stop = Stop::of(api::Stop {
                force: true,
                timeout_ms: 0,
                remove: true,
            });
            return Some(self.stop(stop, Cause::OwnerEnded, asks, answers).await);
        }
        if let Some(over) = self.stand() {
            return Some(over);
        }
        match self.store.get(&self.record.id) {
            Ok(None) => Some(self.unrecorded()),
            Err(e) => {
                tracing::warn!("the store cannot be read: {e}");
                None
            }
            Ok(Some(_)) => match self.store.take_stop_request(&self.record.id) {
                Ok(Some(request)) => {
                    let left = request.deadline_ms - vmint_store::steady_ms();
                    let stop = Stop::of(api::Stop {
                        force: request.force,
                        timeout_ms: left.max(0) as u64,
                        remove: false,
                    });
                    Some(self.stop(stop, Cause::Requested, asks, answers).await)
                }
                Ok(None) => self.duty(Cause::Requested).await,
                Err(e) => {
                    tracing::warn!("the store cannot be read: {e}");
                    None
                }
            },
        }
    }

    fn live(&self) -> &Live {
        &self.fork.as_ref().expect("served while it is up").live
    }

    async fn pause(&mut self) -> Result<(), Fault> {
        self.live().hypervisor.pause().await?;
        self.record_state(MachineState::Paused)
    }

    async fn resume(&mut self) -> Result<(), Fault> {
        let running = self.record.state == MachineState::Running;
        // Also one that is recorded as running: a full disk may have halted it and kept the store from saying so.
        self.live().hypervisor.resume().await?;
        // What was heard before is no cause of what happens from now on.
        self.story = Story::default();
        self.reserve.take();
        if running {
            return Ok(());
        }
        self.catch_up();
        self.record_state(MachineState::Running)
    }

    /// Tells the guest, whose clock stood still with it, the time. It is not waited for: a guest that hangs can be
    /// resumed too.
    fn catch_up(&self) {
        let session = self.live().session.clone();
        tokio::spawn(async move {
            let request = Request::SetClock(identity::now_ns());
            if let Err(e) = session
                .call(request, "set its clock", Duration::from_secs(60))
                .await
            {
                tracing::warn!("the guest's clock stays behind: {e}");
            }
        });
    }

    fn record_state(&mut self, to: MachineState) -> Result<(), Fault> {
        let changed =
            self.store
                .transition(&self.record.id, None, to, Cause::Requested, None, |r| {
                    // Of a fault that halted it before.
                    r.reason = None;
                });
        self.record = changed?;
        self.show();
        Ok(())
    }

    async fn snapshot(&mut self, snapshot: &api::Snapshot) -> Result<api::Snapshotted, Fault> {
        self.plan.remove_staged();
        let afterwards = match self.record.state {
            MachineState::Paused => Afterwards::StayPaused,
            _ => Afterwards::Run,
        };
        let fork = self.fork.as_mut().expect("served while it is up");
        let save = if snapshot.full {
            Save::Full
        } else {
            Save::Changed
        };
        let branch = fork
            .live
            .hypervisor
            .branch(&snapshot.folder, save, afterwards)
            .await?;
        if afterwards == Afterwards::Run {
            self.catch_up();
        }
        let fork = self.fork.as_ref().expect("served while it is up");
        let (request, loaded) = (&self.plan.request, fork.loaded.as_ref());
        // Facts about what runs now, which may have been loaded from something else than the machine was made of.
        let manifest = Manifest {
            version: vmint_qemu::frozen::VERSION,
            fingerprint: loaded
                .map_or(&request.fingerprint, |m| &m.fingerprint)
                .clone(),
            hardware: request.host.hardware(&request.shape),
            platform: Some(self.plan.platform(loaded)),
            shape: request.shape.clone(),
            image: loaded.map_or(&self.record.spec.image, |m| &m.image).clone(),
            image_digest: loaded
                .map_or(&request.image_digest, |m| &m.image_digest)
                .clone(),
            qemu: request.host.qemu.banner.clone(),
            full: branch.method.is_none(),
            layers: branch.layers,
            files: branch.ram.into_iter().collect(),
            created_at_ms: vmint_store::now_ms(),
            boot_ms: None,
        };
        // Reading files to digest them is no work for the task that everything waits for.
        let folder = snapshot.folder.clone();
        let sealed = tokio::task::spawn_blocking(move || Frozen::seal(&folder, manifest)).await;
        sealed.expect("sealing does not panic")?;
        Ok(api::Snapshotted {
            pause_ms: branch.pause.as_secs_f64() * 1e3,
            changed: branch.changed,
            full: branch.method.is_none(),
        })
    }

    /// When the host's disk is full, or its own may not grow any more, QEMU halts the guest instead of failing its writes. That is a pause, and can be
    /// resumed.
    fn heard(&mut self, event: &Event) -> Option<Over> {
        if *event == Event::CrashLoaded {
            self.crashes += 1;
            return (self.crashes > CRASHES).then(|| self.flooded());
        }
        let why = match event {
            Event::BlockError { no_space: true, .. } => Some(FULL_DISK),
            Event::BlockError { limit: true, .. } => Some(FULL_LAYER),
            _ => None,
        };
        self.story.note(event);
        let why = why.filter(|_| self.record.state == MachineState::Running)?;
        if let Err(e) = self.record_standstill(why) {
            // The store is most likely on that very disk.
            self.reserve.give_up();
            if let Err(again) = self.record_standstill(why) {
                tracing::error!("{why}; and that cannot be recorded: {e}; {again}");
            }
        }
        self.show();
        None
    }

    fn record_standstill(&mut self, why: &str) -> Result<(), Fault> {
        let (id, to) = (&self.record.id, MachineState::Paused);
        let changed = self
            .store
            .transition(id, None, to, Cause::Fault, Some(why), |r| {
                r.reason = Some(why.to_owned());
            });
        self.record = changed?;
        Ok(())
    }
}

/// How long a start may take.
pub fn start_deadline(accelerator: Accelerator, boot: Boot) -> Duration {
    match boot {
        Boot::Cold => template::boot_deadline(accelerator),
        Boot::Fork => Duration::from_secs(20) * accelerator.patience(),
    }
}
