//! Workflows.

use crate::values::{self, Assignment, SecretArg};
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use vmint::Name;

/// Run GitHub Actions workflows in real machines, and look at the results
#[derive(Clone, Debug, Subcommand)]
pub enum Workflow {
    Run(Box<Run>),
    Check(Check),
    FetchActions(FetchActions),
    Ls(List),
    Show(Show),
    Shell(Shell),
    Retry(Box<Retry>),
    Rm(Remove),
}

/// Run a workflow file in a machine, as GitHub would
///
/// All of it runs in one machine, which is fresh and has root, systemd if the image has it, and a network; --machine-per
/// job gives each job its own. vmint checks the file before anything runs, and skips nothing of it. It keeps
/// the run with its logs: `vmint workflow show` shows it again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all jobs succeeded, or there was nothing to run; 1 a job failed; 125 vmint or the machine
failed, or the file cannot be run; 130 cancelled; 77 paused at a step that failed. The first Ctrl-C cancels the run, and steps that clean up
still run; the second ends it at once.

Examples:
  vmint workflow run ci                                     .github/workflows/ci.yml
  vmint workflow run ci --job test --matrix os=ubuntu-24.04 one job, and what it needs, in one combination
  vmint workflow run deploy --event workflow_dispatch --input target=staging --secret DEPLOY_KEY
  vmint workflow run ci --snapshot-steps                    to go back to any step afterwards
  vmint workflow shell latest                               the machine before the step that failed
  vmint workflow run ci --resume latest --from test:4       resume there, with the edited file")]
pub struct Run {
    /// Workflow file; a name without a folder is looked up in .github/workflows
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Job to run, with those that it needs [default: all jobs]
    #[arg(long = "job", value_name = "JOB", help_heading = "What to run")]
    pub jobs: Vec<String>,
    /// Value of a matrix; only combinations with it run
    #[arg(long, value_name = "K=V", help_heading = "What to run")]
    pub matrix: Vec<Assignment>,
    /// Commit to check out [default: the files as they are]
    #[arg(long, value_name = "REV", help_heading = "What to run")]
    pub commit: Option<String>,
    /// Resume an earlier run, in its machine as it was before --from
    #[arg(
        long,
        value_name = "RUN",
        requires = "from",
        help_heading = "What to run"
    )]
    pub resume: Option<String>,
    /// Step to resume at: its number, id or name, or JOB:STEP
    #[arg(
        long,
        value_name = "STEP",
        requires = "resume",
        help_heading = "What to run"
    )]
    pub from: Option<String>,
    /// Event to simulate: push, pull_request, workflow_dispatch, … [default: the workflow's own trigger]
    #[arg(long, value_name = "EVENT", help_heading = "Event")]
    pub event: Option<String>,
    /// File with the event's payload as GitHub would send it, a JSON object
    #[arg(long, value_name = "FILE", help_heading = "Event")]
    pub event_file: Option<PathBuf>,
    /// Input of workflow_dispatch
    #[arg(long = "input", value_name = "K=V", help_heading = "Event")]
    pub inputs: Vec<Assignment>,
    /// Secret; without =V vmint takes it from the variable K, or asks for it on the terminal
    #[arg(
        long = "secret",
        value_name = "K[=V]",
        help_heading = "Values for the workflow"
    )]
    pub secrets: Vec<SecretArg>,
    /// File with secrets: lines of K=V, with quotes and comments as in .env files
    #[arg(
        long = "secret-file",
        value_name = "FILE",
        help_heading = "Values for the workflow"
    )]
    pub secret_files: Vec<PathBuf>,
    /// Configuration variable (`vars`)
    #[arg(
        long = "var",
        value_name = "K=V",
        help_heading = "Values for the workflow"
    )]
    pub vars: Vec<Assignment>,
    /// What gets its own machine
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "workflow",
        help_heading = "Machines"
    )]
    pub machine_per: MachinePer,
    /// Pool of all machines, whatever runs-on says
    #[arg(
        long,
        value_name = "POOL",
        conflicts_with = "image",
        help_heading = "Machines"
    )]
    pub pool: Option<Name>,
    /// Image of all machines, whatever runs-on says
    #[arg(long, value_name = "IMAGE", help_heading = "Machines")]
    pub image: Option<String>,
    /// Time to wait for a machine
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = values::duration, help_heading = "Machines")]
    pub wait: Duration,
    /// Fail at once if no machine is free and the pool is at its maximum
    #[arg(long, conflicts_with = "wait", help_heading = "Machines")]
    pub no_wait: bool,
    /// Time after which the run is cancelled [default: workflow.timeout of vmint.toml]
    #[arg(long, value_name = "TIME", value_parser = values::duration, help_heading = "Machines")]
    pub timeout: Option<Duration>,
    /// Take a snapshot of the machine before each step
    #[arg(long, help_heading = "What is kept")]
    pub snapshot_steps: bool,
    /// Take a snapshot of the machine when a step fails
    #[arg(long, help_heading = "What is kept")]
    pub keep_on_failure: bool,
    /// End at the first step that fails, with exit code 77, and keep its machine as it is then
    ///
    /// Nothing more runs: no later step, no `always()`, no clean-up of actions, no other job. `vmint workflow shell RUN` opens the
    /// machine as the failure left it, `--before STEP` as it was before a step, and `vmint workflow retry RUN` goes on. A
    /// snapshot is taken before each step, as with --snapshot-steps. A step or a job with `continue-on-error` pauses nothing.
    #[arg(long, help_heading = "What is kept")]
    pub pause_on_failure: bool,
    /// Folder for a report: a page, JUnit XML and JSON
    #[arg(long, value_name = "DIR", help_heading = "What is kept")]
    pub report: Option<PathBuf>,
}

