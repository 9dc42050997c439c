//! What concerns no single machine.

use crate::values::duration;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Check what this host has and lacks, and say what to do about it
///
/// Exit code 0 if machines can be had, 1 if not.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Put a damaged database aside, and make a new one of what is in the home
    ///
    /// The damaged file is kept, with the time in its name. Machines and snapshots are taken up by what their folders say;
    /// machines that run go on. Pools, leases, the records of workflow runs and events are not rebuilt.
    #[arg(long)]
    pub repair: bool,
}

/// Clear up what nothing needs: templates that cannot be forked any more, images without a name, workflow runs and snapshots
/// beyond what is kept, what has been in lost+found for long, left-overs
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what has been in lost+found for longer than this, such as `12h` [default: 30 days]
    #[arg(long, value_name = "AGE", value_parser = duration)]
    pub lost_age: Option<Duration>,
}

/// Print what happened to machines
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Go on printing
    #[arg(short, long)]
    pub follow: bool,
}

/// Measure what vmint costs on this host, each figure against the least that it could cost
///
/// Each figure is printed as soon as it is known. Exit code 0 if all was measured, whether or not the targets were met; 1 if something
/// could not be.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// Benchmarks; all of them if none is named
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
    /// How many leases pool-soak takes [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub leases: Option<u32>,
    /// Be one of the processes that contend for a pool
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
    let all = vmint::bench::names().iter();
    PossibleValuesParser::new(all.map(|(name, what)| PossibleValue::new(*name).help(*what)))
}

/// Settings
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Show all settings, and where each comes from
    Show,
}

/// Print a shell's completions
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
    /// Folder, made if need be
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
