//! What a runner watches besides its guest: its folder, its doorbell, its owner, its record.

use rustix::fs::inotify;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use vmint_model::{Home, MachineDir, OwnerGone, ProcessRef, Ring};

/// Something happened around the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Look into the store.
    Look,
    /// The process that owns the machine has ended.
    OwnerEnded,
}

/// How often the store is looked into though nobody rang: what rings can be lost, the store cannot.
pub const FALLBACK: Duration = Duration::from_secs(1);
/// The same for a machine that an owner waits for.
pub const POOL_FALLBACK: Duration = Duration::from_millis(500);

/// Watches the machine's folder, and rings.
pub async fn folder(dir: MachineDir, fallback: Duration, sender: mpsc::Sender<Watched>) {
    let inotify = watch_folder(&dir)
        .inspect_err(|e| tracing::warn!("no inotify, looking every {fallback:?}: {e}"))
        .ok();
    loop {
        let rang = async {
            match &inotify {
                None => std::future::pending().await,
                Some(fd) => drain(fd).await,
            }
        };
        let _ = tokio::time::timeout(fallback, rang).await;
        if sender.send(Watched::Look).await.is_err() {
            return;
        }
    }
}

fn watch_folder(dir: &MachineDir) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    // The doorbell is a file of its own, so that logs being written do not ring.
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.doorbell())?;
    let rings = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&fd, dir.doorbell(), rings)?;
    // SAFETY: the descriptor is owned by the `AsyncFd` and stays open and the same until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(|e| e.into_parts().1)
}

async fn drain(fd: &AsyncFd<OwnedFd>) {
    let Ok(mut ready) = fd.readable().await else {
        return std::future::pending().await;
    };
    let mut buffer = [0; 1024];
    while rustix::io::read(fd.get_ref(), &mut buffer).is_ok_and(|n| n > 0) {}
    ready.clear_ready();
}

/// Rings a machine's doorbell.
pub fn ring(dir: &MachineDir) -> io::Result<()> {
    let file = std::fs::File::options().append(true).open(dir.doorbell())?;
    file.set_modified(std::time::SystemTime::now())
}

/// Rings whom transactions of the ledger concern. A ring that is lost costs time only.
pub fn tell<'a>(home: &Home, rings: impl IntoIterator<Item = &'a Ring>) {
    for one in rings {
        match one {
            Ring::Machine(id) => {
                if let Err(e) = ring(&home.machine(id)) {
                    tracing::debug!("machine {id} cannot be rung: {e}");
                }
            }
            Ring::Waiter(bell) => {
                vmint_store::bell::ring(bell);
            }
        }
    }
}

/// A process whose end is waited for.
#[derive(Debug)]
pub struct Watch(Result<Option<AsyncFd<OwnedFd>>, String>);

impl Watch {
    /// Watches `process`. One that cannot be watched is taken to have ended: better a machine too few than one that
    /// leaks.
    pub fn of(process: &ProcessRef) -> Self {
        let opened = vmint_store::process::open_pidfd(process).and_then(|fd| match fd {
            None => Ok(None),
            Some(fd) => {
                let interest = tokio::io::Interest::READABLE;
                // SAFETY: the descriptor is owned by the `AsyncFd` and stays open and the same until it is dropped.
                let fd = unsafe { AsyncFd::register_with_interest(fd, interest) };
                fd.map(Some).map_err(|e| e.into_parts().1)
            }
        });
        Self(opened.map_err(|e| {
            tracing::error!("process {} cannot be watched: {e}", process.pid);
            e.to_string()
        }))
    }

    /// How it is gone, once [`ended`](Self::ended) has returned.
    pub fn gone(&self) -> OwnerGone {
        match &self.0 {
            Ok(_) => OwnerGone::Ended,
            Err(why) => OwnerGone::Unseen(why.clone()),
        }
    }

    /// Returns when it has ended. Can be cancelled.
    pub async fn ended(&self) {
        if let Ok(Some(fd)) = &self.0 {
            drop(fd.readable().await);
        }
    }
}

/// Tells when `owner` has ended.
pub async fn owner(owner: ProcessRef, sender: mpsc::Sender<Watched>) {
    Watch::of(&owner).ended().await;
    let _ = sender.send(Watched::OwnerEnded).await;
}
