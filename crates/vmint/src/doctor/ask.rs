//! Programs and files of the host.

use rustix::fs::{Access, access};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long a program may take to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Also where not every user's `PATH` leads.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(SBIN);
    path
}

/// Where a program is installed.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}

/// Those of the programs that are not installed.
pub(super) fn missing<'p>(programs: &[&'p str]) -> Vec<&'p str> {
    let is_missing = |program: &&&str| find(program).is_none();
    programs.iter().filter(is_missing).copied().collect()
}

/// What a program prints; the error is for the user.
pub(super) async fn output(program: impl AsRef<OsStr>, args: &[&str]) -> Result<String, String> {
    let shown = program.as_ref().to_string_lossy().into_owned();
    let run = Command::from(vmint_spawn::command(program))
        .args(args)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .env_remove("LANGUAGE")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(DEADLINE, run).await {
        Err(_) => Err(format!(
            "{shown} did not answer within {} s",
            DEADLINE.as_secs()
        )),
        Ok(Err(e)) => Err(format!("{shown} cannot be executed: {e}")),
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(Ok(output)) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last = stderr.lines().last().unwrap_or_default();
            Err(format!("{shown} failed ({}): {last}", output.status))
        }
    }
}

/// Does work that may block, with a deadline. The error is for the user.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(format!("{what} ended unexpectedly: {e}")),
        Err(_) => Err(format!("{what} took more than {} s", DEADLINE.as_secs())),
    }
}

/// A file's text, if it can be read.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
