//! `top`.

use clap::Args;

/// Watch pools, machines, leases, queues, memory and events
///
/// q ends it; Tab goes to the next part, the arrows move within it. If standard output is not a terminal, vmint prints one
/// frame as text; with --format json always one.
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Print one frame as text
    #[arg(long)]
    pub once: bool,
}
