//! One command: from what the host asked for to a running process with its channels.

use crate::login::{self, Variables};
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::spawn::{Launch, SpawnError, Spawner, Terminal};
use crate::sys;
use crate::users::{self, User};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use vmint_protocol::{Channel, ErrorCode, ExecSpec, ExitStatus, GuestError, Streams, WindowSize};

/// Where commands are looked for unless the host says otherwise: Debian's and Docker's default for root.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that was started.
#[derive(Debug)]
pub struct Exec {
    /// Its process id, and that of its group and its session.
    pub pid: i32,
    /// Standard input.
    pub sink: Option<Sink>,
    /// Standard output and error, or a terminal's output.
    pub sources: Vec<Source>,
    /// The terminal, to change its size.
    pub terminal: Option<Rc<OwnedFd>>,
    /// When it is to be killed.
    pub deadline: Option<Instant>,
    /// Whether that has happened.
    pub timed_out: bool,
    /// How it ended, once it has.
    pub status: Option<ExitStatus>,
}

/// What a command is started with beside its own specification.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// `/dev/null`.
    pub null: BorrowedFd<'a>,
    /// See [`Launch::oom_score`].
    pub oom_score: Option<&'a CStr>,
}

/// A [`GuestError`].
pub fn failure(code: ErrorCode, message: impl std::fmt::Display) -> GuestError {
    GuestError {
        code,
        message: message.to_string(),
    }
}

/// A [`GuestError`] from a failed system call; `what` is read after “the guest could not”.
pub fn os(what: &str, error: Errno) -> GuestError {
    let code = match error {
        Errno::NOSPC | Errno::DQUOT => ErrorCode::NoSpace,
        Errno::NOENT => ErrorCode::NotFound,
        _ => ErrorCode::Os,
    };
    failure(code, format_args!("{what}: {error}"))
}

/// Bytes for a message.
pub fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn c_string(what: &str, bytes: &[u8]) -> Result<CString, GuestError> {
    CString::new(bytes).map_err(|_| {
        failure(
            ErrorCode::Invalid,
            format_args!("take a zero byte in {what}: {:?}", text(bytes)),
        )
    })
}

/// Looks a user up in the guest's files.
pub fn user(spec: Option<&str>) -> Result<User, GuestError> {
    const LIMIT: usize = 1 << 20;
    let passwd = sys::read_file("/etc/passwd", LIMIT).unwrap_or_default();
    // Root without a word about it needs no groups.
    let group = if spec.is_some() {
        sys::read_file("/etc/group", LIMIT).unwrap_or_default()
    } else {
        Vec::new()
    };
    users::resolve(spec, &passwd, &group).map_err(|e| failure(ErrorCode::NoSuchUser, e))
}

/// The environment: defaults, what a login finds, then the host's wishes over them, each name once.
fn environment(spec: &ExecSpec, user: &User, login: Variables) -> Variables {
    let mut env: Variables = vec![
        (b"PATH".to_vec(), DEFAULT_PATH.to_vec()),
        (b"HOME".to_vec(), user.home.clone()),
        (b"USER".to_vec(), user.name.clone()),
        (b"LOGNAME".to_vec(), user.name.clone()),
        (b"SHELL".to_vec(), user.shell.clone()),
    ];
    if spec.terminal.is_some() {
        env.push((b"TERM".to_vec(), b"xterm".to_vec()));
    }
    for (name, value) in login.into_iter().chain(spec.env.iter().cloned()) {
        match env.iter_mut().find(|(n, _)| *n == name) {
            Some((_, v)) => *v = value,
            None => env.push((name, value)),
        }
    }
    env
}

/// The files that `program` may be: itself when it names a folder, else one in each folder of `path`.
fn candidates(program: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let join = |dir: &[u8]| {
        // An empty element is the working directory.
        let dir = if dir.is_empty() { b".".as_slice() } else { dir };
        [dir, b"/", program].concat()
    };
    path.split(|&b| b == b':').map(join).collect()
}

