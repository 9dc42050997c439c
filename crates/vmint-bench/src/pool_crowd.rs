//! Many processes that want few machines.

use super::pool_rig::BenchPool;
use super::pool_worker::Said;
use super::process::expect_memory;
use super::report::{Row, Rows, Unit};
use super::rig::{RESERVE, Rig};
use super::targets;
use std::collections::{BTreeMap, HashSet};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use vmint_model::{ErrorKind, Fault, MachineId};

const MACHINES: u32 = 8;
/// All leases together take no longer, under emulation and on a busy host either.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Processes that end with this.
struct Crowd(Vec<Child>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// 200 processes contend for 8 machines: no machine is lent twice, no lease is lost, and nobody waits much longer than
/// the others.
pub(crate) async fn crowd(rig: &Rig<'_>, rows: &mut Rows<'_>) -> Result<(), Fault> {
    let (workers, each): (u32, u32) = if rig.options.quick {
        (20, 5)
    } else {
        (200, 25)
    };
    rig.progress.stage(&format!(
        "pool: {workers} processes contend for {MACHINES} machines"
    ));
    expect_memory(u64::from(2 * MACHINES) * RESERVE + u64::from(workers) * (16 << 20))?;
    let pool = BenchPool::new(rig, MACHINES, MACHINES, 1).await?;
    let mut crowd = Crowd(Vec::new());
    let logs: Vec<_> = (0..workers)
        .map(|n| rig.scratch(&format!("worker-{n}")))
        .collect();
    let host = |e: std::io::Error| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot start a process that contends")
    };
    for log in &logs {
        let count = each.to_string();
        let arguments = [
            "bench",
            "--worker",
            pool.name().as_str(),
            "--leases",
            &count,
        ];
        let mut command = rig.program(&arguments);
        let out = std::fs::File::create(log).map_err(host)?;
        let err = out.try_clone().map_err(host)?;
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        crowd.0.push(command.spawn().map_err(host)?);
    }
    // All of them begin when their input ends.
    let began = Instant::now();
    for child in &mut crowd.0 {
        drop(child.stdin.take());
    }
    finished(&mut crowd, &logs, began).await?;
    let elapsed = began.elapsed().as_secs_f64();
    drop(crowd);
    let mut leases = Vec::new();
    for log in &logs {
        let text = std::fs::read_to_string(log).map_err(host)?;
        let said = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        leases.extend(said.filter(|said: &Said| said.until_us.is_some()));
    }
    let expected = (workers * each) as usize;
    if leases.len() != expected {
        let message = format!("{} of {expected} leases were had", leases.len());
        return Err(Fault::new(ErrorKind::Internal, message));
    }
    exclusive(&leases)?;
    pool.settled().await?;
    let left = pool.vmint.leases()?.len() + pool.vmint.waiters()?.len();
    if left != 0 {
        let message = format!("{left} leases or places in line are left over");
        return Err(Fault::new(ErrorKind::Internal, message));
    }
    pool.remove().await?;
    let mut waits: Vec<f64> = leases.iter().map(|said| said.waited_ms).collect();
    waits.sort_by(f64::total_cmp);
    let longest = *waits.last().expect("there were leases");
    let what =
        format!("longest wait of {workers} processes for {MACHINES} machines, {expected} leases");
    rows.push(
        Row::new("pool", what, Unit::Milliseconds, &[longest])
            .floor("all waits, their median", &waits)
            .target(targets::CROWD)
            .note(format!(
                "each lease was checked in its guest: none was lent twice, none was lost; {:.0} leases a second",
                expected as f64 / elapsed
            )),
    );
    Ok(())
}

/// Waits for all of them; the first that fails fails the benchmark.
async fn finished(
    crowd: &mut Crowd,
    logs: &[std::path::PathBuf],
    began: Instant,
) -> Result<(), Fault> {
    let mut running: Vec<usize> = (0..crowd.0.len()).collect();
    while !running.is_empty() {
        let mut still = Vec::with_capacity(running.len());
        for n in running {
            let status = crowd.0[n]
                .try_wait()
                .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
            match status {
                None => still.push(n),
                Some(status) if status.success() => {}
                Some(status) => {
                    let said = vmint_qemu::log::tail(&logs[n]);
                    let last = said.lines().next_back().unwrap_or("nothing").to_owned();
                    let message = format!("a process that contended failed ({status}): {last}");
                    return Err(Fault::new(ErrorKind::Internal, message));
                }
            }
        }
        running = still;
        if began.elapsed() > DEADLINE {
            let message = format!("{} processes still ran after {DEADLINE:?}", running.len());
            return Err(Fault::new(ErrorKind::TimedOut, message));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// No machine had two owners, at no time and at no generation.
fn exclusive(leases: &[Said]) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    let mut times: BTreeMap<&MachineId, Vec<(u64, u64)>> = BTreeMap::new();
    for said in leases {
        if !seen.insert((&said.machine, said.generation)) {
            let (machine, generation) = (&said.machine, said.generation);
            let message = format!("{machine} was lent twice at generation {generation}");
            return Err(Fault::new(ErrorKind::Internal, message));
        }
        let until = said.until_us.unwrap_or(said.from_us);
        times
            .entry(&said.machine)
            .or_default()
            .push((said.from_us, until));
    }
    for (machine, mut times) in times {
        times.sort_unstable();
        if let Some(pair) = times.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            let message = format!("{machine} had two owners at once: {pair:?}");
            return Err(Fault::new(ErrorKind::Internal, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmint_model::Generation;

    fn said(machine: &MachineId, generation: u64, from_us: u64, until_us: u64) -> Said {
        Said {
            machine: machine.clone(),
            generation: Generation(generation),
            waited_ms: 1.0,
            from_us,
            until_us: Some(until_us),
            lost: None,
        }
    }

    #[test]
    fn a_machine_with_two_owners_is_found() {
        let (one, two) = (MachineId::random(), MachineId::random());
        let good = [
            said(&one, 1, 10, 20),
            said(&one, 2, 20, 30),
            said(&two, 1, 15, 25),
        ];
        assert_eq!(exclusive(&good), Ok(()));
        let same = [said(&one, 1, 10, 20), said(&one, 1, 20, 30)];
        assert!(exclusive(&same).unwrap_err().message.contains("twice"));
        let overlap = [said(&one, 2, 19, 30), said(&one, 1, 10, 20)];
        assert!(exclusive(&overlap).unwrap_err().message.contains("at once"));
    }
}
