//! `concurrency`: of a group, one member runs at most, and one waits at most, in all processes of this host.
//!
//! ```text
//! arrive ─▶ waiting ─ the one that runs has left, or is dead ─▶ running ─ leave ─▶
//!              └─ a newer one has arrived ─▶ replaced
//! ```
//!
//! A group has a file that says who runs and who waits, changed under a lock. Each member holds a lock file of its own,
//! which the kernel drops with its process: who does not hold it is dead, whatever the file says. Members are woken by
//! bells, and by the end of the process of the one they wait for.

use crate::Vmint;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::time::Instant;
use vmint_image::Digest;
use vmint_model::{Bell, ErrorKind, Fault, Home, ProcessRef};
use vmint_runner::watch::Watch;
use vmint_store::bell::{self, BellSocket};
use vmint_store::{FileLock, process};
use vmint_workflow::mask::Masked;
use vmint_workflow::run::cancel::Cancel;

/// How long a change of the file may be waited for; it takes well under a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a member looks by itself at first, and at last, should a bell be lost.
const SOON: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(5);

/// What becomes of the member that runs when a new one arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InProgress {
    /// It goes on, and the new one waits: `cancel-in-progress: false`.
    Finishes,
    /// It is cancelled, and the new one waits until it has ended: `cancel-in-progress: true`.
    IsCancelled,
}

/// Who wants to be in which group.
#[derive(Clone, Copy, Debug)]
pub struct Entrance<'a> {
    /// The repository: each has groups of its own.
    pub repository: &'a Path,
    /// `concurrency.group`. As on GitHub, upper and lower case are the same.
    pub group: &'a str,
    /// The same as it may be shown and written down.
    pub shown: &'a Masked,
    /// `concurrency.cancel-in-progress`.
    pub in_progress: InProgress,
    /// What others are told: `run r1234abcd`.
    pub who: &'a str,
}

/// The right to run in a group. Dropped, the next one has it.
#[derive(Debug)]
pub struct Membership {
    seat: Seat,
}

impl Membership {
    /// Returns when a newer member cancels this one, with the reason.
    pub async fn cancelled(&mut self) -> String {
        loop {
            match self.seat.files.read() {
                Ok(state) => {
                    let own = state.running.filter(|own| own.ticket == self.seat.ticket);
                    if let Some(by) = own.and_then(|own| own.cancelled_by) {
                        return by;
                    }
                }
                Err(fault) => tracing::warn!("{fault}"),
            }
            tokio::select! {
                () = self.seat.rung() => {}
                () = tokio::time::sleep(SELDOM) => {}
            }
        }
    }
}

impl Vmint {
    /// Enters a group as soon as it is free; `say` is told whom it waits for. The fault of what is replaced by a newer one
    /// while it waits, or cancelled, is of kind `interrupted`.
    pub async fn enter_group(
        &self,
        entrance: Entrance<'_>,
        say: &(dyn Fn(&str) + Sync),
        cancel: &Cancel,
    ) -> Result<Membership, Fault> {
        let group = entrance.shown;
        let files = Files::of(&self.home, &entrance)?;
        let seat = Seat::take(&self.home, files)?;
        let mut arriving = Some(seat.entry(entrance.who)?);
        let (mut told, mut pause) = (None, SOON);
        loop {
            let standing = {
                let _guard = seat.files.guard(cancel, group).await?;
                let before = seat.files.read()?;
                let mut state = before.clone();
                let mut bells = state.bury(|entry| seat.files.is_alive(entry));
                if let Some(entry) = arriving.take() {
                    seat.files.remove_dead_tickets();
                    bell::sweep(self.home.runtime());
                    bells.extend(state.arrive(entry, &entrance));
                }
                if state != before {
                    seat.files.write(&state)?;
                }
                for bell in bells {
                    bell::ring(&bell);
                }
                state.standing(&seat.ticket)
            };
            let ahead = match standing {
                Standing::Running => return Ok(Membership { seat }),
                Standing::Replaced => {
                    let message =
                        format!("cancelled: a newer run of the concurrency group {group} waits");
                    return Err(Fault::new(ErrorKind::Interrupted, message));
                }
                Standing::Waiting { ahead } => ahead,
            };
            if told.as_ref() != Some(&ahead.ticket) {
                say(&format!(
                    "waiting for {} (process {}), which is in the concurrency group {group}",
                    ahead.who, ahead.process.pid
                ));
                told = Some(ahead.ticket.clone());
            }
            tokio::select! {
                by = cancel.cancelled() => return Err(cancelled(group, &by)),
                () = seat.rung() => pause = SOON,
                () = ended(&ahead.process) => {
                    // The kernel closes its files a moment before or after; and not at once if another has them, too.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(SELDOM),
            }
        }
    }
}

fn cancelled(group: &Masked, by: &str) -> Fault {
    let message = format!("cancelled by {by} while it waited for the concurrency group {group}");
    Fault::new(ErrorKind::Interrupted, message)
}

/// Returns when another process ends; never, if it has ended already: then the bell or the clock tells.
async fn ended(process: &ProcessRef) {
    if process.pid != std::process::id() && process::is_alive(process) {
        Watch::of(process).ended().await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// Who is in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    running: Option<Entry>,
    waiting: Option<Entry>,
}

/// One who is in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    ticket: String,
    who: String,
    process: ProcessRef,
    bell: Bell,
    cancelled_by: Option<String>,
}

/// Where one stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Running,
    Waiting { ahead: Entry },
    Replaced,
}

