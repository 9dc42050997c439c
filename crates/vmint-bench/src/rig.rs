//! What benchmarks share: hypervisors and machines to measure, and that none of them stays behind.
//!
//! Machines and snapshots are called `bench-PID-N`, after this process. They are removed after each benchmark, when
//! this is dropped half way, and, should this process be killed, by the next run.

use super::process::{self, ms};
use super::suite::BenchOptions;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vmint::{Command, NewMachine, Vmint};
use vmint_image::{Progress, Silent};
use vmint_model::{
    ByteSize, ErrorKind, ExecDefaults, Fault, Generation, Link, MachineRecord, MachineSpec, Name,
    NetMode, Origin,
};
use vmint_protocol::{ExecSpec, ExitStatus, Prepare};
use vmint_qemu::hypervisor::Held;
use vmint_qemu::{Frozen, Host, Hypervisor, Launch, Start};
use vmint_runner::belongs;
use vmint_runner::bringup::{Live, bring_up, qmp_deadline};
use vmint_runner::identity;
use vmint_runner::machine::start_deadline;
use vmint_store::{FileLock, SnapshotFilter};

const PREFIX: &str = "bench";

/// The memory of a machine that asks for none.
pub(crate) const MEMORY: ByteSize = ByteSize::mib(512);

/// The memory of each of many machines at once: 50 of them are admitted on a host of 8 GiB. What a parked fork takes, and how long a fork
/// takes, do not depend on it.
pub(crate) const MEMORY_OF_MANY: ByteSize = ByteSize::mib(128);

/// More than a fork and its runner take, so that the host is not driven out of memory to find out.
pub(crate) const RESERVE: u64 = 96 << 20;

/// What benchmarks share.
pub(crate) struct Rig<'a> {
    /// vmint.
    pub vmint: &'a Vmint,
    /// What to measure.
    pub options: &'a BenchOptions,
    /// Told what is being done.
    pub progress: &'a dyn Progress,
    /// What executes machines here.
    pub host: Host,
    scratch: PathBuf,
    next: Cell<u32>,
}

