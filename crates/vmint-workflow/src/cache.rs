//! Caches, kept on this host: what `actions/cache` saves, for later runs of any workflow.
//!
//! An entry is a tar `HASH.tar` and a `HASH.json` that says what it is; the hash is of key and version. Entries are never
//! changed. They are written under a temporary name and get their own under the lock of the folder, as does all that is
//! removed; readers need no lock, for a file that they have opened stays readable. What is broken or does not fit together
//! is passed over and cleared away. When an entry was last used is the time of change of its tar.

use crate::spool::{self, Draft, Taken};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;
use tokio::sync::mpsc::Sender;

/// What a store may hold unless it is told otherwise: GitHub's limit for a repository.
pub const DEFAULT_QUOTA: u64 = 10 << 30;
/// Longest key that GitHub allows, in characters.
const LONGEST_KEY: usize = 512;
/// Most keys that GitHub allows, restore keys included.
const MOST_KEYS: usize = 10;
/// The lock is held while files are renamed or removed, never while content moves.
const LOCK: Duration = Duration::from_secs(30);
/// A temporary file that nobody has written to for so long is of a process that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A store of caches. Several processes may use it at once.
#[derive(Clone, Debug)]
pub struct Caches {
    folder: PathBuf,
    quota: u64,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Its key.
    pub key: String,
    /// Its [`version`].
    pub version: String,
    /// Size of its tar in bytes.
    pub size: u64,
    /// When it was saved: milliseconds since 1970 in UTC.
    pub created_at_ms: i64,
}

/// An entry that was found. It stays readable even when it is removed meanwhile.
#[derive(Debug)]
pub struct Hit {
    /// The entry.
    pub cache: Cache,
    /// Whether its key is the one that was asked for first: the output `cache-hit`.
    pub exact: Exact,
    file: File,
}

/// Whether a key was found as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// It was.
    Yes,
    /// Another was found that begins like it, or a restore key.
    No,
}

/// What came of saving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It was saved; so many others had to go.
    Saved {
        /// Entries that were removed to stay within the quota.
        evicted: usize,
    },
    /// Another with this key and version was there first, and stays.
    Exists,
}

/// Why something cannot be done with caches.
#[derive(Debug, Error)]
pub enum CacheError {
    /// A bad key.
    #[error("`{key}` cannot be the key of a cache: {why}")]
    Key {
        /// The key, shortened.
        key: String,
        /// Why not.
        why: &'static str,
    },
    /// Too many keys.
    #[error("{count} keys are given with `restore-keys`, and GitHub allows {MOST_KEYS}")]
    TooManyKeys {
        /// So many.
        count: usize,
    },
    /// Nobody let go of the lock.
    #[error("the lock {} was held by another process for {} s", path.display(), LOCK.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The host's disk failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The version of a cache: it tells caches of different paths apart that have the same key.
pub fn version<S: AsRef<str>>(paths: &[S]) -> String {
    let mut digest = Sha256::new();
    for path in paths {
        // The length makes two lists differ that are the same when put together.
        let path = path.as_ref();
        digest.update((path.len() as u64).to_le_bytes());
        digest.update(path);
    }
    spool::hex(&digest.finalize())
}

impl Caches {
    /// Those in a folder, which is made when the first is saved. Together they are at most `quota` bytes.
    pub fn new(folder: PathBuf, quota: u64) -> Self {
        Self { folder, quota }
    }

