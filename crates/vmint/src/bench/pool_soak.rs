//! Thousands of leases on real machines whose owners are killed at random: what is left over, and how much the runners
//! have grown.

use super::pool_rig::{BenchPool, POOL_MEMORY, clear_dead};
use super::pool_worker::Said;
use super::process::expect_memory;
use super::report::{Row, Target, Unit};
use super::rig::{RESERVE, Rig};
use crate::Vmint;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vmint_model::{ErrorKind, Fault, MachineId};

const MACHINES: u32 = 4;
const OWNERS: usize = 6;
/// One lease in so many ends with the death of its owner.
const KILLED: u64 = 8;
/// A killed owner has had its machine for no longer than this.
const LONGEST_LIFE_MS: u64 = 20;
/// The longest that nothing may happen.
const SILENCE: Duration = Duration::from_secs(120);
/// What is told to go is gone after this.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The same numbers from the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// An owner of leases, which dies with this.
struct OwnerProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl OwnerProcess {
    fn start(rig: &Rig<'_>, pool: &BenchPool) -> Result<Self, Fault> {
        let host = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot start an owner")
        };
        let arguments = [
            "bench",
            "--worker",
            pool.name().as_str(),
            "--leases",
            "1000000",
        ];
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(rig.scratch("owners.log"))
            .map_err(host)?;
        let mut command = Command::from(rig.program(&arguments));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(host)?;
        let stdout = child.stdout.take().expect("piped above");
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Its next lease.
    async fn lease(&mut self, rig: &Rig<'_>) -> Result<Said, Fault> {
        loop {
            let line = tokio::time::timeout(SILENCE, self.lines.next_line()).await;
            let Ok(line) = line else {
                let message = format!("an owner got no machine within {SILENCE:?}");
                return Err(Fault::new(ErrorKind::TimedOut, message));
            };
            let Some(line) = line.map_err(|e| Fault::from_error(ErrorKind::Host, &e))? else {
                let said = vmint_qemu::log::tail(&rig.scratch("owners.log"));
                let message = format!("an owner ended by itself: {}", said.trim());
                return Err(Fault::new(ErrorKind::Internal, message));
            };
            match serde_json::from_str::<Said>(&line) {
                Ok(said) if said.until_us.is_none() => return Ok(said),
                _ => {}
            }
        }
    }
}

/// What came of all owners together.
#[derive(Default)]
struct Tally {
    leases: usize,
    killed: usize,
    machines: BTreeSet<MachineId>,
    first_memory: Option<BTreeMap<MachineId, f64>>,
}

/// `--leases N`, 10,000 unless said otherwise.
pub async fn soak(rig: &Rig<'_>, rows: &mut Vec<Row>) -> Result<(), Fault> {
    let wanted = rig
        .options
        .leases
        .unwrap_or(if rig.options.quick { 200 } else { 10_000 }) as usize;
    let vmint = Arc::new(Vmint::open(rig.vmint.options.clone())?);
    clear_dead(&vmint).await?;
    expect_memory(u64::from(2 * MACHINES) * RESERVE)?;
    rig.template(POOL_MEMORY).await?;
    let bells = bells(&vmint)?;
    let pool = BenchPool::new(rig, MACHINES, MACHINES, 1).await?;
    let began = Instant::now();
    let seed = u64::from(std::process::id()) | 1 << 40;
    let tally = tokio::sync::Mutex::new(Tally::default());
    let owners = (0..OWNERS as u64).map(|n| own(rig, &pool, wanted, seed + n, &tally));
    let all: Result<Vec<()>, Fault> = futures_all(owners.collect()).await.into_iter().collect();
    all?;
    let tally = tally.into_inner();
    // Those that were killed with a machine have given it back, too.
    pool.settled().await?;
    let elapsed = began.elapsed().as_secs_f64();
    let last = memory(&pool)?;
    let first = tally.first_memory.unwrap_or_default();
    pool.remove().await?;
    let left = left_over(&vmint, &tally.machines, bells).await?;
    let note = if left.is_empty() {
        format!(
            "owners were killed with the seed {seed}; {:.1} leases a second",
            tally.leases as f64 / elapsed
        )
    } else {
        left.join("; ")
    };
    let what = format!(
        "left over after {} leases of which {} ended with a killed owner: processes, files, records",
        tally.leases, tally.killed
    );
    rows.push(
        Row::new("pool-soak", what, Unit::Count, &[left.len() as f64])
            .target(Target::at_most(0.0))
            .note(note),
    );
    // A runner that was replaced cannot be compared with itself.
    let both = first.keys().filter(|id| last.contains_key(*id));
    let (before, after): (Vec<f64>, Vec<f64>) = both.map(|id| (first[id], last[id])).unzip();
    if before.is_empty() {
        let message = "no runner has lived from the beginning to the end";
        return Err(Fault::new(ErrorKind::Internal, message));
    }
    rows.push(
        Row::new(
            "pool-soak",
            format!("resident memory of a runner after {} leases", tally.leases),
            Unit::Megabytes,
            &after,
        )
        .floor("the same runner after the first twentieth of them", &before)
        .target(Target::ratio_at_most(1.1))
        .note(format!(
            "{} of {MACHINES} runners have lived from the beginning to the end",
            before.len()
        )),
    );
    Ok(())
}

