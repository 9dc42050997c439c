//! A machine that is not waited for endlessly.
//!
//! A guest can hang: then it takes nothing, gives nothing and starts nothing, and says nothing of it. What a command does is
//! bounded by its time limit (see `supervise`); here is what is done to the machine besides.

use super::cancel::Cancel;
use crate::guest::{Command, Guest, Identity, Process, Snapshot};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use vmint_model::{ErrorKind, Fault, Name};

/// For so long a machine may stand still. Under emulation, on a busy host, what takes longest is to branch a machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pieces that wait on either side of the count.
const WAITING: usize = 4;

/// A machine whose operations end, one way or the other.
pub struct Watched {
    inner: Box<dyn Guest>,
    /// Of the run: in haste, nothing is waited for.
    cancel: Cancel,
}

impl Watched {
    /// The same machine.
    pub fn new(inner: Box<dyn Guest>, cancel: Cancel) -> Self {
        Self { inner, cancel }
    }

    /// Waits for an operation, as long as it gets on.
    async fn wait<T>(
        &self,
        what: &str,
        pieces: &AtomicU64,
        operation: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let stands_still = async {
            loop {
                let before = pieces.load(Ordering::Relaxed);
                tokio::time::sleep(PATIENCE).await;
                if pieces.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        tokio::select! {
            result = operation => result,
            () = stands_still => {
                let seconds = PATIENCE.as_secs();
                let message = format!("the machine stood still for {seconds} s while vmint tried to {what}");
                Err(Fault::new(ErrorKind::MachineLost, message))
            }
            () = self.cancel.hastened() => {
                let message = format!("ended in haste while vmint tried to {what}");
                Err(Fault::new(ErrorKind::Interrupted, message))
            }
        }
    }
}

impl Guest for Watched {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn start<'a>(
        &'a self,
        command: Command,
    ) -> BoxFuture<'a, Result<Box<dyn Process + 'a>, Fault>> {
        Box::pin(async move {
            let none = AtomicU64::new(0);
            self.wait("start a command", &none, self.inner.start(command))
                .await
        })
    }

    fn put<'a>(
        &'a self,
        folder: &'a str,
        mut tar: mpsc::Receiver<io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(WAITING);
            let pieces = AtomicU64::new(0);
            let count = async {
                while let Some(piece) = tar.recv().await {
                    pieces.fetch_add(1, Ordering::Relaxed);
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                // Whoever packs is told that nobody takes any more; whoever unpacks, that this was all.
                drop((tar, sender));
            };
            let put = async {
                let (put, ()) =
                    futures_util::future::join(self.inner.put(folder, receiver), count).await;
                put
            };
            self.wait("copy files into it", &pieces, put).await
        })
    }

    fn get<'a>(
        &'a self,
        path: &'a str,
        tar: mpsc::Sender<Bytes>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let (sender, mut receiver) = mpsc::channel(WAITING);
            let pieces = AtomicU64::new(0);
            let count = async {
                while let Some(piece) = receiver.recv().await {
                    pieces.fetch_add(1, Ordering::Relaxed);
                    if tar.send(piece).await.is_err() {
                        break;
                    }
                }
                drop((tar, receiver));
            };
            let get = async {
                let (got, ()) =
                    futures_util::future::join(self.inner.get(path, sender), count).await;
                got
            };
            self.wait("copy files out of it", &pieces, get).await
        })
    }

    fn snapshot<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Snapshot, Fault>> {
        Box::pin(async move {
            let none = AtomicU64::new(0);
            self.wait("branch it", &none, self.inner.snapshot(name))
                .await
        })
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        self.inner.release()
    }
}
