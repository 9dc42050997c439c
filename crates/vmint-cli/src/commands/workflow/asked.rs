//! What a run is asked to be, with all values at hand: secrets asked for, names looked up.

use super::{files, secrets};
use crate::args::workflow::{MachinePer, Run};
use crate::context::Context;
use crate::values::Assignment;
use std::path::PathBuf;
use vmint::workflow::Asked;
use vmint::workflow::run;
use vmint::workflow::site::PoolOptions;
use vmint::{ErrorKind, Fault};

/// What a run is asked to be, and where a report is written.
pub fn read(context: Context, args: Run) -> Result<(Asked, Option<PathBuf>), Fault> {
    let here = here()?;
    let file = here.join(files::find(&here, &args.file)?);
    let pairs = |all: Vec<Assignment>| {
        let pairs = all.into_iter().map(|one| (one.name, one.value));
        pairs.collect::<Vec<_>>()
    };
    let secrets = secrets::read(context, &args.secrets, &args.secret_files)?;
    let asked = Asked {
        file,
        jobs: args.jobs,
        matrix: pairs(args.matrix),
        commit: args.commit,
        resume: args.resume.zip(args.from),
        event: args.event,
        event_file: args.event_file,
        inputs: pairs(args.inputs),
        secrets: secrets
            .into_iter()
            .map(|(name, secret)| (name, secret.0))
            .collect(),
        vars: pairs(args.vars),
        machine_per: match args.machine_per {
            MachinePer::Workflow => run::MachinePer::Workflow,
            MachinePer::Job => run::MachinePer::Job,
        },
        pools: PoolOptions {
            pool: args.pool,
            image: args.image,
            wait: (!args.no_wait).then_some(args.wait),
        },
        timeout: args.timeout,
        on_failure: if args.pause_on_failure {
            run::OnFailure::Pause
        } else {
            run::OnFailure::GoOn
        },
        moments: match (args.snapshot_steps, args.keep_on_failure) {
            (true, _) => run::Moments::Steps,
            (false, true) => run::Moments::Failures,
            (false, false) => run::Moments::None,
        },
    };
    Ok((asked, report(args.report)?))
}

/// Where a report is written.
pub fn report(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Fault> {
    match folder {
        Some(folder) => Ok(Some(here()?.join(folder))),
        None => Ok(None),
    }
}

fn here() -> Result<PathBuf, Fault> {
    std::env::current_dir().map_err(|e| {
        Fault::from_error(ErrorKind::Host, &e).context("cannot tell the working directory")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::workflow::Workflow;
    use crate::args::{Cli, Command, Format};
    use clap::Parser;
    use std::path::Path;
    use std::time::Duration;

    fn asked(line: &[&str]) -> Result<(Asked, Option<PathBuf>), Fault> {
        let args = ["vmint", "workflow", "run"].iter().chain(line);
        let Command::Workflow(Workflow::Run(run)) = Cli::try_parse_from(args).unwrap().command
        else {
            panic!("not a run");
        };
        let context = Context {
            format: Format::Table,
            quiet: true,
            tends: false,
        };
        read(context, *run)
    }

    #[test]
    fn flags_become_what_the_engine_wants() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (file, event, secrets) = (path("ci.yml"), path("event.json"), path("secrets"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&secrets, "K=v").unwrap();
        let (all, report) = asked(&[
            &file,
            "--event",
            "pull_request",
            "--event-file",
            &event,
            "--secret-file",
            &secrets,
            "--input",
            "a=1",
            "--no-wait",
            "--keep-on-failure",
            "--resume",
            "latest",
            "--from",
            "test:3",
            "--report",
            "out",
        ])
        .unwrap();
        assert_eq!(all.file, Path::new(&file));
        assert_eq!(all.event_file.as_deref(), Some(Path::new(&event)));
        assert_eq!(all.secrets, [("K".to_owned(), "v".to_owned())]);
        assert_eq!(all.inputs, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(
            (all.pools.wait, all.moments),
            (None, run::Moments::Failures)
        );
        assert_eq!(all.resume.unwrap().1, "test:3");
        assert!(report.unwrap().is_absolute());
        let (plain, _) = asked(&[&file, "--wait", "5s", "--snapshot-steps"]).unwrap();
        assert_eq!(plain.pools.wait, Some(Duration::from_secs(5)));
        assert_eq!(plain.moments, run::Moments::Steps);
    }
}