impl State {
    /// Takes the dead out, and lets the one that waits run if nobody does. Gives the bells to ring.
    fn bury(&mut self, is_alive: impl Fn(&Entry) -> bool) -> Vec<Bell> {
        self.waiting.take_if(|entry| !is_alive(entry));
        self.running.take_if(|entry| !is_alive(entry));
        if self.running.is_some() {
            return Vec::new();
        }
        self.running = self.waiting.take();
        self.running.iter().map(|e| e.bell.clone()).collect()
    }

    /// Lets a new one in. Gives the bells to ring.
    fn arrive(&mut self, entry: Entry, entrance: &Entrance<'_>) -> Vec<Bell> {
        let Some(running) = &mut self.running else {
            self.running = Some(entry);
            return Vec::new();
        };
        let mut bells = Vec::new();
        if entrance.in_progress == InProgress::IsCancelled && running.cancelled_by.is_none() {
            let by = format!("{} of the concurrency group {}", entry.who, entrance.shown);
            running.cancelled_by = Some(by);
            bells.push(running.bell.clone());
        }
        let replaced = self.waiting.replace(entry);
        bells.extend(replaced.map(|entry| entry.bell));
        bells
    }

    fn standing(&self, ticket: &str) -> Standing {
        match (&self.running, &self.waiting) {
            (Some(running), _) if running.ticket == ticket => Standing::Running,
            (Some(running), Some(waiting)) if waiting.ticket == ticket => Standing::Waiting {
                ahead: running.clone(),
            },
            _ => Standing::Replaced,
        }
    }
}

/// The files of a group: `KEY.json` says who is in it, `KEY.lock` is held to change that, `KEY.t-…` by each member.
#[derive(Clone, Debug)]
struct Files {
    folder: PathBuf,
    key: String,
}

