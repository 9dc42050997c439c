//! What a run is asked to be, with all values at hand: secrets asked for, files read, names looked up.

use super::{files, secrets};
use crate::args::workflow::{MachinePer, Run};
use crate::context::Context;
use crate::values::{Assignment, Secret};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint::workflow::site::PoolOptions;
use vmint::{ErrorKind, Fault};

/// GitHub sends no payload that is longer.
const LONGEST_EVENT: u64 = 25 << 20;

/// What a run is asked to be.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "for the engine, when it is there")
)]
pub struct Asked {
    /// The workflow's file, absolute.
    pub file: PathBuf,
    /// These jobs and those that they need; all, if there are none.
    pub jobs: Vec<String>,
    /// Only combinations of matrices with these values.
    pub matrix: Vec<(String, String)>,
    /// What is checked out; the files as they are when absent.
    pub commit: Option<String>,
    /// Where to go on instead of beginning.
    pub resume: Option<Resume>,
    /// What has happened, if that was said.
    pub event: Option<String>,
    /// Its payload, if it was given.
    pub payload: Option<Map<String, Value>>,
    /// Inputs of `workflow_dispatch`.
    pub inputs: Vec<(String, String)>,
    /// Secrets.
    pub secrets: Vec<(String, Secret)>,
    /// `vars`.
    pub vars: Vec<(String, String)>,
    /// What has a machine of its own.
    pub machine_per: MachinePer,
    /// Where machines come from.
    pub pools: PoolOptions,
    /// How long the run may take; as the settings say when absent.
    pub timeout: Option<Duration>,
    /// Which moments are kept.
    pub moments: Moments,
    /// Where a report is written.
    pub report: Option<PathBuf>,
}

/// Where a run goes on; for `Vmint::run_record` and `Vmint::moment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The earlier run, as the user names it.
    pub run: String,
    /// The step, as the user names it.
    pub from: String,
}

/// Which moments of the machine are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// None.
    None,
    /// The one in which a step has failed.
    Failures,
    /// Those before each step, and in which a step has failed.
    Steps,
}

impl Asked {
    /// Reads all that the arguments name. What can be wrong is looked at before anything is asked for.
    pub fn read(context: Context, args: Run) -> Result<Self, Fault> {
        let host = |e: std::io::Error| {
            Fault::from_error(ErrorKind::Host, &e).context("cannot tell the working directory")
        };
        let here = std::env::current_dir().map_err(host)?;
        let file = here.join(files::find(&here, &args.file)?);
        let payload = args.event_file.as_deref().map(read_payload).transpose()?;
        let pairs = |all: Vec<Assignment>| {
            let pairs = all.into_iter().map(|one| (one.name, one.value));
            pairs.collect::<Vec<_>>()
        };
        let resume = args.resume.zip(args.from);
        Ok(Self {
            file,
            jobs: args.jobs,
            matrix: pairs(args.matrix),
            commit: args.commit,
            resume: resume.map(|(run, from)| Resume { run, from }),
            event: args.event,
            payload,
            inputs: pairs(args.inputs),
            secrets: secrets::read(context, &args.secrets, &args.secret_files)?,
            vars: pairs(args.vars),
            machine_per: args.machine_per,
            pools: PoolOptions {
                pool: args.pool,
                image: args.image,
                wait: (!args.no_wait).then_some(args.wait),
            },
            timeout: args.timeout,
            moments: match (args.snapshot_steps, args.keep_on_failure) {
                (true, _) => Moments::Steps,
                (false, true) => Moments::Failures,
                (false, false) => Moments::None,
            },
            report: args.report.map(|folder| here.join(folder)),
        })
    }
}

fn read_payload(path: &Path) -> Result<Map<String, Value>, Fault> {
    let bytes = read_bounded(path, LONGEST_EVENT, "--event-file")?;
    let wrong = |why: String| Fault::new(ErrorKind::Usage, format!("{}: {why}", path.display()));
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(payload)) => Ok(payload),
        Ok(_) => Err(wrong("an event's payload is a JSON object".into())),
        Err(e) => Err(wrong(format!("not JSON: {e}"))),
    }
}

/// Reads a file that a flag names, if it is not longer than it may be.
pub fn read_bounded(path: &Path, longest: u64, flag: &str) -> Result<Vec<u8>, Fault> {
    let fail = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Host
        };
        Fault::from_error(kind, &e).context(format!("{flag}: cannot read {}", path.display()))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(longest + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > longest {
        let message = format!("{flag}: {} is longer than {longest} bytes", path.display());
        return Err(Fault::new(ErrorKind::Usage, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::workflow::Workflow;
    use crate::args::{Cli, Command, Format};
    use clap::Parser;

    fn asked(line: &[&str]) -> Result<Asked, Fault> {
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
        Asked::read(context, *run)
    }

    #[test]
    fn flags_become_what_the_engine_wants() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (file, event, secrets) = (path("ci.yml"), path("event.json"), path("secrets"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&event, r#"{"action": "opened"}"#).unwrap();
        std::fs::write(&secrets, "K=v").unwrap();
        let all = asked(&[
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
        assert_eq!(all.payload.unwrap()["action"], "opened");
        assert_eq!(all.secrets, [("K".to_owned(), Secret("v".into()))]);
        assert_eq!(all.inputs, [("a".to_owned(), "1".to_owned())]);
        assert_eq!((all.pools.wait, all.moments), (None, Moments::Failures));
        assert_eq!(all.resume.unwrap().from, "test:3");
        assert!(all.report.unwrap().is_absolute());
        let plain = asked(&[&file, "--wait", "5s", "--snapshot-steps"]).unwrap();
        assert_eq!(plain.pools.wait, Some(Duration::from_secs(5)));
        assert_eq!(plain.moments, Moments::Steps);
    }

    #[test]
    fn a_payload_that_is_none_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event.json");
        for (content, why) in [("[1]", "is a JSON object"), ("{", "not JSON")] {
            std::fs::write(&path, content).unwrap();
            let fault = read_payload(&path).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::Usage);
            assert!(fault.message.contains("event.json: ") && fault.message.contains(why));
        }
        std::fs::write(&path, "12345").unwrap();
        let fault = read_bounded(&path, 4, "--event-file").unwrap_err();
        assert!(fault.message.ends_with("is longer than 4 bytes"), "{fault}");
        assert_eq!(read_bounded(&path, 5, "--event-file").unwrap(), b"12345");
        let fault = read_payload(Path::new("/no/such")).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::NotFound);
    }
}
