//! A guest with a second virtio-serial port, which carries bytes as they are: what the agent's port cannot exceed.
//!
//! The port has a controller of its own, since that of a machine has room for the agent's port alone.

use super::rig::{MEMORY, Rig, spec, succeeded};
use super::stream::{expect, rate};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use vmint_model::{ErrorKind, Fault, Link};
use vmint_protocol::archive::{Item, Parser};
use vmint_protocol::{Channel, FromGuest, Reply, Request, TarIn};
use vmint_qemu::args;
use vmint_qemu::qmp::Qmp;
use vmint_qemu::spawn::{self, Child, Pass};
use vmint_runner::bringup::qmp_deadline;
use vmint_runner::probe::shape;
use vmint_runner::template::{boot_deadline, boot_spec, create_ram};
use vmint_runner::{Fed, Session, SessionError};

/// Descriptor of the raw port's socket in the child; the others are [`args::FD_QMP`] and [`args::FD_AGENT`].
const FD_RAW: i32 = 5;

/// Bytes that the guest's `dd` moves at a time.
const BLOCK: u64 = 32 << 10;

/// Longer than any transfer here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A booted guest, its agent, and the raw port.
pub(crate) struct RawGuest {
    child: Child,
    qmp: Qmp,
    session: Session,
    raw: UnixStream,
    device: String,
}

impl RawGuest {
    /// Boots tiny with the port.
    pub(crate) async fn boot(rig: &Rig<'_>) -> Result<Self, Fault> {
        let image = rig.vmint.ensure_image("tiny", rig.progress).await?;
        let accelerator = rig.host.accelerator;
        let boot = boot_spec(&image.boot_files()?, accelerator);
        let shape = shape(accelerator, MEMORY, 1, Link::None);
        let (ram, console) = (rig.scratch("raw.ram"), rig.scratch("raw.console.log"));
        create_ram(&ram, MEMORY.0)?;
        let mut arguments: Vec<OsString> = vec!["-name".into(), "vmint-bench-raw".into()];
        arguments.extend(
            args::hardware(&shape, &rig.host.qemu.board, &[])
                .into_iter()
                .map(Into::into),
        );
        arguments.extend(args::memory(&shape, &ram, args::Writes::Private));
        arguments.extend(args::channels().into_iter().map(Into::into));
        arguments.extend(raw_port());
        arguments.extend(args::sandbox().into_iter().map(Into::into));
        arguments.extend(args::boot(&boot.kernel, &boot.initramfs, &boot.cmdline));
        let host = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot start a guest for raw bytes")
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(rig.scratch("qemu.log"))
            .map_err(host)?;
        let mut command = vmint_spawn::command(&rig.host.qemu.system);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let console = File::options().create(true).append(true).open(&console);
        let console = Pass {
            fd: console.map_err(host)?.into(),
            number: args::FD_CONSOLE,
        };
        let (mut ours, mut theirs) = (Vec::new(), vec![console]);
        for number in [args::FD_QMP, args::FD_AGENT, FD_RAW] {
            let (our, their) = StdUnixStream::pair().map_err(host)?;
            our.set_nonblocking(true).map_err(host)?;
            ours.push(UnixStream::from_std(our).map_err(host)?);
            theirs.push(Pass {
                fd: their.into(),
                number,
            });
        }
        let child = spawn::spawn(command, theirs, None).await.map_err(host)?;
        let [qmp, agent, raw] = ours.try_into().expect("three were made");
        let (qmp, _events) = Qmp::connect(qmp, qmp_deadline(accelerator)).await?;
        let deadline = boot_deadline(accelerator);
        let session = Session::greet(agent, deadline).await?;
        let prepare = Request::Prepare(Box::new(rig.prepare()?));
        match session.call(prepare, "take its identity", deadline).await? {
            Reply::Prepared => {}
            other => return Err(SessionError::Unexpected(format!("{other:?}")).into()),
        }
        let device = find_port(&session).await?;
        Ok(Self {
            child,
            qmp,
            session,
            raw,
            device,
        })
    }

