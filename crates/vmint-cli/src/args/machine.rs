//! Machines, and commands in them.

use crate::values::{self, EnvArg, Pair};
use clap::Args;
use std::ffi::OsString;
use std::time::Duration;
use vmint::{
    ByteSize, CpuLimit, DiskCache, DiskLimit, IoLimit, LeaseId, Limits, Name, NetMode, Publish,
};

/// What a machine is; what is not said is as `vmint.toml`, the environment or the defaults say.
#[derive(Clone, Debug, Default, Args)]
pub struct Hardware {
    /// Guest memory, such as 512M or 2G
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Virtual processors
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Network: none, nat (the guest reaches out, nobody reaches in), or allow:DOMAIN[,DOMAIN…]
    ///
    /// With `allow:`, the guest resolves the listed names alone and reaches their addresses alone, on ports 80 and 443, where
    /// it must show a listed name (HTTP Host, TLS SNI). `*.example.com` is every name below example.com, `db.example.com:5432`
    /// another port, `10.1.0.0/16` or `192.0.2.7` addresses; private addresses are reached only if listed.
    /// `vmint logs NAME --network` shows what was refused. Example: --net allow:pypi.org,files.pythonhosted.org
    #[arg(long, value_name = "none|nat|allow:LIST")]
    pub net: Option<NetMode>,
}

impl Hardware {
    /// The network, or this one.
    pub fn net_or(&self, other: &NetMode) -> NetMode {
        self.net.as_ref().unwrap_or(other).clone()
    }
}

/// What a machine may take of its host; what is not said is as `vmint.toml` or the environment say.
#[derive(Clone, Debug, Default, Args)]
pub struct HostLimits {
    /// Maximum number of this host's processors that the machine may use, such as 0.5 or 2
    ///
    /// Enforced by a control group (cgroup v2), and refused if this host has none for this user, which `vmint doctor` shows. The
    /// machine's memory and threads are then limited to what it needs, too. `--cpus` is what the guest sees.
    #[arg(long = "cpu-limit", value_name = "N")]
    pub cpu: Option<CpuLimit>,
    /// Maximum number of bytes a second that the machine may read from this host's disk, and write to it, such as 20M
    ///
    /// Enforced by a control group, like --cpu-limit.
    #[arg(long = "io-limit", value_name = "SIZE")]
    pub io: Option<IoLimit>,
    /// Maximum size by which the machine's disk may grow, such as 2G
    ///
    /// The limit is the size of the file that the machine writes; what it shares with its image or snapshot is not counted. A
    /// machine that reaches its limit is paused, and `vmint ls` says why; `vmint reset` makes room, and so does a snapshot, which
    /// begins a new file.
    #[arg(long = "disk-limit", value_name = "SIZE")]
    pub disk: Option<DiskLimit>,
}

impl HostLimits {
    /// The limits that are given.
    pub fn given(&self) -> Limits {
        Limits {
            cpu: self.cpu,
            io: self.io,
            disk: self.disk,
        }
    }
}

/// On whose behalf a machine is reached.
#[derive(Clone, Debug, Default, Args)]
pub struct Held {
    /// Lease of the machine, if it is one of a pool [default: VMINT_LEASE]
    ///
    /// A machine of a pool serves only the holder of its lease. The holder passes the lease here or in VMINT_LEASE, or names
    /// the machine NAME@GENERATION, which `vmint lease acquire` prints as `handle`. The lease's owner and its child
    /// processes may use the bare name, too. Example: vmint exec m0123456789ab --lease l0123456789abcdef -- uname
    #[arg(long, value_name = "LEASE")]
    pub lease: Option<LeaseId>,
}

/// How a command is run in a machine.
#[derive(Clone, Debug, Args)]
pub struct CommandOptions {
    /// Variable of the command; without =V, with its value on this host
    ///
    /// It wins over the image's variables, and those over what a login in the guest has: /etc/environment, /etc/default/locale and
    /// /etc/locale.conf. Example: vmint exec box -e LANG=C -- date
    #[arg(short, long = "env", value_name = "K[=V]")]
    pub env: Vec<EnvArg>,
    /// Working directory in the guest [default: the image's, or the user's home]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<OsString>,
    /// User in the guest: NAME or UID, with :GROUP or :GID
    #[arg(short, long)]
    pub user: Option<String>,
    /// Pass standard input to the command
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Time after which the command is killed; the exit code is then 124
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub timeout: Option<Duration>,
}

/// Run a command in a fresh machine
///
/// The machine is a fork of the image's template. It is removed when the command ends, and when this process ends,
/// however that happens. Output, exit code and signals are the command's.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes: the command's own; 128+N if signal N killed it; 124 timed out; 125 vmint failed or was
called wrongly; 126, 127 the guest could not execute the command, or not find it.

Examples:
  vmint run -- sh -c 'echo hello; exit 3'
  vmint run --image debian:12 --net nat -- apt-get update
  vmint run --net allow:example.com -- wget -q -O - http://example.com/
  vmint run --copy-in .:/src -w /src --copy-out /src/out:. -- make
  tar c src | vmint run -i -- sh -c 'tar x && ls src'")]
