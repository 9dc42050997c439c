//! The `git` program: never through a shell, never for ever, and not led astray by the environment.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;
use tokio::process::Command;

/// A question is answered within this time, also on a slow disk.
const QUESTION: Duration = Duration::from_secs(30);
/// Objects are copied within this time.
const COPY: Duration = Duration::from_secs(300);
/// An answer is at most this long: the names of all files of a very large repository.
const MOST: u64 = 64 << 20;

/// Why `git` gave no answer.
#[derive(Debug, Error)]
pub enum GitError {
    /// It cannot be started.
    #[error("cannot start git; is it installed?")]
    Start(#[source] std::io::Error),
    /// It failed.
    #[error("`git {what}` in {} failed: {stderr}", root.display())]
    Failed {
        /// Its first arguments.
        what: String,
        /// Where.
        root: PathBuf,
        /// What it wrote, shortened.
        stderr: String,
    },
    /// It took too long.
    #[error("`git {what}` in {} did not end within {} s and was killed", root.display(), limit.as_secs())]
    Late {
        /// Its first arguments.
        what: String,
        /// Where.
        root: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// It wrote too much.
    #[error("`git {what}` in {} wrote more than {} MiB", root.display(), MOST >> 20)]
    Long {
        /// Its first arguments.
        what: String,
        /// Where.
        root: PathBuf,
    },
    /// Its output cannot be read.
    #[error("cannot read what git wrote")]
    Read(#[source] std::io::Error),
}

/// What a command of `git` does, which says how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It answers from what is there.
    Question,
    /// It copies objects.
    Copy,
}

/// A command that is ready to be started in a folder.
///
/// The environment's `GIT_*` are left out: a caller's `GIT_DIR` or `GIT_INDEX_FILE` (as in a hook) would name another
/// repository. A repository's own monitor program is not started, and nothing asks for passwords.
pub fn command<S: AsRef<OsStr>>(root: &Path, args: &[S]) -> Command {
    let mut command = Command::from(vmint_spawn::command("git"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GIT_") {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .args(["-c", "core.fsmonitor=false", "-c", "core.quotePath=false"])
        .args(args)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end and gives what it wrote to its standard output.
pub async fn run<S: AsRef<OsStr>>(
    root: &Path,
    work: Work,
    args: &[S],
) -> Result<Vec<u8>, GitError> {
    run_command(command(root, args), root, work, named(args)).await
}

/// Runs a command of [`command`] that may have been changed.
pub(crate) async fn run_command(
    mut command: Command,
    root: &Path,
    work: Work,
    named: String,
) -> Result<Vec<u8>, GitError> {
    let what = || named.clone();
    let mut child = command.spawn().map_err(GitError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let limit = match work {
        Work::Question => QUESTION,
        Work::Copy => COPY,
    };
    let all = async {
        let (out, err) = tokio::join!(capture(stdout), capture(stderr));
        let (out, err) = (out.map_err(GitError::Read)?, err.map_err(GitError::Read)?);
        if out.len() as u64 > MOST {
            return Err(GitError::Long {
                what: what(),
                root: root.to_owned(),
            });
        }
        let status = child.wait().await.map_err(GitError::Read)?;
        if status.success() {
            Ok(out)
        } else {
            Err(failed(root, what(), &err))
        }
    };
    let late = |_| GitError::Late {
        what: what(),
        root: root.to_owned(),
        limit,
    };
    tokio::time::timeout(limit, all).await.map_err(late)?
}

/// Like [`run`], for a question whose answer may be that there is none.
pub async fn ask<S: AsRef<OsStr>>(root: &Path, args: &[S]) -> Result<Option<Vec<u8>>, GitError> {
    match run(root, Work::Question, args).await {
        Ok(answer) => Ok(Some(answer)),
        Err(GitError::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The error of a command that failed.
pub(crate) fn failed(root: &Path, what: String, stderr: &[u8]) -> GitError {
    const SHOWN: usize = 2_000;
    let text = String::from_utf8_lossy(&stderr[..stderr.len().min(SHOWN)]);
    let text = text.trim();
    GitError::Failed {
        what,
        root: root.to_owned(),
        stderr: if text.is_empty() {
            "it said nothing".to_owned()
        } else {
            text.to_owned()
        },
    }
}

/// The first arguments, which say what was done.
pub(crate) fn named<S: AsRef<OsStr>>(args: &[S]) -> String {
    let shown = args
        .iter()
        .take(3)
        .map(|arg| arg.as_ref().to_string_lossy());
    shown.collect::<Vec<_>>().join(" ")
}

/// At most one byte more than is allowed, so that too much can be told.
async fn capture(from: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(MOST + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The paths of an answer whose lines end with zero bytes.
pub(super) fn paths(answer: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    use std::os::unix::ffi::OsStringExt as _;
    let names = answer
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names.map(|name| OsString::from_vec(name.to_vec()).into())
}
