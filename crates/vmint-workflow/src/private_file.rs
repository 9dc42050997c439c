//! Files that are their owner's alone, in the folder of a run: they may hold secrets, as they are.
//!
//! Whoever reads one says how much of it is believed: what is longer was written by somebody else.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is replaced.
    Goes,
    /// It stays, and that is an error.
    Stays,
}

/// Writes a value as JSON into a file that only its owner reads, in a folder that is made if need be.
pub fn write(path: &Path, value: &impl Serialize, before: Before) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let json = serde_json::to_vec(value)?;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match before {
        Before::Goes => options.create(true).truncate(true),
        Before::Stays => options.create_new(true),
    };
    options.open(path)?.write_all(&json)
}

/// Reads what was written; no more than `most` bytes of it. Nothing, if there is no such file.
pub fn read<T: DeserializeOwned>(path: &Path, most: u64) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut json = Vec::new();
    file.take(most).read_to_end(&mut json)?;
    let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
    serde_json::from_slice(&json).map(Some).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_value_comes_back_and_its_file_and_folder_are_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        assert_eq!(read::<u32>(&path, 99).unwrap(), None);
        write(&path, &7, Before::Stays).unwrap();
        assert!(write(&path, &8, Before::Stays).is_err());
        assert_eq!(read(&path, 99).unwrap(), Some(7));
        write(&path, &9, Before::Goes).unwrap();
        assert_eq!(read(&path, 99).unwrap(), Some(9));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[test]
    fn a_file_that_somebody_has_made_long_is_read_no_further_than_it_was_ever_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        std::fs::write(&path, "1".repeat(10_000)).unwrap();
        let error = read::<String>(&path, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
