//! What can be written on the command line.
//!
//! * [`pool`]: pools and leases; [`workflow`]: workflows.
//! * [`machine`]: machines and commands in them; [`image`]: images, templates, snapshots; [`other`]: the rest.

pub mod image;
pub mod machine;
pub mod other;
pub mod pool;
#[cfg(feature = "top")]
pub mod top;
pub mod workflow;

use crate::exit::Stdout;
use clap::{Parser, Subcommand, ValueEnum};

/// Real virtual machines for tests, CI and agents, forked from a frozen one in milliseconds.
#[derive(Debug, Parser)]
#[command(
    name = "vmint",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = EXIT_CODES
)]
pub struct Cli {
    /// Format of the results
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table", help_heading = GLOBAL)]
    pub format: Format,
    /// Print no progress and no notes on standard error, and only the names of lists, one a line
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Folder whose vmint.toml, and those below it, vmint obeys whoever owns them
    ///
    /// Such a file may also name files outside of its folder: sources of `copy`, imports, kernels, a mirror of actions.
    /// Can be given several times. To trust a folder permanently, write `trust = ["DIR"]` into ~/.config/vmint/config.toml, or
    /// set VMINT_TRUST. Example: vmint --trust . image build web
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub trust: Vec<std::path::PathBuf>,
    /// Strictness of the fence around programs that read guests' bytes [default: best]
    ///
    /// The fence holds QEMU, the runner that owns it, and the programs that read what guests and images wrote (qemu-img, mke2fs).
    /// best: as far as this host's kernel can. require: refuse to start a machine where it cannot. off: not at all; a
    /// guest that takes over its QEMU can then do what you can do. `vmint doctor` shows what the kernel can.
    /// Example: vmint --confine require run -- true
    #[arg(long, global = true, value_name = "best|require|off", help_heading = GLOBAL)]
    pub confine: Option<vmint::Confine>,
    /// User that QEMU runs as, if you are root [default: root]
    ///
    /// QEMU then has this user's number and primary group, and no other groups. vmint hands over its files open, because the user
    /// cannot read them. Combines with --confine. VMINT_RUN_AS sets it, too; vmint.toml cannot. Ports below 1024 cannot be
    /// published with it. Example: vmint --run-as nobody run -- true
    #[arg(long, global = true, value_name = "USER", help_heading = GLOBAL)]
    pub run_as: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

/// The heading under which the options of every command stand.
const GLOBAL: &str = "Global options";

const EXAMPLES: &str = "\
Examples:
  vmint run -- uname -a                           a command in a fresh machine
  vmint run --image debian:12 -it -- bash         a Debian for the length of a shell
  vmint create box --image debian:12 --start      a machine that stays
  vmint exec box -- systemctl status
  vmint snapshot create box clean                 its memory and disk, now
  vmint restore box clean                         and back";

const EXIT_CODES: &str = "\
Examples:
  vmint run -- uname -a                           a command in a fresh machine
  vmint run --image debian:12 -it -- bash         a Debian for the length of a shell
  vmint create box --image debian:12 --start      a machine that stays
  vmint exec box -- systemctl status
  vmint snapshot create box clean                 its memory and disk, now
  vmint restore box clean                         and back

Exit codes of run, exec, shell, with and workflow shell:
  the command's own; 128+N if signal N killed it; 124 if it ran past --timeout;
  125 if vmint itself failed or was called wrongly; 126, 127 if the guest could not execute it, or not find it

Exit codes of workflow run:
  0 all jobs succeeded; 1 a job failed; 125 vmint itself failed; 130 cancelled

Exit codes of all other commands:
  0 done; 1 failed; 2 wrong usage; 3 not found; 4 refused by a limit; 5 timed out waiting; 130 interrupted

Files:
  VMINT_HOME (by default the XDG state directory) holds images, templates, machines and snapshots.
  vmint.toml in the working directory or above declares defaults, images and pools.
  ~/.config/vmint/config.toml names the folders whose vmint.toml is trusted: trust = [\"DIR\"].";

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs: JSON on standard output, and nothing else there
    Json,
    /// For programs that follow a run of a workflow: a JSON object on each line, as things happen
    Ndjson,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<machine::Run>),
    Create(Box<machine::Create>),
    Start(machine::Names),
    Stop(machine::Stop),
    Restart(machine::Restart),
    Pause(machine::Pause),
    Resume(machine::Resume),
    Rm(machine::Remove),
    Ls(machine::List),
    Info(machine::Info),
    Exec(Box<machine::Exec>),
    Shell(machine::Shell),
    Cp(machine::Copy),
    Logs(machine::Logs),
    Wait(machine::Wait),
    Reset(machine::Reset),
    #[command(subcommand)]
    Snapshot(image::Snapshot),
    Restore(image::Restore),
    Fork(image::Fork),
    Qmp(machine::Qmp),
    #[command(subcommand)]
    Image(image::Image),
    #[command(subcommand)]
    Template(image::Template),
    #[command(subcommand)]
    Pool(pool::Pool),
    #[command(subcommand)]
    Lease(pool::Lease),
    With(pool::With),
    #[command(subcommand)]
    Workflow(workflow::Workflow),
    Doctor(other::Doctor),
    Gc(other::Gc),
    Events(other::Events),
    #[cfg(feature = "top")]
    Top(top::Top),
    Bench(other::Bench),
    #[command(subcommand)]
    Config(other::Config),
    Completions(other::Completions),
    Man(other::Man),
}

impl Command {
    /// Whether the exit code is that of a command in a machine.
    pub fn runs_a_command(&self) -> bool {
        use workflow::Workflow;
        matches!(
            self,
            Self::Run(_)
                | Self::Exec(_)
                | Self::Shell(_)
                | Self::With(_)
                | Self::Workflow(Workflow::Run(_) | Workflow::Retry(_) | Workflow::Shell(_))
        )
    }

    /// Whether it runs a workflow, so that its output can be events.
    pub fn has_events(&self) -> bool {
        use workflow::Workflow;
        matches!(self, Self::Workflow(Workflow::Run(_) | Workflow::Retry(_)))
    }

    /// What standard output carries.
    pub fn stdout(&self) -> Stdout {
        // Of a workflow, JSON is the result.
        let is_raw = self.runs_a_command() && !self.has_events()
            || matches!(
                self,
                Self::Cp(_) | Self::Logs(_) | Self::Completions(_) | Self::Man(_)
            );
        if is_raw { Stdout::Raw } else { Stdout::Results }
    }
}

#[cfg(test)]
mod tests;
