//! What git brings from a remote: which commit a ref is, and the files of a commit.
//!
//! The remote is anybody's, so git gets nothing but an empty folder of its own: a home without settings or passwords, no
//! system settings, no hooks, no credential helpers, no prompts, no ssh, no submodules; https and files are the only
//! protocols, also behind a redirection. Objects are checked when they come (`fsck`), which refuses names such as `..` and
//! `.git` in trees. Each of its processes is held to [`Limits`]; each command ends within the time of its
//! [`git::Work`]. Not in the fence of `vmint-confine`: git needs the network, and its own helpers.

use super::lock::is_commit;
use crate::workspace::git;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use vmint_files::{Options, Specials, UnpackError, Unpacker};
use vmint_spawn::Bounds;

/// What a remote may take of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest file that git may write, in bytes: the pack of one commit.
    pub pack: u64,
    /// The address space that each of its processes may have, in bytes; packs are mapped into it.
    pub memory: u64,
    /// The longest archive of a commit's files, in bytes. An entry takes 512 of them at least, so this bounds the number
    /// of files, too.
    pub archive: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack: 512 << 20,
            memory: 4 << 30,
            archive: 512 << 20,
        }
    }
}

/// An archive has its next piece within this time.
const NEXT: Duration = Duration::from_secs(60);