/// What gets its own machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MachinePer {
    /// The run: its jobs follow each other in one machine
    Workflow,
    /// Each job; those that do not need each other run at once
    Job,
}

/// Check workflow files: errors, and what cannot run here
///
/// Each finding has its file, line, column and what to do about it. Without a name, vmint checks all files of
/// .github/workflows. Exit code 0 if there are no errors (warnings do not count), 1 if there are, 3 if there is no such file.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint workflow check
  vmint workflow check ci release
  vmint workflow check --format json | jq '.[] | select(.severity == \"error\")'")]
pub struct Check {
    /// Workflow files; a name without a folder is looked up in .github/workflows
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Fetch the actions that workflow files use into the mirror
///
/// The mirror is the folder that `[workflow] actions` of vmint.toml names. What files use, and what that uses in its turn, is
/// fetched from git remotes, each at one commit. A lock file beside the folder holds the commit and a digest of the files: commit that
/// file. Later calls fetch the same commits; check and run refuse a copy that differs from the lock file. Actions that
/// vmint implements or replaces are not fetched. Git runs without hooks, prompts, passwords and submodules.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all that is needed is there; 1 something could not be fetched; 125 vmint failed.

Examples:
  vmint workflow fetch-actions ci
  vmint workflow fetch-actions ci release --update                 follow refs that have moved
  vmint workflow fetch-actions ci --remote https://git.example.com
  vmint workflow fetch-actions ci --remote file:///srv/mirrors     /srv/mirrors/OWNER/REPOSITORY")]
pub struct FetchActions {
    /// Workflow files; a name without a folder is looked up in .github/workflows
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Follow locked refs that have moved to other commits
    #[arg(long)]
    pub update: bool,
    /// Place of the repositories, https://… or file:///…, before /OWNER/REPOSITORY
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://github.com",
        value_parser = remote
    )]
    pub remote: String,
}

/// A remote that git may be sent to.
fn remote(text: &str) -> Result<String, String> {
    let known = ["https://", "file:///"];
    if known.iter().any(|start| text.starts_with(start)) {
        Ok(text.to_owned())
    } else {
        Err(format!("it must begin with {}", known.join(" or ")))
    }
}

/// List runs, the newest first
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Maximum number of runs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Show the results of a run: jobs, steps, annotations, and the moments that you can go back to
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// Run: its id, the beginning of it, or latest
    #[arg(value_name = "RUN", default_value = vmint::workflow::runs::LATEST)]
    pub run: String,
}

/// Open a shell in the machine as it was before a step
///
/// The machine is a fork of the snapshot that --snapshot-steps or --keep-on-failure has taken; the run itself does not
/// change. The shell begins in the step's working directory, with its environment. The machine goes away with the shell.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes: the shell's or the command's own; 128+N if signal N killed it; 125 vmint failed or was called
wrongly; 126, 127 the guest could not execute the command, or not find it.

Examples:
  vmint workflow shell latest                        before the step that failed
  vmint workflow shell r0000cafe --before 'Run tests'
  vmint workflow shell latest --before test:4 -- make test")]
