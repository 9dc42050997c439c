//! What a QEMU and its guest say, on its way into the logs.

use crate::egress::Journal;
use crate::log::{self, Keeper, Kept, Log};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What a hypervisor and its guest say, and who keeps it.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) console: Kept,
    pub(super) stderr: Kept,
    /// The path of the latter.
    path: PathBuf,
    keeper: Keeper,
    /// Under an allow list.
    pub(super) network: Option<Journal>,
}

impl Logs {
    /// Logs, and the writing ends of the console's pipe and of that of QEMU's standard error.
    pub(super) fn begin(console: &Path, stderr: &Path) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let kept = |log| Arc::new(Mutex::new(log));
        let kept_console = kept(Log::open(console, log::CONSOLE)?.listening());
        let kept_stderr = kept(Log::open(stderr, log::PROGRAM)?);
        let (console_in, console_out) = log::pipe()?;
        let (stderr_in, stderr_out) = log::pipe()?;
        let keeper = log::keep(vec![
            (console_in, kept_console.clone()),
            (stderr_in, kept_stderr.clone()),
        ])?;
        let logs = Self {
            console: kept_console,
            stderr: kept_stderr,
            path: stderr.to_owned(),
            keeper,
            network: None,
        };
        Ok((logs, console_out, stderr_out))
    }

    /// The end of what QEMU said, which is dead; and the words with which its guest ended.
    pub(super) async fn last_words(&self) -> (String, Option<String>) {
        self.keeper.done().await;
        let console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        (log::tail(&self.path), console.last_words())
    }
}
