//! Pools and leases.

use super::machine::{Hardware, HostLimits};
use crate::values::duration;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::time::Duration;
use vmint::{LeaseId, Name, OnPressure};

/// Pools: machines of one template, kept ready
#[derive(Clone, Debug, Subcommand)]
pub enum Pool {
    Create(Create),
    /// List the pools
    Ls,
    Status(Status),
    Resize(Resize),
    Drain(Drain),
    Rm(Remove),
    #[command(hide = true)]
    Tend(Tend),
}

/// Make a pool and fill it
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Name of the pool
    pub name: Name,
    /// Image; may be left out for a pool that vmint.toml declares
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Machines kept ready [default: 2]
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Machines alive at most, in whatever state [default: 8]
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Forks that each machine keeps parked at most, for quick resets: 0 to 8 [default: 1]
    #[arg(long, value_name = "N")]
    pub standby: Option<u32>,
    #[command(flatten)]
    pub hardware: Hardware,
    #[command(flatten)]
    pub limits: HostLimits,
    /// Replace a machine of this age, when it is not lent [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Replace a machine after so many leases
    #[arg(long, value_name = "N")]
    pub max_uses: Option<u32>,
}

/// Show a pool, its machines, who holds them and who waits
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Pool
    pub name: Name,
}

/// Change how many machines a pool has; opens it again if it was drained
#[derive(Clone, Debug, Args)]
pub struct Resize {
    /// Pool
    pub name: Name,
    /// Machines kept ready
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Machines alive at most
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
}

/// Lend nothing more: what is idle goes now, what is lent when its lease ends
#[derive(Clone, Debug, Args)]
pub struct Drain {
    /// Pool
    pub name: Name,
    /// Wait until nothing is left, so long at most
    #[arg(long, value_name = "TIME", value_parser = duration, num_args = 0..=1, default_missing_value = "60s")]
    pub wait: Option<Duration>,
}

/// Remove pools: drained, and gone with their last machine
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Pools
    #[arg(required = true)]
    pub names: Vec<Name>,
    /// End the leases that are out
    #[arg(short, long)]
    pub force: bool,
    /// How long to wait for the leases that are out
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

/// Fill a pool; not for people
#[derive(Clone, Debug, Args)]
pub struct Tend {
    /// Pool
    pub name: Name,
    /// In a process of its own, and without waiting for it
    #[arg(long)]
    pub detach: bool,
}

/// Leases: the right to one machine of a pool
#[derive(Clone, Debug, Subcommand)]
pub enum Lease {
    Acquire(Acquire),
    Release(Release),
    Renew(Renew),
    /// List the leases that are out
    Ls,
}

/// Lend a machine; prints the lease as JSON
///
/// The lease ends when it is released, when its time is up, or when its owner's process ends. The owner is the process
/// that called vmint: a shell, or a script, for as long as it runs. In a pipeline that is a shell of the pipeline's own,
/// which ends with it; say --owner-pid $$ there.
#[derive(Clone, Debug, Args)]
pub struct Acquire {
    /// Pool
    pub pool: String,
    /// The process that holds the lease [default: the one that called vmint]
    #[arg(long, value_name = "PID")]
    pub owner_pid: Option<u32>,
    /// A client elsewhere holds the lease, and says so with `vmint lease renew` at least every --heartbeat
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "owner_pid",
        requires = "heartbeat"
    )]
    pub client: Option<Name>,
    /// How long such a client may be silent
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "client")]
    pub heartbeat: Option<Duration>,
    #[command(flatten)]
    pub how: How,
    /// End the lease after this time, unless it is renewed
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub ttl: Option<Duration>,
}

/// How to wait for a machine.
#[derive(Clone, Debug, Args)]
pub struct How {
    /// What for, for whoever looks at the leases
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// How long to wait for a machine
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
    /// Fail at once if the pool has no machine to lend and may have no more
    #[arg(long)]
    pub no_wait: bool,
    /// What to do when the host has not the memory for another machine: wait, fail (exit code 4) or skip (the same)
    #[arg(long, value_name = "wait|fail|skip")]
    pub on_pressure: Option<OnPressure>,
}

/// End leases; their machines are made fresh
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// Leases
    #[arg(required = true)]
    pub leases: Vec<LeaseId>,
    /// Also those of others
    #[arg(short, long)]
    pub force: bool,
}

/// Begin a lease's time anew
#[derive(Clone, Debug, Args)]
pub struct Renew {
    /// Lease
    pub lease: LeaseId,
}

/// Run a command on this host with a machine lent to it
///
/// The command finds the machine's name in VMINT_MACHINE, for `vmint exec`, `vmint cp` and others, and the lease in
/// VMINT_LEASE. The lease ends with the command, however that ends. Like with `env`, the command keeps every file descriptor
/// that vmint was given.
#[derive(Clone, Debug, Args)]
pub struct With {
    /// Pool
    pub pool: String,
    #[command(flatten)]
    pub how: How,
    /// Command and arguments, on this host
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
