//! Files written so that they are whole or absent, and errors that say which file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What could not be done to which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// What was to be done, as in “cannot …”.
    pub action: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl FileError {
    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Adds to an I/O error what was done to which file.
pub(crate) trait OnFile<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> OnFile<T> for Result<T, E> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError {
            action,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// Creates a folder and its parents, for this user only.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .on("create", path)
}

/// Writes a file's content to the disk. Also makes a folder's entries durable.
pub(crate) fn sync(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .on("write to disk", path)
}

/// Replaces a file by one with this content, in one step and durably.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let dir = path.parent().expect("a file of the store is in a folder");
    let mut file = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempfile_in(dir)
        .on("create a temporary file in", dir)?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .on("write", path)?;
    file.persist(path)
        .map_err(|e| e.error)
        .on("rename a temporary file to", path)?;
    sync(dir)
}

/// Deletes a file or a folder with everything in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.on("delete", path),
    }
}

/// The names in a folder, sorted; none if there is no such folder. Names that are not UTF-8 are not ours and left out.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).on("list", dir),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.on("list", dir)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
