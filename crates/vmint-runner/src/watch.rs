//! What a runner watches besides its guest: its folder, its doorbell, its owner, its record.

use rustix::fs::inotify;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use vmint_model::{MachineDir, ProcessRef};

/// Something happened around the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Look into the store.
    Look,
    /// The process that owns the machine has ended.
    OwnerEnded,
}

/// How often the store is looked into though nobody rang: what rings can be lost, the store cannot.
const FALLBACK: Duration = Duration::from_secs(1);

/// Watches the machine's folder, and rings.
pub async fn folder(dir: MachineDir, sender: mpsc::Sender<Watched>) {
    let inotify = watch_folder(&dir)
        .inspect_err(|e| tracing::warn!("no inotify, looking once a second: {e}"))
        .ok();
    loop {
        let rang = async {
            match &inotify {
                None => std::future::pending().await,
                Some(fd) => drain(fd).await,
            }
        };
        let _ = tokio::time::timeout(FALLBACK, rang).await;
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

/// Tells when `owner` has ended.
pub async fn owner(owner: ProcessRef, sender: mpsc::Sender<Watched>) {
    match vmint_store::process::open_pidfd(&owner) {
        Ok(Some(fd)) => {
            // SAFETY: the descriptor is owned by the `AsyncFd` and stays open and the same until it is dropped.
            match unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) } {
                Ok(fd) => drop(fd.readable().await),
                Err(e) => tracing::error!("cannot watch the owner: {e:?}"),
            }
        }
        Ok(None) => {}
        Err(e) => tracing::error!("cannot watch the owner: {e}"),
    }
    // An owner that cannot be watched is taken to have ended: better a machine too few than one that leaks.
    let _ = sender.send(Watched::OwnerEnded).await;
}
