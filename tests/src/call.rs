//! One call of the program under test.

use crate::home::Home;
use crate::schema;
use crate::wait::patient;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a call may take that says nothing else.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long output may stay open after the program's end: only a process that it left behind has it open then.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// The program under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("VMINT_TEST_BINARY") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/TEST
    let path = own
        .ancestors()
        .nth(2)
        .expect("a test lies in target/debug/deps")
        .join("vmint");
    let path_shown = path.display();
    assert!(
        path.is_file(),
        "{path_shown} is missing: cargo build -p vmint-cli"
    );
    path
}

/// What executes guests, where the tests are told: `VMINT_TEST_ACCELERATOR`. A host that is slow may not see in time that KVM
/// works, and all tests would then pass without it.
pub(crate) fn accelerator() -> Option<(&'static str, OsString)> {
    Some((
        "VMINT_ACCELERATOR",
        std::env::var_os("VMINT_TEST_ACCELERATOR")?,
    ))
}

/// A call to make.
#[derive(Debug)]
pub struct Call {
    command: Command,
    words: Vec<OsString>,
    input: Option<Vec<u8>>,
    deadline: Duration,
}

impl Call {
    pub(crate) fn new<S: AsRef<OsStr>>(home: &Home, args: impl IntoIterator<Item = S>) -> Self {
        Self::of(binary(), home, args)
    }

    /// A call of another program, in the home's environment.
    pub(crate) fn of<S: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        home: &Home,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let words: Vec<OsString> = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        let mut command = Command::new(program);
        command
            .args(&words)
            .current_dir(home.runtime())
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"VMINT_") {
                command.env_remove(name);
            }
        }
        command
            .envs(home.environment())
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG");
        Self {
            command,
            words,
            input: None,
            deadline: DEADLINE,
        }
    }

    /// Another environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another working directory.
    pub fn current_dir(mut self, path: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Standard input; without it `/dev/null`.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Another deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes the call and waits for its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Starts the call. With input it is written at once; without, standard input is `/dev/null`.
    #[track_caller]
    pub fn start(mut self) -> Started {
        let stdin = if self.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        self.command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = self
            .command
            .spawn()
            .expect("the program under test can be started");
        let writer = self
            .input
            .map(|bytes| feed(child.stdin.take().expect("piped above"), bytes));
        let stdout = child.stdout.take().expect("piped above");
        let stderr = gather(child.stderr.take().expect("piped above"));
        let id = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        let pidfd = pidfd_open(id, PidfdFlags::empty()).expect("not yet waited for");
        Started {
            child,
            pidfd,
            words: self.words,
            stdout: Some(stdout),
            said: Vec::new(),
            stderr: Some(stderr),
            writer,
            began,
            end: began + patient(self.deadline),
        }
    }
}

fn feed(mut stdin: ChildStdin, bytes: Vec<u8>) -> JoinHandle<()> {
    // A program that does not read all of it is not wrong.
    std::thread::spawn(move || drop(stdin.write_all(&bytes)))
}

