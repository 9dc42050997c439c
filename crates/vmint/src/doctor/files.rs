//! `VMINT_HOME`, its links, its sockets, its database; open files; stale machines.

use super::check::Check;
use rustix::fs::{Access, access};
use rustix::process::{Resource, geteuid, getrlimit};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use vmint_model::{Fault, Home, MachineId};
use vmint_store::home::SOCKET_PATH_LIMIT;

pub(super) const OTHER_HOME: &str = "set VMINT_HOME to a folder on a local disk";

/// What is seen of the home's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folder {
    owner: u32,
    user: u32,
    mode: u32,
    writable: bool,
}

pub(super) fn home(root: &Path, home: Result<&Home, &Fault>) -> Check {
    const NAME: &str = "home";
    let home = match home {
        Ok(home) => home,
        Err(fault) => return Check::fault(NAME, fault, OTHER_HOME),
    };
    let path = home.root();
    match fs::metadata(path) {
        Err(e) => Check::failure(NAME, format!("{}: {e}", root.display()), OTHER_HOME),
        Ok(meta) => judge_home(
            path,
            Folder {
                owner: meta.uid(),
                user: geteuid().as_raw(),
                mode: meta.mode() & 0o7777,
                writable: access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
            },
        ),
    }
}

fn judge_home(path: &Path, folder: Folder) -> Check {
    const NAME: &str = "home";
    let Folder {
        owner,
        user,
        mode,
        writable,
    } = folder;
    let path = path.display();
    if owner != user {
        let summary = format!("{path} belongs to user {owner}, not to user {user}");
        return Check::failure(NAME, summary, "set VMINT_HOME to a folder of your own");
    }
    if mode & 0o022 != 0 {
        let summary = format!("{path} can be written to by others: its mode is {mode:04o}");
        return Check::failure(NAME, summary, format!("chmod 700 {path}"));
    }
    if !writable {
        let summary = format!("{path} cannot be written to");
        return Check::failure(
            NAME,
            summary,
            format!("chmod 700 {path}, unless its file system is read-only"),
        );
    }
    Check::ok(NAME, format!("{path}"))
}

/// A file that goes when this does.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot delete {}: {e}", self.0.display());
        }
    }
}

fn not_checked(name: &'static str) -> Check {
    Check::warning(
        name,
        "not checked: VMINT_HOME cannot be opened",
        "see the check home",
    )
}

/// Frozen machines share files by hard links, so the folders must be on one file system that has them.
pub(super) fn hard_links(home: Option<&Home>) -> Check {
    const NAME: &str = "hard-links";
    let Some(home) = home else {
        return not_checked(NAME);
    };
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
    let of_root = device(home.root());
    for folder in [
        home.images(),
        home.templates(),
        home.machines(),
        home.snapshots(),
    ] {
        if let (Ok(root), Ok(its)) = (&of_root, device(&folder))
            && *root != its
        {
            return Check::failure(
                NAME,
                format!(
                    "{} is on another file system than {}",
                    folder.display(),
                    home.root().display()
                ),
                "have all of VMINT_HOME on one file system",
            );
        }
    }
    match link_in(home.root()) {
        Ok(()) => Check::ok(NAME, "work"),
        Err(e) => Check::failure(
            NAME,
            format!(
                "a file in {} cannot be made and linked: {e}",
                home.root().display()
            ),
            OTHER_HOME,
        ),
    }
}

fn link_in(folder: &Path) -> io::Result<()> {
    let name = format!(".doctor-{}", MachineId::random());
    let first = Temporary(folder.join(&name));
    fs::File::create_new(&first.0)?;
    let second = Temporary(folder.join(name + "-link"));
    fs::hard_link(&first.0, &second.0)?;
    if fs::metadata(&first.0)?.ino() == fs::metadata(&second.0)?.ino() {
        Ok(())
    } else {
        Err(io::Error::other("the link is a copy"))
    }
}

/// Binds a socket where a machine's would be.
pub(super) fn sockets(home: Option<&Home>) -> Check {
    const NAME: &str = "sockets";
    const REMEDY: &str = "set VMINT_RUNTIME_DIR to a short path on a local file system";
    let Some(home) = home else {
        return not_checked(NAME);
    };
    let socket = Temporary(home.machine(&MachineId::random()).socket().to_owned());
    let length = socket.0.as_os_str().len();
    let folder = home.runtime().display();
    if length > SOCKET_PATH_LIMIT {
        let summary = format!(
            "{folder} is too long: a socket's path has {length} bytes, and {SOCKET_PATH_LIMIT} fit"
        );
        return Check::failure(NAME, summary, REMEDY);
    }
    match UnixListener::bind(&socket.0) {
        Ok(_) => Check::ok(
            NAME,
            format!("{folder} ({length} of {SOCKET_PATH_LIMIT} bytes)"),
        ),
        Err(e) => Check::failure(
            NAME,
            format!("no socket can be bound in {folder}: {e}"),
            REMEDY,
        ),
    }
}

pub(super) fn store(store: Result<(), &Fault>) -> Check {
    const NAME: &str = "database";
    match store {
        Ok(()) => Check::ok(NAME, "opens"),
        Err(fault) => Check::fault(NAME, fault, "run `vmint doctor --repair`"),
    }
}

