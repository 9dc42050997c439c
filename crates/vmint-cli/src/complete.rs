//! Completion: a shell asks this program what can stand where its cursor is.
//!
//! `vmint completions SHELL` gives the shell a few lines that start this program with `VMINT_COMPLETE` set. What is a command or a
//! flag is known from the command line's description; names of machines, snapshots, pools, images, templates, leases and runs are
//! looked up. Nothing is swept up, started or changed for it, and a home that is not there stays so.

use crate::usage;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};
use std::ffi::OsStr;
use vmint::{ErrorKind, Fault, Options, Vmint};

/// The variable that says that a shell asks, and which one.
const VARIABLE: &str = "VMINT_COMPLETE";

/// Answers a shell, and does not return, if this process is asked by one.
pub fn answer() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(command).var(VARIABLE).complete();
    }
}

/// The lines for a shell.
pub fn registration(shell: clap_complete::Shell) -> Result<Vec<u8>, Fault> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&shell.to_string())
        .ok_or_else(|| Fault::new(ErrorKind::Internal, format!("no completions for {shell}")))?;
    let mut lines = Vec::new();
    shell
        .write_registration(VARIABLE, "vmint", "vmint", "vmint", &mut lines)
        .map_err(|e| Fault::from_error(ErrorKind::Host, &e))?;
    Ok(lines)
}

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Machine,
    Snapshot,
    MachineOrSnapshot,
    Pool,
    Image,
    Template,
    Lease,
    Run,
    /// A file of this host, or `MACHINE:PATH`.
    Place,
}

/// What the argument `id` of the command `path` names that exists already.
fn named(path: &[&str], id: &str) -> Option<Named> {
    Some(match (path, id) {
        (_, "image") => Named::Image,
        (_, "lease" | "leases") => Named::Lease,
        (["create"], "from") | (["restore"], "snapshot") | (["snapshot", "rm"], "snapshots") => {
            Named::Snapshot
        }
        (["fork"], "source") => Named::MachineOrSnapshot,
        (["ls" | "with"] | ["lease", "acquire"] | ["workflow", "run"], "pool") => Named::Pool,
        (["pool", "create"], "name") => return None,
        (["pool", _], "name" | "names") => Named::Pool,
        (["image", "rm" | "inspect"], "name" | "names") => Named::Image,
        (["template", _], "templates") => Named::Template,
        (["workflow", ..], "run") => Named::Run,
        (["cp"], "source" | "target") => Named::Place,
        (
            [
                "start" | "stop" | "restart" | "pause" | "resume" | "rm" | "info" | "exec"
                | "shell" | "logs" | "wait" | "reset" | "restore" | "qmp",
            ]
            | ["snapshot", "create" | "ls"],
            "name" | "names",
        ) => Named::Machine,
        _ => return None,
    })
}

/// The command line's description, with what looks names up.
fn command() -> clap::Command {
    fn with_names(command: clap::Command, path: &[&str]) -> clap::Command {
        command
            .mut_args(|arg| match named(path, arg.get_id().as_str()) {
                Some(named) => arg.add(ArgValueCompleter::new(named)),
                None => arg,
            })
            .mut_subcommands(|child| {
                let name = child.get_name().to_owned();
                let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                with_names(child, &path)
            })
    }
    with_names(usage::command(), &[])
}

impl ValueCompleter for Named {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let (current, known) = (current.to_string_lossy(), self.known());
        let colon = if *self == Self::Place { ":" } else { "" };
        let fits = known
            .into_iter()
            .filter(|(name, _)| name.starts_with(&*current));
        let mut all: Vec<_> = fits
            .map(|(name, what)| {
                CompletionCandidate::new(format!("{name}{colon}")).help(Some(what.into()))
            })
            .collect();
        if *self == Self::Place {
            all.extend(PathCompleter::any().stdio().complete(OsStr::new(&*current)));
        }
        all
    }
}

impl Named {
    /// All names there are, and what each is. None if they cannot be told: a shell shows no errors.
    fn known(self) -> Vec<(String, String)> {
        let open = || {
            let options = Options::from_environment().ok()?;
            options.home.exists().then_some(())?;
            Vmint::open(options).ok()
        };
        let Some(vmint) = open() else {
            return Vec::new();
        };
        self.of(&vmint)
    }

    fn of(self, vmint: &Vmint) -> Vec<(String, String)> {
        match self {
            Self::Machine | Self::Place => {
                let all = vmint.machines().unwrap_or_default().into_iter();
                all.map(|m| (m.name.to_string(), format!("{} {}", m.state, m.spec.image)))
                    .collect()
            }
            Self::Snapshot => {
                let all = vmint.snapshots(None).unwrap_or_default().into_iter();
                all.map(|s| (s.name.to_string(), format!("snapshot of {}", s.machine)))
                    .collect()
            }
            Self::MachineOrSnapshot => {
                let mut all = Self::Machine.of(vmint);
                all.extend(Self::Snapshot.of(vmint));
                all
            }
            Self::Pool => {
                let all = vmint.pools().unwrap_or_default().into_iter();
                all.map(|p| {
                    (
                        p.pool.name.to_string(),
                        format!("pool of {}", p.pool.spec.image),
                    )
                })
                .collect()
            }
            Self::Image => {
                let all = vmint.images().list().unwrap_or_default().into_iter();
                let mut all: Vec<_> = all
                    .map(|i| (i.name.to_string(), "image".to_owned()))
                    .collect();
                for name in vmint::image::Base::ALL.map(vmint::image::Base::as_str) {
                    if !all.iter().any(|(other, _)| other == name) {
                        all.push((name.to_owned(), "recipe".to_owned()));
                    }
                }
                all
            }
            Self::Template => {
                let all = vmint.templates();
                let of = |f: &vmint::qemu::Frozen| {
                    let fingerprint = f.manifest().fingerprint.chars().take(12).collect();
                    (fingerprint, format!("template of {}", f.manifest().image))
                };
                all.iter().map(of).collect()
            }
            Self::Lease => {
                let all = vmint.leases().unwrap_or_default().into_iter();
                all.map(|l| (l.id.to_string(), format!("of pool {}", l.pool)))
                    .collect()
            }
            Self::Run => {
                let all = vmint.runs(50).unwrap_or_default().into_iter();
                all.filter_map(|kept| kept.record.ok())
                    .map(|run| (run.id.to_string(), "run".to_owned()))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments that take names and have none looked up are those that name something new.
    #[test]
    fn every_argument_that_names_something_there_is_has_its_names_looked_up() {
        fn walk(command: &clap::Command, path: &[&str], without: &mut Vec<String>) {
            for arg in command.get_arguments() {
                let id = arg.get_id().as_str();
                let is_name = [
                    "name",
                    "names",
                    "image",
                    "pool",
                    "snapshot",
                    "snapshots",
                    "lease",
                    "leases",
                    "run",
                    "source",
                    "from",
                ]
                .contains(&id);
                if is_name && named(path, id).is_none() {
                    without.push(format!("{} {id}", path.join(" ")));
                }
            }
            for child in command.get_subcommands() {
                let path: Vec<&str> = path.iter().copied().chain([child.get_name()]).collect();
                walk(child, &path, without);
            }
        }
        let mut without = Vec::new();
        walk(&usage::command(), &[], &mut without);
        without.sort();
        let new = [
            "bench names",
            "create name",
            "image build from",
            "image build name",
            "image build run",
            "image import name",
            "image import source",
            "pool create name",
            "snapshot create snapshot",
            "workflow retry from",
            "workflow run from",
        ];
        assert_eq!(without, new);
    }
}
