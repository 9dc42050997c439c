//! A command of a step: its files go in, it runs, its output is read as it comes, and what it has left is fetched.

use super::instance::{Instance, Trouble};
use super::recorder::{StepLog, now_ms};
use super::step::Surroundings;
use super::supervise::{Allowed, Obeys, Seen, Supervised};
use super::transfer::{self, Parcel};
use crate::commands::{Commands, Echo, Unsecure};
use crate::files::{self, File, OutputBudget};
use crate::guest::Command;
use crate::limits::{Deadline, Phase};
use crate::lines::{Debugging, Event, Interpreter, Job};
use crate::log::Kind;
use crate::record::{Level, Limit, StepEnd};
use indexmap::IndexMap;
use std::path::PathBuf;
use std::time::Instant;
use vmint_model::{ErrorKind, Fault};

/// Files through which a step talks back, below the folder of its command: the variable that names it, and its name.
const FILES: [(&str, &str); 5] = [
    ("GITHUB_ENV", "env"),
    ("GITHUB_OUTPUT", "output"),
    ("GITHUB_PATH", "path"),
    ("GITHUB_STATE", "state"),
    ("GITHUB_STEP_SUMMARY", "summary"),
];
/// What all of these of one command may hold, in bytes.
const MOST_LEFT: usize = 64 << 20;
/// What a file of problem matchers may hold, in bytes.
const MOST_MATCHERS: usize = 1 << 20;

/// What is to be run.
#[derive(Debug, Default)]
pub(super) struct Launch {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The environment, but for what vmint adds.
    pub env: IndexMap<String, String>,
    /// The working directory.
    pub cwd: String,
    /// Files that it needs, below the folder of temporary files.
    pub files: Parcel,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ran {
    /// How it ended.
    pub end: StepEnd,
    /// `GITHUB_OUTPUT`.
    pub outputs: IndexMap<String, String>,
    /// `GITHUB_STATE`.
    pub state: IndexMap<String, String>,
}

/// What a command has said in its output that is not for the log.
#[derive(Debug, Default)]
struct Said {
    outputs: IndexMap<String, String>,
    state: IndexMap<String, String>,
    env: Vec<(String, String)>,
    path: Vec<String>,
    failed: bool,
    matchers: Vec<Wanted>,
    /// A log that could not be written.
    fault: Option<Fault>,
}

/// What is to be done with a file of problem matchers.
#[derive(Debug)]
enum Wanted {
    Added(String),
    Removed(String),
}

impl<'r> Instance<'r> {
    /// The name of the next command's files.
    pub(super) fn next_command(&mut self) -> u32 {
        self.state.commands += 1;
        self.state.commands
    }

    /// Runs a command of a step.
    pub(super) async fn command(
        &mut self,
        around: &Surroundings<'_, 'r>,
        mut launch: Launch,
    ) -> Result<Ran, Trouble> {
        let allowed = match self.allowed(around.limit) {
            Ok(allowed) => allowed,
            Err(end) => {
                return Ok(Ran {
                    end,
                    outputs: IndexMap::new(),
                    state: IndexMap::new(),
                });
            }
        };
        let number = self.next_command();
        let relative = format!("_runner_file_commands/{number}");
        for (_, name) in FILES {
            launch.files.file(&format!("{relative}/{name}"), 0o666, b"");
        }
        let folder = format!("{}/{relative}", super::paths::TEMP);
        launch
            .files
            .put(self.session.guest(), super::paths::TEMP)
            .await?;
        let command = Command {
            env: self.variables(&launch.env, &folder, &around.id),
            argv: launch.argv,
            cwd: Some(launch.cwd),
            user: None,
            timeout: Some(allowed.time),
        };
        let unsecure = match launch.env.get("ACTIONS_ALLOW_UNSECURE_COMMANDS") {
            Some(text) if text == "true" => Unsecure::Allowed,
            _ => Unsecure::Refused,
        };
        let said = self
            .converse(command, allowed, around.log, unsecure)
            .await?;
        let (end, said) = said;
        self.gather(end, said, &folder, around).await
    }

    /// Runs a command that is vmint's own, and gives what it writes. More than `most` bytes are a failure.
    pub(super) async fn ask(
        &mut self,
        command: Command,
        most: usize,
    ) -> Result<(StepEnd, Vec<u8>), Trouble> {
        let allowed = match self.allowed(None) {
            Ok(allowed) => allowed,
            Err(end) => return Ok((end, Vec::new())),
        };
        let command = Command {
            timeout: Some(allowed.time),
            ..command
        };
        let session = self.session.clone();
        let process = session.start(command, self.run.recorder).await?;
        let mut supervised = Supervised::new(process, allowed, self.obeys());
        let mut output = Vec::new();
        loop {
            match supervised.next().await? {
                Seen::Output(bytes) if output.len() + bytes.len() > most => {
                    return Err(Trouble::Step(format!(
                        "a list of files in the machine is longer than {most} bytes"
                    )));
                }
                Seen::Output(bytes) => output.extend_from_slice(&bytes),
                Seen::Ended(end) => return Ok((end, output)),
            }
        }
    }