/// What a process may have open; fewer is a warning.
const OPEN_FILES: u64 = 1024;
/// What a machine needs.
const PER_MACHINE: u64 = 10;

pub(super) fn open_files() -> Check {
    let limit = getrlimit(Resource::Nofile);
    judge_open_files(limit.current, limit.maximum)
}

fn judge_open_files(soft: Option<u64>, hard: Option<u64>) -> Check {
    const NAME: &str = "open-files";
    match soft {
        None => Check::ok(NAME, "no limit"),
        Some(soft) if soft >= OPEN_FILES => {
            Check::ok(NAME, format!("{soft}; a machine needs {PER_MACHINE}"))
        }
        Some(soft) => {
            let summary = format!("{soft}, and a machine needs {PER_MACHINE}");
            if hard.is_none_or(|hard| hard >= OPEN_FILES) {
                Check::warning(NAME, summary, format!("ulimit -n {OPEN_FILES}"))
            } else {
                Check::warning(
                    NAME,
                    summary,
                    "raise nofile in /etc/security/limits.conf, and log in again",
                )
            }
        }
    }
}

pub(super) fn stale_machines(swept: &[String]) -> Check {
    const NAME: &str = "stale-machines";
    const SHOWN: usize = 3;
    if swept.is_empty() {
        return Check::ok(NAME, "none");
    }
    let shown: Vec<_> = swept.iter().take(SHOWN).map(String::as_str).collect();
    let more = match swept.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    Check::warning(
        NAME,
        format!("{} cleared up: {}{more}", swept.len(), shown.join("; ")),
        "nothing is left to clear up; vmint events says what happened",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use vmint_model::ErrorKind;

    #[test]
    fn a_home_that_others_can_write_to_is_a_failure() {
        let fine = Folder {
            owner: 1000,
            user: 1000,
            mode: 0o700,
            writable: true,
        };
        let judge = |folder| judge_home(Path::new("/h"), folder);
        assert_eq!(judge(fine).status, Status::Ok);
        assert_eq!(
            judge(Folder {
                mode: 0o755,
                ..fine
            })
            .status,
            Status::Ok
        );
        for (folder, word) in [
            (
                Folder {
                    mode: 0o770,
                    ..fine
                },
                "0770",
            ),
            (
                Folder {
                    mode: 0o1777,
                    ..fine
                },
                "1777",
            ),
            (Folder { owner: 0, ..fine }, "belongs to user 0"),
            (
                Folder {
                    writable: false,
                    ..fine
                },
                "cannot be written to",
            ),
        ] {
            let check = judge(folder);
            assert_eq!(check.status, Status::Failure);
            assert!(check.summary.contains(word), "{check:?}");
        }
    }

    #[test]
    fn links_and_sockets_are_tried_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), dir.path());
        assert_eq!(hard_links(Some(&home)).status, Status::Ok);
        assert_eq!(sockets(Some(&home)).status, Status::Ok);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let gone = Home::new(dir.path().join("gone"), dir.path().join("gone"));
        assert_eq!(hard_links(Some(&gone)).status, Status::Failure);
        assert_eq!(sockets(Some(&gone)).status, Status::Failure);
        let long = Home::new(dir.path(), dir.path().join("x".repeat(100)));
        let check = sockets(Some(&long));
        assert!(check.summary.contains("too long"), "{check:?}");
    }

    #[test]
    fn a_folder_on_another_file_system_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        // /proc is one everywhere.
        std::os::unix::fs::symlink("/proc", dir.path().join("templates")).unwrap();
        let check = hard_links(Some(&Home::new(dir.path(), dir.path())));
        assert_eq!(check.status, Status::Failure);
        assert!(
            check
                .summary
                .contains("templates is on another file system"),
            "{check:?}"
        );
    }

    #[test]
    fn few_open_files_have_a_remedy_that_works() {
        assert_eq!(judge_open_files(None, None).status, Status::Ok);
        assert_eq!(judge_open_files(Some(1024), Some(4096)).status, Status::Ok);
        let check = judge_open_files(Some(256), Some(4096));
        assert_eq!(check.status, Status::Warning);
        assert_eq!(check.remedy.unwrap(), "ulimit -n 1024");
        let check = judge_open_files(Some(256), Some(256));
        assert!(check.remedy.unwrap().contains("limits.conf"));
    }

    #[test]
    fn a_database_that_does_not_open_and_machines_that_died_are_told() {
        let fault = Fault::new(ErrorKind::Corrupt, "from the future").hint("a newer vmint");
        let check = store(Err(&fault));
        assert_eq!(
            (check.status, check.remedy.as_deref()),
            (Status::Failure, Some("a newer vmint"))
        );
        assert_eq!(stale_machines(&[]).status, Status::Ok);
        let swept: Vec<_> = (0..5).map(|i| format!("m{i}: its runner died")).collect();
        let check = stale_machines(&swept);
        assert_eq!(check.status, Status::Warning);
        assert!(check.summary.starts_with("5 cleared up: m0"), "{check:?}");
        assert!(check.summary.ends_with("; and 2 more"), "{check:?}");
    }
}
