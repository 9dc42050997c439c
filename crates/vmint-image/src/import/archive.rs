//! An OCI or docker archive, unpacked into a folder: regular files only, under their own names.

use super::error::ImportError;
use crate::decompress;
use crate::fsx::{self, OnFile};
use crate::rootfs::unpack::{Budget, UnpackError};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use vmint_protocol::archive::{EntryKind, Reader};

/// Extracts `archive` into `dir`. Layers are compressed in it, so what it holds counts little against the budget, which
/// is for what the layers hold: it is only not to be exceeded.
pub(crate) fn extract(archive: &Path, dir: &Path, budget: &Budget) -> Result<(), ImportError> {
    fsx::create_private_dir(dir)?;
    let stream = decompress::reader(ImportError::open(archive)?).on("read", archive)?;
    let mut left = budget.bytes;
    let mut entries = budget.entries;
    let too_large = || UnpackError::TooLarge {
        limit: budget.bytes,
    };
    let mut archive = Reader::new(stream);
    while let Some(entry) = archive.next_entry().map_err(UnpackError::Archive)? {
        entries = entries.checked_sub(1).ok_or_else(too_large)?;
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let plain = path
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if entry.kind != EntryKind::File || !plain {
            continue;
        }
        let target = dir.join(path);
        let failed = |source| UnpackError::Entry {
            path: path.to_owned(),
            source,
        };
        fsx::create_private_dir(target.parent().unwrap_or(dir))?;
        let mut file = File::create(&target).map_err(failed)?;
        let size = io::copy(
            &mut archive.content().take(left.saturating_add(1)),
            &mut file,
        )
        .map_err(failed)?;
        left = left.checked_sub(size).ok_or_else(too_large)?;
    }
    Ok(())
}
