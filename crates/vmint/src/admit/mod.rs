//! Admission: before anything boots on this host, it is asked whether the host can carry it.
//!
//! What decides, and by which reckoning, is in [`vmint_pool::admission`]; what is booked, and who is in line, in
//! [`vmint_store::admission`]. Here both meet the clock: who is held gets into line and waits until he is rung, and looks
//! for himself after 50 ms, and ever less often, at last twice a second: for memory that comes free without anybody's
//! doing, pressure that eases, and boots whose commands were killed.
//!
//! Who rings: a [`Permit`] that is dropped, when what it was for has come up, or has failed; and whoever has stopped or
//! removed a machine. He who has been rung and admitted rings the next when he has come up.
//!
//! * `terms`: the settings.
//! * `look`: one look at host and store.

mod look;
mod terms;
#[cfg(test)]
mod tests;

pub use terms::{Admission, InvalidOnPressure, OnPressure, Terms};

use crate::Vmint;
use look::Looked;
use std::time::{Duration, Instant};
use vmint_image::Progress;
use vmint_model::{Boot, ByteSize, ErrorKind, Fault, MachineId, MachineRecord, Name, ProcessRef};
use vmint_pool::admission::Reason;
use vmint_qemu::Frozen;
use vmint_runner::{From, StartRequest};
use vmint_store::admission::Wait;
use vmint_store::bell::{self, BellSocket};
use vmint_store::{process, steady_ms};

/// The first pause of who looks for himself.
const SOON: Duration = Duration::from_millis(50);
/// The longest.
const SELDOM: Duration = Duration::from_millis(500);

/// How long somebody waits for a place before he is told: forks make room for each other within some tens of
/// milliseconds, and what passes so quickly is not worth a line.
const SHORT: Duration = Duration::from_millis(300);

/// Something that is to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boots {
    /// The machine; for what never will be one, an id of its own.
    pub(crate) machine: MachineId,
    /// For messages: `machine x`.
    pub(crate) what: String,
    /// Guest memory.
    pub(crate) memory: ByteSize,
    /// How much of it is a template's that is in memory anyway.
    pub(crate) shared: u64,
    /// Parked forks that it will have beside it.
    pub(crate) standbys: u32,
    /// How.
    pub(crate) boot: Boot,
}

impl Boots {
    /// A guest that boots and is no machine.
    pub(crate) fn unnamed(what: impl Into<String>, memory: ByteSize) -> Self {
        Self {
            machine: MachineId::random(),
            what: what.into(),
            memory,
            shared: 0,
            standbys: 0,
            boot: Boot::Cold,
        }
    }
}

/// That something may boot. Until there is a machine it is what keeps its memory and its place; dropped, it wakes who
/// waits for what has become free.
#[derive(Debug)]
pub(crate) struct Permit<'v> {
    vmint: &'v Vmint,
    machine: MachineId,
    waited: Duration,
    settled: bool,
}

impl Permit<'_> {
    /// How long it was waited for.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// The machine is up: the store keeps for it what it needs.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.settled
            && let Err(e) = self.vmint.store().withdraw_admission(&self.machine)
        {
            // With this process it counts no more.
            tracing::warn!("cannot give an admission back: {e}");
        }
        self.vmint.wake_admissions();
    }
}

