//! Machines as a workflow sees them. The crate above implements this with leases on a pool.

use crate::mask::Masked;
use crate::run::Cancel;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::time::Duration;
use vmint_model::{Accelerator, Fault, Generation, LeaseId, MachineId, Name};

/// Where machines come from.
pub trait Site: Send + Sync {
    /// Lends a machine for `runs-on` labels. The fault of labels that stand for nothing is a usage fault, and comes
    /// before anything runs.
    fn acquire<'a>(&'a self, want: Want<'a>) -> BoxFuture<'a, Result<Box<dyn Guest>, Fault>>;
    /// What these labels stand for, without acquiring it. Two lists with the same answer can share a machine.
    fn resolve(&self, labels: &[String]) -> Result<Place, Fault>;
    /// What of the machine that these labels stand for is not as on GitHub.
    fn note(&self, labels: &[String]) -> Option<String>;
    /// The program of an image that is to run JavaScript actions, if the settings name one.
    fn node(&self, image: &str) -> Option<String>;
    /// Waits for a place in a concurrency group. A fault of kind `interrupted` when that was cancelled, or when a newer
    /// member waits instead.
    fn enter_group<'a>(
        &'a self,
        group: Group<'a>,
        mode: GroupMode,
        say: &'a (dyn Fn(&str) + Send + Sync),
        cancel: &'a Cancel,
    ) -> BoxFuture<'a, Result<Box<dyn Member>, Fault>>;
}

/// A concurrency group.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// What sets it apart. As on GitHub, upper and lower case are the same.
    pub name: &'a str,
    /// The same as it may be shown and written down.
    pub shown: &'a Masked,
}

/// What becomes of the member of a concurrency group that runs when another one comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupMode {
    /// It goes on, and the other waits.
    Queue,
    /// It is cancelled, and the other waits until it has ended.
    CancelInProgress,
}

/// A place in a concurrency group; dropped, the next one has it.
pub trait Member: Send {
    /// Returns when another one cancels this, with the reason.
    fn cancelled(&mut self) -> BoxFuture<'_, String>;
}

/// What is asked of a [`Site`].
#[derive(Clone, Debug)]
pub struct Want<'a> {
    /// From where.
    pub place: &'a Place,
    /// For whoever looks at the leases.
    pub label: Masked,
    /// Start in this moment instead of fresh.
    pub from: Option<&'a Name>,
}

/// What labels stand for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The pool.
    pub pool: Name,
    /// The image of its machines.
    pub image: String,
}

/// A machine that is lent: from [`Site::acquire`] until [`release`](Guest::release). Dropped without that, it is given
/// back all the same.
pub trait Guest: Send + Sync {
    /// Which machine this is.
    fn identity(&self) -> Identity;
    /// Starts a command.
    fn start<'a>(&'a self, command: Command)
    -> BoxFuture<'a, Result<Box<dyn Process + 'a>, Fault>>;
    /// Unpacks a tar in a folder, which is made if need be. Pieces are taken from the channel until it closes.
    fn put<'a>(
        &'a self,
        folder: &'a str,
        tar: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<(), Fault>>;
    /// Packs a file or folder (`/.` at the end: the content alone) and hands the tar over piece by piece. What does not
    /// exist is a fault of kind `not_found`.
    fn get<'a>(
        &'a self,
        path: &'a str,
        tar: tokio::sync::mpsc::Sender<Bytes>,
    ) -> BoxFuture<'a, Result<(), Fault>>;
    /// Freezes this moment.
    fn snapshot<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Snapshot, Fault>>;
    /// Gives the machine back.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>>;
}

/// Which machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine.
    pub machine: MachineId,
    /// Its generation.
    pub generation: Generation,
    /// The lease.
    pub lease: LeaseId,
    /// What executes it.
    pub accelerator: Option<Accelerator>,
    /// Who runs the steps; root when absent.
    pub user: Option<String>,
}

/// A command in a machine, with standard output and error in one stream, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment, over the image's.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Who runs it; whoever runs the steps when absent.
    pub user: Option<String>,
    /// It is killed in the guest after this time, with all of its process group.
    pub timeout: Option<Duration>,
}

/// A command that runs. Dropped, it is killed.
pub trait Process: Send {
    /// What it does next. A failure of vmint or of the machine is a fault.
    fn next(&mut self) -> BoxFuture<'_, Result<Happening, Fault>>;
    /// Sends a signal to its process group.
    fn signal(&self, signal: i32);
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It wrote this.
    Output(Bytes),
    /// It ended.
    Exited(Exit),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// A signal killed it.
    Signal(i32),
    /// It ran past its time limit.
    TimedOut,
}

/// A snapshot that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// How long the machine stood still.
    pub pause_ms: f64,
    /// What it takes on disk beyond what it shares, in bytes.
    pub size: u64,
}
