//! The task that owns one machine. It alone changes the machine's state, and it is fed by one queue: requests from the
//! socket, notices from QEMU, rings of the doorbell, the owner's end.
//!
//! ```text
//! requests ─┐
//! QEMU ─────┼─▶ Machine ─▶ store, socket's view
//! watches ──┘
//! ```
//!
//! Invariants:
//! * The store says `running` only after a command can be executed, and the runner ends only after the store says
//!   what became of the machine, or the machine's record is gone.
//! * QEMU is a child that dies with this process, so no end of this process leaves it behind.

use crate::api;
use crate::bringup::{End, Live, Story, bring_up, settle};
use crate::identity;
use crate::ports::published;
use crate::reserve::Reserve;
use crate::server::View;
use crate::start::{BootSpec, From, StartRequest};
use crate::template;
use crate::watch::Watched;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use vmint_model::{
    Accelerator, Cause, ErrorKind, Fault, Generation, MachineDir, MachineRecord, MachineState,
    NetMode, ProcessRef,
};
use vmint_protocol::Request;
use vmint_qemu::disk::{self, Layer};
use vmint_qemu::hypervisor::{Afterwards, Save};
use vmint_qemu::qmp::Event;
use vmint_qemu::{Boot, Exit, Frozen, Launch, Manifest, Notice, Start};
use vmint_store::{Store, process};

/// A request and where its answer goes.
#[derive(Debug)]
pub enum Ask {
    /// Stop, and perhaps remove.
    Stop(api::Stop, oneshot::Sender<Result<(), Fault>>),
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
}

/// Why a machine stands still that cannot write to its disk.
const FULL_DISK: &str =
    "the host's disk is full: the machine stands still until there is space and it is resumed";

/// One machine.
pub struct Machine {
    dir: MachineDir,
    store: Store,
    /// The store's file, to tell when another one has taken its place.
    store_file: Option<(u64, u64)>,
    record: MachineRecord,
    request: StartRequest,
    live: Option<Live>,
    story: Story,
    reserve: Reserve,
    view: View,
}

/// How the loop ended, and what is still to do.
enum Over {
    /// The machine is down; this is why.
    Down {
        cause: Cause,
        to: MachineState,
        reason: Option<String>,
        remove: bool,
    },
    /// Its record or folder is gone.
    Deleted,
}

impl Machine {
    /// A machine that is not up yet.
    pub fn new(
        dir: MachineDir,
        store: Store,
        record: MachineRecord,
        request: StartRequest,
        view: View,
    ) -> Self {
        let store_file = file_identity(store.path());
        let reserve = Reserve::in_folder(dir.path());
        Self {
            dir,
            store,
            store_file,
            record,
            request,
            live: None,
            story: Story::default(),
            reserve,
            view,
        }
    }

    /// Its record.
    pub fn record(&self) -> &MachineRecord {
        &self.record
    }

    /// Brings it up for the first time and records it as running.
    pub async fn start(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + Duration::from_millis(self.request.deadline_ms);
        let generation = self.record.generation;
        match &self.request.from {
            From::Frozen(folder) => {
                let frozen = Frozen::open(folder)?;
                self.adopt(&frozen)?;
                self.fork(generation, deadline).await?;
            }
            From::Boot(spec) => {
                let spec = spec.clone();
                self.boot(&spec, deadline).await?;
            }
        }
        self.up(self.request.asked_at_ms, Cause::Completed)
    }

