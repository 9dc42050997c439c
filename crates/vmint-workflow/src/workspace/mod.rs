//! The repository of this host: what it says of itself, and its files as a tar for `checkout`.
//!
//! [`discover`] asks a [`Repository`] once, when a run begins; [`git`] runs the `git` program for it. [`folder`] packs the files as
//! they lie in the folder, [`commit`] those of a commit, [`history`] makes a `.git` that works in a guest.

pub mod commit;
pub mod folder;
pub mod git;
pub mod history;
mod repository;
mod stream;

pub use repository::{at, discover};
pub use stream::{Packed, Pieces};
pub use vmint_syntax::event::repository::{Commit, Head, NO_COMMIT, Reference, Repository, Slug};

use std::path::PathBuf;
use thiserror::Error;

/// Why a workspace cannot be read.
#[derive(Debug, Error)]
pub enum WorkspaceError {
    /// `git` failed.
    #[error(transparent)]
    Git(#[from] git::GitError),
    /// A file or folder of the host cannot be used.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried: "read".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A commit is asked of a folder without git, or without any commit.
    #[error("{} has no commit; commit something, or check out the files as they are", root.display())]
    NoCommit {
        /// The folder.
        root: PathBuf,
    },
    /// `git` said something that is not understood.
    #[error("git in {} answered with {seen}, where {expected} was expected", root.display())]
    Answer {
        /// The folder.
        root: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// The answer, shortened.
        seen: String,
    },
    /// Whoever takes the tar has gone.
    #[error("the machine stopped taking the files of {}", root.display())]
    Gone {
        /// The folder.
        root: PathBuf,
    },
}

#[cfg(test)]
mod testing {
    use std::path::{Path, PathBuf};

    /// A folder of a test's own.
    pub struct Scratch {
        _keep: tempfile::TempDir,
        /// The folder, absolute, without symbolic links.
        pub root: PathBuf,
    }

    pub fn scratch(name: &str) -> Scratch {
        let keep = tempfile::tempdir().unwrap();
        let root = keep.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(&root).unwrap();
        Scratch { _keep: keep, root }
    }

    impl Scratch {
        pub fn git(&self, args: &[&str]) {
            let mut command = std::process::Command::new("git");
            command
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_SYSTEM", "/dev/null");
            let output = command.args(args).current_dir(&self.root).output().unwrap();
            assert!(output.status.success(), "git {args:?}: {output:?}");
        }

        pub fn init(&self) {
            self.git(&["init", "-q", "-b", "main"]);
            self.git(&["config", "user.name", "Mona"]);
            self.git(&["config", "user.email", "mona@example.org"]);
        }

        pub fn write(&self, path: &str, content: &str) {
            let path = self.root.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            std::fs::write(path, content).unwrap();
        }

        pub fn commit(&self, message: &str) {
            self.git(&["add", "-A"]);
            self.git(&["commit", "-q", "-m", message]);
        }
    }

    /// Takes a tar as it comes and unpacks it.
    pub async fn unpack(
        mut tar: tokio::sync::mpsc::Receiver<std::io::Result<bytes::Bytes>>,
        into: PathBuf,
    ) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(piece) = tar.recv().await {
            bytes.extend_from_slice(&piece?);
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        archive.set_preserve_permissions(true);
        archive.unpack(into)
    }

    /// Every file below a folder, by its path.
    pub fn listing(root: &Path) -> Vec<String> {
        let mut walk = ignore::WalkBuilder::new(root);
        walk.standard_filters(false).sort_by_file_name(Ord::cmp);
        walk.build()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_some_and(|kind| !kind.is_dir()))
            .map(|entry| {
                entry
                    .path()
                    .strip_prefix(root)
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect()
    }
}
