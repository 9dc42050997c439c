//! What can be asked of a guest, and what it answers. Encoded with postcard: the guest's decoder is code that every
//! fork translates anew under emulation, and this is the smallest.

use serde::{Deserialize, Serialize};

/// From the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// The first frame of a stream.
    Open(Request),
    /// Sends a signal to an exec's process group.
    Signal(i32),
    /// The client's terminal changed its size.
    Resize(WindowSize),
    /// Nobody listens any more: kill the process group, or stop the transfer, and end the stream.
    Cancel,
}

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answered by [`Reply::Pong`].
    Ping,
    /// Makes this machine different from all others; answered by [`Reply::Prepared`]. Also what a cold boot waits for
    /// before it starts the image's init, so that nothing ever runs without an identity.
    Prepare(Box<Prepare>),
    /// Runs a command: output on the channels, then [`FromGuest::Exited`].
    Exec(Box<ExecSpec>),
    /// Unpacks the tar stream that follows on [`Channel::Input`](crate::Channel); answered by [`Reply::Unpacked`].
    TarIn(TarIn),
    /// Sends files as a tar stream on [`Channel::Output`](crate::Channel), then [`Reply::Packed`].
    TarOut(TarOut),
    /// Answered by [`Reply::Info`].
    Info,
    /// The host's clock, nanoseconds since 1970 in UTC, after the machine stood still; answered by [`Reply::ClockSet`].
    SetClock(u64),
    /// Writes everything to disk; answered by [`Reply::Synced`] when that is done.
    Sync,
    /// Orderly shutdown; answered by [`Reply::ShuttingDown`] as soon as it has begun.
    Shutdown,
}

/// From the guest. Everything but [`Started`](Self::Started) ends its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuest {
    /// An exec's process runs.
    Started {
        /// Its process id in the guest.
        pid: u32,
    },
    /// An exec has ended, and all of its output was sent before.
    Exited(ExitStatus),
    /// The answer to a request.
    Reply(Reply),
    /// The request could not be served.
    Failed(GuestError),
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Ping`].
    Pong,
    /// To [`Request::Prepare`].
    Prepared,
    /// To [`Request::TarIn`]: everything is on the file system.
    Unpacked(Sent),
    /// To [`Request::TarOut`]: everything was sent before this.
    Packed(Sent),
    /// To [`Request::Info`].
    Info(Box<GuestInfo>),
    /// To [`Request::SetClock`].
    ClockSet,
    /// To [`Request::Sync`].
    Synced,
    /// To [`Request::Shutdown`].
    ShuttingDown,
    /// To [`Request::TarIn`] and [`Request::TarOut`], in place of [`Unpacked`](Self::Unpacked) and
    /// [`Packed`](Self::Packed): it was done, but for what is left out.
    Partly(Box<Partly>),
}

/// A transfer that is not all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partly {
    /// What it moved.
    pub sent: Sent,
    /// What it did not.
    pub left_out: LeftOut,
}

/// What a transfer cannot take along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Sockets.
    pub sockets: u64,
    /// File systems that the kernel makes up, below what was packed.
    pub mounts: u64,
    /// Extended attributes that could not be read or set.
    pub xattrs: u64,
    /// Set-id bits and file capabilities of files that got another owner.
    pub powers: u64,
    /// The path of the first of all these, at most [`MOST`](Self::MOST) bytes of it.
    pub first: Vec<u8>,
}

impl LeftOut {
    /// Most bytes of a path.
    pub const MOST: usize = 1024;

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a transfer moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Files, folders, links and special files.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments; bytes, since Linux asks no more of them. The program is looked up in the `PATH` that
    /// the command will have.
    pub argv: Vec<Vec<u8>>,
    /// Environment, set over `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL` and `TERM` (with a terminal) of the user, and over what a login
    /// finds in the guest.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory; the user's home, or `/`, when absent.
    pub cwd: Option<Vec<u8>>,
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID` as in OCI images; root when absent.
    pub user: Option<String>,
    /// A terminal of this size; its output comes on [`Channel::Output`](crate::Channel) alone.
    pub terminal: Option<WindowSize>,
    /// Whether [`Channel::Input`](crate::Channel) will be used; `/dev/null` otherwise.
    pub stdin: bool,
    /// After this many milliseconds the process group is killed.
    pub timeout_ms: Option<u64>,
    /// Whether output and error are two streams or one. Without effect on a terminal, where they are one.
    pub output: Streams,
}