/// Descriptors of both sides.
struct Wiring {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    sink: Option<Sink>,
    sources: Vec<Source>,
    terminal: Option<Rc<OwnedFd>>,
}

impl Wiring {
    fn pipes(stdin: bool, output: Streams) -> rustix::io::Result<Self> {
        let (stdin, sink) = if stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&write, true)?;
            (
                Some(read),
                Some(Sink::new(Rc::new(write), sink::Into::Pipe)),
            )
        } else {
            (None, None)
        };
        // The reading ends stay blocking, which saves two calls: they are only read up to what they are known to hold.
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut sources = vec![Source::new(
            Rc::new(out),
            source::From::Pipe,
            Channel::Output,
        )];
        let stderr = match output {
            Streams::Apart => {
                let (err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
                sources.push(Source::new(
                    Rc::new(err),
                    source::From::Pipe,
                    Channel::Error,
                ));
                Some(stderr)
            }
            Streams::Together => None,
        };
        Ok(Self {
            stdin,
            stdout,
            stderr,
            sink,
            sources,
            terminal: None,
        })
    }

    fn terminal(size: WindowSize) -> rustix::io::Result<Self> {
        let controller =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::unlockpt(&controller)?;
        rustix::io::ioctl_fionbio(&controller, true)?;
        let peer = sys::terminal_peer(controller.as_fd())?;
        resize(controller.as_fd(), size)?;
        let controller = Rc::new(controller);
        Ok(Self {
            stdin: None,
            stdout: peer,
            stderr: None,
            sink: Some(Sink::new(Rc::clone(&controller), sink::Into::Terminal)),
            sources: vec![Source::new(
                Rc::clone(&controller),
                source::From::Terminal,
                Channel::Output,
            )],
            terminal: Some(controller),
        })
    }
}

impl Wiring {
    /// Makes the streams the user's, who may then open them by name: servers in images log to `/dev/stdout`. Their group stays, a
    /// terminal's is `tty`; and `/dev/null` is everybody's.
    fn give_to(&self, user: &User) -> rustix::io::Result<()> {
        if user.ids.uid == 0 {
            return Ok(());
        }
        let owner = rustix::fs::Uid::from_raw(user.ids.uid);
        let own = [
            Some(&self.stdout),
            self.stdin.as_ref(),
            self.stderr.as_ref(),
        ];
        own.into_iter()
            .flatten()
            .try_for_each(|stream| rustix::fs::fchown(stream, Some(owner), None))
    }
}

