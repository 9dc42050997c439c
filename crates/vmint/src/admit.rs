//! Admission: before anything boots on this host, it is asked whether the host can carry it.
//!
//! What decides, and by which reckoning, is in [`vmint_pool::admission`]; what is booked, and who is in line, in
//! [`vmint_store::admission`]. Here both meet the clock: who is held gets into line and waits until he is rung, and looks
//! for himself after 50 ms, and ever less often, at last twice a second: for memory that comes free without anybody's
//! doing, pressure that eases, and boots whose commands were killed.
//!
//! Who rings: a [`Permit`] that is dropped, when what it was for has come up, or has failed; and whoever has stopped or
//! removed a machine. He who has been rung and admitted rings the next when he has come up.

use crate::Vmint;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};
use vmint_image::Progress;
use vmint_model::{ByteSize, ErrorKind, Fault, MachineId, MachineRecord, Name, ProcessRef};
use vmint_pool::admission::host::{HostMemory, private_memory};
use vmint_pool::admission::{Factor, Limits, Need, Reason, Situation, Verdict, decide, promise};
use vmint_qemu::Frozen;
use vmint_runner::machine::store_fault;
use vmint_runner::{From, StartRequest};
use vmint_store::admission::{Boot, Request, Wait};
use vmint_store::bell::{self, BellSocket};
use vmint_store::{Moment, process, steady_ms};

/// The first pause of who looks for himself.
const SOON: Duration = Duration::from_millis(50);
/// The longest.
const SELDOM: Duration = Duration::from_millis(500);

/// How long somebody waits for a place before he is told: forks make room for each other within some tens of
/// milliseconds, and what passes so quickly is not worth a line.
const SHORT: Duration = Duration::from_millis(300);

/// What to do when the host cannot carry a machine now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPressure {
    /// Wait until it can, or until the deadline.
    #[default]
    Wait,
    /// Fail at once.
    Fail,
    /// Fail at once, and the work is not to be done: a test is skipped. For vmint it is the same as to fail; who called
    /// it knows what to skip.
    Skip,
}

impl OnPressure {
    /// As in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for OnPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that says nothing about pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is wait, fail or skip")]
pub struct InvalidOnPressure;

impl FromStr for OnPressure {
    type Err = InvalidOnPressure;

    fn from_str(s: &str) -> Result<Self, InvalidOnPressure> {
        match s {
            "wait" => Ok(Self::Wait),
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            _ => Err(InvalidOnPressure),
        }
    }
}

/// How one is willing to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether to wait.
    pub on_pressure: OnPressure,
    /// How long.
    pub timeout: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            on_pressure: OnPressure::Wait,
            timeout: Duration::from_secs(60),
        }
    }
}

/// The settings of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Unless a machine comes with its own.
    pub terms: Terms,
    /// How much may be promised, as a factor.
    pub overcommit: Factor,
    /// With more of the swap in use nothing is started; percent.
    pub swap_percent: u32,
    /// With tasks waiting for memory for more of the last ten seconds nothing is started; percent.
    ///
    /// The default lies between what `vmint doctor` warns of (10), which a burst of reading causes on a healthy host,
    /// and where systemd-oomd begins to kill (60).
    pub pressure: u32,
    /// Cold boots at once.
    pub cold_boots: u32,
    /// Forks at once; 0 is the number of processors.
    pub forks: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            overcommit: Factor::ONE,
            swap_percent: 80,
            pressure: 40,
            cold_boots: 2,
            forks: 0,
        }
    }
}

impl Admission {
    fn limits(&self) -> Limits {
        let forks = match self.forks {
            0 => std::thread::available_parallelism().map_or(2, |n| n.get() as u32),
            n => n,
        };
        Limits {
            overcommit: self.overcommit,
            swap_percent: self.swap_percent,
            pressure: self.pressure,
            cold_boots: self.cold_boots,
            forks,
        }
    }
}

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

/// How it looked.
enum Looked {
    Admitted,
    Held(Reason),
    Never(Fault),
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