    /// Finds an entry: for each key in turn, the one with exactly this key, else the newest whose key begins with it.
    pub fn find<S: AsRef<str>>(
        &self,
        key: &str,
        restore_keys: &[S],
        version: &str,
    ) -> Result<Option<Hit>, CacheError> {
        let count = restore_keys.len() + 1;
        if count > MOST_KEYS {
            return Err(CacheError::TooManyKeys { count });
        }
        let keys: Vec<&str> = std::iter::once(key)
            .chain(restore_keys.iter().map(AsRef::as_ref))
            .collect();
        keys.iter().try_for_each(|key| check(key))?;
        let mut entries = self.list()?;
        entries.retain(|entry| entry.version == version);
        for wanted in keys {
            let mut found: Vec<&Cache> = entries
                .iter()
                .filter(|entry| entry.key.starts_with(wanted))
                .collect();
            found.sort_by_key(|entry| (entry.key != wanted, -entry.created_at_ms));
            for cache in found {
                // It may have been removed since it was listed; then the next best will do.
                if let Some(file) = self.open(cache) {
                    let exact = if cache.key == key {
                        Exact::Yes
                    } else {
                        Exact::No
                    };
                    let cache = cache.clone();
                    return Ok(Some(Hit { cache, exact, file }));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is an entry with exactly this key.
    pub fn has(&self, key: &str, version: &str) -> bool {
        self.read(&stem(key, version)).is_some()
    }

    /// Begins to save: [fill](Draft::fill) the draft, then [keep](Self::keep) it.
    pub fn begin(&self, key: &str) -> Result<Draft, CacheError> {
        check(key)?;
        let made = std::fs::create_dir_all(&self.folder);
        made.and_then(|()| Draft::new(&self.folder, self.quota))
            .map_err(failed("keep a cache in", &self.folder))
    }

    /// Ends saving, and removes the entries that were not used for longest until all are within the quota. May wait for
    /// other processes, and blocks.
    pub fn keep(&self, key: &str, version: &str, draft: Draft) -> Result<Saved, CacheError> {
        check(key)?;
        let _lock = self.lock()?;
        let stem = stem(key, version);
        if self.read(&stem).is_some() {
            return Ok(Saved::Exists);
        }
        let cache = Cache {
            key: key.to_owned(),
            version: version.to_owned(),
            size: draft.size(),
            created_at_ms: self.now(),
        };
        let path = self.file(&stem, "tar");
        // What is there is no entry, and under the lock nobody is about to make it one.
        draft
            .keep(&path, Taken::Replace)
            .map_err(failed("write", &path))?;
        let path = self.file(&stem, "json");
        let json = serde_json::to_vec(&cache).map_err(io::Error::other);
        let written = json.and_then(|json| spool::write(&path, &json));
        written.map_err(failed("write", &path))?;
        let evicted = self.evict(&stem)?;
        Ok(Saved::Saved { evicted })
    }

    /// All entries, in no order. Files that are none are passed over.
    pub fn list(&self) -> Result<Vec<Cache>, CacheError> {
        let stems = self.names()?.into_iter().filter_map(|name| {
            let stem = name.strip_suffix(".json")?.to_owned();
            self.read(&stem)
        });
        Ok(stems.collect())
    }

    /// Removes an entry; there need not be one.
    pub fn remove(&self, cache: &Cache) -> Result<(), CacheError> {
        let _lock = self.lock()?;
        self.delete(&stem(&cache.key, &cache.version))
    }

    /// Later than all entries that there are, so that the newest is found also when the clock was set back.
    fn now(&self) -> i64 {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_millis() as i64);
        let newest = self
            .list()
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.created_at_ms)
            .max();
        newest.map_or(now, |newest| now.max(newest.saturating_add(1)))
    }

    /// Removes what is broken or abandoned, then what was not used for longest. `saved` stays.
    fn evict(&self, saved: &str) -> Result<usize, CacheError> {
        let mut entries = Vec::new();
        for name in self.names()? {
            let path = self.folder.join(&name);
            if name.starts_with(spool::TEMPORARY) {
                let changed = path.metadata().and_then(|file| file.modified());
                let age = changed.ok().and_then(|changed| changed.elapsed().ok());
                if age.is_some_and(|age| age > ABANDONED) {
                    remove(&path)?;
                }
            } else if let Some(stem) = name.strip_suffix(".tar") {
                match self.read(stem) {
                    Some(cache) => {
                        let used = path.metadata().and_then(|file| file.modified());
                        entries.push((
                            used.unwrap_or(SystemTime::UNIX_EPOCH),
                            stem.to_owned(),
                            cache,
                        ));
                    }
                    None => self.delete(stem)?,
                }
            } else if let Some(stem) = name.strip_suffix(".json")
                && self.read(stem).is_none()
            {
                self.delete(stem)?;
            }
        }
        let mut total: u64 = entries.iter().map(|(.., cache)| cache.size).sum();
        entries.sort_by_key(|entry| (entry.0, entry.2.created_at_ms));
        let mut evicted = 0;
        for (_, stem, cache) in entries.iter().filter(|(_, stem, _)| stem != saved) {
            if total <= self.quota {
                break;
            }
            self.delete(stem)?;
            total -= cache.size;
            evicted += 1;
        }
        Ok(evicted)
    }

    /// What is said of an entry, if it is true.
    fn read(&self, stem: &str) -> Option<Cache> {
        let cache: Cache =
            serde_json::from_slice(&spool::read(&self.file(stem, "json")).ok()?).ok()?;
        let size = self.file(stem, "tar").metadata().ok()?.len();
        (self::stem(&cache.key, &cache.version) == stem && size == cache.size).then_some(cache)
    }

    /// Opens the tar of an entry, which is now used.
    fn open(&self, cache: &Cache) -> Option<File> {
        let path = self.file(&stem(&cache.key, &cache.version), "tar");
        let file = File::open(path).ok()?;
        let whole = file.metadata().is_ok_and(|file| file.len() == cache.size);
        // When this fails the entry only seems older than it is.
        let _ = file.set_modified(SystemTime::now());
        whole.then_some(file)
    }

    fn delete(&self, stem: &str) -> Result<(), CacheError> {
        // The description first: what has none is no entry.
        remove(&self.file(stem, "json"))?;
        remove(&self.file(stem, "tar"))
    }

    fn names(&self) -> Result<Vec<String>, CacheError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("list", &self.folder))?,
        };
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        let names: io::Result<Vec<Option<String>>> = entries.map(name).collect();
        let names = names.map_err(failed("list", &self.folder))?;
        Ok(names.into_iter().flatten().collect())
    }

