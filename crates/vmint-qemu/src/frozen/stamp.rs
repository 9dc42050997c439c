//! A frozen file's stamp: what it was when it was frozen, and whether it still is.

use super::FrozenError;
use crate::seen::{Seen, changed_ns};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// A file as it was when it was frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its name in the folder.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// Time of modification. While it is the same, and the time of change one that is known, the content is taken to be.
    pub modified_ns: i128,
    /// Digest of the content, holes skipped.
    pub sha256: String,
}

impl FileStamp {
    /// Reads file `name` of `folder`; also tells the change as of which it was read.
    pub(super) fn of(folder: &Path, name: &str) -> io::Result<(Self, i128)> {
        let file = File::open(folder.join(name))?;
        // Before it is read: a change meanwhile is one that nobody knows.
        let stat = rustix::fs::fstat(&file)?;
        let stamp = Self {
            name: name.into(),
            size: stat.st_size as u64,
            modified_ns: modified_ns(&file.metadata()?),
            sha256: sparse_sha256(&file)?,
        };
        Ok((stamp, changed_ns(&stat)))
    }

    fn damaged(&self, folder: &Path, what: String) -> FrozenError {
        let file = folder.join(&self.name);
        FrozenError::Damaged { file, what }
    }

    fn failed(&self, folder: &Path, source: io::Error) -> FrozenError {
        if source.kind() == io::ErrorKind::NotFound {
            return self.damaged(folder, "it is missing".into());
        }
        let path = folder.join(&self.name);
        FrozenError::Io { path, source }
    }

    /// Whether it still is, by size and times, and by content where a time differs.
    pub(super) fn check(&self, folder: &Path) -> Result<(), FrozenError> {
        let fail = |source| self.failed(folder, source);
        let meta = std::fs::metadata(folder.join(&self.name)).map_err(fail)?;
        if meta.len() != self.size {
            let what = format!("{} bytes long, not {}", meta.len(), self.size);
            return Err(self.damaged(folder, what));
        }
        let is_known = |seen: &Seen| -> io::Result<bool> {
            let meta = std::fs::metadata(folder.join(&self.name))?;
            let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
            Ok(modified_ns(&meta) == self.modified_ns && seen.knows(changed))
        };
        // Held while it is read, so that of many who ask one reads.
        let seen = Seen::lock_or_make(folder, &self.name);
        if let Some(seen) = &seen
            && is_known(seen).map_err(fail)?
        {
            return Ok(());
        }
        let changed_ns = self.verify(folder)?;
        if let Some(seen) = &seen {
            seen.note(changed_ns);
        }
        Ok(())
    }

    /// Whether this is the stamp of a file of this length that holds nothing but zeros.
    pub(super) fn is_blank(&self) -> bool {
        let mut hash = Sha256::new();
        hash.update(self.size.to_le_bytes());
        self.sha256 == super::hex(&hash.finalize())
    }

    /// Reads the file; tells the change as of which it is what it was.
    pub(super) fn verify(&self, folder: &Path) -> Result<i128, FrozenError> {
        let found = Self::of(folder, &self.name);
        let (found, changed_ns) = found.map_err(|source| self.failed(folder, source))?;
        if found.size != self.size {
            let what = format!("{} bytes long, not {}", found.size, self.size);
            Err(self.damaged(folder, what))
        } else if found.sha256 == self.sha256 {
            Ok(changed_ns)
        } else {
            Err(self.damaged(folder, "its content has changed".into()))
        }
    }
}

fn modified_ns(meta: &std::fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// Digest of a file's data: of the offset and content of each block that is not all zeros. Independent of where the
/// file system has holes, and quick where it has them.
fn sparse_sha256(file: &File) -> io::Result<String> {
    let len = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(len.to_le_bytes());
    let mut buffer = vec![0; 1 << 16];
    let block = buffer.len() as u64;
    let mut at = 0;
    while at < len {
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => at = data / block * block,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        }
        let n = block.min(len - at) as usize;
        file.read_exact_at(&mut buffer[..n], at)?;
        if buffer[..n].iter().any(|&b| b != 0) {
            hash.update(at.to_le_bytes());
            hash.update(&buffer[..n]);
        }
        at += block;
    }
    Ok(super::hex(&hash.finalize()))
}
