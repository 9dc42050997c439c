//! What it takes to go back: `vmint restore` and the first command after it, against QEMU's own way back, `loadvm`, with the same
//! guest, and against a fork.
//!
//! The peer has what vmint's command line has not: it is measured in this process, with a connection that is open.

use super::process::ms;
use super::report::{Row, Rows, Unit};
use super::rig::{MEMORY, Rig, kill, spec, succeeded};
use super::targets;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use vmint_model::{Confine, ErrorKind, Fault, Origin};
use vmint_protocol::Request;
use vmint_qemu::{Hypervisor, Launch, Start};
use vmint_runner::bringup::qmp_deadline;
use vmint_runner::{Session, identity};

/// Room for what `savevm` writes, in a file with holes.
const ROOM: &str = "8G";

/// `vmint restore` and a first command, against `loadvm` and a first command, and against a fork until it runs.
pub(crate) async fn restore(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let template = rig.template(MEMORY).await?;
    let machine = rig
        .start(rig.machine("tiny", MEMORY, Origin::Template))
        .await?;
    rig.execute(&machine, &["true"]).await?;
    let snapshot = rig.name();
    rig.vmint.snapshot(machine.id.as_str(), &snapshot).await?;
    let mut peer = Peer::start(rig).await?;
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    let (mut peer_alone, mut peer_both, mut forks) = (Vec::new(), Vec::new(), Vec::new());
    let (name, snapshot) = (machine.name.as_str(), snapshot.as_str());
    for turn in 0..=rig.count(30, 8) {
        let restored = rig.time(rig.program(&["restore", name, snapshot]))?;
        let first = rig.time(rig.program(&["exec", name, "--", "true"]))?;
        let (loaded, answered) = peer.go_back().await?;
        let (forked, hypervisor) = rig.fork(&template).await?;
        kill(hypervisor).await?;
        // The first of each fills caches.
        if turn > 0 {
            alone.push(restored);
            both.push(restored + first);
            peer_alone.push(loaded);
            peer_both.push(answered);
            forks.push(forked);
        }
    }
    peer.end().await?;
    let row = |what: &str, figures: &[f64]| Row::new("restore", what, Unit::Milliseconds, figures);
    rows.push(
        row("`vmint restore`, whole process", &alone)
            .floor("fork to running", &forks)
            .target(targets::RESTORE),
    );
    rows.push(
        row(
            "`vmint restore` and `vmint exec NAME -- true`, whole processes",
            &both,
        )
        .floor("`loadvm` and the first `true`, in process", &peer_both)
        .target(targets::RESTORE_LOADVM),
    );
    rows.push(
        row("`vmint restore`, whole process", &alone).floor("`loadvm`, in process", &peer_alone),
    );
    rig.vmint
        .remove_snapshot(&snapshot.parse().expect("a legal name"))?;
    rig.remove(&machine).await
}

/// The same guest under a QEMU that goes back by itself.
struct Peer {
    hypervisor: Hypervisor,
    socket: Arc<Mutex<UnixStream>>,
    session: Option<(Session, JoinHandle<()>)>,
}

impl Peer {
    async fn start(rig: &Rig<'_>) -> Result<Self, Fault> {
        let template = rig.template(MEMORY).await?;
        let (ram, console, log) = (
            template.ram(),
            rig.scratch("peer.console.log"),
            rig.scratch("peer.qemu.log"),
        );
        let launch = Launch {
            qemu: &rig.host.qemu,
            shape: &template.manifest().shape,
            name: "vmint-bench-peer",
            start: Start::Load(&template),
            ram: &ram,
            layers: &[],
            publish: &[],
            cache: vmint_model::DiskCache::Unsafe,
            console: &console,
            // It is given a file that no machine of vmint's has.
            confine: Confine::Off,
            user: None,
            allow: None,
            held: vmint_qemu::hypervisor::Held::default(),
            log: &log,
        };
        let mut hypervisor = launch.run(qmp_deadline(rig.host.accelerator)).await?;
        let socket = hypervisor.take_agent().expect("taken here first");
        let mut peer = Self {
            hypervisor,
            socket: Arc::new(Mutex::new(socket)),
            session: None,
        };
        peer.greet().await?;
        let prepare = Request::Prepare(Box::new(rig.prepare()?));
        peer.session()
            .call(prepare, "take its identity", Duration::from_secs(60))
            .await?;
        peer.first_command().await?;
        let file = rig.scratch("peer.qcow2");
        let mut make = vmint_spawn::command(&rig.host.qemu.img);
        make.args(["create", "-q", "-f", "qcow2"])
            .arg(&file)
            .arg(ROOM);
        rig.time(make)?;
        let node = serde_json::json!({
            "driver": "qcow2", "node-name": "states",
            "file": { "driver": "file", "filename": file.to_string_lossy(), "cache": { "no-flush": true } },
            "cache": { "no-flush": true },
        });
        peer.hypervisor
            .qmp()
            .execute_raw("blockdev-add", node)
            .await?;
        peer.monitor("savevm moment").await?;
        Ok(peer)
    }

    fn session(&self) -> &Session {
        &self.session.as_ref().expect("greeted first").0
    }

    /// A new session: the guest that was gone back to is in the middle of an older one.
    async fn greet(&mut self) -> Result<(), Fault> {
        self.hang_up();
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let socket = self.socket.clone();
        let pump = tokio::spawn(async move {
            let mut socket = socket.lock().await;
            let _ = tokio::io::copy_bidirectional(&mut far, &mut *socket).await;
        });
        let session = Session::greet(near, Duration::from_secs(60)).await?;
        self.session = Some((session, pump));
        Ok(())
    }

    fn hang_up(&mut self) {
        if let Some((session, pump)) = self.session.take() {
            drop(session);
            pump.abort();
        }
    }

    async fn first_command(&self) -> Result<(), Fault> {
        let argv = ["true"];
        let status = self.session().exec(spec(&argv), |_, _| {}).await?;
        succeeded(status, &argv, b"")
    }

    async fn monitor(&self, command: &str) -> Result<(), Fault> {
        let arguments = serde_json::json!({ "command-line": command });
        let qmp = self.hypervisor.qmp();
        let said = qmp.execute_raw("human-monitor-command", arguments).await?;
        match said.as_str().map(str::trim) {
            None | Some("") => Ok(()),
            Some(said) => Err(Fault::new(
                ErrorKind::Hypervisor,
                format!("{command}: {said}"),
            )),
        }
    }

    /// Milliseconds until it has gone back, and until a command in it has ended, the time set.
    async fn go_back(&mut self) -> Result<(f64, f64), Fault> {
        self.hang_up();
        let began = Instant::now();
        self.monitor("loadvm moment").await?;
        let loaded = ms(began.elapsed());
        self.greet().await?;
        let clock = Request::SetClock(identity::now_ns());
        self.session()
            .call(clock, "set its clock", Duration::from_secs(60))
            .await?;
        self.first_command().await?;
        Ok((loaded, ms(began.elapsed())))
    }

    async fn end(mut self) -> Result<(), Fault> {
        self.hang_up();
        kill(self.hypervisor).await
    }
}