fn gather(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A call under way. Dropped, it is killed.
#[derive(Debug)]
pub struct Started {
    child: Child,
    pidfd: OwnedFd,
    words: Vec<OsString>,
    stdout: Option<ChildStdout>,
    said: Vec<u8>,
    stderr: Option<mpsc::Receiver<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
    began: Instant,
    end: Instant,
}

impl Started {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        crate::processes::signal(self.pid(), signal);
    }

    /// Reads its standard output until that holds `text`.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        let has = |said: &[u8]| {
            said.windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        while !has(&self.said) {
            let left = self.end.saturating_duration_since(Instant::now());
            let out = self.stdout.as_mut().expect("taken at the end only");
            let ready = !left.is_zero() && wait_readable(&*out, left);
            let mut buffer = [0; 4096];
            let n = if ready {
                out.read(&mut buffer).expect("a pipe can be read")
            } else {
                0
            };
            if n == 0 {
                let (said, words) = (
                    String::from_utf8_lossy(&self.said).into_owned(),
                    self.words.clone(),
                );
                self.kill();
                let stderr = self
                    .stderr
                    .take()
                    .and_then(|r| r.recv_timeout(patient(CLOSED_WITHIN)).ok());
                let stderr = String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned();
                panic!("{words:?} never said {text:?}, only {said:?}; on standard error: {stderr}");
            }
            self.said.extend_from_slice(&buffer[..n]);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        wait_readable(&self.pidfd, Duration::ZERO)
    }

    /// Waits for its end. At the deadline it is killed, with all of its group, and the test fails.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let out = gather(self.stdout.take().expect("taken here only"));
        let err = self.stderr.take().expect("taken here only");
        let left = self.end.saturating_duration_since(Instant::now());
        let in_time = wait_readable(&self.pidfd, left);
        if !in_time {
            self.kill();
        }
        let status = self.child.wait().expect("a child can be waited for");
        let took = self.began.elapsed();
        let closed = (
            out.recv_timeout(patient(CLOSED_WITHIN)),
            err.recv_timeout(patient(CLOSED_WITHIN)),
        );
        let open = closed.0.is_err() || closed.1.is_err();
        let mut stdout = std::mem::take(&mut self.said);
        stdout.extend(closed.0.unwrap_or_default());
        let outcome = Outcome {
            words: std::mem::take(&mut self.words),
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr: closed.1.unwrap_or_default(),
            took,
        };
        assert!(in_time, "not done after {took:?}, and killed: {outcome}");
        assert!(
            !open,
            "a process that it left behind holds its output open: {outcome}"
        );
        if let Some(writer) = self.writer.take() {
            writer.join().expect("writing does not panic");
        }
        outcome
    }

    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn wait_readable(fd: &impl std::os::fd::AsFd, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a deadline fits");
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(n) => return n > 0,
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The arguments.
    pub words: Vec<OsString>,
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// It must have exited with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }

    /// It must have failed of vmint's own accord: with `code`, and with an error of this kind in JSON. Returns its
    /// message.
    #[track_caller]
    pub fn fault(self, code: i32, kind: &str) -> String {
        let outcome = self.exits(code);
        // On standard output, of several names one; where that is a guest's command's, on standard error.
        let of = |value: Value| match value {
            Value::Array(values) => values.iter().find_map(|value| value.get("error").cloned()),
            value => value.get("error").cloned(),
        };
        let whole = serde_json::from_slice(&outcome.stdout).ok().and_then(of);
        let said = outcome.error();
        let lines = || {
            said.lines()
                .find_map(|line| serde_json::from_str(line).ok().and_then(of))
        };
        let error = whole.or_else(lines);
        let error = error.unwrap_or_else(|| panic!("no error in JSON: {outcome}"));
        assert!(
            error["kind"] == kind,
            "expected an error of kind {kind}: {outcome}"
        );
        error["message"]
            .as_str()
            .expect("an error has a message")
            .to_owned()
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap_or_else(|_| panic!("no UTF-8 text: {self}"))
    }

    /// Standard error as text.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as one JSON value, which must be as the schema says.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value = serde_json::from_slice(&self.stdout);
        let value = value.unwrap_or_else(|e| panic!("no JSON ({e}): {self}"));
        schema::holds(self, &value);
        value
    }

    /// Standard output as JSON values, which must be as the schema says: the elements of an array, or one for each line.
    #[track_caller]
    pub fn values(&self) -> Vec<Value> {
        if let Ok(value @ Value::Array(_)) = serde_json::from_slice(&self.stdout) {
            schema::holds(self, &value);
            return value.as_array().cloned().unwrap_or_default();
        }
        let text = self.text();
        let parse = |line: &str| {
            let value = serde_json::from_str(line);
            let value = value.unwrap_or_else(|e| panic!("no JSON ({e}): {self}"));
            schema::holds(self, &value);
            value
        };
        text.lines().map(parse).collect()
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match (self.code, self.signal) {
            (Some(code), _) => format!("exited with {code}"),
            (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
        };
        writeln!(f, "vmint {:?} {ended} after {:?}", self.words, self.took)?;
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]);
            writeln!(f, "--- {name}, {} bytes\n{shown}", bytes.len())?;
        }
        Ok(())
    }
}
