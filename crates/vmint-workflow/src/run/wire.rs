//! The line to a job's machine: the session, what ends it early, and how much time is left.
//!
//! Commands, calls of the container engine and transfers need this and nothing else of the job. Each command gets a share of the
//! time that is left, and obeys the cancellations that were not there when it began: what runs in spite of one is to end.

use super::cancel::Cancel;
use super::end::End;
use super::instance::Trouble;
use super::recorder::Recorder;
use super::session::Session;
use super::supervise::{Allowed, Obeys, Seen, Supervised};
use crate::guest::{Command, Guest};
use crate::limits::{Deadline, Limits, Phase};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The line to a job's machine.
pub(super) struct Wire<'r> {
    pub session: Arc<Session>,
    pub cancel: Cancel,
    limits: Limits,
    /// Since when the job does not run as usual any more: out of time, or cancelled.
    ending: Option<Instant>,
    /// Counts what is started.
    recorder: &'r Recorder<'r>,
}

impl<'r> Wire<'r> {
    pub(super) fn new(
        session: Arc<Session>,
        cancel: Cancel,
        limits: Limits,
        recorder: &'r Recorder<'r>,
    ) -> Self {
        Self {
            session,
            cancel,
            limits,
            ending: None,
            recorder,
        }
    }

    /// The machine.
    pub(super) fn guest(&self) -> &dyn Guest {
        self.session.guest()
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
        if self.ending.is_none() && (self.cancel.by().is_some() || self.limits.over(now).is_some())
        {
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

    /// Which cancellations a command obeys that begins now.
    pub(super) fn obeys(&self) -> Obeys {
        let cancel = self.cancel.clone();
        if cancel.by().is_some() {
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
        let process = self.session.start(command, self.recorder).await?;
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
        let end = self.listen(command, allowed, hear).await?;
        Ok((end, output))
    }

    /// Waits, unless something wants it to end before.
    pub(super) async fn pause(
        &mut self,
        time: Duration,
        limit: Option<Deadline>,
    ) -> Result<(), Trouble> {
        if time.is_zero() {
            return Ok(());
        }
        let allowed = self.allowed(limit).map_err(Trouble::Ended)?;
        let obeys = self.obeys();
        tokio::select! {
            () = tokio::time::sleep(time.min(allowed.time)) => Ok(()),
            () = obeys.ended() => Err(Trouble::Ended(End::Cancelled)),
        }
    }
}