    /// The guest sends `bytes` over the port; megabytes in a second until all of them are here.
    pub(crate) async fn output(&mut self, bytes: u64) -> Result<f64, Fault> {
        let (to, count) = (
            format!("of={}", self.device),
            format!("count={}", bytes / BLOCK),
        );
        let argv = ["dd", "if=/dev/zero", &to, "bs=32k", &count];
        let expected = bytes / BLOCK * BLOCK;
        let raw = &mut self.raw;
        let drained = async move {
            let mut buffer = vec![0; 256 << 10];
            let mut received = 0;
            while received < expected {
                match raw.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => received += n as u64,
                }
            }
            received
        };
        let began = Instant::now();
        let moved = async { tokio::join!(execute(&self.session, &argv), drained) };
        let (wrote, received) = patiently(moved).await?;
        let rate = rate(expected, began);
        wrote?;
        expect(received, expected)?;
        Ok(rate)
    }

    /// `bytes` go through a pipe in the guest, from one process to another, and nowhere else; megabytes in a second.
    pub(crate) async fn piped(&self, block: u64, bytes: u64) -> Result<f64, Fault> {
        let script = format!(
            "dd if=/dev/zero bs={block} count={} 2>/dev/null | dd of=/dev/null bs={block} 2>/dev/null",
            bytes / block
        );
        let argv = ["sh", "-c", &script];
        let began = Instant::now();
        patiently(execute(&self.session, &argv)).await??;
        Ok(rate(bytes, began))
    }

    /// This process sends `bytes` over the port; megabytes in a second until the guest has read all of them.
    pub(crate) async fn input(&mut self, bytes: u64) -> Result<f64, Fault> {
        let (from, count) = (
            format!("if={}", self.device),
            format!("count={}", bytes / BLOCK),
        );
        // A port gives at most a page at a time: without this, `dd` counts each of them as a block.
        let argv = [
            "dd",
            &from,
            "of=/dev/null",
            "bs=32k",
            "iflag=fullblock",
            &count,
        ];
        let blocks = bytes / BLOCK;
        let raw = &mut self.raw;
        let fed = async move {
            let block = vec![0x5a; BLOCK as usize];
            for _ in 0..blocks {
                raw.write_all(&block).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let began = Instant::now();
        let moved = async { tokio::join!(execute(&self.session, &argv), fed) };
        let (read, fed) = patiently(moved).await?;
        let rate = rate(blocks * BLOCK, began);
        read?;
        fed.map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot write to the raw port")
        })?;
        Ok(rate)
    }

    /// The guest's `tar` unpacks an archive from the port into a new folder; the time until all of it is there.
    pub(crate) async fn unpack(&mut self, archive: &[u8], folder: &str) -> Result<Duration, Fault> {
        // In whole blocks, for `dd` ends after so many of them, and with it what `tar` reads.
        let blocks = archive.len().div_ceil(BLOCK as usize);
        let script = format!(
            "mkdir {folder} && dd if={} bs=32k iflag=fullblock count={blocks} 2>/dev/null | tar x -C {folder}",
            self.device
        );
        let raw = &mut self.raw;
        let padding = vec![0; blocks * BLOCK as usize - archive.len()];
        let fed = async move {
            raw.write_all(archive).await?;
            raw.write_all(&padding).await
        };
        let argv = ["sh", "-c", &script];
        let began = Instant::now();
        let moved = async { tokio::join!(execute(&self.session, &argv), fed) };
        let (unpacked, fed) = patiently(moved).await?;
        let took = began.elapsed();
        unpacked?;
        fed.map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot write to the raw port")
        })?;
        Ok(took)
    }

    /// The guest's `tar` packs a folder into the port, and `tar` of this host unpacks it into another; the time until all of
    /// it is there. The guest's is removed then.
    pub(crate) async fn pack(&mut self, folder: &str, target: &Path) -> Result<Duration, Fault> {
        let failed = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot unpack what the raw port sent")
        };
        std::fs::create_dir(target).map_err(failed)?;
        let mut tar = vmint_spawn::command("tar");
        tar.arg("x").arg("-C").arg(target).stdin(Stdio::piped());
        let mut tar = tar.spawn().map_err(failed)?;
        let script = format!("tar c -C {folder} . > {}", self.device);
        let argv = ["sh", "-c", &script];
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
        let raw = &mut self.raw;
        let drained = async move {
            let mut parser = Parser::default();
            let mut is_whole = false;
            // Busybox sends nothing behind an archive's end.
            while !is_whole {
                let mut piece = vec![0; 64 << 10];
                let Ok(n @ 1..) = raw.read(&mut piece).await else {
                    break;
                };
                piece.truncate(n);
                let mut bytes = &piece[..];
                while let Ok(Some(item)) = parser.next(&mut bytes) {
                    is_whole |= item == Item::End;
                }
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            is_whole
        };
        let began = Instant::now();
        let unpacking = tokio::task::spawn_blocking(move || {
            if let Some(mut input) = tar.stdin.take() {
                while let Some(piece) = receiver.blocking_recv() {
                    input.write_all(&piece)?;
                }
            }
            tar.wait()
        });
        let moved = async { tokio::join!(execute(&self.session, &argv), drained, unpacking) };
        let (packed, is_whole, unpacked) = patiently(moved).await?;
        let took = began.elapsed();
        packed?;
        let unpacked = unpacked
            .expect("unpacking does not panic")
            .map_err(failed)?;
        expect(u64::from(is_whole && unpacked.success()), 1)?;
        execute(&self.session, &["rm", "-r", folder]).await?;
        Ok(took)
    }

    /// A command's output as its agent sends it, with no runner between.
    pub(crate) async fn command_output(&self, argv: &[&str], bytes: u64) -> Result<f64, Fault> {
        let (mut received, mut said) = (0, Vec::new());
        let began = Instant::now();
        let hear = |channel, bytes: &[u8]| match channel {
            Channel::Error => said.extend_from_slice(bytes),
            _ => received += bytes.len() as u64,
        };
        let status = self.session.exec(spec(argv), hear).await?;
        let rate = rate(bytes, began);
        succeeded(status, argv, &said)?;
        expect(received, bytes)?;
        Ok(rate)
    }

    /// A tar stream as its agent takes it, with no runner between.
    pub(crate) async fn tar_in(
        &self,
        archive: impl AsyncRead + Unpin,
        bytes: u64,
    ) -> Result<f64, Fault> {
        let began = Instant::now();
        let request = TarIn {
            path: b"/tmp".to_vec(),
            user: None,
        };
        let mut stream = self.session.open(Request::TarIn(request))?;
        let message = match stream.feed(archive).await? {
            Fed::All => stream.outcome().await?,
            Fed::Ended(message) => message,
            Fed::Unreadable(e) => return Err(Fault::from_error(ErrorKind::Internal, &*e)),
        };
        let rate = rate(bytes, began);
        match message {
            FromGuest::Reply(Reply::Unpacked(sent)) => expect(sent.bytes, bytes)?,
            other => return Err(SessionError::Unexpected(format!("{other:?}")).into()),
        }
        execute(&self.session, &["rm", "/tmp/stream"]).await?;
        Ok(rate)
    }

    /// Stops the guest's processors.
    pub(crate) async fn pause(&self) -> Result<(), Fault> {
        self.qmp.execute_raw("stop", serde_json::json!({})).await?;
        Ok(())
    }

    /// Lets them go on.
    pub(crate) async fn resume(&self) -> Result<(), Fault> {
        self.qmp.execute_raw("cont", serde_json::json!({})).await?;
        Ok(())
    }

    /// Ends it.
    pub(crate) fn kill(self) {
        drop(self.child);
    }
}

