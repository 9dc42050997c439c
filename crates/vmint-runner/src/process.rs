//! A runner from its first line to its last.

use crate::machine::Machine;
use crate::server;
use crate::start::{StartRequest, Started};
use crate::view::View;
use crate::watch;
use rustix::stdio;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Mutex;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tracing::Instrument;
use vmint_model::{ErrorBody, ErrorKind, Fault, Home, MachineDir, MachineId, MachineState};
use vmint_qemu::log::{Log, PROGRAM};
use vmint_store::{FileLock, Store};

/// Where a runner writes its own log, which is bounded: a guest can make it complain. It goes on with the file that is the
/// process's standard error, and standard error with it, for panics are told there.
pub fn log(home: &Home, id: &MachineId) -> Mutex<Box<dyn Write + Send>> {
    Mutex::new(match Log::open(&home.machine(id).runner_log(), PROGRAM) {
        Ok(log) => Box::new(OwnLog(log)),
        Err(_) => Box::new(io::stderr()),
    })
}

struct OwnLog(Log);

impl Write for OwnLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (before, n) = (self.0.file().as_raw_fd(), self.0.write(bytes)?);
        // Another part has been begun.
        if self.0.file().as_raw_fd() != before {
            stdio::dup2_stderr(self.0.file())?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the runner of machine `id` until the machine is down. To be called on the main thread of a process that
/// [`start_runner`](crate::start::start_runner) started.
pub fn run(home: &Home, id: &MachineId) {
    let dir = home.machine(id);
    if let Err(e) = vmint_spawn::forbid_cores() {
        eprintln!("vmint runner: this process may leave a core: {e}");
    }
    let (lock, mut said) = match streams(&dir) {
        Ok(streams) => streams,
        Err(fault) => {
            eprintln!("vmint runner: {fault}");
            return;
        }
    };
    // All of this while there is one thread: those that a thread starts are inside the fence with it, others are not.
    make_room_for_descriptors();
    let prepared = prepare(home, id, &dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Digests of snapshots, and nothing else.
        .max_blocking_threads(2)
        .thread_stack_size(256 << 10)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(prepared, &dir, &mut said)),
        Err(e) => say(&mut said, &Err(Fault::from_error(ErrorKind::Host, &e))),
    }
    // Held to the very end: as long as anything of this machine may be alive, so is its lock.
    drop(lock);
}

/// Has the kernel make this process's table of descriptors as long as it will ever have to be. Where threads share a table, the kernel
/// makes it longer only after a grace period of its RCU, in which the caller waits: 8 to 12 ms on an idle host, a third of what QEMU takes
/// to start (`expand_files`, seen in `/proc/PID/stack`). The guard's sockets have numbers above the 64 that a table has at first.
fn make_room_for_descriptors() {
    const ROOM: i32 = 255;
    // Without it, for want of memory or because of a limit, a start takes longer.
    drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), ROOM));
}

/// Takes the lock from standard input and the pipe to the caller from standard output, and leaves the caller's
/// session and terminal. Nothing that this process starts inherits either.
fn streams(dir: &MachineDir) -> Result<(FileLock, File), Fault> {
    let fault = |e: io::Error| Fault::from_error(ErrorKind::Host, &e);
    let lock: OwnedFd = io::stdin().as_fd().try_clone_to_owned().map_err(fault)?;
    let said: OwnedFd = io::stdout().as_fd().try_clone_to_owned().map_err(fault)?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(fault)?;
    stdio::dup2_stdin(&null).map_err(|e| fault(e.into()))?;
    stdio::dup2_stdout(&null).map_err(|e| fault(e.into()))?;
    // Fails only for the leader of a session, which has no caller's session to leave.
    let _ = rustix::process::setsid();
    let lock = FileLock::from_fd(lock, &dir.lock())?;
    Ok((lock, File::from(said)))
}

