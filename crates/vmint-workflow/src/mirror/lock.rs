//! The lock file beside the mirror: which commit a ref was when it was fetched, and what its files are.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The version of the file's form.
const VERSION: u32 = 1;
/// A lock file is at most this long.
const LONGEST: u64 = 4 << 20;
/// How deep a mirrored repository may be.
const DEEPEST: usize = 64;

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    version: u32,
    /// By `OWNER/REPOSITORY@REF`.
    actions: BTreeMap<String, Locked>,
}

/// An action that is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// The commit.
    pub commit: String,
    /// The digest of its files: see [`digest`].
    pub digest: String,
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what `fetch-actions` writes.
    #[error("{} is not a lock file of actions, of version {VERSION}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            version: VERSION,
            actions: BTreeMap::new(),
        }
    }
}

impl Lock {
    /// Where the lock of a mirror is: beside the folder, `actions.lock` for `actions`, so that one is committed and the
    /// other need not be.
    pub fn path(mirror: &Path) -> PathBuf {
        let mut name = mirror
            .file_name()
            .map_or_else(OsString::new, OsString::from);
        name.push(".lock");
        mirror.with_file_name(name)
    }

    /// Reads the lock of a mirror; empty if there is none.
    pub fn read(mirror: &Path) -> Result<Self, LockError> {
        let path = Self::path(mirror);
        let fail = |path: &Path, source| LockError::Io {
            what: "read",
            path: path.to_owned(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(fail(&path, e)),
        };
        let mut text = Vec::new();
        let read = file.take(LONGEST + 1).read_to_end(&mut text);
        read.map_err(|e| fail(&path, e))?;
        let lock = Some(text)
            .filter(|text| text.len() as u64 <= LONGEST)
            .and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        // What is not a commit or a digest must reach neither git nor a comparison.
        match lock.filter(|lock| lock.version == VERSION && lock.actions.values().all(is_sound)) {
            Some(lock) => Ok(lock),
            None => Err(LockError::Form { path }),
        }
    }

    /// Writes it: whole, or not at all.
    pub fn write(&self, mirror: &Path) -> Result<(), LockError> {
        let path = Self::path(mirror);
        let write = || {
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            let mode = fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|source| LockError::Io {
            what: "write",
            path: path.clone(),
            source,
        })
    }

    /// What is locked of `OWNER/REPOSITORY@REF`.
    pub fn get(&self, action: &str) -> Option<&Locked> {
        self.actions.get(action)
    }

    /// Locks an action.
    pub fn set(&mut self, action: &str, locked: Locked) {
        self.actions.insert(action.to_owned(), locked);
    }
}

fn is_sound(locked: &Locked) -> bool {
    let digest = locked.digest.strip_prefix("sha256:");
    is_commit(&locked.commit) && digest.is_some_and(|hex| is_hex(hex, 64))
}

/// Whether a text is the whole name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The digest of all below a folder: names, contents, which files are executable, what links say. Neither owners nor times
/// nor other bits: these are the host's.
pub fn digest(folder: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    below(folder, &mut hash, 0)?;
    let mut text = "sha256:".to_owned();
    for byte in hash.finalize() {
        text += &format!("{byte:02x}");
    }
    Ok(text)
}

fn below(folder: &Path, hash: &mut Sha256, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("its folders are nested too deep"));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort();
    // Every text is preceded by its length, so that no two trees look the same.
    let text = |hash: &mut Sha256, kind: &[u8], bytes: &[u8]| {
        hash.update(kind);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for name in names {
        let path = folder.join(&name);
        let meta = fs::symlink_metadata(&path)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            text(hash, b"d", name.as_bytes());
            below(&path, hash, depth + 1)?;
            hash.update(b".");
        } else if kind.is_symlink() {
            text(hash, b"l", name.as_bytes());
            text(hash, b"=", fs::read_link(&path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            text(hash, if executable { b"x" } else { b"f" }, name.as_bytes());
            hash.update(content(&path)?);
        } else {
            // A pipe would never end, and git knows none.
            return Err(io::Error::other(format!(
                "{} is neither file, folder nor link",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The digest of a file's content.
fn content(path: &Path) -> io::Result<impl AsRef<[u8]> + use<>> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; 128 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize()),
            n => hash.update(&piece[..n]),
        }
    }
}
