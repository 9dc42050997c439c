//! Which benchmarks there are; runs them.

use super::report::{Failure, HostFacts, Report, Rows, Told};
use super::rig::Rig;
use super::{
    branch, commands, files, fork, many, memory, pool, pool_soak, process, restore, stream,
    workflow,
};
use std::path::PathBuf;
use vmint::Vmint;
use vmint_image::Progress;
use vmint_model::{ErrorKind, Fault};
use vmint_qemu::Host;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// These benchmarks; all of them when empty.
    pub names: Vec<String>,
    /// Fewer samples.
    pub quick: bool,
    /// How many leases `pool-soak` takes.
    pub leases: Option<u32>,
    /// The `vmint` program, to be timed as a whole process.
    pub program: PathBuf,
}

const ALL: &[(&str, &str)] = &[
    (
        "fork",
        "a fork until it runs, against a bare QEMU until it answers",
    ),
    (
        "boot",
        "a cold boot against a fork, both to a first command's result; tiny and debian:12",
    ),
    (
        "size",
        "a fork with 4 GiB of memory against one with 256 MiB",
    ),
    (
        "run",
        "`vmint run -- true` against fork, first command and removal in process",
    ),
    (
        "exec",
        "`vmint exec NAME -- true` against the agent's own round trip",
    ),
    (
        "cli",
        "`vmint --version` and `vmint ls` against `git --version`",
    ),
    (
        "memory",
        "what a parked fork and its runner take of the host's memory",
    ),
    (
        "many",
        "50 forks at once against 50 times the processor time of one",
    ),
    (
        "branch",
        "a snapshot's pause against a fork, with 256 MiB and 4 GiB of memory",
    ),
    (
        "restore",
        "`vmint restore` and a first command, against QEMU's `loadvm` of the same guest, and a fork",
    ),
    (
        "stream",
        "a command's output and a tar stream in, against raw virtio-serial",
    ),
    (
        "files",
        "20,000 small files in and out by `vmint cp`, against the guest's tar on a raw port",
    ),
    (
        "pool",
        "leases, resets and filling a pool, each against its floor; 200 processes for 8 machines",
    ),
    (
        "workflow",
        "what a run adds to the commands of its steps, in time and in memory; checking a long file",
    ),
    (
        LONG,
        "10,000 leases whose owners are killed at random; only if it is named, for it takes many minutes",
    ),
];

/// Not run unless it is named.
const LONG: &str = "pool-soak";

/// The benchmarks, each with what it measures.
pub fn names() -> &'static [(&'static str, &'static str)] {
    ALL
}

/// Runs benchmarks one after the other. One that cannot be carried out is no obstacle to the others. Machines and
/// snapshots that they make are removed, whatever happens, and so are those of a run that was killed. `tell` is called with each
/// figure as soon as it is known.
pub async fn run(
    vmint: &Vmint,
    options: &BenchOptions,
    progress: &dyn Progress,
    tell: &dyn Fn(Told<'_>),
) -> Result<Report, Fault> {
    let wanted = wanted(&options.names)?;
    let load = process::load()?;
    let host = vmint.host(progress).await?;
    let facts = facts(&host, load, options.quick)?;
    let rig = Rig::new(vmint, options, progress, host).await?;
    tell(Told::Host(&facts));
    let (mut rows, mut failures) = (Rows::new(tell), Vec::new());
    for (name, what) in wanted {
        progress.stage(&format!("{name}: {what}"));
        let outcome = Box::pin(one(&rig, name, &mut rows)).await;
        // What is still there would be in the next one's way, and in its figures.
        let cleared = rig.clear().await;
        if let Err(error) = outcome.and(cleared) {
            let failure = Failure { name, error };
            tell(Told::Failure(&failure));
            failures.push(failure);
        }
    }
    Ok(Report {
        host: facts,
        rows: rows.into_rows(),
        failures,
    })
}

fn wanted(names: &[String]) -> Result<Vec<(&'static str, &'static str)>, Fault> {
    let known = || {
        ALL.iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let unknown = names
        .iter()
        .find(|name| !ALL.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let message = format!("there is no benchmark {name:?}");
        return Err(Fault::new(ErrorKind::NotFound, message).hint(format!("there are {}", known())));
    }
    let is_wanted =
        |name: &str| names.is_empty() && name != LONG || names.iter().any(|wanted| wanted == name);
    Ok(ALL
        .iter()
        .copied()
        .filter(|(name, _)| is_wanted(name))
        .collect())
}

async fn one(rig: &Rig<'_>, name: &str, rows: &mut Rows<'_>) -> Result<(), Fault> {
    match name {
        "fork" => fork::fork(rig, rows).await,
        "boot" => fork::boot(rig, rows).await,
        "size" => fork::size(rig, rows).await,
        "run" => commands::run(rig, rows).await,
        "exec" => commands::exec(rig, rows).await,
        "cli" => commands::cli(rig, rows).await,
        "memory" => Box::pin(memory::memory(rig, rows)).await,
        "many" => many::many(rig, rows).await,
        "branch" => Box::pin(branch::branch(rig, rows)).await,
        "restore" => Box::pin(restore::restore(rig, rows)).await,
        "stream" => stream::stream(rig, rows).await,
        "files" => Box::pin(files::files(rig, rows)).await,
        "pool" => pool::pool(rig, rows).await,
        "workflow" => workflow::workflow(rig, rows).await,
        LONG => pool_soak::soak(rig, rows).await,
        other => unreachable!("{other} is no name of a benchmark"),
    }
}

fn facts(host: &Host, load: f64, quick: bool) -> Result<HostFacts, Fault> {
    Ok(HostFacts {
        accelerator: host.accelerator,
        accelerator_reason: host.accelerator_reason.clone(),
        qemu: host.qemu.banner.clone(),
        cpus: process::cpus(),
        processor: process::processor(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        memory: process::memory_total()?,
        load,
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        quick,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_all_but_the_long_one_and_an_unknown_one_is_refused_with_those_there_are() {
        assert_eq!(wanted(&[]).unwrap().len(), ALL.len() - 1);
        assert_eq!(wanted(&[LONG.into()]).unwrap().len(), 1);
        let some = wanted(&["cli".into(), "fork".into()]).unwrap();
        assert_eq!(
            some.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["fork", "cli"]
        );
        let fault = wanted(&["forks".into()]).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotFound);
        assert!(fault.hint.is_some_and(|hint| hint.contains("fork, boot")));
    }
}