    /// How long a command may take, or how it ends when there is no time left.
    pub(super) fn allowed(&mut self, step: Option<Deadline>) -> Result<Allowed, StepEnd> {
        let now = Instant::now();
        if self.ending.is_none() && (self.cancel.by().is_some() || self.limits.over(now).is_some())
        {
            self.ending = Some(now);
        }
        let phase = self
            .ending
            .map_or(Phase::Running, |since| Phase::Ending { since });
        match self.limits.allow(now, phase, step) {
            Ok(allowance) => Ok(Allowed {
                time: allowance.timeout,
                whose: allowance.deadline.whose,
                limit: allowance.deadline.limit,
            }),
            Err(deadline) => Err(StepEnd::TimedOut {
                whose: deadline.whose,
                limit_ms: deadline.limit.as_millis() as u64,
            }),
        }
    }

    /// Which cancellations a command obeys that begins now.
    pub(super) fn obeys(&self) -> Obeys {
        let cancel = self.cancel.clone();
        if cancel.by().is_some() {
            Obeys::Haste(cancel)
        } else {
            Obeys::Cancelling(cancel)
        }
    }

    async fn converse(
        &mut self,
        command: Command,
        allowed: Allowed,
        log: &StepLog<'r>,
        unsecure: Unsecure,
    ) -> Result<(StepEnd, Said), Trouble> {
        let (echo, debugging) = if self.run.debug() {
            (Echo::On, Debugging::Shown)
        } else {
            (Echo::Off, Debugging::Hidden)
        };
        let mut interpreter = Interpreter::new(Commands::new(echo, unsecure), debugging);
        let session = self.session.clone();
        let process = session.start(command, self.run.recorder).await?;
        let mut supervised = Supervised::new(process, allowed, self.obeys());
        let mut said = Said::default();
        let end = loop {
            match supervised.next().await? {
                Seen::Output(bytes) => {
                    self.interpret(log, &mut said, |at_ms, job, sink| {
                        interpreter.push(&bytes, at_ms, job, sink);
                    });
                    self.match_problems(&mut said, log).await?;
                }
                Seen::Ended(end) => break end,
            }
            if let Some(fault) = said.fault {
                return Err(fault.into());
            }
        };
        self.interpret(log, &mut said, |at_ms, job, sink| {
            interpreter.finish(at_ms, job, sink);
        });
        self.match_problems(&mut said, log).await?;
        match said.fault {
            Some(fault) => Err(fault.into()),
            None => Ok((end, said)),
        }
    }