fn resize(terminal: BorrowedFd<'_>, size: WindowSize) -> rustix::io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}

impl Exec {
    /// Starts the command.
    pub fn start(
        spec: &ExecSpec,
        around: Surroundings<'_>,
        spawner: &mut Spawner,
    ) -> Result<Self, GuestError> {
        let Some(program) = spec.argv.first().filter(|p| !p.is_empty()) else {
            return Err(failure(ErrorCode::Invalid, "run a command without a name"));
        };
        let user = user(spec.user.as_deref())?;
        let env = environment(spec, &user, login::environment());
        let path = env
            .iter()
            .find(|(n, _)| n == b"PATH")
            .map_or(DEFAULT_PATH, |(_, v)| v);
        let candidates: Vec<CString> = candidates(program, path)
            .iter()
            .map(|c| c_string("a path", c))
            .collect::<Result<_, _>>()?;
        let argv: Vec<CString> = spec
            .argv
            .iter()
            .map(|a| c_string("an argument", a))
            .collect::<Result<_, _>>()?;
        let env: Vec<CString> = env
            .iter()
            .map(|(name, value)| {
                if name.is_empty() || name.contains(&b'=') {
                    return Err(failure(
                        ErrorCode::Invalid,
                        format_args!("set a variable named {:?}", text(name)),
                    ));
                }
                c_string("the environment", &[name, b"=".as_slice(), value].concat())
            })
            .collect::<Result<_, _>>()?;
        let cwd = c_string(
            "the working directory",
            spec.cwd.as_ref().unwrap_or(&user.home),
        )?;

        let wiring = match spec.terminal {
            Some(size) => Wiring::terminal(size).map_err(|e| os("open a terminal", e))?,
            None => Wiring::pipes(spec.stdin, spec.output).map_err(|e| os("create pipes", e))?,
        };
        wiring
            .give_to(&user)
            .map_err(|e| os("give its streams to the user", e))?;
        let is_terminal = wiring.terminal.is_some();
        let stdout = wiring.stdout.as_fd();
        let stdin = if is_terminal {
            stdout
        } else {
            wiring.stdin.as_ref().map_or(around.null, |fd| fd.as_fd())
        };
        let launch = Launch {
            candidates: &candidates,
            argv: &argv,
            env: &env,
            cwd: &cwd,
            fallback_cwd: spec.cwd.is_none().then_some(c"/"),
            stdio: [
                stdin,
                stdout,
                wiring.stderr.as_ref().map_or(stdout, |fd| fd.as_fd()),
            ],
            terminal: if is_terminal {
                Terminal::Controlling
            } else {
                Terminal::None
            },
            ids: Some(&user.ids).filter(|_| !user.is_plain_root()),
            oom_score: around.oom_score,
        };
        let pid = spawner
            .spawn(&launch)
            .map_err(|e| explain(e, program, &cwd))?;
        Ok(Self {
            pid,
            sink: wiring.sink,
            sources: wiring.sources,
            terminal: wiring.terminal,
            deadline: spec
                .timeout_ms
                .and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms))),
            timed_out: false,
            status: None,
        })
    }

    /// The client's terminal changed its size; the kernel sends `SIGWINCH`.
    pub fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            // Fails only on a terminal that has hung up.
            let _ = resize(terminal.as_fd(), size);
        }
    }

    /// Sends a signal to the process group.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // It may just have ended.
            let _ = sys::kill(-self.pid, signal);
        }
    }

    /// Kills the process group and whatever else belongs to the session: children in groups of their own.
    pub fn kill(&self) {
        // The group may be empty, the session not.
        let _ = sys::kill(-self.pid, libc::SIGKILL);
        // A process that is being killed cannot fork, so a few rounds are enough for any tree; a bound is a bound.
        for _ in 0..16 {
            let members = session_members(self.pid);
            if members.is_empty() {
                return;
            }
            for pid in members {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
    }
}

/// Processes of session `sid` that are not zombies and not known to be dying.
fn session_members(sid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(entry.path().join("stat")).ok()?;
            let (state, session) = state_and_session(&stat)?;
            (session == sid && !matches!(state, b'Z' | b'X') && !is_dying(pid)).then_some(pid)
        })
        .collect()
}

/// Whether `SIGKILL` is pending: it needs no second one.
fn is_dying(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    status
        .lines()
        .filter(|l| l.starts_with("SigPnd:") || l.starts_with("ShdPnd:"))
        .any(|line| {
            let mask = line
                .split_whitespace()
                .nth(1)
                .and_then(|m| u64::from_str_radix(m, 16).ok());
            mask.is_some_and(|m| m & (1 << (libc::SIGKILL - 1)) != 0)
        })
}

/// Fields 3 and 6 of `/proc/PID/stat`. The name in field 2 may contain anything, parentheses and spaces included.
fn state_and_session(stat: &[u8]) -> Option<(u8, i32)> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = stat.get(end + 2..)?.split(|&b| b == b' ');
    let state = *fields.next()?.first()?;
    let session = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
    Some((state, session))
}