impl Files {
    fn of(home: &Home, entrance: &Entrance<'_>) -> Result<Self, Fault> {
        use std::os::unix::fs::DirBuilderExt;
        let mut text = entrance.repository.as_os_str().as_bytes().to_vec();
        text.push(0);
        text.extend(entrance.group.to_lowercase().into_bytes());
        let files = Self {
            folder: home.root().join("groups"),
            key: Digest::of(&text).file_name(),
        };
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&files.folder);
        made.map_err(|e| files.fault(&e, "cannot make the folder of"))?;
        Ok(files)
    }

    fn path(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.key))
    }

    fn ticket(&self, ticket: &str) -> PathBuf {
        self.path(&format!("t-{ticket}"))
    }

    fn fault(&self, e: &io::Error, what: &str) -> Fault {
        let path = self.path("json");
        Fault::from_error(ErrorKind::Host, e).context(format!("{what} {}", path.display()))
    }

    /// The right to change the group.
    async fn guard(&self, cancel: &Cancel, group: &Masked) -> Result<FileLock, Fault> {
        let (path, end) = (self.path("lock"), Instant::now() + PATIENCE);
        let mut pause = Duration::from_millis(1);
        loop {
            let lock = FileLock::try_acquire(&path);
            if let Some(lock) = lock? {
                return Ok(lock);
            }
            if Instant::now() > end {
                let message = format!(
                    "{} was locked by another process for {PATIENCE:?}",
                    path.display()
                );
                return Err(Fault::new(ErrorKind::TimedOut, message));
            }
            tokio::select! {
                by = cancel.cancelled() => return Err(cancelled(group, &by)),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(20)),
            }
        }
    }

    fn read(&self) -> Result<State, Fault> {
        let path = self.path("json");
        let json = match std::fs::read(&path) {
            Ok(json) => json,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(e) => return Err(self.fault(&e, "cannot read")),
        };
        serde_json::from_slice(&json).map_err(|e| {
            let path = path.display();
            Fault::new(
                ErrorKind::Corrupt,
                format!("{path} cannot be understood: {e}"),
            )
            .hint(format!(
                "when no run of a workflow is under way, delete it: rm {path}"
            ))
        })
    }

    /// To be called with the guard alone. Who reads without it sees the old one or the new one.
    fn write(&self, state: &State) -> Result<(), Fault> {
        let (path, new) = (self.path("json"), self.path("new"));
        let json = serde_json::to_vec(state).expect("it has no keys but strings");
        std::fs::write(&new, json)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|e| self.fault(&e, "cannot write"))
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        // What cannot be told counts as alive: two that run at once would be the worse mistake.
        FileLock::is_held(&self.ticket(&entry.ticket)).unwrap_or(true)
    }

    /// Removes what killed processes have left. One that is being made now is made again by its maker.
    fn remove_dead_tickets(&self) {
        let prefix = format!("{}.t-", self.key);
        let entries = std::fs::read_dir(&self.folder);
        for entry in entries.into_iter().flatten().flatten() {
            let is_ticket = entry.file_name().to_string_lossy().starts_with(&prefix);
            if is_ticket && FileLock::is_held(&entry.path()).is_ok_and(|held| !held) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// A place in a group, whatever the standing. Dropped, it is free.
#[derive(Debug)]
struct Seat {
    files: Files,
    ticket: String,
    lock: Option<FileLock>,
    bell: BellSocket,
    listen: UnixDatagram,
}

impl Seat {
    fn take(home: &Home, files: Files) -> Result<Self, Fault> {
        let fault = |e: io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot wait for a concurrency group")
        };
        let bell = BellSocket::bind(home).map_err(fault)?;
        let listen = bell.socket().try_clone().map_err(fault)?;
        let listen = UnixDatagram::from_std(listen).map_err(fault)?;
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|e| fault(io::Error::other(e)))?;
        let ticket = format!("{:016x}", u64::from_be_bytes(bytes));
        let lock = FileLock::try_acquire(&files.ticket(&ticket));
        let lock = lock?;
        Ok(Self {
            files,
            ticket,
            lock,
            bell,
            listen,
        })
    }

    fn entry(&self, who: &str) -> Result<Entry, Fault> {
        let process = process::current().map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
        Ok(Entry {
            ticket: self.ticket.clone(),
            who: who.to_owned(),
            process,
            bell: self.bell.bell(),
            cancelled_by: None,
        })
    }

    /// Returns when somebody has rung. Who rings from now on is heard the next time.
    async fn rung(&self) {
        let mut byte = [0; 1];
        if self.listen.recv(&mut byte).await.is_ok() {
            while self.listen.try_recv(&mut byte).is_ok() {}
        } else {
            // A socket that cannot be read rings nobody; whoever waits looks by itself.
            std::future::pending::<()>().await;
        }
    }

    /// Leaves the group in good order if nobody changes it just now; else the next one who looks does so.
    fn leave(&self) -> Result<Vec<Bell>, Fault> {
        let lock = FileLock::try_acquire(&self.files.path("lock"));
        let guard = lock?;
        let mut state = self.files.read()?;
        if guard.is_none() {
            return Ok(state.waiting.into_iter().map(|entry| entry.bell).collect());
        }
        let before = state.clone();
        let bells = state.bury(|entry| self.files.is_alive(entry));
        if state == State::default() {
            self.files.remove_dead_tickets();
            for file in ["json", "new", "lock"] {
                let _ = std::fs::remove_file(self.files.path(file));
            }
        } else if state != before {
            self.files.write(&state)?;
        }
        Ok(bells)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // In this order nobody finds the file free who could think that it is of a process that was killed.
        let _ = std::fs::remove_file(self.files.ticket(&self.ticket));
        self.lock = None;
        match self.leave() {
            Ok(bells) => {
                for bell in &bells {
                    bell::ring(bell);
                }
            }
            Err(fault) => tracing::warn!("{fault}"),
        }
    }
}

#[cfg(test)]
mod tests;
