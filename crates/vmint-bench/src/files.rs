//! Many small files into a machine and out of it.

use super::raw::RawGuest;
use super::report::{Row, Rows, Unit};
use super::rig::{MEMORY, Rig};
use super::stream::expect;
use super::targets;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vmint::Unpacked;
use vmint_model::{ErrorKind, Fault, Origin};

/// Files in a folder.
const BESIDE: usize = 200;
/// Bytes of a file.
const EACH: usize = 1000;
/// Where they are in a guest.
const FOLDER: &str = "/tmp/many";

/// `vmint cp` of a folder of small files, both ways, against the guest's `tar` on a second virtio-serial port. At its other
/// end an archive comes from memory, and goes to `tar`.
pub(crate) async fn files(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let count = rig.count(20_000, 2_000);
    // In memory on this side too: else the host's disk, and what else it has to do, is what is measured.
    let folder = folder(rig)?;
    let source = folder.path().join("many");
    make(&source, count)?;
    let archive = packed(&source)?;
    rig.template(MEMORY).await?;
    let machine = rig
        .start(rig.machine("tiny", MEMORY, Origin::Template))
        .await?;
    let name = machine.id.as_str();
    rig.progress
        .stage("files: booting a guest with a port of its own for raw bytes");
    let mut guest = RawGuest::boot(rig).await?;
    let target = folder.path().join("back");
    let [mut ins, mut outs, mut raw_ins, mut raw_outs] = [const { Vec::new() }; 4];
    // The first of each translates the guest's code, and is not counted. While one guest is measured, the other stands
    // still.
    for round in 0..=rig.count(5, 2) {
        guest.pause().await?;
        let began = Instant::now();
        let copied = rig.vmint.copy_in(&source, name, FOLDER).await?;
        let inward = began.elapsed();
        whole(&copied, count)?;
        let began = Instant::now();
        let copied = rig.vmint.copy_out(name, FOLDER, &target).await?;
        let outward = began.elapsed();
        whole(&copied, count)?;
        remove(&target)?;
        rig.execute(&machine, &["rm", "-r", FOLDER]).await?;
        rig.vmint.pause(name).await?;
        guest.resume().await?;
        let raw_in = guest.unpack(&archive, FOLDER).await?;
        let raw_out = guest.pack(FOLDER, &target).await?;
        remove(&target)?;
        rig.vmint.resume(name).await?;
        if round > 0 {
            for (samples, took) in [
                (&mut ins, inward),
                (&mut outs, outward),
                (&mut raw_ins, raw_in),
                (&mut raw_outs, raw_out),
            ] {
                samples.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    guest.kill();
    rig.remove(&machine).await?;
    for (way, floor, samples, raw) in [
        ("into a machine", "tar x of a raw port", ins, raw_ins),
        ("out of a machine", "tar c to a raw port", outs, raw_outs),
    ] {
        let what = format!("{count} files of {EACH} bytes {way}");
        rows.push(
            Row::new("files", &what, Unit::Milliseconds, &samples)
                .floor(floor, &raw)
                .target(targets::FILES),
        );
    }
    Ok(())
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(rig: &Rig<'_>) -> Result<Folder, Fault> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        memory.join(format!("vmint-bench-files-{}", std::process::id()))
    } else {
        rig.scratch("files")
    };
    std::fs::create_dir(&folder).map_err(host("cannot make a folder for files to copy"))?;
    Ok(Folder(folder))
}

fn host(what: &'static str) -> impl Fn(std::io::Error) -> Fault {
    move |e| Fault::from_error(ErrorKind::Host, &e).context(what)
}

fn make(folder: &Path, count: usize) -> Result<(), Fault> {
    let failed = host("cannot make files to copy");
    let content = vec![0x5a; EACH];
    for file in 0..count {
        let below = folder.join(format!("{:03}", file / BESIDE));
        if file % BESIDE == 0 {
            std::fs::create_dir_all(&below).map_err(&failed)?;
        }
        std::fs::write(below.join(format!("file-{file}")), &content).map_err(&failed)?;
    }
    Ok(())
}

/// The archive that is copied, as a stream into the raw port has it.
fn packed(folder: &Path) -> Result<Vec<u8>, Fault> {
    let failed = host("cannot pack files to copy");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).map_err(&failed)?;
    builder.into_inner().map_err(failed)
}

fn remove(folder: &Path) -> Result<(), Fault> {
    std::fs::remove_dir_all(folder).map_err(host("cannot remove files that were copied"))
}

fn whole(copied: &Unpacked, count: usize) -> Result<(), Fault> {
    expect(copied.bytes, (count * EACH) as u64)
}
