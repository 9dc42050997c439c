//! Other people's programs: run with a clean locale, ended with us, and quoted when they fail.

use crate::progress::Progress;
use rustix::process::Signal;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use vmint_confine::{ConfineError, Fence, Network, Rules};
use vmint_model::Confine;

/// How many lines of a failed program's standard error are kept for the message.
const KEPT_LINES: usize = 15;

/// As every program says it, in the locale that they are given here; and apt, which looks before it begins.
const NO_SPACE: [&str; 2] = [
    "No space left on device",
    "You don't have enough free space in ",
];

fn tells_of_no_space(text: &str) -> bool {
    NO_SPACE.iter().any(|words| text.contains(words))
}

/// A program that could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed.
    #[error("{program} is not installed")]
    Missing {
        /// Its name.
        program: String,
    },
    /// It could not be started, or its output not be read.
    #[error("cannot run {command}")]
    Start {
        /// Program and arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be fenced in, and must be.
    #[error("cannot confine {program}")]
    Confine {
        /// Its name.
        program: String,
        /// Why.
        source: ConfineError,
    },
    /// It failed.
    #[error("{command} failed ({status}){}", quoted(stderr))]
    Failed {
        /// Program and arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its standard error.
        stderr: String,
    },
}

fn quoted(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(":\n{stderr}")
    }
}

impl CommandError {
    /// Whether the program failed because the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Failed { stderr, .. } => tells_of_no_space(stderr),
            Self::Start { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Missing { .. } | Self::Confine { .. } => false,
        }
    }

    /// The Debian package to install when the program is missing.
    pub fn package(&self) -> Option<&'static str> {
        match self {
            Self::Missing { program } => Some(match program.as_str() {
                "mmdebstrap" => "mmdebstrap",
                "mke2fs" | "debugfs" => "e2fsprogs",
                "unshare" => "util-linux",
                "dpkg-deb" => "dpkg",
                "apt-get" | "apt-cache" => "apt",
                _ => return None,
            }),
            _ => None,
        }
    }
}

/// A program to run. It dies with us: it gets a SIGTERM (so that it can clean up) when the thread that runs it ends.
pub(crate) struct Program {
    command: Command,
}

impl Program {
    pub(crate) fn new(program: &str) -> Self {
        let mut command = vmint_spawn::command(program);
        command
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("LANGUAGE")
            .stdin(Stdio::null());
        Self { command }.ended_by(Signal::TERM)
    }

    /// It gets this signal when we end, instead of a SIGTERM.
    pub(crate) fn ended_by(mut self, signal: Signal) -> Self {
        // SAFETY: the closure makes one system call and touches no memory of the parent's. The last one that is set
        // counts.
        unsafe {
            self.command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(signal))?;
                Ok(())
            });
        }
        self
    }

    /// It runs inside a fence: with its libraries, without a network, and with what is allowed here. For programs that read what an
    /// image or a guest wrote.
    pub(crate) fn fenced(
        mut self,
        confine: Confine,
        allow: impl FnOnce(Rules) -> Rules,
    ) -> Result<Self, CommandError> {
        let program = self.command.get_program().to_owned();
        // One that is not installed is said so when it is run.
        let Some(path) = installed(&program) else {
            return Ok(self);
        };
        let rules = Rules::new(Network::None).programs(&[&path]);
        let fence = Fence::build(&allow(rules), confine);
        let fence = fence.map_err(|source| CommandError::Confine {
            program: program.to_string_lossy().into_owned(),
            source,
        })?;
        if let Some(mut fence) = fence {
            // SAFETY: `enter` is async-signal-safe.
            unsafe { self.command.pre_exec(move || fence.enter()) };
        }
        Ok(self)
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    fn text(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>();
        shortened(&words.join(" "))
    }

    /// Runs it; gives what it wrote to standard output.
    pub(crate) fn output(self) -> Result<Vec<u8>, CommandError> {
        let mut bytes = Vec::new();
        self.stream(&crate::progress::Silent, |out| {
            out.read_to_end(&mut bytes).map(drop)
        })?
        .map_err(|source| CommandError::Start {
            command: "a program and read its output".to_owned(),
            source,
        })?;
        Ok(bytes)
    }

    /// Runs it while `consume` reads its standard output; its standard error goes to `progress` line by line. The
    /// inner result is `consume`'s; when that fails, the program is killed and its own failure is of no interest.
    pub(crate) fn stream<T, E>(
        mut self,
        progress: &dyn Progress,
        consume: impl FnOnce(&mut dyn Read) -> Result<T, E>,
    ) -> Result<Result<T, E>, CommandError> {
        let text = self.text();
        let program = self.command.get_program().to_string_lossy().into_owned();
        let failed = |source: io::Error| match source.kind() {
            // A folder in PATH that may not be read makes an absent program a forbidden one.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                if !is_installed(&program) =>
            {
                CommandError::Missing {
                    program: program.clone(),
                }
            }
            _ => CommandError::Start {
                command: text.clone(),
                source,
            },
        };
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let (consumed, lines) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| follow(stderr, progress));
            let consumed = consume(&mut stdout);
            drop(stdout);
            if consumed.is_err()
                && let Err(e) = child.kill()
            {
                tracing::warn!("cannot kill {text}: {e}");
            }
            (consumed, reader.join().expect("the reader does not panic"))
        });
        let status = child.wait().map_err(failed)?;
        if consumed.is_ok() && !status.success() {
            let stderr = Vec::from(lines).join("\n");
            return Err(CommandError::Failed {
                command: text,
                status,
                stderr,
            });
        }
        Ok(consumed)
    }
}