impl<'a> Rig<'a> {
    /// Ready to measure; clears up after a run that was killed.
    pub(crate) async fn new(
        vmint: &'a Vmint,
        options: &'a BenchOptions,
        progress: &'a dyn Progress,
        host: Host,
    ) -> Result<Self, Fault> {
        let scratch = vmint
            .home()
            .root()
            .join(format!(".{PREFIX}-{}", std::process::id()));
        let rig = Self {
            vmint,
            options,
            progress,
            host,
            scratch,
            next: Cell::new(0),
        };
        rig.clear_dead().await?;
        remove_folder(&rig.scratch)?;
        std::fs::create_dir(&rig.scratch).map_err(|e| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot make the benchmarks' folder")
        })?;
        Ok(rig)
    }

    /// How many samples to take.
    pub(crate) fn count(&self, usual: usize, quick: usize) -> usize {
        if self.options.quick { quick } else { usual }
    }

    /// A file for what nobody else reads.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A name that no other machine or snapshot has.
    pub(crate) fn name(&self) -> Name {
        let n = self.next.get();
        self.next.set(n + 1);
        format!("{PREFIX}-{}-{n}", std::process::id())
            .parse()
            .expect("a legal name")
    }

    /// The template of tiny with this much memory.
    pub(crate) async fn template(&self, memory: ByteSize) -> Result<Frozen, Fault> {
        let image = self.vmint.ensure_image("tiny", self.progress).await?;
        let spec = MachineSpec {
            image: "tiny".into(),
            memory,
            cpus: 1,
            net: NetMode::None,
            publish: Vec::new(),
            limits: vmint_model::Limits::default(),
            origin: Origin::Template,
            disk_cache: None,
            defaults: ExecDefaults::default(),
        };
        self.vmint
            .ensure_template(&image, &spec, self.progress)
            .await
    }

    fn launch<'l>(
        &'l self,
        frozen: &'l Frozen,
        ram: &'l Path,
        console: &'l Path,
        log: &'l Path,
    ) -> Launch<'l> {
        Launch {
            qemu: &self.host.qemu,
            shape: &frozen.manifest().shape,
            name: "vmint-bench",
            start: Start::Load(frozen),
            ram,
            layers: &[],
            publish: &[],
            cache: vmint_model::DiskCache::Unsafe,
            console,
            confine: self.host.confine,
            user: self.host.user.as_ref(),
            allow: None,
            held: Held::default(),
            log,
        }
    }

    /// A fork without a runner, and how long it took until the guest ran.
    pub(crate) async fn fork(&self, frozen: &Frozen) -> Result<(f64, Hypervisor), Fault> {
        let (ram, console, log) = (
            frozen.ram(),
            self.scratch("console.log"),
            self.scratch("qemu.log"),
        );
        let launch = self.launch(frozen, &ram, &console, &log);
        let began = Instant::now();
        let hypervisor = launch.run(qmp_deadline(self.host.accelerator)).await?;
        Ok((ms(began.elapsed()), hypervisor))
    }

    /// QEMU with a fork's arguments and nothing loaded, and how long it took until QMP answered.
    pub(crate) async fn bare(&self, frozen: &Frozen) -> Result<(f64, Hypervisor), Fault> {
        let (ram, console, log) = (
            frozen.ram(),
            self.scratch("console.log"),
            self.scratch("qemu.log"),
        );
        let launch = self.launch(frozen, &ram, &console, &log);
        let began = Instant::now();
        let hypervisor = launch
            .start_only(qmp_deadline(self.host.accelerator))
            .await?;
        Ok((ms(began.elapsed()), hypervisor))
    }

    /// A fork without a runner, with a session and an identity.
    pub(crate) async fn live(&self, frozen: &Frozen) -> Result<Live, Fault> {
        let (ram, console, log) = (
            frozen.ram(),
            self.scratch("console.log"),
            self.scratch("qemu.log"),
        );
        let deadline = tokio::time::Instant::now()
            + start_deadline(self.host.accelerator, vmint_model::Boot::Fork);
        bring_up(
            self.launch(frozen, &ram, &console, &log),
            self.prepare()?,
            deadline,
        )
        .await
    }

    /// An identity for a machine without a runner.
    pub(crate) fn prepare(&self) -> Result<Prepare, Fault> {
        identity::fresh(&self.name(), Generation(1), Link::None)
    }

    /// A machine as users have it, that ends with this process.
    pub(crate) fn machine(&self, image: &str, memory: ByteSize, origin: Origin) -> NewMachine {
        NewMachine {
            name: Some(self.name()),
            memory,
            origin,
            ..NewMachine::ephemeral(image)
        }
    }

    /// Starts a machine whose template or image there is already.
    pub(crate) async fn start(&self, new: NewMachine) -> Result<MachineRecord, Fault> {
        self.vmint.create_running(new, &Silent).await
    }

    /// Runs a command that must succeed.
    pub(crate) async fn execute(
        &self,
        machine: &MachineRecord,
        argv: &[&str],
    ) -> Result<(), Fault> {
        let output = self
            .vmint
            .output(machine.id.as_str(), Command::new(argv.iter().copied()))
            .await?;
        succeeded(output.status, argv, &output.stderr)
    }

    /// Removes a machine.
    pub(crate) async fn remove(&self, machine: &MachineRecord) -> Result<(), Fault> {
        self.vmint
            .remove(machine.id.as_str(), vmint_model::Force::Yes)
            .await
    }

    /// The `vmint` program with `arguments`, for this home and with nobody's settings.
    pub(crate) fn program(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = bare_command(&self.options.program);
        command
            .args(arguments)
            .env("VMINT_HOME", self.vmint.home().root())
            .env("VMINT_RUNNER", &self.vmint.options().runner)
            .env("VMINT_ACCELERATOR", self.host.accelerator.as_str());
        command
    }

    /// How long a whole process takes.
    pub(crate) fn time(&self, mut command: std::process::Command) -> Result<f64, Fault> {
        process::time(&mut command, &self.scratch("programs.log"))
    }

    /// Removes all machines and snapshots of this run.
    pub(crate) async fn clear(&self) -> Result<(), Fault> {
        self.clear_those(|pid| pid == std::process::id()).await
    }

    async fn clear_dead(&self) -> Result<(), Fault> {
        let dead = |pid| matches!(vmint_store::process::of(pid), Ok(None));
        let folders = std::fs::read_dir(self.vmint.home().root())
            .into_iter()
            .flatten()
            .flatten();
        for folder in folders {
            let name = folder.file_name();
            if name
                .to_str()
                .and_then(|n| owner(n.strip_prefix('.')?))
                .is_some_and(dead)
            {
                remove_folder(&folder.path())?;
            }
        }
        self.clear_those(dead).await
    }

    async fn clear_those(&self, which: impl Fn(u32) -> bool) -> Result<(), Fault> {
        let is_ours = |name: &Name| owner(name.as_str()).is_some_and(&which);
        let mut outcome = Ok(());
        for machine in self
            .vmint
            .machines()?
            .into_iter()
            .filter(|m| is_ours(&m.name))
        {
            let removed = self.remove(&machine).await;
            outcome = outcome.and(removed);
        }
        let snapshots = self.vmint.store().list_snapshots(&SnapshotFilter::All)?;
        for snapshot in snapshots.into_iter().filter(|s| is_ours(&s.name)) {
            let removed = self.vmint.remove_snapshot(&snapshot.name);
            outcome = outcome.and(removed);
        }
        outcome
    }

    /// Removes a machine without asking anybody. One whose runner has only just been started does not say yet who its
    /// processes are, so this looks again until nobody has its lock.
    fn erase(&self, machine: &MachineRecord) {
        let lock = self.vmint.home().machine(&machine.id).lock();
        let end = Instant::now() + Duration::from_secs(10);
        while let Some(record) = self.current(machine)
            && Instant::now() < end
        {
            belongs::kill_left_over(self.vmint.home(), &record);
            let soon = Instant::now() + Duration::from_millis(100);
            let freed = FileLock::acquire_until(&lock, soon).map(drop);
            if freed.is_ok() && self.vmint.put_away(&record).is_ok() {
                return;
            }
        }
    }

    /// A function of its own, so that the store is free again when its caller goes on.
    fn current(&self, machine: &MachineRecord) -> Option<MachineRecord> {
        self.vmint.store().get(&machine.id).ok().flatten()
    }
}