/// Why something could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Git failed.
    #[error(transparent)]
    Git(#[from] git::GitError),
    /// The remote has no such ref.
    #[error("{url} has neither a tag nor a branch `{git_ref}`")]
    NoRef {
        /// The remote.
        url: String,
        /// The ref.
        git_ref: String,
    },
    /// What came is not what was asked for.
    #[error("{url} gave another commit than {commit}")]
    OtherCommit {
        /// The remote.
        url: String,
        /// What was asked for.
        commit: String,
    },
    /// The files of the commit are too many or too large.
    #[error("the files of {url} are more than {} MiB", most >> 20)]
    TooLarge {
        /// The remote.
        url: String,
        /// The limit, in bytes.
        most: u64,
    },
    /// They cannot be unpacked.
    #[error("cannot unpack the files of {url}")]
    Unpack {
        /// The remote.
        url: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A file of this host cannot be read or written.
    #[error("cannot write below {}", path.display())]
    Host {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A repository to fetch from.
pub(super) struct Remote<'a> {
    /// `https://github.com/OWNER/REPOSITORY`.
    pub url: String,
    /// An empty folder, for git alone.
    pub scratch: &'a Path,
    pub limits: Limits,
}

impl Remote<'_> {
    /// The commit that a ref is: a commit itself, a tag, or a branch, in this order, as GitHub takes it.
    pub(super) async fn resolve(&self, git_ref: &str) -> Result<String, RemoteError> {
        if is_commit(git_ref) {
            return Ok(git_ref.to_owned());
        }
        let names = [
            format!("refs/tags/{git_ref}^{{}}"),
            format!("refs/tags/{git_ref}"),
            format!("refs/heads/{git_ref}"),
        ];
        let mut args = vec!["ls-remote", "--quiet", "--", &self.url];
        args.extend(names.iter().map(String::as_str));
        let answer = self.git(git::Work::Question, &args).await?;
        let answer = String::from_utf8_lossy(&answer);
        // Git takes these names for patterns, and may give others that end in them.
        let lines: Vec<(&str, &str)> = answer
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let found = names.iter().find_map(|name| {
            let mut lines = lines.iter().filter(|(commit, _)| is_commit(commit));
            lines.find(|(_, other)| other == name)
        });
        match found {
            Some((commit, _)) => Ok((*commit).to_owned()),
            None => Err(RemoteError::NoRef {
                url: self.url.clone(),
                git_ref: git_ref.to_owned(),
            }),
        }
    }

    /// Unpacks the files of a commit below a folder, which is made. Says how many links led out of it: they are not there.
    pub(super) async fn unpack(&self, commit: &str, folder: &Path) -> Result<u64, RemoteError> {
        self.git(git::Work::Question, &["init", "--bare", "--quiet"])
            .await?;
        let fetch = [
            "fetch",
            "--depth=1",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--quiet",
            "--",
            &self.url,
            commit,
        ];
        self.git(git::Work::Copy, &fetch).await?;
        let peeled = format!("{commit}^{{commit}}");
        let ask = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &peeled,
        ];
        let came = self.git(git::Work::Question, &ask).await;
        if !came.is_ok_and(|came| came.trim_ascii() == commit.as_bytes()) {
            return Err(RemoteError::OtherCommit {
                url: self.url.clone(),
                commit: commit.to_owned(),
            });
        }
        let host = |source| RemoteError::Host {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir(folder).map_err(host)?;
        let target = File::open(folder).map_err(host)?;
        self.archive(commit, target).await?;
        let outer = folder.canonicalize().map_err(host)?;
        remove_links_out(folder, &outer).map_err(host)
    }

    /// As GitHub packs an action for its runners: with what `export-ignore` says.
    async fn archive(&self, commit: &str, target: File) -> Result<(), RemoteError> {
        let unpack = |source| RemoteError::Unpack {
            url: self.url.clone(),
            source,
        };
        let options = Options {
            specials: Specials::Refuse,
            ..Options::default()
        };
        let mut unpacker = Unpacker::new(target.into(), options);
        let args = ["archive", "--format=tar", "--end-of-options", commit];
        let mut child = self.command(&args).spawn().map_err(git::GitError::Start)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Read beside, so that git never waits for us to read it; its end is of no interest.
        let errors = tokio::spawn(async move {
            let mut bytes = Vec::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(4096).read_to_end(&mut bytes).await;
            }
            bytes
        });
        let mut came = 0;
        let mut piece = vec![0; 128 << 10];
        if let Some(mut stdout) = stdout {
            loop {
                let read = tokio::time::timeout(NEXT, stdout.read(&mut piece)).await;
                let late = |_| git::GitError::Late {
                    what: "archive".to_owned(),
                    root: self.scratch.to_owned(),
                    limit: NEXT,
                };
                let n = read.map_err(late)?.map_err(git::GitError::Read)?;
                if n == 0 {
                    break;
                }
                came += n as u64;
                if came > self.limits.archive {
                    return Err(RemoteError::TooLarge {
                        url: self.url.clone(),
                        most: self.limits.archive,
                    });
                }
                unpacker.push(&piece[..n]).map_err(unpack)?;
            }
        }
        let status = child.wait().await.map_err(git::GitError::Read)?;
        if !status.success() {
            let said = errors.await.unwrap_or_default();
            return Err(git::failed(self.scratch, git::named(&args), &said).into());
        }
        unpacker.finish().map_err(unpack)?;
        Ok(())
    }

    async fn git(&self, work: git::Work, args: &[&str]) -> Result<Vec<u8>, git::GitError> {
        git::run_command(self.command(args), self.scratch, work, git::named(args)).await
    }

    fn command(&self, args: &[&str]) -> tokio::process::Command {
        let settings = [
            "core.hooksPath=/dev/null",
            "core.askPass=",
            "core.sshCommand=false",
            "credential.helper=",
            "fetch.fsckObjects=true",
            "fetch.recurseSubmodules=false",
            // One pack as it came, so that its size is bounded; not loose objects.
            "fetch.unpackLimit=1",
            "gc.auto=0",
            "maintenance.auto=false",
            "http.lowSpeedLimit=1000",
            "http.lowSpeedTime=30",
            "pack.threads=1",
            "protocol.version=2",
        ];
        let mut all = Vec::with_capacity(settings.len() * 2 + args.len());
        for setting in settings {
            all.extend(["-c", setting]);
        }
        all.extend(args);
        let mut command = git::command(self.scratch, &all);
        command
            .env("HOME", self.scratch)
            .env("XDG_CONFIG_HOME", self.scratch)
            .env_remove("SSH_ASKPASS")
            .env("GIT_ALLOW_PROTOCOL", "https:file")
            .env("GIT_ASKPASS", "false")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_CEILING_DIRECTORIES", self.scratch);
        let bounds = Bounds {
            file: self.limits.pack,
            memory: self.limits.memory,
        };
        vmint_spawn::bound(command.as_std_mut(), bounds);
        command
    }
}

/// Removes the links below a folder that do not lead to something in it. A link that leads nowhere now may later.
fn remove_links_out(folder: &Path, outer: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            removed += remove_links_out(&path, outer)?;
        } else if kind.is_symlink() && !path.canonicalize().is_ok_and(|to| to.starts_with(outer)) {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}