pub struct Run {
    /// Image to fork: tiny, debian:12, debian:13, or one of `vmint image ls`
    #[arg(long)]
    pub image: Option<String>,
    #[command(flatten)]
    pub hardware: Hardware,
    #[command(flatten)]
    pub limits: HostLimits,
    /// Port of 127.0.0.1 to open, and port of the guest that it leads to; HOST 0 takes any free port
    #[arg(long, value_name = "HOST:GUEST")]
    pub publish: Vec<Publish>,
    #[command(flatten)]
    pub options: CommandOptions,
    /// File or folder to copy into the machine before the command
    #[arg(long, value_name = "SRC:DST")]
    pub copy_in: Vec<Pair>,
    /// File or folder to copy out of the machine after the command, also if it failed
    #[arg(long, value_name = "SRC:DST")]
    pub copy_out: Vec<Pair>,
    /// Keep the machine; its name is printed on standard error
    #[arg(long)]
    pub keep: bool,
    /// Command and arguments [default: the image's command]
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Create a machine
///
/// It is a fork of the image's template, or with --from of a snapshot; --cold boots the image, or the snapshot's disk, instead.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint create box --image debian:12 --memory 1G --net nat --publish 8080:80 --start
  vmint create again --from clean
  vmint create rescued --from clean --cold --start    boots from the disk that clean has")]
pub struct Create {
    /// Name of the new machine: 1 to 63 of a-z, 0-9 and -, starting with a letter
    pub name: Name,
    /// Image: tiny, debian:12, debian:13, or one of `vmint image ls`
    #[arg(long)]
    pub image: Option<String>,
    /// Snapshot to fork; image, memory, processors and network are the snapshot's
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["image", "memory", "cpus", "net"])]
    pub from: Option<Name>,
    #[command(flatten)]
    pub hardware: Hardware,
    #[command(flatten)]
    pub limits: HostLimits,
    /// Port of 127.0.0.1 to open, and port of the guest that it leads to; HOST 0 takes any free port and keeps it while it is free
    #[arg(long, value_name = "HOST:GUEST")]
    pub publish: Vec<Publish>,
    /// Boot the image instead of forking its template; with --from, boot from the snapshot's disk
    #[arg(long)]
    pub cold: bool,
    /// Effect of the guest's fsync: writeback (it reaches the host's disk) or unsafe [default: writeback]
    ///
    /// With `unsafe` the host decides when to write: quicker, but after a crash of the host the disk may be unusable. Machines
    /// that go away with their command or pool (`vmint run`, pools) always have `unsafe`: nothing of them outlives the host.
    /// Example: vmint create scratch --disk-cache unsafe --start
    #[arg(long, value_name = "writeback|unsafe")]
    pub disk_cache: Option<DiskCache>,
    /// Start it
    #[arg(long)]
    pub start: bool,
}

/// Start machines; those that are up stay as they are
#[derive(Clone, Debug, Args)]
pub struct Names {
    /// Machines: NAME, id, or NAME@GENERATION
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// How machines are stopped.
#[derive(Clone, Copy, Debug, Args)]
pub struct StopHow {
    /// Cut the power at once, instead of asking the guest
    #[arg(long)]
    pub force: bool,
    /// Ask the guest, and never cut the power; the exit code is 1 if it is not down in time
    #[arg(long, conflicts_with = "force")]
    pub graceful_only: bool,
    /// Time that the guest has to shut down; then its power is cut, with a warning
    ///
    /// The guest's own limits hold within this time: systemd gives a service 90 s unless its unit says otherwise. What the guest
    /// has not written when the power is cut is lost.
    /// Example: vmint stop db --timeout 5m
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = values::duration)]
    pub timeout: Duration,
}

/// Stop machines; stopped ones stay as they are
///
/// vmint asks the guest to shut down. As with `docker stop`, the exit code is 0 even if vmint had to cut the power; it reports that on
/// standard error, in the machine's event, and as `forced` with --format json. With --graceful-only it is 1 then, and nothing is cut.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint stop box
  vmint stop db --timeout 5m --graceful-only")]
pub struct Stop {
    #[command(flatten)]
    pub which: Names,
    #[command(flatten)]
    pub how: StopHow,
    #[command(flatten)]
    pub held: Held,
}

/// Stop machines and start them
#[derive(Clone, Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    pub which: Names,
    #[command(flatten)]
    pub how: StopHow,
    #[command(flatten)]
    pub held: Held,
}

/// Halt machines' processors
#[derive(Clone, Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    pub which: Names,
    #[command(flatten)]
    pub held: Held,
}

/// Resume paused machines
#[derive(Clone, Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    pub which: Names,
    #[command(flatten)]
    pub held: Held,
}

/// Remove machines and all that is in them
#[derive(Clone, Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    pub which: Names,
    /// Remove running machines, too
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub held: Held,
}

/// List running machines
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Include stopped machines
    #[arg(short, long)]
    pub all: bool,
    /// Only machines of this pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<Name>,
}

/// Show everything about a machine
#[derive(Clone, Debug, Args)]
pub struct Info {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
}

