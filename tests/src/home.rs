//! A home of its own for every test.

use crate::call::{Call, Outcome, accelerator};
use crate::processes::{self, Process};
use crate::seed::Seed;
use crate::wait::{patient, until_some};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// How long what was told to end may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A `VMINT_HOME` and a folder for its sockets. Dropped, it removes all of its machines, and what then is left fails
/// the test.
#[derive(Debug)]
pub struct Home {
    /// Beside the seeds, so that files can be linked.
    root: TempDir,
    /// Short: a socket's path may have 107 bytes.
    runtime: TempDir,
    environment: Vec<(String, OsString)>,
}

/// Where seeds and homes lie: `target/tmp`.
pub(crate) fn scratch() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    own.ancestors()
        .nth(3)
        .expect("a test lies in target/debug/deps")
        .join("tmp")
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// A home with image `tiny`, and templates of it with 128 MiB.
    pub fn new() -> Self {
        Self::with(Seed::Tiny)
    }

    /// A home that begins with a seed.
    pub fn with(seed: Seed) -> Self {
        let folder = scratch().join("vmint-homes");
        fs::create_dir_all(&folder).expect("target/tmp can be written");
        let make = |prefix: &str, within: &Path| {
            tempfile::Builder::new()
                .prefix(prefix)
                .tempdir_in(within)
                .expect("a temporary folder")
        };
        let home = Self {
            root: make("h-", &folder),
            runtime: make("vt-", Path::new("/tmp")),
            environment: Vec::new(),
        };
        seed.plant(home.root());
        home
    }

    /// Sets an environment variable for all calls from now on.
    pub fn set_env(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The folder of the sockets, and the working directory of calls.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// The variables that name this home, and what executes its guests.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let own = [
            ("VMINT_HOME", self.root()),
            ("VMINT_RUNTIME_DIR", self.runtime()),
        ];
        let own = own.map(|(name, path)| (name.to_owned(), path.as_os_str().to_owned()));
        let accelerator = accelerator().map(|(name, value)| (name.to_owned(), value));
        let own = own.into_iter().chain(accelerator);
        own.chain(self.environment.clone()).collect()
    }

    /// A call to make.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call {
        Call::new(self, args)
    }

    /// A call of another program, in this home's environment.
    pub fn program<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Call {
        Call::of(program, self, args)
    }

    /// Calls `vmint` with these arguments, one word each, as between blanks.
    #[track_caller]
    pub fn vmint(&self, args: &str) -> Outcome {
        self.call(args.split_ascii_whitespace()).run()
    }

    /// Calls `vmint`, which must succeed.
    #[track_caller]
    pub fn ok(&self, args: &str) -> Outcome {
        self.vmint(args).ok()
    }

    /// Calls `vmint` with `--format json`, which must succeed, and returns what it prints.
    #[track_caller]
    pub fn json(&self, args: &str) -> Value {
        self.ok(&format!("{args} --format json")).json()
    }

    /// Makes several calls at once, and returns how they ended, in their order.
    #[track_caller]
    pub fn at_once<S: AsRef<str>>(&self, calls: impl IntoIterator<Item = S>) -> Vec<Outcome> {
        let start = |args: S| self.call(args.as_ref().split_ascii_whitespace()).start();
        let started: Vec<_> = calls.into_iter().map(start).collect();
        started.into_iter().map(crate::Started::finish).collect()
    }

    /// Creates and starts a small machine of image `tiny`.
    #[track_caller]
    pub fn start(&self, name: &str) {
        self.ok(&format!("create {name} --memory 128M --start"));
    }

    /// What a machine answers to: one of a pool, by the generation that its holder has.
    #[track_caller]
    pub fn handle(&self, name: &str) -> String {
        if name.contains('@') {
            return name.to_owned();
        }
        let info = self.info(name);
        if info["pool"].is_null() {
            name.to_owned()
        } else {
            format!("{name}@{}", info["generation"])
        }
    }

    /// Runs a shell command in a machine; it must succeed. Returns what it prints, without the last line's end.
    #[track_caller]
    pub fn sh(&self, name: &str, script: &str) -> String {
        let text = self
            .call(["exec", &self.handle(name), "--", "sh", "-c", script])
            .run()
            .ok()
            .text();
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// What is known of a machine.
    #[track_caller]
    pub fn info(&self, name: &str) -> Value {
        self.json(&format!("info {name}"))
    }

    /// A machine's state.
    #[track_caller]
    pub fn state(&self, name: &str) -> String {
        self.info(name)["state"]
            .as_str()
            .expect("a state")
            .to_owned()
    }

    /// The process ids of a machine's runner and hypervisor.
    #[track_caller]
    pub fn pids(&self, name: &str) -> (u32, u32) {
        let info = self.info(name);
        let pid = |key: &str| {
            info[key]
                .as_u64()
                .unwrap_or_else(|| panic!("no {key} in {info}")) as u32
        };
        (pid("runner_pid"), pid("hypervisor_pid"))
    }

    /// A machine's folder.
    #[track_caller]
    pub fn folder(&self, name: &str) -> PathBuf {
        let info = self.info(name);
        self.root()
            .join("machines")
            .join(info["id"].as_str().expect("an id"))
    }

    /// A machine's events, oldest first.
    #[track_caller]
    pub fn events(&self, name: &str) -> Vec<Value> {
        let all = self.ok("events --format json").values();
        all.into_iter()
            .filter(|event| event["name"] == name)
            .collect()
    }

    /// Waits until a machine has an event that leads to `state`, and returns it.
    #[track_caller]
    pub fn event(&self, name: &str, state: &str, deadline: Duration) -> Value {
        let find = || {
            self.events(name)
                .into_iter()
                .rev()
                .find(|event| event["to"] == state)
        };
        until_some(deadline, &format!("{name} has become {state}"), find).0
    }

    /// Its hypervisors and runners, as the host sees them.
    pub fn processes(&self) -> Vec<Process> {
        // Homes are named alike, and of one length: none is the beginning of another.
        processes::of_home(self.root())
    }

    /// The sockets of runners.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.runtime().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "sock") {
                    found.push(path);
                }
            }
        }
        found
    }

    /// The machines' folders.
    pub fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root().join("machines"));
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }

    /// The machines' names in the database, read past the program under test, which would clear up.
    pub fn rows(&self) -> Vec<String> {
        self.column("SELECT name FROM machines")
    }

    /// The pools' names in the database.
    pub fn pools(&self) -> Vec<String> {
        self.column("SELECT name FROM pools")
    }

    /// The first column of what a query finds in the database, read past the program under test.
    pub fn column(&self, query: &str) -> Vec<String> {
        let Some(database) = self.database(OpenFlags::SQLITE_OPEN_READ_ONLY) else {
            return Vec::new();
        };
        let read = || -> rusqlite::Result<Vec<String>> {
            database
                .prepare(query)?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        read().expect("the database can be read")
    }

    /// Executes a statement on the database, behind the back of the program under test.
    pub fn sql(&self, statement: &str) -> usize {
        let database = self
            .database(OpenFlags::SQLITE_OPEN_READ_WRITE)
            .expect("there is a database");
        database
            .execute_batch("PRAGMA foreign_keys = ON")
            .expect("a pragma");
        database.execute(statement, []).expect("a statement")
    }

    fn database(&self, flags: OpenFlags) -> Option<Connection> {
        let path = self.root().join("vmint.db");
        if !path.exists() {
            return None;
        }
        let database = Connection::open_with_flags(path, flags).expect("a database");
        database
            .busy_timeout(Duration::from_secs(10))
            .expect("a time-out");
        Some(database)
    }

    /// What is left of machines: processes, sockets, folders, records.
    pub fn left(&self) -> Vec<String> {
        let processes = self
            .processes()
            .into_iter()
            .map(|p| format!("process {} {:?}", p.pid, p.argv));
        let paths = self
            .sockets()
            .into_iter()
            .chain(self.folders())
            .map(|p| p.display().to_string());
        let rows = self
            .rows()
            .into_iter()
            .map(|name| format!("record of {name}"));
        processes.chain(paths).chain(rows).collect()
    }

    /// Waits until nothing of machines is left, and returns how long that took. Does not call the program under test.
    #[track_caller]
    pub fn empties(&self, deadline: Duration) -> Duration {
        let (deadline, began) = (patient(deadline), std::time::Instant::now());
        loop {
            let left = self.left();
            if left.is_empty() {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < deadline,
                "left after {deadline:?}: {left:#?}\n{}",
                self.story()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The last event of a slot that came into this state.
    #[track_caller]
    pub fn event_of_slot(&self, state: &str) -> Value {
        let events = self.vmint("events --format json").ok().values();
        let found = events
            .into_iter()
            .rfind(|e| e["of"] == "slot" && e["to"] == state);
        found.unwrap_or_else(|| panic!("no slot was ever {state}"))
    }

    /// All that a reader of a failed test may want to see.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for args in ["ls --all", "events"] {
            let outcome = self
                .call(args.split(' '))
                .deadline(Duration::from_secs(20))
                .run();
            let _ = writeln!(story, "=== {outcome}");
        }
        for folder in self.folders() {
            for name in ["runner.log", "qemu.log", "console.log"] {
                let log = fs::read(folder.join(name)).unwrap_or_default();
                let tail =
                    String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned();
                let _ = writeln!(story, "=== {name} of {}\n{tail}", folder.display());
            }
        }
        story
    }
}

/// Now, as events tell it: milliseconds since 1970.
pub fn now_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64()
        * 1e3
}

/// A time in JSON as milliseconds since 1970.
#[track_caller]
pub fn time_ms(value: &Value) -> f64 {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no time"));
    let time = humantime::parse_rfc3339(text)
        .unwrap_or_else(|e| panic!("{text:?} is no RFC 3339 time: {e}"));
    time.duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64()
        * 1e3
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A panic in here would hide the first.
            let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.story()));
            eprintln!(
                "{}",
                story.unwrap_or_else(|_| "the program under test cannot even tell".into())
            );
            // Else those that look after pools replace what is killed.
            if self.root().join("vmint.db").exists() {
                self.sql("UPDATE pools SET state = 'drained'");
            }
            for process in self.processes() {
                processes::kill(process.pid);
            }
            return;
        }
        for pool in self.pools() {
            self.call(["pool", "rm", "--force", &pool]).run().ok();
        }
        for name in self.rows() {
            self.call(["rm", "--force", &name]).run().ok();
        }
        self.empties(GONE_WITHIN);
    }
}