pub struct Shell {
    /// Run: its id, the beginning of it, or latest
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Step: its number, id or name, or JOB:STEP [default: the one that failed first]
    #[arg(long, value_name = "STEP")]
    pub before: Option<String>,
    /// Command to run instead of a shell
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Run a workflow again from a step on, in the machine as it was before that step
///
/// The run starts as the earlier one did: the same file, as it is now, with the same event, inputs, variables, jobs and
/// machines. Earlier steps do not run again. vmint takes a secret that is not given from the variable of its name, or asks for it.
/// Files that a step has checked out are part of the machine: to use files that were edited since, retry from the step that checks
/// them out.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes: those of `vmint workflow run`.

Examples:
  vmint workflow run ci --pause-on-failure          ends with 77 at the first step that fails
  vmint workflow shell latest                       look at it
  vmint workflow retry latest                       that step again, with the edited file
  vmint workflow retry latest --from test:checkout  with the edited sources, too")]
pub struct Retry {
    /// Run: its id, the beginning of it, or latest
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Step to retry from: its number, id or name, or JOB:STEP [default: the one that failed first]
    #[arg(long, value_name = "STEP")]
    pub from: Option<String>,
    /// Secret; without =V vmint takes it from the variable K, or asks for it on the terminal
    #[arg(long = "secret", value_name = "K[=V]")]
    pub secrets: Vec<SecretArg>,
    /// File with secrets: lines of K=V, with quotes and comments as in .env files
    #[arg(long = "secret-file", value_name = "FILE")]
    pub secret_files: Vec<PathBuf>,
    /// Folder for a report: a page, JUnit XML and JSON
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
}

/// Remove runs with their logs and snapshots
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Runs: ids, the beginnings of ids, or latest
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn parse(line: &[&str]) -> Result<Workflow, String> {
        let args = ["vmint", "workflow"].iter().chain(line);
        match Cli::try_parse_from(args).map(|cli| cli.command) {
            Ok(Command::Workflow(workflow)) => Ok(workflow),
            Ok(other) => Err(format!("{other:?}")),
            Err(e) => Err(e.to_string()),
        }
    }

    fn run(line: &[&str]) -> Result<Run, String> {
        let line: Vec<_> = ["run", "ci"].iter().chain(line).copied().collect();
        match parse(&line)? {
            Workflow::Run(run) => Ok(*run),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_run_without_flags_is_of_one_machine_and_waits_for_it() {
        let run = run(&[]).unwrap();
        assert_eq!(run.machine_per, MachinePer::Workflow);
        assert_eq!((run.wait, run.no_wait), (Duration::from_secs(600), false));
    }

    #[test]
    fn values_are_split_at_their_first_sign() {
        let run = run(&[
            "--input", "a=b=c", "--var", "V=", "--matrix", "os=linux", "--secret", "K", "--secret",
            "L=x=y",
        ])
        .unwrap();
        let pair = |name: &str, value: &str| Assignment {
            name: name.into(),
            value: value.into(),
        };
        assert_eq!(run.inputs, [pair("a", "b=c")]);
        assert_eq!(run.vars, [pair("V", "")]);
        assert_eq!(run.matrix, [pair("os", "linux")]);
        assert_eq!(run.secrets.len(), 2);
        let shown = format!("{run:?}");
        assert!(!shown.contains("x=y"), "a secret is shown: {shown}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            &["--input", "a"][..],
            &["--input", "=a"],
            &["--var", "a"],
            &["--matrix", ""],
            &["--machine-per", "step"],
            &["--pool", "p", "--image", "i"],
            &["--pool", "No"],
            &["--wait", "soon"],
            &["--wait", "1s", "--no-wait"],
            &["--resume", "r1"],
            &["--from", "3"],
            &["--timeout", "-1"],
        ] {
            run(line).expect_err(&format!("{line:?}"));
        }
        for line in [
            &["run"][..],
            &["rm"],
            &["shell"],
            &["shell", "latest", "make"],
            &["ls", "--limit", "0"],
        ] {
            parse(line).expect_err(&format!("{line:?}"));
        }
    }

    #[test]
    fn no_message_about_a_wrong_line_tells_a_secret() {
        let message = run(&["--secret", "K=hunter2", "--nonsense"]).unwrap_err();
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_shell_s_command_stands_behind_the_dashes() {
        let line = [
            "shell", "latest", "--before", "test:4", "--", "make", "--before",
        ];
        let Ok(Workflow::Shell(shell)) = parse(&line) else {
            panic!("not a shell");
        };
        assert_eq!(shell.before.as_deref(), Some("test:4"));
        assert_eq!(shell.command, ["make", "--before"]);
    }
}
