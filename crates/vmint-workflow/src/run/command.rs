//! A command of a step: its files go in, it runs, its output is read as it comes, and what it has left is fetched.

use super::end::End;
use super::forward::Forwarding;
use super::instance::{Instance, Trouble};
use super::recorder::StepLog;
use super::step::Surroundings;
use super::supervise::{Allowed, Seen, Supervised};
use super::transfer::{self, Parcel};
use super::view::View;
use crate::commands::{Commands, Echo, Unsecure};
use crate::containers::folders::Folders;
use crate::containers::inside;
use crate::event::context::YIELDING;
use crate::guest::Command;
use crate::lines::{Debugging, Event, Interpreter, Job};
use crate::log::Kind;
use crate::record::{Level, Limit};
use indexmap::IndexMap;
use vmint_model::Fault;
use vmint_model::now_ms;

/// Files through which a step talks back, below the folder of its command: the variable that names it, and its name.
const FILES: [(&str, &str); 5] = [
    ("GITHUB_ENV", "env"),
    ("GITHUB_OUTPUT", "output"),
    ("GITHUB_PATH", "path"),
    ("GITHUB_STATE", "state"),
    ("GITHUB_STEP_SUMMARY", "summary"),
];
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
    pub end: End,
    /// `GITHUB_OUTPUT`.
    pub outputs: IndexMap<String, String>,
    /// `GITHUB_STATE`.
    pub state: IndexMap<String, String>,
}

/// What a command has said in its output that is not for the log.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub outputs: IndexMap<String, String>,
    pub state: IndexMap<String, String>,
    pub env: Vec<(String, String)>,
    pub path: Vec<String>,
    pub failed: bool,
    matchers: Vec<Wanted>,
    /// A log that could not be written.
    fault: Option<Fault>,
}

/// How a command of a step is talked with.
#[derive(Debug)]
pub(super) struct Talk<'a> {
    /// Whether it may use the workflow commands that GitHub has withdrawn.
    pub unsecure: Unsecure,
    /// Which paths it names.
    pub paths: Paths<'a>,
    /// Of one that runs in the job's container: by which its processes are found.
    pub mark: Option<String>,
}

/// Which paths a command of a step names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paths<'a> {
    /// Those that the job's steps see.
    OfJob,
    /// Those of a docker action.
    OfAction(&'a Folders),
}

/// Cuts output into lines where it may name problem matchers: `add-matcher`, `remove-matcher`. Anything else stays whole.
#[derive(Debug, Default)]
struct Pieces {
    /// The end of what came before, in which such a word may have begun.
    before: Vec<u8>,
    /// Whether the line that has not ended yet has such a word.
    named: bool,
}

impl Pieces {
    const WORD: &'static [u8] = b"-matcher";

