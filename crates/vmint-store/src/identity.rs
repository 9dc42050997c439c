//! Which home this is, so that a copy is told from the original.
//!
//! `home.json` holds the home's [`HomeId`] and what a copy cannot have: the device and the inode of the home's folder. The
//! same folder is the same home, by whatever path it is reached and wherever it was renamed to. Another folder with
//! the same file is a copy. It gets an id of its own, and with that other sockets; its database, which still has the id of
//! the original, is then adopted by [`Store::settle`](crate::Store::settle).
//!
//! ```text
//! home.json      device, inode           this home is
//! there          the same                the same
//! there          inode and path the      the same: a device may have another number after a reboot
//!                same, another boot
//! there          others                  a copy, with a new id
//! missing        –                       one of an older vmint, or new
//! ```
//!
//! An older vmint named the folder of the sockets after the home's path. Where that fits, or where a machine still runs in
//! this very folder, the name becomes the id, so that its runners stay in reach.

use crate::home::{self, HomeError};
use crate::lock::FileLock;
use crate::process::boot_id;
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use vmint_model::{Home, HomeId, MachineId};

/// How long another process is waited for that settles which home this is; that takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub id: HomeId,
    /// Where it was seen last, for a reader.
    pub path: String,
    device: u64,
    inode: u64,
    /// The boot in which its device had this number.
    boot: String,
    /// What it is a copy of, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<Original>,
}

/// The home that another one is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Its id.
    pub id: HomeId,
    /// Where it was; empty if that is not known.
    pub path: String,
}

impl Identity {
    /// What is known of a home that was opened.
    pub fn of(home: &Home) -> io::Result<Option<Self>> {
        read(home.root())
    }

    /// The identity of the home at `root`, a canonical path, whose folder `found` is. `link` is where its link to the
    /// sockets leads.
    pub(crate) fn settle(
        root: &Path,
        found: &Metadata,
        link: Option<&Path>,
    ) -> Result<Self, HomeError> {
        let fail = |e| home::host("read", &root.join(FILE), e);
        if let Some(known) = read(root).map_err(fail)?
            && known.is_of(found)
            && !known.has_moved(root, found)
        {
            return Ok(known);
        }
        let lock = root.join("home.lock");
        let lock = FileLock::acquire_until(&lock, Instant::now() + PATIENCE)
            .map_err(|e| home::host("lock", &lock, io::Error::other(e)))?;
        // Under the lock: another process may have been faster.
        let known = read(root).map_err(fail)?;
        let is_settled = |known: &Self| known.is_of(found) && !known.has_moved(root, found);
        if let Some(known) = known.clone().filter(is_settled) {
            return Ok(known);
        }
        let boot = boot_id().map_err(|e| home::host("read the boot id for", root, e))?;
        let (id, copy_of) = match known {
            Some(known) if known.is_of(found) || known.was_renumbered(root, found, boot) => {
                (known.id, known.copy_of)
            }
            Some(known) => {
                let (id, path) = (known.id, known.path);
                (HomeId::random(), Some(Original { id, path }))
            }
            None => of_before(root, link),
        };
        let identity = Self {
            id,
            path: shown(root),
            device: found.dev(),
            inode: found.ino(),
            boot: boot.to_owned(),
            copy_of,
        };
        identity
            .write(root)
            .map_err(|e| home::host("write", &root.join(FILE), e))?;
        drop(lock);
        Ok(identity)
    }

    fn is_of(&self, found: &Metadata) -> bool {
        (self.device, self.inode) == (found.dev(), found.ino())
    }

    /// Whether it is at another path than before, and no longer at that one. A second path to the same folder is no move.
    fn has_moved(&self, root: &Path, found: &Metadata) -> bool {
        self.path != shown(root)
            && !fs::metadata(&self.path)
                .is_ok_and(|old| (old.dev(), old.ino()) == (found.dev(), found.ino()))
    }

    /// Whether only the device's number has changed, as it may with a reboot. No process of before is left then, so to take
    /// a copy for the original would harm nobody.
    fn was_renumbered(&self, root: &Path, found: &Metadata, boot: &str) -> bool {
        self.inode == found.ino() && self.path == shown(root) && self.boot != boot
    }

    /// In one step: whoever reads finds the old file or the new one. The old one may be a hard link into a copy.
    fn write(&self, root: &Path) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(self).expect("an identity has no keys but strings");
        replace(&root.join(FILE), &json)
    }
}

const FILE: &str = "home.json";
/// A file that is longer was not written by vmint.
const LIMIT: u64 = 4 << 20;

/// A file that cannot be understood is as good as none: then the home is taken for one of before, and nothing is lost.
fn read(root: &Path) -> io::Result<Option<Identity>> {
    Ok(read_small(&root.join(FILE))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The content of a small file, if it is there and a file.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let opened = fs::File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(LIMIT).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a file for its owner alone, in one step. It does not wait for the disk: what a loss of power leaves is the old
/// file, the new one, or one that nobody can read, which counts as none.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("json-{}-{number}", std::process::id()));
    let write = || {
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

/// The id of a home without an identity.
fn of_before(root: &Path, link: Option<&Path>) -> (HomeId, Option<Original>) {
    let name = link
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    let Some(id) = name.and_then(|name| name.parse::<HomeId>().ok()) else {
        return (HomeId::random(), None);
    };
    if id.as_str() == home::hash(root) || is_in_use(root) {
        return (id, None);
    }
    // Moved or copied while an older vmint had it; nobody can tell, so it is treated as the copy that it may be.
    let path = String::new();
    (HomeId::random(), Some(Original { id, path }))
}

/// Whether a runner lives in this very folder: a lock is of the file, and a copy's are free.
fn is_in_use(root: &Path) -> bool {
    let entries = fs::read_dir(root.join("machines"));
    entries.into_iter().flatten().flatten().any(|entry| {
        let id = entry.file_name().to_str().map(str::parse::<MachineId>);
        matches!(id, Some(Ok(_))) && FileLock::is_held(&entry.path().join("lock")).unwrap_or(false)
    })
}

fn shown(root: &Path) -> String {
    root.to_string_lossy().into_owned()
}