    /// Makes `frozen` the machine's origin: from now on its folder holds all that a reset needs.
    fn adopt(&self, frozen: &Frozen) -> Result<(), Fault> {
        let origin = self.dir.path().join("origin");
        if frozen.folder() == origin {
            frozen.check_linked()?;
            return self.fresh_disk(frozen.manifest().layers);
        }
        frozen.check()?;
        let fault = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot prepare the machine's folder")
        };
        if origin.exists() {
            std::fs::remove_dir_all(&origin).map_err(fault)?;
        }
        disk::remove_from(self.dir.path(), 0).map_err(fault)?;
        let blank = self.dir.path().join(disk::BLANK);
        if blank.exists() {
            std::fs::remove_file(blank).map_err(fault)?;
        }
        frozen.link_into(self.dir.path())?;
        self.fresh_disk(frozen.manifest().layers)
    }

    /// Replaces what the machine wrote by an empty layer on top of `below` frozen ones.
    fn fresh_disk(&self, below: usize) -> Result<(), Fault> {
        let fault = |e: &(dyn std::error::Error + 'static)| Fault::from_error(ErrorKind::Host, e);
        disk::remove_from(self.dir.path(), below).map_err(|e| fault(&e))?;
        if below > 0 {
            disk::copy_blank(self.dir.path(), below).map_err(|e| fault(&e))?;
        }
        Ok(())
    }

    async fn fork(&mut self, generation: Generation, deadline: Instant) -> Result<(), Fault> {
        let frozen = Frozen::open(&self.dir.path().join("origin"))?;
        let expected = self.request.host.hardware(&frozen.manifest().shape);
        if frozen.manifest().hardware != expected {
            let message = format!(
                "it was frozen with {} and this is {}, or on another processor; it cannot be loaded",
                frozen.manifest().qemu,
                self.request.host.qemu.banner
            );
            return Err(Fault::new(ErrorKind::Corrupt, message)
                .hint("take the snapshot again, or start from the image"));
        }
        let layers = disk::layers(self.dir.path());
        let ram = frozen.ram();
        self.launch(Start::Load(&frozen), &ram, &layers, generation, deadline)
            .await
    }

    async fn boot(&mut self, spec: &BootSpec, deadline: Instant) -> Result<(), Fault> {
        let ram = self.dir.path().join("ram");
        if !ram.exists() {
            template::create_ram(&ram, self.request.shape.memory.0)?;
        }
        let layers = match &spec.disk {
            None => Vec::new(),
            Some(image) => {
                template::prepare_boot_disk(&self.request.host.qemu.img, self.dir.path(), image)
                    .await?
            }
        };
        let boot = Boot {
            kernel: spec.kernel.clone(),
            initramfs: spec.initramfs.clone(),
            cmdline: spec.cmdline.clone(),
        };
        let generation = self.record.generation;
        self.launch(Start::Boot(&boot), &ram, &layers, generation, deadline)
            .await?;
        let live = self.live.as_mut().expect("launched above");
        settle(live, spec.settle, &self.dir.console_log(), deadline).await
    }

    async fn launch(
        &mut self,
        start: Start<'_>,
        ram: &Path,
        layers: &[Layer],
        generation: Generation,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let prepare = identity::fresh(&self.record.name, generation, self.record.spec.net)?;
        let name = format!("vmint-{}", self.record.name);
        let (console, log) = (self.dir.console_log(), self.dir.qemu_log());
        let launch = Launch {
            qemu: &self.request.host.qemu,
            shape: &self.request.shape,
            name: &name,
            start,
            ram,
            layers,
            publish: &self.record.spec.publish,
            console: &console,
            log: &log,
        };
        self.story = Story::default();
        let live = bring_up(launch, prepare, deadline).await?;
        self.record.ports = published(&live.hypervisor, &self.record.spec.publish).await?;
        self.live = Some(live);
        Ok(())
    }

    /// Records that a command can be executed now.
    fn up(&mut self, asked_at_ms: f64, cause: Cause) -> Result<(), Fault> {
        let live = self.live.as_ref().expect("called when it is up");
        if !disk::layers(self.dir.path()).is_empty() {
            self.reserve.take();
        }
        let hypervisor = process::of(live.hypervisor.pid()).ok().flatten();
        let runner = process::current().ok();
        let ready_ms = (identity::now_ns() as f64 / 1e6 - asked_at_ms).max(0.0);
        let (accelerator, ports) = (self.request.host.accelerator, self.record.ports.clone());
        let fingerprint = self.request.fingerprint.clone();
        let nat = self.record.spec.net == NetMode::Nat;
        let changed = self.store.transition(
            &self.record.id,
            None,
            MachineState::Running,
            cause,
            None,
            |r| {
                r.runner = runner;
                r.hypervisor = hypervisor;
                r.accelerator = Some(accelerator);
                r.ports = ports;
                r.addresses = if nat {
                    vec![identity::GUEST_ADDRESS.to_owned()]
                } else {
                    Vec::new()
                };
                r.ready_ms = Some(ready_ms);
                r.reason = None;
                if r.template.is_none() {
                    r.template = Some(fingerprint);
                }
            },
        );
        self.record = changed.map_err(store_fault)?;
        self.show();
        Ok(())
    }

    /// What the socket shows of the machine.
    fn show(&self) {
        let session = self.live.as_ref().map(|l| l.session.clone());
        self.view.set(self.record.clone(), session);
    }

    /// Serves requests until the machine is down, then records what became of it.
    pub async fn serve(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut watches: mpsc::Receiver<Watched>,
    ) {
        let mut answers: Vec<oneshot::Sender<Result<(), Fault>>> = Vec::new();
        let over = loop {
            let live = self
                .live
                .as_mut()
                .expect("a machine is served while it is up");
            let over = tokio::select! {
                Some(ask) = asks.recv() => self.answer(ask, &mut asks, &mut answers).await,
                notice = live.hypervisor.notice() => match notice {
                    Ok(Notice::Event(event)) => {
                        self.heard(event);
                        None
                    }
                    Ok(Notice::Exited(exit)) => Some(self.exited(&exit)),
                    Err(e) => Some(self.died(format!("QEMU cannot be watched: {e}"))),
                },
                Some(watched) = watches.recv() => self.look(watched, &mut asks, &mut answers).await,
            };
            if let Some(over) = over {
                break over;
            }
        };
        self.finish(over).await;
        for answer in answers {
            let _ = answer.send(Ok(()));
        }
    }

    async fn answer(
        &mut self,
        ask: Ask,
        asks: &mut mpsc::Receiver<Ask>,
        answers: &mut Vec<oneshot::Sender<Result<(), Fault>>>,
    ) -> Option<Over> {
        match ask {
            Ask::Stop(stop, answer) => {
                answers.push(answer);
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
            Ask::Qmp(command, answer) => {
                let qmp = self
                    .live
                    .as_ref()
                    .expect("served while it is up")
                    .hypervisor
                    .qmp()
                    .clone();
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
                    if self.live.is_none() {
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
        asks: &mut mpsc::Receiver<Ask>,
        answers: &mut Vec<oneshot::Sender<Result<(), Fault>>>,
    ) -> Option<Over> {
        if watched == Watched::OwnerEnded {
            let stop = api::Stop {
                force: true,
                timeout_ms: 0,
                remove: true,
            };
            return Some(self.stop(stop, Cause::OwnerEnded, asks, answers).await);
        }
        if !self.dir.lock().exists() {
            return Some(Over::Deleted);
        }
        if file_identity(self.store.path()) != self.store_file {
            // What is still open is nobody else's any more: no command would ever find this machine in it.
            tracing::warn!(
                "{} is another file now, or gone",
                self.store.path().display()
            );
            return Some(Over::Deleted);
        }
        match self.store.get(&self.record.id) {
            Ok(None) => Some(Over::Deleted),
            Err(e) => {
                tracing::warn!("the store cannot be read: {e}");
                None
            }
            Ok(Some(_)) => match self.store.take_stop_request(&self.record.id) {
                Ok(Some(request)) => {
                    let left = request.deadline_ms - vmint_store::now_ms();
                    let stop = api::Stop {
                        force: request.force,
                        timeout_ms: left.max(0) as u64,
                        remove: false,
                    };
                    Some(self.stop(stop, Cause::Requested, asks, answers).await)
                }
                Ok(None) => None,
                Err(e) => {
                    tracing::warn!("the store cannot be read: {e}");
                    None
                }
            },
        }
    }

    fn expect_state(&self, wanted: MachineState, verb: &str) -> Result<(), Fault> {
        if self.record.state == wanted {
            return Ok(());
        }
        let message = format!(
            "cannot {verb} machine {}: it is {}",
            self.record.name, self.record.state
        );
        Err(Fault::new(ErrorKind::WrongState, message))
    }

    async fn pause(&mut self) -> Result<(), Fault> {
        if self.record.state == MachineState::Paused {
            return Ok(());
        }
        self.expect_state(MachineState::Running, "pause")?;
        self.live
            .as_ref()
            .expect("served while it is up")
            .hypervisor
            .pause()
            .await?;
        self.record_state(MachineState::Paused)
    }

    async fn resume(&mut self) -> Result<(), Fault> {
        let running = self.record.state == MachineState::Running;
        if !running {
            self.expect_state(MachineState::Paused, "resume")?;
        }
        // Also one that is recorded as running: a full disk may have halted it and kept the store from saying so.
        self.live
            .as_ref()
            .expect("served while it is up")
            .hypervisor
            .resume()
            .await?;
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
        let Some(live) = &self.live else { return };
        let session = live.session.clone();
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
        self.record = changed.map_err(store_fault)?;
        self.show();
        Ok(())
    }

    /// A new fork in the place of this one, of the next generation.
    async fn reset(&mut self, reset: &api::Reset) -> Result<(), Fault> {
        let asked = identity::now_ns() as f64 / 1e6;
        let deadline = Instant::now() + Duration::from_millis(self.request.deadline_ms);
        let from = match &reset.from {
            Some(folder) => Some(Frozen::open(folder)?),
            None => None,
        };
        if let Some(frozen) = &from {
            let shape = &frozen.manifest().shape;
            if *shape != self.request.shape {
                let message = "the snapshot is of a machine with other hardware (memory, processors, network or disk)";
                return Err(Fault::new(ErrorKind::WrongState, message));
            }
        }
        let origin = self.dir.path().join("origin");
        let name = reset.snapshot.as_ref().map(ToString::to_string);
        let changed = self.store.transition(
            &self.record.id,
            None,
            MachineState::Starting,
            Cause::Requested,
            Some(if from.is_some() { "restore" } else { "reset" }),
            |r| {
                r.generation = r.generation.next();
                r.hypervisor = None;
                if let Some(name) = name {
                    r.template = Some(name);
                }
            },
        );
        self.record = changed.map_err(store_fault)?;
        self.view.set(self.record.clone(), None);
        if let Some(live) = self.live.take() {
            drop(live.session);
            live.hypervisor
                .kill()
                .await
                .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        }
        match (&from, origin.exists()) {
            (Some(frozen), _) => {
                self.adopt(frozen)?;
                self.fork(self.record.generation, deadline).await?;
            }
            (None, true) => {
                self.adopt(&Frozen::open(&origin)?)?;
                self.fork(self.record.generation, deadline).await?;
            }
            (None, false) => {
                let From::Boot(spec) = self.request.from.clone() else {
                    return Err(Fault::new(
                        ErrorKind::Corrupt,
                        "the machine's origin is missing",
                    ));
                };
                let below = usize::from(spec.disk.is_some());
                disk::remove_from(self.dir.path(), below)
                    .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
                self.boot(&spec, deadline).await?;
            }
        }
        self.up(asked, Cause::Completed)
    }

    async fn snapshot(&mut self, snapshot: &api::Snapshot) -> Result<api::Snapshotted, Fault> {
        let afterwards = match self.record.state {
            MachineState::Paused => Afterwards::StayPaused,
            _ => Afterwards::Run,
        };
        let live = self.live.as_mut().expect("served while it is up");
        let save = if snapshot.full {
            Save::Full
        } else {
            Save::Changed
        };
        let branch = live
            .hypervisor
            .branch(&snapshot.folder, save, afterwards)
            .await?;
        if afterwards == Afterwards::Run {
            self.catch_up();
        }
        let origin = Frozen::open(&self.dir.path().join("origin")).ok();
        let manifest = Manifest {
            version: vmint_qemu::frozen::VERSION,
            fingerprint: self.request.fingerprint.clone(),
            hardware: self.request.host.hardware(&self.request.shape),
            shape: self.request.shape.clone(),
            image: self.record.spec.image.clone(),
            image_digest: self.request.image_digest.clone(),
            qemu: self.request.host.qemu.banner.clone(),
            full: branch.method.is_none(),
            layers: branch.layers,
            // The RAM is the origin's, and its digest is known.
            files: origin.map_or_else(Vec::new, |o| {
                o.manifest()
                    .files
                    .iter()
                    .filter(|f| f.name == Frozen::RAM)
                    .cloned()
                    .collect()
            }),
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

    /// Asks the guest to shut down, and ends it when it does not in time. While it waits, another stop may force it.
    async fn stop(
        &mut self,
        stop: api::Stop,
        cause: Cause,
        asks: &mut mpsc::Receiver<Ask>,
        answers: &mut Vec<oneshot::Sender<Result<(), Fault>>>,
    ) -> Over {
        let mut remove = stop.remove || self.record.ephemeral;
        let mut reason = None;
        let mut live = self.live.take().expect("served while it is up");
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
        asks: &mut mpsc::Receiver<Ask>,
        answers: &mut Vec<oneshot::Sender<Result<(), Fault>>>,
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
                Some(ask) = asks.recv() => match ask {
                    Ask::Stop(stop, answer) => {
                        answers.push(answer);
                        *remove |= stop.remove;
                        if stop.force {
                            break true;
                        }
                    }
                    other => refuse(other, &self.record),
                },
            }
        };
        request.abort();
        down
    }

    /// When the host's disk is full, QEMU halts the guest instead of failing its writes. That is a pause, and can be
    /// resumed.
    fn heard(&mut self, event: Event) {
        let full = matches!(event, Event::BlockError { no_space: true });
        self.story.note(event);
        if !full || self.record.state != MachineState::Running {
            return;
        }
        if let Err(e) = self.record_full_disk() {
            // The store is most likely on that very disk.
            self.reserve.give_up();
            if let Err(again) = self.record_full_disk() {
                tracing::error!("{FULL_DISK}; and that cannot be recorded: {e}; {again}");
            }
        }
        self.show();
    }

    fn record_full_disk(&mut self) -> Result<(), Fault> {
        let (id, to) = (&self.record.id, MachineState::Paused);
        let changed = self
            .store
            .transition(id, None, to, Cause::Fault, Some(FULL_DISK), |r| {
                r.reason = Some(FULL_DISK.to_owned());
            });
        self.record = changed.map_err(store_fault)?;
        Ok(())
    }

    fn exited(&self, exit: &Exit) -> Over {
        let console = self.dir.console_log();
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

    fn died(&self, reason: String) -> Over {
        let (cause, to) = (Cause::Fault, MachineState::Failed);
        Over::Down {
            cause,
            to,
            reason: Some(reason),
            remove: self.record.ephemeral,
        }
    }

    /// Records that bringing the machine up failed, and leaves nothing behind.
    pub async fn fail(mut self, fault: &Fault) {
        let reason = Some(fault.message.clone());
        let (cause, to, remove) = (Cause::Fault, MachineState::Failed, self.record.ephemeral);
        self.live = None;
        self.finish(Over::Down {
            cause,
            to,
            reason,
            remove,
        })
        .await;
    }

    async fn finish(&mut self, over: Over) {
        // QEMU first: whoever reads “stopped” may rely on it.
        if let Some(live) = self.live.take() {
            let _ = live.hypervisor.kill().await;
        }
        let mut remove_folder = true;
        if let Over::Down {
            cause,
            to,
            reason,
            remove,
        } = over
        {
            let detail = reason.clone();
            let changed =
                self.store
                    .transition(&self.record.id, None, to, cause, detail.as_deref(), |r| {
                        r.runner = None;
                        r.hypervisor = None;
                        r.addresses = Vec::new();
                        r.ports = Vec::new();
                        r.reason = reason;
                    });
            if let Err(e) = changed {
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
            if let Err(e) = vmint_store::remove_folder(self.dir.path()) {
                tracing::error!("cannot remove {}: {e}", self.dir.path().display());
                return;
            }
            let _ = self.store.delete(&self.record.id, Cause::Completed);
        }
    }
}

fn refuse(ask: Ask, record: &MachineRecord) {
    let fault = || {
        let message = format!("machine {} is being stopped", record.name);
        Fault::new(ErrorKind::WrongState, message)
    };
    match ask {
        Ask::Stop(_, a) | Ask::Pause(a) | Ask::Resume(a) => drop(a.send(Err(fault()))),
        Ask::Reset(_, a) => drop(a.send(Err(fault()))),
        Ask::Snapshot(_, a) => drop(a.send(Err(fault()))),
        Ask::Qmp(_, a) => drop(a.send(Err(fault()))),
    }
}

/// A store's failure at the door.
pub fn store_fault(e: vmint_store::StoreError) -> Fault {
    let (kind, hint) = (e.kind(), e.hint());
    let fault = Fault::from_error(kind, &e);
    Fault { hint, ..fault }
}

/// Which file a path leads to.
fn file_identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// How long a start may take.
pub fn start_deadline(accelerator: Accelerator, boots: bool) -> Duration {
    if boots {
        template::boot_deadline(accelerator)
    } else {
        Duration::from_secs(20) * accelerator.patience()
    }
}

/// The processes of a machine, for whoever cleans up.
pub fn processes(record: &MachineRecord) -> impl Iterator<Item = &ProcessRef> {
    record.hypervisor.iter().chain(record.runner.iter())
}