    fn of<'b>(&mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let has = |text: &[u8]| memchr::memmem::find(text, Self::WORD).is_some();
        let within = has(bytes);
        let head = &bytes[..bytes.len().min(Self::WORD.len())];
        self.before.extend_from_slice(head);
        let across = has(&self.before);
        let named = self.named || across || within;
        self.named = match memchr::memrchr(b'\n', bytes) {
            Some(end) => has(&bytes[end..]),
            None => named,
        };
        if bytes.len() > Self::WORD.len() {
            self.before = bytes[bytes.len() - Self::WORD.len()..].to_vec();
        }
        let surplus = self.before.len().saturating_sub(Self::WORD.len());
        self.before.drain(..surplus);
        if named {
            bytes.split_inclusive(|byte| *byte == b'\n').collect()
        } else {
            vec![bytes]
        }
    }
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

    /// The files through which the next command talks back, by their names in the `github` context.
    pub(super) fn files_of_next(&self) -> impl Iterator<Item = (&'static str, String)> {
        let folder = self.view.seen(&folder_of(self.state.commands + 1));
        FILES.into_iter().map(move |(variable, name)| {
            // `GITHUB_STEP_SUMMARY` is `step_summary` there, and `summary` on the disk.
            let known = if variable == "GITHUB_STEP_SUMMARY" {
                "step_summary"
            } else {
                name
            };
            (known, format!("{folder}/{name}"))
        })
    }

    /// Runs a command of a step.
    pub(super) async fn command(
        &mut self,
        around: &Surroundings<'_, 'r>,
        launch: Launch,
    ) -> Result<Ran, Trouble> {
        if self.view != View::Machine {
            return self.command_inside(around, launch).await;
        }
        let allowed = self.wire.allowed(around.limit).map_err(Trouble::Ended)?;
        let folder = self.lay(launch.files).await?;
        let command = Command {
            env: self.variables(&launch.env, &folder, &around.id),
            argv: launch.argv,
            cwd: Some(launch.cwd),
            user: None,
            timeout: Some(allowed.time),
        };
        let talk = Talk {
            unsecure: unsecure(&launch.env),
            paths: Paths::OfJob,
            mark: None,
        };
        let (end, said) = self.converse(command, allowed, around.log, talk).await?;
        self.gather(end, said, &folder, around).await
    }

    /// Puts a command's files into the machine, those through which it talks back among them; gives the folder of these.
    pub(super) async fn lay(&mut self, mut files: Parcel) -> Result<String, Trouble> {
        let folder = folder_of(self.next_command());
        let relative = folder.trim_start_matches(super::paths::TEMP);
        let relative = relative.trim_start_matches('/');
        for (_, name) in FILES {
            files.file(&format!("{relative}/{name}"), 0o666, b"");
        }
        files.put(&self.wire, super::paths::TEMP).await?;
        Ok(folder)
    }

    /// Runs a command that is vmint's own where the steps run, and gives what it writes. More than `most` bytes are a failure.
    pub(super) async fn ask(
        &mut self,
        command: Command,
        most: usize,
    ) -> Result<(End, Vec<u8>), Trouble> {
        let (command, mark) = self.where_steps_run(command)?;
        let came = self.wire.ask(command, most).await;
        let cut = !matches!(came, Ok((End::Exited { .. }, _)) | Err(Trouble::Fault(_)));
        if let (true, Some(mark)) = (cut, mark) {
            let kill = inside::tell(&mark, 9).command();
            if let Err(Trouble::Fault(fault)) = self.wire.ask(kill, most).await {
                return Err(fault.into());
            }
        }
        came
    }

    /// Runs a command of a step to its end, and does what it says.
    pub(super) async fn converse(
        &mut self,
        command: Command,
        allowed: Allowed,
        log: &StepLog<'r>,
        talk: Talk<'_>,
    ) -> Result<(End, Said), Trouble> {
        let paths = talk.paths;
        let (echo, debugging) = if self.run.debug() {
            (Echo::On, Debugging::Shown)
        } else {
            (Echo::Off, Debugging::Hidden)
        };
        let mut interpreter = Interpreter::new(Commands::new(echo, talk.unsecure), debugging);
        let doing = self.wire.trace_command(&command, allowed);
        let session = self.wire.session.clone();
        let process = session.start(command, self.tell.recorder).await?;
        let process = match talk.mark {
            None => process,
            Some(mark) => Box::new(Forwarding::new(process, &session, mark)),
        };
        let mut supervised = Supervised::new(process, allowed, self.wire.obeys());
        let mut said = Said::default();
        let mut pieces = Pieces::default();
        let end = loop {
            match supervised.next().await? {
                Seen::Output(bytes) => {
                    // A matcher counts from the next line on, however much came at once.
                    for part in pieces.of(&bytes) {
                        self.interpret(log, &mut said, paths, |at_ms, job, sink| {
                            interpreter.push(part, at_ms, job, sink);
                        });
                        self.match_problems(&mut said, log, paths).await?;
                    }
                }
                Seen::Ended(end) => break end,
            }
            if let Some(fault) = said.fault {
                return Err(fault.into());
            }
        };
        doing.end(end.as_str());
        self.interpret(log, &mut said, paths, |at_ms, job, sink| {
            interpreter.finish(at_ms, job, sink);
        });
        self.match_problems(&mut said, log, paths).await?;
        match said.fault {
            Some(fault) => Err(fault.into()),
            None => Ok((end, said)),
        }
    }

    fn interpret(
        &mut self,
        log: &StepLog<'r>,
        said: &mut Said,
        paths: Paths<'_>,
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
        for mut annotation in annotations {
            annotation.file = annotation.file.map(|file| {
                run.mask(&match paths {
                    Paths::OfJob => self.view.in_machine(&file),
                    Paths::OfAction(folders) => folders.translate_back(&file),
                })
            });
            self.tell.keep_annotation(at, annotation);
        }
    }

    /// Fetches the problem matchers that were asked for.
    async fn match_problems(
        &mut self,
        said: &mut Said,
        log: &StepLog<'r>,
        paths: Paths<'_>,
    ) -> Result<(), Trouble> {
        for wanted in said.matchers.drain(..) {
            let (Wanted::Added(path) | Wanted::Removed(path)) = &wanted;
            let path = match paths {
                Paths::OfJob => {
                    let path = super::paths::below(&self.workspace(), path);
                    self.in_machine(&path).await?
                }
                Paths::OfAction(folders) => {
                    let workspace = self.view.in_machine(&self.workspace());
                    super::paths::below(&workspace, &folders.translate_back(path))
                }
            };
            let found = transfer::fetch(&self.wire, &path, MOST_MATCHERS).await?;
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
                log.say(Kind::Warning, self.tell.mask(&text))?;
                self.tell.annotate(log.at(), Level::Warning, &text);
            }
        }
        Ok(())
    }

    /// The environment of a command: the step's, what GitHub's runner adds, and `PATH`.
    pub(super) fn variables(
        &self,
        env: &IndexMap<String, String>,
        folder: &str,
        id: &str,
    ) -> Vec<(String, String)> {
        let mut all = env.clone();
        all.extend(self.added_variables(folder, id, env));
        all.insert("PATH".into(), self.search_path(env));
        all.into_iter().collect()
    }

    /// What GitHub's runner adds to the environment of each command. Some of it yields to what the step has.
    pub(super) fn added_variables(
        &self,
        folder: &str,
        id: &str,
        env: &IndexMap<String, String>,
    ) -> Vec<(String, String)> {
        let facts = self.facts.iter();
        let facts = facts.filter(|(name, _)| !(yields(name) && env.contains_key(name)));
        let mut added: Vec<_> = facts.cloned().collect();
        added.push(("GITHUB_ACTION".into(), id.to_owned()));
        let files = FILES.map(|(name, file)| (name.to_owned(), format!("{folder}/{file}")));
        added.extend(files);
        added
    }

    /// A step's environment as its process has it, for its log: what GitHub's runner sets over it is shown as that. The files
    /// through which a step talks back have no names yet.
    pub(super) fn shown_env(&self, around: &Surroundings<'_, 'r>) -> Vec<(String, String)> {
        let fact = |name: &str| {
            let mut facts = self.facts.iter();
            let fact = facts.find(|(known, _)| known == name && !yields(known));
            fact.map(|(_, value)| value.clone())
        };
        let shown = around.env.iter().filter_map(|(name, value)| {
            let value = match name.as_str() {
                "PATH" => self.search_path(&around.env),
                "GITHUB_ACTION" => around.id.clone(),
                name if FILES.iter().any(|(file, _)| *file == name) => return None,
                name => fact(name).unwrap_or_else(|| value.clone()),
            };
            Some((name.clone(), value))
        });
        shown.collect()
    }

    /// `PATH`: what steps have added, the step's own or the image's, and vmint's.
    pub(super) fn search_path(&self, env: &IndexMap<String, String>) -> String {
        let base = env.get("PATH").unwrap_or(&self.inventory.path);
        let path = self.state.path.iter().map(String::as_str);
        let own = self.view.seen(self.view.programs());
        let path: Vec<_> = path.chain([base.as_str(), &own]).collect();
        path.join(":")
    }
}