fn say(said: &mut File, outcome: &Result<Started, Fault>) {
    let started = match outcome {
        Ok(started) => started.clone(),
        Err(fault) => Started::Failed(ErrorBody {
            error: fault.clone(),
        }),
    };
    let json = serde_json::to_vec(&started).expect("can be written as JSON");
    // A caller that is gone has no use for it.
    let _ = said.write_all(&json);
}

async fn serve(prepared: Result<Prepared, Fault>, dir: &MachineDir, said: &mut File) {
    let (mut machine, listener, view, owner, enclosed) = match prepared {
        Ok(prepared) => prepared,
        Err(fault) => return say(said, &Err(fault)),
    };
    if let Err(fault) = enclosed {
        tracing::error!("{fault}");
        machine.fail(&fault).await;
        return say(said, &Err(fault));
    }
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return say(said, &Err(Fault::from_error(ErrorKind::Host, &e))),
    };
    let (watched, watches) = mpsc::channel(4);
    // Watched from the beginning: an owner may end while its machine comes up.
    let mut owner_ended = mpsc::channel(1);
    if let Some(owner) = owner {
        tokio::spawn(watch::owner(owner, owner_ended.0.clone()));
    }
    let span = machine.starting();
    let outcome = tokio::select! {
        outcome = machine.start().instrument(span) => outcome,
        Some(_) = owner_ended.1.recv() => {
            Err(Fault::new(ErrorKind::Interrupted, "the machine's owner ended while it was being started"))
        }
    };
    if let Err(fault) = outcome {
        tracing::error!("{fault}");
        machine.fail(&fault).await;
        return say(said, &Err(fault));
    }
    let (asks, queue) = mpsc::channel(16);
    let requests = server::Requests::new();
    tokio::spawn(server::serve(listener, view, asks, &requests));
    let fallback = match machine.record().pool {
        Some(_) => watch::POOL_FALLBACK,
        None => watch::FALLBACK,
    };
    tokio::spawn(watch::folder(dir.clone(), fallback, watched.clone()));
    tokio::spawn(async move {
        if let Some(ended) = owner_ended.1.recv().await {
            let _ = watched.send(ended).await;
        }
    });
    say(
        said,
        &Ok(Started::Ready(Box::new(machine.record().clone()))),
    );
    // The caller reads to the end of the pipe.
    *said = File::open("/dev/null").unwrap_or_else(|_| unreachable!("opened before"));
    machine.serve(queue, watches).await;
    requests.answered().await;
}

type Prepared = (
    Machine,
    StdUnixListener,
    View,
    Option<vmint_model::ProcessRef>,
    Result<(), Fault>,
);

fn prepare(home: &Home, id: &MachineId, dir: &MachineDir) -> Result<Prepared, Fault> {
    let store = Store::open(home)?;
    let record = store.get(id)?;
    let record = record
        .ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("there is no machine {id}")))?;
    if record.state != MachineState::Starting {
        let message = format!("machine {} is {}, not starting", record.name, record.state);
        return Err(Fault::new(ErrorKind::WrongState, message));
    }
    let host = |e: io::Error| Fault::from_error(ErrorKind::Host, &e);
    let request = StartRequest::read(dir).map_err(|e| host(e).context("cannot read start.json"))?;
    // This process has the machine's lock, so a socket that is there is a dead runner's.
    match std::fs::remove_file(dir.socket()) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(host(e).context("cannot remove a left-over socket")),
    }
    let context = format!("cannot listen on {}", dir.socket().display());
    let listener = StdUnixListener::bind(dir.socket()).map_err(|e| host(e).context(&context))?;
    listener.set_nonblocking(true).map_err(host)?;
    std::fs::set_permissions(dir.socket(), std::fs::Permissions::from_mode(0o600)).map_err(host)?;
    let view = View::new(record.clone());
    let owner = record.owner.clone();
    let mut machine = Machine::new(home.clone(), store, record, request, view.clone());
    let enclosed = machine.enclose();
    Ok((machine, listener, view, owner, enclosed))
}
