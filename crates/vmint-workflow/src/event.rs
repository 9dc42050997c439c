//! What has happened: the language's [`event`](vmint_syntax::event), and payloads in files.

use crate::workspace::Repository;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use thiserror::Error;
use vmint_syntax::event::payload::{MOST, PayloadError};

pub use vmint_syntax::event::*;

/// Why a file gives no event.
#[derive(Debug, Error)]
pub enum EventFileError {
    /// It cannot be read.
    #[error("cannot read the event from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It holds none.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// An event whose payload is in a file. What the payload does not say is taken from the repository.
pub fn read(name: &str, path: &Path, repository: &Repository) -> Result<Event, EventFileError> {
    let failed = |source| EventFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than may be, so that too long a file is seen to be one.
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Event::parse(name, path, &bytes, repository)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_one_that_is_missing_or_without_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::plain(folder.path().to_owned());
        let path = folder.path().join("event.json");
        std::fs::write(&path, r#"{"ref": "refs/tags/v1"}"#).unwrap();
        let event = read("push", &path, &repository).unwrap();
        assert_eq!(event.git_ref, "refs/tags/v1");
        let missing = read("push", &folder.path().join("none"), &repository);
        assert!(matches!(missing, Err(EventFileError::Read { .. })));
        let endless = read("push", Path::new("/dev/zero"), &repository);
        let too_long = |e| matches!(e, EventFileError::Payload(PayloadError::TooLong { .. }));
        assert!(endless.is_err_and(too_long));
    }
}