fn search_path() -> OsString {
    // mke2fs and debugfs live in sbin, which is not in the PATH of every user.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn is_installed(program: &str) -> bool {
    installed(program.as_ref()).is_some()
}

fn installed(program: &OsStr) -> Option<PathBuf> {
    // An absolute path stays what it is when it is joined.
    let paths: Vec<_> = std::env::split_paths(&search_path()).collect();
    let mut files = paths.iter().map(|dir| dir.join(program));
    files.find(|file| file.is_file())
}

/// Passes lines on and keeps the last ones; and one that says that the disk is full, for what follows it is often long.
fn follow(stderr: impl Read, progress: &dyn Progress) -> VecDeque<String> {
    let (mut reader, mut kept, mut line) = (BufReader::new(stderr), VecDeque::new(), Vec::new());
    let mut full = None;
    while reader
        .by_ref()
        .take(1 << 16)
        .read_until(b'\n', &mut line)
        .is_ok_and(|n| n > 0)
    {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if !text.is_empty() {
            progress.output(&text);
            let text = shortened(&text);
            if tells_of_no_space(&text) {
                full = Some(text.clone());
            }
            kept.push_back(text);
            if kept.len() > KEPT_LINES {
                kept.pop_front();
            }
        }
    }
    if let Some(full) = full.filter(|full| !kept.contains(full)) {
        kept.push_front(full);
    }
    kept
}

/// Both ends of a text that is too long for a message.
fn shortened(text: &str) -> String {
    const ENDS: usize = 200;
    let len = text.chars().count();
    if len <= 2 * ENDS {
        return text.to_owned();
    }
    let start: String = text.chars().take(ENDS).collect();
    let end: String = text.chars().skip(len - ENDS).collect();
    format!("{start} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_run_and_what_it_said() {
        let error = Program::new("sh")
            .args(["-c", "echo out; echo oh no >&2; exit 3"])
            .output()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3") && text.contains("oh no"),
            "{text}"
        );
        let error = Program::new("no-such-program-here")
            .arg("x")
            .output()
            .unwrap_err();
        assert_eq!(error.to_string(), "no-such-program-here is not installed");
    }

    #[test]
    fn inside_a_fence_a_program_reaches_what_is_allowed_and_nothing_else() {
        if vmint_confine::paths::version() == 0 {
            println!("NOT TESTED: this kernel has no Landlock");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (dir.path().join("mine"), dir.path().join("other"));
        let run = |confine| {
            for file in [&mine, &other] {
                std::fs::write(file, "before\n").unwrap();
            }
            let read = "read line <other && echo $line; echo after >mine && echo mine; echo after >other && echo other; :";
            let sh = Program::new("sh").fenced(confine, |rules| rules.own(&mine));
            let said = sh.unwrap().dir(dir.path()).args(["-c", read]).output();
            String::from_utf8(said.unwrap()).unwrap()
        };
        assert_eq!(run(Confine::Off), "before\nmine\nother\n");
        assert_eq!(run(Confine::Best), "mine\n");
        assert_eq!(std::fs::read(&other).unwrap(), b"before\n");
    }

    #[test]
    fn a_full_disk_is_noticed_however_much_is_said_after_it() {
        let script = "echo 'x: No space left on device' >&2; seq 1000 >&2; exit 1";
        let error = Program::new("sh")
            .args(["-c", script])
            .output()
            .unwrap_err();
        assert!(
            error.is_no_space() && error.to_string().len() < 500,
            "{error}"
        );
    }

    #[test]
    fn a_reader_that_gives_up_ends_the_program() {
        let given_up = Program::new("sh")
            .args(["-c", "yes"])
            .stream(&crate::progress::Silent, |_| Err::<(), _>("enough"))
            .unwrap();
        assert_eq!(given_up, Err("enough"));
    }
}
