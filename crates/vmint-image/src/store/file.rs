//! The store's small files: JSON with the number of its form in it.

use super::{SCHEMA, StoreError};
use crate::digest::Digest;
use crate::fsx::{self, OnFile};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// What a name's file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ref {
    pub(crate) schema: u32,
    pub(crate) digest: Digest,
    /// Of the recipe that made it; absent for imports.
    #[serde(default)]
    pub(crate) recipe: Option<Digest>,
}

/// Reads a JSON file of the store; refuses one of a later form before it looks at the rest.
pub(crate) fn read_manifest<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct Form {
        schema: u32,
    }
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                what: "it is missing",
            });
        }
        result => result.on("read", path)?,
    };
    let unreadable = |source| StoreError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let form: Form = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if form.schema > SCHEMA {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: form.schema,
        });
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

pub(crate) fn write_manifest(path: &Path, manifest: &impl Serialize) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(manifest).expect("plain data becomes JSON");
    bytes.push(b'\n');
    Ok(fsx::replace(path, &bytes)?)
}

/// Checks that a file is there and has its size.
pub(crate) fn check_size(path: &Path, size: u64) -> Result<(), StoreError> {
    let damaged = |what| StoreError::Damaged {
        path: path.to_owned(),
        what,
    };
    match fs::metadata(path) {
        Ok(meta) if meta.len() == size => Ok(()),
        Ok(_) => Err(damaged("it has another size than it was written with")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(damaged("it is missing")),
        Err(e) => Err(e).on("read", path)?,
    }
}
