//! Filling the mirror: what files use, and what that uses in its turn, each fetched once.

use super::lock::{Lock, LockError, Locked, digest};
use super::remote::{Limits, Remote, RemoteError};
use super::wanted::{self, Wanted};
use crate::check::{Actions as _, Builtin, Found, MAX_NESTING, Mirror};
use crate::diagnostic::Diagnostics;
use crate::replace;
use crate::uses::RepositoryUses;
use crate::workspace::git::GitError;
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many repositories one call fetches at most.
const MOST: usize = 500;

/// What is to be fetched.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// The repository that the files are of.
    pub repository: &'a Path,
    /// Workflow files, with how their names are shown.
    pub files: &'a [(PathBuf, PathBuf)],
    /// What is found without fetching, and the folder to fill.
    pub mirror: &'a Mirror,
    /// Where repositories are: `https://github.com`.
    pub base: &'a str,
    /// What becomes of refs that are locked.
    pub refs: Refs,
    /// What a remote may take of this host.
    pub limits: Limits,
}

/// What becomes of refs that are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refs {
    /// They stay the commits that they were.
    Locked,
    /// They are asked for again.
    Updated,
}

/// What came of an action, or of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `OWNER/REPOSITORY@REF`.
    pub action: String,
    /// The commit, where there is one.
    pub commit: Option<String>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It came from its remote; so many links led out of it, and are left out.
    Fetched {
        /// How many.
        links: u64,
    },
    /// It came from its remote, and its ref was this commit before.
    Updated {
        /// The commit.
        from: String,
    },
    /// It was there, as it is locked.
    Kept,
    /// It was there, and somebody else put it there: it is not locked.
    Foreign,
    /// Something else stands in for it, so it is not needed.
    NotNeeded {
        /// What, to be read after “is done by”.
        by: &'static str,
    },
    /// It could not be had.
    Failed {
        /// Why.
        why: String,
    },
}