/// The folder of a command's files.
fn folder_of(number: u32) -> String {
    format!("{}/_runner_file_commands/{number}", super::paths::TEMP)
}

/// Whether a variable is set only where the step does not set it.
fn yields(name: &str) -> bool {
    YIELDING.contains(&name)
}

/// Whether a command of this environment may use the workflow commands that GitHub has withdrawn.
pub(super) fn unsecure(env: &IndexMap<String, String>) -> Unsecure {
    match env.get("ACTIONS_ALLOW_UNSECURE_COMMANDS") {
        Some(text) if text == "true" => Unsecure::Allowed,
        _ => Unsecure::Refused,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_names_matchers_is_cut_into_lines_however_it_arrives() {
        let text: &[u8] = b"a\nb ::add-matcher::x\nc\nd";
        let whole = Pieces::default().of(text);
        assert_eq!(whole.len(), 4);
        for cut in 1..text.len() {
            let mut pieces = Pieces::default();
            let (first, second) = text.split_at(cut);
            pieces.of(first);
            let parts = pieces.of(second);
            assert!(cut > 20 || parts.len() > 1, "cut at {cut}: {parts:?}");
            assert_eq!(parts.concat(), second);
        }
        let other: &[u8] = b"a\nb\n";
        assert_eq!(Pieces::default().of(other), [other]);
    }
}
