//! The line to a job's machine: the session, what ends it early, and how much time is left.
//!
//! Commands, calls of the container engine and transfers need this and nothing else of the job. Each command gets a share of the
//! time that is left, and obeys the cancellations that were not there when it began: what runs in spite of one is to end.

use super::cancel::Cancel;
use super::end::End;
use super::instance::Trouble;
use super::session::Session;
use super::supervise::{Allowed, Obeys, Seen, Supervised};
use super::teller::Teller;
use crate::guest::{Command, Snapshot};
use crate::limits::{Deadline, Limits, Phase};
use crate::trace::{Activity, Doing};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender};
use vmint_model::{Fault, Name};

/// The line to a job's machine.
pub(super) struct Wire<'r> {
    pub session: Arc<Session>,
    pub cancel: Cancel,
    limits: Limits,
    /// Since when the job does not run as usual any more: out of time, or cancelled.
    ending: Option<Instant>,
    /// Whether it was cancelled when the last command got its time.
    was_cancelled: bool,
    /// Is told what is done.
    pub(super) tell: Teller<'r>,
}

impl<'r> Wire<'r> {
    pub(super) fn new(
        session: Arc<Session>,
        cancel: Cancel,
        limits: Limits,
        tell: Teller<'r>,
    ) -> Self {
        Self {
            session,
            cancel,
            limits,
            ending: None,
            was_cancelled: false,
            tell,
        }
    }

    /// Unpacks a tar in a folder of the machine.
    pub(super) async fn put(
        &self,
        folder: &str,
        tar: Receiver<io::Result<Bytes>>,
    ) -> Result<(), Fault> {
        let what = format!("files into {folder}");
        let doing = self.tell.trace(Doing::Transfer, &what);
        doing.ends_with(self.session.guest().put(folder, tar).await)
    }

    /// Packs a file or folder of the machine. What does not exist is a fault of kind `not_found`.
    pub(super) async fn get(&self, path: &str, tar: Sender<Bytes>) -> Result<(), Fault> {
        let what = format!("files out of {path}");
        let doing = self.tell.trace(Doing::Transfer, &what);
        doing.ends_with(self.session.guest().get(path, tar).await)
    }

    /// Freezes this moment of the machine.
    pub(super) async fn snapshot(&self, name: &Name) -> Result<Snapshot, Fault> {
        let doing = self.tell.trace(Doing::Snapshot, name.as_str());
        doing.ends_with(self.session.guest().snapshot(name).await)
    }

    /// Tells of a command that runs: its program alone, and for how long it may.
    pub(super) fn trace_command(&self, command: &Command, allowed: Allowed) -> Activity<'r> {
        let program = command.argv.first().map_or("", String::as_str);
        let whole = Duration::from_secs(allowed.time.as_secs().max(1));
        let limit = crate::limits::text(whole);
        let what = format!("`{program}`, for at most {limit}");
        self.tell.trace(Doing::Command, &what)
    }

    /// The image that it is of.
    pub(super) fn image(&self) -> &str {
        &self.session.place().image
    }

    /// Whether the job is cancelled, or out of time.
    pub(super) fn is_ending(&self) -> bool {
        self.cancel.by().is_some()
            || self.ending.is_some()
            || self.limits.over(Instant::now()).is_some()
    }

    /// The time limit that has ended the job.
    pub(super) fn ran_out(&self) -> Option<Deadline> {
        self.ending.and_then(|since| self.limits.over(since))
    }

    /// How long a command may take, or how it ends when there is no time left.
    pub(super) fn allowed(&mut self, step: Option<Deadline>) -> Result<Allowed, End> {
        let now = Instant::now();
        self.was_cancelled = self.cancel.by().is_some();
        if self.ending.is_none() && (self.was_cancelled || self.limits.over(now).is_some()) {
            self.ending = Some(now);
        }
        let phase = self
            .ending
            .map_or(Phase::Running, |since| Phase::Ending { since });
        match self.limits.allow(now, phase, step) {
            Ok(allowance) => Ok(Allowed {
                time: allowance.timeout,
                whose: allowance.deadline.whose,
                limit: allowance.deadline.limit,
            }),
            Err(deadline) => Err(End::TimedOut {
                whose: deadline.whose,
                limit_ms: deadline.limit.as_millis() as u64,
            }),
        }
    }

    /// Which cancellations a command obeys that begins now: those that came after it got its [time](Self::allowed), also if they
    /// came before it began, while its files were put into the machine.
    pub(super) fn obeys(&self) -> Obeys {
        let cancel = self.cancel.clone();
        if self.was_cancelled {
            Obeys::Haste(cancel)
        } else {
            Obeys::Cancelling(cancel)
        }
    }

    /// Runs a command that is vmint's own to its end, and hands over what it writes.
    pub(super) async fn listen(
        &self,
        command: Command,
        allowed: Allowed,
        mut hear: impl FnMut(&[u8]) -> Result<(), Trouble> + Send,
    ) -> Result<End, Trouble> {
        let command = Command {
            timeout: Some(allowed.time),
            ..command
        };
        let process = self.session.start(command, self.tell.recorder).await?;
        let mut supervised = Supervised::new(process, allowed, self.obeys());
        loop {
            match supervised.next().await? {
                Seen::Output(bytes) => hear(&bytes)?,
                Seen::Ended(end) => return Ok(end),
            }
        }
    }

    /// Runs a command that is vmint's own in the machine, and gives what it writes. More than `most` bytes are a failure.
    pub(super) async fn ask(
        &mut self,
        command: Command,
        most: usize,
    ) -> Result<(End, Vec<u8>), Trouble> {
        let allowed = match self.allowed(None) {
            Ok(allowed) => allowed,
            Err(end) => return Ok((end, Vec::new())),
        };
        let mut output = Vec::new();
        let hear = |bytes: &[u8]| {
            if output.len() + bytes.len() > most {
                return Err(Trouble::Step(format!(
                    "a list of files in the machine is longer than {most} bytes"
                )));
            }
            output.extend_from_slice(bytes);
            Ok(())
        };
        let doing = self.trace_command(&command, allowed);
        let end = doing.ends_with(self.listen(command, allowed, hear).await)?;
        Ok((end, output))
    }

    /// Waits before something is done, unless something wants it to end before.
    pub(super) async fn pause(
        &mut self,
        time: Duration,
        before: &str,
        limit: Option<Deadline>,
    ) -> Result<(), Trouble> {
        if time.is_zero() {
            return Ok(());
        }
        let allowed = self.allowed(limit).map_err(Trouble::Ended)?;
        let obeys = self.obeys();
        let what = format!("{} before {before}", crate::limits::text(time));
        let doing = self.tell.trace(Doing::Wait, &what);
        tokio::select! {
            () = tokio::time::sleep(time.min(allowed.time)) => doing.ends_with(Ok(())),
            () = obeys.ended() => Err(Trouble::Ended(End::Cancelled)),
        }
    }
}