/// Why nothing could be fetched at all.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No mirror is named.
    #[error("no folder for copies of actions is named")]
    NoMirror,
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The mirror cannot be written.
    #[error("cannot write the mirror {}", path.display())]
    Mirror {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A workflow file is wrong.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

/// Fetches what the files use. What could not be had is among the entries, and does not keep the others back.
pub async fn fetch(
    what: &Fetch<'_>,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<Entry>, FetchError> {
    let Some(folder) = &what.mirror.folder else {
        return Err(FetchError::NoMirror);
    };
    let failed = |source| FetchError::Mirror {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    // One at a time: each writes the whole lock file.
    let alone = fs::File::open(folder).map_err(failed)?;
    if flock(&alone, FlockOperation::NonBlockingLockExclusive).is_err() {
        say("waiting for another fetch-actions");
        let waited = tokio::task::spawn_blocking(move || {
            flock(&alone, FlockOperation::LockExclusive).map(|()| alone)
        });
        let waited = waited.await.map_err(io::Error::other).map_err(failed)?;
        return fill(
            what,
            folder,
            &waited.map_err(io::Error::from).map_err(failed)?,
            say,
        )
        .await;
    }
    fill(what, folder, &alone, say).await
}

/// Fetches, while nobody else does.
async fn fill(
    what: &Fetch<'_>,
    folder: &Path,
    _alone: &fs::File,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<Entry>, FetchError> {
    let failed = |source| FetchError::Mirror {
        path: folder.to_owned(),
        source,
    };
    let mut filler = Filler {
        what,
        folder,
        lock: Lock::read(folder)?,
        entries: BTreeMap::new(),
        queue: VecDeque::new(),
        locals: HashSet::new(),
    };
    for (path, shown) in what.files {
        let bytes = crate::check::read(path).map_err(failed)?;
        filler.add(wanted::of_workflow(shown, &bytes)?, 0);
    }
    while let Some((uses, depth)) = filler.queue.pop_front() {
        filler.one(&uses, depth, say).await?;
    }
    Ok(filler.entries.into_values().collect())
}

/// Where the files of an action are, in the folder beside the mirror's.
const FILES: &str = "files";

/// An action that came from its remote, and is not placed yet.
struct Came {
    beside: tempfile::TempDir,
    locked: Locked,
    fate: Fate,
}

struct Filler<'a> {
    what: &'a Fetch<'a>,
    folder: &'a Path,
    lock: Lock,
    /// By the action's name.
    entries: BTreeMap<String, Entry>,
    queue: VecDeque<(RepositoryUses, usize)>,
    locals: HashSet<String>,
}

impl Filler<'_> {
    fn add(&mut self, wanted: Wanted, depth: usize) {
        if depth > MAX_NESTING {
            return;
        }
        for uses in wanted.foreign {
            self.queue.push_back((uses, depth));
        }
        for local in wanted.local {
            if self.locals.insert(local.clone())
                && let Some(path) = crate::check::inside(&local)
            {
                self.used_by(&self.what.repository.join(path), depth);
            }
        }
    }

    /// What an action or a called workflow uses. What is wrong with it is the check's to say.
    fn used_by(&mut self, path: &Path, depth: usize) {
        let wanted = match wanted::read(path) {
            Some(bytes) => wanted::of_workflow(path, &bytes),
            None => wanted::of_action(path),
        };
        if let Ok(wanted) = wanted {
            self.add(wanted, depth + 1);
        }
    }

    async fn one(
        &mut self,
        uses: &RepositoryUses,
        depth: usize,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), FetchError> {
        let action = format!("{}@{}", uses.slug(), uses.git_ref());
        let by = match self.what.mirror.find(uses) {
            Found::Builtin(builtin) => Some(done_by(builtin)),
            Found::Replaced(replaced) => Some(replaced.by()),
            _ => None,
        };
        if let Some(by) = by {
            // By its whole name: other actions of the repository may be needed.
            let action = format!("{}@{}", replace::name(uses), uses.git_ref());
            let fate = Fate::NotNeeded { by };
            self.end(&action, None, fate);
            return Ok(());
        }
        if !self.entries.contains_key(&action) {
            self.bring(uses, &action, say).await?;
        }
        if !matches!(self.entries[&action].fate, Fate::Failed { .. })
            && let Some(inner) = crate::check::inside(uses.subpath().unwrap_or_default())
        {
            let root = self.folder.join(&action);
            self.used_by(&root.join(inner), depth);
        }
        Ok(())
    }

    /// Has an action in the mirror.
    async fn bring(
        &mut self,
        uses: &RepositoryUses,
        action: &str,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), FetchError> {
        let wrong = |why: String| Fate::Failed { why };
        if self.entries.len() >= MOST {
            let why = format!("more than {MOST} actions are used");
            self.end(action, None, wrong(why));
            return Ok(());
        }
        if let Err(why) = is_plain(uses) {
            self.end(action, None, wrong(why));
            return Ok(());
        }
        let target = self.folder.join(action);
        let locked = self.lock.get(action).cloned();
        let is_there = target.symlink_metadata().is_ok();
        let (fate, commit) = match (&locked, is_there) {
            (None, true) => (Some(Fate::Foreign), None),
            (Some(locked), true) if self.what.refs == Refs::Locked => {
                let same = digest(&target).is_ok_and(|digest| digest == locked.digest);
                let fate = same.then_some(Fate::Kept);
                (fate, Some(locked.commit.clone()))
            }
            _ => (None, None),
        };
        if let Some(fate) = fate {
            self.end(action, commit, fate);
            return Ok(());
        }
        say(&format!("fetching {action}"));
        let came = match self.ask_remote(uses, locked.as_ref()).await {
            Ok(came) => came,
            Err(why) => {
                self.end(action, None, wrong(why));
                return Ok(());
            }
        };
        let commit = came.locked.commit.clone();
        self.lock.set(action, came.locked);
        // Before it is placed: should this process end between the two, the copy is missing, and not there unlocked.
        self.lock.write(self.folder)?;
        match self.place(&came.beside.path().join(FILES), &target) {
            Ok(()) => self.end(action, Some(commit), came.fate),
            Err(why) => self.end(action, None, wrong(why)),
        }
        Ok(())
    }

    async fn ask_remote(
        &self,
        uses: &RepositoryUses,
        locked: Option<&Locked>,
    ) -> Result<Came, String> {
        let host = |what: &str, path: &Path, e: &io::Error| {
            format!("cannot {what} {}: {e}", path.display())
        };
        let beside = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(self.folder)
            .map_err(|e| host("write", self.folder, &e))?;
        let scratch = beside.path().join("git");
        fs::create_dir(&scratch).map_err(|e| host("write", &scratch, &e))?;
        let remote = Remote {
            url: format!("{}/{}", self.what.base.trim_end_matches('/'), uses.slug()),
            scratch: &scratch,
            limits: self.what.limits,
        };
        let told = |e: RemoteError| match e {
            // What was called, and where, is of no interest.
            RemoteError::Git(GitError::Failed { stderr, .. }) => {
                format!("git cannot fetch it: {}", stderr.replace('\n', " "))
            }
            other => told(&other),
        };
        let commit = match (locked, self.what.refs) {
            (Some(locked), Refs::Locked) => locked.commit.clone(),
            _ => remote.resolve(uses.git_ref()).await.map_err(told)?,
        };
        let files = beside.path().join(FILES);
        let links = remote.unpack(&commit, &files).await.map_err(told)?;
        let digest = digest(&files).map_err(|e| host("read", &files, &e))?;
        let before = locked.filter(|locked| locked.commit == commit);
        if before.is_some_and(|locked| locked.digest != digest) {
            return Err(format!(
                "the files of {commit} are not those that the lock file has the digest of"
            ));
        }
        let fate = match locked {
            Some(locked) if locked.commit != commit => Fate::Updated {
                from: locked.commit.clone(),
            },
            _ => Fate::Fetched { links },
        };
        Ok(Came {
            beside,
            locked: Locked { commit, digest },
            fate,
        })
    }

    /// Puts the files where the mirror has them. A folder that is there gives way.
    fn place(&self, files: &Path, target: &Path) -> Result<(), String> {
        let failed = |e: io::Error| format!("cannot place {}: {e}", target.display());
        let parent = target.parent().unwrap_or(self.folder);
        fs::create_dir_all(parent).map_err(failed)?;
        // The mirror may lie in a checkout of somebody else's, whose links lead anywhere.
        let outer = self.folder.canonicalize().map_err(failed)?;
        if !parent.canonicalize().map_err(failed)?.starts_with(&outer) {
            return Err(format!("{} leads out of the mirror", parent.display()));
        }
        if target.symlink_metadata().is_ok() {
            let old = files.with_file_name("old");
            fs::rename(target, &old).map_err(failed)?;
        }
        fs::rename(files, target).map_err(failed)
    }

    fn end(&mut self, action: &str, commit: Option<String>, fate: Fate) {
        let entry = Entry {
            action: action.to_owned(),
            commit,
            fate,
        };
        self.entries.insert(action.to_owned(), entry);
    }
}

fn done_by(_: Builtin) -> &'static str {
    "vmint itself"
}

/// Whether the name and the ref are such as GitHub has them: both become parts of a path and of git's arguments.
fn is_plain(uses: &RepositoryUses) -> Result<(), String> {
    let part = |part: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !part.is_empty() && part.bytes().all(legal) && !part.starts_with(['-', '.'])
    };
    let slug = uses.slug();
    if slug.split('/').count() != 2 || !slug.split('/').all(part) {
        return Err(format!("`{slug}` is not the name of a repository"));
    }
    let git_ref = uses.git_ref();
    // `git check-ref-format`, but for what a path forbids.
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let normal = Path::new(git_ref)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let ends = ["/", ".", ".lock"].iter().any(|end| git_ref.ends_with(end));
    let inner = ["..", "@{", "//"].iter().any(|part| git_ref.contains(part));
    if git_ref.is_empty()
        || git_ref.starts_with(['-', '/', '.'])
        || git_ref.contains(forbidden)
        || ends
        || inner
        || !normal
    {
        return Err(format!("`{git_ref}` is not the name of a tag or a branch"));
    }
    Ok(())
}

/// An error with its sources, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        text += &format!(": {error}");
        inner = error.source();
    }
    text.replace('\n', " ")
}