fn remove_folder(path: &Path) -> Result<(), Fault> {
    vmint_store::remove_folder(path).map_err(|e| {
        let fault = Fault::from_error(ErrorKind::Host, &e);
        fault.context(format!("cannot remove {}", path.display()))
    })
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        let is_ours = |name: &Name| owner(name.as_str()) == Some(std::process::id());
        for machine in self
            .vmint
            .machines()
            .unwrap_or_default()
            .iter()
            .filter(|m| is_ours(&m.name))
        {
            self.erase(machine);
        }
        let snapshots = self
            .vmint
            .store()
            .list_snapshots(&SnapshotFilter::All)
            .unwrap_or_default();
        for snapshot in snapshots.iter().filter(|s| is_ours(&s.name)) {
            let _ = self.vmint.remove_snapshot(&snapshot.name);
        }
        let _ = remove_folder(&self.scratch);
    }
}

/// The process that a name was made by.
pub(crate) fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?
        .strip_prefix('-')?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// A program with the least of an environment, the same for all that are compared.
pub(crate) fn bare_command(program: &Path) -> std::process::Command {
    let mut command = vmint_spawn::command(program);
    command.env_clear().current_dir("/");
    // Where sockets are, and which QEMU, must be the same as here.
    for name in [
        "PATH",
        "HOME",
        "XDG_RUNTIME_DIR",
        "VMINT_RUNTIME_DIR",
        "VMINT_QEMU",
        "VMINT_BOOT_ID",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A command without input.
pub(crate) fn spec(argv: &[&str]) -> ExecSpec {
    ExecSpec {
        argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        ..ExecSpec::default()
    }
}

/// A command of a benchmark that fails measures nothing.
pub(crate) fn succeeded(status: ExitStatus, argv: &[&str], stderr: &[u8]) -> Result<(), Fault> {
    if status == ExitStatus::Code(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(stderr);
    let message = format!(
        "{} ended with {status:?}: {:?}",
        argv.join(" "),
        said.trim()
    );
    Err(Fault::new(ErrorKind::Guest, message))
}

/// Samples of two things in turn, with the one first as often as the other; one of each goes before.
pub(crate) async fn in_turn(
    n: usize,
    mut one: impl AsyncFnMut() -> Result<f64, Fault>,
    mut other: impl AsyncFnMut() -> Result<f64, Fault>,
) -> Result<(Vec<f64>, Vec<f64>), Fault> {
    one().await?;
    other().await?;
    let (mut ones, mut others) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for i in 0..n {
        if i % 2 == 0 {
            ones.push(one().await?);
            others.push(other().await?);
        } else {
            others.push(other().await?);
            ones.push(one().await?);
        }
    }
    Ok((ones, others))
}

/// Samples of two things in turns of several, for what runs in two guests: each leaves the other's code cold in the
/// processor's caches, which doubles a short command's time and is no cost of either. So the first sample of each turn
/// is not counted.
pub(crate) async fn in_long_turns(
    n: usize,
    mut one: impl AsyncFnMut() -> Result<f64, Fault>,
    mut other: impl AsyncFnMut() -> Result<f64, Fault>,
) -> Result<(Vec<f64>, Vec<f64>), Fault> {
    const TURN: usize = 10;
    let (mut ones, mut others) = (Vec::with_capacity(n), Vec::with_capacity(n));
    while ones.len() < n {
        one().await?;
        for _ in 0..TURN.min(n - ones.len()) {
            ones.push(one().await?);
        }
        other().await?;
        while others.len() < ones.len() {
            others.push(other().await?);
        }
    }
    Ok((ones, others))
}

/// Kills a hypervisor and waits until it is gone.
pub(crate) async fn kill(hypervisor: Hypervisor) -> Result<(), Fault> {
    hypervisor
        .kill()
        .await
        .map_err(|e| Fault::from_error(ErrorKind::Host, &e).context("cannot end QEMU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        assert_eq!(owner("bench-42-7"), Some(42));
        assert_eq!(owner("bench-42-7-50"), Some(42));
        assert_eq!(owner("bench-42"), Some(42));
        for other in ["bench", "bench-", "bench-x-1", "benches-1-1", "web"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn long_turns_count_all_but_the_first_sample_of_each() {
        let (ones, others) = (Cell::new(0.0), Cell::new(100.0));
        let next = |cell: &Cell<f64>| {
            cell.set(cell.get() + 1.0);
            Ok(cell.get())
        };
        let taken = in_long_turns(12, async || next(&ones), async || next(&others)).await;
        let (ones, others) = taken.unwrap();
        let counted = [
            2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 13.0, 14.0,
        ];
        assert_eq!(ones, counted);
        assert_eq!(others, counted.map(|n| n + 100.0));
    }

    #[tokio::test]
    async fn two_things_take_turns_and_the_first_sample_of_each_is_not_counted() {
        let order = std::cell::RefCell::new(String::new());
        let (ones, others) = in_turn(
            2,
            async || {
                order.borrow_mut().push('a');
                Ok(order.borrow().len() as f64)
            },
            async || {
                order.borrow_mut().push('b');
                Ok(order.borrow().len() as f64)
            },
        )
        .await
        .unwrap();
        assert_eq!(order.into_inner(), "ababba");
        assert_eq!((ones, others), (vec![3.0, 6.0], vec![4.0, 5.0]));
    }
}