/// Run a command in a running machine
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes: the command's own; 128+N if signal N killed it; 124 timed out; 125 vmint failed or was
called wrongly; 126, 127 the guest could not execute the command, or not find it.

Examples:
  vmint exec box -- systemctl is-system-running
  vmint exec box -it -- bash
  vmint exec box -i -- psql < dump.sql")]
pub struct Exec {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
    #[command(flatten)]
    pub options: CommandOptions,
    /// Command and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub held: Held,
}

/// Open a shell in a running machine: bash if it has one, else sh
#[derive(Clone, Debug, Args)]
pub struct Shell {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
    /// User in the guest: NAME or UID, with :GROUP or :GID
    #[arg(short, long)]
    pub user: Option<String>,
    #[command(flatten)]
    pub held: Held,
}

/// Copy files and folders into and out of machines
///
/// One side is NAME:PATH, the other a path of this host, or - for a tar stream. As with `docker cp`: into the destination
/// if that is a folder, else under its name; DIR/. is the content of a folder. A destination that is a link is followed, and
/// a folder that is there keeps its owner and mode. A file also goes into a new folder, if the destination ends in /. A
/// local path with a colon is written ./a:b.
///
/// Modes, times, links, hard links, holes, named pipes, and extended attributes (user.*, access lists, file capabilities) are
/// kept. So are owners, into a machine, and out of one for root; for other users files are theirs. Out of a machine,
/// devices, set-id and sticky bits and file capabilities are left out, and sockets in both directions: a note says so. A tar stream has
/// all of them but sockets. A file has its name when it is whole.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint cp site box:/var/www/
  vmint cp box:/var/log/nginx .
  vmint cp - box:/srv < files.tar
  vmint cp box:/srv - > files.tar")]
pub struct Copy {
    /// Source: a path of this host, NAME:PATH, or - for a tar stream
    #[arg(value_name = "SRC")]
    pub source: OsString,
    /// Destination: a path of this host, NAME:PATH, or - for a tar stream
    #[arg(value_name = "DST")]
    pub target: OsString,
    /// Leave extended attributes, access lists and file capabilities out
    #[arg(long)]
    pub no_xattrs: bool,
    #[command(flatten)]
    pub held: Held,
}

/// Print a log of a machine, or the trace of a run
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Machine: NAME, id, or NAME@GENERATION; with --trace a run of a workflow: its id, the beginning of it, or latest
    pub name: String,
    /// Print the guest's serial console (the default)
    ///
    /// It begins when the machine was last started, forked, restored or reset; a fork's boot was its template's.
    /// Example: vmint logs web --console
    #[arg(long, group = "which")]
    pub console: bool,
    /// Print the messages of its QEMU
    #[arg(long, group = "which")]
    pub qemu: bool,
    /// Print the log of its runner
    #[arg(long, group = "which")]
    pub runner: bool,
    /// Print what its guest was allowed and refused to reach, with `--net allow:…`
    ///
    /// A line for each name that was asked for and each connection: when, allowed or refused, dns, tcp, udp or icmp, name and
    /// address, and why. With --format json a JSON object on each line. Example: vmint logs web --network --follow
    #[arg(long, group = "which")]
    pub network: bool,
    /// Print what a run of a workflow did and waits for
    ///
    /// A line for each thing that begins and ends: jobs, steps, commands, calls of the container engine, transfers, waits for
    /// machines and groups. At the end, what has not ended: what a run that hangs waits for, or did when its process was killed.
    /// The last 2 MiB are kept, without secrets. With --format json a JSON object on each line.
    /// Example: vmint logs latest --trace
    #[arg(long, group = "which")]
    pub trace: bool,
    /// Keep printing until the machine stops, or the run ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print the bytes unchanged, also on a terminal
    ///
    /// On a terminal, escape sequences are left out and other control characters are made visible: a guest could retitle
    /// or rewrite the terminal with them. Into a file or a pipe, the bytes are always unchanged.
    /// Example: vmint logs web --raw | less -R
    #[arg(long)]
    pub raw: bool,
}

/// Wait until a machine is ready or stopped
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
    /// State to wait for
    #[arg(long = "for", value_name = "STATE", default_value = "ready")]
    pub state: Awaited,
    /// Time to wait; then the exit code is 5
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::duration)]
    pub timeout: Duration,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Awaited {
    /// Commands can be executed
    Ready,
    /// It is down
    Stopped,
}

/// Replace a machine with a fresh fork and print its new generation
///
/// The machine begins where it first came from: with its template, with the snapshot that it was created from, or with a boot, whatever
/// it was restored to since. It gets a new machine id, MAC and SSH host key. Its ports stay.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  vmint reset box")]
pub struct Reset {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
    #[command(flatten)]
    pub held: Held,
}

/// Send a QMP command to a machine's QEMU, and print the answer as JSON
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint qmp box query-status
  vmint qmp box human-monitor-command '{\"command-line\": \"info registers\"}'")]
pub struct Qmp {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
    /// The command
    pub command: String,
    /// Its arguments, a JSON object
    #[arg(value_name = "JSON", value_parser = values::json_object)]
    pub arguments: Option<serde_json::Value>,
    #[command(flatten)]
    pub held: Held,
}