fn raw_port() -> [OsString; 6] {
    [
        "-chardev".into(),
        format!("socket,id=raw,fd={FD_RAW}").into(),
        "-device".into(),
        "virtio-serial-pci,id=rawbus,addr=0x7,max_ports=2".into(),
        "-device".into(),
        "virtserialport,bus=rawbus.0,nr=1,chardev=raw,name=vmint.raw".into(),
    ]
}

/// The port's device in the guest: its number depends on which controller the guest saw first.
async fn find_port(session: &Session) -> Result<String, Fault> {
    let script = "for p in /sys/class/virtio-ports/*; do \
        [ \"$(cat $p/name)\" = vmint.raw ] && printf /dev/${p##*/}; done; true";
    let mut said = String::new();
    let hear = |channel, bytes: &[u8]| {
        if channel == Channel::Output {
            said.push_str(&String::from_utf8_lossy(bytes));
        }
    };
    let argv = ["sh", "-c", script];
    succeeded(session.exec(spec(&argv), hear).await?, &argv, b"")?;
    if said.starts_with("/dev/vport") {
        return Ok(said);
    }
    Err(Fault::new(
        ErrorKind::Guest,
        format!("the guest does not see the raw port; it found {said:?}"),
    ))
}

async fn execute(session: &Session, argv: &[&str]) -> Result<(), Fault> {
    let mut said = Vec::new();
    let status = session
        .exec(spec(argv), |_, bytes| said.extend_from_slice(bytes))
        .await?;
    succeeded(status, argv, &said)
}

async fn patiently<T>(transfer: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::time::timeout(PATIENCE, transfer).await.map_err(|_| {
        Fault::new(
            ErrorKind::TimedOut,
            format!("the raw port did not carry all bytes within {PATIENCE:?}"),
        )
    })
}
