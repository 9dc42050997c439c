//! An owner of leases: a process of its own, `vmint bench --worker POOL`. It takes one lease after the other, and makes
//! sure of each from inside the guest: nobody else's mark is there, and its own stays.

use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vmint::{Acquire, Command, Fault, Vmint};
use vmint_model::{ErrorKind, Generation, MachineId};
use vmint_protocol::ExitStatus;

/// With so many others in line, a while.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a worker says, a line for each: of a lease that it got, and of one that it is about to give back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The machine.
    pub machine: MachineId,
    /// Its generation.
    pub generation: Generation,
    /// How long it had to wait.
    pub waited_ms: f64,
    /// From when it had it; microseconds since 1970.
    pub from_us: u64,
    /// Until when; nothing while it still has it.
    pub until_us: Option<u64>,
    /// Why it has it no more, when it did not give it back.
    #[serde(default)]
    pub lost: Option<String>,
}

/// Takes so many leases, each verified, as soon as standard input has ended.
pub async fn worker(vmint: &Arc<Vmint>, pool: &str, leases: u32) -> Result<(), Fault> {
    let fault = |e: std::io::Error| Fault::from_error(ErrorKind::Host, &e);
    // All workers begin at once.
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .map_err(fault)?;
    let pool = vmint.pool(pool)?;
    for _ in 0..leases {
        let how = Acquire {
            timeout: PATIENCE,
            ..Acquire::default()
        };
        let began = Instant::now();
        let lease = pool.acquire(how).await?;
        let mut said = Said {
            machine: lease.machine(),
            generation: lease.generation(),
            waited_ms: began.elapsed().as_secs_f64() * 1e3,
            from_us: now_us(),
            until_us: None,
            lost: None,
        };
        say(&said)?;
        let id = lease.id().to_string();
        // Without clobbering: a mark that is there already is another owner's.
        let script = format!("set -C; echo {id} > /dev/shm/owner && cat /dev/shm/owner");
        let output = match lease.output(Command::new(["sh", "-c", &script])).await {
            Err(fault) if matches!(fault.kind, ErrorKind::LeaseLost | ErrorKind::MachineLost) => {
                said.lost = Some(fault.message);
                say(&said)?;
                continue;
            }
            output => output?,
        };
        if output.status != ExitStatus::Code(0) || output.stdout != format!("{id}\n").as_bytes() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            let message = format!(
                "lease {id} of {} is not its owner's alone: {:?}, {out:?}, {err:?}",
                lease.handle(),
                output.status
            );
            return Err(Fault::new(ErrorKind::Internal, message));
        }
        said.until_us = Some(now_us());
        say(&said)?;
        match lease.release() {
            // Between the look and the return.
            Err(fault) if fault.kind == ErrorKind::LeaseLost => {}
            released => released?,
        }
    }
    Ok(())
}

fn say(said: &Said) -> Result<(), Fault> {
    let line = serde_json::to_string(said).expect("has no keys but strings");
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|e| Fault::from_error(ErrorKind::Host, &e))
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_micros() as u64
}
