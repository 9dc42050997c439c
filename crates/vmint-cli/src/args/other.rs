//! What concerns no single machine.

use crate::values::duration;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Check what this host has and lacks, and show what to do about it
///
/// Exit code 0 if this host can run machines, 1 if not.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Put a damaged database aside, and rebuild it from the home
    ///
    /// The damaged file is kept, with the time in its name. vmint recovers machines and snapshots from their folders;
    /// running machines keep running. Pools, leases, the records of workflow runs and events are not rebuilt.
    #[arg(long)]
    pub repair: bool,
}

/// Remove unused data: templates that cannot be forked any more, images without a name, workflow runs and snapshots beyond
/// what is kept, old entries of lost+found, left-overs
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Age at which entries of lost+found are deleted, such as `12h` [default: 30 days]
    #[arg(long, value_name = "AGE", value_parser = duration)]
    pub lost_age: Option<Duration>,
}

/// Print the events of machines
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Keep printing new events
    #[arg(short, long)]
    pub follow: bool,
}

/// Measure what vmint costs on this host, each figure next to the least it could be
///
/// Each figure is printed as soon as it is known. Exit code 0 if all was measured, whether or not the targets were met; 1 if something
/// could not be.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// Benchmarks [default: all of them]
    #[arg(value_name = "NAME", value_parser = benchmarks())]
    pub names: Vec<String>,
    /// Take fewer samples, and build no image for it
    #[arg(long)]
    pub quick: bool,
    /// Write a picture of each benchmark into a folder, as DIR/NAME.svg
    #[arg(long, value_name = "DIR")]
    pub plot: Option<std::path::PathBuf>,
    /// Exit with 1, too, if a target was missed
    #[arg(long)]
    pub check: bool,
    /// Number of leases of pool-soak [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub leases: Option<u32>,
    /// Pool to contend for (internal)
    #[arg(
        long,
        hide = true,
        value_name = "POOL",
        requires = "leases",
        conflicts_with = "names"
    )]
    pub worker: Option<String>,
}

fn benchmarks() -> PossibleValuesParser {
    let all = vmint_bench::names().iter();
    PossibleValuesParser::new(all.map(|(name, what)| PossibleValue::new(*name).help(*what)))
}

/// Show settings
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Show all settings, and where each comes from
    Show,
}

/// Print the completions of a shell
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint completions bash > ~/.local/share/bash-completion/completions/vmint
  vmint completions zsh > ~/.zfunc/_vmint
  vmint completions fish > ~/.config/fish/completions/vmint.fish")]
pub struct Completions {
    /// Shell
    pub shell: clap_complete::Shell,
}

/// Write man pages into a folder
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// Folder; created if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
