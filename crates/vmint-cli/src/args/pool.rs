//! Pools and leases.

use super::machine::{Hardware, HostLimits};
use crate::values::duration;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::time::Duration;
use vmint::{LeaseId, Name, OnPressure};

/// Create and manage pools: machines of one template, kept ready
#[derive(Clone, Debug, Subcommand)]
pub enum Pool {
    Create(Create),
    /// List pools
    Ls,
    Status(Status),
    Resize(Resize),
    Drain(Drain),
    Rm(Remove),
    #[command(hide = true)]
    Tend(Tend),
}

/// Create a pool and fill it
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Name of the pool
    pub name: Name,
    /// Image; may be left out for a pool that vmint.toml declares
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Number of machines kept ready [default: 2]
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Maximum number of machines, in any state [default: 8]
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
    /// Maximum number of forks that each machine keeps parked, for quick resets: 0 to 8 [default: 1]
    #[arg(long, value_name = "N")]
    pub standby: Option<u32>,
    #[command(flatten)]
    pub hardware: Hardware,
    #[command(flatten)]
    pub limits: HostLimits,
    /// Age at which a machine without a lease is replaced [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Number of leases after which a machine is replaced [default: none]
    #[arg(long, value_name = "N")]
    pub max_uses: Option<u32>,
}

/// Show a pool: its machines, their leases, and the queue
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Pool
    pub name: Name,
}

/// Change the number of machines of a pool, and open it again if it was drained
#[derive(Clone, Debug, Args)]
pub struct Resize {
    /// Pool
    pub name: Name,
    /// Number of machines kept ready
    #[arg(long, value_name = "N")]
    pub min: Option<u32>,
    /// Maximum number of machines, in any state
    #[arg(long, value_name = "N")]
    pub max: Option<u32>,
}

/// Stop handing out machines: idle ones go now, leased ones when their lease ends
#[derive(Clone, Debug, Args)]
pub struct Drain {
    /// Pool
    pub name: Name,
    /// Time to wait until all machines are gone [default: 60s if given without a time]
    #[arg(long, value_name = "TIME", value_parser = duration, num_args = 0..=1, default_missing_value = "60s")]
    pub wait: Option<Duration>,
}

/// Drain pools and remove them
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Pools
    #[arg(required = true)]
    pub names: Vec<Name>,
    /// End active leases
    #[arg(short, long)]
    pub force: bool,
    /// Time to wait for active leases to end
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

/// Fill a pool (internal)
#[derive(Clone, Debug, Args)]
pub struct Tend {
    /// Pool
    pub name: Name,
    /// Fill it in a separate process, without waiting for it
    #[arg(long)]
    pub detach: bool,
}

/// Acquire, renew and release leases: the right to one machine of a pool
#[derive(Clone, Debug, Subcommand)]
pub enum Lease {
    Acquire(Acquire),
    Release(Release),
    Renew(Renew),
    /// List active leases
    Ls,
}

/// Acquire a machine from a pool and print the lease as JSON
///
/// The lease ends when it is released, when its time is up, or when its owner's process ends. The owner is the process
/// that called vmint: a shell, or a script, for as long as it runs. In a pipeline that is the pipeline's own shell,
/// which ends with it; pass --owner-pid $$ there.
#[derive(Clone, Debug, Args)]
pub struct Acquire {
    /// Pool
    pub pool: String,
    /// Process that holds the lease [default: the caller of vmint]
    #[arg(long, value_name = "PID")]
    pub owner_pid: Option<u32>,
    /// Name of a client elsewhere that holds the lease, and calls `vmint lease renew` at least every --heartbeat
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "owner_pid",
        requires = "heartbeat"
    )]
    pub client: Option<Name>,
    /// Maximum time between two calls of such a client
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "client")]
    pub heartbeat: Option<Duration>,
    #[command(flatten)]
    pub how: How,
    /// Time after which the lease ends unless it is renewed
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub ttl: Option<Duration>,
}

/// How to wait for a machine.
#[derive(Clone, Debug, Args)]
pub struct How {
    /// A note shown by `vmint lease ls`
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Time to wait for a machine
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
    /// Fail at once if no machine is free and the pool is at its maximum
    #[arg(long)]
    pub no_wait: bool,
    /// If the host lacks memory for another machine: wait, or fail with exit code 4 (`skip` is the same here)
    #[arg(long, value_name = "wait|fail|skip")]
    pub on_pressure: Option<OnPressure>,
    /// If the machine dies while it is lent, keep its disk and its logs as a stopped machine of this name
    #[arg(long, value_name = "NAME")]
    pub keep_lost: Option<Name>,
}

/// End leases; vmint replaces their machines with fresh ones
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// Leases
    #[arg(required = true)]
    pub leases: Vec<LeaseId>,
    /// End leases of other owners, too
    #[arg(short, long)]
    pub force: bool,
}

/// Renew a lease
#[derive(Clone, Debug, Args)]
pub struct Renew {
    /// Lease
    pub lease: LeaseId,
}

/// Run a command on this host that holds a machine of a pool
///
/// The command finds the machine's name in VMINT_MACHINE, for `vmint exec`, `vmint cp` and others, and the lease in
/// VMINT_LEASE. The lease ends with the command, however that ends. As with `env`, the command keeps every file descriptor
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