fn explain(error: SpawnError, program: &[u8], cwd: &CStr) -> GuestError {
    let program = text(program);
    match error {
        SpawnError::NotFound => failure(
            ErrorCode::CommandNotFound,
            format_args!("find the command {program:?}"),
        ),
        SpawnError::NotExecutable(Errno::NOENT) => failure(
            ErrorCode::CommandNotExecutable,
            format_args!(
                "execute {program:?}: the interpreter or loader that it names does not exist"
            ),
        ),
        SpawnError::NotExecutable(e) => failure(
            ErrorCode::CommandNotExecutable,
            format_args!("execute {program:?}: {e}"),
        ),
        SpawnError::Directory(e) => {
            let code = if e == Errno::NOENT {
                ErrorCode::NotFound
            } else {
                ErrorCode::Os
            };
            failure(
                code,
                format_args!(
                    "enter the working directory {:?}: {e}",
                    text(cwd.to_bytes())
                ),
            )
        }
        SpawnError::Other(what, e) => os(what, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_variables_win_and_each_name_comes_once() {
        let user = users::resolve(None, b"", b"").unwrap();
        let spec = ExecSpec {
            env: vec![
                (b"PATH".to_vec(), b"/x".to_vec()),
                (b"A".to_vec(), b"1".to_vec()),
                (b"A".to_vec(), b"2".to_vec()),
            ],
            ..ExecSpec::default()
        };
        let login = vec![
            (b"PATH".to_vec(), b"/login".to_vec()),
            (b"LANG".to_vec(), b"C.UTF-8".to_vec()),
        ];
        let env = environment(&spec, &user, login);
        let all = |name: &[u8]| {
            env.iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(all(b"PATH"), [b"/x"]);
        assert_eq!(all(b"A"), [b"2"]);
        assert_eq!(all(b"LANG"), [b"C.UTF-8"]);
        assert_eq!(all(b"HOME"), [b"/root"]);
        assert!(all(b"TERM").is_empty());
    }

    #[test]
    fn a_program_is_looked_up_in_the_path_unless_it_names_a_folder() {
        assert_eq!(
            candidates(b"ls", b"/bin::/x"),
            [b"/bin/ls".to_vec(), b"./ls".to_vec(), b"/x/ls".to_vec()]
        );
        assert_eq!(candidates(b"./ls", b"/bin"), [b"./ls"]);
    }

    #[test]
    fn a_process_name_cannot_forge_its_session() {
        assert_eq!(
            state_and_session(b"12 (a) Z 1 1 9) S 1 12 34 0 -1"),
            Some((b'S', 34))
        );
        assert_eq!(state_and_session(b"12 (sh) R 1 12 12 0"), Some((b'R', 12)));
        assert_eq!(state_and_session(b"garbage"), None);
    }

    /// Starts a command on this host, as whoever runs the tests.
    fn start(argv: &[&str]) -> Result<Exec, GuestError> {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let around = Surroundings {
            null: null.as_fd(),
            oom_score: None,
        };
        let spec = ExecSpec {
            argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            ..ExecSpec::default()
        };
        Exec::start(&spec, around, &mut Spawner::default())
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        assert_eq!(
            start(&["no-such-command"]).unwrap_err().code,
            ErrorCode::CommandNotFound
        );
        assert_eq!(
            start(&["/etc/passwd"]).unwrap_err().code,
            ErrorCode::CommandNotExecutable
        );
        assert_eq!(
            start(&["/etc"]).unwrap_err().code,
            ErrorCode::CommandNotExecutable
        );
        assert_eq!(start(&[""]).unwrap_err().code, ErrorCode::Invalid);
        assert_eq!(start(&["a\0b"]).unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn killing_reaches_groups_of_their_own_in_the_session() {
        // An interactive-style shell gives its background job a group of its own.
        let exec = start(&["sh", "-c", "set -m; sleep 1000 & sleep 1000"]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while session_members(exec.pid).len() < 3 {
            assert!(Instant::now() < deadline, "the shell started no children");
            std::thread::yield_now();
        }
        exec.kill();
        let pid = rustix::process::Pid::from_raw(exec.pid);
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(session_members(exec.pid), Vec::<i32>::new());
    }
}
