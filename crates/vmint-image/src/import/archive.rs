//! An OCI or docker archive, unpacked into a folder: regular files only, under their own names.

use super::error::ImportError;
use crate::decompress;
use crate::fsx::{self, OnFile};
use crate::rootfs::unpack::{Budget, UnpackError};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

/// Extracts `archive` into `dir`. Layers are compressed in it, so what it holds counts little against the budget, which
/// is for what the layers hold: it is only not to be exceeded.
pub(super) fn extract(archive: &Path, dir: &Path, budget: &Budget) -> Result<(), ImportError> {
    fsx::create_private_dir(dir)?;
    let stream = decompress::reader(ImportError::open(archive)?).on("read", archive)?;
    let mut left = budget.bytes;
    for entry in tar::Archive::new(stream)
        .entries()
        .map_err(UnpackError::Archive)?
    {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        let path = entry.path().map_err(UnpackError::Archive)?.into_owned();
        let plain = path
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !entry.header().entry_type().is_file() || !plain {
            continue;
        }
        let target = dir.join(&path);
        let failed = |source| UnpackError::Entry {
            path: path.clone(),
            source,
        };
        fsx::create_private_dir(target.parent().unwrap_or(dir))?;
        let mut file = File::create(&target).map_err(failed)?;
        let size = io::copy(&mut entry.by_ref().take(left.saturating_add(1)), &mut file)
            .map_err(failed)?;
        left = left.checked_sub(size).ok_or(UnpackError::TooLarge {
            limit: budget.bytes,
        })?;
    }
    Ok(())
}
