//! Bytes in and out of a guest.

use super::raw::RawGuest;
use super::report::{Row, Rows, Target, Unit};
use super::rig::{MEMORY, Rig, succeeded};
use super::targets;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt};
use vmint::Command;
use vmint::exec::Happening;
use vmint_model::{ErrorKind, Fault, MachineRecord, Origin};

/// Bytes that a command or a tool moves at a time.
const BLOCK: u64 = 64 << 10;

/// A command's output to a reader in this process, and a tar stream into a tmpfs of the guest, both through the
/// runner, against what a second virtio-serial port of such a guest carries when nobody does anything with the bytes.
pub(crate) async fn stream(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    rig.template(MEMORY).await?;
    let machine = rig
        .start(rig.machine("tiny", MEMORY, Origin::Template))
        .await?;
    let name = machine.id.as_str();
    rig.progress
        .stage("stream: booting a guest with a port of its own for raw bytes");
    let mut guest = RawGuest::boot(rig).await?;
    let output = rig.count(500, 100) as u64 * 1_000_000 / BLOCK * BLOCK;
    let input = rig.count(200, 50) as u64 * 1_000_000 / BLOCK * BLOCK;
    let count = format!("count={}", output / BLOCK);
    let argv = ["dd", "if=/dev/zero", "bs=64k", &count];
    let (mut outs, mut ins) = (Samples::default(), Samples::default());
    let mut pipes = Vec::new();
    // The first of each translates the guest's code, and is not counted. While one guest is measured, the other stands
    // still.
    for round in 0..=rig.count(5, 2) {
        guest.pause().await?;
        let out = command_output(rig, &machine, &argv, output).await?;
        let tar = tar_in(rig, &machine, input).await?;
        rig.vmint.pause(name).await?;
        guest.resume().await?;
        let (raw_out, direct_out) = (
            guest.output(output).await?,
            guest.command_output(&argv, output).await?,
        );
        let piped = guest.piped(BLOCK, output).await?;
        let (raw_in, direct_in) = (
            guest.input(input).await?,
            guest.tar_in(archive(input)?, input).await?,
        );
        rig.vmint.resume(name).await?;
        if round > 0 {
            outs.add(out, direct_out, raw_out);
            pipes.push(piped);
            ins.add(tar, direct_in, raw_in);
        }
    }
    guest.kill();
    rig.remove(&machine).await?;
    let what = format!("a command's output, {} MB", output / 1_000_000);
    outs.report(rows, &what, "raw virtio-serial, out", targets::STREAM_OUT);
    // A command writes to a pipe, which the raw port does not have.
    let row = Row::new("stream", what, Unit::MegabytesPerSecond, &outs.whole);
    rows.push(row.floor("a pipe in the guest, without vmint", &pipes));
    let what = format!("a tar stream into tmpfs, {} MB", input / 1_000_000);
    ins.report(rows, &what, "raw virtio-serial, in", targets::STREAM_IN);
    Ok(())
}

/// One direction: as users have it, without the runner, and raw.
#[derive(Default)]
struct Samples {
    whole: Vec<f64>,
    direct: Vec<f64>,
    raw: Vec<f64>,
}

impl Samples {
    fn add(&mut self, whole: f64, direct: f64, raw: f64) {
        self.whole.push(whole);
        self.direct.push(direct);
        self.raw.push(raw);
    }

    fn report(&self, rows: &mut Rows<'_>, what: &str, floor: &str, target: Target) {
        let row = |what: &str, samples| Row::new("stream", what, Unit::MegabytesPerSecond, samples);
        rows.push(
            row(what, &self.whole)
                .floor(floor, &self.raw)
                .target(target),
        );
        rows.push(row(&format!("{what}, without a runner"), &self.direct).floor(floor, &self.raw));
    }
}

/// Megabytes in a second.
pub(crate) fn rate(bytes: u64, began: Instant) -> f64 {
    bytes as f64 / 1e6 / began.elapsed().as_secs_f64()
}

async fn command_output(
    rig: &Rig<'_>,
    machine: &MachineRecord,
    argv: &[&str],
    bytes: u64,
) -> Result<f64, Fault> {
    let began = Instant::now();
    let mut command = rig
        .vmint
        .exec(machine.id.as_str(), Command::new(argv.iter().copied()))
        .await?;
    let (mut received, mut said) = (0, Vec::new());
    let status = loop {
        match command.next().await? {
            Happening::Output(vmint_protocol::Channel::Error, bytes) => {
                said.extend_from_slice(&bytes);
            }
            Happening::Output(_, bytes) => received += bytes.len() as u64,
            Happening::Exited(status) => break status,
            Happening::Started(_) | Happening::Credit(_) => {}
        }
    };
    let rate = rate(bytes, began);
    succeeded(status, argv, &said)?;
    expect(received, bytes)?;
    Ok(rate)
}

async fn tar_in(rig: &Rig<'_>, machine: &MachineRecord, bytes: u64) -> Result<f64, Fault> {
    let began = Instant::now();
    let sent = rig
        .vmint
        .unpack_into(machine.id.as_str(), b"/tmp", None, archive(bytes)?)
        .await?;
    let rate = rate(bytes, began);
    expect(sent.bytes, bytes)?;
    rig.execute(machine, &["rm", "/tmp/stream"]).await?;
    Ok(rate)
}

/// A tar stream of one file, made as it is read. Its content is no hole.
fn archive(bytes: u64) -> Result<impl AsyncRead + Unpin, Fault> {
    let mut header = tar::Header::new_ustar();
    header
        .set_path("stream")
        .map_err(|e| Fault::from_error(ErrorKind::Internal, &e))?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let content = tokio::io::repeat(0x5a).take(bytes);
    // A file that is a multiple of a record long needs no padding; two empty records end an archive.
    let end = tokio::io::repeat(0).take(1024);
    Ok(std::io::Cursor::new(header.as_bytes().to_vec())
        .chain(content)
        .chain(end))
}

/// Bytes that were lost make no rate.
pub(crate) fn expect(arrived: u64, sent: u64) -> Result<(), Fault> {
    if arrived == sent {
        return Ok(());
    }
    Err(Fault::new(
        ErrorKind::Internal,
        format!("{arrived} of {sent} bytes arrived"),
    ))
}