/// A command's standard output and standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// Each on a channel of its own. Which came first is not told.
    #[default]
    Apart,
    /// Both on [`Channel::Output`](crate::Channel), in the order in which they were written.
    Together,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// A signal killed it.
    Signal(i32),
    /// It ran past its `timeout_ms` and was killed.
    TimedOut,
}

/// Unpack a tar stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TarIn {
    /// The folder that entries' paths are relative to; created with its parents if absent. No entry, whatever its
    /// path and whatever links are in the way, is written outside of it.
    pub path: Vec<u8>,
    /// Owner of what is created, as in [`ExecSpec::user`]; the archive's numbers when absent.
    pub user: Option<String>,
}

/// Pack files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TarOut {
    /// A file or folder. Its last component names the archive's first entry; a path ending in `/.` packs a folder's
    /// content without the folder. Symlinks below it are kept as links.
    pub path: Vec<u8>,
    /// How much of it.
    pub extent: Extent,
}

/// How much of a file or folder is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// It, and all that is below it.
    #[default]
    Whole,
    /// The header alone, without content, of what the path leads to, links followed. It is named by its real path. So a
    /// host learns what is there before it copies.
    Header,
}

/// What makes a machine this machine and no other.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// Host name.
    pub hostname: String,
    /// Content of `/etc/machine-id`.
    pub machine_id: [u8; 16],
    /// Fresh random bytes for the kernel's generator, 64 of them.
    pub seed: Vec<u8>,
    /// The host's clock, nanoseconds since 1970 in UTC, read as late as possible.
    pub realtime_ns: u64,
    /// Raised by every reset and branch; written to `/run/vmint/generation` for programs that keep random state of
    /// their own.
    pub generation: u64,
    /// Replace the guest's own where the image has an SSH server.
    pub ssh_host_keys: Vec<SshHostKey>,
    /// The network interface, when the machine has one.
    pub network: Option<NetworkConfig>,
}

impl std::fmt::Debug for Prepare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the seed nor private keys belong in a log.
        f.debug_struct("Prepare")
            .field("hostname", &self.hostname)
            .field("generation", &self.generation)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// One host key pair.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHostKey {
    /// As in the file name `ssh_host_ALGORITHM_key`: `ed25519`.
    pub algorithm: String,
    /// The private key file's content.
    pub private: String,
    /// The public key file's content.
    pub public: String,
}

impl std::fmt::Debug for SshHostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshHostKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// The guest's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The interface's new hardware address.
    pub mac: [u8; 6],
    /// IPv4 address.
    pub address: [u8; 4],
    /// Length of the network prefix.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: [u8; 4],
    /// Name server.
    pub dns: [u8; 4],
}

/// What runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// The agent is PID 1.
    Agent,
    /// systemd.
    Systemd,
    /// Another init.
    Other,
}

/// A guest's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInfo {
    /// The agent's version.
    pub agent: String,
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Host name.
    pub hostname: String,
    /// PID 1.
    pub init: Init,
    /// The guest's clock, nanoseconds since 1970 in UTC.
    pub realtime_ns: u64,
    /// Since boot.
    pub uptime_ms: u64,
    /// `MemTotal` in bytes.
    pub memory_total: u64,
    /// `MemAvailable` in bytes.
    pub memory_available: u64,
    /// IPv4 addresses other than loopback.
    pub addresses: Vec<[u8; 4]>,
}

/// A request that a guest could not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What and why, to be read after “the guest could not …”.
    pub message: String,
}

/// Kinds of failure in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The program does not exist (exit code 127).
    CommandNotFound,
    /// The program cannot be executed (exit code 126).
    CommandNotExecutable,
    /// No such user, or group.
    NoSuchUser,
    /// A file or folder that must exist does not.
    NotFound,
    /// A path that would leave its target folder.
    PathEscapes,
    /// No space is left.
    NoSpace,
    /// The request makes no sense.
    Invalid,
    /// Anything else that the kernel refused.
    Os,
    /// Said by a runner, in the guest's place: the guest was never asked, for its session had ended.
    NotAsked,
}
