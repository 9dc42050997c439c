//! `top`.

use clap::Args;

/// Watch pools, machines, leases, who waits, memory and events
///
/// q ends it; Tab goes to the next part, the arrows move within it. Where standard output is no terminal, one frame is
/// printed as text; with --format json always one.
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Print one frame as text
    #[arg(long)]
    pub once: bool,
}