    fn file(&self, stem: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{stem}.{ending}"))
    }

    /// Held until it is dropped, or the process ends.
    fn lock(&self) -> Result<File, CacheError> {
        use rustix::fs::{FlockOperation, flock};
        let path = self.folder.join("lock");
        let opened = std::fs::create_dir_all(&self.folder)
            .and_then(|()| File::options().create(true).append(true).open(&path));
        let file = opened.map_err(failed("open", &path))?;
        let started = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("lock", &path)(error.into())),
            }
            if started.elapsed() > LOCK {
                return Err(CacheError::Locked { path });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Hit {
    /// Hands the tar over, for a machine.
    pub async fn send(self, tar: Sender<io::Result<Bytes>>) -> Result<(), CacheError> {
        let sent = spool::send(self.file, tar).await;
        sent.map_err(failed(
            "read",
            Path::new(&format!("the cache {}", self.cache.key)),
        ))
    }
}

fn stem(key: &str, version: &str) -> String {
    self::version(&[key, version])
}

fn check(key: &str) -> Result<(), CacheError> {
    let why = if key.is_empty() {
        "it is empty"
    } else if key.chars().count() > LONGEST_KEY {
        "it is longer than 512 characters"
    } else if key.contains(',') {
        "it holds a comma"
    } else {
        return Ok(());
    };
    let key = key.chars().take(100).collect();
    Err(CacheError::Key { key, why })
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(failed("remove", path)),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::testing::{received, sent};

    const NONE: [&str; 0] = [];

    fn store(quota: u64) -> (tempfile::TempDir, Caches) {
        let folder = tempfile::tempdir().unwrap();
        let caches = Caches::new(folder.path().join("caches"), quota);
        (folder, caches)
    }

    async fn save(caches: &Caches, key: &str, content: &[u8]) -> Saved {
        let draft = caches
            .begin(key)
            .unwrap()
            .fill(sent(content))
            .await
            .unwrap();
        caches.keep(key, "v", draft).unwrap()
    }

    fn found(caches: &Caches, key: &str, restore: &[&str]) -> Option<(String, Exact)> {
        let hit = caches.find(key, restore, "v").unwrap();
        hit.map(|hit| (hit.cache.key, hit.exact))
    }

    fn yes(key: &str) -> (String, Exact) {
        (key.to_owned(), Exact::Yes)
    }

    fn no(key: &str) -> (String, Exact) {
        (key.to_owned(), Exact::No)
    }

    #[tokio::test]
    async fn what_was_saved_is_found_by_key_and_version() {
        let (_folder, caches) = store(1000);
        assert_eq!(found(&caches, "a", &[]), None);
        assert_eq!(
            save(&caches, "a", b"content").await,
            Saved::Saved { evicted: 0 }
        );
        assert_eq!(found(&caches, "a", &[]), Some(yes("a")));
        assert!(caches.has("a", "v") && !caches.has("a", "w"));
        assert!(caches.find("a", &NONE, "w").unwrap().is_none());
        let (to, from) = tokio::sync::mpsc::channel(10);
        caches
            .find("a", &NONE, "v")
            .unwrap()
            .unwrap()
            .send(to)
            .await
            .unwrap();
        assert_eq!(received(from).await, b"content");
    }

    #[tokio::test]
    async fn an_entry_is_never_changed() {
        let (_folder, caches) = store(1000);
        save(&caches, "a", b"first").await;
        assert_eq!(save(&caches, "a", b"second").await, Saved::Exists);
        assert_eq!(caches.find("a", &NONE, "v").unwrap().unwrap().cache.size, 5);
    }

    #[tokio::test]
    async fn keys_are_tried_in_turn_and_the_newest_of_a_prefix_is_taken() {
        let (_folder, caches) = store(1000);
        for key in ["linux-a", "linux-b", "linux", "mac-a"] {
            save(&caches, key, b"x").await;
        }
        assert_eq!(
            found(&caches, "linux-c", &["linux-", "mac-"]),
            Some(no("linux-b"))
        );
        assert_eq!(
            found(&caches, "linux-c", &["mac-", "linux-"]),
            Some(no("mac-a"))
        );
        assert_eq!(found(&caches, "linux-c", &["linux"]), Some(no("linux")));
        assert_eq!(found(&caches, "mac-", &[]), Some(no("mac-a")));
        assert_eq!(found(&caches, "bsd", &["b"]), None);
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_goes_when_there_is_no_room() {
        let (_folder, caches) = store(100);
        for key in ["a", "b", "c"] {
            save(&caches, key, &[0; 30]).await;
        }
        // All are of the same time but one.
        for key in ["a", "b", "c"] {
            let file = File::options()
                .write(true)
                .open(caches.file(&stem(key, "v"), "tar"))
                .unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        assert_eq!(found(&caches, "a", &[]), Some(yes("a")));
        assert_eq!(
            save(&caches, "d", &[0; 60]).await,
            Saved::Saved { evicted: 2 }
        );
        let mut keys: Vec<String> = caches.list().unwrap().into_iter().map(|c| c.key).collect();
        keys.sort();
        assert_eq!(keys, ["a", "d"]);
    }

    #[tokio::test]
    async fn an_entry_stays_readable_while_it_is_removed() {
        let (_folder, caches) = store(1000);
        save(&caches, "a", b"content").await;
        let hit = caches.find("a", &NONE, "v").unwrap().unwrap();
        caches.remove(&hit.cache).unwrap();
        assert_eq!(found(&caches, "a", &[]), None);
        let (to, from) = tokio::sync::mpsc::channel(10);
        hit.send(to).await.unwrap();
        assert_eq!(received(from).await, b"content");
    }

    #[tokio::test]
    async fn what_is_broken_is_passed_over_and_cleared_away() {
        let (_folder, caches) = store(1000);
        for key in ["cut", "lying", "torn", "whole"] {
            save(&caches, key, b"content").await;
        }
        let file = |key, ending| caches.file(&stem(key, "v"), ending);
        std::fs::write(file("cut", "tar"), "con").unwrap();
        std::fs::copy(file("whole", "json"), file("lying", "json")).unwrap();
        std::fs::write(file("torn", "json"), "{\"key\": \"torn").unwrap();
        std::fs::write(caches.folder.join("stranger.tar"), "").unwrap();
        for key in ["cut", "lying", "torn"] {
            assert_eq!(found(&caches, key, &[]), None, "{key}");
        }
        assert_eq!(found(&caches, "whole", &[]), Some(yes("whole")));
        assert_eq!(
            save(&caches, "torn", b"again").await,
            Saved::Saved { evicted: 0 }
        );
        let names = caches.names().unwrap();
        assert_eq!(names.len(), 5, "lock and two entries: {names:?}");
    }

    #[tokio::test]
    async fn of_many_that_save_the_same_key_one_does() {
        let (_folder, caches) = store(1000);
        let mut drafts = Vec::new();
        for _ in 0..8 {
            drafts.push(
                caches
                    .begin("a")
                    .unwrap()
                    .fill(sent(b"content"))
                    .await
                    .unwrap(),
            );
        }
        let saved: Vec<Saved> = std::thread::scope(|scope| {
            let keep = |draft| scope.spawn(|| caches.keep("a", "v", draft).unwrap());
            let threads: Vec<_> = drafts.into_iter().map(keep).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(
            saved
                .iter()
                .filter(|saved| **saved != Saved::Exists)
                .count(),
            1
        );
        assert_eq!(found(&caches, "a", &[]), Some(yes("a")));
        assert_eq!(caches.names().unwrap().len(), 3, "lock and one entry");
    }

    #[test]
    fn bad_keys_are_refused() {
        let (_folder, caches) = store(1000);
        let long = "x".repeat(513);
        let errors = ["", "a,b", &long].map(|key| caches.begin(key).unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n"), @r"
        `` cannot be the key of a cache: it is empty
        `a,b` cannot be the key of a cache: it holds a comma
        `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` cannot be the key of a cache: it is longer than 512 characters
        ");
        let error = caches.find("a", &["b"; 10], "v").unwrap_err();
        insta::assert_snapshot!(error, @"11 keys are given with `restore-keys`, and GitHub allows 10");
        assert_ne!(version(&["ab", "c"]), version(&["a", "bc"]));
    }
}
