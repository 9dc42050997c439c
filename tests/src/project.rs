//! A project folder as a user has one: files, a `vmint.toml`, a git repository; and what came of workflows in it.

use crate::call::{Call, Outcome, Started};
use crate::home::Home;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a run may take that says nothing else.
const DEADLINE: Duration = Duration::from_secs(240);

/// A folder outside of every home, with machines of the size that seeds have a template of.
#[derive(Debug)]
pub struct Project {
    root: TempDir,
}

impl Project {
    /// An empty repository without a commit, and a `vmint.toml` with these lines of `[workflow]` and tables behind them.
    pub fn new(settings: &str) -> Self {
        let root = tempfile::Builder::new()
            .prefix("vp-")
            .tempdir()
            .expect("a temporary folder");
        let project = Self { root };
        let settings = format!("[workflow]\nmemory = \"128M\"\n{settings}\n");
        project.file("vmint.toml", settings);
        project.git(&["init", "--quiet", "--initial-branch", "main"]);
        project
    }

    /// A project with one workflow, `ci`.
    pub fn with(settings: &str, workflow: &str) -> Self {
        let project = Self::new(settings);
        project.workflow("ci", workflow);
        project
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file, and the folders that it lies in.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        let folder = path.parent().expect("it lies in the project");
        fs::create_dir_all(folder).expect("a temporary folder can be written");
        fs::write(path, content).expect("a temporary folder can be written");
    }

    /// Writes the workflow that is called by this name.
    pub fn workflow(&self, name: &str, text: &str) {
        self.file(&format!(".github/workflows/{name}.yml"), text);
    }

    /// Calls git, which must succeed, and returns what it prints without the last line's end.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
        let output = Command::new("git")
            .current_dir(self.root())
            .args(identity)
            .args(args)
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "git {args:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// Commits all that there is, and returns the commit.
    #[track_caller]
    pub fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "all"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A call to make in this folder.
    pub fn call<S: AsRef<OsStr>>(&self, home: &Home, args: impl IntoIterator<Item = S>) -> Call {
        home.call(args).current_dir(self.root()).deadline(DEADLINE)
    }

    /// A call with these arguments, one word each, as between blanks.
    pub fn vmint(&self, home: &Home, args: &str) -> Call {
        self.call(home, args.split_ascii_whitespace())
    }

    /// Starts `workflow run` with these arguments: its standard output is that of the steps, and its record is the
    /// [`record`](Self::record).
    #[track_caller]
    pub fn start(&self, home: &Home, args: &str) -> Started {
        self.vmint(home, &format!("workflow run {args}")).start()
    }

    /// Calls `workflow run --format json` with these arguments, and there must come a record of it, whatever that says. What is
    /// refused has none: see [`vmint`](Self::vmint).
    #[track_caller]
    pub fn run(&self, home: &Home, args: &str) -> Ran {
        let args = format!("workflow run {args} --format json");
        let outcome = self.vmint(home, &args).run();
        let record = outcome.json();
        let folder = home
            .root()
            .join("runs")
            .join(record["id"].as_str().unwrap_or_default());
        Ran {
            outcome,
            record: Record(record),
            folder,
        }
    }

    /// The record of a run that was [started](Self::start) and has ended.
    #[track_caller]
    pub fn record_of(&self, home: &Home, outcome: &Outcome) -> Record {
        let text = outcome.text();
        let first = text.lines().next().unwrap_or_default();
        let id = first.rsplit_once(", run ").map(|(_, id)| id);
        let id = id.unwrap_or_else(|| panic!("it does not tell its run: {outcome}"));
        self.record(home, id)
    }

    /// What `workflow show` knows of a run.
    #[track_caller]
    pub fn record(&self, home: &Home, run: &str) -> Record {
        let args = format!("workflow show {run} --format json");
        Record(self.vmint(home, &args).run().ok().json())
    }
}

/// `[workflow]` of a project that runs in image `tiny`.
pub const TINY: &str = "image = \"tiny\"";

/// A workflow of one job, `one`, with these steps.
pub fn steps(steps: &str) -> String {
    format!("on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The call; its standard error has what the steps wrote.
    pub outcome: Outcome,
    /// Its record.
    pub record: Record,
    /// The run's own folder in the home.
    pub folder: std::path::PathBuf,
}

impl Ran {
    /// What a step wrote, without the lines that vmint puts before it.
    #[track_caller]
    pub fn said(&self, job: &str, step: &str) -> String {
        let log = self.log(job, step);
        match log.split_once("##[endgroup]\n") {
            Some((_, said)) => said.to_owned(),
            None => panic!("{step} of {job} does not say what it runs: {log}"),
        }
    }

    /// It must have ended so: `success`, with the exit code that belongs to it.
    #[track_caller]
    pub fn ends(self, kind: &str, code: i32) -> Self {
        let is = self.record.end();
        assert!(
            is == kind && self.outcome.code == Some(code),
            "expected {kind} and exit code {code}: {is}, {}",
            self.outcome
        );
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.ends("success", 0)
    }

    /// What is kept of what a step wrote: its lines without their times.
    #[track_caller]
    pub fn log(&self, job: &str, step: &str) -> String {
        self.record.log_in(&self.folder, job, step)
    }
}

/// The record of a run, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(pub Value);

impl Record {
    /// Its id.
    #[track_caller]
    pub fn id(&self) -> &str {
        self.0["id"].as_str().expect("a run has an id")
    }

    /// In a word, how it ended; `running` before.
    pub fn end(&self) -> &str {
        self.0["end"]["kind"].as_str().unwrap_or("running")
    }

    /// The machines that it was lent.
    #[track_caller]
    pub fn machines(&self) -> &[Value] {
        self.0["machines"].as_array().expect("a run has machines")
    }

    /// A job by its key.
    #[track_caller]
    pub fn job(&self, key: &str) -> &Value {
        let jobs = self.0["jobs"].as_array().expect("a run has jobs");
        let found = jobs.iter().find(|job| job["key"] == key);
        found.unwrap_or_else(|| panic!("no job {key}: {:#}", self.0))
    }

    /// A step by its name or id.
    #[track_caller]
    pub fn step(&self, job: &str, name: &str) -> &Value {
        let steps = self.job(job)["steps"].as_array().expect("a job has steps");
        let mut found = steps.iter();
        let found = found.find(|step| step["name"] == name || step["id"] == name);
        found.unwrap_or_else(|| panic!("no step {name} in {job}: {:#}", self.0))
    }

    /// As [`Ran::log`].
    #[track_caller]
    pub fn log(&self, home: &Home, job: &str, step: &str) -> String {
        self.log_in(&home.root().join("runs").join(self.id()), job, step)
    }

    #[track_caller]
    fn log_in(&self, folder: &Path, job: &str, step: &str) -> String {
        let step = self.step(job, step);
        let path = step["log"].as_str();
        let path = folder.join(path.unwrap_or_else(|| panic!("no log: {step}")));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let lines = text.lines();
        let lines = lines.map(|line| line.split_once(' ').map_or(line, |(_, text)| text));
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// How a step ended: `success`, or `none` when vmint failed or it was not reached.
    #[track_caller]
    pub fn outcome(&self, job: &str, step: &str) -> &str {
        self.step(job, step)["outcome"].as_str().unwrap_or("none")
    }
}