    /// Looks once, and takes what is wanted if it is there. The order of the readings matters: see
    /// [`vmint_pool::admission`].
    fn look(
        &self,
        boots: &Boots,
        holder: &ProcessRef,
        wait: Option<Wait>,
    ) -> Result<Looked, Fault> {
        let live = self.store().live().map_err(store_fault)?;
        let before: Vec<u64> = live
            .iter()
            .map(|machine| {
                machine
                    .hypervisor
                    .as_ref()
                    .map_or(0, |h| private_memory(h.pid))
            })
            .collect();
        let host = HostMemory::read();
        let taken: HashMap<MachineId, u64> = live
            .iter()
            .zip(before)
            .filter(|(machine, _)| machine.hypervisor.as_ref().is_some_and(process::is_alive))
            .map(|(machine, before)| {
                let pid = machine.hypervisor.as_ref().map_or(0, |h| h.pid);
                (machine.machine.clone(), before.min(private_memory(pid)))
            })
            .collect();
        let without_row: Vec<_> = live
            .iter()
            .map(|machine| (machine.machine.clone(), promise(machine.memory, 0, 0)))
            .collect();
        let limits = self.options.admission.limits();
        let need = Need {
            bytes: promise(boots.memory.0, boots.shared, boots.standbys),
            boot: boots.boot,
        };
        let request = Request {
            machine: boots.machine.clone(),
            bytes: need.bytes,
            boot: boots.boot,
            holder: holder.clone(),
            wait,
        };
        let mut store = self.store();
        let decided = store.admit(&request, Moment::now(), &without_row, |booked| {
            let mut now = Situation {
                available: host.available(),
                total: host.total(),
                swap: host.info.swap_percent(),
                pressure: host.pressure,
                machines: booked.promises.len() as u32,
                boots: booked.boots,
                ahead_bytes: booked.ahead_bytes,
                ahead_boots: booked.ahead_boots,
                ..Situation::default()
            };
            for (machine, promised) in &booked.promises {
                let taken = taken.get(machine).copied().unwrap_or(0);
                now.promised = now.promised.saturating_add(taken.max(*promised));
                now.taken = now.taken.saturating_add(taken);
            }
            for awaited in &booked.awaited {
                now.held.add(awaited);
            }
            match decide(&limits, &now, &need) {
                Verdict::Admit => Ok(()),
                Verdict::Hold(reason) => Err((reason.word(), Looked::Held(reason))),
                Verdict::Never { need, most } => {
                    let never = Looked::Never(never(boots, need, most));
                    Err(("never", never))
                }
            }
        });
        Ok(match decided.map_err(store_fault)? {
            Ok(()) => Looked::Admitted,
            Err(looked) => looked,
        })
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

fn never(boots: &Boots, need: u64, most: u64) -> Fault {
    let message = format!(
        "{} needs {} of memory, and this host can promise {} in all",
        boots.what,
        ByteSize(need),
        ByteSize(most)
    );
    Fault::new(ErrorKind::Refused, message)
        .hint("ask for less with --memory, or raise admission.overcommit in vmint.toml")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use std::path::Path;
    use std::sync::Mutex;

    fn open(folder: &Path, admission: Admission) -> Vmint {
        let options = Options {
            home: folder.join("home"),
            runner: "/nonexistent/vmint".into(),
            accelerator: None,
            confine: vmint_model::Confine::Best,
            run_as: None,
            full_snapshots: false,
            start_timeout: None,
            admission,
            lease: None,
        };
        Vmint::open(options).unwrap()
    }

    fn boots() -> Boots {
        Boots::unnamed("a guest", ByteSize::mib(64))
    }

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn stage(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    const ONE: Admission = Admission {
        terms: Terms {
            on_pressure: OnPressure::Wait,
            timeout: Duration::from_secs(20),
        },
        overcommit: Factor::ONE,
        swap_percent: 100,
        pressure: 100,
        cold_boots: 1,
        forks: 1,
    };

    #[tokio::test]
    async fn who_waits_is_rung_as_soon_as_a_place_is_free_in_the_order_of_coming() {
        let dir = tempfile::tempdir().unwrap();
        let (vmint, told) = (open(dir.path(), ONE), Told::default());
        let held = vmint.admit(&boots(), None, &told).await.unwrap();
        let order = Mutex::new(Vec::new());
        let wait = async |n: u32| {
            let (boots, silent) = (boots(), Told::default());
            let told = if n == 0 { &told } else { &silent };
            let permit = vmint.admit(&boots, None, told).await.unwrap();
            order.lock().unwrap().push(n);
            permit
        };
        let release = async {
            while vmint.store().admissions(Boot::Cold).unwrap() != (1, 3) {
                tokio::task::yield_now().await;
            }
            // By now all look for themselves ever less often.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let began = Instant::now();
            drop(held);
            began
        };
        let each = async |n: u32| {
            drop(wait(n).await);
            Instant::now()
        };
        let (began, first, second, third) = tokio::join!(release, each(0), each(1), each(2));
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        let took = first.max(second).max(third) - began;
        // Each looks for himself twice a second at least; three of them would need longer than this.
        assert!(took < Duration::from_millis(300), "{took:?}");
        let told = told.0.into_inner().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("waiting for a place to start: 1 cold boot(s) under way"));
        assert_eq!(vmint.store().admissions(Boot::Cold).unwrap(), (0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let vmint = open(dir.path(), ONE);
        let _held = vmint
            .admit(&boots(), None, &vmint_image::Silent)
            .await
            .unwrap();
        let (boots, terms) = (boots(), ONE.terms);
        let wait = vmint.admit(&boots, Some(terms), &vmint_image::Silent);
        let gave_up = tokio::time::timeout(Duration::from_millis(120), wait).await;
        assert!(gave_up.is_err());
        assert_eq!(vmint.store().admissions(Boot::Cold).unwrap(), (1, 0));
        let sockets = std::fs::read_dir(vmint.home().runtime()).unwrap();
        let bells = sockets
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(bell::PREFIX));
        assert_eq!(bells.count(), 0);
    }

    mod figures {
        use super::*;

        /// What admission adds to a start when nobody is in the way.
        #[tokio::test]
        async fn an_uncontended_admission_costs_less_than_a_millisecond() {
            let dir = tempfile::tempdir().unwrap();
            let vmint = open(dir.path(), ONE);
            let mut times = Vec::new();
            for _ in 0..200 {
                let boots = boots();
                let began = Instant::now();
                let permit = vmint
                    .admit(&boots, None, &vmint_image::Silent)
                    .await
                    .unwrap();
                permit.settle();
                times.push(began.elapsed());
                vmint.store().withdraw_admission(&boots.machine).unwrap();
            }
            times.sort();
            println!("p50 {:?}, p90 {:?}", times[100], times[180]);
            assert!(times[100] < Duration::from_millis(1), "{:?}", times[100]);
        }
    }
}