/// Several futures at once, in this task.
async fn futures_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

/// One owner after the other, until all together have had as many leases as are wanted.
async fn own(
    rig: &Rig<'_>,
    pool: &BenchPool,
    wanted: usize,
    seed: u64,
    tally: &tokio::sync::Mutex<Tally>,
) -> Result<(), Fault> {
    let mut dice = Dice(seed);
    let mut owner = OwnerProcess::start(rig, pool)?;
    loop {
        let said = owner.lease(rig).await?;
        let dies = dice.roll(KILLED) == 0;
        {
            let mut tally = tally.lock().await;
            if tally.leases >= wanted {
                // Killed as it stands.
                return Ok(());
            }
            tally.leases += 1;
            tally.killed += usize::from(dies);
            tally.machines.insert(said.machine);
            if tally.leases % 100 == 0 {
                let (leases, killed) = (tally.leases, tally.killed);
                let text =
                    format!("pool-soak: {leases} of {wanted} leases, {killed} owners killed");
                rig.progress.stage(&text);
            }
            if tally.first_memory.is_none() && tally.leases >= wanted / 20 {
                tally.first_memory = Some(memory(pool)?);
            }
        }
        if dies {
            tokio::time::sleep(Duration::from_millis(dice.roll(LONGEST_LIFE_MS))).await;
            owner
                .child
                .kill()
                .await
                .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
            owner = OwnerProcess::start(rig, pool)?;
        }
    }
}

/// Resident memory of the pool's runners, in millions of bytes.
fn memory(pool: &BenchPool) -> Result<BTreeMap<MachineId, f64>, Fault> {
    let mut all = BTreeMap::new();
    let machines = pool.vmint.machines()?.into_iter();
    for machine in machines.filter(|m| m.pool.as_ref() == Some(pool.name())) {
        let Some(runner) = &machine.runner else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{}/status", runner.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        if let Some(kilobytes) = kilobytes {
            let kilobytes: f64 = kilobytes;
            all.insert(machine.id, kilobytes * 1024.0 / 1e6);
        }
    }
    Ok(all)
}

/// Bells in the folder of sockets.
fn bells(vmint: &Vmint) -> Result<usize, Fault> {
    let entries = fs::read_dir(vmint.home.runtime());
    let entries = entries.map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let is_bell = |name: &std::ffi::OsString| {
        name.to_string_lossy()
            .starts_with(vmint_store::bell::PREFIX)
    };
    Ok(names.filter(is_bell).count())
}

/// What is left of machines and owners that are all gone. What goes by itself has a while to do so.
async fn left_over(
    vmint: &Vmint,
    machines: &BTreeSet<MachineId>,
    bells_before: usize,
) -> Result<Vec<String>, Fault> {
    let end = Instant::now() + GONE_WITHIN;
    loop {
        // As the next command of any kind does.
        vmint.sweep()?;
        let mut left = processes(machines);
        for id in machines {
            let dir = vmint.home.machine(id);
            for path in [dir.path(), dir.socket()] {
                if path.exists() {
                    left.push(format!("file {}", path.display()));
                }
            }
        }
        let ours = |id: &MachineId| machines.contains(id);
        for machine in vmint.machines()?.iter().filter(|m| ours(&m.id)) {
            left.push(format!("record of machine {}", machine.id));
        }
        for slot in vmint.slots(None)?.iter().filter(|s| ours(&s.machine)) {
            left.push(format!("slot of machine {}", slot.machine));
        }
        for lease in vmint.leases()?.iter().filter(|l| ours(&l.machine)) {
            left.push(format!("lease {}", lease.id));
        }
        let bells = bells(vmint)?.saturating_sub(bells_before);
        if bells > 0 {
            left.push(format!("{bells} bells"));
        }
        if left.is_empty() || Instant::now() > end {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Processes that name one of these machines: runners and hypervisors do.
fn processes(machines: &BTreeSet<MachineId>) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let arguments = fs::read(entry.path().join("cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            let named = machines.iter().find(|id| arguments.contains(id.as_str()))?;
            let pid = entry.file_name();
            Some(format!("process {} of {named}", pid.to_string_lossy()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_fall_on_all_sides_and_the_same_way_again() {
        let rolls = |seed| {
            let mut dice = Dice(seed);
            (0..200).map(|_| dice.roll(8)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(5), rolls(5));
        let sides: BTreeSet<_> = rolls(5).into_iter().collect();
        assert_eq!(sides.len(), 8);
    }

    #[test]
    fn a_process_that_names_a_machine_is_found() {
        let id = MachineId::random();
        let machines = BTreeSet::from([id.clone()]);
        assert_eq!(processes(&machines), Vec::<String>::new());
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", id.as_str()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let found = loop {
            let found = processes(&machines);
            if !found.is_empty() {
                break found;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found[0].contains(&child.id().to_string()), "{found:?}");
    }
}
