//! Thousands of leases on real machines, while owners, runners and hypervisors are killed at random: whether one was lent
//! twice or lost without cause, what is left over, and how much the runners have grown.

use super::pool_rig::{BenchPool, POOL_MEMORY, clear_dead};
use super::pool_worker::Said;
use super::process::expect_memory;
use super::report::{Row, Rows, Unit};
use super::rig::{RESERVE, Rig};
use super::targets;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use vmint::Vmint;
use vmint_model::{ErrorKind, Fault, MachineId};
use vmint_store::process::Killed;

const MACHINES: u32 = 4;
const OWNERS: usize = 6;
/// One lease in so many ends with the death of its owner, its machine's runner or its hypervisor.
const KILLED: u64 = 8;
/// How often runners are weighed, in leases.
const WEIGHED: usize = 20;
/// Over how many leases of the whole pool a runner must have lived to be compared with itself.
const LONG: usize = 100;
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
    owners: usize,
    runners: usize,
    hypervisors: usize,
    /// Acquires that failed, and why the last one did.
    failed: usize,
    failure: String,
    machines: BTreeSet<MachineId>,
    /// Whose runner or hypervisor was killed.
    killed: BTreeSet<MachineId>,
    /// What was lent, to find what is lent twice.
    lent: BTreeSet<(MachineId, u64)>,
    double: usize,
    /// Machines that were lost under their owners although nobody had killed them.
    lost: BTreeSet<MachineId>,
    weights: BTreeMap<MachineId, Weight>,
}

/// A runner's memory, when it was weighed first and last, and after how many leases of the pool that was.
struct Weight {
    first: (usize, f64),
    last: (usize, f64),
}

impl Tally {
    fn weigh(&mut self, memory: BTreeMap<MachineId, f64>) {
        for (machine, megabytes) in memory {
            let now = (self.leases, megabytes);
            let weight = self.weights.entry(machine).or_insert(Weight {
                first: now,
                last: now,
            });
            weight.last = now;
        }
    }

    fn tell(&self) -> String {
        format!(
            "killed: {} owners, {} runners, {} hypervisors; lent twice {}, lost without cause {}, acquires that failed {}",
            self.owners,
            self.runners,
            self.hypervisors,
            self.double,
            self.lost.difference(&self.killed).count(),
            self.failed
        )
    }
}

/// `--leases N`, 10,000 unless said otherwise.
pub(crate) async fn soak(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let wanted = rig
        .options
        .leases
        .unwrap_or(if rig.options.quick { 200 } else { 10_000 }) as usize;
    let vmint = Arc::new(Vmint::open(rig.vmint.options().clone())?);
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
    // What was killed last is found by whoever comes next.
    pool.vmint.sweep()?;
    pool.vmint
        .fill_pool(pool.name(), &vmint_image::Silent)
        .await?;
    pool.settled().await?;
    let elapsed = began.elapsed().as_secs_f64();
    pool.remove().await?;
    let left = left_over(&vmint, &tally.machines, bells).await?;
    let note = if left.is_empty() {
        format!(
            "with the seed {seed}; {:.1} leases a second",
            tally.leases as f64 / elapsed
        )
    } else {
        left.join("; ")
    };
    let wrong = [
        ("lent twice", tally.double),
        (
            "lost although nobody had killed them",
            tally.lost.difference(&tally.killed).count(),
        ),
        ("acquires that failed", tally.failed),
    ];
    for (what, number) in wrong {
        rows.push(
            Row::new(
                "pool-soak",
                format!("of {} leases: {what}", tally.leases),
                Unit::Count,
                &[number as f64],
            )
            .target(targets::SOAK_FAULTS)
            .note(tally.failure.clone()),
        );
    }
    let what = format!(
        "left over after {} leases under which {} owners, {} runners and {} hypervisors were killed: processes, files, \
         records",
        tally.leases, tally.owners, tally.runners, tally.hypervisors
    );
    rows.push(
        Row::new("pool-soak", what, Unit::Count, &[left.len() as f64])
            .target(targets::SOAK_LEFT)
            .note(note),
    );
    // A runner that was replaced cannot be compared with itself.
    let weights = tally.weights.values();
    let long = weights.filter(|w| w.last.0 - w.first.0 >= LONG.min(wanted / 3));
    let (before, after): (Vec<f64>, Vec<f64>) = long.map(|w| (w.first.1, w.last.1)).unzip();
    if before.is_empty() {
        // All were killed too soon; a longer run has some that were not.
        return Ok(());
    }
    rows.push(
        Row::new(
            "pool-soak",
            "resident memory of a runner that has lived long".to_owned(),
            Unit::Megabytes,
            &after,
        )
        .floor("the same runner when it was weighed first", &before)
        .target(targets::SOAK_MEMORY)
        .note(format!(
            "{} runners have lived over {} leases of the pool and more",
            before.len(),
            LONG.min(wanted / 3)
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
        let said = match owner.lease(rig).await {
            Ok(said) => said,
            Err(fault) if fault.kind == ErrorKind::Internal => {
                let mut tally = tally.lock().await;
                tally.failed += 1;
                tally.failure.clone_from(&fault.message);
                eprintln!("pool-soak: {fault}");
                drop(tally);
                owner = OwnerProcess::start(rig, pool)?;
                continue;
            }
            Err(fault) => return Err(fault),
        };
        if said.lost.is_some() {
            tally.lock().await.lost.insert(said.machine);
            continue;
        }
        let victim = (dice.roll(KILLED) == 0).then(|| dice.roll(3));
        {
            let mut tally = tally.lock().await;
            if tally.leases >= wanted {
                // Killed as it stands.
                return Ok(());
            }
            tally.leases += 1;
            if !tally.lent.insert((said.machine.clone(), said.generation.0)) {
                tally.double += 1;
            }
            tally.machines.insert(said.machine.clone());
            if tally.leases % 100 == 0 {
                // For whoever watches a log, too, where no bar is drawn.
                eprintln!(
                    "pool-soak: {} of {wanted} leases; {}",
                    tally.leases,
                    tally.tell()
                );
            }
            if tally.leases % WEIGHED == 0 {
                tally.weigh(memory(pool)?);
            }
        }
        let Some(victim) = victim else {
            continue;
        };
        tokio::time::sleep(Duration::from_millis(dice.roll(LONGEST_LIFE_MS))).await;
        if victim == 0 {
            tally.lock().await.owners += 1;
            owner
                .child
                .kill()
                .await
                .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
            owner = OwnerProcess::start(rig, pool)?;
        } else if let Ok(record) = pool.vmint.machine(said.machine.as_str()) {
            let process = if victim == 1 {
                record.runner
            } else {
                record.hypervisor
            };
            let mut tally = tally.lock().await;
            // Before it is killed: its owner may say so at once.
            tally.killed.insert(said.machine);
            let (home, machine) = (pool.vmint.home(), &record.id);
            let killed = process.is_some_and(|p| {
                let meant = |args: &[&[u8]]| vmint_runner::belongs::is_of(home, machine, args);
                vmint_store::process::kill(&p, meant).is_ok_and(|killed| killed == Killed::Now)
            });
            *(if victim == 1 {
                &mut tally.runners
            } else {
                &mut tally.hypervisors
            }) += usize::from(killed);
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
    let entries = fs::read_dir(vmint.home().runtime());
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
            let dir = vmint.home().machine(id);
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