    fn interpret(
        &mut self,
        log: &StepLog<'r>,
        said: &mut Said,
        read: impl FnOnce(i64, Job<'_>, &mut dyn FnMut(Event)),
    ) {
        let run = self.run;
        let at = log.at();
        let mut annotations = Vec::new();
        let mut masks = run.masks();
        let job = Job {
            masks: &mut masks,
            matchers: &mut self.matchers,
        };
        read(now_ms(), job, &mut |event| match event {
            Event::Line(line) => {
                if said.fault.is_none() {
                    said.fault = log.line(&line).err();
                }
            }
            Event::Annotation(annotation) => annotations.push(annotation),
            Event::Output { name, value } => drop(said.outputs.insert(name, value)),
            Event::State { name, value } => drop(said.state.insert(name, value)),
            Event::Env { name, value } => said.env.push((name, value)),
            Event::Path(path) => said.path.push(path),
            Event::AddMatcher { path } => said.matchers.push(Wanted::Added(path)),
            Event::RemoveMatchersOf { path } => said.matchers.push(Wanted::Removed(path)),
            Event::Failed => said.failed = true,
        });
        drop(masks);
        for annotation in annotations {
            self.keep_annotation(at, annotation);
        }
    }

    /// Fetches the problem matchers that were asked for.
    async fn match_problems(&mut self, said: &mut Said, log: &StepLog<'r>) -> Result<(), Trouble> {
        for wanted in said.matchers.drain(..) {
            let (Wanted::Added(path) | Wanted::Removed(path)) = &wanted;
            let path = super::paths::below(&self.workspace(), path);
            let found = transfer::fetch(self.session.guest(), &path, MOST_MATCHERS).await?;
            let result = match (found.first(), &wanted) {
                (None, _) => Err(format!("there is no file {path}")),
                (Some(file), Wanted::Added(_)) => {
                    self.matchers.add(&file.content).map_err(|e| e.to_string())
                }
                (Some(file), Wanted::Removed(_)) => {
                    let removed = self.matchers.remove_file(&file.content);
                    removed.map_err(|e| e.to_string())
                }
            };
            if let Err(why) = result {
                let text = format!("the problem matchers cannot be used: {why}");
                log.say(Kind::Warning, self.run.mask(&text))?;
                self.annotate(log.at(), Level::Warning, &text);
            }
        }
        Ok(())
    }

    /// Fetches what the command has left in its files.
    async fn gather(
        &mut self,
        mut end: StepEnd,
        mut said: Said,
        folder: &str,
        around: &Surroundings<'_, 'r>,
    ) -> Result<Ran, Trouble> {
        let left = transfer::fetch(self.session.guest(), &format!("{folder}/."), MOST_LEFT).await;
        let left = match left {
            // In haste nothing is fetched, and nobody is to use it: the step was cancelled, and is told as that.
            Err(fault) if fault.kind == ErrorKind::Interrupted && self.cancel.is_hastened() => {
                Vec::new()
            }
            left => left?,
        };
        let content = |name: &str| {
            let file = left.iter().find(|file| file.path == name);
            file.map_or(&b""[..], |file| &file.content)
        };
        let mut failures = Vec::new();
        let mut pairs = |file, name| {
            let pairs = files::pairs(file, content(name));
            pairs.unwrap_or_else(|error| {
                failures.push(error.to_string());
                Vec::new()
            })
        };
        said.outputs.extend(pairs(File::Output, "output"));
        said.state.extend(pairs(File::State, "state"));
        let env = match files::variables(content("env")) {
            Ok(variables) => {
                // As on GitHub: shown as errors, and the step is well.
                for refused in variables.refused {
                    let text = refused.to_string();
                    around.log.say(Kind::Error, self.run.mask(&text))?;
                    self.annotate(around.log.at(), Level::Error, &text);
                }
                variables.set
            }
            Err(error) => {
                failures.push(error.to_string());
                Vec::new()
            }
        };
        match files::paths(content("path")) {
            Ok(paths) => said.path.extend(paths),
            Err(error) => failures.push(error.to_string()),
        }
        match files::summary(content("summary")) {
            Ok(None) => {}
            Ok(Some(summary)) => self.keep_summary(around.log, &summary)?,
            Err(error) => {
                // As on GitHub: the step is well, its summary is not.
                let text = error.to_string();
                around.log.say(Kind::Error, self.run.mask(&text))?;
                self.annotate(around.log.at(), Level::Error, &text);
            }
        }
        let mut budget = OutputBudget::of_job();
        for (name, value) in &said.outputs {
            if let Err(error) = budget.take(name, value) {
                failures.push(error.to_string());
                break;
            }
        }
        for (name, value) in said.env.into_iter().chain(env) {
            self.state.env.insert(name, value);
        }
        for path in said.path {
            self.state.path.retain(|known| *known != path);
            self.state.path.insert(0, path);
        }
        if let (Some(reason), StepEnd::Exited { code: 0 }) = (failures.first(), &end) {
            let reason = reason.clone();
            end = StepEnd::Invalid { reason };
        } else if let (true, StepEnd::Exited { code: 0 }) = (said.failed, &end) {
            let reason = "a workflow command of its output could not be executed".to_owned();
            end = StepEnd::Invalid { reason };
        }
        Ok(Ran {
            end,
            outputs: said.outputs,
            state: said.state,
        })
    }

    /// Keeps a step's summary, behind what is there.
    fn keep_summary(&self, log: &StepLog<'r>, summary: &str) -> Result<(), Fault> {
        use std::io::Write;
        let at = log.at();
        let number = self.run.recorder.step(at, |step| step.number);
        let relative = PathBuf::from(format!("summaries/{}/{number}.md", at.job + 1));
        let path = self.run.recorder.folder().join(&relative);
        let written = (|| {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let mut file = std::fs::File::options()
                .append(true)
                .create(true)
                .open(&path)?;
            file.write_all(self.run.mask(summary).as_bytes())
        })();
        written.map_err(|e| {
            let fault = Fault::from_error(vmint_model::ErrorKind::Host, &e);
            fault.context(format!("cannot write {}", path.display()))
        })?;
        self.run
            .recorder
            .step(at, |step| step.summary = Some(relative));
        Ok(())
    }

    /// The environment of a command: the step's, what GitHub's runner adds, and `PATH`.
    fn variables(
        &self,
        env: &IndexMap<String, String>,
        folder: &str,
        id: &str,
    ) -> Vec<(String, String)> {
        let mut all = env.clone();
        for (name, value) in &self.facts {
            all.insert(name.clone(), value.clone());
        }
        all.insert("GITHUB_ACTION".into(), id.to_owned());
        for (name, file) in FILES {
            all.insert(name.into(), format!("{folder}/{file}"));
        }
        all.insert("PATH".into(), self.search_path(env));
        all.into_iter().collect()
    }

    /// `PATH`: what steps have added, the step's own or the image's, and vmint's.
    pub(super) fn search_path(&self, env: &IndexMap<String, String>) -> String {
        let base = env.get("PATH").unwrap_or(&self.inventory.path);
        let path = self.state.path.iter().map(String::as_str);
        let path: Vec<_> = path.chain([base.as_str(), super::paths::BIN]).collect();
        path.join(":")
    }
}

/// Whose limit, in words.
pub(super) fn whose(limit: Limit) -> &'static str {
    match limit {
        Limit::Step => "step",
        Limit::Job => "job",
        Limit::Workflow => "workflow",
    }
}