impl Vmint {
    /// Waits until the host can carry a machine, and takes its place.
    pub(crate) async fn admit_start(
        &self,
        record: &MachineRecord,
        request: &StartRequest,
        terms: Option<Terms>,
        progress: &dyn Progress,
    ) -> Result<Permit<'_>, Fault> {
        let (boot, shared) = match &request.from {
            From::Frozen(folder) => (Boot::Fork, allocated(folder)),
            From::Boot(_) => (Boot::Cold, 0),
        };
        let boots = Boots {
            machine: record.id.clone(),
            what: format!("machine {}", record.name),
            memory: request.shape.memory,
            shared,
            standbys: record.pool.as_ref().map_or(0, |pool| self.standbys(pool)),
            boot,
        };
        self.admit(&boots, terms, progress).await
    }

    fn standbys(&self, pool: &Name) -> u32 {
        let status = self.store().pool(pool);
        status.map_or(0, |status| status.pool.spec.standby)
    }

    /// Waits until the host can carry what is to boot, and takes its place.
    ///
    /// # Errors
    /// `Refused`: the host could never carry it. `Pressure`: it cannot now, and the terms are not to wait. `TimedOut`: it
    /// could not until the deadline.
    pub(crate) async fn admit(
        &self,
        boots: &Boots,
        terms: Option<Terms>,
        progress: &dyn Progress,
    ) -> Result<Permit<'_>, Fault> {
        let terms = terms.unwrap_or(self.options.admission.terms);
        let began = Instant::now();
        let holder = process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        // From here on, whatever ends this leaves the line, and gives back what was given.
        let mut permit = Permit {
            vmint: self,
            machine: boots.machine.clone(),
            waited: Duration::ZERO,
            settled: false,
        };
        let reason = match self.look(boots, &holder, None)? {
            Looked::Admitted => return Ok(permit),
            Looked::Never(fault) => return Err(fault),
            Looked::Held(reason) => reason,
        };
        if terms.on_pressure != OnPressure::Wait {
            let message = format!(
                "{} was not started: it would have to wait for {reason}",
                boots.what
            );
            return Err(Fault::new(ErrorKind::Pressure, message).hint(hint(&reason)));
        }
        self.stand_in_line(boots, &holder, terms.timeout, began, progress)
            .await?;
        permit.waited = began.elapsed();
        Ok(permit)
    }

    async fn stand_in_line(
        &self,
        boots: &Boots,
        holder: &ProcessRef,
        timeout: Duration,
        began: Instant,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let host = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot wait for admission")
        };
        let own = BellSocket::bind(&self.home).map_err(host)?;
        let listen = own.socket().try_clone().map_err(host)?;
        let listen = tokio::net::UnixDatagram::from_std(listen).map_err(host)?;
        let wait = Wait {
            bell: own.bell(),
            deadline_ms: steady_ms().saturating_add(timeout.as_millis() as i64),
        };
        let (end, mut pause) = (began + timeout, SOON);
        let mut told = None;
        loop {
            // Before the look: who rings after it is heard below.
            own.take();
            let reason = match self.look(boots, holder, Some(wait.clone()))? {
                Looked::Admitted => return Ok(()),
                Looked::Never(fault) => return Err(fault),
                Looked::Held(reason) => reason,
            };
            let is_short = matches!(reason, Reason::Places { .. }) && began.elapsed() < SHORT;
            if told != Some(reason.word()) && !is_short {
                progress.stage(&format!(
                    "waiting for {reason}; at most {:.0} s",
                    timeout.as_secs_f64()
                ));
                told = Some(reason.word());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!(
                    "{} was not started: waited {:.1} s for {reason}",
                    boots.what,
                    began.elapsed().as_secs_f64()
                );
                return Err(Fault::new(ErrorKind::TimedOut, message).hint(hint(&reason)));
            }
            tokio::select! {
                rung = listen.readable() => {
                    rung.map_err(host)?;
                    // Through the runtime's own socket: it believes in rings until it finds none itself.
                    while listen.try_recv(&mut [0; 1]).is_ok() {}
                    pause = SOON;
                }
                () = tokio::time::sleep(pause.min(left)) => {
                    pause = (pause * 2).min(SELDOM);
                    // Of what has died only a sweep tells.
                    if let Err(fault) = self.sweep() {
                        tracing::debug!("{fault}");
                    }
                }
            }
        }
    }

    /// Rings the first in line of each kind of boot who hears it: something may have become free.
    pub(crate) fn wake_admissions(&self) {
        let bells = match self.store().admission_bells() {
            Ok(bells) => bells,
            Err(e) => {
                tracing::warn!("cannot tell who waits for admission: {e}");
                return;
            }
        };
        let mut rung: Vec<String> = Vec::new();
        for (boot, waiter) in bells {
            if !rung.contains(&boot) && bell::ring(&waiter) {
                rung.push(boot);
            }
        }
    }
}

/// What the page cache holds of a template's memory in any case: its file has holes where the guest has never written.
fn allocated(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let ram = std::fs::metadata(folder.join(Frozen::RAM));
    ram.map_or(0, |ram| ram.blocks().saturating_mul(512))
}

fn hint(reason: &Reason) -> &'static str {
    match reason {
        Reason::Places { .. } => {
            "admission.timeout says how long to wait, admission.cold-boots and admission.forks how many may start at once"
        }
        Reason::Memory { .. } => {
            "stop machines, give them less with --memory, or see admission.timeout and admission.overcommit"
        }
        Reason::Swap { .. } | Reason::Pressure { .. } => {
            "end what needs memory, or see admission.timeout, admission.swap-percent and admission.pressure"
        }
    }
}
